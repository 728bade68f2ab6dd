"""`evolve doctor`: what isolates programs on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evolve.cli.command import Result, command
from evolve.cli.options import Changes, read_settings
from evolve.display import Part, TextTable
from evolve.errors import ExitCode, SandboxError
from evolve.evaluation.cluster import examine_cluster
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
