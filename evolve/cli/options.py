"""Options that several commands take, and the settings that they change."""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from evolve.errors import UsageError
from evolve.keys import PASSWORD, split_password

if TYPE_CHECKING:
    from evolve.settings import Settings

RUNS = Path("runs")


def argument(about: str, metavar: str) -> Any:
    """Returns an argument of a command: its help, and what it is called there."""
    return typer.Argument(help=about, metavar=metavar)


def option(about: str, metavar: str, *flags: str, least: float | None = None) -> Any:
    """Returns an option that takes a value."""
    return typer.Option(*flags, help=about, metavar=metavar, min=least)


def switch(about: str, *flags: str) -> Any:
    """Returns an option that is given or not."""
    return typer.Option(*flags, help=about)


Run = Annotated[str, argument("Run folder, its name in ./runs, or `latest`.", "RUN")]
ProblemPath = Annotated[Path, argument("Problem folder, or a name in the gallery.", "PROBLEM")]
RunDir = Annotated[Path | None, option("Run folder; by default a new one in ./runs.", "DIR")]
OutputFolder = Annotated[Path, option("A new or empty folder.", "DIR", "--output")]
Plain = Annotated[bool, switch("Print lines instead of a live view, as for a pipe.", "--plain")]
Trust = Annotated[
    bool, switch("Use the evaluator, commands and addresses of a run made elsewhere.", "--trust")
]


class SettingOption(NamedTuple):
    """An option that sets one key of the settings.

    Attributes:
        key: Of the setting.
        kind: Its type, None included; `bool` for a switch.
        metavar: Stands for the value in the help.
        help: One line.
    """

    key: str
    kind: Any
    metavar: str
    help: str

    def as_parameter(self, name: str) -> inspect.Parameter:
        """Returns the parameter from which Typer makes the option."""
        flags = [f"--{name.replace('_', '-')}"] if self.kind is bool or name == "set" else []
        parser = parse_seconds if name == "max_time" else None
        option = typer.Option(*flags, help=self.help, metavar=self.metavar or None, parser=parser)
        return inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=False if self.kind is bool else None,
            annotation=Annotated[self.kind, option],
        )


_Names = list[str] | None


def parse_seconds(text: str) -> float:
    """Returns the seconds of a time such as `90`, `90s`, `30m` or `8h`.

    Raises:
        UsageError: It is none.
    """
    factor = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:])
    try:
        return float(text if factor is None else text[:-1]) * (factor or 1.0)
    except ValueError:
        raise UsageError(
            f"--max-time: expected seconds, or a number with s, m or h, got {text!r}"
        ) from None


SETTING_OPTIONS = {
    "generations": SettingOption("loop.generations", int | None, "N", "Generations to run."),
    "seed": SettingOption("loop.seed", int | None, "N", "Seed of the run."),
    "strategy": SettingOption(
        "search.strategy",
        str | None,
        "NAME",
        "map-elites or pareto; or a baseline: hill-climb, best-of-n, random.",
    ),
    "workers": SettingOption("loop.workers", int | None, "N", "Model calls at a time."),
    "model": SettingOption(
        "models.model",
        _Names,
        "NAME",
        "Model of all roles, as LiteLLM names it: provider/model; repeat for several, 2*NAME for "
        "a weight.",
    ),
    "planner": SettingOption("models.planner", _Names, "NAME", "Model of the planner."),
    "editor": SettingOption("models.editor", _Names, "NAME", "Model of the editor."),
    "summarizer": SettingOption("models.summarizer", _Names, "NAME", "Model of the summarizer."),
    "api_base": SettingOption(
        "models.api_base", str | None, "URL", "Address of an OpenAI-compatible server."
    ),
    "sandbox": SettingOption(
        "sandbox.backend", str | None, "BACKEND", "auto, docker, bubblewrap or native."
    ),
    "sandbox_fresh": SettingOption(
        "sandbox.fresh", bool, "", "A new sandbox for each program: slower, stricter."
    ),
    "allow_weak_sandbox": SettingOption(
        "sandbox.allow_weak", bool, "", "Run although nothing isolates programs."
    ),
    "cluster": SettingOption(
        "cluster.address",
        str | None,
        "ADDRESS",
        "Evaluate on a Ray cluster: ray, or ray://HOST:10001.",
    ),
    "max_cost": SettingOption("budget.max_cost_usd", float | None, "USD", "Hard cap, US dollars."),
    "max_evaluations": SettingOption(
        "budget.max_evaluations", int | None, "N", "Hard cap, evaluations."
    ),
    "max_time": SettingOption(
        "budget.max_seconds", float | None, "TIME", "Hard cap: seconds, or 90s, 30m, 8h."
    ),
    "allow_broken_start": SettingOption(
        "loop.allow_broken_start", bool, "", "Begin although the start has no objective."
    ),
    "target": SettingOption("budget.target", float | None, "OBJECTIVE", "Stop at this objective."),
    "patience": SettingOption(
        "budget.patience", int | None, "N", "Stop after N evaluations without progress."
    ),
    "set": SettingOption("", _Names, "SECTION.NAME=VALUE", "Any setting, or parameters.NAME."),
}


@dataclass(frozen=True, slots=True)
class Changes:
    """The settings that a command line changes; options win over `--set`.

    Attributes:
        assigned: By `--set`.
        named: By options of their own.
    """

    assigned: Mapping[str, Any]
    named: Mapping[str, Any]

    def apply(self, settings: Settings) -> Settings:
        """Returns settings with these changes.

        Raises:
            UsageError: A key is unknown or a value does not fit.
        """
        from evolve.settings import change_settings

        settings = change_settings(settings, self.assigned, where="--set")
        return change_settings(settings, self.named, where="options")


def take_changes(given: dict[str, Any], names: Sequence[str]) -> Changes:
    """Takes the options that change settings out of what Typer has parsed."""
    from evolve.settings import parse_assignment

    assigned = dict(map(parse_assignment, given.pop("set", None) or []))
    if given.get("api_base"):
        # For this process and those that it starts; settings are kept and shown.
        given["api_base"], password = split_password(given["api_base"])
        if password:
            os.environ[PASSWORD] = password
    taken = {name: given.pop(name) for name in names if name != "set"}
    for name, value in taken.items():
        if value == "" or (isinstance(value, list) and "" in value):
            raise UsageError(
                f"--{name.replace('_', '-')}: expected {SETTING_OPTIONS[name].metavar}, got an "
                "empty text, as of a variable that is not set; leave the option out for the default"
            )
    return Changes(
        assigned,
        {
            SETTING_OPTIONS[name].key: value
            for name, value in taken.items()
            if value is not None and value is not False
        },
    )


def read_settings(
    changes: Changes, path: Path | None = None, base: Settings | None = None
) -> Settings:
    """Returns settings: a base or the defaults, then file, environment, `--set` and options.

    Raises:
        UsageError: A key is unknown or a value does not fit.
    """
    from evolve.settings import Settings, change_settings, load_settings, read_environment

    settings = base or Settings()
    if path is not None:
        settings = change_settings(settings, load_settings(path), where=str(path))
    settings = change_settings(settings, read_environment(os.environ), where="environment")
    return changes.apply(settings)


def name_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings by key: given by the names of options, or by the last part of their keys.

    Raises:
        UsageError: No setting has such a name, or several have it; or there is no run to replay.
    """
    named: dict[str, Any] = {}
    for name, value in options.items():
        option = SETTING_OPTIONS.get(name)
        key = _find_key(name) if option is None else option.key
        is_one_of_several = option is not None and option.kind == _Names and isinstance(value, str)
        if name == "max_time" and isinstance(value, str):
            named[key] = parse_seconds(value)
        elif name == "replay" and value is not None:
            from evolve.runs.run_folder import find_run

            named[key] = str(find_run(str(value), RUNS).resolve())
        elif value is not None:
            named[key] = [value] if is_one_of_several else value
    return named


def _find_key(name: str) -> str:
    """Returns the key that ends with a name."""
    from evolve.settings import known_keys

    by_end: dict[str, list[str]] = {}
    for key in known_keys():
        by_end.setdefault(key.rpartition(".")[2], []).append(key)
    found = by_end.get(name, [])
    if len(found) > 1:
        raise UsageError(f"{name}: several settings end so: {', '.join(found)}; use `settings`")
    if not found:
        near = difflib.get_close_matches(name, [*SETTING_OPTIONS, *by_end], n=1)
        hint = f"; did you mean `{near[0]}`?" if near else "; docs/reference/settings.md lists all"
        raise UsageError(f"{name}: no setting has this name{hint}")
    return found[0]
