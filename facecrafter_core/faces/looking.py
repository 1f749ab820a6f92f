"""Where the faces of a photo are, large or small and whichever way up, and the mesh of each.

MediaPipe's mesh is made for heads that stand upright or lean: on a face that is upside down it lays an upright mesh, and says nothing. Its
detector, a network of its own, finds such faces too, but is less certain of them, and its eyes, nose and mouth are not the mesh's. So a mesh is
taken as it is only where the detector is certain of the face, agrees with the mesh, and the head leans less than SURE_ROLL (_is_sure). Every
other face is looked at again, cut out, in all four quarter turns; the detector's score decides which one is upright (_judge).

benchmarks/turned_faces.py turns photos of one face by 0, 15, 30 ... 345 degrees. Of 54 photos in 24 turns (48 portraits of real people, six rendered
ones) MediaPipe's mesh alone is right in 691, laid wrongly in 250 and missing in 355; this search is right in all 1296. Of MediaPipe's
941 meshes 390 are sure by the three limits below, and all of these are right. A sure face takes one run of the detector beside the mesh's: 2 ms beside
10 on one core. Small faces are looked for by the detector alone, in at most 283 tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from .face import Face
from .mediapipe_tasks import Seen, Tasks

LONGEST_SIDE = 1920
"""Larger photos are reduced to this before they are looked at as a whole, in pixels."""

MIN_TILE = 192
"""Smallest tile, in pixels, in which faces are looked for."""

PARTS = (2, 4, 8)
"""A tile's side is the photo's longer one by each of these."""

SURE_SCORE = 0.85
"""Least score of a detection whose face is upright without a second look."""

SURE_MISFIT = 0.1
"""Largest misfit of such a face (see _misfit)."""

SURE_ROLL = 60.0
"""Largest roll of such a face, in degrees."""

SMALL_SCORE = 0.77
"""Least score of a face that is found in a tile: many tiles show many things that are a little like a face."""

LARGEST_MISFIT = 0.25
"""Largest misfit of a face that has been looked at in all four turns; beyond it there is none."""

CUT_SIDE = 2.5
"""Side of what is cut out for a second look, in sides of the face's box."""

CUT_PIXELS = 512
"""Larger cuts are reduced to this side, in pixels."""

SAME = 0.3
"""Two boxes that share this much of the smaller one are of one face."""

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the photo."""


class Sight(NamedTuple):
    """A face and how certain the detector is of it, 0..1."""

    face: Face
    score: float


@dataclass(frozen=True)
class View:
    """A piece of a photo as MediaPipe gets to see it.

    Attributes:
        picture: uint8 [H, W, 3], turned.
        left, top: place of its upper left corner before it was turned, in pixels of the photo.
        scale: its pixels in one of the photo's.
        turns: quarter turns by which it was turned, anticlockwise.
    """

    picture: np.ndarray
    left: float
    top: float
    scale: float
    turns: int = 0

    @staticmethod
    def cut(photo: np.ndarray, middle: np.ndarray, side: float) -> View:
        """A square of the photo; what lies outside of it repeats its border."""
        whole = max(2, round(side))
        left, top = (round(float(v) - whole / 2) for v in middle)
        outside = np.maximum([-top, top + whole - photo.shape[0], -left, left + whole - photo.shape[1]], 0)
        inside = photo[max(top, 0) : max(top + whole, 0), max(left, 0) : max(left + whole, 0)]
        picture = cv2.copyMakeBorder(inside, *outside.tolist(), cv2.BORDER_REPLICATE)
        scale = min(1.0, CUT_PIXELS / whole)
        if scale < 1:
            picture = cv2.resize(picture, (CUT_PIXELS, CUT_PIXELS), interpolation=cv2.INTER_AREA)
        return View(picture, left, top, picture.shape[0] / whole)

    def turned(self, turns: int) -> View:
        """The same piece with that many quarter turns more."""
        return View(np.ascontiguousarray(np.rot90(self.picture, turns)), self.left, self.top, self.scale, (self.turns + turns) % 4) if turns else self

    def bordered(self) -> View:
        """With a border of half its longer side, which repeats the outermost pixels: the detector misses faces that fill a picture."""
        border = max(self.picture.shape[:2]) // 2
        padded = np.pad(self.picture, ((border, border), (border, border), (0, 0)), mode="edge")
        return View(padded, self.left - border / self.scale, self.top - border / self.scale, self.scale, self.turns)

    def tile(self, left: int, top: int, side: int) -> View:
        """A square of it at (left, top), in its pixels; only of one that is not turned."""
        piece = self.picture[top : top + side, left : left + side]
        return View(piece, self.left + left / self.scale, self.top + top / self.scale, self.scale)

    def to_photo(self, points: np.ndarray) -> np.ndarray:
        """Points [N, 2] or [N, 3] in pixels of the picture -> in pixels of the photo; z is scaled with them."""
        height, width = self.picture.shape[:2]
        x, y = points[:, 0], points[:, 1]
        out = np.array(points, np.float32)
        out[:, 0], out[:, 1] = ((x, y), (height - y, x), (width - x, height - y), (y, width - x))[self.turns]
        out /= self.scale
        out[:, :2] += np.array([self.left, self.top], np.float32)
        return out

    def face(self, mesh: Seen, photo_size: tuple[int, int]) -> Face:
        """A mesh of the picture -> the face in the photo; the head turns with it."""
        sine, cosine = ((0, 1), (1, 0), (0, -1), (-1, 0))[self.turns]
        back = np.array([[cosine, sine, 0, 0], [-sine, cosine, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float32)
        return Face(self.to_photo(mesh.points), mesh.blendshapes, back @ mesh.matrix, photo_size)


class Search:
    """Looks for the faces of one photo.

    Args:
        tasks: MediaPipe's networks.
        photo: uint8 [H, W, 3], RGB.
    """

    def __init__(self, tasks: Tasks, photo: np.ndarray) -> None:
        self.tasks, self.photo = tasks, photo
        self.size: tuple[int, int] = photo.shape[:2]
        self.view = _reduced(photo)

    def largest(self) -> list[Face]:
        """The faces that are seen in the photo as a whole; where there is none, those of the largest tiles in which there is one."""
        sights = self.whole()
        for turns in (0, 2):
            for parts in PARTS:
                sights = sights or self.tiles(parts, turns, [])
        return _by_size(sights)

    def every(self) -> list[Face]:
        """All faces: those of the whole photo, and in tiles of each size those that are not among them."""
        sights = self.in_tiles(self.whole(), 0)
        return _by_size(sights or self.in_tiles([], 2))

    def in_tiles(self, sights: list[Sight], turns: int) -> list[Sight]:
        """Adds what is in tiles of each size. They are turned as most of the faces are; where there are none, by `turns`."""
        for parts in PARTS:
            sights = [*sights, *self.tiles(parts, _most_turned(sights, turns), sights)]
        return sights

    def whole(self) -> list[Sight]:
        """Faces of the photo as a whole; where there is none also in its other turns, and with a border around it."""
        for dressed in (lambda: self.view, self.view.bordered):
            view = dressed()
            for turns in (0, 2, 1, 3):
                if sights := self.look(view.turned(turns)):
                    return sights
        return []

    def look(self, view: View) -> list[Sight]:
        """Faces of a view, those that are not sure judged."""
        sure, doubtful = [], []
        detections = self.tasks.detections(view.picture)
        meshes = self.tasks.meshes(view.picture) if detections else []
        for seen in detections:
            fitting = min(meshes, key=lambda mesh: _misfit(mesh, seen), default=None)  # noqa: B023
            if fitting and _is_sure(face := view.face(fitting, self.size), fitting, seen):
                sure.append(Sight(face, seen.score))
            else:
                doubtful.append((view, seen))
        return _distinct([*sure, *self.judged(doubtful, sure)])

    def tiles(self, parts: int, turns: int, known: list[Sight]) -> list[Sight]:
        """Faces that are not known, in half overlapping square tiles, each turned; none where tiles would be smaller than MIN_TILE."""
        height, width = self.view.picture.shape[:2]
        if max(height, width) < parts * MIN_TILE:
            return []
        side = -(-max(height, width) // parts)
        tops, lefts = (np.linspace(0, max(n - side, 0), max(1, -(-2 * n // side) - 1)).astype(int) for n in (height, width))
        tiles = [self.view.tile(left, top, side).turned(turns) for top in tops for left in lefts]
        return self.judged([(tile, seen) for tile in tiles for seen in self.tasks.detections(tile.picture)], known, SMALL_SCORE)

    def judged(self, found: list[tuple[View, Seen]], known: list[Sight], least: float = 0.0) -> list[Sight]:
        """What was detected -> the faces among it that are not known and have at least that score, each once."""
        sights: list[Sight] = []
        refused: list[Box] = []
        for view, seen in sorted(found, key=lambda item: -item[1].score):
            box = _box(view.to_photo(np.array([seen.box[:2], seen.box[2:]])))
            if any(_overlap(box, sight.face.box) >= SAME for sight in (*known, *sights)) or any(_overlap(box, other) >= 2 * SAME for other in refused):
                continue
            if (sight := self._judge(box, least)) is None:
                refused.append(box)
            else:
                sights.append(sight)
        kept = _distinct([*known, *sights])
        return [sight for sight in kept if not any(sight is other for other in known)]

    def _judge(self, box: Box, least: float) -> Sight | None:
        """The face in a box of the photo, in the turn in which the detector is most certain of it; None below the least score, or where no mesh
        fits."""
        middle, side = np.array([box[0] + box[2], box[1] + box[3]]) / 2, max(box[2] - box[0], box[3] - box[1])
        cut = View.cut(self.photo, middle, CUT_SIDE * side)
        found = [(seen, view) for view in map(cut.turned, range(4)) for seen in self.tasks.detections(view.picture) if _is_central(seen, view)]
        seen, view = max(found, key=lambda item: item[0].score, default=(None, cut))
        if seen is None or seen.score < least:
            return None
        mesh = min(self.tasks.meshes(view.picture), key=lambda mesh: _misfit(mesh, seen), default=None)
        if mesh is None or _misfit(mesh, seen) > LARGEST_MISFIT:
            return None
        return Sight(view.face(mesh, self.size), seen.score)


def _is_sure(face: Face, mesh: Seen, seen: Seen) -> bool:
    return seen.score >= SURE_SCORE and _misfit(mesh, seen) <= SURE_MISFIT and abs(face.pose.roll) <= SURE_ROLL


_POINTS = ((33, 133), (362, 263), (1,), (13, 14))
"""Landmarks between which the detector's eyes, nose and mouth lie."""


def _misfit(mesh: Seen, seen: Seen) -> float:
    """Mean distance between eyes, nose and mouth of a mesh and of a detection in one view, in shares of the mesh's longer side."""
    points = np.stack([mesh.points[list(indices), :2].mean(0) for indices in _POINTS])
    size = np.ptp(mesh.points[:, :2], axis=0).max()
    return float(np.linalg.norm(points - seen.points[: len(_POINTS)], axis=1).mean() / max(size, 1e-6))


def _is_central(seen: Seen, view: View) -> bool:
    """Whether a detection is of the face that was cut out, and not of a neighbour's."""
    height, width = view.picture.shape[:2]
    middle = np.array([seen.box[0] + seen.box[2], seen.box[1] + seen.box[3]]) / 2
    return bool((np.abs(middle / [width, height] - 0.5) < 0.2).all())


def _distinct(sights: list[Sight]) -> list[Sight]:
    """Each face once: of two that overlap the first, sorted by score, stays."""
    kept: list[Sight] = []
    for sight in sorted(sights, key=lambda sight: -sight.score):
        if all(_overlap(sight.face.box, other.face.box) < SAME for other in kept):
            kept.append(sight)
    return kept


def _most_turned(sights: list[Sight], otherwise: int) -> int:
    """Quarter turns anticlockwise after which most of the faces are upright; `otherwise` where there are none."""
    turns = [round(sight.face.pose.roll / 90) % 4 for sight in sights]
    return max(range(4), key=turns.count) if turns else otherwise


def _by_size(sights: list[Sight]) -> list[Face]:
    return sorted((sight.face for sight in sights), key=lambda face: face.size, reverse=True)


def _box(corners: np.ndarray) -> Box:
    """Two corners [2, 2] of a box, whichever they are."""
    return (*corners.min(0).tolist(), *corners.max(0).tolist())


def _overlap(a: Box, b: Box) -> float:
    """Shared area of two boxes by the smaller one's area."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return float(np.prod(np.maximum(high - low, 0)) / max(min(areas), 1e-6))


def _reduced(photo: np.ndarray) -> View:
    """The whole photo with its longer side at most LONGEST_SIDE."""
    scale = LONGEST_SIDE / max(photo.shape[:2])
    if scale >= 1:
        return View(photo, 0.0, 0.0, 1.0)
    size = (max(1, round(photo.shape[1] * scale)), max(1, round(photo.shape[0] * scale)))
    return View(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), 0.0, 0.0, scale)
