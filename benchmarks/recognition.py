"""What the recogniser and the judge of identity make of difficult photos, and how close the recogniser is to dlib.

    python benchmarks/recognition.py PHOTOS [--dlib dlib_face_recognition_resnet_model_v1.dat]

PHOTOS is a folder with one photo of each of many people, each face at least 200 pixels large. Each photo is spoiled in several ways; landmarks are
found anew in it. The tables give the distance of dlib's vectors and the cosine of FaceRes's to the same person's plain photo, and how often a plain
photo of the person is the nearest of all. With --dlib (and `pip install dlib-bin`) dlib itself reads the photos at several sizes with the same points.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from facecrafter_core.errors import NoFaceError  # noqa: E402
from facecrafter_core.faces.chips import FIVE_POINTS, face_boxes, face_chips  # noqa: E402
from facecrafter_core.faces.dlib_resnet import DlibResNet  # noqa: E402
from facecrafter_core.faces.landmarker import Face, FaceLandmarker  # noqa: E402
from facecrafter_core.faces.photo import load_photo  # noqa: E402
from facecrafter_core.metrics.judges import FaceRes  # noqa: E402


def resized(photo: np.ndarray, scale: float) -> np.ndarray:
    return cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def turned(photo: np.ndarray, degrees: float) -> np.ndarray:
    height, width = photo.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    return cv2.warpAffine(photo, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)


def tight(photo: np.ndarray, face: Face) -> np.ndarray:
    x0, y0, x1, y1 = (max(0, round(edge)) for edge in face.box)
    return photo[y0:y1, x0:x1]


def grey(photo: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def compressed(photo: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, 20])[1], cv2.IMREAD_COLOR)


SPOILED: dict[str, Callable[[np.ndarray, Face], np.ndarray]] = {
    "plain": lambda photo, face: photo,
    "mirrored": lambda photo, face: photo[:, ::-1],
    "upside down": lambda photo, face: photo[::-1, ::-1],
    "on its side": lambda photo, face: np.rot90(photo),
    "tilted by 30 degrees": lambda photo, face: turned(photo, 30),
    "tight: the landmarks' box": tight,
    "grey": lambda photo, face: grey(photo),
    "half as bright": lambda photo, face: photo // 2,
    "JPEG of quality 20": lambda photo, face: compressed(photo),
    "face of 128 pixels": lambda photo, face: resized(photo, 128 / face.size),
    "face of 64 pixels": lambda photo, face: resized(photo, 64 / face.size),
    "face of 48 pixels": lambda photo, face: resized(photo, 48 / face.size),
    "face of 34 pixels": lambda photo, face: resized(photo, 34 / face.size),
}


@torch.inference_mode()
def vectors(photo: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """dlib's vector [128] and FaceRes's [1024]."""
    picture, points = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].float() / 255, torch.from_numpy(landmarks)[None]
    return RECOGNISER(face_chips(picture, points))[0].numpy(), JUDGE(face_boxes(picture, points, JUDGE.size)).identity[0].numpy()


def spoiled_table(photos: list[np.ndarray], faces: list[Face], landmarker: FaceLandmarker) -> None:
    plain = [np.stack(v) for v in zip(*(vectors(p, f.landmarks) for p, f in zip(photos, faces, strict=True)), strict=True)]
    apart = np.linalg.norm(plain[0][:, None] - plain[0], axis=2)[~np.eye(len(photos), dtype=bool)]
    alike = (plain[1] @ plain[1].T)[~np.eye(len(photos), dtype=bool)]
    print(f"{len(photos)} people. Different people: distance {apart.mean():.2f} (5% under {np.quantile(apart, 0.05):.2f}, least {apart.min():.2f}), ", end="")
    print(f"FaceRes's cosine {alike.mean():.2f} (5% over {np.quantile(alike, 0.95):.2f}, most {alike.max():.2f})\n")
    print("| photo | face found | dlib: distance to the plain photo, largest | own nearest | FaceRes: cosine to it, least | own nearest |\n|---|---|---|---|---|---|")
    for name, spoil in SPOILED.items():
        people, found = [], []
        for person, (photo, face) in enumerate(zip(photos, faces, strict=True)):
            picture = np.ascontiguousarray(spoil(photo, face))
            try:
                found.append(vectors(picture, landmarker.find_face(picture).landmarks))
                people.append(person)
            except NoFaceError:
                continue
        if not people:
            print(f"| {name} | 0 of {len(photos)} | | | | |")
            continue
        own, judged = (np.stack(v) for v in zip(*found, strict=True))
        distances, cosines = np.linalg.norm(own[:, None] - plain[0], axis=2), judged @ plain[1].T
        rows = np.arange(len(people))
        distance, cosine = distances[rows, people], cosines[rows, people]
        nearest = [f"{(best == people).mean():.0%}" for best in (distances.argmin(1), cosines.argmax(1))]
        cells = [f"{len(people)} of {len(photos)}", f"{distance.mean():.2f}, {distance.max():.2f}", nearest[0], f"{cosine.mean():.2f}, {cosine.min():.2f}", nearest[1]]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def dlib_table(photos: list[np.ndarray], faces: list[Face], model: Path) -> None:
    import dlib

    network = dlib.face_recognition_model_v1(str(model))
    print("\n| size of the face | dlib halves | distance to dlib's vector with the same points, largest | to one's own at full size: dlib's | ours |\n|---|---|---|---|---|")
    full: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for size in (512, 360, 256, 180, 128):
        theirs, ours, same = [], [], []
        for photo, face in zip(photos, faces, strict=True):
            picture = resized(photo, size / face.size)
            scaled = face.landmarks * [picture.shape[1] / photo.shape[1], picture.shape[0] / photo.shape[0], 1]
            pixels = np.round(scaled[list(FIVE_POINTS), :2] - 0.5).astype(int)  # dlib takes whole pixels, whose centres are integers
            shape = dlib.full_object_detection(dlib.rectangle(0, 0, picture.shape[1], picture.shape[0]), [dlib.point(*map(int, p)) for p in pixels])
            theirs.append(np.array(network.compute_face_descriptor(picture, shape, 0, 0.25)))
            ours.append(vectors(picture, scaled.astype(np.float32))[0])
            scaled[list(FIVE_POINTS), :2] = pixels + 0.5
            same.append(vectors(picture, scaled.astype(np.float32))[0])
        full = full if full[0] else (theirs, ours)
        away = np.linalg.norm(np.subtract(same, theirs), axis=1)
        own = [np.linalg.norm(np.subtract(now, then), axis=1).mean() for now, then in zip((theirs, ours), full, strict=True)]
        halvings = sorted({int(np.log2(max(1, _shrinks(face, size)))) for face in faces})
        print(f"| {size} | {' or '.join(map(str, halvings))} times | {away.mean():.4f}, {away.max():.4f} | {own[0]:.3f} | {own[1]:.3f} |", flush=True)


def _shrinks(face: Face, size: int) -> float:
    from facecrafter_core.faces.chips import chip_matrices

    matrix = chip_matrices(torch.from_numpy(face.landmarks * (size / face.size))[None])[0, :, :2]
    return float(torch.linalg.det(matrix)) ** -0.5


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--dlib", type=Path, help="dlib's own weights, to compare with dlib itself")
    args = parser.parse_args()
    RECOGNISER, JUDGE, finder = DlibResNet.load(), FaceRes.load(), FaceLandmarker()
    pictures = [load_photo(path) for path in sorted(args.photos.iterdir()) if path.suffix.lower() in (".jpg", ".jpeg", ".png")]
    found_faces = [finder.find_face(picture) for picture in pictures]
    spoiled_table(pictures, found_faces, finder)
    if args.dlib:
        dlib_table(pictures, found_faces, args.dlib)
