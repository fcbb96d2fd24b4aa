"""Pages for people: the live wallboard and the API for reading."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from shared.errors import NotFound
from shared.http.endpoint import Response

STATIC = Path(__file__).parent / "static"
TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
CONTENT_POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'; object-src 'none'"
PAGE_HEADERS = [("Content-Security-Policy", CONTENT_POLICY), ("Referrer-Policy", "no-referrer")]


class File(NamedTuple):
    body: bytes
    content_type: str
    tag: str


def _read(path: Path) -> File:
    body = path.read_bytes()
    return File(body, TYPES[path.suffix], f'"{hashlib.blake2b(body, digest_size=8).hexdigest()}"')


FILES = {path.name: _read(path) for path in STATIC.iterdir() if path.suffix in TYPES}
WALLBOARD = (STATIC / "wallboard.html").read_bytes()
DOCS = (STATIC / "docs.html").read_bytes()


def wallboard() -> Response:
    return _page(WALLBOARD)


def docs() -> Response:
    return _page(DOCS)


def _page(body: bytes) -> Response:
    return Response(body, content_type="text/html; charset=utf-8", headers=list(PAGE_HEADERS))


def static(name: str) -> Response:
    """Style, script or icon of the pages. Raises NotFound."""
    file = FILES.get(name)
    if file is None:
        raise NotFound(f"no file is called {name}")
    return Response(file.body, content_type=file.content_type, headers=[("ETag", file.tag), ("Cache-Control", "no-cache")])
