"""Identity number -> person: the shape of a face, its skin, hair, brows, lashes and irises. Pure numbers and names."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .assets import Assets, Catalogue

ANCESTRIES = ("african", "asian", "caucasian")
# Skin tones from light to dark, sRGB 0..255: the base colour of cheek skin in even light.
_TONES = np.array(
    [(238, 207, 190), (228, 188, 166), (214, 169, 143), (196, 150, 121), (168, 124, 97), (138, 98, 76), (106, 73, 55), (80, 55, 43)]
)  # fmt: skip
_TONE_RANGE = {"african": (0.60, 1.0), "asian": (0.12, 0.52), "caucasian": (0.0, 0.36)}
# Hair colours, linear RGB: black, dark brown, brown, light brown, blond, red, grey, white.
_HAIR = np.array(
    [(0.010, 0.009, 0.008), (0.030, 0.019, 0.012), (0.075, 0.043, 0.024), (0.16, 0.095, 0.052), (0.36, 0.25, 0.135),
     (0.17, 0.055, 0.02), (0.22, 0.215, 0.21), (0.40, 0.39, 0.375)]
)  # fmt: skip
_HAIR_SHARE = {
    "african": (9.0, 2.5, 0.5, 0.1, 0.05, 0.02), "asian": (9.0, 3.0, 0.8, 0.2, 0.1, 0.05), "caucasian": (2.5, 4.0, 4.0, 3.0, 2.6, 1.0),
}  # fmt: skip
# Iris colours, linear RGB: dark brown, brown, hazel, green, blue, pale blue, grey; and how common they are.
_IRIS = np.array(
    [(0.045, 0.021, 0.010), (0.11, 0.052, 0.022), (0.17, 0.11, 0.045), (0.13, 0.15, 0.075), (0.10, 0.17, 0.27), (0.2, 0.29, 0.36),
     (0.22, 0.24, 0.25)]
)  # fmt: skip
_IRIS_SHARE = {
    "african": (6, 3, 0.2, 0, 0, 0, 0),
    "asian": (6, 3, 0.2, 0, 0, 0, 0),
    "caucasian": (2, 3, 2, 1.3, 2, 1.2, 1),
}
MALE_HAIR = ("hair/short01", "hair/short03", "hair/short04")
FEMALE_HAIR = ("hair/braid01", "hair/long01", "hair/ponytail01")
_HAIR_STYLE_SHARE = {"hair/short03": 0.12, "hair/braid01": 0.7}  # both have a fringe over one eye


@dataclass(frozen=True)
class Person:
    """Everything that makes an identity.

    Attributes:
        number: identity number.  male, old: 0..1.  ancestry: shares (african, asian, caucasian) that sum to 1.
        targets: shape target -> weight.  skins: two skin names, and skin_mix 0..1 between them.
        tone: linear RGB of the cheek.  lip, blush: 0..1 strength of make-up or natural colour there.
        beard: 0..1 density.  freckles: 0..1.
        hair: piece name or None (shaved or bald).  hair_color: linear RGB.  hair_volume: 1 = as modelled; hair_flip mirrors it.
        stubble: 0..1, how dark the scalp is where no hair is worn.  hair_cut: decimetres below the chin at which long hair ends.
        brows, lashes, teeth: piece names.  brow_color: linear RGB.  brow_density, lash_density: 0..1.
        iris: linear RGB.  teeth_tint: a factor.
        resting: facial action -> weight, the face's own resting expression (part of identity, in no label).
    """

    number: int
    male: float
    old: float
    ancestry: tuple[float, float, float]
    targets: dict[str, float]
    skins: tuple[str, str]
    skin_mix: float
    tone: tuple[float, float, float]
    contrast: float
    lip: tuple[float, float, float]
    blush: float
    beard: float
    freckles: float
    hair: str | None
    hair_color: tuple[float, float, float]
    hair_volume: float
    hair_flip: bool
    stubble: float
    hair_cut: float
    brows: str
    brow_color: tuple[float, float, float]
    brow_density: float
    lashes: str
    lash_density: float
    teeth: str
    teeth_tint: tuple[float, float, float]
    iris: tuple[float, float, float]
    resting: dict[str, float] = field(default_factory=dict)


def sample_person(number: int, catalogue: Catalogue, seed: int = 0) -> Person:
    """The person with this identity number; depends on (seed, number) and the catalogue only."""
    face, skin, hair, detail = (np.random.default_rng([seed, number, stream]) for stream in range(4))
    ancestry = face.dirichlet([0.35] * 3)
    leading = ANCESTRIES[int(np.argmax(ancestry))]
    male = float(face.beta(0.3, 0.3))
    old = float(face.beta(0.85, 1.6))
    tone = _skin_tone(ancestry, skin)
    natural = _hair_color(leading, old, hair)
    hair_color = _dyed(natural, hair) if hair.random() < 0.05 else natural
    name, volume, cut = _hair_style(male, old, catalogue, hair)
    brow = natural * (0.55 if natural.sum() > 0.25 else 0.9)
    if natural[0] > 0.2 and abs(natural[0] - natural[2]) < 0.05:  # grey hair, darker brows and beard
        brow = natural * 0.3
    return Person(
        number=number,
        male=male,
        old=old,
        ancestry=tuple(float(a) for a in ancestry),
        targets=_shape(male, old, ancestry, catalogue.targets, face),
        skins=_skins(male, old, leading, catalogue, skin),
        skin_mix=float(skin.beta(0.6, 0.6)),
        tone=_rgb(tone),
        contrast=float(np.clip(0.85 + 0.15 * skin.normal() + 0.25 * old, 0.5, 1.4)),
        lip=_lip(male, tone, detail),
        blush=float(skin.uniform(0.0, 0.5) ** 1.5),
        beard=float(detail.beta(0.7, 0.9)) if male > 0.6 and detail.random() < 0.62 else 0.0,
        freckles=float(skin.uniform(0.2, 1.0)) if leading == "caucasian" and skin.random() < 0.15 else 0.0,
        hair=name,
        hair_color=_rgb(hair_color),
        hair_volume=volume,
        hair_flip=bool(detail.random() < 0.5),
        stubble=float(detail.uniform(0.1, 1.0)) if male > 0.5 and detail.random() < 0.7 else 0.0,
        hair_cut=cut,
        brows=str(detail.choice(catalogue.pieces["eyebrows"])),
        brow_color=_rgb(brow),
        brow_density=float(detail.uniform(0.6, 1.0)),
        lashes=str(detail.choice(catalogue.pieces["eyelashes"])),
        lash_density=float(np.clip((0.45 if male > 0.5 else 0.85) + 0.15 * detail.normal(), 0.15, 1.0)),
        teeth=str(detail.choice(catalogue.pieces["teeth"])),
        teeth_tint=_rgb(np.array([1.0, 0.97 - 0.06 * old, 0.90 - 0.16 * old]) * detail.uniform(1.2, 1.7)),
        iris=_rgb(_iris(leading, detail)),
        resting=_resting(detail),
    )


def shape(person: Person, assets: Assets) -> np.ndarray:
    """The person's vertices at rest, chin at the base mesh's height and depth: float32 [V, 3]."""
    vertices = assets.vertices.copy()
    for name, weight in person.targets.items():
        index, delta = assets.targets[name]
        vertices[index] += delta * np.float32(weight)
    chin = assets.points["chin"]
    vertices[:, 1:] += (assets.vertices[chin] - vertices[chin]).mean(0)[1:]
    for name, weight in person.resting.items():
        index, delta = assets.actions[name]
        vertices[index] += delta * np.float32(weight)
    return vertices


def _rgb(color: np.ndarray) -> tuple[float, float, float]:
    return float(color[0]), float(color[1]), float(color[2])


def _shape(
    male: float, old: float, ancestry: np.ndarray, targets: tuple[str, ...], rng: np.random.Generator
) -> dict[str, float]:
    known = set(targets)
    weights: dict[str, float] = {}

    def add(name: str, weight: float) -> None:
        if weight > 1e-3 and name in known:
            weights[name] = weights.get(name, 0.0) + float(weight)

    weight, muscle = (float(np.clip(0.5 + spread * rng.normal(), 0, 1)) for spread in (0.22, 0.2))
    thirds = {
        part: (("min", max(0.0, 1 - 2 * x)), ("average", 1 - abs(2 * x - 1)), ("max", max(0.0, 2 * x - 1)))
        for part, x in (("weight", weight), ("muscle", muscle))
    }
    for sex, s in (("male", male), ("female", 1 - male)):
        for age, a in (("young", 1 - old), ("old", old)):
            for name, share in zip(ANCESTRIES, ancestry, strict=True):
                add(f"macrodetails/{name}-{sex}-{age}", s * a * share)
            for muscles, m in thirds["muscle"]:
                for weights_, w in thirds["weight"]:
                    add(f"macrodetails/universal-{sex}-{age}-{muscles}muscle-{weights_}weight", s * a * m * w)
    for stem, names in sorted(_opposites(targets).items()):
        part, size = stem.split("/")[0], rng.normal()
        if stem in ("mouth/mouth-trans", "head/head-trans", "nose/nose-trans", "neck/neck-trans"):
            continue
        spread = {"mouth": 0.22, "asym": 0.22, "eyes": 0.24, "ears": 0.24, "cheek": 0.26, "eyebrows": 0.24}.get(
            part, 0.28
        )
        size = min(abs(size) * spread * (0.4 if "trans" in stem else 1.0), 0.9) * np.sign(size)
        name = names[int(rng.integers(len(names)))] if len(names) > 2 else names[0] if size < 0 else names[-1]
        add(name, abs(size))
        if "/l-" in name:
            add(name.replace("/l-", "/r-"), abs(size) * float(np.clip(1 + 0.1 * rng.normal(), 0.7, 1.3)))
    return weights


def _opposites(targets: tuple[str, ...]) -> dict[str, list[str]]:
    """Local targets grouped by what they change ("nose/nose-hump" -> decr, incr); right-sided ones follow their left."""
    groups: dict[str, list[str]] = {}
    for name in sorted(targets):
        part = name.split("/")[0]
        if part == "macrodetails" or "/r-" in name or "breast" in name or "trunk" in name or "pointed" in name:
            continue
        if part == "neck" and "scale" not in name:
            continue
        groups.setdefault(name.rsplit("-", 1)[0], []).append(name)
    return groups


def _skins(male: float, old: float, leading: str, catalogue: Catalogue, rng: np.random.Generator) -> tuple[str, str]:
    """Two skins of the right sex and, where there is one, age; their colour is taken out later, so ancestry matters less."""
    age = "young" if old < 0.3 else "middleage" if old < 0.6 else "old"
    sex = "male" if male > 0.5 else "female"

    def score(name: str) -> float:
        s, a, r = catalogue.skins[name]
        order = ("young", "middleage", "old")
        same = (r == "african") == (leading == "african")
        return (
            3.0 * (s != sex)
            + abs(order.index(a) - order.index(age))
            + (2.5 if leading == "african" else 4.0) * (not same)
            + rng.random()
        )

    ranked = sorted(sorted(catalogue.skins), key=score)
    return ranked[0], ranked[1]


def _skin_tone(ancestry: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    where = sum(share * rng.uniform(*_TONE_RANGE[name]) for share, name in zip(ancestry, ANCESTRIES, strict=True))
    x = float(np.clip(where + 0.04 * rng.normal(), 0, 1)) * (len(_TONES) - 1)
    low = min(int(x), len(_TONES) - 2)
    tone = (_TONES[low] + (_TONES[low + 1] - _TONES[low]) * (x - low)) / 255
    return tone**2.2 * np.array([1 + 0.04 * rng.normal(), 1, 1 + 0.07 * rng.normal()]) * np.exp(0.06 * rng.normal())


def _hair_color(leading: str, old: float, rng: np.random.Generator) -> np.ndarray:
    share = np.array([*_HAIR_SHARE[leading], 0.0, 0.0]) + np.array([0] * 6 + [1.0, 0.8]) * max(0.0, old - 0.45) * 30
    color = _HAIR[rng.choice(len(_HAIR), p=share / share.sum())] * np.exp(rng.normal() * 0.2)
    return color


def _dyed(natural: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mostly blond and red tones, now and then a colour."""
    if rng.random() < 0.75:
        return _HAIR[rng.choice([3, 4, 5])] * np.exp(rng.normal(size=3) * 0.15)
    return 0.5 * natural + rng.uniform(0.01, 0.2, 3)


def _hair_style(
    male: float, old: float, catalogue: Catalogue, rng: np.random.Generator
) -> tuple[str | None, float, float]:
    have = catalogue.pieces["hair"]
    long, short = ([h for h in names if h in have] for names in (FEMALE_HAIR, MALE_HAIR))
    if male > 0.5:
        shaved, other_style = 0.14 + 0.25 * old, 0.06
        styles, others = short, long
    else:
        shaved, other_style = 0.02, 0.16
        styles, others = long, short
    draw = rng.random()
    chosen = others if draw > 1 - other_style else styles
    share = np.array([_HAIR_STYLE_SHARE.get(name, 1.0) for name in chosen])
    name = None if draw < shaved or not chosen else str(rng.choice(chosen, p=share / share.sum()))
    cut = float(rng.choice([-0.3, 0.0, 0.5, 3.0]) + 0.15 * rng.normal())
    return name, float(rng.uniform(1.0, 1.065)), cut


def _lip(male: float, tone: np.ndarray, rng: np.random.Generator) -> tuple[float, float, float]:
    """A factor on the lips' colour: near 1, or lipstick."""
    if male < 0.4 and rng.random() < 0.4:
        return _rgb(np.array([1.0, rng.uniform(0.35, 0.8), rng.uniform(0.4, 0.85)]) * rng.uniform(0.7, 1.1))
    return _rgb(np.array([1.0, 0.92, 0.92]) * np.exp(rng.normal(size=3) * 0.04))


def _iris(leading: str, rng: np.random.Generator) -> np.ndarray:
    share = np.array(_IRIS_SHARE[leading], float)
    return _IRIS[rng.choice(len(_IRIS), p=share / share.sum())] * np.exp(rng.normal(size=3) * 0.08 + rng.normal() * 0.2)


def _resting(rng: np.random.Generator) -> dict[str, float]:
    """A friendly resting face: the bare mesh frowns a little and looks stern."""
    smile, brow = rng.uniform(0.05, 0.25), rng.uniform(-0.5, -0.1)
    return {
        "mouthSmileLeft": smile, "mouthSmileRight": smile * rng.uniform(0.85, 1.15), "browDownLeft": brow, "browDownRight": brow,
        "browInnerUp": rng.uniform(0.0, 0.3), "eyeWideLeft": rng.uniform(0, 0.12), "eyeWideRight": rng.uniform(0, 0.12),
        "mouthPressLeft": -rng.uniform(0, 0.12), "mouthPressRight": -rng.uniform(0, 0.12),
    }  # fmt: skip
