"""The lines of a CSV file of devices, judged by the rules of the API.

Here belong columns, and what a line says. Not here: commands (``cli_devices``), and what a device's fields may be
(``api.device_bodies``, the same for everybody).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from typing import IO, Any, get_args

from pydantic import ValidationError

from api.device_bodies import DeviceBody
from api.errors import as_bad_request
from api.jsontext import parse_object
from api.models import DeviceType
from broker.accounts.device_description import check_user_name
from broker.errors import BadRequest
from broker.policy.chosen_passwords import check_chosen

COLUMNS = ("device_id", "name", "type", "description", "metadata", "status", "certificate_fingerprint")
LOGIN_COLUMNS = ("username", "password")
TAKEN_COLUMNS = (*COLUMNS, *LOGIN_COLUMNS)
STATUSES = {"": True, "active": True, "inactive": False}
PAGE_DEVICES = 100
PAGE_BYTES = 40 * 1024  # a request to the running broker has 64 KiB

Line = tuple[int, dict[str, Any]]


class Unusable(BadRequest):
    """A line of the file says what no device can be."""


def pages(lines: Iterator[Line]) -> Iterator[list[Line]]:
    """Put lines together, as many as fit into one request."""
    page: list[Line] = []
    size = 0
    for line in lines:
        line_bytes = len(json.dumps(line[1]))
        if page and (len(page) == PAGE_DEVICES or size + line_bytes > PAGE_BYTES):
            yield page
            page, size = [], 0
        page.append(line)
        size += line_bytes
    if page:
        yield page


def read(lines: IO[str], refused: list[tuple[int, str]]) -> Iterator[Line]:
    """Read the file's devices; what cannot be one is added to ``refused``, with its line."""
    reader = csv.DictReader(lines, strict=True)
    try:
        columns = list(reader.fieldnames or ())
        _check_columns(columns)
        for row in reader:
            try:
                yield reader.line_num, _device(row)
            except BadRequest as error:
                refused.append((reader.line_num, str(error)))
    except csv.Error as error:
        raise Unusable(f"line {reader.line_num}: no CSV: {error}") from error
    except UnicodeDecodeError as error:
        raise Unusable(f"line {reader.line_num + 1} or soon after it: no UTF-8") from error


def _check_columns(columns: list[str]) -> None:
    """Refuse a file before anything of it is taken."""
    unknown = [one for one in columns if one not in TAKEN_COLUMNS]
    if unknown or len(set(columns)) != len(columns) or "name" not in columns:
        raise Unusable(f"line 1: expected the columns {', '.join(TAKEN_COLUMNS)}, of which name is needed, each once")


def _device(row: dict[str | Any, Any]) -> dict[str, Any]:
    """Judge one line by the rules of the API. Raises ``BadRequest``."""
    if None in row or None in row.values():
        raise Unusable("it has more or fewer fields than the first line")
    said = {name: value for name, value in row.items() if value}
    login = {name: said.pop(name) for name in LOGIN_COLUMNS if name in said}
    if "username" in login:
        check_user_name(login["username"])
    if "password" in login:
        check_chosen(login["password"])
    status = STATUSES.get(said.pop("status", ""))
    if status is None:
        raise Unusable("status: expected active or inactive")
    if said.get("type") not in (None, *get_args(DeviceType)):
        said["device_type"] = said.pop("type")
    if "metadata" in said:
        try:
            said["metadata"] = parse_object(said["metadata"].encode("utf-8"))
        except BadRequest as error:
            raise Unusable(f"metadata: expected a JSON object: {error}") from error
    try:
        body = DeviceBody.model_validate(said)
    except ValidationError as error:
        raise as_bad_request(error) from error
    return {**_said(body, active=status), **login}


def _said(body: DeviceBody, *, active: bool) -> dict[str, Any]:
    said = {
        "name": body.name,
        "device_type": body.chosen_type,
        "description": body.description or "",
        "metadata_json": body.metadata_json,
        "device_id": body.device_id or "",
        "certificate_fingerprint": body.certificate_fingerprint or "",
    }
    return {**{name: value for name, value in said.items() if value}, "active": active}
