"""Work that needs a face landmarker, on many photos in several processes."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import cache
from typing import TypeVar

import numpy as np

from facecrafter_core.faces.landmarker import Face, FaceLandmarker
from facecrafter_core.metrics.estimators import find_faces

Task = TypeVar("Task")
Result = TypeVar("Result")

AHEAD = 4
"""Tasks a process that are begun before their results are asked for."""


class Finder:
    """Finds faces in several processes.

    Args:
        processes: 1 works in this one.
        landmarker: of this process.
    """

    def __init__(self, processes: int, landmarker: FaceLandmarker | None = None) -> None:
        self.processes, self.landmarker = processes, landmarker or FaceLandmarker()
        context = multiprocessing.get_context("spawn")  # MediaPipe and CUDA do not survive a fork
        self.pool = ProcessPoolExecutor(processes, context, initializer=_start) if processes > 1 else None

    def __call__(self, pictures: Sequence[np.ndarray]) -> list[Face | None]:
        """The largest face of each picture uint8 [H, W, 3], or None."""
        if self.pool is None:
            return find_faces(pictures, self.landmarker)
        return list(self.pool.map(_largest_face, pictures, chunksize=max(1, len(pictures) // (2 * self.processes))))

    def each(self, work: Callable[[FaceLandmarker, Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """work(landmarker, task) for each task, in their order; its errors are raised. Tasks far beyond the last result that was taken are not begun.

        Args:
            work: a module's function or an unbound method of FaceLandmarker.
        """
        if self.pool is None:
            yield from (work(self.landmarker, task) for task in tasks)
            return
        begun: deque[Future] = deque()
        try:
            for task in tasks:
                begun.append(self.pool.submit(_do, work, task))
                if len(begun) > AHEAD * self.processes:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            for one in begun:
                one.cancel()

    def close(self) -> None:
        if self.pool is not None:
            self.pool.shutdown()


def _start() -> None:
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)


@cache
def _landmarker() -> FaceLandmarker:
    return FaceLandmarker()


def _do(work: Callable[[FaceLandmarker, Task], Result], task: Task) -> Result:
    return work(_landmarker(), task)


def _largest_face(picture: np.ndarray) -> Face | None:
    return find_faces([picture], _landmarker())[0]
