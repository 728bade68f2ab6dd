import json
import subprocess
import sys
import urllib.error
import urllib.request
from http.cookiejar import CookieJar

import pytest

from tests.commands import run_evolve, start_evolve
from tests.view.conftest import viewing


@pytest.fixture(scope="module")
def server(runs):
    with viewing(cwd=runs) as address:
        yield address


@pytest.fixture
def visitor(server):
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    opener.open(server).read()
    return lambda path, **headers: opener.open(
        urllib.request.Request(server.partition("?")[0].rstrip("/") + path, headers=headers)
    )


def code_of(address, **headers):
    request = urllib.request.Request(address, headers=headers)
    with pytest.raises(urllib.error.HTTPError, match="HTTP Error") as caught:
        urllib.request.urlopen(request)
    with caught.value as refusal:
        return refusal.code


def test_nobody_without_the_token_sees_anything(server):
    base = server.partition("?")[0]
    assert code_of(base) == 403
    assert code_of(f"{base}?token=wrong") == 403
    assert code_of(f"{base}static/page.js") == 403
    assert code_of(f"{base}runs/alone/events") == 403


def test_another_name_of_this_machine_is_refused(server):
    assert code_of(server, Host="evil.example") == 400


def test_pages_allow_only_scripts_of_the_server(visitor):
    with visitor("/runs/alone") as answer:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'self'; style-src 'self' 'unsafe-inline'")
        assert "<script>" not in answer.read().decode()


def test_what_is_not_there_is_named(visitor):
    for path, said in (
        ("/runs/none", "no run 'none'"),
        ("/runs/alone/attempts/9.9.9", "9.9.9"),
        ("/runs/alone/attempts/x", "program 'x': none of that id"),
        ("/compare", "runs to compare"),
    ):
        with pytest.raises(urllib.error.HTTPError, match="404") as caught:
            visitor(path)
        with caught.value as refusal:
            assert said in refusal.read().decode()


def test_a_page_cannot_stop_a_run_unless_that_was_allowed(visitor):
    with pytest.raises(urllib.error.HTTPError, match="404") as caught:
        visitor("/runs/alone/stop")
    caught.value.close()


def test_events_begin_after_what_the_page_has(visitor):
    page = visitor("/runs/alone").read().decode()
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    with visitor(data["events"]) as events:
        assert events.readline() == b": alive\n"
    with visitor("/runs/alone/events") as events:
        update = json.loads(events.readline().decode().removeprefix("data: "))
    assert len(update["data"]["rows"]) == len(data["rows"])
    assert "result" in update["sections"]


def test_a_taken_port_is_named(server, runs):
    port = server.split(":")[2].split("/")[0]
    done = run_evolve("view", "--port", port, "--no-browser", cwd=runs, code=2)
    assert f"127.0.0.1:{port}: nobody can listen there" in done.stderr


def test_a_run_is_stopped_from_its_page_where_that_is_allowed(runs):
    with viewing("--allow-actions", cwd=runs) as address:
        run = start_evolve("run", "circle_packing", "--run-dir", "runs/stopped", cwd=runs)
        while not (runs / "runs/stopped/best/verdict.json").exists():
            assert run.poll() is None
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        opener.open(address).read()
        base = address.partition("/?")[0]
        stop = f"{base}/runs/stopped/stop"
        with pytest.raises(urllib.error.HTTPError, match="403") as caught:
            opener.open(urllib.request.Request(stop, method="POST"))
        caught.value.close()
        assert run.poll() is None
        opener.open(urllib.request.Request(stop, method="POST", headers={"Origin": base})).read()
        _, errors = run.communicate(timeout=60)
        assert run.returncode == 130, errors


def test_without_its_packages_the_command_says_what_to_install(runs):
    code = (
        "import sys; sys.modules['starlette'] = None; sys.modules['uvicorn'] = None; "
        "sys.argv = ['evolve', 'view']; from evolve.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=runs, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "pip install 'evolve[view]'" in done.stderr
