"""Joint disentanglement (Sec. 3.2, Fig. 1 c): both modules, their projections and the CLIP text encoder.

    python -m training.train_joint --preset demo_joint --data prepared --base demo --init runs/landmark/adapter.safetensors \\
        runs/emotion/adapter.safetensors --out runs/joint
    ... --ad-weight 0      # without the attention disentanglement loss, for the ablation; its value is logged all the same

Intra-batch mixed conditioning: each image is shown `replicas` times, a quarter of them under each of ID, ID + LMK, ID + LMK + EMO and
ID + EMO ("with equal probability"; exact quarters keep shapes static). Each replica has its own timestep and noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from facecrafter_core.diffusion.families import new_scheduler
from training.batches import StepData, draw
from training.config import JointConfig
from training.diffusion import Noising
from training.estimate import dry_run, step_flops
from training.losses import attention_disentanglement_loss, diffusion_loss, min_snr_weights, total_loss
from training.model import Rows, spread
from training.pairs import Pairs
from training.report import Report
from training.stage import Stage, clean_latents, command, open_data, open_world, prepare_model


def by_condition(values: Tensor) -> Tensor:
    """[G, B, ...] -> [4 G K, ...] with B = 4 K: condition by condition, image by image, replica by replica."""
    return values.unflatten(1, (4, -1)).transpose(0, 1).flatten(0, 2)


def train(config: JointConfig) -> None:
    config.rules.of_stage("joint")  # raises what no pair can follow, before anything is read
    world = open_world(config)
    training, validation = open_data(config)
    pairs = Pairs(training, "joint", config.rules, config.seed)
    model = prepare_model(config, world, landmark=True, emotion=True, text_encoder=True)
    noising = Noising(new_scheduler(model.family), world.device)
    each, micro_rows = config.images_per_batch, config.images_per_batch * config.replicas
    images = each * config.accumulate
    rows = Rows.mixed(each, config.replicas // 4)
    if dry_run(config, model, rows, micro_rows, images * world.size, pairs):
        return
    if world.rank == 0:
        print(pairs.report(), flush=True)

    data = StepData(training, pairs, world, images, model.adapter.config.picture_size, drawings=True, emotions=True, masks=True)
    report = Report.where_possible(validation, config.base, config.out, world.device) if world.rank == 0 and config.sample_every else None
    flops = step_flops(config, world, model, rows, micro_rows)
    stage = Stage(config, world, model, images * world.size, images * config.replicas * world.size, "joint", report, flops)
    batches = data.read_ahead(stage.start, config.steps, config.workers, world.device)
    for step in stage.steps():
        batch = next(batches)
        random = draw(config.seed, step, world, images, config.replicas, batch.latent_mean.shape[1:], config.timestep_power)
        kept = (random.everyones_chance >= config.drop_identity).sum().clamp(min=1) / (world.size * config.accumulate)  # images a micro-batch, on average
        for micro in range(config.accumulate):
            part = slice(micro * each, (micro + 1) * each)
            seen, timesteps = batch.part(part), by_condition(random.timesteps[part])
            clean = clean_latents(seen, random.latent_noise[part], micro_rows, rows.replicas)
            noisy, target = noising(clean, by_condition(random.noise[part]), timesteps)
            keep_image = random.chance[part] >= config.drop_identity
            keep = torch.ones(micro_rows, dtype=torch.bool, device=world.device)
            keep[: micro_rows // 4] = spread(keep_image, micro_rows // 4, rows.replicas)  # the ID rows
            with stage.autocast():
                inputs = (noisy, timesteps, seen.identities, keep, seen.drawings, seen.emotions, rows, seen.masks)
                predicted, similarity = stage.trained(*inputs, learned=config.ad_weight > 0)
            weights = min_snr_weights(noising.alphas[timesteps], noising.prediction_type, config.min_snr) if config.min_snr else None
            diffusion = diffusion_loss(predicted, target, weights)
            disentanglement = attention_disentanglement_loss(similarity, keep_image.float(), kept)
            stage.backward(total_loss(diffusion, disentanglement, config.ad_weight), diffusion=diffusion, ad=disentanglement)


def main() -> None:
    command(train, JointConfig, __doc__)


if __name__ == "__main__":
    main()
