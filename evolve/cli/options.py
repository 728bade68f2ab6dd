"""Options that several commands take, and the settings that they change."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from evolve.settings import Settings

RUNS = Path("runs")
# Named in the options, held in the settings: the option sets the key.
OPTION_KEYS = {
    "generations": "loop.generations",
    "seed": "loop.seed",
    "strategy": "search.strategy",
    "workers": "loop.workers",
    "model": "models.model",
    "planner": "models.planner",
    "editor": "models.editor",
    "summarizer": "models.summarizer",
    "leap": "models.leap",
    "api_base": "models.api_base",
    "sandbox": "sandbox.backend",
    "sandbox_fresh": "sandbox.fresh",
    "allow_weak_sandbox": "sandbox.allow_weak",
    "max_cost": "budget.max_cost_usd",
    "max_evaluations": "budget.max_evaluations",
    "max_time": "budget.max_seconds",
    "target": "budget.target",
    "patience": "budget.patience",
}

Generations = Annotated[int | None, typer.Option(help="Generations to run.", metavar="N")]
StrategyName = Annotated[
    str | None,
    typer.Option(
        help="map-elites, curiosity, tournament, greedy or uniform; baselines: hill-climb, "
        "best-of-n, random.",
        metavar="NAME",
    ),
]
Workers = Annotated[int | None, typer.Option(help="Model calls at a time.", metavar="N")]
Model = Annotated[
    list[str] | None,
    typer.Option(
        help="Model of all roles, as LiteLLM names it: provider/model; several by repeating, "
        "2*NAME for a weight.",
        metavar="NAME",
    ),
]
Planner = Annotated[list[str] | None, typer.Option(help="Model of the planner.", metavar="NAME")]
Editor = Annotated[list[str] | None, typer.Option(help="Model of the editor.", metavar="NAME")]
Summarizer = Annotated[
    list[str] | None, typer.Option(help="Model of the summarizer.", metavar="NAME")
]
Leap = Annotated[
    list[str] | None,
    typer.Option(help="Model of leaps on a stall; by default the editor's.", metavar="NAME"),
]
ApiBase = Annotated[
    str | None, typer.Option(help="Address of an OpenAI-compatible server.", metavar="URL")
]
SandboxName = Annotated[
    str | None, typer.Option(help="auto, docker, bubblewrap or native.", metavar="BACKEND")
]
SandboxFresh = Annotated[
    bool, typer.Option("--sandbox-fresh", help="A new sandbox for each program: slower, colder.")
]
AllowWeak = Annotated[
    bool, typer.Option("--allow-weak-sandbox", help="Run although nothing isolates programs.")
]
MaxCost = Annotated[float | None, typer.Option(help="Hard cap, US dollars.", metavar="USD")]
MaxEvaluations = Annotated[int | None, typer.Option(help="Hard cap, evaluations.", metavar="N")]
MaxTime = Annotated[
    str | None, typer.Option(help="Hard cap, seconds, or such as 90s, 30m, 8h.", metavar="TIME")
]
Patience = Annotated[
    int | None,
    typer.Option(help="Stop after so many evaluations without progress.", metavar="N"),
]
Target = Annotated[float | None, typer.Option(help="Stop at this objective.", metavar="OBJECTIVE")]
Detach = Annotated[
    bool,
    typer.Option("--detach", help="Go on without this terminal; `evolve attach` shows the run."),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust", help="Use the evaluator, commands and addresses of a run made elsewhere."
    ),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any setting, or parameters.NAME.", metavar="SECTION.NAME=VALUE"),
]


Run = Annotated[
    str, typer.Argument(help="Run folder, its name in ./runs, or `latest`.", metavar="RUN")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def read_settings(
    options: dict[str, Any],
    assignments: list[str] | None,
    path: Path | None,
    base: Settings | None = None,
) -> Settings:
    """Returns settings: a base or defaults, then file, environment, `--set` and options.

    Raises:
        UsageError: A key is unknown or a value does not fit.
    """
    from evolve.settings import (
        Settings,
        change_settings,
        load_settings,
        parse_assignment,
        read_environment,
    )

    settings = base or Settings()
    if path is not None:
        settings = change_settings(settings, load_settings(path), where=str(path))
    settings = change_settings(settings, read_environment(os.environ), where="environment")
    chosen = dict(parse_assignment(text) for text in assignments or [])
    settings = change_settings(settings, chosen, where="--set")
    return change_settings(settings, read_options(options), where="options")


def read_options(options: dict[str, Any]) -> dict[str, Any]:
    """Returns the changes of settings that options ask for, by key.

    Raises:
        UsageError: A time cannot be read.
    """
    changes = {
        OPTION_KEYS[name]: value
        for name, value in options.items()
        if value is not None and value is not False
    }
    if "budget.max_seconds" in changes:
        changes["budget.max_seconds"] = _parse_time(changes["budget.max_seconds"])
    return changes


def _parse_time(text: str) -> float:
    from evolve.errors import UsageError

    factor = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:])
    try:
        return float(text if factor is None else text[:-1]) * (factor or 1.0)
    except ValueError:
        raise UsageError(
            f"--max-time: expected seconds, or a number with s, m or h, got {text!r}"
        ) from None
