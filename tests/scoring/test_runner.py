"""Programs that are built and started, from problem folder to verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from evolve.evaluation.evaluator import EvaluationRequest
from evolve.evaluation.verdict import evaluate_program, load_evaluator
from evolve.problem import Problem, load_problem
from evolve.records import Evaluation, Program, SourceFile, Status
from evolve.sandbox.backends import open_sandbox
from evolve.sandbox.layout import find_view
from tests.builders import judge_program, make_runner
from tests.commands import run_evolve

if TYPE_CHECKING:
    from pathlib import Path

    from evolve.sandbox.backends import Sandbox

# The "compiler" counts its runs in what it makes, so that a second build would show.
TOML = """
direction = "maximize"
packages = []
[program]
files = ["greet.sh", "name.txt"]
build = "grep -q name greet.sh || { echo 'greet.sh:1: error: no name'; exit 3; }
  cat /proc/sys/kernel/random/uuid >stamp 2>/dev/null || date +%s%N >stamp
  cp greet.sh greet; chmod +x greet 2>/dev/null || true"
run = "sh ./greet --loud"
[limits]
seconds = 5
"""
GREET = "read line; echo $1 $(cat name.txt) $line $(cat extra 2>/dev/null); cat stamp >out\n"
EVALUATOR = """
from evolve.scoring import Score

def evaluate(program):
    first = program.run(stdin="hello", files={"extra": "!"}, outputs=["out"])
    again = program.run("x", stdin="hello", outputs=["out"])
    other = program.other({"greet.sh": "echo other; exit 0 # name"})
    return Score(
        float(first.file("out") == again.file("out")),
        artifacts={"first": first.text, "again": again.text, "other": other.run().text},
    )
"""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    sandbox = open_sandbox("auto", find_view(()))
    yield sandbox
    sandbox.close()


Judge = Callable[..., Evaluation]


@pytest.fixture
def judge_calls(sandbox: Sandbox, tmp_path: Path) -> Callable[[str], Evaluation]:
    """Judges a program that naps, as an evaluator with these lines does."""

    def judge(text: str) -> Evaluation:
        lines = f"    {text}\n"
        folder = tmp_path / "naps"
        folder.mkdir()
        (folder / "problem.toml").write_text('direction = "maximize"\n[limits]\nseconds = 1.0\n')
        (folder / "statement.md").write_text("Nap.\n")
        (folder / "initial.py").write_text("import time\ndef nap(s): time.sleep(s)\n")
        (folder / "evaluator.py").write_text(
            f"from evolve.scoring import Score\n\ndef evaluate(program):\n{lines}"
            "    return Score(1.0)\n"
        )
        problem = load_problem(folder)
        return judge_program(sandbox, problem)

    return judge


@pytest.fixture
def judge(tmp_path: Path, sandbox: Sandbox) -> Judge:
    """Returns a function that writes a problem folder and evaluates a program of it."""

    def evaluate(
        texts: dict[str, str] | None = None, *, evaluator: str = EVALUATOR, toml: str = TOML
    ) -> Evaluation:
        problem = write_problem(tmp_path, toml, evaluator)
        program = Program(tuple(SourceFile(*item) for item in (texts or {}).items()))
        return judge_program(sandbox, problem, program if texts else None)

    return evaluate


def write_problem(folder: Path, toml: str, evaluator: str) -> Problem:
    toml = toml.replace("\n  ", "\\n")
    texts = {"problem.toml": toml, "statement.md": "Greet.", "evaluator.py": evaluator}
    texts |= {"greet.sh": GREET, "name.txt": "Ada\n", "main.py": "", "number.txt": ""}
    for name, text in texts.items():
        (folder / name).write_text(text)
    return load_problem(folder)


def test_a_program_is_built_once_and_each_run_has_a_clean_workspace(judge: Judge) -> None:
    evaluation = judge()
    assert evaluation.reason == ""
    assert evaluation.objective == 1.0
    assert evaluation.artifacts == {
        "first": "--loud Ada hello !\n",
        "again": "--loud Ada hello\n",
        "other": "other\n",
        "output": "--loud Ada hello !\n--loud Ada hello\n",
    }
    assert evaluation.seconds > 0


def test_a_failed_build_is_told_with_the_compilers_words(judge: Judge) -> None:
    evaluation = judge({"greet.sh": "echo", "name.txt": ""})
    assert evaluation.status is Status.ERROR
    assert evaluation.reason == "build exited with code 3: greet.sh:1: error: no name"
    assert evaluation.artifacts == {"output": "greet.sh:1: error: no name\n"}


def test_a_build_that_hangs_ends_at_its_deadline(judge: Judge) -> None:
    toml = TOML.replace('run = "', 'build_seconds = 0.5\nrun = "').replace("cp ", "sleep 60; cp ")
    evaluation = judge(toml=toml)
    assert evaluation.status is Status.TIMEOUT
    assert evaluation.reason == "build: no answer within 0.5 s (limit: [program] build_seconds)"


@pytest.mark.parametrize(
    ("script", "status", "reason"),
    [
        ("echo bad >&2; exit 4 # name", Status.ERROR, "`sh` exited with code 4: bad"),
        ("kill -SEGV $$ # name", Status.CRASHED, "`sh` was ended by SIGSEGV"),
        ("echo fine # name", Status.ERROR, "`sh` left no file `out` in the workspace"),
    ],
)
def test_the_failures_of_a_command_are_typed(
    judge: Judge, script: str, status: Status, reason: str
) -> None:
    evaluation = judge({"greet.sh": script, "name.txt": ""})
    assert (evaluation.status, evaluation.reason) == (status, reason)


def test_a_failure_of_the_evaluators_own_program_is_not_the_programs(judge: Judge) -> None:
    evaluator = """
def evaluate(program):
    program.other({"greet.sh": "exit 1 # name"}).run()
"""
    evaluation = judge(evaluator=evaluator)
    assert evaluation.status is Status.EVALUATOR_FAILED
    assert "the evaluator's own program failed: `sh` exited with code 1" in evaluation.reason


def test_builds_serve_programs_that_are_called_too(judge: Judge) -> None:
    toml = """
direction = "maximize"
packages = []
[program]
files = ["main.py", "number.txt"]
build = "cat number.txt number.txt >twice.txt"
built = ["twice.txt"]
"""
    evaluator = """
from evolve.scoring import Score
def evaluate(program):
    program.call("bump")
    metrics = {"second": program.call("bump")}
    program.run(command=["true"])
    metrics["after a run"] = program.call("bump")
    return Score(float(program.call("number")), metrics=metrics)
"""
    source = """
bumps = 0
def number(): return int(open("twice.txt").read())
def bump():
    global bumps
    bumps += 1
    return bumps
"""
    texts = {"main.py": source, "number.txt": "4"}
    evaluation = judge(texts, toml=toml, evaluator=evaluator)
    assert evaluation.objective == 44.0
    assert evaluation.metrics == {"second": 2.0, "after a run": 1.0}


def test_a_fresh_sandbox_ends_with_its_program(
    tmp_path: Path, sandbox: Sandbox, judge: Judge
) -> None:
    assert judge().status is Status.OK
    assert sandbox.greeting
    problem = load_problem(tmp_path)
    runner = make_runner(sandbox, problem, is_fresh=True)
    for _ in range(2):
        found = evaluate_program(
            problem, load_evaluator(problem), runner, EvaluationRequest(problem.initial)
        )
        assert found.status is Status.OK
        assert not sandbox.greeting


def test_a_run_says_and_records_that_its_sandboxes_are_fresh(problem: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ("--sandbox-fresh", "--generations", 1, "--set", "loop.slots=2", "--run-dir", run)
    done = run_evolve("run", problem, *options, cwd=tmp_path)
    assert "new for each program" in done.stdout + done.stderr
    assert "fresh = true" in (run / "settings.toml").read_text()


def test_the_limit_is_that_of_all_calls_together(
    judge_calls: Callable[[str], Evaluation],
) -> None:
    found = judge_calls("[program.call('nap', 0.4) for _ in range(4)]")
    assert (found.status, found.objective) == (Status.TIMEOUT, None)
    assert "no answer within" in found.reason
    assert found.seconds < 1.5


@pytest.mark.parametrize(
    "text",
    [
        "program.call('nap', 0.7); program.restart(); program.call('nap', 0.7)",
        "program.call('nap', 0.7); program.call_many('nap', [(0.4,), (0.4,)])",
        "program.call('nap', 0.7); program.call('nap', 0.7, timeout_seconds=60.0)",
        """try: program.call('nap', 5)
    except Exception: pass
    program.call('nap', 0)""",
    ],
    ids=["restarted", "many at once", "a deadline of its own", "a time-out that is caught"],
)
def test_no_way_leads_beyond_it(judge_calls: Callable[[str], Evaluation], text: str) -> None:
    assert judge_calls(text).status is Status.TIMEOUT


def test_calls_within_it_are_not_hindered(judge_calls: Callable[[str], Evaluation]) -> None:
    text = "[program.call('nap', 0.0) for _ in range(20)]"
    assert judge_calls(text).status is Status.OK


def test_calls_take_arguments_by_name_or_many_at_a_time_and_their_seconds_add_up(
    judge_calls: Callable[[str], Evaluation],
) -> None:
    text = """assert program.call('nap', s=0.1) is None
    assert program.call_many('nap', [(0.1,), (0.1,)]) == [None, None]
    assert program.seconds >= 0.3"""
    found = judge_calls(text)
    assert (found.status, found.reason) == (Status.OK, "")
