import csv
import json

from tests.commands import (
    run_evolve,
    run_json,
)


def test_an_export_holds_everything(run, tmp_path):
    run_evolve("export", run, "--output", "out", cwd=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "out" / "run.jsonl").read_text().splitlines()]
    kinds = [line["kind"] for line in lines]
    state = run_json("show", run, cwd=tmp_path)
    assert kinds.count("attempt") == state["attempts"]
    assert kinds.count("call") == state["calls"]
    assert kinds.count("evaluation") == state["evaluations"]
    rows = list(csv.DictReader((tmp_path / "out" / "curve.csv").read_text().splitlines()))
    assert [row["generation"] for row in rows] == [str(number) for number in range(7)]
    assert float(rows[-1]["objective"]) == state["champion"]["objective"]
    champions = sorted((tmp_path / "out" / "champions").iterdir())
    assert champions[-1].name.endswith(state["champion"]["id"])
    assert (champions[-1] / "verdict.json").is_file()
    assert "expected a new or empty folder" in run_evolve(
        "export", run, "--output", "out", cwd=tmp_path, code=2
    ).stderr  # fmt: skip


def test_log_lists_calls_attempts_and_lessons(run, tmp_path):
    out = run_evolve("log", run, "--generation", 2, "--json", cwd=tmp_path).stdout
    lines = [json.loads(line) for line in out.splitlines()]
    assert {line["kind"] for line in lines} == {"call", "attempt", "summary"}
    assert all(line["generation"] == 2 for line in lines)
    assert "attempt" in run_evolve("log", run, cwd=tmp_path).stdout
