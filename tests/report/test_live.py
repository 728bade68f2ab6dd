"""What a run shows on terminals and in pipes while it runs."""

import json
import re
import sys
import time
from contextlib import closing

import pytest

from evolve.report.live import PlainView, StandardOutput
from evolve.report.progress import Progress
from evolve.search.population import load_population
from evolve.steps.journal import Traffic, Wait
from evolve.store import Store
from tests.commands import run_detached, run_evolve, write_problem, write_script
from tests.model_server import Answer, ModelServer
from tests.searches import Searches
from tests.terminals import Terminal, has_tmux


@pytest.fixture
def terminal(tmp_path):
    """A terminal; pictures of other sizes are held in `tests/golden`."""
    made = Terminal(80, 24, tmp_path)
    yield made
    made.close()


def slow_model(folder, seconds: float) -> str:
    return write_script(folder / "model.json", latency_seconds=seconds)


@has_tmux
def test_something_moves_while_the_first_slow_reply_is_awaited(tmp_path, problem, terminal):
    terminal.start("run", problem, "--model", slow_model(tmp_path, 30), "--run-dir", "r")
    terminal.wait_for("4 editor replies; 4 in flight")
    first = terminal.lines()
    time.sleep(1.0)
    later = terminal.lines()
    assert first[0] != later[0]
    assert re.search(r"\d s$", later[0])
    assert "champion" in later[2]
    assert re.search(r"0%, .*0 of 30 generations", later[1])


@has_tmux
def test_control_c_shows_at_once_what_is_waited_for(tmp_path, problem, terminal):
    terminal.start("run", problem, "--model", slow_model(tmp_path, 30), "--run-dir", "r")
    terminal.wait_for("4 editor replies; 4 in flight")
    terminal.press("C-c")
    shown = terminal.wait_for("stopping: up to ", 2.0)
    # On a busy machine constants are still tuned meanwhile.
    assert re.search(r"stopping: up to \d+ s for .*4 editor replies.*; Ctrl-C ends it now", shown)
    terminal.press("C-c")
    shown = terminal.wait_for("EXIT 130", 5.0)
    assert "to continue: evolve resume r" in shown
    assert "stopping" not in shown


@has_tmux
def test_resizing_leaves_one_whole_picture(tmp_path, problem, terminal):
    terminal.start("run", problem, "--model", slow_model(tmp_path, 30), "--run-dir", "r")
    terminal.wait_for("4 in flight")
    for width, height in ((60, 16), (130, 40), (44, 12), (80, 24)):
        terminal.resize(width, height)
        lines = terminal.wait_for(lambda text, width=width: is_whole(text, width), 5.0).splitlines()
        assert len(lines) <= height
        for word in ("champion", "attempts", "budget"):
            assert sum(line.startswith(word) or f"  {word} " in line for line in lines) <= 1, word


def is_whole(text: str, width: int) -> bool:
    """Returns whether the first line, with the time at its end, fits a width exactly."""
    first, *others = text.splitlines()
    return len(first) == width and first.endswith(" s") and any("champion" in one for one in others)


@has_tmux
def test_what_was_said_meanwhile_is_left_on_the_screen(tmp_path, problem, terminal):
    terminal.start("run", problem, "--generations", 3, "--run-dir", "r")
    shown = terminal.wait_for("EXIT 0")
    for words in ("sandbox: ", "starting program: objective -13", "finished: all generations done"):
        assert words in shown
    assert "⠀" not in shown


@has_tmux
def test_a_run_is_attached_to_with_the_same_view(tmp_path, problem, terminal):
    run_detached(
        "run", problem, "--model", slow_model(tmp_path, 1), "--generations", 40, "--run-dir", "r",
        cwd=tmp_path,
    )  # fmt: skip
    terminal.start("attach", "r")
    terminal.wait_for(lambda text: re.search(r"improved to.*\n-\d", text) is not None)
    terminal.press("C-c")
    assert "the run continues; to stop it: evolve stop r" in terminal.wait_for("EXIT 130")
    run_evolve("stop", "r", "--force", cwd=tmp_path)


@has_tmux
def test_retries_and_pauses_are_shown(tmp_path, problem, terminal):
    with ModelServer([Answer(), Answer(status=503)]) as server:
        terminal.start(
            "run", problem, "--model", "openai/test", "--api-base", server.url, "--run-dir", "r",
            OPENAI_API_KEY="key",
        )  # fmt: skip
        terminal.wait_for(lambda text: re.search(r"[1-9]\d* retried", text) is not None)
        assert "down (" in terminal.wait_for("paused, asked again")


@has_tmux
@pytest.mark.parametrize(
    ("options", "environment"),
    [(["--plain"], {}), ([], {"TERM": "dumb"})],
    ids=["plain", "dumb"],
)
def test_lines_are_printed_where_a_picture_cannot_be_read(
    tmp_path, problem, terminal, options, environment
):
    terminal.start("run", problem, "--generations", 3, "--run-dir", "r", *options, **environment)
    shown = terminal.wait_for("EXIT 0")
    assert "generation 3/600" in shown or "generation 3/3  champion" in shown


@has_tmux
@pytest.mark.parametrize(("environment", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_are_left_out_where_nobody_wants_them(
    tmp_path, problem, terminal, environment, is_coloured
):
    words = ("--model", slow_model(tmp_path, 30), "--run-dir", "r")
    terminal.start("run", problem, *words, **environment)
    terminal.wait_for("4 in flight")
    coloured = re.search(r"\x1b\[[\d;]*3[0-7]m|\x1b\[[\d;]*38;", terminal.text("-e"))
    assert (coloured is not None) == is_coloured


def test_a_pipe_gets_a_line_now_and_then_also_while_nothing_happens(tmp_path, capsys):
    searches = Searches(tmp_path)
    population = searches.run("r", 1)
    with closing(Store.open_to_read(tmp_path / "r")) as store:
        waits = Traffic((Wait("editor", "slow/model", time.monotonic() - 30.0),), in_flight=1)
        progress = Progress(store, searches.problem, searches.settings, dict, lambda: waits)
        assert load_population(store, searches.problem, searches.settings.search).generation == 1
    view = PlainView(progress, StandardOutput(), quiet_seconds=0.2)
    with view:
        progress.on_commit(population, None)
        began = time.monotonic()
        while time.monotonic() < began + 0.5:
            view.on_tick()
            time.sleep(0.02)
    lines = capsys.readouterr().out.splitlines()
    assert 2 <= len(lines) <= 4
    assert all(line.startswith("generation 1") for line in lines)
    assert "waiting for 1 editor reply; 1 in flight" in lines[-1]
    assert re.search(r"oldest 3\d s \(slow/model\)", lines[-1])


def test_what_takes_long_before_the_first_checkpoint_is_named(tmp_path):
    evaluator = (
        "import time\nfrom evolve.scoring import Score\n\n\ndef evaluate(program):\n"
        "    time.sleep(11)\n    return Score(0.0, measures={'first': 0.0})\n"
    )
    folder = write_problem(tmp_path / "slow", evaluator=evaluator)
    done = run_evolve("run", folder, "--max-evaluations", 1, "--run-dir", "r", cwd=tmp_path, code=3)
    assert "evaluating the starting program: 9 s so far" in done.stdout


@has_tmux
def test_the_picture_stays_on_the_terminal_where_data_go_to_a_pipe(tmp_path, problem, terminal):
    script = (
        f"{sys.executable} -m evolve run {problem} --generations 40 --run-dir r --json | cat > d"
    )
    terminal.start_script(script, DOCKER_HOST="unix:///nowhere/docker.sock")
    terminal.wait_for("best of ")
    terminal.wait_for("EXIT 0")
    assert json.loads((tmp_path / "d").read_text())["run"] == "r"
