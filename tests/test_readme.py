import re
import runpy
from pathlib import Path

import pytest
from typer.main import get_command

from evolve.cli.app import find_command, list_commands, make_app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_every_command_line_of_the_readme_is_understood():
    manual = runpy.run_path(str(ROOT / "scripts" / "run_manual.py"))
    blocks = [
        block for block in manual["find_blocks"](ROOT / "README.md") if block.language == "sh"
    ]
    commands = [command for block in blocks for command in manual["find_commands"](block)]
    assert len(commands) >= 3
    for command in commands:
        manual["check_options"](command)


def test_the_transcript_of_the_readme_is_what_the_command_prints(tmp_path):
    manual = runpy.run_path(str(ROOT / "scripts" / "run_manual.py"))
    (transcript,) = blocks("console")
    page = tmp_path / "README.md"
    page.write_text(f"```console\n{transcript}```\n")
    (tmp_path / "README").mkdir()
    manual["compare"](page, manual["run_page"](page, tmp_path / "README"))


def test_every_link_of_the_readme_leads_somewhere():
    links = re.findall(r"\]\(([^)]+)\)", README)
    local = [link for link in links if not link.startswith("https://")]
    assert len(local) > 10
    assert [link for link in local if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("name", list_commands())
def test_every_example_in_the_help_of_a_command_is_understood(name):
    manual = runpy.run_path(str(ROOT / "scripts" / "run_manual.py"))
    for line in find_command(name).examples:
        assert line.startswith(f"evolve {name}")
        manual["check_options"](line)


def test_every_path_that_contributing_names_exists():
    named = re.findall(
        r"`((?:evolve|tests|scripts)/[\w./]*)`", (ROOT / "CONTRIBUTING.md").read_text()
    )
    assert len(named) > 20
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_command_prints_json():
    for name in list_commands():
        command = get_command(make_app(name)).commands[name]
        assert "--json" in {flag for parameter in command.params for flag in parameter.opts}


def test_ci_runs_the_two_commands_of_the_readme():
    ci = (ROOT / ".ci" / "run").read_text()
    assert "evolve run problems/circle_packing" in ci
    assert "'.[test]' && pytest -n auto" in ci


def test_every_exit_code_is_documented():
    from evolve.errors import ExitCode

    codes = README.partition("Exit codes: ")[2].partition("\n")[0]
    documented = {int(number) for number in re.findall(r"(?:^|; )(\d+) ", codes)}
    assert documented == {int(code) for code in ExitCode} - {ExitCode.BUG}


def test_the_evaluator_of_the_readme_runs():
    import numpy as np

    class Square:
        """A program that places two points."""

        def call(self, function: str, count: int) -> object:
            assert function == "place"
            return np.full((count, 2), 0.5)

    (source,) = blocks("python")
    names: dict = {}
    exec(source, names)
    assert names["evaluate"](Square(), count=2).objective == 2.0
