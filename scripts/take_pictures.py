"""Takes the pictures of docs/how-to/view.md from a real run in a real browser.

    python scripts/take_pictures.py

Needs the extra `test` and Chromium. The run is model-free, seed 5, so the pictures can be made
again; what they show differs in seconds alone.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

DOCS = Path(__file__).parent.parent / "docs" / "pictures"
SWITCHES = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic",
]  # fmt: skip
EVOLVE = [sys.executable, "-m", "evolve"]


def main() -> None:
    """Makes a run, serves it, and takes the pictures."""
    DOCS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [*EVOLVE, "run", "circle_packing", "--seed", "5", "--max-evaluations", "600",
             "--run-dir", "runs/circles"],
            cwd=folder, check=False,
        )  # fmt: skip
        server = subprocess.Popen(
            [*EVOLVE, "view", "--port", "0", "--no-browser"],
            cwd=folder, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            address = next(line for line in iter(server.stdout.readline, "") if "token=" in line)
            take_pictures(address.strip())
        finally:
            server.terminate()
            server.wait()


def take_pictures(address: str) -> None:
    """Takes the pictures of the server at an address."""
    with sync_playwright() as driver:
        path = shutil.which("chromium")
        browser = driver.chromium.launch(executable_path=path, args=SWITCHES)
        page = browser.new_page(viewport={"width": 1100, "height": 1150})
        page.goto(address)
        page.click('a:text-is("circles")')
        page.wait_for_selector('figure[data-figure="curve"] canvas')
        page.screenshot(path=DOCS / "view.png")
        page = browser.new_page(viewport={"width": 1100, "height": 700})
        page.goto(address)
        page.click('a:text-is("circles")')
        page.click("rect.cell.mark")
        page.locator("h1", has_text=re.compile("attempt")).wait_for()
        page.locator("#changes").scroll_into_view_if_needed()
        page.screenshot(path=DOCS / "attempt.png")
        browser.close()


if __name__ == "__main__":
    main()
