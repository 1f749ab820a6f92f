"""The parts that the training scripts share."""

import json
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch

from facecrafter_core.diffusion.families import DEMO, new_scheduler
from facecrafter_core.faces.align import align_face
from facecrafter_core.faces.emotion import EMOTIONS
from facecrafter_core.faces.landmarks import LEFT_EYE, MOUTH_CORNERS, RIGHT_EYE
from training.data import cut, identity_squares, load_faces, partners
from training.diffusion import Noising, draw_timesteps, loss_table
from training.loop import Average, Progress, learning_rate, load_checkpoint, save_checkpoint
from training.train_identity import margin_loss


def face_points(turn: float = 0.3) -> np.ndarray:
    """478 points of which eyes and mouth corners form a face, turned in the picture by an angle."""
    points = np.random.default_rng(0).uniform(0.3, 0.7, (478, 3))
    for group, centre in ((RIGHT_EYE, (-0.1, -0.08)), (LEFT_EYE, (0.1, -0.08)), (MOUTH_CORNERS[:1], (-0.07, 0.12)), (MOUTH_CORNERS[1:], (0.07, 0.12))):
        points[list(group), :2] = centre
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    named = [*RIGHT_EYE, *LEFT_EYE, *MOUTH_CORNERS]
    points[named, :2] = points[named, :2] @ rotation.T + 0.5
    return points.astype(np.float32)


def test_partners_are_other_pictures_of_the_same_person():
    person = np.repeat([7, 3, 9, 4], [3, 2, 1, 5])[np.random.default_rng(1).permutation(11)]
    for seed in range(20):
        other = partners(person, np.random.default_rng(seed))
        assert (person[other] == person).all()
        alone = np.array([(person == p).sum() == 1 for p in person])
        assert ((other != np.arange(11)) | alone).all()


def test_training_crops_are_those_of_align_face():
    """What the identity encoder is trained on is what it is given later."""
    ramp = np.linspace(20, 235, 256)
    image = np.stack([*np.meshgrid(ramp, ramp), np.full((256, 256), 128.0)], axis=-1).astype(np.uint8)
    points = face_points()
    expected = align_face(image, points * 256, size=128, rotate=True).image
    found = cut(torch.from_numpy(image[None]), identity_squares(points[None]), 128)[0].permute(1, 2, 0)
    inside = slice(24, 104)
    assert np.abs((found.numpy() + 1) * 127.5 - expected)[inside, inside].mean() < 2.0


def test_shards_are_read_and_faces_that_were_not_found_left_out(tmp_path: Path):
    columns = ["person", "index", "yaw", "pitch", "roll", "valence", "arousal", *EMOTIONS]
    (tmp_path / "columns.json").write_text(json.dumps(columns))
    landmarks = np.zeros((4, 478, 3), np.float32)
    landmarks[2] = np.nan
    table = np.zeros((4, len(columns)), np.float32)
    table[:, 0] = [0, 250, 400, 401]
    for name, array in {"images": np.zeros((4, 8, 8, 3), np.uint8), "landmarks": landmarks, "blendshapes": np.zeros((4, 52)), "labels": table}.items():
        np.save(tmp_path / f"{name}_000000.npy", array)
    faces = load_faces(tmp_path)
    assert faces.person.tolist() == [0, 250, 401]
    assert [len(faces.split(s)) for s in ("test", "validation", "train")] == [1, 1, 1]
    assert load_faces(tmp_path, images=False).images.size == 0


def test_a_folder_without_shards_is_refused(tmp_path: Path):
    (tmp_path / "columns.json").write_text("[]")
    with pytest.raises(SystemExit, match="found none. Run training/synthetic/generate.py"):
        load_faces(tmp_path)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_noising_and_its_target_give_the_clean_latents_back(kind: str):
    scheduler = new_scheduler(DEMO)
    scheduler.register_to_config(prediction_type=kind)
    noising = Noising(scheduler, torch.device("cpu"))
    clean, noise, t = torch.randn(6, 4, 2, 2), torch.randn(6, 4, 2, 2), torch.tensor([0, 10, 200, 500, 900, 990])
    noisy, target = noising(clean, noise, t)
    a = noising.alphas[t].view(-1, 1, 1, 1)
    found = (noisy - (1 - a).sqrt() * target) / a.sqrt() if kind == "epsilon" else a.sqrt() * noisy - (1 - a).sqrt() * target
    torch.testing.assert_close(found, clean, atol=1e-3, rtol=1e-3)


def test_timesteps_are_spread_evenly_or_towards_noise():
    even, noisy = draw_timesteps(10_000, torch.device("cpu")), draw_timesteps(10_000, torch.device("cpu"), 0.5)
    assert abs(even.float().mean() - 500) < 5 and noisy.float().mean() > 600
    assert even.min() >= 0 and even.max() <= 999


def test_loss_table_is_zero_for_a_perfect_predictor():
    noising = Noising(new_scheduler(DEMO), torch.device("cpu"))
    clean = torch.zeros(3, 4, 2, 2)

    def perfect(condition: str, noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return noisy * noising.alphas[t].sqrt().view(-1, 1, 1, 1) / (1 - noising.alphas[t]).sqrt().view(-1, 1, 1, 1)

    assert all(v < 1e-8 for v in loss_table(perfect, ["x"], clean, noising, (50, 999))["x"].values())


def test_learning_rate_warms_up_and_ends_at_zero():
    rates = [learning_rate(step, 100, 1.0, 10) for step in range(101)]
    assert rates[0] == 0.1 and max(rates) == 1.0 and rates[100] == 0.0 and rates[50] > rates[70]


def test_average_forgets_the_start_and_swaps_back():
    parameter = torch.nn.Parameter(torch.zeros(1))
    average = Average([parameter], 0.9)
    parameter.data.fill_(1.0)
    for step in range(200):
        average.update(step)
    assert not average.mean[0].requires_grad, "an average that keeps a graph cannot be resumed from a checkpoint"
    average.swap()
    assert parameter.item() == pytest.approx(1.0, abs=1e-3)
    parameter.data.fill_(5.0)
    average.swap()
    average.swap()
    assert parameter.item() == 5.0


def test_a_checkpoint_survives_a_kill_while_the_next_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.pt"
    save_checkpoint(path, step=1)

    def killed(state: dict, file: BinaryIO) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, step=2)
    assert load_checkpoint(path) == {"step": 1}
    assert load_checkpoint(tmp_path / "none.pt") is None


def test_a_loss_that_is_not_finite_stops_the_run():
    progress = Progress(2, 1, 1, quiet=True)
    with pytest.raises(SystemExit, match="loss is not finite at step 1"):
        progress.add(0, loss=torch.tensor(float("nan")))


def test_a_log_line_is_the_mean_of_its_own_steps(capsys: pytest.CaptureFixture):
    progress = Progress(3, 1, 2)
    for step, loss in enumerate((1.0, 3.0, 7.0)):
        progress.add(step, loss=torch.tensor(loss))
    first, last = capsys.readouterr().out.splitlines()
    assert "loss 2.0000" in first and "loss 7.0000" in last


def test_the_margin_makes_the_own_class_harder():
    torch.manual_seed(0)
    vectors, centres, target = torch.randn(4, 8), torch.randn(3, 8), torch.tensor([0, 1, 2, 0])
    assert margin_loss(vectors, centres, target, 0.3, 8.0) > margin_loss(vectors, centres, target, 0.0, 8.0)
    plain = torch.nn.functional.cross_entropy(8 * torch.cosine_similarity(vectors[:, None], centres[None], dim=2), target)
    torch.testing.assert_close(margin_loss(vectors, centres, target, 0.0, 8.0), plain, atol=1e-4, rtol=1e-4)
