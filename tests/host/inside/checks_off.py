"""Off is exact: with both alphas at 0 the result is the unpatched model's, bit for bit."""

from dataclasses import replace

import torch
from facecrafter.facecrafter_core.diffusion.guidance import Guidance
from facecrafter.nodes.host.guidance import apply_to_model
from world import Watched, conditioning, crafted, demo, latent, plain, strip

OFF = {"alpha_landmark": 0.0, "alpha_emotion": 0.0}


def _both(weight, count, sampler="euler"):
    positive, negative = conditioning(count, **OFF)
    expected = plain(demo().model, strip(positive), strip(negative), latent(count), cfg=weight, sampler_name=sampler)
    return positive, negative, expected


def check_the_sampler_with_alphas_0_is_the_plain_sampler_with_cfg_w_id():
    for weight, count in ((2.5, 1), (2.3, 2)):
        positive, negative, expected = _both(weight, count)
        assert torch.equal(
            crafted(demo().model, positive, negative, latent(count), Guidance(identity=weight)), expected
        )


def check_apply_with_alphas_0_is_the_plain_sampler_with_cfg_w_id_at_any_cfg():
    positive, negative, expected = _both(2.5, 1)
    model = apply_to_model(demo().model, Guidance(identity=2.5))
    for cfg in (1.0, 2.5, 8.0):
        assert torch.equal(plain(model, positive, negative, latent(), cfg=cfg), expected)


def check_an_applied_model_leaves_foreign_conditionings_alone():
    positive, negative, expected = _both(4.0, 1)
    model = apply_to_model(demo().model, Guidance(identity=2.5))
    assert torch.equal(plain(model, strip(positive), strip(negative), latent(), cfg=4.0), expected)


def check_identity_weight_1_evaluates_one_row_and_is_cfg_1():
    positive, negative, expected = _both(1.0, 1)
    watched = Watched(demo().model)
    assert torch.equal(crafted(watched.model, positive, negative, latent(), Guidance(identity=1.0)), expected)
    assert {p.rows for p in watched.passes} == {1}


def check_on_is_not_off():
    positive, negative, expected = _both(2.5, 1)
    on = conditioning(1)
    assert (crafted(demo().model, *on, latent()) - expected).abs().max() > 1e-3


def check_weights_0_evaluate_no_branch_rows():
    watched = Watched(demo().model)
    off = replace(Guidance(), landmark=0.0, emotion=0.0)
    positive, negative, expected = _both(2.5, 1)
    assert torch.equal(crafted(watched.model, *conditioning(1), latent(), off), expected)
    assert {p.rows for p in watched.passes} == {2}
