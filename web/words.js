// Our words in the editor's language: say(English text) gives the translation of locales/*/main.json, or the text where there is none.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

let words = {};

// Once, before any node is made.
export async function loadWords() {
  const language = app.extensionManager.setting.get("Comfy.Locale");
  if (!language || language === "en") return;
  words = (await (await api.fetchApi("/i18n")).json())[language]?.facecrafter ?? {};
}

export function say(text) {
  return words[text] ?? text;
}
