"""The pipeline on an untrained base: rows, switches, seeds, batches, schedulers, errors."""

import copy

import numpy as np
import pytest
import torch

from facecrafter_core.control.adapter import new_adapter
from facecrafter_core.diffusion.families import DEMO, new_unet
from facecrafter_core.diffusion.guidance import ROWS, Guidance, combine, guidance_coefficients
from facecrafter_core.diffusion.passes import Conditions, prepare_pass
from facecrafter_core.diffusion.schedulers import NoWaiting
from facecrafter_core.errors import AdapterError, FaceCrafterError, ModelError
from facecrafter_core.faces.emotion import Emotion

HAPPY = Emotion.preset("happy")


def latents(pipe, *args, **kwargs) -> torch.Tensor:
    return pipe(*args, **{"steps": 2, "output_type": "latent", **kwargs})


def test_processors_without_branches_equal_diffusers_own_bit_for_bit(pipe):
    torch.manual_seed(0)
    plain = new_unet(DEMO).eval()
    plain.load_state_dict(pipe.unet.state_dict())
    x, context = torch.randn(2, 4, 32, 32), torch.randn(2, 77, 128)
    with torch.inference_mode():
        assert torch.equal(plain(x, 500, context).sample, pipe.unet(x, 500, context).sample)


def test_both_alphas_zero_equals_no_conditions_bit_for_bit(pipe, identity, landmarks):
    off = latents(pipe, identity, landmarks, HAPPY, alpha_landmark=0.0, alpha_emotion=0.0)
    assert torch.equal(off, latents(pipe, identity))


def test_each_condition_changes_the_picture(pipe, identity, landmarks):
    base = latents(pipe, identity)
    for conditions in ({"landmarks": landmarks}, {"emotion": HAPPY}):
        assert (latents(pipe, identity, **conditions) - base).abs().max() > 1e-3


def test_guided_prediction_equals_separate_forward_passes(pipe, identity, landmarks):
    """All five rows in one batch, with their own branches, equal one pass a row; and Eq. 6 of them is what a step uses."""
    x = torch.randn(1, 4, 32, 32)
    with torch.inference_mode():
        conditions = Conditions(
            pipe.encode_context(identity[None]),
            pipe.project_conditions(landmarks[None], torch.as_tensor(HAPPY.vector)[None]),
            {"landmark": 1.0, "emotion": 0.5},
        )

        def predict(*rows: str) -> dict[str, torch.Tensor]:
            return pipe.predict_rows(x, torch.tensor(500), [prepare_pass(conditions, rows, slice(0, 1))], conditions)

        together = predict(*ROWS)
        for row in ROWS:
            alone = predict(row)
            torch.testing.assert_close(together[row], alone[row], atol=2e-5, rtol=1e-4)
    table = guidance_coefficients(Guidance(), 1.0)
    e = together
    expected = e["none"] + 2.5 * (e["id"] - e["none"]) + 2 * (e["id+lmk"] - e["id"]) + 2 * (e["id+emo"] - e["id"])
    torch.testing.assert_close(combine(e, table), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("room", [8, 3, 1])
def test_what_does_not_fit_into_memory_is_split_with_the_same_result(pipe, identity, landmarks, monkeypatch, room: int):
    conditions = {"landmarks": landmarks, "emotion": HAPPY, "count": 2}  # 4 rows x 2 pictures
    expected = pipe(identity, **conditions, steps=2, output_type="np")
    seen, forward, decode = [], pipe.unet.forward, pipe.vae.decode

    def limited(x, *args, **kwargs):
        if len(x) > room:
            raise torch.cuda.OutOfMemoryError("no room")
        seen.append(len(x))
        return forward(x, *args, **kwargs)

    def limited_decode(x, *args, **kwargs):
        if len(x) > 1:
            raise torch.cuda.OutOfMemoryError("no room")
        return decode(x, *args, **kwargs)

    monkeypatch.setitem(vars(pipe.unet), "forward", limited)
    monkeypatch.setattr(pipe.vae, "decode", limited_decode)
    np.testing.assert_allclose(pipe(identity, **conditions, steps=2, output_type="np"), expected, atol=1e-4)
    assert seen == {8: [8], 3: [2] * 4, 1: [1] * 8}[room] * 2, "split once, not again in each step"


def test_a_picture_that_does_not_fit_at_all_is_said_in_a_sentence(pipe, identity, monkeypatch):
    def full(*args, **kwargs):
        raise torch.cuda.OutOfMemoryError("no room")

    monkeypatch.setitem(vars(pipe.unet), "forward", full)
    with pytest.raises(ModelError, match="256 x 256 does not fit into the memory of cpu"):
        pipe(identity, steps=1)


def test_a_compiled_pipeline_has_the_same_numbers_and_one_graph_for_each_set_of_rows(pipe, identity, landmarks):
    pipe = copy.deepcopy(pipe)
    runs = [{}, {"landmarks": landmarks, "emotion": HAPPY}, {"landmarks": landmarks, "emotion": HAPPY, "guidance": Guidance(3.0, 1.0, 1.5), "seed": 7}]
    expected = [pipe(identity, **run, steps=3, output_type="np") for run in runs]
    graphs = []
    pipe.compile(backend=lambda graph, inputs: (graphs.append(graph), graph.forward)[1])
    for run, picture in zip(runs, expected, strict=True):
        np.testing.assert_allclose(pipe(identity, **run, steps=3, output_type="np"), picture, atol=1e-4)
    assert len(graphs) == 3, "two sets of rows and the decoder; other weights and seeds need no new graph"


def test_more_kinds_of_pictures_than_torch_keeps_are_made_uncompiled(pipe, identity):
    expected = latents(pipe, identity, count=2)
    compiled = copy.deepcopy(pipe).compile(backend="eager")
    with torch._dynamo.config.patch(cache_size_limit=1):
        latents(compiled, identity)
        torch.testing.assert_close(latents(compiled, identity, count=2), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("count", [1, 2])
def test_what_rows_have_in_common_is_computed_once_with_the_same_numbers(pipe, identity, landmarks, monkeypatch, count: int):
    conditions = {"landmarks": landmarks, "emotion": HAPPY, "count": count}
    seen, first = [], pipe.unet.down_blocks[0].resnets[0]
    handle = first.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    together = latents(pipe, identity, **conditions)
    forward = pipe.unet.forward
    monkeypatch.setitem(vars(pipe.unet), "forward", lambda *a, **k: forward(*a, **k))  # as offloading does: the UNet is then called as a whole
    torch.testing.assert_close(latents(pipe, identity, **conditions), together, atol=1e-5, rtol=1e-4)
    handle.remove()
    assert seen == [count] * 2 + [4 * count] * 2


def test_hooks_on_the_unet_are_called(pipe, identity, landmarks):
    """A ControlNet, say, that somebody puts on so."""
    seen = []
    handles = [pipe.unet.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))]
    handles.append(pipe.unet.register_forward_hook(lambda module, args, out: seen.append("out")))
    latents(pipe, identity, landmarks, HAPPY, steps=1)
    for handle in handles:
        handle.remove()
    latents(pipe, identity, landmarks, HAPPY, steps=1)
    assert seen == [4, "out"]


def test_refreshing_every_second_step_evaluates_one_row_between_and_stays_near(pipe, identity, landmarks, monkeypatch):
    exact = latents(pipe, identity, landmarks, HAPPY, steps=6)
    seen, forward = [], pipe.unet.forward
    monkeypatch.setitem(vars(pipe.unet), "forward", lambda x, *a, **k: (seen.append(len(x)), forward(x, *a, **k))[1])
    near = latents(pipe, identity, landmarks, HAPPY, steps=6, guidance=Guidance(refresh=2))
    assert seen == [4, 1, 4, 1, 4, 1]
    assert not torch.equal(near, exact)
    seen.clear()
    latents(pipe, identity, landmarks, HAPPY, steps=3, guidance=Guidance(4.0, refresh=3))
    assert seen == [4, 1, 1], "the row id is needed though its coefficient is 0"


def test_rows_without_weight_are_not_evaluated(pipe, identity, landmarks, monkeypatch):
    seen = []
    forward = pipe.unet.forward
    monkeypatch.setitem(vars(pipe.unet), "forward", lambda x, *a, **k: (seen.append(len(x)), forward(x, *a, **k))[1])
    latents(pipe, identity, landmarks, HAPPY)
    latents(pipe, identity, landmarks, HAPPY, guidance=Guidance(mode="joint"))
    latents(pipe, identity, landmarks, guidance=Guidance(identity=1.0))
    latents(pipe, identity, guidance=Guidance(identity=1.0))
    assert seen == [4, 4, 3, 3, 2, 2, 1, 1]


def test_an_interval_drops_rows_step_by_step(pipe, identity, landmarks, monkeypatch):
    seen = []
    forward = pipe.unet.forward
    monkeypatch.setitem(vars(pipe.unet), "forward", lambda x, *a, **k: (seen.append(len(x)), forward(x, *a, **k))[1])
    latents(pipe, identity, landmarks, HAPPY, guidance=Guidance(emotion_interval=(1.0, 100.0)), steps=4)
    assert seen == [4, 4, 4, 3], "only the last of the four steps (sigma 14.6, 4.1, 1.6, 0.7) is below the interval"


def test_weights_of_their_own_equal_one_run_a_picture(pipe, identity, landmarks):
    together = latents(pipe, identity, landmarks, count=2, guidance=Guidance(2.5, (2.0, 0.5), 2.0))
    for i, w in enumerate((2.0, 0.5)):
        torch.testing.assert_close(together[i : i + 1], latents(pipe, identity, landmarks, seed=i, guidance=Guidance(2.5, w, 2.0)), atol=1e-4, rtol=1e-3)
    with pytest.raises(ModelError, match="weights for 1 or 2 pictures, found 3"):
        latents(pipe, identity, count=2, guidance=Guidance((1.0, 2.0, 3.0)))


def test_static_keys_and_values_are_projected_once_a_run(pipe, identity, landmarks, monkeypatch):
    calls = []
    layer = pipe.adapter.landmark_branch.to_k[0]
    forward = layer.forward
    monkeypatch.setattr(layer, "forward", lambda x: (calls.append(1), forward(x))[1])
    latents(pipe, identity, landmarks, steps=5)
    assert len(calls) == 1


def test_a_seed_reproduces_and_does_not_depend_on_the_batch(pipe, identity, landmarks):
    three = latents(pipe, identity, landmarks, seed=7, count=3)
    assert torch.equal(three, latents(pipe, identity, landmarks, seed=7, count=3))
    for i in range(3):
        torch.testing.assert_close(three[i : i + 1], latents(pipe, identity, landmarks, seed=7 + i), atol=1e-4, rtol=1e-3)
    assert (three[0] - three[1]).abs().max() > 0.1


def test_a_batch_of_conditions_equals_one_after_the_other(pipe, identity, landmarks):
    identities = torch.stack([identity, identity.roll(1)])
    emotions = np.stack([HAPPY.vector, Emotion.preset("sad").vector])
    together = latents(pipe, identities, landmarks, emotions, seed=0)
    torch.testing.assert_close(together[:1], latents(pipe, identities[0], landmarks, emotions[0]), atol=1e-4, rtol=1e-3)


def test_pictures_have_the_familys_size(pipe, identity):
    [picture] = pipe(identity, steps=1)
    assert picture.size == (256, 256)


def test_each_output_type_is_the_same_picture_and_another_is_refused(pipe, identity):
    array, tensor = pipe(identity, steps=1, output_type="np"), pipe(identity, steps=1, output_type="pt")
    np.testing.assert_array_equal(tensor.permute(0, 2, 3, 1).numpy(), array)
    with pytest.raises(ModelError, match="one of pil, np, pt, latent as output_type, found 'pint'"):
        pipe(identity, output_type="pint")


def test_a_callback_sees_each_step_and_may_change_the_latents(pipe, identity):
    seen = []

    def callback(its, step, timestep, given):
        seen.append((its is pipe, step, int(timestep), given["latents"].shape))
        return {"latents": given["latents"] * 0} if step == 1 else None

    out = latents(pipe, identity, callback_on_step_end=callback)
    assert seen == [(True, 0, 999, (1, 4, 32, 32)), (True, 1, 499, (1, 4, 32, 32))] and not out.any()


def test_nothing_stays_on_the_device_after_decoding_or_an_error(pipe, identity, monkeypatch):
    """As enable_model_cpu_offload() wants it."""
    order, decode = [], pipe.decode
    monkeypatch.setattr(pipe, "maybe_free_model_hooks", lambda: order.append("free"))
    monkeypatch.setattr(pipe, "decode", lambda *args: (order.append("decode"), decode(*args))[1])
    pipe(identity, steps=1)
    with pytest.raises(ZeroDivisionError):
        pipe(identity, steps=1, callback_on_step_end=lambda *_: 1 / 0)
    assert order == ["decode", "free", "free"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"identity": torch.zeros(64)}, r"identity vectors of shape \[B, 128\] for the demo family"),
        ({"identity": torch.full((128,), torch.nan)}, "identity holds numbers that are not finite"),
        ({"landmarks": torch.zeros(68, 2)}, r"Expected landmarks of shape \[478, 3\]"),
        ({"emotion": torch.zeros(8)}, r"Expected emotion vectors of shape \[10\]"),
        ({"steps": 0}, "Expected 1 to 1000 steps, found 0"),
        ({"steps": 1001}, "Expected 1 to 1000 steps, found 1001"),
        ({"count": 0}, "at least 1"),
        ({"emotion": HAPPY, "alpha_emotion": torch.nan}, "Expected alphas that are finite"),
        ({"identity": torch.zeros(3, 128), "landmarks": torch.zeros(2, 478, 3)}, "Expected 1 or 3 entries of landmarks, found 2"),
    ],
)
def test_wrong_conditions_are_refused(pipe, identity, change, sentence):
    with pytest.raises(FaceCrafterError, match=sentence):
        pipe(**{"identity": identity, **change})


def test_conditions_without_an_adapter_are_refused(pipe, identity):
    bare = copy.copy(pipe)
    bare.adapter = None
    with pytest.raises(ModelError, match="no adapter is loaded"):
        bare(identity, emotion=HAPPY)


@pytest.mark.parametrize("lacks", ["landmark", "emotion"])
def test_a_condition_that_the_adapter_has_no_module_for_is_refused(pipe, identity, landmarks, lacks: str):
    one = copy.copy(pipe)
    one.adapter = new_adapter("demo", **{lacks: False})
    conditions = {"landmarks": landmarks, "emotion": HAPPY}
    with pytest.raises(AdapterError, match=f"no {lacks} module"):
        one(identity, **conditions)
    given = {name: condition for name, condition in conditions.items() if not name.startswith(lacks)}
    assert one(identity, **given, steps=1, output_type="latent").isfinite().all()
    assert one(identity, **conditions, **{f"alpha_{lacks}": 0.0}, steps=1, output_type="latent").isfinite().all()


def test_the_adapter_goes_to_the_device_of_the_run_where_the_unet_waits_elsewhere(pipe, monkeypatch):
    monkeypatch.setattr(pipe, "adapter", copy.deepcopy(pipe.adapter))
    monkeypatch.setattr(type(pipe), "_execution_device", torch.device("meta"))  # as with enable_model_cpu_offload()
    projected = pipe.project_conditions(None, torch.zeros(1, 10, device="meta"))
    assert {t.device.type for layer in projected["emotion"] for t in layer} == {"meta"} and pipe.unet.device.type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_seed_gives_the_same_picture_on_a_gpu(pipe, identity, landmarks):
    """Noise is drawn on the host for both, and not waited for."""
    expected = latents(pipe, identity, landmarks, HAPPY, count=2, steps=5)
    found = latents(copy.deepcopy(pipe).to("cuda"), identity, landmarks, HAPPY, count=2, steps=5)
    torch.testing.assert_close(found.cpu(), expected, atol=2e-2, rtol=1e-2)


def test_noise_for_a_gpu_is_pinned_so_that_nobody_waits_for_it(monkeypatch):
    class PinnedError(Exception):
        pass

    def pin(tensor):
        raise PinnedError

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    with NoWaiting():
        assert torch.randn(2).to(torch.float16).to("cpu").dtype == torch.float16
        for move in (lambda noise: noise.to(torch.device("cuda")), lambda noise: noise.to(device="cuda:0", dtype=torch.float16)):
            with pytest.raises(PinnedError):
                move(torch.randn(2))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("offload", "place"), [("enable_model_cpu_offload", "cpu"), ("enable_sequential_cpu_offload", "meta")])
def test_offloading_gives_the_same_pictures(pipe, identity, landmarks, monkeypatch, offload: str, place: str):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # its rounding depends on how many rows go together
    pipe = copy.deepcopy(pipe)
    expected = latents(pipe.to("cuda"), identity, landmarks, HAPPY).cpu()
    pipe.to("cpu")
    getattr(pipe, offload)()
    torch.testing.assert_close(latents(pipe, identity, landmarks, HAPPY).cpu(), expected, atol=1e-4, rtol=1e-3)
    assert {p.device.type for p in pipe.unet.parameters()} == {place}
    assert place == "meta" or {p.device.type for p in pipe.adapter.parameters()} == {"cpu"}
