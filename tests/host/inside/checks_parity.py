"""The two hosts compute the same: ComfyUI's UNet, CLIP and VAE with our patches, and diffusers with our processors (fp32, demo weights)."""

from functools import lru_cache

import comfy.samplers
import torch
from facecrafter.facecrafter_core.diffusion.guidance import ROWS, Guidance, GuidedRun, combine, guidance_coefficients
from facecrafter.facecrafter_core.diffusion.passes import Conditions, prepare_pass
from facecrafter.facecrafter_core.diffusion.pipeline import FaceCrafterPipeline
from facecrafter.nodes.host import contexts
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


def check_guidance_that_is_used_again_is_that_of_diffusers():
    """Two noise levels, of which the second takes the difference of the first: of the network's outputs, in both hosts."""
    pipe, what, weights, seen = pipeline(), conditions(BATCH), Guidance(refresh=2), []

    class Probe(host_guidance.FaceCrafterGuider):
        def predict_noise(self, x, sigma, *args, **kwargs):
            guided = super().predict_noise(x, sigma, *args, **kwargs)
            seen.append((x, guided))
            return guided

    levels = demo().model.get_model_object("model_sampling").sigmas[[800, 500]]
    positive, negative = contexts.make_conditioning(demo().crafter, *what, ALPHAS["landmark"], ALPHAS["emotion"])
    noise = torch.randn(BATCH, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    euler = comfy.samplers.sampler_object("euler")
    Probe(demo().model, positive, negative, weights).sample(noise, torch.zeros_like(noise), euler, torch.cat([levels, levels[:1] * 0]), disable_pbar=True)

    static, run = Conditions(pipe.encode_context(what[0]), pipe.project_conditions(*what[1:]), ALPHAS), GuidedRun(2)
    for (x, here), sigma, timestep in zip(seen, levels, (800, 500), strict=True):
        a = 1 / (sigma**2 + 1)
        x = x * a.sqrt()
        rows = run.coefficients(guidance_coefficients(weights, 1.0))
        found = pipe.predict_rows(x, torch.tensor(timestep), [prepare_pass(static, list(rows), slice(0, BATCH))], static)
        there = a.sqrt() * x - (1 - a).sqrt() * run.combine(found, rows)
        assert (here - there).abs().max() <= TOLERANCE, (timestep, (here - there).abs().max().item())


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
