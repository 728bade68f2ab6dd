import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.records import TUNE, AttemptKey, Direction, Lesson, Plan, Status, Summary
from evolve.records.plain import from_plain, to_plain
from evolve.records.results import SlotNote
from evolve.steps.memory import KnownLesson, LessonBook, Memory, inherit_lessons
from evolve.steps.summarize import parse_summary

PARENT = AttemptKey(0, 0, 0)
texts = st.text("abc XYZ 0123456789.", max_size=60)


def note(generation: int, slot: int = 0, *, best: float | None = 2.0, **fields) -> SlotNote:
    made = SlotNote(
        generation=generation,
        slot=slot,
        key=AttemptKey(generation, slot, 0),
        parent=PARENT,
        plan=Plan("change it", tags=("size",)),
        before=1.0,
        objective=best,
        seconds=0.5,
        attempts=1,
        unapplied=0,
        status=Status.OK if best is not None else Status.ERROR,
        reason="" if best is not None else "it broke",
        editors=("model",),
    )
    return made._replace(**fields)


def remember(*notes: SlotNote, direction: Direction = Direction.MAXIMIZE) -> Memory:
    memory = Memory(direction)
    for one in notes:
        memory.add_slot(one)
    return memory


def teach(*claims: str) -> LessonBook:
    book = LessonBook()
    for number, claim in enumerate(claims):
        book.teach(1, number, Lesson(claim, f"evidence {number}", tags=("t",)))
    return book


class TestLessonBook:
    def test_lessons_that_say_the_same_are_merged(self):
        first, second = teach(
            "Scaling the radii by 1.05 helps.",
            "Scaling radii by 1.1 helped!",
            "Use a linear program for the radii.",
            "",
        ).lessons
        assert (first.id, first.taught) == ("1.0", 2)
        assert first.lesson.evidence == "evidence 1"
        assert second.lesson.claim == "Use a linear program for the radii."

    def test_a_warning_is_not_merged_with_a_recommendation(self):
        book = teach("Scaling the radii helps.")
        book.teach(2, 0, Lesson("Scaling the radii does not help.", works=False))
        assert [known.lesson.works for known in book.lessons] == [True, False]

    @given(st.lists(texts, max_size=12))
    def test_every_lesson_is_counted_once(self, claims):
        book = teach(*claims)
        said = sum(1 for text in claims if teach(text).lessons)
        assert sum(known.taught for known in book.lessons) == said
        assert len(teach(*claims, *claims).lessons) == len(book.lessons)

    def test_a_lesson_that_led_to_new_bests_comes_before_one_that_did_not(self):
        book = teach("Return zeros everywhere.", "Pack circles along the border.")
        for generation in (2, 3, 4):
            book.follow(["1.0", "9.9"], generation, leads=False)
            book.follow(["1.1"], generation, leads=True)
        assert [known.id for known in book.rank(5, 9)] == ["1.1", "1.0"]

    def test_an_outdated_lesson_leaves_the_prompts(self):
        book = teach("Return zeros everywhere.", "Pack circles along the border.")
        book.drop(["1.0", "7.7"])
        assert [known.id for known in book.rank(2, 9)] == ["1.1"]

    def test_a_warning_that_was_obeyed_does_not_sink(self):
        warning = KnownLesson("1.0", Lesson("Loops are slow.", works=False), followed=5, newest=4)
        fresh = KnownLesson("1.1", Lesson("Grids work."), followed=5, newest=4)
        assert warning.worth(5) > fresh.worth(5)

    def test_lessons_come_back_from_plain_data_and_can_be_inherited(self):
        (known,) = teach("Larger steps overshoot.").lessons
        assert from_plain(KnownLesson, to_plain(known)) == known
        (taken,) = inherit_lessons([known], "old-run")
        assert (taken.id, taken.origin, taken.newest) == ("0.0", "old-run", 0)
        assert inherit_lessons([taken], "new-run")[0].origin == "old-run"


class TestMemory:
    def test_gains_are_in_the_direction_of_the_problem(self):
        up = remember(note(1), note(2, best=0.5), note(3, best=None))
        assert [one.gain for one in up.tried] == [1.0, -0.5, None]
        assert [one.leads for one in up.tried] == [True, False, False]
        down = remember(
            note(1), note(2, best=0.5), note(3, best=0.5 - 1e-9), direction=Direction.MINIMIZE
        )
        assert [one.gain for one in down.tried] == pytest.approx([-1.0, 0.5, 0.5])
        assert [one.leads for one in down.tried] == [False, True, False]
        assert up.tried[2].note.reason == "it broke"

    def test_what_a_broken_evaluator_says_is_not_remembered(self):
        memory = remember(
            note(1, best=None, status=Status.EVALUATOR_FAILED, reason="labels[7] == 0.731")
        )
        assert "0.731" not in memory.tried[0].note.reason

    def test_samples_of_tuning_are_summed_up_by_program(self):
        plan = Plan("tune", operator=TUNE)
        memory = remember(
            note(1, best=1.5, plan=plan, attempts=8), note(2, best=1.25, plan=plan, attempts=4)
        )
        (record,) = memory.tuned
        assert (record.samples, record.before, record.best) == (12, 1.0, 1.5)
        assert memory.tried == ()

    @pytest.mark.parametrize(("failed", "rewrites"), [(7, False), (8, True)])
    def test_a_model_whose_edits_keep_failing_is_asked_for_whole_programs(self, failed, rewrites):
        memory = remember(*(note(n, unapplied=1, best=None) for n in range(failed)))
        assert memory.prefers_rewrites is rewrites
        memory.add_slot(note(99, editors=("another",)))
        assert not memory.prefers_rewrites

    def test_following_a_lesson_pays_where_it_gives_a_new_best(self):
        memory = remember()
        memory.add_summary(1, Summary("v", (Lesson("Grids work."),)))
        following = Plan("x", lessons=("1.0",))
        for generation, best in ((2, 3.0), (3, 2.5)):
            memory.add_slot(note(generation, best=best, plan=following))
        (known,) = memory.book.lessons
        assert (known.followed, known.new_bests) == (2, 1)


class TestSummaries:
    def test_a_summary_holds_at_most_three_lessons(self):
        lessons = [{"claim": f"c{n}", "works": n % 2 == 0, "tags": "a, b"} for n in range(5)]
        text = str({"verdict": "v", "lessons": lessons}).replace("'", '"')
        text = text.replace("True", "true").replace("False", "false")
        summary = parse_summary(f"Here: {text}")
        assert summary == Summary(
            "v",
            tuple(Lesson(f"c{n}", works=n % 2 == 0, tags=("a", "b")) for n in range(3)),
        )

    @pytest.mark.parametrize(
        ("text", "claims"),
        [
            ('{"lesson": "one"}', ["one"]),
            ('{"verdict": "v", "lessons": ["one", 3, {"claim": ""}]}', ["one"]),
            ('{"verdict": "v", "lessons": [{"claim": "one", "works": "false"}, {"cl', ["one"]),
            ('{"verdict": "v"}', []),
            ('{"summary": {"Lessons": [{"Claim": ["one"]}]}} {"a": 1}', ["one"]),
            ('{"lesson": "draft"} {"lesson": "one"}', ["one"]),
        ],
    )
    def test_other_shapes_are_read_as_far_as_they_say_something(self, text, claims):
        summary = parse_summary(text)
        assert [lesson.claim for lesson in summary.lessons] == claims

    @pytest.mark.parametrize("text", ["", "It went well.", "{}", '{"lessons": []}'])
    def test_a_reply_without_verdict_and_lessons_is_no_summary(self, text):
        assert parse_summary(text) is None

    def test_a_long_claim_is_cut_at_a_sentence(self):
        claim = "Grids work. " * 120
        (lesson,) = parse_summary('{"lessons": ["' + claim + '"]}').lessons
        assert lesson.claim.endswith("work.")
        assert len(lesson.claim) <= 1000
