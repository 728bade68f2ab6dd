"""Runs that somebody else began, or changed."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.commands import run_detached, run_evolve, write_problem
from tests.model_server import Answer, ModelServer

KEY = "sk-test-0123456789abcdef"
OTHERS_EVALUATOR = "open('ran', 'w').write('with your rights')\n"


@pytest.fixture
def run(made, tmp_path) -> Path:
    """A copy of that run, which is the same user's still."""
    shutil.copytree(made / "r", tmp_path / "r")
    return tmp_path / "r"


def expect_question(*args: object, cwd: Path, **environment: str) -> None:
    """Runs a command that must ask whether the run is to be trusted."""
    assert "--trust" in run_evolve(*args, cwd=cwd, code=2, **environment).stderr


def send_by_another_user(run: Path, **settings: str) -> None:
    """Makes a run what somebody else would send: without a mark of this user's."""
    (run / "run.owner").unlink()
    text = (run / "settings.toml").read_text()
    for key, value in settings.items():
        assert f"{key} = " in text
        lines = [
            f"{key} = {json.dumps(value)}" if line.startswith(f"{key} = ") else line
            for line in text.splitlines()
        ]
        text = "\n".join(lines)
    (run / "settings.toml").write_text(text)


@pytest.mark.parametrize(
    "command", [["resume", "r", "--generations", "2"], ["verify", "r"]], ids=lambda one: one[0]
)
def test_a_run_of_ones_own_goes_on_without_a_word(run, tmp_path, command):
    assert "--trust" not in run_evolve(*command, cwd=tmp_path).stderr
    run.rename(tmp_path / "elsewhere")
    assert "--trust" not in run_evolve("verify", "elsewhere", cwd=tmp_path).stderr


@pytest.mark.parametrize(
    "command",
    [
        ["resume", "r", "--generations", "2"],
        ["resume", "r", "--generations", "2", "--detach"],
        ["verify", "r"],
        ["best", "r", "--plot", "p.svg"],
        ["best", "r", "--submit", "s.csv"],
        ["run", "--replay", "r"],
    ],
    ids=" ".join,
)
def test_a_run_of_another_user_is_asked_about_before_its_evaluator_runs(run, tmp_path, command):
    send_by_another_user(run)
    (run / "evaluator/evaluator.py").write_text(OTHERS_EVALUATOR)
    before = sorted(path.name for path in run.iterdir())
    error = run_evolve(*command, cwd=tmp_path, code=2).stderr
    assert f"runs its evaluator, {run}/evaluator/evaluator.py" in error
    assert "--trust" in error
    assert list(tmp_path.rglob("ran")) == []
    assert sorted(path.name for path in run.iterdir()) == before


@pytest.mark.parametrize("command", ["show", "log", "archive", "best", "lineage", "diff", "replay"])
def test_what_runs_nothing_of_it_asks_nothing(run, tmp_path, command):
    send_by_another_user(run)
    run_evolve(command, "r", cwd=tmp_path)


def test_one_is_asked_once(run, tmp_path):
    send_by_another_user(run)
    expect_question("resume", "r", "--generations", "2", cwd=tmp_path)
    told = run_evolve("resume", "r", "--generations", "2", "--trust", cwd=tmp_path).stdout
    assert f"runs its evaluator, {run}/evaluator/evaluator.py" in told
    told = run_evolve("resume", "r", "--generations", "3", cwd=tmp_path).stdout
    assert "its evaluator" not in told
    run_evolve("verify", "r", cwd=tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda run: (run / "evaluator/evaluator.py").write_text(OTHERS_EVALUATOR),
        lambda run: (run / "evaluator/json.py").write_text(OTHERS_EVALUATOR),
        lambda run: (
            (run / "evaluator/__pycache__").mkdir()
            or (run / "evaluator/__pycache__/evaluator.cpython-311.pyc").write_bytes(b"code")
        ),
        lambda run: (run / "problem/problem.toml").write_text(
            (run / "problem/problem.toml").read_text() + "\n[parameters]\nx = 1\n"
        ),
        lambda run: (run / "run.owner").write_text('{"addresses": ["http://x"], "mark": "00"}'),
        lambda run: (run / "run.owner").write_text("[" * 100_000),
        lambda run: (run / "run.owner").write_text('{"addresses": [], "mark": "\u0661"}'),
    ],
    ids=["evaluator", "module", "compiled", "problem", "forged", "deep", "odd"],
)
def test_a_run_that_was_changed_since_is_asked_about_again(run, tmp_path, change):
    change(run)
    expect_question("verify", "r", cwd=tmp_path)
    assert list(tmp_path.rglob("ran")) == []


def test_a_mark_of_another_run_does_not_fit(run, made, tmp_path):
    write_problem(tmp_path / "other", evaluator="x = 1\n" + OTHERS_EVALUATOR)
    (run / "evaluator/evaluator.py").write_text(OTHERS_EVALUATOR)
    shutil.copy(made / "r/run.owner", run)
    expect_question("verify", "r", cwd=tmp_path)


@pytest.mark.parametrize("secret", [None, b"", b"short", b"x" * 32])
def test_a_secret_that_others_could_know_is_none(run, tmp_path, secret):
    state = tmp_path / "state/evolve"
    if secret is not None:
        state.mkdir(parents=True)
        (state / "owner.key").write_bytes(secret)
        (state / "owner.key").chmod(0o644)
    environment = {"XDG_STATE_HOME": str(tmp_path / "state")}
    expect_question("verify", "r", cwd=tmp_path, **environment)


def test_where_no_secret_can_be_kept_one_is_asked_each_time(problem, tmp_path):
    environment = {"XDG_STATE_HOME": "/dev/null/nowhere"}
    options = ("--run-dir", "r", "--generations", "1")
    run_evolve("run", problem, *options, cwd=tmp_path, **environment)
    for _ in range(2):
        expect_question("verify", "r", cwd=tmp_path, **environment)
        run_evolve("verify", "r", "--trust", cwd=tmp_path, **environment)


def test_a_run_is_detached_also_where_no_secret_can_be_kept(problem, tmp_path):
    options = ("--run-dir", "r", "--generations", "1")
    told = run_detached("run", problem, *options, cwd=tmp_path, XDG_STATE_HOME="/dev/null/nowhere")
    assert "detached" in told or "finished" in told
    run_evolve("attach", "r", cwd=tmp_path)


def test_a_fork_is_ones_own_where_its_origin_is(run, tmp_path):
    run_evolve("fork", "r", "--run-dir", "f", cwd=tmp_path)
    run_evolve("verify", "f", cwd=tmp_path)
    send_by_another_user(run)
    run_evolve("fork", "r", "--run-dir", "g", cwd=tmp_path)
    expect_question("verify", "g", cwd=tmp_path)
    told = run_evolve("fork", "r", "--run-dir", "h", "--trust", cwd=tmp_path).stdout
    assert "runs its evaluator" in told
    run_evolve("verify", "h", cwd=tmp_path)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"model": "cmd:touch ran"}, "runs the command 'touch ran'"),
        ({"planner": "3*cmd:touch ran"}, "runs the command 'touch ran'"),
        ({"model": "scripted:/etc/passwd"}, "reads '/etc/passwd'"),
        ({"replay": "/home/me/run"}, "reads '/home/me/run'"),
        ({"api_base": "http://evil/v1"}, "asks models at 'http://evil/v1'"),
        ({"model": "huggingface/https://evil/v1"}, "asks models at 'huggingface/https://evil/v1'"),
        ({"image": "evil/image"}, "sets sandbox.image to 'evil/image'"),
        ({"backend": "native"}, "sets sandbox.backend to 'native'"),
        ({"api_base": "http://evil/\x1b]0;x\x07"}, "asks models at 'http://evil/\\x1b]0;x\\x07'"),
    ],
)
def test_what_the_settings_would_do_is_named(run, tmp_path, settings, named):
    send_by_another_user(run, **settings)
    error = run_evolve("resume", "r", "--generations", "2", cwd=tmp_path, code=2).stderr
    assert named in error
    assert "\x1b" not in error
    assert list(tmp_path.rglob("ran")) == []


def test_ones_own_settings_that_were_changed_by_hand_are_asked_about(run, tmp_path):
    text = (run / "settings.toml").read_text()
    (run / "settings.toml").write_text(text.replace("model = []", 'model = ["cmd:touch ran"]'))
    expect_question("resume", "r", "--generations", "2", cwd=tmp_path)


def resume(tmp_path: Path, *options: str) -> str:
    out, err, _ = run_evolve(
        "resume", "r", "--generations", "2", *options, cwd=tmp_path, OPENAI_API_KEY=KEY, code=None
    )
    return out + err


def keys_seen_by(server: ModelServer) -> list[str]:
    return list(server.keys)


def test_a_key_goes_only_to_an_address_that_the_user_named(run, tmp_path):
    with ModelServer([Answer("no plan")]) as server:
        send_by_another_user(run, model="openai/m", api_base=server.url)
        resume(tmp_path)
        assert server.count == 0
        resume(tmp_path, "--trust")
        assert server.count > 0
        assert not any(KEY in key for key in keys_seen_by(server))
        # Also when the run counts as one's own by now.
        resume(tmp_path, "--generations", "3")
        assert not any(KEY in key for key in keys_seen_by(server))
        resume(tmp_path, "--api-base", server.url, "--generations", "4")
        assert any(KEY in key for key in keys_seen_by(server))


def test_a_key_goes_to_no_address_of_a_provider_of_which_it_may_not_be_kept(run, tmp_path):
    with ModelServer([Answer("no plan")]) as server:
        send_by_another_user(run, model="anthropic/m", api_base=server.url)
        told = resume(tmp_path, "--trust")
        assert "if your key may go there, add --api-base" in told
        assert server.count == 0


def test_an_address_that_was_named_at_the_start_stays_named(problem, tmp_path):
    with ModelServer([Answer("no plan")]) as server:
        run_evolve(
            "run", problem, "--run-dir", "r", "--generations", "1", "--model", "openai/m",
            "--api-base", server.url, "--set", "loop.slots=1", cwd=tmp_path, OPENAI_API_KEY=KEY,
            code=None,
        )  # fmt: skip
        count = server.count
        resume(tmp_path)
        assert server.count > count
        assert all(KEY in key for key in keys_seen_by(server))


@pytest.mark.parametrize("command", [["check", "valley"], ["run", "valley"], ["resume", "r"]])
def test_nothing_in_the_current_folder_is_imported(run, problem, tmp_path, command):
    for name in ("json.py", "numpy.py", "evolve.py", "select.py", "sitecustomize.py"):
        (tmp_path / name).write_text(OTHERS_EVALUATOR)
    subprocess.run(
        [sys.executable, "-P", "-m", "evolve", *command, "--generations", "1"],
        cwd=tmp_path, capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("command", ["check", "run"])
def test_the_evaluator_that_will_run_is_named_before_it_does(problem, tmp_path, command):
    (problem / "evaluator.py").write_text("import no_such_module\n")
    ours, theirs = os.openpty()
    arguments = [sys.executable, "-m", "evolve", command, "valley"]
    process = subprocess.Popen(arguments, cwd=tmp_path, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    with suppress(OSError):
        while data := os.read(ours, 4096):
            shown += data
    process.wait()
    os.close(ours)
    first = shown.decode().replace("\r\n", "").partition("(runs with")[0]
    assert f"{problem}/evaluator.py" in first
    assert "error" not in first


def test_in_a_pipe_the_evaluator_is_named_after_what_was_found(problem, tmp_path):
    out, err, _ = run_evolve("check", "valley", cwd=tmp_path)
    assert (err, out.splitlines()[0]) == ("", "problem   valley, maximize")
    assert f"\nevaluator {problem}/evaluator.py (runs with your rights)\n" in out


def test_the_state_folder_is_the_users_alone(made):
    key = Path(os.environ["XDG_STATE_HOME"], "evolve/owner.key")
    assert key.stat().st_mode & 0o777 == 0o600
    assert len(key.read_bytes()) == 32
