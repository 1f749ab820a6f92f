// The emotion pad: the valence-arousal plane with the eight classes at their places, and their shares as bars.
import { Circumplex, withShare } from "./emotion.js";
import { Inputs, addElement, arrow, change, clamp, drag, keys, make, watch } from "./inputs.js";
import { slider } from "./slider.js";

const EDGE = 1.16; // half the width of the picture, in units of valence and arousal
const SNAP = 0.05;
const PLANE = "valence and arousal";
const COLOURS = {
  neutral: "#9aa0aa",
  happy: "#e8b41f",
  sad: "#4f8fe0",
  surprise: "#ef8a34",
  fear: "#9a70d8",
  disgust: "#5fae57",
  anger: "#df5353",
  contempt: "#bf8063",
};
const hundredth = (value) => Math.round(value * 100) / 100;
const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);

export function addEmotionPad(node, circumplex) {
  new EmotionPad(node, new Circumplex(circumplex));
}

class EmotionPad {
  constructor(node, model) {
    this.inputs = new Inputs(node);
    this.model = model;
    this.fields = ["source", "preset", "intensity", "valence", "arousal", ...model.names];
    this.caption = make("div", { class: "fc-caption" });
    this.note = make("div", { class: "fc-note", role: "status" });
    this.element = make(
      "div",
      { class: "fc fc-emotion" },
      this.caption,
      make("div", { class: "fc-body" }, this.plane(), this.bars()),
      this.note,
    );
    addElement(node, "emotion_pad", this.element, 440);
    watch(
      this.element,
      () => this.read(),
      (state) => this.draw(state),
    );
  }

  read() {
    const values = Object.fromEntries(this.fields.map((name) => [name, this.inputs.get(name)]));
    return { values, linked: this.fields.filter((name) => this.inputs.linked(name)) };
  }

  emotion() {
    return this.model.emotion(this.read().values);
  }

  // --- the plane

  plane() {
    this.ray = make("line", { class: "fc-ray" });
    this.handle = make("circle", { class: "fc-handle", r: 0.055 });
    this.labels = this.model.names.map((name) => this.label(name));
    const words = [
      ["unpleasant", -1.1, -0.1, "start"],
      ["pleasant", 1.1, -0.1, "end"],
      ["excited", -0.05, 1.04, "end"],
      ["calm", -0.05, -1.11, "end"],
    ];
    this.svg = make(
      "svg",
      {
        class: "fc-plane",
        viewBox: `${-EDGE} ${-EDGE} ${2 * EDGE} ${2 * EDGE}`,
        preserveAspectRatio: "xMidYMin",
        tabindex: 0,
        role: "slider",
        "aria-label": "Valence and arousal",
        "aria-valuemin": -1,
        "aria-valuemax": 1,
      },
      make("rect", { class: "fc-ground", x: -EDGE, y: -EDGE, width: 2 * EDGE, height: 2 * EDGE, rx: 0.06 }),
      make("path", { class: "fc-axes", d: "M-1 0H1M0 -1V1M-1 -1H1V1H-1Z" }),
      ...words.map(([text, x, y, anchor]) => make("text", { class: "fc-word", x, y: -y, "text-anchor": anchor, text })),
      this.ray,
      ...this.labels,
      this.handle,
    );
    drag(
      this.svg,
      this.inputs,
      (event) => this.press(event),
      (event) => this.move(event),
    );
    keys(this.svg, this.inputs, (event) => this.key(event));
    this.svg.addEventListener("dblclick", () => {
      this.inputs.begin();
      this.choose("neutral", 1);
      this.inputs.end();
    });
    return this.svg;
  }

  // A class at its place; its name stands on the side away from the nearest other class.
  label(name) {
    const [v, a] = this.model.centroids[name];
    const other =
      this.model.centroids[
        this.model.nearest(
          [v, a],
          this.model.names.filter((n) => n !== name),
        ).name
      ];
    const up = a > other[1];
    const group = make(
      "g",
      { class: "fc-class", tabindex: 0, role: "button", "aria-label": `Preset ${name}` },
      make("circle", { cx: v, cy: -a, r: 0.032, fill: COLOURS[name] }),
      make("text", { x: v, y: -a + (up ? -0.07 : 0.145), "text-anchor": "middle", text: name }),
    );
    keys(group, this.inputs, (event) => (event.key === "Enter" || event.key === " ") && (this.choose(name, 1), true));
    return group;
  }

  // Pointer -> [valence, arousal], maybe outside of [-1, 1].
  at(event) {
    const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.svg.getScreenCTM().inverse());
    return [place.x, -place.y];
  }

  press(event) {
    this.svg.focus({ preventScroll: true });
    this.preset = event.target.closest("g") ? this.model.names[this.labels.indexOf(event.target.closest("g"))] : null;
    if (this.preset) this.choose(this.preset, 1);
    else this.move(event);
  }

  // A drag that began on a class goes along its line from neutral: the intensity. Any other drag moves the point.
  move(event) {
    const [v, a] = this.at(event);
    if (this.preset) {
      const [x, y] = this.model.centroids[this.preset];
      const length = x * x + y * y;
      if (length) this.choose(this.preset, clamp(hundredth((v * x + a * y) / length), 0, 1));
      return;
    }
    const near = this.model.nearest([v, a]);
    if (near.distance < SNAP && !event.shiftKey) this.choose(near.name, 1);
    else this.place(v, a);
  }

  key(event) {
    if (event.target !== this.svg) return false;
    const step = event.shiftKey ? 0.01 : 0.05;
    const [v, a] = this.emotion().point;
    const way = arrow(event);
    if (way) this.place(v + way[0] * step, a + way[1] * step);
    else if (event.key === "Home") this.choose("neutral", 1);
    else return false;
    return true;
  }

  place(v, a) {
    this.inputs.set({ source: PLANE, valence: hundredth(clamp(v, -1, 1)), arousal: hundredth(clamp(a, -1, 1)) });
  }

  choose(preset, intensity) {
    const [v, a] = this.model.centroids[preset];
    this.inputs.set({ source: "preset", preset, intensity, valence: hundredth(v * intensity), arousal: hundredth(a * intensity) });
  }

  // --- the bars

  bars() {
    this.rows = this.model.names.map((text, index) =>
      slider(
        this.inputs,
        { text, label: `Share of ${text}`, low: 0, high: 1, colour: COLOURS[text] },
        () => (this.before = this.emotion()),
        (value) => this.share(index, value, this.before),
      ),
    );
    return make("div", { class: "fc-bars" }, ...this.rows.map(({ row }) => row));
  }

  // The others share what is left; what was shown is where it starts from.
  share(index, value, { point, shares }) {
    const all = withShare(shares, index, value);
    const classes = Object.fromEntries(this.model.names.map((name, i) => [name, all[i]]));
    this.inputs.set({ ...classes, valence: hundredth(point[0]), arousal: hundredth(point[1]), source: "classes" });
  }

  // --- the picture

  draw({ values, linked }) {
    const { point, shares } = this.model.emotion(values);
    const [v, a] = point;
    const counts = {
      preset: ["preset", "intensity"],
      [PLANE]: ["valence", "arousal"],
      classes: ["valence", "arousal", ...this.model.names],
    }[values.source];
    const missing = linked.filter((name) => name === "source" || counts.includes(name));
    this.element.dataset.source = values.source;
    this.element.classList.toggle("fc-linked", missing.length > 0);
    change(this.handle, { cx: v, cy: -a });
    change(this.ray, { x1: 0, y1: 0, x2: v, y2: -a });
    change(this.svg, { "aria-valuenow": v, "aria-valuetext": `valence ${v.toFixed(2)}, arousal ${a.toFixed(2)}` });
    this.labels.forEach((label, i) => label.classList.toggle("fc-on", values.source === "preset" && this.model.names[i] === values.preset));
    this.rows.forEach(({ show }, i) => show(clamp(shares[i], 0, 1), `${Math.round(shares[i] * 100)}%`));
    const mode = values.source === "preset" ? `${values.preset} ${Math.round(values.intensity * 100)}%` : values.source;
    this.caption.replaceChildren(make("b", { text: mode }), make("span", { text: `V ${signed(v)}  A ${signed(a)}` }));
    const sum = shares.reduce((x, y) => x + y);
    if (missing.length) this.note.textContent = `From a link: ${missing.join(", ")}`;
    else if (Math.abs(sum - 1) > 0.0101) this.note.textContent = `The shares sum to ${sum.toFixed(2)}, not to 1: drag a bar.`;
    else this.note.textContent = "";
  }
}
