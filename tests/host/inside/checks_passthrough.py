"""What other nodes put on a MODEL, a CONDITIONING or a LATENT goes through: LoRA, ControlNet, clones, batches, masks, other packs' patches."""

import torch
from comfy.controlnet import ControlBase
from comfy_extras import nodes_pag
from facecrafter.facecrafter_core.diffusion.guidance import Guidance
from facecrafter.nodes.host import adapter, attention, base, guidance
from world import Watched, conditioning, crafted, demo, latent, no_memory_for_batches, plain, portrait_conditioning

LAYER = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_q.weight"


def _lora(strength):
    """The demo's MODEL with a change of one weight, as a LoRA node makes it."""
    model = demo().model.clone()
    weight = model.model.state_dict()[LAYER]
    change = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    assert model.add_patches({LAYER: ("diff", (change,))}, strength)
    return model


def check_a_lora_changes_the_result_and_strength_0_does_not():
    conds, base = conditioning(), crafted(demo().model, *conditioning(), latent())
    assert torch.equal(crafted(_lora(0.0), *conds, latent()), base)
    assert (crafted(_lora(0.5), *conds, latent()) - base).abs().max() > 1e-3
    assert torch.equal(crafted(demo().model, *conds, latent()), base), "the LoRA stayed in the MODEL"


class Residual(ControlBase):
    """A ControlNet in ComfyUI's terms that adds a constant in the middle block."""

    def __init__(self, strength):
        super().__init__()
        self.strength, self.calls = strength, []

    def get_control(self, x, t, cond, batched_number, transformer_options):
        self.calls.append(len(x))
        middle = torch.full((len(x), 64, 1, 1), self.strength)
        return {"input": [], "middle": [middle], "output": []}


def check_a_controlnet_reaches_all_rows():
    base, (positive, negative) = crafted(demo().model, *conditioning(), latent()), conditioning()
    for strength in (0.0, 0.3):
        residual = Residual(strength)
        controlled = [
            [[c, {**o, "control": residual, "control_apply_to_uncond": True}] for c, o in cond]
            for cond in (positive, negative)
        ]
        out = crafted(demo().model, *controlled, latent())
        assert set(residual.calls) == {4}, "a row has no residual"
        assert torch.allclose(out, base, atol=1e-5) == (strength == 0.0)


def check_a_mask_keeps_what_lies_outside():
    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 4:] = 1
    out = crafted(demo().model, *conditioning(), {"samples": start, "noise_mask": mask}, denoise=0.6)
    assert torch.allclose(out[..., :4], start[..., :4], atol=1e-5)
    assert (out[..., 4:] - start[..., 4:]).abs().max() > 1e-2


def check_a_batch_gives_each_picture_its_own_conditions():
    positive, negative = conditioning(2)
    start = {**latent(2), "batch_index": [0, 0]}
    both = crafted(demo().model, positive, negative, start)
    assert (both[0] - both[1]).abs().max() > 1e-3
    first = [[positive[0][0][:1], {**positive[0][1], "model_conds": {"facecrafter": _first_only(positive)}}]]
    assert torch.allclose(crafted(demo().model, first, negative, latent()), both[:1], atol=1e-4)


def _first_only(positive):
    from dataclasses import replace

    carried = positive[0][1]["model_conds"]["facecrafter"]
    controls = carried.cond
    tokens = {n: getattr(controls, n)[:1] for n in ("landmark_tokens", "emotion_tokens")}
    return type(carried)(replace(controls, **tokens))


def check_conditions_of_one_entry_serve_a_whole_batch():
    out = crafted(demo().model, *conditioning(), {**latent(3), "batch_index": [0, 0, 0]})
    assert torch.allclose(out[0], out[1], atol=1e-4) and torch.allclose(out[0], out[2], atol=1e-4)


def check_masked_conditionings_can_be_joined():
    (a, negative), (b, _) = conditioning(seed=1), conditioning(seed=2)
    left = torch.zeros(1, 64, 64)
    left[..., :32] = 1
    joined = [
        [a[0][0], {**a[0][1], "mask": left, "mask_strength": 1.0}],
        [b[0][0], {**b[0][1], "mask": 1 - left, "mask_strength": 1.0}],
    ]
    out, only = crafted(demo().model, joined, negative, latent()), crafted(demo().model, a, negative, latent())
    assert torch.isfinite(out).all() and (out - only).abs().max() > 1e-3


def check_clones_share_the_adapter_and_our_patches_hold_no_weights():
    model = attention.install(demo().model)
    copy = model.clone().clone()
    ours = copy.model_options["transformer_options"]["patches_replace"]["attn2"]
    assert len(ours) == 16 and all(isinstance(p, attention.BranchPatch) for p in ours.values())
    positive, negative = conditioning()
    assert positive[0][1]["additional_models"] == [demo().adapter]
    assert torch.equal(crafted(copy, positive, negative, latent()), crafted(demo().model, positive, negative, latent()))


def check_a_patch_that_was_there_still_acts():
    calls = []

    class Foreign:
        def __init__(self):
            self.weights = torch.zeros(3)

        def __call__(self, q, k, v, extra_options):
            calls.append(tuple(extra_options["block"]))
            from comfy.ldm.modules.attention import optimized_attention

            return optimized_attention(q, k, v, extra_options["n_heads"], transformer_options=extra_options)

    model = demo().model.clone()
    model.set_model_attn2_replace(Foreign(), "input", 1)
    model.set_model_attn2_replace(Foreign(), "middle", 0, 0)
    out = crafted(model, *conditioning(), latent())
    assert set(calls) == {("input", 1), ("middle", 0)}
    assert torch.equal(out, crafted(demo().model, *conditioning(), latent()))


def check_packs_may_add_to_our_patch_and_only_their_clone_changes():
    """As IPAdapter_plus does with the patch that it finds in its place."""
    model = attention.install(demo().model)
    clone = model.clone()
    seen = []

    def callback(out, q, k, v, extra_options, **kwargs):
        seen.append((extra_options["cond_or_uncond"], kwargs["weight"]))
        return torch.full_like(out, 0.2)

    patch = clone.model_options["transformer_options"]["patches_replace"]["attn2"][("input", 1)]
    patch.add(callback, weight=0.5, sigma_start=999.0, sigma_end=0.0)
    base = crafted(model, *conditioning(), latent())
    assert not seen
    assert (crafted(clone, *conditioning(), latent()) - base).abs().max() > 1e-4
    assert seen[0][1] == 0.5 and set(seen[0][0]) == {0, 1}, "another pack saw row numbers that it does not know"


def check_a_lost_patch_is_reported():
    model = guidance.apply_to_model(demo().model, Guidance())
    model.set_model_attn2_replace(lambda q, k, v, extra_options: q, "output", 5)
    try:
        plain(model, *conditioning(), latent())
    except ValueError as error:
        assert "another node replaced them" in str(error), error
    else:
        raise AssertionError("control was lost without a word")


def check_little_memory_splits_the_rows_and_changes_nothing():
    watched = Watched(demo().model)
    base = crafted(demo().model, *conditioning(), latent())
    with no_memory_for_batches():
        split = crafted(watched.model, *conditioning(), latent())
    assert {p.rows for p in watched.passes} == {1}
    assert torch.allclose(split, base, atol=1e-4)


def check_running_out_of_memory_splits_the_rows_and_changes_nothing():
    model, passes = demo().model.clone(), []

    def limited(executor, x, *args, **kwargs):
        if len(x) > 1:
            raise torch.cuda.OutOfMemoryError("no room")
        passes.append(len(x))
        return executor(x, *args, **kwargs)

    model.add_wrapper_with_key("diffusion_model", "limit", limited)
    base = crafted(demo().model, *conditioning(), latent())
    assert torch.allclose(crafted(model, *conditioning(), latent()), base, atol=1e-4)
    assert passes == [1] * 4 * 2, "four rows in each of two steps"
    passes.clear()
    base = crafted(demo().model, *conditioning(2), latent(4))  # two conditions for four pictures: 0, 1, 0, 1
    assert torch.allclose(crafted(model, *conditioning(2), latent(4)), base, atol=2e-3)  # one noise of these makes much of rounding
    assert passes == [1] * 4 * 2 * 4


def check_tiled_decoding():
    from nodes import VAEDecodeTiled

    latents = crafted(demo().model, *portrait_conditioning(), latent(size=32))
    whole = demo().vae.decode(latents)
    [tiled] = VAEDecodeTiled().decode(demo().vae, {"samples": latents}, tile_size=128, overlap=32)
    assert tiled.shape == whole.shape == (1, 256, 256, 3)
    assert (tiled - whole).abs().mean() < 0.03


def check_attention_guidance_of_another_node_acts():
    perturbed = nodes_pag.PerturbedAttentionGuidance
    patch = getattr(perturbed, "execute", None) or perturbed().patch
    out = patch(demo().model, 3.0)
    model = out[0] if isinstance(out, tuple) else out.args[0]
    assert (
        crafted(model, *conditioning(), latent()) - crafted(demo().model, *conditioning(), latent())
    ).abs().max() > 1e-4


def check_cfg_plus_plus_samplers_get_an_unconditional():
    assert torch.isfinite(crafted(demo().model, *conditioning(), latent(), sampler="euler_cfg_pp")).all()
    one = Guidance(identity=1.0, landmark=0.0, emotion=0.0)
    watched = Watched(demo().model)
    crafted(watched.model, *conditioning(), latent(), one, sampler="euler_cfg_pp")
    assert {p.rows for p in watched.passes} == {2}


def check_a_model_in_half_precision_takes_the_branches_in_its_type():
    half = base.load_model(adapter.DEMO_FOLDER, torch.bfloat16)
    on, off = (crafted(half, *portrait_conditioning(a), latent(size=32)) for a in (1.0, 0.0))
    full = crafted(demo().model, *portrait_conditioning(), latent(size=32))
    assert (on - full).abs().mean() < 0.01 * full.std()
    assert (on - off).abs().max() > 1e-3


def check_a_model_in_fp8_takes_the_branches():
    model = base.load_model(adapter.DEMO_FOLDER, torch.float8_e4m3fn)
    assert model.model.get_dtype() == torch.float8_e4m3fn and model.model.manual_cast_dtype is not None
    on, off = (crafted(model, *portrait_conditioning(a), latent(size=32)) for a in (1.0, 0.0))
    full = crafted(demo().model, *portrait_conditioning(), latent(size=32))
    assert (on - full).abs().mean() < 0.1 * full.std()
    assert (on - off).abs().max() > 1e-3


def check_a_compiled_model_computes_the_same():
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    compiled = guidance.apply_to_model(demo().model, Guidance())
    expected = plain(compiled, *conditioning(), latent())
    set_torch_compile_wrapper(compiled, backend="eager")
    assert torch.allclose(plain(compiled, *conditioning(), latent()), expected, atol=1e-4)
