"""Gathers a trained run into the demo folder: fp16 weights in diffusers' layout, beside the adapter and the small networks.

    python -m training.export_demo --models runs/demo --out demo
    python -m training.export_demo --models runs/demo --run runs/demo/joint --out demo      # with the adapter and the text encoder of the joint stage
    python -m training.export_demo --untrained --out somewhere      # random weights of the same shapes, for tests
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from facecrafter_core.control.adapter import load_adapter, new_adapter, save_adapter
from facecrafter_core.diffusion.families import DEMO, new_autoencoder, new_scheduler, new_text_encoder, new_unet
from facecrafter_core.diffusion.text_encoder import load_text_encoder, save_text_encoder
from facecrafter_core.faces.emotion_estimators import emotion_network
from facecrafter_core.faces.identity import FaceNetwork, load_face_network
from facecrafter_core.terminal import escape_unprintable
from training.loop import store

LIMIT = 160 * 2**20  # bytes

NETWORKS = {
    "identity/model": (128, (32, 48, 96, 128)),
    "evaluators/identity": (128, (24, 32, 64, 96)),
    "evaluators/emotion": (10, (24, 32, 64, 96)),
}
"""File -> outputs and widths of each FaceNetwork."""


def main() -> None:
    escape_unprintable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, help="a run's folder")
    parser.add_argument("--run", type=Path, help="a run of training.train_joint on that base, whose adapter and text encoder take the place of the first ones")
    parser.add_argument("--untrained", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if bool(args.models) == args.untrained:
        parser.error("give either --models or --untrained")
    if args.untrained:
        export_untrained(args.out)
    else:
        export(args.models, args.out, args.run)
    index = {"_class_name": "FaceCrafterPipeline", "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderTiny"]}
    index |= {"text_encoder": ["transformers", "CLIPTextModel"], "scheduler": ["diffusers", "DDPMScheduler"]}
    (args.out / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    size = sum(p.stat().st_size for p in args.out.rglob("*.safetensors"))
    print(f"{args.out}: {size / 2**20:.1f} MiB of weights")
    if size > LIMIT:
        raise SystemExit(f"The demo's weights may take {LIMIT / 2**20:.0f} MiB, found {size / 2**20:.1f} MiB.")


def save_parts(unet: object, vae: object, text_encoder: object, out: Path) -> None:
    unet.half().save_pretrained(out / "unet")
    vae.half().save_pretrained(out / "vae")
    for part in ("unet", "vae"):
        _drop_settings(out / part / "config.json", "_name_or_path", "block_out_channels" if part == "vae" else "")
    save_text_encoder(text_encoder.half(), out / "text_encoder")
    new_scheduler(DEMO).save_pretrained(out / "scheduler")


def _drop_settings(path: Path, *names: str) -> None:
    """Takes out what diffusers writes but does not need: the folder of the run, and for AutoencoderTiny its unused widths."""
    settings = {name: value for name, value in json.loads(path.read_text()).items() if name not in names}
    path.write_text(json.dumps(settings, indent=2) + "\n")


def export(models: Path, out: Path, run: Path | None = None) -> None:
    from diffusers import AutoencoderTiny, UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(models / "unet")
    save_parts(unet, AutoencoderTiny.from_pretrained(models / "vae"), load_text_encoder((run or models) / "text_encoder"), out)
    for name, (outputs, _) in NETWORKS.items():
        store(load_face_network(models / f"{name}.safetensors", outputs), out / f"{name}.safetensors")
    network = emotion_network()
    network.load_state_dict(load_file(str(models / "emotion/model.safetensors")))
    store(network, out / "emotion/model.safetensors")
    adapter = load_adapter((run or models) / "adapter.safetensors")
    save_adapter(adapter, out / "adapter.safetensors", torch.float16, stage="joint" if run else "simple", license="apache-2.0")


def export_untrained(out: Path) -> None:
    torch.manual_seed(0)
    save_parts(new_unet(DEMO), new_autoencoder(DEMO), new_text_encoder(DEMO), out)
    for name, (outputs, widths) in NETWORKS.items():
        store(FaceNetwork(outputs, widths), out / f"{name}.safetensors")
    store(emotion_network(), out / "emotion/model.safetensors")
    adapter = new_adapter("demo")
    for layer in [*adapter.landmark_branch.to_v, *adapter.emotion_branch.to_v]:
        torch.nn.init.normal_(layer.weight, std=0.05)
    save_adapter(adapter, out / "adapter.safetensors", torch.float16, stage="untrained", license="apache-2.0")


if __name__ == "__main__":
    main()
