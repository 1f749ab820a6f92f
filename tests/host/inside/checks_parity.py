"""The two hosts compute the same: ComfyUI's UNet, CLIP and VAE with our patches, and diffusers with our processors (fp32, demo weights)."""

from functools import lru_cache

import torch
from facecrafter.facecrafter_core.diffusion.guidance import ROWS, Guidance, combine, guidance_coefficients
from facecrafter.facecrafter_core.diffusion.pipeline import FaceCrafterPipeline
from facecrafter.nodes.host import guidance as host_guidance
from facecrafter.nodes.host.adapter import DEMO_FOLDER
from world import conditioning, conditions, demo, predictions_of_both_hosts

BATCH, TIMESTEP, TOLERANCE = 2, 400, 1e-4
ALPHAS = {"landmark": 0.7, "emotion": 1.3}


@lru_cache(maxsize=1)
def pipeline():
    return FaceCrafterPipeline.from_pretrained(DEMO_FOLDER, dtype=torch.float32)


@lru_cache(maxsize=1)
def predictions():
    crafter, model = demo().crafter, demo().model
    return predictions_of_both_hosts(crafter, model, pipeline(), conditions(BATCH), ALPHAS, TIMESTEP, 32)


def _same(row):
    here, there = predictions()
    difference = (here[row] - there[row]).abs().max().item()
    assert difference <= TOLERANCE, f"{row}: {difference:.2e}"


def check_no_identity_is_predicted_as_in_diffusers():
    _same("none")


def check_identity_is_predicted_as_in_diffusers():
    _same("id")


def check_identity_with_landmarks_is_predicted_as_in_diffusers():
    _same("id+lmk")


def check_identity_with_emotion_is_predicted_as_in_diffusers():
    _same("id+emo")


def check_all_conditions_together_are_predicted_as_in_diffusers():
    _same("id+lmk+emo")


def check_the_guided_prediction_is_that_of_diffusers():
    _same("guided")


def check_rows_differ_from_each_other():
    here, _ = predictions()
    assert (here["id"] - here["id+lmk"]).abs().max() > 1e-3
    assert (here["id"] - here["id+emo"]).abs().max() > 1e-3


def check_identity_contexts_are_those_of_transformers():
    positive, negative = conditioning(BATCH)
    expected = pipeline().encode_context(conditions(BATCH)[0])
    assert (positive[0][0] - expected["id"]).abs().max() <= TOLERANCE
    assert (negative[0][0] - expected["none"][:1]).abs().max() <= TOLERANCE


def check_the_autoencoder_is_that_of_diffusers():
    z = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    assert (demo().vae.decode(z) - torch.from_numpy(pipeline().decode(z))).abs().max() <= TOLERANCE
    pictures = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    encoded = pipeline().vae.encode(pictures.movedim(-1, 1) * 2 - 1).latents
    assert (demo().vae.encode(pictures) - encoded).abs().max() <= TOLERANCE


def check_weights_a_picture_are_those_of_diffusers():
    here, there = predictions()
    table = guidance_coefficients(Guidance(2.5, (2.0, 0.5), (0.0, 3.0)), 1.0)
    cond, uncond, weight = host_guidance.as_cfg({row: here[row] for row in ROWS}, table)
    assert (uncond + (cond - uncond) * weight - combine(there, table)).abs().max() <= 1e-3 and weight == 1.0
