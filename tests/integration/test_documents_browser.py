"""The documents' page in a real browser, over secure and plain WebSockets, served by a web server and from a file.

The printed page listens; telemetry is sent by a line that its reader types into the console.
"""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import find_program
from tests.integration.browser import Chromium, trust
from tests.integration.printed import LOOPBACK, authority, blocks, exchange, watching
from tests.integration.served import PORTS, Login, Served, end_all

SCRIPT = "https://unpkg.com/mqtt/dist/mqtt.min.js"
ADDRESS = "wss://mqtt.wayscloud.services:8084/mqtt"
LISTENERS = [
    {"transport": "tcp", "port": 0},
    {"transport": "ws", "port": 0},
    {"transport": "wss", "port": 0},
    {"name": "for-files", "transport": "ws", "port": 0, "allowed_origins": ["null"]},
]
Chooser = Callable[[str], str]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A broker with one more listener, for pages that are files."""
    environment = {"IOT_BROKER_LISTENERS": json.dumps(LISTENERS)}
    broker = Served(tmp_path_factory.mktemp("browser") / "data", *PORTS, environment=environment)
    try:
        yield broker
    finally:
        end_all([broker])


@pytest.fixture(scope="module")
def chromium(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A browser whose user trusts the broker's authority."""
    program, certutil = find_program("chromium"), find_program("certutil")
    home = tmp_path_factory.mktemp("home")
    trust(certutil, home, authority(served))
    with Chromium(program, home) as browser:
        yield browser


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and says nothing."""

    def log_message(self, *_: object) -> None:  # type: ignore[override]
        pass


@dataclass(frozen=True)
class Site:
    """A folder of pages and the address at which it is served."""

    folder: Path
    address: str

    def page(self, text: str) -> str:
        """Lay the page into the folder; gives its URL."""
        (self.folder / "page.html").write_text(text, encoding="utf-8")
        return f"{self.address}/page.html"


@pytest.fixture
def site(tmp_path: Path, node_modules: Path) -> Iterator[Site]:
    """A web server with npm's mqtt.min.js."""
    shutil.copy(node_modules / "mqtt" / "dist" / "mqtt.min.js", tmp_path)
    (tmp_path / "favicon.ico").touch()  # browsers ask for it, and log that it is not there
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer((LOOPBACK, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Site(tmp_path, f"http://{LOOPBACK}:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()


def page_of(snippets: str, device: Login, address: str) -> str:
    (text,) = blocks(snippets, "credentials: browser")
    pairs = {SCRIPT: "mqtt.min.js", ADDRESS: address, "iot_dev_abc123": device.device_id}
    return exchange(text, pairs).replace("your_password", device.password)


def converse(chromium: Chromium, served: Served, device: Login, url: str) -> None:
    """Telemetry goes up, a command comes down."""
    telemetry = device.topic("telemetry")
    with watching(served, device) as watcher, chromium.open(url) as page:
        assert page.next_line() == "Connected from browser!"
        watcher.command("open")
        assert page.next_line() == f'Received: {device.topic("commands")} "open"'
        page.run(f"client.publish('{telemetry}', JSON.stringify({{celsius: 21.5}}), {{qos: 1}}); 0")
        assert json.loads(watcher.next_telemetry()) == {"celsius": 21.5}


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_the_page_receives_a_command_and_sends_telemetry(
    snippets: str, site: Site, served: Served, device: Login, chromium: Chromium, scheme: str
) -> None:
    address = f"{scheme}://{LOOPBACK}:{served.port(scheme)}/mqtt"
    converse(chromium, served, device, site.page(page_of(snippets, device, address)))


@pytest.mark.parametrize("name", ["wss", "for-files"])
def test_the_page_does_so_from_a_file_too_whose_origin_is_null(
    snippets: str, site: Site, served: Served, device: Login, chromium: Chromium, name: str
) -> None:
    address = f"{'wss' if name == 'wss' else 'ws'}://{LOOPBACK}:{served.port(name)}/mqtt"
    site.page(page_of(snippets, device, address))
    converse(chromium, served, device, (site.folder / "page.html").as_uri())


def test_a_page_of_another_origin_is_refused_where_origins_are_listed(
    snippets: str, site: Site, served: Served, device: Login, chromium: Chromium
) -> None:
    address = f"ws://{LOOPBACK}:{served.port('for-files')}/mqtt"
    with chromium.open(site.page(page_of(snippets, device, address))) as page:
        assert "Unexpected response code: 403" in page.next_line()


def test_a_browser_that_does_not_trust_the_brokers_authority_refuses_it(
    snippets: str,
    site: Site,
    served: Served,
    device: Login,
    program: Chooser,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    address = f"wss://{LOOPBACK}:{served.port('wss')}/mqtt"
    url = site.page(page_of(snippets, device, address))
    with Chromium(program("chromium"), tmp_path_factory.mktemp("stranger")) as browser, browser.open(url) as page:
        assert "ERR_CERT_AUTHORITY_INVALID" in page.next_line()
