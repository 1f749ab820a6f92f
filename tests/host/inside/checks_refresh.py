"""Guidance that is computed anew in every so many calls of the network only."""

from contextlib import suppress
from copy import deepcopy

import comfy.samplers
import torch
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete
from facecrafter.facecrafter_core.diffusion.guidance import Guidance
from facecrafter.nodes import sampling
from facecrafter.nodes.host import guidance
from world import Watched, conditioning, crafted, demo, latent, plain, portrait_conditioning

EVERY_SECOND = Guidance(refresh=2)


def _rows(watched):
    """Rows of each call since the last look."""
    rows = [p.rows for p in watched.passes]
    watched.passes.clear()
    return rows


def _timing(**inputs):
    """What the node Guidance Intervals gives."""
    ends = {f"{name}_{end}": value for name in ("identity", "landmark", "emotion") for end, value in (("start", 0.0), ("end", 1.0))}
    return sampling.FaceCrafterGuidanceIntervals.execute(**ends, **inputs).args[0]


def _guidance(**inputs):
    return sampling.guidance_of(demo().model, 2.5, 2.0, 2.0, "paper", _timing(**inputs))


def check_the_node_sets_it_and_leaves_the_rest_alone():
    assert _guidance() == Guidance(), "an old workflow, which does not know the input"
    assert _guidance(refresh=3) == Guidance(refresh=3)


def check_one_row_is_computed_in_the_calls_between():
    for weights, expected in ((_guidance(refresh=2), [4, 1, 4, 1, 4]), (_guidance(refresh=3), [4, 1, 1, 4, 1]), (_guidance(), [4] * 5)):
        watched = Watched(demo().model)
        crafted(watched.model, *conditioning(), latent(), weights, steps=5)
        assert _rows(watched) == expected
        plain(guidance.apply_to_model(watched.model, weights), *conditioning(), latent(), steps=5)
        assert _rows(watched) == expected, "Apply"


def check_a_run_of_one_call_is_exact():
    exact = crafted(demo().model, *conditioning(), latent(), steps=1)
    assert torch.equal(crafted(demo().model, *conditioning(), latent(), EVERY_SECOND, steps=1), exact)


def check_apply_is_the_guider():
    conds = conditioning(2)
    applied = plain(guidance.apply_to_model(demo().model, EVERY_SECOND), *conds, latent(2), cfg=7.0, steps=5)
    assert torch.allclose(applied, crafted(demo().model, *conds, latent(2), EVERY_SECOND, steps=5), atol=1e-4)


def check_the_last_difference_is_nearer_to_eq6_than_none():
    conds = portrait_conditioning()
    exact, refreshed, without = (crafted(demo().model, *conds, latent(1, 32), w, steps=8) for w in (Guidance(), EVERY_SECOND, Guidance(1.0, 0.0, 0.0)))
    assert 0 < (refreshed - exact).abs().mean() < 0.5 * (without - exact).abs().mean()


def check_each_run_starts_anew():
    """With a guider and a MODEL that are used again, on the same sigmas: ComfyUI keeps all three between prompts."""
    watched = Watched(demo().model)
    guider = guidance.FaceCrafterGuider(watched.model, *conditioning(), EVERY_SECOND)
    sigmas = comfy.samplers.calculate_sigmas(demo().model.get_model_object("model_sampling"), "normal", 3)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    euler = comfy.samplers.sampler_object("euler")
    first, second = (guider.sample(noise, torch.zeros_like(noise), euler, sigmas, disable_pbar=True) for _ in range(2))
    assert _rows(watched) == [4, 1, 4] * 2 and torch.equal(first, second)
    applied = guidance.apply_to_model(watched.model, EVERY_SECOND)
    first, second = (plain(model, *conditioning(), latent(), steps=3) for model in (applied, applied.clone()))
    assert _rows(watched) == [4, 1, 4] * 2 and torch.equal(first, second)
    for model in (applied, guider.model_patcher):
        assert guidance.RUNS not in model.model_options["transformer_options"], "a run has left something behind"


def check_an_interrupted_run_leaves_nothing():
    watched = Watched(demo().model)
    applied = guidance.apply_to_model(watched.model, EVERY_SECOND)

    def stop(step, *others):
        raise InterruptedError

    sample = comfy.samplers.sampler_object("euler")
    sigmas, noise = torch.tensor([9.0, 3.0, 1.0, 0.0]), torch.ones(1, 4, 8, 8)
    guider = comfy.samplers.CFGGuider(applied)
    guider.set_conds(*conditioning())
    with suppress(InterruptedError):
        guider.sample(noise, noise * 0, sample, sigmas, callback=stop, disable_pbar=True)
    assert _rows(watched) == [4]
    guider.sample(noise, noise * 0, sample, sigmas, disable_pbar=True)
    assert _rows(watched) == [4, 1, 4]


def check_samplers_that_call_twice_a_step_and_image_to_image():
    start = {"samples": torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))}
    for plan, calls in (({"sampler": "heun"}, 5), ({"sampler": "dpmpp_sde"}, 5), ({"denoise": 0.4}, 3), ({"sampler": "heun", "denoise": 0.4}, 5), ({"sampler": "ddpm"}, 3)):
        watched = Watched(demo().model)
        out = crafted(watched.model, *conditioning(), start, EVERY_SECOND, steps=3, **plan)
        assert _rows(watched) == [4, 1, 4, 1, 4][:calls], plan
        assert torch.isfinite(out).all(), plan


def check_pictures_with_weights_of_their_own():
    weights = Guidance((2.5, 1.0), (2.0, 0.0), 2.0, refresh=2)
    watched = Watched(demo().model)
    conds, start = conditioning(2), latent(2)
    out = crafted(watched.model, *conds, start, weights, steps=3)
    assert _rows(watched) == [8, 2, 8]
    assert torch.allclose(plain(guidance.apply_to_model(demo().model, weights), *conds, start, steps=3), out, atol=1e-4)


def check_the_row_none_is_not_computed_between_for_hooks_that_want_it():
    watched = Watched(demo().model)
    crafted(watched.model, *conditioning(), latent(), Guidance(1.0, 2.0, 2.0, refresh=2), steps=4, sampler="euler_cfg_pp")
    assert _rows(watched) == [4, 1, 4, 1]


def check_hooks_on_cfg_see_the_guided_prediction_between():
    seen = []

    def hook(args):
        seen.append((args["cond_scale"], torch.equal(*args["conds_out"])))
        return args["conds_out"]

    model = demo().model.clone()
    model.set_model_sampler_pre_cfg_function(hook)
    crafted(model, *conditioning(), latent(), EVERY_SECOND, steps=3)
    assert seen == [(2.5, False), (1.0, True), (2.5, False)]


def check_latents_of_another_shape_have_a_difference_of_their_own():
    def whole_and_half(model, x, sigmas, extra_args, callback, disable):
        for sigma in sigmas[:3]:
            for part in (x, x[..., :4]):
                out = model(part, sigma * x.new_ones(len(x)), **extra_args)
                assert out.shape == part.shape
        return x

    watched = Watched(demo().model)
    guider = guidance.FaceCrafterGuider(watched.model, *conditioning(), EVERY_SECOND)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    guider.sample(noise, noise * 0, comfy.samplers.KSAMPLER(whole_and_half), torch.tensor([9.0, 3.0, 1.0, 0.0]), disable_pbar=True)
    assert _rows(watched) == [4, 4, 1, 1, 4, 4]


def check_conditionings_that_take_turns_have_a_difference_each():
    """As guiders of other packs do that evaluate several conditionings in one call."""
    class Both(comfy.samplers.CFGGuider):
        def predict_noise(self, x, timestep, model_options=None, seed=None):
            found = [
                comfy.samplers.sampling_function(self.inner_model, x, timestep, self.conds["negative"], self.conds[name], 2.0, model_options)
                for name in ("positive", "other")
            ]
            outs.append(found)
            return found[0]

    outs = []
    (positive, negative), (other, _) = conditioning(seed=0), conditioning(seed=1)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    plan = (noise, noise * 0, comfy.samplers.sampler_object("euler"), torch.tensor([9.0, 3.0, 0.0]))
    watched = Watched(demo().model)
    applied = guidance.apply_to_model(watched.model, EVERY_SECOND)
    guider = Both(applied)
    guider.inner_set_conds({"positive": positive, "negative": negative, "other": other})
    guider.sample(*plan, disable_pbar=True)
    assert _rows(watched) == [4, 4, 1, 1]
    alone = comfy.samplers.CFGGuider(applied)
    alone.set_conds(positive, negative)
    with_other, without = guider.sample(*plan, disable_pbar=True), alone.sample(*plan, disable_pbar=True)
    assert torch.equal(with_other, without), "the other conditioning reached this one"


def check_it_is_the_networks_own_output_whose_difference_is_kept():
    """Clean latents follow from it by the MODEL's own rule: for noise, differences grow with sigma."""
    model = ModelSamplingDiscrete().patch(demo().model, "eps", False)[0]
    calls = []

    class Probe(guidance.FaceCrafterGuider):
        def predict_noise(self, x, sigma, model_options=None, seed=None):
            conds = [self.conds["positive"], self.conds["negative"], ["id"]]
            identity = guidance.predict_rows(self.inner_model, *conds, x, sigma, model_options)["id"]
            guided = super().predict_noise(x, sigma, model_options, seed)
            calls.append((guided - identity) / sigma)
            return guided

    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    guider = Probe(model, *conditioning(), EVERY_SECOND)
    guider.sample(noise, noise * 0, comfy.samplers.sampler_object("euler"), torch.tensor([9.0, 3.0, 0.0]), disable_pbar=True)
    then, now = calls
    assert then.abs().max() > 1e-2 and torch.allclose(then, now, atol=1e-4)


def check_a_copy_of_a_runs_options_is_another_run():
    options = {}
    noise, positive = torch.ones(1, 4, 8, 8), [{}]
    here = guidance.guided_run(options, positive, noise, 2)
    assert guidance.guided_run(options, positive, noise, 2) is here
    assert guidance.guided_run(deepcopy(options), positive, noise, 2) is not here
    assert guidance.guided_run(options, [{}], noise, 2) is not here
