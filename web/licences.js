// Download Models: licences are accepted by a click here. A workflow cannot accept them.
import { api } from "../../scripts/api.js";

const ADDRESS = "/facecrafter/licences";

async function accept(what) {
  const licences = await (await api.fetchApi(`${ADDRESS}?what=${encodeURIComponent(what)}`)).json();
  if (licences.error) return window.alert(licences.error);
  const lines = Object.entries(licences).map(([name, text]) => `${name}: ${text}`);
  if (!window.confirm(`${lines.join("\n")}\n\nAccept these licences? Run then downloads the files.`)) return;
  const body = JSON.stringify({ what });
  const answer = await api.fetchApi(ADDRESS, { method: "POST", headers: { "Content-Type": "application/json" }, body });
  if (!answer.ok) window.alert((await answer.json()).error);
}

export function addLicences(node) {
  const button = node.addWidget("button", "Show and accept licences", null, () =>
    accept(node.widgets.find((widget) => widget.name === "what").value),
  );
  button.serialize = false;
}
