"""Draws a person with moderngl: through EGL on Linux (a GPU, or Mesa's software renderer), standalone elsewhere."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import cv2
import moderngl
import numpy as np
from PIL import Image

from . import shaders
from .assets import Assets, Piece
from .background import backdrop
from .buffers import MeshBuffers, look, orthographic, unit, vertex_normals
from .expressions import ACTIONS, STRENGTH_52
from .people import Person, shape
from .scene import Scene, camera, head_rotation

PIVOT = np.array([0.0, 6.15, 0.35], np.float32)  # where the head turns on the neck, decimetres
SHADOW_SIZE = 512


@dataclass
class Prepared:
    """A person ready to be drawn: vertices at rest and names of pieces; made once for all of a person's pictures."""

    person: Person
    vertices: np.ndarray
    pieces: dict[str, Piece]
    teeth_normals: np.ndarray


class Renderer:
    """Renders pictures of one size.

    Args:
        assets: the assets folder.  size: picture width and height in pixels.
        supersample: pixels are averaged over this many squared.
    """

    def __init__(self, assets: Assets, size: int = 256, supersample: int = 2) -> None:
        self.assets, self.size = assets, size
        self.context = _context()
        self.gl = self.context.info["GL_RENDERER"]
        c, wide = self.context, size * supersample
        programs = {"skin": shaders.SKIN, "eyes": shaders.EYES, "mouth": shaders.MOUTH, "hair": shaders.HAIR}
        self.programs = {k: c.program(vertex_shader=shaders.VERTEX, fragment_shader=f) for k, f in programs.items()}
        self.shadow_program = c.program(vertex_shader=shaders.SHADOW_VERTEX, fragment_shader=shaders.SHADOW_FRAGMENT)
        self.develop_program = c.program(vertex_shader=shaders.SCREEN_VERTEX, fragment_shader=shaders.DEVELOP)
        self.scene_texture = c.texture((wide, wide), 4, dtype="f2")
        self.scene_texture.filter = (moderngl.LINEAR, moderngl.LINEAR)
        self.scene_texture.repeat_x = self.scene_texture.repeat_y = False
        self.scene_target = c.framebuffer([self.scene_texture], c.depth_renderbuffer((wide, wide)))
        self.picture_target = c.framebuffer([c.texture((size, size), 4)])
        self.shadow_map = c.depth_texture((SHADOW_SIZE, SHADOW_SIZE))
        self.shadow_map.compare_func = ""
        self.shadow_map.repeat_x = self.shadow_map.repeat_y = False
        self.shadow_target = c.framebuffer([], self.shadow_map)
        self.backdrop_texture = c.texture((96, 96), 3, dtype="f4")
        self.backdrop_texture.repeat_x = self.backdrop_texture.repeat_y = False
        corners = c.buffer(np.array([-1, -1, 1, -1, -1, 1, 1, 1], np.float32).tobytes())
        self.screen = c.vertex_array(self.develop_program, [(corners, "2f", "corner")])
        self.textures: dict[str, moderngl.Texture] = {}
        self.meshes: dict[str, MeshBuffers] = {}
        self.body_triangles = assets.corner_vertex[assets.triangles]
        self.prepared: Prepared | None = None

    def prepare(self, person: Person) -> Prepared:
        """Shapes the person and uploads what does not change between pictures."""
        vertices, a = shape(person, self.assets), self.assets
        names = {
            "eyes": "eyes",
            "teeth": person.teeth,
            "tongue": "tongue/tongue01",
            "brows": person.brows,
            "lashes": person.lashes,
        }
        if person.hair:
            names["hair"] = person.hair
        pieces = {slot: a.pieces[name] for slot, name in names.items()}
        self._mesh("body", a.corner_vertex, a.uv, a.triangles, "skin").set_rest(vertices[a.corner_vertex])
        teeth = pieces["teeth"]
        teeth_at = teeth.fitting.fit(vertices)
        for slot, piece in pieces.items():
            at = piece.fitting.fit(vertices)
            mesh = self._piece_mesh(slot, piece)
            if slot == "hair":
                middle = np.array([0, 7.2, 0.3], np.float32)
                stretch = np.array([-1.0 if person.hair_flip else 1.0, 1.0, 1.0]) * person.hair_volume
                at = (middle + (at - middle) * stretch).astype(np.float32)
                normals = vertex_normals(at, piece.corner_vertex[piece.triangles])
                mesh.set_surface(at[piece.corner_vertex], normals[piece.corner_vertex])
            mesh.set_rest(at[piece.corner_vertex])
        normals = vertex_normals(teeth_at, teeth.corner_vertex[teeth.triangles])
        self.prepared = Prepared(person, vertices, pieces, normals)
        return self.prepared

    def render(self, prepared: Prepared, actions_52: np.ndarray, scene: Scene) -> np.ndarray:
        """One picture, uint8 [size, size, 3] RGB."""
        if self.prepared is not prepared:
            prepared = self.prepare(prepared.person)
        vertices = self._pose_face(prepared, actions_52)
        rotations = self._rotations(scene)
        eye, matrix = camera(self._frame_points(vertices, rotations[0]), scene)
        self._draw_shadows(prepared, scene, rotations)
        self._draw_scene(prepared, scene, rotations, eye, matrix, actions_52)
        return self._photograph(scene, _metering(prepared.person.tone, scene))

    # ---- geometry

    def _pose_face(self, prepared: Prepared, actions_52: np.ndarray) -> np.ndarray:
        """Moves the vertices by the actions and uploads body, eyes, brows, lashes, teeth and tongue."""
        a, vertices = self.assets, prepared.vertices.copy()
        for name, weight in zip(ACTIONS, actions_52 * STRENGTH_52, strict=True):
            if weight:
                index, delta = a.actions[name]
                vertices[index] += delta * np.float32(weight)
        normals = vertex_normals(vertices, self.body_triangles)
        self.meshes["body"].set_surface(vertices[a.corner_vertex], normals[a.corner_vertex])
        for slot, piece in prepared.pieces.items():
            if slot == "hair":
                continue
            at = piece.fitting.fit(vertices)
            n = prepared.teeth_normals if slot == "teeth" else vertex_normals(at, piece.corner_vertex[piece.triangles])
            self.meshes[piece.name].set_surface(at[piece.corner_vertex], n[piece.corner_vertex])
        return vertices

    @staticmethod
    def _rotations(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
        share = scene.torso
        return head_rotation(scene.yaw, scene.pitch, scene.roll), head_rotation(
            scene.yaw * share, 0.0, scene.roll * share * 0.4
        )

    def _frame_points(self, vertices: np.ndarray, head: np.ndarray) -> np.ndarray:
        """Left eye, right eye, left and right mouth corner after the head's turn: [4, 3]."""
        names = ("eye_left", "eye_right", "mouth_left", "mouth_right")
        rest = self.prepared.vertices  # eyes at rest, so that a blink does not move the frame
        points = np.stack([(rest if "eye" in n else vertices)[self.assets.points[n]].mean(0) for n in names])
        return (points - PIVOT) @ head.T + PIVOT

    # ---- drawing

    def _draw_shadows(self, prepared: Prepared, scene: Scene, rotations: tuple[np.ndarray, np.ndarray]) -> None:
        middle = (np.array([0, 7.0, 0.5], np.float32) - PIVOT) @ rotations[0].T + PIVOT
        self.light_matrix = orthographic(2.7, 0.1, 14.0) @ look(middle + scene.key.direction * 7, middle)
        self.shadow_target.use()
        self.shadow_target.clear(depth=1.0)
        self.context.enable_only(moderngl.DEPTH_TEST)
        program = self.shadow_program
        self._set_common(program, scene, rotations)
        for name in ["body"] + ([prepared.pieces["hair"].name] if "hair" in prepared.pieces else []):
            hair = name != "body"
            _set(program, rigid=0.0, cutout=int(hair), cloth=0.0 if hair else 1.0, cut=self._hair_cut(prepared.person))
            if hair:
                self._texture(prepared.pieces["hair"].texture).use(0)
            self.meshes[name].shadow.render()

    def _draw_scene(
        self,
        prepared: Prepared,
        scene: Scene,
        rotations: tuple,
        eye: np.ndarray,
        matrix: np.ndarray,
        actions_52: np.ndarray,
    ) -> None:
        c, person, pieces = self.context, prepared.person, prepared.pieces
        self.scene_target.use()
        self.scene_target.depth_mask = True
        self.scene_target.clear(0, 0, 0, 0, depth=1.0)
        self.shadow_map.use(2)
        for program in self.programs.values():
            self._set_common(program, scene, rotations)
            _set(
                program,
                eye=eye,
                sky=scene.sky,
                ground=scene.ground,
                texel=1.0 / SHADOW_SIZE,
                shadows=2,
                image=0,
                image_2=1,
            )
            _set(program, mouth=self._mouth(prepared), translucent=0, camera=matrix)
            for name in ("key", "fill", "rim"):
                light = getattr(scene, name)
                _set(program, **{name: light.direction, name + "_color": light.color})
        self._draw_body(person, prepared, scene)
        opening = sum(w for n, w in zip(ACTIONS, actions_52, strict=True) if n.startswith(_OPENING))
        for slot in ("eyes", *(("teeth", "tongue") if opening > 0.03 else ())):
            self._draw_piece(slot, pieces[slot], person, scene)
        hairy = [slot for slot in ("brows", "lashes", "hair") if slot in pieces]
        for slot in hairy:
            self._draw_piece(slot, pieces[slot], person, scene)
        c.enable(moderngl.BLEND)
        c.blend_func = moderngl.SRC_ALPHA, moderngl.ONE_MINUS_SRC_ALPHA, moderngl.ONE, moderngl.ONE_MINUS_SRC_ALPHA
        self.scene_target.depth_mask = False
        for slot in ("eyes", *hairy):
            _set(self.programs["eyes" if slot == "eyes" else "hair"], translucent=1)
            self._draw_piece(slot, pieces[slot], person, scene)
        self.scene_target.depth_mask = True
        c.disable(moderngl.BLEND)

    def _draw_body(self, person: Person, prepared: Prepared, scene: Scene) -> None:
        first, second = (self.assets.skins[name] for name in person.skins)
        self._texture(first.texture).use(0)
        self._texture(second.texture).use(1)
        cheek = self._mouth(prepared) + np.array([0.62, 0.62, -0.35], np.float32)
        _set(
            self.programs["skin"], rigid=0.0, cloth=1.0, mix_2=person.skin_mix, mean=first.mean, mean_2=second.mean,
            tone=person.tone, contrast=person.contrast, beard=person.beard, freckles=person.freckles, blush=person.blush,
            oil=1.0, lip=person.lip, hair_tint=person.brow_color, shirt=scene.shirt, shirt_2=scene.shirt_2,
            pattern=scene.pattern, cheek_left=cheek, eyes=self._eyes(prepared),
            stubble=0.45 if person.hair else person.stubble, scalp_tint=person.hair_color if person.hair else person.brow_color,
        )  # fmt: skip
        self.meshes["body"].draw.render()

    def _draw_piece(self, slot: str, piece: Piece, person: Person, scene: Scene) -> None:
        program = self.programs[{"eyes": "eyes", "teeth": "mouth", "tongue": "mouth"}.get(slot, "hair")]
        texture = self.assets.iris if slot == "eyes" else piece.texture
        self._texture(texture).use(0)
        _set(program, rigid=0.0 if slot == "hair" else 1.0, cloth=0.0)
        if slot == "eyes":
            _set(program, tint=person.iris, window=unit(scene.key.direction * 0.5 + np.array([0.25, 0.65, 1.0])))
        elif slot in ("teeth", "tongue"):
            _set(program, tint=person.teeth_tint if slot == "teeth" else (0.75, 0.38, 0.36))
        else:
            tint = {"brows": person.brow_color, "lashes": (0.012, 0.01, 0.009), "hair": person.hair_color}[slot]
            density = {"brows": person.brow_density, "lashes": person.lash_density, "hair": 1.0}[slot]
            cut = self._hair_cut(person) if slot == "hair" else -9.0
            _set(
                program,
                tint=tint,
                gray=max(piece.brightness, 0.01),
                density=density,
                cut=cut,
                gloss=1.0 if slot == "hair" else 0.0,
            )
        self.meshes[piece.name].draw.render()

    def _photograph(self, scene: Scene, metering: float) -> np.ndarray:
        """Develops the drawn scene over its backdrop and adds what a camera adds."""
        self.backdrop_texture.write(backdrop(scene.background)[::-1].tobytes())
        self.picture_target.use()
        self.context.disable(moderngl.DEPTH_TEST)
        self.scene_texture.use(0)
        self.backdrop_texture.use(1)
        _set(
            self.develop_program, scene=0, backdrop=1, exposure=scene.exposure * metering, contrast=scene.contrast, vignette=scene.vignette,
            saturation=scene.saturation, blur=scene.blur, pixel=1.0 / self.size, white=scene.white,
        )  # fmt: skip
        self.screen.render(moderngl.TRIANGLE_STRIP)
        raw = np.frombuffer(self.picture_target.read(components=3, alignment=1), np.uint8)
        picture = raw.reshape(self.size, self.size, 3)[::-1]
        if scene.noise:
            rng = np.random.default_rng(scene.background)
            grain = rng.standard_normal((self.size, self.size, 1), np.float32) + 0.4 * rng.standard_normal(
                picture.shape, np.float32
            )
            picture = (picture + grain * (255 * scene.noise)).clip(0, 255).astype(np.uint8)
        picture = np.ascontiguousarray(picture)
        if scene.jpeg:
            _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, scene.jpeg])
            picture = np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])
        return picture

    # ---- small parts

    def _set_common(self, program: moderngl.Program, scene: Scene, rotations: tuple[np.ndarray, np.ndarray]) -> None:
        chin = float(self.prepared.vertices[self.assets.points["chin"], 1].mean())
        _set(program, light_camera=self.light_matrix, head=rotations[0], torso=rotations[1], pivot=PIVOT)
        _set(program, cloth_line=chin - scene.collar, neckline=scene.neckline)

    def _mouth(self, prepared: Prepared) -> np.ndarray:
        points = self.assets.points
        return prepared.vertices[points["mouth_left"] + points["mouth_right"]].mean(0)

    def _eyes(self, prepared: Prepared) -> np.ndarray:
        points = self.assets.points
        return prepared.vertices[points["eye_left"] + points["eye_right"]].mean(0)

    def _hair_cut(self, person: Person) -> float:
        return float(self.prepared.vertices[self.assets.points["chin"], 1].mean()) - person.hair_cut

    def _texture(self, name: str) -> moderngl.Texture:
        if name not in self.textures:
            image = Image.open(self.assets.folder / name).convert("RGBA").transpose(Image.Transpose.FLIP_TOP_BOTTOM)
            texture = self.context.texture(image.size, 4, image.tobytes())
            texture.build_mipmaps()
            texture.filter = (moderngl.LINEAR_MIPMAP_LINEAR, moderngl.LINEAR)
            texture.anisotropy = 4.0
            self.textures[name] = texture
        return self.textures[name]

    def _piece_mesh(self, slot: str, piece: Piece) -> MeshBuffers:
        kind = {"eyes": "eyes", "teeth": "mouth", "tongue": "mouth"}.get(slot, "hair")
        return self._mesh(piece.name, piece.corner_vertex, piece.uv, piece.triangles, kind)

    def _mesh(
        self, name: str, corner_vertex: np.ndarray, uv: np.ndarray, triangles: np.ndarray, kind: str
    ) -> MeshBuffers:
        if name not in self.meshes:
            self.meshes[name] = MeshBuffers(
                self.context, len(corner_vertex), uv, triangles, self.programs[kind], self.shadow_program
            )
        return self.meshes[name]


_OPENING = (
    "jawOpen",
    "mouthSmile",
    "mouthUpperUp",
    "mouthLowerDown",
    "mouthStretch",
    "mouthFunnel",
    "mouthShrug",
    "jawForward",
)


def _context() -> moderngl.Context:
    if sys.platform.startswith("linux"):
        return moderngl.create_context(standalone=True, backend="egl")
    return moderngl.create_context(standalone=True)


def _set(program: moderngl.Program, **values: object) -> None:
    """Writes uniforms; those that the compiler dropped are passed over."""
    for name, value in values.items():
        member = program.get(name, None)
        if member is None:
            continue
        if isinstance(value, np.ndarray) and value.ndim == 2:
            member.write(np.ascontiguousarray(value.T, np.float32).tobytes())
        elif isinstance(value, int | float):
            member.value = value
        else:
            member.value = tuple(float(x) for x in value)


def _metering(tone: tuple[float, float, float], scene: Scene) -> float:
    """A camera's exposure makes up for most of the light's strength and for part of the skin's lightness."""
    light = (
        0.75 * scene.key.color[1] * max(0.3, float(scene.key.direction[2]))
        + 0.8 * scene.sky[1]
        + 0.3 * scene.fill.color[1]
    )
    skin = 0.3 * tone[0] + 0.6 * tone[1] + 0.1 * tone[2]
    return float((1.08 / light) ** 0.85 * (0.34 / skin) ** 0.33)
