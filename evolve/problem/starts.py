"""Where a search begins: the starting program, or the signatures of one that is missing."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

from evolve.errors import ProblemError
from evolve.files import inside
from evolve.problem.checked_files import read_source
from evolve.problem.toml_table import TomlTable
from evolve.records import Program, SourceFile

FOLDER = "initial"
"""The folder of a problem whose files, and folders of files, are starting programs, too."""

_FILE = "initial.py"


def read_initial(program: TomlTable, folder: Path) -> Program:
    """Returns the starting program; without `initial.py` the first one in `initial/`.

    Raises:
        ProblemError: A file is missing, or cannot be used.
    """
    paths = program.texts("files", (_FILE,), required=True)
    further = sorted((folder / FOLDER).glob("*.py"))
    if "files" not in program.values and not (folder / _FILE).exists() and further:
        text = read_source(folder, f"{FOLDER}/{further[0].name}", program.where).text
        return Program((SourceFile(_FILE, text),))
    return Program(tuple(read_source(folder, name, program.where) for name in paths))


def read_signatures(program: TomlTable, folder: Path) -> Mapping[str, str]:
    """Returns the functions that a problem without a starting program asks for, by name.

    Raises:
        ProblemError: One is no signature, or there is a starting program, too.
    """
    texts = program.texts("signature", ())
    if texts and ("files" in program.values or (folder / _FILE).exists()):
        raise ProblemError(
            f"{program.where}: `signature`: expected no starting program next to it, got one"
        )
    return dict(_read_signature(text, program.where) for text in texts)


def _read_signature(text: str, where: str) -> tuple[str, str]:
    line = " ".join(text.split()).removesuffix(":")
    try:
        found = ast.parse(f"{line}:\n    pass").body
    except SyntaxError:
        found = []
    if len(found) != 1 or not isinstance(found[0], ast.FunctionDef):
        raise ProblemError(
            f"{where}: `signature`: expected a line such as `def pack(count: int) -> list`, "
            f"got {text!r:.200}"
        )
    return found[0].name, line


def write_stub(signatures: Mapping[str, str]) -> Program:
    """Returns what stands for the starting program of a problem without one."""
    functions = "\n\n".join(
        f'{line}:\n    raise NotImplementedError("there is no program yet")\n'
        for line in signatures.values()
    )
    text = f"# EVOLVE-BLOCK-START\n{functions}# EVOLVE-BLOCK-END\n"
    return Program((SourceFile(_FILE, text),))


def read_patterns(program: TomlTable) -> tuple[str, ...]:
    """Returns the patterns of files that programs may add.

    Raises:
        ProblemError: One leads out of the program's folder.
    """
    patterns = program.texts("may_add", ())
    for pattern in patterns:
        try:
            inside(pattern)
        except ValueError as error:
            raise ProblemError(f"{program.where}: `may_add`: {error}") from None
    return patterns
