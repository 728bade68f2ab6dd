"""The process that speaks to Ray for a run: requests line by line, answers as they come.

A process of its own, since Ray takes over signals, prints where it likes, and aborts the whole
process when its cluster is gone; and since it tells the cluster its environment's and command's
words, none of which are here.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import re
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from evolve.display import count_of
from evolve.errors import (
    EvaluationCutError,
    EvaluatorError,
    EvolveError,
    MachineError,
    SandboxError,
    UsageError,
)
from evolve.evaluation.evaluator import describe_error, make_error
from evolve.evaluation.node import make_actor, pack_problem
from evolve.records import Evaluation, Status
from evolve.records.plain import to_plain

# A program that takes its node with it so often has crashed.
_STRIKES = 2
_LOOK_SECONDS = 1.0
_CONNECT_SECONDS = 90.0
_EXAMINE_SECONDS = 120.0
# How long there may be no evaluator, or no answer, until a run says so. Where nodes have room, the
# sandbox of one may still be proven.
_SILENT_SECONDS = 5.0
_BUSY_SECONDS = 20.0
# Nodes that an autoscaler started have it.
_SCALED = "ray.io/node-group"
_MB = 1 << 20
_WEAK = SandboxError.__name__

Write = Callable[[Mapping[str, Any]], None]
"""Writes an answer."""


def main() -> None:
    """Serves evaluations until standard input ends, or examines all nodes."""
    write = partial(_write_line, os.dup(1))
    os.dup2(2, 1)
    # What is asked of Ray without a connection would start a cluster here.
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    config = json.loads(sys.stdin.buffer.readline())
    code = 0
    try:
        if "image" in config:
            write({"nodes": examine_nodes(config, write)})
        else:
            asyncio.run(Driver(config, write).serve())
    except EvolveError as error:
        write({"fatal": describe_error(error)})
    except Exception:  # noqa: BLE001 - whoever reads the last lines of the log is to see it
        traceback.print_exc()
        code = 1
    finally:
        if "ray" in sys.modules:
            sys.modules["ray"].shutdown()
        # The interpreter's own end waits for Ray's threads.
        os._exit(code)


def _write_line(answers: int, message: Mapping[str, Any]) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(answers, data) :]


def examine_nodes(config: Mapping[str, Any], write: Write) -> list[dict[str, Any]]:
    """Returns what `evolve doctor` shows of each node.

    Raises:
        MachineError: There is no cluster at the address.
    """
    ray = connect(config["address"], write)
    actor = ray.remote(make_actor())
    nodes = [node for node in ray.nodes() if node["Alive"]]
    labels = [{"ray.io/node-id": node["NodeID"]} for node in nodes]
    handles = [actor.options(num_cpus=0, label_selector=one).remote() for one in labels]
    asked = [handle.examine.remote(config["image"]) for handle in handles]
    found = []
    for node, reference in zip(nodes, asked, strict=True):
        about = {"node": name_node(node), "resources": node["Resources"]}
        try:
            about |= json.loads(ray.get(reference, timeout=_EXAMINE_SECONDS))
        except ray.exceptions.RayError as error:
            about["error"] = str(error).strip()
        found.append(about)
    return found


def name_node(node: Mapping[str, Any]) -> str:
    """Returns the name of a node for people, of which several may be on one host."""
    return f"{node['NodeManagerHostname']}-{node['NodeID'][:6]}"


@dataclass(slots=True, eq=False)
class PlacedEvaluator:
    """An evaluator on a node.

    Attributes:
        handle: Of its actor.
        node_id: Of its node, as Ray has it.
        node: Name of that for people.
        kind: What kind of machine it is.
    """

    handle: Any
    node_id: str = ""
    node: str = ""
    kind: str = ""


class Driver:
    """Serves the evaluations of one run.

    Args:
        config: The first line: `address`, what an evaluator asks for, and its configuration.
        write: Writes an answer.
    """

    def __init__(self, config: Mapping[str, Any], write: Write) -> None:
        self._config = config
        self._demand: dict[str, float] = config["demand"]
        self._write = write
        self._ray: Any = None
        self._idle: asyncio.LifoQueue[PlacedEvaluator] = asyncio.LifoQueue()
        self._alive: set[PlacedEvaluator] = set()
        self._busy: set[PlacedEvaluator] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._starts: set[asyncio.Task[None]] = set()
        self._starting = self._waiting = 0
        self._last_end = ""
        self._refused: dict[str, Mapping[str, Any]] = {}
        self._kind = str(config["kind"])
        self._nodes: dict[str, str] = {}
        self._without_since = time.monotonic()
        self._is_proven = self._says_none = False
        self._ended: asyncio.Future[None]

    async def serve(self) -> None:
        """Connects, and serves until standard input ends or nothing can be evaluated."""
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        self._ray = connect(self._config["address"], self._write)
        self._say(f"connected to Ray at {self._ray.get_runtime_context().gcs_address}")
        packed, config = pack_problem(self._config["evaluator"])
        self._pack = [self._ray.put(packed)]
        self._node_config = json.dumps(config).encode()
        self._actor = self._ray.remote(make_actor())
        threading.Thread(target=self._read, args=(loop,), daemon=True).start()
        self._grow()
        watching = loop.create_task(self._watch())
        await asyncio.wait({self._ended, watching}, return_when=asyncio.FIRST_COMPLETED)
        await (watching if watching.done() else self._ended)

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        for line in sys.stdin.buffer:
            loop.call_soon_threadsafe(self._receive, line)
        loop.call_soon_threadsafe(self._ended.set_result, None)

    def _receive(self, line: bytes) -> None:
        request = json.loads(line)
        if "cut" in request:
            for task in self._tasks:
                task.cancel()
            return
        task = asyncio.get_running_loop().create_task(self._serve_one(request.pop("id"), request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve_one(self, number: int, request: Mapping[str, Any]) -> None:
        try:
            answer = await self._evaluate(json.dumps(request).encode())
        except asyncio.CancelledError:
            answer = describe_error(EvaluationCutError("the evaluation was cut"))
        self._write({"id": number, **answer})

    async def _evaluate(self, request: bytes) -> dict[str, Any]:
        """Returns the answer of the first evaluator that lives to give one."""
        lost: list[str] = []
        strikes = 0
        while True:
            placed = await self._take()
            try:
                answer: dict[str, Any] = json.loads(await placed.handle.evaluate.remote(request))
            except asyncio.CancelledError:
                self._drop(placed)
                raise
            except self._ray.exceptions.RayTaskError as error:
                self._drop(placed)
                return describe_error(EvaluatorError(f"{placed.node}: {error}"))
            except self._ray.exceptions.RayError as error:
                # The others there are as lost: the evaluation shall not be placed on one of them.
                self._drop(*(one for one in self._alive if one.node_id == placed.node_id))
                lost.append(placed.node)
                strikes += not getattr(error, "preempted", False)
                if strikes == _STRIKES:
                    reason = f"the machine was lost while the program ran, {_STRIKES} times"
                    verdict = Evaluation(Status.CRASHED, reason=reason, lost=tuple(lost))
                    return {"verdict": to_plain(verdict), "printed": ""}
                self._say(f"{placed.node} was lost; its evaluation is placed again")
                continue
            if answer.get("error") == _WEAK:
                self._drop(placed)
                self._refuse(placed, answer)
                continue
            self._release(placed)
            if "verdict" in answer:
                self._note_machine(placed, answer["verdict"], lost)
            return answer

    def _note_machine(
        self, placed: PlacedEvaluator, verdict: dict[str, Any], lost: list[str]
    ) -> None:
        """Writes into a verdict where it was made; a run that measures time keeps to one kind."""
        verdict["lost"] = lost
        if not verdict["machine"]:
            verdict["machine"] = placed.node
            return
        verdict["machine"] = f"{placed.node}, {placed.kind}"
        if not self._kind:
            self._kind = placed.kind
            self._write({"kind": placed.kind})
            self._drop(*(one for one in self._alive if one.kind != placed.kind))

    async def _take(self) -> PlacedEvaluator:
        self._waiting += 1
        try:
            self._grow()
            # What was dropped while it was idle is still in the queue.
            while (placed := await self._idle.get()) not in self._alive:
                pass
            self._busy.add(placed)
            return placed
        finally:
            self._waiting -= 1

    def _release(self, placed: PlacedEvaluator) -> None:
        if placed in self._alive:
            self._busy.discard(placed)
            self._idle.put_nowait(placed)

    def _drop(self, *dropped: PlacedEvaluator) -> None:
        for placed in dropped:
            self._alive.discard(placed)
            self._busy.discard(placed)
            self._ray.kill(placed.handle)
        self._grow()

    def _grow(self) -> None:
        """Asks Ray for as many more evaluators as evaluations wait; it places them, or not yet."""
        most = self._config["evaluators"] or float("inf")
        idle = len(self._alive) - len(self._busy)
        wanted = max(self._waiting - idle, 0 if self._is_proven else 1)
        for _ in range(self._starting, wanted):
            if len(self._alive) + self._starting >= most:
                return
            self._starting += 1
            task = asyncio.get_running_loop().create_task(self._start())
            self._starts.add(task)
            task.add_done_callback(self._starts.discard)

    def _place(self) -> PlacedEvaluator:
        demand = dict(self._demand)
        options: dict[str, Any] = {"num_cpus": demand.pop("CPU"), "max_restarts": 0}
        options |= {"num_gpus": demand.pop("GPU", 0), "memory": demand.pop("memory", None)}
        if self._refused:
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(self._refused)})"}
        return PlacedEvaluator(self._actor.options(**options, resources=demand).remote())

    async def _start(self) -> None:
        try:
            placed = self._place()
        except ValueError as error:
            if not self._ended.done():
                self._ended.set_exception(UsageError(f"Ray refuses `cluster.resources`: {error}"))
            return
        try:
            answer = json.loads(await placed.handle.prove.remote(self._node_config, self._pack))
        except self._ray.exceptions.RayError as error:
            self._last_end = str(error)
            await asyncio.sleep(_LOOK_SECONDS)
            self._starting -= 1
            self._grow()
            return
        self._starting -= 1
        placed.node_id, placed.node = answer["node_id"], answer["node"]
        placed.kind = answer.get("kind", "")
        if "error" not in answer and self._kind not in {"", "any", placed.kind}:
            what = f"its kind is {placed.kind}, and `cluster.kind` asks for {self._kind}"
            remedy = "`--set cluster.kind=any` takes all kinds"
            answer |= {"error": UsageError.__name__, "message": f"{what}; {remedy}"}
        if "error" in answer:
            self._ray.kill(placed.handle)
            self._refuse(placed, answer)
        else:
            self._alive.add(placed)
            self._idle.put_nowait(placed)
            if not self._is_proven:
                self._is_proven = True
                self._write({"ready": answer["isolation"]})
        self._grow()

    def _refuse(self, placed: PlacedEvaluator, answer: Mapping[str, Any]) -> None:
        if placed.node_id not in self._refused:
            self._refused[placed.node_id] = answer
            self._say(f"{placed.node} is not used: {answer['message']}")

    async def _watch(self) -> None:
        """Looks after the nodes: says which come and go, and that there are none."""
        while True:
            asked = asyncio.ensure_future(asyncio.to_thread(self._ray.nodes))
            if not (await asyncio.wait({asked}, timeout=_SILENT_SECONDS))[0]:
                self._say("no contact with its head; the run waits for it as long as Ray does")
            alive = {node["NodeID"]: node for node in await asked if node["Alive"]}
            names = {key: name_node(node) for key, node in alive.items()}
            for key in names.keys() ^ self._nodes.keys():
                if self._nodes:
                    name = names.get(key) or self._nodes[key]
                    self._say(f"{name} {'joined' if key in names else 'left'}")
            self._nodes = names
            self._drop(*(one for one in self._alive if one.node_id not in alive))
            self._check(alive, [key for key, node in alive.items() if self._fits(key, node)])
            self._write({"status": [len(self._nodes), len(self._alive), self._waiting]})
            await asyncio.sleep(_LOOK_SECONDS)

    def _fits(self, key: str, node: Mapping[str, Any]) -> bool:
        found = node["Resources"]
        has_all = all(found.get(name, 0) >= much for name, much in self._demand.items())
        return has_all and key not in self._refused

    def _check(self, alive: Mapping[str, Any], usable: list[str]) -> None:
        """Reports that nothing evaluates, or ends the run where nothing ever has.

        Raises:
            EvolveError: All nodes were refused, or there was no room for one evaluator for long.
        """
        if self._alive:
            if self._says_none:
                self._say(f"continuing with {count_of(len(self._alive), 'evaluator')}")
            self._without_since, self._says_none = time.monotonic(), False
            return
        seconds = time.monotonic() - self._without_since
        if not self._is_proven:
            self._check_start(alive, usable, seconds)
        elif seconds > _SILENT_SECONDS and not self._says_none:
            self._says_none = True
            self._say(
                "no node has room for an evaluator; the run waits for one (Ctrl-C stops it, and "
                "`evolve resume` continues it)"
            )

    def _check_start(self, alive: Mapping[str, Any], usable: list[str], seconds: float) -> None:
        """Reports what the first evaluator waits for, or ends the run where there will be none.

        Raises:
            EvolveError: All nodes were refused, no node has a GPU, or the wait was too long.
        """
        if self._refused and not usable:
            kinds = {answer["error"] for answer in self._refused.values()}
            reasons = dict.fromkeys(answer["message"] for answer in self._refused.values())
            text = "cluster: no node can evaluate: " + " | ".join(reasons)
            raise make_error({"error": min(kinds) if len(kinds) == 1 else _WEAK, "message": text})
        longest = self._config["wait_seconds"]
        if seconds <= min(_SILENT_SECONDS, longest):
            return
        lack = self._explain_lack(alive, usable)
        if self._demand.get("GPU") and not any(
            node["Resources"].get("GPU") or _SCALED in node["Labels"] for node in alive.values()
        ):
            raise MachineError(f"cluster: the run refuses to start: {lack}")
        if seconds > longest:
            raise MachineError(f"cluster: no evaluator could be placed in {longest:g} s: {lack}")
        if not self._says_none and (not usable or seconds > _BUSY_SECONDS):
            self._says_none = True
            what = "room" if usable else "nodes to join"
            self._write({"lack": f"cluster: {lack}; waiting up to {longest:g} s for {what}"})

    def _explain_lack(self, alive: Mapping[str, Any], usable: list[str]) -> str:
        asked = self._describe(self._demand)
        if self._last_end:
            return f"the last evaluator ended before it was ready: {self._last_end}"
        if usable:
            return (
                f"{len(usable)} of {len(alive)} nodes have {asked} in all, and other work may hold "
                "them; wait for its end, or raise `cluster.wait_seconds`"
            )
        found = "; ".join(
            f"{self._nodes[key]} has {self._describe(node['Resources'])}"
            for key, node in alive.items()
        )
        return (
            f"each evaluator asks for {asked}, and no node has as much ({found}); add one, or "
            "lower `cluster.resources` or the problem's `memory_mb` or `gpus`"
        )

    def _describe(self, resources: Mapping[str, float]) -> str:
        """Returns how much there is of what an evaluator asks for."""
        amounts = {name: resources.get(name, 0.0) for name in self._demand}
        return ", ".join(
            f"{much / _MB:.0f} MB of memory" if name == "memory" else f"{much:g} {name}"
            for name, much in amounts.items()
        )

    def _say(self, text: str) -> None:
        self._write({"say": f"cluster: {text}"})


def connect(address: str, write: Write) -> Any:
    """Connects to a cluster and returns the module `ray`; ends the process where nothing answers.

    Args:
        address: `ray`, or that of a cluster.
        write: Writes the reason for such an end.

    Raises:
        MachineError: There is none at the address, or one of another version.
    """
    # Ray itself waits for many minutes.
    watchdog = threading.Timer(_CONNECT_SECONDS, _give_up, (address, write))
    watchdog.daemon = True
    watchdog.start()
    ray = importlib.import_module("ray")
    named = os.environ.get("RAY_ADDRESS", "auto") if address == "ray" else address
    try:
        if place := re.search(r"([^/:]+):(\d+)$", named):
            # Refused at once, where Ray would try again and again.
            socket.create_connection((place[1], int(place[2])), _CONNECT_SECONDS).close()
        ray.init(
            address=named,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
        )
    except (ConnectionError, RuntimeError, ValueError, ImportError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise MachineError(_explain_connection(address, reason)) from error
    finally:
        watchdog.cancel()
    return ray


def _give_up(address: str, write: Write) -> None:
    error = MachineError(_explain_connection(address, f"no answer within {_CONNECT_SECONDS:g} s"))
    write({"fatal": describe_error(error)})
    os._exit(0)


def _explain_connection(address: str, reason: str) -> str:
    where = os.environ.get("RAY_ADDRESS", "this machine") if address == "ray" else address
    return (
        f"cluster: cannot connect to Ray at {where}: {reason}; `ray start --head` starts a "
        "cluster here, `ray start --address=HEAD:6379` adds a node, and RAY_ADDRESS or "
        "`--cluster` names one (the versions of Ray and Python have to be the same; a cluster with "
        "a token asks for RAY_AUTH_MODE=token)"
    )


if __name__ == "__main__":
    main()
