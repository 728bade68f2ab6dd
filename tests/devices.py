"""Device files that stand in for those of GPUs."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def stand_in_gpus(*numbers: int) -> Iterator[list[Path]]:
    """Makes files of GPUs that read like `/dev/zero` while the context is open."""
    made = []
    try:
        for number in numbers:
            path = Path(f"/dev/nvidia{number}")
            os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
            made.append(path)
            path.chmod(0o666)
        yield made
    except (PermissionError, FileExistsError) as error:
        pytest.skip(f"no device file can be made here: {error}")
    finally:
        for path in made:
            path.unlink()
