"""A problem folder, read strictly into a `Problem`: each of its files is checked as it is read."""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path, PurePosixPath
from typing import Any

from evolve.errors import ProblemError, UsageError
from evolve.files import decode_text, find_stray, inside, read_plain
from evolve.problem.problem import (
    SMOKE,
    Measure,
    Problem,
    ProblemFacts,
    ProblemTable,
    ProgramTable,
    Purpose,
    Recipe,
    Stage,
)
from evolve.records import Program, SourceFile
from evolve.source.parsing import find_blocks, find_fault, find_oddities, is_readable, list_names
from evolve.toml import expect, read_record, suggest

_MOST_CELLS = 1_000_000
MAX_FILE_BYTES = 1_000_000
STARTS = "initial"
"""The folder of a problem whose files, and folders of files, are starting programs, too."""

_INITIAL = "initial.py"
# The prompts that a problem may have of its own, as `prompts/NAME.md`.
PROMPTS = ("plan", "edit", "repair", "agent", "summarize")
# What evaluators see of the environment: no key of any provider is among it.
SEEN_VARIABLES = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV"),
    *("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"),
)
_READ_VARIABLE = re.compile(r"(?:environ(?:\.get\(|\[)|getenv\()\s*[\"'](\w+)")
# What is never shown to programs, whatever a problem asks for.
_PRIVATE = frozenset(
    {
        *(".ssh", ".aws", ".azure", ".gnupg", ".kube", ".docker", ".config", ".netrc", ".mozilla"),
        *(".password-store", ".gcloud", ".thunderbird", ".git", "documents", "desktop"),
    }
)
_HOMES = (Path("/home"), Path("/Users"), Path("/mnt"), Path("/media"))
_SYSTEM = frozenset({"etc", "proc", "sys", "dev", "run", "boot", "var"})
# `{{name}}` in statements and prompts.
PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")


def load_problem(
    path: Path | str,
    overrides: Mapping[str, object] | None = None,
    *,
    evaluators: Path | None = None,
) -> Problem:
    """Reads a problem folder and checks all that can be checked without running anything.

    Args:
        path: The folder, or the `problem.toml` in it.
        overrides: Other values for some of the problem's parameters, by name.
        evaluators: Folder in which the evaluator is looked for, by its path where the problem
            folder has it, else by its name; a run keeps copies of its own.

    Raises:
        ProblemError: Something is missing, unknown, or of the wrong type or size; the message
            names the place.
    """
    folder = _find_folder(Path(path))
    try:
        return _load(folder, overrides or {}, evaluators)
    except ProblemError:
        raise
    except UsageError as error:
        raise ProblemError(str(error)) from error


def _load(folder: Path, overrides: Mapping[str, object], evaluators: Path | None) -> Problem:
    file = folder / "problem.toml"
    top = _read_table(file)
    program, where = top.program, f"{file}: [program]"
    initial = _read_initial(program, folder, where)
    evaluator, world = _find_evaluator(folder, top.evaluator.file, str(file), evaluators)
    if evaluator in {(folder / name).resolve() for name, _ in initial.files}:
        raise ProblemError(f"{where}: expected programs, got the evaluator among `files`")
    if program.built and not program.build:
        raise ProblemError(f"{where}: `built`: expected a `build` that makes the files")
    functions = re.findall(r"^def (\w+)", "\n".join(program.signature), re.MULTILINE)
    top = replace(top, entry=top.entry or tuple(functions))
    check_entry(folder, initial, top.entry, program)
    _check_prompts(folder)
    data = folder / "data"
    # A run may have a link to what is too large for a copy.
    if data.exists() and evaluators is None:
        _expect_inside(data, folder)
    parameters = _read_parameters(top.parameters, overrides, str(file))
    _expect_distinct([one.name for one in top.objectives], f"{file}: [[objectives]]")
    return Problem(
        **{item.name: getattr(top, item.name) for item in fields(ProblemFacts)},
        statement=_read_statement(folder / "statement.md", parameters),
        initial=initial,
        has_start=not program.signature,
        may_add=program.may_add,
        recipe=program,
        evaluator=evaluator,
        world=world,
        environment=top.evaluator.environment,
        functions={one: getattr(top, one) for one in Purpose if getattr(top, one, None)},
        asks={
            role: replace(rules, calls=rules.calls or 100)
            for role, rules in {"program": program, "evaluator": top.evaluator}.items()
            if rules.model or rules.calls
        },
        stages=tuple(_read_stages(top, parameters, str(file))),
        noise=top.noise.spread,
        repeats=top.noise.repeats,
        parameters=parameters,
        measures=_read_measures(top.measures, initial, str(file)),
        shown=tuple(_check_shown(Path(name), f"{file}: [sandbox]") for name in top.sandbox.show),
        data=data.resolve() if data.is_dir() else None,
        folder=folder,
    )


def _read_table(path: Path) -> ProblemTable:
    try:
        values = tomllib.loads(read_text(path, path.parent))
        return read_record(ProblemTable, {"name": path.parent.name, **values}, str(path))
    except tomllib.TOMLDecodeError as error:
        raise ProblemError(f"{path}: expected TOML: {error}") from error


def _read_stages(top: ProblemTable, parameters: Mapping[str, Any], where: str) -> Iterator[Stage]:
    """Yields what comes before a full evaluation; `smoke` is a stage that only rejects."""
    if top.smoke:
        yield Stage(SMOKE, top.smoke, parameters, top.limits)
    names = [SMOKE]
    for number, stage in enumerate(top.stages, start=1):
        place = f"{where}: [[stages]] {number}"
        function = stage.function or top.function
        names.append(stage.name or function)
        expect(names[-1] not in names[:-1], "one of its own", names[-1], f"{place}: `name`")
        share, has_threshold = stage.share, stage.threshold is not None
        if share is not None and (share >= 1.0 or has_threshold):
            raise ProblemError(
                f"{place}: expected a `threshold`, or a `share` between 0 and 1 of the programs, "
                f"got `share = {share:g}`" + " and a `threshold`" * has_threshold
            )
        yield replace(
            stage,
            name=names[-1],
            function=function,
            parameters=_change_parameters(parameters, stage.parameters, f"{place}: parameters"),
            limits={**top.limits, **stage.limits},
        )


def _read_parameters(
    values: Mapping[str, Any], overrides: Mapping[str, object], where: str
) -> Mapping[str, Any]:
    for name in values:
        expect(name.isidentifier(), "a Python name", name, f"{where}: [parameters]")
    return _change_parameters(values, overrides, f"{where}: parameters")


def _change_parameters(
    values: Mapping[str, Any], overrides: Mapping[str, object], where: str
) -> Mapping[str, Any]:
    for name, value in overrides.items():
        if name not in values:
            raise ProblemError(f"{where}: unknown key `{name}`; {suggest(name, values)}")
        kinds = {type(value), type(values[name])}
        fits = len(kinds) == 1 or kinds == {int, float}
        expect(fits, f"the type of {values[name]!r}", value, f"{where}: `{name}`")
    return {**values, **overrides}


def _read_measures(
    measures: tuple[Measure, ...] | None, initial: Program, where: str
) -> tuple[Measure, ...]:
    if measures is None:
        # Something sensible for every program: how long it is, and how far from the start.
        length = max(sum(len(text) for _, text in initial.files), 64)
        return (
            Measure("length", length / 4, length * 4, 12, "log"),
            Measure("similarity", 0.0, 1.0, 8),
        )
    where = f"{where}: [[measures]]"
    for number, measure in enumerate(measures, start=1):
        low, high = measure.low, measure.high
        if not low < high:
            raise ProblemError(
                f"{where} {number}: expected `low` below `high`, got {low:g} and {high:g}"
            )
        fits = measure.scale != "log" or low > 0.0
        expect(fits, "it above 0 for `log`", low, f"{where} {number}: `low`")
    _expect_distinct([measure.name for measure in measures], where)
    if math.prod(measure.cells for measure in measures) > _MOST_CELLS:
        raise ProblemError(
            f"{where}: expected at most {_MOST_CELLS} cells in all; give each fewer `cells`"
        )
    return measures


def _expect_distinct(names: Sequence[str], where: str) -> None:
    expect(len(set(names)) == len(names), "different names", names, where)


def _find_folder(path: Path) -> Path:
    """Finds a problem folder by its path or that of the `problem.toml` in it.

    Raises:
        ProblemError: There is none.
    """
    folder = path.parent if path.name == "problem.toml" else path
    if not (folder / "problem.toml").is_file():
        reason = (
            "expected a problem folder, got nothing; `evolve gallery` lists the problems that can "
            "be run by name"
        )
        if folder.is_dir():
            reason = (
                "expected a problem folder, got one without `problem.toml`; `evolve init FOLDER` "
                "makes a new one"
            )
        elif folder.is_file():
            reason = f"expected a problem folder, got a file; name its folder: {folder.parent}"
        raise ProblemError(f"{path}: {reason}")
    return folder.resolve()


def _expect_inside(path: Path, folder: Path) -> None:
    """Checks that a file, or all that lies in a folder, is where it seems to be.

    A folder that somebody else made must not bring other files of the user's into prompts,
    reports and runs.

    Raises:
        ProblemError: A link leads out of the problem folder.
    """
    stray = find_stray(path, folder)
    if stray is not None and stray.is_symlink():
        raise ProblemError(
            f"{stray}: expected a file of the folder, got a link that leads out of {folder} or "
            "in a circle; put a copy in its place"
        )


def read_text(path: Path, folder: Path) -> str:
    """Reads a text file of a problem folder.

    Raises:
        ProblemError: It cannot be read, lies outside, is too large, or is not UTF-8.
    """
    _expect_inside(path, folder)
    try:
        data = read_plain(path, MAX_FILE_BYTES)
    except OSError as error:
        raise ProblemError(f"{path}: expected a file that can be read: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise ProblemError(f"{path}: expected at most {MAX_FILE_BYTES} bytes, got more")
    try:
        return decode_text(data)
    except UnicodeDecodeError as error:
        raise ProblemError(f"{path}: expected text in UTF-8: {error}") from error


def _read_statement(path: Path, parameters: Mapping[str, Any]) -> str:
    """Reads the statement and puts the parameters in where it says `{{name}}`.

    Raises:
        ProblemError: It cannot be read, is empty, or names an unknown parameter.
    """
    text = read_text(path, path.parent)
    if not text.strip():
        raise ProblemError(f"{path}: expected what a program has to do, in words; got nothing")

    return fill_placeholders(text, parameters, f"{path}: unknown parameter")


def fill_placeholders(text: str, values: Mapping[str, object], where: str) -> str:
    """Returns a text with a value in place of each `{{name}}`, once: values are not filled again.

    Args:
        text: A statement or a prompt.
        values: By name.
        where: Beginning of the message about an unknown name.

    Raises:
        ProblemError: A name has no value.
    """

    def look_up(match: re.Match[str]) -> str:
        if match[1] not in values:
            known = ", ".join(sorted(values)) or "none"
            raise ProblemError(f"{where} `{match[0]}`; known: {known}")
        return str(values[match[1]])

    return PLACEHOLDER.sub(look_up, text)


def read_source(folder: Path, name: str, where: str) -> SourceFile:
    """Reads a file of the starting program.

    Args:
        folder: The problem folder.
        name: Path in it.
        where: Who names the file, for messages.

    Raises:
        ProblemError: It lies outside, cannot be read, or cannot be parsed.
    """
    try:
        relative = inside(str(PurePosixPath(name)), f"{where}: `files`")
    except ValueError as error:
        raise ProblemError(str(error)) from error
    path = folder / relative
    text = read_text(path, folder)
    try:
        find_blocks(text)
    except ProblemError as error:
        raise ProblemError(f"{path}: {error}") from error
    fault = find_fault(path.name, text)
    if fault is not None:
        kind = "Python" if path.suffix == ".py" else path.suffix[1:].upper()
        raise ProblemError(f"{path}: expected {kind} that can be parsed: {fault}")
    return SourceFile(str(relative), text)


def _read_initial(table: ProgramTable, folder: Path, where: str) -> Program:
    """Returns the starting program; without `initial.py` the first one in `initial/`, or a stub.

    Raises:
        ProblemError: A file is missing, or cannot be used.
    """
    files, further = table.files, sorted((folder / STARTS).glob("*.py"))
    has_none = not files and not (folder / _INITIAL).exists()
    if table.signature:
        if not has_none:
            place = f"{where}: `signature`"
            raise ProblemError(f"{place}: expected no starting program next to it, got one")
        return _write_stub(table.signature)
    if has_none and further:
        text = read_source(folder, f"{STARTS}/{further[0].name}", where).text
        return Program((SourceFile(_INITIAL, text),))
    return Program(tuple(read_source(folder, name, where) for name in files or (_INITIAL,)))


def _write_stub(signatures: Sequence[str]) -> Program:
    """Returns what stands for the starting program of a problem without one."""
    body = ':\n    raise NotImplementedError("there is no program yet")\n'
    functions = "\n\n".join(f"{line}{body}" for line in signatures)
    text = f"# EVOLVE-BLOCK-START\n{functions}# EVOLVE-BLOCK-END\n"
    return Program((SourceFile(_INITIAL, text),))


def list_warnings(problem: Problem) -> list[str]:
    """Returns what is probably not meant in a problem's files, a line for each."""
    lines = [
        f"warning: {problem.folder / path}: {oddity}"
        for path, text in problem.initial.files
        for oddity in find_oddities(text)
    ]
    code = problem.evaluator.read_text(encoding="utf-8", errors="replace")
    lacking = {*_READ_VARIABLE.findall(code)} - {*problem.environment, *SEEN_VARIABLES}
    if missing := sorted(lacking & os.environ.keys()):
        lines.append(
            f"warning: {problem.evaluator}: reads {', '.join(missing)}, which it does not see: to "
            "let variables through, name them in problem.toml, under [evaluator], as in "
            f'`environment = ["{missing[0]}"]`'
        )
    return lines


def check_entry(folder: Path, initial: Program, entry: tuple[str, ...], recipe: Recipe) -> None:
    """Checks that evaluators can reach the program through its first file.

    Raises:
        ProblemError: It can be neither imported nor started, nor is it text; or it lacks a
            function.
    """
    path, text = initial.entry
    if not entry and (recipe.run or is_readable(path)):
        return
    stem = PurePosixPath(path).stem
    if not path.endswith(".py") or not stem.isidentifier():
        raise ProblemError(
            f"{folder / path}: expected a Python file whose name can be imported as the first "
            "of the program's files, or in [program] `run`, the command that starts the program; "
            "a text for `program.files` is named `.txt`, `.md`, `.json`, `.toml`, `.yaml`, `.sql` "
            "or the like and has no `entry`"
        )
    missing = [name for name in entry if name not in list_names(text)]
    if missing:
        raise ProblemError(f"{folder / path}: expected a function `{missing[0]}` at the top level")


def _check_prompts(folder: Path) -> None:
    """Checks that each file in `prompts/` replaces a prompt.

    Raises:
        ProblemError: One is not.
    """
    prompts = folder / "prompts"
    if prompts.exists():
        _expect_inside(prompts, folder)
    for path in sorted(prompts.glob("*")):
        if path.suffix != ".md" or path.stem not in PROMPTS:
            known = ", ".join(f"{name}.md" for name in PROMPTS)
            raise ProblemError(
                f"{path}: expected one of {known}, got a file that no step reads; rename it, "
                "or move it out of `prompts`"
            )


def _check_shown(named: Path, where: str) -> Path:
    """Returns a folder that programs may see.

    Raises:
        ProblemError: It is none, or holds more than a tool chain: a home, keys, the system.
    """
    path = Path(os.path.normpath(named.expanduser()))
    real, home = path.resolve(), Path.home().resolve()
    parts = {part.lower() for part in real.parts}
    is_whole = real == home or real in home.parents or len(real.parts) < 3
    if real.parent in _HOMES or is_whole or parts & _PRIVATE or _SYSTEM & set(real.parts[1:2]):
        raise ProblemError(
            f"{where}: expected the folder of a tool chain, such as `~/.cargo`, got "
            f"{str(named)!r}, which holds more than programs under search may see"
        )
    if not path.is_absolute() or not path.is_dir():
        raise ProblemError(f"{where}: expected a folder, got nothing at {str(path)!r}")
    return path


def _find_evaluator(
    folder: Path, name: str, where: str, evaluators: Path | None
) -> tuple[Path, Path]:
    """Finds the evaluator's file, and the folder that holds all that it may need.

    Args:
        folder: The problem folder.
        name: Path of the evaluator, relative to it.
        where: Who names it, for messages.
        evaluators: Another folder in which it is looked for.

    Raises:
        ProblemError: There is none.
    """
    spelled = Path(os.path.normpath(folder / name))
    is_own = spelled.is_relative_to(folder)
    if evaluators is not None:
        # A run has copies of its own.
        world = evaluators.resolve()
        path = world / (spelled.relative_to(folder) if is_own else spelled.name)
        _expect_inside(path, world)
    else:
        path = spelled.resolve()
        world = folder if is_own else path.parent
        for one in (spelled, path) if is_own else ():
            _expect_inside(one, folder)
    if not path.is_file():
        raise ProblemError(
            f"{where}: `evaluator`: expected a Python file, got nothing at {path}; name it in "
            '`evaluator = "..."`, or put an `evaluator.py` next to `problem.toml`'
        )
    return path, world
