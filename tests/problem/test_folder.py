from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from evolve.errors import ExitCode, ProblemError
from evolve.problem import Measure, Problem, Purpose, Reference, list_warnings, load_problem
from evolve.problem.folder import MAX_FILE_BYTES
from evolve.problem.problem import (
    EvaluatorTable,
    LimitTable,
    NoiseTable,
    ProblemTable,
    ProgramTable,
    Stage,
)
from evolve.records import Direction
from evolve.source.analysis import BUILT_IN_MEASURES

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "problem.md").read_text()

PLAIN = 'direction = "maximize"\n'


def write_folder(folder: Path, toml: str = PLAIN, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    texts = {
        "statement.md": "Give a number.",
        "initial.py": "def solve():\n    return 1.0\n",
        "evaluator.py": "",
        "problem.toml": toml,
    }
    names = {name.replace("_py", ".py").replace("_md", ".md"): t for name, t in files.items()}
    for name, text in (texts | names).items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def load(folder: Path, toml: str) -> Problem:
    return load_problem(write_folder(folder, toml))


def test_a_plain_folder_has_defaults_for_everything_else(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mine")
    problem = load_problem(str(folder))
    assert (problem.name, problem.direction) == ("mine", Direction.MAXIMIZE)
    assert problem.statement == "Give a number."
    assert problem.initial.entry.path == "initial.py"
    assert problem.evaluator == folder / "evaluator.py"
    assert (problem.functions, problem.evaluator_seconds) == ({Purpose.SEARCH: "evaluate"}, 60.0)
    assert problem.packages == ("numpy",)
    assert (problem.best_known, problem.baseline, problem.data) == (None, None, None)
    assert [measure.name for measure in problem.measures] == ["length", "similarity"]


def test_everything_can_be_said(tmp_path: Path) -> None:
    toml = """
        name = "fit-2"
        summary = "a fit"
        direction = "minimize"
        evaluator = "scorer.py"
        function = "judge"
        evaluator_seconds = 5
        noise = 0.25
        packages = []
        entry = "solve"
        [program]
        files = ["initial.py", "tables.txt"]
        [parameters]
        count = 3
        sizes = [1, 2.5]
        [limits]
        seconds = 2
        memory_mb = 256
        [[measures]]
        name = "spread"
        low = 0.01
        high = 1
        cells = 4
        scale = "log"
        [[measures]]
        name = "nodes"
        low = 0
        high = 100
        [best_known]
        value = 0.5
        source = "a paper"
        [baseline]
        value = 2
        source = "a plain method"
    """
    (tmp_path / "data").mkdir()
    (tmp_path / "tables.txt").write_text("1 2 3\n")
    problem = load_problem(write_folder(tmp_path, toml, scorer_py="") / "problem.toml")
    assert (problem.name, problem.summary) == ("fit-2", "a fit")
    assert problem.functions == {Purpose.SEARCH: "judge"}
    assert (problem.packages, problem.entry, problem.noise) == ((), ("solve",), 0.25)
    assert [file.path for file in problem.initial.files] == ["initial.py", "tables.txt"]
    assert problem.parameters == {"count": 3, "sizes": [1, 2.5]}
    assert problem.limits == {"seconds": 2.0, "memory_mb": 256}
    assert problem.measures == (
        Measure("spread", 0.01, 1.0, 4, "log"),
        Measure("nodes", 0.0, 100.0, 10, "linear"),
    )
    assert problem.best_known == Reference(0.5, "a paper")
    assert problem.baseline == Reference(2.0, "a plain method")
    assert problem.data == tmp_path / "data"


def test_the_evaluator_may_live_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "trusted.py").write_text("")
    folder = write_folder(tmp_path / "mine", PLAIN + 'evaluator = "../trusted.py"\n')
    assert load_problem(folder).evaluator == tmp_path / "trusted.py"


def test_line_ends_of_programs_are_kept(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    (folder / "initial.py").write_bytes(b"x = 1\r\n")
    assert load_problem(folder).initial.entry.text == "x = 1\r\n"


def test_parameters_can_be_overridden(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, PLAIN + "[parameters]\ncount = 3\nscale = 1.0\n")
    problem = load_problem(folder, {"count": 5, "scale": 2})
    assert problem.parameters == {"count": 5, "scale": 2}
    with pytest.raises(ProblemError, match=r"unknown key `coutn`; did you mean `count`\?"):
        load_problem(folder, {"coutn": 5})
    with pytest.raises(ProblemError, match=r"`count`: expected the type of 3, got 'five'"):
        load_problem(folder, {"count": "five"})


def test_a_folder_that_is_none_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="got nothing") as caught:
        load_problem(tmp_path / "nowhere")
    assert caught.value.exit_code == ExitCode.USAGE
    with pytest.raises(ProblemError, match=r"without `problem\.toml`; `evolve init"):
        load_problem(tmp_path)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("direction = ", r"problem\.toml: expected TOML: "),
        ("", r"`direction`: expected one of maximize, minimize, got nothing$"),
        ('direction = "max"', r"`direction`: expected one of maximize, minimize, got 'max'"),
        ("direction = 1", r"`direction`: expected a text, got 1$"),
        (PLAIN + "sumary = 1", r"problem\.toml: unknown key `sumary`; did you mean `summary`\?$"),
        (PLAIN + "[limits]\nsecnds = 1", r"\[limits\]: unknown key `secnds`; did .* `seconds`"),
        (PLAIN + "[limits]\nzzz = 1", r"unknown key `zzz`; known are `seconds`, `memory_mb`"),
        (
            PLAIN + "limits = 3",
            r"\[limits\]: expected a table, which may have `seconds`, .*, got 3",
        ),
        (PLAIN + "[limits]\nseconds = 0", r"`seconds`: expected a number above 0, got 0\.0"),
        (PLAIN + "[limits]\nseconds = nan", r"`seconds`: expected a number above 0, got nan"),
        (PLAIN + "[limits]\nmemory_mb = 1.5", r"`memory_mb`: expected a whole number, got 1\.5"),
        (PLAIN + "[limits]\nmemory_mb = true", r"`memory_mb`: expected a whole number, got True"),
        (
            PLAIN + "[limits]\nprocesses = 0",
            r"`processes`: expected a whole number of at least 1, got 0",
        ),
        (PLAIN + 'name = "a b"', r"`name`: expected letters, digits, - and _, got 'a b'"),
        (PLAIN + 'function = ""', r"`function`: expected a Python name, got ''"),
        (PLAIN + 'evaluator = "no.py"', r"`evaluator`: expected a Python file, got nothing at"),
        (PLAIN + "packages = [1]", r"`packages`: expected a text or a list of texts, got \[1\]"),
        (PLAIN + 'packages = ["a", "a"]', r"`packages`: expected different names"),
        (PLAIN + 'entry = "pack"', r"initial\.py: expected a function `pack` at the top level"),
        (PLAIN + "[program]\nfiles = []", r"`files`: expected at least one, got \[\]"),
        (PLAIN + '[program]\nfiles = "evaluator.py"', r"got the evaluator among `files`"),
        (PLAIN + '[program]\nfiles = "../x.py"', r"expected the path of a file inside the folder"),
        (PLAIN + '[program]\nfiles = "/x.py"', r"expected the path of a file inside the folder"),
        (PLAIN + '[program]\nfiles = "x.py"', r"x\.py: expected a file that can be read: No such"),
        (PLAIN + 'entry = "f"\n[program]\nfiles = "statement.md"', r"is named `\.txt`, `\.md`"),
        (PLAIN + '[parameters]\n"a b" = 1', r"\[parameters\]: expected a Python name, got 'a b'"),
        (PLAIN + "[parameters]\na = 2026-01-01", r"\[parameters\]: `a`: expected plain data"),
        (PLAIN + "[best_known]\nvalue = 1", r"\[best_known\]: `source`: expected a text, got"),
        (
            PLAIN + "[best_known]\nvalue = inf",
            r"`value`: expected a number that is finite, got inf",
        ),
        (PLAIN + "noise = -1", r"\[noise\]: `spread`: expected a number of at least 0"),
        (PLAIN + "[noise]\nrepeat = 2", r"\[noise\]: unknown key `repeat`; did you mean `repeats`"),
        (PLAIN + "[noise]\nrepeats = 0", r"`repeats`: expected a whole number of at least 1"),
        (
            PLAIN + "measures = [1]",
            r"\[\[measures\]\] 1: expected a table, which may have `name`, .*, got 1",
        ),
        (PLAIN + "[measures]\nlow = 1", r"`measures`: expected a list of tables"),
    ],
)
def test_a_bad_folder_is_refused_with_the_place(tmp_path: Path, toml: str, message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        load(tmp_path, toml)


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        ('name = "a"\nlow = 0', r"\[\[measures\]\] 1: `high`: expected a number, got nothing"),
        ('name = "a"\nlow = 1\nhigh = 0', r"expected `low` below `high`, got 1 and 0"),
        ('name = "a"\nlow = 0\nhigh = 1\nscale = "log"', r"`low`: expected it above 0 for `log`"),
        (
            'name = "a"\nlow = 0\nhigh = 1\nscale = "cubic"',
            r"expected one of linear, log, got 'cubic'",
        ),
        ('name = "objective"\nlow = 0\nhigh = 1', r"expected something other than the objective"),
        ('name = "a"\nlow = 0\nhigh = 1\ncels = 3', r"unknown key `cels`; did you mean `cells`"),
        ('name = "a"\nlow = 0\nhigh = 1\ncells = 2000000', r"at most 1000000 cells in all"),
    ],
)
def test_a_bad_measure_is_refused(tmp_path: Path, measure: str, message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        load(tmp_path, f"{PLAIN}[[measures]]\n{measure}\n")


def test_measures_differ_in_name(tmp_path: Path) -> None:
    measure = '[[measures]]\nname = "a"\nlow = 0\nhigh = 1\n'
    with pytest.raises(ProblemError, match=r"expected different names, got \['a', 'a'\]"):
        load(tmp_path, PLAIN + measure + measure)


def test_no_measures_at_all_can_be_asked_for(tmp_path: Path) -> None:
    assert load(tmp_path, PLAIN + "measures = []\n").measures == ()


def test_texts_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=r"statement\.md: expected what a program has to do"):
        load_problem(write_folder(tmp_path, statement_md=" \n"))
    with pytest.raises(ProblemError, match=r"initial\.py: expected Python .*: line 2: "):
        load_problem(write_folder(tmp_path, initial_py="x = 1\ndef f(:\n"))
    with pytest.raises(ProblemError, match=r"initial\.py: line 1: expected `EVOLVE-BLOCK-END`"):
        load_problem(write_folder(tmp_path, initial_py="# EVOLVE-BLOCK-START\n"))
    with pytest.raises(ProblemError, match=r"initial\.py: expected at most 1000000 bytes"):
        load_problem(write_folder(tmp_path, initial_py="#" * (MAX_FILE_BYTES + 1)))


def test_text_must_be_utf_8(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    (folder / "statement.md").write_bytes(b"\xff")
    with pytest.raises(ProblemError, match=r"statement\.md: expected text in UTF-8"):
        load_problem(folder)


def test_a_link_out_of_the_folder_is_no_program(tmp_path: Path) -> None:
    (tmp_path / "secret.py").write_text("x = 1\n")
    folder = write_folder(tmp_path / "mine", PLAIN + '[program]\nfiles = ["link.py"]\n')
    (folder / "link.py").symlink_to(tmp_path / "secret.py")
    with pytest.raises(ProblemError, match="got a link that leads out"):
        load_problem(folder)


def test_parameters_are_told_in_the_statement(tmp_path):
    toml = PLAIN + "[parameters]\ncount = 3\n"
    folder = write_folder(tmp_path, toml, statement_md="Give {{count}} numbers.")
    assert load_problem(folder, {"count": 5}).statement == "Give 5 numbers."


def test_an_unknown_parameter_in_the_statement_is_an_error(tmp_path):
    folder = write_folder(tmp_path, statement_md="Give {{cuont}} numbers.")
    with pytest.raises(ProblemError, match=r"unknown parameter `\{\{cuont\}\}`"):
        load_problem(folder)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_of_a_windows_editor_is_left_out(tmp_path: Path, encoding: str) -> None:
    folder = write_folder(tmp_path / "p")
    for name in ("problem.toml", "statement.md", "initial.py"):
        (folder / name).write_text((folder / name).read_text(), encoding=encoding)
    problem = load_problem(folder)
    assert problem.statement == "Give a number."
    assert problem.initial.entry.text == "def solve():\n    return 1.0\n"


def test_the_evaluator_may_be_a_table_with_the_variables_that_it_needs(tmp_path: Path) -> None:
    table = '[evaluator]\nfile = "scorer.py"\nenvironment = ["DATA_ROOT"]\n'
    folder = write_folder(tmp_path / "p", PLAIN + table, scorer_py="")
    problem = load_problem(folder)
    assert (problem.evaluator, problem.environment) == (folder / "scorer.py", ("DATA_ROOT",))
    with pytest.raises(ProblemError, match=r"\[evaluator\]: unknown key `env`; known are"):
        load(folder, f'{PLAIN}[evaluator]\nenv = ["DATA_ROOT"]\n')


def test_a_variable_that_the_evaluator_reads_and_does_not_see_is_warned_of(tmp_path: Path) -> None:
    # Set for all tests.
    reads = "import os\nROOT = os.getenv('XDG_STATE_HOME')\nOTHER = os.environ.get('PATH')\n"
    problem = load_problem(write_folder(tmp_path / "p", evaluator_py=reads))
    (warning,) = list_warnings(problem)
    assert "reads XDG_STATE_HOME, which it does not see" in warning
    named = PLAIN + '[evaluator]\nenvironment = ["XDG_STATE_HOME"]\n'
    assert list_warnings(load_problem(write_folder(tmp_path / "p", named))) == []


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    path = write_folder(tmp_path / "p") / "statement.md"
    with pytest.raises(ProblemError, match=r"got a file; name its folder: .*/p$"):
        load_problem(path)


def test_every_key_is_documented():
    tables = (EvaluatorTable, ProgramTable, NoiseTable, LimitTable, Stage, ProblemTable)
    for key in {field.name for table in tables for field in fields(table)}:
        assert re.search(rf"^\| `{key}` \||\[{key}\]", PAGE, re.MULTILINE), key
    for measure in BUILT_IN_MEASURES:
        assert f"`{measure}`" in PAGE, measure
