"""Runs whose editor is a command in a workspace."""

import json
import shutil

import pytest

from tests.commands import run_evolve, run_json, write_problem

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")
AGENT = """#!/bin/sh
sed -i 's/first = 1.0/first = 2.5/' initial.py
./evaluate
sed -i 's/second = 1.0/second = -1.5/' initial.py
echo "Moved both numbers." > CHANGE.md
echo '{"cost_usd": 0.25, "prompt_tokens": 100, "completion_tokens": 10}' > usage.json
"""
WORKSPACE = ("--set", "steps.executor=workspace")


def options(tmp_path, agent: str = AGENT, **more: object) -> tuple[str, ...]:
    path = tmp_path / "agent.sh"
    path.write_text(agent)
    path.chmod(0o755)
    changes = {"loop.slots": 1, "tuning.share": 0, **more}
    words = [word for name, value in changes.items() for word in ("--set", f"{name}={value}")]
    return ("--model", "scripted", "--editor", f"cmd:{path}", *WORKSPACE, *words)


def test_a_command_improves_a_program_and_all_of_it_is_recorded(tmp_path, problem):
    run_evolve("run", problem, *options(tmp_path), "--generations", 1, "--run-dir", "r",
               cwd=tmp_path)  # fmt: skip
    state = run_json("show", "r", cwd=tmp_path)
    assert state["champion"]["objective"] == -0.5
    assert (state["cost_usd"], state["evaluations"]) == (0.25, 3)
    lineage = run_json("lineage", "r", cwd=tmp_path)
    assert lineage[-1]["plan"] == "Moved both numbers."
    prompt = run_evolve("show", "r", "--prompt", "1.0.0", cwd=tmp_path).stdout
    assert "STATEMENT.md\nReturn two numbers" in prompt
    assert "scores the files as they are now, and prints the verdict: 5 evaluations." in prompt
    work = json.loads(run_json("show", "r", "--reply", "1.0.0", cwd=tmp_path)["reply"])
    assert "Evaluation: objective -9.25" in work["output"]
    # The command is gone: what it did is not.
    (tmp_path / "agent.sh").unlink()
    assert "equal" in run_evolve("replay", "r", cwd=tmp_path).stdout
    run_evolve("run", "--replay", "r", "--run-dir", "again", cwd=tmp_path)
    archives = [run_json("archive", name, cwd=tmp_path) for name in ("r", "again")]
    assert archives[0] == archives[1]


def test_evaluations_are_held_to_the_slot_and_the_run(tmp_path, problem):
    agent = "#!/bin/sh\nfor i in 1 2 3 4 5 6 7; do\n"
    agent += 'sed -i "s/first = .*/first = 1.$i/" initial.py\n./evaluate | head -1\ndone\n'
    run_evolve("run", problem, *options(tmp_path, agent),
               "--generations", 1, "--run-dir", "r", cwd=tmp_path)  # fmt: skip
    assert run_json("show", "r", cwd=tmp_path)["evaluations"] == 7
    work = json.loads(run_json("show", "r", "--reply", "1.0.0", cwd=tmp_path)["reply"])
    assert work["output"].splitlines()[:6] == [
        *["ok"] * 5, "no evaluations are left; the files are scored once more when you end",
    ]  # fmt: skip
    assert [len(work["drafts"]), "1.7" in work["drafts"][-1]["initial.py"]] == [6, True]


def test_what_may_not_change_and_what_does_not_parse_is_rejected(tmp_path):
    write_problem(tmp_path / "valley")
    agent = """#!/bin/sh
    echo "def point(:" > initial.py
    ./evaluate
    echo "import os" > initial.py
    ./evaluate
    head -c 30000000 /dev/zero | tr '\\0' '#' > initial.py
    ./evaluate
    """
    run_evolve("run", "valley", *options(tmp_path, agent), "--generations", 1, "--run-dir", "r",
               cwd=tmp_path, code=4)  # fmt: skip
    work = json.loads(run_json("show", "r", "--reply", "1.0.0", cwd=tmp_path)["reply"])
    assert "rejected: the edit changes initial.py outside its evolvable block" in work["output"]
    assert "rejected: initial.py: expected at most 1000000 bytes, got more" in work["output"]
    assert run_json("show", "r", cwd=tmp_path)["evaluations"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "scripted"), "needs commands as editors"),
        ((), "needs commands as editors, such as --editor \"cmd:mini -y\", got none"),
        (("--model", "scripted", "--editor", "cmd:true", "--set", "steps.agent_turns=4"),
         "steps.agent_turns: expected 0 with"),
        (("--model", "scripted", "--editor", "cmd:true", "--set",
          "steps.workspace_variables=NOT_SET_ANYWHERE"),
         "steps.workspace_variables: expected NOT_SET_ANYWHERE to be set"),
        (("--model", "scripted", "--editor", "cmd:true", "--set",
          "steps.workspace_shows=/nowhere/at/all"), "steps.workspace_shows: expected a file"),
        (("--model", "scripted", "--editor", "cmd:true", "--set",
          'steps.workspace_shows=["/"]'), "/, which holds more: a home, or a problem"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_before_the_run(tmp_path, problem, words, message):
    done = run_evolve("run", problem, *words, *WORKSPACE, "--run-dir", "r", cwd=tmp_path, code=None)
    assert done.code in {2, 4}
    assert message in done.stderr
    assert not (tmp_path / "r").exists()
