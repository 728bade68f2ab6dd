import ast
import re
from pathlib import Path
from types import ModuleType

from evolve.sandbox.backends import BACKENDS
from tests.sandbox import test_places

from . import (
    test_sandbox,
    test_sandbox_attacks,
    test_sandbox_blame,
    test_sandbox_commands,
    test_sandbox_host,
    test_sandbox_memory,
    test_sandbox_tricks,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "explanation" / "sandbox.md"
TABLE = DOCUMENT.read_text().partition("## Attack by attack")[2].partition("*watched*")[0]
HEAD, _, *ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TABLE.splitlines()
    if line.startswith("|")
]


def find_tests(*modules: ModuleType) -> dict[str, set[str]]:
    return {
        node.name.removeprefix("test_"): {argument.arg for argument in node.args.args}
        for module in modules
        for node in ast.walk(ast.parse(Path(module.__file__ or "").read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


ATTACKS = find_tests(
    test_sandbox_attacks,
    test_sandbox_tricks,
    test_sandbox_host,
    test_sandbox_memory,
    test_sandbox_blame,
)
OTHERS = find_tests(test_sandbox, test_sandbox_commands, test_places)


def named_in(row: list[str]) -> list[str]:
    return re.findall(r"`(\w+)`", row[-1])


def test_every_attack_of_the_contract_stands_in_the_table_once() -> None:
    named = [name for row in ROWS for name in named_in(row)]
    assert sorted(name for name in named if name not in OTHERS) == sorted(ATTACKS)


def test_every_backend_has_its_column() -> None:
    assert ["attack", *BACKENDS, "native-", "held by"] == HEAD


def test_what_only_namespaces_stop_is_called_so() -> None:
    for row in ROWS:
        needs_namespaces = any("namespaced" in (ATTACKS | OTHERS)[name] for name in named_in(row))
        is_called_so = row[4] in {"open", "watched"} and row[3] == "stopped"
        assert is_called_so == needs_namespaces, row[0]
