"""GPUs in `bubblewrap`: with devices of the kernel that stand in for their files."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from evolve.errors import SandboxError
from evolve.sandbox.backends import open_sandbox
from evolve.sandbox.layout import find_view
from evolve.sandbox.processes import find_gpus
from tests.devices import stand_in_gpus
from tests.sandboxes import LIMITS, make_program, skip_or_fail

LOOK = """
import os

def look():
    seen = sorted(name for name in os.listdir("/dev") if name.startswith("nvidia"))
    with open(f"/dev/{seen[0]}", "rb") as file:
        return seen, file.read(3), os.environ.get("CUDA_VISIBLE_DEVICES", "")
"""


@pytest.fixture
def gpus() -> Iterator[list[Path]]:
    with stand_in_gpus(97, 98) as made:
        yield made


def test_a_program_sees_the_granted_devices_and_no_others(gpus: list[Path]) -> None:
    try:
        sandbox = open_sandbox("bubblewrap", find_view(("numpy",), devices="device=98"))
    except SandboxError as error:
        skip_or_fail("bubblewrap", error)
    session = sandbox.open(make_program(LOOK), LIMITS)
    seen, data, visible = session.call("look").value
    assert (seen, data, visible) == (["nvidia98"], b"\0\0\0", "0")
    session.close()
    sandbox.close()


def test_they_are_found_by_number_and_count(gpus: list[Path]) -> None:
    assert find_gpus("") == []
    assert find_gpus("all")[-2:] == gpus
    assert find_gpus("device=97,98") == gpus
    assert len(find_gpus("2")) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("device=96", r"expected /dev/nvidia96 for 'device=96', got "),
        ("4000", r"expected as many GPUs for '4000', got "),
        ("device=", r"expected `all`, .*, got 'device='; other names need `--sandbox docker`"),
        ("nvidia.com/gpu=0", r"expected `all`, .*, got 'nvidia.com/gpu=0'"),
        ("0", r"expected `all`, .*, got '0'"),
    ],
)
def test_what_is_not_there_is_refused(text: str, message: str) -> None:
    with pytest.raises(SandboxError, match=rf"^bubblewrap: `sandbox.devices`: {message}"):
        find_gpus(text)
