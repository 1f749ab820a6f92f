"""MediaPipe's native object outlives the landmarkers that use it, and says nothing."""

import gc
import subprocess
import sys

from facecrafter_core.faces.landmarker import FaceLandmarker


def test_a_landmarker_in_a_garbage_cycle_does_not_hang_the_collector(astronaut):
    for _ in range(3):
        landmarker = FaceLandmarker()
        landmarker.itself = landmarker
        landmarker.detect(astronaut)
        del landmarker
        gc.collect()
    assert len(FaceLandmarker().detect(astronaut)) == 1


def test_mediapipe_writes_nothing_to_the_terminal():
    program = "from skimage import data; from facecrafter_core.faces.landmarker import FaceLandmarker; print(len(FaceLandmarker().detect(data.astronaut())))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (run.stdout.strip(), run.stderr) == ("1", "")
