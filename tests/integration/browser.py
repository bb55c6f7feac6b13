"""A real browser: headless Chromium, spoken to through its DevTools protocol.

Here belong starting it with a home of its own, whose store of certificates it reads as a user's, opening pages and
reading their consoles. Nothing is ignored for it: what it does not trust it refuses. Not here: what pages say.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from websockets.sync.client import connect

from tests.integration.served import plain_environment

PATIENCE_S = 25.0
QUIET = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
)
CONSOLE, EXCEPTION, LOGGED = "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"


def trust(certutil: str, home: Path, authority: Path) -> None:
    """Put an authority into the certificate store of the user whose home this is, as one that may issue for servers."""
    store = home / ".pki" / "nssdb"
    store.mkdir(parents=True)
    where = ["-d", f"sql:{store}"]
    added = ["-A", *where, "-n", "the broker's authority", "-t", "C,,", "-i", str(authority)]
    for arguments in (["-N", *where, "--empty-password"], added):
        subprocess.run([certutil, *arguments], check=True, capture_output=True, timeout=30)


class Chromium:
    """A running browser."""

    def __init__(self, program: str, home: Path) -> None:
        self._home = home
        profile = home / "profile"
        # Root has no sandbox; whoever else runs the tests keeps it.
        own = ["--no-sandbox"] if os.geteuid() == 0 else []
        with (home / "chromium.log").open("w") as log:
            self._process = subprocess.Popen(
                [program, *QUIET, *own, f"--user-data-dir={profile}", "about:blank"],
                stdout=log,
                stderr=log,
                env=plain_environment({"HOME": str(home), "XDG_CONFIG_HOME": str(home), "XDG_CACHE_HOME": str(home)}),
            )
        with ExitStack() as stack:
            stack.callback(self._end)
            port, path = self._address(profile / "DevToolsActivePort")
            raw = stack.enter_context(socket.create_connection(("127.0.0.1", port)))  # whatever proxies there are
            devtools = connect(f"ws://127.0.0.1:{port}{path}", sock=raw, max_size=None, open_timeout=PATIENCE_S)
            self._devtools = stack.enter_context(devtools)
            self._stack = stack.pop_all()
        self._number = 0
        self._events: dict[str, deque[str]] = {}

    def _address(self, file: Path) -> tuple[int, str]:
        until = time.monotonic() + PATIENCE_S
        while not file.exists() or file.read_text().count("\n") < 1:
            if self._process.poll() is not None or time.monotonic() > until:
                raise AssertionError((self._home / "chromium.log").read_text())
            time.sleep(0.02)
        port, path = file.read_text().split("\n")[:2]
        return int(port), path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait(10)
        shutil.rmtree(self._home / "profile", ignore_errors=True)

    def open(self, url: str) -> Page:
        """Open a page in a new tab."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._events[session] = deque()
        page = Page(self, session)
        for domain in ("Runtime", "Log", "Page"):
            page.call(f"{domain}.enable")
        page.call("Page.navigate", url=url)
        return page

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; gives its result."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        self._devtools.send(json.dumps(message if session is None else {**message, "sessionId": session}))
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def _receive(self, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        """The next message; what a page has said is kept for who reads its console."""
        message: dict[str, Any] = json.loads(self._devtools.recv(timeout_s))
        said = SAID.get(message.get("method", ""))
        if said is not None and message.get("sessionId") in self._events:
            self._events[message["sessionId"]].append(said(message["params"]))
        return message

    def next_line(self, session: str) -> str:
        """The next line of a page's console."""
        until = time.monotonic() + PATIENCE_S
        while not self._events[session]:
            self._receive(max(0, until - time.monotonic()))
        return self._events[session].popleft()


def _values(parameters: dict[str, Any]) -> str:
    return " ".join(str(one.get("value", one.get("description"))) for one in parameters["args"])


SAID: dict[str, Callable[[dict[str, Any]], str]] = {
    CONSOLE: _values,
    EXCEPTION: lambda parameters: str(parameters["exceptionDetails"]),
    LOGGED: lambda parameters: str(parameters["entry"]["text"]),
}


class Page:
    """An open page."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser = browser
        self._session = session

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.call("Page.close")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol for this page."""
        return self._browser.call(method, self._session, **parameters)

    def next_line(self) -> str:
        """The next line of its console: what the page logs, throws, or what the browser says of it."""
        return self._browser.next_line(self._session)

    def run(self, script: str) -> Any:
        """Run a script as one typed into the page's console; gives its value."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")
