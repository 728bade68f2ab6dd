import dataclasses
from pathlib import Path

import pytest

from evolve.errors import UsageError
from evolve.settings import (
    Invocation,
    Settings,
    SettingsHistory,
    change_settings,
    find_changes,
    format_settings,
    known_keys,
    load_settings,
    parse_assignment,
    read_environment,
)
from evolve.settings.sections import ROLES


def test_written_settings_are_read_back_equal(tmp_path):
    changes = {
        "search.islands": 7,
        "budget.target": 2.5,
        "models.model": ['2*a "b"', "c"],
        "prices.openai/x": {"prompt": 0.5, "completion": 2},
        "endpoints.*": {"concurrency": 2, "api_base": "http://127.0.0.1:1/v1"},
        "parameters.n": 9,
    }
    settings = change_settings(Settings(), changes, where="test")
    path = tmp_path / "settings.toml"
    path.write_text(format_settings(settings))
    assert change_settings(Settings(), load_settings(path), where="file") == settings


def test_an_unknown_key_is_an_error_that_names_the_nearest_one():
    with pytest.raises(UsageError, match=r"--set: unknown key `search.ilands`; .*`search.islands`"):
        change_settings(Settings(), {"search.ilands": 2}, where="--set")


def test_a_key_without_its_section_is_found_by_its_name():
    with pytest.raises(UsageError, match=r"did you mean `search.islands`"):
        change_settings(Settings(), {"islands": 2}, where="--set")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("search.islands", "two", "expected a whole number, got 'two'"),
        ("search.islands", 0, "expected a whole number from 1 to 256, got 0"),
        ("search.islands", True, "expected a whole number, got True"),
        ("search.entropy", 1.5, "expected a number from 0 to 1, got 1.5"),
        ("search.entropy", float("nan"), "expected a number from 0 to 1"),
        ("budget.target", float("nan"), "expected a number that is finite, got nan"),
        ("budget.max_cost_usd", float("inf"), "expected a number of at least 0, got inf"),
        ("steps.form", "patch", "expected one of auto, edit, rewrite"),
        ("sandbox.allow_weak", 1, "expected true or false"),
        ("models.editor", [1], "expected a text or a list of texts, got"),
        ("prices.m", 0.1, "a table, which may have `prompt`, `completion`, `cached`, got 0.1"),
        ("prices.m", {"prompt": -1}, "`prompt`: expected a number of at least 0, got -1"),
        ("search.without", ["climb"], "expected one of bandit, confirmation, .*got 'climb'"),
        ("temperature.cook", 1.0, r"unknown key `cook`; known are `all`, `planner`, `editor`"),
        ("temperature.editor", "hot", "expected a number, got 'hot'"),
        ("effort.editor", 3, "expected a text, got 3"),
        ("endpoints.m", {"rpm": 1}, "unknown key `rpm`; known are `api_base`"),
    ],
)
def test_values_of_the_wrong_type_or_range_are_refused(key, value, words):
    with pytest.raises(UsageError, match=words):
        change_settings(Settings(), {key: value}, where="test")


def test_whole_numbers_count_as_numbers():
    settings = change_settings(Settings(), {"budget.max_cost_usd": 5}, where="test")
    assert settings.budget.max_cost_usd == 5.0


def test_assignments_are_read_as_toml_or_text():
    assert parse_assignment("a.b = 3") == ("a.b", 3)
    assert parse_assignment("a.b=gpt-4o") == ("a.b", "gpt-4o")
    with pytest.raises(UsageError, match=r"expected `section.name=value`, got 'nonsense'"):
        parse_assignment("nonsense")


def test_the_environment_sets_keys():
    assert read_environment({"EVOLVE_SET_SEARCH__ISLANDS": "3", "HOME": "/"}) == {
        "search.islands": 3
    }


def test_every_setting_is_described_and_read_by_some_module():
    import evolve

    package = Path(evolve.__file__).parent
    declared = package / "settings" / "sections.py"
    sources = [path.read_text() for path in package.rglob("*.py") if path != declared]
    for key, item in known_keys().items():
        name = key.partition(".")[2]
        assert item.metadata["about"], key
        used = any(f".{name}" in text for text in sources)
        assert used or f"self.{name}" in declared.read_text() or name in ROLES, key


def test_temperature_and_effort_are_set_by_role_or_for_all():
    changes = {"temperature.all": 1, "temperature.editor": 0.2, "effort.planner": "high"}
    settings = change_settings(Settings(), changes, where="t")
    assert [settings.find_for("temperature", role) for role in ROLES] == [1.0, 0.2, 1.0, 1.0]
    assert settings.find_for("effort", "planner") == "high"
    assert settings.find_for("effort", "editor") is None


def test_a_file_with_a_bare_value_is_refused(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text("islands = 3\n")
    with pytest.raises(UsageError, match=r"expected a section `\[islands\]`"):
        load_settings(path)


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError, match="loop"):
        Settings().loop = None


def test_one_model_is_the_short_form_of_a_list_and_an_empty_text_is_none():
    settings = change_settings(Settings(), {"models.model": "a", "models.editor": ""}, where="t")
    assert settings.models.names_for("editor") == ("a",)
    assert settings.models.names_for("leap") == ("a",)


def test_an_entry_of_a_free_section_is_removed_by_none():
    settings = change_settings(Settings(), {"prices.m": {"prompt": 1}}, where="t")
    assert change_settings(settings, {"prices.m": None}, where="t") == Settings()


def test_an_option_that_is_empty_is_no_missing_one():
    with pytest.raises(
        UsageError, match=r"options: `models\.model`: expected a text, got an empty one"
    ):
        change_settings(Settings(), {"models.model": [""]}, where="options")
    assert change_settings(Settings(), {"models.model": ""}, where="file").models.model == ()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://127.0.0.1:9127/v1 ", "http://127.0.0.1:9127/v1"),
        ("https://host/v1/", "https://host/v1"),
        ("http://host:8000/v1/chat/completions", "http://host:8000/v1"),
        ("http://me@host:8000/team@corp", "http://me@host:8000/team@corp"),
        ("", ""),
    ],
)
def test_an_address_is_the_base_of_all_requests(text, address):
    settings = change_settings(Settings(), {"models.api_base": text}, where="options")
    assert settings.models.api_base == address
    entry = {"endpoints.openai/a": {"api_base": text}}
    settings = change_settings(Settings(), entry, where="options")
    assert settings.endpoints["openai/a"]["api_base"] == address


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:9127/v1", "begins with http://.*got '127.0.0.1:9127/v1'; try http://127"),
        ("me:sesame-open@host/v1", "got 'host/v1'; try http://host/v1"),
        ("http:///v1", "begins with http://"),
        ("http://me:sesame-open@host/v1", "without a password.*EVOLVE_API_PASSWORD"),
    ],
)
def test_an_address_without_scheme_or_with_a_password_is_refused(address, words):
    for changes in (
        {"models.api_base": address},
        {"endpoints.openai/a": {"api_base": address}},
    ):
        with pytest.raises(UsageError, match=words) as caught:
            change_settings(Settings(), changes, where="options")
        assert "sesame" not in str(caught.value)


def test_settings_of_endpoints_may_be_tables():
    entry = {"rename": {"max_tokens": "max_new_tokens"}, "extra": {"num_ctx": 32768, "stop": ["a"]}}
    settings = change_settings(Settings(), {"endpoints.openai/a": entry}, where="--set")
    assert settings.endpoints["openai/a"] == entry
    with pytest.raises(UsageError, match="`extra`: expected a table, got 3"):
        change_settings(Settings(), {"endpoints.openai/a": {"extra": 3}}, where="--set")


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
