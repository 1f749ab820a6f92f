"""The paper's user study (Sec. 4.2, Tables 4 and 5): a page for participants, and their answers as a table.

    python -m training.study make  --control runs/control --identity runs/identity --row "ours=joint, + both" --row "base=joint, identity only" --out study
    python -m training.study tally answers/*.json --key study/study.key.json --out study

`make` takes the rows of runs of training/evaluate.py (a row's name there; the identity run's rows are "NAME, identity only") and writes study.html, one file
that works from a disk or any web server: blind, every order random by seed, and study.key.json, which stays with you. A participant opens the page, types
the number that you gave out, and sends back the file that the page saves. `tally` gives selection rates with 95% intervals.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facecrafter_core.errors import FaceCrafterError, MetricError
from facecrafter_core.files import write_whole
from facecrafter_core.metrics.statistics import wilson_interval
from facecrafter_core.terminal import escape_unprintable
from training.benchmark import Plan, load_plan
from training.ranges import COUNT, SEED, Range

PAGE = Path(__file__).with_name("study.html")


@dataclass(frozen=True)
class Question:
    """run: which run's pictures are shown. shown: the picture above them, "target", "reference" or nothing."""

    text: str
    run: str
    shown: str = ""


QUESTIONS = {
    "pose control": Question("Which picture has the head pose of the picture above?", "control", "target"),
    "expression control": Question("Which picture has the expression and emotion of the picture above?", "control", "target"),
    "identity": Question("Which picture looks most like the person above?", "control", "reference"),
    "pose diversity": Question("Which group shows the most different head poses?", "identity"),
    "expression diversity": Question("Which group shows the most different expressions and emotions?", "identity"),
}
"""The paper's evaluations: control and identity (Table 4), diversity (Table 5)."""


class Pictures:
    """JPEGs as data addresses, each held once; `shuffled` gives them an order that tells nothing."""

    def __init__(self, size: int) -> None:
        self.size, self.numbers, self.addresses = size, {}, []

    def add(self, path: Path) -> int:
        if path not in self.numbers:
            if not path.is_file():
                raise MetricError(f"Expected a picture at {path}, found none. Let training.evaluate finish that run first.")
            picture = Image.open(path).convert("RGB").resize((self.size, self.size), Image.Resampling.LANCZOS)
            buffer = io.BytesIO()
            picture.save(buffer, "JPEG", quality=88)
            self.numbers[path] = len(self.addresses)
            self.addresses.append("data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode())
        return self.numbers[path]

    def shuffled(self, rng: np.random.Generator) -> tuple[list[str], np.ndarray]:
        """The addresses in a random order, and each number's new one."""
        order = rng.permutation(len(self.addresses))
        return [self.addresses[i] for i in order], np.argsort(order)


def make_study(runs: dict[str, Path], rows: Sequence[tuple[str, str]], sets: int, per: int, group: int, size: int, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The page's content, which names no method, and the key, which does.

    Args:
        runs: folders of training/evaluate.py by benchmark; questions of a run that is not there are left out.
        rows: (name, row) of the methods. sets: an evaluation. per: sets that a participant is shown. group: pictures an option in diversity
            questions. size: of the pictures, in pixels.

    Raises:
        MetricError: fewer than two methods, a name that two have, no run, or a run that is not whole.
    """
    if len(rows) < 2:
        raise MetricError(f"Expected at least two methods to choose between, found {len(rows)}. Give --row more than once.")
    if twice := [name for name, count in Counter(name for name, _ in rows).items() if count > 1]:
        raise MetricError(f"Expected another name for each --row, found {', '.join(twice)} more than once.")
    plans = {name: load_plan(folder) for name, folder in runs.items()}
    if missing := [str(runs[name]) for name, plan in plans.items() if plan is None]:
        raise MetricError(f"Expected the folder of a run of training.evaluate, found none in {', '.join(missing)}.")
    rng, pictures, questions, key = np.random.default_rng(seed), Pictures(size), [], {}
    for name, question in QUESTIONS.items():
        plan = plans.get(question.run)
        if plan is None:
            continue
        folders = {method: runs[question.run] / "pictures" / _row(row, question.run) for method, row in rows}
        if len(set(folders.values())) < len(folders):
            raise MetricError(f"Expected another row of the {question.run} run for each method, found the same one twice. Without control, rows differ by adapter only.")
        chosen, order = [], []
        for picks in _picks(plan, group if question.run == "identity" else 1, sets, rng):
            methods = [rows[i][0] for i in rng.permutation(len(rows))]
            options = [[pictures.add(folders[method] / f"{plan.keys[i]}.png") for i in picks] for method in methods]
            above = {"target": ("targets", plan.target), "reference": ("references", plan.identity)}.get(question.shown)
            chosen.append({"shown": None if above is None else pictures.add(runs[question.run] / above[0] / f"{above[1][picks[0]]:03d}.png"), "options": options})
            order.append(methods)
        if per > len(chosen):
            raise MetricError(f"Expected at least {per} sets for {name!r}, found {len(chosen)}. Lower --per, or evaluate more pictures.")
        questions.append({"id": len(questions), "text": question.text, "sets": chosen, "order": rng.permutation(len(chosen)).tolist()})
        key[str(len(questions) - 1)] = {"name": name, "sets": order}
    addresses, place = pictures.shuffled(rng)
    for one in (s for q in questions for s in q["sets"]):
        one["shown"] = None if one["shown"] is None else int(place[one["shown"]])
        one["options"] = [[int(place[i]) for i in option] for option in one["options"]]
    content = {"per": per, "questions": questions, "pictures": addresses}
    study = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    return {"study": study, **content}, {"study": study, "per": per, "methods": [name for name, _ in rows], "questions": key}


def _picks(plan: Plan, group: int, sets: int, rng: np.random.Generator) -> list[list[int]]:
    """The requests of each set: one of a control run, or several of one person."""
    if group == 1:
        return [[int(i)] for i in rng.permutation(len(plan))[:sets]]
    groups = [np.flatnonzero(plan.identity == person)[:group] for person in rng.permutation(np.unique(plan.identity))]
    whole = [own.tolist() for own in groups if len(own) == group]
    if not whole:
        raise MetricError(f"Expected {group} pictures of a person in the identity run, found fewer. Lower --group, or evaluate with --each {group}.")
    return whole[:sets]


def _row(row: str, run: str) -> str:
    """A row's name in a run: without control there is only "identity only"."""
    return f"{row.rsplit(', ', 1)[0]}, identity only" if run == "identity" and ", " in row else row


def write_study(content: dict[str, Any], key: dict[str, Any], out: Path) -> None:
    """OUT/study.html and OUT/study.key.json."""
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content).replace("<", "\\u003c")  # nothing in it may end the script
    page = PAGE.read_text(encoding="utf-8").replace("/*CONTENT*/null", text)
    write_whole(out / "study.html", lambda file: file.write(page.encode()))
    write_whole(out / "study.key.json", lambda file: file.write((json.dumps(key, indent=1) + "\n").encode()))


def read_key(path: Path) -> dict[str, Any]:
    """The study.key.json of `make`.

    Raises:
        MetricError: it is another file.
    """
    try:
        key = json.loads(path.read_text(encoding="utf-8"))
        questions = {number: {"name": q["name"], "sets": q["sets"]} for number, q in key["questions"].items()}
        return {"study": key["study"], "per": int(key["per"]), "methods": list(key["methods"]), "questions": questions}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MetricError(f"Expected the study.key.json that was written beside study.html at {path}, found none ({type(error).__name__}). Give that one with --key.") from error


def tally(answers: Sequence[Path], key: dict[str, Any]) -> dict[str, Any]:
    """Selection rates: question -> method -> {chosen, shown, rate, low, high}; an answer shows every method once.

    Raises:
        MetricError: no answers, a file that is none, of another study, one that answers a set twice, or a participant who is there twice.
    """
    if not answers:
        raise MetricError("Expected files of answers, found none.")
    counts = {q["name"]: dict.fromkeys(key["methods"], 0) for q in key["questions"].values()}
    people: dict[str, Path] = {}
    unfinished = []
    for path in answers:
        try:
            one = json.loads(path.read_text(encoding="utf-8"))
            study, participant, given = one["study"], str(one["participant"]), one["answers"]
            chosen = [(str(a["question"]), a["set"], a["option"]) for a in given] if study == key["study"] else []
            if any(number < 0 or option < 0 for _, number, option in chosen):
                raise ValueError("counted from the end")
            methods = [(key["questions"][q]["name"], key["questions"][q]["sets"][number][option]) for q, number, option in chosen]
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise MetricError(f"{path} is no file of answers that the study's page saves ({type(error).__name__}). Ask for it again.") from error
        if study != key["study"]:
            raise MetricError(f"{path} holds answers to another study ({study}); the key is for {key['study']}. Leave it out.")
        if len({answer[:2] for answer in chosen}) < len(chosen):
            raise MetricError(f"{path} answers a question twice for the same pictures, which the study's page does not. Ask for it again.")
        if participant in people:
            raise MetricError(f"Participant {participant} is there twice, in {people[participant]} and {path}. Leave one out.")
        people[participant] = path
        unfinished += [participant] if len(given) < key["per"] * len(key["questions"]) else []
        for name, method in methods:
            counts[name][method] += 1
    rates = {}
    for name, chosen in counts.items():
        total = sum(chosen.values())
        rates[name] = {}
        for method, count in chosen.items():
            low, high = wilson_interval(count, total) if total else (float("nan"), float("nan"))
            rates[name][method] = {"chosen": count, "shown": total, "rate": count / total if total else float("nan"), "low": low, "high": high}
    return {"participants": len(people), "unfinished": unfinished, "rates": rates}


def table(result: dict[str, Any], methods: Sequence[str]) -> str:
    """Tables 4 and 5 as Markdown: selection rates in percent with their 95% Wilson intervals."""
    names = list(result["rates"])
    lines = ["| Method | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for method in methods:
        cells = [result["rates"][name][method] for name in names]
        shown = [f"{100 * c['rate']:.1f} [{100 * c['low']:.1f}, {100 * c['high']:.1f}]" if c["shown"] else "-" for c in cells]
        lines.append(f"| {method} | " + " | ".join(shown) + " |")
    answers = ", ".join(f"{name} {next(iter(rates.values()))['shown']}" for name, rates in result["rates"].items())
    notes = [f"Percent of answers, with the 95% Wilson interval, which takes answers as independent. {result['participants']} participants; answers: {answers}."]
    notes += [f"Not finished, counted as far as they went: participants {', '.join(result['unfinished'])}."] if result["unfinished"] else []
    return "\n".join([*lines, "", *(f"- {note}" for note in notes), ""])


def _named(text: str) -> tuple[str, str]:
    name, equals, row = text.partition("=")
    if not (name and equals and row):
        raise argparse.ArgumentTypeError(f"expected NAME=ROW, found {text!r}")
    return name, row


def main() -> None:
    escape_unprintable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="write the page and its key")
    make.add_argument("--control", type=Path, help="run of training.evaluate control: control and identity questions")
    make.add_argument("--identity", type=Path, help="run of training.evaluate identity: diversity questions")
    make.add_argument("--row", type=_named, action="append", default=[], metavar="NAME=ROW", help="a method; give at least two")
    make.add_argument("--sets", type=COUNT.of(int), default=30, help="an evaluation")
    make.add_argument("--per", type=COUNT.of(int), default=5, help="sets that a participant is shown")
    make.add_argument("--group", type=Range(2).of(int), default=4, help="pictures of a person that a diversity question shows together")
    make.add_argument("--size", type=Range(16).of(int), default=256, help="of the pictures, in pixels")
    make.add_argument("--seed", type=SEED.of(int), default=0)
    count = commands.add_parser("tally", help="answers to a table")
    count.add_argument("answers", type=Path, nargs="+")
    count.add_argument("--key", type=Path, required=True)
    for command in (make, count):
        command.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    try:
        if args.command == "make":
            runs = {name: folder for name, folder in (("control", args.control), ("identity", args.identity)) if folder}
            if not runs:
                parser.error("expected --control or --identity, found neither")
            content, key = make_study(runs, args.row, args.sets, args.per, args.group, args.size, args.seed)
            write_study(content, key, args.out)
            shown = ", ".join(f"{q['name']} {len(q['sets'])}" for q in key["questions"].values())
            print(f"{args.out / 'study.html'} for participants; sets: {shown}. Keep {args.out / 'study.key.json'} to yourself.")
            if any(len(q["sets"]) < args.sets for q in key["questions"].values()):
                print(f"Fewer sets than the {args.sets} that --sets asks for: the runs have no more. Evaluate more pictures or people for them.")
        else:
            key = read_key(args.key)
            result = tally(args.answers, key)
            args.out.mkdir(parents=True, exist_ok=True)
            write_whole(args.out / "summary.json", lambda file: file.write((json.dumps(result, indent=2) + "\n").encode()))
            text = table(result, key["methods"])
            write_whole(args.out / "table.md", lambda file: file.write(text.encode()))
            print(text)
    except (FaceCrafterError, OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
