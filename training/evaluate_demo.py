"""How well the demo's control works on people it has never seen: prints the table of demo/README.md.

    python -m training.evaluate_demo --data faces --models demo

For each held-out person (identity numbers 0..199): one photo gives the identity, another person's photo gives landmarks. Generated are
identity only, + landmarks, + emotions, both; MediaPipe and two other networks of the same rendered world, which took no part in generation, measure them:
- found: share of pictures in which MediaPipe finds a face,
- landmark error: mean distance of asked-for and found landmarks, in percent of the asked-for distance between the eyes,
- valence: share of pairs (same person, same seed) in which the asked-for emotion has moved the measured valence the right way,
- identity: share of pictures closest to their own person among 20 held-out people,
- similarity: mean cosine of the evaluator's vectors of the generated picture and of another photo of that person,
- diversity: with identity only, deviation of head angles (degrees) and of blendshape scores over four pictures of each person.

Adapters of the training stages are measured on the same base: `--adapter landmark.safetensors emotion.safetensors` puts two together.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from facecrafter_core.diffusion.families import DEMO
from facecrafter_core.diffusion.guidance import Guidance
from facecrafter_core.diffusion.pipeline import FaceCrafterPipeline
from facecrafter_core.diffusion.text_encoder import load_text_encoder
from facecrafter_core.faces.emotion import VALENCE_AROUSAL, Emotion
from facecrafter_core.faces.identity import DemoIdentityEncoder, load_face_network
from facecrafter_core.faces.landmarker import FaceLandmarker
from facecrafter_core.faces.landmarks import LEFT_EYE, RIGHT_EYE
from facecrafter_core.terminal import escape_unprintable
from training.data import Faces, cut, identity_squares, load_faces
from training.loop import save_sheet
from training.ranges import COUNT, STEPS, WEIGHT
from training.stage import joined_adapter

EMOTIONS_ASKED = ("happy", "sad", "surprise", "anger", "fear", "contempt")
GALLERY = 20
SEEDS = (1000, 2000, 3000, 4000)


def detect(pictures: np.ndarray, landmarker: FaceLandmarker) -> np.ndarray:
    """pictures [N, S, S, 3] in 0..1 -> landmarks [N, 478, 3] in units of the picture; NaN where no face is found."""
    out = np.full((len(pictures), 478, 3), np.nan, np.float32)
    for i, picture in enumerate(pictures):
        face = landmarker.largest((picture * 255).round().astype(np.uint8))
        if face:
            out[i] = face.landmarks / picture.shape[0]
    return out


def landmark_error(found: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Mean distance over the 478 points, in percent of the asked-for inter-ocular distance: [N], NaN where no face was found."""
    eyes = np.linalg.norm(asked[:, LEFT_EYE, :2].mean(1) - asked[:, RIGHT_EYE, :2].mean(1), axis=1)
    return 100 * np.linalg.norm(found[:, :, :2] - asked[:, :, :2], axis=2).mean(1) / eyes


class Judges:
    """The evaluators: an identity network and an emotion network of their own, and MediaPipe."""

    def __init__(self, models: Path, device: torch.device) -> None:
        self.identity = load_face_network(models / "evaluators/identity.safetensors", 128).to(device)
        self.emotion = load_face_network(models / "evaluators/emotion.safetensors", 10).to(device)
        self.device = device

    @torch.inference_mode()
    def __call__(self, pictures: np.ndarray, landmarks: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """pictures [N, S, S, 3] (uint8), landmarks [N, 478, 3] -> identity vectors [N, 128], valence [N]."""
        squares = identity_squares(np.nan_to_num(landmarks, nan=0.5))
        crops = torch.cat(
            [cut(torch.from_numpy(pictures[i : i + 256]).to(self.device), squares[i : i + 256].to(self.device), 112) for i in range(0, len(pictures), 256)]
        )
        vectors = torch.nn.functional.normalize(self.identity(crops), dim=1)
        return vectors, self.emotion(crops)[:, 0].tanh().cpu().numpy()


def diversity(pictures: list[np.ndarray], landmarker: FaceLandmarker) -> dict[str, float]:
    """Pictures of the same people with other seeds, [N, S, S, 3] each -> mean deviation over a person's pictures of the yaw and pitch in
    degrees, and of the 52 blendshape scores; people with fewer than two found faces are left out."""
    angles, scores = [], []
    for person in zip(*pictures, strict=True):
        faces = [face for p in person if (face := landmarker.largest((p * 255).round().astype(np.uint8)))]
        if len(faces) > 1:
            angles.append(np.std([face.pose[:2] for face in faces], axis=0, ddof=1).mean())
            scores.append(np.std([face.blendshapes for face in faces], axis=0, ddof=1).mean())
    return {"pose": float(np.mean(angles)), "expression": float(np.mean(scores))}


def own_share(vectors: Tensor, gallery: Tensor, found: np.ndarray) -> float:
    """Share of rows whose nearest gallery entry, among the 20 of their group, is their own. A picture without a face counts as wrong."""
    right = []
    for start in range(0, len(vectors) - GALLERY + 1, GALLERY):
        group = slice(start, start + GALLERY)
        nearest = (vectors[group] @ gallery[group].T).argmax(1).cpu().numpy()
        right.append((nearest == np.arange(GALLERY)) & found[group])
    return float(np.concatenate(right).mean())


def choose(faces: Faces, people: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Index of each person's identity photo, of another photo for the gallery, and of another person's photo for landmarks."""
    own = [np.flatnonzero(faces.person == p) for p in people]
    identity = np.array([i[np.abs(faces.labels["yaw"][i]).argmin()] for i in own])
    gallery = np.array([i[i != k][0] for i, k in zip(own, identity, strict=True)])
    return identity, gallery, np.roll(gallery, 7)


def main() -> None:
    escape_unprintable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=Path("demo"))
    parser.add_argument("--adapter", type=Path, nargs="+", default=(), help="adapter files instead of the folder's own")
    parser.add_argument("--text-encoder", type=Path, help="folder of a text encoder that the joint stage has trained")
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--people", type=COUNT.of(int), default=200)
    parser.add_argument("--steps", type=STEPS.of(int), default=25)
    parser.add_argument("--weights", type=WEIGHT.of(float), nargs=3, default=(2.5, 2.0, 2.0), help="w_ID w_LMK w_EMO")
    parser.add_argument("--batch", type=COUNT.of(int), default=100)
    parser.add_argument("--out", type=Path, help="folder for the table as JSON and a sheet")
    args = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    faces = load_faces(args.data).split(args.split)
    people = sorted(set(faces.person.tolist()))
    people = [p for p in people if (faces.person == p).sum() >= 2][: args.people]
    identity_photo, gallery_photo, target_photo = choose(faces, people)
    encoder = DemoIdentityEncoder(args.models / "identity/model.safetensors")
    squares = identity_squares(faces.landmarks[identity_photo])
    identities = encoder.encode(cut(torch.from_numpy(faces.images[identity_photo]), squares, encoder.crop_size))
    asked = faces.landmarks[target_photo]
    pipe = FaceCrafterPipeline.from_pretrained(args.models, dtype=torch.float32)
    if args.adapter:
        pipe.set_adapter(joined_adapter(DEMO, args.adapter))
    if args.text_encoder:
        pipe.text_encoder = load_text_encoder(args.text_encoder, torch.float32)
    pipe = pipe.to(device)
    pipe.set_progress_bar_config(disable=True)
    guidance = Guidance(*args.weights)
    landmarker, judges = FaceLandmarker(), Judges(args.models, device)

    def generate(landmarks: np.ndarray | None, emotion: Emotion | None, seed: int = 0) -> np.ndarray:
        parts = []
        for start in range(0, len(people), args.batch):
            part = slice(start, start + args.batch)
            kwargs = {"landmarks": None if landmarks is None else landmarks[part], "emotion": emotion}
            parts.append(pipe(identities[part], **kwargs, guidance=guidance, steps=args.steps, seed=start + seed, output_type="np"))
        return np.concatenate(parts)

    conditions: dict[str, tuple[np.ndarray | None, Emotion | None]] = {"identity only": (None, None), "+ landmarks": (asked, None)}
    if pipe.adapter.emotion is not None:
        conditions |= {f"+ {name}": (None, Emotion.preset(name)) for name in EMOTIONS_ASKED}
        conditions |= {"+ landmarks + happy": (asked, Emotion.preset("happy"))}
    if pipe.adapter.landmark is None:
        conditions = {name: condition for name, condition in conditions.items() if "landmarks" not in name}
    gallery, _ = judges(faces.images[gallery_photo], faces.landmarks[gallery_photo])
    rows, valence, sheet = {}, {}, [list(faces.images[identity_photo[:10]]), list(faces.images[target_photo[:10]])]
    for name, (landmarks, emotion) in conditions.items():
        pictures = generate(landmarks, emotion)
        found = detect(pictures, landmarker)
        seen = np.isfinite(found).all((1, 2))
        vectors, valence[name] = judges((pictures * 255).round().astype(np.uint8), found)
        rows[name] = {
            "found": float(seen.mean()),
            "landmark_error": float(np.nanmean(landmark_error(found, asked))),
            "identity": own_share(vectors, gallery, seen),
            "similarity": float((vectors * gallery).sum(1).mean()),
            "valence": float(valence[name].mean()),
        }
        sheet.append([(p * 255).round().astype(np.uint8) for p in pictures[:10]])
        print(f"{name:<20} found {100 * rows[name]['found']:.1f}%  landmark error {rows[name]['landmark_error']:.1f}%  "
              f"own identity among {GALLERY} {100 * rows[name]['identity']:.1f}%  similarity {rows[name]['similarity']:.3f}  mean valence {rows[name]['valence']:+.2f}", flush=True)  # fmt: skip

    spread = diversity([generate(None, None, seed) for seed in SEEDS], landmarker)
    print(f"identity only, {len(SEEDS)} pictures a person: deviation of yaw and pitch {spread['pose']:.1f} degrees, of blendshape scores {spread['expression']:.4f}")
    summary = {"rows": rows, "diversity": spread, "people": len(people), "split": args.split, "steps": args.steps}
    if pipe.adapter.emotion is not None:
        pairs = [(a, b) for a in EMOTIONS_ASKED for b in EMOTIONS_ASKED if VALENCE_AROUSAL[a][0] - VALENCE_AROUSAL[b][0] >= 0.2]
        right = float(np.mean([valence[f"+ {a}"] > valence[f"+ {b}"] for a, b in pairs]))
        moved = float(np.mean([np.sign(VALENCE_AROUSAL[a][0]) * (valence[f"+ {a}"] - valence["identity only"]) > 0 for a in EMOTIONS_ASKED]))
        print(f"valence in the right order in {100 * right:.1f}% of pairs of asked-for emotions; moved the right way from identity only in {100 * moved:.1f}%")
        summary |= {"valence_pairs": right, "valence_moved": moved}
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "evaluation.json").write_text(json.dumps(summary, indent=2) + "\n")
        save_sheet(sheet, args.out / "evaluation.jpg")


if __name__ == "__main__":
    main()
