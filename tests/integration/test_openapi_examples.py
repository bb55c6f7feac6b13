"""Every example of the published description, sent to a live broker, answers as the description says."""

from __future__ import annotations

import shlex
import socket
import subprocess
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from api import docs_page
from api.table import ROUTES
from broker._core.packets import encode
from broker.testing import BrokerUnderTest
from broker.wire import Connect
from tests.support import pki

ROWS = [(row.method, row.path) for row in ROUTES]

# What has to be there for an id in a path: the row that makes one.
MAKERS = {
    "device_id": ("POST", "/v1/iot/devices"),
    "account_id": ("POST", "/v1/admin/accounts"),
    "key_id": ("POST", "/v1/admin/keys"),
    "webhook_id": ("POST", "/v1/iot/webhooks"),
    "claim_id": ("POST", "/v1/iot/claim-tokens"),
    "authority_id": ("POST", "/v1/iot/authorities"),
}


class Published:
    """A live broker, seen through what it publishes about itself."""

    def __init__(self, broker: BrokerUnderTest) -> None:
        self.http = httpx.Client(base_url=broker.http_url, trust_env=False, timeout=30)
        self.key = broker.api_key
        self._broker = broker
        self._number = 0
        self.open = ExitStack()
        self.admin_key = self.new_admin_key()[1]
        self.document: dict[str, Any] = self.http.get("/openapi.json").raise_for_status().json()
        resource = Resource.from_contents(self.document, default_specification=DRAFT202012)
        self._registry: Registry[Any] = Registry().with_resource("urn:api", resource)

    def send(self, method: str, path: str, known_headers: dict[str, str] | None = None, **known: str) -> httpx.Response:
        """Send a row's example, made of the published document alone but for the ids that are this broker's own."""
        operation = self.document["paths"][path][method.lower()]
        examples = {(one["in"], one["name"]): one["example"] for one in operation["parameters"] if "example" in one}
        for place, name in examples:
            if place == "path":
                known.setdefault(name, self._make(name, known))
                path = path.replace("{" + name + "}", known[name])
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
        query = {name: value for (place, name), value in examples.items() if place == "query"}
        headers = known_headers or self.headers(operation)
        if path.endswith("/verify"):  # of the code of this authority
            shown = self.http.get(path.removesuffix("/verify"), headers=headers).json()
            body = {"certificate": pki.client(shown["verification_code"], self.authority).pem.decode()}
        return self.http.request(method, path, params=query, json=body, headers=headers)

    def headers(self, operation: dict[str, Any]) -> dict[str, str]:
        """Show the key that an operation needs."""
        schemes = {name for one in operation["security"] for name in one}
        if not schemes:
            return {}
        return {"Authorization": f"Bearer {self.admin_key if 'adminBearer' in schemes else self.key}"}

    def new_admin_key(self) -> tuple[int, str]:
        """Make one more admin key: its number and its text."""
        view, text = self._broker.call(self._broker.broker.admin.admin_keys.create("examples"))
        return view.key_id, text

    def _make(self, name: str, known: dict[str, str]) -> str:
        if name in known:
            return known[name]
        if name == "message_id":
            sent = self.send("POST", "/v1/iot/devices/{device_id}/commands", device_id=known["device_id"])
            return str(sent.raise_for_status().json()[name]) if sent.status_code != 404 else "msg_nobody"
        if name in ("connection_id", "session_id"):
            return self._come(name.removesuffix("_id"))
        return str(self._made(*MAKERS[name]).raise_for_status().json()[name])

    def _come(self, what: str) -> str:
        """Let a device connect, and find its connection or session."""
        device = self._broker.register_device()
        connection = self.open.enter_context(socket.create_connection(("127.0.0.1", self._broker.direct_port)))
        login = {"user_name": device.username, "password": device.password.encode()}
        connection.sendall(encode(Connect(client_id=device.device_id, **login), 5))
        assert connection.recv(1)  # its CONNACK
        found = self.send("GET", f"/v1/admin/{what}s").raise_for_status().json()[f"{what}s"]
        return str(next(one["id"] for one in found if one["device_id"] == device.device_id))

    def _made(self, method: str, path: str) -> httpx.Response:
        """Send the example that makes something, under a name that is not taken yet where names are."""
        operation = self.document["paths"][path][method.lower()]
        body = dict(operation["requestBody"]["content"]["application/json"]["example"])
        if path.endswith("/authorities"):
            self.authority = pki.authority()
            body["certificate"] = self.authority.pem.decode()  # one whose key is known
        if path.startswith("/v1/admin"):
            self._number += 1
            body["name"] = f"{body['name']} {self._number}"
        return self.http.request(method, path, json=body, headers=self.headers(operation))

    def check(self, method: str, path: str, answer: httpx.Response) -> None:
        """Judge an answer by what is published about it."""
        described = self.document["paths"][path][method.lower()]["responses"][str(answer.status_code)]
        for name in described["headers"]:
            assert name.lower() in answer.headers, name
        content_type = answer.headers.get("content-type", "").partition(";")[0]
        assert content_type in described.get("content", {"": {}})
        if content_type == "application/json":
            pointer = f"urn:api#/paths/{_escaped(path)}/{method.lower()}/responses/{answer.status_code}"
            schema = {"$ref": f"{pointer}/content/{_escaped(content_type)}/schema"}
            Draft202012Validator(schema, registry=self._registry).validate(answer.json())


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1").replace("{", "%7B").replace("}", "%7D")


@pytest.fixture(scope="module")
def published() -> Any:
    with BrokerUnderTest() as broker:
        seen = Published(broker)
        with seen.open:
            yield seen
        seen.http.close()


@pytest.mark.parametrize(("method", "path"), ROWS, ids=lambda part: part)
def test_the_example_of_every_endpoint_works(published: Published, method: str, path: str) -> None:
    if path == "/v1/admin/admin-keys/{key_id}":  # a key revokes itself alone
        number, text = published.new_admin_key()
        answer = published.send(method, path, {"X-API-Key": text}, key_id=str(number))
    else:
        answer = published.send(method, path)
    assert answer.is_success, answer.text
    published.check(method, path, answer)


@pytest.mark.parametrize(("method", "path"), [row for row in ROWS if "{device_id}" in row[1]], ids=lambda part: part)
def test_what_is_not_there_is_told_as_described(published: Published, method: str, path: str) -> None:
    answer = published.send(method, path, device_id="iot_dev_nobody")
    assert answer.status_code == 404
    published.check(method, path, answer)


@pytest.mark.parametrize(("method", "path"), ROWS, ids=lambda part: part)
def test_an_unknown_parameter_is_refused_as_described(published: Published, method: str, path: str) -> None:
    operation = published.document["paths"][path][method.lower()]
    headers = published.headers(operation)
    body = b"{}" if "requestBody" in operation else None
    answer = published.http.request(method, path, params={"nonsense": 1}, content=body, headers=headers)
    assert answer.status_code == 400
    published.check(method, path, answer)


def test_nobody_without_a_key_sees_more_than_the_description(published: Published) -> None:
    for method, path in ROWS:
        operation = published.document["paths"][path][method.lower()]
        if operation["security"]:
            answer = published.http.request(method, path, json={})
            assert answer.status_code == 401, path
            published.check(method, path, answer)


@pytest.mark.needs("curl")
def test_the_line_that_the_page_shows_works_in_a_shell(published: Published) -> None:
    operation = published.document["paths"]["/v1/iot/devices"]["post"]
    line = docs_page.curl_line("POST", "/v1/iot/devices", operation)
    url = str(published.http.base_url).rstrip("/")
    script = f"API={shlex.quote(url)}; KEY={shlex.quote(published.key)}; {line}"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=20, check=True)
    assert '"name":"Boiler house 2"' in done.stdout


def test_the_page_is_served_with_its_policy_and_no_key(published: Published) -> None:
    answer = published.http.get("/docs")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "POST" in answer.text
