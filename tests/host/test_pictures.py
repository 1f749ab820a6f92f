"""Faces in whole pictures, over the API: edited in place, in groups, and several people in one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from hosts import ROOT
from PIL import Image
from server import Server

SAMPLES = ROOT / "demo" / "samples"
STEPS = 10


@pytest.fixture(scope="module")
def pictures(server: Server) -> Path:
    """The server's input folder, with groups of sample portraits side by side."""
    folder = server.folder / "input"
    for name, numbers in (("two.png", (1, 3)), ("three.png", (1, 4, 3))):
        group = Image.new("RGB", (256 * len(numbers), 256))
        for i, number in enumerate(numbers):
            group.paste(Image.open(SAMPLES / f"portrait_{number}.jpg").resize((256, 256)), (256 * i, 0))
        group.save(folder / name)
    return folder


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def emotion(name: str) -> dict[str, Any]:
    from facecrafter_core.faces.emotion import EMOTIONS

    classes = dict.fromkeys(EMOTIONS, 0.0) | {"neutral": 1.0}
    return node("FaceCrafterEmotion", source="preset", preset=name, intensity=1.0, valence=0.0, arousal=0.0, **classes)


def sampler(latent: list[Any] | None = None, denoise: float = 1.0, steps: int = STEPS, model: Any = ("load", 1)) -> dict[str, Any]:
    return node(
        "FaceCrafterSampler", model=list(model), positive=["positive", 0], negative=["conditions", 1], seed=3, steps=steps, sampler_name="dpmpp_2m",
        scheduler="sgm_uniform", denoise=denoise, identity_weight=2.5, landmark_weight=2.0, emotion_weight=2.0, mode="paper", same_noise=False,
        **({"latent": latent} if latent else {}),
    )  # fmt: skip


def group(photo: str, denoise: float = 0.6, **replaced: Any) -> dict[str, Any]:
    """Every face of a group photo painted anew with its own identity, pose and emotion, and put back."""
    prompt = {
        "load": node("FaceCrafterLoader", adapter="demo (comes with FaceCrafter)"),
        "photo": node("LoadImage", image=photo),
        "crop": node("FaceCrafterFaceCrop", facecrafter=["load", 0], photo=["photo", 0], face="all", face_number=0, smallest=32, upright=False,
                     margin=0.0, shape="oval", grow=0.05, feather=0.05),
        "identity": node("FaceCrafterEncodeIdentity", facecrafter=["load", 0], photo=["crop", 0], face="largest", face_number=0, one_each=True),
        "first": emotion("happy"),
        "last": emotion("sad"),
        "emotion": node("FaceCrafterEmotionSweep", first=["first", 0], last=["last", 0], count=3),
        "conditions": node("FaceCrafterConditioning", facecrafter=["load", 0], identity=["identity", 0], landmarks=["crop", 1], emotion=["emotion", 0],
                           alpha_landmarks=1.0, alpha_emotion=1.0),
        "positive": node("ConditioningSetTimestepRange", conditioning=["conditions", 0], start=0.0, end=1.0),
        "encode": node("VAEEncode", pixels=["crop", 0], vae=["load", 3]),
        "masked": node("SetLatentNoiseMask", samples=["encode", 0], mask=["crop", 2]),
        "sample": sampler(["masked", 0], denoise),
        "decode": node("VAEDecode", samples=["sample", 0], vae=["load", 3]),
        "paste": node("FaceCrafterFacePaste", crop=["crop", 3], faces=["decode", 0], colour="match"),
        "save": node("SaveImage", images=["paste", 0], filename_prefix=uuid4().hex),
    }  # fmt: skip
    return prompt | replaced


def made(server: Server, prompt: dict[str, Any]) -> list[np.ndarray]:
    return [np.asarray(picture).astype(float) for picture in server.images(server.run(prompt))]


def test_a_group_photo_is_edited_in_place_and_its_background_stays_bit_for_bit(server: Server, pictures: Path) -> None:
    before = np.asarray(Image.open(pictures / "three.png")).astype(float)
    (after,) = made(server, group("three.png"))
    changed = np.abs(after - before).max(axis=2)
    assert changed[[0, -1]].max() == 0 and changed[:, [0, 255, 256, 511, 512, -1]].max() == 0
    assert [changed[80:200, 256 * i + 80 : 256 * i + 176].mean() > 3 for i in range(3)] == [True] * 3


def test_three_faces_and_six_new_ones_make_two_pictures(server: Server, pictures: Path) -> None:
    doubled = node("RepeatImageBatch", image=["decode", 0], amount=2)
    prompt = group("three.png", twice=doubled)
    prompt["sample"]["inputs"]["steps"] = 1
    prompt["paste"]["inputs"]["faces"] = ["twice", 0]
    a, b = made(server, prompt)
    assert np.array_equal(a, b)


def test_two_people_in_one_run_keep_their_identities_apart(server: Server, pictures: Path) -> None:
    """Each half of the picture shows its own person: told by the identity encoder."""
    from facecrafter_core.faces.photo import load_photo
    from facecrafter_core.studio import Studio

    people = (5, 6)
    prompt: dict[str, Any] = {
        "load": node("FaceCrafterLoader", adapter="demo (comes with FaceCrafter)"),
        "photo": node("LoadImage", image="two.png"),
        "latent": node("EmptyLatentImage", width=512, height=256, batch_size=1),
        "positive": node("ConditioningCombine", conditioning_1=["part0", 0], conditioning_2=["part1", 0]),
        "sample": sampler(["latent", 0]),
        "decode": node("VAEDecode", samples=["sample", 0], vae=["load", 3]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix=uuid4().hex),
    }
    for i, (number, feeling) in enumerate(zip(people, ("happy", "sad"), strict=True)):
        prompt |= {
            f"mask{i}": node("FaceCrafterFaceMasks", photo=["photo", 0], face_number=i, smallest=32, shape="square", grow=0.0, feather=0.02),
            f"person{i}": node("FaceCrafterSamplePortrait", portrait=f"portrait_{number}.jpg"),
            f"identity{i}": node("FaceCrafterEncodeIdentity", facecrafter=["load", 0], photo=[f"person{i}", 0], face="largest", face_number=0),
            f"pose{i}": node("FaceCrafterExtractLandmarks", photo=["photo", 0], face="by number", face_number=i, drawing_size=256),
            f"emotion{i}": emotion(feeling),
            f"who{i}": node("FaceCrafterConditioning", facecrafter=["load", 0], identity=[f"identity{i}", 0], landmarks=[f"pose{i}", 0],
                            emotion=[f"emotion{i}", 0], alpha_landmarks=1.0, alpha_emotion=1.0),
            f"part{i}": node("ConditioningSetMask", conditioning=[f"who{i}", 0], mask=[f"mask{i}", 0], strength=1.0, set_cond_area="mask bounds"),
        }  # fmt: skip
    prompt["sample"]["inputs"]["negative"] = ["who0", 1]
    (picture,) = made(server, prompt)
    studio = Studio()
    wanted = [studio.identity([load_photo(SAMPLES / f"portrait_{n}.jpg")]) for n in people]
    halves = [studio.identity([np.ascontiguousarray(picture[:, 256 * i : 256 * (i + 1)].astype(np.uint8))]) for i in (0, 1)]
    likeness = np.array([[float(half @ person) for person in wanted] for half in halves])
    assert likeness[0, 0] > likeness[0, 1] + 0.2 and likeness[1, 1] > likeness[1, 0] + 0.2, likeness


def test_inpainting_through_comfyuis_own_conditioning_node_is_the_same(server: Server, pictures: Path) -> None:
    """The demo's UNet takes no masked picture as further input, so only the noise mask may act."""
    prompt = group("three.png")
    prompt["sample"]["inputs"]["steps"] = 2
    (expected,) = made(server, prompt)
    inpaint = node("InpaintModelConditioning", positive=["positive", 0], negative=["conditions", 1], vae=["load", 3], pixels=["crop", 0],
                   mask=["crop", 2], noise_mask=True)  # fmt: skip
    through = group("three.png", inpaint=inpaint)
    through["sample"]["inputs"] |= {"steps": 2, "positive": ["inpaint", 0], "negative": ["inpaint", 1], "latent": ["inpaint", 2]}
    (found,) = made(server, through)
    assert np.abs(found - expected).max() <= 1


def test_differential_diffusion_acts_on_our_model(server: Server, pictures: Path) -> None:
    prompt = group("three.png", soft=node("DifferentialDiffusion", model=["load", 1]), sample=sampler(["masked", 0], 0.6, 4, ("soft", 0)))
    usual = group("three.png", sample=sampler(["masked", 0], 0.6, 4))
    (a,), (b,) = made(server, prompt), made(server, usual)
    assert np.abs(a - b).mean() > 0.05
