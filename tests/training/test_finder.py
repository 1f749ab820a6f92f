"""Work on many photos in several processes."""

from collections.abc import Iterator

import numpy as np
import pytest

from facecrafter_core.errors import NoFaceError
from facecrafter_core.faces.landmarker import FaceLandmarker
from training.finder import AHEAD, Finder


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two processes"])
def find(request: pytest.FixtureRequest) -> Iterator[Finder]:
    finder = Finder(request.param)
    yield finder
    finder.close()


def doubled(landmarker: FaceLandmarker, number: int) -> int:
    assert isinstance(landmarker, FaceLandmarker)
    return 2 * number


def test_results_come_in_order_and_what_nobody_asks_for_is_not_begun(find: Finder):
    assert list(find.each(doubled, range(50))) == list(range(0, 100, 2))
    begun = []
    results = find.each(doubled, (begun.append(i) or i for i in range(1000)))
    assert [next(results) for _ in range(3)] == [0, 2, 4] and len(begun) <= 3 + AHEAD * find.processes
    results.close()


def test_an_error_is_raised_at_its_place(find: Finder):
    empty = np.zeros((64, 64, 3), np.uint8)
    results = find.each(FaceLandmarker.find_face, [empty])
    with pytest.raises(NoFaceError, match="No face was found in the photo \\(64 x 64 pixels\\)"):
        next(results)
    assert find([empty, empty]) == [None, None]
