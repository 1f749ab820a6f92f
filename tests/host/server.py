"""A ComfyUI server of the tests' own, spoken to over its HTTP API."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hosts import ROOT, Host

START_SECONDS, RUN_SECONDS = 120, 240


class Server:
    """Starts on entry, ends on exit. All its folders are under `folder`; nothing of the installation is touched.

    Args:
        host: which ComfyUI.
        folder: its base directory.
        pack: whether FaceCrafter is linked into custom_nodes.
        arguments: more for ComfyUI's command line.
        others: folders of other packs that are linked too.
        environment: variables of its own.
    """

    def __init__(
        self,
        host: Host,
        folder: Path,
        pack: bool = True,
        arguments: Sequence[str] = (),
        others: Sequence[Path] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.host, self.folder, self.pack = host, folder, pack
        self.arguments, self.others, self.environment = arguments, others, environment
        self.log = folder / "server.log"

    def __enter__(self) -> Server:
        for name in ("custom_nodes", "models", "input", "output", "temp", "user"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        linked = {other.name: other.resolve() for other in self.others} | ({"facecrafter": ROOT} if self.pack else {})
        for name, target in linked.items():
            if not (place := self.folder / "custom_nodes" / name).exists():
                place.symlink_to(target, target_is_directory=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [self.host.python, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(self.port)]
        command += ["--base-directory", str(self.folder), "--database-url", "sqlite:///:memory:", "--disable-api-nodes"]
        command += ["--preview-method", "latent2rgb", *self.arguments]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=self.host.path, env={**self.host.environment(), **self.environment}, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                self.get("/system_stats")
                return self
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.3)
        self.__exit__()
        raise RuntimeError(f"ComfyUI {self.host.version} did not start:\n{self.log.read_text()[-3000:]}")

    def __exit__(self, *exception: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def get(self, path: str) -> Any:
        with self.open(path) as answer:
            return json.load(answer)

    def open(self, path: str) -> Any:
        return urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30)

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        """-> (status, answer)."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def run(self, prompt: dict[str, Any]) -> dict[str, Any]:
        """Queues a prompt and waits for its end -> its history entry ("outputs", "status").

        Raises:
            PromptError: it was refused, or a node failed.
        """
        status, answer = self.post("/prompt", {"prompt": prompt})
        if status != 200:
            raise PromptError(json.dumps(answer))
        number, deadline = answer["prompt_id"], time.monotonic() + RUN_SECONDS
        while time.monotonic() < deadline:
            history = self.get(f"/history/{number}")
            if number in history:
                entry = history[number]
                if entry["status"]["status_str"] != "success":
                    failed = [m for kind, m in entry["status"]["messages"] if kind == "execution_error"]
                    raise PromptError(failed[0]["exception_message"].strip() if failed else json.dumps(entry["status"]))
                return entry
            time.sleep(0.1)
        raise PromptError(f"not done after {RUN_SECONDS} s")

    def images(self, entry: dict[str, Any], kind: str = "output") -> list[Any]:
        """The pictures that a run saved (kind "output") or previewed ("temp"), as PIL images."""
        from PIL import Image

        found = []
        for output in entry["outputs"].values():
            for item in output.get("images", []):
                if item["type"] == kind:
                    with self.open("/view?" + urllib.parse.urlencode(item)) as answer:
                        found.append(Image.open(answer).convert("RGB"))
        return found


class PromptError(Exception):
    """A prompt was refused or failed; the text is what the person sees."""
