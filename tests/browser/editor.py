"""ComfyUI's graph editor in a headless Chromium, steered with the mouse and the keys."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from server import Server

CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")
WAIT_SECONDS = 40
HARMLESS = ("favicon", "user.css", "/api/userdata", "/api/settings", "Failed to load resource", "GL Driver Message", "[Violation]", "[Jobs API]")


class Editor:
    """A browser with the editor of one server open; ends on exit."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def __enter__(self) -> Editor:
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1500,1100", "--js-flags=--expose-gc"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        self.driver.set_script_timeout(60)
        self.driver.set_page_load_timeout(120)
        return self

    def __exit__(self, *exception: object) -> None:
        self.driver.quit()

    def open(self, vue: bool, palette: str = "dark") -> None:
        """The editor with an empty graph, in one of its two renderers."""
        settings = {
            "Comfy.VueNodes.Enabled": vue,
            "Comfy.ColorPalette": palette,
            "Comfy.TutorialCompleted": True,
            "Comfy.InstalledVersion": "9.9.9",
            "Comfy.Release.Status": "skip",
            "Comfy.VueNodes.AutoScaleLayout": False,
            "Comfy.Canvas.NavigationMode": "custom",  # with the default, frontend 1.27.10 sets two settings before it knows them, and throws
        }
        self.server.post("/settings", settings)
        self.driver.get(f"http://127.0.0.1:{self.server.port}/")
        ready = "return !!(window.app?.graph && window.app.canvas && window.LiteGraph?.registered_node_types.FaceCrafterEmotion)"
        self.until(lambda: self.js(ready), "the editor")
        time.sleep(2)
        self.clear()

    def shows_widgets(self) -> bool:
        """Whether this renderer shows any pack's DOM widgets at all: the first frontends with the Vue renderer did not."""
        self.js(
            "const n = LiteGraph.createNode('EmptyLatentImage'); app.graph.add(n);"
            "n.addDOMWidget('probe', 'probe', Object.assign(document.createElement('div'), {className: 'fc-probe', textContent: 'x'}), {serialize: false})"
        )
        self.look()
        shown = "return (document.querySelector('.fc-probe')?.getBoundingClientRect().width ?? 0) > 0"
        try:
            return self.until(lambda: self.js(shown), "a widget", 5)
        except TimeoutError:
            return False

    def js(self, code: str, *arguments: Any) -> Any:
        return self.driver.execute_script(code, *arguments)

    def until(self, found: Callable[[], Any], what: str, seconds: float = WAIT_SECONDS) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if value := found():
                return value
            time.sleep(0.1)
        raise TimeoutError(f"waited {seconds:g} s for {what}")

    def clear(self) -> None:
        self.load({"last_node_id": 0, "last_link_id": 0, "nodes": [], "links": [], "groups": [], "config": {}, "extra": {}, "version": 0.4})
        self.driver.get_log("browser")

    def load(self, workflow: dict[str, Any]) -> None:
        self.driver.execute_async_script(
            "const done = arguments[1]; Promise.resolve(app.loadGraphData(arguments[0])).then(() => setTimeout(done, 300))", workflow
        )
        self.look()

    def look(self, x: float = 420, y: float = 90, scale: float = 1.0) -> None:
        """Moves the view: the graph's origin to pixel (x, y) of the canvas."""
        self.js("app.canvas.ds.scale = arguments[2]; app.canvas.ds.offset = [arguments[0] / arguments[2], arguments[1] / arguments[2]]; app.canvas.setDirty(true, true)", x, y, scale)
        time.sleep(0.4)

    def add(self, kind: str, x: float = 0, y: float = 0, **values: Any) -> str:
        """-> the new node's number."""
        number = self.js(
            "app.canvas.emitBeforeChange(); const n = LiteGraph.createNode(arguments[0]); n.pos = [arguments[1], arguments[2]]; app.graph.add(n);"
            "for (const [k, v] of Object.entries(arguments[3])) n.widgets.find((w) => w.name === k).value = v;"
            "app.canvas.emitAfterChange(); return n.id",
            kind, x, y, values,
        )  # fmt: skip
        time.sleep(0.5)
        # The Vue renderer measures a node when it is drawn; a person's next mouse-up notes that size, so undo comes back to it.
        self.js("app.canvas.emitBeforeChange(); app.canvas.emitAfterChange()")
        return number

    def connect(self, source: Any, output: int, target: Any, name: str) -> None:
        self.js(
            "const t = app.graph.getNodeById(arguments[2]);"
            "app.graph.getNodeById(arguments[0]).connect(arguments[1], t, t.inputs.findIndex((i) => i.name === arguments[3]))",
            source, output, target, name,
        )  # fmt: skip
        time.sleep(0.5)

    def values(self, number: Any) -> dict[str, Any]:
        """The node's inputs as the person sees them."""
        return dict(
            self.js(
                "return app.graph.getNodeById(arguments[0]).widgets.filter((w) => w.serialize !== false).map((w) => [w.name, w.value])",
                number,
            )
        )

    def size(self, number: Any) -> list[float]:
        """Width and height of the node, in pixels of the graph."""
        return self.js("return [...app.graph.getNodeById(arguments[0]).size]", number)

    def numbers(self, kind: str) -> list[Any]:
        return self.js("return app.graph._nodes.filter((n) => n.type === arguments[0]).map((n) => n.id)", kind)

    def prompt(self) -> dict[str, Any]:
        """What Run would send."""
        return self.driver.execute_async_script("const done = arguments[0]; app.graphToPrompt().then((p) => done(p.output))")

    def workflow(self) -> dict[str, Any]:
        """What Save would write."""
        return json.loads(self.js("return JSON.stringify(app.graph.serialize())"))

    def box(self, selector: str) -> dict[str, float]:
        """The place on the page of the only visible element that fits: left, top, width, height."""
        find = (
            "const all = [...document.querySelectorAll(arguments[0])].map((e) => e.getBoundingClientRect()).filter((b) => b.width > 0);"
            "return all.length === 1 ? {left: all[0].left, top: all[0].top, width: all[0].width, height: all[0].height} : null"
        )
        return self.until(lambda: self.js(find, selector), selector, 10)

    def pointer(self, *points: tuple[float, float], kind: str = "mouse", held: str | None = None) -> None:
        """Presses at the first point of the page, moves over the others and lets go; maybe with a key held."""
        from selenium.webdriver.common.action_chains import ActionBuilder, ActionChains
        from selenium.webdriver.common.actions.pointer_input import PointerInput

        if held:
            ActionChains(self.driver).key_down(held).perform()
        actions = ActionBuilder(self.driver, mouse=PointerInput(kind, kind), duration=40)
        first, *rest = points
        actions.pointer_action.move_to_location(*map(round, first)).pointer_down()
        for point in rest:
            actions.pointer_action.move_to_location(*map(round, point))
        actions.pointer_action.pointer_up()
        actions.perform()
        if held:
            ActionChains(self.driver).key_up(held).perform()
        time.sleep(0.15)

    def click(self, button: str) -> None:
        """A button of ours, by its words."""
        found = "return [...document.querySelectorAll('.fc button')].find((b) => b.textContent === arguments[0])"
        self.js(found, button).click()
        time.sleep(0.15)

    def run(self) -> dict[str, Any]:
        """Presses Run -> the history entry of the prompt when it is done."""
        before = set(self.server.get("/history"))
        self.driver.execute_async_script("const done = arguments[0]; app.queuePrompt(0, 1).then(() => done())")
        new = self.until(lambda: set(self.server.get("/history")) - before, "the run")
        return self.server.get("/history")[new.pop()]

    def press(self, *keys: str, held: str | None = None) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        chain = ActionChains(self.driver, duration=20)
        if held:
            chain.key_down(held)
        for key in keys:
            chain.send_keys(key)
        if held:
            chain.key_up(held)
        chain.perform()
        time.sleep(0.2)

    def text(self, selector: str) -> str:
        return self.js("return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent).join('\\n')", selector)

    def errors(self) -> list[str]:
        """The console's errors since the last call."""
        entries = [e for e in self.driver.get_log("browser") if e["level"] == "SEVERE"]
        return [e["message"] for e in entries if not any(word in e["message"] for word in HARMLESS)]

    def shot(self, path: Path) -> None:
        self.driver.save_screenshot(str(path))
