"""Settings of the training stages: a YAML preset, overridden on the command line.

    python -m training.pretrain --preset demo_pretrain --module landmark --data prepared --base demo --out runs/landmark --steps 500
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import yaml

from training.pairs import PairRules
from training.ranges import COUNT, EVERY, LEARNING_RATE, SEED, SHARE, TIMESTEP_POWER, ConfigError, Range, check_ranges

PRESETS = Path(__file__).parent / "presets"


@dataclass(frozen=True)
class StageConfig:
    """What both stages share. Defaults are the paper's (Sec. 4.1) where it names them."""

    data: Path
    """Folder of training/prepare.py."""
    base: str
    """Folder of the base model (unet, text_encoder, vae), such as "demo"; "arc2face" for the files of facecrafter assets download --for full;
    "random" for untrained weights (benchmarks)."""
    out: Path
    """Folder of this run: checkpoints, sheets, logs. Starting again with the same folder resumes."""
    family: Literal["demo", "full"] = "full"
    """Sizes of base and adapter: Arc2Face's, or the demo's."""
    init: tuple[Path, ...] = ()
    """Adapter files to start from; of several, each gives the modules that its stage trained."""
    steps: Annotated[int, COUNT] = 100_000
    """Of the optimiser, from the run's first on; a run that goes on may be given more."""
    learning_rate: Annotated[float, LEARNING_RATE] = 1e-4
    """Of AdamW, after the warm-up."""
    weight_decay: Annotated[float, Range(0, 1)] = 0.01
    """Of AdamW."""
    warmup: Annotated[int, EVERY] = 500
    """Steps in which the learning rate grows from zero."""
    decay: Literal["constant", "cosine"] = "constant"
    """Of the learning rate after the warm-up; cosine ends at zero with the last step."""
    clip: Annotated[float, Range(0, above=True)] = 1.0
    """Largest norm of the gradient."""
    ema: Annotated[float, SHARE] = 0.9999
    """Decay of the weights' moving average, which is what is exported; it starts lower and grows with the steps."""
    accumulate: Annotated[int, COUNT] = 1
    """Micro-batches a step and process."""
    min_snr: Annotated[float, Range(0)] = 0.0
    """gamma of the Min-SNR weighting; 0 is the plain loss."""
    timestep_power: Annotated[float, TIMESTEP_POWER] = 1.0
    """Below 1: more of the noisy timesteps."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """auto: the GPU where there is one; the full family then needs one."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """Arithmetic on a GPU; trained weights stay fp32, frozen ones are stored in this type."""
    gradient_checkpointing: bool = False
    """Compute the denoiser's blocks again in the backward pass: less memory, more time."""
    compile: bool = True
    """Compile the network (GPU only)."""
    workers: Annotated[int, Range(0, 1024)] = 4
    """Processes that read and draw ahead."""
    seed: Annotated[int, SEED] = 0
    """Of new weights, pairs, timesteps and noise."""
    log_every: Annotated[int, EVERY] = 50
    """Steps from log line to log line; 0: with the checkpoints alone."""
    sample_every: Annotated[int, EVERY] = 2000
    """Steps from sheet to sheet, with held-out losses; 0: none."""
    save_every: Annotated[int, EVERY] = 1000
    """Steps from checkpoint to checkpoint; 0: at the end alone."""
    keep_last: Annotated[int, COUNT] = 2
    """The newest checkpoints that are kept."""
    keep_every: Annotated[int, EVERY] = 0
    """Checkpoints at multiples of this are never removed; 0 keeps none but the last."""
    diverged: Annotated[float, Range(0)] = 3.0
    """Stop when the mean loss of a log line exceeds this multiple of the lowest so far."""
    wandb: str = ""
    """Project of Weights & Biases, if it is installed."""
    dry_run: bool = False
    """Print the settings, sizes and estimates, and stop."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class PretrainConfig(StageConfig):
    """Pre-training of one module (Sec. 3.2)."""

    module: Literal["landmark", "emotion"] = "landmark"
    """What trains."""
    batch: Annotated[int, COUNT] = 16
    """Images a micro-batch and process."""
    rules: PairRules = field(default_factory=PairRules)
    """Which images make a pair."""


@dataclass(frozen=True)
class JointConfig(StageConfig):
    """Joint disentanglement (Sec. 3.2)."""

    steps: Annotated[int, COUNT] = 50_000
    """Of the optimiser, from the run's first on; a run that goes on may be given more."""
    replicas: Annotated[int, Range(4)] = 16
    """The paper's B: rows that show one image, a quarter of them under each of the four conditions."""
    images_per_batch: Annotated[int, COUNT] = 1
    """Images a micro-batch and process; the paper has one."""
    ad_weight: Annotated[float, Range(0, 1000)] = 5e-4
    """lambda of Eq. 5; 0 takes the disentanglement loss out of the training, and logs it all the same."""
    drop_identity: Annotated[float, SHARE] = 0.1
    """Share of images whose ID rows lose the identity, for the unconditional of Eq. 6."""
    rules: PairRules = field(default_factory=PairRules)
    """Which images make a pair."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.replicas % 4:
            raise ConfigError(f"Expected a number of replicas that four conditions can share evenly (4, 8, 12, 16, ...), found {self.replicas}.")


C = TypeVar("C", bound=StageConfig)


def read_config(kind: type[C], description: str | None, arguments: list[str] | None = None) -> C:
    """--preset NAME (or a YAML file), then any setting by its name.

    Raises:
        SystemExit: unknown settings or values (with a sentence on the terminal). ConfigError: no such preset, or an unknown entry in it.
    """
    import tyro

    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--preset", default="")
    preset, rest = parser.parse_known_args(arguments)
    names = sorted(p.stem for p in PRESETS.glob("*.yaml"))
    text = f"{description or ''}\n\n--preset NAME or a YAML file sets defaults; presets: {', '.join(names)}."
    if not preset.preset:
        return tyro.cli(kind, args=rest, description=text)
    return tyro.cli(kind, args=rest, description=text, default=from_yaml(kind, preset.preset))


def from_yaml(kind: type[C], preset: str) -> C:
    path = Path(preset) if preset.endswith((".yaml", ".yml")) else PRESETS / f"{preset}.yaml"
    if not path.is_file():
        raise ConfigError(f"Expected a preset out of {sorted(p.stem for p in PRESETS.glob('*.yaml'))} or a YAML file, found {preset!r}.")
    try:
        values = yaml.safe_load(path.read_bytes()) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path.name} is no YAML that can be read: {' '.join(str(error).split())}.") from error
    import tyro

    missing = dict.fromkeys(("data", "base", "out"), tyro.MISSING)
    return kind(**{**missing, **_settings(kind, values, path.name)})


def _settings(kind: type, values: Any, where: str) -> dict[str, Any]:
    """Settings of a class by name, from YAML's plain values."""
    kinds = get_type_hints(kind)
    if not isinstance(values, dict):
        raise ConfigError(f"Expected settings as NAME: VALUE in {where}, found {values!r}.")
    if unknown := sorted(map(str, values.keys() - kinds.keys())):
        raise ConfigError(f"{where} has unknown settings {unknown}; expected some of {sorted(kinds)}.")
    return {name: _setting(kinds[name], value, f"{name} in {where}") for name, value in values.items()}


def _setting(kind: Any, value: Any, where: str) -> Any:
    """One value as its setting's type; to YAML, 1e-4 is text."""
    outer, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return kind(**_settings(kind, value, where))
    if outer is tuple and isinstance(value, list):
        return tuple(_setting(inner[0], v, where) for v in value)
    if outer is UnionType:  # a number or None
        return None if value is None else _setting(inner[0], value, where)
    if type(value) is kind or (outer is Literal and value in inner):
        return value
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is float and not isinstance(value, bool):
        with suppress(TypeError, ValueError):
            return float(value)
    expected = {float: "a number", int: "a whole number", bool: "true or false", str: "text", Path: "a path"}.get(kind)
    raise ConfigError(f"Expected {expected or (' or '.join(inner) if outer is Literal else 'a list')} for {where}, found {value!r}.")


def to_dict(config: Any) -> dict[str, Any]:
    """Settings as plain values, for YAML, JSON and checkpoints."""

    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return str(value)
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value

    assert is_dataclass(config)
    return plain(asdict(config))
