"""Faces in whole pictures: one run may hold several people, each in a part of the picture."""

import torch
from facecrafter.facecrafter_core.diffusion.guidance import Guidance
from facecrafter.facecrafter_core.errors import FaceCrafterError, PhotoError
from facecrafter.nodes import crops, faces
from facecrafter.nodes.host import guidance
from facecrafter.nodes.pictures import sample_photos, to_image
from world import conditioning, demo

import nodes

ONLY_POSITIVE = Guidance(identity=1.0, landmark=1.0, emotion=1.0)  # Eq. 6 then has no row "none"


def portraits(*numbers):
    return to_image([list(sample_photos().values())[i] for i in numbers])


def group(*numbers):
    """Portraits side by side, as one picture."""
    return torch.cat(list(portraits(*numbers)), dim=1)[None]


def cut(photo, face="largest", **inputs):
    inputs = {"upright": False, "margin": 0.0, "shape": "oval", "grow": 0.05, "feather": 0.05, **inputs}
    return crops.FaceCrafterFaceCrop.execute(demo().crafter, photo, face, 0, 32, **inputs).args[:4]


def paste(*args):
    return crops.FaceCrafterFacePaste.execute(*args).args[0]


def refuses(words, function, *args, **inputs):
    try:
        function(*args, **inputs)
    except FaceCrafterError as error:
        assert isinstance(error, PhotoError) and all(w in str(error) for w in words), error
    else:
        raise AssertionError("let through")


def _denoise(positive, negative, noise):
    import comfy.samplers

    guider = guidance.FaceCrafterGuider(demo().model, positive, negative, ONLY_POSITIVE)
    sigmas = comfy.samplers.calculate_sigmas(demo().model.get_model_object("model_sampling"), "normal", 2)
    return guider.sample(noise, torch.zeros_like(noise), comfy.samplers.sampler_object("euler"), sigmas, disable_pbar=True)


def check_two_people_in_one_run_are_each_as_if_alone_in_their_part():
    (a, negative), (b, _) = conditioning(seed=1), conditioning(seed=2)
    noise = torch.randn(1, 4, 8, 16, generator=torch.Generator().manual_seed(0))
    left = torch.zeros(1, 64, 128)
    left[..., :64] = 1
    parts = [
        nodes.ConditioningSetMask().append(cond, mask, "mask bounds", 1.0)[0] for cond, mask in ((a, left), (b, 1 - left))
    ]
    both = _denoise(nodes.ConditioningCombine().combine(*parts)[0], negative, noise)
    alone = [_denoise(cond, negative, part) for cond, part in ((a, noise[..., :8]), (b, noise[..., 8:]))]
    assert torch.allclose(both, torch.cat(alone, -1), atol=1e-4)
    assert (alone[0] - _denoise(b, negative, noise[..., :8])).abs().max() > 1e-2, "the two people are the same"


def check_face_masks_are_one_a_face_from_left_to_right():
    photo = group(0, 3, 1)
    mask, masks, union, count = crops.FaceCrafterFaceMasks.execute(photo, 1, 32, "oval", 0.05, 0.05).args
    assert count == 3 and masks.shape == (3, *photo.shape[1:3]) and torch.equal(mask, masks[1:2])
    assert torch.equal(union, masks.amax(0, keepdim=True))
    columns = [int(m.amax(0).nonzero().float().mean()) // 512 for m in masks]
    assert columns == [0, 1, 2]


def check_every_face_of_a_crowd_has_a_number():
    photo = torch.cat([group(0, 3, 1, 0, 3, 1)] * 2, dim=1)[:, ::2, ::2]
    _, masks, _, count = crops.FaceCrafterFaceMasks.execute(photo, 11, 32, "oval", 0.05, 0.05).args
    assert count == len(masks) == 12
    inputs = [*crops.FaceCrafterFaceMasks.define_schema().inputs, *faces.choice_inputs()]
    numbers = [one.max for one in inputs if one.id == "face_number"]
    assert len(numbers) == 2 and min(numbers) >= 283, "a face in each of the search's tiles"


def check_all_faces_go_out_and_back_in_their_order():
    photo = group(0, 3, 1)
    squares, landmarks, masks, crop = cut(photo, "all")
    assert squares.shape == (3, 256, 256, 3) and landmarks.shape == (3, 478, 3) and masks.shape == (3, 256, 256)
    back = paste(crop, squares, "keep")
    assert back.shape == photo.shape and (back - photo).abs().mean() < 0.003
    swapped = paste(crop, squares.flip(0), "keep")
    first, middle, last = (slice(512 * i, 512 * (i + 1)) for i in range(3))
    assert all((swapped - back)[:, :, part].abs().mean() > 0.01 for part in (first, last))
    assert torch.equal(swapped[:, :, middle], back[:, :, middle])


def check_outside_of_the_masks_nothing_changes():
    photo = group(0, 3)
    squares, _, _, crop = cut(photo, "all")
    union = crops.FaceCrafterFaceMasks.execute(photo, 0, 32, "oval", 0.05, 0.07).args[2]
    out = paste(crop, torch.zeros_like(squares), "keep")
    outside = union[0] == 0
    assert torch.equal(out[0][outside], photo[0][outside]) and not torch.equal(out, photo)
    assert torch.equal(paste(crop, torch.zeros_like(squares), "keep", torch.zeros(1, 64, 64)), photo)


def check_more_faces_than_were_cut_out_give_more_pictures():
    photo = portraits(0, 1)
    squares, _, _, crop = cut(photo)
    out = paste(crop, torch.cat([squares, squares * 0]), "match")
    assert out.shape == (4, *photo.shape[1:])
    assert (out[:2] - photo).abs().mean() < 0.003 < (out[2:] - photo).abs().mean()
    refuses(["Expected 2 new faces", "found 3"], paste, crop, torch.cat([squares, squares[:1]]), "keep")
    refuses(["one mask, or 2", "[3, 8, 8]"], paste, crop, squares, "keep", torch.ones(3, 8, 8))


def check_several_people_are_several_identities():
    one_by_one = [faces.FaceCrafterEncodeIdentity.execute(demo().crafter, portraits(i), "largest", 0).args[0] for i in (0, 3)]
    encode = faces.FaceCrafterEncodeIdentity.execute
    batch = encode(demo().crafter, portraits(0, 3), "largest", 0, one_each=True).args[0]
    assert torch.allclose(batch, torch.cat(one_by_one))
    assert encode(demo().crafter, portraits(0, 3), "largest", 0).args[0].shape == (1, 128)


def check_a_picture_in_grey_or_with_transparency_is_cut_too():
    photo = portraits(0)
    for image in (photo.mean(-1, keepdim=True), torch.cat([photo, torch.ones_like(photo[..., :1])], -1)):
        squares, _, _, crop = cut(image)
        assert squares.shape == (1, 256, 256, 3) and paste(crop, squares, "keep").shape == photo.shape


def check_one_picture_is_expected_for_masks():
    refuses(["one picture", "batch of 2"], crops.FaceCrafterFaceMasks.execute, portraits(0, 1), 0, 32, "oval", 0.05, 0.05)
