"""The control modules and the branches: sizes, Eq. 1, switches."""

import math

import pytest
import torch

from facecrafter_core.control.adapter import FaceCrafterAdapter, new_adapter
from facecrafter_core.control.branches import (
    BranchInput,
    attention,
    branch_inputs,
    decoupled_attention,
    repeat_rows,
)
from facecrafter_core.control.config import CROSS_ATTENTION_LAYERS, DEMO, FULL, ControlConfig


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_full_size_stays_within_the_papers_parameters():
    landmark = FaceCrafterAdapter(FULL, emotion=False)
    both = FaceCrafterAdapter(FULL)
    assert 11.0e6 < parameters(landmark) <= 11.7e6
    assert 17.0e6 < parameters(both) <= 18.0e6


def test_full_size_projections_cost_24960_times_the_token_width():
    assert 2 * sum(FULL.layer_widths) == 24_960
    assert parameters(FaceCrafterAdapter(FULL, emotion=False).landmark_branch) == 24_960 * FULL.landmark_width


def test_demo_adapter_is_narrower():
    assert parameters(FaceCrafterAdapter(DEMO)) < parameters(FaceCrafterAdapter(FULL)) / 10


@pytest.mark.parametrize("config", [FULL, DEMO], ids=["full", "demo"])
def test_token_shapes(config: ControlConfig):
    adapter = FaceCrafterAdapter(config)
    pictures = torch.rand(2, 3, config.picture_size, config.picture_size)
    assert adapter.landmark(pictures).shape == (2, 256, config.landmark_width)
    assert adapter.emotion(torch.rand(2, 10)).shape == (2, config.emotion_tokens, config.emotion_width)
    keys = adapter.landmark_branch.project(adapter.landmark(pictures))
    assert [k.shape[-1] for k, _ in keys] == list(config.layer_widths)
    assert len(keys) == len(CROSS_ATTENTION_LAYERS) == 16


def test_landmark_tokens_say_where_not_only_what():
    """The mean token of a shifted drawing differs: position reaches even attention that is spread evenly."""
    module = new_adapter("demo").landmark
    picture = torch.zeros(1, 3, 256, 256)
    picture[:, :, 100:120, 60:80] = 1
    shifted = picture.roll(64, dims=3)
    a, b = module(picture).mean(1), module(shifted).mean(1)
    assert (a - b).norm() > 1e-3 * a.norm()


def test_wrong_shapes_are_refused_with_what_was_expected():
    adapter = new_adapter("demo")
    with pytest.raises(ValueError, match=r"Expected landmark drawings of shape \[B, 3, 256, 256\], found \[1, 3, 64, 64\]"):
        adapter.landmark(torch.rand(1, 3, 64, 64))
    with pytest.raises(ValueError, match=r"Expected emotion vectors of shape \[B, 10\], found \[1, 8\]"):
        adapter.emotion(torch.rand(1, 8))


def eq1_in_float64(attention_id, query, branches, heads):
    """Eq. 1 as the paper writes it, row by row and head by head."""
    out = attention_id.double().clone()
    width = query.shape[-1] // heads
    for key, value, alpha, rows in branches:
        for i, row in enumerate(range(*rows.indices(len(query)))):
            for h in range(heads):
                c = slice(h * width, (h + 1) * width)
                scores = query[row, :, c].double() @ key[i, :, c].double().T / math.sqrt(width)
                out[row, :, c] += alpha[i].double() * (scores.softmax(-1) @ value[i, :, c].double())
    return out


def test_eq1_equals_its_plain_float64_form():
    torch.manual_seed(0)
    base, query = torch.randn(4, 9, 16), torch.randn(4, 9, 16)
    branches = [
        BranchInput(torch.randn(2, 5, 16), torch.randn(2, 5, 16), torch.tensor([1.0, 0.3]).view(2, 1, 1), slice(1, 3)),
        BranchInput(torch.randn(3, 7, 16), torch.randn(3, 7, 16), torch.ones(3, 1, 1), slice(1, 4)),
    ]
    found = decoupled_attention(base, query, branches, heads=2)
    torch.testing.assert_close(found.double(), eq1_in_float64(base, query, branches, 2), atol=1e-5, rtol=1e-5)
    assert torch.equal(found[0], base[0]), "a row without branches must stay as it is"


def test_eq1_gradients_reach_keys_values_and_alpha():
    torch.manual_seed(0)
    base, query = (torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    key, value = (torch.randn(1, 5, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    alpha = torch.rand(1, 1, 1, dtype=torch.float64, requires_grad=True)

    def f(b, q, k, v, a):
        return decoupled_attention(b, q, [BranchInput(k, v, a, slice(1, 2))], 2)

    assert torch.autograd.gradcheck(f, (base, query, key, value, alpha))


def test_no_branches_returns_the_base_attention_itself():
    base = torch.randn(2, 3, 4)
    assert decoupled_attention(base, torch.randn(2, 3, 4), [], 2) is base


def test_untrained_adapter_adds_exactly_nothing():
    adapter = new_adapter("demo")
    projected = adapter.emotion_branch.project(adapter.emotion(torch.rand(1, 10)))
    inputs = branch_inputs(projected, torch.ones(1, 1, 1), slice(0, 1))
    base = torch.randn(1, 9, DEMO.layer_widths[0])
    assert torch.equal(decoupled_attention(base, torch.randn_like(base), inputs[:1], 8), base)


def test_rows_of_a_batch_with_different_alphas_equal_separate_calls():
    torch.manual_seed(1)
    query, key, value = torch.randn(3, 9, 16), torch.randn(1, 5, 16), torch.randn(1, 5, 16)
    alphas = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1)
    together = decoupled_attention(
        torch.zeros(3, 9, 16), query, [BranchInput(key.expand(3, -1, -1), value.expand(3, -1, -1), alphas, slice(0, 3))], 4
    )
    for i, alpha in enumerate(alphas):
        torch.testing.assert_close(together[i], (alpha * attention(query[i : i + 1], key, value, 4))[0])


def test_repeat_rows_repeats_the_whole_batch_row_by_row():
    key = torch.arange(2.0).view(2, 1, 1)
    [(k, v)] = repeat_rows([(key, key + 10)], 2)
    assert k.flatten().tolist() == [0, 1, 0, 1] and v.flatten().tolist() == [10, 11, 10, 11]


def test_a_face_that_comes_many_times_is_drawn_once_and_in_its_places(monkeypatch):
    from facecrafter_core.faces import drawing

    adapter, drawn = new_adapter("demo"), []
    faces = torch.rand(2, 478, 3)[[1, 0, 1, 1]]
    expected = [drawing.draw_landmarks(face.numpy(), 256) for face in faces]
    monkeypatch.setattr(drawing, "draw_landmarks", lambda points, size, draw=drawing.draw_landmarks: (drawn.append(points), draw(points, size))[1])
    found = adapter.draw(faces)
    assert len(drawn) == 2
    assert all((picture.numpy() == other).all() for picture, other in zip(found, expected, strict=True))
