import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.models.budget import estimate_tokens
from evolve.problem import load_problem
from evolve.settings import Settings, change_settings
from evolve.steps.plan import plan_messages
from evolve.steps.prompt import CUT, Block, fence, fit_blocks
from tests.builders import make_digest

texts = st.text(st.characters(codec="utf-8"), max_size=400)


@st.composite
def blocks(draw):
    items = tuple(draw(st.lists(texts.filter(str.strip), max_size=5)))
    if draw(st.booleans()):
        items = tuple(fence(item) for item in items)
    return Block(
        draw(st.sampled_from("abcdef")),
        items,
        draw(st.sampled_from(["", "# Heading"])),
        share=draw(st.floats(0.05, 1.0)),
        rank=draw(st.integers(0, 3)),
        is_data=draw(st.booleans()),
    )


@given(st.lists(blocks(), max_size=5, unique_by=lambda block: block.name), st.integers(40, 900))
def test_blocks_never_take_more_than_the_cap(found, most):
    fitted = fit_blocks(found, "", most)
    assert set(fitted) == {block.name for block in found}
    assert sum(estimate_tokens(text) for text in fitted.values()) <= most


@given(st.lists(blocks(), max_size=4, unique_by=lambda block: block.name))
def test_where_there_is_room_nothing_is_left_out(found):
    roomy = [dataclasses.replace(block, share=1.0) for block in found]
    assert fit_blocks(roomy, "", 100_000) == {block.name: block.text for block in roomy}


def test_less_important_blocks_give_way_first_and_item_by_item():
    lessons = Block("lessons", ("word " * 20, "word " * 20), "# L", rank=7)
    source = Block("source", ("code " * 100,), rank=0)
    room = estimate_tokens(source.text) + estimate_tokens(lessons.text) + 20
    fitted = fit_blocks([lessons, source], "", room)
    assert fitted["source"] == source.text
    assert fitted["lessons"] == "# L\n\n" + "word " * 20


def test_a_cut_says_so_and_ends_its_fence():
    block = Block("source", (fence("code " * 500),), rank=0)
    fitted = fit_blocks([block], "", 200)["source"]
    assert fitted.endswith(f"{CUT}\n```")


@pytest.mark.parametrize("most", [1200, 2000, 3000])
def test_a_planners_prompt_keeps_its_cap(problem, most):
    settings = change_settings(
        Settings(),
        {"models.model": ["openai/gpt-4o-mini"], "models.digest_tokens": most},
        where="test",
    )
    found = load_problem(problem)
    digest = make_digest(found)
    long = dataclasses.replace(
        digest,
        models=settings.models,
        lessons=tuple(dataclasses.replace(digest.lessons[0], id=f"1.{n}") for n in range(60)),
        tried=digest.tried * 40,
    )
    messages = plan_messages(long, 4)
    assert sum(estimate_tokens(message.text) for message in messages) <= most
    assert "def point()" in messages[-1].text
