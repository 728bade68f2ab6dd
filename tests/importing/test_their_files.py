import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from evolve.errors import UsageError
from evolve.importing.readers import parse_duration
from evolve.importing.their_files import Constants, decode, hide_keys, sort_files

START = "# EVOLVE-BLOCK-START\ndef place():\n    return 1\n# EVOLVE-BLOCK-END\n"
EVALUATOR = """
import os, json, helper
from pack.inner import twice
import missing_package.deep
HERE = os.path.dirname(__file__)
KEY = os.environ["JUDGE_KEY"]
def evaluate(path):
    open(os.path.join(HERE, "best_known.json"))
    open("results_2024/table.csv")
    return os.getenv("OTHER")
"""


@pytest.fixture
def sort(tmp_path):
    def run(*names, keep=(), **texts):
        files = {"initial_program.py": START, "evaluator.py": EVALUATOR}
        for name in names:
            files[name] = "def other(): pass\n" if name.endswith(".py") else "x"
        for name, text in (files | texts).items():
            path = tmp_path / name.replace("__", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        start = [tmp_path / "initial_program.py"]
        return sort_files(tmp_path, tmp_path / "evaluator.py", start, keep)

    return run


@pytest.mark.parametrize(
    "name",
    ["expected_output.json", "results.csv", "train.db", "events.log", ".hidden", "runs/a.txt",
     "helper.py", "pack/inner.py", "best_known.json", "results_2024/table.csv", "lib/final.cpp"],
)  # fmt: skip
def test_data_and_what_the_evaluator_names_come_along(name, sort):
    assert Path(name) in sort(name).taken


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("best_program.py", "named like a solution"),
        ("best_solution_lp.py", "named like a solution"),
        ("circle_best.json", "named like a solution"),
        ("optimized_kernel.py", "named like a solution"),
        ("openevolve_output/best/program.py", "where runs keep their results"),
        ("checkpoints/checkpoint_10/a.json", "where runs keep their results"),
        (".env", "may hold keys"),
        ("certs/server.pem", "may hold keys"),
        ("README.md", "a document"),
    ],
)
def test_solutions_keys_and_documents_stay_behind(name, reason, sort):
    found = dict(sort(name).left)
    assert reason in found[Path(name)]
    assert Path(name) in sort(name, keep=(name,)).taken


def test_a_solution_that_the_evaluator_names_comes_along_and_is_told(sort):
    assert [str(path) for path in sort("best_known.json").warned] == ["best_known.json"]


def test_another_program_for_the_same_problem_stays_behind(sort):
    left = dict(sort(attempt__py="def place(): return 9\n", marked__py=START).left)
    assert {str(path) for path in left} == {"attempt.py", "marked.py"}


def test_what_tools_have_made_is_not_even_listed(sort):
    found = sort("__pycache__/a.pyc", ".git/config", "venv/bin/python")
    assert [str(path) for path in found.taken] == ["evaluator.py", "initial_program.py"]
    assert found.left == []


def test_modules_of_the_parent_folder_come_along(sort, tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path.parent / "missing_package.py").write_text("x = 1\n")
    try:
        found = sort("helper.py", "pack/inner.py")
    finally:
        (tmp_path.parent / "missing_package.py").unlink()
    assert [path.name for path in found.borrowed] == ["missing_package.py"]
    assert "missing_package" not in found.imports


@contextmanager
def environment(**variables):
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_tool_chains_in_the_home_that_the_evaluator_starts_are_found(sort, tmp_path):
    for place in (".chain/bin/their-tool", ".local/bin/other-tool"):
        path = tmp_path / "home" / place
        path.parent.mkdir(parents=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    home = tmp_path / "home"
    code = 'import subprocess\nsubprocess.run(["their-tool", "other-tool"])\n'
    with environment(HOME=str(home), PATH=f"{home}/.chain/bin:{home}/.local/bin"):
        assert sort("helper.py", evaluator__py=code).tools == ["~/.chain"]


def test_imports_and_variables_of_the_evaluator_are_listed(sort):
    found = sort("helper.py", "pack/inner.py")
    assert "missing_package" in found.imports
    assert not {"helper", "pack"} & found.imports
    assert found.variables == {"JUDGE_KEY", "OTHER"}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(5, 5.0), ("90", 90.0), ("45s", 45.0), ("5m", 300.0), ("2 hours", 7200.0),
     ("10 minutes", 600.0), ("00:20:00", 1200.0), ("1:30", 90.0)],
)  # fmt: skip
def test_durations_are_read_in_the_ways_that_people_write_them(text, seconds):
    assert parse_duration(text, "x") == seconds


@pytest.mark.parametrize("value", ["soon", 0, -1, True, [5]])
def test_what_is_no_duration_is_named(value):
    with pytest.raises(UsageError, match=r"config\.yaml: `timeout`: expected seconds"):
        parse_duration(value, "config.yaml: `timeout`")


@pytest.mark.parametrize(
    ("text", "suffix", "hidden", "count"),
    [
        ('api_key: "sk-THIS-IS-A-SECRET"\n', ".yaml", 'api_key: "HIDDEN"\n', 1),
        ("llm:\n  OPENAI_API_KEY: abc\n", ".yml", "llm:\n  OPENAI_API_KEY: HIDDEN\n", 1),
        ('{"password": "hunter2"}', ".json", '{"password": "HIDDEN"}', 1),
        ('Client(api_key="abcd1234efgh")', ".py", 'Client(api_key="HIDDEN")', 1),
        ("print('AKIAABCDEFGHIJKLMNOP')", ".py", "print('HIDDEN')", 1),
        ("api_key: ${OPENAI_API_KEY}\n", ".yaml", "api_key: ${OPENAI_API_KEY}\n", 0),
        ("max_tokens: 3000\napi_key: null\n", ".yaml", "max_tokens: 3000\napi_key: null\n", 0),
        ('key = os.environ["API_KEY"]\n', ".py", 'key = os.environ["API_KEY"]\n', 0),
    ],
)
def test_keys_are_hidden_and_references_to_them_are_not(text, suffix, hidden, count):
    assert hide_keys(text, suffix) == (hidden, count)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("é".encode(), "é"),
        ("# é\n".encode("latin-1"), "# é\n"),
        ("# -*- coding: latin-1 -*-\n# é\n".encode("latin-1"), "# coding: utf-8 -*-\n# é\n"),
        (b"\xef\xbb\xbfx = 1\r\n", "x = 1\n"),
    ],
)
def test_sources_are_decoded_by_what_they_say_or_by_latin_1(data, text, tmp_path):
    path = tmp_path / "a.py"
    path.write_bytes(data)
    assert decode(path) == text


def test_a_long_word_is_searched_for_keys_at_once():
    assert hide_keys("x" * 1_000_000, ".json") == ("x" * 1_000_000, 0)


def test_constants_are_found_through_sums_names_calls_and_other_files(tmp_path):
    (tmp_path / "prompts.py").write_text('MESSAGE = """\n  Raise it.\n"""\n')
    (tmp_path / "text.md").write_text("From a file.")
    (tmp_path / "run.py").write_text(
        "from prompts import MESSAGE as M\n"
        "import textwrap\n"
        "from pathlib import Path\n"
        'BASE = "Raise"\n'
        'SUM = BASE + " the" + f" value of {BASE}"\n'
        "OTHER = M.strip()\n"
        "SHAPED = textwrap.dedent(M)\n"
        'READ = Path(__file__).with_name("text.md").read_text()\n'
        "COMPUTED = BASE + make()\n"
        "LOOP = LOOP\n"
    )
    found = {
        name: Constants(tmp_path).find(tmp_path / "run.py", name)
        for name in ("SUM", "OTHER", "SHAPED", "READ", "COMPUTED", "LOOP", "NONE")
    }
    assert found == {
        "SUM": "Raise the value of Raise",
        "OTHER": "Raise it.",
        "SHAPED": "\nRaise it.\n",
        "READ": "From a file.",
        "COMPUTED": None,
        "LOOP": None,
        "NONE": None,
    }
