import contextlib
import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

import pytest

import evolve
from evolve.sandbox.cgroup import name_owner
from evolve.sandbox.layout import find_view
from evolve.sandbox.processes import make_native
from tests.commands import write_problem

SCRIPT = """
import os, sys
from evolve.errors import SandboxError
from evolve.records import Program, SourceFile
from evolve.sandbox.backends import open_sandbox
from evolve.sandbox.layout import find_view
from evolve.sandbox.guest.wire import ProgramLimits

TEXT = '''
import sys, tempfile
def where():
    with tempfile.TemporaryFile() as file:
        file.write(b"x")
    return sys.executable
'''
try:
    sandbox = open_sandbox(sys.argv[1], find_view(()))
except SandboxError as error:
    sys.exit(f"cannot start: {error}")
session = sandbox.open(Program((SourceFile("a.py", TEXT),)), ProgramLimits())
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
    make_native(find_view(()), with_namespaces=False).close()
    assert [folder.exists() for folder in folders] == [False, True]
    (folders[1] / "work").rmdir()
    folders[1].rmdir()


def test_what_is_hidden_is_hidden_below_a_link_too(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    venv.create(tmp_path / "link" / "venv", with_pip=False, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": "venv"}))
    secret = tmp_path / "real" / packages / "secret.py"
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
    linked = tmp_path / "link" / packages / "secret.py"
    assert {str(secret), str(linked)} <= set(done.stdout.split("\n"))


def write_secrets(folder: Path) -> list[Path]:
    paths = [folder / name for name in (".env", "evaluator.py", "hidden/data.csv", "lib/notes.txt")]
    for path in paths:
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("secret = 1")
    return paths


def run_host(python: Path, code: str, *words: object) -> str:
    # Not all interpreters here have the packages that a host needs.
    paths = [str(Path(evolve.__file__).parents[1]), sysconfig.get_path("purelib")]
    done = subprocess.run(
        [python, "-c", code, *map(str, words)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    if "no `bwrap`" in done.stderr or "docker: no" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    return done.stdout


def read_inside(python: Path, backend: str, paths: list[Path], hide: list[Path]) -> list[str]:
    """Returns those of some paths that a program can read, after the words of what is enforced."""
    code = READER.replace("PATHS", repr([str(path) for path in paths]))
    return run_host(python, code, backend, *hide).split()


READER = """
import sys
from pathlib import Path
from evolve.records import Program, SourceFile
from evolve.sandbox.backends import make_sandbox, prove
from evolve.sandbox.backends import BACKENDS
from evolve.sandbox.layout import find_view
from evolve.sandbox.processes import make_native
from evolve.sandbox.guest.wire import ProgramLimits

TEXT = '''
import os
def read(paths):
    found = []
    for path in paths:
        try:
            if open(path).read(): found.append(path)
        except OSError: pass
    return found
'''
view = find_view((), None, tuple(map(Path, sys.argv[2:])))
name = sys.argv[1]
is_known = name in BACKENDS
sandbox = make_sandbox(name, view) if is_known else make_native(view, with_namespaces=False)
print(*prove(sandbox, tuple(map(Path, sys.argv[2:]))).enforced)
session = sandbox.open(Program((SourceFile("a.py", TEXT),)), ProgramLimits())
print(*session.call("read", [PATHS]).value)
session.close()
sandbox.close()
"""
FORMS = ["docker", "bubblewrap", "native", "native-without-namespaces"]


@pytest.mark.parametrize("backend", FORMS)
def test_a_virtual_environment_shows_nothing_of_the_project_that_it_is(tmp_path, backend):
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    venv.create(tmp_path / "project", with_pip=False, symlinks=True)
    secrets = write_secrets(tmp_path / "project")
    python = tmp_path / "project" / "bin" / "python"
    if backend == FORMS[-1] and not is_readable_for_all(python):
        pytest.skip("the interpreter cannot be read by other users than root")
    found = read_inside(python, backend, secrets, [])
    assert "files" in found
    assert not [word for word in found if word.startswith("/")]


@pytest.mark.parametrize("backend", FORMS)
def test_a_project_among_the_systems_folders_is_not_shown(backend):
    places = ["/usr/src", "/usr/local/src", "/usr/share", "/usr", "/srv"]
    if not all(os.access(place, os.W_OK) for place in places):
        pytest.skip("the system's folders cannot be written")
    if backend == FORMS[-1] and not is_readable_for_all(Path(sys.executable)):
        pytest.skip("the interpreter cannot be read by other users than root")
    secrets = []
    with contextlib.ExitStack() as folders:
        for place in places:
            made = tempfile.TemporaryDirectory(prefix="evolve-test-", dir=place)
            folder = Path(folders.enter_context(made))
            folder.chmod(0o755)
            secrets += write_secrets(folder)
        found = read_inside(Path(sys.executable), backend, secrets, [])
    assert not [word for word in found if word.startswith("/")]


@pytest.mark.parametrize("backend", FORMS)
@pytest.mark.parametrize("is_hidden", [True, False])
def test_what_lies_among_the_packages_is_hidden_or_found_by_the_canary(
    tmp_path, backend, is_hidden
):
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    venv.create(tmp_path / "link" / "venv", with_pip=False, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path / "link" / "venv")}))
    secrets = write_secrets(packages / "app")
    python = tmp_path / "link" / "venv" / "bin" / "python"
    if backend == FORMS[-1] and not is_readable_for_all(python):
        pytest.skip("the interpreter cannot be read by other users than root")
    spelled = [path.resolve() for path in secrets]
    if is_hidden:
        hide = [packages / "app"]
        assert not [
            word for word in read_inside(python, backend, secrets + spelled, hide) if "/" in word
        ]
        return
    assert "evaluator.py" in run_host(python, CANARY, backend, packages / "app")


@pytest.mark.parametrize("backend", FORMS[:-1])
def test_a_run_shows_neither_its_folder_nor_what_lies_around_it(tmp_path, backend):
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path / "venv")}))
    (packages / "app" / "run").mkdir(parents=True)
    for name in ("app/.env", "app/run/run.db", ".env"):
        (packages / name).write_text("secret = 1")
    problem = write_problem(packages / "app" / "run" / "problem")
    paths = [packages / "app" / ".env", packages / ".env", packages / "app" / "run" / "run.db"]
    paths += sorted(problem.iterdir())
    assert "evaluator.py" in str(paths)
    source = READING.replace("PATHS", repr([str(path) for path in paths]))
    (problem / "initial.py").write_text(source)
    told = run_host(tmp_path / "venv" / "bin" / "python", EVALUATING, backend, problem)
    assert told.splitlines() == ["ok", ""]


READING = """
def point():
    for path in PATHS:
        try:
            if open(path).read(): raise ValueError(path)
        except OSError: pass
    return [0.5, 0.5]
"""
EVALUATING = """
import sys
from contextlib import closing
from pathlib import Path
from evolve.evaluation.pool import LocalEvaluators
from evolve.problem import load_problem
from evolve.settings import Settings
from evolve.settings.sections import SandboxSettings
problem = load_problem(Path(sys.argv[2]))
settings = Settings(sandbox=SandboxSettings(backend=sys.argv[1], processes=1))
with closing(LocalEvaluators(problem, settings)) as pool:
    pool.start()
    pool.wait()
    verdict = pool.evaluate(problem.initial)
    print(verdict.status, verdict.reason, sep="\\n")
"""


CANARY = """
import sys
from pathlib import Path
from evolve.sandbox.backends import make_sandbox, prove
from evolve.sandbox.backends import BACKENDS
from evolve.sandbox.layout import find_view
from evolve.sandbox.processes import make_native
name, view = sys.argv[1], find_view()
is_known = name in BACKENDS
sandbox = make_sandbox(name, view) if is_known else make_native(view, with_namespaces=False)
isolation = prove(sandbox, (Path(sys.argv[2]),))
sandbox.close()
assert not isolation.is_strong
print([text for text in isolation.missing if text.startswith("files")])
"""


def is_readable_for_all(python: Path) -> bool:
    real = Path(os.path.realpath(python))
    return bool(os.getuid()) or all(path.stat().st_mode & 0o005 for path in (real, *real.parents))
