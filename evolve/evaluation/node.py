"""A node of a cluster: a run's frozen problem there, and one evaluator on it.

What comes and goes is JSON as bytes. A run sends no environment: what an evaluator needs of one is
that of its node.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evolve import __version__
from evolve.errors import EvolveError, MachineError, SandboxError
from evolve.evaluation.evaluator import EvaluationRequest, describe_error
from evolve.evaluation.pool import LocalEvaluators
from evolve.problem import load_problem
from evolve.records.plain import to_plain
from evolve.sandbox.backends import prove_backends
from evolve.scoring.timing import describe_kind, find_own_folder
from evolve.settings import Settings
from evolve.settings.sections import SandboxSettings

_FOLDERS = ("folder", "world")
# Frozen problems that a node keeps, those used last.
_KEPT_PROBLEMS = 32


def make_actor() -> type:
    """Returns the class of actors, made here: it travels whole, and reports where evolve lacks."""

    class Actor:
        evaluator: Any

        def prove(self, config: bytes, pack: list[Any]) -> bytes:
            import json
            import socket

            import ray

            node_id = ray.get_runtime_context().get_node_id()
            where = {"node_id": node_id, "node": f"{socket.gethostname()}-{node_id[:6]}"}
            try:
                from evolve.evaluation.node import open_evaluator
            except ImportError as error:
                what = f"evolve cannot be imported there ({error}); `pip install evolve` there"
                answer = {"error": "SandboxError", "message": what}
            else:
                self.evaluator, answer = open_evaluator(config, lambda: ray.get(pack[0]))
            return json.dumps({**where, **answer}).encode()

        def evaluate(self, request: bytes) -> bytes:
            from evolve.evaluation.node import evaluate

            return evaluate(self.evaluator, request)

        def examine(self, image: str) -> bytes:
            from evolve.evaluation.node import examine_node

            return examine_node(image)

    return Actor


def open_evaluator(
    config: bytes, fetch: Callable[[], bytes]
) -> tuple[LocalEvaluators | None, dict[str, Any]]:
    """Returns an evaluator of this node and what is to be known of it, or why there is none.

    Args:
        config: As `pack_problem` wrote it.
        fetch: Returns the archive of the frozen problem; not called where the node has it.
    """
    try:
        evaluator = _make_evaluator(json.loads(config), fetch)
        isolation = evaluator.wait()
    except EvolveError as error:
        return None, describe_error(error)
    return evaluator, {"kind": describe_kind(), "isolation": asdict(isolation)}


def _make_evaluator(config: Mapping[str, Any], fetch: Callable[[], bytes]) -> LocalEvaluators:
    """Returns an evaluator, which is not started.

    Raises:
        MachineError: The node is not as the run needs it.
        ProblemError: The problem cannot be read there.
    """
    if (found := list_versions()) != config["versions"]:
        raise MachineError(
            f"expected {_join(config['versions'])}, as where the run is, got {_join(found)}; "
            "install the same on all machines"
        )
    folder, parameters = _unpack(config["checksum"], fetch), config["parameters"]
    problem = load_problem(folder / "folder", parameters, evaluators=folder / "world")
    if lacking := [name for name in problem.environment if name not in os.environ]:
        raise MachineError(
            f"expected {lacking[0]}, which the evaluator reads, to be set where Ray is "
            f"started, got nothing; `export {lacking[0]}=...` there"
        )
    sandbox = {**config["sandbox"], "processes": 1}
    if problem.limits.get("gpus"):
        # Ray has set it to what it granted.
        sandbox["devices"] = f"device={os.environ.get('CUDA_VISIBLE_DEVICES', '')}"
    settings = Settings(parameters=parameters, sandbox=SandboxSettings(**sandbox))
    return LocalEvaluators(problem, settings)


def evaluate(evaluator: LocalEvaluators, message: bytes) -> bytes:
    """Returns the verdict on a program, or why there is none."""
    try:
        verdict = evaluator.serve(EvaluationRequest.from_message(json.loads(message)))
    except EvolveError as error:
        return json.dumps(describe_error(error)).encode()
    answer = {"verdict": to_plain(verdict), "printed": evaluator.printed}
    return json.dumps(answer, allow_nan=False).encode()


def examine_node(image: str) -> bytes:
    """Returns what `evolve doctor` shows of this node."""
    found = {
        name: {"reason": str(proof)} if isinstance(proof, SandboxError) else asdict(proof)
        for name, proof in prove_backends(image=image).items()
    }
    about = {"kind": describe_kind(), "versions": list_versions(), "backends": found}
    return json.dumps(about).encode()


def list_versions() -> dict[str, str]:
    """Returns the versions that have to be the same on all machines of a run."""
    return {"Python": ".".join(platform.python_version_tuple()[:2]), "evolve": __version__}


def pack_problem(config: Mapping[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """Returns a problem and its evaluator as an archive, and what else each node is sent.

    That is nothing of the environment, and no paths. Links that lead elsewhere stay links: so a
    run has what is too large for it.

    Args:
        config: Paths of both, and the settings that evaluators need.
    """
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in _FOLDERS:
            archive.add(config[name], name, filter=_strip)
    data = stream.getvalue()
    sent = {name: value for name, value in config.items() if name not in _FOLDERS}
    sent |= {"checksum": hashlib.sha256(data).hexdigest(), "versions": list_versions()}
    return data, sent


def _strip(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leaves out of an entry what makes archives of equal files differ."""
    if "__pycache__" in entry.name:
        return None
    entry.mtime = entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _unpack(checksum: str, fetch: Callable[[], bytes]) -> Path:
    """Returns the folder of a frozen problem, which a node has once for all its evaluators."""
    temporary = Path(tempfile.gettempdir())
    store = find_own_folder([temporary / f"evolve-{os.getuid()}"]) / "problems"
    folder = store / checksum
    try:
        store.mkdir(exist_ok=True)
        if not folder.is_dir():
            _sweep(store)
            draft = Path(tempfile.mkdtemp(dir=store))
            try:
                with tarfile.open(fileobj=io.BytesIO(fetch())) as archive:
                    archive.extractall(draft, filter="tar")
                # Another evaluator of the node may have been faster.
                with suppress(OSError):
                    draft.rename(folder)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        os.utime(folder)
    except OSError as error:
        raise MachineError(
            f"{store}: cannot be written: {error.strerror or error}; free the disk there, or set "
            "TMPDIR to a folder with room where Ray is started"
        ) from error
    for path in folder.rglob("*"):
        if not path.exists():
            raise MachineError(
                f"expected {path.readlink()} there, to which the run has a link since it is "
                "large, got nothing; mount or copy it at that path"
            )
    return folder


def _sweep(store: Path) -> None:
    """Removes the frozen problems that have not been used for longest."""
    by_use = sorted(store.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in by_use[_KEPT_PROBLEMS - 1 :]:
        shutil.rmtree(path, ignore_errors=True)


def _join(versions: Mapping[str, str]) -> str:
    return " and ".join(f"{name} {version}" for name, version in versions.items())
