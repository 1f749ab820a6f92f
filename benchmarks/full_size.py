"""Speed at full size, all rows side by side in one run: a guided step and a whole portrait, against plain diffusers.

    python benchmarks/full_size.py [--device cuda] [--steps 25] [--repeat 20] [--mode max-autotune]
    python benchmarks/full_size.py --family demo --device cpu --steps 2 --repeat 1 --images 1     # shows that it runs; minutes of compiling

Random weights of the true shapes (SD 1.5's UNet, autoencoder and text encoder, our adapter), bf16 on a GPU. A step is what a sampling loop does
between two latents: all guidance rows through the UNet, Eq. 6, the scheduler. Its rows:

plain      diffusers' own UNet and attention, as many rows, no branches
naive      the branches as attention processors are often written: keys and values projected in each step, all rows, times alpha
ours       this package; "compiled" after FaceCrafterPipeline.compile()
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from facecrafter_core.control.adapter import FaceCrafterAdapter  # noqa: E402
from facecrafter_core.control.branches import attention  # noqa: E402
from facecrafter_core.control.config import PRESETS  # noqa: E402
from facecrafter_core.diffusion.families import (  # noqa: E402
    FAMILIES,
    Family,
    new_autoencoder,
    new_scheduler,
    new_text_encoder,
    new_unet,
)
from facecrafter_core.diffusion.guidance import (  # noqa: E402
    APPROXIMATIONS,
    ROWS,
    Guidance,
    combine,
    guidance_coefficients,
    row_has_emotion,
    row_has_landmarks,
)
from facecrafter_core.diffusion.passes import Conditions, prepare_pass  # noqa: E402
from facecrafter_core.diffusion.pipeline import FaceCrafterPipeline  # noqa: E402
from facecrafter_core.diffusion.schedulers import NoWaiting  # noqa: E402
from facecrafter_core.faces.emotion import Emotion  # noqa: E402

FOUR = tuple(row for row in ROWS if row != "id+lmk+emo")
"""The rows of the paper's guidance."""


class NaiveProcessor:
    """One cross-attention layer with branches as often written: projected in each call, on all rows, times an alpha a row."""

    def __init__(self, layer: int, branches: nn.ModuleList, tokens: list[Tensor], alphas: list[Tensor]) -> None:
        self.projections = [(b.to_k[layer], b.to_v[layer]) for b in branches]
        self.tokens, self.alphas = tokens, alphas

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, attention_mask: Any = None) -> Tensor:
        query = attn.to_q(hidden_states)
        out = attention(query, attn.to_k(encoder_hidden_states), attn.to_v(encoder_hidden_states), attn.heads)
        for (to_k, to_v), tokens, alpha in zip(self.projections, self.tokens, self.alphas, strict=True):
            out = out + alpha * attention(query, to_k(tokens), to_v(tokens), attn.heads)
        return attn.to_out[1](attn.to_out[0](out))


class Bench:
    """Random models of one family, and one person's conditions."""

    def __init__(self, family: Family, device: torch.device) -> None:
        self.family, self.device = family, device
        self.dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        torch.manual_seed(0)
        with device:  # random numbers are quick there
            adapter = FaceCrafterAdapter(PRESETS[family.name])
            for branch in (adapter.landmark_branch, adapter.emotion_branch):
                for layer in branch.to_v:
                    nn.init.normal_(layer.weight, std=0.02)
            unet, vae, encoder = (new(family) for new in (new_unet, new_autoencoder, new_text_encoder))
        for part in (adapter, unet, vae, encoder):
            part.eval().requires_grad_(False)
        self.pipe = FaceCrafterPipeline(unet, vae, encoder, new_scheduler(family), adapter).to(device, self.dtype)
        self.pipe.set_progress_bar_config(disable=True)
        self.identity = nn.functional.normalize(torch.randn(1, family.identity_dim), dim=1)
        self.landmarks, self.emotion = torch.rand(1, 478, 3) * 0.6 + 0.2, torch.as_tensor(Emotion.preset("happy").vector)[None]

    def plain_unet(self) -> Any:
        """The same UNet as diffusers makes it."""
        from diffusers.models.attention_processor import AttnProcessor2_0

        unet = copy.deepcopy(self.pipe.unet)
        unet.set_attn_processor(AttnProcessor2_0())
        return unet

    def naive_unet(self, images: int) -> Any:
        from diffusers.models.attention_processor import AttnProcessor2_0

        unet, adapter = self.plain_unet(), self.pipe.adapter
        tokens = [adapter.encode_landmarks(self.landmarks), adapter.encode_emotion(self.emotion)]
        tokens = [t.expand(len(FOUR) * images, -1, -1).contiguous() for t in tokens]
        alphas = [torch.tensor([float(uses(row)) for row in FOUR], device=self.device, dtype=self.dtype) for uses in (row_has_landmarks, row_has_emotion)]
        alphas = [a.repeat_interleave(images).view(-1, 1, 1) for a in alphas]
        branches = nn.ModuleList([adapter.landmark_branch, adapter.emotion_branch])
        ours = self.pipe.unet.attn_processors
        unet.set_attn_processor({n: AttnProcessor2_0() if p.layer is None else NaiveProcessor(p.layer, branches, tokens, alphas) for n, p in ours.items()})
        return unet

    def conditions(self, images: int, branches: bool = True) -> Conditions:
        """Of a run: contexts, and keys and values of the branches."""
        spread = [t.expand(images, *t.shape[1:]).to(self.device) for t in (self.identity, self.landmarks, self.emotion)]
        contexts = self.pipe.encode_context(spread[0])
        projected = self.pipe.project_contexts(contexts) | (self.pipe.project_conditions(*spread[1:]) if branches else {})
        return Conditions(contexts, projected, {"landmark": 1.0, "emotion": 1.0})

    def step(self, images: int, unet: Any = None, branches: bool = True) -> Callable[[], Tensor]:
        """One guided step of `images` pictures; with `unet`, through that one instead of ours."""
        pipe, scheduler = self.pipe, self.pipe.scheduler
        static = self.conditions(images, branches and unet is None)
        passes = [prepare_pass(static, FOUR, slice(0, images))]
        size = self.family.latent_size
        latents = torch.randn(images, 4, size, size, device=self.device, dtype=self.dtype)
        scheduler.set_timesteps(25)
        timestep, table = scheduler.timesteps[12], guidance_coefficients(Guidance(), 1.0)
        on_device = timestep.to(self.device)
        (time,) = pipe.project_time(on_device.reshape(1)) if unet is None else (None,)  # once a run, as the pipeline does
        generators = [torch.Generator().manual_seed(i) for i in range(images)]

        def run() -> Tensor:
            if unet is None:
                found = pipe.predict_rows(latents, on_device, passes, static, time)
            else:
                out = unet(torch.cat([latents] * len(FOUR)), on_device, passes[0].context, return_dict=False)[0]
                found = dict(zip(FOUR, out.chunk(len(FOUR)), strict=True))
            with NoWaiting():
                return scheduler.step(combine(found, table), timestep, latents, generator=generators).prev_sample

        return run

    def controlnet_step(self) -> Callable[[], Tensor]:
        """Arc2Face + ControlNet at plain classifier-free guidance: two rows, one image."""
        from diffusers import ControlNetModel

        unet, scheduler = self.plain_unet(), self.pipe.scheduler
        control = ControlNetModel.from_unet(unet).to(self.device, self.dtype).eval().requires_grad_(False)
        size = self.family.latent_size
        latents = torch.randn(1, 4, size, size, device=self.device, dtype=self.dtype)
        hint = torch.rand(2, 3, size * 8, size * 8, device=self.device, dtype=self.dtype)
        static = self.conditions(1, branches=False)
        context = prepare_pass(static, ("none", "id"), slice(0, 1)).context
        scheduler.set_timesteps(25)
        timestep = scheduler.timesteps[12]
        on_device, generator = timestep.to(self.device), torch.Generator().manual_seed(0)

        def run() -> Tensor:
            rows = torch.cat([latents] * 2)
            down, middle = control(rows, on_device, context, hint, return_dict=False)
            out = unet(rows, on_device, context, down_block_additional_residuals=down, mid_block_additional_residual=middle, return_dict=False)[0]
            none, one = out.chunk(2)
            return scheduler.step(none + 2.5 * (one - none), timestep, latents, generator=[generator]).prev_sample

        return run

    def portrait(self, steps: int, guidance: Guidance | None = None) -> Callable[[], Any]:
        """From the conditions to the picture on the host."""
        return lambda: self.pipe(self.identity, self.landmarks, self.emotion, guidance=guidance, steps=steps, output_type="np")

    def milliseconds(self, run: Callable[[], Any], repeat: int, inner: int = 1) -> float:
        """Median over `repeat` of the mean of `inner` calls, after three calls."""
        return self.in_turns([run], repeat, inner)[0]

    def in_turns(self, runs: list[Callable[[], Any]], repeat: int, inner: int = 1) -> list[float]:
        """milliseconds() of each, in turns: a change of the clock's rate meets all of them."""
        found: list[list[float]] = [[] for _ in runs]
        with torch.inference_mode():
            for run in runs * 3:
                run()
            self.wait()
            for _ in range(repeat):
                for times, run in zip(found, runs, strict=True):
                    start = time.perf_counter()
                    for _ in range(inner):
                        run()
                    self.wait()
                    times.append(1000 * (time.perf_counter() - start) / inner)
        return [median(times) for times in found]

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def matmul_tflops(self, repeat: int) -> float:
        """Measured rate of a large matrix product of the models' type."""
        n = 8192 if self.device.type == "cuda" else 512
        a, b = (torch.randn(n, n, device=self.device, dtype=self.dtype) for _ in range(2))
        return 2 * n**3 / self.milliseconds(lambda: a @ b, repeat, 5) / 1e9

    def step_tflop(self, images: int) -> float:
        """Arithmetic of one guided step."""
        from torch.utils.flop_counter import FlopCounterMode

        counter = FlopCounterMode(display=False)
        run = self.step(images)
        with torch.inference_mode(), counter:
            run()
        return counter.get_total_flops() / 1e12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=tuple(FAMILIES), default="full")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--mode", default="reduce-overhead", help="of torch.compile; max-autotune tries more kernels for longer")
    parser.add_argument("--images", type=int, nargs="+", default=[1, 4])
    options = parser.parse_args()

    bench = Bench(FAMILIES[options.family], torch.device(options.device))
    repeat, inner = options.repeat, 5 if bench.device.type == "cuda" else 1
    name = torch.cuda.get_device_name(bench.device) if bench.device.type == "cuda" else "CPU"
    rate = bench.matmul_tflops(repeat)
    side = bench.family.image_size
    print(f"{name}, torch {torch.__version__}, {side} x {side}, {str(bench.dtype).removeprefix('torch.')}; matrix product {rate:.0f} TFLOP/s\n")
    print("| guided step | ms | against plain | share of the matrix rate |\n|---|---|---|---|", flush=True)

    def show(label: str, run: Callable[[], Any], plain: float | None, tflop: float | None) -> float:
        return print_step(label, bench.milliseconds(run, repeat, inner), plain, tflop)

    def print_step(label: str, ms: float, plain: float | None, tflop: float | None) -> float:
        against = f"{plain / ms:.2f} x" if plain else "-"
        share = f"{100 * tflop / ms * 1000 / rate:.0f}%" if tflop else "-"
        print(f"| {label} | {ms:.2f} | {against} | {share} |", flush=True)
        return ms

    with torch.inference_mode():
        show("ControlNet + UNet, 1 image, 2 rows, plain guidance", bench.controlnet_step(), None, None)
        plain, tflop, expected = {}, {}, {}
        for n in options.images:
            what = f"{n} image{'s' * (n > 1)}, {n * len(FOUR)} rows"
            tflop[n] = bench.step_tflop(n)
            plain[n] = show(f"plain, {what}", bench.step(n, bench.plain_unet()), None, tflop[n])
            show(f"naive branches, {what}", bench.step(n, bench.naive_unet(n)), plain[n], tflop[n])
            show(f"ours, {what}", bench.step(n), plain[n], tflop[n])
            expected[n] = predictions(bench, n)
        eager = bench.milliseconds(bench.portrait(options.steps), max(1, repeat // 4))
        bench.pipe.compile(mode=options.mode)
        for n in options.images:
            what = f"{n} image{'s' * (n > 1)}, {n * len(FOUR)} rows"
            bare, ours = bench.in_turns([bench.step(n, branches=False), bench.step(n)], repeat, inner)
            print_step(f"ours compiled without branches, {what}", bare, plain[n], None)
            print_step(f"ours compiled, {what}", ours, plain[n], tflop[n])
            error = (predictions(bench, n) - expected[n]).abs().max() / expected[n].abs().max()
            print(f"| ... the branches' share | {100 * (1 - bare / ours):.1f}% | | |\n| ... largest difference from eager, of the largest value | {error:.1e} | | |", flush=True)
        print(f"\n| portrait, {options.steps} steps, to the picture on the host | seconds |\n|---|---|\n| ours, exact | {eager / 1000:.3f} |", flush=True)
        for label, changes in {"exact": {}, **APPROXIMATIONS}.items():
            guidance = Guidance(**changes)
            print(f"| ours compiled, {label} | {bench.milliseconds(bench.portrait(options.steps, guidance), max(1, repeat // 4)) / 1000:.3f} |", flush=True)


def predictions(bench: Bench, images: int) -> Tensor:
    """All rows of a step on fixed latents, fp32."""
    static, size = bench.conditions(images), bench.family.latent_size
    latents = torch.randn(images, 4, size, size, generator=torch.Generator().manual_seed(0)).to(bench.device, bench.dtype)
    found = bench.pipe.predict_rows(latents, torch.tensor(500, device=bench.device), [prepare_pass(static, FOUR, slice(0, images))], static)
    return torch.cat(list(found.values())).float().clone()


if __name__ == "__main__":
    main()
