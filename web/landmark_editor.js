// The landmark editor on Edit Landmarks: turn the head, change the expression, move parts. All of it is kept in the node's plain inputs.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { Inputs, addElement, arrow, change, clamp, drag, keys, make, watch } from "./inputs.js";
import { edit, faceModel, format, neutralFace, parseExpression, parseMoves } from "./face_model.js";
import { slider } from "./slider.js";

const ANGLES = ["yaw", "pitch", "roll"];
const LOCKS = ["pose", "base_expression"];
const FIELDS = [...ANGLES, "expression", "moves", ...LOCKS];
const DEGREES = 120; // of a drag over the whole picture
// [text, action of the left half or null (then the right one's negative), action of the right half]
const SIMPLE = [
  ["smile", "frown", "smile"],
  ["jaw", null, "jawOpen"],
  ["brows", "browDown", "browUp"],
  ["eyes", "eyeWide", "blink"],
  ["gaze ↔", "gazeLeft", "gazeRight"],
  ["gaze ↕", "gazeDown", "gazeUp"],
  ["pucker", null, "pucker"],
];
const SIDES = ["Left", "Right"].flatMap((side) => [
  [`smile ${side.toLowerCase()}`, `mouthFrown${side}`, `mouthSmile${side}`],
  [`brow ${side.toLowerCase()}`, `browDown${side}`, `browOuterUp${side}`],
  [`eye ${side.toLowerCase()}`, `eyeWide${side}`, `eyeBlink${side}`],
]);

export function addLandmarkEditor(node) {
  const editor = new LandmarkEditor(node);
  faceModel().then((model) => editor.start(model));
}

class LandmarkEditor {
  constructor(node) {
    this.node = node;
    this.inputs = new Inputs(node);
    this.part = "mouth";
    this.list = [];
    this.note = make("div", { class: "fc-note", role: "status" });
    this.rows = make("div", { class: "fc-sliders", "data-capture-wheel": "true" });
    this.tools = this.choice("tool", { turn: () => this.use("turn"), "move parts": () => this.use("move") });
    this.views = this.choice("sliders", {
      simple: () => this.fill(SIMPLE),
      "left / right": () => this.fill(SIDES),
      all: () => this.fill(this.model.names.map((name) => [name, null, name])),
    });
    this.tools.append(
      make("span"),
      this.button("reset", () => this.inputs.set({ yaw: 0, pitch: 0, roll: 0, expression: "", moves: "" })),
    );
    const side = make("div", { class: "fc-side" }, this.views, this.rows);
    this.element = make(
      "div",
      { class: "fc fc-landmarks" },
      this.tools,
      make("div", { class: "fc-body" }, this.picture(), side),
      this.note,
    );
    addElement(node, "landmark_editor", this.element, 500);
    const { onExecuted } = node;
    node.onExecuted = (output) => {
      onExecuted?.call(node, output);
      this.result = output;
      this.locks = this.values(LOCKS);
    };
  }

  // As soon as the face model is there.
  start(model) {
    this.model = model;
    this.neutral = neutralFace(model);
    this.tools.firstChild.click();
    this.views.firstChild.click();
    watch(
      this.element,
      () => this.read(),
      (state) => this.draw(state),
    );
  }

  // --- what is shown

  values(names) {
    return Object.fromEntries(names.map((name) => [name, this.inputs.get(name)]));
  }

  // What the last run said about this node: "fc_landmarks" (edit.py's editor_state) and "fc_photo".
  output() {
    return this.result ?? app.nodeOutputs?.[String(this.node.id)];
  }

  read() {
    const face = this.output()?.fc_landmarks?.[0];
    if (face !== this.known) this.runs = (this.runs ?? 0) + 1;
    this.known = face;
    const linked = FIELDS.filter((name) => this.inputs.linked(name));
    return { values: this.values(FIELDS), linked, waits: this.waits(), shown: [this.runs, this.tool, this.part, this.list.length] };
  }

  // Landmarks come in, and the last run did not see them as they are now.
  waits() {
    const socket = this.node.inputs?.find((input) => input.name === "landmarks");
    if (!this.known) return socket?.link != null;
    return this.locks !== undefined && LOCKS.some((name) => this.locks[name] !== this.inputs.get(name));
  }

  // The texts as numbers; null where one cannot be read.
  expression() {
    return parseExpression(this.model, this.inputs.get("expression"));
  }

  moves() {
    return parseMoves(this.model, this.inputs.get("moves"));
  }

  // The edited points, flat.
  points() {
    const face = this.known ? { ...this.known, points: this.known.points.flat() } : this.neutral;
    return edit(this.model, face, this.values(ANGLES), this.expression() ?? {}, this.moves() ?? {});
  }

  // --- the picture

  picture() {
    this.image = make("image", { x: 0, y: 0, width: 1, height: 1 });
    this.lines = make("path", { class: "fc-lines" });
    this.dots = make("path", { class: "fc-points" });
    this.mark = make("path", { class: "fc-part" });
    this.svg = make(
      "svg",
      { class: "fc-face", viewBox: "0 0 1 1", preserveAspectRatio: "xMidYMin", tabindex: 0, role: "group" },
      make("rect", { class: "fc-ground", width: 1, height: 1, rx: 0.02 }),
      this.image,
      this.dots,
      this.lines,
      this.mark,
    );
    drag(
      this.svg,
      this.inputs,
      (event) => this.press(event),
      (event) => this.move(event),
    );
    keys(this.svg, this.inputs, (event) => this.key(event));
    this.svg.addEventListener(
      "pointermove",
      (event) => event.buttons === 0 && this.tool === "move" && (this.part = this.nearest(this.at(event))),
    );
    return this.svg;
  }

  at(event) {
    const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.svg.getScreenCTM().inverse());
    return [place.x, place.y];
  }

  nearest([x, y]) {
    const points = this.points();
    const parts = this.model.move_groups;
    const far = (part) => Math.min(...parts[part].map((i) => Math.hypot(points[3 * i] - x, points[3 * i + 1] - y)));
    return Object.keys(parts).reduce((best, part) => (far(part) < far(best) ? part : best));
  }

  press(event) {
    this.svg.focus({ preventScroll: true });
    const from = this.at(event);
    if (this.tool === "move") this.part = this.nearest(from);
    this.start = { from, ...this.values(ANGLES), place: this.place() };
  }

  move(event) {
    const { from, yaw, pitch, roll, place } = this.start;
    const [x, y] = this.at(event);
    const [dx, dy] = [x - from[0], y - from[1]];
    if (this.tool === "move") this.shift(place[0] + dx, place[1] + dy);
    else if (event.shiftKey) {
      const angle = (px, py) => Math.atan2(py - 0.5, px - 0.5);
      const turned = ((((angle(x, y) - angle(...from)) * 180) / Math.PI + 540) % 360) - 180;
      this.turn({ roll: roll + turned });
    } else this.turn({ yaw: yaw + dx * DEGREES, pitch: pitch - dy * DEGREES });
  }

  key(event) {
    const way = arrow(event);
    const fine = event.shiftKey;
    if (way && this.tool === "move") {
      const place = this.place();
      const step = fine ? 0.002 : 0.01;
      this.shift(place[0] + way[0] * step, place[1] - way[1] * step);
    } else if (way) {
      const step = fine ? 1 : 5;
      this.turn({ yaw: this.inputs.get("yaw") + way[0] * step, pitch: this.inputs.get("pitch") + way[1] * step });
    } else if (event.key === "PageUp" || event.key === "PageDown") {
      this.turn({ roll: this.inputs.get("roll") + (event.key === "PageUp" ? 1 : -1) * (fine ? 1 : 5) });
    } else return false;
    return true;
  }

  turn(angles) {
    this.inputs.set(Object.fromEntries(Object.entries(angles).map(([name, value]) => [name, clamp(Math.round(value * 2) / 2, -90, 90)])));
  }

  // How far the marked part is moved.
  place() {
    return this.moves()?.[this.part] ?? [0, 0];
  }

  shift(dx, dy) {
    const moves = this.moves();
    if (moves) this.inputs.set({ moves: format({ ...moves, [this.part]: [clamp(dx, -0.5, 0.5), clamp(dy, -0.5, 0.5)] }) });
  }

  express(weights) {
    const expression = this.expression();
    if (expression) this.inputs.set({ expression: format({ ...expression, ...weights }) });
  }

  // --- buttons and sliders

  button(text, act) {
    const button = make("button", { type: "button", text });
    button.addEventListener("pointerdown", (event) => event.stopPropagation());
    button.addEventListener("click", () => {
      this.inputs.begin();
      act(button);
      this.inputs.end();
    });
    return button;
  }

  // Buttons of which one is pressed: {text: what it does}.
  choice(label, options) {
    const buttons = Object.entries(options).map(([text, act]) =>
      this.button(text, (pressed) => {
        for (const button of buttons) change(button, { "aria-pressed": button === pressed });
        act();
      }),
    );
    return make("div", { class: "fc-tools", role: "group", "aria-label": label }, ...buttons);
  }

  use(tool) {
    this.tool = tool;
    this.svg.dataset.tool = tool;
    change(this.svg, {
      "aria-label": tool === "move" ? "Face: arrow keys move the marked part" : "Face: arrow keys turn the head, page keys tilt it",
    });
  }

  fill(list) {
    this.list = list.map(([text, minus, plus]) => {
      const set = (value) => this.express(minus ? { [minus]: Math.max(0, -value), [plus]: Math.max(0, value) } : { [plus]: value });
      return { minus, plus, ...slider(this.inputs, { text, label: text, low: -1, high: 1, colour: "var(--fc-accent)" }, () => {}, set) };
    });
    this.rows.replaceChildren(...this.list.map(({ row }) => row));
    this.views.dataset.shown = list.length;
  }

  draw({ linked, waits }) {
    const points = this.points();
    const xy = (i) => `${points[3 * i].toFixed(4)} ${points[3 * i + 1].toFixed(4)}`;
    const dots = (indices) => indices.map((i) => `M${xy(i)}h0`).join("");
    change(this.lines, { d: this.model.edges.map(([i, j]) => `M${xy(i)}L${xy(j)}`).join("") });
    change(this.dots, { d: dots(points.filter((_, i) => i % 3 === 0).map((_, i) => i)) });
    change(this.mark, { d: this.tool === "move" ? dots(this.model.move_groups[this.part]) : "" });
    const photo = this.output()?.fc_photo?.[0];
    if (photo) change(this.image, { href: api.apiURL(`/view?${new URLSearchParams(photo)}`) });
    else this.image.removeAttribute("href");

    const expression = this.expression();
    for (const { minus, plus, show } of this.list) {
      const value = (expression?.[plus] ?? 0) - (minus ? (expression?.[minus] ?? 0) : 0);
      show(value, value.toFixed(2));
    }
    const unread = [expression ? "" : "expression", this.moves() ? "" : "moves"].filter(Boolean);
    if (linked.length) this.note.textContent = `From a link: ${linked.join(", ")}`;
    else if (unread.length) this.note.textContent = `Not understood: the text of ${unread.join(" and ")}.`;
    else if (waits) this.note.textContent = this.known ? "Run once more to see the other base." : "A neutral face. Run once to see yours.";
    else this.note.textContent = this.tool === "move" ? `Drag a part: ${this.part}` : "Drag: turn. Shift-drag: tilt.";
  }
}
