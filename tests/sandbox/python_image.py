"""An image of the running Python, packed from its own files: there is no registry in tests."""

import io
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

LEFT_OUT = re.compile(r"/(tests?|idlelib|ensurepip|tkinter|__pycache__|config-[^/]*)(/|$)")


def import_python(client: Any, name: str) -> None:
    """Makes an image with the interpreter, the standard library, NumPy and a shell."""
    standard = Path(os.path.realpath(sysconfig.get_path("stdlib")))
    packages = Path(np.__file__).parents[1]
    files = {str(path): path for path in _list_files(standard) if "site-packages" not in str(path)}
    for part in ("numpy", "numpy.libs"):
        for path in _list_files(packages / part):
            files[f"{standard}/site-packages/{path.relative_to(packages)}"] = path
    executable = Path(os.path.realpath(sys.executable))
    binaries = [executable, Path("/bin/sh"), Path("/bin/mkdir")]
    files |= {str(path): path for path in binaries}
    shared = [path for path in files.values() if path.suffix == ".so"]
    files |= {str(library): library for library in _list_libraries([*shared, *binaries])}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for place, path in files.items():
            archive.add(os.path.realpath(path), place.lstrip("/"), recursive=False)
        member = tarfile.TarInfo("usr/bin/python3")
        member.type, member.linkname = tarfile.SYMTYPE, str(executable)
        archive.addfile(member)
    repository, _, tag = name.partition(":")
    client.api.import_image_from_data(buffer.getvalue(), repository=repository, tag=tag)


def _list_files(folder: Path) -> list[Path]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in found if not LEFT_OUT.search(str(path.relative_to(folder.parent)))]


def _list_libraries(paths: list[Path]) -> list[Path]:
    done = subprocess.run(["ldd", *paths], capture_output=True, text=True, check=False)
    found = re.findall(r"(/\S+) \(0x", done.stdout)
    return [Path(os.path.normpath(place)) for place in found if Path(place).exists()]
