"""Writing, reading and deleting in folders that strangers have filled."""

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from evolve.files import (
    find_stray,
    inside,
    open_plain,
    read_plain,
    write_inside,
    write_named,
)

WRITE = os.O_WRONLY | os.O_CREAT
NAMES = ["..", ".", "", "a", "é b", ".bashrc", "~", "a\\b", "a\nb", "\u202egpj.exe", "x" * 300]


@pytest.fixture
def victim(tmp_path) -> Path:
    path = tmp_path / "victim"
    path.write_text("as it was")
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


@given(st.lists(st.sampled_from(NAMES) | st.text(max_size=6), min_size=1, max_size=4).map("/".join))
@example("/etc/passwd")
@example("a/../../b")
@example("a/..")
@example("a//b")
@example("")
@example("\0")
def test_a_name_is_refused_or_stays_inside(name):
    root = Path("/folder")
    try:
        path = inside(name)
    except ValueError:
        return
    assert Path(os.path.normpath(root / path)) == root / name != root
    assert all(part[0] != "." for part in path.parts)


@pytest.mark.parametrize("name", ["a.py", "a/b/c.txt", "with space/ü.py", "a..b/c"])
def test_a_file_is_written_with_the_folders_between(folder, name):
    assert write_inside(folder, name, "text") == folder / name
    assert write_inside(folder, name, b"other").read_bytes() == b"other"
    assert [path.name for path in (folder / name).parent.iterdir()] == [Path(name).name]


def test_a_link_in_the_place_of_a_file_is_replaced(folder, victim):
    (folder / "file").symlink_to(victim)
    write_inside(folder, "file", "new")
    assert victim.read_text() == "as it was"
    assert (folder / "file").read_text() == "new"
    assert not (folder / "file").is_symlink()


def test_another_name_of_a_file_is_replaced_not_written_to(folder, victim):
    (folder / "file").hardlink_to(victim)
    write_inside(folder, "file", "new")
    assert victim.read_text() == "as it was"


@pytest.mark.parametrize("name", ["below/file", "below/deeper/file"])
def test_a_link_in_the_place_of_a_folder_is_refused(folder, tmp_path, name):
    (tmp_path / "elsewhere").mkdir()
    (folder / "below").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="is a link or no folder"):
        write_inside(folder, name, "new")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("to", ["victim", "nothing-yet", "folder"])
def test_a_file_that_a_user_named_is_not_written_through_a_link(tmp_path, folder, victim, to):
    (tmp_path / "named").symlink_to(tmp_path / to)
    with pytest.raises(OSError, match="it is a link"):
        write_named(tmp_path / "named", "new")
    assert victim.read_text() == "as it was"
    assert not (tmp_path / "nothing-yet").exists()


def test_a_device_that_a_user_named_is_written_to_and_stays(folder):
    write_named(Path("/dev/null"), "new")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("flags", [WRITE, os.O_RDWR | os.O_CREAT, os.O_RDONLY])
def test_what_a_link_names_is_never_opened(folder, victim, flags):
    (folder / "file").symlink_to(victim)
    with pytest.raises(OSError, match="is a link"):
        open_plain(folder / "file", flags)


@pytest.mark.parametrize("flags", [WRITE, os.O_RDWR])
def test_a_file_with_other_names_is_not_opened_to_be_written(folder, victim, flags):
    (folder / "file").hardlink_to(victim)
    with pytest.raises(OSError, match="other names"):
        open_plain(folder / "file", flags)


def test_a_pipe_is_not_waited_for(folder):
    os.mkfifo(folder / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        open_plain(folder / "pipe", os.O_RDONLY)
    with pytest.raises(OSError, match="no regular file"):
        read_plain(folder / "pipe", 100)
    with pytest.raises(OSError, match=r"No such device|no regular file"):
        open_plain(folder / "pipe", os.O_WRONLY)


def test_no_more_is_read_than_allowed(victim):
    assert read_plain(victim, 3) == b"as i"


@pytest.mark.parametrize(
    ("name", "to"),
    [
        ("link", "../victim"),
        ("link", "/etc"),
        ("below/link", "../../victim"),
        ("below/link", ".."),
        ("link", "."),
        ("link", "link"),
    ],
)
def test_links_that_lead_out_or_in_a_circle_are_found(folder, victim, name, to):
    (folder / "below").mkdir()
    (folder / name).symlink_to(to)
    assert find_stray(folder, folder) == folder / name
    assert find_stray(folder, folder, lambda one: one == "link") is None


def test_links_inside_the_folder_are_none(folder):
    (folder / "below").mkdir()
    (folder / "below/file").write_text("")
    (folder / "link").symlink_to("below/file")
    (folder / "other").symlink_to("below")
    assert find_stray(folder, folder) is None
