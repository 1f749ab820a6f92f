"""An untrained base of the demo family, so that these tests need no weights."""

import pytest
import torch

from facecrafter_core.control.adapter import FaceCrafterAdapter, new_adapter
from facecrafter_core.diffusion.families import DEMO, new_autoencoder, new_scheduler, new_text_encoder, new_unet
from facecrafter_core.diffusion.pipeline import FaceCrafterPipeline


def loud_adapter() -> FaceCrafterAdapter:
    """An adapter whose branches have an effect: its values do not start at zero."""
    adapter = new_adapter("demo")
    for layer in [*adapter.landmark_branch.to_v, *adapter.emotion_branch.to_v]:
        torch.nn.init.normal_(layer.weight, std=0.2)
    return adapter.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def pipe() -> FaceCrafterPipeline:
    torch.manual_seed(0)
    parts = (new_unet(DEMO).eval(), new_autoencoder(DEMO).eval(), new_text_encoder(DEMO).eval())
    pipe = FaceCrafterPipeline(*parts, new_scheduler(DEMO), loud_adapter())
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="session")
def identity() -> torch.Tensor:
    torch.manual_seed(3)
    return torch.nn.functional.normalize(torch.randn(128), dim=0)


@pytest.fixture(scope="session")
def landmarks() -> torch.Tensor:
    torch.manual_seed(4)
    return torch.rand(478, 3) * 0.5 + 0.25
