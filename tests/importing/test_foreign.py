import json
import runpy

import pytest

from evolve.errors import UsageError
from evolve.importing.foreign import Wishes, write_foreign
from evolve.importing.readers import read_foreign
from evolve.problem import load_problem
from evolve.scoring import Infeasible
from tests.commands import UNTUNED, run_evolve, run_json
from tests.direct_program import DirectStart

# Small folders of the forms in which the three systems publish theirs.
PROGRAM = """# EVOLVE-BLOCK-START
def place():
    return [1.0, 2.0]
# EVOLVE-BLOCK-END
"""
OPENEVOLVE = {
    "initial_program.py": PROGRAM,
    "evaluator.py": """
import importlib.util
from openevolve.evaluation_result import EvaluationResult
from points import TARGET

def load(path):
    spec = importlib.util.spec_from_file_location("program", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.place()

def evaluate_stage1(program_path):
    found = load(program_path)
    return {"combined_score": 1.0 if len(found) == 2 else 0.2}

def evaluate_stage2(program_path):
    print("second stage")
    gap = sum(abs(a - b) for a, b in zip(load(program_path), TARGET))
    return EvaluationResult({"combined_score": 1 / (1 + gap), "gap": gap}, {"hint": "nearer"})

def evaluate(program_path):
    return evaluate_stage2(program_path)
""",
    "points.py": "TARGET = (3.0, -2.0)\n",
    "config.yaml": """
prompt:
  system_message: "Move the {{two}} numbers to a hidden point."
evaluator:
  timeout: 20
  cascade_thresholds: [0.5]
""",
}
LOONGFLOW = {
    "initial_program.py": PROGRAM,
    "eval_program.py": """
import importlib.util

def evaluate(program_path):
    spec = importlib.util.spec_from_file_location("program", program_path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.place()
    if found[0] > 5:
        return {"status": "validation_failed", "score": 0.0, "summary": "too far right"}
    return {"status": "success", "score": found[0], "summary": "fine",
            "metrics": {"first": found[0]}, "artifacts": {"points": str(found)}}
""",
    "task_config.yaml": "evolve:\n  task: Enlarge the first number.\n  evaluator: {timeout: 9}\n",
}
SHINKA = {
    "initial.py": PROGRAM,
    "evaluate.py": """
from shinka.core import run_shinka_eval

def validate(found):
    return (found[0] >= 0, None if found[0] >= 0 else "negative")

def main(program_path, results_dir):
    run_shinka_eval(
        program_path=program_path, results_dir=results_dir, experiment_fn_name="place",
        num_runs=2, get_experiment_kwargs=lambda number: {},
        validate_fn=validate,
        aggregate_metrics_fn=lambda all: {
            "combined_score": sum(found[0] for found in all) / len(all),
            "public": {"runs": len(all)}, "private": {"secret": 77}, "text_feedback": "go right"},
    )
""",
    "run_evo.py": 'search_task_sys_msg = """Move right."""\nraise SystemExit("not to be run")\n',
}
FORMS = {"openevolve": OPENEVOLVE, "loongflow": LOONGFLOW, "shinka": SHINKA}
# One generation, without tuning.
SHORT = ("--generations", "1", *UNTUNED)
OBJECTIVES = {"openevolve": 1 / 7, "loongflow": 1.0, "shinka": 1.0}


@pytest.fixture
def theirs(tmp_path):
    for kind, files in FORMS.items():
        (tmp_path / "theirs" / kind).mkdir(parents=True)
        for name, text in files.items():
            (tmp_path / "theirs" / kind / name).write_text(text)
    return tmp_path


def score_start(folder):
    """Returns the score of an imported problem's start, by its evaluator, without a sandbox."""
    problem = load_problem(folder)
    return runpy.run_path(str(problem.evaluator))["evaluate"](DirectStart(problem))


@pytest.mark.parametrize("kind", FORMS)
def test_an_imported_folder_scores_its_start_and_says_that_it_can_be_forged(kind, theirs):
    done = run_evolve("init", "--from", kind, f"theirs/{kind}", "mine", cwd=theirs)
    assert "can forge its scores" in done.stdout
    assert score_start(theirs / "mine").objective == pytest.approx(OBJECTIVES[kind])


def test_every_command_says_that_the_scores_can_be_forged(theirs):
    write_foreign(read_foreign("openevolve", theirs / "theirs/openevolve"), theirs / "mine")
    checked = run_evolve("check", "mine", cwd=theirs).stdout
    assert f"objective {OBJECTIVES['openevolve']:.10g}" in checked
    assert "can forge its scores" in checked
    done = run_evolve("run", "mine", *SHORT, "--run-dir", "runs/r", cwd=theirs)
    assert done.stdout.count("can forge its scores") == 2
    state = run_json("show", "r", cwd=theirs)
    assert state["cooperative"] is True
    assert state["champion"]["objective"] >= OBJECTIVES["openevolve"]
    for command in (("show", "r"), ("best", "r"), ("compare", "r"), ("verify", "r")):
        assert "can forge its scores" in run_evolve(*command, cwd=theirs).stdout, command
    assert "can be forged" in run_evolve("ls", cwd=theirs).stdout
    assert "can forge its scores" in (theirs / "runs/r/report.html").read_text()
    certificate = json.loads((theirs / "runs/r/certificate.json").read_text())
    assert certificate["cooperative"] is True
    assert certificate["start"] == OBJECTIVES["openevolve"]
    assert certificate["noise"] == 0.0


def test_statement_limits_and_stages_are_taken_over(theirs):
    write_foreign(read_foreign("openevolve", theirs / "theirs/openevolve"), theirs / "mine")
    problem = load_problem(theirs / "mine")
    assert problem.statement == "Move the { {two} } numbers to a hidden point.\n"
    assert problem.limits["seconds"] == 40.0
    assert problem.cooperative
    assert "thresholds=(0.5,)" in problem.evaluator.read_text()


@pytest.mark.parametrize(
    ("kind", "body", "reason"),
    [
        ("shinka", "return [-1.0, 0.0]", "validation failed: negative"),
        ("shinka", "return [1.0, 2.0][2]", "IndexError"),
    ],
)
def test_what_their_evaluator_refuses_has_no_objective(kind, body, reason, theirs):
    initial = "initial.py" if kind == "shinka" else "initial_program.py"
    path = theirs / "theirs" / kind / initial
    path.write_text(path.read_text().replace("return [1.0, 2.0]", body))
    write_foreign(read_foreign(kind, theirs / "theirs" / kind), theirs / "mine")
    with pytest.raises(Infeasible, match=reason):
        score_start(theirs / "mine")


def test_how_to_take_a_start_that_their_evaluator_fails_on_is_said(theirs):
    path = theirs / "theirs/openevolve/initial_program.py"
    path.write_text(path.read_text().replace("return [1.0, 2.0]", "return None"))
    run_evolve("init", "--from", "openevolve", "theirs/openevolve", "mine", cwd=theirs)
    errors = run_evolve("check", "mine", cwd=theirs, code=2).stderr
    assert "TypeError" in errors
    assert "--allow-broken-start" in errors


@pytest.mark.parametrize(
    ("kind", "body", "objective"),
    [("openevolve", "return [1.0]", 0.2), ("loongflow", "return [9.0, 9.0]", 0.0)],
)
def test_a_start_that_their_system_keeps_is_placed_with_its_score(kind, body, objective, theirs):
    path = theirs / "theirs" / kind / "initial_program.py"
    path.write_text(path.read_text().replace("return [1.0, 2.0]", body))
    write_foreign(read_foreign(kind, theirs / "theirs" / kind), theirs / "mine")
    score = score_start(theirs / "mine")
    assert score.objective == objective
    assert ("warning" in score.artifacts) == (kind == "loongflow")


def test_private_metrics_stay_out_of_the_run(theirs):
    write_foreign(read_foreign("shinka", theirs / "theirs/shinka"), theirs / "mine")
    run_evolve("run", "mine", *SHORT, "--run-dir", "r", cwd=theirs)
    run_evolve("export", "r", "--output", "out", cwd=theirs)
    text = (theirs / "out/run.jsonl").read_text()
    assert "go right" in text
    assert "secret" not in text


@pytest.fixture
def folder(tmp_path):
    """Writes a folder of OpenEvolve's form, with other files in place of some."""

    def write(**texts):
        files = {
            "initial_program.py": PROGRAM,
            "evaluator.py": 'def evaluate(path): return {"combined_score": 1.0}\n',
            "config.yaml": "prompt: {system_message: Raise it.}\n",
        }
        for name, text in (files | texts).items():
            path = tmp_path / "folder" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(text, bytes):
                path.write_bytes(text)
            elif text is not None:
                path.write_text(text)
        return tmp_path / "folder"

    return write


def table_of(foreign):
    return {row.name: row.here for row in foreign.table}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("timeout: 5m", 300.0), ("timeout: '45s'", 45.0), ("timeout: null", 300.0), ("{}", 300.0)],
)
def test_times_are_read_as_people_write_them(text, seconds, folder):
    config = f"evaluator:\n  {text}\n"
    assert read_foreign("openevolve", folder(**{"config.yaml": config})).seconds == seconds


@pytest.mark.parametrize(
    ("text", "thresholds"),
    [("null", (0.5, 0.75, 0.9)), ("0.3", (0.3,)), ("[0.1, 0.2]", (0.1, 0.2))],
)
def test_thresholds_may_be_nothing_one_number_or_several(text, thresholds, folder):
    evaluator = "def evaluate_stage1(path): return {}\n"
    config = f"evaluator:\n  cascade_thresholds: {text}\n"
    found = read_foreign("openevolve", folder(**{"config.yaml": config, "evaluator.py": evaluator}))
    assert found.asked.thresholds == thresholds


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("evaluator: {timeout: soon}", r"config\.yaml: `evaluator\.timeout`: expected seconds"),
        ("evaluator: {cascade_thresholds: [a]}", r"`evaluator\.cascade_thresholds`: expected num"),
        ("a: [", r"config\.yaml: expected YAML"),
        ("- a", r"config\.yaml: expected a table"),
    ],
)
def test_a_value_that_cannot_be_read_is_named_with_its_place(config, message, folder):
    with pytest.raises(UsageError, match=message):
        read_foreign("openevolve", folder(**{"config.yaml": config}))


@pytest.mark.parametrize(
    ("name", "initial"),
    [("init_program.py", "initial.py"), ("initial_prompt.txt", "initial.txt"),
     ("seed.py", "initial.py"), ("kernel.cu", "initial.cu")],
)  # fmt: skip
def test_starting_programs_of_other_names_are_found(name, initial, folder):
    files = {"initial_program.py": None, name: PROGRAM}
    assert list(read_foreign("openevolve", folder(**files)).files) == [initial]


def test_of_several_evaluators_the_one_that_can_be_called_is_taken(folder):
    place = folder(**{"evaluator/evaluator.py": "# started by a shell script\n"})
    assert read_foreign("skydiscover", place).asked.evaluator == "evaluator.py"


def test_a_program_of_several_files_comes_along_whole(folder):
    files = {"initial_program.py": None, "initial_program/lib.hpp": "int x;\n"}
    found = read_foreign("openevolve", folder(**files, **{"initial_program/main.py": PROGRAM}))
    assert list(found.files) == ["initial_program/main.py", "initial_program/lib.hpp"]
    assert found.path == "initial_program"


def test_a_start_is_chosen_where_several_could_be_one(folder):
    files = {"initial_program.py": None, "a.py": PROGRAM, "b.py": PROGRAM}
    place = folder(**files)
    with pytest.raises(UsageError, match=r"got a\.py, b\.py; .*--initial FILE"):
        read_foreign("openevolve", place)
    assert read_foreign("openevolve", place, Wishes(initial="b.py")).path == "initial.py"


def test_sources_in_latin_1_are_written_as_utf_8(folder, tmp_path):
    source = PROGRAM.replace("place", "place", 1) + "# caf\xe9\n"
    place = folder(**{"initial_program.py": source.encode("latin-1")})
    write_foreign(read_foreign("openevolve", place), tmp_path / "mine")
    assert "café" in (tmp_path / "mine/initial.py").read_text(encoding="utf-8")


def test_a_configuration_of_another_name_is_read_and_the_others_are_named(folder):
    config = "prompt: {system_message: First phase.}\n"
    other = config.replace("First", "Second")
    files = {"config.yaml": None, "config_phase_1.yaml": config, "config_phase_2.yaml": other}
    place = folder(**files)
    found = read_foreign("openevolve", place)
    assert found.statement == "First phase."
    assert "--config" in table_of(found)["config_phase_2.yaml"]
    chosen = read_foreign("openevolve", place, Wishes(config="config_phase_2.yaml"))
    assert chosen.statement == "Second phase."


@pytest.mark.parametrize(
    ("config", "files", "statement"),
    [
        ("llm: {system_message: Under llm.}", {}, "Under llm."),
        ("prompt: {system_message: words}", {"templates/words.txt": "In a file."}, "In a file."),
        ("prompt: {system_message: system_message}", {}, ""),
        ("{}", {}, ""),
    ],
)
def test_the_statement_is_found_or_its_lack_is_said(config, files, statement, folder):
    found = read_foreign("openevolve", folder(**{"config.yaml": config, **files}))
    assert found.statement == statement
    assert ("write statement.md yourself" in table_of(found).get("statement", "")) == (
        not statement
    )


def test_every_setting_is_mapped_or_named_with_the_reason(folder):
    config = """
max_iterations: 77
random_seed: 7
diff_based_evolution: false
unheard_of: 3
llm: {api_key: sk-abcdefghijklmnop, temperature: 0.3, models: [{name: m}]}
prompt: {system_message: Raise it., template_dir: t}
database: {num_islands: 7, feature_dimensions: [size]}
evaluator: {timeout: 11, memory_limit_mb: 900, parallel_evaluations: 3}
"""
    found = read_foreign("openevolve", folder(**{"config.yaml": config}))
    table = table_of(found)
    assert found.options == (
        "--max-evaluations 77 --seed 7 --set steps.form=rewrite --set temperature.all=0.3 "
        "--set search.islands=7 --workers 3"
    )
    assert table["evaluator.timeout"] == "limits.seconds = 11"
    assert table["evaluator.memory_limit_mb"] == "limits.memory_mb = 900"
    assert "ranges under [[measures]]" in table["database.feature_dimensions"]
    for name in ("unheard_of", "llm.models", "llm.api_key", "prompt.template_dir"):
        assert table[name].startswith("nothing: ")
    assert not any("sk-abc" in cell for row in found.table for cell in row)


def test_neither_keys_nor_solutions_come_along_and_it_is_said(folder, tmp_path):
    files = {
        "config.yaml": "llm:\n  api_key: sk-abcdefghijklmnop\n",
        "best_program.py": "def place(): return [9.0]\n",
        ".env": "OPENAI_API_KEY=abcdefgh\n",
    }
    found = read_foreign("openevolve", folder(**files))
    written = write_foreign(found, tmp_path / "mine")
    texts = "".join(path.read_text() for path in written)
    assert "abcdefgh" not in texts
    assert "[9.0]" not in texts
    table = table_of(found)
    assert table["best_program.py"].startswith("left out: named like a solution")
    assert table[".env"] == "left out: may hold keys"
    assert table["config.yaml"] == "1 keys in it read HIDDEN here"
    assert "best_program.py" in (tmp_path / "mine/import.md").read_text()


def test_large_files_become_data_of_the_problem(folder, tmp_path):
    place = folder(**{"data/big.bin": b"\1" * 300_000})
    written = write_foreign(read_foreign("openevolve", place), tmp_path / "mine")
    assert tmp_path / "mine/data/theirs/data/big.bin" in written


def test_shinka_settings_are_read_from_its_script(folder):
    script = """
from shinka.launch import LocalJobConfig
from prompts import MESSAGE
job = LocalJobConfig(time="00:20:00", extra_cmd_args={"n": 5})
evo = EvolutionConfig(task_sys_msg=MESSAGE + " Now.", num_generations=40, llm_models=["m"])
db = DatabaseConfig(num_islands=3)
"""
    files = {"run_evo.py": script, "prompts.py": 'MESSAGE = "Raise it."\n'}
    found = read_foreign("shinka", folder(**{"config.yaml": None}, **files))
    assert found.statement == "Raise it. Now."
    assert found.seconds == 1200.0
    assert found.asked.arguments == ("--n", "5")
    assert found.options == "--max-evaluations 40 --set search.islands=3"
    assert table_of(found)["evo_config.llm_models"].startswith("nothing: name models")


SMALL = {
    "skydiscover": {
        "initial_program.py": PROGRAM,
        "config.yaml": "prompt: {system_message: Raise it.}\nevaluator: {timeout: 360}\n",
        "evaluator/evaluator.py": """
import json, os, runpy
def evaluate(path):
    with open(os.path.join(os.path.dirname(__file__), "scale.json")) as f: scale = json.load(f)
    return {"combined_score": runpy.run_path(path)["place"]()[0] * scale}
""",
        "evaluator/scale.json": "2.0",
    },
    "codeevolve": {
        "input/src/init_program.py": PROGRAM,
        "configs/config.yaml": "SYS_MSG: Raise it.\nEVAL_TIMEOUT: 360\n"
        "EVOLVE_CONFIG: {fitness_key: ratio, num_epochs: 20}\n",
        "input/evaluate.py": """
import json, runpy, sys
value = runpy.run_path(sys.argv[1])["place"]()[0]
with open(sys.argv[2], "w") as f: json.dump({"value": value, "ratio": value / 0.5}, f)
""",
    },
    "levi": {
        "problem.py": f'''
PROBLEM_DESCRIPTION = "Raise it."
FUNCTION_SIGNATURE = "def place() -> list:"
SEED_PROGRAM = """{PROGRAM}"""
def score_fn(place): return {{"score": place()[0] * 2}}
''',
        "run.py": "import levi\nfrom problem import *\n"
        "levi.evolve_code(PROBLEM_DESCRIPTION, score_fn=score_fn,\n"
        "                 pipeline=levi.PipelineConfig(eval_timeout=360))\n",
    },
    "gepa": {
        "main.py": f'''
from gepa.optimize_anything import optimize_anything, GEPAConfig
SEED = """{PROGRAM}"""
def evaluate(candidate, opt_state=None):
    scope = {{}}
    exec(candidate, scope)
    return scope["place"]()[0] * 2, {{"note": "fine"}}
optimize_anything(seed_candidate=SEED, evaluator=evaluate, objective="Raise it.",
                  config=GEPAConfig(max_metric_calls=5))
''',
    },
}


@pytest.mark.parametrize("kind", SMALL)
def test_regular_folders_of_further_systems_are_imported(kind, tmp_path):
    for name, text in SMALL[kind].items():
        path = tmp_path / "theirs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    write_foreign(read_foreign(kind, tmp_path / "theirs"), tmp_path / "mine")
    assert load_problem(tmp_path / "mine").statement == "Raise it.\n"
    assert score_start(tmp_path / "mine").objective == 2.0


@pytest.mark.parametrize(
    ("kind", "missing", "message"),
    [
        ("openevolve", "evaluator.py", r"expected an evaluator of openevolve, `evaluator.py`"),
        ("shinka", "initial.py", r"expected a starting program, `initial.\*`"),
    ],
)
def test_a_folder_of_another_form_is_refused(kind, missing, message, theirs):
    (theirs / "theirs" / kind / missing).unlink()
    with pytest.raises(UsageError, match=message):
        read_foreign(kind, theirs / "theirs" / kind)


def test_an_unknown_system_is_refused_with_the_known_ones(theirs):
    with pytest.raises(UsageError, match=r"expected one of openevolve, shinka, .*; got 'x'"):
        read_foreign("x", theirs)
