from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))

from stage_world import QUICK  # noqa: E402
from world import make_prepared  # noqa: E402

from training import report  # noqa: E402
from training.config import JointConfig, PretrainConfig  # noqa: E402


@pytest.fixture(scope="session")
def prepared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_prepared(tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def pretraining(prepared_folder: Path, tmp_path: Path) -> PretrainConfig:
    return PretrainConfig(data=prepared_folder, out=tmp_path / "run", batch=4, **QUICK)


@pytest.fixture
def joint(prepared_folder: Path, tmp_path: Path) -> JointConfig:
    return JointConfig(data=prepared_folder, out=tmp_path / "run", replicas=4, images_per_batch=2, **QUICK)


@pytest.fixture
def short_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Few people, noise levels, emotions and steps; a prepared folder with latents of the size that pictures are made of."""
    monkeypatch.setattr(report, "PEOPLE", 2)
    monkeypatch.setattr(report, "IMAGES", 4)
    monkeypatch.setattr(report, "LEVELS", (250,))
    monkeypatch.setattr(report, "EMOTIONS", ("happy",))
    monkeypatch.setattr(report.Report.__init__, "__defaults__", (1,))
    return make_prepared(tmp_path / "prepared", side=32)


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three people with two photos each."""
    folder = tmp_path_factory.mktemp("people")
    for i, portrait in enumerate(sorted((ROOT / "demo/samples").glob("*.jpg"))):
        file = folder / f"person_{i // 2}" / f"{i}.png"
        file.parent.mkdir(exist_ok=True)
        Image.open(portrait).resize((256, 256)).save(file)
    return folder
