"""What is read as a plain request is what h11 would have read: whatever arrives, and in whatever parts."""

from __future__ import annotations

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.net.http_plain import HEAD_MAXIMUM_BYTES, PlainRequest, plain_request

METHODS = ["GET", "POST", "HEAD", "DELETE", "CONNECT", "get", "G T", ""]
TARGETS = ["/", "/v1/iot?a=b", "/%2f", "*", "http://x/", "/\x00", "/a b", "/\xe9", "//", ""]
VERSIONS = ["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/1.1 ", "HTTP/1.11", "http/1.1"]
ENDS = ["\r\n", "\n", "\r\r\n", "\r"]
NAMES = [
    "Host",
    "Content-Length",
    "Transfer-Encoding",
    "Connection",
    "Expect",
    "Upgrade",
    "host",
    "X-A",
    "",
    "a b",
    "a\t",
]
VALUES = [
    *[
        "x",
        "",
        " x \t",
        "5",
        "5, 5",
        "05",
        "+5",
        "-1",
        "5_0",
        "\xb2",
        "1" * 30,
        "chunked",
        "identity, chunked",
        "close",
    ],
    *["keep-alive", "Keep-Alive", "keep-alive, close", "100-continue", "a\x00b", "a\x0bb", "a\rb", "\xe9", "a\tb"],
]


def mostly(usual: str, odd: list[str]) -> st.SearchStrategy[str]:
    return st.one_of(st.just(usual), st.just(usual), st.just(usual), st.sampled_from(odd))


FIELD = st.tuples(st.sampled_from(NAMES), mostly(": ", [":", " :", ":\t ", "", ";"]), st.sampled_from(VALUES)).flatmap(
    lambda parts: mostly("\r\n", [*ENDS, "\r\n ", "\r\n\t"]).map(lambda end: "".join(parts) + end)
)
HEAD = st.builds(
    lambda line, fields, end, body: (line + "".join(fields) + end).encode("latin-1", "replace") + body,
    st.builds(
        "{} {} {}{}".format,
        mostly("GET", METHODS),
        mostly("/", TARGETS),
        mostly("HTTP/1.1", VERSIONS),
        mostly("\r\n", ENDS),
    ),
    st.lists(st.one_of(st.just("Host: x\r\n"), FIELD), max_size=4),
    mostly("\r\n", ["", "\n", "\r", " \r\n"]),
    st.sampled_from([b"", b"12345", b"0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"]),
)


def read_by_h11(data: bytes) -> PlainRequest:
    """Read a request as the server would; raises what h11 does where it is none."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    assert not connection.they_are_waiting_for_100_continue
    lengths = [int(value) for name, value in request.headers if name == b"content-length"]
    assert not any(name == b"transfer-encoding" for name, _ in request.headers)
    left = connection.trailing_data[0]
    assert request.http_version == b"1.1"
    connection.next_event()
    assert connection.their_state is not h11.MUST_CLOSE
    return PlainRequest(
        request.method, request.target, list(request.headers), lengths[0] if lengths else 0, len(data) - len(left)
    )


@settings(max_examples=400)
@given(HEAD)
@example(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n12345")
@example(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
def test_a_plain_request_is_read_as_h11_reads_it(data: bytes) -> None:
    read = plain_request(data)
    if read is not None:
        assert read == read_by_h11(data)


@settings(max_examples=200)
@given(st.binary(max_size=60), st.integers(0, 100))
def test_no_byte_in_a_plain_request_changes_into_what_h11_would_not_read(noise: bytes, at: int) -> None:
    whole = b"POST /v1/iot/devices?limit=5 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nX-A: b\r\n\r\nabc"
    data = whole[:at] + noise + whole[at + len(noise) // 2 :]
    read = plain_request(data)
    if read is not None:
        assert read == read_by_h11(data)


@pytest.mark.parametrize("length", [b"0", b"17"])
def test_what_callers_usually_send_is_plain(length: bytes) -> None:
    data = b"POST /v1/iot/devices?a=b HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\ncontent-length: " + length
    read = plain_request(data + b"\r\nX-Empty:\r\n\r\nbody")
    assert read is not None
    assert read.target == b"/v1/iot/devices?a=b"
    assert read.headers[-1] == (b"x-empty", b"")
    assert read.body_bytes == int(length)


@pytest.mark.parametrize(
    "fields",
    [
        b"",
        b"Host: x\r\nHost: x\r\n",
        b"Host: x\r\nConnection: close\r\n",
        b"Host: x\r\nTransfer-Encoding: chunked\r\n",
        b"Host: x\r\nExpect: 100-continue\r\n",
        b"Host: x\r\nUpgrade: websocket\r\n",
        b"Host: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n",
        b"Host: x\r\nContent-Length: 1, 1\r\n",
        b"Host: x\r\nX: a\r\n b\r\n",
        b"Host: x\r\nX: \xe9\r\n",
        b"Host: x\nX: a\r\n",
        b"Host: x\r\nX: " + b"a" * HEAD_MAXIMUM_BYTES + b"\r\n",
    ],
)
def test_what_is_out_of_the_ordinary_is_left_to_h11(fields: bytes) -> None:
    assert plain_request(b"GET / HTTP/1.1\r\n" + fields + b"\r\n") is None
