"""What reads photos leaves the GPU's memory to ComfyUI."""

from unittest.mock import patch

import comfy.model_management as management
import torch
from facecrafter.facecrafter_core.faces import emotion_estimators
from facecrafter.facecrafter_core.faces.arcface import ArcFaceEncoder
from facecrafter.facecrafter_core.faces.emonet import EmoNet, EmoNetEstimator
from facecrafter.nodes import emotion, faces
from facecrafter.nodes.host.networks import ManagedNetwork
from facecrafter.nodes.pictures import sample_photos, to_image, to_photos
from world import temporary_folder


def check_emonet_is_loaded_for_its_work_and_unloaded_with_comfyuis_models():
    file, portrait = temporary_folder() / "emonet_8.pth", to_image(list(sample_photos().values())[:1])
    torch.save(EmoNet().state_dict(), file)
    photos = to_photos(portrait, "photo")
    expected = emotion_estimators.read_emotions(
        EmoNetEstimator(file), photos, [faces.landmarker().find_face(photos[0])]
    )[0].vector
    try:
        with patch.object(emotion_estimators, "emotion_weights", lambda *args: file):
            for _ in range(2):
                found = emotion.FaceCrafterEmotionFromImage.execute(portrait, "largest", 0, "emonet").args[0]
                torch.testing.assert_close(found[0], torch.as_tensor(expected).float(), atol=1e-4, rtol=1e-4)
                [patcher] = [p for p in management.loaded_models() if isinstance(p.model, EmoNet)]
                assert (patcher.load_device, patcher.offload_device) == (
                    management.get_torch_device(),
                    management.unet_offload_device(),
                )
                assert patcher.loaded_size() == patcher.model_size()
                management.unload_all_models()
                assert patcher not in management.loaded_models() and not patcher.loaded_size()
    finally:
        emotion.emotion_estimator.cache_clear()


def check_pictures_go_where_comfyui_has_loaded_the_network():
    network = ManagedNetwork(torch.nn.Conv2d(3, 1, 1))
    with patch.object(management, "load_models_gpu", lambda models, **options: [p.model.to("meta") for p in models]):
        assert network(torch.zeros(1, 3, 8, 8)).device.type == "meta"


def check_identities_of_full_size_are_read_on_the_cpu():
    gpu = patch.object(management, "get_torch_device", lambda: torch.device("cuda"))
    with gpu, patch.object(ArcFaceEncoder, "load", lambda device="cpu": device):
        assert faces.identity_encoder.__wrapped__("full") == "cpu"
