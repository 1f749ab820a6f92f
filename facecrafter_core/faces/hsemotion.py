"""HSEmotion's small network (Savchenko 2022, EmotiEffLib's enet_b0_8_va_mtl.onnx), run by ONNX Runtime.

Its own package downloads by itself and takes no path, so the file is read directly; what is done with a picture is what the package does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ModelError
from .align import face_box
from .emotion import EMOTIONS, Emotion

if TYPE_CHECKING:
    from .landmarker import Face

CLASSES = ("anger", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise")
"""The network's order."""

SIDE, MEAN, DEVIATION = 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class HSEmotionEstimator:
    """Reads a face's pixels.

    Args:
        path: enet_b0_8_va_mtl.onnx: input [1, 3, 224, 224], output [1, 10] with eight logits, valence, arousal.

    Raises:
        ModelError: onnxruntime is not installed, or the file is not that network.
    """

    name, licence = "HSEmotion", "Apache-2.0"

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ModelError('HSEmotion needs onnxruntime: expected it to be installed, found none. Run pip install "facecrafter[full]".') from error
        try:
            self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has classes of its own
            raise ModelError(f"{path} is not HSEmotion's network ({type(error).__name__}). Run facecrafter assets download hsemotion.") from error

    def estimate(self, face: Face, photo: np.ndarray) -> Emotion:
        """The box around the landmarks, resized to 224 pixels."""
        pixels = (face_box(photo, face.landmarks, SIDE) / 255 - MEAN) / DEVIATION
        (out,) = self.session.run(None, {self.session.get_inputs()[0].name: pixels.transpose(2, 0, 1)[None].astype(np.float32)})
        if out.shape != (1, len(CLASSES) + 2):
            raise ModelError(f"Expected HSEmotion's network to give 10 numbers, found shape {list(out.shape)}. Run facecrafter assets download hsemotion.")
        classes = np.exp(out[0, :-2] - out[0, :-2].max())
        share = dict(zip(CLASSES, classes / classes.sum(), strict=True))
        return Emotion.from_vector([*np.clip(out[0, -2:], -1, 1), *(share[name] for name in EMOTIONS)])
