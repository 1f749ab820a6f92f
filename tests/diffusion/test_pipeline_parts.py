"""The pipeline's parts: loaded, saved, exchanged, and refused where they do not go together."""

import copy
import shutil
from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from diffusers.pipelines import pipeline_utils
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from facecrafter_core.diffusion.channels_last import ChannelsLastGroupNorm, to_channels_last
from facecrafter_core.diffusion.families import DEMO, DEMO_FOLDER, new_scheduler
from facecrafter_core.diffusion.pipeline import FaceCrafterPipeline
from facecrafter_core.diffusion.processors import install_branches
from facecrafter_core.diffusion.rows import SharedTimeBlock, forward_rows, project_time, share_time
from facecrafter_core.errors import ModelError
from facecrafter_core.faces.emotion import Emotion

HAPPY = Emotion.preset("happy")


def latents(pipe, *args, **kwargs) -> torch.Tensor:
    return pipe(*args, **{"steps": 2, "output_type": "latent", **kwargs})


@pytest.mark.parametrize("scheduler", [DDIMScheduler, EulerDiscreteScheduler, UniPCMultistepScheduler])
def test_other_diffusers_schedulers_work(pipe, identity, scheduler):
    other = copy.copy(pipe)
    config = {k: v for k, v in new_scheduler(DEMO).config.items() if not k.startswith("_")}
    other.scheduler = scheduler.from_config(config)
    assert torch.isfinite(latents(other, identity, steps=3)).all()


def test_two_pipelines_do_not_share_what_the_types_of_one_would_change(pipe):
    adapter = copy.deepcopy(pipe.adapter)
    coarse = FaceCrafterPipeline(copy.deepcopy(pipe.unet).to(torch.bfloat16), pipe.vae, pipe.text_encoder, pipe.scheduler, adapter)
    assert {p.dtype for p in coarse.adapter.parameters()} == {torch.bfloat16} and {p.dtype for p in adapter.parameters()} == {torch.float32}


def test_a_second_pipeline_of_the_components_of_a_first_has_its_adapter(pipe, identity, landmarks):
    second = FaceCrafterPipeline(**pipe.components)
    second.set_progress_bar_config(disable=True)
    assert second.unet is pipe.unet and second.adapter is not pipe.adapter
    assert torch.equal(latents(second, identity, landmarks, HAPPY), latents(pipe, identity, landmarks, HAPPY))
    assert FaceCrafterPipeline(**{**pipe.components, "adapter": None}).adapter is None


def test_from_pipe_takes_the_parts_of_another_pipeline_and_its_adapter(pipe, identity, landmarks):
    second = FaceCrafterPipeline.from_pipe(pipe)
    second.set_progress_bar_config(disable=True)
    assert second.unet is pipe.unet
    assert torch.equal(latents(second, identity, landmarks, HAPPY), latents(pipe, identity, landmarks, HAPPY))
    parts = {n: getattr(pipe, n) for n in ("unet", "vae", "text_encoder", "scheduler")}
    plain = StableDiffusionPipeline(**parts, tokenizer=None, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    assert FaceCrafterPipeline.from_pipe(plain).adapter is None
    assert FaceCrafterPipeline.from_pipe(plain, adapter=pipe.adapter).adapter is not None


def test_a_pipeline_of_which_each_part_is_offloaded_gives_the_same_pictures(pipe, identity, landmarks):
    """As enable_sequential_cpu_offload() does it for a GPU; "cpu:0", which it would make of a CPU, is more than accelerate can."""
    expected, pipe = latents(pipe, identity, landmarks, HAPPY), copy.deepcopy(pipe)
    for part in (pipe.text_encoder, pipe.unet, pipe.vae):
        cpu_offload(part, torch.device("cpu"))
    pipe.set_adapter(pipe.adapter)
    assert pipe.unet.device.type == "meta"
    for _ in range(2):
        torch.testing.assert_close(latents(pipe, identity, landmarks, HAPPY), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("offload", ["enable_model_cpu_offload", "enable_group_offload"])
def test_offloading_leaves_the_adapter_without_hooks(pipe, identity, landmarks, offload):
    """Its forward is never called, so a hook would leave it where it is."""
    if not hasattr(DiffusionPipeline, offload):
        pytest.skip(f"this diffusers has no {offload}")
    expected, pipe = latents(pipe, identity, landmarks, HAPPY), copy.deepcopy(pipe)
    options = {"device": "cpu"} if "model" in offload else {"onload_device": torch.device("cpu"), "offload_type": "leaf_level"}
    getattr(pipe, offload)(**options)
    for _ in range(2):
        torch.testing.assert_close(latents(pipe, identity, landmarks, HAPPY), expected, atol=1e-4, rtol=1e-3)
        assert not [m for m in pipe.adapter.modules() if hasattr(m, "_hf_hook") or hasattr(m, "_diffusers_hook")]
        assert any(hasattr(m, "_hf_hook") or hasattr(m, "_diffusers_hook") for m in pipe.unet.modules())


def test_parts_of_another_family_are_refused(pipe):
    parts = {n: getattr(pipe, n) for n in ("unet", "vae", "text_encoder", "scheduler")}
    small = {"block_out_channels": (32, 32, 32, 32), "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    inpainting = UNet2DConditionModel(**{**DEMO.unet, "in_channels": 9})
    other_text = CLIPTextModel(CLIPTextConfig(hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2))
    for change, sentence in (
        ({"vae": AutoencoderKL(**small, latent_channels=16)}, "AutoencoderKL, 16 channels, 1/8 of the side"),
        ({"vae": AutoencoderKL(**small)}, "expected the demo's"),
        ({"unet": inpainting}, "latents of 4 channels, found 9"),
        ({"text_encoder": other_text}, "64 wide, the UNet reads 128"),
    ):
        with pytest.raises(ModelError, match=sentence):
            FaceCrafterPipeline(**{**parts, **change})


def test_a_scheduler_of_flows_is_refused(pipe, identity):
    other = copy.copy(pipe)
    other.scheduler = FlowMatchEulerDiscreteScheduler()
    with pytest.raises(ModelError, match="found FlowMatchEulerDiscreteScheduler"):
        latents(other, identity)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int8, "bf16"])
def test_a_type_that_weights_cannot_be_loaded_in_is_refused(dtype):
    with pytest.raises(ModelError, match="Expected dtype torch.float32"):
        FaceCrafterPipeline.from_pretrained(dtype=dtype)


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_save_and_load_with_the_adapter(pipe, identity, landmarks, tmp_path, variant):
    pipe.save_pretrained(tmp_path, variant=variant)
    loaded = FaceCrafterPipeline.from_pretrained(tmp_path, variant=variant)
    loaded.set_progress_bar_config(disable=True)
    torch.testing.assert_close(latents(loaded, identity, landmarks), latents(pipe, identity, landmarks), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("change", [{"dtype": torch.bfloat16}, {"torch_dtype": torch.bfloat16}, {"device_map": "cpu", "dtype": torch.bfloat16}])
def test_all_parts_are_loaded_in_one_type(pipe, identity, landmarks, tmp_path, change):
    if "device_map" in change and "cpu" not in getattr(pipeline_utils, "SUPPORTED_DEVICE_MAP", ()):
        pytest.skip("this diffusers knows no device map for a CPU")
    pipe.save_pretrained(tmp_path)
    loaded = FaceCrafterPipeline.from_pretrained(tmp_path, **change)
    loaded.set_progress_bar_config(disable=True)
    parts = (loaded.unet, loaded.vae, loaded.text_encoder, loaded.adapter)
    assert {p.dtype for part in parts for p in part.parameters()} == {torch.bfloat16}
    assert torch.isfinite(latents(loaded, identity, landmarks, HAPPY, steps=1)).all()  # not decoded: some CPUs take minutes for it in bf16


def test_attention_that_would_leave_the_control_out_is_refused(pipe, identity, landmarks):
    pipe = copy.deepcopy(pipe)
    pipe.enable_attention_slicing()
    with pytest.raises(ModelError, match="found SlicedAttnProcessor"):
        latents(pipe, identity, landmarks)
    install_branches(pipe.unet)
    latents(pipe, identity, landmarks)


def test_a_text_encoder_of_another_width_beside_an_adapter_is_refused(tmp_path: Path):
    shutil.copy(DEMO_FOLDER / "adapter.safetensors", tmp_path)
    CLIPTextModel(CLIPTextConfig(hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(tmp_path / "text_encoder")
    with pytest.raises(ModelError, match="is 64 wide, the UNet reads 128"):
        FaceCrafterPipeline.from_pretrained(DEMO_FOLDER, tmp_path / "adapter.safetensors")


def test_an_adapter_of_another_family_is_refused(pipe):
    from facecrafter_core.control.adapter import FaceCrafterAdapter
    from facecrafter_core.control.config import FULL as FULL_CONTROL

    with pytest.raises(ModelError, match="adapter is for a UNet of the full family"):
        pipe.set_adapter(FaceCrafterAdapter(FULL_CONTROL, landmark=False))


def test_a_folder_that_is_no_base_is_refused(tmp_path):
    with pytest.raises(ModelError, match="expected folders unet, vae, text_encoder, scheduler"):
        FaceCrafterPipeline.from_pretrained(tmp_path)


@pytest.mark.parametrize("shape", [(2, 64, 8, 6), (2, 64, 48)], ids=["picture", "tokens"])
def test_a_compiled_group_norm_in_channels_last_is_torchs(shape: tuple[int, ...]):
    torch.manual_seed(0)
    network = nn.Sequential(nn.GroupNorm(8, 64), nn.GroupNorm(8, 64, affine=False))
    nn.init.normal_(network[0].weight)
    nn.init.normal_(network[0].bias)
    values = 3 * torch.randn(shape) + 20
    if len(shape) == 4:
        values = values.to(memory_format=torch.channels_last)
    expected = network(values)
    to_channels_last(network)
    assert isinstance(network[0], ChannelsLastGroupNorm) and type(network[1]) is nn.GroupNorm
    assert torch.equal(network(values), expected), "not compiled, it is torch's own"
    found = torch.compile(network[0], backend="eager", fullgraph=True)(values)
    torch.testing.assert_close(network[1](found), expected, atol=1e-5, rtol=1e-4)
    if len(shape) == 4:
        assert found.is_contiguous(memory_format=torch.channels_last)


def test_what_blocks_add_for_the_time_is_made_once_with_the_same_numbers(pipe, identity):
    unet, timesteps = copy.deepcopy(pipe.unet), torch.tensor([10, 700])
    x, context = torch.randn(1, 4, 32, 32), pipe.encode_context(identity[None])["id"]
    with torch.inference_mode():
        embedding = project_time(unet, timesteps)
        expected = [unet(x, t, context, return_dict=False)[0] for t in timesteps]
        share_time(unet)
        share_time(unet)  # a second compile() changes nothing
        together = project_time(unet, timesteps)
        assert together.shape == (2, sum(b.out_channels for b in unet.modules() if isinstance(b, SharedTimeBlock)))
        assert not torch.equal(together[0], together[1])
        for i, timestep in enumerate(timesteps):
            torch.testing.assert_close(unet(x, timestep, context, return_dict=False)[0], expected[i], msg="called as a whole")
            for time in (embedding, together):
                torch.testing.assert_close(forward_rows(unet, x, time[i : i + 1], context, {}), expected[i], atol=1e-5, rtol=1e-4)
    assert list(unet.state_dict()) == list(pipe.unet.state_dict())
