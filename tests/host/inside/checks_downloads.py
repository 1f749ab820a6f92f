"""The download node: only when asked, with licences, progress and interrupts."""

import hashlib
import tempfile
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import patch

import comfy.model_management
import folder_paths
from checks_errors import refuses
from facecrafter.facecrafter_core import search
from facecrafter.facecrafter_core.assets import ASSETS
from facecrafter.facecrafter_core.errors import AssetError
from facecrafter.nodes import downloads
from facecrafter.nodes.host import acceptance, adapter

CONTENT = hashlib.sha256(b"facecrafter").digest() * 100_000


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # noqa: N802
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start:])

    def log_message(self, *_: object) -> None:
        pass


class World:
    """A server with one file, an asset that names it, and an empty models folder."""

    def __enter__(self) -> Path:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{self.server.server_port}/file.bin"
        self.before, self.folder = ASSETS["hsemotion"], tempfile.TemporaryDirectory()
        digest = hashlib.sha256(CONTENT).hexdigest()
        ASSETS["hsemotion"] = replace(self.before, urls=(url,), size=len(CONTENT), sha256=digest, file="file.bin")
        self.directory, self.folders = downloads.models_directory, list(search._search_folders)
        place = Path(self.folder.name)
        downloads.models_directory = lambda: place
        search._search_folders[:] = [place]
        return place

    def __exit__(self, *_: object) -> None:
        ASSETS["hsemotion"], downloads.models_directory = self.before, self.directory
        search._search_folders[:] = self.folders
        acceptance._accepted.clear()
        self.server.shutdown()
        self.folder.cleanup()


def check_nothing_is_downloaded_before_a_person_accepts_its_licence():
    """A workflow that says it is accepted, and where from, is a stranger's word."""
    with World() as place:
        for accepted, mirror in ((False, ""), (True, "http://127.0.0.1:9")):
            unread = ["accept_licences of the workflow was not read", "mirror of the workflow was not read"] if accepted else []
            refuses(
                AssetError, ["click on 'Show and accept licences'", "Apache-2.0", "3 MB", *unread],
                downloads.FaceCrafterDownloadModels.execute, "hsemotion", accepted, mirror,
            )  # fmt: skip
        assert not list(place.rglob("*.bin*"))


def check_a_file_is_downloaded_checked_and_then_here():
    with World() as place:
        acceptance.accept(downloads.licences("hsemotion"))
        report = downloads.FaceCrafterDownloadModels.execute("hsemotion", False, "").result[0]
        [path] = place.rglob("file.bin")
        assert path.read_bytes() == CONTENT and report == f"hsemotion: now at {path}"
        assert "here" in downloads.FaceCrafterDownloadModels.execute("hsemotion", False, "").result[0]


def check_a_mirror_of_the_workflow_is_not_called_and_the_report_says_so():
    with World() as place:
        acceptance.accept(["hsemotion"])
        report = downloads.FaceCrafterDownloadModels.execute("hsemotion", True, "http://127.0.0.1:9").result[0]
        assert next(place.rglob("file.bin")).read_bytes() == CONTENT
        assert "mirror of the workflow was not read" in report and "HF_ENDPOINT" in report and "accept_licences of the workflow was not read" in report


def check_licences_of_one_choice_accept_no_other():
    with World():
        acceptance.accept(["emonet"])
        assert not acceptance.is_accepted("hsemotion")
        assert set(downloads.licences("all that the full size needs")) >= {"arc2face_unet", "arc2face_encoder"}
        refuses(AssetError, ["nonsense"], downloads.licences, "nonsense")


def check_files_in_comfyuis_folders_and_those_of_extra_model_paths_are_found():
    before, given = {k: (list(v[0]), v[1]) for k, v in folder_paths.folder_names_and_paths.items()}, search._advice
    with World() as place, patch.object(search, "_search_folders", []), patch.object(folder_paths, "models_dir", str(place / "models")):
        try:
            for kind in ("vae", "insightface"):
                folder_paths.add_model_folder_path(kind, str(place / "extra" / kind))
            adapter.register_folder()
            for folder in ("models/unusual", "extra/vae", "extra/insightface/models"):
                path = place / folder / "renamed.bin"
                path.parent.mkdir(parents=True)
                path.write_bytes(CONTENT)
                assert search.find_asset("hsemotion") == path
                path.unlink()
            try:
                search.find_asset("hsemotion")
            except AssetError as error:
                words = ("node Download Models", "-m facecrafter_core assets download hsemotion --into", str(place / "extra/vae"), str(place / "models"))
                assert all(word in str(error) for word in words), error
            else:
                raise AssertionError("found what is not there")
        finally:
            folder_paths.folder_names_and_paths.clear()
            folder_paths.folder_names_and_paths.update(before)
            search.give_advice(given)


def check_an_interrupt_stops_it_and_the_next_run_goes_on():
    with World() as place:
        acceptance.accept(["hsemotion"])
        comfy.model_management.interrupt_current_processing(True)
        try:
            downloads.FaceCrafterDownloadModels.execute("hsemotion", True, "")
        except comfy.model_management.InterruptProcessingException:
            pass
        else:
            raise AssertionError("the interrupt was not seen")
        [part] = place.rglob("file.bin.part")
        assert part.stat().st_size > 0
        downloads.FaceCrafterDownloadModels.execute("hsemotion", True, "")
        assert next(place.rglob("file.bin")).read_bytes() == CONTENT


