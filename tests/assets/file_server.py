"""A server on this machine that gives one file, in every way that a real one does."""

import hashlib
import io
import socket
import struct
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from facecrafter_core.assets import Archive, Asset

CONTENT = b"".join(hashlib.sha256(bytes([i % 256, i // 256])).digest() for i in range(20_000))  # 640,000 bytes


HALF = len(CONTENT) // 2


OTHER = bytes(reversed(CONTENT))


Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers each request with the next of the server's answers, then with the whole file."""

    def do_GET(self) -> None:  # noqa: N802
        self.server.asked.append((self.path, self.headers.get("Range")))
        answers = self.server.answers
        (answers.pop(0) if answers else whole)(self)

    @property
    def start(self) -> int:
        return int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))

    def head(self, status: int, length: int | None, **headers: str) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def whole(h: Handler, content: bytes = CONTENT) -> None:
    if h.start >= len(content):
        return h.head(416, 0, Content_Range=f"bytes */{len(content)}")
    ranged = {"Content_Range": f"bytes {h.start}-{len(content) - 1}/{len(content)}"} if h.start else {}
    h.head(206 if h.start else 200, len(content) - h.start, **ranged)
    h.wfile.write(content[h.start :])


def drops(after: int, reset: bool = False) -> Answer:
    """Ends the connection that many bytes on, politely or with a reset."""

    def answer(h: Handler) -> None:
        h.head(206 if h.start else 200, len(CONTENT) - h.start, **({"Content_Range": f"bytes {h.start}-/"} if h.start else {}))
        h.wfile.write(CONTENT[h.start : h.start + after])
        h.wfile.flush()
        if reset:
            time.sleep(0.05)  # what was sent arrives first
            h.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            h.connection.close()

    return answer


def announces(length: int | None) -> Answer:
    def answer(h: Handler) -> None:
        h.head(200, length)
        h.wfile.write(CONTENT)

    return answer


def gives(content: bytes, **headers: str) -> Answer:
    """Another file, whatever part of it is asked for."""

    def answer(h: Handler) -> None:
        h.head(200, len(content), **headers)
        h.wfile.write(content)

    return answer


def says(status: int, **headers: str) -> Answer:
    return lambda h: h.head(status, 0, **headers)


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Answer] = []
        self.asked: list[tuple[str, str | None]] = []

    def handle_error(self, *_: object) -> None:
        """A client that goes away is part of these tests."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def ranges(self) -> list[str | None]:
        return [ranged for _, ranged in self.asked]


def zipped(asset: Asset, content: bytes = CONTENT) -> tuple[Asset, bytes]:
    """The asset as a member of a zip, and the zip."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("pack/weights.bin", content)
        archive.writestr("pack/other.bin", b"other")
    data = file.getvalue()
    return replace(asset, archive=Archive("pack.zip", len(data), hashlib.sha256(data).hexdigest(), "pack/weights.bin")), data


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


def assert_whole(target: Path) -> None:
    """The right bytes, and nothing beside them."""
    assert target.read_bytes() == CONTENT and files(target.parent) == [target.name]
