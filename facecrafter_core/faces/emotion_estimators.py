"""A face in a photo -> its emotion: the demo's small network, EmoNet, HSEmotion, and the choice among them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..errors import AssetError, ModelError
from .emotion import EMOTIONS, Emotion

if TYPE_CHECKING:
    from .landmarker import Face

AUTOMATIC = "automatic"
ESTIMATORS = (AUTOMATIC, "demo", "emonet", "hsemotion")
"""What load_emotion_estimator takes. "automatic" is what a family's adapter is trained with: the demo's network, or EmoNet at full size."""


class EmotionEstimator(Protocol):
    """Anything that reads the emotion off a face. name, licence: as shown where one is chosen, and in tables."""

    name: str
    licence: str

    def look(self, photo: np.ndarray, face: Face) -> np.ndarray:
        """What it reads of a face in a photo uint8 [H, W, 3]: small, so that many can be kept and estimated together."""
        ...

    def estimate(self, looks: Sequence[np.ndarray]) -> np.ndarray:
        """N of them -> float32 [N, 10]: valence and arousal in [-1, 1], then the probabilities of EMOTIONS."""
        ...


def read_emotions(estimator: EmotionEstimator, photos: Sequence[np.ndarray], faces: Sequence[Face]) -> list[Emotion]:
    """The emotion of one face in each photo."""
    looks = [estimator.look(photo, face) for photo, face in zip(photos, faces, strict=True)]
    return [Emotion.from_vector(vector) for vector in estimator.estimate(looks)]


def choose_estimator(name: str, family: str) -> str:
    """One of ESTIMATORS -> the one that is meant.

    Raises:
        ModelError: there is none of this name.
    """
    if name not in ESTIMATORS:
        raise ModelError(f"Expected the emotion estimator as one of {', '.join(ESTIMATORS)}, found {name!r}.")
    return {"demo": "demo", "full": "emonet"}[family] if name == AUTOMATIC else name


def emotion_weights(name: str, family: str, folder: str | Path | None = None) -> Path:
    """The file of an estimator's weights; see load_emotion_estimator.

    Raises:
        ModelError, AssetError: no such estimator, or EmoNet's or HSEmotion's weights are nowhere.
    """
    from ..diffusion.families import DEMO_FOLDER
    from ..search import add_search_folder, find_asset

    chosen = choose_estimator(name, family)
    if chosen == "demo":
        return Path(folder if folder and family == "demo" else DEMO_FOLDER) / "emotion/model.safetensors"
    if folder and family == "full":
        add_search_folder(folder)
    return find_asset(chosen)


def load_emotion_estimator(name: str, family: str, folder: str | Path | None = None, device: str = "cpu") -> EmotionEstimator:
    """
    Args:
        name: one of ESTIMATORS. family: "demo" or "full".
        folder: the family's base. The demo's network lies in it; at full size the others' weights are looked for there too.
        device: torch device; HSEmotion runs on the CPU.

    Raises:
        ModelError, AssetError: no such estimator, or its weights or its package are missing, or are others.
    """
    chosen, path = choose_estimator(name, family), emotion_weights(name, family, folder)
    if chosen == "demo":
        return DemoEmotionEstimator(path)
    if chosen == "hsemotion":
        return HSEmotionEstimator(path)
    from .emonet import EmoNetEstimator

    return EmoNetEstimator(path, device)


def emotion_network() -> Any:
    """The demo's network: 52 blendshape scores -> 10 numbers (before tanh of the first two and softmax of the rest)."""
    from torch import nn

    return nn.Sequential(nn.Linear(52, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 10))


class DemoEmotionEstimator:
    """Reads MediaPipe's blendshape scores with a small network trained on rendered faces (training/train_emotion.py).

    Raises:
        ModelError: the weights are not there or do not fit.
    """

    name, licence = "demo emotion estimator", "Apache-2.0"

    def __init__(self, path: str | Path) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if not Path(path).is_file():
            raise ModelError(f"There are no emotion estimator weights at {path}. Reinstall FaceCrafter or run training/recipes/demo.sh.")
        self.network = emotion_network()
        try:
            self.network.load_state_dict({k: v.float() for k, v in load_file(str(path)).items()})
        except (SafetensorError, RuntimeError) as error:
            raise ModelError(f"{path} does not hold the weights of the emotion estimator: {error}") from error
        self.network.eval()

    def look(self, photo: np.ndarray, face: Face) -> np.ndarray:
        return np.asarray(face.blendshapes, np.float32)

    def estimate(self, looks: Sequence[np.ndarray]) -> np.ndarray:
        import torch

        with torch.inference_mode():
            out = self.network(torch.from_numpy(np.array(looks, np.float32).reshape(-1, 52)))
            return torch.cat([out[:, :2].tanh(), out[:, 2:].softmax(1)], dim=1).numpy()


HSEMOTION_NAMES = {
    "Anger": "anger", "Contempt": "contempt", "Disgust": "disgust", "Fear": "fear",
    "Happiness": "happy", "Neutral": "neutral", "Sadness": "sad", "Surprise": "surprise",
}  # fmt: skip
"""HSEmotion's classes -> EMOTIONS. Its own order is the alphabet's."""


class HSEmotionEstimator:
    """HSEmotion's enet_b0_8_va_mtl (Savchenko 2022) through its package emotiefflib: eight classes, valence and arousal, by ONNX Runtime.

    The package is given the file's path in place of a model's name, so it finds the file there and downloads nothing.

    Args:
        path: enet_b0_8_va_mtl.onnx.

    Raises:
        AssetError: the package is missing. ModelError: the file is no such model, or the package takes its path for another one's.
    """

    name, licence = "HSEmotion", "Apache-2.0"
    size = 224

    def __init__(self, path: str | Path) -> None:
        path = Path(path).absolute()
        if not path.is_file():
            raise ModelError(f"There are no HSEmotion weights at {path}. Run `facecrafter assets download hsemotion`.")
        try:
            from emotiefflib.facial_analysis import EmotiEffLibRecognizerOnnx
        except ImportError as error:
            raise AssetError(f"HSEmotion needs the package emotiefflib ({error}). Run `pip install emotiefflib`.") from error
        try:
            self.recognizer = EmotiEffLibRecognizerOnnx(str(path.with_suffix("")))
            classes = [HSEMOTION_NAMES[name] for _, name in sorted(self.recognizer.idx_to_emotion_class.items())]
            outputs = len(self.recognizer.classifier_bias)
        except Exception as error:  # onnx and onnxruntime have their own errors, without a common base
            raise ModelError(f"{path} cannot be read as HSEmotion's model ({str(error).splitlines()[0]}). Run `facecrafter assets verify hsemotion`.") from error
        if len(classes) != len(EMOTIONS) or not self.recognizer.is_mtl or self.recognizer.img_size != self.size:
            raise ModelError(
                f"emotiefflib tells models by their paths and takes {path} for another one. "
                "Name the file enet_b0_8_va_mtl.onnx and keep it in a folder without _7, _b2_, mbf_ or ddamfnet in its path."
            )
        if outputs != len(EMOTIONS) + 2:
            raise ModelError(f"Expected HSEmotion with {len(EMOTIONS) + 2} outputs, found {outputs} in {path}. Run `facecrafter assets verify hsemotion`.")
        self.order = [len(EMOTIONS), len(EMOTIONS) + 1, *(classes.index(name) for name in EMOTIONS)]

    def look(self, photo: np.ndarray, face: Face) -> np.ndarray:
        """The square around the box of the face, forehead included, uint8 [224, 224, 3]; the model was trained on detectors' boxes."""
        from .align import warp

        x0, y0, x1, y1 = face.box
        scale = self.size / face.size
        matrix = np.array([[scale, 0, (self.size - scale * (x0 + x1)) / 2], [0, scale, (self.size - scale * (y0 + y1)) / 2]])
        return warp(photo, matrix, (self.size, self.size))

    def estimate(self, looks: Sequence[np.ndarray]) -> np.ndarray:
        found = [np.zeros((0, 10), np.float32)]
        for start in range(0, len(looks), 64):
            scores = self.recognizer.predict_emotions(list(looks[start : start + 64]), logits=False)[1][:, self.order]
            found.append(np.concatenate([scores[:, :2].clip(-1, 1), scores[:, 2:]], axis=1).astype(np.float32))
        return np.concatenate(found)
