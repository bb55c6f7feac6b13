"""`Idempotency-Key`: the layer of routes that may be asked twice and do their work once.

Here belong the header, what makes two requests the same, and giving an answer again. Not here: where answers are kept
(``admin.answers``), and any route: a row says ``idempotent``, and its handler how its outcome becomes an answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Scope

from api.callers import presented_key, values_of
from api.jsontext import RawJson
from api.models import Answer
from broker.admin import Admin, Claim, Companion, GivenAnswer
from broker.errors import BadRequest

HEADER = "Idempotency-Key"
FORM = re.compile(r"[\x21-\x7e]{1,255}")
REPEATED = {"Idempotency-Replayed": "true"}
JSON = "application/json"

OutcomeT = TypeVar("OutcomeT")


class Once:
    """One request that names a key: its claim, until it is answered."""

    def __init__(self, claim: Claim, status: int) -> None:
        self._claim = claim
        self._status = status

    def keeping(self, rendered: Callable[[OutcomeT], Answer]) -> Callable[[OutcomeT], Companion]:
        """Let an outcome's answer be on disk together with what it tells of."""

        def keep(outcome: OutcomeT) -> Companion:
            return self._claim.keep(GivenAnswer(self._status, rendered(outcome).model_dump_json().encode()))

        return keep

    @property
    def answer(self) -> Response | None:
        """The answer as it is kept; None where nothing was."""
        return None if self._claim.answer is None else as_response(self._claim.answer)

    def end(self) -> None:
        """Give the key back where nothing was done under it."""
        self._claim.give_back()


def presented_idempotency_key(scope: Scope) -> str | None:
    """Give the key that a request names; None for none. Raises ``BadRequest`` for one that is none, or two."""
    given = values_of(scope, HEADER.lower().encode())
    if not given:
        return None
    if len(given) > 1 or FORM.fullmatch(given[0]) is None:
        expected = "1 to 255 visible ASCII characters, once"
        raise BadRequest(f"{HEADER}: expected {expected}", field=HEADER, provided=", ".join(given), expected=expected)
    return given[0]


async def begin(
    admin: Admin, account_id: int, key: str, scope: Scope, body: dict[str, Any], status: int
) -> Once | Response:
    """Claim a key for a request, or give the answer that it had. Raises ``Conflict``: see ``Answers.claim``."""
    request = digest(scope["method"], scope["path"], body)
    await asyncio.sleep(0)  # a digest may have taken a while
    found = await admin.answers.claim(account_id, presented_key(scope), key, request)
    if isinstance(found, GivenAnswer):
        return as_response(found, repeated=True)
    return Once(found, status)


def digest(method: str, path: str, body: dict[str, Any]) -> bytes:
    """Tell requests apart by what they ask for: the order of a body's fields, and spaces in it, are nothing of that.

    What is wanted as text is told apart by its text.
    """
    told = {name: _told(value) for name, value in body.items()}
    text = json.dumps([method, path, told], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=32).digest()


def _told(value: Any) -> Any:
    return [hashlib.blake2b(value.text).hexdigest()] if isinstance(value, RawJson) else value


def as_response(answer: GivenAnswer, *, repeated: bool = False) -> Response:
    """Give a kept answer as it was."""
    return Response(answer.body, answer.status, headers=REPEATED if repeated else None, media_type=JSON)
