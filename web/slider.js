// A slider for the mouse, for touch and for keys; not <input type=range>, since the host's undo leaves those alone.
import { arrow, change, clamp, drag, keys, make } from "./inputs.js";

// options: text, label (for screen readers), low, high, colour; begin() at the first touch; set(value).
// -> {row, show(value)}: one line with name, track and number.
export function slider(inputs, { text, label, low, high, colour }, begin, set) {
  const fill = make("div", { class: "fc-fill", style: `background:${colour}` });
  const track = make(
    "div",
    { class: "fc-track", tabindex: 0, role: "slider", "aria-label": label, "aria-valuemin": low, "aria-valuemax": high },
    fill,
  );
  const number = make("span", { class: "fc-number" });
  const share = (value) => (clamp(value, low, high) - low) / (high - low);
  let shown = 0;
  const put = (value) => set(Math.round(clamp(value, low, high) * 100) / 100);
  const follow = (event) => {
    const box = track.getBoundingClientRect();
    put(low + ((event.clientX - box.left) / box.width) * (high - low));
  };
  drag(
    track,
    inputs,
    (event) => {
      track.focus({ preventScroll: true });
      begin();
      follow(event);
    },
    follow,
  );
  keys(track, inputs, (event) => {
    const way = arrow(event);
    if (!way && event.key !== "Home") return false;
    begin();
    put(way ? shown + (way[0] + way[1]) * (event.shiftKey ? 0.01 : 0.05) : 0);
    return true;
  });
  const show = (value, words) => {
    shown = value;
    const [a, b] = [share(0), share(value)].sort((x, y) => x - y);
    fill.style.left = `${a * 100}%`;
    fill.style.width = `${(b - a) * 100}%`;
    number.textContent = words;
    change(track, { "aria-valuenow": value, "aria-valuetext": words });
  };
  return { row: make("div", { class: "fc-row" }, make("span", { class: "fc-name", text }), track, number), show };
}
