"""FLAME parameters from the files that EMOCA v2 and SMIRK users have."""

from pathlib import Path

import numpy as np
import pytest

from facecrafter_core.errors import MetricError
from facecrafter_core.metrics import control
from facecrafter_core.metrics.flame import read_flame

EXPRESSION = np.arange(6, dtype=np.float32).reshape(2, 3)
POSE = np.array([[0.5, 0, 0], [0, 0.25, 0]], np.float32)
PICTURES = ["00000", "00001", "00002"]  # the last one has no parameters


def as_npz(path: Path) -> Path:
    np.savez(path / "found.npz", name=["00001.png", "00000.png"], expression_params=EXPRESSION[::-1], pose_params=POSE[::-1])
    return path / "found.npz"


def as_csv(path: Path) -> Path:
    lines = ["name,expression_0,expression_1,expression_2,pose_0,pose_1,pose_2"]
    lines += [",".join([name, *(f"{v:g}" for v in (*EXPRESSION[i], *POSE[i]))]) for i, name in enumerate(PICTURES[:2])]
    (path / "found.csv").write_text("\n".join(lines))
    return path / "found.csv"


def as_emoca(path: Path) -> Path:
    for i, name in enumerate(PICTURES[:2]):
        (path / "emoca" / f"{name}00").mkdir(parents=True)
        np.save(path / "emoca" / f"{name}00/exp.npy", EXPRESSION[i])
        np.save(path / "emoca" / f"{name}00/pose.npy", POSE[i])
    return path / "emoca"


def as_files(path: Path) -> Path:
    (path / "smirk").mkdir()
    for i, name in enumerate(PICTURES[:2]):
        np.savez(path / f"smirk/{name}.npz", expression_params=EXPRESSION[i][None], pose_params=POSE[i][None])
    return path / "smirk"


@pytest.mark.parametrize("layout", [as_npz, as_csv, as_emoca, as_files])
def test_each_layout_gives_the_same_parameters_in_the_pictures_order(tmp_path: Path, layout):
    found = read_flame(layout(tmp_path), PICTURES)
    assert found["flame_expression"].shape == (3, 3) and found["flame_pose"].shape == (3, 3)
    assert (found["flame_expression"][:2] == EXPRESSION).all() and (found["flame_pose"][:2] == POSE).all()
    assert np.isnan(found["flame_expression"][2]).all() and np.isnan(found["flame_pose"][2]).all()


def test_columns_are_paired_by_their_number_whatever_their_order(tmp_path: Path):
    numbers = sorted(range(12), key=str)  # 0, 1, 10, 11, 2, ...
    header = ",".join(["name", *(f"expression_{i}" for i in numbers), "pose_0"])
    (tmp_path / "sorted.csv").write_text(f"{header}\n{','.join(['00000', *map(str, numbers), '0'])}")
    assert read_flame(tmp_path / "sorted.csv", PICTURES)["flame_expression"][0].tolist() == list(range(12))


def test_the_rmse_is_over_all_numbers_of_the_pictures_that_have_any(tmp_path: Path):
    found = read_flame(as_npz(tmp_path), PICTURES)["flame_pose"]
    assert control.rmse(control.squared_error(found, np.zeros_like(found))) == pytest.approx(np.sqrt((0.5**2 + 0.25**2) / 6))


def test_files_that_do_not_fit_are_sentences(tmp_path: Path):
    with pytest.raises(MetricError, match=r"in a folder, a \.npz or a \.csv file"):
        read_flame(tmp_path / "gone.npz", PICTURES)
    with pytest.raises(MetricError, match="such as 17 in .* found none of the 1"):
        read_flame(as_npz(tmp_path), ["17"])
    np.savez(tmp_path / "half.npz", name=["00000"], expression=EXPRESSION[:1])
    with pytest.raises(MetricError, match="found no pose"):
        read_flame(tmp_path / "half.npz", PICTURES)
    np.savez(tmp_path / "uneven.npz", name=["00000"], expression=EXPRESSION, pose=POSE)
    with pytest.raises(MetricError, match="as many names as parameters"):
        read_flame(tmp_path / "uneven.npz", PICTURES)
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(MetricError, match="no file of numpy's arrays"):
        read_flame(tmp_path / "text.npz", PICTURES)
    (tmp_path / "bytes.csv").write_bytes(b"name,\xff\xfe")
    with pytest.raises(MetricError, match=r"no \.csv file that can be read"):
        read_flame(tmp_path / "bytes.csv", PICTURES)
    (tmp_path / "short.csv").write_text("name,expression_0,pose_0\n00000,1")
    with pytest.raises(MetricError, match="a cell that is none"):
        read_flame(tmp_path / "short.csv", PICTURES)
    (tmp_path / "words.csv").write_text("name,expression_0,pose_0\n00000,a,1")
    with pytest.raises(MetricError, match="a cell that is none"):
        read_flame(tmp_path / "words.csv", PICTURES)
    (tmp_path / "other.csv").write_text("key,value\na,1")
    with pytest.raises(MetricError, match="columns name, expression_0"):
        read_flame(tmp_path / "other.csv", PICTURES)
    folder = as_files(tmp_path)
    np.savez(folder / "00001.npz", expression=np.zeros(4), pose=POSE[0])
    with pytest.raises(MetricError, match=r"as many expression numbers for each picture in .*, found \[3, 4\]"):
        read_flame(folder, PICTURES)
