"""Licences that a person has accepted by a click in the running editor. A workflow, which may be a stranger's, cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

ADDRESS = "/facecrafter/licences"
_accepted: set[str] = set()


def accept(names: Iterable[str]) -> None:
    """Notes the acceptance of these assets' licences, for as long as ComfyUI runs."""
    _accepted.update(names)


def is_accepted(name: str) -> bool:
    return name in _accepted


def add_routes(describe: Callable[[str], dict[str, str]]) -> None:
    """Lets the editor ask for the licences of a choice (GET) and accept them (POST).

    Args:
        describe: a choice of Download Models -> asset name -> its size and licence in words. ValueError: no such choice.
    """
    from aiohttp import web
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is None:  # ComfyUI's modules without a server, as in tests
        return

    @server.routes.get(ADDRESS)
    async def show(request: Any) -> Any:
        return _answer(web, describe, request.query.get("what", ""))

    @server.routes.post(ADDRESS)
    async def take(request: Any) -> Any:
        if request.content_type != "application/json":  # what a form of another website cannot send
            return web.json_response({"error": "Expected JSON."}, status=415)
        body = await request.json()
        answer = _answer(web, describe, str(body.get("what", "")))
        if answer.status == 200:
            accept(describe(str(body["what"])))
        return answer


def _answer(web: Any, describe: Callable[[str], dict[str, str]], what: str) -> Any:
    try:
        return web.json_response(describe(what))
    except ValueError as error:
        return web.json_response({"error": str(error)}, status=400)
