"""Where evaluations run: a Ray cluster, with an evaluator on each core that it grants."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from evolve.display import count_of
from evolve.errors import EvaluatorError, MachineError, UsageError
from evolve.evaluation.evaluator import (
    EvaluationRequest,
    IdleProcess,
    end_process,
    make_error,
    send_line,
    start_process,
)
from evolve.evaluation.pool import Evaluators
from evolve.keys import cut_keys
from evolve.problem import Problem
from evolve.records import Evaluation
from evolve.records.plain import from_plain
from evolve.sandbox.backends import Isolation
from evolve.sandbox.guest.wire import ProgramLimits
from evolve.settings import Settings
from evolve.settings.sections import ClusterSettings

_ADDRESS = re.compile(r"ray|ray://[^\s/@]+:\d+|[^\s/@:]+:\d+")
_MB = 1 << 20
_KEPT_LINES = 20
_CLOSE_SECONDS = 10.0
# The status of the cluster comes every second.
_SILENT_SECONDS = 5.0
# What Ray can still tell from zero.
_LEAST_AMOUNT = 1e-4
_TRACEBACK = "Traceback (most recent call last)"


class RayEvaluators(Evaluators):
    """A Ray cluster, spoken to by a process of its own (`evolve.evaluation.driver`).

    Args:
        problem: What is evaluated.
        settings: Which cluster, what an evaluator asks for and needs to know there, and how many
            there may be.

    Raises:
        UsageError: The address has another form, or Ray is not installed.
    """

    waits_for = "waiting for a node that proves its sandbox"

    def __init__(self, problem: Problem, settings: Settings) -> None:
        if problem.asks:
            raise UsageError(
                f"--cluster: expected a problem that asks no model, got {problem.name}, which is "
                "evaluated on this machine: leave --cluster out"
            )
        expect_cluster(settings.cluster)
        super().__init__()
        self._config = {
            **asdict(settings.cluster),
            "demand": find_demand(problem, settings.cluster),
            "evaluators": settings.sandbox.processes,
            "evaluator": {
                "folder": problem.folder,
                "world": problem.world,
                "parameters": dict(settings.parameters),
                "sandbox": asdict(settings.sandbox),
            },
        }
        self._lock = threading.Lock()
        self._ready: Future[Isolation] = Future()
        self._asked: dict[int, Future[Evaluation]] = {}
        self._number = 0
        self._failure: Exception | None = None
        self._process: IdleProcess | None = None
        self._log: deque[str] = deque(maxlen=_KEPT_LINES)
        self.kind = settings.cluster.kind
        self._status = (0, 0, 0)
        self._heard = time.monotonic()
        self._lack = ""

    def start(self, idle: IdleProcess | None = None) -> None:
        """Begins to connect; a process of this machine is of no use."""
        if idle is not None:
            end_process(idle)
        self._process = _start_driver()
        send_line(self._process, self._config)
        for read in (self._read_answers, self._read_log):
            threading.Thread(target=read, args=(self._process,), daemon=True).start()

    def wait(self) -> Isolation:
        """Waits until the first evaluator is ready on some node."""
        try:
            return self._ready.result()
        except KeyboardInterrupt as error:
            if self._lack:
                error.add_note(self._lack)
            raise

    def serve(self, request: EvaluationRequest) -> Evaluation:
        """Evaluates a program on the node that has an evaluator free, and waits for one."""
        future: Future[Evaluation] = Future()
        with self._lock:
            if self._failure is not None:
                raise self._failure
            self._number += 1
            self._asked[self._number] = future
            self._send({"id": self._number, **request.as_message()})
        return future.result()

    def describe(self) -> str:
        """Returns how many nodes and evaluators there are, and evaluations that wait for one."""
        silence = time.monotonic() - self._heard
        if silence > _SILENT_SECONDS:
            return f"no contact with the cluster for {silence:.0f} s"
        nodes, evaluators, waiting = self._status
        return f"{count_of(nodes, 'node')}, {count_of(evaluators, 'evaluator')}, {waiting} queued"

    def cut(self) -> None:
        """Ends the evaluations that run, and those that wait."""
        with self._lock:
            self._send({"cut": True})

    def close(self) -> None:
        """Ends all evaluators and leaves the cluster."""
        self._fail(EvaluatorError("cluster: the connection is closed"))
        if self._process is not None:
            if self._process.stdin is not None:
                with suppress(BrokenPipeError):
                    self._process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_CLOSE_SECONDS)
            end_process(self._process)

    def _send(self, message: Mapping[str, Any]) -> None:
        if self._process is not None:
            send_line(self._process, message)

    def _read_answers(self, process: IdleProcess) -> None:
        for line in process.stdout or ():
            self._receive(json.loads(line))
        process.wait()
        # Ray's own last words say nothing more; a fault of ours leaves a traceback.
        log = "\n".join(self._log)
        reason = f"\n{log[log.index(_TRACEBACK) :]}" if _TRACEBACK in log else ""
        self._fail(
            MachineError(
                "cluster: the connection to Ray was lost; when the cluster can be reached again, "
                f"`evolve resume` continues the run{reason}"
            )
        )

    def _receive(self, message: Mapping[str, Any]) -> None:
        if "say" in message:
            self.tell(message["say"])
        elif "lack" in message:
            self._lack = message["lack"]
            self.tell(self._lack)
        elif "status" in message:
            self._heard = time.monotonic()
            nodes, evaluators, waiting = message["status"]
            self._status = (nodes, evaluators, waiting)
        elif "kind" in message:
            self.kind = message["kind"]
        elif "ready" in message:
            self._ready.set_result(from_plain(Isolation, message["ready"]))
        elif "fatal" in message:
            self._fail(_name_cluster(message["fatal"]))
        else:
            with self._lock:
                future = self._asked.pop(message["id"])
            if "error" in message:
                future.set_exception(_name_cluster(message))
            else:
                self.printed = message["printed"]
                future.set_result(from_plain(Evaluation, message["verdict"]))

    def _read_log(self, process: IdleProcess) -> None:
        for line in process.stderr or ():
            self._log.append(cut_keys(line.decode(errors="replace").rstrip()))

    def _fail(self, error: Exception) -> None:
        """Ends all evaluations that run or are asked for later, the first reason being it."""
        with self._lock:
            if self._failure is not None:
                return
            self._failure = error
            asked, self._asked = self._asked, {}
        for future in asked.values():
            future.set_exception(error)
        if not self._ready.done():
            self._ready.set_exception(error)


def examine_cluster(settings: ClusterSettings, image: str) -> list[dict[str, Any]]:
    """Returns what each node is, and what every sandbox backend was proven to enforce there.

    Args:
        settings: Which cluster.
        image: Container image for the backend `docker`.

    Raises:
        UsageError: No cluster can be asked for from here.
        MachineError: There is none at the address.
    """
    expect_cluster(settings)
    asked = json.dumps({"address": settings.address, "image": image}) + "\n"
    process = _start_driver()
    out, log = process.communicate(asked.encode())
    if not out.strip():
        raise MachineError(f"cluster: {cut_keys(log.decode(errors='replace'))}")
    answer = json.loads(out)
    if "fatal" in answer:
        raise _name_cluster(answer["fatal"])
    nodes: list[dict[str, Any]] = answer["nodes"]
    return nodes


def _start_driver() -> IdleProcess:
    # No key of any provider is among it.
    return start_process("driver", tuple(name for name in os.environ if name.startswith("RAY_")))


def expect_cluster(settings: ClusterSettings) -> None:
    """Checks that a cluster can be asked for from here, before a run begins.

    Raises:
        UsageError: The address has another form, or Ray is not installed.
    """
    if not _ADDRESS.fullmatch(settings.address):
        raise UsageError(
            "--cluster: expected `ray` for the cluster of this machine or of RAY_ADDRESS, or "
            f"an address such as ray://host:10001, got {settings.address!r}"
        )
    if importlib.util.find_spec("ray") is None:
        raise UsageError(
            "--cluster: expected the package `ray`, which is not installed here; "
            "`pip install 'evolve[ray]'`"
        )
    parse_resources(settings)


def parse_resources(settings: ClusterSettings) -> dict[str, float]:
    """Returns what the settings say that an evaluator asks for.

    Raises:
        UsageError: Something is not written as `NAME=AMOUNT`, is no amount for Ray, or is there
            twice.
    """
    found: dict[str, float] = {}
    for text in settings.resources:
        name, _, number = text.partition("=")
        name = name.strip()
        try:
            amount = float(number)
        except ValueError:
            amount = math.nan
        expected = ""
        if not name or not (amount == 0 or _LEAST_AMOUNT <= amount < math.inf):
            expected = f"NAME=AMOUNT, as in `CPU=4`, with 0 or at least {_LEAST_AMOUNT:f}".rstrip(
                "0"
            )
        elif name == "GPU" and amount > 1 and not amount.is_integer():
            expected = "a whole number of GPUs, or a part of one"
        elif name in found:
            expected = f"{name} once"
        if expected:
            raise UsageError(f"cluster.resources: expected {expected}, got {text!r}")
        found[name] = amount
    return found


def find_demand(problem: Problem, settings: ClusterSettings) -> dict[str, float]:
    """Returns what each evaluator asks Ray for, memory in bytes."""
    usual = {"CPU": 1.0, "memory": problem.limits.get("memory_mb", ProgramLimits().memory_mb)}
    demand = usual | parse_resources(settings)
    gpus = problem.limits.get("gpus", 0)
    return demand | {"memory": demand["memory"] * _MB} | ({"GPU": gpus} if gpus else {})


def _name_cluster(answer: Mapping[str, Any]) -> Exception:
    """Returns an error of the cluster's, which its message names."""
    text = answer["message"].removeprefix("cluster: ")
    return make_error({**answer, "message": f"cluster: {text}"})
