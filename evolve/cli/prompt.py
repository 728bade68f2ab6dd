"""`evolve prompt`: what would be sent to the models."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from evolve.cli.options import AllowWeak, AsJson, Assignments, Model, SandboxName, read_settings
from evolve.display import one_line, say, say_json
from evolve.errors import UsageError


def prompt(
    problem: Annotated[Path, typer.Argument(help="Problem folder.", metavar="PROBLEM")],
    *,
    step: Annotated[
        str | None,
        typer.Option(
            help="edit, leap, plan, planned, agent, repair or summarize; by default all.",
            metavar="STEP",
        ),
    ] = None,
    model: Model = None,
    sandbox: SandboxName = None,
    allow_weak_sandbox: AllowWeak = False,
    assignments: Assignments = None,
    as_json: AsJson = False,
) -> None:
    """Print the prompts of a first slot, word for word; no model is asked."""
    from evolve.problem import load_problem
    from evolve.problem.gallery import find_problem, is_shipped
    from evolve.run.running import evaluate_initial
    from evolve.run.wiring import complete_settings, open_evaluators
    from evolve.search.previews import preview_prompts
    from evolve.steps.prompt import show_messages

    options = {
        "model": model or ["scripted"],
        "sandbox": sandbox,
        "allow_weak_sandbox": allow_weak_sandbox,
    }
    settings = complete_settings(read_settings(options, assignments, None))
    found = load_problem(find_problem(problem), settings.parameters)
    if not is_shipped(found):
        # Apart from the prompts, which may be piped.
        say(f"evaluator {one_line(found.evaluator)} (runs with your rights)", err=True)
    with closing(open_evaluators(found, settings)) as evaluators:
        evaluators.start()
        evaluators.wait()
        evaluation = evaluate_initial(found, evaluators)
        prompts = preview_prompts(found, settings, evaluation, evaluators.evaluate)
    if step is not None and step not in prompts:
        raise UsageError(f"--step: expected one of {', '.join(prompts)}, got {step!r}")
    chosen = prompts if step is None else {step: prompts[step]}
    if as_json:
        shown = {
            name: [{"role": message.role, "text": message.text} for message in messages]
            for name, messages in chosen.items()
        }
        say_json(shown)
        return
    for name, messages in chosen.items():
        if step is None:
            say(f"=== {name}\n")
        say(show_messages(messages))
