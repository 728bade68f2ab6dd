import re

from tests.commands import run_evolve, write_problem

RUN = ("--generations", "1", "--run-dir", "r")


def test_the_champions_construction_is_drawn(tmp_path):
    run_evolve("run", "circle_packing", *RUN, "--set", "parameters.count=5", cwd=tmp_path)
    run_evolve("best", "r", "--plot", "picture.svg", cwd=tmp_path)
    picture = (tmp_path / "picture.svg").read_text()
    assert picture.startswith("<svg")
    assert len(re.findall("<circle ", picture)) == 5


def test_a_problem_without_a_drawing_is_told_how_to_get_one(tmp_path):
    write_problem(tmp_path / "valley")
    run_evolve("run", "valley", *RUN, cwd=tmp_path)
    done = run_evolve("best", "r", "--plot", "picture.svg", cwd=tmp_path, code=2)
    assert "makes no picture.svg; name a function of it in `plot" in done.stderr
    assert not (tmp_path / "picture.svg").exists()
