"""Data of strangers in the code that an import writes."""

import ast
import csv
import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evolve.importing.foreign import write_competition, write_foreign
from evolve.importing.readers import read_foreign
from evolve.problem import load_problem

HARM = 'open("written-by-a-name", "w").write("ran outside of the sandbox")'
COLUMNS = [
    f'y"""\n{HARM}\n"""',
    f"y'''\n{HARM}\n'''",
    f'y"\n{HARM}\n#',
    f"{{{HARM}}}",
    f"y\\\n{HARM}",
    f'y", target=[{HARM}]) #',
    f"y`\n\n{HARM}",
    "{{secret}}",
    "\x1b]0;t\x07\x7f\u202e",
    "\u2028y\u2029",
    '=cmd|"/c calc"!A1',
    "😀 ü \\N{BELL} \\",
    "%s {0} {target}",
]
names = st.sampled_from(COLUMNS) | st.text(
    st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1
).filter(lambda name: name.strip() and name not in {"id", "a"})


def write_folder(folder: Path, column: str) -> Path:
    folder.mkdir(parents=True)
    tables = {
        "train.csv": [["id", "a", column], *[[i, i * 0.5, i % 7] for i in range(50)]],
        "test.csv": [["id", "a"], *[[i, i] for i in range(50, 60)]],
        "sample_submission.csv": [["id", column], *[[i, 0] for i in range(50, 60)]],
    }
    for name, rows in tables.items():
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
    (folder / "description.md").write_text("Predict {{y}}.")
    (folder / "metric.txt").write_text("rmse")
    return folder


def shape_of(code: str) -> list[str]:
    return [type(node).__name__ for node in ast.walk(ast.parse(code))]


@settings(max_examples=30)
@given(names)
def test_a_columns_name_is_never_more_than_a_constant(column):
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        write_competition(write_folder(root / "theirs", column), root / "mine")
        write_competition(write_folder(root / "plain", "y"), root / "other")
        code = (root / "mine/evaluator/evaluator.py").read_text("utf-8")
        plain = (root / "other/evaluator/evaluator.py").read_text("utf-8")
        assert shape_of(code) == shape_of(plain)
        constants = [node.value for node in ast.walk(ast.parse(code)) if type(node) is ast.Constant]
        assert column in constants
        told = tomllib.loads((root / "mine/problem.toml").read_text("utf-8"))
        other = tomllib.loads((root / "other/problem.toml").read_text("utf-8"))
        assert told.keys() == other.keys()
        load_problem(root / "mine")


@pytest.mark.parametrize("column", COLUMNS)
def test_importing_the_generated_evaluator_runs_nothing(tmp_path, column):
    write_competition(write_folder(tmp_path / "theirs", column), tmp_path / "mine")
    place = tmp_path / "mine/evaluator"
    done = subprocess.run(
        [sys.executable, "-c", "import evaluator; print(evaluator.COMPETITION.target)"],
        cwd=place, capture_output=True, text=True, check=True, encoding="utf-8",
    )  # fmt: skip
    assert done.stdout == f"{column}\n"
    assert not (place / "written-by-a-name").exists()


@pytest.mark.parametrize(
    "name",
    [
        '\nevaluator = "/tmp/other.py"\n#',
        "\x1b]0;t\x07",
        'quote"\\',
        "😀",
        "{x}",
    ],
)
def test_a_folders_name_is_never_a_key_of_the_settings(tmp_path, name):
    folder = tmp_path / f"theirs{name.replace('/', '-')}"
    folder.mkdir()
    (folder / "initial_program.py").write_text("# EVOLVE-BLOCK-START\nx = 1\n# EVOLVE-BLOCK-END\n")
    (folder / "evaluator.py").write_text("def evaluate(path):\n    return {}\n")
    (folder / "config.yaml").write_text(json.dumps({"prompt": {"system_message": "{{x}}"}}))
    write_foreign(read_foreign("openevolve", folder), tmp_path / "mine")
    told = tomllib.loads((tmp_path / "mine/problem.toml").read_text("utf-8"))
    assert told["evaluator"] == "evaluator/evaluator.py"
    load_problem(tmp_path / "mine")
