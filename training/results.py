"""A benchmark's readings -> results.parquet, summary.json, table.md, scatter and contact sheets, and a picture for each grid of weights."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facecrafter_core.faces.blendshapes import BLENDSHAPES
from facecrafter_core.faces.emotion import EMOTIONS
from facecrafter_core.files import write_whole
from facecrafter_core.metrics import control
from facecrafter_core.metrics.reading import Missing, same_as
from facecrafter_core.metrics.statistics import bootstrap_interval, frechet_distance, root_mean
from training.benchmark import Plan
from training.compare import Metric, differences, table_of_differences

Row = tuple[str, int, Mapping[str, str]]  # name, added parameters, what conditioned it

SCATTER = {
    "valence": ("emotion", 0), "arousal": ("emotion", 1), "yaw": ("pose", 0), "pitch": ("pose", 1), "roll": ("pose", 2),
    "jawOpen": ("expression", BLENDSHAPES.index("jawOpen")), "mouthSmileLeft": ("expression", BLENDSHAPES.index("mouthSmileLeft")),
}  # fmt: skip
"""Pictures of asked-for against found: (reading, column)."""

ROOTS = {  # column of squared errors -> heading and digits
    "flame_expression_error": ("Exp-RMSE (FLAME)", 4),
    "flame_pose_error": ("Pose-RMSE (FLAME)", 4),
    "expression_error": ("Exp-RMSE (52 scores)", 4),
    "pose_error": ("Pose-RMSE (degrees)", 2),
    "valence_error": ("V-RMSE", 3),
    "arousal_error": ("A-RMSE", 3),
    "distribution_error": ("Dist-RMSE (mean over classes)", 3),
    "distribution_distance": ("Dist-RMSE (sum over classes)", 3),
}
MEANS = {
    "landmark_error": ("Landmark error (% of eye distance)", 2),
    "same_class": ("Class-ACC (%)", 1),
    "similarity": ("ID-Sim", 3),
    "arcface_similarity": ("ID-Sim (ArcFace)", 3),
    "own": ("Own identity first (%)", 1),
    "found": ("Face found (%)", 1),
}
SPREADS = {
    "pose_spread": ("Pose spread (degrees)", 2),
    "expression_spread": ("Expression spread (scores)", 4),
    "flame_pose_spread": ("Pose spread (FLAME)", 4),
    "flame_expression_spread": ("Expression spread (FLAME)", 4),
    "lpips": ("LPIPS between a person's pictures", 3),
}
LIKENESS = ("similarity", "arcface_similarity", "own")
"""Metrics of which a person's pictures say about the same: their intervals are over people."""
FEW = " With fewer than 2,048 of either it is biased upwards: compare it only within this table."
SAME_WORLD = "The demo's evaluators are other networks of the same rendered world, which took no part in generating."
PERCENT = {"same_class", "own", "found"}
METRICS = {name: Metric(*heading, 1, root_mean) for name, heading in ROOTS.items()} | {
    name: Metric(*heading, 100 if name in PERCENT else 1, np.mean) for name, heading in MEANS.items()
}
"""Of single pictures."""
IN_GRID = ("landmark_error", "pose_error", "valence_error", "arousal_error", "same_class", "similarity")
BETTER_HIGH = {"same_class", "similarity"}
FEWEST_FOR_FID = 50
"""Pictures on either side: from fewer, a covariance of 2,048 features says nothing."""
GRID = re.compile(r"(?P<row>.+), (?P<what>w|alpha) (?P<landmarks>\S+) (?P<emotion>\S+)")
"""A grid's row; "-" is the value of a condition that the row does without."""

EMOTION_COLUMNS = ("valence_error", "arousal_error", "distribution_error", "distribution_distance", "same_class")
COLUMNS = {  # what a Missing would read -> (columns with targets, columns without)
    "FID": (("fid",), ("fid",)),
    "LPIPS": ((), ("lpips",)),
    "identity": (("similarity", "own"), ("similarity", "own")),
    "arcface": (("arcface_similarity",), ("arcface_similarity",)),
    "emotion": (EMOTION_COLUMNS, ()),
    "FLAME": (("flame_expression_error", "flame_pose_error"), ("flame_expression_spread", "flame_pose_spread")),
}


def columns_of(plan: Plan, reading: Mapping[str, np.ndarray], target: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A value a picture for each metric that the readings allow, and asked-for and found values for the scatter pictures."""
    out: dict[str, np.ndarray] = {"found": np.isfinite(reading["pose"]).all(1).astype(float)}
    if "identity" in reading:
        out["similarity"] = control.similarity(reading["identity"], reference["identity"][plan.identity])
        out["own"] = control.own_among(reading["identity"], reference["identity"], plan.identity)
    if "arcface" in reading:
        out["arcface_similarity"] = control.similarity(reading["arcface"], reference["arcface"][plan.identity])
    for i, name in enumerate(("yaw", "pitch", "roll")):
        out[f"{name}_found"] = reading["pose"][:, i]
    if not target:
        return out
    asked = {name: values[plan.target] for name, values in target.items()}
    out["landmark_error"] = control.landmark_error(reading["landmarks"], asked["landmarks"])
    out["expression_error"] = control.squared_error(reading["expression"], asked["expression"])
    out["pose_error"] = control.squared_error(reading["pose"], asked["pose"])
    for name in ("flame_expression", "flame_pose"):
        if name in reading:
            out[f"{name}_error"] = control.squared_error(reading[name], asked[name])
    if "emotion" in reading:
        for i, name in enumerate(("valence", "arousal")):
            out[f"{name}_error"] = control.squared_error(reading["emotion"][:, [i]], asked["emotion"][:, [i]])
        classes = reading["emotion"][:, 2:], asked["emotion"][:, 2:]
        out["distribution_error"] = control.squared_error(*classes)
        out["distribution_distance"] = control.distribution_distance(*classes)
        out["same_class"] = control.same_class(*classes)
    for name, (kind, column) in SCATTER.items():
        if kind in reading:
            out[f"{name}_asked"], out[f"{name}_found"] = asked[kind][:, column], reading[kind][:, column]
    return out


def summarise(columns: Mapping[str, np.ndarray], plan: Plan, reading: Mapping[str, np.ndarray], real: np.ndarray | None = None) -> dict[str, Any]:
    """metric -> {value, low, high, count, of}: RMSE or mean, its 95% bootstrap interval over pictures (over people for likeness and spreads; null
    from one picture or person), and from how many values of how many possible ones: pictures with a face, all pictures, or people. FID has no interval.
    A metric that could not be measured is {missing: why}.

    Args:
        reading: also "lpips", a value a person, where it was measured. real: Inception's features of real photos [M, 2048].
    """
    faces, people = int(columns["found"].sum()), len(np.unique(plan.identity))
    out: dict[str, Any] = {"pictures": len(plan), "without_face": len(plan) - faces}
    for name in [n for n in (*ROOTS, *MEANS) if n in columns]:
        whole = name in ("own", "found") or name.startswith("flame")  # FLAME comes from files, which have their own idea of what is a face
        mean, statistic = (control.rmse, root_mean) if name in ROOTS else (np.nanmean, np.mean)
        out[name] = _entry(columns[name], len(plan) if whole else faces, mean, statistic, "no face", plan.identity if name in LIKENESS else None)
    spreads = {} if plan.targets else {
        "pose_spread": control.spread(reading["pose"][:, :2], plan.identity), "expression_spread": control.spread(reading["expression"], plan.identity)
    }  # fmt: skip
    if not plan.targets:
        spreads |= {f"{name}_spread": control.spread(reading[name], plan.identity) for name in ("flame_pose", "flame_expression") if name in reading}
    if "lpips" in reading:
        spreads["lpips"] = reading["lpips"]
    for name, values in spreads.items():
        out[name] = _entry(values, people, np.mean, np.mean, "too few: nobody has two usable pictures (--each 2 or more)")
    if real is not None and "inception" in reading:
        out["fid"] = {"pictures": len(plan), "real": len(real)}
        if min(len(plan), len(real)) < FEWEST_FOR_FID:
            out["fid"]["missing"] = f"too few: {len(plan)} pictures against {len(real)} photos, at least {FEWEST_FOR_FID} each"
        else:
            out["fid"]["value"] = frechet_distance(reading["inception"], real)
    return out


def _entry(
    values: np.ndarray, of: int, mean: Callable[..., float], statistic: Callable[..., np.ndarray], why: str, people: np.ndarray | None = None
) -> dict[str, Any]:
    """A metric of summarise. why: there is no value, if there is none. people: over whom the interval is; None: over the values."""
    count = int(np.isfinite(values).sum())
    if not count:
        return {"missing": why}
    low, high = (None if np.isnan(end) else end for end in bootstrap_interval(values, statistic, people=people))
    return {"value": float(mean(values)), "low": low, "high": high, "count": count, "of": of}


def not_measured(missing: Sequence[Missing], controlled: bool) -> dict[str, str]:
    """column -> why it has no number. controlled: the benchmark has targets."""
    return {column: m.reason for m in missing for what in m.reads for column in COLUMNS[what][0 if controlled else 1]}


def table(
    summary: Mapping[str, Mapping[str, Any]], rows: Sequence[Row], measured: Mapping[str, str], missing: Sequence[Missing], settings: Mapping[str, Any],
    notes: Sequence[str] = (),
) -> str:  # fmt: skip
    """The paper's table as Markdown, with who measured what under it.

    Args:
        measured: estimator's name by quantity. notes: sentences about the data.
    """
    headings = {**ROOTS, **MEANS, **SPREADS, "fid": ("FID", 1)}
    present = [name for name in headings if any(name in values for values in summary.values())]
    lines = ["| Method | " + " | ".join(headings[n][0] for n in present) + " | Extra parameters |", "|---" * (len(present) + 2) + "|"]
    for name, parameters, _ in rows:
        cells = [_cell(summary[name].get(metric), headings[metric][1], 100 if metric in PERCENT else 1) for metric in present]
        extra = "not known" if parameters < 0 else f"{parameters / 1e6:.2f}M"
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {extra} |")
    whose = [what for what, names in (("spreads and LPIPS", SPREADS), ("likeness", LIKENESS)) if set(names) & set(present)]
    over = "pictures" + (f" (over people for {' and for '.join(whose)})" if whose else "")
    under = [f"In brackets: 95% bootstrap interval over {over}. Settings: " + ", ".join(f"{k} {v}" for k, v in settings.items()) + ".", *notes]
    without = {name: summary[name]["without_face"] for name, _, _ in rows if summary[name]["without_face"]}
    under += [f"Pictures without a face, left out of the errors: {', '.join(f'{n} {c}' for n, c in without.items())}."] if without else []
    for metric in present:
        short = {name: e for name, _, _ in rows if (e := summary[name].get(metric, {})).get("count", 0) < e.get("of", 0)}
        found = "; ".join(f"{name} {e['count']} of {e['of']} {'people' if metric in SPREADS else 'pictures'}" for name, e in short.items())
        under += [f"{headings[metric][0]} could be measured in fewer: {found}."] if short else []
    under += ["Measured by: " + "; ".join(f"{what}: {name}" for what, name in measured.items()) + "."]
    under += [SAME_WORLD] if any(name.startswith("demo ") for name in measured.values()) else []
    fid = next((values["fid"] for values in summary.values() if "value" in values.get("fid", {})), None)
    under += [f"FID: {fid['pictures']} pictures against {fid['real']} photos {'of ' + settings['real'] if 'real' in settings else 'of the plan'}; FID depends on both numbers." + FEW * (min(fid["pictures"], fid["real"]) < 2048)] if fid else []
    flattered: dict[str, list[str]] = {}
    for name, _, conditioned in rows:
        for sentence in same_as(conditioned, measured):
            flattered.setdefault(sentence, []).append(name)
    under += [f"Warning: {sentence}: {'; '.join(names)}." for sentence, names in flattered.items()]
    under += [f"Not measured: {', '.join(m.reads)} by {m.name} ({m.reason})." for m in missing]
    return "\n".join([*lines, "", *(f"- {note}" for note in under), ""])


def _cell(entry: Mapping[str, Any] | None, digits: int, scale: int) -> str:
    """A metric of summarise, as a table shows it."""
    if entry is None or "missing" in entry:
        return entry["missing"] if entry else "-"
    value, *interval = (None if (x := entry.get(name)) is None else f"{scale * x:.{digits}f}" for name in ("value", "low", "high"))
    return value if None in interval else f"{value} [{', '.join(interval)}]"


def write_results(
    out: Path, plan: Plan, rows: Sequence[Row], readings: Mapping[str, Mapping[str, np.ndarray]],
    asked: Mapping[str, Mapping[str, np.ndarray]],
    measured: Mapping[str, str], missing: Sequence[Missing], settings: Mapping[str, Any], real: np.ndarray | None = None,
) -> None:  # fmt: skip
    """Writes all of it. In results.parquet each picture's error is in the metric's own unit; the root of the mean of its squares is the RMSE.

    Args:
        readings: of each row's pictures. asked: readings of the plan's targets ("target") and references ("reference").
        measured: estimator's name by quantity.
        real: Inception's features of real photos [M, 2048]; None compares with the plan's.
    """
    import pyarrow
    import pyarrow.parquet

    columns = {name: columns_of(plan, reading, asked["target"], asked["reference"]) for name, reading in readings.items()}
    tables = []
    for name, values in columns.items():
        fixed = {"method": [name] * len(plan), "key": plan.keys, "identity": plan.identity, "target": plan.target, "seed": plan.seed}
        found = {f"{e}_found": readings[name]["emotion"][:, 2 + i] for i, e in enumerate(EMOTIONS)} if "emotion" in readings[name] else {}
        tables.append(pyarrow.table({**fixed, **{n: np.sqrt(v) if n in ROOTS else v for n, v in values.items()}, **found}))
    write_whole(out / "results.parquet", lambda file: pyarrow.parquet.write_table(pyarrow.concat_tables(tables, promote_options="default"), file))
    if real is None and (photos := [values["inception"] for values in asked.values() if "inception" in values]):
        real = np.concatenate(photos)
    summary = {name: summarise(values, plan, readings[name], real) for name, values in columns.items()}
    for values in summary.values():
        for column, reason in not_measured(missing, controlled=bool(plan.targets)).items():
            values.setdefault(column, {"missing": reason})
    between = differences(columns, plan.identity, METRICS)
    content = {"settings": dict(settings), "notes": plan.notes, "rows": {n: {**summary[n], "parameters": p} for n, p, _ in rows}, "differences": between}
    write_whole(out / "summary.json", lambda file: file.write((json.dumps(content, indent=2, allow_nan=False) + "\n").encode()))
    text = table(summary, rows, measured, missing, settings, plan.notes) + table_of_differences(between, METRICS)
    write_whole(out / "table.md", lambda file: file.write(text.encode()))
    grid_pictures(summary, out)
    for name, values in columns.items():
        if plan.targets:
            scatter(values, out / f"scatter {name}.png", name)
        sheet(plan, values, out / "pictures" / name, out / f"sheet {name}.jpg")


def scatter(columns: Mapping[str, np.ndarray], path: Path, title: str) -> None:
    """Asked-for against found, a small picture a quantity."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = [name for name in SCATTER if f"{name}_asked" in columns]
    figure, axes = plt.subplots(1, len(names), figsize=(2.4 * len(names), 2.7), constrained_layout=True)
    for axis, name in zip(np.atleast_1d(axes), names, strict=True):
        a, f = columns[f"{name}_asked"], columns[f"{name}_found"]
        seen = np.isfinite(a) & np.isfinite(f)
        low, high = (float(v) for v in np.nanpercentile(np.r_[a[seen], f[seen]], [0, 100])) if seen.any() else (0.0, 1.0)
        axis.plot([low, high], [low, high], color="0.7", linewidth=1)
        axis.scatter(a[seen], f[seen], s=4, alpha=0.5)
        axis.set(title=name, xlabel="asked for", ylabel="found")
    figure.suptitle(title)
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=80))
    plt.close(figure)


def grid_pictures(summary: Mapping[str, Mapping[str, Any]], out: Path) -> None:
    """OUT/grid ROW.png for each method and condition with a grid: errors over two values, landmarks down, emotion across; nothing where there is no grid."""
    grids: dict[str, dict[tuple[str, str], Mapping[str, Any]]] = {}
    for name, values in summary.items():
        if point := GRID.fullmatch(name):
            grids.setdefault(point["row"], {})[point["landmarks"], point["emotion"]] = values
    for row, points in grids.items():
        _grid_picture(points, out / f"grid {row}.png", row)


def _grid_picture(points: Mapping[tuple[str, str], Mapping[str, Any]], path: Path, title: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    down, across = (sorted({point[i] for point in points}, key=lambda value: float(value) if value != "-" else 0.0) for i in (0, 1))
    shown = [name for name in IN_GRID if any("value" in v.get(name, {}) for v in points.values())]
    if not shown:
        return
    columns = min(3, len(shown))
    figure, axes = plt.subplots(-(-len(shown) // columns), columns, figsize=(3 * columns, 3 * -(-len(shown) // columns)), constrained_layout=True, squeeze=False)
    for axis in axes.flat[len(shown) :]:
        axis.axis("off")
    for axis, name in zip(axes.flat, shown, strict=False):
        (heading, digits), factor = {**ROOTS, **MEANS}[name], 100 if name in PERCENT else 1
        values = factor * np.array([[points.get((a, b), {}).get(name, {}).get("value", np.nan) for b in across] for a in down])
        goodness = values if name in BETTER_HIGH else -values
        axis.imshow(goodness, cmap="viridis")
        axis.set(title=heading, xlabel="emotion", ylabel="landmarks", xticks=range(len(across)), yticks=range(len(down)))
        axis.set_xticklabels(across)
        axis.set_yticklabels(down)
        middle = (np.nanmin(goodness) + np.nanmax(goodness)) / 2
        for (i, k), value in np.ndenumerate(values):
            axis.text(k, i, f"{value:.{digits}f}", ha="center", va="center", color="black" if goodness[i, k] > middle else "white")
    figure.suptitle(f"{title}: brighter is better, each picture in its own range")
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=90))
    plt.close(figure)


def sheet(plan: Plan, columns: Mapping[str, np.ndarray], folder: Path, path: Path, count: int = 10, size: int = 128) -> None:
    """Identity, target and picture: the median cases above, the worst ones (and those without a face) below."""
    order = np.argsort(np.nan_to_num(columns.get("landmark_error", -columns.get("similarity", columns["found"])), nan=np.inf))
    middle = max(0, len(order) // 2 - count // 2)
    rows = []
    for chosen in (order[middle : middle + count], order[-count:]):
        stacks = []
        for i in chosen:
            asked = [plan.identities[plan.identity[i]]] + ([plan.targets[plan.target[i]]] if plan.targets else [])
            found = np.asarray(Image.open(folder / f"{plan.keys[i]}.png").convert("RGB"))
            stacks.append(np.concatenate([np.asarray(Image.fromarray(p).resize((size, size), Image.Resampling.LANCZOS)) for p in (*asked, found)]))
        rows.append(np.concatenate(stacks, axis=1))
    write_whole(path, lambda file: Image.fromarray(np.concatenate(rows)).save(file, format="JPEG", quality=88))
