"""Real Ray clusters on this machine: a head without cores, and nodes that come and go."""

import importlib.util
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.commands import NO_DOCKER

_MEMORY = 80 << 20
_STARTS = 3


def expect_ray() -> None:
    """Skips a test where Ray is not installed, unless it has to be."""
    if importlib.util.find_spec("ray") is None:
        if os.environ.get("EVOLVE_REQUIRE_RAY"):
            pytest.fail("ray is required and not installed")
        pytest.skip("ray is not installed: `pip install 'evolve[ray]'`")


class RayNodes:
    """The nodes of a cluster."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self.nodes: list[Any] = []

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add(self, **options: Any) -> Any:
        for left in reversed(range(_STARTS)):
            try:
                self.nodes.append(self._cluster.add_node(object_store_memory=_MEMORY, **options))
            except Exception as error:
                # Ray gives a node half a minute, which a busy machine may not have.
                if not left or "timed out during startup" not in str(error):
                    raise
            else:
                break
        return self.nodes[-1]

    def kill(self, node: Any) -> None:
        """Kills a node as a power cut would: its raylet and all that runs on it."""
        self.nodes.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)

    def end_head(self) -> None:
        """Ends what holds a cluster together, as when its network fails."""
        self._cluster.head_node.kill_gcs_server()


@contextmanager
def ray_nodes(*cpus: int) -> Iterator[RayNodes]:
    """Starts a cluster with a node of so many cores for each number."""
    expect_ray()
    from ray.cluster_utils import Cluster

    before, handler = dict(os.environ), signal.getsignal(signal.SIGTERM)
    os.environ.update(NO_DOCKER)
    try:
        cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "object_store_memory": _MEMORY,
                "include_dashboard": False,
            },
        )
        try:
            nodes = RayNodes(cluster)
            for count in cpus:
                nodes.add(num_cpus=count)
            yield nodes
        finally:
            cluster.shutdown()
    finally:
        signal.signal(signal.SIGTERM, handler)
        os.environ.clear()
        os.environ.update(before)


def wait_for(condition: Any, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.1)


def list_evaluators() -> set[str]:
    """Returns the processes of evaluators that nodes of a cluster have started."""
    listed = subprocess.run(
        ["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    )
    found = [line.split(None, 2) for line in listed.stdout.splitlines()]
    # Ray names its workers; until it has, they go by the name of its script.
    names = ("ray::", "ray/_private/workers/default_worker.py")
    actors = {pid for pid, _, command in found if any(name in command for name in names)}
    return {
        pid
        for pid, parent, command in found
        if parent in actors and "evolve.evaluation.process" in command
    }
