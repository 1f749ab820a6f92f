"""Sampling: rows, modes, intervals, projections, seeds, interrupts, previews, and the MODEL-level path."""

from collections import Counter
from unittest.mock import patch

import comfy.model_management
import comfy.sample
import comfy.utils
import torch
from facecrafter.facecrafter_core.control.branches import ControlBranch
from facecrafter.facecrafter_core.diffusion.guidance import Guidance
from facecrafter.nodes import sampling
from facecrafter.nodes.host import run
from facecrafter.nodes.host.guidance import apply_to_model
from world import Watched, conditioning, crafted, demo, latent, plain


def _rows(weights, **conds):
    watched = Watched(demo().model)
    crafted(watched.model, *conditioning(**conds), latent(), weights)
    return [p.rows for p in watched.passes]


def check_paper_mode_is_one_forward_of_four_rows_a_step():
    assert _rows(Guidance()) == [4, 4]  # none, id+lmk, id+emo and id, whose coefficient is -1.5


def check_joint_mode_takes_a_row_less():
    assert _rows(Guidance(mode="joint")) == [3, 3]


def check_a_branch_that_is_cut_off_needs_no_row():
    assert _rows(Guidance(), alpha_emotion=0.0) == [3, 3]


def check_intervals_leave_rows_out_of_steps():
    middle = sampling.guidance_of(demo().model, 2.5, 2.0, 2.0, "paper", sampling.Timing((0.0, 1.0), (0.0, 0.5), (0.5, 1.0), 1))
    watched = Watched(demo().model)
    crafted(watched.model, *conditioning(), latent(), middle, steps=4)
    assert [p.rows for p in watched.passes] == [3, 3, 3, 3]
    none = sampling.guidance_of(demo().model, 2.5, 2.0, 2.0, "paper", sampling.Timing((0.9, 1.0), (0.9, 1.0), (0.9, 1.0), 1))
    watched = Watched(demo().model)
    crafted(watched.model, *conditioning(), latent(), none, steps=4)
    assert watched.passes[0].rows == 1


def check_samplers_call_the_network_as_often_as_the_node_says():
    for name in run.SAMPLERS:
        watched = Watched(demo().model)
        crafted(watched.model, *conditioning(), latent(), Guidance(1.0, 0.0, 0.0), steps=3, sampler=name, scheduler="sgm_uniform")
        rule = run.CALLS.get(name, (1, 0))
        if rule is not None:
            assert len(watched.passes) == 3 * rule[0] + rule[1], (name, len(watched.passes))
        assert watched.passes[0].rows == (2 if "cfg_pp" in name else 1), (name, watched.passes[0].rows)


def check_tokens_are_projected_once_a_run():
    calls = Counter()
    project = ControlBranch.project

    def counted(self, tokens):
        calls[id(self)] += 1
        return project(self, tokens)

    conds = conditioning(2)
    with patch.object(ControlBranch, "project", counted):
        crafted(demo().model, *conds, latent(2), steps=4)
        assert sorted(calls.values()) == [1, 1]
        plain(apply_to_model(demo().model, Guidance()), *conds, latent(2), steps=4)
        assert sorted(calls.values()) == [2, 2]


def check_apply_under_the_plain_sampler_is_our_sampler():
    conds = conditioning(2)
    applied = plain(apply_to_model(demo().model, Guidance()), *conds, latent(2), cfg=7.0)
    assert torch.allclose(applied, crafted(demo().model, *conds, latent(2)), atol=1e-4)


def check_the_same_seed_gives_the_same_latents_and_another_does_not():
    conds = conditioning()
    first = crafted(demo().model, *conds, latent(), sampler="ddpm")
    assert torch.equal(first, crafted(demo().model, *conds, latent(), sampler="ddpm"))
    assert (first - crafted(demo().model, *conds, latent(), sampler="ddpm", seed=4)).abs().max() > 1e-2


def check_an_interrupt_stops_the_run_and_the_next_one_works():
    steps = []

    def interrupt(step, x0, x, total):
        steps.append(step)
        comfy.model_management.interrupt_current_processing()
        comfy.model_management.throw_exception_if_processing_interrupted()

    with patch.object(run.latent_preview, "prepare_callback", lambda model, steps: interrupt):
        try:
            crafted(demo().model, *conditioning(), latent(), steps=5)
        except comfy.model_management.InterruptProcessingException:
            pass
        else:
            raise AssertionError("the run went on")
    assert steps == [0]
    assert torch.isfinite(crafted(demo().model, *conditioning(), latent())).all()


def check_progress_is_reported_step_by_step():
    """To ComfyUI's progress bar, which later versions let through to the browser ten times a second at most."""
    seen = []
    with patch.object(comfy.utils.ProgressBar, "update_absolute", lambda bar, value, total=None, preview=None: seen.append((value, total))):
        crafted(demo().model, *conditioning(), latent(), steps=3)
    assert seen == [(1, 3), (2, 3), (3, 3)]


def check_previews_show_the_colours_of_the_latent():
    import latent_preview
    from comfy.cli_args import LatentPreviewMethod, args
    from facecrafter.nodes.loaders import demo_base
    from facecrafter.nodes.pictures import sample_photos, to_image

    model, _, vae = demo_base()
    photo = to_image(list(sample_photos().values())[:1], size=128)
    with patch.object(args, "preview_method", LatentPreviewMethod.Auto):
        previewer = latent_preview.get_previewer(torch.device("cpu"), model.model.latent_format)
    shown = previewer.decode_latent_to_preview(vae.encode(photo))
    small = torch.nn.functional.adaptive_avg_pool2d(photo.movedim(-1, 1), shown.size[::-1])[0].movedim(0, -1)
    difference = (torch.tensor(list(shown.getdata())).view(*small.shape) / 255 - small).abs().mean()
    assert difference < 0.12, f"{difference:.3f}"


def check_an_empty_latent_has_the_bases_size_and_a_picture_for_each_entry():
    made = run.empty_latent(demo().crafter.family, 3, same_noise=True)
    assert made["samples"].shape == (3, 4, 32, 32) and made["batch_index"] == [0, 0, 0]


def check_image_to_image_stays_near_the_start():
    start = {"samples": torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))}
    near, far = (crafted(demo().model, *conditioning(), start, steps=4, denoise=d) for d in (0.1, 1.0))
    assert (near - start["samples"]).abs().mean() < (far - start["samples"]).abs().mean()


def check_noise_on_the_way_is_not_the_initial_noise():
    """ComfyUI 0.3.64 seeds both alike on a CPU. Later versions add 1; the noise, and so the picture, is theirs."""
    model, conds = demo().model, conditioning(2)
    if model.load_device.type != "cpu":
        return
    for name in ("ddpm", "euler_ancestral", "lcm", "dpmpp_2s_ancestral", "sa_solver"):
        drawn, randn = [], torch.randn
        initial = comfy.sample.prepare_noise(latent(2)["samples"], 3)

        def noted(*args, drawn=drawn, randn=randn, **kwargs):
            drawn.append(randn(*args, **kwargs))
            return drawn[-1]

        with patch.object(torch, "randn", noted):
            crafted(model, *conds, latent(2), sampler=name, steps=4)
        shaped = [noise for noise in drawn if noise.shape == initial.shape]
        assert sum(torch.equal(noise, initial) for noise in shaped) == 1, name
        expected = torch.randn(initial.shape, generator=torch.Generator().manual_seed(4))
        assert torch.equal(shaped[1], expected), name


def check_every_seed_of_the_widget_works_with_every_sampler():
    for name in ("ddpm", "euler", "dpmpp_sde"):
        assert torch.isfinite(crafted(demo().model, *conditioning(), latent(), sampler=name, seed=2**64 - 1)).all()


def check_samplers_that_add_noise_give_each_picture_its_own():
    found = crafted(demo().model, *conditioning(1), {**latent(2), "batch_index": [0, 0]}, sampler="ddpm", steps=3)
    assert (found[0] - found[1]).abs().max() > 1e-3
    serving = crafted(demo().model, *conditioning(2), latent(1), sampler="ddpm", steps=3)
    assert torch.allclose(serving, crafted(demo().model, *conditioning(2), latent(2), sampler="ddpm", steps=3), atol=1e-4)
