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
