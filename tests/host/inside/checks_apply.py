"""Apply FaceCrafter under ComfyUI's samplers is the FaceCrafter Sampler, beside nodes that work on cond and uncond, too."""

import logging
from unittest.mock import patch

import comfy.samplers
import torch
from checks_errors import refuses
from comfy_extras import (
    nodes_apg,
    nodes_cfg,
    nodes_custom_sampler,
    nodes_mahiro,
    nodes_model_advanced,
    nodes_pag,
    nodes_sag,
    nodes_tcfg,
)
from facecrafter.facecrafter_core.diffusion.guidance import Guidance
from facecrafter.facecrafter_core.errors import ModelError
from facecrafter.nodes.host.guidance import FaceCrafterGuider, apply_to_model
from world import Watched, conditioning, crafted, demo, latent, plain, portrait_conditioning

NODES = {
    "RescaleCFG": (nodes_model_advanced.RescaleCFG, 0.7),
    "APG": (nodes_apg.APG, 1.0, 5.0, 0.0),
    "CFGNorm": (nodes_cfg.CFGNorm, 1.0),
    "CFGZeroStar": (nodes_cfg.CFGZeroStar,),
    "TCFG": (nodes_tcfg.TCFG,),
    "Mahiro": (nodes_mahiro.Mahiro,),
    "PAG": (nodes_pag.PerturbedAttentionGuidance, 3.0),
    "SAG": (nodes_sag.SelfAttentionGuidance, 0.5, 2.0),
}


def _by_node(node, *values):
    """The demo's MODEL, patched by a node of ComfyUI's."""
    out = node.execute(demo().model, *values) if hasattr(node, "define_schema") else getattr(node(), node.FUNCTION)(demo().model, *values)
    return (out.args if hasattr(out, "args") else out)[0]


def _applied(model, conds, start, guidance=None, **plan):
    return plain(apply_to_model(model, guidance or Guidance()), *conds, start, cfg=7.0, **plan)


def check_nodes_that_read_cond_and_uncond_act_as_under_our_sampler():
    conds, start = portrait_conditioning(), latent(1, 16)
    base = crafted(demo().model, *conds, start, steps=3)
    for name, node in NODES.items():
        model = _by_node(*node)
        ours = crafted(model, *conds, start, steps=3)
        assert (ours - base).abs().mean() > 0.02 * base.std(), f"{name} does nothing"
        assert torch.allclose(_applied(model, conds, start, steps=3), ours, atol=1e-4), name


def _later_noise(x, seed=None):
    """What versions after 0.3.64 add on a CPU; 0.3.64's KSampler repeats the initial noise there, as our Sampler does not."""
    generator = torch.Generator().manual_seed(seed + 1)
    return lambda sigma, sigma_next: torch.randn(x.shape, dtype=x.dtype, generator=generator)


@patch("comfy.k_diffusion.sampling.default_noise_sampler", _later_noise)
def check_cfg_plus_plus_samplers_are_those_of_our_sampler():
    conds, start = portrait_conditioning(), latent(1, 16)
    for name in (n for n in comfy.samplers.KSampler.SAMPLERS if n.endswith("_cfg_pp")):
        ours = crafted(demo().model, *conds, start, sampler=name)
        assert torch.allclose(_applied(demo().model, conds, start, sampler_name=name), ours, atol=1e-4), name
    euler, other = (crafted(demo().model, *conds, start, sampler=name, steps=4) for name in ("euler", "euler_cfg_pp"))
    assert (other - euler).abs().mean() > 0.02 * euler.std()


def check_another_evaluation_of_the_conds_and_wrappers_of_others_act():
    """In the place where other packs evaluate the conds, and around each prediction, whether they came before Apply or after it."""
    seen = []

    def evaluate(args):
        seen.append("conds")
        return comfy.samplers.calc_cond_batch(args["model"], args["conds"], args["input"], args["sigma"], args["model_options"])

    def watch(executor, *args, **kwargs):
        seen.append("prediction")
        return executor(*args, **kwargs)

    def put(model):
        model = model.clone()
        model.set_model_sampler_calc_cond_batch_function(evaluate)
        model.add_wrapper_with_key("predict_noise", "watch", watch)
        return model

    conds, base = conditioning(), crafted(demo().model, *conditioning(), latent())
    for model in (apply_to_model(put(demo().model), Guidance()), put(apply_to_model(demo().model, Guidance()))):
        assert torch.equal(plain(model, *conds, latent()), base)
        assert seen == ["prediction", "conds"] * 2
        seen.clear()


def check_guidance_that_was_applied_before_is_replaced():
    twice = apply_to_model(apply_to_model(demo().model, Guidance(9.0, 0.0, 0.0)), Guidance())
    base = crafted(demo().model, *conditioning(), latent())
    assert torch.allclose(plain(twice, *conditioning(), latent()), base, atol=1e-4)
    assert torch.allclose(crafted(apply_to_model(demo().model, Guidance(9.0)), *conditioning(), latent()), base, atol=1e-4)


def check_no_row_is_computed_that_no_weight_needs():
    watched = Watched(demo().model)
    _applied(watched.model, conditioning(), latent(), Guidance(1.0, 0.0, 0.0))
    assert {p.rows for p in watched.passes} == {1}


def check_guiders_that_eq6_cannot_reach_are_refused():
    positive, negative = conditioning()
    model, noise = apply_to_model(demo().model, Guidance()), latent()["samples"]
    dual, basic = nodes_custom_sampler.Guider_DualCFG(model), nodes_custom_sampler.Guider_Basic(model)
    dual.set_conds(positive, positive, negative)
    dual.set_cfg(2.0, 2.0)
    basic.set_conds(positive)
    for guider, words in ((dual, "Guider_DualCFG evaluates its conditionings by itself"), (basic, "Guider_Basic has no negative")):
        plan = (comfy.samplers.sampler_object("euler"), torch.tensor([1.0, 0.0]))
        refuses(ModelError, [words, "FaceCrafter Sampler"], guider.sample, noise, noise, *plan, disable_pbar=True)
        assert "predict_noise" not in vars(guider)


def check_guiders_of_other_packs_get_eq6_and_a_word_on_what_does_not_act():
    class Own(comfy.samplers.CFGGuider):
        def predict_noise(self, x, timestep, model_options=None, seed=None):
            return super().predict_noise(x, timestep, model_options, seed)

    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    plan = (noise, noise * 0, comfy.samplers.sampler_object("euler"), torch.tensor([9.0, 3.0, 0.0]))
    base = FaceCrafterGuider(demo().model, *conditioning(), Guidance()).sample(*plan, disable_pbar=True)
    for node, words in ((None, 0), ("RescaleCFG", 1)):
        guider = Own(apply_to_model(_by_node(*NODES[node]) if node else demo().model, Guidance()))
        guider.set_conds(*conditioning())
        guider.set_cfg(1.0)
        with patch.object(logging, "warning") as warned:
            found = guider.sample(*plan, disable_pbar=True)
        said = [call.args[0] for call in warned.call_args_list if "Apply FaceCrafter under Own" in call.args[0]]
        assert len(said) == words, (node, said)
        assert torch.allclose(found, base, atol=1e-3)
        assert all("RescaleCFG" in sentence and "FaceCrafter Sampler" in sentence for sentence in said)


def check_a_guider_is_as_it_was_after_a_run():
    guider = comfy.samplers.CFGGuider(apply_to_model(demo().model, Guidance()))
    guider.set_conds(*conditioning())
    noise = torch.ones(1, 4, 8, 8)
    guider.sample(noise, noise * 0, comfy.samplers.sampler_object("euler"), torch.tensor([1.0, 0.0]), disable_pbar=True)
    assert "predict_noise" not in vars(guider)
