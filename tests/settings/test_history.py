import pytest

from evolve.errors import UsageError
from evolve.settings import Settings, change_settings
from evolve.settings.history import Invocation, SettingsHistory, find_changes


def change(settings: Settings, **values: object) -> Settings:
    named = {name.replace("__", "."): value for name, value in values.items()}
    return change_settings(settings, named, where="test")


def invocation(number: int, generation: int, changes) -> Invocation:
    return Invocation(number, "2026-11-23T00:00:00+00:00", 1, "host", "0.1.0", generation, changes)


def test_changes_hold_from_their_generation_on():
    first = change(Settings(), budget__max_evaluations=20, loop__generations=5)
    second = change(first, budget__max_evaluations=40)
    third = change(second, budget__max_evaluations=None, loop__generations=9)
    invocations = [
        invocation(1, 0, {}),
        invocation(2, 3, find_changes(first, second)),
        invocation(3, 3, {}),
        invocation(4, 7, find_changes(second, third)),
    ]
    history = SettingsHistory(third, invocations)
    assert history.now is third
    assert [history.at(number) for number in (0, 2, 3, 6, 7, 99)] == [
        first, first, second, second, third, third,
    ]  # fmt: skip


def test_changes_name_old_and_new_values_of_settings_and_parameters():
    new = change(Settings(), loop__workers=3, parameters__count=9)
    changes = find_changes(Settings(), new)
    assert changes == {"loop.workers": (None, 3), "parameters.count": (None, 9)}
    assert invocation(1, 0, changes).describe_changes() == (
        "loop.workers none -> 3, parameters.count none -> 9"
    )
    assert find_changes(new, new) == {}


def test_a_change_of_what_is_no_setting_is_named_with_its_invocation():
    history = SettingsHistory(Settings(), [invocation(2, 4, {"loop.speed": (1, 2)})])
    with pytest.raises(UsageError, match=r"invocation 2 of the run: unknown key `loop.speed`"):
        history.at(3)
