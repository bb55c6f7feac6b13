"""A real browser's page of another origin and the REST API: what it may read, and what the browser keeps from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.testing import BrokerUnderTest
from tests.integration.browser import Chromium

SCRIPT = """
fetch("{url}/v1/iot/devices", {{method: "POST", headers: {{"Authorization": "Bearer {key}",
      "Content-Type": "application/json"}}, body: JSON.stringify({{name: "From a page", type: "sensor"}})}})
  .then(async (answer) => {{
    const device = await answer.json();
    console.log(answer.status, device.name, answer.headers.get("X-RateLimit-Limit"));
  }}, (error) => console.log("kept out"));
"""


@pytest.mark.needs("chromium")
@pytest.mark.parametrize("allowed", [["null"], ["https://app.example.org"]], ids=["listed", "another is listed"])
def test_a_page_registers_a_device_where_its_origin_is_listed_and_nowhere_else(
    make_iot_broker: Callable[..., BrokerUnderTest], program: Callable[[str], str], tmp_path: Path, allowed: list[str]
) -> None:
    broker = make_iot_broker(config={"http": {"port": 0, "allowed_origins": allowed}})
    file = tmp_path / "page.html"
    script = SCRIPT.format(url=broker.http_url, key=broker.api_key)
    file.write_text(f"<!doctype html><script>{script}</script>")
    with Chromium(program("chromium"), tmp_path) as browser, browser.open(file.as_uri()) as page:
        lines = [page.next_line()]
        while not lines[-1].startswith(("201", "kept out")):
            lines.append(page.next_line())
    expected = "201 From a page 1000" if "null" in allowed else "kept out"
    assert lines[-1] == expected, json.dumps(lines)
