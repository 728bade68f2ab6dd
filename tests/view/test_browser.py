"""What people see in a real browser: pages of `evolve view`, and the report."""

import os
import re
import time
from pathlib import Path

import pytest

from tests.commands import start_evolve
from tests.view.conftest import browsing, viewing

expect = pytest.importorskip("playwright.sync_api").expect

# Screenshots are kept where this variable says, to be looked at.
PICTURES = os.environ.get("EVOLVE_PICTURES")


def take_pictures(browser, address, name):
    if PICTURES is None:
        return
    for width in (1400, 400):
        for scheme in ("light", "dark"):
            context = browser.new_context(
                viewport={"width": width, "height": 1000}, color_scheme=scheme
            )
            page = context.new_page()
            page.goto(address)
            page.wait_for_selector("h1")
            path = Path(PICTURES) / f"{name}-{width}-{scheme}.png"
            page.screenshot(path=path, full_page=True)
            context.close()


@pytest.mark.parametrize("run", ["alone", "helped"])
def test_a_reader_clicks_from_the_list_to_an_attempt_and_back(runs, browser, page, run):
    with browsing(page, cwd=runs):
        page.click(f'a:text-is("{run}")')
        page.wait_for_selector('figure[data-figure="curve"] canvas')
        expect(page.locator("#connection")).to_have_text("live")
        page.click("rect.cell.mark")
        page.wait_for_selector("table.sides, #source")
        assert page.inner_text("h1").startswith("attempt ")
        page.click('nav a:text-is("Attempts")')
        page.select_option('select[name="sort"]', "largest gain")
        page.click("form.filter button")
        page.wait_for_selector("tbody tr, table tr")
        gains = page.locator("table tr td:nth-child(4)").all_inner_texts()
        numbers = [float(gain) for gain in gains if gain[0] in "+-"]
        assert numbers == sorted(numbers, reverse=True)


def test_a_lineage_leads_to_its_attempts(runs, page):
    with browsing(page, cwd=runs):
        page.click('a:text-is("helped")')
        page.locator('figure[data-figure="lineage"] a').last.click()
        expect(page.locator("h1")).to_have_text(re.compile("^attempt"))
        page.click("#verdict a")
        expect(page.locator("h1")).to_have_text(re.compile("^attempt"))


def test_runs_of_a_problem_are_compared(runs, page):
    with browsing(page, cwd=runs):
        page.click('a:text-matches("compare 2 runs")')
        page.wait_for_selector("#curves svg")
        assert "valley" in page.inner_text("h1")


def test_the_slider_shows_the_archive_as_it_was(runs, page):
    with browsing(page, "alone", cwd=runs):
        page.click('a:text-is("alone")')
        cells = page.locator('figure[data-figure="archive"] rect.cell')
        page.wait_for_selector('figure[data-figure="archive"] input[type="range"]')
        now = cells.count()
        page.eval_on_selector(
            'figure[data-figure="archive"] input[type="range"]',
            "slider => { slider.value = 0; slider.dispatchEvent(new Event('input')); }",
        )
        assert cells.count() == 1 < now


def test_text_of_programs_and_evaluators_does_nothing(runs, page):
    with browsing(page, cwd=runs):
        page.click('a:text-is("alone")')
        assert "owned" not in page.title()
        page.click("rect.cell.mark")
        page.wait_for_selector("#artifacts pre")
        assert "document.title" in page.inner_text("#artifacts")
        assert "owned" not in page.title()
        assert page.locator("img[src=x]").count() == 0


def test_a_new_champion_comes_to_the_page_while_the_run_continues(runs, page):
    with viewing(cwd=runs) as address:
        run = start_evolve(
            "run", "circle_packing", "--seed", "5", "--max-evaluations", "250",
            "--run-dir", "runs/live", cwd=runs,
        )  # fmt: skip
        try:
            while not (runs / "runs/live/best/verdict.json").exists():
                assert run.poll() is None
                time.sleep(0.1)
            page.goto(address)
            page.click('a:text-is("live")')
            card = page.locator("#result .cards dd").first
            expect(card).not_to_have_text(card.inner_text(), timeout=60_000)
            run.communicate(timeout=120)
            # A page that does not follow would never come to the end of the run.
            expect(page.locator("#result")).to_contain_text("max_evaluations")
            page.goto("about:blank")
        finally:
            run.kill()
            run.communicate()


@pytest.mark.parametrize("run", ["alone", "helped"])
def test_a_report_is_explored_offline(runs, browser, page, run):
    address = (runs / f"runs/{run}/report.html").as_uri()
    page.goto(address)
    page.wait_for_selector('figure[data-figure="curve"] canvas')
    page.select_option('figure[data-figure="curve"] select >> nth=0', "seconds")
    page.locator('figure[data-figure="lineage"] a').last.click()
    expect(page.locator("details[open]:target")).to_have_count(1)
    take_pictures(browser, address, f"{run}-report")


def test_a_report_is_read_without_scripts(runs, browser):
    context = browser.new_context(java_script_enabled=False, viewport={"width": 400, "height": 800})
    page = context.new_page()
    page.goto((runs / "runs/alone/report.html").as_uri())
    assert page.locator("figure svg").count() >= 3
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    context.close()
