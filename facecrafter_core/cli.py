"""The command line. Heavy packages are imported by the commands, so that --help is quick."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import __version__
from .asset_commands import add_asset_commands
from .batch import SEEDS, seed_after
from .errors import EmotionError, FaceCrafterError, ModelError, about, named_file
from .terminal import escape_unprintable

if TYPE_CHECKING:
    from .diffusion.guidance import Guidance
    from .faces.emotion import Emotion

ESTIMATOR_NAMES = ("automatic", "demo", "emonet", "hsemotion")
EMOTION_NAMES = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
MAX_STEPS = 1000
"""ESTIMATORS and EMOTIONS of faces/ and the timesteps of diffusion/families.py, written out again because their files load numpy and torch."""

EXAMPLES = """examples:
  facecrafter demo
  facecrafter generate me.jpg --out me.png
  facecrafter generate me.jpg --driving friend.jpg --emotion happy --count 4 --out portraits.png
  facecrafter generate me.jpg --emotion-from friend.jpg --out moved.png
  facecrafter generate me.jpg me2.jpg --valence -0.6 --arousal 0.3 --out sad.png
  facecrafter landmarks friend.jpg --out friend.npy
  facecrafter generate me.jpg --landmarks friend.npy --out posed.png
  facecrafter inspect demo/adapter.safetensors
  facecrafter assets list --folder ComfyUI/models
  facecrafter assets download --for full --into ComfyUI/models
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code. 0: done. 2: not done, and one sentence on stderr says why. 130: interrupted.

    Raises:
        SystemExit: --help and --version (0), or options that cannot be read (2).
    """
    escape_unprintable()
    options = _parser().parse_args(arguments)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # torch's threads spin otherwise: many times slower where another program runs
    try:
        options.run(options)
    except FaceCrafterError as error:
        print(f"facecrafter: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"facecrafter: {named_file(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("facecrafter: stopped; finished files are whole.", file=sys.stderr)
        return 130
    return 0


def _hide_loading_messages() -> None:
    """Turns off the loading bars and notes of diffusers and transformers; errors stay."""
    import diffusers
    import transformers

    for logging in (diffusers.utils.logging, transformers.utils.logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()


def run_demo(options: argparse.Namespace) -> None:
    from .demo import run_demo
    from .studio import DEMO_FOLDER

    _hide_loading_messages()
    run_demo(options.photo, options.driving, options.out, options.model or DEMO_FOLDER, options.seed, options.steps)


def run_generate(options: argparse.Namespace) -> None:
    emotion, guidance = chosen_emotion(options), chosen_guidance(options)
    from tqdm import tqdm

    from .faces.photo import load_photo
    from .files import check_place, read_landmarks, write_picture
    from .studio import DEMO_FOLDER, Studio

    _hide_loading_messages()
    check_place(options.out)
    photos = [load_photo(path) for path in options.photo]
    driving = load_photo(options.driving) if options.driving else None
    mood = load_photo(options.emotion_from) if options.emotion_from else None
    landmarks = read_landmarks(options.landmarks) if options.landmarks else None
    studio = Studio(options.model or DEMO_FOLDER, options.adapter, options.device)
    identity = studio.identity(photos, options.face, [str(path) for path in options.photo])
    if driving is not None:
        with about(str(options.driving)):
            landmarks = studio.driving_face(driving, options.driving_face).landmarks
    if mood is not None:
        with about(str(options.emotion_from)):
            emotion, estimator = studio.emotion(mood, "largest", options.estimator)
        print(f"Emotion read by {estimator.name} (licence: {estimator.licence})")
    with tqdm(total=options.steps, desc="Painting", unit="step", leave=False, disable=None) as bar:

        def advance(*_: object) -> None:
            bar.update()

        pictures = studio.pipe(
            identity,
            landmarks,
            emotion,
            alpha_landmark=options.alpha_landmark,
            alpha_emotion=options.alpha_emotion,
            guidance=guidance,
            steps=options.steps,
            seed=options.seed,
            count=options.count,
            callback_on_step_end=advance,
        )
    for i, picture in enumerate(pictures):
        seed = seed_after(options.seed, i)
        path = options.out if len(pictures) == 1 else options.out.with_stem(f"{options.out.stem}_{seed}")
        print(f"Wrote {write_picture(path, picture)}  (seed {seed})")
    if emotion is not None:
        print(f"Emotion: {emotion.describe()}")


def run_landmarks(options: argparse.Namespace) -> None:
    from .faces.align import align_face
    from .faces.drawing import draw_landmarks
    from .faces.landmarker import FaceLandmarker
    from .faces.photo import load_photo
    from .files import write_array, write_picture

    photo = load_photo(options.photo)
    with about(str(options.photo)):
        face = FaceLandmarker().find_face(photo, options.face)
        aligned = align_face(photo, face.landmarks, options.size, rotate=False)
    out = options.out if options.out.suffix == ".npy" else options.out.with_name(options.out.name + ".npy")
    print(f"Wrote {write_array(out, aligned.landmarks)}: 478 points, 0..1 in the square around the face")
    print(f"Wrote {write_picture(out.with_suffix('.png'), draw_landmarks(aligned.landmarks, options.size))}: their drawing")
    yaw, pitch, roll = face.pose
    print(f"Face of {face.size:.0f} pixels; yaw {yaw:+.0f}, pitch {pitch:+.0f}, roll {roll:+.0f} degrees (right, up and clockwise are positive)")


def run_inspect(options: argparse.Namespace) -> None:
    from .control.adapter import read_adapter_metadata

    metadata = read_adapter_metadata(options.adapter)
    shapes = metadata.pop("shapes")
    config = metadata.pop("config").to_dict()
    branches = {name: f"{name}." for name in ("landmark", "emotion", "landmark_branch", "emotion_branch")}
    print(f"{options.adapter}: {sum(map(math.prod, shapes.values())):,} parameters in {len(shapes)} tensors")
    for name, prefix in branches.items():
        own = [shape for key, shape in shapes.items() if key.startswith(prefix)]
        print(f"  {name:16} {f'{sum(map(math.prod, own)):,} parameters' if own else 'none'}")
    for title, entries in (("metadata", metadata), ("configuration", config)):
        print(title)
        for name, value in entries.items():
            print(f"  {name:18} {', '.join(map(str, value)) if isinstance(value, (list, tuple)) else value}")


def chosen_emotion(options: argparse.Namespace) -> Emotion | None:
    """The emotion of --emotion NAME[:INTENSITY], or of --valence and --arousal; None without them, --emotion-from's included (it needs models).

    Raises:
        EmotionError: several of the three, one half of a point, an unknown name, or a number out of range.
    """
    from .faces.emotion import Emotion

    point = (options.valence, options.arousal)
    if options.emotion_from:
        if options.emotion or point != (None, None):
            raise EmotionError("Expected the emotion from --emotion-from alone, found --emotion or --valence and --arousal too. Leave one out.")
        return None
    if options.emotion and point != (None, None):
        raise EmotionError("Expected either --emotion or --valence and --arousal, found both. Leave one out.")
    if options.emotion:
        name, _, intensity = options.emotion.partition(":")
        try:
            return Emotion.preset(name, float(intensity or 1))
        except ValueError as error:
            if isinstance(error, EmotionError):
                raise
            raise EmotionError(f"Expected an emotion as NAME or NAME:INTENSITY, such as happy:0.7, found {options.emotion!r}.") from error
    if point == (None, None):
        return None
    if None in point:
        raise EmotionError("Expected --valence and --arousal together, found one of them. Give both, each from -1 to 1.")
    return Emotion.from_valence_arousal(*point)


def chosen_guidance(options: argparse.Namespace) -> Guidance:
    """The weights of Eq. 6, its mode, and how often it is computed.

    Raises:
        ModelError: a weight is not finite, or there is no such mode.
    """
    from .diffusion.guidance import Guidance

    try:
        return Guidance(options.weight_identity, options.weight_landmark, options.weight_emotion, options.mode, refresh=options.refresh)
    except ValueError as error:
        raise ModelError(str(error)) from error


def face_choice(text: str) -> str | int:
    """Reads "largest", "only" or a number; whether the photo has that face is the landmarker's to say.

    Raises:
        ArgumentTypeError: neither of them.
    """
    if text in ("largest", "only"):
        return text
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected largest, only or a number from 0, found {text!r}")
    return int(text)


def _whole(low: int, high: int) -> Callable[[str], int]:
    """Reads a whole number from low to high."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"expected a whole number from {low} to {high}, found {text!r}")
        return number

    return read


def _real(low: float, high: float) -> Callable[[str], float]:
    """Reads a number from low to high."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"expected a number from {low:g} to {high:g}, found {text!r}")
        return number

    return read


class _Overview(argparse.RawDescriptionHelpFormatter):
    """One line a command."""

    def _format_action(self, action: argparse.Action) -> str:
        if isinstance(action, argparse._SubParsersAction):
            return "".join(f"  {c.dest:12}{c.help}\n" for c in action._get_subactions())
        return super()._format_action(action)


class _Help(argparse.HelpFormatter):
    """Shows defaults where there are any."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34)

    def _get_help_string(self, action: argparse.Action) -> str:
        shown = action.option_strings and action.default not in (None, argparse.SUPPRESS)
        return f"{action.help} (default: {action.default})" if shown else str(action.help)


def _parser() -> argparse.ArgumentParser:
    formatter = _Help
    parser = argparse.ArgumentParser(
        prog="facecrafter",
        description="New portraits of a person from one photo, with pose, expression and emotion set independently.",
        epilog=EXAMPLES,
        formatter_class=_Overview,
    )
    parser.add_argument("--version", action="version", version=f"facecrafter {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    demo = commands.add_parser("demo", help="a contact sheet that shows all controls on one photo", formatter_class=formatter)
    demo.add_argument("--photo", metavar="FILE", type=Path, help="the person; without it scikit-image's astronaut")
    demo.add_argument("--driving", metavar="FILE", type=Path, help="whose pose and expression to copy; without it a rendered portrait")
    demo.add_argument("--out", metavar="PATH", type=Path, default=Path("output"), help="folder for demo.png and demo/")
    _add_sampling(demo, steps=20)
    demo.add_argument("--model", metavar="FOLDER", type=Path, help="model folder; without it the demo model")
    demo.set_defaults(run=run_demo)

    generate = commands.add_parser("generate", help="portraits of one person", formatter_class=formatter)
    generate.add_argument("photo", metavar="PHOTO", type=Path, nargs="+", help="one or several photos of the person")
    generate.add_argument("--face", metavar="WHICH", type=face_choice, default="largest", help="which face of the photos: largest, only, or a number from the left, from 0")
    steering = generate.add_argument_group("pose and expression")
    source = steering.add_mutually_exclusive_group()
    source.add_argument("--driving", metavar="FILE", type=Path, help="photo of anyone whose pose and expression to copy")
    source.add_argument("--landmarks", metavar="FILE", type=Path, help="a .npy written by `facecrafter landmarks`, maybe edited")
    steering.add_argument("--driving-face", metavar="WHICH", type=face_choice, default="largest", help="which face of the driving photo")
    steering.add_argument("--alpha-landmark", metavar="A", type=_real(0, 2), default=1.0, help="strength of the landmark branch; 0 cuts it off")
    feeling = generate.add_argument_group("emotion")
    feeling.add_argument("--emotion", metavar="NAME[:INTENSITY]", help=f"{', '.join(EMOTION_NAMES)}; intensity from 0 to 1")
    feeling.add_argument("--valence", metavar="V", type=_real(-1, 1), help="-1 unpleasant to 1 pleasant; with --arousal, instead of --emotion")
    feeling.add_argument("--arousal", metavar="A", type=_real(-1, 1), help="-1 calm to 1 excited")
    feeling.add_argument("--emotion-from", metavar="FILE", type=Path, help="photo of anyone whose emotion to copy, instead of --emotion")
    feeling.add_argument(
        "--estimator", choices=ESTIMATOR_NAMES, default="automatic", help="who reads --emotion-from: the demo's network, emonet (CC BY-NC-ND 4.0) or "
        "hsemotion (Apache-2.0); automatic: demo for the demo model, emonet at full size",
    )  # fmt: skip
    feeling.add_argument("--alpha-emotion", metavar="A", type=_real(0, 2), default=1.0, help="strength of the emotion branch; 0 cuts it off")
    weights = generate.add_argument_group("guidance (Eq. 6)")
    weights.add_argument("--weight-identity", metavar="W", type=_real(0, 20), default=2.5, help="w_ID")
    weights.add_argument("--weight-landmark", metavar="W", type=_real(0, 20), default=2.0, help="w_LMK")
    weights.add_argument("--weight-emotion", metavar="W", type=_real(0, 20), default=2.0, help="w_EMO")
    weights.add_argument("--mode", choices=("paper", "joint"), default="paper", help="joint: landmarks and emotion in one row, a quarter faster")
    weights.add_argument("--refresh", metavar="N", type=_whole(1, MAX_STEPS), default=1, help="all rows in every Nth step, identity's alone between; 2 takes 5 rows for 8")
    run = generate.add_argument_group("run")
    _add_sampling(run, steps=25)
    run.add_argument("--count", metavar="N", type=_whole(1, 1000), default=1, help="pictures, up to 1000; picture i has seed SEED + i")
    run.add_argument("--out", metavar="PATH", type=Path, default=Path("output/portrait.png"), help="file to write; several get their seed in the name")
    run.add_argument("--model", metavar="FOLDER", type=Path, help="model folder, or arc2face for what assets download --for full brought; without it the demo model")
    run.add_argument("--adapter", metavar="FILE", type=Path, help="adapter file; without it the folder's own")
    run.add_argument("--device", metavar="NAME", default="cpu", help="torch device, such as cpu or cuda")
    generate.set_defaults(run=run_generate)

    landmarks = commands.add_parser("landmarks", help="a photo's 478 face landmarks and their drawing", formatter_class=formatter)
    landmarks.add_argument("photo", metavar="PHOTO", type=Path, help="a photo with a face")
    landmarks.add_argument("--face", metavar="WHICH", type=face_choice, default="largest", help="largest, only, or a number from the left, from 0")
    landmarks.add_argument("--size", metavar="N", type=_whole(16, 8192), default=512, help="side of the drawing in pixels, 16 to 8192")
    landmarks.add_argument("--out", metavar="PATH", type=Path, default=Path("output/landmarks.npy"), help=".npy to write; the drawing goes beside it")
    landmarks.set_defaults(run=run_landmarks)

    inspect = commands.add_parser("inspect", help="what is in an adapter file", formatter_class=formatter)
    inspect.add_argument("adapter", metavar="FILE", type=Path, help="an adapter (.safetensors)")
    inspect.set_defaults(run=run_inspect)

    assets = commands.add_parser("assets", help="model files of others: what is here, download, verify", formatter_class=_Overview)
    add_asset_commands(assets.add_subparsers(title="commands", metavar="COMMAND", required=True), formatter)
    return parser


def _add_sampling(parser: argparse._ActionsContainer, steps: int) -> None:
    parser.add_argument("--seed", metavar="N", type=_whole(0, SEEDS - 1), default=0, help="the same seed gives the same pictures")
    parser.add_argument("--steps", metavar="N", type=_whole(1, MAX_STEPS), default=steps, help=f"sampling steps, up to {MAX_STEPS}")


if __name__ == "__main__":
    raise SystemExit(main())
