// Widgets for FaceCrafter's nodes.
import { app } from "../../scripts/app.js";
import { addEmotionPad } from "./emotion_pad.js";
import { addEvaluations } from "./evaluations.js";
import { addLandmarkEditor } from "./landmark_editor.js";
import { addLicences } from "./licences.js";
import { loadWords } from "./words.js";

document.head.append(
  Object.assign(document.createElement("link"), { rel: "stylesheet", href: new URL("./facecrafter.css", import.meta.url).href }),
);

app.registerExtension({
  name: "FaceCrafter.Widgets",
  init: loadWords,
  nodeCreated(node) {
    const required = node.constructor.nodeData?.input?.required;
    if (node.comfyClass === "FaceCrafterEmotion") addEmotionPad(node, required.preset[1].circumplex);
    if (node.comfyClass === "FaceCrafterSampler") addEvaluations(node, required.sampler_name[1].calls);
    if (node.comfyClass === "FaceCrafterEditLandmarks") addLandmarkEditor(node);
    if (node.comfyClass === "FaceCrafterDownloadModels") addLicences(node);
    if (["FaceCrafterGuider", "FaceCrafterApply"].includes(node.comfyClass)) addEvaluations(node, {});
  },
});
