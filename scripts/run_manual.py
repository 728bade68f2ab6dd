"""Runs the code blocks of the manual, page by page, and compares what they print.

    python scripts/run_manual.py docs/tutorial/first-minute.md   # runs pages and compares
    python scripts/run_manual.py --write docs/...                # puts what commands print there

Each page has an empty folder of its own, in which its blocks run from top to bottom:

    ```python title="evaluator.py"   a file of that name, in any language
    ```python                        a script that has to succeed
    ```sh                            commands; each has to succeed, or ends with `# exit code 3`
    ```console                       commands behind `$ `, and what they print; `...` alone on a
                                     line stands for any lines
    ```toml, ```json                 has to be valid

A block that cannot run on every machine says why: ```{.sh .needs-key}, one of `NEEDS`, or
```{.sh .tool-cargo}, which runs where there is a program `cargo`. Its commands are still checked
against the options that there are.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

import typer
from typer.main import get_command

from evolve.cli.app import make_app

ROOT = Path(__file__).parents[1]
NEEDS = {
    "needs-key": "asks a model of a provider, or a server of your own",
    "needs-cluster": "talks to other machines",
    "needs-network": "installs packages or downloads",
    "needs-people": "waits for somebody, or opens a browser",
}
_BLOCK = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,})(?P<head>[^`\n]*)\n(?P<text>.*?)^(?P=indent)(?P=fence) *$",
    re.MULTILINE | re.DOTALL,
)
_SECONDS = 300  # for one command, on a busy machine
_WRONG_USAGE = typer.BadParameter.__mro__[1]  # some versions of typer bring a click of their own


@dataclass(frozen=True)
class Fenced:
    """A code block of a page."""

    language: str
    title: str
    needs: str
    text: str
    line: int
    """Of the page, where its text begins."""
    span: tuple[int, int]


class MismatchError(Exception):
    """A block that does not do what its page says."""


def list_pages() -> list[Path]:
    """Returns the pages of the manual that have code blocks."""
    return [page for page in sorted((ROOT / "docs").rglob("*.md")) if find_blocks(page)]


def find_blocks(page: Path) -> list[Fenced]:
    """Returns the code blocks of a page, from top to bottom."""
    return [_read_block(match, page.name) for match in _BLOCK.finditer(page.read_text("utf-8"))]


def _read_block(match: re.Match[str], page: str) -> Fenced:
    head, indent = match["head"].strip(), match["indent"]
    title = re.search(r'title="([^"]*)"', head)
    words = head.partition("title=")[0].strip("{} ").replace(".", " ").split()
    needs = [word for word in words[1:] if word.startswith("needs-")]
    if unknown := [word for word in needs if word not in NEEDS]:
        raise MismatchError(f"{page}: `{unknown[0]}`: expected one of {', '.join(NEEDS)}")
    tools = (word.removeprefix("tool-") for word in words[1:] if word.startswith("tool-"))
    needs += [tool for tool in tools if shutil.which(tool) is None]
    text = "".join(line.removeprefix(indent) for line in match["text"].splitlines(keepends=True))
    line = match.string.count("\n", 0, match.start("text")) + 1
    return Fenced(
        words[0] if words else "", title[1] if title else "", needs[0] if needs else "",
        text, line, match.span("text"),
    )  # fmt: skip


def find_commands(block: Fenced) -> list[str]:
    """Returns the commands of a shell or console block, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", block.text)
    if block.language == "console":
        return re.findall(r"^\$ (.*)$", text, re.MULTILINE)
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def check_options(command: str) -> None:
    """Raises MismatchError if a command line names a command or an option that does not exist."""
    for part in re.split(r"&&|\||;", command):
        words = shlex.split(re.sub(r"\s\d?[<>]\S* *|&$", " ", part), comments=True)
        while words and re.fullmatch(r"\w+=.*", words[0]):
            del words[0]
        if words[:1] != ["evolve"] or len(words) == 1 or words[1].startswith("-"):
            continue
        try:
            group = get_command(make_app(words[1]))
            found = group.commands[words[1]]  # type: ignore[attr-defined]
            found.make_context(words[1], words[2:])
        except (KeyError, _WRONG_USAGE) as error:
            raise MismatchError(f"{part.strip()}: {error}") from error


def run_page(page: Path, folder: Path) -> list[tuple[Fenced, str]]:
    """Runs the blocks of a page in a folder.

    Returns the console blocks, each with the text that would be right.

    Raises:
        MismatchError: A block fails, or is not valid.
    """
    consoles = []
    for block in find_blocks(page):
        try:
            if text := _run_block(block, folder):
                consoles.append((block, text))
        except (MismatchError, ValueError) as error:
            raise MismatchError(f"{_name(page)}:{block.line}: {error}") from error
    return consoles


def _run_block(block: Fenced, folder: Path) -> str:
    commands = find_commands(block) if block.language in {"sh", "console"} else []
    for command in commands:
        check_options(command)
    if block.needs:
        return ""
    if block.title:
        path = folder / block.title
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
    if block.language == "toml":
        tomllib.loads(block.text)
    elif block.language == "json":
        json.loads(block.text)
    elif block.language == "python" and not block.title:
        path = folder / f"example_{block.line}.py"
        path.write_text(block.text, encoding="utf-8")
        run_command(f"{shlex.quote(sys.executable)} {path.name}", folder)
    elif block.language == "console":
        return _run_console(block, folder)
    else:
        for command in commands:
            run_command(command, folder)
    return ""


def run_command(command: str, folder: Path) -> str:
    """Returns what a command prints, in a folder.

    Raises:
        MismatchError: It ends with another exit code than its comment says.
    """
    expected = re.search(r"# exit code (\d+)", command)
    home = folder.parent / f"{folder.name}-home"
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        ["/bin/bash", "-c", command], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=_SECONDS, check=False,
        env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(home),
             # One evaluator: to start them takes most of the time. No key, and no engine.
             "COLUMNS": "100", "LANG": "C.UTF-8", "EVOLVE_SET_SANDBOX__PROCESSES": "1"},
    )  # fmt: skip
    if done.returncode != int(expected[1] if expected else 0):
        raise MismatchError(f"`{command}` ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def _run_console(block: Fenced, folder: Path) -> str:
    """Returns the block with what its commands print; where the page shortens, so does that."""
    parts = re.split(r"^(\$ (?:.*\\\n)*.*\n)", block.text, flags=re.MULTILINE)
    text = ""
    for shown, output in zip(parts[1::2], parts[2::2], strict=True):
        printed = run_command(re.sub(r"\\\n\s*", "", shown[2:].rstrip("\n")), folder)
        text += shown + _shorten(printed.replace(str(folder), "/home/you"), output)
    return text


def _shorten(printed: str, shown: str) -> str:
    """Returns the lines that a page shows of what was printed, by its line `...`."""
    lines = [line.rstrip() for line in printed.rstrip("\n").splitlines()]
    kept = shown.rstrip("\n").splitlines()
    if "..." in kept:
        head = kept.index("...")
        tail = len(kept) - head - 1
        if len(lines) > head + tail:
            lines = [*lines[:head], "...", *lines[len(lines) - tail :]]
    return "".join(f"{line}\n" for line in lines)


def normalise(text: str) -> str:
    """Returns a transcript without what differs from run to run and from machine to machine."""
    text = re.sub(r'sandbox"?:? +.*', "sandbox BACKEND", text)
    text = re.sub(r'"backend": .*\s*"enforced": \[[^]]*\]', "BACKEND", text)
    text = re.sub(r'"host": ".*?"', "HOST", text)
    text = re.sub(r"(?<!\.)\b(?=[a-f]*\d)[0-9a-f]{8,}\b", "ID", text)
    text = re.sub(r"(N|\d+) min ", "", re.sub(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?%?", "N", text))
    text = re.sub(r"(N h )?(N min )?N s\b", "TIME", text)
    text = re.sub(r"[-+]{3,}|[─━]{2,}", "---", text)
    return re.sub(r"[ \t]+", " ", text)


def compare(page: Path, consoles: list[tuple[Fenced, str]]) -> None:
    """Raises MismatchError at the first console block that shows something else."""
    for block, text in consoles:
        shown, right = normalise(block.text).splitlines(), normalise(text).splitlines()
        if shown != right:
            at = next((n for n, pair in enumerate(zip(shown, right, strict=False))
                       if pair[0] != pair[1]), min(len(shown), len(right)))  # fmt: skip
            raise MismatchError(
                f"{_name(page)}:{block.line + at}: the page does not show what the "
                f"command prints; run: python scripts/run_manual.py --write "
                f"{_name(page)}\n{text}"
            )


def write_page(page: Path, consoles: list[tuple[Fenced, str]]) -> None:
    """Puts what the commands printed into a page."""
    whole = page.read_text("utf-8")
    for block, text in reversed(consoles):
        if normalise(text) != normalise(block.text):
            whole = whole[: block.span[0]] + text + whole[block.span[1] :]
    page.write_text(whole, encoding="utf-8")


def _name(page: Path) -> str:
    return os.path.relpath(page, ROOT)


def main() -> None:
    """Runs the pages that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="update what the pages show")
    parser.add_argument("pages", nargs="*", type=Path)
    options = parser.parse_args()
    for page in [path.resolve() for path in options.pages] or list_pages():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / page.stem
            folder.mkdir()
            consoles = run_page(page, folder)
        if options.write:
            write_page(page, consoles)
        else:
            compare(page, consoles)
        sys.stdout.write(f"{_name(page)}: {len(find_blocks(page))} blocks\n")


if __name__ == "__main__":
    main()
