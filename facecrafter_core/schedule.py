"""Keyframes -> tracks of numbers, emotions and landmarks, one value a frame; and landmarks of videos made steady.

A track is a text: "0: 2.0, 24: 0.5", or "0: neutral, 12: happy 0.8, 24: -0.5 0.3" (valence and arousal). Before the first and after the last
keyframe the value stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .batch import common_length
from .errors import ScheduleError
from .faces.edit import blend, edit, neutral_landmarks
from .faces.emotion import EMOTIONS, Emotion

EASINGS = ("linear", "smooth", "hold")
"""How a value goes from one keyframe to the next: evenly, slowly at both ends, or in steps."""


def keyframes(text: str) -> list[tuple[int, str]]:
    """ "0: a, 12: b" -> [(0, "a"), (12, "b")], in order of frames.

    Raises:
        ScheduleError: a part that is no keyframe, or a frame named twice.
    """
    found: list[tuple[int, str]] = []
    for part in (p.strip() for p in re.split(r"[,;\n]", text)):
        if not part:
            continue
        match = re.fullmatch(r"(\d+)\s*[:=]\s*(\S.*)", part)
        if not match:
            raise ScheduleError(f"Expected keyframes such as '0: 2.0, 24: 0.5', found {part!r}.")
        found.append((int(match[1]), match[2].strip()))
    if len({frame for frame, _ in found}) < len(found):
        raise ScheduleError(f"Expected each frame once, found {[frame for frame, _ in found]}.")
    return sorted(found)


def places(frames: Sequence[int], count: int, easing: str) -> list[tuple[int, int, float]]:
    """For each of `count` frames: the keyframes around it and how far it is between them (0..1)."""
    if easing not in EASINGS:
        raise ScheduleError(f"Expected an easing out of {', '.join(EASINGS)}, found {easing!r}.")
    out = []
    for frame in range(count):
        after = int(np.searchsorted(frames, frame, side="right"))
        if after in (0, len(frames)):
            only = min(after, len(frames) - 1)
            out.append((only, only, 0.0))
            continue
        t = (frame - frames[after - 1]) / (frames[after] - frames[after - 1])
        out.append((after - 1, after, {"linear": t, "smooth": t * t * (3 - 2 * t), "hold": 0.0}[easing]))
    return out


def number_track(text: str, count: int, easing: str = "linear") -> tuple[float, ...] | None:
    """A number a frame; None for an empty text.

    Raises:
        ScheduleError: a keyframe without a number.
    """
    return _track(text, count, easing, _number, lambda a, b, t: (1 - t) * a + t * b)


def emotion_track(text: str, count: int, easing: str = "linear") -> tuple[Emotion, ...] | None:
    """An emotion a frame; None for an empty text.

    Raises:
        ScheduleError: a keyframe that is neither a name with an intensity nor valence and arousal. EmotionError: out of range.
    """
    return _track(text, count, easing, parse_emotion, lambda a, b, t: a.blend(b, t))


def both(first: Any, second: Any, what: str) -> tuple[Any, Any] | None:
    """The pair, or None where neither is there.

    Raises:
        ScheduleError: one without the other.
    """
    if (first is None) != (second is None):
        raise ScheduleError(f"Expected both ends of the blend, found only one {what}. Connect the other, or neither.")
    return None if first is None else (first, second)


def blend_emotions(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """Emotion vectors [N, 10] and [M, 10] -> float32 [max(N, M), 10]; one of either goes with all of the other."""
    pairs = _pairs(a, b, "emotions")
    return np.stack([Emotion.from_vector(x).blend(Emotion.from_vector(y), t).vector for x, y in pairs]).astype(np.float32)


def blend_faces(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """Landmarks [N, 478, 3] and [M, 478, 3] -> float32 [max(N, M), 478, 3]."""
    return np.stack([blend(x, y, t) for x, y in _pairs(a, b, "faces")]).astype(np.float32)


def face_track(landmarks: np.ndarray | None, count: int, motion: Mapping[str, Sequence[float]]) -> np.ndarray | None:
    """A face, or a video's faces, with motion on top -> [count, 478, 3]; None without landmarks and motion.

    Args:
        landmarks: [N, 478, 3]; None takes the built-in neutral face.
        motion: by frame: changes of yaw, pitch and roll in degrees, weights of facial actions by name.
    """
    if landmarks is None and not motion:
        return None
    faces = resample(neutral_landmarks()[None] if landmarks is None else landmarks, count)
    angles = [motion.get(name, (0.0,) * count) for name in ("yaw", "pitch", "roll")]
    actions = {name: values for name, values in motion.items() if name not in ("yaw", "pitch", "roll")}
    return np.concatenate(
        [edit(faces[[i]], tuple(a[i] for a in angles), {name: values[i] for name, values in actions.items()}) for i in range(count)]
    )


def _pairs(a: np.ndarray, b: np.ndarray, what: str) -> list[tuple[np.ndarray, np.ndarray]]:
    count = common_length(ScheduleError, **{f"the first {what}": len(a), f"the second {what}": len(b)})
    return [(a[i % len(a)], b[i % len(b)]) for i in range(count)]


def resample(landmarks: np.ndarray, count: int) -> np.ndarray:
    """A video's landmarks [N, 478, 3] -> [count, 478, 3], evenly spread over it; one face stays still."""
    positions = np.linspace(0, len(landmarks) - 1, count)
    return np.stack([blend(landmarks[int(p)], landmarks[min(int(p) + 1, len(landmarks) - 1)], p % 1) for p in positions])


def smooth(landmarks: np.ndarray, sigma: float) -> np.ndarray:
    """Landmarks [N, 478, 3] of a video without its jitter: a Gaussian of `sigma` frames over time, which adds no delay.

    The first and the last face are repeated beyond the ends.
    """
    import cv2

    if not np.isfinite(sigma) or sigma < 0:
        raise ScheduleError(f"Expected a smoothing of at least 0 frames, found {sigma}.")
    if sigma == 0 or len(landmarks) < 2:
        return np.asarray(landmarks, np.float32)
    flat = np.asarray(landmarks, np.float32).reshape(len(landmarks), -1)
    reach = 2 * int(np.ceil(3 * sigma)) + 1
    return cv2.GaussianBlur(flat, (1, reach), sigmaX=1, sigmaY=sigma, borderType=cv2.BORDER_REPLICATE).reshape(landmarks.shape)


def fill_missing(landmarks: Sequence[np.ndarray | None]) -> tuple[np.ndarray, int]:
    """Faces of a video, None where none was found -> [N, 478, 3] with the gaps filled between their neighbours, and how many were filled.

    Raises:
        ScheduleError: no face at all.
    """
    seen = [i for i, face in enumerate(landmarks) if face is not None]
    if not seen:
        raise ScheduleError(f"No face was found in any of the {len(landmarks)} pictures. Use pictures in which a face is seen.")
    around = places(seen, len(landmarks), "linear")
    faces = [landmarks[i] if landmarks[i] is not None else blend(landmarks[seen[a]], landmarks[seen[b]], t) for i, (a, b, t) in enumerate(around)]
    return np.stack(faces).astype(np.float32), len(landmarks) - len(seen)


def _track(text: str, count: int, easing: str, read: Callable, mix: Callable) -> tuple | None:
    if count < 1:
        raise ScheduleError(f"Expected at least one frame, found {count}.")
    keys = keyframes(text)
    if not keys:
        return None
    values = [read(value) for _, value in keys]
    return tuple(mix(values[a], values[b], t) if t else values[a] for a, b, t in places([frame for frame, _ in keys], count, easing))


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise ScheduleError(f"Expected a number in a keyframe, such as '12: 0.5', found {text!r}.")
    return value


def parse_emotion(text: str) -> Emotion:
    """ "happy", "happy 0.8", or valence and arousal as "-0.5 0.3"."""
    words = text.split()
    if words[0].lower() in EMOTIONS and len(words) <= 2:
        return Emotion.preset(words[0].lower(), _number(words[1]) if len(words) == 2 else 1.0)
    if len(words) == 2 and not words[0].isalpha():
        return Emotion.from_valence_arousal(_number(words[0]), _number(words[1]))
    raise ScheduleError(f"Expected an emotion ({', '.join(EMOTIONS)}) with an intensity, or valence and arousal, such as '12: happy 0.8', found {text!r}.")
