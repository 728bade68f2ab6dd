import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.records import AttemptKey, Direction, Plan, Status, Summary
from evolve.records.results import SlotNote
from evolve.steps.lessons import Lesson, LessonBook
from evolve.steps.memory import Calibration, Memory, merge_notes, take_over

PARENT = AttemptKey(0, 0, 0)
texts = st.text("abc XYZ 0123456789.", max_size=60)


def note(generation: int, slot: int = 0, *, best: float | None = 2.0, **fields) -> SlotNote:
    told = SlotNote(
        generation=generation,
        slot=slot,
        parent=PARENT,
        plan=Plan("change it", predicted_gain=2.0, tags=("size",)),
        before=1.0,
        objectives=() if best is None else (best,),
        attempts=1,
        unapplied=0,
        status=Status.OK if best is not None else Status.ERROR,
        reason="" if best is not None else "it broke",
        editors=("model",),
    )
    return told._replace(**fields)


def remember(*notes: SlotNote, direction: Direction = Direction.MAXIMIZE) -> Memory:
    memory = Memory(direction)
    for one in notes:
        memory.tell(one)
    return memory


def teach(*lessons: str) -> LessonBook:
    book = LessonBook()
    for slot, text in enumerate(lessons):
        book.teach(
            1, slot, Summary("v", "idea", text, ("t",), next_step=f"step {slot}"), gained=True
        )
    return book


def test_lessons_that_say_the_same_are_merged():
    book = teach(
        "Scaling the radii by 1.05 helps.",
        "Scaling radii by 1.1 helped!",
        "Use a linear program for the radii.",
        "",
    )
    first, second = book.lessons
    assert (first.id, first.taught, first.gained) == ("1.0", 2, 2)
    assert first.text == "Scaling the radii by 1.05 helps."
    assert first.next_step == "step 1"
    assert second.text == "Use a linear program for the radii."


@given(st.lists(texts, max_size=12))
def test_every_lesson_is_counted_once(lessons):
    book = teach(*lessons)
    said = sum(1 for text in lessons if LessonBook().lessons == () and teach(text).lessons)
    assert sum(lesson.taught for lesson in book.lessons) == said
    again = teach(*lessons, *lessons)
    assert len(again.lessons) == len(book.lessons)


def test_a_lesson_that_keeps_failing_is_marked_and_no_longer_told():
    book = teach("Return zeros everywhere.", "Pack circles along the border.")
    for generation in (2, 3, 4):
        book.follow(["1.0", "9.9"], generation, gained=False)
    assert [lesson.id for lesson in book.failing(5)] == ["1.0"]
    assert [lesson.id for lesson in book.rank(5, 9)] == ["1.1"]
    book.follow(["1.0"], 5, gained=True)
    assert book.failing(5) == ()


def test_a_lesson_that_paid_is_worth_more_than_a_stale_one():
    paid = Lesson("1.0", "a", followed=2, paid=2, newest=9)
    assert paid.worth(10) > Lesson("1.1", "b", newest=9).worth(10)
    assert Lesson("1.2", "c", newest=9).worth(10) > Lesson("1.3", "c", newest=1).worth(60)


def test_lessons_come_back_from_plain_data_and_can_be_taken_over():
    (lesson,) = teach("Larger steps overshoot.").lessons
    assert Lesson.from_dict(lesson.as_dict()) == lesson
    (taken,) = take_over([lesson], "old-run")
    assert (taken.id, taken.origin, taken.newest) == ("0.0", "old-run", 0)
    assert take_over([taken], "new-run")[0].origin == "old-run"


def test_siblings_tell_gains_in_the_direction_of_the_problem():
    up = remember(note(1), note(2, best=0.5), note(3, best=None))
    assert [trial.gain for trial in up.siblings(PARENT, 9)] == [None, -0.5, 1.0]
    down = remember(note(1), direction=Direction.MINIMIZE)
    assert down.siblings(PARENT, 9)[0].gain == -1.0
    assert up.siblings(PARENT, 1)[0].reason == "it broke"
    assert up.siblings(AttemptKey(7, 7, 7), 9) == ()


def test_ideas_are_grouped_by_tag_with_their_outcomes():
    bad = Plan("worse", tags=("shape",))
    memory = remember(note(1), note(2, best=None), note(3, best=0.0, plan=bad))
    size, shape = memory.ideas(9)
    assert (size.tag, size.tried, size.gained, size.failed) == ("size", 2, 1, 1)
    assert size.best.gain == 1.0
    assert (shape.tag, shape.gained) == ("shape", 0)
    assert [idea.tag for idea in memory.failures(9)] == ["shape"]


def test_predictions_are_corrected_by_how_earlier_ones_came_true():
    honest = Plan("a", predicted_gain=1.0, tags=("honest",))
    boast = Plan("b", predicted_gain=1.5, tags=("boast",))
    notes = [note(n, best=2.0, plan=honest) for n in range(1, 9)]
    notes += [note(n, best=1.0, plan=boast) for n in range(9, 17)]
    calibration = remember(*notes).calibration()
    assert calibration.predictions == 16
    assert calibration.expect(honest) > calibration.expect(boast)
    assert Calibration().expect(boast) > Calibration().expect(honest)
    assert Calibration().expect(Plan("c")) == 0.0


@pytest.mark.parametrize(("failed", "rewrites"), [(7, False), (8, True)])
def test_a_model_whose_edits_keep_failing_is_asked_for_whole_programs(failed, rewrites):
    notes = [note(n, unapplied=1, best=None) for n in range(failed)]
    memory = remember(*notes)
    assert memory.prefers_rewrites() is rewrites
    memory.tell(note(99, editors=("another",)))
    assert not memory.prefers_rewrites()


def test_the_lessons_of_a_run_are_those_of_its_slots_and_those_it_took_over():
    summary = Summary("v", "time", "Loops are too slow.")
    old = Lesson("0.0", "Start from a grid.", origin="old")
    following = Plan("x", lessons=("1.0",))
    notes = [note(1, summary=summary), *(note(n, best=None, plan=following) for n in (2, 3, 4))]
    lessons = merge_notes(Direction.MAXIMIZE, notes, [old])
    assert [(lesson.text, lesson.keeps_failing) for lesson in lessons] == [
        ("Start from a grid.", False),
        ("Loops are too slow.", True),
    ]
