"""Damaged picture files end in a photo or in one sentence, whatever their format and their damage."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fuzz_pictures import fuzz, whole_files  # noqa: E402

from facecrafter_core.faces.photo import photo_from_bytes  # noqa: E402


def test_the_whole_files_are_read():
    files = whole_files()
    assert len(files) > 20
    assert {photo_from_bytes(data, form).shape for form, data in files} <= {(40, 48, 3), (48, 40, 3), (27, 32, 3)}  # turned or not; an ICO is at most 32 wide here


def wrong(numbers: range) -> list[tuple[int, str, str]]:
    return [(number, form, outcome) for number, form, outcome, _ in fuzz(numbers) if outcome not in ("read", "refused")]


def test_five_hundred_damaged_files_end_in_sentences():
    assert wrong(range(500)) == []


@pytest.mark.slow
def test_twenty_thousand_damaged_files_end_in_sentences():
    assert wrong(range(20_000)) == []
