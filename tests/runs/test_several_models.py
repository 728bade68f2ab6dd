from tests.commands import run_evolve, run_json, write_script


def test_several_models_share_the_slots_whatever_the_workers(tmp_path, problem):
    """One of the models never improves anything, and is asked all the same."""
    dull = write_script(tmp_path / "dull.json", editor=["no edit"])
    found = []
    for workers in (1, 8):
        run_evolve(
            "run", problem, "--model", "scripted", "--editor", "scripted", "--editor", dull,
            "--generations", 6, "--workers", workers, "--run-dir", f"r{workers}", cwd=tmp_path,
        )  # fmt: skip
        found.append(run_json("archive", f"r{workers}", cwd=tmp_path))
    assert found[0] == found[1]
    state = run_json("show", "r8", cwd=tmp_path)
    editors = {part["model"]: part["calls"] for part in state["models"] if part["role"] == "editor"}
    assert set(editors) == {"scripted", dull}
    assert "equal: generations 0 to 6" in run_evolve("replay", "r8", cwd=tmp_path).stdout
