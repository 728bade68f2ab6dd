"""Evaluations on a Ray cluster of several nodes, all on this machine."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from evolve.errors import MachineError, SandboxError, UsageError
from evolve.evaluation.cluster import RayEvaluators, parse_resources
from evolve.problem import load_problem
from evolve.records import Program, SourceFile, Status
from evolve.runs.wiring import open_evaluators
from evolve.sandbox.backends import BACKENDS
from evolve.scoring.timing import describe_kind
from evolve.settings import Settings
from evolve.settings.sections import ClusterSettings, SandboxSettings
from tests.clusters import RayNodes, expect_ray, list_evaluators, ray_nodes, wait_for
from tests.commands import (
    EVALUATOR,
    INITIAL,
    NO_DOCKER,
    PROBLEM,
    run_evolve,
    run_json,
    start_evolve,
    wait_for_rows,
    write_problem,
    write_script,
)
from tests.devices import stand_in_gpus

SEARCH = ("--generations", "40")
SLOW = EVALUATOR.replace(
    "evaluate(program):", "evaluate(program):\n    import time; time.sleep(0.1)"
)
KEY = "sk-must-not-travel-0123456789"


@pytest.fixture(scope="module", autouse=True)
def _as_many_evaluators_as_there_is_room_for() -> Iterator[None]:
    held = os.environ.pop("EVOLVE_SET_SANDBOX__PROCESSES", "1")
    yield
    os.environ["EVOLVE_SET_SANDBOX__PROCESSES"] = held


@pytest.fixture(scope="module")
def nodes() -> Iterator[RayNodes]:
    with ray_nodes(2, 2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> object:
    """What a run on this machine comes to."""
    folder = tmp_path_factory.mktemp("here")
    run_evolve("run", write_problem(folder / "valley"), "--run-dir", "here", *SEARCH, cwd=folder)
    return read_run("here", folder)


def read_run(run: str, cwd: Path) -> object:
    """Returns the archives of a run and all its attempts, without what is a matter of time."""
    lines = map(json.loads, run_evolve("log", run, "--json", cwd=cwd).stdout.splitlines())
    attempts = [
        {name: line[name] for name in line if name not in {"seconds", "machine", "time"}}
        for line in lines
        if line["kind"] == "attempt"
    ]
    return run_json("archive", run, cwd=cwd), attempts


def test_a_run_on_a_cluster_equals_a_run_here(nodes, here, problem, tmp_path):
    there = ("--run-dir", "there", "--cluster", nodes.address)
    run_evolve("run", problem, *SEARCH, *there, cwd=tmp_path)
    found = read_run("there", tmp_path)
    assert found == here
    assert len(found[1]) > 300
    state = run_json("show", "there", cwd=tmp_path)
    assert len(state["nodes"]) == 2
    assert sum(one["evaluations"] for one in state["nodes"]) == state["evaluations"]
    assert "evaluations  failed  lost" in run_evolve("show", "there", cwd=tmp_path).stdout


def test_a_run_with_a_model_equals_a_run_here(nodes, problem, tmp_path):
    asked = ("--model", write_script(tmp_path / "model.json"), "--generations", "8")
    run_evolve("run", problem, "--run-dir", "here", *asked, cwd=tmp_path)
    there = ("--run-dir", "there", "--cluster", nodes.address)
    run_evolve("run", problem, *asked, *there, cwd=tmp_path)
    assert read_run("there", tmp_path) == read_run("here", tmp_path)


def test_a_run_equals_one_here_while_nodes_are_killed_and_join(here, tmp_path):
    problem = write_problem(tmp_path / "valley", evaluator=SLOW)
    with ray_nodes(2, 2) as nodes:
        there = ("--run-dir", "there", "--cluster", nodes.address, "--plain")
        run = start_evolve("run", problem, *SEARCH, *there, cwd=tmp_path)
        wait_for_rows(tmp_path / "there", "evaluations", 2)
        kills = 0
        while run.poll() is None and kills < 4:
            time.sleep(2.5)
            nodes.kill(nodes.nodes[0])
            nodes.add(num_cpus=2)
            kills += 1
        out, err = run.communicate(timeout=120)
    assert run.returncode == 0, out + err
    assert kills >= 2
    assert "was lost; its evaluation is placed again" in out + err
    assert "joined" in out + err
    assert read_run("there", tmp_path) == here


def test_a_killed_run_leaves_nothing_on_the_nodes_and_is_resumed(nodes, here, tmp_path):
    problem = write_problem(tmp_path / "valley", evaluator=SLOW)
    there = ("--run-dir", "there", "--cluster", nodes.address)
    run = start_evolve("run", problem, *SEARCH, *there, cwd=tmp_path)
    wait_for_rows(tmp_path / "there", "evaluations", 60)
    wait_for(lambda: len(list_evaluators()) == 4)
    started = list_evaluators()
    run.send_signal(signal.SIGKILL)
    run.communicate()
    wait_for(lambda: not any(Path("/proc", pid).exists() for pid in started))
    run_evolve("resume", "there", cwd=tmp_path)
    assert read_run("there", tmp_path) == here


SPY = """import os
from pathlib import Path
from evolve.scoring import Score


def evaluate(program):
    here, found = os.getpid(), ""
    while here > 1:
        for name in ("environ", "cmdline"):
            found += Path(f"/proc/{here}/{name}").read_bytes().decode(errors="replace")
        here = int(Path(f"/proc/{here}/stat").read_text().rpartition(")")[2].split()[1])
    commands = Path("/proc").glob("[0-9]*/cmdline")
    drivers = [path for path in commands if b"evaluation.driver" in path.read_bytes()]
    for path in drivers:
        found += (path.parent / "environ").read_bytes().decode(errors="replace")
    metrics = {"drivers": len(drivers)}
    return Score(float(SECRET not in found), metrics=metrics, measures={"first": 1.0})
"""


def test_no_key_reaches_a_node(nodes, tmp_path):
    spy = SPY.replace("SECRET", repr(KEY[:7]) + " + " + repr(KEY[7:]))
    problem = write_problem(tmp_path / "valley", evaluator=spy)
    there = ("--run-dir", "there", "--cluster", nodes.address, "--generations", "1")
    run = start_evolve("run", problem, *there, cwd=tmp_path, OPENAI_API_KEY=KEY)
    out, err = run.communicate(timeout=120)
    assert run.returncode in {0, 3}, out + err
    found = run_json("best", "there", cwd=tmp_path)
    assert found["objective"] == 1.0
    assert found["metrics"]["drivers"] == 1


@contextmanager
def open_there(folder: Path, nodes: RayNodes, **changes: object) -> Iterator[RayEvaluators]:
    """Opens a problem's evaluators on a cluster, and keeps the lines that they tell."""
    cluster = ClusterSettings(**{"address": nodes.address, "wait_seconds": 20.0, **changes})
    settings = Settings(cluster=cluster, sandbox=SandboxSettings(backend="bubblewrap"))
    lines: list[str] = []
    with closing(open_evaluators(load_problem(folder), settings)) as evaluators:
        evaluators.lines, evaluators.tell = lines, lines.append
        evaluators.start()
        yield evaluators


KILLING = """import os
import os
import signal
import time
from pathlib import Path


def evaluate(program):
    here = os.getpid()
    while "KILL" in "".join(program.files.values()) and here > 1:
        fields = Path(f"/proc/{here}/stat").read_text().rpartition(")")
        if "raylet" in fields[0]:
            os.kill(here, signal.SIGKILL)
            time.sleep(60)
        here = int(fields[2].split()[1])
"""


def test_a_program_that_takes_two_nodes_with_it_has_crashed_and_the_rest_waits_for_a_node(
    tmp_path,
):
    evaluator = KILLING + EVALUATOR.partition("def evaluate(program):")[2]
    evaluator = "from evolve.scoring import Score, as_floats\n" + evaluator
    folder = write_problem(tmp_path / "valley", evaluator=evaluator)
    killer = Program((SourceFile("initial.py", INITIAL + "# KILL\n"),))
    with (
        ray_nodes(1, 1) as nodes,
        open_there(folder, nodes) as evaluators,
        ThreadPoolExecutor(1) as threads,
    ):
        evaluators.wait()
        verdict = evaluators.evaluate(killer)
        assert verdict.status is Status.CRASHED
        assert verdict.reason == "the machine was lost while the program ran, 2 times"
        assert len(set(verdict.lost)) == 2
        waiting = threads.submit(evaluators.evaluate, load_problem(folder).initial)
        wait_for(lambda: any("no node has room" in line for line in evaluators.lines))
        nodes.add(num_cpus=1)
        assert waiting.result(60).status is Status.OK
        wait_for(lambda: any("continuing with 1" in line for line in evaluators.lines))


TIMED = """from evolve.scoring import Score


def evaluate(program):
    program.time("point", repeats=1)
    return Score(1.0, measures={"first": 1.0})
"""


def test_time_is_measured_on_one_kind_of_machine(nodes, tmp_path):
    folder = write_problem(tmp_path / "valley", evaluator=TIMED)
    with open_there(folder, nodes) as evaluators:
        evaluators.wait()
        verdict = evaluators.evaluate(load_problem(folder).initial)
        assert verdict.status is Status.OK, verdict.reason
        assert evaluators.kind == describe_kind()
        wait_for(lambda: evaluators.describe() == "3 nodes, 1 evaluator, 0 queued")
        assert verdict.machine.partition(", ")[2] == describe_kind()
    with (
        open_there(folder, nodes, kind="a slide rule") as evaluators,
        pytest.raises(UsageError, match=r"`cluster\.kind` asks for a slide rule"),
    ):
        evaluators.wait()
    there = ("--run-dir", "there", "--cluster", nodes.address, "--generations", "1")
    run_evolve("run", folder, *there, cwd=tmp_path)
    assert {one["kind"] for one in run_json("show", "there", cwd=tmp_path)["nodes"]} == {
        describe_kind()
    }
    assert describe_kind() in run_evolve("show", "there", cwd=tmp_path).stdout


def test_nodes_on_which_a_run_cannot_be_evaluated_are_named_and_not_used(tmp_path):
    text = "import ledger\n" + EVALUATOR
    folder = write_problem(tmp_path / "valley", evaluator=text)
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/ledger.py").write_text("")
    has = {"PYTHONPATH": str(tmp_path / "modules")}
    with ray_nodes() as nodes:
        nodes.add(num_cpus=1)
        nodes.add(num_cpus=1, env_vars={**has, "PATH": "/nowhere"})
        with open_there(folder, nodes) as evaluators, pytest.raises(SandboxError) as caught:
            evaluators.wait()
        said = str(caught.value)
        assert "cluster: no node can evaluate: " in said
        assert "No module named 'ledger'" in said
        assert "bubblewrap: " in said
        nodes.add(num_cpus=1, env_vars=has)
        with open_there(folder, nodes) as evaluators:
            assert evaluators.wait().is_strong
            assert evaluators.evaluate(load_problem(folder).initial).status is Status.OK


def test_the_doctor_examines_every_node(nodes, tmp_path):
    done = run_evolve("doctor", "--cluster", nodes.address, cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["node", "CPUs", "GPUs", "kind", *BACKENDS]
    assert sorted(line.split()[1] for line in lines[1:] if "strong" in line) == ["0", "2", "2"]
    assert lines[-1] == "ok: all 3 nodes isolate programs"


def test_a_problem_is_checked_on_a_cluster(problem, nodes, tmp_path):
    done = run_evolve("check", problem, "--cluster", nodes.address, cwd=tmp_path)
    assert "objective -13" in done.stdout
    assert f"cluster: connected to Ray at {nodes.address}" in done.stderr


def test_a_cluster_that_cannot_be_asked_is_refused_with_the_remedy(problem, nodes, tmp_path):
    def refuse(*options: str, code: int) -> str:
        folder = ("--run-dir", "refused")
        return run_evolve("run", problem, *folder, *options, cwd=tmp_path, code=code).stderr

    assert "expected `ray` for the cluster of this machine" in refuse("--cluster", "x", code=2)
    assert "--cluster: expected ADDRESS, got an empty text" in refuse("--cluster", "", code=2)
    said = refuse("--cluster", "127.0.0.1:1", code=4)
    assert "cannot connect to Ray at 127.0.0.1:1: [Errno 111] Connection refused" in said
    large = ("--set", 'cluster.resources=["CPU=64"]', "--set", "cluster.wait_seconds=3")
    said = refuse("--cluster", nodes.address, *large, code=4)
    assert "each evaluator asks for 64 CPU, 1024 MB of memory, and no node has as much" in said
    assert "refused" not in [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ("big_disk=-1", "NAME=AMOUNT, as in `CPU=4`, with 0 or at least 0.0001"),
        ("=1", "NAME=AMOUNT"),
        ("CPU", "NAME=AMOUNT"),
        ("CPU=nan", "NAME=AMOUNT"),
        ("CPU=inf", "NAME=AMOUNT"),
        ("CPU=0.00001", "NAME=AMOUNT"),
        ("GPU=1.5", "a whole number of GPUs, or a part of one"),
        ("big_disk=1", "big_disk once"),
    ],
)
def test_resources_that_ray_cannot_grant_are_refused_by_name(resources, expected):
    settings = ClusterSettings(resources=("big_disk=0.5", resources))
    with pytest.raises(UsageError) as caught:
        parse_resources(settings)
    assert str(caught.value).startswith(f"cluster.resources: expected {expected}")
    assert str(caught.value).endswith(f", got {resources!r}")


def test_a_run_that_waits_for_nodes_says_so_and_names_the_reason_when_it_is_stopped(
    problem, nodes, tmp_path
):
    large = ("--cluster", nodes.address, "--set", 'cluster.resources=["CPU=64"]')
    run = start_evolve("run", problem, "--run-dir", "there", *large, cwd=tmp_path)
    lines = []
    for line in run.stdout:
        lines.append(line)
        if "waiting up to 120 s for nodes to join" in line:
            break
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 130, "".join(lines) + out + err
    assert f"cluster: connected to Ray at {nodes.address}\n" in lines
    assert "each evaluator asks for 64 CPU" in out.partition("interrupted at once")[2]


def test_without_ray_a_cluster_is_refused(problem, tmp_path):
    code = "import sys; sys.modules['ray'] = None; from evolve.cli import main; main()"
    command = [sys.executable, "-c", code, "run", str(problem), "--cluster", "ray"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'evolve[ray]'" in done.stderr


def test_a_run_that_loses_its_cluster_says_so_and_can_be_resumed(tmp_path):
    problem = write_problem(tmp_path / "valley", evaluator=SLOW)
    with ray_nodes(2) as nodes:
        there = ("--run-dir", "there", "--cluster", nodes.address)
        soon = {"RAY_gcs_rpc_server_reconnect_timeout_s": "9"}
        run = start_evolve("run", problem, *SEARCH, *there, cwd=tmp_path, **soon)
        wait_for_rows(tmp_path / "there", "evaluations", 20)
        nodes.end_head()
        out, err = run.communicate(timeout=60)
    assert run.returncode == 4
    assert "cluster: no contact with its head" in out
    error, to_do = err.splitlines()
    assert error.startswith("error: cluster: the connection to Ray was lost")
    assert to_do == "to continue: evolve resume there"


ONE_GPU = """# EVOLVE-BLOCK-START
def point():
    import os
    seen = [name for name in os.listdir("/dev") if name.startswith("nvidia")]
    return [float(len(seen)), float(os.environ["CUDA_VISIBLE_DEVICES"])]
# EVOLVE-BLOCK-END
"""


def test_programs_see_the_gpu_that_ray_granted_and_no_other(tmp_path):
    toml = PROBLEM.replace("seconds = 2.0", "seconds = 2.0\ngpus = 1")
    folder = write_problem(tmp_path / "valley", toml=toml, initial=ONE_GPU)
    refused = run_evolve("run", folder, "--run-dir", "here", cwd=tmp_path, code=2).stderr
    assert f"{folder}/problem.toml: [limits]: `gpus`: expected GPUs to show to programs" in refused
    assert not (tmp_path / "here").exists()
    with ray_nodes(1) as nodes:
        refused = pytest.raises(MachineError, match=r"refuses to start: .* 1 GPU, and no node has")
        with open_there(folder, nodes, wait_seconds=2.0) as evaluators, refused:
            evaluators.wait()
        # As an autoscaler marks its nodes: it may add one with a GPU.
        nodes.add(num_cpus=1, labels={"ray.io/node-group": "small"})
        refused = pytest.raises(MachineError, match=r"no evaluator could be placed .* 1 GPU, and")
        with open_there(folder, nodes, wait_seconds=2.0) as evaluators, refused:
            evaluators.wait()
        nodes.add(num_cpus=1, num_gpus=2)
        # Ray only believes in them: the refusal names the one granted.
        refused = pytest.raises(SandboxError, match=r"expected /dev/nvidia[01] for 'device=[01]'")
        with open_there(folder, nodes) as evaluators, refused:
            evaluators.wait()
        with stand_in_gpus(0, 1), open_there(folder, nodes) as evaluators:
            evaluators.wait()
            verdict = evaluators.evaluate(load_problem(folder).initial)
            assert verdict.objective == -((1.0 - 3.0) ** 2) - 2.0**2


SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""


def test_the_batch_script_for_slurm_starts_a_cluster_and_a_run(problem, tmp_path):
    expect_ray()
    page = (Path(__file__).parents[2] / "docs/how-to/cluster.md").read_text()
    script = page.partition('title="evolve.sbatch"\n')[2].partition("```")[0]
    (tmp_path / "evolve.sbatch").write_text(script)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "srun").write_text(SRUN)
    (tools / "scontrol").write_text("#!/bin/sh\nhostname -I | cut -d' ' -f1\n")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    here = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        **NO_DOCKER,
        "PATH": f"{tools}:{here}:{os.environ['PATH']}",
        # Below the ports that Ray and others draw.
        "RAY_PORT": str(20000 + os.getpid() % 10000),
        "HOME": str(tmp_path),
        "SLURM_JOB_NODELIST": "n[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "1",
        "PROBLEM": str(problem),
        "EVOLVE_SET_LOOP__GENERATIONS": "3",
        "RAY_OBJECT_STORE_MEMORY": str(80 << 20),
    }
    done = subprocess.run(
        ["bash", "evolve.sbatch"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode in {0, 3}, done.stdout + done.stderr
    assert len(run_json("show", "runs/mine", cwd=tmp_path)["nodes"]) in {1, 2}
