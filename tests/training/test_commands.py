"""What all commands of training have in common: ranges of numbers, and names that the terminal cannot print."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from training import evaluate, evaluate_demo, study

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = [path for path in sorted((ROOT / "training").rglob("*.py")) if "__main__" in path.read_text(encoding="utf-8").rpartition("\nif ")[2]]
BARE = ("int", "float")


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", COMMANDS, ids=name_of)
def test_every_number_has_a_range(path: Path):
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument"]
    bare = [call.args[0].value for call in calls for given in call.keywords if given.arg == "type" and getattr(given.value, "id", "") in BARE]
    assert bare == [], "take a Range of training/ranges.py"


@pytest.mark.parametrize("path", COMMANDS, ids=name_of)
def test_every_command_escapes_what_the_terminal_cannot_print(path: Path):
    (main,) = (node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef) and node.name == "main")
    called = {node.func.id for node in ast.walk(main) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert called & {"escape_unprintable", "command"}, "call escape_unprintable(), as training.stage's command() does"


def test_a_name_outside_of_the_terminals_code_page_is_printed_as_an_escape(tmp_path: Path):
    (tmp_path / "log.jsonl").write_text(json.dumps({"step": 1, "loss": 0.5}) + "\n")
    out = tmp_path / "花.png"
    done = subprocess.run(
        [sys.executable, "-m", "training.curves", str(tmp_path), "--out", str(out)],
        cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": "cp1252"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and out.is_file() and "\\u82b1.png" in done.stdout, done.stderr


CONTROL = ("control", "--source", "nowhere")


@pytest.mark.parametrize(("module", "arguments", "sentence"), [
    (evaluate, (*CONTROL, "--weights", "2", "nan", "2"), "--weights: expected from 0 to 20, found nan"),
    (evaluate, (*CONTROL, "--grid", "1", "-1"), "--grid: expected from 0 to 20, found -1"),
    (evaluate, (*CONTROL, "--grid", "3", "--grid-over", "alpha"), "--grid: expected alphas from 0 to 2"),
    (evaluate, (*CONTROL, "--steps", "1001"), "--steps: expected from 1 to 1000, found 1001"),
    (evaluate, (*CONTROL, "--seed", str(2**64)), "--seed: expected from 0 to 4294967295"),
    (evaluate_demo, ("--data", "nowhere", "--weights", "inf", "2", "2"), "--weights: expected from 0 to 20, found inf"),
    (evaluate_demo, ("--data", "nowhere", "--batch", "0"), "--batch: expected at least 1, found 0"),
    (study, ("make", "--group", "1"), "--group: expected at least 2, found 1"),
])  # fmt: skip
def test_a_number_out_of_its_range_is_one_sentence(module, arguments: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["command", *arguments, "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit):
        module.main()
    assert sentence in capsys.readouterr().err and not (tmp_path / "out").exists()
