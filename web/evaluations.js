// How often the network runs: the rows of Eq. 6 (facecrafter_core/diffusion/guidance.py) x calls of the sampler x pictures.
import { Inputs, addElement, make, watch } from "./inputs.js";

const MUTED = 2;
const BYPASSED = 4;
const WEIGHTS = ["identity_weight", "landmark_weight", "emotion_weight"];

export function addEvaluations(node, calls) {
  const inputs = new Inputs(node);
  const line = make("div", { class: "fc fc-evaluations", role: "status" });
  addElement(node, "evaluations", line, 52);
  watch(
    line,
    () => ({ ...evaluations(node, inputs, calls), warnings: warnings(node, inputs) }),
    ({ text, names, warnings }) => {
      line.replaceChildren(text, ...warnings.map((words) => make("div", { class: "fc-warning" }, `⚠ ${words}`)));
      line.title = `Rows of a step: ${names.join(", ")}. A row whose coefficient in Eq. 6 is 0 is not computed.`;
    },
  );
}

// Names of the rows with a coefficient other than 0. A weight that is not known (NaN) counts as other than 0.
export function rows(identity, landmark, emotion, mode, hasLandmarks, hasEmotion) {
  const lmk = hasLandmarks ? landmark : 0;
  const emo = hasEmotion ? emotion : 0;
  const both = (lmk + emo) / 2;
  const joint = mode === "joint" && lmk !== 0 && emo !== 0;
  const table = joint
    ? { none: 1 - identity, id: identity - both, "id+lmk+emo": both }
    : { none: 1 - identity, id: identity - lmk - emo, "id+lmk": lmk, "id+emo": emo };
  return Object.keys(table).filter((name) => table[name] !== 0);
}

// Calls of the network in one run: [a, b] of a sampler stands for a x steps + b, at least one; null is not known beforehand.
export function callsOf(sampler, steps, calls) {
  const rule = sampler in calls ? calls[sampler] : [1, 0];
  return rule && Math.max(1, rule[0] * steps + rule[1]);
}

function evaluations(node, inputs, calls) {
  const value = (name) => (inputs.linked(name) ? NaN : inputs.get(name));
  const found = conditionings(node);
  const carries = (input, alpha) =>
    !found.length || found.some((c) => source(c, input) && (new Inputs(c).linked(alpha) || new Inputs(c).get(alpha) !== 0));
  const weights = WEIGHTS.map(value);
  const names = rows(...weights, inputs.get("mode"), carries("landmarks", "alpha_landmarks"), carries("emotion", "alpha_emotion"));
  const sampler = inputs.widget("sampler_name")?.value;
  if (sampler?.includes("cfg_pp") && !names.includes("none")) names.unshift("none");
  const { limited, refresh } = timing(source(node, "intervals"));
  if (refresh > 1 && !names.includes("id")) names.push("id");
  const unsure = !found.length || weights.some(Number.isNaN) || inputs.linked("mode") || limited;
  const amount = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
  const between = refresh > 1 ? ` (every ${refresh}${{ 2: "nd", 3: "rd" }[refresh] ?? "th"} call, else 1)` : "";
  const start = `${unsure ? "up to " : ""}${amount(names.length, "row")}${between}`;
  if (!sampler) return { names, text: `${start} a step` };

  const times =
    inputs.linked("steps") || inputs.linked("sampler_name")
      ? null
      : inputs.get("denoise") === 0
        ? 0
        : callsOf(sampler, inputs.get("steps"), calls);
  if (times === null) return { names, text: `${start} a call` };
  const each = `${start} × ${amount(times, times === inputs.get("steps") ? "step" : "call")}`;
  const pictures = count(node, found);
  const fresh = Math.ceil(times / refresh);
  const total = names.length * fresh + (times - fresh);
  if (pictures === null) return { names, text: `${each} = ${total} evaluations a picture` };
  return { names, text: `${each} × ${amount(pictures, "picture")} = ${amount(total * pictures, "evaluation")}` };
}

// What Guidance Intervals say: whether some rows may be left out of some steps, and in which calls all are computed.
function timing(node) {
  if (!node) return { limited: false, refresh: 1 };
  if (node.comfyClass !== "FaceCrafterGuidanceIntervals") return { limited: true, refresh: 1 };
  const inputs = new Inputs(node);
  const value = (name) => (inputs.linked(name) ? NaN : inputs.get(name));
  const open = WEIGHTS.every((name) => value(name.replace("weight", "start")) === 0 && value(name.replace("weight", "end")) === 1);
  const refresh = value("refresh");
  return { limited: !open || Number.isNaN(refresh), refresh: refresh > 1 ? refresh : 1 };
}

const ADDS_NOISE = /ancestral|sde|ddpm|lcm|sa_solver|seeds/;

// What would do nothing, or something else than it seems, said before the run.
function warnings(node, inputs) {
  const found = conditionings(node);
  const out = [];
  const sampler = inputs.widget("sampler_name")?.value;
  if (inputs.widget("same_noise") && inputs.get("same_noise") === true) {
    if (source(node, "latent")) out.push("same_noise does nothing with a latent.");
    else if (ADDS_NOISE.test(sampler)) out.push(`${sampler} adds noise of its own; for same_noise take dpmpp_2m.`);
  }
  for (const [input, alpha] of [["landmarks", "alpha_landmarks"], ["emotion", "alpha_emotion"]]) {
    const cut = (c) => source(c, input) && !new Inputs(c).linked(alpha) && new Inputs(c).get(alpha) === 0;
    if (found.length && found.every(cut)) out.push(`${alpha} is 0: the ${input} are cut off.`.replace("emotion are", "emotion is"));
  }
  return out;
}

// --- the graph

// The node that really feeds an input: muted ones feed nothing, bypassed ones hand on what they get of the same kind.
function source(node, name) {
  const slot = (node.inputs ?? []).findIndex((input) => input.name === name);
  const from = slot < 0 ? null : node.getInputNode(slot);
  if (!from) return slot >= 0 && node.inputs[slot].link != null ? node : null; // linked, but from outside of a subgraph
  if (from.mode === MUTED) return null;
  if (from.mode !== BYPASSED) return from;
  const same = from.inputs.find((input) => input.type === node.inputs[slot].type && input.link != null);
  return same ? source(from, same.name) : null;
}

// The FaceCrafter Conditioning nodes behind `positive`; for a node that patches a MODEL, behind that of the sampler it feeds.
function conditionings(node) {
  const found = new Set();
  const seen = new Set();
  const up = (here, names) => {
    for (const name of names) {
      const from = source(here, name);
      if (!from || seen.has(from)) continue;
      seen.add(from);
      if (from.comfyClass === "FaceCrafterConditioning") found.add(from);
      else up(from, conditions(from));
    }
  };
  if (node.inputs?.some((input) => input.name === "positive")) up(node, ["positive"]);
  else for (const sampler of fed(node)) up(sampler, ["positive"]);
  return [...found];
}

const conditions = (node) => (node.inputs ?? []).filter((input) => input.type === "CONDITIONING").map((input) => input.name);

function fed(node, seen = new Set()) {
  if (seen.has(node)) return [];
  seen.add(node);
  const next = (node.outputs ?? []).flatMap((output, i) => (output.type === "MODEL" ? (node.getOutputNodes(i) ?? []) : []));
  return next.flatMap((n) => (n.inputs.some((input) => input.name === "positive") ? [n] : fed(n, seen)));
}

// Pictures of a run, or null where only the run knows.
function count(node, found) {
  const latent = source(node, "latent");
  if (latent) return widgetOf(latent, "batch_size");
  if (found.length !== 1) return null;
  const sizes = ["identity", "landmarks", "emotion"].map((name) => [name, source(found[0], name)]).filter(([, from]) => from);
  const all = sizes.map(([, from]) => entries(from));
  return all.includes(null) ? null : Math.max(1, ...all);
}

function widgetOf(node, name) {
  const inputs = new Inputs(node);
  return inputs.widget(name) && !inputs.linked(name) ? inputs.get(name) : null;
}

// Entries of the batch that a node gives, or null.
function entries(node) {
  if (["LoadImage", "FaceCrafterSamplePortrait", "FaceCrafterEmotion", "FaceCrafterEncodeIdentity"].includes(node.comfyClass)) return 1;
  if (node.comfyClass === "FaceCrafterEmotionSweep") return widgetOf(node, "count");
  if (["FaceCrafterExtractLandmarks", "FaceCrafterEmotionFromImage"].includes(node.comfyClass)) {
    const photo = source(node, "photo");
    return photo && photo !== node ? entries(photo) : null;
  }
  if (node.comfyClass === "FaceCrafterEditLandmarks") {
    const landmarks = source(node, "landmarks");
    return landmarks ? (landmarks === node ? null : entries(landmarks)) : 1;
  }
  return null;
}
