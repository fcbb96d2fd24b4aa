"""Doors by who uses them; `GatewayService` in service.py is made of these classes and has the rest itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson

from services.gateway import handlers
from services.gateway.handlers import Arrival, Reading, Receipt, Taken
from shared.errors import Invalid, Malformed
from shared.http.endpoint import PUBLIC, Principal, Response
from shared.http.wsgi import Request, require

if TYPE_CHECKING:
    from services.gateway.service import GatewayCore

CALLING = ("telephony",)
STAFF = ("agent", "supervisor")
OPERATING = ("supervisor",)
WATCHING = ("supervisor", "metrics")
LISTENING = ("agent", "supervisor", "expert", "evaluator", "trainer", "telephony")
POSTS_AT_ONCE = 200
REPORT_SECONDS = 10.0
"""How long a report may take."""


class Doors:
    """What every door has at hand: the process's core, and routing's commands and questions."""

    core: GatewayCore
    routing: Any
    im: Any
    training: Any
    qa: Any

    def authenticate(self, environ: Mapping[str, Any]) -> Principal | None:
        """Who a request comes from; None: nobody we know."""
        raise NotImplementedError

    def require_watcher(self, request: Request) -> Principal:
        """Who looks at the live figures or the metrics. Raises Unauthenticated or Forbidden."""
        forwarded = bool(request.header("X-Forwarded-For") or request.header("Forwarded"))
        if self.core.settings.watching_is_public(forwarded):
            return PUBLIC
        return require(self.authenticate(request.environ), WATCHING)

    def contact_of(self, request: Request) -> str:
        """The id of the contact that the path names. Raises NotFound."""
        return handlers.find_contact(self.core.units, request.parameters["id"])

    def take(self, request: Request, door: str, readings: Iterable[Reading], arrival: Arrival | None = None) -> Response:
        """Make what a source told durable, slice by slice, and say what became of it. Raises Malformed where nothing could be read."""
        receipt = Receipt(0, 0, 0, [])
        for reading in readings:
            receipt += self.core.take(Taken(request.query["source"], door, reading, arrival))
        return as_receipt(receipt)

    def take_all(self, posts: Sequence[Taken]) -> Receipt:
        """Make many posts durable, hundreds in one go."""
        receipt = Receipt(0, 0, 0, [])
        for start in range(0, len(posts), POSTS_AT_ONCE):
            for one in self.core.take_all(posts[start : start + POSTS_AT_ONCE]):
                receipt += one
        return receipt


def as_receipt(receipt: Receipt, status: int = 200) -> Response:
    """What the poster is told. Raises Malformed where nothing could be read."""
    answer = {name: value for name, value in asdict(receipt).items() if value is not None}
    if receipt.rejected and not receipt.accepted + receipt.duplicate + receipt.ignored:
        raise Malformed(receipt.rejected[0]["reason"], **answer)
    return Response(orjson.dumps(answer), status)


def page_of(rows: Sequence[Mapping[str, Any]], key: str, query: Mapping[str, Any]) -> tuple[list[Any], str | None]:
    """The page of a whole list that `cursor` and `limit` ask for, and the next one's cursor. Raises Invalid for a cursor of none of its rows."""
    cursor, start = query["cursor"], 0
    if cursor:
        start = next((number for number, row in enumerate(rows, 1) if str(row[key]) == cursor), 0)
        if not start:
            raise Invalid("the page before is no longer there", errors={"cursor": ["Begin again without it."]})
    page = list(rows[start : start + query["limit"]])
    return page, str(page[-1][key]) if start + len(page) < len(rows) else None


def as_json(value: Any) -> Response:
    return Response(orjson.dumps(value, default=str))


def text_of(request: Request) -> str:
    """The body as text. Raises Malformed where there is none, or it is not UTF-8."""
    try:
        text = request.raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Malformed(f"byte {error.start} of the body is not UTF-8") from error
    if not text.strip():
        raise Malformed("the body is empty: send the document, as YAML or JSON")
    if "\x00" in text:
        raise Malformed("the body holds the character U+0000")
    return text
