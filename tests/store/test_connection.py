"""Databases on file systems without memory shared between processes, as those of networks."""

import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from evolve.errors import StoreError
from evolve.store import Store


@pytest.fixture
def unshared(tmp_path: Path) -> Iterator[Path]:
    """A folder on such a file system."""
    below, mounted = tmp_path / "below", tmp_path / "mounted"
    below.mkdir()
    mounted.mkdir()
    if not Path("/dev/fuse").exists() or shutil.which("bindfs") is None:
        pytest.skip("no bindfs, or no /dev/fuse")
    made = subprocess.run(
        ["bindfs", "-o", "direct_io", below, mounted], check=False, capture_output=True
    )
    if made.returncode:
        pytest.skip(f"bindfs cannot mount here: {made.stderr.decode()}")
    yield mounted
    subprocess.run(["fusermount", "-u", mounted], check=True)


def test_a_run_is_written_and_read_where_no_memory_can_be_shared(unshared: Path) -> None:
    with closing(Store.create(unshared)) as store:
        store.set_facts(problem="p")
        with closing(Store.open_to_read(unshared)) as reader:
            assert reader.facts() == {"problem": "p"}
        store.set_facts(problem="q")
    with closing(Store.open_to_write(unshared)) as store:
        assert store.facts() == {"problem": "q"}


def test_a_run_that_was_written_elsewhere_is_read_and_continued(
    unshared: Path, tmp_path: Path
) -> None:
    (tmp_path / "r").mkdir()
    with closing(Store.create(tmp_path / "r")) as store:
        store.set_facts(problem="p")
    shutil.copytree(tmp_path / "r", unshared / "r")
    with closing(Store.open_to_read(unshared / "r")) as store:
        assert store.facts() == {"problem": "p"}
    with closing(Store.open_to_write(unshared / "r")) as store:
        store.set_facts(problem="q")
    with closing(Store.open_to_read(unshared / "r")) as store:
        assert store.facts() == {"problem": "q"}


def test_a_log_that_cannot_be_read_there_is_explained(unshared: Path, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    with closing(Store.create(tmp_path / "r")) as store:
        store.set_facts(problem="p")
        shutil.copytree(tmp_path / "r", unshared / "r")
    with pytest.raises(StoreError, match="no memory shared between processes: copy the run to a"):
        Store.open_to_read(unshared / "r")


def test_elsewhere_readers_do_not_wait_for_the_writer(tmp_path: Path) -> None:
    with closing(Store.create(tmp_path)):
        found = sqlite3.connect(tmp_path / "run.db").execute("PRAGMA journal_mode").fetchone()
    assert found == ("wal",)
