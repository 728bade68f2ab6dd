import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.errors import ProblemError
from evolve.problem import load_problem
from evolve.problem.folder import PROMPTS
from evolve.records import Program, SourceFile
from evolve.steps import prompt
from evolve.steps.prompt import fence


@given(st.text())
def test_no_text_can_close_its_fence(text):
    fenced = fence(text)
    marks = fenced.partition("\n")[0]
    lines = fenced.split("\n")
    assert len(marks) >= 3
    assert set(marks) == {"`"}
    assert lines[-1] == marks
    assert not any(line.strip().startswith(marks) for line in lines[1:-1])


def test_a_problem_can_bring_its_own_template(problem):
    (problem / "prompts").mkdir()
    (problem / "prompts" / "repair.md").write_text("Mend it: {{failure}}")
    messages = prompt.fill_template("repair", problem, {"failure": "f", "detail": ""})
    assert [(message.role, message.text) for message in messages] == [("user", "Mend it: f")]


def test_an_unknown_value_in_a_template_is_an_error(problem):
    (problem / "prompts").mkdir()
    (problem / "prompts" / "plan.md").write_text("{{statment}}")
    with pytest.raises(ProblemError, match=r"unknown value `\{\{statment\}\}`; known: statem"):
        prompt.fill_template("plan", problem, {"statement": "s"})


def test_a_template_that_no_step_looks_for_is_an_error(problem):
    (problem / "prompts").mkdir()
    (problem / "prompts" / "planner.md").write_text("{{statement}}")
    with pytest.raises(
        ProblemError, match=r"planner\.md: expected one of plan\.md, .*, got a file"
    ):
        load_problem(problem)


@pytest.mark.parametrize("name", PROMPTS)
def test_every_template_of_the_package_can_be_read(name, tmp_path):
    with pytest.raises(ProblemError, match="unknown value"):
        prompt.fill_template(name, tmp_path, {})


def test_the_limits_and_the_editable_part_are_told(problem):
    found = load_problem(problem)
    assert "2 seconds" in prompt.common_values(found)["limits"]
    assert "Only the lines between" in prompt.show_editable(found.initial)


def test_a_source_is_shown_as_it_is_with_its_blank_lines(problem):
    text = "def point():\n    return [1.0, 2.0]\n\n\n\ndef other():\n    return 1\n"
    shown = prompt.show_program(Program((SourceFile("initial.py", text),)))
    messages = prompt.fill_template(
        "repair", problem, {"failure": shown, "detail": "", "base": "it", "form": ""}
    )
    assert text in messages[-1].text


def test_the_middle_of_a_long_text_gives_way():
    cut = prompt.cut_middle("start" + "x" * 1000 + "end", 100)
    assert cut.startswith("start")
    assert cut.endswith("end")
    assert "[cut]" in cut
    assert prompt.cut_middle("x" * 110, 100) == "x" * 110


def test_of_several_files_those_with_bounds_are_named():
    bounded = "# EVOLVE-BLOCK-START\nx = 1\n# EVOLVE-BLOCK-END\n"
    files = SourceFile("a.py", bounded), SourceFile("lib/b.c", "int y;")
    told = prompt.show_editable(Program(files))
    assert told.startswith("Of `a.py` only the lines between")
    assert told.endswith("of the other files everything.")
    assert prompt.show_editable(Program(files[1:])) == "All of the program may change."
