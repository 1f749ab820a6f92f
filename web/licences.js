// Download Models: licences are accepted by a click here. A workflow cannot accept them, nor choose a mirror; the node says so.
import { api } from "../../scripts/api.js";
import { Inputs, addElement, make, watch } from "./inputs.js";
import { say } from "./words.js";

const ADDRESS = "/facecrafter/licences";

// Whether the person has accepted.
async function accept(what) {
  const licences = await (await api.fetchApi(`${ADDRESS}?what=${encodeURIComponent(what)}`)).json();
  if (licences.error) return refused(licences.error);
  const lines = Object.entries(licences).map(([name, text]) => `${name}: ${text}`);
  if (!window.confirm(`${lines.join("\n")}\n\n${say("Accept these licences? Run then downloads the files.")}`)) return false;
  const body = JSON.stringify({ what });
  const answer = await api.fetchApi(ADDRESS, { method: "POST", headers: { "Content-Type": "application/json" }, body });
  return answer.ok || refused((await answer.json()).error);
}

function refused(error) {
  window.alert(error);
  return false;
}

export function addLicences(node) {
  const inputs = new Inputs(node);
  const accepted = new Set();
  const button = node.addWidget("button", "Show and accept licences", null, async () => {
    const what = inputs.get("what");
    if (await accept(what)) accepted.add(what);
  });
  button.label = say("Show and accept licences");
  button.serialize = false;
  const line = make("div", { class: "fc fc-licences", role: "status" });
  addElement(node, "licences", line, 90);
  watch(
    line,
    () => ({ accepted: accepted.has(inputs.get("what")), given: given(inputs) }),
    ({ accepted, given }) => {
      const text = accepted
        ? say("The licences are accepted. Run downloads the files.")
        : say("Nothing is downloaded before you accept the licences here.");
      line.replaceChildren(text, ...given.map((words) => make("div", { class: "fc-warning" }, `⚠ ${words}`)));
    },
  );
}

// What the workflow carries and must not decide.
function given(inputs) {
  const carries = (name) => inputs.linked(name) || String(inputs.get(name) || "").trim() !== "";
  return [
    ...(carries("accept_licences") ? [say("accept_licences is not read: a workflow cannot accept licences. Press the button.")] : []),
    ...(carries("mirror") ? [say("mirror is not read: a workflow cannot choose it. Set HF_ENDPOINT before ComfyUI starts.")] : []),
  ];
}
