"""What a user can get wrong ends in one clear sentence, and the next run works."""

import copy
import json
import struct
import tempfile
from pathlib import Path
from types import SimpleNamespace

import comfy.model_patcher
import folder_paths
import torch
from facecrafter.facecrafter_core.control.adapter import new_adapter, save_adapter
from facecrafter.facecrafter_core.errors import AdapterError, AssetError, FaceCrafterError, ModelError, PhotoError
from facecrafter.nodes import crops, emotion, faces, landmarks, loaders, sampling
from facecrafter.nodes.host import adapter, base, contexts, guidance
from facecrafter.nodes.pictures import sample_photos, to_image
from world import conditioning, conditions, crafted, demo, latent, plain


def refuses(kind, words, function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except FaceCrafterError as error:
        assert isinstance(error, kind), f"{type(error).__name__}: {error}"
        assert all(word in str(error) for word in words), error
        assert "\n" not in str(error)
    else:
        raise AssertionError(f"{words} was let through")


def check_latents_with_nan():
    start = latent()
    start["samples"][0, 0, 0, 0] = float("nan")
    refuses(ModelError, ["not finite"], crafted, demo().model, *conditioning(), start)
    assert torch.isfinite(crafted(demo().model, *conditioning(), latent())).all()


def check_an_empty_latent_batch():
    refuses(ModelError, ["empty batch"], crafted, demo().model, *conditioning(), {"samples": torch.zeros(0, 4, 8, 8)})


def check_latents_of_another_kind():
    start = {"samples": torch.ones(1, 16, 8, 8)}
    refuses(ModelError, ["[B, 4, h, w]", "16"], crafted, demo().model, *conditioning(), start)


def check_an_empty_image_batch():
    photo = torch.zeros(0, 64, 64, 3)
    refuses(PhotoError, ["at least one picture"], faces.FaceCrafterExtractLandmarks.execute, photo, "largest", 0, 256)
    refuses(
        PhotoError,
        ["at least one picture"],
        faces.FaceCrafterEncodeIdentity.execute,
        demo().crafter,
        photo,
        "largest",
        0,
    )
    refuses(PhotoError, ["at least one picture"], emotion.FaceCrafterEmotionFromImage.execute, photo, "largest", 0)


def check_an_image_with_nan():
    photo = torch.full((1, 64, 64, 3), float("nan"))
    refuses(PhotoError, ["not finite"], faces.FaceCrafterExtractLandmarks.execute, photo, "largest", 0, 256)


def check_a_picture_without_a_face():
    grey = torch.full((1, 128, 128, 3), 0.5)
    refuses(FaceCrafterError, ["No face"], faces.FaceCrafterExtractLandmarks.execute, grey, "largest", 0, 256)
    refuses(FaceCrafterError, ["No face"], faces.FaceCrafterEncodeIdentity.execute, demo().crafter, grey, "largest", 0)


def check_an_emotion_estimator_without_weights():
    portrait = to_image(list(sample_photos().values())[:1])
    read = emotion.FaceCrafterEmotionFromImage.execute
    refuses(AssetError, ["emonet_8.pth", "CC BY-NC-ND", "facecrafter assets download emonet"], read, portrait, "largest", 0, "emonet")
    refuses(AssetError, ["enet_b0_8_va_mtl.onnx", "facecrafter assets download hsemotion"], read, portrait, "largest", 0, "hsemotion")
    refuses(ModelError, ["automatic, demo, emonet, hsemotion", "'fer'"], read, portrait, "largest", 0, "fer")
    full = SimpleNamespace(family=SimpleNamespace(name="full"))
    refuses(AssetError, ["emonet_8.pth"], read, portrait, "largest", 0, "automatic", full)
    before = read(portrait, "largest", 0).args[0]  # as old workflows call it
    assert torch.equal(before, read(portrait, "largest", 0, "demo", full).args[0])
    assert torch.equal(before, read(portrait, "largest", 0, "automatic", demo().crafter).args[0])


def check_pictures_with_alpha_or_in_grey_are_read():
    portrait = to_image(list(sample_photos().values())[:1])
    alpha = torch.cat([portrait, torch.ones_like(portrait[..., :1])], -1)
    expected = faces.FaceCrafterExtractLandmarks.execute(portrait, "largest", 0, 128).args[0]
    assert expected.shape == (1, 478, 3)
    for image in (alpha, portrait.mean(-1, keepdim=True)):
        found = faces.FaceCrafterExtractLandmarks.execute(image, "largest", 0, 128).args[0]
        assert (found - expected)[..., :2].abs().mean() < 0.02


def check_a_choice_that_the_photo_does_not_have():
    portrait = to_image(list(sample_photos().values())[:1])
    refuses(
        FaceCrafterError,
        ["3", "the photo has 1"],
        faces.FaceCrafterExtractLandmarks.execute,
        portrait,
        "by number",
        3,
        256,
    )


def check_an_emotion_that_does_not_sum_to_1():
    classes = dict.fromkeys(emotion.EMOTIONS, 0.5)
    refuses(FaceCrafterError, ["sum"], emotion.FaceCrafterEmotion.execute, "classes", "happy", 1.0, 0.0, 0.0, **classes)


def check_an_emotion_estimator_whose_file_is_missing():
    portrait = to_image(list(sample_photos().values())[:1])
    args = (emotion.FaceCrafterEmotionFromImage.execute, portrait, "largest", 0)
    refuses(FaceCrafterError, ["emonet_8.pth", "assets download emonet"], *args, "emonet")
    refuses(FaceCrafterError, ["enet_b0_8_va_mtl.onnx"], *args, "hsemotion")
    assert emotion.FaceCrafterEmotionFromImage.execute(portrait, "largest", 0).args[0].shape == (1, 10)


def check_a_conditioning_that_is_not_ours():
    foreign = [[torch.zeros(1, 77, 128), {}]]
    refuses(
        ModelError,
        ["FaceCrafter Conditioning"],
        guidance.FaceCrafterGuider,
        demo().model,
        foreign,
        foreign,
        sampling.DEFAULTS,
    )


def check_a_model_without_apply_faces_control_that_it_would_lose():
    refuses(ModelError, ["put Apply FaceCrafter"], plain, demo().model, *conditioning(), latent())
    identity_only = conditioning(alpha_landmark=0.0, alpha_emotion=0.0)
    assert torch.isfinite(plain(demo().model, *identity_only, latent())).all()


def check_an_identity_of_another_encoder():
    _, landmarks, emotions = conditions()
    identities = torch.zeros(1, 512)
    refuses(
        ModelError,
        ["128", "512"],
        contexts.make_conditioning,
        demo().crafter,
        identities,
        landmarks,
        emotions,
        1.0,
        1.0,
    )


def check_a_model_of_other_widths():
    full = new_adapter("full").config
    refuses(ModelError, ["full", "1280", "128", "SD 1.5"], adapter.check_model, demo().model, full)


def check_a_model_with_another_context_or_input():
    config = demo().adapter.model.config
    for change in (lambda unet: setattr(unet.model_config, "unet_config", {**unet.model_config.unet_config, "in_channels": 9}), _widen):
        other = base.load_model(adapter.DEMO_FOLDER)
        change(other.model)
        refuses(ModelError, ["a context 128 wide and latents of 4 channels"], adapter.check_model, other, config)


def _widen(unet):
    layer = unet.diffusion_model.input_blocks[1][1].transformer_blocks[0].attn2
    layer.to_k = torch.nn.Linear(1024, 64, bias=False)


def check_an_autoencoder_of_another_base():
    config = demo().adapter.model.config
    for change, words in ((("latent_channels", 16), "16 channels"), (("latent_dim", 3), "3-D")):
        vae = copy.copy(demo().vae)
        setattr(vae, *change)
        refuses(ModelError, [words, "expected a VAE with latents of 4 channels"], adapter.check_vae, vae, config)


def check_a_model_that_is_no_unet():
    other = SimpleNamespace(model=SimpleNamespace(diffusion_model=torch.nn.Linear(2, 2)))
    refuses(
        ModelError, ["16 cross-attention layers", "found 0"], adapter.check_model, other, demo().adapter.model.config
    )


def check_a_clip_of_another_base():
    clip = SimpleNamespace(tokenize=lambda text: {"g": [], "l": []})
    crafter = adapter.FaceCrafter(demo().adapter, clip)
    refuses(ModelError, ["CLIP", "'g'"], contexts.make_conditioning, crafter, *conditions(), 1.0, 1.0)


def check_a_full_size_adapter_without_its_base():
    with _models_folder() as folder:
        save_adapter(new_adapter("full"), folder / "full.safetensors", dtype=torch.float16)
        refuses(ModelError, ["connect MODEL, CLIP and VAE"], loaders.FaceCrafterLoader.execute, "full.safetensors")
        refuses(
            ModelError,
            ["widths", "1280"],
            loaders.FaceCrafterLoader.execute,
            "full.safetensors",
            demo().model,
            demo().clip,
            demo().vae,
        )


def check_adapter_files_that_are_none():
    with _models_folder() as folder:
        (folder / "text.safetensors").write_text("these are no weights")
        whole = (adapter.DEMO_FOLDER / "adapter.safetensors").read_bytes()
        (folder / "truncated.safetensors").write_bytes(whole[: len(whole) // 2])
        (folder / "foreign.safetensors").write_bytes(struct.pack("<Q", 2) + json.dumps({}).encode())
        for name, words in (
            ("text", "not a whole safetensors file"),
            ("truncated", "not a whole"),
            ("foreign", "no FaceCrafter adapter"),
        ):
            refuses(AdapterError, [words], loaders.FaceCrafterLoader.execute, f"{name}.safetensors")
    assert loaders.FaceCrafterLoader.execute(adapter.DEMO_CHOICE).args[0].family.name == "demo"


def check_a_condition_that_the_adapter_has_no_module_for():
    identities, points, emotions = conditions()
    for lacks, words in (("landmark", "no landmark module"), ("emotion", "no emotion module")):
        one = comfy.model_patcher.ModelPatcher(new_adapter("demo", **{lacks: False}), torch.device("cpu"), torch.device("cpu"))
        refuses(AdapterError, [words], contexts.make_conditioning, adapter.FaceCrafter(one, demo().clip), identities, points, emotions, 1.0, 1.0)


def check_paths_outside_of_the_models_folder():
    with _models_folder() as folder:
        (folder.parent / "secret.safetensors").write_bytes(b"x")
        for name in ("../secret.safetensors", str(folder.parent / "secret.safetensors"), "a/../../secret.safetensors"):
            refuses(AdapterError, ["outside"], adapter.adapter_path, name)
            assert "outside" in loaders.FaceCrafterLoader.validate_inputs(name)
        refuses(AdapterError, ["There is no adapter"], adapter.adapter_path, "missing.safetensors")


def check_words_that_the_demos_text_encoder_does_not_know():
    refuses(ModelError, ["photo, of, a, id, person"], demo().clip.tokenize, "a cat")


class _models_folder:
    """models/facecrafter in a temporary place."""

    def __enter__(self):
        self.temporary = tempfile.TemporaryDirectory()
        folder = Path(self.temporary.name) / "facecrafter"
        folder.mkdir()
        self.before = folder_paths.folder_names_and_paths.get(adapter.FOLDER)
        folder_paths.folder_names_and_paths[adapter.FOLDER] = ([str(folder)], {".safetensors"})
        return folder

    def __exit__(self, *exception):
        if self.before is None:
            folder_paths.folder_names_and_paths.pop(adapter.FOLDER)
        else:
            folder_paths.folder_names_and_paths[adapter.FOLDER] = self.before
        self.temporary.cleanup()


def check_choices_that_are_none():
    """ComfyUI 0.3.64 lets any value through for a choice when a prompt comes over its API."""
    portrait = to_image(list(sample_photos().values())[:1])
    for wrong in ("nonsense", {}, 3):
        refuses(FaceCrafterError, ["largest, only one"], faces.FaceCrafterExtractLandmarks.execute, portrait, wrong, 0, 64)
        refuses(FaceCrafterError, ["source", "preset"], emotion.FaceCrafterEmotion.execute, wrong, "happy", 1.0, 0.0, 0.0)
        refuses(FaceCrafterError, ["mode", "paper"], guidance.Guidance, mode=wrong)
        for name in ("sampler", "scheduler"):
            refuses(ModelError, [name, "knows"], crafted, demo().model, *conditioning(), latent(), **{name: wrong})


def check_guidance_that_is_never_computed_anew():
    """ComfyUI holds widgets to their limits, but not what comes over a link."""
    ends = {f"{name}_{end}": float(end == "end") for name in ("identity", "landmark", "emotion") for end in ("start", "end")}
    refuses(ModelError, ["refreshed", "found 0"], sampling.FaceCrafterGuidanceIntervals.execute, refresh=0, **ends)


def check_an_empty_output_of_the_node_before():
    """Blend and Schedule give None where nothing of a kind was connected."""
    refuses(FaceCrafterError, ["landmarks", "empty output"], landmarks.FaceCrafterStripExpression.execute, None, 1.0, 64)
    refuses(FaceCrafterError, ["emotions", "empty output"], emotion.FaceCrafterEmotionSweep.execute, None, None, 3)
    refuses(FaceCrafterError, ["landmarks", "empty output"], landmarks.FaceCrafterRetargetLandmarks.execute, None, None, 1.0, 64)


def check_a_folder_name_that_no_disk_takes():
    from facecrafter.facecrafter_core.plan import fill_set

    refuses(FaceCrafterError, ["another folder"], lambda: list(fill_set(Path("a" * 500), [], None, 1)))


def check_batches_that_do_not_pair():
    identities, points, emotions = conditions(3)
    for identity, face, mood in ((identities[:2], points, None), (identities, points[:2], None), (identities[:1], points[:2], emotions)):
        refuses(ModelError, ["Expected 1 or 3 entries"], contexts.make_conditioning, demo().crafter, identity, face, mood, 1.0, 1.0)
    refuses(
        ModelError,
        ["latent batch of 1", "found 2"],
        sampling.FaceCrafterSampler.execute,
        demo().model,
        *conditioning(3),
        *(0, 1, "euler", "normal", 1.0, 2.5, 2.0, 2.0, "paper", False),
        latent(2),
    )


def _with_faceless():
    """Three pictures of which the second has no face."""
    portraits = to_image(list(sample_photos().values())[:2], size=256)
    return torch.cat([portraits[:1], torch.full((1, 256, 256, 3), 0.5), portraits[1:]])


def _readers():
    """Each node that finds faces, as (picture batch, further inputs) -> outputs."""
    crafter = demo().crafter
    crop = ("largest", 0, 32, False, 0.0, "oval", 0.05, 0.05)
    return {
        "Face Crop": lambda photos, **more: crops.FaceCrafterFaceCrop.execute(crafter, photos, *crop, **more).args,
        "Face Crop, all": lambda photos, **more: crops.FaceCrafterFaceCrop.execute(crafter, photos, "all", *crop[1:], **more).args,
        "Encode Identity": lambda photos, **more: faces.FaceCrafterEncodeIdentity.execute(crafter, photos, "largest", 0, one_each=True, **more).args,
        "Emotion From Image": lambda photos, **more: emotion.FaceCrafterEmotionFromImage.execute(photos, "largest", 0, **more).args,
    }


def check_a_faceless_picture_is_named_by_its_number_and_input():
    batch = _with_faceless()
    for name, read in (_readers() | {"Extract": lambda photos: faces.FaceCrafterExtractLandmarks.execute(photos, "largest", 0, 64)}).items():
        refuses(FaceCrafterError, ["picture 2 of 3 in photo: "], read, batch)
        refuses(FaceCrafterError, ["found none" if name == "Face Crop, all" else "photo: No face"], read, batch[1:2])
    encode = faces.FaceCrafterEncodeIdentity.execute
    refuses(FaceCrafterError, ["photo_3: No face"], encode, demo().crafter, batch[:1], "largest", 0, photo_3=batch[1:2])
    refuses(FaceCrafterError, ["picture 2 of 3 in photo_2: No face"], encode, demo().crafter, batch[:1], "largest", 0, photo_2=batch)
    refuses(FaceCrafterError, ["photo: ", "found none"], crops.FaceCrafterFaceMasks.execute, batch[1:2], 0, 32, "oval", 0.0, 0.0)


def check_faceless_pictures_are_skipped_when_asked():
    batch = _with_faceless()
    for name, read in _readers().items():
        found, without = read(batch, faceless="skip"), read(batch[[0, 2]])
        assert (found[-1], without[-1]) == (1, 0), name
        assert torch.allclose(found[0], without[0], atol=1e-5), name
        refuses(FaceCrafterError, ["any of the 2 pictures"], read, batch[[1, 1]], faceless="skip")
        refuses(FaceCrafterError, ["photo: "], read, batch[1:2], faceless="skip")
        refuses(FaceCrafterError, ["faceless", "stop, skip", "'leave'"], read, batch, faceless="leave")
    encode = faces.FaceCrafterEncodeIdentity.execute
    together = encode(demo().crafter, batch, "largest", 0, faceless="skip").args
    assert torch.allclose(together[0], encode(demo().crafter, batch[[0, 2]], "largest", 0).args[0], atol=1e-5) and together[-1] == 1


def check_face_paste_leaves_pictures_without_a_face_as_they_are():
    batch = _with_faceless()
    squares, _, _, crop, skipped = _readers()["Face Crop"](batch, faceless="skip")
    [pasted] = crops.FaceCrafterFacePaste.execute(crop, 1 - squares, "keep").args
    assert skipped == 1 and len(squares) == 2 and torch.equal(pasted[1], batch[1])
    assert all((pasted[i] - batch[i]).abs().max() > 0.1 for i in (0, 2))
