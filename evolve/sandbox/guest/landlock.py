"""Landlock: rules on files, ports and signals that a process puts on itself for good."""

# System calls stand here by their own names.
# ruff: noqa: PTH112

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

from . import kernel

_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1

EXECUTE = 1 << 0
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
_TRUNCATE = 1 << 14
IOCTL_DEV = 1 << 15
READ = EXECUTE | READ_FILE | READ_DIR
_FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | _TRUNCATE | IOCTL_DEV

# How many rights on files each version of the interface knows.
_FILE_RIGHT_COUNTS = {1: 13, 2: 14, 3: 15, 4: 15}
_NEWEST_FILE_RIGHT_COUNT = 16
_BOTH_PORT_RIGHTS = 3
_BOTH_SCOPES = 3


def read_version() -> int:
    """Returns the version of the kernel's Landlock interface; 0 when there is none."""
    try:
        return kernel.call("landlock_create_ruleset", 0, 0, _VERSION_FLAG)
    except OSError:
        return 0


def all_rights(version: int) -> int:
    """Returns every right on files that a version knows."""
    return (1 << _FILE_RIGHT_COUNTS.get(version, _NEWEST_FILE_RIGHT_COUNT)) - 1


def build_ruleset(version: int, rules: Iterable[tuple[str, int]]) -> int:
    """Makes a ruleset that allows what is listed and nothing else.

    Args:
        version: Of the interface, at least 1.
        rules: Paths with the rights on them and on what is beneath; missing paths are skipped.

    Returns:
        The ruleset's file descriptor.

    Raises:
        OSError: The kernel refused.
    """
    handled = all_rights(version)
    ports = _BOTH_PORT_RIGHTS if version >= 4 else 0
    scopes = _BOTH_SCOPES if version >= 6 else 0
    attributes = struct.pack("=QQQ", handled, ports, scopes)
    size = 8 if version < 4 else 16 if version < 6 else 24
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    ruleset = kernel.call("landlock_create_ruleset", buffer, size, 0)
    for path, rights in rules:
        _add_rule(ruleset, path, rights & handled)
    return ruleset


def restrict_self(ruleset: int) -> None:
    """Puts the calling process under a ruleset and closes it; `no_new_privs` must be set.

    Raises:
        OSError: The kernel refused.
    """
    kernel.call("landlock_restrict_self", ruleset, 0)
    os.close(ruleset)


def _add_rule(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(path):
            rights &= _FILE_RIGHTS
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, descriptor), 12)
        kernel.call("landlock_add_rule", ruleset, _RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(descriptor)
