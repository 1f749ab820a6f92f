"""A run -> a folder for users and for the Hub: the adapter file, the text encoder where it was trained, and a model card.

    python -m training.export --run runs/joint --out facecrafter-joint --license apache-2.0

The weights are the averaged ones of the newest checkpoint (or of --checkpoint), so a run need not have ended.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from facecrafter_core.control.adapter import FaceCrafterAdapter, save_adapter
from facecrafter_core.control.config import PRESETS
from facecrafter_core.diffusion.arc2face import means_downloads
from facecrafter_core.diffusion.families import FAMILIES
from facecrafter_core.diffusion.text_encoder import save_text_encoder
from facecrafter_core.files import write_folder
from facecrafter_core.terminal import escape_unprintable
from training.base import load_base
from training.checkpoints import read_checkpoint, saved_checkpoints
from training.config import ConfigError
from training.logs import read_lines
from training.loop import one_sentence

CARD = """---
license: {license}
library_name: facecrafter
{base_model}tags: [face, identity, emotion, {family}]
---
# {title}

A FaceCrafter adapter for the {family} family: {modules}. Stage: {stage}, {steps} steps.

Put `adapter.safetensors` in ComfyUI's `models/facecrafter`, or give it to `facecrafter generate --adapter`.{encoder}

```python
from facecrafter_core.faces.emotion import Emotion
from facecrafter_core.faces.photo import load_photo
from facecrafter_core.studio import Studio

studio = Studio({studio})
identity = studio.identity([load_photo("me.jpg")])
[portrait] = studio.pipe(identity, {conditions})
portrait.save("portrait.png")
```

## Training

{log}

```json
{settings}
```

Make portraits of people only with their consent, and say that they are generated when you show them.
"""


STUDIOS = {"full": '"arc2face", "adapter.safetensors", device="cuda"', "demo": 'adapter="adapter.safetensors"'}
CONDITIONS = {"landmark": 'landmarks=studio.driving_face(load_photo("friend.jpg")).landmarks', "emotion": 'emotion=Emotion.preset("happy", 0.7)'}
"""What the card's example gives to Studio and to its pipeline."""


def export(run: Path, out: Path, licence: str, checkpoint: Path | None = None, base: str | None = None, base_model: str = "") -> Path:
    """Writes OUT/adapter.safetensors, OUT/README.md, OUT/settings.json and perhaps OUT/text_encoder: all of them or none.

    Args:
        base: where the run's base lies now, if it has moved (needed where the text encoder was trained).
        base_model: its name on the Hub, for the card; Arc2Face's downloaded files are known.

    Raises:
        ConfigError: no checkpoint there, a damaged one, or the base is missing. OutputError: OUT cannot be written.
    """
    found = saved_checkpoints(run)
    if checkpoint is None and not found:
        raise ConfigError(f"Expected checkpoints of a training run in {run / 'checkpoints'}, found none.")
    state = read_checkpoint(checkpoint or found[-1])
    settings, family = state["settings"], FAMILIES[state["settings"]["family"]]
    weights = dict(zip(state["weights"], state["average"], strict=True))
    parts = {part: {k.removeprefix(f"{part}."): v for k, v in weights.items() if k.startswith(f"{part}.")} for part in ("adapter", "text_encoder")}
    has = {module: any(k.startswith(f"{module}.") for k in parts["adapter"]) for module in ("landmark", "emotion")}
    adapter = FaceCrafterAdapter(PRESETS[family.name], **has)
    adapter.load_state_dict(parts["adapter"])
    stage = settings.get("module", "joint")
    encoder = None
    if parts["text_encoder"]:
        encoder = load_base(base or settings["base"], family)[1]
        encoder.load_state_dict(parts["text_encoder"])
    base_model = base_model or ("FoivosPar/Arc2Face" if means_downloads(settings["base"]) else "")
    card = _card(run, state, stage, has, encoder is not None, licence, base_model)

    def write(folder: Path) -> None:
        save_adapter(adapter, folder / "adapter.safetensors", torch.float16, stage=stage, license=licence, steps=str(state["step"]))
        if encoder is not None:
            save_text_encoder(encoder.half(), folder / "text_encoder")
        (folder / "settings.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(card, encoding="utf-8")

    return write_folder(out, write)


def _card(run: Path, state: dict[str, Any], stage: str, has: dict[str, bool], encoder: bool, licence: str, base_model: str) -> str:
    log = run / "log.jsonl"
    lines = read_lines(log) if log.is_file() else []
    last = next((line for line in reversed(lines) if line["step"] <= state["step"]), None)
    public = {k: v for k, v in state["settings"].items() if k not in ("data", "out", "base", "init", "wandb", "dry_run")}
    return CARD.format(
        license=licence,
        base_model=f"base_model: {base_model}\n" if base_model else "",
        studio=STUDIOS[state["settings"]["family"]],
        conditions=", ".join(CONDITIONS[name] for name, there in has.items() if there),
        family=state["settings"]["family"],
        title=f"FaceCrafter, {stage} stage",
        modules=" and ".join(name for name, there in has.items() if there),
        stage=stage,
        steps=state["step"],
        encoder=" The joint stage also trains the text encoder: use the one in `text_encoder` with this adapter." if encoder else "",
        log="Last log line: " + ", ".join(f"{k} {v:.4g}" for k, v in last.items()) if last else "No log was kept.",
        settings=json.dumps(public, indent=2),
    )


@one_sentence()
def main() -> None:
    escape_unprintable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--license", required=True, help="of the weights, such as apache-2.0; it depends on what they were trained on")
    parser.add_argument("--checkpoint", type=Path, help="another than the newest")
    parser.add_argument("--base", help="where the run's base lies now, if it has moved")
    parser.add_argument("--base-model", default="", help="name of the base on the Hub, for the card, such as FoivosPar/Arc2Face")
    args = parser.parse_args()
    print(export(args.run, args.out, args.license, args.checkpoint, args.base, args.base_model))


if __name__ == "__main__":
    main()
