"""A picture of what a prepared folder holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from facecrafter_core.faces.emotion import EMOTIONS


def draw_summary(folder: Path) -> Path:
    """Writes FOLDER/summary.png: pose, valence and arousal, classes, images a person.

    Returns:
        its path.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(folder / "manifest.parquet")
    column = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
    people, images = np.unique(column["person"].astype(str), return_counts=True)
    figure, axes = plt.subplots(1, 4, figsize=(16, 3.6), layout="constrained")
    for name in ("yaw", "pitch", "roll"):
        axes[0].hist(column[name], bins=60, range=(-90, 90), histtype="step", label=name)
    axes[0].set(xlabel="degrees", title="Head pose")
    axes[0].legend()
    shown = np.random.default_rng(0).permutation(len(table))[:4000]
    axes[1].scatter(column["valence"][shown], column["arousal"][shown], s=3, alpha=0.4)
    axes[1].set(xlim=(-1, 1), ylim=(-1, 1), xlabel="valence", ylabel="arousal", title="Emotion")
    classes = np.stack([column[name] for name in EMOTIONS], axis=1)
    axes[2].barh(EMOTIONS, np.bincount(classes.argmax(1), minlength=len(EMOTIONS)))
    axes[2].set(xlabel="images", title="Most likely class")
    axes[3].hist(images, bins=min(60, images.max()))
    axes[3].set(xlabel="images a person", ylabel="people", yscale="log", title=f"{len(table)} images, {len(people)} people")
    path = folder / "summary.png"
    figure.savefig(path, dpi=80)
    plt.close(figure)
    return path
