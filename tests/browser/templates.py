"""Writes the workflow templates: each is built in the real graph editor, laid out by the sizes that nodes have there, and saved as it saves.

    python tests/browser/templates.py [NAME ...] [--shots FOLDER]

Then `python tests/host/thumbnails.py [NAME ...]` draws their thumbnails. Needs a ComfyUI installation (tests/host/hosts.py), Chromium and selenium.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "host")]
from editor import Editor  # noqa: E402
from hosts import ROOT, any_host  # noqa: E402
from server import Server  # noqa: E402

sys.path.insert(0, str(ROOT))
from facecrafter_core.assets import ASSETS  # noqa: E402

GAP_X, GAP_Y, TITLE = 60, 50, 30
PICTURE = {"PreviewImage": (260, 300), "SaveImage": (420, 460), "FaceCrafterSamplePortrait": (260, 330), "MarkdownNote": (520, 190)}
DEMO = "demo (comes with FaceCrafter)"


class Out(NamedTuple):
    """An output of a node."""

    node: Any
    slot: int


class Graph:
    """A graph in the making: nodes stand in columns, one below the other."""

    def __init__(self, editor: Editor, note: str) -> None:
        self.editor, self.columns = editor, {}
        editor.clear()
        self.add("MarkdownNote", 0, title="Note", text=note)

    def add(self, kind: str, column: int, title: str | None = None, **inputs: Any) -> Any:
        """A node with some inputs: outputs of other nodes, or values of widgets."""
        links = {name: value for name, value in inputs.items() if isinstance(value, Out)}
        values = {name: value for name, value in inputs.items() if name not in links}
        if kind == "MarkdownNote":
            values = {}
        number = self.editor.add(kind, 0, 0, **values)
        for name, out in links.items():
            self.editor.connect(out.node, out.slot, number, name)
        self.editor.js(
            "const n = app.graph.getNodeById(arguments[0]); if (arguments[1]) n.title = arguments[1]; if (arguments[2]) n.setSize(arguments[2]);"
            "if (arguments[3] !== null) n.widgets[0].value = arguments[3]",
            number, title, PICTURE.get(kind), inputs.get("text") if kind == "MarkdownNote" else None,
        )  # fmt: skip
        self.columns.setdefault(column, []).append(number)
        return number

    def arrange(self) -> None:
        """Lays the graph out."""
        x = 0.0
        for column in sorted(self.columns):
            y, width = 0.0, 0.0
            for number in self.columns[column]:
                size = self.editor.js("const n = app.graph.getNodeById(arguments[0]); return [n.size[0], n.size[1]]", number)
                self.editor.js("app.graph.getNodeById(arguments[0]).pos = [arguments[1], arguments[2]]", number, x, y)
                y, width = y + size[1] + GAP_Y + TITLE, max(width, size[0] if number != self.columns[0][0] else 0)
            x += width + GAP_X

    def save(self, path: Path) -> None:
        """Lays the graph out and writes what the editor saves."""
        self.arrange()
        workflow = self.editor.workflow()
        shift = -next(n["size"][1] for n in workflow["nodes"] if n["type"] == "MarkdownNote") - GAP_Y - TITLE
        first = [n for n in workflow["nodes"] if n["id"] in self.columns[0]]
        for node in first:  # the note stands above the first column, at its width's expense
            node["pos"] = [node["pos"][0], node["pos"][1] + shift]
        workflow["extra"] = {"ds": {"scale": 0.7, "offset": [80, 80 - shift]}}
        for node in workflow["nodes"]:
            node["properties"].pop("ver", None)
        path.write_text(json.dumps(workflow, indent=1) + "\n", encoding="utf-8")


def base(g: Graph, person: str = "portrait_2.jpg") -> tuple[Any, Any, Any]:
    """Loader, the person's photo, and their identity."""
    load = g.add("FaceCrafterLoader", 0, adapter=DEMO)
    photo = g.add("FaceCrafterSamplePortrait", 0, "The person", portrait=person)
    return load, photo, g.add("FaceCrafterEncodeIdentity", 1, facecrafter=Out(load, 0), photo=Out(photo, 0))


def sampled(g: Graph, load: Any, identity: Any, column: int, prefix: str, save: bool = True, **inputs: Any) -> Any:
    """Conditioning, sampler and decoder -> the decoder; `inputs` go to the node that has them."""
    conditions = {k: v for k, v in inputs.items() if k in ("landmarks", "emotion", "alpha_landmarks", "alpha_emotion")}
    rest = {"seed": 1, "steps": 20, **{k: v for k, v in inputs.items() if k not in conditions}}
    made = g.add("FaceCrafterConditioning", column, facecrafter=Out(load, 0), identity=Out(identity, 0), **conditions)
    fixed = {"control_after_generate": "fixed"}
    sampler = g.add("FaceCrafterSampler", column + 1, model=Out(load, 1), positive=Out(made, 0), negative=Out(made, 1), **fixed, **rest)
    decoded = g.add("VAEDecode", column + 2, samples=Out(sampler, 0), vae=Out(load, 3))
    if save:
        g.add("SaveImage", column + 2, images=Out(decoded, 0), filename_prefix=f"FaceCrafter/{prefix}")
    return decoded


STEADY = {"sampler_name": "dpmpp_2m", "same_noise": True, "steps": 14}


def portrait_from_photo(e: Editor) -> Graph:
    g = Graph(e, "## A portrait from a photo\n\nPress **Run**. New portraits of *the person*, as the demo model knows them.\n\nFor a photo of your own, put **Load Image** in "
              "place of *Sample Portrait*. Another `seed` gives another portrait.")  # fmt: skip
    load, _, identity = base(g)
    sampled(g, load, identity, 2, "portrait")
    return g


def copy_a_pose(e: Editor) -> Graph:
    g = Graph(e, "## Copy a pose\n\nPress **Run**. The person of the first picture, in the pose and with the expression of the second.\n\n`alpha_landmarks` 0 cuts the landmarks "
              "off; `landmark_weight` says how strongly guidance follows them.")  # fmt: skip
    load, _, identity = base(g)
    other = g.add("FaceCrafterSamplePortrait", 0, "Whose pose and expression", portrait="portrait_4.jpg")
    landmarks = g.add("FaceCrafterExtractLandmarks", 1, photo=Out(other, 0))
    g.add("PreviewImage", 1, "Landmarks", images=Out(landmarks, 1))
    sampled(g, load, identity, 2, "pose", landmarks=Out(landmarks, 0))
    return g


def emotion_sweep(e: Editor) -> Graph:
    g = Graph(e, "## An emotion sweep\n\nPress **Run**. One person from sad to happy, in even steps.\n\n`same_noise` starts all pictures from the same noise, so that only the emotion "
              "differs. Drag the point in *Emotion*'s pad, or its bars, for another beginning and end.")  # fmt: skip
    load, _, identity = base(g)
    ends = [g.add("FaceCrafterEmotion", 1, title, source="preset", preset=name) for title, name in (("From", "sad"), ("To", "happy"))]
    sweep = g.add("FaceCrafterEmotionSweep", 2, first=Out(ends[0], 0), last=Out(ends[1], 0), count=4)
    g.add("PreviewImage", 2, "The emotions", images=Out(sweep, 1))
    sampled(g, load, identity, 3, "emotions", emotion=Out(sweep, 0), **{**STEADY, "steps": 12})
    return g


def plain_ksampler(e: Editor) -> Graph:
    g = Graph(e, "## FaceCrafter under the plain KSampler\n\n*Apply FaceCrafter* puts the guidance into the MODEL, so that any sampler, detailer or upscaler can use it. The sampler's "
              "own `cfg` then changes nothing: the weights are those of *Apply FaceCrafter*.")  # fmt: skip
    load, _, identity = base(g)
    other = g.add("FaceCrafterSamplePortrait", 0, "Whose pose and expression", portrait="portrait_4.jpg")
    landmarks = g.add("FaceCrafterExtractLandmarks", 1, photo=Out(other, 0))
    emotion = g.add("FaceCrafterEmotionFromImage", 1, photo=Out(other, 0), facecrafter=Out(load, 0))
    g.add("PreviewImage", 1, "The emotion", images=Out(emotion, 1))
    made = g.add("FaceCrafterConditioning", 2, facecrafter=Out(load, 0), identity=Out(identity, 0), landmarks=Out(landmarks, 0), emotion=Out(emotion, 0))
    model = g.add("FaceCrafterApply", 2, model=Out(load, 1))
    latent = g.add("EmptyLatentImage", 2, width=256, height=256)
    held = {"seed": 1, "control_after_generate": "fixed", "steps": 20, "cfg": 1.0, "sampler_name": "ddpm", "scheduler": "sgm_uniform"}
    sampler = g.add("KSampler", 3, model=Out(model, 0), positive=Out(made, 0), negative=Out(made, 1), latent_image=Out(latent, 0), **held)
    decoded = g.add("VAEDecode", 4, samples=Out(sampler, 0), vae=Out(load, 3))
    g.add("SaveImage", 4, images=Out(decoded, 0), filename_prefix="FaceCrafter/ksampler")
    return g


def guider_advanced(e: Editor) -> Graph:
    g = Graph(e, "## FaceCrafter Guider with SamplerCustomAdvanced\n\nThe guidance as a GUIDER, with noise, sampler and sigmas of your choice. *Guidance Intervals* limits each weight "
              "to a part of the run.")  # fmt: skip
    load, _, identity = base(g)
    emotion = g.add("FaceCrafterEmotion", 1, source="valence and arousal", valence=0.7, arousal=0.4)
    made = g.add("FaceCrafterConditioning", 2, facecrafter=Out(load, 0), identity=Out(identity, 0), emotion=Out(emotion, 0))
    intervals = g.add("FaceCrafterGuidanceIntervals", 2, emotion_end=0.8)
    guider = g.add("FaceCrafterGuider", 3, model=Out(load, 1), positive=Out(made, 0), negative=Out(made, 1), intervals=Out(intervals, 0))
    noise = g.add("RandomNoise", 3, noise_seed=1, control_after_generate="fixed")
    sampler = g.add("KSamplerSelect", 3, sampler_name="dpmpp_2m")
    sigmas = g.add("BasicScheduler", 3, model=Out(load, 1), scheduler="sgm_uniform", steps=12)
    latent = g.add("EmptyLatentImage", 3, width=256, height=256)
    names = {"noise": noise, "guider": guider, "sampler": sampler, "sigmas": sigmas, "latent_image": latent}
    run = g.add("SamplerCustomAdvanced", 4, **{name: Out(node, 0) for name, node in names.items()})
    decoded = g.add("VAEDecode", 4, samples=Out(run, 0), vae=Out(load, 3))
    g.add("SaveImage", 5, images=Out(decoded, 0), filename_prefix="FaceCrafter/guider")
    return g


def edit_landmarks(e: Editor) -> Graph:
    g = Graph(e, "## Turn the head, and smile\n\nPress **Run**. The pose of the photo, turned and smiling.\n\nIn *Edit Landmarks* drag the face to turn it, or use its sliders; "
              "with the landmarks disconnected you start from a built-in face.")  # fmt: skip
    load, photo, identity = base(g, "portrait_3.jpg")
    found = g.add("FaceCrafterExtractLandmarks", 1, photo=Out(photo, 0))
    edited = g.add("FaceCrafterEditLandmarks", 2, yaw=22.0, pitch=6.0, expression="smile 0.8, jawOpen 0.15", landmarks=Out(found, 0), photo=Out(found, 2))
    sampled(g, load, identity, 3, "edited", landmarks=Out(edited, 0))
    return g


def retarget_pose(e: Editor) -> Graph:
    g = Graph(e, "## Someone else's pose, one's own face shape\n\nPress **Run**. Landmarks carry a face's proportions beside its pose. *Retarget Landmarks* keeps the pose and the "
              "expression of the second photo and takes the proportions of the first.\n\n`strength` 0 copies the landmarks as they are.")  # fmt: skip
    load, photo, identity = base(g, "portrait_1.jpg")
    other = g.add("FaceCrafterSamplePortrait", 0, "Whose pose and expression", portrait="portrait_5.jpg")
    source = g.add("FaceCrafterExtractLandmarks", 1, "The pose", photo=Out(other, 0))
    shape = g.add("FaceCrafterExtractLandmarks", 1, "The shape", photo=Out(photo, 0))
    fitted = g.add("FaceCrafterRetargetLandmarks", 2, source=Out(source, 0), shape=Out(shape, 0))
    g.add("PreviewImage", 2, "Landmarks", images=Out(fitted, 1))
    sampled(g, load, identity, 3, "retargeted", landmarks=Out(fitted, 0))
    return g


def strip_expression(e: Editor) -> Graph:
    g = Graph(e, "## An emotion in place of the photo's\n\nPress **Run**. The pose of the second photo without its expression, so that *Emotion* decides alone.\n\nDrag the point in the "
              "emotion pad.")  # fmt: skip
    load, _, identity = base(g)
    other = g.add("FaceCrafterSamplePortrait", 0, "Whose pose", portrait="portrait_5.jpg")
    found = g.add("FaceCrafterExtractLandmarks", 1, photo=Out(other, 0))
    neutral = g.add("FaceCrafterStripExpression", 1, landmarks=Out(found, 0))
    g.add("PreviewImage", 1, "Neutral landmarks", images=Out(neutral, 1))
    emotion = g.add("FaceCrafterEmotion", 2, source="preset", preset="happy")
    sampled(g, load, identity, 3, "stripped", landmarks=Out(neutral, 0), emotion=Out(emotion, 0), landmark_weight=1.2, emotion_weight=4.0)
    return g


def image_to_image(e: Editor) -> Graph:
    g = Graph(e, "## Image to image\n\nPress **Run**. The photo itself is the start (`denoise` below 1): composition and light stay, the emotion changes.\n\nMore `denoise` changes "
              "more.")  # fmt: skip
    load, photo, identity = base(g, "portrait_6.jpg")
    crop = g.add("FaceCrafterFaceCrop", 1, facecrafter=Out(load, 0), photo=Out(photo, 0))
    emotion = g.add("FaceCrafterEmotion", 2, source="preset", preset="happy")
    encoded = g.add("VAEEncode", 2, pixels=Out(crop, 0), vae=Out(load, 3))
    sampled(g, load, identity, 3, "image_to_image", emotion=Out(emotion, 0), latent=Out(encoded, 0), denoise=0.7, emotion_weight=4.0)
    return g


def edit_face_in_picture(e: Editor) -> Graph:
    g = Graph(e, "## Edit the face in a picture\n\nPress **Run**. The face is cut out, painted anew with a smile, and put back in its place; the rest of the picture stays bit for bit.\n\n"
              "Put **Load Image** in place of *Sample Portrait*. `denoise` says how much may change.")  # fmt: skip
    load = g.add("FaceCrafterLoader", 0, adapter=DEMO)
    photo = g.add("FaceCrafterSamplePortrait", 0, "The picture", portrait="portrait_1.jpg")
    identity = g.add("FaceCrafterEncodeIdentity", 1, facecrafter=Out(load, 0), photo=Out(photo, 0))
    crop = g.add("FaceCrafterFaceCrop", 1, facecrafter=Out(load, 0), photo=Out(photo, 0))
    edited = g.add("FaceCrafterEditLandmarks", 2, expression="smile 1, jawOpen 0.2", landmarks=Out(crop, 1), photo=Out(crop, 0))
    encoded = g.add("VAEEncode", 2, pixels=Out(crop, 0), vae=Out(load, 3))
    masked = g.add("SetLatentNoiseMask", 3, samples=Out(encoded, 0), mask=Out(crop, 2))
    happy = g.add("FaceCrafterEmotion", 3, source="preset", preset="happy")
    faces = sampled(g, load, identity, 4, "", save=False, landmarks=Out(edited, 0), emotion=Out(happy, 0), latent=Out(masked, 0), denoise=0.75)
    whole = g.add("FaceCrafterFacePaste", 6, crop=Out(crop, 3), faces=Out(faces, 0))
    g.add("SaveImage", 6, images=Out(whole, 0), filename_prefix="FaceCrafter/edited_in_place")
    return g


def group_photo(e: Editor) -> Graph:
    g = Graph(e, "## A group photo, each with their own emotion\n\nPress **Run**. All faces are cut out as a batch, from left to right, each gets an emotion of its own, and all are put "
              "back.\n\n*Schedule* lists the emotions by place: `0: happy, 1: surprise`.")  # fmt: skip
    load = g.add("FaceCrafterLoader", 0, adapter=DEMO)
    people = [g.add("FaceCrafterSamplePortrait", 0, portrait=f"portrait_{i}.jpg") for i in (1, 2)]
    group = g.add("ImageStitch", 1, "The group photo", image1=Out(people[0], 0), image2=Out(people[1], 0))
    crop = g.add("FaceCrafterFaceCrop", 1, facecrafter=Out(load, 0), photo=Out(group, 0), face="all")
    identities = g.add("FaceCrafterEncodeIdentity", 2, facecrafter=Out(load, 0), photo=Out(crop, 0), one_each=True)
    encoded = g.add("VAEEncode", 2, pixels=Out(crop, 0), vae=Out(load, 3))
    masked = g.add("SetLatentNoiseMask", 2, samples=Out(encoded, 0), mask=Out(crop, 2))
    plan = g.add("FaceCrafterSchedule", 3, "An emotion each", frames=2, easing="hold", emotion="0: happy, 1: surprise")
    faces = sampled(g, load, identities, 4, "", save=False, emotion=Out(plan, 0), latent=Out(masked, 0), denoise=0.8, emotion_weight=4.0)
    whole = g.add("FaceCrafterFacePaste", 6, crop=Out(crop, 3), faces=Out(faces, 0))
    g.add("SaveImage", 6, images=Out(whole, 0), filename_prefix="FaceCrafter/group")
    return g


def sequence(e: Editor) -> Graph:
    g = Graph(e, "## A sequence\n\nPress **Run**. The head turns while the mood lifts, by keyframes `frame: value` in *Schedule*.\n\nConnect the landmarks of a video to *Schedule*, through "
              "*Smooth Landmarks*, to follow it.")  # fmt: skip
    load, _, identity = base(g)
    plan = g.add("FaceCrafterSchedule", 1, frames=9, emotion="0: sad 0.8, 8: happy", yaw="0: -25, 8: 25", smile="3: 0, 8: 0.9")
    sampled(g, load, identity, 2, "sequence", landmarks=Out(plan, 1), emotion=Out(plan, 0), weights=Out(plan, 2), **STEADY)
    return g


def expression_sheet(e: Editor) -> Graph:
    g = Graph(e, "## An expression sheet\n\nPress **Run**. One person with every emotion in every pose, in one node.\n\nAdd emotions (`happy 0.6`, or valence and arousal `-0.5 0.3`) and "
              "poses (yaw, or yaw and pitch).")  # fmt: skip
    load, _, identity = base(g)
    held = {"seed": 1, "control_after_generate": "fixed", "steps": 12}
    where = {"facecrafter": Out(load, 0), "model": Out(load, 1), "vae": Out(load, 3), "identity": Out(identity, 0)}
    sheet = g.add("FaceCrafterExpressionSheet", 2, emotions="neutral, happy, sad, surprise, anger", poses="-25, 25", **where, **held)
    g.add("SaveImage", 3, images=Out(sheet, 0), filename_prefix="FaceCrafter/sheet")
    return g


def balanced_set(e: Editor) -> Graph:
    g = Graph(e, "## A balanced set of faces\n\nPress **Run**. Two people with three emotions in two poses, equally often, in `output/facecrafter_set` with a manifest.\n\nStopped runs go on. "
              "Change `folder` for another plan.")  # fmt: skip
    load = g.add("FaceCrafterLoader", 0, adapter=DEMO)
    people = [g.add("FaceCrafterSamplePortrait", 0, portrait=f"portrait_{i}.jpg") for i in (2, 6)]
    both = g.add("ImageBatch", 1, image1=Out(people[0], 0), image2=Out(people[1], 0))
    identities = g.add("FaceCrafterEncodeIdentity", 1, facecrafter=Out(load, 0), photo=Out(both, 0), one_each=True)
    held = {"seed": 1, "control_after_generate": "fixed", "steps": 12, "folder": "facecrafter_set"}
    where = {"facecrafter": Out(load, 0), "model": Out(load, 1), "vae": Out(load, 3), "identities": Out(identities, 0)}
    made = g.add("FaceCrafterBalancedSet", 2, emotions="neutral, happy, sad", poses="-20, 20", **where, **held)
    g.add("SaveImage", 3, "The last one", images=Out(made, 2), filename_prefix="FaceCrafter/set")
    return g


def best_of_n(e: Editor) -> Graph:
    g = Graph(e, "## The best of several\n\nPress **Run**. Four portraits of one person; the one that is most like them, and closest to the pose, is kept.\n\nThe weights of *Best of N* say "
              "what counts.")  # fmt: skip
    load, photo, identity = base(g)
    other = g.add("FaceCrafterSamplePortrait", 0, "Whose pose and expression", portrait="portrait_4.jpg")
    landmarks = g.add("FaceCrafterExtractLandmarks", 1, photo=Out(other, 0))
    latent = g.add("EmptyLatentImage", 1, width=256, height=256, batch_size=4)
    decoded = sampled(g, load, identity, 2, "", save=False, landmarks=Out(landmarks, 0), latent=Out(latent, 0), steps=12)
    asked = {"facecrafter": Out(load, 0), "pictures": Out(decoded, 0), "photo": Out(photo, 0), "landmarks": Out(landmarks, 0)}
    best = g.add("FaceCrafterBestOf", 4, keep=1, **asked)
    g.add("SaveImage", 5, "The best", images=Out(best, 0), filename_prefix="FaceCrafter/best")
    g.add("PreviewImage", 5, "All, with scores", images=Out(best, 2))
    return g


def full_size(e: Editor) -> Graph:
    g = Graph(e, "## Full size: Arc2Face, 512 x 512\n\nArc2Face's files come with **Download Models** (add the node, press *Show and accept licences*, then Run), or with `facecrafter assets download "
              "--for full --into ComfyUI/models`. The adapter is one of yours, from `training/`: put it into `models/facecrafter` and choose it in *Load FaceCrafter*. Then press **Run**.")  # fmt: skip
    loaders = []
    for kind, asset, values in (
        ("UNETLoader", "arc2face_unet", {"unet_name": None, "weight_dtype": "default"}), ("CLIPLoader", "arc2face_encoder", {"clip_name": None, "type": "stable_diffusion"}),
        ("VAELoader", "sd_vae", {"vae_name": None}),
    ):  # fmt: skip
        one = ASSETS[asset]
        loaders.append(g.add(kind, 0, **{name: value or one.file for name, value in values.items()}))
        known = [{"name": one.file, "url": one.urls[0], "directory": one.folder}]  # the editor offers to download what is missing
        e.js("app.graph.getNodeById(arguments[0]).properties.models = arguments[1]", loaders[-1], known)
    load = g.add("FaceCrafterLoader", 1, adapter="my_adapter.safetensors", **dict(zip(("model", "clip", "vae"), (Out(n, 0) for n in loaders), strict=True)))
    photo = g.add("FaceCrafterSamplePortrait", 1, "The person", portrait="portrait_2.jpg")
    other = g.add("FaceCrafterSamplePortrait", 1, "Whose pose and expression", portrait="portrait_4.jpg")
    identity = g.add("FaceCrafterEncodeIdentity", 2, facecrafter=Out(load, 0), photo=Out(photo, 0))
    landmarks = g.add("FaceCrafterExtractLandmarks", 2, photo=Out(other, 0), drawing_size=512)
    happy = g.add("FaceCrafterEmotion", 2, source="preset", preset="happy")
    sampled(g, load, identity, 3, "full_size", landmarks=Out(landmarks, 0), emotion=Out(happy, 0), steps=25)
    return g


TEMPLATES: dict[str, Callable[[Editor], Graph]] = {
    build.__name__: build
    for build in (
        portrait_from_photo, copy_a_pose, emotion_sweep, plain_ksampler, guider_advanced, edit_landmarks, retarget_pose, strip_expression, image_to_image,
        edit_face_in_picture, group_photo, sequence, expression_sheet, balanced_set, best_of_n, full_size,
    )
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(TEMPLATES))
    parser.add_argument("--shots", type=Path, help="folder for a screenshot of each")
    args = parser.parse_args()
    host = any_host()
    with tempfile.TemporaryDirectory() as folder, Server(host, Path(folder)) as server, Editor(server) as editor:
        editor.open(vue=False)
        for name in args.names or TEMPLATES:
            path = ROOT / "workflows" / f"{name}.json"
            TEMPLATES[name](editor).save(path)
            print(path.relative_to(ROOT))
            if args.shots:
                args.shots.mkdir(parents=True, exist_ok=True)
                editor.load(json.loads(path.read_text(encoding="utf-8")))
                editor.look(20, 260, 0.55)
                editor.shot(args.shots / f"{name}.png")


if __name__ == "__main__":
    main()
