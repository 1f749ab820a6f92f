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
from facecrafter.facecrafter_core import search
from facecrafter.facecrafter_core.assets import ASSETS
from facecrafter.facecrafter_core.errors import AssetError
from facecrafter.nodes import downloads
from facecrafter.nodes.host import adapter

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
        self.server.shutdown()
        self.folder.cleanup()


def check_nothing_is_downloaded_before_its_licence_is_accepted():
    with World() as place:
        try:
            downloads.FaceCrafterDownloadModels.execute("hsemotion", False, "")
        except AssetError as error:
            assert "accept_licences" in str(error) and "Apache-2.0" in str(error) and "3 MB" in str(error)
        else:
            raise AssertionError("downloaded without a word")
        assert not list(place.rglob("*.bin*"))


def check_a_file_is_downloaded_checked_and_then_here():
    with World() as place:
        report = downloads.FaceCrafterDownloadModels.execute("hsemotion", True, "").result[0]
        [path] = place.rglob("file.bin")
        assert path.read_bytes() == CONTENT and f"now at {path}" in report
        assert "here" in downloads.FaceCrafterDownloadModels.execute("hsemotion", False, "").result[0]


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


