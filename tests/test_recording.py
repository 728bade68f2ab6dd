import pytest

from evolve.records.chat import Message, Request, describe_difference
from tests.commands import run_evolve, run_json

REQUEST = Request("editor", (Message("system", "s"), Message("user", "a\nb\nc")), 10)


@pytest.fixture
def recorded(tmp_path, problem):
    run_evolve(
        "run", problem, "--model", "scripted", "--generations", 2, "--set", "loop.slots=3",
        "--run-dir", "r", cwd=tmp_path,
    )  # fmt: skip
    return tmp_path


def test_a_run_can_be_answered_from_another_ones_record(recorded):
    run_evolve("run", "--replay", "r", "--run-dir", "q", cwd=recorded)
    assert run_json("archive", "q", cwd=recorded) == run_json("archive", "r", cwd=recorded)
    first, second = (run_json("show", run, cwd=recorded) for run in ("r", "q"))
    assert second["models"] == first["models"]
    assert second["replay"] == str((recorded / "r").resolve())


def test_a_changed_prompt_is_a_miss_and_the_end_of_the_record_an_end(recorded):
    statement = recorded / "valley" / "statement.md"
    statement.write_text(statement.read_text() + "Be quick.\n")
    done = run_evolve("run", "valley", "--replay", "r", "--run-dir", "q", cwd=recorded, code=4)
    assert "(editor): expected the request recorded in" in done.stderr
    assert "now 'Be quick.'" in done.stderr
    statement.write_text(statement.read_text().replace("Be quick.\n", ""))
    done = run_evolve(
        "run", "--replay", "r", "--run-dir", "p", "--set", "steps.repairs=3", cwd=recorded
    )
    assert "finished" in done.stdout


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"messages": REQUEST.messages[:1]}, "2 messages recorded, 1 now"),
        (
            {"messages": (REQUEST.messages[0], Message("user", "a\nB\nc"))},
            "message 2, line 2: recorded 'b', now 'B'",
        ),
        (
            {"messages": (REQUEST.messages[0], Message("assistant", "a"))},
            "message 2 was of the user, is of the assistant",
        ),
        ({"temperature": 0.5}, "`temperature`: recorded None, now 0.5"),
    ],
)
def test_the_first_difference_is_named(changes, words):
    values = {"role": "editor", "messages": REQUEST.messages, "max_tokens": 10, **changes}
    assert describe_difference(REQUEST, Request(**values)) == words
