"""Instructions for coding assistants: `skills`."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from evolve.cli.command import Result, command
from evolve.errors import UsageError
from evolve.runs.run_folder import write_text

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


@command(
    "Machine",
    examples=("evolve skills install --host claude-code",),
)
def skills(
    action: Annotated[str, typer.Argument(help="`install`.", metavar="install")],
    *,
    host: Annotated[
        str, typer.Option(help=f"Assistant: {', '.join(HOSTS)}.", metavar="NAME")
    ] = "agents",
    folder: Annotated[
        Path, typer.Option(help="Project that gets the skills.", metavar="DIR")
    ] = Path(),
    show: Annotated[bool, typer.Option("--print", help="Print them, and write nothing.")] = False,
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
