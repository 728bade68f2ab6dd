"""A command that works in a workspace: what it sees, what it leaves, what it declares."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from evolve.errors import EvaluatorError, ModelError
from evolve.models.command_models import Desk, WorkspaceModel, as_messages, offering
from evolve.records.chat import Request
from evolve.settings import Settings, change_settings

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")
OURS = '"cost_usd": 0.5, "input_tokens": 7, "output_tokens": 3'
CLAUDE = '"total_cost_usd": 0.25, "usage": {"input_tokens": 2, "output_tokens": 1}'
FILES = {"PLAN.md": "Do it.\n", "a.py": "x = 1\n", "lib/b.py": "y = 1\n"}


def settings(**changes) -> Settings:
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return change_settings(Settings(), named, where="test")


@pytest.fixture
def work(tmp_path):
    """Lets a shell script work on `FILES`, and returns what came of it."""

    def run(script: str, collected=("a.py", "lib/*.py"), score=None, **changes):
        path = tmp_path / "agent.sh"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        model = WorkspaceModel(str(path), settings(**changes), tmp_path / "run")
        assert model.prepare() is None
        desk = Desk(collected, score or (lambda _: ("ok 1.0", True)))
        with offering(desk):
            reply = model.complete(Request("editor", as_messages(FILES)), 60.0)
        return json.loads(reply.text), reply

    return run


def test_what_the_files_are_at_the_end_is_the_draft(work):
    found, reply = work("cat PLAN.md; echo 'x = 2' > a.py; echo 'z = 1' > lib/c.py; rm lib/b.py")
    assert found["drafts"] == [{"a.py": "x = 2\n", "lib/c.py": "z = 1\n"}]
    assert found["output"] == "Do it.\n"
    assert (found["ended"], reply.cost_usd) == (0, None)


def test_drafts_are_scored_meanwhile(work):
    seen = []

    def score(files):
        seen.append(files["a.py"])
        return (f"ok {len(seen)}", True) if len(seen) < 3 else ("no evaluations are left", False)

    script = """
    ./evaluate
    ./evaluate
    echo 'x = 3' > a.py; ./evaluate
    echo 'x = 4' > a.py; ./evaluate || echo "failed"
    """
    found, _ = work(script, score=score)
    assert seen == ["x = 1\n", "x = 3\n", "x = 4\n"]
    assert [one["a.py"] for one in found["drafts"]] == seen
    assert found["output"].splitlines() == [
        "ok 1", "ok 1", "ok 2", "no evaluations are left", "failed",
    ]  # fmt: skip


def test_an_evaluator_that_fails_ends_the_slot_and_not_only_its_thread(work):
    def score(_):
        raise EvaluatorError("the evaluator broke")

    with pytest.raises(EvaluatorError, match="the evaluator broke"):
        work("./evaluate; ./evaluate", score=score)


def test_nothing_of_the_machine_but_the_system_is_in_sight(work, tmp_path):
    secret = tmp_path / "evaluator.py"
    secret.write_text("answer = 42\n")
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / "tool.txt").write_text("a tool\n")
    os.environ["EVOLVE_TEST_TOKEN"] = "sk-0123456789abcdef"
    os.environ["EVOLVE_TEST_OTHER"] = "not passed"
    try:
        found, _ = work(
            f"cat {secret}; cat {tmp_path}/named/tool.txt; ls {Path(__file__).parent}; env",
            steps__workspace_variables=("EVOLVE_TEST_TOKEN",),
            steps__workspace_shows=(str(tmp_path / "named"),),
        )
    finally:
        del os.environ["EVOLVE_TEST_TOKEN"], os.environ["EVOLVE_TEST_OTHER"]
    output = found["output"]
    assert "answer" not in output
    assert "a tool" in output
    assert "test_workspace_model.py" not in output
    assert "not passed" not in output
    # The command has the key; what is kept of its output has not.
    assert "EVOLVE_TEST_TOKEN=" in output
    assert "0123456789abcdef" not in output


def test_our_package_is_hidden_even_where_its_interpreter_is_shown(work):
    package = Path(__file__).parents[2] / "evolve"
    found, _ = work(f"ls {package}; echo listed", steps__workspace_shows=(str(package.parent),))
    assert found["output"].splitlines() == ["listed"]


def test_links_out_of_the_workspace_are_not_followed(work):
    found, _ = work("rm a.py; ln -s /etc/passwd a.py", collected=("a.py",))
    assert found["drafts"] == [{}]


def test_a_command_that_takes_too_long_leaves_what_it_has(work):
    found, reply = work("echo 'x = 5' > a.py; sleep 60", models__request_seconds=1.0)
    assert (found["ended"], found["drafts"][0]["a.py"]) == ("time", "x = 5\n")
    assert reply.seconds < 30


@pytest.mark.parametrize(
    ("script", "usage"),
    [
        ("echo '{USED}' > usage.json".replace("USED", OURS), (0.5, 7, 3)),
        ("echo hello; echo '{USED}'".replace("USED", CLAUDE), (0.25, 2, 1)),
        ("echo '{\"cost_usd\": -1}' > usage.json", (None, 0, 0)),
        ("echo nonsense > usage.json", (None, 0, 0)),
    ],
)  # fmt: skip
def test_what_a_command_declares_is_its_usage(work, script, usage):
    _, reply = work(script)
    assert (reply.cost_usd, reply.prompt_tokens, reply.completion_tokens) == usage


def test_a_failing_command_is_no_failure_of_the_run(work):
    found, _ = work("echo 'x = 6' > a.py; exit 3")
    assert (found["ended"], found["drafts"][0]["a.py"]) == (3, "x = 6\n")


def test_what_is_to_be_shown_must_be_there():
    shown = settings(steps__workspace_shows=("/nowhere/at/all",))
    model = WorkspaceModel(sys.executable, shown, Path("run"))
    with pytest.raises(ModelError, match=r"steps\.workspace_shows: expected a file or folder"):
        model.prepare()


def test_where_nothing_confines_a_command_it_runs_only_if_that_is_allowed(work, tmp_path):
    path = os.environ["PATH"]
    (tmp_path / "bin").mkdir()
    for name in ("sh", "cat"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))
    secret = tmp_path / "mine.txt"
    secret.write_text("mine\n")
    try:
        os.environ["PATH"] = str(tmp_path / "bin")
        with pytest.raises(ModelError, match=r"there is no `bwrap`; install the package"):
            work("true")
        found, _ = work(f"cat {secret}; echo 'x = 7' > a.py", sandbox__allow_weak=True)
    finally:
        os.environ["PATH"] = path
    assert found["output"] == "mine\n"
    assert found["drafts"][0]["a.py"] == "x = 7\n"
