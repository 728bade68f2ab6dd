"""Problem folders from functions and files: taken right, or refused by name."""

import functools
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from evolve.errors import UsageError
from evolve.problem.from_python import write_problem
from tests.direct_program import DirectProgram

START = "def f(x):\n    return x\n"


@pytest.fixture
def modules(tmp_path):
    """Returns a function that writes modules, and imports the last of them."""
    folder = tmp_path / "modules"
    folder.mkdir()
    sys.path.insert(0, str(folder))
    before = set(sys.modules)

    def write(**texts):
        for name, text in texts.items():
            (folder / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        return importlib.import_module(list(texts)[-1])

    yield write
    sys.path.remove(str(folder))
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture
def write(tmp_path):
    def call(program=START, evaluate="", folder="p"):
        return write_problem(
            tmp_path / folder, program, evaluate, statement="", direction="maximize"
        )

    return call


def score(folder, initial=START, *, seed="0"):
    """Returns what the written evaluator says in a Python of its own, with no other folder."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import evaluator; "
        "from types import SimpleNamespace; "
        "call = lambda name, *given: given[0]; "
        "print(getattr(evaluator, sys.argv[2])(SimpleNamespace(call=call)))"
    )
    function = tomllib.loads((folder / "problem.toml").read_text())["function"]
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(folder), function],
        capture_output=True, text=True, check=False, env={"PYTHONHASHSEED": seed},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


WHOLE = """
from __future__ import annotations
import concurrent.futures
import math as m
from math import floor as down
from shapes import Base, scale as larger

if False:
    from nowhere import Missing

K = 5.0
TABLE = {"a": [1, 2.5], "b": (None, True)}
LIMIT = float("inf")


def counted(function):
    return lambda program: function(program) + K


def sub(x, k=K, *, table=TABLE):
    return min(x + k + table["a"][0], LIMIT)


class Derived(Base):
    size: Missing = down(2.5)

    def area(self) -> Missing:
        return Base.area(self) + larger(self.size)


def sum(values):
    return down(m.fsum(values))


@counted
def unseen(program):
    return 0


def evaluate(program: Missing):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        found = pool.submit(sub, program.call("f", 1.0)).result()
    return sum([found, Derived().area(), deep(2)])


def deep(n):
    K2 = 7
    return n if n < 1 else deep(n - 1)
"""
SHAPES = """
import numpy as np

FACTOR = 3.0


def scale(x):
    return float(np.float64(x) * FACTOR)


class Base:
    size = scale(1.0)

    def area(self):
        return self.size
"""


def test_an_evaluator_is_taken_with_all_it_uses_in_an_order_that_runs(modules, write, tmp_path):
    whole = modules(shapes=SHAPES, whole=WHOLE)
    write(evaluate=whole.evaluate)
    assert score(tmp_path / "p") == whole.evaluate(DirectProgram(f=lambda x: x)) == 15.0
    first = (tmp_path / "p/evaluator.py").read_text()
    code = (
        "import sys; sys.path[:0] = [sys.argv[1]]; import whole; from pathlib import Path; "
        "from evolve.problem.from_python import write_problem; write_problem(Path(sys.argv[2]), "
        "'a\\n', whole.evaluate, statement='', direction='maximize')"
    )
    for seed in "123":
        command = [sys.executable, "-c", code, str(tmp_path / "modules"), str(tmp_path / seed)]
        subprocess.run(command, check=True, env={"PYTHONHASHSEED": seed})
        assert (tmp_path / seed / "evaluator.py").read_text() == first


def test_a_decorator_is_taken_with_its_function(modules, write, tmp_path):
    text = (
        "import functools\nEXTRA = 2.0\n\n"
        "def plus(function):\n"
        "    @functools.wraps(function)\n"
        "    def call(p):\n        return function(p) + EXTRA\n"
        "    return call\n\n"
        "@plus\ndef evaluate(p):\n    return cached(p.call('f', 1.0))\n\n"
        "@functools.lru_cache\ndef cached(x):\n    return x\n"
    )
    write(evaluate=modules(decorated=text).evaluate)
    assert score(tmp_path / "p") == 3.0


def test_a_file_with_the_name_of_a_standard_module_is_not_taken_for_it(modules, write, tmp_path):
    assert "this" not in sys.modules
    user = modules(
        this="def helper(x):\n    return x + 1.0\n",
        user="import this\nfrom this import helper\n\n"
        "def evaluate(p):\n    return helper(p.call('f', 1.0))\n\n"
        "def whole(p):\n    return this.helper(1.0)\n",
    )
    write(evaluate=user.evaluate)
    assert score(tmp_path / "p") == 2.0
    with pytest.raises(UsageError, match="uses the module `this`, which the evaluator's process"):
        write(evaluate=user.whole, folder="q")


def test_one_name_for_two_things_is_refused_with_both_modules(modules, write):
    two = modules(
        other="K = 1000.0\n\ndef helper(x):\n    return x + K\n",
        two="from other import helper\nK = 5.0\n\ndef evaluate(p):\n    return helper(K)\n",
    )
    with pytest.raises(
        UsageError, match=r"`K` of (two|other) and `K` of (two|other) are different"
    ):
        write(evaluate=two.evaluate)


def test_an_imported_function_keeps_the_name_under_which_it_was_imported(modules, write, tmp_path):
    named = modules(
        mine="def helper(x):\n    return x + 1.0\n",
        named="from mine import helper as hh\n\ndef rate(p):\n    return hh(p.call('f', 1.0))\n",
    )
    write(evaluate=named.rate)
    written = (tmp_path / "p/evaluator.py").read_text()
    assert "hh = helper" in written
    assert score(tmp_path / "p") == 2.0


@pytest.mark.parametrize(
    "line",
    [
        "from pathlib import Path; LIVE = Path(__file__).parent",
        "import logging; LIVE = logging.getLogger()",
        "import random; LIVE = random.Random(3)",
        "import re; LIVE = re.compile('a+')",
        "from fractions import Fraction; LIVE = Fraction(1, 3)",
        "from collections import Counter; LIVE = Counter('abc')",
        "import functools; LIVE = functools.partial(pow, 2)",
        "import numpy as np; LIVE = np.arange(3.0)",
        "import numpy as np; LIVE = np.random.default_rng(0)",
        "import datetime; LIVE = datetime.datetime(2020, 1, 1)",
        "LIVE = [object()]",
        "import random; LIVE = random.Random(3).random",
    ],
)
def test_a_live_object_is_refused_by_name(modules, write, line, tmp_path):
    live = modules(live=f"{line}\n\ndef evaluate(p):\n    return LIVE\n")
    with pytest.raises(UsageError, match=r"uses `LIVE` \(\w+\), which only lives in this process"):
        write(evaluate=live.evaluate)
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "def evaluate(p, q):\n    return 1\n",
            r"one argument, the program, got `evaluate\(p, q\)",
        ),
        ("def evaluate():\n    return 1\n", r"one argument, the program, got `evaluate\(\)"),
        ("async def evaluate(p):\n    return 1\n", "is `async` or yields"),
        ("import mine\n\ndef evaluate(p):\n    return mine.helper(1)\n", "uses the module `mine`"),
        ("def evaluate(p):\n    import mine\n    return mine.helper(1)\n", "the module `mine`"),
        (
            "from collections import namedtuple as n\nPair = n('P', '')\ndef evaluate(p): Pair\n",
            "Pair: its source cannot be found; define it with `def` or `class` in a file",
        ),
        (
            "import functools\n\ndef f(p):\n    return 1\n\nevaluate = functools.lru_cache(f)\n",
            "something was wrapped around later",
        ),
    ],
)
def test_an_evaluator_that_would_fail_later_is_refused_at_once(modules, write, text, said):
    taken = modules(mine="def helper(x):\n    return x\n", bad=text)
    with pytest.raises(UsageError, match=said):
        write(evaluate=taken.evaluate)


def test_an_evaluators_file_brings_the_modules_next_to_it(write, tmp_path):
    (tmp_path / "score.py").write_text(
        "from mine import helper\n\ndef evaluate(p):\n    return helper(p.call('f', 1.0))\n"
    )
    (tmp_path / "mine.py").write_text("import deeper\n\ndef helper(x):\n    return deeper.K + x\n")
    (tmp_path / "deeper.py").write_text("K = 4.0\n")
    write(evaluate=tmp_path / "score.py")
    assert score(tmp_path / "p") == 5.0
    (tmp_path / "deeper.py").unlink()
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper/__init__.py").write_text("K = 4.0\n")
    with pytest.raises(UsageError, match=r"score.py: imports the package `deeper` next to it"):
        write(evaluate=tmp_path / "score.py", folder="q")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def score(p):\n    return 1.0\n", r"score.py: expected a function `evaluate\(program\)`"),
        ("def evaluate(p:\n", r"score.py: cannot be parsed: .*line 1"),
        (b"\xff\x00\xff", r"score.py: expected text in UTF-8"),
        (None, r"expected a function, or the path of a file that defines `evaluate`, found no"),
    ],
)
def test_an_evaluators_file_is_checked_before_the_run(write, tmp_path, text, said):
    if text is not None:
        (tmp_path / "score.py").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=said):
        write(evaluate=str(tmp_path / "score.py"))


OUTSIDE = """
import functools
import math

LENGTH = 3

def plain(x: math.nan) -> math.nan:
    import math
    return plain(x - 1) if x > LENGTH_OF(x) else [LENGTH for LENGTH in range(3)] + [sum([x])]

def module(x):
    return math.sqrt(x)

def value(x):
    return [x for _ in range(LENGTH)]

def default(x=LENGTH):
    return x

@functools.lru_cache
def decorated(x):
    return x

def around():
    held = 1
    def closing(x):
        return x + held
    return closing
"""


def test_a_starting_function_brings_nothing_from_around_it(modules, write, tmp_path):
    outside = modules(outside=OUTSIDE)
    score_file = tmp_path / "score.py"
    score_file.write_text("def evaluate(p):\n    return 1.0\n")
    for function, name in (
        (outside.module, "math"), (outside.value, "LENGTH"), (outside.default, "LENGTH"),
        (outside.decorated, "functools"), (outside.around(), "held"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=f"program: `.*` uses `{name}` from outside of it"):
            write(function, score_file)
    write(outside.plain, score_file)
    compile((tmp_path / "p/initial.py").read_text(), "initial.py", "exec")


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("", "got an empty text"),
        ("gone.py", "gone.py: no such file or folder"),
        ("my files/gone.py", "no such file or folder"),
        ("some/folder", "some/folder: no such file or folder"),
        (Path("gone"), "gone: no such file or folder"),
        (None, "expected source, a path or a function, got None"),
        (b"x = 1\n", "expected source, a path or a function, got b'x = 1"),
        ("x = '\udc80'\n", r"expected text that UTF-8 can hold, got .* at character 5"),
        (functools.partial(pow, 2), "expected a function defined with `def`, got a partial"),
    ],
)
def test_what_is_no_program_is_refused(write, tmp_path, program, said):
    (tmp_path / "score.py").write_text("def evaluate(p):\n    return 1.0\n")
    with pytest.raises(UsageError, match=f"^program: .*{said}"):
        write(program, tmp_path / "score.py")


@pytest.mark.parametrize("program", ["f = lambda x: x", f"f = lambda x: {'x + ' * 9999}x"])
def test_source_may_be_one_line(write, tmp_path, program):
    (tmp_path / "score.py").write_text("def evaluate(p):\n    return 1.0\n")
    write(program, tmp_path / "score.py")
    assert (tmp_path / "p/initial.py").read_text() == f"{program}\n"


def test_a_programs_folder_is_taken_without_what_is_hidden_or_cached(write, tmp_path):
    (tmp_path / "score.py").write_text("def evaluate(p):\n    return 1.0\n")
    program = tmp_path / "program"
    for path in (".git/config", "part/__pycache__/a.pyc", "part/a.py", ".env", "main.py"):
        (program / path).parent.mkdir(parents=True, exist_ok=True)
        (program / path).write_text("x = 1\n")
    files = write(program, tmp_path / "score.py")
    assert [path.relative_to(tmp_path / "p").as_posix() for path in files][:2] == [
        "main.py", "part/a.py",
    ]  # fmt: skip
    (program / "part/picture.png").write_bytes(b"\x89PNG\xff")
    with pytest.raises(UsageError, match=r"program: .*part/picture.png: expected text in UTF-8"):
        write(program, tmp_path / "score.py", "q")
    (program / "part/picture.png").unlink()
    (program / "evaluator.py").write_text("")
    with pytest.raises(UsageError, match=r"has a file `evaluator.py`, which the problem folder"):
        write(program, tmp_path / "score.py", "q")
