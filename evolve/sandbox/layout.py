"""What of the host a guest may see: the interpreter, its packages, system libraries."""

from __future__ import annotations

import compileall
import importlib.util
import json
import os
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import evolve
from evolve.sandbox.guest.confine import DATA, READ, READ_DIR, SCRATCH

GUEST_SOURCE = Path(__file__).with_name("guest")
GUEST_PATH = "/opt/evolve/guest"
# What programs and compilers are started from, and what they lean on. The rest of these folders is
# not shown: projects lie in `/usr/src/app` and the like.
_SYSTEM = (
    *("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store"),
    *("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime", "/etc/java-*", "/etc/R"),
    *("/etc/mono", "/etc/julia", "/etc/dotnet", "/etc/php", "/etc/perl", "/etc/ghc*"),
)
_BELOW_PREFIXES = (
    *("bin", "sbin", "lib", "lib32", "lib64", "libx32", "libexec", "include", "*-linux-gnu*"),
    *("go", "cuda*", "rustup", "cargo/bin"),
)
_SHARED = (
    *("zoneinfo", "locale", "terminfo", "perl*", "python3", "java", "maven*", "gradle*", "node*"),
    *("npm", "ruby*", "rubygems*", "lua*", "php*", "R", "julia*", "octave", "dotnet", "go*"),
    *("gcc*", "mono*", "ocaml*", "ghc*", "guile", "sbcl*", "erlang*", "scala*", "kotlin*"),
    *("swift*", "cmake*", "pkgconfig", "aclocal*", "autoconf*", "automake*", "bison", "libtool"),
    "tcltk",
)
# Of tool chains that are installed for one user: what belongs to them, where they look for
# themselves, and where they keep keys.
_COMPANIONS = {".cargo": ".rustup"}
_HOMES = {".cargo": "CARGO_HOME", ".rustup": "RUSTUP_HOME", ".sdkman": "SDKMAN_DIR"}
_KEYS = ("credentials*", "*.pem", "*.key", ".env*", ".netrc", ".npmrc", "*token*", "settings.xml")
# Python's own `-I` would also drop PYTHONHASHSEED: the order of sets must not differ by guest.
_FLAGS = ("-s", "-P", "-B")
_START = """\
import importlib.util, json, sys
path, settings = sys.argv[1:]
spec = importlib.util.spec_from_file_location(
    "evolve_guest", path + "/__init__.py", submodule_search_locations=[path])
package = importlib.util.module_from_spec(spec)
sys.modules["evolve_guest"] = package
spec.loader.exec_module(package)
sys.argv[1:] = []
importlib.import_module("evolve_guest.relay").main(json.loads(settings))
"""
_SINGLE_THREADED = (
    *("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"),
    *("VECLIB_MAXIMUM_THREADS", "BLIS_NUM_THREADS", "RAYON_NUM_THREADS"),
)


@dataclass(frozen=True, slots=True)
class HostView:
    """What a guest sees of the host, all of it read-only, and what else it is made of.

    Attributes:
        trees: Files and folders, at their own paths; symbolic links stay links.
        hidden: Paths within the trees that are covered.
        data: Folder shown as `data/` in the workspace; None without one.
        paths: Folders where packages are found besides the interpreter's own.
        environment: Variables that programs get for tool chains among the trees.
        packages: What the guest imports once.
        image: A container image with Python and the packages, for the backend `docker`; empty for
            one made here.
        devices: GPUs and accelerators that programs see; empty for none.
        secrets: What programs must not see wherever it lies; the canary tries.
    """

    trees: tuple[Path, ...]
    hidden: tuple[Path, ...]
    data: Path | None
    paths: tuple[Path, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    image: str = ""
    devices: str = ""
    secrets: tuple[Path, ...] = ()


def find_view(
    preload: tuple[str, ...] = (),
    data: Path | None = None,
    hide: tuple[Path, ...] = (),
    show: tuple[Path, ...] = (),
    *,
    image: str = "",
    devices: str = "",
) -> HostView:
    """Finds what the running interpreter needs.

    Args:
        preload: Names of packages that the guest imports.
        data: Folder that programs may read.
        hide: Files and folders that programs must not see even where they lie among packages.
        show: Folders of tool chains that programs see as well.
        image: As in the view.
        devices: As in the view.
    """
    shown = _with_companions(show)
    places = [place for name in preload for place in _package_places(name)]
    paths = tuple(dict.fromkeys(place.parent for place in places))
    package = Path(evolve.__file__).resolve().parent
    # Another copy may be installed beside the packages, as when a checkout is tested.
    installed = [Path(sysconfig.get_path(name)) / package.name for name in ("purelib", "platlib")]
    copies = [path.resolve() for path in (package, *installed)]
    keys = [key for path in shown for name in _KEYS for key in path.glob(name)]
    hidden = [*copies, package.with_name("evaluators"), *(path.resolve() for path in hide), *keys]
    trees = _outermost([*_interpreter_folders(), *map(_tree_around, places), *shown])
    there = [path for tree in trees for path in _spell_below(tree, hidden) if path.exists()]
    # What lies in a covered folder is not there to be covered.
    outer = [path for path in dict.fromkeys(there) if not {*path.parents} & {*there}]
    environment = _describe_tools(shown) if shown else {}
    folder = data.resolve() if data else None
    more = (environment, preload, image, devices, hide)
    return HostView(trees, tuple(outer), folder, paths, *more)


def _with_companions(show: tuple[Path, ...]) -> list[Path]:
    # What lies in `~/.cargo/bin` starts what lies in `~/.rustup`.
    more = [path.with_name(_COMPANIONS[path.name]) for path in show if path.name in _COMPANIONS]
    return [path for path in dict.fromkeys([*show, *more]) if path.is_dir()]


def _describe_tools(shown: list[Path]) -> dict[str, str]:
    bins = [str(path / "bin") for path in shown if (path / "bin").is_dir()]
    bins += [str(path) for path in shown if path.name == "bin"]
    named = {_HOMES[path.name]: str(path) for path in shown if path.name in _HOMES}
    return {**named, "PATH": ":".join([*bins, "/usr/local/bin:/usr/bin:/bin"])}


def list_readable(view: HostView) -> list[tuple[Path, int]]:
    """Lists Landlock rights that show a view's trees but not what is hidden in them."""
    # Rights are those of what a path leads to, whatever it is called: links need none.
    shown = dict.fromkeys(path.resolve() for path in [*view.trees, view.data] if path)
    hidden = tuple(path.resolve() for path in view.hidden)
    return [rule for tree in shown for rule in _rights_around(tree, hidden)]


def guest_command(path: str, view: HostView, **more: Any) -> list[str]:
    """Returns the command that starts the guest.

    Args:
        path: Where the guest's folder is, seen from the process that is started.
        view: What the guest is made of.
        more: Settings for `relay.main` that depend on the backend.
    """
    # Guests write nothing: without this each of them would compile its own modules again.
    compileall.compile_dir(GUEST_SOURCE, maxlevels=0, quiet=2)
    settings = {
        "namespaces": True,
        "preload": view.packages,
        "paths": list(map(str, view.paths)),
        "environment": dict(view.environment),
        "devices": bool(view.devices),
        "scratch": SCRATCH,
        "data": DATA if view.data else None,
        # Where the guest may make no namespaces inside those of a backend, all it sees is read.
        "readable": [("/", READ)],
    }
    # The folders that a `..` leads through need not be among the trees.
    executable = os.path.normpath(sys.executable)
    return [executable, *_FLAGS, "-c", _START, path, json.dumps({**settings, **more})]


def guest_environment() -> dict[str, str]:
    """Returns the whole environment of a guest: nothing of the host's own."""
    usual = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "MALLOC_ARENA_MAX": "2"}
    return {**dict.fromkeys(_SINGLE_THREADED, "1"), **usual, "PYTHONHASHSEED": "0"}


def _list_system() -> list[Path]:
    patterns = list(_SYSTEM)
    for prefix in ("/usr", "/usr/local"):
        patterns += [f"{prefix}/{name}" for name in _BELOW_PREFIXES]
        patterns += [f"{prefix}/share/{name}" for name in _SHARED]
    root = Path("/")
    return [path for pattern in patterns for path in sorted(root.glob(pattern[1:]))]


def _interpreter_folders() -> list[Path]:
    names = ("stdlib", "platstdlib", "purelib", "platlib", "include", "platinclude")
    found = [Path(sysconfig.get_path(name)) for name in names]
    found += [Path(sys.base_prefix, name) for name in ("lib", "lib64")]
    if sys.prefix != sys.base_prefix:
        # A virtual environment may be the folder of the project itself.
        found += [Path(sys.prefix, "pyvenv.cfg"), *Path(sys.prefix, "lib").glob("*.so*")]
    executable = Path(os.path.normpath(sys.executable))
    found.append(executable)
    # A virtual environment's interpreter is a chain of links, each of which must be there.
    while executable.is_symlink():
        executable = executable.parent / executable.readlink()
        found.append(executable)
    return [*_list_system(), *found, *(path.resolve() for path in found)]


def _package_places(name: str) -> list[Path]:
    try:
        spec = importlib.util.find_spec(name.partition(".")[0])
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    found = list(spec.submodule_search_locations or [])
    if not found and spec.origin and Path(spec.origin).is_file():
        found = [spec.origin]
    return [Path(path).resolve() for path in found]


def _tree_around(place: Path) -> Path:
    # Packages that were installed lean on their neighbours; one that lies in a project of the
    # user's comes alone, without the secrets beside it.
    return place.parent if place.parent.name in {"site-packages", "dist-packages"} else place


def _spell_below(tree: Path, hidden: list[Path]) -> list[Path]:
    """Returns hidden paths as they are called within a tree, whose own path may lead over links."""
    if tree.is_symlink():
        return []
    real = tree.resolve()
    return [tree / path.relative_to(real) for path in hidden if path.is_relative_to(real)]


def _rights_around(path: Path, hidden: tuple[Path, ...]) -> list[tuple[Path, int]]:
    if path in hidden or path.is_symlink():
        return []
    if not any(_within(hole, path) for hole in hidden):
        return [(path, READ)]
    rules = [(path, READ_DIR)]
    for part in path.iterdir():
        rules += _rights_around(part, hidden)
    return rules


def _outermost(paths: list[Path]) -> tuple[Path, ...]:
    kept: list[Path] = []
    there = [Path(os.path.normpath(path)) for path in paths if os.path.lexists(path)]
    for path in sorted(there, key=lambda path: len(path.parts)):
        if path != Path("/") and not any(_within(path, tree) for tree in kept):
            kept.append(path)
    return tuple(kept)


def _within(path: Path, tree: Path) -> bool:
    return path == tree or (tree in path.parents and not tree.is_symlink())
