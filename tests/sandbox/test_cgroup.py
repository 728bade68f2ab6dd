"""Cgroups around guests, where this user may make them."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evolve.errors import SandboxError
from evolve.sandbox.backends import open_sandbox
from evolve.sandbox.cgroup import (
    CONTROLLERS,
    Cgroup,
    CgroupPlace,
    NoCgroupError,
    make_group,
    name_owner,
    read_place,
    sweep,
)
from evolve.sandbox.guest.wire import ProgramLimits
from evolve.sandbox.layout import find_view
from tests.sandboxes import ask

V1 = """\
30 20 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
31 20 0:27 /docker/12 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 20 0:28 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
33 20 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""
HOST = """
import sys
from evolve.sandbox.backends import open_sandbox
from evolve.sandbox.layout import find_view
from tests.sandboxes import ask
sandbox = open_sandbox(sys.argv[1], find_view(()))
print(ask(sandbox, "def f(): return 1").value, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def group() -> Cgroup:
    try:
        return make_group()
    except NoCgroupError as error:
        pytest.skip(f"no cgroups here: {error}")


@pytest.fixture(params=["bubblewrap", "native"])
def backend(request: pytest.FixtureRequest, group: Cgroup) -> str:
    group.remove()
    try:
        open_sandbox(request.param, find_view(())).close()
    except SandboxError as error:
        pytest.skip(str(error))
    return str(request.param)


def groups_of(pid: int) -> list[Path]:
    return [path for path in Path("/sys/fs/cgroup").rglob("evolve-*") if f":{pid}:" in path.name]


class TestPlace:
    def test_version_1_has_a_folder_for_each_controller(self) -> None:
        own = "4:cpu,cpuacct:/a\n3:memory:/docker/12/b\n2:pids:/\n0::/\n"
        place = read_place(V1, own)
        assert place.version == 1
        assert {name: str(folder) for name, folder in place.folders.items()} == {
            "memory": "/sys/fs/cgroup/memory/b",
            "pids": "/sys/fs/cgroup/pids",
            "cpu": "/sys/fs/cgroup/cpu,cpuacct/a",
        }

    @pytest.mark.parametrize("delegated", ["user/app", "user"])
    def test_version_2_is_this_group_or_the_one_above(self, tmp_path: Path, delegated: str) -> None:
        (tmp_path / "user/app").mkdir(parents=True)
        (tmp_path / delegated / "cgroup.subtree_control").write_text("cpu io memory pids\n")
        place = read_place(f"1 2 0:3 / {tmp_path} rw - cgroup2 cgroup2 rw\n", "0::/user/app\n")
        assert place.version == 2
        assert dict(place.folders) == dict.fromkeys(CONTROLLERS, tmp_path / delegated)

    def test_nothing_delegated_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(NoCgroupError, match="memory, pids and cpu are not delegated"):
            read_place(f"1 2 0:3 / {tmp_path} rw - cgroup2 cgroup2 rw\n", "0::/none\n")

    def test_no_cgroups_at_all_are_told(self) -> None:
        with pytest.raises(NoCgroupError, match="no cgroup file system"):
            read_place("1 2 0:3 / / rw - ext4 /dev/vda rw\n", "")

    def test_groups_of_ended_processes_are_swept_wherever_they_were_made(
        self, tmp_path: Path
    ) -> None:
        with subprocess.Popen(["/bin/true"]) as process:
            ended = name_owner(process.pid)
        folders = [tmp_path / scope for scope in ("own", "beside")]
        gone = [folder / f"evolve-{ended}-0" for folder in folders]
        kept = [folder / f"evolve-{name_owner(os.getpid())}-0" for folder in folders]
        for folder in [*gone, *kept]:
            folder.mkdir(parents=True)
        sweep(CgroupPlace(2, dict.fromkeys(CONTROLLERS, folders[0])))
        assert [folder.exists() for folder in [*gone, *kept]] == [False, False, True, True]


class TestGroup:
    def test_the_kernel_ends_what_takes_more_memory(self, group: Cgroup) -> None:
        group.fit(ProgramLimits(memory_mb=16, workspace_mb=0))
        code = "x = b'x' * (1 << 30)"
        done = subprocess.run(group.wrap([sys.executable, "-c", code]), check=False)
        assert done.returncode == -9
        assert group.out_of_memory_kills == 1
        group.remove()

    def test_removing_ends_what_is_left_in_it(self, group: Cgroup) -> None:
        process = subprocess.Popen(group.wrap(["/bin/sleep", "60"]))
        time.sleep(0.1)
        group.remove()
        assert process.wait(5) == -9

    def test_limits_can_be_raised_and_lowered(self, group: Cgroup) -> None:
        memory = group._place.folders["memory"]
        files = [memory / name for name in ("memory.max", "memory.limit_in_bytes")]
        (limit,) = [file for file in files if file.exists()]
        found = []
        for memory_mb in (100, 1000, 10):
            group.fit(ProgramLimits(memory_mb=memory_mb))
            found.append(int(limit.read_text()) >> 20)
        assert [found[0] - size for size in found] == [0, -900, 90]
        group.remove()
        group.remove()
        assert not memory.exists()


class TestGuests:
    def test_a_guest_has_one_for_as_long_as_it_lives(self, backend: str) -> None:
        before = groups_of(os.getpid())
        sandbox = open_sandbox(backend, find_view(()))
        assert "cgroup" in sandbox.isolation.enforced
        assert len(groups_of(os.getpid())) > len(before)
        assert ask(sandbox, "def f(): return 1").value == 1
        sandbox.close()
        assert groups_of(os.getpid()) == before

    def test_what_a_killed_host_left_is_swept_by_the_next(self, backend: str) -> None:
        command = [sys.executable, "-c", HOST]
        with subprocess.Popen(
            [*command, backend],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as host:
            assert host.stdout is not None
            assert host.stdout.readline() == b"1\n"
            assert groups_of(host.pid)
            host.kill()
        subprocess.run([*command, backend], cwd=Path(__file__).parents[2], input=b"", check=True)
        assert not groups_of(host.pid)
