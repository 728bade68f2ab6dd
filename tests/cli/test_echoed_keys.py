"""A provider that echoes the user's key, in errors and in replies."""

import json
import sqlite3
import zlib
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.commands import run_evolve
from tests.model_server import Answer, ModelServer, answer_like_scripted

KEY = "sk-proj-0123456789abcdefABCDEF"


class Echo:
    """Answers like the scripted model, with the key in every text; refuses each third request."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, body) -> Answer:
        self.count += 1
        if self.count % 3 == 0:
            return Answer(f"Incorrect API key provided: {'x' * 270} {KEY}.", status=400)
        said = answer_like_scripted(body).text or ""
        return Answer(said.replace("change", f"change {KEY}", 1) + f"\n# {KEY}\n")


def read_all(folder: Path) -> str:
    """Returns all texts of a run, those in its database unpacked."""
    texts = [
        path.read_bytes().decode("utf-8", "replace")
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("run.db")
    ]
    with closing(sqlite3.connect(folder / "run.db")) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master")]
        for table in tables:
            with suppress(sqlite3.OperationalError):
                for row in database.execute(f"SELECT * FROM {table}"):
                    texts += [unpack(value) for value in row]
    return "\n".join(texts)


def unpack(value: object) -> str:
    with suppress(zlib.error, TypeError):
        return zlib.decompress(value).decode("utf-8", "replace")  # type: ignore[arg-type]
    return str(value)


@pytest.fixture
def told(problem, tmp_path) -> str:
    with ModelServer(Echo()) as server:
        out, err, _ = run_evolve(
            "run", problem, "--run-dir", "r", "--generations", "3", "--model", "openai/m",
            "--api-base", server.url, cwd=tmp_path, OPENAI_API_KEY=KEY, code=None,
        )  # fmt: skip
        assert server.count > 10
        assert KEY in "".join(server.keys)
    return out + err


def test_an_echoed_key_is_nowhere(told, tmp_path):
    kept = read_all(tmp_path / "r")
    # So much of it would still be worth something.
    assert KEY[:20] not in told
    assert KEY[:20] not in kept
    assert "[OPENAI_API_KEY]" in kept
    # Whoever looks without the key in the environment sees none either.
    for command in (["show"], ["log"], ["lineage"], ["archive"], ["report"], ["best"]):
        shown = run_evolve(*command, "r", cwd=tmp_path)
        assert KEY[:20] not in shown.stdout + shown.stderr
    run_evolve("export", "r", "--output", "e", cwd=tmp_path)
    assert not any(
        KEY[:20] in path.read_text() for path in (tmp_path / "e").rglob("*") if path.is_file()
    )


def test_a_key_in_an_older_record_is_cut_out_of_what_is_shown(told, tmp_path):
    with closing(sqlite3.connect(tmp_path / "r/run.db")) as database, database:
        plan = json.dumps({"change": f"with {KEY}", "hypothesis": "",
                           "tags": [], "operator": "", "lessons": []})  # fmt: skip
        database.execute("UPDATE attempts SET plan = ? WHERE plan IS NOT NULL", (plan,))
        database.execute("UPDATE evaluations SET reason = ?", (f"says {KEY}",))
        database.execute("UPDATE calls SET error = ?", (f"echoed {KEY}",))
    for command in (["log"], ["log", "--json"], ["archive"], ["lineage", "--json"]):
        shown = run_evolve(*command, "r", cwd=tmp_path, OPENAI_API_KEY=KEY).stdout
        assert KEY not in shown
    assert (
        "echoed [OPENAI_API_KEY]" in run_evolve("log", "r", cwd=tmp_path, OPENAI_API_KEY=KEY).stdout
    )
    for command in (["export", "r", "--output", "e"], ["report", "r", "--output", "page.html"]):
        run_evolve(*command, cwd=tmp_path, OPENAI_API_KEY=KEY)
    assert not any(KEY in path.read_text() for path in (tmp_path / "e").rglob("*.json*"))
    assert KEY not in (tmp_path / "page.html").read_text()
