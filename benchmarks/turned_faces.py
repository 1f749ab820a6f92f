"""Photos of one upright face each, turned by steps of 15 degrees -> how often the face is found as it is, how often another mesh is laid over it, and
how often it is missed: by MediaPipe alone, and by FaceLandmarker.

    python benchmarks/turned_faces.py FOLDER [FOLDER ...]

A face is right where its points lie within RIGHT of those of the upright photo, on average.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from facecrafter_core.faces.landmarker import FaceLandmarker  # noqa: E402
from facecrafter_core.faces.looking import Search, _is_sure  # noqa: E402
from facecrafter_core.faces.photo import load_photo  # noqa: E402

RIGHT = 0.07
"""Mean distance of right points, in shares of the face's longer side."""

SIDE = 640
"""The photos' longer side, in pixels."""


def turned(photo: np.ndarray, clockwise: float) -> tuple[np.ndarray, np.ndarray]:
    """The whole photo on a grey square, turned, and the matrix [2, 3] from the photo's pixels to the square's."""
    height, width = photo.shape[:2]
    side = round(1.45 * max(height, width))
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), -clockwise, 1)
    matrix[:, 2] += (side - np.array([width, height])) / 2
    return cv2.warpAffine(photo, matrix, (side, side), borderValue=(120, 120, 120)), matrix


def meshes_alone(search: Search) -> np.ndarray | None:
    """Points [478, 2] of the largest of MediaPipe's meshes; None where it has none."""
    found = [mesh.points[:, :2] for mesh in search.tasks.meshes(search.photo)]
    return max(found, key=lambda points: np.ptp(points, axis=0).max(), default=None)


def with_turns(search: Search) -> np.ndarray | None:
    """Points [478, 2] of FaceLandmarker's largest face; None where it has none."""
    found = search.largest()
    return found[0].landmarks[:, :2] if found else None


def sure_meshes(search: Search) -> list[np.ndarray]:
    """Points [478, 2] of each mesh that is taken without a second look."""
    picture = search.view.picture
    pairs = [(mesh, seen) for seen in search.tasks.detections(picture) for mesh in search.tasks.meshes(picture)]
    return [mesh.points[:, :2] for mesh, seen in pairs if _is_sure(search.view.face(mesh, search.size), mesh, seen)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="+")
    files = [file for folder in parser.parse_args().folder for file in sorted(folder.glob("*.jpg"))]
    landmarker = FaceLandmarker()
    print(f"{len(files)} photos. clockwise: right, wrong and missed of MediaPipe alone | of FaceLandmarker")
    bases = []
    for file in files:
        photo = load_photo(file)
        scale = SIDE / max(photo.shape[:2])
        photo = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        bases.append((photo, landmarker.find_face(photo).landmarks[:, :2]))
    sure = [0, 0]
    for clockwise in range(0, 360, 15):
        counts = {meshes_alone: [0, 0, 0], with_turns: [0, 0, 0]}
        for photo, upright in bases:
            picture, matrix = turned(photo, clockwise)
            truth, search = upright @ matrix[:, :2].T + matrix[:, 2], landmarker.search(picture)
            far = lambda points: np.linalg.norm(points - truth, axis=1).mean() / np.ptp(upright, axis=0).max() > RIGHT  # noqa: B023, E731
            for find, count in counts.items():
                points = find(search)
                count[2 if points is None else int(far(points))] += 1
            for points in sure_meshes(search):
                sure[int(far(points))] += 1
        print(f"{clockwise:4}: " + " | ".join(" ".join(f"{n:3}" for n in count) for count in counts.values()), flush=True)
    print(f"Taken without a second look: {sure[0]} right, {sure[1]} wrong meshes")


if __name__ == "__main__":
    main()
