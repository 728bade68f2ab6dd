"""Makes the pictures of the manual from one real run.

    python scripts/make_pictures.py [NAME...]

Without names it makes all: of the run in a terminal (tmux), of its figures in a report, and of the
view in a browser (the extra `test`, and Chromium). The run is model-free with seed 5, so that its
programs are the same each time; what the pictures show differs in seconds.
"""

import io
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
RUN = "run circle_packing --seed 5 --max-evaluations 600 --run-dir runs/circles"
EVOLVE = [sys.executable, "-m", "evolve"]

# Name of a picture, size of its terminal, what is on it by then, how many seconds later it is
# taken, and the command.
Scene = tuple[str, tuple[int, int], str, float, str]
SCENES: list[Scene] = [
    ("run", (120, 36), "champion", 15.0, RUN),
    ("narrow", (72, 20), "champion", 3.0, "attach circles"),
    ("archive", (72, 28), "across", 1.0, "archive circles --map radius_spread border_share"),
]
FIGURES = {"curve": "curve", "archive": "cells", "lineage": "lineage"}  # of a report: picture
PAGES = ("view", "attempt")

# No font from elsewhere: pages show the pictures without any request.
FORMAT = re.sub(r"<!--.*?-->|@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
SERVER = f"pictures-{time.monotonic_ns()}"
SWITCHES = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic",
]  # fmt: skip


def main() -> None:
    """Makes the run and the pictures that are named."""
    names = set(sys.argv[1:]) or {*(scene[0] for scene in SCENES), *FIGURES.values(), *PAGES}
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        try:
            take_scenes(names, Path(folder))
        finally:
            ask_tmux("kill-server", check=False)
        if names & set(FIGURES.values()):
            copy_figures(names, Path(folder))
        if names & set(PAGES):
            take_pages(folder)


def take_scenes(names: set[str], folder: Path) -> None:
    """Makes the run, in a terminal where a picture shows it, and takes the pictures of commands."""
    if not names & {"run", "narrow"}:
        subprocess.run([*EVOLVE, *RUN.split()], cwd=folder, check=True)
    for scene in SCENES:
        if scene[0] in names or (scene[4] == RUN and "narrow" in names):
            if scene[0] == "archive":  # of the whole run
                while not (folder / "runs/circles/report.html").exists():
                    time.sleep(1.0)
            take_scene(scene, folder)
    while not (folder / "runs/circles/report.html").exists():
        time.sleep(1.0)


def take_scene(scene: Scene, folder: Path) -> None:
    """Takes a picture of a command, which runs on."""
    name, (width, height), words, seconds, command = scene
    script = f"{sys.executable} -m evolve {command}; sleep 600"
    geometry = ("-x", str(width), "-y", str(height))
    ask_tmux("-f", "/dev/null", "new-session", "-d", "-s", name, *geometry, "-c", folder, script)
    while words not in ask_tmux("capture-pane", "-p", "-t", name):
        time.sleep(0.2)
    time.sleep(seconds)
    shown = ask_tmux("capture-pane", "-p", "-e", "-t", name)
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(shown.rstrip("\n")), no_wrap=True)
    title = f"evolve {command}"
    path = PICTURES / f"{name}.svg"
    path.write_text(console.export_svg(title=title, code_format=FORMAT, unique_id=name))


def ask_tmux(*words: object, check: bool = True) -> str:
    """Returns what tmux prints."""
    done = subprocess.run(
        ["tmux", "-u", "-L", SERVER, *map(str, words)],  # noqa: S607
        capture_output=True,
        text=True,
        check=check,
    )
    return done.stdout


def copy_figures(names: set[str], folder: Path) -> None:
    """Writes the figures of the run's report."""
    subprocess.run([*EVOLVE, "report", "circles", "--figures", "figures"], cwd=folder, check=True)
    for figure, name in FIGURES.items():
        if name in names:
            shutil.copy(folder / "figures" / f"{figure}.svg", PICTURES / f"{name}.svg")


def take_pages(folder: str) -> None:
    """Takes pictures of the view in a browser."""
    server = subprocess.Popen(
        [*EVOLVE, "view", "--port", "0", "--no-browser"],
        cwd=folder, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None  # noqa: S101
        address = next(line for line in iter(server.stdout.readline, "") if "token=" in line)
        with sync_playwright() as driver:
            path = shutil.which("chromium")
            browser = driver.chromium.launch(executable_path=path, args=SWITCHES)
            page = browser.new_page(viewport={"width": 1100, "height": 1150})
            open_run(page, address.strip())
            page.screenshot(path=PICTURES / "view.png")
            page = browser.new_page(viewport={"width": 1100, "height": 700})
            open_run(page, address.strip())
            page.click("rect.cell.mark")
            page.locator("h1", has_text=re.compile("attempt")).wait_for()
            page.locator("#changes").scroll_into_view_if_needed()
            page.screenshot(path=PICTURES / "attempt.png")
            browser.close()
    finally:
        server.terminate()
        server.wait()


def open_run(page: Page, address: str) -> None:
    """Opens the page of the run."""
    page.goto(address)
    page.click('a:text-is("circles")')
    page.wait_for_selector('figure[data-figure="curve"] canvas')


if __name__ == "__main__":
    main()
