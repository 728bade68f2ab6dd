"""Skills for coding assistants: what they tell to do is done as it stands."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import run_evolve

SKILLS = Path(__file__).parent.parent.parent / "evolve" / "skills"
NAMES = sorted(path.parent.name for path in SKILLS.glob("*/SKILL.md"))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Returns a folder in which `evolve` is this one, with a finished run."""
    folder = tmp_path_factory.mktemp("project")
    run_evolve("run", "circle_packing", "--max-evaluations", "12", cwd=folder)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_of_a_skill_work(project, name):
    text = (SKILLS / name / "SKILL.md").read_text()
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert blocks
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for block in blocks:
        # 3: the cap of a short run came before any improvement.
        for line in block.splitlines():
            done = subprocess.run(
                line, shell=True, cwd=project, env={**os.environ, "PATH": path},
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode in ({0, 3} if " run " in line else {0}), f"{line}\n{done.stderr}"


@pytest.mark.parametrize(
    ("host", "place"), [("claude-code", ".claude"), ("gemini", ".gemini"), ("codex", ".agents")]
)
def test_skills_go_where_an_assistant_looks(tmp_path, host, place):
    run_evolve("skills", "install", "--host", host, cwd=tmp_path)
    written = sorted(path.parent.name for path in tmp_path.glob(f"{place}/skills/*/SKILL.md"))
    assert written == NAMES
    for name in NAMES:
        head = (tmp_path / place / "skills" / name / "SKILL.md").read_text().split("---")[1]
        assert f"name: {name}\n" in head
        assert 1 <= len(re.search(r"description: (.*)", head)[1]) <= 1024


def test_printing_skills_writes_nothing(tmp_path):
    done = run_evolve("skills", "install", "--print", cwd=tmp_path)
    assert all(f"name: {name}" in done.stdout for name in NAMES)
    assert list(tmp_path.iterdir()) == []


def test_unknown_hosts_and_actions_are_refused_with_what_there_is(tmp_path):
    refused = run_evolve("skills", "install", "--host", "nobody", cwd=tmp_path, code=2)
    assert "--host: expected one of agents, claude-code" in refused.stderr
    assert "expected `install`" in run_evolve("skills", "list", cwd=tmp_path, code=2).stderr


def test_a_run_prints_each_event_as_an_object_on_its_own_line(tmp_path):
    done = run_evolve(
        "run", "circle_packing", "--generations", "2", "--json-lines", "--run-dir", "r",
        cwd=tmp_path,
    )  # fmt: skip
    events = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [event["event"] for event in events]
    assert (kinds[0], kinds[-1]) == ("start", "end")
    assert events[0] == {
        "event": "start", "run": "r", "folder": str(tmp_path / "r"), "problem": "circle_packing",
    }  # fmt: skip
    assert events[1]["attempt"] == "0.0.0"
    assert events[-1]["status"] == "finished"
    assert kinds.count("generation") == 2
    assert kinds.count("attempt") == events[-1]["attempts"]
    refused = run_evolve(
        "run", "circle_packing", "--json-lines", "--run-dir", "r", cwd=tmp_path, code=2
    )
    (event,) = map(json.loads, refused.stdout.splitlines())
    assert (event["event"], event["exit_code"]) == ("error", 2)
    assert event["message"] in refused.stderr
