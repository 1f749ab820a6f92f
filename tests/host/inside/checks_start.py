"""ComfyUI's start: what the pack's import brings with it (benchmarks/import_time.py measures its seconds)."""

from __main__ import BROUGHT


def check_the_import_brings_no_package_with_it():
    heavy = BROUGHT & {"cv2", "diffusers", "insightface", "kornia", "matplotlib", "mediapipe", "onnxruntime", "pyarrow", "skimage", "tokenizers", "transformers"}
    assert BROUGHT and not heavy, heavy
