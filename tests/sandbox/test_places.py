import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import pytest

import evolve
from evolve.sandbox.layout import find_view
from evolve.sandbox.native import make_native
from evolve.sandbox.owner import name_owner

SCRIPT = """
import os, sys
from evolve.errors import SandboxError
from evolve.records import Program, SourceFile
from evolve.sandbox.choose import open_sandbox
from evolve.sandbox.protocol import Limits

TEXT = '''
import sys, tempfile
def where():
    with tempfile.TemporaryFile() as file:
        file.write(b"x")
    return sys.executable
'''
try:
    sandbox = open_sandbox(sys.argv[1], preload=())
except SandboxError as error:
    sys.exit(f"cannot start: {error}")
session = sandbox.open(Program((SourceFile("a.py", TEXT),)), Limits())
assert session.call("where").value == os.path.normpath(sys.executable)
session.close()
sandbox.close()
"""


def start(python: Path | str, backend: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-c", SCRIPT, backend],
        env={**os.environ, "PYTHONPATH": str(Path(evolve.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("backend", ["bubblewrap", "native"])
def test_an_interpreter_may_lie_in_a_temporary_folder(tmp_path, backend):
    elsewhere = start(sys.executable, backend)
    if "cannot start" in elsewhere.stderr:
        pytest.skip(elsewhere.stderr.strip())
    # Closed folders of pytest's own stand above it, which root leaves its rights to enter behind.
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    done = start(tmp_path / "venv" / "bin" / "python", backend)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("backend", ["bubblewrap", "native"])
def test_an_interpreter_may_be_called_by_a_path_that_goes_up(backend):
    folder = Path(sys.executable).parent
    done = start(f"{folder}/../{folder.name}/{Path(sys.executable).name}", backend)
    if "cannot start" in done.stderr and "No such file" not in done.stderr:
        pytest.skip(done.stderr.strip())
    assert (done.returncode, done.stderr) == (0, "")


def test_folders_of_ended_processes_are_swept():
    with subprocess.Popen(["/bin/true"]) as process:
        ended = name_owner(process.pid)
    owners = [ended, name_owner(os.getpid())]
    folders = [
        Path(tempfile.gettempdir(), f"evolve-guest-{owner}-test".replace(":", ","))
        for owner in owners
    ]
    for folder in folders:
        (folder / "work").mkdir(parents=True)
    make_native((), find_view(()), with_namespaces=False).close()
    assert [folder.exists() for folder in folders] == [False, True]
    (folders[1] / "work").rmdir()
    folders[1].rmdir()


def test_what_is_hidden_is_hidden_below_a_link_too(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    venv.create(tmp_path / "link" / "venv", with_pip=False, symlinks=True)
    secret = tmp_path / "real" / "venv" / "secret.py"
    secret.write_text("")
    code = (
        "import sys; from pathlib import Path; from evolve.sandbox.layout import find_view\n"
        "print(*find_view((), None, (Path(sys.argv[1]),)).hidden, sep='\\n')"
    )
    done = subprocess.run(
        [tmp_path / "link" / "venv" / "bin" / "python", "-c", code, secret],
        env={**os.environ, "PYTHONPATH": str(Path(evolve.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    linked = tmp_path / "link" / "venv" / "secret.py"
    assert {str(secret), str(linked)} <= set(done.stdout.split("\n"))
