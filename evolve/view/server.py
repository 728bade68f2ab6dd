"""The server of `evolve view`: pages, a stream of events, and who may see them."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import secrets
import signal
import socket
import sys
import webbrowser
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from evolve.errors import EvolveError, UsageError
from evolve.report.render import (
    Document,
    as_script_data,
    highlight_style,
    render_page,
    render_section,
)
from evolve.runs.opening import signal_run
from evolve.view.pages import (
    Received,
    WatchedRun,
    WatchedRuns,
    list_attempts,
    show_runs,
    write_comparison,
)

_POLL_SECONDS = 0.5
# Nothing new; a connection that is gone is noticed by it.
_ALIVE = ": alive\n\n"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "frame-ancestors 'none'; form-action 'self'; base-uri 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
_STYLES = ("uPlot.min.css", "page.css", "code.css")
_SCRIPTS = ("uPlot.iife.min.js", "page.js")


def serve(
    named: Sequence[Path],
    parent: Path,
    *,
    host: str,
    port: int,
    allows_actions: bool,
    opens_browser: bool,
    announce: Callable[[str], None],
) -> str:
    """Serves pages until it is interrupted, and returns the address that they had.

    Args:
        named: Folders of runs; without any all runs in `parent`.
        parent: A folder of runs.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        allows_actions: Whether pages can stop runs.
        opens_browser: Whether a browser is opened where there is one.
        announce: Prints a line.

    Raises:
        UsageError: Nobody can listen there.
    """
    listener = _listen(host, port)
    token = secrets.token_urlsafe(24)
    shown = f"[{host}]" if ":" in host else host
    port = listener.getsockname()[1]
    app = make_app(
        WatchedRuns(named, parent),
        token=token,
        host=host,
        allows_actions=allows_actions,
        is_ending=lambda: server.should_exit,
    )
    address = f"http://{shown}:{port}/?token={token}"
    announce("showing runs at the address below; Ctrl-C ends it")
    announce(address)
    if opens_browser and _has_display():
        webbrowser.open(address)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=10))
    # Its end by Ctrl-C is the usual one.
    with suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    return address


def make_app(
    runs: WatchedRuns,
    *,
    token: str,
    host: str,
    allows_actions: bool,
    is_ending: Callable[[], bool],
) -> Starlette:
    """Returns the application.

    Args:
        runs: What it shows.
        token: Who does not have it sees nothing.
        host: Address that it listens on; other names of it are refused where that is this machine.
        allows_actions: Whether pages can stop runs.
        is_ending: Whether the server is to end, and with it every stream of events.
    """
    pages = Pages(runs, allows_actions=allows_actions, is_ending=is_ending)
    static = resources.files("evolve") / "report" / "static"
    routes = [
        Route("/", pages.index),
        Route("/events", pages.index_events),
        Route("/compare", pages.compare),
        Route("/runs/{run}", pages.run),
        Route("/runs/{run}/events", pages.run_events),
        Route("/runs/{run}/sections/{anchor}", pages.section),
        Route("/runs/{run}/attempts", pages.attempts),
        Route("/runs/{run}/attempts/{name}", pages.attempt),
        Route("/static/code.css", pages.code_style),
        Mount("/static", StaticFiles(directory=str(static))),
    ]
    if allows_actions:
        routes.append(Route("/runs/{run}/stop", pages.stop, methods=["POST"]))
    hosts = ["*"] if host not in _LOOPBACK else [*_LOOPBACK, "[::1]"]
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False),
            Middleware(TokenCheck, token=token),
        ],
        exception_handlers={EvolveError: _refuse},
    )


class TokenCheck:
    """Lets nobody in without the token: from the address at first, from a cookie then.

    Args:
        app: What it guards.
        token: The token.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or passes it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        # Cookies do not distinguish ports; two servers on a machine have one each.
        cookie = f"evolve-{request.url.port or 80}"
        given = request.query_params.get("token")
        response: ASGIApp
        if given is not None and self._fits(given):
            response = leading = RedirectResponse(request.url.remove_query_params("token"), 303)
            leading.set_cookie(cookie, self._token, httponly=True, samesite="strict")
        elif self._fits(request.cookies.get(cookie, "")) and _is_own(request):
            response = self._app
        else:
            text = "open the address that `evolve view` printed: it holds a token\n"
            response = PlainTextResponse(text, 403)

        async def send_guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                pairs = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message["headers"] = [*message["headers"], *pairs]
            await send(message)

        await response(scope, receive, send_guarded)

    def _fits(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())


class Pages:
    """What each address answers.

    Args:
        runs: What is shown.
        allows_actions: Whether pages can stop runs.
        is_ending: Whether every stream of events is to end.
    """

    def __init__(
        self, runs: WatchedRuns, *, allows_actions: bool, is_ending: Callable[[], bool]
    ) -> None:
        self._is_ending = is_ending
        self._runs = runs
        self._allows_actions = allows_actions

    def index(self, _: Request) -> Response:
        """Lists the runs."""
        return _page(show_runs(self._runs.list_all()), {"events": "/events"})

    def run(self, request: Request) -> Response:
        """Shows a run."""
        run = self._find(request)
        document, data, events = run.write_page()
        stop = f"{run.address}/stop" if self._allows_actions and run.is_running() else ""
        return _page(document, {**data, "events": events, "link": run.link}, run=run, stop=stop)

    def section(self, request: Request) -> Response:
        """Returns one section of the page of a run."""
        return HTMLResponse(self._find(request).find_section(request.path_params["anchor"]))

    def attempts(self, request: Request) -> Response:
        """Lists the attempts of a run."""
        run = self._find(request)
        document, form = list_attempts(run, request.query_params)
        return _page(document, run=run, form=form)

    def attempt(self, request: Request) -> Response:
        """Shows one attempt."""
        run = self._find(request)
        return _page(run.describe_attempt(request.path_params["name"]), run=run)

    def compare(self, request: Request) -> Response:
        """Compares runs."""
        names = request.query_params.getlist("run")
        return _page(write_comparison([self._runs.find(name) for name in names]))

    def code_style(self, _: Request) -> Response:
        """Returns the colours of code."""
        return Response(highlight_style(), media_type="text/css")

    def stop(self, request: Request) -> Response:
        """Stops a run as `evolve stop` does, and returns to its page."""
        run = self._find(request)
        if signal_run(run.folder, signal.SIGTERM) is None:
            raise UsageError(f"{run.folder.name}: the run is not running")
        return RedirectResponse(run.address, 303)

    async def run_events(self, request: Request) -> Response:
        """Streams what changes in a run."""
        find_update = self._find(request).find_update
        return self._stream(find_update, Received.parse(request.query_params))

    async def index_events(self, _: Request) -> Response:
        """Streams what changes in the list of runs."""
        return self._stream(self._find_changed_runs, {})

    def _find_changed_runs(self, seen: dict[str, str]) -> tuple[Any, dict[str, str]]:
        document = show_runs(self._runs.list_all())
        now = {section.anchor: render_section(section) for section in document.sections}
        changed = {anchor: html for anchor, html in now.items() if seen.get(anchor) != html}
        return ({"sections": changed} if changed else None), now

    def _stream(self, find_update: Callable[[Any], tuple[Any, Any]], seen: Any) -> Response:
        """Returns what `find_update` returns as events; it gets what it returned to be seen."""

        async def follow() -> AsyncIterator[str]:
            found = seen
            while not self._is_ending():
                try:
                    update, found = await asyncio.to_thread(find_update, found)
                except EvolveError as error:
                    # The run was removed, or cannot be read any more: the page says so.
                    yield _event({"ended": str(error)})
                    return
                yield _ALIVE if update is None else _event(update)
                await asyncio.sleep(_POLL_SECONDS)

        return StreamingResponse(follow(), media_type="text/event-stream")

    def _find(self, request: Request) -> WatchedRun:
        return self._runs.find(request.path_params["run"])


def _event(data: Any) -> str:
    return f"data: {json.dumps(data, separators=(',', ':'))}\n\n"


def _page(
    document: Document,
    data: dict[str, Any] | None = None,
    *,
    run: WatchedRun | None = None,
    stop: str = "",
    form: Any = (),
) -> Response:
    links = [("Runs", "/")]
    if run is not None:
        links += [(run.folder.name, run.address), ("Attempts", f"{run.address}/attempts")]
    return HTMLResponse(
        render_page(
            document,
            links=links,
            stop=stop,
            form=form,
            styles=_STYLES,
            scripts=_SCRIPTS if data is not None else (),
            data=None if data is None else as_script_data(data),
        )
    )


async def _refuse(_: Request, error: Exception) -> Response:
    return PlainTextResponse(f"{error}\n", 404)


def _is_own(request: Request) -> bool:
    """Returns whether a request that changes something comes from a page of this server."""
    origin = request.headers.get("origin")
    return request.method in {"GET", "HEAD"} or origin == f"http://{request.headers['host']}"


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        # From here on browsers can come: they wait until the server is up.
        listener.listen()
    except OSError as error:
        listener.close()
        raise UsageError(
            f"{host}:{port}: nobody can listen there: {error.strerror or error}; choose another "
            "--port, or 0 for a free one"
        ) from error
    return listener


def _has_display() -> bool:
    return sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
