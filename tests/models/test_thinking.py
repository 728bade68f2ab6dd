import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.models.model import begins_thinking, split_thinking

NAMES = ("think", "thinking", "thought", "reasoning", "reflection")
ANSWERS = (
    '{"change": "use a heap"}',
    "```python\nTAGS = ('<think>', '</think>')\n```",
    "<<<<<<< SEARCH\na = 1\n=======\na = '<think>'\n>>>>>>> REPLACE",
    "Words, then <b>more</b>.",
)
DRAFTS = (
    'Draft: {"change": "no"}\n',
    "```python\nx = 1\n```\nno, wrong\n",
    "<<<<<<< SEARCH\na = 1\n=======\na = 9\n>>>>>>> REPLACE\n",
    "The user says `</think>` ends it.\n",
)


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("draft", DRAFTS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("space", ["", "\n\n ", "\t"])
def test_thinking_before_an_answer_is_taken_off(space, name, draft, answer):
    text = f"{space}<{name}>\n{draft}</{name}>\n\n{answer}"
    assert split_thinking(text) == (answer, False)


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("draft", DRAFTS)
@pytest.mark.parametrize("name", NAMES)
def test_thinking_that_was_never_opened_ends_at_its_closing_tag(name, draft, answer):
    assert split_thinking(f"{draft}</{name}>\n{answer}") == (answer, True)


@pytest.mark.parametrize("draft", DRAFTS)
@pytest.mark.parametrize("name", NAMES)
def test_thinking_without_an_end_leaves_no_answer(name, draft):
    assert split_thinking(f"<{name}>{draft}") == ("", False)


@pytest.mark.parametrize(
    "text",
    [
        "[THINK]draft[/THINK]the answer",
        "\u25c1think\u25b7draft\u25c1/think\u25b7\nthe answer",
        "<seed:think>draft</seed:think>the answer",
        (
            "<|channel|>analysis<|message|>draft<|end|><|start|>assistant"
            "<|channel|>final<|message|>the answer"
        ),
        "<|begin_of_thought|>draft<|end_of_thought|>\nthe answer",
        "<thinking>one<reflection>two</reflection>three</thinking>the answer",
        "<THINK>draft</THINK>the answer",
        "<think>one</think>\n<think>two</think>\nthe answer",
    ],
)
def test_other_forms_of_thinking_are_known(text):
    assert split_thinking(text)[0] == "the answer"


@pytest.mark.parametrize(
    "text",
    [
        "```python\ndef strip(text):\n    return text.split('</think>')[-1]\n```",
        "```python\n# remove all up to </think> here\nx = 1\n```",
        '```python\nTEXT = """\n<think>\nhm\n</think>\n"""\n```',
        "<<<<<<< SEARCH\n    tag = None\n=======\n    tag = '<think>'\n>>>>>>> REPLACE\n",
        "import re\nPATTERN = re.compile(r'<think>.*?</think>', re.DOTALL)\n",
        "The tag `<think>` opens what `</think>` closes.",
        "",
    ],
)
def test_a_program_that_holds_such_tags_is_not_touched(text):
    assert split_thinking(text) == (text, False)


@given(
    st.text(alphabet="ab \n{}`'<>=", max_size=80),
    st.text(alphabet="ab \n{}'<>=", max_size=80).map(str.strip),
    st.sampled_from(NAMES),
)
def test_no_part_of_the_thinking_gets_into_the_answer(draft, answer, name):
    text = f"<{name}>{draft} \n</{name}>\n{answer}"
    assert split_thinking(text)[0] == answer


@pytest.mark.parametrize("text", ["<", "<thi", " <think", "<reas"])
def test_the_start_of_an_opening_tag_is_thinking(text):
    assert begins_thinking(text)


@pytest.mark.parametrize("text", ["", "<b>", "x <thi", "def f(): pass"])
def test_other_starts_are_not(text):
    assert not begins_thinking(text)
