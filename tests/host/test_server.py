"""FaceCrafter in a running ComfyUI server, over its HTTP API."""

from __future__ import annotations

import json
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graph import to_prompt, with_inputs
from hosts import ROOT
from server import PromptError, Server

WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
NEEDS_FILES = "full_size"
"""The one template that needs other people's files."""
STEPS = 4
OURS = [
    "FaceCrafterApply",
    "FaceCrafterBalancedSet",
    "FaceCrafterBestOf",
    "FaceCrafterBlend",
    "FaceCrafterConditioning",
    "FaceCrafterDownloadModels",
    "FaceCrafterEditLandmarks",
    "FaceCrafterEmotion",
    "FaceCrafterEmotionFromImage",
    "FaceCrafterEmotionSweep",
    "FaceCrafterEncodeIdentity",
    "FaceCrafterExpressionSheet",
    "FaceCrafterExtractLandmarks",
    "FaceCrafterFaceCrop",
    "FaceCrafterFaceMasks",
    "FaceCrafterFacePaste",
    "FaceCrafterGuidanceIntervals",
    "FaceCrafterGuider",
    "FaceCrafterLoader",
    "FaceCrafterRetargetLandmarks",
    "FaceCrafterSamplePortrait",
    "FaceCrafterSampler",
    "FaceCrafterSchedule",
    "FaceCrafterScore",
    "FaceCrafterSmoothLandmarks",
    "FaceCrafterStripExpression",
]


@pytest.fixture(scope="session")
def nodes(server: Server) -> dict[str, Any]:
    return server.get("/object_info")


def prompt_of(name: str, nodes: dict[str, Any], steps: int = STEPS) -> dict[str, Any]:
    """A shipped workflow as a prompt with few steps."""
    prompt = to_prompt(json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8")), nodes)
    for kind in ("FaceCrafterSampler", "KSampler", "BasicScheduler", "FaceCrafterExpressionSheet", "FaceCrafterBalancedSet"):
        prompt = with_inputs(prompt, kind, steps=steps)
    return prompt


def array(picture: Any) -> np.ndarray:
    return np.asarray(picture).astype(float)


def test_all_nodes_are_there_under_their_frozen_ids(nodes: dict[str, Any]) -> None:
    assert sorted(name for name in nodes if name.startswith("FaceCrafter")) == OURS


def described(nodes: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name in OURS:
        for group in ("required", "optional"):
            for key, definition in nodes[name]["input"].get(group, {}).items():
                yield name, key, definition[1]


def test_every_input_and_output_has_a_tooltip_and_every_node_a_description(nodes: dict[str, Any]) -> None:
    assert [(name, key) for name, key, options in described(nodes) if not options.get("tooltip")] == []
    assert [name for name in OURS if not all(nodes[name]["output_tooltips"])] == []
    assert [name for name in OURS if not nodes[name]["description"]] == []


def test_every_node_has_a_help_page(server: Server) -> None:
    for name in OURS:
        with server.open(f"/extensions/facecrafter/docs/{name}.md") as answer:
            assert answer.read().startswith(b"# ")


def test_the_templates_are_offered_with_their_thumbnails(server: Server) -> None:
    offered = server.get("/workflow_templates")["facecrafter"]
    assert sorted(offered) == [path.stem for path in WORKFLOWS]
    assert len(offered) >= 10
    for name in offered:
        with server.open(f"/api/workflow_templates/facecrafter/{name}.jpg") as answer:
            assert answer.read(3) == b"\xff\xd8\xff"


@pytest.mark.parametrize("name", [path.stem for path in WORKFLOWS if path.stem != NEEDS_FILES])
def test_a_fresh_install_runs_each_template(server: Server, nodes: dict[str, Any], name: str) -> None:
    prompt = prompt_of(name, nodes, steps=2)
    for kind in ("FaceCrafterExpressionSheet", "FaceCrafterBalancedSet"):
        prompt = with_inputs(prompt, kind, emotions="neutral, happy", poses="10")
    pictures = server.images(server.run(prompt))
    assert len(pictures) == {"emotion_sweep": 4, "sequence": 9}.get(name, 1)
    whole = {"edit_face_in_picture": (512, 512), "group_photo": (1024, 512)}
    for picture in pictures:
        assert picture.size == whole.get(name, (256, 256)) or name == "expression_sheet"
        assert array(picture).std() > 5, "a flat picture"


def test_the_full_size_template_lacks_its_files_and_nothing_else(server: Server, nodes: dict[str, Any]) -> None:
    from facecrafter_core.assets import ASSETS

    workflow = json.loads((ROOT / "workflows" / f"{NEEDS_FILES}.json").read_text(encoding="utf-8"))
    status, answer = server.post("/prompt", {"prompt": to_prompt(workflow, nodes)})
    lacking = {one["class_type"]: [e["extra_info"]["input_name"] for e in one["errors"]] for one in answer["node_errors"].values()}
    assert status == 400
    assert lacking == {"UNETLoader": ["unet_name"], "CLIPLoader": ["clip_name"], "VAELoader": ["vae_name"], "FaceCrafterLoader": ["adapter"]}
    known = {model["name"]: (model["url"], model["directory"]) for node in workflow["nodes"] for model in node["properties"].get("models", [])}
    files = [ASSETS[name] for name in ("arc2face_unet", "arc2face_encoder", "sd_vae")]
    assert known == {asset.file: (asset.urls[0], asset.folder) for asset in files}


def test_landmarks_and_emotions_come_out_as_pictures(server: Server, nodes: dict[str, Any]) -> None:
    for name in ("copy_a_pose", "plain_ksampler"):
        shown = server.images(server.run(with_inputs(prompt_of(name, nodes), "FaceCrafterSamplePortrait")), kind="temp")
        assert any(array(picture).std() > 10 for picture in shown)


def test_the_seed_decides(server: Server, nodes: dict[str, Any]) -> None:
    prompt = prompt_of("portrait_from_photo", nodes, steps=2)
    runs = [
        with_inputs(with_inputs(prompt, "FaceCrafterSampler", seed=s), "SaveImage", filename_prefix=f"seed{i}")
        for i, s in enumerate((7, 7, 8))
    ]
    a, b, c = (array(server.images(server.run(run))[0]) for run in runs)
    assert np.array_equal(a, b) or np.abs(a - b).max() <= 1
    assert np.abs(a - c).mean() > 0.1


def test_alpha_0_is_as_if_nothing_were_connected(server: Server, nodes: dict[str, Any]) -> None:
    prompt = prompt_of("copy_a_pose", nodes, steps=2)
    off = with_inputs(prompt, "FaceCrafterConditioning", alpha_landmarks=0.0)
    bare = {
        n: {**node, "inputs": {k: v for k, v in node["inputs"].items() if k != "landmarks"}}
        for n, node in prompt.items()
    }
    a, b, on = (
        array(server.images(server.run(p))[0])
        for p in (off, with_inputs(bare, "SaveImage", filename_prefix="bare"), prompt)
    )
    assert np.array_equal(a, b)
    assert np.abs(a - on).mean() > 0.1


def test_a_photo_without_a_face_is_told_in_one_sentence_and_the_next_run_works(
    server: Server, nodes: dict[str, Any]
) -> None:
    from PIL import Image

    Image.new("RGB", (200, 200), (120, 130, 140)).save(server.folder / "input" / "grey.png")
    prompt = prompt_of("portrait_from_photo", nodes)
    number = next(n for n, node in prompt.items() if node["class_type"] == "FaceCrafterSamplePortrait")
    faceless = {**prompt, number: {"class_type": "LoadImage", "inputs": {"image": "grey.png"}}}
    with pytest.raises(PromptError, match="No face was found") as caught:
        server.run(faceless)
    assert "\n" not in str(caught.value)
    assert server.images(server.run(prompt))


def test_a_batch_of_photos_gives_a_batch_of_portraits(server: Server, nodes: dict[str, Any]) -> None:
    prompt = prompt_of("copy_a_pose", nodes, steps=2)
    poses = [n for n, node in prompt.items() if node["class_type"] == "FaceCrafterSamplePortrait"]
    prompt["batch"] = {"class_type": "ImageBatch", "inputs": {"image1": [poses[0], 0], "image2": [poses[1], 0]}}
    assert len(server.images(server.run(with_inputs(prompt, "FaceCrafterExtractLandmarks", photo=["batch", 0])))) == 2


def test_adapters_outside_of_the_models_folder_are_refused(server: Server, nodes: dict[str, Any]) -> None:
    (server.folder / "secret.safetensors").write_bytes(b"secret")
    for name in ("../../secret.safetensors", str(server.folder / "secret.safetensors")):
        with pytest.raises(PromptError, match="outside of it"):
            server.run(with_inputs(prompt_of("portrait_from_photo", nodes), "FaceCrafterLoader", adapter=name))


@pytest.mark.parametrize(
    "content", [b"no weights at all", b"\x10\x00\x00\x00\x00\x00\x00\x00{"], ids=["text", "truncated"]
)
def test_files_that_are_no_adapter_are_refused_in_one_sentence(
    server: Server, nodes: dict[str, Any], content: bytes
) -> None:
    folder = server.folder / "models" / "facecrafter"
    folder.mkdir(exist_ok=True)
    (folder / "broken.safetensors").write_bytes(content)
    with pytest.raises(PromptError, match="not a whole safetensors file"):
        server.run(
            with_inputs(prompt_of("portrait_from_photo", nodes), "FaceCrafterLoader", adapter="broken.safetensors")
        )


def test_licences_are_accepted_in_the_editor_alone(server: Server) -> None:
    """No file is downloaded here: the answers are what the node's button shows and sends."""
    address, inputs = "/facecrafter/licences", {"what": "hsemotion", "accept_licences": True, "mirror": "http://127.0.0.1:9"}
    with pytest.raises(PromptError, match="a click on 'Show and accept licences'"):
        server.run({"1": {"class_type": "FaceCrafterDownloadModels", "inputs": inputs}})
    assert "Apache-2.0" in server.get(f"{address}?what=hsemotion")["hsemotion"]
    status, answer = server.post(address, {"what": "nonsense"})
    assert status == 400 and "nonsense" in answer["error"]
    status, answer = server.post(address, {"what": "hsemotion"})
    assert status == 200 and list(answer) == ["hsemotion"]


def test_interrupt_ends_a_run_at_once(server: Server, nodes: dict[str, Any]) -> None:
    import time

    prompt = with_inputs(
        prompt_of("portrait_from_photo", nodes, steps=1000), "SaveImage", filename_prefix="interrupted"
    )
    _, answer = server.post("/prompt", {"prompt": prompt})
    time.sleep(2)
    server.post("/interrupt", {})
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and answer["prompt_id"] not in server.get("/history"):
        time.sleep(0.1)
    entry = server.get(f"/history/{answer['prompt_id']}")[answer["prompt_id"]]
    assert any(kind == "execution_interrupted" for kind, _ in entry["status"]["messages"])


def test_the_server_logs_no_error_of_ours(server: Server) -> None:
    log = Path(server.log).read_text()
    assert "(IMPORT FAILED)" not in log
    assert "Missing VAE keys" not in log and "unet missing" not in log


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_template_says_what_to_change_and_its_nodes_do_not_overlap(path: Path) -> None:
    nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"]
    [note] = [node for node in nodes if node["type"] == "MarkdownNote"]
    assert note["widgets_values"][0].startswith("## ") and len(note["widgets_values"][0]) > 80
    boxes = [(*node["pos"][:2], node["pos"][0] + node["size"][0], node["pos"][1] + node["size"][1]) for node in nodes]
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] or b[1] >= a[3], (path.stem, a, b)


def test_no_template_asks_for_files_that_are_not_shipped(server: Server) -> None:
    for path in WORKFLOWS:
        assert "LoadImage" not in {node["type"] for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]}
    with pytest.raises(urllib.error.HTTPError):
        server.open("/api/workflow_templates/facecrafter/../__init__.py")


def test_landmarks_are_edited_retargeted_and_stripped(server: Server, nodes: dict[str, Any]) -> None:
    prompt = prompt_of("copy_a_pose", nodes, steps=2)
    extract = next(n for n, node in prompt.items() if node["class_type"] == "FaceCrafterExtractLandmarks")
    size = {"drawing_size": 128}
    held = {"pose": "each face's own", "base_expression": "each face's own"}
    prompt["edit"] = {
        "class_type": "FaceCrafterEditLandmarks",
        "inputs": {"yaw": 20.0, "pitch": 0.0, "roll": 0.0, "expression": "smile 0.8", "moves": "mouth 0 0.01", **held, **size}
        | {"landmarks": [extract, 0], "photo": [extract, 2]},
    }
    prompt["built-in"] = {
        "class_type": "FaceCrafterEditLandmarks",
        "inputs": {"yaw": 0.0, "pitch": 0.0, "roll": 0.0, "expression": "", "moves": "", **held, **size},
    }
    prompt["strip"] = {"class_type": "FaceCrafterStripExpression", "inputs": {"landmarks": ["edit", 0], "strength": 1.0, **size}}
    prompt["retarget"] = {
        "class_type": "FaceCrafterRetargetLandmarks",
        "inputs": {"source": ["strip", 0], "shape": ["built-in", 0], "strength": 1.0, **size},
    }
    for name in ("edit", "built-in", "strip", "retarget"):
        prompt[f"see {name}"] = {"class_type": "SaveImage", "inputs": {"images": [name, 1], "filename_prefix": name}}
    entry = server.run(with_inputs(prompt, "FaceCrafterConditioning", landmarks=["retarget", 0]))
    drawings = [array(p) for p in server.images(entry) if p.size == (128, 128)]
    assert len(drawings) == 4 and all(np.abs(a - b).mean() > 0.2 for a in drawings for b in drawings if a is not b)
    state = entry["outputs"]["edit"]
    assert np.shape(state["fc_landmarks"][0]["points"]) == (478, 3) and state["fc_photo"][0]["type"] == "temp"
    for bad, sentence in (({"expression": "grin 1"}, "no facial action 'grin'"), ({"moves": "mouth 1"}, "a name and 2 numbers")):
        with pytest.raises(PromptError, match=sentence):
            server.run(with_inputs(prompt, "FaceCrafterEditLandmarks", **bad))


def test_pictures_are_scored_and_the_best_is_kept(server: Server, nodes: dict[str, Any]) -> None:
    from PIL import Image

    Image.new("RGB", (512, 512), (90, 110, 90)).save(server.folder / "input" / "meadow.png")
    prompt: dict[str, Any] = {"load": {"class_type": "FaceCrafterLoader", "inputs": {"adapter": nodes["FaceCrafterLoader"]["input"]["required"]["adapter"][1]["default"]}}}
    for name in ("portrait_1.jpg", "portrait_2.jpg"):
        prompt[name] = {"class_type": "FaceCrafterSamplePortrait", "inputs": {"portrait": name}}
    prompt["meadow"] = {"class_type": "LoadImage", "inputs": {"image": "meadow.png"}}
    prompt["two"] = {"class_type": "ImageBatch", "inputs": {"image1": ["meadow", 0], "image2": ["portrait_2.jpg", 0]}}
    prompt["three"] = {"class_type": "ImageBatch", "inputs": {"image1": ["two", 0], "image2": ["portrait_1.jpg", 0]}}
    held = {"face": "largest", "face_number": 0}
    prompt["landmarks"] = {"class_type": "FaceCrafterExtractLandmarks", "inputs": {"photo": ["portrait_1.jpg", 0], "drawing_size": 128, **held}}
    asked = {"facecrafter": ["load", 0], "pictures": ["three", 0], "photo": ["portrait_1.jpg", 0], "landmarks": ["landmarks", 0]}
    weights = {f"{name}_weight": 1.0 for name in ("likeness", "pose", "expression", "emotion")}
    prompt["best"] = {"class_type": "FaceCrafterBestOf", "inputs": {**asked, "keep": 1, **weights}}
    prompt["score"] = {"class_type": "FaceCrafterScore", "inputs": asked}
    prompt["see"] = {"class_type": "SaveImage", "inputs": {"images": ["best", 0], "filename_prefix": "best"}}
    prompt["chart"] = {"class_type": "SaveImage", "inputs": {"images": ["score", 1], "filename_prefix": "chart"}}
    prompt["text"] = {"class_type": "PreviewAny", "inputs": {"source": ["best", 1]}}
    entry = server.run(prompt)
    table = entry["outputs"]["text"]["text"][0]
    assert "| 0 | no face" in table and "Kept: 2." in table and "No face in 1 of 3 pictures." in table
    assert "| 2 | 100%" in table, "a photo is like itself"
    [kept] = [p for p in server.images(entry) if p.size == (512, 512)]
    assert np.abs(array(kept) - array(Image.open(ROOT / "demo/samples/portrait_1.jpg").convert("RGB"))).max() <= 2
    with pytest.raises(PromptError, match="keep 1 to 3 of the 3 pictures, found 9"):
        server.run(with_inputs(prompt, "FaceCrafterBestOf", keep=9))


def test_a_schedule_gives_a_sequence_that_begins_at_once_and_moves(server: Server, nodes: dict[str, Any]) -> None:
    prompt = prompt_of("portrait_from_photo", nodes, steps=6)
    tracks = dict.fromkeys(("pitch", "roll", "jaw", "blink", "identity_weight", "emotion_weight"), "")
    prompt["plan"] = {
        "class_type": "FaceCrafterSchedule",
        "inputs": {"frames": 4, "easing": "linear", "emotion": "0: sad, 3: happy", "drawing_size": 128, **tracks}
        | {"yaw": "0: -20, 3: 20", "smile": "0: 0, 3: 0.5", "landmark_weight": "0: 2, 3: 1.5"},
    }
    prompt["steady"] = {"class_type": "FaceCrafterSmoothLandmarks", "inputs": {"landmarks": ["plan", 1], "frames": 0.5, "drawing_size": 64}}
    prompt = with_inputs(prompt, "FaceCrafterConditioning", emotion=["plan", 0], landmarks=["steady", 0])
    prompt = with_inputs(prompt, "FaceCrafterSampler", weights=["plan", 2], same_noise=True, sampler_name="dpmpp_2m")
    pictures = [array(p) for p in server.images(server.run(prompt)) if p.size == (256, 256)]
    assert len(pictures) == 4
    change = [np.abs(a - b).mean() for a, b in zip(pictures, pictures[1:], strict=False)]
    assert max(change) < 3 * min(change) and np.abs(pictures[0] - pictures[3]).mean() > 1.3 * max(change)
    for bad, sentence in (({"yaw": "0 5"}, "Expected keyframes such as"), ({"emotion": "0: glad"}, "found 'glad'")):
        with pytest.raises(PromptError, match=sentence):
            server.run(with_inputs(prompt, "FaceCrafterSchedule", **bad))


def test_a_video_with_a_gap_is_filled_only_when_asked(server: Server, nodes: dict[str, Any]) -> None:
    from PIL import Image

    Image.new("RGB", (512, 512), (120, 130, 140)).save(server.folder / "input" / "empty.png")
    prompt: dict[str, Any] = {n: {"class_type": "FaceCrafterSamplePortrait", "inputs": {"portrait": n}} for n in ("portrait_1.jpg", "portrait_4.jpg")}
    prompt["empty"] = {"class_type": "LoadImage", "inputs": {"image": "empty.png"}}
    prompt["two"] = {"class_type": "ImageBatch", "inputs": {"image1": ["portrait_1.jpg", 0], "image2": ["empty", 0]}}
    prompt["three"] = {"class_type": "ImageBatch", "inputs": {"image1": ["two", 0], "image2": ["portrait_4.jpg", 0]}}
    choice = {"face": "largest", "face_number": 0, "drawing_size": 64, "missing": "fill the gap"}
    prompt["extract"] = {"class_type": "FaceCrafterExtractLandmarks", "inputs": {"photo": ["three", 0], **choice}}
    prompt["count"] = {"class_type": "PreviewAny", "inputs": {"source": ["extract", 3]}}
    prompt["see"] = {"class_type": "SaveImage", "inputs": {"images": ["extract", 1], "filename_prefix": "filled"}}
    entry = server.run(prompt)
    assert entry["outputs"]["count"]["text"] == ["1"] and len(server.images(entry)) == 3
    with pytest.raises(PromptError, match="No face was found"):
        server.run(with_inputs(prompt, "FaceCrafterExtractLandmarks", missing="stop"))


def test_sheets_and_sets_of_many_portraits(server: Server, nodes: dict[str, Any]) -> None:
    prompt = prompt_of("portrait_from_photo", nodes, steps=2)
    by_kind = {node["class_type"]: n for n, node in prompt.items()}
    load, identity = by_kind["FaceCrafterLoader"], [by_kind["FaceCrafterEncodeIdentity"], 0]
    held = {
        "facecrafter": [load, 0], "model": [load, 1], "vae": [load, 3], "emotions": "neutral, happy", "poses": "-20, 20", "seed": 3, "steps": 2,
        "sampler_name": "dpmpp_2m", "scheduler": "sgm_uniform", "identity_weight": 2.5, "landmark_weight": 2.0, "emotion_weight": 2.0, "mode": "paper",
    }  # fmt: skip
    many = {name: node for name, node in prompt.items() if node["class_type"] not in ("SaveImage", "PreviewImage")}
    for size in (1, 3):
        many[f"sheet{size}"] = {"class_type": "FaceCrafterExpressionSheet", "inputs": {**held, "identity": identity, "batch_size": size}}
        many[f"see{size}"] = {"class_type": "SaveImage", "inputs": {"images": [f"sheet{size}", 1], "filename_prefix": f"sheet{size}"}}
    many["grid"] = {"class_type": "SaveImage", "inputs": {"images": ["sheet3", 0], "filename_prefix": "grid"}}
    many["set"] = {
        "class_type": "FaceCrafterBalancedSet",
        "inputs": {**held, "identities": identity, "each": 1, "folder": "faces/one", "batch_size": 3},
    }
    entry = server.run(many)
    pictures = [array(p) for p in server.images(entry) if p.size == (256, 256)]
    assert len(pictures) == 8
    for alone, together in zip(pictures[:4], pictures[4:], strict=True):
        assert np.abs(alone - together).max() <= 3, "the batch size changes a picture"
    folder = server.folder / "output/faces/one"
    assert len((folder / "manifest.csv").read_text().splitlines()) == 5 and len(list(folder.rglob("*.png"))) == 4
    for bad, sentence in (({"folder": "../outside"}, "under ComfyUI's output folder"), ({"seed": 9}, "pictures of another plan")):
        with pytest.raises(PromptError, match=sentence):
            server.run(with_inputs(many, "FaceCrafterBalancedSet", **bad))
    with pytest.raises(PromptError, match="Expected poses as yaw"):
        server.run(with_inputs(many, "FaceCrafterExpressionSheet", poses="left"))


def test_blueprints_are_offered_where_comfyui_knows_them(server: Server) -> None:
    try:
        offered = server.get("/global_subgraphs")
    except urllib.error.HTTPError:
        pytest.skip(f"ComfyUI {server.host.version} knows no blueprints")
    ours = {one["name"]: number for number, one in offered.items() if one["info"]["node_pack"] == "custom_nodes.facecrafter"}
    assert set(ours) == {path.stem for path in (ROOT / "subgraphs").glob("*.json")} and len(ours) == 3
    for number in ours.values():
        data = json.loads(server.get(f"/global_subgraphs/{number}")["data"])
        assert len(data["nodes"]) == 1 and data["nodes"][0]["type"] == data["definitions"]["subgraphs"][0]["id"]


def test_saved_pictures_carry_the_workflow_and_nothing_else_of_ours(server: Server, nodes: dict[str, Any]) -> None:
    prompt = with_inputs(prompt_of("copy_a_pose", nodes, steps=1), "SaveImage", filename_prefix="metadata")
    entry = server.run(prompt)
    with server.open("/view?filename=metadata_00001_.png&type=output") as answer:
        from PIL import Image

        carried = Image.open(answer).info
    assert set(carried) <= {"prompt", "workflow"}
    assert {n: node["inputs"] for n, node in json.loads(carried["prompt"]).items()} == {n: node["inputs"] for n, node in prompt.items()}
    assert entry["status"]["status_str"] == "success"
