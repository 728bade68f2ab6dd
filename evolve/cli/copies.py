"""Commands that write files: `fork`, `export`, `prune`, `repair`, `skills`."""

from __future__ import annotations

from contextlib import closing
from importlib import resources
from pathlib import Path
from shlex import quote
from typing import Annotated

from evolve.cli.command import Result, command
from evolve.cli.options import (
    RUNS,
    Changes,
    OutputFolder,
    Run,
    RunDir,
    Trust,
    argument,
    option,
    switch,
)
from evolve.errors import UsageError
from evolve.runs.derived import export_run, fork_run, prune_run, repair_run
from evolve.runs.run_folder import find_run, load_run, write_text
from evolve.store import Store


@command(
    "Run",
    "evolve fork latest --generation 10 --set search.islands=4",
    settings=("model", "api_base", "set"),
)
def fork(
    run: Run,
    *,
    generation: Annotated[
        int | None, option("Last generation to take; by default all.", "N")
    ] = None,
    run_dir: RunDir = None,
    trust: Trust = False,
    changes: Changes,
) -> Result:
    """Make a new run from a generation of another, with other settings."""
    source = find_run(run, RUNS)
    folder, last = fork_run(
        source, changes.apply, generation=generation, folder=run_dir, parent=RUNS, trusts=trust
    )
    shown = [
        f"run: {folder}: generations 0 to {last} of {source}",
        f"prompts may be changed in {folder / 'problem' / 'prompts'}",
        f"to continue: evolve resume {quote(str(folder))}",
    ]
    return Result(shown, {"run": str(folder), "source": str(source), "generation": last})


@command("Prove", "evolve export latest --output exported")
def export(run: Run, *, output: OutputFolder) -> Result:
    """Write a run as JSON Lines, its curve as CSV, its champions."""
    folder = find_run(run, RUNS)
    problem, settings = load_run(folder)
    with closing(Store.open_to_read(folder)) as store:
        written = [str(path) for path in export_run(store, problem, settings, output)]
    return Result(written, {"written": written})


@command("Machine")
def prune(
    run: Run,
    *,
    older_than: Annotated[int, option("Keep all of the last N generations.", "N", least=0)] = 0,
    larger_than: Annotated[int, option("Keep artifacts smaller than this.", "BYTES", least=0)] = 0,
) -> Result:
    """Drop what no prompt will show from a run; it can be resumed."""
    dropped = prune_run(find_run(run, RUNS), age=older_than, fewest_bytes=larger_than)
    return Result(
        f"dropped the artifacts of {dropped.artifacts} evaluations and the sources of "
        f"{dropped.sources} rejected programs: {dropped.bytes} bytes",
        dropped._asdict(),
    )


@command("Machine", "evolve repair broken --output repaired")
def repair(run: Run, *, output: OutputFolder) -> Result:
    """Recover a damaged run, up to its last whole generation, as a new one."""
    folder = find_run(run, RUNS)
    saved = repair_run(folder, output)
    left_out = [f"left out: {what}, which cannot be read" for what in saved.lost]
    if saved.calls or saved.evaluations:
        left_out.insert(
            0,
            f"left out: {saved.calls} calls and {saved.evaluations} evaluations of later "
            "generations; a resumed run makes them again",
        )
    shown = [
        *(f"damage: {finding}" for finding in saved.findings),
        f"run: {output}: generations 0 to {saved.generation} of {folder}",
        *left_out,
        f"to continue: evolve resume {quote(str(output))}",
    ]
    return Result(shown, {"run": str(output), **saved._asdict()})


# Where each assistant looks for skills in a project (agentskills.io; several read `.agents`, too).
HOSTS = {
    "agents": ".agents/skills",
    "claude-code": ".claude/skills",
    "codex": ".agents/skills",
    "copilot": ".github/skills",
    "gemini": ".gemini/skills",
    "opencode": ".opencode/skills",
}
_FILE = "SKILL.md"


@command("Machine", "evolve skills install --host claude-code")
def skills(
    action: Annotated[str, argument("`install`.", "install")],
    *,
    host: Annotated[str, option(f"Assistant: {', '.join(HOSTS)}.", "NAME")] = "agents",
    folder: Annotated[Path, option("Project that gets the skills.", "DIR")] = Path(),
    show: Annotated[bool, switch("Print them, and write nothing.", "--print")] = False,
) -> Result:
    """Teach a coding assistant to use evolve."""
    if action != "install":
        raise UsageError(f"skills: expected `install`, got {action!r}")
    if host not in HOSTS:
        raise UsageError(f"--host: expected one of {', '.join(HOSTS)}, got {host!r}")
    texts = {
        entry.name: (entry / _FILE).read_text("utf-8")
        for entry in sorted((resources.files("evolve") / "skills").iterdir(), key=str)
    }
    if show:
        return Result("\n".join(texts.values()), texts)
    written = []
    for name, text in texts.items():
        path = folder / HOSTS[host] / name / _FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
        written.append(str(path))
    return Result(written, {"written": written})
