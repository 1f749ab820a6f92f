"""How many pictures a run makes: the same rule in the FaceCrafter Sampler, the Guider and Apply."""

import comfy.samplers
import torch
from checks_errors import refuses
from comfy_extras import nodes_custom_sampler
from facecrafter.facecrafter_core.diffusion.guidance import Guidance
from facecrafter.facecrafter_core.errors import ModelError
from facecrafter.nodes import sampling
from facecrafter.nodes.host import contexts
from facecrafter.nodes.host.guidance import FaceCrafterGuider, apply_to_model
from world import conditioning, conditions, demo, latent, plain

SEED = 3


def _sampler(conds, start, weights=None):
    numbers = (2.5, 2.0, 2.0, "paper", False, start, None, weights)
    return sampling.FaceCrafterSampler.execute(demo().model, *conds, SEED, 2, "euler", "normal", 1.0, *numbers).args[0]["samples"]


def _guidance(weights):
    return sampling.guidance_of(demo().model, 2.5, 2.0, 2.0, "paper", weights=weights)


def _guider(conds, start, weights=None, noise=None):
    """The FaceCrafter Guider under SamplerCustomAdvanced, with RandomNoise where no other noise is given."""
    guider = FaceCrafterGuider(demo().model, *conds, _guidance(weights))
    sigmas = comfy.samplers.calculate_sigmas(demo().model.get_model_object("model_sampling"), "normal", 2)
    node = nodes_custom_sampler.SamplerCustomAdvanced
    sample = getattr(node, "execute", None) or node().sample
    out = sample(noise or nodes_custom_sampler.Noise_RandomNoise(SEED), guider, comfy.samplers.sampler_object("euler"), sigmas, start)
    return (out.args if hasattr(out, "args") else out)[0]["samples"]


def _apply(conds, start, weights=None):
    return plain(apply_to_model(demo().model, _guidance(weights)), *conds, start, seed=SEED)


WAYS = (_sampler, _guider, _apply)


def check_one_latent_serves_all_conditions():
    conds = conditioning(3)
    expected = _sampler(conds, latent(3))
    for way in WAYS:
        found = way(conds, latent(1))
        assert found.shape == expected.shape == (3, 4, 8, 8), way.__name__
        assert torch.allclose(found, expected, atol=1e-4), f"{way.__name__}: other pictures than of three latents"


def check_one_latent_picture_and_its_mask_serve_all_conditions():
    start = {"samples": torch.randn(1, 4, 8, 8), "noise_mask": torch.ones(1, 1, 8, 8)}
    start["noise_mask"][..., :4] = 0
    for way in WAYS:
        found = way(conditioning(2), start)
        assert torch.allclose(found[..., :4], start["samples"][..., :4].expand(2, -1, -1, -1), atol=1e-4), way.__name__
        assert (found[0] - found[1]).abs().max() > 1e-3


def check_weights_count_as_conditions_do():
    weights = (None, None, (0.0, 2.0))
    for way in WAYS:
        assert len(way(conditioning(), latent(1), weights)) == 2, way.__name__
    assert len(_sampler(conditioning(), None, weights)) == 2
    for way in WAYS:
        refuses(ModelError, ["batch of 1, 2", "2 weights", "found 3", "frames"], way, conditioning(), latent(3), weights)
        refuses(ModelError, ["as many weights as emotions", "found 2 weights and 3 emotions", "frames"], way, _moods(3), latent(1), weights)


def _moods(count):
    identities, points, emotions = conditions(count)
    return contexts.make_conditioning(demo().crafter, identities[:1], points[:1], emotions, 1.0, 1.0)


def check_numbers_that_do_not_go_together_are_refused_alike():
    for way in WAYS:
        refuses(ModelError, ["latent batch of 1, 2 or a multiple of 2", "2 emotions", "found 5", "batch_size"], way, _moods(2), latent(5))
        assert len(way(_moods(2), latent(4))) == 4


def check_a_multiple_takes_the_conditions_in_turn():
    conds, start = _moods(2), {**latent(4), "batch_index": [0, 0, 0, 0]}
    found = _sampler(conds, start)
    assert torch.allclose(found[:2], found[2:], atol=1e-4) and (found[0] - found[1]).abs().max() > 1e-4


def check_no_noise_stays_none():
    node = nodes_custom_sampler
    found = _guider(_moods(2), {"samples": torch.ones(1, 4, 8, 8)}, noise=node.Noise_EmptyNoise())
    both = _guider(_moods(2), {"samples": torch.ones(2, 4, 8, 8)}, noise=node.Noise_EmptyNoise())
    assert torch.allclose(found, both, atol=1e-5)


def check_conditionings_without_ours_are_left_alone():
    foreign = [[torch.zeros(2, 77, 128), {}]]
    assert len(plain(apply_to_model(demo().model, Guidance()), foreign, foreign, latent(1))) == 1
