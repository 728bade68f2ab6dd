"""The code blocks of the manual do what the pages say."""

import re
import runpy
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

from evolve.errors import ExitCode

ROOT = Path(__file__).parents[1]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "run_manual.py"))
PAGES = SCRIPT["list_pages"]()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.stem}")
def test_every_block_of_a_page_does_what_it_says(page, tmp_path):
    folder = tmp_path / page.stem
    folder.mkdir()
    SCRIPT["compare"](page, SCRIPT["run_page"](page, folder))


@pytest.mark.parametrize(
    ("block", "complaint"),
    [
        ("```sh\nevolve show nothing\n```\n", "page.md:2: `evolve show nothing` ended with 2"),
        ("```{.sh .needs-key}\nevolve run mine --modle x\n```\n", "No such option: --modle"),
        ("```{.sh .needs-luck}\nevolve ls\n```\n", "`needs-luck`: expected one of needs-key"),
        ("```console\n$ echo 1 apple\n2 pears\n```\n", "page.md:3: the page does not show"),
        ("```python\nimport nowhere\n```\n", "No module named 'nowhere'"),
        ("```toml\na = \n```\n", "page.md:2: Invalid value"),
    ],
)
def test_a_block_that_is_wrong_is_found(block, complaint, tmp_path):
    page, folder = tmp_path / "page.md", tmp_path / "page"
    page.write_text(block)
    folder.mkdir()
    with pytest.raises(SCRIPT["MismatchError"], match=complaint):
        SCRIPT["compare"](page, SCRIPT["run_page"](page, folder))


def test_numbers_times_and_paths_may_differ_and_long_output_is_shortened(tmp_path):
    page, folder = tmp_path / "page.md", tmp_path / "page"
    page.write_text(
        '```text title="mine/a.txt"\n1.512345678 apples, 2 min 3 s\n2\n3\nlast 7\n```\n'
        "```console\n$ cat mine/a.txt && pwd\n9.25 apples, 4 s\n...\nlast 8\n/home/you\n```\n"
    )
    folder.mkdir()
    consoles = SCRIPT["run_page"](page, folder)
    SCRIPT["compare"](page, consoles)
    assert consoles[0][1].endswith("1.512345678 apples, 2 min 3 s\n...\nlast 7\n/home/you\n")


def test_every_exit_code_is_documented():
    page = (ROOT / "docs" / "reference" / "exit-codes.md").read_text()
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    assert documented == set(ExitCode)


def test_the_source_distribution_brings_the_manual_and_the_wheel_does_not():
    held = {
        kind: {file.distribution_path for file in kind(str(ROOT)).recurse_included_files()}
        for kind in (SdistBuilder, WheelBuilder)
    }
    pages = {str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")}
    assert pages <= held[SdistBuilder]
    assert {Path(path).parts[0] for path in held[WheelBuilder]} == {"evolve"}
    assert not [path for path in held[WheelBuilder] if "docs" in Path(path).parts]
