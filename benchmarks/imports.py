"""Imports published folders of other systems and compares what both sides give for the start.

    python benchmarks/imports.py openevolve=PATH/examples loongflow=PATH/agents > table.md

Each folder below a path is imported, its starting program is checked here, and scored by its own
evaluator in a process of its own: by the installed system where there is one (`openevolve`), else
as its evaluator is started there. Packages are those of this Python. `--only WORD` takes the
folders with that word in their path, `--json FILE` keeps all results, and those in it already are
not asked for again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evolve.errors import EvolveError
from evolve.importing.foreign import Foreign, write_foreign
from evolve.importing.readers import read_foreign

_SECONDS = 600
_CELL = 150
# The evaluator's file, and how far above it the folder is.
_EVALUATORS = {
    "openevolve": {"evaluator.py": 0},
    "shinka": {"evaluate.py": 0},
    "loongflow": {"eval_program.py": 0},
    "skydiscover": {"evaluator.py": 0},
    "codeevolve": {"evaluate.py": 1},
    "levi": {"problem.py": 0},
    "gepa": {"main.py": 0},
}
_THEIRS = {
    "stages": """
import asyncio, json, sys
from openevolve.config import load_config
from openevolve.evaluator import Evaluator
from openevolve.utils.metrics_utils import get_fitness_score
evaluator, program, config, suffix = sys.argv[1:5]
config = load_config(config or None)
config.evaluator.use_llm_feedback = False
with open(program) as file: code = file.read()
asked = Evaluator(config.evaluator, evaluator, suffix=suffix)
metrics = asyncio.run(asked.evaluate_program(code, "start"))
score = get_fitness_score(metrics, config.database.feature_dimensions)
texts = asked.get_pending_artifacts("start") or {}
words = {**{k: v for k, v in metrics.items() if isinstance(v, str)}, **texts}
if set(metrics) <= {"error", "timeout", "stage1_passed"}: score = None
""",
    "status": """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("evaluator", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
found = module.evaluate(sys.argv[2])
score, words = found.get("score"), {"status": found.get("status"), "summary": found.get("summary")}
""",
    "script": """
import json, os, subprocess, sys, tempfile
with tempfile.TemporaryDirectory() as place:
    command = [sys.executable, sys.argv[1], "--program_path", sys.argv[2], "--results_dir", place]
    done = subprocess.run(command, capture_output=True, text=True)
    words = {"stderr": done.stderr[-500:]}
    with open(os.path.join(place, "metrics.json")) as file:
        score = json.load(file).get("combined_score")
    with open(os.path.join(place, "correct.json")) as file:
        words = json.load(file)
""",
    "results": """
import json, subprocess, sys, tempfile
with tempfile.NamedTemporaryFile() as place:
    subprocess.run([sys.executable, sys.argv[1], sys.argv[2], place.name], check=True)
    with open(place.name) as file: found = json.load(file)
score, words = found[sys.argv[5]], {}
""",
}
_END = '\nprint("\\nTHEIRS " + json.dumps({"score": score, "words": str(words)[:400]}))\n'


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("roots", nargs="+", metavar="SYSTEM=PATH")
    parser.add_argument("--only", default="")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    kept = options.json is not None and options.json.is_file()
    rows = json.loads(options.json.read_text()) if kept else []
    done = {(row["kind"], row["folder"]) for row in rows}
    for kind, _, root in (text.partition("=") for text in options.roots):
        for folder in find_folders(kind, Path(root)):
            named = (kind, str(folder.relative_to(root)))
            if options.only in str(folder) and named not in done:
                rows.append(compare(kind, folder, Path(root)))
                if options.json is not None:
                    options.json.write_text(json.dumps(rows, indent=1))
    print("| system | folder | theirs | here |\n| --- | --- | --- | --- |")
    for row in rows:
        cells = [_cell(row[name]) for name in ("kind", "folder", "theirs", "here")]
        print(f"| {' | '.join(cells)} |")


def _cell(text: str) -> str:
    """Returns a text as a cell of a Markdown table."""
    short = " ".join(text.split()).replace("|", "\\|").replace("{}", "")
    return short if len(short) <= _CELL else f"{short[:_CELL]} ..."


def find_folders(kind: str, root: Path) -> Iterator[Path]:
    """Yields the folders of a system below a path."""
    seen = set()
    for name, above in _EVALUATORS[kind].items():
        for path in sorted(root.rglob(name)):
            folder = path.parents[above + (path.parent.name == "evaluator")]
            if folder not in seen:
                seen.add(folder)
                yield folder


def compare(kind: str, folder: Path, root: Path) -> dict[str, Any]:
    """Returns the scores of both sides, or why there is none."""
    row = {"kind": kind, "folder": str(folder.relative_to(root)), "theirs": "", "here": ""}
    try:
        foreign = read_foreign(kind, folder)
    except EvolveError as error:
        return {**row, "theirs": "-", "here": f"not imported: {error}".replace(f"{folder}: ", "")}
    with tempfile.TemporaryDirectory() as place:
        mine = Path(place) / "mine"
        write_foreign(foreign, mine)
        done = _run([sys.executable, "-m", "evolve", "check", str(mine), "--json"], Path(place))
        if done.returncode == 0:
            found = json.loads(done.stdout)
            noise = f" ± {found['noise']:.3g}" if found["noise"] else ""
            warned = f" ({found['warning']})" if found["warning"] else ""
            row["here"] = f"{found['objective']:.12g}{noise}{warned}"
        else:
            lines = [line for line in done.stderr.splitlines() if line.startswith("error")]
            row["here"] = (lines or done.stderr.splitlines() or ["no answer"])[0].partition(
                "objective, got "
            )[2][:300] or done.stderr[-300:]
    return {**row, "theirs": _ask_theirs(foreign, folder)}


def _ask_theirs(foreign: Foreign, folder: Path) -> str:
    script = _THEIRS.get(foreign.asked.form)
    if script is None:
        return "not asked"
    with tempfile.TemporaryDirectory() as place:
        program = Path(place) / next(iter(foreign.files))
        program.write_text(next(iter(foreign.files.values())))
        configs = sorted([*folder.glob("config.yaml"), *folder.glob("config*.yaml")])
        done = _run(
            [
                sys.executable, "-c", script + _END, str(folder / foreign.asked.evaluator),
                str(program), str(configs[0]) if configs else "", program.suffix,
                foreign.asked.objective,
            ],
            folder / Path(foreign.asked.evaluator).parent,
        )  # fmt: skip
    answers = [line for line in done.stdout.splitlines() if line.startswith("THEIRS ")]
    if not answers:
        return f"fails: {(done.stderr.strip().splitlines() or ['?'])[-1][:200]}"
    found = json.loads(answers[-1].removeprefix("THEIRS "))
    return f"{found['score']}" + ("" if found["score"] else f" {found['words'][:200]}")


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    try:
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True,
            timeout=_SECONDS, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer within {_SECONDS} s")


if __name__ == "__main__":
    main()
