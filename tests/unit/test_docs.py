"""What the documents say about configuration and API is what the models and the route table say."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from api.errors import STATUS
from api.table import ROUTES
from benchmarks.scenarios import BY_NAME
from broker.config import AuditLimits, BrokerConfig, Capabilities, RegistrationConfig, WebhooksConfig, load_config
from broker.doors import HttpConfig, HttpsConfig, ListenerConfig
from broker.storage.tables import TABLES

DOCS = Path(__file__).resolve().parents[2] / "docs"


NESTED = {"http", "https", "capabilities", "account_budgets", "audit", "registration", "webhooks"}


def rows(text: str) -> dict[str, str]:
    """First and second cell of each table row whose first cell is code."""
    return dict(re.findall(r"^\| `([^`]+)` \| ([^|]*?) *\|", text, re.MULTILINE))


def section(heading: str) -> str:
    text = (DOCS / "configuration.md").read_text(encoding="utf-8")
    start = text.index(f"\n{heading}\n")
    level = heading.split()[0]
    rest = text[start + len(heading) + 2 :]
    return re.split(rf"^#{{2,{len(level)}}} ", rest, flags=re.MULTILINE)[0]


@pytest.mark.parametrize(
    ("heading", "model", "nested"),
    [
        ("## Keys", BrokerConfig, NESTED),
        ("### `[[listeners]]`", ListenerConfig, set()),
        ("### `[http]`", HttpConfig, set()),
        ("### `[https]`", HttpsConfig, set()),
        ("### `[capabilities]`", Capabilities, set()),
        ("### `[audit]`", AuditLimits, set()),
        ("### `[webhooks]`", WebhooksConfig, set()),
        ("### `[registration]`", RegistrationConfig, set()),
    ],
)
def test_every_key_is_documented_with_its_default_and_no_other(
    heading: str, model: type[BaseModel], nested: set[str]
) -> None:
    documented = rows(section(heading).split("\n### ")[0])
    assert set(documented) == set(model.model_fields) - nested
    for name, field in model.model_fields.items():
        default: Any = field.default
        if name not in nested and isinstance(default, int | float | str) and default != "":
            shown = oct(default) if name == "unix_mode" else str(default).lower()
            assert documented[name].strip("`").lower() == shown, name


def test_the_example_in_the_document_can_be_used(tmp_path: Path) -> None:
    text = (DOCS / "configuration.md").read_text(encoding="utf-8")
    example = re.search(r"```toml\n(.*?)```", text, re.DOTALL)
    assert example is not None
    assert tomllib.loads(example[1])
    (tmp_path / "example.toml").write_text(example[1])
    assert load_config(tmp_path / "example.toml").capabilities.maximum_payload_bytes == 262_144


def test_every_route_is_documented_with_its_status_and_no_other() -> None:
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    documented = {
        (place, int(success[:3]))
        for place, success in rows(text).items()
        if place.startswith(("GET", "POST", "PATCH", "DELETE"))
    }
    assert documented == {(f"{route.method} {route.path}", route.status) for route in ROUTES}


def test_every_error_is_documented_with_its_status() -> None:
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| (\d{3}) \| `(\w+)`", text, re.MULTILINE))
    table = {(str(status), error.code) for error, status in STATUS.items()}
    assert documented == table | {("405", "METHOD_NOT_ALLOWED"), ("500", "INTERNAL_ERROR")}


def test_every_error_that_a_route_names_has_a_status() -> None:
    assert all(error in STATUS for route in ROUTES for error in route.errors)


def test_every_scenario_of_the_benchmark_is_documented_and_no_other() -> None:
    text = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    table = text.split("### What is measured")[1].split("Payloads are")[0]
    assert set(rows(table)) == set(BY_NAME)


def test_every_table_of_the_store_is_documented() -> None:
    text = (DOCS / "storage.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    documented = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row.split("|")[1])}
    assert documented == set(TABLES)
