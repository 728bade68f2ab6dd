"""Lessons that outlast a run: as a text for people, and in a file that runs share."""

import json

import pytest

from tests.commands import run_evolve, run_json, write_problem, write_script


def summary(claim: str, **fields) -> str:
    lesson = {"claim": claim, "evidence": "-12 against -13", "tags": ["numbers"], **fields}
    return json.dumps({"verdict": "v", "lessons": [lesson]})


def edit(first: float, lessons: str = "") -> str:
    return (
        f"Base: 0.0.0\nChange: another first number\nLessons: {lessons}\n\n"
        f"```python\ndef point():\n    return [{first}, 1.0]\n```"
    )


@pytest.fixture
def learn(tmp_path):
    """Runs a problem with a script that teaches one lesson in each generation."""
    write_problem(tmp_path / "valley")

    def run(name: str, claim: str, *more, first: float = 2.0, problem: str = "valley", **fields):
        follows = fields.pop("follows", "")
        script = write_script(
            tmp_path / f"{name}.json",
            editor=[edit(first, follows)],
            summarizer=[summary(claim, **fields)],
        )
        return run_evolve(
            "run", problem, "--model", script, "--generations", 1, "--run-dir", name, "--set",
            "loop.slots=1", "--set", "tuning.share=0", *more, cwd=tmp_path,
        ).stdout  # fmt: skip

    return run


def test_lessons_are_written_for_people_and_read_back_with_their_edits(tmp_path, learn):
    learn("r", "Small steps help.")
    done = run_evolve("lessons", "r", "--output", "lessons.md", cwd=tmp_path)
    assert "1 lessons: lessons.md" in done.stderr
    text = (tmp_path / "lessons.md").read_text()
    assert "# Lessons of valley\n\n## What works\n\n- Small steps help.\n" in text
    text = text.replace("Small steps", "Large steps") + "\n## What does not work\n\n- Waiting.\n"
    (tmp_path / "lessons.md").write_text(text)
    out = learn("s", "Other things matter.", "--lessons", "lessons.md")
    assert "lessons: 2 taken from lessons.md" in out
    prompt = run_evolve("show", "s", "--prompt", "1.0.0", cwd=tmp_path).stdout
    assert "[0.0] Large steps help. Evidence: -12 against -13" in prompt
    assert "Known not to work\n\n```\n[0.1] Waiting." in prompt
    (tmp_path / "lessons.md").write_text(text + "nonsense\n")
    done = run_evolve("run", "valley", "--lessons", "lessons.md", cwd=tmp_path, code=2)
    assert "lessons.md: line " in done.stderr


def test_a_memory_file_adds_up_what_lessons_were_worth_in_all_runs(tmp_path, learn):
    memory = ("--memory", "memory.md")
    assert "memory: 0 lessons taken from memory.md" in learn("a", "Small steps help.", *memory)
    out = learn("b", "Small steps helped.", *memory, first=2.5, follows="0.0")
    assert "memory: 1 lessons taken from memory.md" in out
    assert "memory: 1 lessons of valley in" in out
    text = (tmp_path / "memory.md").read_text()
    for line in ("- taught: 2", "- followed: 1", "- new bests: 1", "- tags: numbers"):
        assert line in text
    # What a resume finds is added to what was counted before.
    run_evolve("resume", "b", "--generations", 2, cwd=tmp_path)
    assert "- followed: 2" in (tmp_path / "memory.md").read_text()
    run_evolve("resume", "b", "--generations", 2, cwd=tmp_path)
    assert "- followed: 2" in (tmp_path / "memory.md").read_text()
    (known,) = run_json("lessons", "b", cwd=tmp_path)
    assert known["origin"] == "memory of valley"
    run_evolve("run", "--replay", "a", "--run-dir", "again", cwd=tmp_path)
    assert "equal" in run_evolve("replay", "b", cwd=tmp_path).stdout


def test_lessons_of_other_problems_are_taken_by_their_tags(tmp_path, learn):
    write_problem(tmp_path / "hill")
    toml = tmp_path / "hill" / "problem.toml"
    toml.write_text(toml.read_text().replace("valley", "hill"))
    memory = ("--memory", "memory.md")
    learn("a", "Small steps help.", *memory)
    learn("b", "Sort the colours first.", *memory, tags=["colours"])
    # Its statement speaks of numbers.
    out = learn("h", "Walk upwards.", *memory, problem="hill")
    assert "memory: 1 lessons taken from memory.md" in out
    assert run_json("lessons", "h", cwd=tmp_path)[-1]["origin"] == "memory of valley"
    text = (tmp_path / "memory.md").read_text()
    assert text.index("# Lessons of valley") < text.index("# Lessons of hill")
    assert text.count("Small steps help.") == 1


def test_a_lesson_that_a_run_contradicts_is_dropped_from_the_file(tmp_path, learn):
    memory = ("--memory", "memory.md")
    learn("a", "Small steps help.", *memory)
    script = write_script(
        tmp_path / "b.json",
        editor=[edit(1.5)],
        summarizer=[json.dumps({"verdict": "v", "lessons": [], "outdated": ["0.0"]})],
    )
    run_evolve("run", "valley", "--model", script, "--generations", 1, "--run-dir", "b", *memory,
               cwd=tmp_path)  # fmt: skip
    assert "Small steps" not in (tmp_path / "memory.md").read_text()


def test_what_cannot_be_a_memory_is_refused_before_the_run(tmp_path, learn):
    (tmp_path / "shell.rc").write_text("export PATH=/bin\n")
    common = ("run", "valley", "--run-dir", "r")
    model = ("--model", "scripted")
    for words, message in (
        ((*model, "--memory", "shell.rc"), "shell.rc: expected lessons under `# Lessons of"),
        ((*model, "--memory", "no/m.md"), "no/m.md: cannot be written"),
        (("--memory", "m.md"), "--memory: a run without a model learns no lessons"),
        (("--replay", "x", "--memory", "m.md"), "x: expected a run folder"),
    ):
        done = run_evolve(*common, *words, cwd=tmp_path, code=None)
        assert done.code
        assert message in done.stderr
    assert (tmp_path / "shell.rc").read_text() == "export PATH=/bin\n"
    assert not (tmp_path / "r").exists()


def test_a_file_that_was_spoilt_meanwhile_does_not_spoil_the_run(tmp_path, learn):
    learn("a", "Small steps help.", "--memory", "memory.md")
    (tmp_path / "memory.md").write_text("spoilt\n")
    done = run_evolve("resume", "a", "--generations", 2, cwd=tmp_path)
    assert "memory: nothing was added: " in done.stdout
    assert (tmp_path / "memory.md").read_text() == "spoilt\n"
