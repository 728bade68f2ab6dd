import ast
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import evolve
from evolve import scoring

PACKAGE = Path(evolve.__file__).parent
ROOT = Path(__file__).parents[1]
MODULES = sorted(PACKAGE.rglob("*.py"))
ORDER = re.findall(r"\w+", (evolve.__doc__ or "").split("order):")[1])


def unit_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_units(path: Path) -> set[str]:
    units = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
            if node.module == "evolve":
                names = [f"evolve.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        units |= {name.split(".")[1] for name in names if name.startswith("evolve.")}
    return units


def test_the_package_docstring_lists_every_module():
    units = {unit_of(path) for path in MODULES} - {"__init__", "__main__"}
    assert units == set(ORDER)


def test_a_module_imports_only_from_those_before_it():
    wrong = {}
    for path in MODULES:
        unit = unit_of(path)
        if unit not in {"__init__", "__main__"}:
            allowed = {*ORDER[: ORDER.index(unit) + 1], "__version__"}
            wrong[str(path.relative_to(PACKAGE))] = imported_units(path) - allowed
    assert {path: units for path, units in wrong.items() if units} == {}


def test_modules_and_functions_stay_small():
    for path in MODULES:
        text = path.read_text()
        assert text.count("\n") <= 500, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                statements = sum(isinstance(item, ast.stmt) for item in ast.walk(node)) - 1
                assert statements <= 30, f"{path}: {node.name}: {statements} statements"


def test_packages_hold_no_logic():
    for path in MODULES:
        if path.name == "__init__.py":
            kinds = (ast.FunctionDef, ast.ClassDef, ast.For, ast.With)
            found = [node for node in ast.parse(path.read_text()).body if isinstance(node, kinds)]
            assert not found, path


def test_exported_names_exist_and_are_sorted():
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
                names = ast.literal_eval(node.value)
                assert names == sorted(names, key=lambda name: (name.upper() != name, name))
                module = ".".join(["evolve", *path.relative_to(PACKAGE).with_suffix("").parts])
                loaded = __import__(module.removesuffix(".__init__"), fromlist=names)
                assert [name for name in names if not hasattr(loaded, name)] == [], path


def test_importing_prints_nothing_touches_no_file_and_loads_nothing_slow(tmp_path):
    code = (
        "import sys, pkgutil, importlib, evolve\n"
        "for found in pkgutil.walk_packages(evolve.__path__, 'evolve.'):\n"
        "    if not found.name.endswith('__main__'): importlib.import_module(found.name)\n"
        "slow = {'litellm', 'docker', 'scipy', 'openai'} & set(sys.modules)\n"
        "assert not slow, slow\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_help_loads_neither_numpy_nor_rich():
    code = (
        "import sys; sys.argv = ['evolve', '--help']\n"
        "from evolve.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'numpy', 'rich', 'litellm', 'docker'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Exit codes" in done.stdout


def test_nothing_is_unpickled():
    # Run folders come from anywhere, and what a pickle names is called.
    reads = re.compile(
        r"\b(import|from) (pickle|_pickle|cPickle|dill|cloudpickle|joblib|shelve|multiprocessing)\b"
        r"|marshal\.loads?\b|allow_pickle|np\.load\b|yaml\.(unsafe_|full_)?load\("
    )
    found = [str(path.relative_to(PACKAGE)) for path in MODULES if reads.search(path.read_text())]
    assert found == []


def test_the_wall_clock_is_read_for_dates_alone():
    # It may be set back; what lasts is measured by clocks that cannot be.
    reads = re.compile(
        r"time\.time\(|time_ns\(|datetime\.(now|today|utcnow)\(|gmtime\(|localtime\("
    )
    found = {str(path.relative_to(PACKAGE)) for path in MODULES if reads.search(path.read_text())}
    assert found == {
        "models/providers.py",
        "runs/run_folder.py",
        "runs/running.py",
        "runs/proving.py",
        "runs/starting.py",
        # Events of the engine are asked for by date.
        "sandbox/docker.py",
        # What is recorded has the date.
        "store/store.py",
    }


def test_a_class_name_means_one_thing():
    places: dict[str, list[str]] = {}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(str(path.relative_to(PACKAGE)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_a_module_name_means_one_thing():
    names = [path.name for path in MODULES if path.name != "__init__.py"]
    assert [name for name in names if names.count(name) > 1] == []


# What a native writer would not say, and words for which the field has standard terms.
ODD = re.compile(
    r"\b(is told|passed over|goes on|what is no|what held|that is none|came about|"
    r"for all that|gives none|knob|salvage|witness|seal|cage|sketch|bench|lane)\b",
    re.IGNORECASE,
)


def test_prose_uses_plain_standard_words():
    docs = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    docs += sorted((ROOT / "docs").rglob("*.md"))
    found = [
        f"{path.name}:{number}: {match[0]}"
        for path in (*MODULES, *docs)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (match := ODD.search(line))
    ]
    assert not found


@pytest.mark.parametrize("name", ["write_commands_page", "write_settings_page"])
def test_a_generated_page_is_current(name):
    script = runpy.run_path(str(ROOT / "scripts" / f"{name}.py"))
    outdated = script["PAGE"].read_text() != script["write_page"]()
    assert not outdated, f"run: python scripts/{name}.py"


@pytest.mark.parametrize(("name", "module"), [("scoring", scoring), ("python", evolve)])
def test_everything_public_is_documented(name, module):
    page = (ROOT / "docs" / "reference" / f"{name}.md").read_text()
    documented = set(re.findall(rf"^::: {module.__name__}\.(\w+)$", page, re.MULTILINE))
    assert documented == set(module.__all__) - {"__version__"}
