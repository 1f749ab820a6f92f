"""How far long work is: a bar on a terminal; elsewhere, under nohup or in a pipe, a line a minute."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY = 60.0
"""Seconds between two lines."""


@contextmanager
def progress(total: int, what: str, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """Yields what to call with the number of things that were done.

    Args:
        shown: False says nothing, for all processes but one.
    """
    if not shown or sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=total, desc=what, disable=not shown) as bar:
            yield bar.update
        return
    done, said = 0, time.monotonic()

    def update(count: int) -> None:
        nonlocal done, said
        done += count
        if time.monotonic() - said >= EVERY:
            said = time.monotonic()
            print(f"{what}: {done} of {total}", flush=True)

    yield update
