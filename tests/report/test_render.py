import re
from html.parser import HTMLParser

import pytest

from evolve.display import TextTable
from evolve.report.contents import Document, Listing, Picture, Section
from evolve.report.plots import draw_steps
from evolve.report.render import render_html, render_markdown
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


def test_a_report_loads_and_runs_nothing(finished):
    page = (finished / "r/report.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert not tags.seen & {"script", "img", "iframe", "link", "object", "form", "a"}
    assert "default-src 'none'" in page
    assert "&lt;script&gt;" in page


def test_a_report_can_be_markdown(finished):
    run_evolve("report", "r", "--output", "out.md", cwd=finished)
    text = (finished / "out.md").read_text()
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings[:2] == ["Result", "What it took"]


def test_a_form_that_is_not_known_is_refused(finished):
    done = run_evolve("report", "r", "--output", "out.pdf", cwd=finished, code=2)
    assert "expected a name that ends in .html or .md" in done.stderr


def test_a_text_cannot_leave_its_fence():
    blocks = (Listing(HOSTILE, title=HOSTILE), TextTable(("a",), ((HOSTILE,),)))
    document = Document(HOSTILE, (Section(HOSTILE, blocks),))
    text = render_markdown(document)
    fence = "`````"
    assert text.count(f"\n{fence}\n") == 2
    outside = text.split(f"{fence}\n")[0] + text.split(f"{fence}\n")[2]
    assert len(re.findall(r"^#", outside, re.MULTILINE)) == 2
    assert "<script>" not in render_html(document)


def test_a_curve_of_one_count_has_no_picture():
    assert draw_steps([(3.0, 1.0), (3.0, 2.0)], across="evaluations", up="objective") == ""


def test_a_level_curve_is_drawn():
    svg = draw_steps([(0.0, 5.0), (10.0, 5.0)], across="evaluations", up="objective")
    assert "nan" not in svg
    assert svg.startswith("<svg")
    assert "caption" in render_html(Document("t", (Section("s", (Picture(svg, "caption"),)),)))
