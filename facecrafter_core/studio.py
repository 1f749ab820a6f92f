"""Everything between a photo and a new portrait, loaded once: the pipeline, the face landmarker and the identity encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .diffusion.families import DEMO_FOLDER
from .errors import ModelError
from .faces.align import AlignedFace, align_face

if TYPE_CHECKING:
    from torch import Tensor

    from .diffusion.pipeline import FaceCrafterPipeline
    from .faces.emotion import Emotion
    from .faces.emotion_estimators import EmotionEstimator


def check_device(device: str) -> None:
    """
    Raises:
        ModelError: torch cannot use this device on this machine.
    """
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # which one depends on how torch was built
        raise ModelError(f"The device {device!r} cannot be used on this machine. Use cpu, or one that torch finds.") from error


class Studio:
    """A model folder, ready for photos.

    Args:
        folder: a FaceCrafter base: the demo's or a full-size one; "arc2face" for Arc2Face's downloaded files.
        adapter: adapter file; None takes the folder's own.
        device: torch device, such as "cpu" or "cuda"; off the CPU, the full size runs in fp16.

    Raises:
        ModelError, AdapterError: the folder or the adapter is missing, incomplete or does not fit.
    """

    def __init__(self, folder: str | Path = DEMO_FOLDER, adapter: str | Path | None = None, device: str = "cpu") -> None:
        import torch

        from .diffusion.pipeline import FaceCrafterPipeline
        from .faces.identity import load_identity_encoder
        from .faces.landmarker import FaceLandmarker

        self.folder = Path(folder)
        check_device(device)
        self.pipe: FaceCrafterPipeline = FaceCrafterPipeline.from_pretrained(self.folder, adapter)
        half = device != "cpu" and self.pipe.family.name == "full"
        self.pipe.to(device, torch.float16 if half else torch.float32)
        self.pipe.set_progress_bar_config(disable=True)
        self.landmarker = FaceLandmarker()
        self.identity_encoder = load_identity_encoder(self.pipe.family.name, self.folder)

    @property
    def image_size(self) -> int:
        return self.pipe.family.image_size

    def identity(self, photos: Sequence[np.ndarray], choose: str | int = "largest", names: Sequence[str] | None = None) -> Tensor:
        """Photos of one person, uint8 [H, W, 3] each -> unit vector [D]. names: what errors call each photo; None numbers them."""
        from .faces.identity import encode_identity

        return encode_identity(photos, self.landmarker, self.identity_encoder, choose, names)

    def emotion(self, photo: np.ndarray, choose: str | int = "largest", estimator: str = "automatic") -> tuple[Emotion, EmotionEstimator]:
        """The emotion of a face in a photo, and who estimated it.

        Args:
            estimator: one of facecrafter_core.faces.emotion_estimators.ESTIMATORS.

        Raises:
            NoFaceError, FaceChoiceError: see FaceLandmarker.find_face. ModelError, AssetError: the estimator's files or package are missing.
        """
        from .faces.emotion_estimators import load_emotion_estimator, read_emotions

        chosen = load_emotion_estimator(estimator, self.pipe.family.name, self.folder, str(self.pipe.device))
        return read_emotions(chosen, [photo], [self.landmarker.find_face(photo, choose)])[0], chosen

    def driving_face(self, photo: np.ndarray, choose: str | int = "largest") -> AlignedFace:
        """The square of a photo whose pose and expression are to be copied, with its landmarks."""
        return align_face(photo, self.landmarker.find_face(photo, choose).landmarks, self.image_size, rotate=False)
