"""What FreeSWITCH posts: events of mod_callcenter, and call detail records."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from services.gateway import handlers, schemas
from services.gateway.doors import CALLING, Doors
from services.gateway.handlers import Taken
from services.gateway.schemas import telephony
from shared import clock
from shared.http.endpoint import LARGE, Response, endpoint
from shared.http.wsgi import Request

EVENTS = ("application/x-ndjson", "text/event-plain", "text/plain", "application/json")
RECORDS = {
    "application/json": telephony.RECORD,
    "application/x-www-form-urlencoded": telephony.RECORD_FIELD,
    "application/x-www-form-base64-encoded": telephony.PACKED_FIELD,
    "application/x-www-form-plaintext": telephony.PACKED_FIELD,
    "text/xml": {"type": "string"},
}
LARGEST_RECORD = 4 * 1024 * 1024


class FreeswitchDoors(Doors):
    @endpoint("POST", "/v1/telephony/freeswitch/callcenter", query=schemas.Source, answer=schemas.Receipt, roles=CALLING, limit=LARGE, takes=EVENTS,
              tag="telephony")  # fmt: skip
    def post_freeswitch_callcenter(self, request: Request) -> Response:
        """Events of mod_callcenter, any number at once: JSON objects, one a line, or the event socket's plain blocks."""
        return self.take(request, "freeswitch-callcenter", handlers.read_freeswitch_events(request.raw, clock.now()))

    @endpoint("POST", "/v1/telephony/freeswitch/cdr", query=schemas.CdrSource, answer=schemas.Receipt, roles=CALLING, limit=LARGEST_RECORD,
              takes=tuple(RECORDS), shapes=RECORDS, tag="telephony")  # fmt: skip
    def post_freeswitch_cdr(self, request: Request) -> dict[str, Any]:
        """One call detail record of mod_json_cdr or mod_format_cdr, as either wraps it. One that cannot be read is kept for inspection and
        still answered 200, its reason in `rejected`: the sender knows only success and failure, and would send the same again."""
        reading = handlers.read_freeswitch_cdr(request.raw, clock.now())
        receipt = self.core.take(Taken(request.query["source"], "freeswitch-cdr", reading))
        return {name: value for name, value in asdict(receipt).items() if value is not None}
