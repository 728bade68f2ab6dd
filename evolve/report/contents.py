"""The pages about a run, read from its database alone."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from evolve.archive import Elite
from evolve.display import Listing, TextTable, one_line, say_error, show_number
from evolve.edits.matching import align_lines
from evolve.errors import UsageError
from evolve.evaluation.verdict import Machine
from evolve.files import writing
from evolve.problem import PRODUCTS, Problem, Purpose
from evolve.records import INITIAL, Attempt
from evolve.records.attempts import read_picture
from evolve.records.plain import from_plain
from evolve.records.results import gain_on_parent
from evolve.report.audit import audit_run
from evolve.report.figures import draw_archive, draw_curve, draw_front, draw_lineage, standalone
from evolve.report.history import (
    RunHistory,
    describe_source,
    diff_files,
    pair_files,
    trace_line,
    whole_as_data,
)
from evolve.report.overview import (
    describe_run,
    describe_state,
    describe_status,
    tabulate_payoffs,
    tabulate_spending,
)
from evolve.report.render import (
    Block,
    Cards,
    Document,
    Fold,
    ForeignPicture,
    LinkCell,
    Picture,
    Section,
    SideBySide,
    render_html,
)
from evolve.runs.outcome import PICTURED
from evolve.runs.run_folder import BEST_FOLDER, describe_verdict, load_run, write_text
from evolve.search.curves import AXES
from evolve.search.knowledge import read_lessons
from evolve.settings import Settings, format_settings
from evolve.store import Store

_REPORT = "report.html"
_LESSONS = 30
_CHANGE = 100
# An address of a report itself; a server has others.
HERE = "#attempt-{key}"


def write_report(folder: Path, path: Path | None = None, figures: Path | None = None) -> Path:
    """Writes the report of a run.

    Args:
        folder: The run's folder.
        path: File to write, `.html`; by default `report.html` in the run's folder.
        figures: Folder for each figure as SVG and PNG.

    Raises:
        UsageError: The name has another ending.
        StoreError: The run cannot be read, or the file cannot be written.
    """
    path = path or folder / _REPORT
    if path.suffix != ".html":
        raise UsageError(f"{path}: expected a name that ends in .html")
    problem, settings = load_run(folder)
    with closing(Store.open_to_read(folder)) as store:
        history = RunHistory(problem, settings)
        history.advance(store)
        document = write_contents(store, history, problem, settings)
    write_text(path, render_html(document, history.as_data()))
    if figures is not None:
        _write_figures(document, figures)
    return path


def _write_figures(document: Document, folder: Path) -> None:
    """Writes each picture as SVG, and as PNG where the package for that is installed.

    Raises:
        StoreError: A file cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    blocks = [block for section in document.sections for block in section.blocks]
    pictures = {block.name: standalone(block.svg) for block in blocks if isinstance(block, Picture)}
    for name, svg in pictures.items():
        write_text(folder / f"{name}.svg", svg)
    try:
        from resvg_py import svg_to_bytes
    except ModuleNotFoundError:
        say_error(f"{folder}: has the figures as SVG; for PNG, too: pip install 'evolve[view]'")
        return
    for name, svg in pictures.items():
        path = folder / f"{name}.png"
        with writing(path):
            path.write_bytes(svg_to_bytes(svg_string=svg, zoom=2))


def write_contents(
    store: Store, history: RunHistory, problem: Problem, settings: Settings, link: str = HERE
) -> Document:
    """Returns the page of a run as it is now, also of one in progress.

    Args:
        store: The run's database.
        history: Read from it.
        problem: The run's problem.
        settings: The run's settings.
        link: Where attempts are shown: a pattern with `{key}`.

    Raises:
        StoreError: The database cannot be read.
    """
    state = describe_run(store.folder, store, history.state)
    champion = history.state.champion
    best = None if champion is None else store.load_attempt(champion.key)
    numbers, spent = TextTable(("", ""), describe_state(state)), tabulate_spending(store.usage())
    sections = [
        Section("Result", (_summarize(state, history), Fold("All numbers", (numbers,)))),
        *_draw_sections(history, link),
    ]
    if best is not None:
        sections += [*_show_answer(store, best), _describe_lineage(store, problem, best)]
    sections += [
        Section("What was tried", tuple(_tabulate_tried(state))),
        *([Section("What it took", (spent,))] if spent.rows else []),
        *_list_lessons(store),
        *_audit(store, problem, history),
    ]
    if best is not None:
        sections += _describe_champion(store, best)
    sections += [
        Section("Problem", (Listing(problem.statement, "markdown"),)),
        Section("How it was run", tuple(_describe_setup(state, store.facts(), settings))),
    ]
    return Document(f"{state['problem']}: {state['run']}", tuple(sections))


def describe_attempt(store: Store, problem: Problem, attempt: Attempt, link: str) -> Document:
    """Returns the page of one attempt: everything that is recorded of it.

    Args:
        store: The run's database.
        problem: The run's problem.
        attempt: The attempt.
        link: Where attempts are shown: a pattern with `{key}`.

    Raises:
        StoreError: The database cannot be read.
    """
    whole = whole_as_data(store, attempt, problem.direction)
    facts = {
        "program": whole["id"],
        "by": describe_source(whole["operator"], whole["model"]),
        "parent": whole["parent"] and LinkCell(whole["parent"], link.format(key=whole["parent"])),
        **{name: whole[name] for name in ("island", "depth", "status")},
        "objective": show_number(whole["objective"]),
        "gain on the parent": show_number(whole["gain"]),
        "reason": whole["reason"] or None,
        "seconds": f"{whole['seconds']:.3f}",
        "committed": whole["time"],
        "shown beside the parent": ", ".join(whole["inspirations"]) or None,
        **{name: show_number(value) for name, value in whole["metrics"].items()},
        **{name: show_number(value) for name, value in whole["measures"].items()},
    }
    artifacts = whole["artifacts"]
    shown = tuple((name, value) for name, value in facts.items() if value is not None)
    sections = {
        "Verdict": (TextTable(("", ""), shown),),
        "Instances and stages": tuple(_tabulate_parts(whole)),
        "Plan": tuple(_describe_plan(attempt)),
        "Changes": tuple(_compare(store, attempt)),
        "Source": tuple(Listing(text, title=path) for path, text in whole["files"].items()),
        "Artifacts": tuple(_show_artifact(name, text) for name, text in artifacts.items()),
        "Model calls": tuple(map(_describe_call, whole["calls"])),
        "What its generation taught": tuple(_list_taught(whole["summary"])),
    }
    found = tuple(Section(title, blocks) for title, blocks in sections.items() if blocks)
    return Document(f"attempt {attempt.key}", found)


def _show_artifact(name: str, text: str) -> Block:
    if read_picture(text) is None:
        return Listing(text, "text", name)
    kind, _, data = text.removeprefix("data:image/").partition(";base64,")
    return ForeignPicture(data, name, kind)


def _tabulate_parts(whole: Mapping[str, Any]) -> Iterator[TextTable]:
    """Yields what an objective is the mean of, and what came before it."""
    if whole["instances"]:
        ranked = sorted(whole["instances"].items(), key=lambda item: (-item[1], item[0]))
        rows = tuple((name, show_number(value)) for name, value in ranked)
        yield TextTable(("instance", "objective"), rows)
    if whole["stages"]:
        stages = (one.values() for one in whole["stages"])
        reached = tuple((name, show_number(value), f"{s:.3f}") for name, value, s in stages)
        yield TextTable(("stage", "objective", "seconds"), reached)


def _summarize(state: Mapping[str, Any], history: RunHistory) -> Cards:
    best, start = history.best, history.state.initial
    value, remark = show_number(best[1] if best else None), ""
    if best is not None and start is not None:
        gain = history.state.direction.gain(best[1], start)
        remark = f"better than the start by {gain:.6g}" if gain > 0 else "no better than the start"
    references = [
        (name, show_number(known.value), known.source)
        for name, known in history.state.references.items()
    ]
    pending, unpriced = len(history.pending), state["unpriced_calls"]
    left_out = f"without {unpriced} calls of unknown price" * bool(unpriced)
    return Cards(
        (
            ("champion", value, remark),
            ("start", show_number(start), ""),
            *references,
            ("evaluations", str(state["evaluations"]), f"{pending} not committed" * bool(pending)),
            ("model calls", str(state["calls"]), f"{state['tokens']} tokens"),
            ("money", f"${state['cost_usd']:.4f}", left_out),
            ("time", f"{state['seconds']:.1f} s", describe_status(state)),
        )
    )


def _draw_sections(history: RunHistory, link: str) -> Iterator[Section]:
    state = history.state
    direction, references = state.direction, state.references
    values = {name: known.value for name, known in references.items()}
    curve = draw_curve(history.points, next(iter(AXES)), values)
    if curve:
        caption = "The champion's objective against what was spent on it."
        yield Section("Objective", (Picture(curve, caption, "curve"),), is_drawn=True)
    archives = state.islands.archives
    elites: list[Elite] = [elite for archive in archives for elite in archive.elites]
    cells = draw_archive(elites, archives[0].space.axes, direction)
    if cells:
        caption = "The best program in each cell of all islands; stronger colours are better."
        yield Section("Archive", (Picture(cells, caption, "archive"),), is_drawn=True)
    if state.others:
        points = [(elite.objective, elite.others[0]) for elite in state.islands.front()]
        front = draw_front(points, ("objective", state.others[0]))
        if front:
            caption = "The programs that no other program dominates."
            yield Section("Pareto front", (Picture(front, caption, "front"),))
    if state.champion is not None:
        tree = draw_lineage(history.rows, state.champion.key, direction, link)
        if tree:
            caption = "Ancestors of the best programs; those of the champion as a path."
            yield Section("Family of the best", (Picture(tree, caption, "lineage"),))


def _show_answer(store: Store, champion: Attempt) -> Iterator[Section]:
    path = store.folder / BEST_FOLDER / PRODUCTS[Purpose.PLOT]
    # A run in progress may have the picture of an earlier champion.
    is_its = store.facts().get(PICTURED) == champion.program_or_fail.id
    if is_its and path.is_file() and not path.is_symlink():
        data = base64.b64encode(path.read_bytes()).decode()
        picture = ForeignPicture(data, "The answer of the champion, drawn by the evaluator.")
        yield Section("The champion's answer", (picture,))


def _describe_lineage(store: Store, problem: Problem, champion: Attempt) -> Section:
    line = trace_line(store, champion)
    folds = []
    for parent, attempt in zip([None, *line], line, strict=False):
        change = one_line(attempt.plan.change) if attempt.plan else "the starting program"
        shown = change if len(change) <= _CHANGE else f"{change[:_CHANGE]} ..."
        gain = gain_on_parent(attempt, store.objective_of, problem.direction)
        better = "" if gain is None else f" (gain {gain:+.6g})"
        blocks = [*_describe_plan(attempt)]
        blocks += [] if parent is None else _diff(parent, attempt)
        title = f"{attempt.key}: {show_number(attempt.objective)}{better}: {shown}"
        folds.append(Fold(title, tuple(blocks), f"attempt-{attempt.key}"))
    return Section("The champion's lineage", tuple(folds))


def _describe_plan(attempt: Attempt) -> Iterator[Block]:
    plan = attempt.plan
    if plan is None:
        return
    yield Listing(plan.change, "text")
    facts = {
        "why": plan.hypothesis,
        "tags": ", ".join(plan.tags),
        "operator": plan.operator,
        "follows lessons": ", ".join(plan.lessons),
    }
    rows = tuple((name, text) for name, text in facts.items() if text)
    if rows:
        yield TextTable(("", ""), rows)


def _describe_call(call: Mapping[str, Any]) -> Fold:
    money = "price unknown" if call["cost_usd"] is None else f"${call['cost_usd']:.4f}"
    tokens = f"{call['prompt_tokens']} tokens read, {call['completion_tokens']} written"
    prompt = (Listing(one["text"], "markdown", one["role"]) for one in call["messages"])
    error = (Listing(call["error"], "text", "cannot be used"),) if call["error"] else ()
    title = f"{call['role']}, {call['model']}: {tokens}, {money}, {call['seconds']:.1f} s"
    return Fold(title, (*prompt, Listing(call["reply"], "markdown", "reply"), *error))


def _list_taught(summary: Mapping[str, Any] | None) -> Iterator[Listing]:
    if summary is not None:
        yield Listing(summary["verdict"], "text")
        for lesson in summary["lessons"]:
            yield Listing(lesson["claim"], "text")


def _diff(old: Attempt, new: Attempt) -> Iterator[Listing]:
    for changed in diff_files(old.program_or_fail, new.program_or_fail).values():
        if changed:
            yield Listing(changed, "diff")


def _compare(store: Store, new: Attempt) -> Iterator[SideBySide]:
    """Yields each file that an attempt changed in its parent's program."""
    if new.parent is not None:
        for path, before, text in pair_files(store.load_attempt(new.parent).program, new.program):
            if rows := align_lines(before, text):
                yield SideBySide(path, tuple(rows))


def _tabulate_tried(state: Mapping[str, Any]) -> Iterator[TextTable]:
    yield TextTable(("outcome", "attempts"), tuple(state["outcomes"].items()))
    if state["payoffs"]:
        yield tabulate_payoffs(state["payoffs"])


def _audit(store: Store, problem: Problem, history: RunHistory) -> Iterator[Section]:
    """Yields what deserves a second look, with what the run itself has recorded."""
    if history.rows:
        tables = audit_run(store, problem, history.state, history.rows).tables()
        yield Section("Audit", tuple(table for table in tables if table.rows))


def _list_lessons(store: Store) -> Iterator[Section]:
    found = read_lessons(store)
    if not found:
        return
    rows = tuple(
        ("works" if item.lesson.works else "does not", item.lesson.claim, item.lesson.evidence)
        for item in found[:_LESSONS]
    )
    yield Section("Lessons", (TextTable(("", "claim", "evidence"), rows),))


def _describe_champion(store: Store, champion: Attempt) -> Iterator[Section]:
    changes = tuple(_diff(store.load_attempt(INITIAL), champion))
    unchanged = (Listing("no change", "text"),)
    yield Section("What it changed in the starting program", changes or unchanged)
    files = champion.program_or_fail.files
    pictures = tuple(
        _show_artifact(name, data) for name, data in champion.evaluation.pictures.items()
    )
    if pictures:
        yield Section("Pictures of the champion", pictures)
    sources: Iterable[Block] = (Listing(text, title=path) for path, text in files)
    verdict = Listing(json.dumps(describe_verdict(champion), indent=2), "json")
    yield Section("The champion", (*sources, Fold("Certificate", (verdict,))))


def _describe_setup(
    state: Mapping[str, Any], facts: Mapping[str, Any], settings: Settings
) -> Iterator[Block]:
    machine = facts.get("machine")
    rows = (
        ("seed", state["seed"]),
        ("strategy", state["strategy"]),
        ("sandbox", state["sandbox"]),
        ("evolve", facts.get("version")),
        ("programs run with", machine and from_plain(Machine, machine).describe()),
    )
    yield TextTable(("", ""), tuple(row for row in rows if row[1] is not None))
    yield Fold("Settings", (Listing(format_settings(settings), "toml"),))
