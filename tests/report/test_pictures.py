"""Pictures that an evaluator makes: in prompts, ledger, report and `best/`."""

import json

from evolve.models.budget import PICTURE_TOKENS
from tests.commands import PROBLEM, run_evolve, run_json, write_problem

EVALUATOR = """from evolve.scoring import Image, Score, as_floats

def evaluate(program):
    first, second = as_floats(program.call("point"), (2,), where="point")
    shade = int(min(abs(first), 9.0) * 20)
    picture = Image.from_pixels([[shade, 255], [0, 128]])
    return Score(-((first - 3.0) ** 2) - (second + 2.0) ** 2, measures={"first": first},
                 artifacts={"the point": picture, "note": picture.address})
"""
INITIAL = """print("data:image/png;base64,iVBORw0KGgo=")
# EVOLVE-BLOCK-START
def point():
    first = 1.0
    second = 1.0
    return [first, second]
# EVOLVE-BLOCK-END
"""
RUN = ("run", "valley", "--generations", 3, "--seed", 1, "--model", "scripted")


def calls_of(folder, run):
    lines = run_evolve("log", run, "--json", cwd=folder).stdout.splitlines()
    attempts = [one for one in map(json.loads, lines) if one.get("kind") == "attempt"]
    shown = run_json("show", run, attempts[-1]["attempt"], cwd=folder)
    return [one for one in shown["calls"] if one["role"] == "editor"]


def test_models_that_see_get_pictures_and_the_ledger_counts_them(tmp_path):
    write_problem(tmp_path / "valley", initial=INITIAL, evaluator=EVALUATOR, toml=PROBLEM)
    run_evolve(*RUN, "--run-dir", "blind", cwd=tmp_path)
    run_evolve(*RUN, "--run-dir", "r", "--set", "models.pictures=2", cwd=tmp_path)
    (blind, *_), (seeing, *_) = calls_of(tmp_path, "blind"), calls_of(tmp_path, "r")
    assert not any(message["pictures"] for message in blind["messages"])
    last = seeing["messages"][-1] if len(seeing["messages"]) < 3 else seeing["messages"][1]
    assert 1 <= len(last["pictures"]) <= 2
    assert all(one.startswith("data:image/png;base64,") for one in last["pictures"])
    assert "# Pictures, in this order\n\n1. `the point` of program " in last["text"]
    # Of the note, which a program might have forged, only the text.
    assert last["pictures"][0] not in last["text"].replace(f"text: {last['pictures'][0]}", "")
    assert seeing["prompt_tokens"] > blind["prompt_tokens"] + PICTURE_TOKENS
    assert "equal" in run_evolve("replay", "r", cwd=tmp_path).stdout
    run_evolve("run", "--replay", "r", "--run-dir", "again", cwd=tmp_path)
    states = [run_json("show", name, cwd=tmp_path) for name in ("r", "again")]
    assert states[0]["champion"] == states[1]["champion"]
    assert states[0]["tokens"] == states[1]["tokens"]


def test_people_see_them_in_the_report_and_beside_the_champion(tmp_path):
    write_problem(tmp_path / "valley", initial=INITIAL, evaluator=EVALUATOR, toml=PROBLEM)
    run_evolve(*RUN, "--run-dir", "r", cwd=tmp_path)
    best = tmp_path / "r/best"
    assert (best / "the_point.png").read_bytes().startswith(b"\x89PNG")
    verdict = json.loads((best / "verdict.json").read_text())
    assert verdict["artifacts"]["the point"] == "the_point.png"
    assert verdict["artifacts"]["note"].startswith("text: data:image/png")
    # What a program prints is text, whatever it looks like.
    assert verdict["artifacts"]["output"].startswith("text: data:image/png")
    page = (tmp_path / "r/report.html").read_text()
    assert 'src="data:image/png;base64,' in page
    assert "Pictures of the champion" in page
