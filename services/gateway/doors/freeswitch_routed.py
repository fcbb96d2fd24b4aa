"""Calls at FreeSWITCH that Answerline routes: documents for mod_httapi, for the caller who waits and for the agent who picks up."""

from __future__ import annotations

from contextlib import suppress

from services.gateway import handlers
from services.gateway.domain import httapi
from services.gateway.domain.conversation import FIRST_WORDS_SECONDS, OVER, Fallback, Goodbye, Step
from services.gateway.doors import CALLING
from services.gateway.doors.conversation import ConversationDoors, Outcome, form_of
from services.gateway.schemas import conversation
from services.gateway.store import LONGEST_NAME
from shared import clock
from shared.errors import Invalid, Malformed, NotFound
from shared.http.endpoint import Response, endpoint
from shared.http.wsgi import Request

FORM = "application/x-www-form-urlencoded"
XML = "text/xml"
SERVED_ELSEWHERE = (*OVER, "observed", "released", "closed", "callback")


class FreeswitchRoutedDoors(ConversationDoors):
    @endpoint("POST", "/v1/telephony/freeswitch/httapi", query=conversation.FreeswitchHeld, roles=CALLING, takes=(FORM,),
              shapes={FORM: conversation.FreeswitchCall}, gives=XML, tag="telephony")  # fmt: skip
    def post_freeswitch_httapi(self, request: Request) -> Response:
        """What mod_httapi asks: announces the call, then answers what the caller hears next, for as long as the caller waits. All else than
        200 lets the dialplan go on."""
        fields = self._form(request)
        call, gone = fields["call"], fields.get("exiting") == "true"
        if agent := httapi.said(fields, "picked_up"):
            return as_xml(httapi.picked_up(gone or self.picks_up(agent, httapi.said(fields, "offer"))))
        if gone:
            self._gone(request, call)
            return self._as_document(request, fields, Fallback())
        if not httapi.knows_us(fields):
            raise Invalid(
                "mod_httapi's url and httapi_profile are led on to the agent's channel", errors={"url": ["No quotes, braces or commas."]}
            )
        say_at = _moment(httapi.said(fields, "say_at"))
        if say_at is None:
            self.welcome(request, "freeswitch-httapi", call, fields.get("Caller-Caller-ID-Number") or None)
            say_at = clock.now() + FIRST_WORDS_SECONDS
            fields["answerline_say_at"] = f"{say_at:.0f}"
        elif (agent := httapi.said(fields, "agent")) and not self.rang(
            request, call, agent, httapi.said(fields, "offer"), outcome_of(fields.get("originate_disposition", "")), caller_gone=False
        ):
            return self._as_document(request, fields, Goodbye())
        return self._as_document(request, fields, self.go_on(request, call, httapi.dialable, say_at))

    def _gone(self, request: Request, call: str) -> None:
        """The caller's channel has ended. Who went to FreeSWITCH's own queue is told of by that."""
        with suppress(NotFound):
            contact = handlers.find_contact(self.core.units, f"{request.query['source']}:{call}")
            if self._assignment(contact)["state"] not in SERVED_ELSEWHERE:
                self.hangs_up(contact, "caller")

    def _as_document(self, request: Request, fields: dict[str, str], step: Step) -> Response:
        query = request.query
        return as_xml(httapi.render(step, fields, query["music"], query["engine"], query["voice"]))

    def _form(self, request: Request) -> dict[str, str]:
        """The fields, with the channel's id as `call`. Raises Malformed."""
        fields = form_of(request)
        call = fields.get("Caller-Unique-ID") or fields.get("session_id", "")
        if not 1 <= len(call) <= LONGEST_NAME:
            raise Malformed(f"Caller-Unique-ID or session_id must name the channel, in at most {LONGEST_NAME} characters")
        return {**fields, "call": call}


def outcome_of(disposition: str) -> Outcome:
    if disposition == "SUCCESS":
        return "talked"
    return "no_answer" if disposition in httapi.NO_ANSWER else "busy" if disposition in httapi.BUSY else "unavailable"


def _moment(told: str) -> float | None:
    return float(told) if told.isascii() and told.isdigit() and len(told) <= 11 else None


def as_xml(document: str) -> Response:
    return Response(document.encode(), content_type=XML)
