"""Real pictures: need an assets folder (FACECRAFTER_SYNTHETIC_ASSETS), moderngl with a GL driver, and the landmarker model."""

import os
import warnings

import numpy as np
import pytest

ASSETS = os.environ.get("FACECRAFTER_SYNTHETIC_ASSETS")
if not ASSETS:
    warnings.warn(
        "Rendering is NOT tested: FACECRAFTER_SYNTHETIC_ASSETS does not name an assets folder (docs/synthetic.md).",
        stacklevel=1,
    )
pytestmark = pytest.mark.skipif(
    not ASSETS, reason="RENDERING NOT TESTED: set FACECRAFTER_SYNTHETIC_ASSETS to an assets folder"
)


@pytest.fixture(scope="module")
def renderer():
    from training.synthetic.assets import Assets
    from training.synthetic.render import Renderer

    return Renderer(Assets(ASSETS), 128)


def test_a_picture_is_the_same_again_after_other_people_were_drawn(renderer):
    from training.synthetic.generate import draw_picture
    from training.synthetic.people import sample_person

    def picture(number: int) -> np.ndarray:
        prepared = renderer.prepare(sample_person(number, renderer.assets.catalogue))
        return renderer.render(prepared, *draw_picture(number, 1, 0))

    first, other = picture(900), picture(901)
    assert np.array_equal(first, picture(900)) and not np.array_equal(first, other)
    assert first.shape == (128, 128, 3) and first.std() > 10


def test_files_do_not_depend_on_the_number_of_processes(tmp_path):
    from pathlib import Path

    from training.synthetic.generate import Task, generate

    for processes in (1, 2):
        task = Task(Path(ASSETS), tmp_path / str(processes), 2, 64, 0, False, False)
        meta = generate(task, 300, 4, processes, people_per_file=2)
        assert meta["images"] == 8
    for name in ("images_000300.npy", "images_000302.npy", "labels_000302.npy"):
        assert np.array_equal(np.load(tmp_path / "1" / name), np.load(tmp_path / "2" / name))


def test_mediapipe_sees_our_pose_smile_jaw_and_blink(renderer):
    from facecrafter_core.faces.blendshapes import BLENDSHAPES
    from facecrafter_core.faces.landmarker import FaceLandmarker
    from training.synthetic.expressions import action_vector
    from training.synthetic.people import sample_person
    from training.synthetic.render import Renderer
    from training.synthetic.scene import posed, sample_scene

    drawn, landmarker = Renderer(renderer.assets, 256), FaceLandmarker()
    prepared = drawn.prepare(sample_person(7, drawn.assets.catalogue))

    def look(actions: dict, yaw: float = 0.0):
        scene = posed(sample_scene(np.random.default_rng(3)), yaw)
        return landmarker.find_face(drawn.render(prepared, action_vector(actions), scene))

    rest = look({})
    for name in ("mouthSmileLeft", "jawOpen", "eyeBlinkLeft"):
        score = BLENDSHAPES.index(name)
        assert look({name: 1.0}).blendshapes[score] > rest.blendshapes[score] + 0.2, name
    assert look({}, yaw=30).pose.yaw == pytest.approx(30, abs=12)
