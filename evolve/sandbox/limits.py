"""What every sandbox backend offers, in prose and types.

A `Sandbox` is a warm guest: an interpreter inside the isolation, with the declared packages
imported once. `open` forks a fresh child of it for one program: own workspace, own temporary
folders, own process tree. Everything of the child is dead and wiped when the session closes,
whatever it did. One sandbox serves one session at a time; a pool holds several.

A program's failure is a `ProgramError` with a status; a backend's own failure is a `SandboxError`.
The two are never mixed up: a backend on which any doubt falls restarts its guest before the next
session, and raises only when that fails as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# What makes a sandbox of each; strongest first: `auto` tries them in this order.
BACKENDS = {
    "docker": "evolve.sandbox.docker:make_docker",
    "bubblewrap": "evolve.sandbox.bubblewrap:make_bubblewrap",
    "native": "evolve.sandbox.native:make_native",
}
NAMES = ("auto", *BACKENDS)


@dataclass(frozen=True, slots=True)
class ProgramLimits:
    """What one program may use.

    Attributes:
        seconds: Wall-clock time of one call, and of importing the program, together.
        memory_mb: Memory of the whole process tree, beyond the warm guest's own.
        processes: Processes and threads at a time.
        workspace_mb: Files in the workspace and the temporary folders together.
        reply_mb: Size of one returned value.
        output_kb: How much standard output and error is kept.
        gpus: GPUs that evaluators ask a cluster for; their sandbox shows those alone.
        core: The only core that its processes may use; None for any.
        is_alone: Whether its first process may start no other; for programs held to a core.
        reserves: Whether it may reserve more addresses than memory, as virtual machines of
            languages do; the memory that it uses is bounded all the same.
        asks: Whether it may ask a language model.
    """

    seconds: float = 10.0
    memory_mb: int = 1024
    processes: int = 32
    workspace_mb: int = 64
    reply_mb: int = 64
    output_kb: int = 16
    gpus: int = 0
    core: int | None = None
    is_alone: bool = False
    reserves: bool = False
    asks: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A value that came back from the sandbox.

    Attributes:
        value: Plain data and NumPy arrays, decoded strictly; of a generator the last one before the
            deadline.
        seconds: Wall time of the call, measured outside.
    """

    value: Any
    seconds: float


@dataclass(frozen=True, slots=True)
class Isolation:
    """What a canary saw a backend enforce.

    Attributes:
        backend: Name of the backend.
        enforced: What was proven, in words: `network`, `files`, `processes`, `memory`, ...
        missing: What is not enforced here, each with the way to get it.
    """

    backend: str
    enforced: tuple[str, ...]
    missing: tuple[str, ...] = ()

    @property
    def is_strong(self) -> bool:
        """Returns whether network and host files are both out of reach."""
        return {"network", "files"} <= set(self.enforced)
