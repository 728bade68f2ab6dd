"""Curves of runs that a strong model served, against model calls.

    python benchmarks/strong_model.py RUN... [--calls 3 6 12 24] [--export FOLDER]

A slot's objective counts with its last call, tuning with the last call of its generation.
`--export` writes the prompts and replies of each run to FOLDER/NAME.jsonl.xz.
"""

import argparse
import json
import lzma
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

SLOTS = """SELECT slot, COUNT(*) FROM calls WHERE generation = ? AND slot >= 0 GROUP BY slot"""
OBJECTIVES = """
    SELECT a.slot, e.objective FROM attempts a JOIN evaluations e ON e.generation = a.generation
    AND e.slot = a.slot AND e.number = a.evaluation
    WHERE a.generation = ? AND e.objective IS NOT NULL
"""
WHOLE = "SELECT role FROM calls WHERE generation = ? AND slot < 0 ORDER BY number"
CALLS = """
    SELECT generation, slot, number, role, messages, text FROM calls
    ORDER BY generation, slot, number
"""


def trace(database: sqlite3.Connection) -> list[float]:
    """Returns the best objective by call; the first item is that of the start."""
    facts = dict(database.execute("SELECT name, value FROM facts"))
    better = max if json.loads(facts["direction"]) == "maximize" else min
    best = database.execute("SELECT objective FROM evaluations WHERE generation = 0").fetchone()[0]
    curve = [best]
    numbers = database.execute("SELECT number FROM generations WHERE number > 0 ORDER BY 1")
    for (generation,) in numbers.fetchall():
        calls = dict(database.execute(SLOTS, (generation,)))
        found: dict[int, list[float]] = {}
        for slot, objective in database.execute(OBJECTIVES, (generation,)):
            found.setdefault(slot, []).append(objective)
        roles = [role for (role,) in database.execute(WHOLE, (generation,))]
        curve += [best] * roles.count("planner")
        for slot in sorted(calls):
            curve += [best] * (calls[slot] - 1)
            best = better([best, *found.pop(slot, [])])
            curve.append(best)
        # What is left came without a call: tuning.
        best = better([best, *(value for values in found.values() for value in values)])
        curve[-1] = best
        curve += [best] * roles.count("summarizer")
    return curve


def export(database: sqlite3.Connection, path: Path) -> None:
    with lzma.open(path, "wt") as file:
        for *key, role, messages, reply in database.execute(CALLS):
            prompt = [[one["role"], one["text"]] for one in json.loads(zlib.decompress(messages))]
            text = json.loads(zlib.decompress(reply))
            file.write(json.dumps({"key": key, "role": role, "prompt": prompt, "reply": text}))
            file.write("\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--calls", nargs="+", type=int, default=[3, 6, 9, 12, 20, 24, 30, 40])
    parser.add_argument("--export", type=Path)
    options = parser.parse_args()
    print(
        "| run | start |", *(f"{calls} |" for calls in options.calls), "mean of 24 | evaluations |"
    )
    print("|---" * (len(options.calls) + 4) + "|")
    for run in options.runs:
        name = run.parent.name if run.name == "run" else run.name
        uri = f"file:{run / 'run.db'}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as database:
            curve = trace(database)
            cells = [f"{curve[n]:.6g}" if n < len(curve) else "" for n in options.calls]
            mean = f"{sum(curve[1:25]) / 24:.6g}" if len(curve) > 24 else ""
            (count,) = database.execute("SELECT COUNT(*) FROM evaluations").fetchone()
            print(f"| {name} | {curve[0]:.6g} |", *(f"{cell} |" for cell in cells), end=" ")
            print(f"{mean} | {count} |")
            if options.export:
                options.export.mkdir(parents=True, exist_ok=True)
                export(database, options.export / f"{name}.jsonl.xz")


if __name__ == "__main__":
    main()
