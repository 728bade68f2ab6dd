from hypothesis import given
from hypothesis import strategies as st

from evolve.records import (
    INITIAL,
    Attempt,
    AttemptKey,
    Direction,
    Evaluation,
    Program,
    SourceFile,
    Status,
)
from evolve.source.ledger import LineLedger, build_ledger, diff_lines


def program(*lines: str) -> Program:
    return Program((SourceFile("initial.py", "\n".join(lines) + "\n"),))


def attempt(number: int, objective: float | None, *lines: str) -> Attempt:
    status = Status.ERROR if objective is None else Status.OK
    return Attempt(
        AttemptKey(number, 0, 0), 0, INITIAL, number, None, program(*lines),
        Evaluation(status, objective, seconds=1.0),
    )  # fmt: skip


START = attempt(0, 10.0, "alpha = 1", "beta = 2")
REMOVED = attempt(1, 12.0, "alpha = 1")
FAILED = attempt(2, None, "alpha = 1", "beta = 2", "gamma = 3")
WORSE = attempt(3, 9.0, "alpha = 1", "beta = 2", "gamma = 3", "delta = 4")


def ledger(direction: Direction = Direction.MAXIMIZE) -> LineLedger:
    return build_ledger([(one, START) for one in (REMOVED, FAILED, WORSE)], direction)


def test_only_lines_that_come_or_go_are_a_change():
    change = diff_lines(
        program("alpha = 1", "if alpha:", "    beta = 2", "else:", "    )"),
        program("if alpha:", "alpha  = 1", "beta = 2", "gamma = 3", "gamma = 3"),
    )
    assert change.added == ("gamma = 3", "gamma = 3")
    assert change.removed == ()


def test_a_line_is_known_with_the_gains_it_came_and_went_with():
    beta = ledger().look_up("  beta =  2")
    assert beta is not None
    assert (beta.added, beta.removed, beta.failed, beta.best) == (0, 1, 0, 2.0)
    gamma = ledger().look_up("gamma = 3")
    assert gamma is not None
    assert (gamma.added, gamma.failed, gamma.best, gamma.worst) == (2, 1, -1.0, -1.0)
    assert ledger().look_up("omega = 0") is None
    assert [entry.lines for entry in ledger().history("gamma = 3")] == [1, 2]


def test_a_gain_is_positive_where_the_objective_got_better():
    beta = ledger(Direction.MINIMIZE).look_up("beta = 2")
    assert beta is not None
    assert beta.best == -2.0


def test_lines_that_come_back_after_they_were_removed_are_named():
    found = ledger().find_returning(program("alpha = 1"), program("alpha = 1", "beta = 2"))
    assert [record.line for record in found] == ["beta = 2"]
    assert ledger().find_returning(program("alpha = 1"), program("alpha = 1", "gamma = 3")) == []


def test_what_was_tried_in_vain_and_what_paid_are_listed():
    tried = ledger().find_tried(program("alpha = 1"))
    assert [record.line for record in tried] == ["gamma = 3", "delta = 4"]
    assert [record.line for record in ledger().find_gains(5)] == ["beta = 2"]


def test_attempts_that_were_not_evaluated_teach_nothing():
    rejected = Attempt(
        AttemptKey(4, 0, 0), 0, INITIAL, 1, None, program("omega = 9"), Evaluation(Status.REJECTED)
    )
    told = ledger()
    told.tell(rejected, START)
    assert told.look_up("omega = 9") is None


@given(st.lists(st.sampled_from("abcdef")), st.lists(st.sampled_from("abcdef")))
def test_a_change_and_its_way_back_mirror_each_other(before, after):
    one, two = (program(*(f"line {name * 6}" for name in names)) for names in (before, after))
    assert diff_lines(one, two) == diff_lines(two, one)[::-1]
    assert len(after) - len(before) == len(diff_lines(one, two).added) - len(
        diff_lines(one, two).removed
    )
