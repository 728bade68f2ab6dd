import runpy
from pathlib import Path

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "write_problem_pages.py"))


def test_every_problem_has_a_page_that_says_what_its_files_say():
    problems = SCRIPT["list_problems"]()
    pages = {path.stem: path.read_text() for path in SCRIPT["PAGES"].glob("*.md")}
    written = {problem.name: SCRIPT["write_page"](problem) for problem in problems}
    written["README"] = SCRIPT["write_index"](problems)
    outdated = {name for name in pages.keys() | written if pages.get(name) != written.get(name)}
    assert not outdated, "run: python scripts/write_problem_pages.py"
