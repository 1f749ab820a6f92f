"""A picture of what a prepared folder holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from facecrafter_core.faces.emotion import EMOTIONS
from facecrafter_core.files import write_whole


def draw_summary(folder: Path, pairs: Mapping[str, tuple[int, int]]) -> Path:
    """Writes FOLDER/summary.png: pose, valence and arousal, classes, images a person, pairs.

    Args:
        pairs: of each stage, and images paired with their mirror image.

    Returns:
        its path.

    Raises:
        OutputError: it cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(folder / "manifest.parquet")
    column = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
    people, images = np.unique(column["person"].astype(str), return_counts=True)
    figure, axes = plt.subplots(1, 5, figsize=(20, 3.6), layout="constrained")
    for name in ("yaw", "pitch", "roll"):
        axes[0].hist(column[name], bins=60, range=(-90, 90), histtype="step", label=name)
    axes[0].set(xlabel="degrees", title="Head pose")
    axes[0].legend()
    for name in ("valence", "arousal"):
        axes[1].hist(column[name], bins=40, range=(-1, 1), histtype="step", label=name)
    axes[1].set(xlabel="negative to positive", ylabel="images", title="Emotion")
    axes[1].legend()
    classes = np.stack([column[name] for name in EMOTIONS], axis=1)
    axes[2].barh(EMOTIONS, np.bincount(classes.argmax(1), minlength=len(EMOTIONS)))
    axes[2].set(xlabel="images", title="Most likely class")
    axes[3].hist(images, bins=min(60, images.max()))
    axes[3].set(xlabel="images a person", ylabel="people", yscale="log", title=f"{len(table)} images, {len(people)} people")
    counts = np.array(list(pairs.values()))
    for i, name in enumerate(("pairs", "with a mirror image")):
        axes[4].bar_label(axes[4].bar(np.arange(len(pairs)) + 0.4 * i - 0.2, counts[:, i], 0.4, label=name))
    axes[4].set(xticks=np.arange(len(pairs)), xticklabels=pairs, yscale="symlog", title="Pairs of each stage, to train on")
    axes[4].margins(y=0.3)
    axes[4].legend()
    path = folder / "summary.png"
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=80))
    plt.close(figure)
    return path
