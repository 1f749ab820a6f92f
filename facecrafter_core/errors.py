"""What a user can get wrong. Each message says in one sentence what was expected, what was found and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class FaceCrafterError(ValueError):
    """Base of all errors that are the input's, not the program's."""


class PhotoError(FaceCrafterError):
    """A picture cannot be read or used."""


class NoFaceError(FaceCrafterError):
    """No face, or none large enough, was found in a picture."""


class FaceChoiceError(FaceCrafterError):
    """The face that was asked for is not one of those in the picture."""


class LandmarkError(FaceCrafterError):
    """Landmarks have a wrong shape or hold numbers that are not finite."""


class EmotionError(FaceCrafterError):
    """An emotion vector, class or intensity is out of range."""


class AdapterError(FaceCrafterError):
    """An adapter file is missing, damaged, foreign or of another version."""


class ModelError(FaceCrafterError):
    """A model folder is incomplete, or parts and conditions do not fit each other."""


class AssetError(FaceCrafterError):
    """A model file that others publish is missing, is another file, or cannot be had; or what it needs is not installed."""


class OutputError(FaceCrafterError):
    """A result cannot be written."""


class MetricError(FaceCrafterError):
    """Pictures or values cannot be measured or compared."""


class ScheduleError(FaceCrafterError):
    """Keyframes cannot be read, or frames do not fit them."""


def named_file(error: OSError) -> str:
    """One sentence about a path that the system refuses, such as a name that is too long.

    Raises:
        OSError: the error given, where it names no file: then it is the program's.
    """
    if error.filename is None:
        raise error
    return f"{error.filename} cannot be used: {error.strerror}. Correct the path, or its permissions."


UNUSABLE = (PhotoError, NoFaceError, FaceChoiceError, LandmarkError)
"""Errors that are one picture's fault; anything else, such as a missing model file, concerns all pictures."""


@contextmanager
def about(name: str) -> Iterator[None]:
    """Puts the name of a picture before the sentence of an error that is its fault: "me.jpg: No face was found in the photo ...".

    Args:
        name: the picture's file, the input it comes from, or its number (batch.picture_names); "" leaves errors as they are.
    """
    try:
        yield
    except UNUSABLE as error:
        if not name:
            raise
        raise type(error)(f"{name}: {error}") from error
