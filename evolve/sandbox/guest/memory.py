"""The memory of everything that runs beside the zygote."""

from __future__ import annotations

import os

_SHARES = (b"\nPss_Anon:", b"\nPss_Shmem:", b"\nSwapPss:")
_FIELDS = (b"\nRssAnon:", b"\nRssShmem:", b"\nVmSwap:")


def list_strangers(proc: int, known: frozenset[str]) -> list[str]:
    """Lists all processes but the known ones.

    Args:
        proc: Descriptor of `/proc` of a pid namespace that holds only the guest.
        known: Process ids to leave out.
    """
    return [name for name in os.listdir(proc) if name.isdigit() and name not in known]


def list_group(proc: int, group: int) -> list[str]:
    """Lists the processes of a process group.

    Args:
        proc: Descriptor of `/proc`.
        group: The group's id.
    """
    return [name for name in os.listdir(proc) if name.isdigit() and _is_in(proc, name, group)]


def is_exceeded(proc: int, names: list[str], baseline: int, limit: int) -> bool:
    """Tells whether processes together use more memory than a limit.

    What a forked process still shares with the warm guest is not its own; who shares what is
    slow to find out, and asked only when the answer depends on it.

    Args:
        proc: Descriptor of `/proc`.
        names: Process ids.
        baseline: Memory of the warm guest, in bytes.
        limit: In bytes, beyond the baseline.
    """
    sizes = {name: read_bytes(proc, name) for name in names}
    if sum(sizes.values()) - baseline <= limit:
        return False
    if sum(max(0, size - baseline) for size in sizes.values()) > limit:
        return True
    exact = [_read_share(proc, name, size) for name, size in sizes.items()]
    return sum(exact) - baseline > limit


def _read_share(proc: int, name: str, otherwise: int) -> int:
    try:
        return _sum_fields(_read(proc, f"{name}/smaps_rollup"), _SHARES)
    except OSError:
        return otherwise


def _is_in(proc: int, name: str, group: int) -> bool:
    try:
        stat = _read(proc, f"{name}/stat")
    except OSError:
        return False
    return int(stat.rpartition(b")")[2].split()[2]) == group


def read_bytes(proc: int, name: str) -> int:
    """Gives the memory of one process in bytes; 0 when it is gone."""
    try:
        status = _read(proc, f"{name}/status")
    except OSError:
        return 0
    return _sum_fields(status, _FIELDS)


def _sum_fields(text: bytes, fields: tuple[bytes, ...]) -> int:
    total = 0
    for field in fields:
        _, found, rest = text.partition(field)
        if found:
            total += int(rest.split(maxsplit=1)[0])
    return total * 1024


def _read(proc: int, path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY, dir_fd=proc)
    try:
        return os.read(descriptor, 8192)
    finally:
        os.close(descriptor)
