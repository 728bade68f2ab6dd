import csv
import io
import json
import runpy

import numpy as np
import pytest

from evolve.errors import UsageError
from evolve.importing.foreign import write_competition
from evolve.scoring.competition import METRICS, Competition, cut_rows
from tests.commands import UNTUNED, run_evolve, run_json
from tests.direct_program import DirectProgram


def write_folder(folder, *, metric="rmse", medals=None, target="price"):
    """Writes a competition in which the price is three times the size."""
    folder.mkdir()
    rng = np.random.default_rng(5)
    sizes = rng.integers(1, 50, 60)
    rows = [
        (number, int(size), "" if number % 7 == 0 else "north", 3.0 * size)
        for number, size in enumerate(sizes)
    ]
    tables = {
        "train.csv": [("id", "size", "side", target), *rows[:50]],
        "test.csv": [("id", "size", "side"), *(row[:3] for row in rows[50:])],
        "sample_submission.csv": [("id", target), *((row[0], 0) for row in rows[50:])],
    }
    for name, table in tables.items():
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows(table)
    (folder / "description.md").write_text("Predict {{prices}} of houses.\n")
    (folder / "metric.txt").write_text(f"{metric}\n")
    if medals:
        (folder / "medals.json").write_text(json.dumps(medals))
    return folder


def test_a_competition_runs_and_is_graded_on_the_hold_out_alone(tmp_path):
    write_folder(tmp_path / "houses", medals={"gold": 1.0, "silver": 60.0, "bronze": 1e6})
    run_evolve("init", "--kaggle", "houses", "mine", cwd=tmp_path)
    short = ("--generations", "1", "--set", "loop.slots=2", *UNTUNED)
    run_evolve("run", "mine", *short, "--run-dir", "r", cwd=tmp_path, code=None)
    champion = run_json("show", "r", cwd=tmp_path)["champion"]
    assert "medal" not in champion["metrics"]
    assert champion["holdout"]["metrics"]["medal"] in {1.0, 2.0, 3.0}
    run_evolve("best", "r", "--submit", "submission.csv", cwd=tmp_path)
    lines = (tmp_path / "submission.csv").read_text().splitlines()
    assert lines[0] == "id,price"
    assert [line.split(",")[0] for line in lines[1:]] == [str(n) for n in range(50, 60)]


def test_the_labels_stay_out_of_what_models_and_programs_see(tmp_path):
    write_competition(write_folder(tmp_path / "houses"), tmp_path / "mine")
    outside = [path for path in (tmp_path / "mine").rglob("*") if "evaluator" not in path.parts]
    assert not any(path.suffix == ".csv" for path in outside)
    assert "{ {prices} }" in (tmp_path / "mine/statement.md").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric.txt": "elegance"}, "expected one of rmse, .*; got 'elegance'"),
        ({"sample_submission.csv": "id,height\n1,2\n"}, "one of train.csv to predict"),
        ({"medals.json": "[3]"}, "expected an object with numbers for gold, silver, bronze"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused_with_the_place(change, message, tmp_path):
    folder = write_folder(tmp_path / "houses")
    for name, text in change.items():
        (folder / name).write_text(text)
    with pytest.raises(UsageError, match=message):
        write_competition(folder, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_no_row_is_in_two_parts():
    parts = cut_rows(103, 7)
    rows = np.concatenate(list(parts.values()))
    assert sorted(rows.tolist()) == list(range(103))


def test_medals_follow_the_direction_of_the_metric(tmp_path):
    thresholds = {"gold": 0.1, "silver": 0.2, "bronze": 0.3}
    low = Competition(tmp_path, "id", "y", "rmse", 0, thresholds)
    assert [low.grade(value) for value in (0.05, 0.15, 0.25, 0.35)] == [3, 2, 1, 0]
    high = Competition(tmp_path, "id", "y", "auc", 0, {"gold": 0.9, "bronze": 0.7})
    assert [high.grade(value) for value in (0.95, 0.8, 0.6)] == [3, 1, 0]


def test_metrics_agree_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    rng = np.random.default_rng(2)
    truth, labels = rng.uniform(1, 9, 200), rng.integers(0, 2, 200).astype(float)
    answers, chances = truth + rng.normal(size=200) / 9, np.round(rng.uniform(size=200), 1)
    guessed, ranks = (chances > 0.5).astype(float), rng.integers(0, 5, (2, 200)).astype(float)
    expected = {
        "rmse": (truth, answers, metrics.root_mean_squared_error),
        "rmsle": (truth, answers, metrics.root_mean_squared_log_error),
        "mae": (truth, answers, metrics.mean_absolute_error),
        "r2": (truth, answers, metrics.r2_score),
        "accuracy": (labels, guessed, metrics.accuracy_score),
        "auc": (labels, chances, metrics.roc_auc_score),
        "log_loss": (labels, np.clip(chances, 0.05, 0.95), metrics.log_loss),
        "f1": (labels, guessed, metrics.f1_score),
        "quadratic_weighted_kappa": (
            *ranks,
            lambda a, b: metrics.cohen_kappa_score(a, b, weights="quadratic"),
        ),
    }
    assert set(expected) == set(METRICS)
    for name, (real, said, reference) in expected.items():
        assert METRICS[name].function(real, said) == pytest.approx(reference(real, said)), name


def submit(folder, answer):
    """Returns the rows of the submission of a program that answers the same for every row."""
    program = DirectProgram(predict=lambda *given: [answer] * len(given[2]["id"]))
    score = runpy.run_path(str(folder / "evaluator/evaluator.py"))["write_submission"](program)
    return list(csv.reader(io.StringIO(score.artifacts["submission.csv"], newline="")))


@pytest.mark.parametrize(
    "answer", ["=cmd|'/c calc'!A1", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1"]
)
def test_no_answer_of_a_program_is_computed_by_a_spreadsheet(tmp_path, answer):
    write_competition(write_folder(tmp_path / "houses", metric="accuracy"), tmp_path / "mine")
    rows = submit(tmp_path / "mine", answer)
    assert rows[0] == ["id", "price"]
    assert [row[0] for row in rows[1:]] == [str(number) for number in range(50, 60)]
    assert all(row[1].startswith("'") for row in rows[1:])


@pytest.mark.parametrize("target", ['a,"b"', "two\nlines", "=1"])
def test_a_submission_keeps_the_names_of_its_columns(tmp_path, target):
    write_competition(write_folder(tmp_path / "houses", target=target), tmp_path / "mine")
    rows = submit(tmp_path / "mine", 1.0)
    assert rows[0] == ["id", target]
