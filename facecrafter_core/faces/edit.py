"""Editing landmarks in 3-D: turn the head, change the expression, move parts, take pose and expression over to another face.

Landmarks are [N, 478, 3] (or one face [478, 3]) in units of the picture; z has x's unit, smaller is nearer. After a change the face keeps its
FFHQ square (the place and size that align.face_square gives), since the landmark module knows faces framed so.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

import numpy as np

from ..batch import common_length
from ..errors import LandmarkError
from .align import face_square
from .blendshapes import EMOTION_ACTIONS
from .emotion import EMOTIONS, Emotion
from .face import Pose, pose_of_rotation, rotation_of_pose
from .face_model import GROUPS, MOVE_GROUPS, Frame, face_model
from .landmarks import COUNT

POSE_SOURCES = ("each face's own", "the first face's", "frontal")
EXPRESSION_SOURCES = ("each face's own", "the first face's", "neutral")

_TO_CAMERA = np.diag([1.0, -1.0, -1.0])  # pictures have y down and z away, the camera y up and z towards the viewer


def neutral_landmarks() -> np.ndarray:
    """The built-in neutral, frontal face in its FFHQ square: [478, 3]."""
    neutral = face_model().neutral
    centre, half, _ = face_square(neutral, rotate=False)
    return ((neutral - [*centre, 0.0]) / (2 * half) + [0.5, 0.5, 0.0]).astype(np.float32)


def head_pose(landmarks: np.ndarray) -> Pose:
    """Head angles in degrees of one face [478, 3], from its landmarks alone."""
    return pose_of_rotation(_TO_CAMERA @ face_model().frame(_face(landmarks)).rotation @ _TO_CAMERA)


def turn(landmarks: np.ndarray, yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """Changes the head angles by degrees: a rotation of the points in 3-D. [478, 3] -> [478, 3]."""
    points = _face(landmarks)
    old = head_pose(points)
    return with_pose(points, Pose(old.yaw + yaw, old.pitch + pitch, old.roll + roll))


def with_pose(landmarks: np.ndarray, pose: Pose) -> np.ndarray:
    """The face with these head angles."""
    points = _face(landmarks)
    frame = face_model().frame(points)
    rotation = _TO_CAMERA @ rotation_of_pose(pose) @ _TO_CAMERA
    return reframe(Frame(rotation, frame.scale, frame.centre).to_picture(frame.to_local(points)), points)


def express(landmarks: np.ndarray, weights: Mapping[str, float]) -> np.ndarray:
    """Adds facial actions, weights by name (face_model.GROUPS); 1 is the full action, negative values go the other way."""
    points = _face(landmarks)
    model = face_model()
    frame = model.frame(points)
    return (points + frame.scale * model.displacement(actions_of(weights)) @ frame.rotation.T).astype(np.float32)


def express_emotion(landmarks: np.ndarray, emotion: Emotion) -> np.ndarray:
    """Adds the facial actions of an emotion (blendshapes.EMOTION_ACTIONS), mixed by its class probabilities."""
    weights: dict[str, float] = {}
    for name, share in zip(EMOTIONS, emotion.distribution, strict=True):
        for action, weight in EMOTION_ACTIONS.get(name, {}).items():
            weights[action] = weights.get(action, 0.0) + share * weight
    return express(landmarks, weights)


def move(landmarks: np.ndarray, moves: Mapping[str, tuple[float, float]]) -> np.ndarray:
    """Moves groups of points (face_model.MOVE_GROUPS) by (dx, dy) in units of the picture."""
    points = np.array(_face(landmarks))
    for name, (dx, dy) in moves.items():
        points[list(MOVE_GROUPS[_known(name, MOVE_GROUPS, "group of points")]), :2] += (dx, dy)
    return points.astype(np.float32)


def expression_of(landmarks: np.ndarray) -> np.ndarray:
    """How the expression of a face displaces its points, in the head's frame: [478, 3]."""
    model = face_model()
    points = _face(landmarks)
    return np.tensordot(model.explain(model.frame(points).to_local(points)), model.expressions, axes=1)


def strip_expression(landmarks: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """The face without its expression (strength 1), or with less of it."""
    return _displaced(landmarks, -strength * expression_of(landmarks))


def retarget(source: np.ndarray, target: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """Pose and expression of `source` on the face shape of `target`.

    Args:
        strength: 1 takes the target's proportions, 0 leaves the source's.
    """
    model, a, b = face_model(), _face(source), _face(target)
    frame_a, frame_b = model.frame(a), model.frame(b)
    expression = expression_of(a)
    shape = (1 - strength) * (frame_a.to_local(a) - expression) + strength * (frame_b.to_local(b) - expression_of(b))
    return reframe(frame_a.to_picture(shape + expression), a)


def retarget_all(sources: np.ndarray, shapes: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """retarget for batches [N, 478, 3] and [M, 478, 3]; one of either goes with all of the other.

    Raises:
        LandmarkError: N and M differ and neither is 1.
    """
    count = common_length(LandmarkError, sources=len(_faces(sources)), shapes=len(_faces(shapes)))
    return np.stack([retarget(sources[i % len(sources)], shapes[i % len(shapes)], strength) for i in range(count)])


def edit(
    landmarks: np.ndarray,
    pose: tuple[float, float, float] = (0.0, 0.0, 0.0),
    expression: Mapping[str, float] | None = None,
    moves: Mapping[str, tuple[float, float]] | None = None,
    pose_source: str = POSE_SOURCES[0],
    expression_source: str = EXPRESSION_SOURCES[0],
) -> np.ndarray:
    """All of it, in this order: pose and expression are chosen, the head is turned, actions are added, parts are moved.

    Args:
        landmarks: [N, 478, 3]. pose: change of yaw, pitch and roll in degrees.
        pose_source, expression_source: one of POSE_SOURCES and EXPRESSION_SOURCES.

    Returns:
        float32 [N, 478, 3].
    """
    faces = [chosen(face, landmarks[0], pose_source, expression_source) for face in _faces(landmarks)]
    if any(pose):
        faces = [turn(face, *pose) for face in faces]
    if expression:
        faces = [express(face, expression) for face in faces]
    if moves:
        faces = [move(face, moves) for face in faces]
    return np.stack(faces).astype(np.float32)


def chosen(face: np.ndarray, first: np.ndarray, pose_source: str, expression_source: str) -> np.ndarray:
    """A face with the pose and the expression that are held."""
    for value, known, what in ((pose_source, POSE_SOURCES, "pose"), (expression_source, EXPRESSION_SOURCES, "expression")):
        if value not in known:
            raise LandmarkError(f"Expected the {what} to be one of {', '.join(known)}, found {value!r}.")
    if expression_source != EXPRESSION_SOURCES[0]:
        held = expression_of(first) if expression_source == EXPRESSION_SOURCES[1] else 0.0
        face = _displaced(face, held - expression_of(face))
    if pose_source != POSE_SOURCES[0]:
        face = with_pose(face, head_pose(first) if pose_source == POSE_SOURCES[1] else Pose(0.0, 0.0, 0.0))
    return face


def editor_state(face: np.ndarray) -> dict[str, object]:
    """What an editor needs beside the face model to show `edit` of one face: its points, rounded, and its frame."""
    frame = face_model().frame(face)
    return {
        "points": np.round(face, 5).tolist(),
        "rotation": np.round(frame.rotation, 6).ravel().tolist(),
        "scale": round(frame.scale, 6),
        "centre": np.round(frame.centre, 6).tolist(),
    }


def blend(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """Between two faces [478, 3]: head angles and the points in the head's frame go along a straight line, so that a turning head keeps its shape."""
    model, a, b = face_model(), _face(a), _face(b)
    frames, poses = (model.frame(a), model.frame(b)), np.array([head_pose(a), head_pose(b)])
    local = (1 - t) * frames[0].to_local(a) + t * frames[1].to_local(b)
    rotation = _TO_CAMERA @ rotation_of_pose(Pose(*((1 - t) * poses[0] + t * poses[1]))) @ _TO_CAMERA
    scale, centre = (1 - t) * frames[0].scale + t * frames[1].scale, (1 - t) * frames[0].centre + t * frames[1].centre
    return Frame(rotation, scale, centre).to_picture(local).astype(np.float32)


def reframe(points: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Moves and scales a face to the FFHQ square of another."""
    (centre, half, _), (wanted, wanted_half, _) = face_square(points, rotate=False), face_square(like, rotate=False)
    return ((points - [*centre, 0.0]) * (wanted_half / half) + [*wanted, 0.0]).astype(np.float32)


def parse_expression(text: str) -> dict[str, float]:
    """ "smile 0.6, jawOpen 0.3" -> weights by name, as they are written in face_model.GROUPS.

    Raises:
        LandmarkError: an unknown name, or no number.
    """
    return {_known(name, GROUPS, "facial action"): values[0] for name, values in _parse(text, 1, "smile 0.6, jawOpen 0.3")}


def parse_moves(text: str) -> dict[str, tuple[float, float]]:
    """ "leftBrow 0 -0.02, mouth 0.01 0" -> (dx, dy) by group, in units of the picture."""
    return {_known(name, MOVE_GROUPS, "group of points"): (values[0], values[1]) for name, values in _parse(text, 2, "leftBrow 0 -0.02, mouth 0.01 0")}


def actions_of(weights: Mapping[str, float]) -> dict[str, float]:
    """Weights by any name of face_model.GROUPS -> weights by ARKit action."""
    out: dict[str, float] = {}
    for name, weight in weights.items():
        for action, share in GROUPS[_known(name, GROUPS, "facial action")].items():
            out[action] = out.get(action, 0.0) + weight * share
    return out


def _parse(text: str, count: int, example: str) -> list[tuple[str, tuple[float, ...]]]:
    out = []
    for part in (p.strip() for p in re.split(r"[,;\n]", text)):
        if not part:
            continue
        name, *numbers = re.split(r"[\s:=]+", part)
        try:
            values = tuple(float(n) for n in numbers)
        except ValueError:
            values = ()
        if len(values) != count or not np.isfinite(values).all():
            raise LandmarkError(f"Expected a name and {'a number' if count == 1 else f'{count} numbers'}, such as {example!r}, found {part!r}.")
        out.append((name, values))
    return out


def _known(name: str, names: Mapping[str, object], what: str) -> str:
    by_case = {known.lower(): known for known in names}
    if name.lower() not in by_case:
        near = [by_case[n] for n in difflib.get_close_matches(name.lower(), by_case, 3, 0.5)]
        hint = f"did you mean {', '.join(near)}?" if near else f"use one of {', '.join(names)}."
        raise LandmarkError(f"There is no {what} {name!r}; {hint}")
    return by_case[name.lower()]


def _displaced(landmarks: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    points = _face(landmarks)
    frame = face_model().frame(points)
    return (points + frame.scale * displacement @ frame.rotation.T).astype(np.float32)


def _faces(landmarks: np.ndarray) -> np.ndarray:
    faces = np.asarray(landmarks)
    if faces.ndim != 3 or not len(faces):
        raise LandmarkError(f"Expected landmarks of shape [N, 478, 3] with at least one face, found {list(faces.shape)}.")
    return faces


def _face(landmarks: np.ndarray) -> np.ndarray:
    points = np.asarray(landmarks, np.float64)
    if points.shape != (COUNT, 3):
        raise LandmarkError(f"Expected landmarks of shape [478, 3], found {list(points.shape)}.")
    if not np.isfinite(points).all():
        raise LandmarkError("The landmarks hold numbers that are not finite. Extract them again.")
    return points
