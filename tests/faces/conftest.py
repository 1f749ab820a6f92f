"""Real photos (scikit-image's astronaut and what can be made of it) and one landmarker for all."""

import numpy as np
import pytest

from facecrafter_core.faces.landmarker import Face, FaceLandmarker


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    from skimage import data

    return data.astronaut()


@pytest.fixture(scope="session")
def landmarker() -> FaceLandmarker:
    return FaceLandmarker()


@pytest.fixture(scope="session")
def face(astronaut: np.ndarray, landmarker: FaceLandmarker) -> Face:
    return landmarker.find_face(astronaut)


@pytest.fixture(scope="session")
def crop(astronaut: np.ndarray) -> np.ndarray:
    """Head and shoulders: 180 x 180 pixels around the face."""
    return np.ascontiguousarray(astronaut[30:210, 135:315])


@pytest.fixture(scope="session")
def group(crop: np.ndarray) -> np.ndarray:
    """Three people in a row, of 180, 270 and 225 pixels."""
    import cv2

    photo = np.full((300, 720, 3), 120, np.uint8)
    for left, side in ((10, 180), (200, 270), (480, 225)):
        photo[10 : 10 + side, left : left + side] = cv2.resize(crop, (side, side))
    return photo
