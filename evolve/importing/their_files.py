"""Another system's files: settings in them, keys in them, and which of them come along."""

from __future__ import annotations

import ast
import inspect
import io
import re
import shutil
import textwrap
import tokenize
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from evolve.errors import UsageError

# Made by tools; nobody misses these.
_JUNK = (
    "__pycache__",
    "*.pyc",
    ".git",
    ".hg",
    ".svn",
    ".venv",
    "venv",
    "node_modules",
    ".DS_Store",
)
_SECRET = (".env", ".env.*", "*.env", "*.pem", "*.key", "*.p12", "id_rsa*", "id_ed25519*", ".netrc")
_PAPER = (".md", ".rst", ".ipynb", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".pdf", ".mp4")
_DATA = (".json", ".npy", ".npz", ".csv", ".txt", ".pkl", ".pickle", ".pt")
_BEST = r"best|champion|winner|sota|solved"
_DONE = r"final|optimal|optimi[sz]ed|evolved|solutions?"
_BEST_DATA = re.compile(rf"(^|[_\-.])({_BEST}|solutions?)([_\-.\d]|$)", re.IGNORECASE)
_BEST_CODE = re.compile(rf"(^|[_\-.])({_BEST}|{_DONE})([_\-.\d]|$)", re.IGNORECASE)
# Folders in which other systems keep their runs.
_RUN = re.compile(r"checkpoints?(_\d+)?|best|gen_\d+|openevolve_output.*|results_\d.*|experiments")
_COMMAND = re.compile(r"[a-z][\w.+-]{1,30}")
_CODING = re.compile(r"^[ \t\f]*#.*?coding[:=][ \t]*[-\w.]+", re.MULTILINE)
# Keys of known forms, which are hidden wherever they stand.
_KEY = re.compile(
    r"\b(?:sk|gsk|hf|xai|pplx|ghp|gho|ghs|github_pat|glpat|xox[abp])[-_][\w-]{12,}"
    r"|\bAIza[\w-]{30,}|\bAKIA[0-9A-Z]{16}\b"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----",
    re.DOTALL,
)
# What is assigned to a name that says so; code needs quotes, for it has names and calls as well.
_NAMED = (
    r"(?P<name>(?:api[_-]?key|secret|passw(?:or)?d|credential"
    r"|(?:access|auth|api|hf|hub|bot|github|bearer)[_-]?token)s?)"
)
_IN_CODE = re.compile(
    _NAMED + r"""(?P<sign>["']?\]?\s*[:=]\s*["'])(?P<value>[^\s"'$<{]{8,})""", re.IGNORECASE
)
_IN_CONFIG = re.compile(
    _NAMED + r"""(?P<sign>["']?\s*[:=]\s*["']?)(?P<value>[^\s"'$<{,}#]+)""", re.IGNORECASE
)
_CONFIGS = {".yaml", ".yml", ".json", ".toml", ".ini", ".cfg", ".conf", ".properties", ".xml"}
_NO_KEY = {"null", "none", "~", "true", "false", "env"}
HIDDEN = "HIDDEN"
# Longer files are data.
_LONGEST_BYTES = 1 << 20
# Calls that shape a text, which is their argument or, where they trim it, has them as a method.
_SHAPES: Mapping[str, Callable[[str], str]] = {
    "dedent": textwrap.dedent,
    "cleandoc": inspect.cleandoc,
    "strip": str.strip,
    "lstrip": str.lstrip,
    "rstrip": str.rstrip,
}
_DEEPEST = 40


def decode(path: Path) -> str:
    """Returns a text file as text, by the encoding that it names, else as UTF-8 or Latin-1.

    Raises:
        UsageError: It cannot be read, or is no text.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    if b"\0" in data:
        raise UsageError(f"{path}: expected a text, got bytes that are none")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = data.decode(encoding)
    except (SyntaxError, UnicodeDecodeError):
        encoding, text = "latin-1", data.decode("latin-1")
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    is_plain = encoding.startswith("utf-8")
    return text if is_plain else _CODING.sub("# coding: utf-8", text, count=1)


def parse_source(path: Path) -> ast.Module:
    """Returns the tree of a Python file; an empty one where it cannot be parsed."""
    try:
        return ast.parse(decode(path))
    except (SyntaxError, ValueError, RecursionError):
        return ast.Module([], [])


def hide_keys(text: str, suffix: str) -> tuple[str, int]:
    """Returns a text without the keys of services that stand in it, and how many they were."""

    def hide(match: re.Match[str]) -> str:
        value = match["value"]
        if value.lower() in _NO_KEY or value.replace(".", "").isdigit():
            return match[0]
        return f"{match['name']}{match['sign']}{HIDDEN}"

    before = text.count(HIDDEN)
    pattern = _IN_CONFIG if suffix in _CONFIGS else _IN_CODE
    text = pattern.sub(hide, _KEY.sub(HIDDEN, text))
    return text, text.count(HIDDEN) - before


def hide_in(source: Path) -> tuple[str, int] | None:
    """Returns a file's text without its keys, and their number; None where it has none."""
    if source.stat().st_size > _LONGEST_BYTES or b"\0" in source.read_bytes():
        return None
    text, count = hide_keys(decode(source), source.suffix)
    return (text, count) if count else None


def is_junk(name: str) -> bool:
    """Returns whether a file or folder was made by tools."""
    return _fits(name, _JUNK)


@dataclass(slots=True)
class TheirFiles:
    """The files of a folder by what becomes of them, and what the evaluator's code says.

    Attributes:
        folder: Of another system.
        taken: Paths of those that come along, relative to the folder.
        left: Those that do not, each with the reason.
        warned: Those that come along because the evaluator names them, and look like a solution.
        borrowed: Modules in the parent folder that the evaluator imports.
        modules: Its own, and those that it imports from the folder.
        imports: Packages and modules that the evaluator and the program import from elsewhere.
        variables: Environment variables that they read.
        texts: Texts in them.
    """

    folder: Path
    taken: list[Path] = field(default_factory=list)
    left: list[tuple[Path, str]] = field(default_factory=list)
    warned: list[Path] = field(default_factory=list)
    borrowed: list[Path] = field(default_factory=list)
    modules: set[Path] = field(default_factory=set)
    imports: set[str] = field(default_factory=set)
    variables: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)

    def is_named(self, relative: Path) -> bool:
        """Returns whether a text of the evaluator names a file, or a folder that it is in."""
        named = {part for text in self.texts for part in text.replace("\\", "/").split("/")}
        return not named.isdisjoint(relative.parts)

    @property
    def tools(self) -> list[str]:
        """Returns the folders in the user's home whose `bin` has a command that a text names."""
        # Of Python there is the one that runs evolve.
        words = [text for text in self.texts if _COMMAND.fullmatch(text) and text[:6] != "python"]
        bins = {Path(found).parent for found in map(shutil.which, words) if found}
        homes = {place.parent for place in bins if place.name == "bin"}
        own = [one for one in homes if one.parent == Path.home() and one.name != ".local"]
        return sorted(f"~/{one.name}" for one in own)

    def read(self, path: Path) -> None:
        """Notes what a Python file imports and names, and so on in its neighbours."""
        if path in self.modules or path.suffix != ".py" or not path.is_file():
            return
        self.modules.add(path)
        tree = parse_source(path)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                module = node.module or ""
                names = [module, *(f"{module}.{alias.name}".strip(".") for alias in node.names)]
            else:
                self._note(node)
                continue
            for name in names:
                self._follow(path, name)

    def _follow(self, path: Path, name: str) -> None:
        parts = name.split(".")
        for root in (path.parent, self.folder):
            place = root.joinpath(*parts)
            for found in (place.with_suffix(".py"), place / "__init__.py"):
                if found.is_file():
                    self.read(found)
                    return
        above = self.folder.parent / f"{parts[0]}.py"
        if parts[0] and above.is_file() and above not in self.modules:
            self.borrowed.append(above)
            self.read(above)
            return
        root = path.parent / parts[0]
        if parts[0] and not root.is_dir() and not root.with_suffix(".py").is_file():
            self.imports.add(parts[0])

    def _note(self, node: ast.AST) -> None:
        match node:
            case ast.Constant(value=str(text)) if len(text) < 300:
                self.texts.add(text)
            case ast.Subscript(value=ast.Attribute(attr="environ"), slice=ast.Constant(value=name)):
                self.variables.add(str(name))
            case ast.Call(func=ast.Attribute(attr=called), args=[ast.Constant(value=name), *_]):
                where = ast.unparse(node.func)
                if called == "getenv" or where.endswith("environ.get"):
                    self.variables.add(str(name))


def sort_files(
    folder: Path, evaluator: Path, start: Sequence[Path], keep: Collection[str]
) -> TheirFiles:
    """Sorts the files of a folder.

    What the evaluator imports, or names in a text, comes along whatever it is called.

    Args:
        folder: Of another system.
        evaluator: Its evaluator.
        start: The files of its starting program.
        keep: Names that the user wants to come along.
    """
    files = TheirFiles(folder)
    files.read(evaluator)
    suffix, names = start[0].suffix, _top_names(start[0]) - {"main"}
    for path in _walk(folder):
        relative = path.relative_to(folder)
        if path in start or relative.as_posix() in keep or path.name in keep:
            reason = ""
        elif _fits(path.name, _SECRET):
            reason = "may hold keys"
        elif path in files.modules or files.is_named(relative):
            reason = ""
            if _BEST_CODE.search(path.stem) and path.suffix not in _PAPER:
                files.warned.append(relative)
        else:
            reason = _refuse(relative, path, suffix, names)
        if reason:
            files.left.append((relative, reason))
        else:
            files.taken.append(relative)
    files.read(start[0])
    return files


def _refuse(relative: Path, path: Path, suffix: str, names: set[str]) -> str:
    """Returns why a file that the evaluator does not name stays behind; empty for most."""
    parent = [part for part in relative.parts[:-1] if _RUN.fullmatch(part)]
    if parent:
        return f"in `{parent[0]}`, where runs keep their results"
    if path.suffix in _PAPER:
        return "a document, which no evaluator reads"
    is_code = path.suffix in {suffix, ".py"}
    if (_BEST_CODE if is_code else _BEST_DATA).search(path.stem) and (
        is_code or path.suffix in _DATA
    ):
        return "named like a solution, which programs could import or read"
    if is_code and (_has_block(path) or (names and names <= _top_names(path))):
        return "another program for the same problem, which programs could import"
    return ""


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if is_junk(path.name):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)
        elif path.is_file():
            yield path


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _top_names(path: Path) -> set[str]:
    """Returns the functions and classes at the top level of a Python file."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    body = parse_source(path).body if path.suffix == ".py" else []
    return {node.name for node in body if isinstance(node, kinds)}


def _has_block(path: Path) -> bool:
    return b"EVOLVE-BLOCK-START" in path.read_bytes()[:_LONGEST_BYTES]


def read_yaml(path: Path) -> Mapping[str, Any]:
    """Reads a YAML file whose root is a table; an empty file is an empty one.

    Raises:
        UsageError: It is something else.
    """
    import yaml

    try:
        value = yaml.safe_load(decode(path))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: expected YAML: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"{path}: expected a table of settings, got {value!r:.100}")
    return value


def read_calls(folder: Path, calls: Mapping[str, str]) -> dict[str, Any]:
    """Returns the constant arguments of calls in Python files, as `section.name`.

    Arguments that are computed are None. What is assigned to a name ending in `task_sys_msg` is
    among them, too.
    """
    found: dict[str, Any] = {}
    constants = Constants(folder)
    paths = sorted(folder.glob("*.py")) if calls else []
    for path in sorted(paths, key=lambda path: not path.stem.startswith("run")):
        for node in ast.walk(parse_source(path)):
            for key, value in _list_settings(node, calls):
                if found.get(key) is None:
                    is_name = key == "evaluator" and isinstance(value, ast.Name)
                    found[key] = ast.unparse(value) if is_name else constants.fold(value, path)
    return found


def _list_settings(node: ast.AST, calls: Mapping[str, str]) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Assign):
        if ast.unparse(node.targets[0]).strip("'\"]").lower().endswith("task_sys_msg"):
            yield "task_sys_msg", node.value
    elif isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        section = next((calls[end] for end in calls if name.endswith(end)), None)
        given = [] if section is None else [(one.arg, one.value) for one in node.keywords]
        if section is not None and node.args:
            # Statements come first.
            given.insert(0, ("problem_description", node.args[0]))
        yield from ((f"{section}.{key}".lstrip("."), value) for key, value in given if key)


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the settings of a configuration by dotted names; lists are values."""
    for key, value in config.items():
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


class Constants:
    """The values of constant expressions in the Python files of a folder; nothing is run.

    Args:
        folder: Where modules and files are looked for.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._scopes: dict[Path, dict[str, tuple[ast.expr, Path]]] = {}

    def find(self, path: Path, name: str) -> Any:
        """Returns what a file assigns to a name at its top level; None if that is no constant."""
        return self.fold(ast.Name(name), path)

    def fold(self, node: ast.expr, path: Path, depth: int = 0) -> Any:
        """Returns the value of an expression in a file; None where it is no constant."""

        def inner(part: ast.expr, path: Path = path) -> Any:
            return self.fold(part, path, depth + 1) if depth < _DEEPEST else None

        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return inner(*self._scope(path).get(name, (ast.Constant(None), path)))
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return _join(map(inner, (left, right)))
            case ast.JoinedStr(values=parts):
                braces = ast.FormattedValue
                return _join(inner(one.value if isinstance(one, braces) else one) for one in parts)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return list(map(inner, items))
            case ast.Dict(keys=keys, values=values):
                pairs = zip(keys, values, strict=True)
                return {inner(key): inner(value) for key, value in pairs if key}
            case ast.Call():
                return self._fold_call(node, inner)
        return None

    def _fold_call(self, node: ast.Call, fold: Callable[[ast.expr], Any]) -> Any:
        """Returns what trimming, dedenting or reading a file comes to, or named arguments."""
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
        if (name == "dict" or name.endswith("Config")) and not node.args:
            return {key.arg: fold(key.value) for key in node.keywords if key.arg}
        if name in _SHAPES and bool(node.args) != name.endswith("strip"):
            text = fold(node.args[0] if node.args else getattr(node.func, "value", node))
            return _SHAPES[name](text) if isinstance(text, str) else None
        if name in {"read_text", "read"}:
            texts = (item.value for item in ast.walk(node) if isinstance(item, ast.Constant))
            for named in (self._folder / str(text) for text in texts if "." in str(text)):
                if named.is_file() and named.resolve().is_relative_to(self._folder.resolve()):
                    return decode(named)
        return None

    def _scope(self, path: Path) -> Mapping[str, tuple[ast.expr, Path]]:
        """Returns what names at a file's top level stand for: expressions, each with its file."""
        if path in self._scopes:
            return self._scopes[path]
        scope = self._scopes[path] = {}
        for node in parse_source(path).body:
            if isinstance(node, ast.Assign):
                scope.update({ast.unparse(target): (node.value, path) for target in node.targets})
            elif isinstance(node, ast.AnnAssign) and node.value is not None:
                scope[ast.unparse(node.target)] = node.value, path
            elif isinstance(node, ast.ImportFrom) and node.module:
                other = self._folder / f"{node.module.replace('.', '/')}.py"
                beside = path.with_name(f"{node.module.rpartition('.')[2]}.py")
                source = other if other.is_file() else beside
                if source.is_file():
                    names = self._scope(source) if node.names[0].name == "*" else ()
                    pairs = [(one.asname or one.name, one.name) for one in node.names]
                    pairs += [(name, name) for name in names]
                    scope.update({ours: (ast.Name(theirs), source) for ours, theirs in pairs})
        return scope


def _join(parts: Iterable[Any]) -> str | None:
    texts = list(parts)
    return None if None in texts else "".join(map(str, texts))
