"""Programs that look for what earlier executions left: on no problem do they gain anything."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evolve.evaluation.evaluator import EvaluationRequest
from evolve.evaluation.verdict import evaluate_program, load_evaluator
from evolve.problem import Purpose, load_problem
from evolve.records import Program, SourceFile, Status
from evolve.sandbox.backends import open_sandbox
from evolve.sandbox.layout import find_view
from tests.builders import make_runner
from tests.contracts.test_sandbox_memory import SEARCH
from tests.judge import open_judge

if TYPE_CHECKING:
    from evolve.problem import Problem

ROOT = Path(__file__).parents[2]
PROBLEMS = {path.parent.name: load_problem(path.parent) for path in ROOT.glob("problems/*/*.toml")}
# Those whose inputs a program must not know beforehand. A text runs nowhere, and nothing answers
# here what a program asks a model.
HIDDEN = sorted(
    name
    for name, problem in PROBLEMS.items()
    if (Purpose.HOLDOUT in problem.functions or name in {"python_kernel", "text_compression"})
    and not (problem.is_text or problem.asks)
)
# The starting program, which first searches its own memory, file system and environment for what
# an earlier execution was given, and leaves as much of that as it can for a later one.
SPY = (
    # Near what is mapped anyway: the search is part of each program's time.
    SEARCH.replace("GAP = 1 << 28", "GAP = 1 << 24")
    + """
import functools as _functools, sys as _sys

_OWN = os.urandom(8).hex().encode()
_HEAD = [b"LEFT", b"-BEHIND:", _OWN]
_PLACES = ["/tmp", "/var/tmp", "/dev/shm", os.environ["HOME"], os.environ["TMPDIR"]]
_left = []

def _look():
    found = set()
    for data, _, _ in read(find_spans()):
        for match in re.finditer(b"LEFT", data):
            text = data[match.end():match.end() + 24]
            if text[:8] == b"-BEHIND:" and len(text) == 24:
                found.add(text[8:])
    return found

def _find_earlier():
    for place in _PLACES:
        if os.path.exists(f"{place}/left-behind"):
            raise RuntimeError(f"an earlier execution left something in {place}")
    if "LEFT_BEHIND" in os.environ or hasattr(_sys, "left_behind"):
        raise RuntimeError("an earlier execution left something in this interpreter")

def _leave(value):
    text = b"".join([*_HEAD, repr(value).encode()[:2000]])
    _left.append(text)
    os.environ["LEFT_BEHIND"] = _sys.left_behind = "x"
    for place in _PLACES:
        try:
            with open(f"{place}/left-behind", "wb") as file:
                file.write(text)
        except OSError:
            pass
    os.write(1, text)

def _spy(function):
    @_functools.wraps(function)
    def spied(*args, **kwargs):
        value = function(*args, **kwargs)
        if len(_left) < 20:
            _leave((args, value))
        return value
    return spied

_find_earlier()
_leave("control")
_found = _look()
if _OWN not in _found:
    raise RuntimeError("the search is blind")
if _found - {_OWN}:
    raise RuntimeError("an earlier execution is still in memory")
"""
)


def make_spy(problem: Problem) -> Program:
    first, *others = problem.initial.files
    wrapped = "\n".join(f"{name} = _spy({name})" for name in problem.entry)
    return Program((SourceFile(first.path, f"{first.text}\n{SPY}\n{wrapped}\n"), *others))


@pytest.mark.parametrize("name", HIDDEN)
def test_nothing_of_an_earlier_execution_is_found(name: str) -> None:
    problem = PROBLEMS[name]
    try:
        functions = load_evaluator(problem)
    except Exception as error:  # noqa: BLE001 - as where a package is missing
        pytest.skip(str(error))
    program = make_spy(problem)
    with closing(open_sandbox("auto", find_view(problem.packages))) as sandbox:
        bench = make_runner(sandbox, problem)
        has_holdout = Purpose.HOLDOUT in problem.functions
        purposes = [Purpose.SEARCH, Purpose.HOLDOUT if has_holdout else Purpose.SEARCH]
        found = [
            evaluate_program(problem, functions, bench, EvaluationRequest(program, purpose))
            for purpose in purposes
        ]
        assert {item.status for item in found} == {Status.OK}, found
        if name != "python_kernel":
            honest = evaluate_program(problem, functions, bench, EvaluationRequest(problem.initial))
            assert found[0].objective == honest.objective


def test_a_program_in_c_finds_nothing_either() -> None:
    # It would answer from a file, if it found one, and leaves one wherever it can.
    keeping = """
#include <string.h>
#include <sys/stat.h>
static const char *places[] = {"/tmp/kept", "/var/tmp/kept", "/dev/shm/kept", "kept", "../kept"};
__attribute__((constructor)) static void look(void)
{
    struct stat found;
    for (int i = 0; i < 5; i++)
        if (!stat(places[i], &found)) abort();
    for (int i = 0; i < 5; i++) {
        FILE *file = fopen(places[i], "w");
        if (file) { fputs("left", file); fclose(file); }
    }
}
"""
    include = "#include <stdlib.h>"
    for judge in open_judge("levenshtein_c", pairs=3, length=800):
        for _ in range(2):
            evaluation = judge((include, f"{include}\n{keeping}"))
            assert evaluation.status is Status.OK, evaluation
            assert evaluation.objective > 0.3
