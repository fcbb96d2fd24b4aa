"""What Asterisk's parts report: queue_log, the manager interface, the REST interface, and the dialplan."""

from __future__ import annotations

from services.gateway import handlers, schemas
from services.gateway.doors import CALLING
from services.gateway.doors.contacts import ContactDoors
from services.gateway.handlers import Arrival
from services.gateway.schemas import telephony
from shared import clock
from shared.http.endpoint import LARGE, Response, endpoint
from shared.http.wsgi import Request
from shared.ids import new_id
from shared.runtime.waiting import expect

POLLS_WITHIN_SECONDS = 5.0
DIALPLAN = ("application/json", "application/x-www-form-urlencoded")
TEXT = ("text/plain", "application/x-ndjson", "application/json", "application/octet-stream")


class AsteriskDoors(ContactDoors):
    @endpoint("POST", "/v1/telephony/asterisk/queue-log", query=schemas.Source, answer=schemas.Receipt, roles=CALLING, limit=LARGE,
              takes=TEXT, tag="telephony")  # fmt: skip
    def post_queue_log(self, request: Request) -> Response:
        """Lines of Asterisk's queue_log, any number at once; lines posted before change nothing."""
        return self.take(request, "queue-log", handlers.read_queue_log(request.raw))

    @endpoint("POST", "/v1/telephony/asterisk/ami", query=schemas.Source, answer=schemas.Receipt, roles=CALLING, limit=LARGE,
              takes=TEXT, tag="telephony")  # fmt: skip
    def post_ami(self, request: Request) -> Response:
        """Messages of Asterisk's manager interface: the bytes of a session, or JSON lines."""
        return self.take(request, "ami", handlers.read_ami(request.raw, clock.now()))

    @endpoint("POST", "/v1/telephony/asterisk/ari", query=schemas.Source, answer=schemas.Receipt, roles=CALLING, limit=LARGE,
              takes=TEXT, tag="telephony")  # fmt: skip
    def post_ari(self, request: Request) -> Response:
        """Events of Asterisk's REST interface as they came over its websocket: one object, an array, or JSON lines. A line may be
        {"recv": epoch, "ari": {…}}, or {"recv": epoch, "channels": […]}: all that GET /ari/channels answered then."""
        return self.take(request, "ari", handlers.read_ari(request.raw, clock.now()))

    @endpoint("POST", "/v1/telephony/asterisk/dialplan", query=schemas.Source, answer=schemas.Receipt, roles=CALLING,
              takes=DIALPLAN, shapes=dict.fromkeys(DIALPLAN, telephony.DialplanPost), tag="telephony")  # fmt: skip
    def post_dialplan(self, request: Request) -> Response:
        """One post of the dialplan's CURL(): call.arrived, call.answered or call.hangup, as JSON or form. An arrival may name its `customer`;
        `polls=1` says that it will ask whom to dial: if it does not within seconds, its caller is offered to nobody."""
        zone = self.core.sources.get(request.query["source"]).zone
        reading = handlers.read_dialplan(request.raw, request.header("Content-Type"), clock.now(), zone)
        arrived = bool(reading.observations) and reading.observations[0].kind == "arrived"
        wishes = {"customer": reading.customer} if reading.customer else {}
        answer = self.take(request, "dialplan", [reading], Arrival(new_id(), wishes=wishes) if arrived else None)
        if arrived and reading.polls:
            contact = handlers.find_contact(self.core.units, f"{request.query['source']}:{reading.observations[0].call}")
            expect(self.core.board, contact, POLLS_WITHIN_SECONDS, lambda: self.left(contact))
        return answer
