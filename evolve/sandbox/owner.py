"""Names of processes that last: whose a container or a cgroup is, and whether that one lives."""

from __future__ import annotations

import sys
from pathlib import Path


def name_owner(pid: int) -> str:
    """Names a process for good: by its pid namespace, number and start."""
    if sys.platform != "linux":
        return f"elsewhere:{pid}:0"
    try:
        start = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        start = ""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    space = Path("/proc/self/ns/pid").readlink().name.strip("pid:[]")
    return f"{boot}.{space}:{pid}:{start}"


def is_orphan(owner: str) -> bool:
    """Returns whether a process that could be seen from here is gone."""
    place, _, rest = owner.partition(":")
    pid = rest.partition(":")[0]
    if not pid.isdigit():
        return False
    now = name_owner(int(pid))
    return now != owner and now.startswith(f"{place}:")
