// The plain inputs of a node are the only truth: widgets read them, and write them the way the host's own widgets do.
import { app } from "../../scripts/app.js";

export class Inputs {
  constructor(node) {
    this.node = node;
  }

  widget(name) {
    return this.node.widgets.find((widget) => widget.name === name);
  }

  get(name) {
    return this.widget(name).value;
  }

  // Whether another node gives the value: it is then known only when the prompt runs.
  linked(name) {
    return (this.node.inputs ?? []).some((input) => input.widget?.name === name && input.link != null);
  }

  // {name: value}. Linked inputs are left alone.
  set(values) {
    for (const [name, value] of Object.entries(values)) {
      const widget = this.widget(name);
      if (this.linked(name) || widget.value === value) continue;
      const before = widget.value;
      widget.value = value;
      widget.callback?.(value, app.canvas, this.node, [0, 0]);
      this.node.onWidgetChanged?.(name, value, before, widget);
    }
    this.node.graph?.setDirtyCanvas(true, true);
  }

  // All changes until end() are one step of undo.
  begin() {
    app.canvas.emitBeforeChange();
  }

  end() {
    app.canvas.emitAfterChange();
  }
}

// Puts an element under the node's inputs; nothing of it is saved. The node has its whole height at once: one that grows with
// the first picture drawn would be a change of its own in the host's history, and undo followed by redo would end there.
export function addElement(node, name, element, height) {
  const widget = node.addDOMWidget(name, `facecrafter_${name}`, element, {
    serialize: false,
    hideOnZoom: false,
    margin: 6,
    getMinHeight: () => height,
  });
  widget.serialize = false;
  const [width, all] = node.computeSize();
  node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], all)]);
  element.addEventListener("wheel", (event) => {
    if (event.target.closest(".fc-sliders, .lg-node")) return; // they scroll; inside a Vue node the host sees it by itself
    event.preventDefault();
    app.canvas.processMouseWheel(event);
  });
  for (const [kind, forward] of [
    ["pointerdown", "processMouseDown"],
    ["pointermove", "processMouseMove"],
    ["pointerup", "processMouseUp"],
  ])
    element.addEventListener(kind, (event) => {
      if (event.button === 1 || event.buttons & 4) app.canvas[forward](event); // the middle button moves the view
    });
  return widget;
}

// Calls draw(state) when read() gives something new, as long as the element can be seen. Nothing runs otherwise, and nothing
// holds the element: the observer goes with it.
export function watch(element, read, draw) {
  let frame = 0;
  let seen = null;
  const look = () => {
    const state = read();
    const text = JSON.stringify(state);
    if (text !== seen) draw(state);
    seen = text;
    frame = requestAnimationFrame(look);
  };
  new IntersectionObserver((entries) => {
    cancelAnimationFrame(frame);
    if (entries.at(-1).isIntersecting) look();
  }).observe(element);
}

// Pointer drags (mouse, pen, touch) of the main button: start(event) may return false, move(event) follows; one step of undo each.
export function drag(element, inputs, start, move) {
  element.style.touchAction = "none";
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.stopPropagation();
    inputs.begin();
    if (start(event) === false) return inputs.end();
    element.setPointerCapture(event.pointerId);
    const follow = (e) => e.pointerId === event.pointerId && (e.stopPropagation(), move(e));
    const done = (e) => {
      if (e.pointerId !== event.pointerId) return;
      element.removeEventListener("pointermove", follow);
      for (const kind of ["pointerup", "pointercancel"]) element.removeEventListener(kind, done);
      inputs.end();
    };
    element.addEventListener("pointermove", follow);
    for (const kind of ["pointerup", "pointercancel"]) element.addEventListener(kind, done);
  });
}

// Keys: handle(event) returns true if the key was one of its own; one step of undo each.
export function keys(element, inputs, handle) {
  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    inputs.begin();
    if (handle(event)) {
      event.preventDefault();
      event.stopPropagation();
    }
    inputs.end();
  });
}

// make("div", {class: "x", text: "y", "aria-label": "z"}, child, ...) ; svg names give SVG elements.
const SVG = new Set(["svg", "g", "path", "circle", "line", "rect", "text", "image"]);

export function make(tag, attributes = {}, ...children) {
  const element = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  const { text, ...rest } = attributes;
  if (text !== undefined) element.textContent = text;
  change(element, rest);
  element.append(...children);
  return element;
}

export function change(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

// The direction of an arrow key [right, up], or undefined.
export function arrow(event) {
  return ARROWS[event.key];
}

export function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}
