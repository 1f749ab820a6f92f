"""Pre-training (Sec. 3.2, Fig. 1 a and b): one control module and its key and value projections, on the frozen base.

    python -m training.pretrain --preset demo_pretrain --module landmark --data prepared --base demo --out runs/landmark
    torchrun --nproc-per-node 8 -m training.pretrain --preset full_pretrain --module emotion --data prepared --base arc2face --out runs/emotion

The target image is denoised; the identity comes from another image of the same person. For landmarks, pose and expression of the two differ;
for emotion, the pose is held and the expression differs.
"""

from __future__ import annotations

from facecrafter_core.diffusion.families import new_scheduler
from training.batches import StepData, draw
from training.config import PretrainConfig
from training.diffusion import Noising
from training.estimate import dry_run, step_flops
from training.losses import diffusion_loss, min_snr_weights
from training.model import Rows
from training.pairs import Pairs
from training.report import Report
from training.stage import Stage, clean_latents, command, open_data, open_world, prepare_model


def train(config: PretrainConfig) -> None:
    config.rules.of_stage(config.module)  # raises what no pair can follow, before anything is read
    world = open_world(config)
    landmark, emotion = config.module == "landmark", config.module == "emotion"
    training, validation = open_data(config)
    pairs = Pairs(training, config.module, config.rules, config.seed)
    model = prepare_model(config, world, landmark=landmark, emotion=emotion, text_encoder=False)
    noising = Noising(new_scheduler(model.family), world.device)
    images = config.batch * config.accumulate
    every_row = slice(0, config.batch)
    rows = Rows(landmark=every_row, emotion=every_row)
    if dry_run(config, model, rows, config.batch, images * world.size, pairs):
        return
    if world.rank == 0:
        print(pairs.report(), flush=True)

    data = StepData(training, pairs, world, images, model.adapter.config.picture_size, drawings=landmark, emotions=emotion, masks=False)
    report = Report.where_possible(validation, config.base, config.out, world.device) if world.rank == 0 and config.sample_every else None
    flops = step_flops(config, world, model, rows, config.batch)
    stage = Stage(config, world, model, images * world.size, images * world.size, config.module, report, flops)
    batches = data.read_ahead(stage.start, config.steps, config.workers, world.device)
    for step in stage.steps():
        batch = next(batches)
        random = draw(config.seed, step, world, images, 1, batch.latent_mean.shape[1:], config.timestep_power)
        for micro in range(config.accumulate):
            part = slice(micro * config.batch, (micro + 1) * config.batch)
            seen, timesteps = batch.part(part), random.timesteps[part, 0]
            noisy, target = noising(clean_latents(seen, random.latent_noise[part], config.batch), random.noise[part, 0], timesteps)
            with stage.autocast():
                predicted, _ = stage.trained(noisy, timesteps, seen.identities, None, seen.drawings, seen.emotions, rows)
            weights = min_snr_weights(noising.alphas[timesteps], noising.prediction_type, config.min_snr) if config.min_snr else None
            stage.backward(diffusion_loss(predicted, target, weights))


def main() -> None:
    command(train, PretrainConfig, __doc__)


if __name__ == "__main__":
    main()
