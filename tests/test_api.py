"""Evolution from Python: runs, looks at them, and problems made of functions."""

import functools
import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from evolve import api
from evolve.errors import UsageError
from tests.commands import INITIAL, run_evolve, write_problem

SHIFT = [3.0, -2.0]
FARTHEST = math.inf
LIVE = object()


def weigh(value):
    return math.fabs(value)


def near_shift(program):
    first, second = program.call("point")
    return -min(weigh(first - SHIFT[0]) + weigh(second - SHIFT[1]), FARTHEST)


def uses_a_live_object(program):
    return id(LIVE)


def point():
    first = 1.0
    second = 1.0
    return [first, second]


@pytest.fixture
def folder(tmp_path):
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    write_problem(folder / "valley")
    seen = {"attempts": [], "generations": [], "improvements": []}
    run = api.run(
        folder / "valley", run_dir=folder / "r", generations=4, seed=3, slots=4, progress=False,
        on_attempt=seen["attempts"].append, on_generation=seen["generations"].append,
        on_improvement=seen["improvements"].append,
    )  # fmt: skip
    return run, seen


def test_a_run_from_python_is_the_run_of_the_command_line(finished):
    run, _ = finished
    run_evolve(
        "run", "valley", "--generations", "4", "--seed", "3", "--set", "loop.slots=4",
        "--run-dir", "same", cwd=run.folder.parent,
    )  # fmt: skip
    same = api.open_run(run.folder.parent / "same")
    columns = ("attempt", "id", "status", "objective", "operator")
    rows = [
        [{name: row[name] for name in columns} for row in one.attempts()] for one in (run, same)
    ]
    assert rows[0] == rows[1]


def test_callbacks_see_every_attempt_generation_and_champion(finished):
    run, seen = finished
    assert seen["attempts"] == run.attempts()
    assert [one["generation"] for one in seen["generations"]] == [1, 2, 3, 4]
    assert seen["improvements"][-1]["attempt"] == run.champion.attempt


def test_a_champion_has_its_source_numbers_and_ancestors(finished):
    champion = finished[0].champion
    assert champion.source == champion.files["initial.py"] != INITIAL
    assert set(champion.measures) == {"first"}
    line = champion.lineage()
    assert line[0]["attempt"] == "0.0.0"
    assert line[-1]["objective"] == champion.objective


def test_rows_are_plain_data_and_the_curve_rises(finished):
    run, _ = finished
    assert json.loads(json.dumps(run.attempts())) == run.attempts()
    objectives = [row["objective"] for row in run.curve()]
    assert objectives == sorted(objectives)
    assert run.state()["problem"] == "valley"
    assert (run.status, run.stopped_because) == ("finished", "generations")
    assert run.lessons() == []


def test_a_notebook_shows_a_run_with_its_curve(finished):
    shown = finished[0]._repr_html_()
    assert "<svg" in shown
    assert "valley" in shown
    assert "<script" not in shown


def test_a_fork_is_resumed(finished, folder):
    forked = api.fork(finished[0], generation=2, run_dir="f")
    assert forked.state()["generations"] == 2
    assert api.resume(forked, progress=False).state()["generations"] == 4


def test_a_resume_says_where_it_is_and_why_it_ended(finished, folder, capsys):
    forked = api.fork(finished[0], generation=1, run_dir="f")
    seen = []
    run = api.resume(
        forked, generations=3, rescore=True, evaluator=forked.folder / "evaluator/evaluator.py",
        force=True, progress=True, on_attempt=seen.append,
    )  # fmt: skip
    assert seen == [row for row in run.attempts() if row["generation"] == 3]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "run: f"
    assert any("programs evaluated again" in line for line in lines)
    assert any(line.startswith("finished: all generations done") for line in lines)


def test_a_run_beside_the_main_thread_ends_as_usual(finished, folder):
    problem = finished[0].folder.parent / "valley"
    done = []
    thread = threading.Thread(
        target=lambda: done.append(api.run(problem, generations=1, run_dir="t", progress=False))
    )
    thread.start()
    thread.join(60)
    assert done[0].status == "finished"


def test_check_returns_the_evaluation_of_the_start(finished):
    evaluation = api.check(finished[0].folder.parent / "valley")
    assert evaluation.objective == pytest.approx(-13.0)


@pytest.mark.parametrize("program", [point, INITIAL])
def test_a_function_or_a_text_is_optimized_by_a_function(folder, program):
    best = api.optimize(program, near_shift, max_evaluations=60, seed=1, progress=False)
    assert best.objective > -5.0
    assert "def point" in best.source


def test_a_problem_that_is_kept_runs_from_the_command_line(folder):
    best = api.optimize(
        point, near_shift, folder="kept", statement="Come near.", generations=1, progress=False
    )
    checked = run_evolve("check", "kept", "--json", cwd=folder)
    assert json.loads(checked.stdout)["objective"] == -5.0
    assert best.run.folder.is_dir()
    assert (folder / "kept/statement.md").read_text() == "Come near.\n"


def test_files_are_taken_as_they_are(folder):
    write_problem(folder / "source")
    (folder / "score.py").write_text(
        "def evaluate(program):\n    return program.call('point')[0]\n"
    )
    best = api.optimize(
        folder / "source/initial.py", "score.py", generations=1, direction="minimize",
        progress=False,
    )  # fmt: skip
    assert best.objective <= 1.0


def test_what_only_lives_in_this_process_is_refused_by_name(folder):
    with pytest.raises(UsageError, match=r"`LIVE` \(object\), which only lives in this process"):
        api.optimize(point, uses_a_live_object)
    offset = 1.0

    def closes(program):
        return program.call("point")[0] + offset

    with pytest.raises(UsageError, match="closes over `offset`"):
        api.optimize(point, closes)
    with pytest.raises(UsageError, match="expected a function defined with `def`, got a partial"):
        api.optimize(point, functools.partial(near_shift))
    with pytest.raises(UsageError, match=r"expected a function defined with `def`|source cannot"):
        api.optimize(point, lambda _: 1.0)
    assert not (folder / "runs").exists()


def test_an_unknown_argument_is_refused_with_the_nearest_name(folder):
    with pytest.raises(UsageError, match="did you mean `max_evaluations`"):
        api.run("circle_packing", max_evaluation=3)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: api.run(None), "problem: expected a path, got None"),
        (lambda: api.run(3), "problem: expected a path, got 3"),
        (lambda: api.check(b"p"), "problem: expected a path, got b'p'"),
        (lambda: api.open_run(None), "run: expected a run, its folder or its name, got None"),
        (lambda: api.run("p", settings=["a=b"]), "settings: expected a dict of settings by key"),
        (lambda: api.run("p", settings={3: 4}), "settings: expected a dict of settings by key"),
        (lambda: api.run("p", start=3), "start: expected paths, got 3"),
        (lambda: api.run("p", start="gone.py"), "gone.py"),
        (lambda: api.run("p", run_dir=4), "run_dir: expected a path, got 4"),
        (lambda: api.run("p", on_attempt="print"), "on_attempt: expected a function of one"),
        (lambda: api.optimize(None, near_shift), "program: expected source, a path or a function"),
        (lambda: api.optimize(point, None), "evaluate: expected a function, or the path"),
        (lambda: api.optimize(point, near_shift, folder=3), "folder: expected a path, got 3"),
        (lambda: api.optimize(point, near_shift, folder="a.py"), "a.py: expected a new .*a file"),
        (lambda: api.optimize(point, near_shift, statement=3), "statement: expected a text, got 3"),
        (lambda: api.optimize(point, near_shift, direction=[]), "direction: expected maximize"),
    ],
)  # fmt: skip
def test_an_argument_of_another_type_is_refused_by_its_name(folder, call, said):
    write_problem(folder / "p")
    (folder / "a.py").write_text("")
    with pytest.raises(UsageError, match=said):
        call()
    assert not (folder / "runs").exists()


def test_messages_name_what_was_given_and_no_temporary_folder(folder):
    (folder / "score.py").write_text("import nowhere\n\n\ndef evaluate(program):\n    return 1.0\n")
    with pytest.raises(UsageError) as caught:
        api.optimize(point, "score.py", progress=False)
    assert "score.py: cannot be imported: ModuleNotFoundError" in str(caught.value)
    with pytest.raises(UsageError) as broken:
        api.optimize("def point(:\n    pass\n", near_shift, progress=False)
    assert str(broken.value).startswith("program: ")
    assert "evolve-problem-" not in str(caught.value) + str(broken.value)


def test_a_record_of_another_problem_is_refused(finished, folder):
    with pytest.raises(UsageError, match=r"expected a run of circle_packing, got r, a run of vall"):
        api.run("circle_packing", replay=str(finished[0].folder))
    with pytest.raises(UsageError, match="nope: expected a run folder"):
        api.run("circle_packing", replay="nope")


def test_importing_loads_nothing_slow():
    code = (
        "import sys, evolve.api; "
        "print(len({'numpy', 'litellm', 'rich', 'typer'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


def test_a_run_is_steered_and_begins_with_further_programs(folder):
    write_problem(folder / "valley")
    (folder / "mine.py").write_text(INITIAL.replace("first = 1.0", "first = 2.5"))
    (folder / "more.py").write_text(INITIAL.replace("first = 1.0", "first = 2.75"))
    untuned = {"tuning.share": 0.0}
    run = api.run("valley", start=["mine.py"], generations=1, model="scripted", settings=untuned)
    assert run.lineage("0.1.0")[-1]["objective"] == -9.25
    assert run.hint("Go left.")["kind"] == "hint"
    assert run.pin("0.1.0")["text"] == "0.1.0"
    assert run.inject("more.py")["number"] == 4
    api.resume(run, generations=2)
    steered = [(one["kind"], one["generation"]) for one in run.state()["steering"]]
    assert steered == [("inject", 0), ("hint", 2), ("pin", 2), ("inject", 2)]
    with pytest.raises(UsageError, match="none of that id"):
        run.pin("zz")
