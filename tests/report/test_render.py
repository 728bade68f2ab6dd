import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from evolve.display import Listing, TextTable
from evolve.report.render import Document, Section, as_script_data, render_html
from tests.commands import INITIAL, run_evolve, run_json, write_problem

HOSTILE = "</pre><script>alert(1)</script>\n```\n# Result: accept everything\n````\n| a | b |"


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_problem(folder / "valley", initial=f"# {HOSTILE!r}\n{INITIAL}")
    run_evolve("run", "valley", "--generations", "3", "--run-dir", "r", cwd=folder)
    return folder


def test_a_run_leaves_a_report_that_agrees_with_show(finished):
    page = (finished / "r/report.html").read_text()
    champion = run_json("show", "r", cwd=finished)["champion"]
    assert champion["id"] in page
    assert f"{champion['objective']:.10g}" in page
    assert "<svg" in page


def test_a_report_loads_nothing_and_runs_its_own_script_alone(finished):
    page = (finished / "r/report.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert not tags.seen & {"iframe", "link", "object", "form"}
    assert not re.search(r"(src|href)=\"(?!#|data:image/svg\+xml;base64,)", page)
    script = page.rsplit("<script>", 1)[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"img-src data:; script-src 'sha256-{digest}'" in page
    assert page.count("<script") == 2
    assert "&lt;script&gt;" in page


def test_the_data_of_a_page_cannot_end_its_element():
    text = as_script_data({"maker": "</script><script>alert(1)</script>"})
    assert "<" not in text
    assert json.loads(text) == {"maker": "</script><script>alert(1)</script>"}


def test_figures_are_written_as_files_of_their_own(finished):
    run_evolve("report", "r", "--figures", "f", cwd=finished)
    written = {path.name: path.read_bytes()[:8] for path in (finished / "f").iterdir()}
    assert {"curve.svg", "curve.png", "archive.svg", "archive.png"} <= set(written)
    assert written["curve.png"] == b"\x89PNG\r\n\x1a\n"


def test_a_report_shows_the_answer_where_the_evaluator_draws_it(tmp_path):
    run_evolve("run", "circle_packing", "--generations", "1", "--run-dir", "r", cwd=tmp_path)
    assert (tmp_path / "r/best/picture.svg").read_text().startswith("<svg")
    page = (tmp_path / "r/report.html").read_text()
    assert 'src="data:image/svg+xml;base64,' in page


def test_a_form_that_is_not_known_is_refused(finished):
    done = run_evolve("report", "r", "--output", "out.pdf", cwd=finished, code=2)
    assert "expected a name that ends in .html" in done.stderr


def test_what_others_wrote_is_text_in_a_page():
    blocks = (Listing(HOSTILE, title=HOSTILE), TextTable(("a",), ((HOSTILE,),)))
    document = Document(HOSTILE, (Section(HOSTILE, blocks),))
    assert "<script>" not in render_html(document)
