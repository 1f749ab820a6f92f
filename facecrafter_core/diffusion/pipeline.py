"""Identity, landmarks and emotion -> portraits, on diffusers (Sec. 3.3)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DiffusionPipeline, SchedulerMixin, UNet2DConditionModel
from PIL import Image
from torch import Tensor
from transformers import CLIPTextModel

from ..batch import seed_after
from ..control.adapter import FaceCrafterAdapter, load_adapter, save_adapter
from ..control.branches import Packed, pack
from ..errors import ModelError
from ..faces.emotion import Emotion
from .arc2face import load_arc2face, means_downloads, of_type
from .channels_last import to_channels_last
from .families import DEMO_FOLDER, Family, check_parts, family_of, refuse_code
from .guidance import Guidance, GuidedRun, guidance_coefficients
from .identity_tokens import encode_identity_tokens
from .inputs import check_inputs
from .passes import Conditions, Pass, halves, prepare_pass
from .processors import check_branches, install_branches, project_context
from .rows import forward_rows, must_be_called_whole, project_time, share_time
from .schedulers import NoWaiting, check_scheduler, noise_levels, takes_generator
from .text_encoder import load_text_encoder, save_text_encoder

StepCallback = Callable[["FaceCrafterPipeline", int, int, dict[str, Tensor]], dict[str, Tensor] | None]
OUTPUT_TYPES = ("pil", "np", "pt", "latent")


class FaceCrafterPipeline(DiffusionPipeline):
    """A base of the full or the demo family with a FaceCrafter adapter.

    `FaceCrafterPipeline.from_pretrained(folder)` reads a diffusers folder (unet, vae, text_encoder, scheduler) and the adapter in it
    or the one given. diffusers' other schedulers can take the place of DDPM: `pipe.scheduler = X.from_config(pipe.scheduler.config)`.

    Raises:
        ModelError: parts that do not go together: another autoencoder, text encoder or UNet than the family's, an adapter of another one.
    """

    model_cpu_offload_seq = "text_encoder->unet->vae"
    _exclude_from_cpu_offload = ["adapter"]  # its forward is never called, so no hook would fetch it: _need_adapter does

    def __init__(
        self,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL | AutoencoderTiny,
        text_encoder: CLIPTextModel,
        scheduler: SchedulerMixin,
        adapter: FaceCrafterAdapter | None = None,
    ) -> None:
        super().__init__()
        check_parts(unet, vae, text_encoder)
        self.register_modules(unet=unet, vae=vae, text_encoder=text_encoder, scheduler=scheduler)
        install_branches(unet)
        self.set_adapter(adapter)
        self._forward_rows = forward_rows

    @classmethod
    def from_pretrained(cls, folder: str | Path = DEMO_FOLDER, adapter: str | Path | None = None, **kwargs: Any) -> FaceCrafterPipeline:
        """Reads the base from `folder` and the adapter from `adapter`, else from adapter.safetensors in the folder.

        A folder text_encoder beside `adapter` was trained with it (joint stage) and takes the place of the base's text encoder.
        The folder "arc2face" stands for the downloaded files of Arc2Face (arc2face.load_arc2face).

        Args:
            dtype: of all weights, a type of torch's with at least 16 bits.
            kwargs: for diffusers' own from_pretrained; with "arc2face", parts that take the place of downloaded ones.

        Raises:
            ModelError, AssetError: no such folder, or parts are missing there, or do not go together. AdapterError: see load_adapter.
        """
        folder = Path(folder)
        dtype = kwargs.pop("dtype", kwargs.pop("torch_dtype", None))
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point and dtype.itemsize >= 2):
            raise ModelError(f"Expected dtype torch.float32, float16 or bfloat16, found {dtype}. For fp8 weights, pipe.unet.enable_layerwise_casting().")
        if means_downloads(folder):
            parts = load_arc2face(dtype)
            if unknown := sorted(kwargs.keys() - parts.keys()):
                raise TypeError(f"Expected parts ({', '.join(parts)}) beside the downloaded files, found {', '.join(unknown)}.")
            pipe = cls(**{**parts, **kwargs})
            if adapter:
                pipe.set_adapter(load_adapter(adapter))
                pipe.use_text_encoder_beside(adapter)
            return pipe
        refuse_code(folder)
        if missing := [p for p in ("unet", "vae", "text_encoder", "scheduler") if not (folder / p).is_dir()]:
            raise ModelError(f"{folder} is not a FaceCrafter base: expected folders unet, vae, text_encoder, scheduler, missing {missing}.")
        if "text_encoder" not in kwargs:
            kwargs["text_encoder"] = load_text_encoder(folder / "text_encoder", variant=kwargs.get("variant"))
        pipe = super().from_pretrained(str(folder), **of_type(dtype), **kwargs)
        pipe.text_encoder.to(pipe.unet.device, pipe.unet.dtype)
        path = Path(adapter) if adapter else folder / "adapter.safetensors"
        if adapter or path.is_file():
            pipe.set_adapter(load_adapter(path))
        if path.parent.resolve() != folder.resolve():
            pipe.use_text_encoder_beside(path)
        return pipe

    def save_pretrained(self, folder: str | Path, **kwargs: Any) -> None:
        """The base as a diffusers folder, with the adapter in it as adapter.safetensors.

        Raises:
            AdapterError, OutputError: it could not be written.
        """
        super().save_pretrained(str(folder), **kwargs)
        save_text_encoder(self.text_encoder, Path(folder) / "text_encoder", kwargs.get("variant"))
        if self.adapter is not None:
            save_adapter(self.adapter, Path(folder) / "adapter.safetensors")

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **kwargs: Any) -> FaceCrafterPipeline:
        """The parts of another pipeline, such as a StableDiffusionPipeline, with its adapter if it has one, as in diffusers."""
        return super().from_pipe(pipeline, **{"adapter": getattr(pipeline, "adapter", None), **kwargs})

    @property
    def components(self) -> dict[str, Any]:
        """All that __init__ takes, as in diffusers: FaceCrafterPipeline(**pipe.components) shares the base and has a copy of the adapter."""
        return {**super().components, "adapter": self.adapter}

    def set_adapter(self, adapter: FaceCrafterAdapter | None) -> None:
        """Puts a copy of an adapter in, in the UNet's type and place.

        Raises:
            ModelError: the adapter was made for a UNet of other widths.
        """
        if adapter is not None:
            widths = tuple(m.to_k.out_features for n, m in self.unet.named_modules() if n.endswith("attn2"))
            if sorted(widths) != sorted(adapter.config.layer_widths):
                raise ModelError(
                    f"The adapter is for a UNet of the {adapter.config.family} family (widths {sorted(set(adapter.config.layer_widths))}), "
                    f"this UNet has widths {sorted(set(widths))}. Load the adapter with the base that it was trained on."
                )
            device = self.unet.device if self.unet.device.type != "meta" else "cpu"  # a UNet of which each part is offloaded says "meta"
            adapter = copy.deepcopy(adapter).to(device, self.unet.dtype)
        self.adapter = adapter

    def use_text_encoder_beside(self, adapter: str | Path) -> None:
        """The text encoder that was trained with an adapter file takes the base's place, where a folder text_encoder lies beside the file.

        Raises:
            ModelError: it is of another width than the UNet's context.
        """
        folder = Path(adapter).parent / "text_encoder"
        if not (folder / "config.json").is_file():
            return
        encoder = load_text_encoder(folder)
        if encoder.config.hidden_size != self.unet.config.cross_attention_dim:
            raise ModelError(
                f"The text encoder in {folder} is {encoder.config.hidden_size} wide, the UNet reads {self.unet.config.cross_attention_dim}. Put the adapter where no other base's lies."
            )
        self.text_encoder = encoder.to(self.unet.device, self.unet.dtype)

    def to(self, *args: Any, **kwargs: Any) -> FaceCrafterPipeline:
        super().to(*args, **kwargs)
        if self.adapter is not None:
            self.adapter.to(self.unet.device, self.unet.dtype)
        return self

    def enable_model_cpu_offload(self, *args: Any, **kwargs: Any) -> None:
        super().enable_model_cpu_offload(*args, **kwargs)
        if self.adapter is not None:
            self.adapter.to("cpu")

    def enable_group_offload(self, *args: Any, exclude_modules: str | list[str] | None = None, **kwargs: Any) -> None:
        named = [exclude_modules] if isinstance(exclude_modules, str) else exclude_modules or []
        super().enable_group_offload(*args, exclude_modules=[*named, *self._exclude_from_cpu_offload], **kwargs)

    @property
    def family(self) -> Family:
        return family_of(self.unet.config.cross_attention_dim)

    @torch.inference_mode()
    def __call__(
        self,
        identity: Tensor | np.ndarray,
        landmarks: Tensor | np.ndarray | None = None,
        emotion: Emotion | Tensor | np.ndarray | Sequence[float] | None = None,
        *,
        alpha_landmark: float = 1.0,
        alpha_emotion: float = 1.0,
        guidance: Guidance | None = None,
        steps: int = 25,
        seed: int = 0,
        count: int = 1,
        output_type: str = "pil",
        callback_on_step_end: StepCallback | None = None,
    ) -> list[Image.Image] | np.ndarray | Tensor:
        """Generates B x count portraits, `count` in a row for each of B conditions.

        Args:
            identity: unit vector [D] or [B, D].
            landmarks: [478, 3] or [B, 478, 3] in units of the picture (0..1), or None.
            emotion: an Emotion, a 10-vector, [B, 10], or None.
            alpha_landmark, alpha_emotion: Eq. 1; 0 cuts the branch off.
            guidance: weights of Eq. 6 (None: the paper's).
            steps: sampling steps, up to the 1000 timesteps of training.
            seed: from 0 to 2^64 - 1. Picture i uses seed + i, whatever the batch is; after the last seed comes 0.
            output_type: "pil", "np" (float32 [N, H, W, 3] in 0..1), "pt" (Tensor [N, 3, H, W] in 0..1) or "latent".
            callback_on_step_end: called with (pipeline, step, timestep, {"latents": latents}) after each step, as in diffusers; may give
                other latents back in such a dictionary.

        Raises:
            ModelError, AdapterError: wrong shapes, numbers that are not finite, conditions that the adapter lacks, or a scheduler of another kind.
        """
        try:
            return self._generate(
                identity, landmarks, emotion, {"landmark": alpha_landmark, "emotion": alpha_emotion},
                guidance or Guidance(), steps, seed, count, output_type, callback_on_step_end,
            )  # fmt: skip
        finally:
            self.maybe_free_model_hooks()  # with enable_model_cpu_offload(), nothing stays on the device, after an error either

    def _generate(
        self, identity: Any, landmarks: Any, emotion: Any, alphas: dict[str, float], guidance: Guidance, steps: int, seed: int, count: int,
        output_type: str, callback_on_step_end: StepCallback | None,
    ) -> list[Image.Image] | np.ndarray | Tensor:  # fmt: skip
        if count < 1:
            raise ModelError(f"Expected a count of at least 1, found {count}.")
        if output_type not in OUTPUT_TYPES:
            raise ModelError(f"Expected one of {', '.join(OUTPUT_TYPES)} as output_type, found {output_type!r}.")
        if not all(map(np.isfinite, alphas.values())):
            raise ModelError(f"Expected alphas that are finite numbers, found {alphas}.")
        check_scheduler(self.scheduler, steps)
        identity, landmarks, emotion = check_inputs(identity, landmarks, emotion, count, self._execution_device)
        batch = len(identity)
        if guidance.pictures not in (0, 1, batch):
            raise ModelError(f"Expected guidance weights for 1 or {batch} pictures, found {guidance.pictures}.")
        landmarks = landmarks if alphas["landmark"] else None
        emotion = emotion if alphas["emotion"] else None
        if landmarks is not None or emotion is not None:
            check_branches(self.unet)
        self.scheduler.set_timesteps(steps)  # on the host: its arithmetic must not wait for the device
        levels = noise_levels(self.scheduler, self.family)
        tables = [guidance_coefficients(guidance, level, landmarks is not None, emotion is not None) for level in levels]
        run = GuidedRun(guidance.refresh)
        contexts = self.encode_context(identity, with_none=any("none" in table for table in tables))
        conditions = Conditions(
            contexts,
            self.project_contexts(contexts) | self.project_conditions(landmarks, emotion, contexts["id"]),
            alphas,
        )
        generators = [torch.Generator("cpu").manual_seed(seed_after(seed, i)) for i in range(batch)]
        size = self.family.latent_size
        noise = [torch.randn(4, size, size, generator=g) for g in generators]
        latents = torch.stack(noise).to(contexts["id"]) * self.scheduler.init_noise_sigma
        step_kwargs = {"generator": generators} if takes_generator(self.scheduler) else {}
        passes: dict[tuple[str, ...], list[Pass]] = {}
        on_device = self.scheduler.timesteps.to(latents.device)
        times = self.project_time(on_device)
        with self.progress_bar(total=len(tables)) as bar:
            for i, (timestep, table) in enumerate(zip(self.scheduler.timesteps, tables, strict=True)):
                coefficients = run.coefficients(table)
                key = tuple(coefficients)
                if key not in passes:
                    passes[key] = [prepare_pass(conditions, key, slice(0, batch))]
                model_input = self.scheduler.scale_model_input(latents, timestep)
                guided = run.combine(self.predict_rows(model_input, on_device[i], passes[key], conditions, times[i]), coefficients)
                with NoWaiting():
                    latents = self.scheduler.step(guided, timestep, latents, **step_kwargs).prev_sample
                bar.update()
                if callback_on_step_end:
                    changed = callback_on_step_end(self, i, timestep, {"latents": latents})
                    latents = (changed or {}).get("latents", latents)
        if output_type == "latent":
            return latents
        return self.decode(latents, output_type)

    def encode_context(self, identity: Tensor, with_none: bool = True) -> dict[str, Tensor]:
        """identity [B, D] -> the 77-token contexts "id" and, if asked for, "none", each [B, 77, width], on its device."""
        count = len(identity)
        found = encode_identity_tokens(self.text_encoder, self.family, identity, with_none)
        found = found.to(identity.device, self.unet.dtype)  # from the CPU, where the encoder is offloaded part by part
        return {"id": found[:count]} | ({"none": found[count:].expand(count, -1, -1)} if with_none else {})

    def project_contexts(self, contexts: dict[str, Tensor]) -> dict[str, Packed]:
        """Keys and values of the contexts for each layer; nothing while the UNet is offloaded, and its layers then make them in each step."""
        if self.unet.conv_in.weight.device != contexts["id"].device:
            return {}
        count = len(contexts["id"])
        distinct = [context[:1] if name == "none" else context for name, context in contexts.items()]
        found = project_context(self.unet, torch.cat(distinct))
        tensors = {"id": found.tensor[:count]} | ({"none": found.tensor[count:].expand(count, -1, -1)} if "none" in contexts else {})
        return {name: Packed(tensor, found.widths) for name, tensor in tensors.items()}

    def project_conditions(self, landmarks: Tensor | None, emotion: Tensor | None, like: Tensor | None = None) -> dict[str, Packed]:
        """Keys and values of the branches for each layer, each [B, T, C]: static over a run, so made once.

        Args:
            like: a tensor of the run's type on its device (None: diffusers is asked, which looks through all modules for them).
        """
        if landmarks is None and emotion is None:
            return {}
        device, dtype = (self._execution_device, self.unet.dtype) if like is None else (like.device, like.dtype)
        adapter, projected = self._need_adapter(device, dtype), {}
        if landmarks is not None:
            projected["landmark"] = pack(adapter.project_landmarks(landmarks))
        if emotion is not None:
            projected["emotion"] = pack(adapter.project_emotion(emotion))
        return projected

    def project_time(self, timesteps: Tensor) -> Sequence[Tensor | None]:
        """timesteps [N] -> what predict_rows takes as the time of each step; nothing where the UNet is called as a whole, with the timestep."""
        return [None] * len(timesteps) if must_be_called_whole(self.unet) else project_time(self.unet, timesteps).split(1)

    def predict_rows(self, latents: Tensor, timestep: Tensor, passes: list[Pass], conditions: Conditions, time: Tensor | None = None) -> dict[str, Tensor]:
        """The prediction of each guidance row, [B, 4, h, w], at latents [B, 4, h, w].

        A pass that does not fit into memory is split in two, in `passes` itself, so that later steps do not try again.

        Args:
            timestep: [], on the device. time: its part of project_time; made here where it is missing.

        Raises:
            ModelError: not even one row of one picture fits.
        """
        torch.compiler.cudagraph_mark_step_begin()
        parts: dict[str, list[Tensor]] = {}
        queue = list(passes)
        passes.clear()
        while queue:
            one = queue.pop(0)
            found = None
            try:
                found = self._predict(latents[one.pictures], timestep, one, time)
            except torch.cuda.OutOfMemoryError as error:
                if not halves(one):
                    size = self.family.image_size
                    raise ModelError(
                        f"One picture of {size} x {size} does not fit into the memory of {self._execution_device}. "
                        "Free memory there, or use enable_model_cpu_offload()."
                    ) from error
            if found is None:  # only here, where the error no longer holds what the failed pass had made
                queue = [prepare_pass(conditions, *half) for half in halves(one)] + queue
                continue
            passes.append(one)
            for row, prediction in zip(one.rows, found.chunk(len(one.rows)), strict=True):
                parts.setdefault(row, []).append(prediction)
        return {row: torch.cat(predictions) if len(predictions) > 1 else predictions[0] for row, predictions in parts.items()}

    def _predict(self, latents: Tensor, timestep: Tensor, one: Pass, time: Tensor | None) -> Tensor:
        attention = {"branches": one.branches, "projected": one.projected}
        if must_be_called_whole(self.unet):
            return self.unet(torch.cat([latents] * len(one.rows)), timestep, one.context, cross_attention_kwargs=attention, return_dict=False)[0]
        (time,) = self.project_time(timestep.reshape(1)) if time is None else (time,)
        return self._forward_rows(self.unet, latents, time, one.context, attention)

    def compile(self, **options: Any) -> FaceCrafterPipeline:
        """Compiles the denoiser and the decoder for the pictures to come; the numbers stay the same to rounding.

        Each number of rows and pictures is compiled when it first comes (a minute or two at full size), and is fast from then on: for many
        pictures of a kind. torch keeps eight kinds (its recompile_limit); what comes then is not compiled, as its warning says.

        Args:
            options: for torch.compile; its mode is "reduce-overhead" (a CUDA graph, no launches between kernels) where none is given.
        """
        options = {"dynamic": False} | (options or {"mode": "reduce-overhead"})
        to_channels_last(self.unet)
        share_time(self.unet)
        if must_be_called_whole(self.unet):
            self.unet.compile(**options)
        else:
            self._forward_rows = torch.compile(forward_rows, **options)
        to_channels_last(self.vae)
        self.vae.decoder.compile(**options)
        return self

    @torch.inference_mode()
    def decode(self, latents: Tensor, output_type: str = "np") -> list[Image.Image] | np.ndarray | Tensor:
        """latents [B, 4, h, w] -> pictures: float32 [B, H, W, 3] in 0..1, a Tensor [B, 3, H, W] ("pt"), or PIL."""
        pictures = self._decode((latents / self.vae.config.scaling_factor).to(self.vae.dtype))
        pictures = (pictures.float() / 2 + 0.5).clamp(0, 1)
        if output_type == "pt":
            return pictures
        pictures = pictures.permute(0, 2, 3, 1).cpu().numpy()
        if output_type == "np":
            return pictures
        return [Image.fromarray((p * 255).round().astype(np.uint8)) for p in pictures]

    def _decode(self, latents: Tensor) -> Tensor:
        try:
            return self.vae.decode(latents, return_dict=False)[0]
        except torch.cuda.OutOfMemoryError as error:
            if len(latents) == 1:
                raise ModelError("The picture does not fit into memory while it is decoded. Use vae.enable_tiling(), or free memory.") from error
        return torch.cat([self._decode(half) for half in latents.chunk(2)])

    def _need_adapter(self, device: torch.device, dtype: torch.dtype) -> FaceCrafterAdapter:
        """On the device of the run: with enable_model_cpu_offload() that is not where the UNet waits."""
        if self.adapter is None:
            raise ModelError("Landmarks or an emotion were given, but no adapter is loaded. Load one with set_adapter, or leave them out.")
        return self.adapter.to(device, dtype)
