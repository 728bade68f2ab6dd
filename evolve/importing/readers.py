"""Readers of other systems' folders: every setting and file is taken over, or named in a table."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from evolve.display import one_line
from evolve.errors import UsageError
from evolve.files import find_stray
from evolve.importing.foreign import Foreign, Mapped, Wishes
from evolve.importing.their_files import (
    HIDDEN,
    Constants,
    TheirFiles,
    decode,
    flatten,
    hide_in,
    hide_keys,
    is_junk,
    read_calls,
    read_yaml,
    sort_files,
)
from evolve.scoring.cooperative import Theirs

_MEMORY_MB = 8192
_FEATURES = "left out of the mean; to divide programs by them, give ranges under [[measures]]"
_CELL = 44
# Variables of a sandbox's own.
_OURS = {"HOME", "PATH", "PYTHONPATH", "TMPDIR", "USER", "LANG"}
_OFFERED = {"openevolve", "shinka", "skydiscover", "loongflow", "levi", "gepa"}
_UNITS = {"": 1.0, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d*)?)\s*([a-z]*?)(?:onds?|s|utes?|ours?)?")


@dataclass(frozen=True, slots=True)
class System:
    """Where another system keeps its parts, and what its settings become: see `systems.toml`."""

    form: str
    evaluators: Sequence[str]
    starts: Sequence[str]
    configs: Sequence[str]
    settings: Mapping[str, str]
    seconds: float
    calls: Mapping[str, str] = field(default_factory=dict)
    thresholds: Sequence[float] = ()

    def find_use(self, key: str) -> str:
        """Returns what a setting becomes here."""
        uses = (use for pattern, use in self.settings.items() if fnmatch(key, pattern))
        return next(uses, "none")


@cache
def read_systems() -> tuple[Mapping[str, System], Mapping[str, str]]:
    """Returns the systems by name, and what people read about a setting by its use."""
    file = resources.files("evolve.importing") / "systems.toml"
    tables = tomllib.loads(file.read_text("utf-8"))
    uses, common = tables.pop("uses"), tables.pop("all")
    systems = {}
    for name, table in tables.items():
        whole = {**common, **tables.get(table.pop("like", ""), {}), **table}
        whole["settings"] = {**whole["settings"], **common["settings"]}
        systems[name] = System(**whole)
    return systems, uses


@dataclass(slots=True)
class _Reading:
    """A folder while it is read."""

    kind: str
    system: System
    folder: Path
    wishes: Wishes
    config: Mapping[str, Any] = field(default_factory=dict)
    config_path: Path | None = None
    table: list[Mapped] = field(default_factory=list)

    def note(self, name: str, value: object, here: str) -> None:
        text = one_line(value)
        shown = text if len(text) <= _CELL else f"{text[: _CELL - 3]}..."
        self.table.append(Mapped(name, hide_keys(shown, ".yaml")[0], here))

    def use(self, use: str) -> Iterator[tuple[str, Any]]:
        """Yields the settings that become something here, in the order of the table."""
        for pattern in [key for key, one in self.system.settings.items() if one == use]:
            for key, value in flatten(self.config):
                if fnmatch(key, pattern) and value is not None:
                    yield key, value

    def where(self, key: str) -> str:
        return f"{self.config_path or self.folder}: `{key}`"


def read_foreign(kind: str, folder: Path, wishes: Wishes | None = None) -> Foreign:
    """Reads the folder of another system.

    Raises:
        UsageError: A file is missing, or cannot be read as what it should be.
    """
    known, _ = read_systems()
    if kind not in known:
        raise UsageError(f"--from: expected one of {', '.join(known)}; got {kind!r}")
    if not folder.is_dir():
        raise UsageError(f"{folder}: expected a folder of {kind}, got none")
    stray = find_stray(folder, folder, is_junk)
    if stray is not None:
        raise UsageError(f"{stray}: expected a file of the folder, got a link that leads out of it")
    reading = _Reading(kind, known[kind], folder.resolve(), wishes or Wishes())
    _read_config(reading)
    evaluator = _find_evaluator(reading)
    start, files, path, arguments = _read_start(reading, evaluator)
    chosen = sort_files(reading.folder, evaluator, start or [evaluator], reading.wishes.keep)
    statement = _read_statement(reading)
    stages = _count_stages(reading, evaluator)
    seconds = _read_seconds(reading, stages)
    asked = replace(
        _read_asked(reading, stages),
        evaluator=evaluator.relative_to(reading.folder).as_posix(),
        arguments=arguments or _read_arguments(reading),
        variables=tuple(sorted(chosen.variables - _OURS)),
        allow_broken_start=reading.wishes.allow_broken_start,
    )
    memory_mb = _read_memory(reading)
    _note_others(reading)
    _note_files(reading, chosen)
    table = tuple(reading.table)
    return Foreign(
        kind, reading.folder, files, path, statement, seconds, memory_mb, asked, chosen, table
    )


def _find_files(folder: Path, patterns: Iterable[str]) -> list[Path]:
    """Returns the files that patterns fit, those of the first pattern first."""
    found = (path for one in patterns for path in sorted(folder.glob(one)) if path.is_file())
    return list(dict.fromkeys(found))


def _find_wished(folder: Path, wish: str, option: str) -> Path:
    path = folder / wish
    if not path.exists() or not path.resolve().is_relative_to(folder):
        raise UsageError(f"{option}: expected a file or folder in {folder}, got {wish!r}")
    return path


def _read_config(reading: _Reading) -> None:
    """Reads their configuration, from one YAML file and from calls in Python files."""
    folder, wish = reading.folder, reading.wishes.config
    reading.config = called = read_calls(folder, reading.system.calls)
    paths = _find_files(folder, reading.system.configs)
    # A script that starts runs may name one.
    scripts = [decode(script) for script in _find_files(folder, ["run*.py"])]
    named = [path for path in paths if any(path.name in script for script in scripts)]
    chosen = [_find_wished(folder, wish, "--config")] if wish else (named or paths)
    if not chosen:
        return
    reading.config_path = chosen[0]
    config = read_yaml(chosen[0])
    nested = {key for key, _ in flatten(config)}
    given = {key: one for key, one in called.items() if one is not None or key not in nested}
    reading.config = {**config, **given}
    name = chosen[0].relative_to(folder)
    for other in () if wish else paths:
        if other != chosen[0]:
            reading.note(
                str(other.relative_to(folder)), "", f"nothing: {name} was read; see --config"
            )


def _find_evaluator(reading: _Reading) -> Path:
    """Returns the first file that a pattern fits; one that defines `evaluate` before others."""
    name, patterns = reading.config.get("EVAL_FILE_NAME"), reading.system.evaluators
    patterns = (f"input/{name}", *patterns) if name else patterns
    found = _find_files(reading.folder, patterns)
    if not found:
        raise UsageError(
            f"{reading.folder}: expected an evaluator of {reading.kind}, `{patterns[0]}` or the "
            "like, got none"
        )
    return next((path for path in found if b"def evaluate" in path.read_bytes()), found[0])


def _read_start(
    reading: _Reading, evaluator: Path
) -> tuple[list[Path], dict[str, str], str, tuple[str, ...]]:
    """Returns the files of the starting program, their texts here, its path, and names for it."""
    if not reading.system.starts:
        text, names = _read_constant(reading, evaluator)
        return [], {"initial.py": hide_keys(text, ".py")[0]}, "initial.py", names
    path = _find_start(reading, evaluator)
    root = Path(path.name if path.is_dir() else f"initial{path.suffix}")
    start = [path]
    if path.is_dir():
        start = sorted(one for one in path.rglob("*") if one.is_file() and not is_junk(one.name))
        start.sort(key=lambda one: (one.suffix != ".py", one.stem != "main"))
    places = {one: (root / one.relative_to(path)).as_posix() for one in start}
    reading.note("starting program", path.relative_to(reading.folder), ", ".join(places.values()))
    texts = {}
    for one, name in places.items():
        texts[name], count = hide_keys(decode(one), one.suffix)
        if count:
            reading.note(name, "", f"{count} keys in it read {HIDDEN} here")
    return start, texts, root.as_posix(), ()


def _find_start(reading: _Reading, evaluator: Path) -> Path:
    folder, wish = reading.folder, reading.wishes.initial
    if wish:
        return _find_wished(folder, wish, "--initial")
    named = reading.config.get("INIT_FILE_DATA")
    names = (f"input/**/{named['filename']}",) if isinstance(named, dict) and named else ()
    suffix = str(reading.config.get("file_suffix") or "")
    known = [
        path
        for pattern in (*names, *reading.system.starts)
        for path in sorted(_find_files(folder, [pattern]), key=lambda path: path.suffix != suffix)
        if path != evaluator and path.suffix not in {".md", ".json", ".pyc"}
    ]
    known += [path for path in (folder / "initial_program", folder / "initial") if path.is_dir()]
    if known:
        return known[0]
    others = [path for path in _find_files(folder, ["*"]) if path != evaluator]
    marked = [path for path in others if b"EVOLVE-BLOCK-START" in path.read_bytes()]
    if len(marked) != 1:
        kinds = ", ".join(f"`{pattern}`" for pattern in reading.system.starts[:3])
        found = ", ".join(path.name for path in marked) or "none"
        raise UsageError(
            f"{folder}: expected a starting program, {kinds} or the like, got {found}; a run "
            "starts from a program: write one, or name yours by --initial FILE"
        )
    return marked[0]


def _read_constant(reading: _Reading, path: Path) -> tuple[str, tuple[str, ...]]:
    """Returns the starting program of systems that keep it as a text, and names to score it by."""
    constants, config = Constants(reading.folder), reading.config
    if reading.kind == "levi":
        text = constants.find(path, "SEED_PROGRAM") or config.get("seed_program")
        signature = constants.find(path, "FUNCTION_SIGNATURE") or config.get("function_signature")
        defined = re.findall(r"^def (\w+)", str(signature), re.MULTILINE)
        reading.note("SEED_PROGRAM", f"{path.name}", "initial.py")
        names = tuple(defined[-1:])
    else:
        text, names = config.get("seed_candidate"), (str(config.get("evaluator")),)
        if isinstance(text, dict) and len(text) == 1:
            (key, text), *_ = text.items()
            names = (*names, str(key))
        if "dataset" in config:
            raise UsageError(
                f"{path}: expected an evaluator of programs alone, got one with a `dataset`; "
                "docs/how-to/importing.md shows how to write it as an evaluator here"
            )
        reading.note("seed_candidate", path.name, "initial.py")
    if not isinstance(text, str) or not names:
        raise UsageError(
            f"{path}: expected the starting program as a constant text, and the name of its "
            "function, got none; docs/how-to/importing.md shows what else to do"
        )
    return text.strip("\n") + "\n", names


def _read_statement(reading: _Reading) -> str:
    texts: list[str] = []
    for key, value in reading.use("statement"):
        text = _follow_template(reading, str(value)).strip()
        if text and (not texts or reading.kind == "gepa"):
            reading.note(key, text, "statement.md")
            texts.append(hide_keys(text, ".txt")[0])
        elif text:
            reading.note(key, text, "nothing: another text is the statement")
    if not texts:
        where = reading.config_path or reading.folder
        reading.note(
            "statement", "", f"nothing was found in {where.name}: write statement.md yourself"
        )
    return "\n\n".join(texts)


def _follow_template(reading: _Reading, text: str) -> str:
    """Returns the text of the file that a single word names."""
    if re.fullmatch(r"[\w./-]+", text):
        name = text if Path(text).suffix else f"{text}.txt"
        for path in sorted(reading.folder.rglob(Path(name).name)):
            return decode(path)
        return "" if "." in text or "_" in text else text
    return text


def _count_stages(reading: _Reading, evaluator: Path) -> int:
    """Returns how many stages an evaluator has; 0 where it is not asked in stages."""
    if reading.system.form != "stages":
        return 0
    if dict(reading.use("read")).get("evaluator.cascade_evaluation") is False:
        return 0
    text = decode(evaluator)
    stages = [f"evaluate_stage{number}" for number in (1, 2, 3)]
    missing = [number for number, name in enumerate(stages) if not re.search(rf"\b{name}\b", text)]
    return missing[0] if missing else len(stages)


def _read_seconds(reading: _Reading, stages: int) -> float:
    found = list(reading.use("seconds"))
    seconds = reading.system.seconds
    if found:
        seconds = parse_duration(found[0][1], reading.where(found[0][0]))
    name, value = found[0] if found else ("time limit", "none found")
    total = seconds * max(stages, 1)
    each = f" ({seconds:g} for each of {stages} stages)" if stages > 1 else ""
    reading.note(name, value, f"limits.seconds = {total:g}{each}")
    return total


def parse_duration(value: object, where: str) -> float:
    """Returns seconds from a number, or from texts like `45s`, `5m` and `00:20:00`.

    Raises:
        UsageError: It is something else.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        return float(value)
    text = str(value).strip().lower()
    if re.fullmatch(r"\d+(:\d+){1,3}", text):
        factors = (1.0, 60.0, 3600.0, 86400.0)
        parts = [float(part) for part in reversed(text.split(":"))]
        return sum(factor * part for factor, part in zip(factors, parts, strict=False))
    match = _DURATION.fullmatch(text)
    if match is None or match[2] not in _UNITS or not float(match[1]):
        raise UsageError(f"{where}: expected seconds, or a text like `45s` or `5m`; got {value!r}")
    return float(match[1]) * _UNITS[match[2]]


def _read_asked(reading: _Reading, stages: int) -> Theirs:
    """Reads how their evaluator is asked: thresholds, features, the objective."""
    thresholds = tuple(reading.system.thresholds) if stages else ()
    for key, value in reading.use("thresholds"):
        items = value if isinstance(value, list) else [value]
        try:
            numbers = tuple(float(item) for item in items)
        except (TypeError, ValueError):
            raise UsageError(f"{reading.where(key)}: expected numbers, got {value!r}") from None
        thresholds = numbers if stages else ()
        use = f"stages of the evaluator: {stages}" if stages else "nothing: it has no stages"
        reading.note(key, value, use)
    features: tuple[str, ...] = ()
    for key, value in reading.use("features"):
        features = tuple(map(str, value if isinstance(value, list) else [value]))
        reading.note(key, value, _FEATURES)
    objective = reading.wishes.objective
    for key, value in reading.use("objective"):
        objective = objective or str(value)
        reading.note(key, value, "the objective")
    if reading.wishes.objective:
        reading.note("--objective", objective, "the objective")
    return Theirs(reading.system.form, "", objective, thresholds, features)


def _read_arguments(reading: _Reading) -> tuple[str, ...]:
    words: list[str] = []
    for key, value in reading.use("arguments"):
        reading.note(key, value, "arguments of their evaluator")
        if isinstance(value, list):
            words += map(str, value)
    for key, value in flatten(reading.config):
        section, _, name = key.rpartition("extra_cmd_args.")
        if section and name:
            words += [f"--{name}", str(value)]
            reading.note(key, value, "an argument of their evaluator")
    return tuple(words)


def _read_memory(reading: _Reading) -> int:
    for key, value in reading.use("memory"):
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            memory_mb = int(value / 1e6) if "BYTES" in key else int(value)
            reading.note(key, value, f"limits.memory_mb = {memory_mb}")
            return memory_mb
    reading.note("memory limit", "none found", f"limits.memory_mb = {_MEMORY_MB}")
    return _MEMORY_MB


def _note_others(reading: _Reading) -> None:
    """Notes what became of the settings that nothing has asked for yet."""
    noted, (_, uses) = {row.name for row in reading.table}, read_systems()
    for key, value in flatten(reading.config):
        if key in noted or value in (None, [], {}, ""):
            continue
        found = reading.system.find_use(key)
        use = uses.get(found, found)
        if "steps.form=" in use:
            use = f"{use}{'edit' if value else 'rewrite'}"
        elif use.startswith("--"):
            use = f"{use}{'' if use.endswith('=') else ' '}{shlex.quote(str(value))}"
        reading.note(key, HIDDEN if found == "keys" else value, use)


def _note_files(reading: _Reading, chosen: TheirFiles) -> None:
    for path, reason in chosen.left:
        reading.note(path.as_posix(), "", f"left out: {reason}")
    for path in chosen.warned:
        reading.note(
            path.as_posix(), "", "named by the evaluator: comes along, and programs see it"
        )
    for path in chosen.taken:
        source = reading.folder / path
        found = hide_in(source)
        if found is not None and not any(row.name == path.name for row in reading.table):
            reading.note(path.as_posix(), "", f"{found[1]} keys in it read {HIDDEN} here")
    for source in chosen.borrowed:
        reading.note(f"../{source.name}", "", "comes along, beside the evaluator")
    _note_needs(reading, chosen)


def _note_needs(reading: _Reading, chosen: TheirFiles) -> None:
    """Notes the packages and variables that an evaluation here may lack."""
    for name in sorted(chosen.imports):
        if name not in sys.stdlib_module_names | _OFFERED and not importlib.util.find_spec(name):
            reading.note(f"import {name}", "not installed", "install it where evolve is installed")
    for folder in chosen.tools:
        reading.note(f"commands in {folder}", "", "[sandbox] show in problem.toml")
    for name in ("requirements.txt", "evaluator/requirements.txt"):
        if (reading.folder / name).is_file():
            reading.note(name, "", "nothing: packages are those of the Python that runs evolve")
    for name in sorted(chosen.variables - _OURS):
        use = "not set; `environment` in problem.toml shows it to programs"
        reading.note(f"variable {name}", "", use)
