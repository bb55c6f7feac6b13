"""``openssl s_client``: a TLS client that can be told to speak like an old or a small one, and that says what it saw.

Here belong running it and reading its report. Not here: what a server should have answered.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from pathlib import Path
from typing import Self

PATIENCE_S = 20.0
# Its own library refuses what is old unless it is told to refuse nothing.
ANYTHING = "ALL:COMPLEMENTOFALL:@SECLEVEL=0"


class OpenSsl:
    """One connection. Its output is its report, and whatever the server sends."""

    def __init__(self, program: str, port: int, trusted: Path, *options: str) -> None:
        where = ["-connect", f"127.0.0.1:{port}", "-CAfile", str(trusted), "-verify_return_error"]
        self._process = subprocess.Popen(
            [program, "s_client", *where, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )
        self._output = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate(timeout=10)

    def send(self, data: bytes) -> None:
        """Type something."""
        assert self._process.stdin is not None
        self._process.stdin.write(data)

    def until(self, wanted: bytes | None) -> bytes:
        """All that it has said, when that has become part of it; None: at its end."""
        output = self._process.stdout
        assert output is not None
        until = time.monotonic() + PATIENCE_S
        while wanted is None or wanted not in self._output:
            ready = select.select([output], [], [], max(0, until - time.monotonic()))[0]
            assert ready, f"it never said {wanted!r}, but: {self.text}"
            more = os.read(output.fileno(), 1 << 16)
            if not more:
                assert wanted is None, f"it has ended without {wanted!r}: {self.text}"
                break
            self._output += more
        return bytes(self._output)

    @property
    def text(self) -> str:
        return self._output.decode(errors="replace")


def report(program: str, port: int, trusted: Path, *options: str) -> tuple[int, str]:
    """Shake hands and hang up; gives the exit code, 0 when there was a connection, and the report."""
    command = [program, "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", str(trusted), "-verify_return_error"]
    done = subprocess.run(
        [*command, *options], stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_S, check=False
    )
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


def cipher(text: str) -> str:
    """The cipher suite of a report."""
    (found,) = re.findall(r"^(?:New|Reused), \S+, Cipher is (\S+)$", text, re.MULTILINE)
    return str(found)


def accepted(program: str, port: int, trusted: Path) -> list[str]:
    """Every cipher suite of TLS 1.2 that a server takes: what it chooses is offered no more, until it takes nothing."""
    found: list[str] = []
    while True:
        offer = ":".join([ANYTHING, *(f"!{one}" for one in found)])
        code, text = report(program, port, trusted, "-tls1_2", "-cipher", offer)
        if code:
            return found
        found.append(cipher(text))
