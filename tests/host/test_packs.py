"""FaceCrafter beside the packs that people use with it, each as its owner ships it, in one ComfyUI server.

FACECRAFTER_PACKS names a folder with checkouts of ComfyUI_IPAdapter_plus, ComfyUI-Advanced-ControlNet, ComfyUI-Impact-Pack and
ComfyUI-KJNodes; what they need to be imported must be importable (PYTHONPATH). Without it these tests are skipped, loudly. Weights that the
packs would download are random ones here, in the demo's widths: what counts is that each pack's part and ours both reach the picture.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hosts import ROOT, Host
from server import Server

PACKS = ("ComfyUI_IPAdapter_plus", "ComfyUI-Advanced-ControlNet", "ComfyUI-Impact-Pack", "ComfyUI-KJNodes")
INSIDE = Path(__file__).parent / "inside"
WIDTHS = (64, 64, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 64, 64, 64, 64)
"""Of the demo's cross-attention layers, in the order of IPAdapter's weights: down, up, middle."""


def packs() -> list[Path]:
    folder = os.environ.get("FACECRAFTER_PACKS")
    reason = "set FACECRAFTER_PACKS to a folder with checkouts of " + ", ".join(PACKS)
    if folder and (lacking := [name for name in PACKS if not (Path(folder) / name / "__init__.py").is_file()]):
        reason, folder = f"FACECRAFTER_PACKS lacks {', '.join(lacking)}", None
    if not folder:
        pytest.skip(f"tests beside other packs: {reason}")
    return [Path(folder) / name for name in PACKS]


@pytest.fixture(scope="module")
def together(host: Host, tmp_path_factory: pytest.TempPathFactory):
    """A server with all packs and ours, with small random weights for theirs."""
    folder = tmp_path_factory.mktemp(f"packs-{host.version}")
    others = packs()
    _random_weights(host, folder)
    with Server(host, folder, others=others) as running:
        yield running


def _random_weights(host: Host, folder: Path) -> None:
    import torch
    from PIL import Image
    from safetensors.torch import save_file

    models = folder / "models"
    for name in ("ipadapter", "controlnet", "loras"):
        (models / name).mkdir(parents=True)
    (folder / "input").mkdir()
    torch.manual_seed(0)
    image_proj = {"proj.weight": torch.randn(4 * 128, 32), "proj.bias": torch.zeros(512), "norm.weight": torch.ones(128), "norm.bias": torch.zeros(128)}
    layers = {f"{2 * i + 1}.to_{n}_ip.weight": torch.randn(w, 128) * 0.1 for i, w in enumerate(WIDTHS) for n in "kv"}
    save_file(
        {**{f"image_proj.{k}": w for k, w in image_proj.items()}, **{f"ip_adapter.{k}": w for k, w in layers.items()}},
        models / "ipadapter" / "random.safetensors",
    )
    for name, embedding in (("positive", torch.randn(1, 32)), ("negative", torch.zeros(1, 32))):
        torch.save(embedding, folder / "input" / f"{name}.ipadpt")
    layer = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_out_0"
    lora = {"lora_up.weight": torch.randn(128, 4), "lora_down.weight": torch.randn(4, 128) * 0.1, "alpha": torch.tensor(4.0)}
    save_file({f"{layer}.{k}": w for k, w in lora.items()}, models / "loras" / "random.safetensors")
    subprocess.run(
        [host.python, str(INSIDE / "random_controlnet.py"), str(models / "controlnet" / "random.safetensors")],
        env=host.environment(), cwd=INSIDE, check=True, capture_output=True,
    )  # fmt: skip
    samples = [Image.open(ROOT / "demo" / "samples" / f"portrait_{i}.jpg").resize((256, 256)) for i in (1, 4)]
    samples[0].save(folder / "input" / "one.png")
    both = Image.new("RGB", (512, 256))
    for i, picture in enumerate(samples):
        both.paste(picture, (256 * i, 0))
    both.save(folder / "input" / "two.png")


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def graph(sampler: str = "ours", alpha: float = 1.0, weight: float = 2.5, **replaced: Any) -> dict[str, Any]:
    """A portrait in two steps. `replaced` are other nodes, or other links for the inputs `model`, `positive`, `negative`, `image`.

    Args:
        sampler: "ours"; "apply": the plain KSampler with Apply FaceCrafter; "plain": the plain KSampler alone.
        alpha: of both branches.
        weight: of the identity: w_ID, or the plain KSampler's cfg.
    """
    links = {"model": ["load", 1], "positive": ["conditions", 0], "negative": ["conditions", 1], "image": ["picture", 0]}
    links |= {k: replaced.pop(k) for k in list(replaced) if k in links}
    plan = {"seed": 5, "steps": 2, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    weights = {"identity_weight": weight, "landmark_weight": 2.0, "emotion_weight": 2.0, "mode": "paper"}
    conds = {"positive": links["positive"], "negative": links["negative"]}
    run = {
        "ours": node("FaceCrafterSampler", model=links["model"], **conds, **plan, **weights, same_noise=False),
        "apply": node("KSampler", model=["apply", 0], latent_image=["latent", 0], cfg=7.0, **conds, **plan),
        "plain": node("KSampler", model=links["model"], latent_image=["latent", 0], cfg=weight, **conds, **plan),
    }[sampler]
    portrait = {
        "load": node("FaceCrafterLoader", adapter="demo (comes with FaceCrafter)"),
        "photo": node("FaceCrafterSamplePortrait", portrait="portrait_1.jpg"),
        "other": node("FaceCrafterSamplePortrait", portrait="portrait_4.jpg"),
        "identity": node("FaceCrafterEncodeIdentity", facecrafter=["load", 0], photo=["photo", 0], face="largest", face_number=0),
        "landmarks": node("FaceCrafterExtractLandmarks", photo=["other", 0], face="largest", face_number=0, drawing_size=256),
        "emotion": node("FaceCrafterEmotionFromImage", photo=["other", 0], face="largest", face_number=0),
        "conditions": node(
            "FaceCrafterConditioning", facecrafter=["load", 0], identity=["identity", 0], landmarks=["landmarks", 0],
            emotion=["emotion", 0], alpha_landmarks=alpha, alpha_emotion=alpha,
        ),
        "apply": node("FaceCrafterApply", model=links["model"], **weights),
        "latent": node("EmptyLatentImage", width=256, height=256, batch_size=1),
        "sample": run,
        "picture": node("VAEDecode", samples=["sample", 0], vae=["load", 3]),
        "save": node("SaveImage", images=links["image"], filename_prefix="packs"),
    }  # fmt: skip
    return {**portrait, **replaced}


def picture(server: Server, **arguments: Any) -> np.ndarray:
    """What a graph saves."""
    from uuid import uuid4

    prompt = graph(**arguments)
    prompt["save"]["inputs"]["filename_prefix"] = uuid4().hex  # an unchanged graph would save nothing
    return np.asarray(server.images(server.run(prompt))[0]).astype(float)


def ipadapter(weight: float, model: list[Any]) -> dict[str, Any]:
    """The nodes of IPAdapter_plus with random weights, behind `model`; the result is ["ip", 0]."""
    options = {"weight_type": "linear", "start_at": 0.0, "end_at": 1.0, "embeds_scaling": "V only"}
    return {
        "ip_model": node("IPAdapterModelLoader", ipadapter_file="random.safetensors"),
        "ip_positive": node("IPAdapterLoadEmbeds", embeds="positive.ipadpt"),
        "ip_negative": node("IPAdapterLoadEmbeds", embeds="negative.ipadpt"),
        "ip": node("IPAdapterEmbeds", model=model, ipadapter=["ip_model", 0], pos_embed=["ip_positive", 0], neg_embed=["ip_negative", 0], weight=weight, **options),
    }  # fmt: skip


def controlnet(strength: float, loader: str, apply: str) -> dict[str, Any]:
    return {
        "net": node(loader, **{"control_net_name" if loader == "ControlNetLoader" else "cnet": "random.safetensors"}),
        "controlled": node(
            apply, positive=["conditions", 0], negative=["conditions", 1], control_net=["net", 0], image=["landmarks", 1],
            strength=strength, start_percent=0.0, end_percent=1.0,
        ),
        "positive": ["controlled", 0],
        "negative": ["controlled", 1],
    }  # fmt: skip


def lora(strength: float) -> dict[str, Any]:
    return {
        "lora": node("LoraLoaderModelOnly", model=["load", 1], lora_name="random.safetensors", strength_model=strength),
        "model": ["lora", 0],
    }


def detailer(model: list[Any], cfg: float, source: str = "two.png", denoise: float = 0.6) -> dict[str, Any]:
    """Impact's detailer, which paints each face of a picture anew with `model`."""
    flags = {"guide_size": 256, "guide_size_for": False, "max_size": 512, "feather": 5, "noise_mask": True, "force_inpaint": True}
    plan = {"seed": 5, "steps": 4, "cfg": cfg, "sampler_name": "euler", "scheduler": "normal", "denoise": denoise}
    return {
        "whole": node("LoadImage", image=source),
        "masks": node("FaceCrafterFaceMasks", photo=["whole", 0], face_number=0, smallest=32, shape="oval", grow=0.05, feather=0.0),
        "segs": node("MaskToSEGS", mask=["masks", 2], combined=False, crop_factor=1.5, bbox_fill=False, drop_size=10, contour_fill=False),
        "detail": node(
            "DetailerForEach", image=["whole", 0], segs=["segs", 0], model=model, clip=["load", 2], vae=["load", 3],
            positive=["conditions", 0], negative=["conditions", 1], wildcard="", cycle=1, **flags, **plan,
        ),
        "image": ["detail", 0],
    }  # fmt: skip


def has(server: Server, *kinds: str) -> None:
    """Skips where the pack itself does not offer a node in this ComfyUI."""
    if lacking := [kind for kind in kinds if kind not in server.get("/object_info")]:
        pytest.skip(f"tests beside other packs: in ComfyUI {server.host.version} the pack does not offer {', '.join(lacking)}")


def differ(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).mean())


def test_every_node_of_theirs_is_what_it_was_without_us(together: Server, tmp_path: Path) -> None:
    with Server(together.host, tmp_path, pack=False, others=packs()) as alone:
        theirs = alone.get("/object_info")
    ours = together.get("/object_info")
    assert sorted(set(theirs) - set(ours)) == []
    assert {name for name in set(ours) - set(theirs) if not name.startswith("FaceCrafter")} == set()
    changed = [n for n in theirs if theirs[n]["output"] != ours[n]["output"] or theirs[n]["input"].keys() != ours[n]["input"].keys()]
    assert changed == []


def test_ipadapter_and_our_branches_add_up_in_either_order(together: Server) -> None:
    has(together, "IPAdapterEmbeds")
    ours = picture(together)
    both = picture(together, **ipadapter(0.7, ["load", 1]), model=["ip", 0])
    ours_first = graph("apply", **ipadapter(0.7, ["apply", 0]))
    ours_first["sample"]["inputs"]["model"] = ["ip", 0]
    ours_last = graph("apply", **ipadapter(0.7, ["load", 1]), model=["ip", 0])
    a, b = (np.asarray(together.images(together.run(p))[0]).astype(float) for p in (ours_first, ours_last))
    assert differ(both, ours) > 1, "IPAdapter had no effect"
    assert np.abs(a - b).max() <= 1
    assert differ(both, picture(together, alpha=0.0, **ipadapter(0.7, ["load", 1]), model=["ip", 0])) > 0.3, "our branches had no effect"


def test_ipadapter_at_weight_0_is_as_without_it(together: Server) -> None:
    """To rounding: it computes the layer's own attention itself, by another method than the demo's on a CPU."""
    has(together, "IPAdapterEmbeds")
    off = picture(together, **ipadapter(0.0, ["load", 1]), model=["ip", 0])
    assert np.abs(off - picture(together)).max() <= 1


def test_with_our_alphas_0_ipadapter_is_as_without_us(together: Server) -> None:
    has(together, "IPAdapterEmbeds")
    theirs = {**ipadapter(0.7, ["load", 1]), "model": ["ip", 0]}
    plain = picture(together, sampler="plain", alpha=0.0, **theirs)
    assert np.array_equal(picture(together, sampler="apply", alpha=0.0, **theirs), plain)
    assert np.array_equal(picture(together, sampler="ours", alpha=0.0, **theirs), plain)


CONTROLNETS = {
    "comfyui": ("ControlNetLoader", "ControlNetApplyAdvanced"),
    "advanced": ("ACN_ControlNetLoaderAdvanced", "ACN_AdvancedControlNetApply_v2"),
}


@pytest.mark.parametrize("kind", CONTROLNETS)
def test_controlnet_and_our_branches_both_act(together: Server, kind: str) -> None:
    has(together, *CONTROLNETS[kind])
    both = picture(together, **controlnet(0.5, *CONTROLNETS[kind]))
    assert differ(both, picture(together)) > 1, "ControlNet had no effect"
    assert differ(both, picture(together, alpha=0.0, **controlnet(0.5, *CONTROLNETS[kind]))) > 0.3, "our branches had no effect"
    assert np.array_equal(picture(together, **controlnet(0.0, *CONTROLNETS[kind])), picture(together))
    plain, applied = (picture(together, sampler=s, alpha=0.0, **controlnet(0.5, *CONTROLNETS[kind])) for s in ("plain", "apply"))
    assert np.array_equal(plain, applied)


def test_advanced_controlnet_does_what_comfyuis_own_does(together: Server) -> None:
    has(together, *CONTROLNETS["advanced"])
    own, advanced = (picture(together, **controlnet(0.5, *kinds)) for kinds in CONTROLNETS.values())
    assert np.abs(own - advanced).max() <= 1


def test_a_lora_file_and_our_branches_both_act(together: Server) -> None:
    both = picture(together, **lora(1.0))
    assert differ(both, picture(together)) > 0.3, "the LoRA had no effect"
    assert differ(both, picture(together, alpha=0.0, **lora(1.0))) > 0.3, "our branches had no effect"
    assert np.array_equal(picture(together, **lora(0.0)), picture(together))
    plain, applied = (picture(together, sampler=s, alpha=0.0, **lora(1.0)) for s in ("plain", "apply"))
    assert np.array_equal(plain, applied)


def test_impacts_detailer_paints_each_face_with_our_conditions(together: Server) -> None:
    has(together, "DetailerForEach", "MaskToSEGS")
    before = picture(together, **detailer(["apply", 0], 7.0, denoise=0.0001))
    after = picture(together, **detailer(["apply", 0], 7.0))
    changed = np.abs(after - before).mean(axis=2)
    assert all(changed[60:200, 256 * i + 80 : 256 * i + 176].mean() > 3 for i in (0, 1)), "a face stayed as it was"
    assert changed[:, :10].max() == 0 and changed[:10].max() == 0, "the background changed"
    off = picture(together, alpha=0.0, **detailer(["apply", 0], 7.0))
    assert differ(after, off) > 0.2, "our branches had no effect"
    assert np.array_equal(off, picture(together, alpha=0.0, **detailer(["apply", 0], 3.0))), "the detailer's cfg acted"
    assert np.array_equal(off, picture(together, alpha=0.0, **detailer(["load", 1], 2.5)))


def test_kjnodes_tools_take_our_pictures_masks_and_conditions(together: Server) -> None:
    has(together, "ImageResizeKJv2", "GetMaskSizeAndCount", "ConditioningSetMaskAndCombine", "ModelPassThrough", "CondPassThrough")
    passed = {
        "model_through": node("ModelPassThrough", model=["load", 1]),
        "cond_through": node("CondPassThrough", positive=["conditions", 0], negative=["conditions", 1]),
    }
    links = {"model": ["model_through", 0], "positive": ["cond_through", 0], "negative": ["cond_through", 1]}
    assert np.array_equal(picture(together, **passed, **links), picture(together))
    resize = {"upscale_method": "lanczos", "keep_proportion": "stretch", "pad_color": "0, 0, 0", "crop_position": "center", "divisible_by": 2}
    resized = {"resized": node("ImageResizeKJv2", image=["picture", 0], width=320, height=192, **resize)}
    assert picture(together, **resized, image=["resized", 0]).shape == (192, 320, 3)


def test_kjnodes_masked_conditions_are_comfyuis_own(together: Server) -> None:
    has(together, "ConditioningSetMaskAndCombine")
    left = {"left": node("SolidMask", value=1.0, width=128, height=256), "none": node("SolidMask", value=0.0, width=256, height=256)}
    masks = {
        **left,
        "mask_left": node("MaskComposite", destination=["none", 0], source=["left", 0], x=0, y=0, operation="add"),
        "mask_right": node("MaskComposite", destination=["none", 0], source=["left", 0], x=128, y=0, operation="add"),
        "sad": node("FaceCrafterConditioning", facecrafter=["load", 0], identity=["identity", 0], alpha_landmarks=1.0, alpha_emotion=1.0),
    }
    area = {"set_cond_area": "default"}
    theirs = {
        "joined": node(
            "ConditioningSetMaskAndCombine", positive_1=["conditions", 0], negative_1=["conditions", 1], positive_2=["sad", 0],
            negative_2=["sad", 1], mask_1=["mask_left", 0], mask_2=["mask_right", 0], mask_1_strength=1.0, mask_2_strength=1.0, **area,
        )
    }  # fmt: skip
    own: dict[str, Any] = {}
    for i, name in ((0, "positive"), (1, "negative")):
        for side, source in (("left", "conditions"), ("right", "sad")):
            own[f"{name}_{side}"] = node("ConditioningSetMask", conditioning=[source, i], mask=[f"mask_{side}", 0], strength=1.0, **area)
        own[f"{name}_both"] = node("ConditioningCombine", conditioning_1=[f"{name}_left", 0], conditioning_2=[f"{name}_right", 0])
    a = picture(together, **masks, **theirs, positive=["joined", 0], negative=["joined", 1])
    b = picture(together, **masks, **own, positive=["positive_both", 0], negative=["negative_both", 0])
    assert np.abs(a - b).max() <= 1 and differ(a, picture(together)) > 0.3


def test_nothing_of_ours_failed_in_the_log(together: Server) -> None:
    for line in together.log.read_text().splitlines():
        assert not ("facecrafter" in line.lower() and ("IMPORT FAILED" in line or "Error" in line)), line
