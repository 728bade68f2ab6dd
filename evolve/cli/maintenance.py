"""Commands for this machine and its files: `doctor`, `prune`, `repair`, `skills`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

from evolve.cli.app import Result, command
from evolve.cli.options import (
    RUNS,
    Changes,
    OutputFolder,
    Run,
    argument,
    option,
    read_settings,
    switch,
)
from evolve.display import Part, TextTable
from evolve.errors import ExitCode, SandboxError, UsageError
from evolve.evaluation.cluster import examine_cluster
from evolve.runs.derived import prune_run, repair_run
from evolve.runs.run_folder import find_run, write_text
from evolve.sandbox.backends import BACKENDS, REMEDIES, Isolation, prove_backends
from evolve.settings.sections import ClusterSettings

_Proof = dict[str, Any]


@command("Machine", "evolve doctor", settings=("cluster", "set"))
def doctor(
    *,
    changes: Changes,
) -> Result:
    """Run an escape test suite in every sandbox backend here, or on all nodes of a cluster.

    It reports which guarantees hold, and how to get those that do not.
    """
    settings = read_settings(changes)
    image = settings.sandbox.image
    if settings.cluster.address:
        return _examine_cluster(settings.cluster, image)
    found = {name: _describe(proof) for name, proof in prove_backends(image=image).items()}
    strong = [name for name, proof in found.items() if proof["strong"]]
    verdict = (
        f"ok: `auto` takes {strong[0]}"
        if strong
        else "weak: a run needs `--allow-weak-sandbox`, and its programs your trust"
    )
    rows = [[kind, *(_judge(proof, kind) for proof in found.values())] for kind in REMEDIES]
    shown: list[Part] = [
        TextTable(("guarantee", *found), rows),
        *(f"more: {text}" for text in _list_lacks(found)),
        verdict,
    ]
    data = {"auto": next(iter(strong), None), "backends": found}
    return Result(shown, data, ExitCode.OK if strong else ExitCode.MACHINE)


def _examine_cluster(cluster: ClusterSettings, image: str) -> Result:
    nodes = examine_cluster(cluster, image)
    rows = [
        [
            node["node"],
            *(f"{node['resources'].get(name, 0):g}" for name in ("CPU", "GPU")),
            node.get("kind"),
            *(_judge_backend(node.get("backends", {}).get(name, {})) for name in BACKENDS),
        ]
        for node in nodes
    ]
    weak = [row[0] for row in rows if "strong" not in row]
    verdict = (
        f"weak: {', '.join(weak)}: no programs run there without `--allow-weak-sandbox`"
        if weak
        else f"ok: {'the node isolates' if len(rows) == 1 else f'all {len(rows)} nodes isolate'} "
        "programs"
    )
    lines: dict[str, list[str]] = {}
    for node in nodes:
        for text in [node["error"]] if "error" in node else _list_lacks(node["backends"]):
            lines.setdefault(text, []).append(node["node"])
    more = [f"more: {', '.join(names)}: {text}" for text, names in lines.items()]
    table = TextTable(("node", "CPUs", "GPUs", "kind", *BACKENDS), rows)
    return Result([table, *more, verdict], nodes, ExitCode.MACHINE if weak else ExitCode.OK)


def _judge_backend(proof: _Proof) -> str:
    if "enforced" not in proof:
        return "-"
    return "strong" if Isolation("", proof["enforced"]).is_strong else "weak"


def _list_lacks(backends: Mapping[str, _Proof]) -> Iterator[str]:
    """Yields why backends cannot start, and how to get the guarantees that others lack."""
    for name, proof in backends.items():
        for text in proof["missing"] if "missing" in proof else [proof["reason"]]:
            yield text if text.startswith(name) else f"{name}: {text}"


def _describe(proof: Isolation | SandboxError) -> _Proof:
    if isinstance(proof, SandboxError):
        return {"works": False, "strong": False, "reason": str(proof)}
    return {"works": True, "strong": proof.is_strong, "enforced": list(proof.enforced),
            "missing": list(proof.missing)}  # fmt: skip


def _judge(proof: _Proof, kind: str) -> str:
    if not proof["works"]:
        return "-"
    return "enforced" if kind in proof["enforced"] else "MISSING"


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
