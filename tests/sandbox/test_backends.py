import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import rich

from evolve.errors import SandboxError
from evolve.records import Status
from evolve.sandbox.backends import NAMES, Isolation, Sandbox, open_sandbox
from evolve.sandbox.docker import LABEL, connect
from evolve.sandbox.guest.confine import READ, READ_DIR
from evolve.sandbox.layout import HostView, find_view, list_readable
from tests.sandboxes import LIMITS, ask, fail, make_like, make_program

HOST = """
import sys, time
from evolve.sandbox.backends import open_sandbox
from evolve.sandbox.layout import find_view
from evolve.sandbox.guest.wire import ProgramLimits
from tests.sandboxes import make_program
sandbox = open_sandbox(sys.argv[1], find_view(()))
session = sandbox.open(make_program(sys.argv[2]), ProgramLimits(seconds=60))
print(session.call("f").value, flush=True)
session.call("g")
"""
FORKING = """
import os, time
def f():
    os.fork() or time.sleep(60)
    return 1
def g(): time.sleep(60)
"""


class TestChoice:
    def test_names_end_with_the_backends(self) -> None:
        assert NAMES[0] == "auto"
        assert NAMES[1:] == ("docker", "bubblewrap", "native")

    def test_an_unknown_name_lists_those_there_are(self) -> None:
        with pytest.raises(SandboxError, match=r"expected one of auto, .*native, got 'chroot'"):
            open_sandbox("chroot")

    def test_auto_takes_one_that_proves_itself(self, sandbox: Sandbox) -> None:
        chosen = open_sandbox("auto", find_view(()))
        assert chosen.isolation.is_strong
        assert ask(chosen, "def f(): return 1").value == 1
        chosen.close()

    def test_a_missing_package_is_named_with_the_remedy(self, sandbox: Sandbox) -> None:
        with pytest.raises(SandboxError, match=r"package `no_such_package`.*install it"):
            open_sandbox(sandbox.name, find_view(("no_such_package",)))

    def test_strength_needs_both_network_and_files(self) -> None:
        assert Isolation("x", ("network", "files")).is_strong
        assert not Isolation("x", ("network", "memory")).is_strong


class TestView:
    def test_hidden_folders_and_files_are_empty(self, sandbox: Sandbox) -> None:
        package = Path(rich.__file__).parent
        hidden = (package, Path(pytest.__file__).parent / "__init__.py")
        other = make_like(sandbox, find_view(("rich",), None, hidden))
        source = f"""
            def f():
                try: return open({str(hidden[1])!r}).read()
                except PermissionError: return ""
        """
        try:
            fail(other, "import rich.console", Status.ERROR, r"Error")
            assert ask(other, source).value == ""
        finally:
            other.close()

    def test_the_package_is_hidden_where_it_lies_among_others(self) -> None:
        package = Path(find_view.__code__.co_filename).parents[1]
        view = find_view(("evolve",))
        assert package in view.hidden

    def test_a_package_of_a_project_comes_without_its_neighbours(self) -> None:
        place = Path(find_view.__code__.co_filename).parents[1]
        view = find_view(("evolve",))
        assert place.parent in view.paths
        assert place.parent not in view.trees

    def test_landlocks_rights_do_not_follow_links_to_what_is_hidden(self, tmp_path: Path) -> None:
        (tmp_path / "real" / "hidden").mkdir(parents=True)
        (tmp_path / "real" / "again").symlink_to("hidden")
        (tmp_path / "link").symlink_to("real")
        view = HostView((tmp_path / "link",), (tmp_path / "real" / "hidden",), None, ())
        assert [path for path, _ in list_readable(view)] == [tmp_path / "real"]

    def test_landlocks_rights_go_around_what_is_hidden(self, tmp_path: Path) -> None:
        for name in ("a/hidden", "a/shown", "b"):
            (tmp_path / name).mkdir(parents=True)
        view = HostView((tmp_path,), (tmp_path / "a" / "hidden",), None, ())
        rights = dict(list_readable(view))
        assert rights[tmp_path] == rights[tmp_path / "a"] == READ_DIR
        assert rights[tmp_path / "a" / "shown"] == rights[tmp_path / "b"] == READ
        assert tmp_path / "a" / "hidden" not in rights

    def test_trees_do_not_lie_within_one_another(self) -> None:
        trees = [tree for tree in find_view(("numpy",)).trees if not tree.is_symlink()]
        assert not [(a, b) for a in trees for b in trees if a in b.parents]


class TestRestart:
    def test_a_guest_that_was_killed_is_replaced(self, sandbox: Sandbox) -> None:
        ask(sandbox, "def f(): return 1")
        assert sandbox._link is not None
        sandbox._link._process.kill()
        sandbox._link._process.wait()
        assert ask(sandbox, "def f(): return 2").value == 2

    def test_a_guest_that_is_killed_during_a_call_costs_one_program(self, sandbox: Sandbox) -> None:
        session = sandbox.open(make_program("import time\ndef f(): time.sleep(60)"), LIMITS)
        assert sandbox._link is not None
        os.kill(sandbox._link._process.pid, signal.SIGKILL)
        with pytest.raises(Exception, match="the sandbox broke"):
            session.call("f")
        assert ask(sandbox, "def f(): return 2").value == 2

    def test_the_guest_is_replaced_after_a_while(self, sandbox: Sandbox) -> None:
        ask(sandbox, "def f(): return 1")
        link, sandbox._sessions = sandbox._link, 10**6
        assert ask(sandbox, "def f(): return 2").value == 2
        assert sandbox._link is not link

    def test_the_guest_ends_with_its_host(self, sandbox: Sandbox) -> None:
        folder = Path(__file__).parents[2]
        command = [sys.executable, "-c", HOST, sandbox.name, FORKING]
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE) as host:
            assert host.stdout is not None
            assert host.stdout.readline() == b"1\n"
            family = _list_descendants(host.pid) + _list_contained(host.pid)
            host.kill()
        deadline = time.monotonic() + 30
        while any(map(_is_guest, family)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(family) >= 3
        assert not [pid for pid in family if _is_guest(pid)]


def _list_descendants(root: int) -> list[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]


def _list_contained(owner: int) -> list[int]:
    try:
        client = connect()
    except SandboxError:
        return []
    pids = []
    with contextlib.closing(client):
        for container in client.api.containers(filters={"label": LABEL}):
            if container["Labels"][LABEL].split(":")[1] == str(owner):
                pids += [int(row[1]) for row in client.api.top(container["Id"])["Processes"]]
    return pids


def _is_guest(pid: int) -> bool:
    try:
        return "evolve_guest" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False
