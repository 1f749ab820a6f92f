"""What the two stages share: loading, and the loop's bookkeeping (optimiser, average, checkpoints, log lines, sheets)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from facecrafter_core.control.adapter import FaceCrafterAdapter, load_adapter, read_adapter_metadata, save_adapter
from facecrafter_core.control.config import PRESETS
from facecrafter_core.diffusion.families import FAMILIES, Family
from facecrafter_core.diffusion.text_encoder import save_text_encoder
from facecrafter_core.files import write_whole
from facecrafter_core.studio import check_device
from facecrafter_core.terminal import escape_unprintable
from training.base import autoencoder_weights, load_base, load_trained_encoder, networks_fingerprint
from training.batches import Batch
from training.checkpoints import NOTED, Checkpoints, saved_checkpoints
from training.config import C, ConfigError, StageConfig, read_config, to_dict
from training.logs import Log
from training.loop import Average, World, due, learning_rate, one_sentence, short_memory
from training.model import ControlledModel, spread
from training.prepared import Prepared, fingerprint
from training.report import Report


def command(train: Callable[[C], None], kind: type[C], description: str | None) -> None:
    """A stage's command line; what is the user's to mend ends in one sentence."""
    escape_unprintable()
    try:
        with one_sentence():
            config = read_config(kind, description)
            train(config)
    except (MemoryError, RuntimeError) as error:
        if (short := short_memory(error)) is None:
            raise
        size = "--batch" if hasattr(config, "batch") else "--images-per-batch"
        saved = saved_checkpoints(config.out)
        raise SystemExit(
            f"error: {short} was short. Halve {size} and double --accumulate, which trains the same, or give --gradient-checkpointing. "
            + (f"The same --out then goes on after {saved[-1]}." if saved else "There is no checkpoint yet.")
        ) from None


def open_world(config: StageConfig) -> World:
    """The processes of this run; prints the device.

    Raises:
        ModelError: torch cannot use the device. ConfigError: the full family would train on the CPU, and nobody asked for that.
    """
    if config.device != "auto":
        check_device(config.device)
    elif config.family == "full" and not torch.cuda.is_available() and not config.dry_run:
        raise ConfigError("Expected a GPU for the full family, torch finds none on this machine. Mend that, or give --device cpu if weeks on the CPU are meant.")
    world = World(config.device)
    if world.rank == 0:
        name = torch.cuda.get_device_name(world.device) if world.device.type == "cuda" else "CPU"
        print(f"device: {name}, {world.size} {'process' if world.size == 1 else 'processes'}", flush=True)
    return world


def start_from(adapter: FaceCrafterAdapter, files: tuple[Path, ...]) -> dict[str, Path]:
    """Gives an adapter the modules that it shares with these files; where several have a module, the last file's counts.

    Returns:
        the file that each module is from; new modules are missing.

    Raises:
        ConfigError: a file was made for other sizes, or gives nothing.
    """
    known, given = set(adapter.state_dict()), {}
    for path in files:
        loaded = load_adapter(path)
        if loaded.config != adapter.config:
            raise ConfigError(f"{path} was made for other sizes ({loaded.config.family}) than the {adapter.config.family} preset. Start from an adapter of this family.")
        adapter.load_state_dict({k: v for k, v in loaded.state_dict().items() if k in known}, strict=False)
        given |= {module: path for module in modules_of(loaded) if module in modules_of(adapter)}
    if useless := [path for path in files if path not in given.values()]:
        wanted = " and ".join(modules_of(adapter))
        raise ConfigError(f"Expected that each adapter file gives a module that is wanted ({wanted}) and no later file replaces; {useless[0]} gives none. Leave it out.")
    return given


def modules_of(adapter: FaceCrafterAdapter) -> list[str]:
    return [name for name in ("landmark", "emotion") if getattr(adapter, name) is not None]


class Stage:
    """One training run.

    Use:
        for step in stage.steps():
            ... stage.backward(loss, name=value) for each micro-batch ...

    After each step's body, gradients are clipped and applied, the average moves, and log line, sheet and checkpoint are made when due.

    Args:
        model: its parameters with requires_grad are what trains.
        images, rows: a step, over all processes and micro-batches.
        name: stage, as the adapter file says it.
        report: losses and samples of people who are not trained on, or None.
        flops: of a step and process (training.estimate).
    """

    def __init__(
        self, config: StageConfig, world: World, model: ControlledModel, images: int, rows: int, name: str, report: Report | None = None, flops: float = 0.0
    ) -> None:
        self.config, self.world, self.model, self.name, self.report = config, world, model, name, report
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, config.learning_rate, weight_decay=config.weight_decay, fused=world.device.type == "cuda"
        )
        self.average = Average(self.parameters, config.ema)
        inputs = {"images a step": images, "fingerprint of --data": fingerprint(config.data / "prepared.json"), "fingerprint of --base": model.base}
        self.checkpoints = Checkpoints(config.out, to_dict(config), inputs, config.keep_last, config.keep_every)
        self.trained = world.wrap(model)
        self.start, lowest = self._resume()
        if len(found := sorted(set(world.everyones(self.start)))) > 1:
            raise ConfigError(f"The processes found {' and '.join(f'{n:.0f}' for n in found)} finished steps in {config.out}. Give --out a folder that all machines share.")
        self.log = Log(config, world, images, rows, self.start, lowest, flops)
        if world.rank == 0:
            size = sum(4 * p.numel() * p.element_size() for p in self.parameters)  # weights, average, two moments
            self.checkpoints.check_room(size, self.start, config.steps, config.save_every)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.world.device.type, torch.bfloat16, enabled=arithmetic(self.config, self.world.device) == torch.bfloat16)

    def backward(self, loss: Tensor, **parts: Tensor) -> None:
        """Adds the gradients of one micro-batch; `parts` are logged beside the loss."""
        (loss / self.config.accumulate).backward()
        self.log.add(loss=loss, **parts)

    def steps(self) -> Iterator[int]:
        config = self.config
        for step in range(self.start, config.steps):
            for group in self.optimizer.param_groups:
                group["lr"] = self._learning_rate(step)
            self.optimizer.zero_grad(set_to_none=True)
            yield step
            norm = torch.nn.utils.clip_grad_norm_(self.parameters, config.clip)
            self.optimizer.step()
            self.average.update(step)
            done = step + 1
            try:
                self.log.end_step(done, norm)
            except FloatingPointError as error:
                saved = saved_checkpoints(config.out)  # on the disk, so that every process names the same
                where = f"The last good checkpoint is {saved[-1]}." if saved else "There is no checkpoint yet."
                raise SystemExit(f"{error} {where} Lower --learning-rate, or look at the data.") from None
            if self.world.rank == 0:
                if self.report and due(config.sample_every, done, config.steps):
                    self.average.swap()
                    self.log.pause()
                    held_out, sheet = self.report(self.model, done)
                    self.log.held_out(held_out, done)
                    self.log.picture("samples", sheet, done)
                    self.log.resume()
                    self.average.swap()
                if due(config.save_every, done, config.steps):
                    self._save(done)
        if self.world.rank == 0:
            self.export()  # of a finished run too: it may have been killed between its last checkpoint and here
        self.log.close()
        self.world.close()

    def export(self) -> None:
        """Adapter file of the averaged weights, and the text encoder where it was trained: OUT/adapter.safetensors, OUT/text_encoder. Each file is
        written whole or not at all."""
        self.average.swap()
        save_adapter(self.model.adapter, self.config.out / "adapter.safetensors", torch.float16, stage=self.name)
        if any(p.requires_grad for p in self.model.text_encoder.parameters()):
            save_text_encoder(self.model.text_encoder, self.config.out / "text_encoder")
        self.average.swap()
        write_whole(self.config.out / "settings.json", lambda file: file.write((json.dumps(to_dict(self.config), indent=2) + "\n").encode()))

    def _learning_rate(self, step: int) -> float:
        c = self.config
        return learning_rate(step, c.steps, c.learning_rate, c.warmup) if c.decay == "cosine" else c.learning_rate * min(1.0, (step + 1) / max(1, c.warmup))

    def _trained_state(self) -> dict[str, Tensor]:
        names = [n for n, p in self.model.named_parameters() if p.requires_grad]
        return dict(zip(names, (p.detach() for p in self.parameters), strict=True))

    def _save(self, done: int) -> None:
        state = {"weights": self._trained_state(), "average": self.average.mean, "optimizer": self.optimizer.state_dict(), "lowest": self.log.lowest}
        self.checkpoints.save(done, **state)

    def _resume(self) -> tuple[int, float]:
        """Finished steps, and the lowest mean loss so far."""
        state = self.checkpoints.load()
        if state is None:
            return 0, math.inf
        if state["step"] > self.config.steps:
            raise ConfigError(f"The run in {self.config.out} has done {state['step']} steps, more than --steps {self.config.steps}. Give as many at least, or another --out.")
        weights = self._trained_state()
        if set(weights) != set(state["weights"]):
            raise ConfigError(f"The checkpoint in {self.checkpoints.folder} holds other trained weights than this stage. Use another --out.")
        with torch.no_grad():
            for name, value in state["weights"].items():
                weights[name].copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.mean = [m.to(self.world.device) for m in state["average"]]
        if self.world.rank == 0:
            print(f"resuming after step {state['step']} of {self.config.steps}", flush=True)
            now = to_dict(self.config)
            for name in NOTED:
                if now.get(name) != (before := state["settings"].get(name)):
                    print(f"{name} was {before} until there, and is {now[name]} from there on", flush=True)
        return state["step"], state["lowest"]


def joined_adapter(family: Family, files: Sequence[Path]) -> FaceCrafterAdapter:
    """One adapter with the modules that these files hold, to make pictures with.

    Raises:
        AdapterError, ConfigError: as of start_from.
    """
    has = {module: any(f"{module}.norm.weight" in read_adapter_metadata(file)["shapes"] for file in files) for module in ("landmark", "emotion")}
    adapter = FaceCrafterAdapter(PRESETS[family.name], **has)
    start_from(adapter, tuple(files))
    return adapter.eval()


def arithmetic(config: StageConfig, device: torch.device) -> torch.dtype:
    """Of frozen weights and of what is computed: bf16 on a GPU unless fp32 is asked for, fp32 on the CPU. --dry-run without a GPU speaks of one,
    unless the CPU is asked for."""
    gpu = device.type == "cuda" or (config.dry_run and config.device == "auto")
    return torch.bfloat16 if gpu and config.precision == "bf16" else torch.float32


def prepare_model(config: StageConfig, world: World, landmark: bool, emotion: bool, text_encoder: bool) -> ControlledModel:
    """Base and adapter on the device: frozen parts in the arithmetic's type, trained ones in fp32.

    Args:
        landmark, emotion: which modules the adapter has; both train. text_encoder: it trains too.
    """
    family = FAMILIES[config.family]
    torch.manual_seed(config.seed)
    unet, encoder = load_base(config.base, family)
    base = networks_fingerprint(unet, encoder)
    adapter = FaceCrafterAdapter(PRESETS[family.name], landmark=landmark, emotion=emotion).requires_grad_(True).train()
    given = start_from(adapter, config.init)
    origins = [f"{module} from {given[module]}" if module in given else f"{module} new" for module in modules_of(adapter)]
    if text_encoder:  # the joint stage's lies beside its adapter
        beside = [path.parent / "text_encoder" for path in config.init if (path.parent / "text_encoder/config.json").is_file()]
        encoder = load_trained_encoder(beside[-1], family) if beside else encoder
        origins.append(f"text encoder from {beside[-1]}" if beside else "text encoder of the base")
    if world.rank == 0:
        print(f"start: {', '.join(origins)}", flush=True)
    low = arithmetic(config, world.device)
    nn.Module.to(unet, world.device, low, memory_format=torch.channels_last)  # diffusers' own warns of an empty list of modules
    encoder.to(world.device, torch.float32 if text_encoder else low).requires_grad_(text_encoder)
    if config.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
        unet.train()
    return ControlledModel(unet, encoder, adapter.to(world.device), family, config.compile and world.device.type == "cuda", base)


def open_data(config: StageConfig) -> tuple[Prepared, Prepared]:
    """The training and the validation images of the prepared folder.

    Raises:
        PreparedError: it cannot be used, was made with other models than the base's, or has no training images.
    """
    parts = {"vae": autoencoder_weights(config.base), "identity": Path(config.base) / "identity"}
    models = {name: fingerprint(path) for name, path in parts.items() if path.exists()}
    return Prepared.open(config.data, config.family, models).split()


def clean_latents(batch: Batch, latent_noise: Tensor, rows: int, replicas: int = 1) -> Tensor:
    """x_0 of each row, [R, 4, h, w]: drawn from the autoencoder's distribution with `latent_noise` [G, 4, h, w], where it has one."""
    clean = batch.latent_mean.float()
    if batch.latent_std is not None:
        clean = clean + batch.latent_std.float() * latent_noise
    return spread(clean, rows, replicas)
