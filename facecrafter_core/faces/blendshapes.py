"""Names of facial actions: ARKit's, which MediaPipe's blendshape scores follow. Left and right are the person's own."""

PAIRED = (
    "browDown", "browOuterUp", "cheekSquint", "eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeSquint",
    "eyeWide", "mouthDimple", "mouthFrown", "mouthLowerDown", "mouthPress", "mouthSmile", "mouthStretch", "mouthUpperUp",
    "noseSneer",
)  # fmt: skip
SINGLE = (
    "browInnerUp", "cheekPuff", "jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose", "mouthFunnel", "mouthLeft",
    "mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "tongueOut",
)  # fmt: skip
ACTIONS: tuple[str, ...] = tuple(sorted([*SINGLE, *(n + s for n in PAIRED for s in ("Left", "Right"))]))
"""The 52 facial actions (ARKit's names, alphabetical): the order of every action vector here."""
BLENDSHAPES = ("_neutral", *(a for a in ACTIONS if a != "tongueOut"))
"""The order of MediaPipe's 52 scores."""

EMOTION_ACTIONS: dict[str, dict[str, float]] = {
    "happy": {"mouthSmile": 0.85, "cheekSquint": 0.7, "eyeSquint": 0.35, "jawOpen": 0.12, "mouthUpperUp": 0.2},
    "sad": {"browInnerUp": 0.9, "browDown": 0.2, "mouthFrown": 0.9, "mouthShrugLower": 0.5, "eyeLookDown": 0.3, "eyeBlink": 0.18},
    "surprise": {"browInnerUp": 0.9, "browOuterUp": 0.95, "eyeWide": 0.9, "jawOpen": 0.55, "mouthFunnel": 0.15},
    "fear": {"browInnerUp": 0.95, "browOuterUp": 0.4, "browDown": 0.35, "eyeWide": 0.95, "mouthStretch": 0.8, "jawOpen": 0.22,
             "mouthLowerDown": 0.4},
    "disgust": {"noseSneer": 0.95, "mouthUpperUp": 0.65, "browDown": 0.55, "eyeSquint": 0.5, "mouthFrown": 0.35,
                "mouthShrugLower": 0.35, "cheekSquint": 0.4},
    "anger": {"browDown": 1.0, "eyeSquint": 0.45, "eyeWide": 0.3, "noseSneer": 0.45, "mouthPress": 0.6, "mouthFrown": 0.4,
              "mouthRollLower": 0.2, "jawForward": 0.3},
    "contempt": {"mouthSmileLeft": 0.6, "mouthDimpleLeft": 0.75, "mouthPressLeft": 0.4, "browDownRight": 0.2, "eyeSquint": 0.25,
                 "mouthUpperUpLeft": 0.2},
}  # fmt: skip
"""Emotion -> weights of actions at intensity 1, after FACS (Ekman and Friesen 1978). A paired name without side means both sides."""
