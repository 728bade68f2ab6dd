import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from tests.commands import EVALUATOR, INITIAL, run_evolve, write_problem, write_script

HOSTILE = "</pre></script><script>document.title = 'owned'</script><img src=x onerror=alert(1)>"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
IS_REQUIRED = bool(os.environ.get("EVOLVE_REQUIRE_BROWSER"))
SWITCHES = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic",
]  # fmt: skip


@contextmanager
def viewing(*args, cwd):
    """Starts `evolve view` and yields the address that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "evolve", "view", *args, "--port", "0", "--no-browser"],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        first, address = process.stdout.readline(), process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{20,}", address), first
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, "")


@contextmanager
def browsing(page, *args, cwd):
    """Starts `evolve view`, opens its first page, and leaves before the server ends."""
    with viewing(*args, cwd=cwd) as address:
        page.goto(address)
        yield
        page.goto("about:blank")


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Returns a folder with a run without a model and one with the scripted model."""
    folder = tmp_path_factory.mktemp("view")
    evaluator = EVALUATOR.replace(
        'measures={"first": first}',
        f'measures={{"first": first}}, artifacts={{"note": {HOSTILE!r}}}',
    )
    write_problem(folder / "valley", initial=f"# {HOSTILE}\n{INITIAL}", evaluator=evaluator)
    model = write_script(folder / "model.json")
    run_evolve("run", "valley", "--generations", "8", "--run-dir", "runs/alone", cwd=folder)
    run_evolve(
        "run", "valley", "--generations", "3", "--model", model, "--run-dir", "runs/helped",
        cwd=folder,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        assert not IS_REQUIRED, "EVOLVE_REQUIRE_BROWSER is set, and there is no Chromium"
        pytest.skip("needs Chromium (apt install chromium)")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser):
    """Returns a page of a new browser; every message on its console fails the test."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    page, messages = context.new_page(), []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    yield page
    context.close()
    assert messages == []
