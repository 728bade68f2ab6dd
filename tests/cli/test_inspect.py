"""Commands that look at a run: what they show, leave out and refuse."""

import contextlib
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evolve.cli.app import make_app
from evolve.errors import EvolveError
from evolve.records import Status
from tests.commands import run_detached, run_evolve, start_evolve, write_problem, write_script
from tests.terminals import Terminal, has_tmux

MOVED = "Change: move it to {0}\n\n```python\ndef point():\n    return [{0}, -2.0]\n```"
PLANNED = json.dumps({"plans": [{"change": f"move it ({n})", "why": "nearer"} for n in range(4)]})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a run of a model, `m`, and one of operators, `o`."""
    folder = tmp_path_factory.mktemp("inspected")
    write_problem(folder / "valley")
    # Some replies cannot be used, and some programs fail.
    replies = [MOVED.format(n / 8) for n in range(60)] + ["no", MOVED.format("x")] * 8
    model = write_script(folder / "model.json", editor=replies, planner=[PLANNED])
    run_evolve(
        "run", "valley", "--model", model, "--planner", f"2*{model}", "--generations", 6,
        "--set", "steps.form=rewrite", "--set", "tuning.share=0", "--run-dir", "runs/m", cwd=folder,
    )  # fmt: skip
    run_evolve("run", "valley", "--generations", 30, "--run-dir", "runs/o", cwd=folder)
    return folder


def look(folder, *words, code: int = 0) -> str:
    """Returns what a command prints here, or the message with which it refuses."""
    words = tuple(map(str, words))
    with contextlib.chdir(folder):
        done = CliRunner().invoke(make_app(words[0]), words)
    error = done.exception
    if isinstance(error, EvolveError):
        assert error.exit_code == code
        return str(error)
    assert done.exit_code == code, done.output
    return done.stdout


def look_json(folder, *words):
    return json.loads(look(folder, *words, "--json"))


def log_of(folder, *words, run="m"):
    return list(map(json.loads, look(folder, "log", run, *words, "--json").splitlines()))


def test_everything_that_is_recorded_of_an_attempt_is_shown(folder):
    champion = look_json(folder, "show", "m")["champion"]
    by_id = look_json(folder, "show", "m", champion["id"][:8])
    assert by_id == look_json(folder, "show", "m", champion["attempt"])
    assert (by_id["status"], by_id["objective"]) == ("ok", champion["objective"])
    assert by_id["gain"] > 0
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", by_id["time"])
    roles = [call["role"] for call in by_id["calls"]]
    assert {"planner", "editor", "summarizer"} <= set(roles)
    call = next(call for call in by_id["calls"] if call["role"] == "editor")
    assert "```python" in call["reply"]
    assert any("# Programs" in message["text"] for message in call["messages"])
    assert by_id["summary"]["lessons"]
    shown = look(folder, "show", "m", champion["attempt"])
    for words in ("Verdict", "Plan", "Changes", "Source", "Model calls", "taught", "# Programs"):
        assert words in shown, words
    assert f"\n{by_id['diff']['initial.py']}\n" in shown
    assert by_id["files"]["initial.py"] in shown


def test_a_prompt_a_reply_and_a_source_stand_alone_in_a_pipe(folder):
    attempt = look_json(folder, "show", "m")["champion"]["attempt"]
    whole = look_json(folder, "show", "m", attempt)
    call = next(one for one in whole["calls"] if one["role"] == "editor")
    reply = look(folder, "show", "m", "--reply", call["call"])
    assert reply == f"{call['reply']}\n"
    prompt = look(folder, "show", "m", "--prompt", whole["id"])
    assert all(message["text"].strip() in prompt for message in call["messages"])
    assert look_json(folder, "show", "m", "--prompt", call["call"])["messages"] == call["messages"]
    source = look(folder, "show", "m", "--source", attempt)
    assert source == whole["files"]["initial.py"]
    planner = next(one["call"] for one in whole["calls"] if one["role"] == "planner")
    assert "plans" in look(folder, "show", "m", "--reply", planner)


def test_same_things_have_the_same_keys(folder):
    attempts = [
        look_json(folder, "archive", "m", "--top", 1)[0],
        look_json(folder, "lineage", "m")[-1],
        look_json(folder, "show", "m", look_json(folder, "show", "m")["champion"]["id"]),
        log_of(folder, "--outcome", "ok")[0],
    ]
    keys = {
        "id", "attempt", "generation", "island", "parent", "depth", "status", "objective", "gain",
        "reason", "metrics", "measures", "operator", "model", "plan",
    }  # fmt: skip
    assert all(keys <= set(one) for one in attempts)
    whole = look_json(folder, "show", "m", attempts[0]["attempt"])
    assert {name: whole[name] for name in keys} == {name: attempts[0][name] for name in keys}
    call = log_of(folder, "--role", "editor")[0]
    assert set(call) - {"kind"} <= set(whole["calls"][0])


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (("--outcome", "ok"), "status", "ok"),
        (("--island", "1"), "island", 1),
        (("--generation", "2"), "generation", 2),
        (("--role", "planner"), "role", "planner"),
        (("--model", "scripted:model.json"), "model", "scripted:model.json"),
    ],
)  # fmt: skip
def test_the_log_is_filtered(folder, words, field, value):
    model = log_of(folder, "--role", "editor")[0]["model"]
    words = [model if word.startswith("scripted") else word for word in words]
    value = model if field == "model" else value
    lines = log_of(folder, *words)
    assert lines
    assert {line[field] for line in lines} == {value}
    assert len(lines) == sum(line.get(field) == value for line in log_of(folder))
    tuned = log_of(folder, "--operator", "tune_constants", run="o")
    assert {line["operator"] for line in tuned} == {"tune_constants"}


def test_the_log_has_times_and_costs(folder):
    lines = log_of(folder)
    assert all(re.match(r"20\d\d-\d\d-\d\dT", line["time"]) for line in lines)
    shown = look(folder, "log", "m", "--role", "editor")
    assert re.search(r"^20\S+ \d\d:\d\d:\d\d  +1\.0\.0  call +editor  \S+  \d+ tokens  \$0\.0",
                     shown, re.MULTILINE)  # fmt: skip
    shown = look(folder, "log", "m", "--outcome", "ok")
    assert re.search(r"attempt +\S+  [+-]\S+  island \d  \S+: move it", shown)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("log", "m", "--outcome", "fine"), f"expected one of {', '.join(Status)}, got 'fine'"),
        (("log", "m", "--island", "7"), "--island 7: nothing like that is recorded"),
        (("show", "m", "zzz"), "program 'zzz': none of that id"),
        (("show", "m", "7.7.7"), "program '7.7.7': none of that id"),
        (("show", "m", "--reply", "1.0.9"), "call '1.0.9': none of that id; slot 1.0 has the"),
        (("show", "o", "--prompt", "1.0.0"), "slot 1.0 has no calls"),
        (("show", "m", "1.0.0", "--reply", "1.0.0"), "expected one of ID, --prompt, --reply"),
        (("archive", "m", "--cell", "999"), "--cell: no elite in cell 999"),
        (("archive", "m", "--map", "first", "third"), "--map: expected two of first, got 'third'"),
        (("ls", "--sort", "colour"), "--sort: expected one of date, run, problem"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)  # fmt: skip
def test_what_is_not_there_is_named(folder, words, message):
    assert message in look(folder, *words, code=2)


def test_an_attempt_without_a_program_has_no_source_and_no_diff(folder):
    lines = look(folder, "log", "m", "--outcome", "rejected", "--json").splitlines()
    bare = [one for one in map(json.loads, lines) if one.get("id") is None]
    key = bare[0]["attempt"]
    for words in (("diff", "m", key), ("show", "m", "--source", key)):
        found = look(folder, *words, code=2)
        assert f"program '{key}': expected an attempt with a program, got one without: " in found


def test_a_call_of_a_whole_generation_is_no_attempt(folder):
    found = look(folder, "show", "m", "2.-1.0", code=2)
    assert "got a call of the whole generation; `evolve show RUN --prompt 2.-1.0`" in found
    assert look(folder, "show", "m", "--prompt", "2.-1.0")


def test_the_best_elites_and_those_of_a_cell_can_be_listed(folder):
    elites = look_json(folder, "archive", "o")
    best = look_json(folder, "archive", "o", "--top", 2)
    assert [one["objective"] for one in best] == sorted(
        (one["objective"] for one in elites), reverse=True
    )[:2]
    cell = best[0]["cell"]
    assert look_json(folder, "archive", "o", "--cell", cell) == [
        one for one in elites if one["cell"] == cell
    ]


def test_archives_are_drawn_on_two_measures(folder):
    found = look_json(folder, "archive", "o", "--map", "first", "first")
    assert found["measures"] == ["first", "first"]
    best = max(v for one in found["islands"] for row in one["objectives"] for v in row if v)
    assert best == look_json(folder, "show", "o")["champion"]["objective"]
    shown = look(folder, "archive", "o", "--map", "first", "first")
    assert "island 0: " in shown
    assert shown.count("◆◆") == 2
    assert "first across, first up" in shown


def test_a_lineage_has_gains_makers_lessons_and_inspirations(folder):
    line = look_json(folder, "lineage", "m")
    assert line[0]["gain"] is None
    assert all(one["gain"] is not None for one in line[1:])
    assert line[-1]["lessons"]
    known = {one["attempt"] for one in log_of(folder) if one["kind"] == "attempt"}
    inspired = [key for one in line for key in one["inspirations"]]
    assert set(inspired) <= known
    shown = look(folder, "lineage", "m")
    for words in ("gain       ", "by         ", "plan       ", "lesson     "):
        assert words in shown, words


def test_runs_are_listed_with_problem_date_model_cost_and_time(folder):
    shown = look(folder, "ls").splitlines()
    assert shown[0].split() == ["run", "problem", "started", "status", "model", "evaluations",
                                "cost", "time", "champion"]  # fmt: skip
    start = r"m    valley   20\d\d-\d\d-\d\d \d\d:\d\d:\d\d  finished: generations  scripted"
    assert re.match(start, shown[1])
    assert [run["run"] for run in look_json(folder, "ls", "--sort", "cost")] == ["m", "o"]
    by_champion = look_json(folder, "ls", "--sort", "champion")
    values = [run["champion"]["objective"] for run in by_champion]
    assert values == sorted(values)


def test_what_operators_and_models_bring_is_shown(folder):
    payoffs = look_json(folder, "show", "o")["payoffs"]
    attempts = [one for one in log_of(folder, run="o") if one["kind"] == "attempt"]
    for one in payoffs:
        uses = [line for line in attempts if line["operator"] == one["name"]]
        gains = [line["gain"] for line in uses if line["gain"] is not None]
        assert (one["uses"], one["scored"]) == (len(uses), len(gains))
        assert one["improved"] == sum(gain > 0 for gain in gains)
        assert one["best_gain"] == max(gains, default=None)
    kinds = {one["kind"] for one in look_json(folder, "show", "m")["payoffs"]}
    assert kinds == {"model"}
    shown = look(folder, "show", "o")
    assert re.search(r"operator or model +uses  scored  improved  share +best gain", shown)


def test_a_log_is_followed_until_the_run_ends(tmp_path, problem):
    model = write_script(tmp_path / "model.json", latency_seconds=0.3)
    run_detached(
        "run", problem, "--model", model, "--generations", 4, "--run-dir", "r", cwd=tmp_path,
    )  # fmt: skip
    process = start_evolve("log", "r", "--follow", "--json", cwd=tmp_path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    followed = [json.loads(line) for line in out.splitlines()]
    afterwards = [
        json.loads(line)
        for line in run_evolve("log", "r", "--json", cwd=tmp_path).stdout.splitlines()
    ]
    assert sorted(map(json.dumps, followed)) == sorted(map(json.dumps, afterwards))


@has_tmux
def test_what_does_not_fit_the_terminal_is_paged(folder):
    terminal = Terminal(80, 24, folder)
    try:
        terminal.start("show", "m", "0.0.0", PAGER="less", LESS="")
        shown = terminal.wait_for("attempt 0.0.0")
        assert "EXIT" not in shown
        coloured = terminal.text("-e")
        assert "\x1b[" in coloured
        terminal.press("q")
        terminal.wait_for("EXIT 0")
    finally:
        terminal.close()


@has_tmux
@pytest.mark.parametrize("width", [60, 80, 120])
def test_tables_lose_nothing_on_narrow_terminals(folder, width):
    terminal = Terminal(width, 60, folder)
    try:
        terminal.start("archive", "o", "--top", 3, PAGER="cat")
        shown = terminal.wait_for("EXIT 0")
        for elite in look_json(folder, "archive", "o", "--top", 3):
            assert elite["attempt"] in shown
            words = (elite["plan"] or "the starting program").split()
            assert set(words) <= set(shown.split())
        assert "…" not in shown
    finally:
        terminal.close()
