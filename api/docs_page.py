"""The OpenAPI document as a page for people: one file of HTML without scripts, that fetches nothing from anywhere.

Here belongs how operations and schemas look. Not here: what they are (``openapi``). The libraries that render such a
document are megabytes of script; nothing that lives in an origin where people type API keys should need any.
"""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from shlex import quote
from typing import Any
from urllib.parse import urlencode

Json = dict[str, Any]

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem }
body { color: #1b1f24; background: #fff }
code, pre { font: 13px/1.45 ui-monospace, monospace; background: #f3f4f6; border-radius: 4px }
code { padding: .1em .3em } pre { padding: .7rem; overflow-x: auto } pre code { padding: 0 }
details { border: 1px solid #d0d7de; border-radius: 6px; margin: .5rem 0; padding: .4rem .8rem }
summary { cursor: pointer } h2 { margin-top: 2.5rem } h4 { margin: 1rem 0 .3rem }
table { border-collapse: collapse; width: 100% }
td { border-top: 1px solid #d0d7de; padding: .3rem .5rem; text-align: left; vertical-align: top }
.method { display: inline-block; min-width: 4.5rem; font-weight: 700 } .quiet { color: #57606a }
@media (prefers-color-scheme: dark) { body { color: #e6edf3; background: #0d1117 } code, pre { background: #21262d }
details, td { border-color: #30363d } a { color: #58a6ff } .quiet { color: #8d96a0 } }
"""
HOW_TO_READ = (
    '<p>For programs: <a href="/openapi.json">openapi.json</a>. The examples are for a shell in which '
    "<code>API</code> is this server's address and <code>KEY</code> an API key.</p>"
)
INLINE = re.compile(r"`([^`]+)`")
LIMITS = ("minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems", "pattern")


@dataclass(frozen=True, slots=True)
class Page:
    """The page, and the hash of the one style that it may have."""

    body: bytes
    style_hash: str


def headers(page: Page) -> dict[str, str]:
    """Give what keeps a browser from running, fetching or framing anything here."""
    policy = f"default-src 'none'; style-src 'sha256-{page.style_hash}'; base-uri 'none'; form-action 'none'"
    return {
        "Content-Security-Policy": policy + "; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }


def render(document: Json) -> Page:
    """Make the page of a document."""
    info = document["info"]
    title = f"{info['title']} {info['version']}"
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><h1>{escape(title)}</h1>",
        _prose(info["description"]),
        HOW_TO_READ,
        *_operations(document),
        "<h2>Schemas</h2>",
        *(_schema(name, one) for name, one in document["components"]["schemas"].items()),
        "</body></html>\n",
    ]
    digest = b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    return Page("".join(parts).encode(), digest)


def _operations(document: Json) -> Iterator[str]:
    by_tag: defaultdict[str, list[str]] = defaultdict(list)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            by_tag[operation["tags"][0]].append(_operation(method.upper(), path, operation))
    for tag, texts in by_tag.items():
        yield f"<h2>{escape(tag.capitalize())}</h2>"
        yield from texts


def _operation(method: str, path: str, operation: Json) -> str:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    told = f'<code>{escape(path)}</code> <span class="quiet">{escape(operation["summary"])}</span>'
    parts = [
        f'<details id="{escape(operation["operationId"])}">',
        f'<summary><span class="method">{method}</span>{told}</summary>',
        _prose(operation["description"]),
        "" if operation["security"] else "<p>It needs no key.</p>",
        _parameters(operation["parameters"]),
        f"<h4>Body</h4><p>{_type(body['schema'])}</p>" if body else "",
        f"<h4>Example</h4><pre><code>{escape(curl_line(method, path, operation))}</code></pre>",
        _responses(operation["responses"]),
        "</details>",
    ]
    return "".join(parts)


def curl_line(method: str, path: str, operation: Json) -> str:
    """Write an operation's example as a line for a shell."""
    examples = {(one["in"], one["name"]): one["example"] for one in operation["parameters"] if "example" in one}
    for (place, name), value in examples.items():
        if place == "path":
            path = path.replace("{" + name + "}", str(value))
    query = urlencode({name: value for (place, name), value in examples.items() if place == "query"})
    line = f'curl{"" if method == "GET" else f" -X {method}"} "$API{path}{"?" + query if query else ""}"'
    if operation["security"]:
        line += ' -H "Authorization: Bearer $KEY"'
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
    if body is not None:
        line += f" \\\n  -H 'Content-Type: application/json' -d {quote(json.dumps(body))}"
    return line


def _parameters(parameters: list[Json]) -> str:
    rows = (
        (f"<code>{escape(one['name'])}</code>", f"in the {one['in']}", _type(one["schema"]), _limits(one["schema"]))
        for one in parameters
    )
    return f"<h4>Parameters</h4>{_table(rows)}" if parameters else ""


def _responses(responses: Mapping[str, Json]) -> str:
    rows = (
        (
            f"<code>{escape(status)}</code>",
            _inline(one["description"]),
            ", ".join(_type(content["schema"]) for content in one.get("content", {}).values()),
        )
        for status, one in responses.items()
    )
    return f"<h4>Answers</h4>{_table(rows)}"


def _schema(name: str, schema: Json) -> str:
    required = schema.get("required", ())
    rows = (
        (
            f"<code>{escape(field)}</code>",
            _type(one),
            "required" if field in required else "",
            _inline(one.get("description", "")) + _limits(one),
        )
        for field, one in schema.get("properties", {}).items()
    )
    about = _prose(schema.get("description", ""))
    head = f'<details id="schema-{escape(name)}"><summary><code>{escape(name)}</code></summary>'
    return f"{head}{about}{_table(rows)}</details>"


def _type(schema: Json) -> str:
    """Say in one cell what a value is."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#schema-{name}">{name}</a>'
    if "enum" in schema or "const" in schema:
        return ", ".join(f"<code>{escape(json.dumps(one))}</code>" for one in schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    kind = schema.get("type", "any value")
    return escape(f"{kind} ({schema['format']})" if "format" in schema else str(kind))


def _limits(schema: Json) -> str:
    parts = [f" {name} <code>{escape(str(schema[name]))}</code>" for name in LIMITS if name in schema]
    parts += [_limits(one) for one in schema.get("anyOf", ())]
    if schema.get("default") is not None:
        parts.append(f" default <code>{escape(json.dumps(schema['default']))}</code>")
    return "".join(parts)


def _table(rows: Iterator[tuple[str, ...]]) -> str:
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{lines}</table>" if lines else ""


def _prose(text: str) -> str:
    return "".join(f"<p>{_inline(part)}</p>" for part in text.split("\n\n") if part.strip())


def _inline(text: str) -> str:
    plain = escape(text.replace("``", "`"))
    return INLINE.sub(r"<code>\1</code>", plain)
