"""Calls at Twilio that Answerline routes: TwiML for the caller who waits, and for the agent who picks up."""

from __future__ import annotations

from typing import Any

from services.gateway.domain import twiml
from services.gateway.domain.conversation import FIRST_WORDS_SECONDS, Fallback, Goodbye, Step
from services.gateway.doors import CALLING
from services.gateway.doors.conversation import ConversationDoors, Outcome, form_of
from services.gateway.doors.twilio import FORM, SIGNED
from services.gateway.schemas import conversation
from services.gateway.store import LONGEST_NAME
from shared import clock
from shared.errors import AnswerlineError, Malformed, Unavailable
from shared.http.endpoint import Response, endpoint
from shared.http.wsgi import Request

XML = "text/xml"
REPEATED = ("source", "queue", "fallback", "music", "language", "wait", "back")
OVER = frozenset({"completed", "busy", "failed", "no-answer", "canceled"})
OUTCOMES: dict[str, Outcome] = {
    "completed": "talked",
    "answered": "talked",
    "busy": "busy",
    "no-answer": "no_answer",
    "failed": "unavailable",
    "canceled": "unavailable",
}
SHAPES: dict[str, Any] = {FORM: conversation.TwilioCall}


class TwilioRoutedDoors(ConversationDoors):
    @endpoint("POST", "/v1/telephony/twilio/route", query=conversation.Held, roles=CALLING, takes=(FORM,), shapes=SHAPES, signature=SIGNED,
              gives=XML, tag="telephony")  # fmt: skip
    def post_twilio_route(self, request: Request) -> Response:
        """A number's voice address, or that of a <Redirect> of yours: announces the call and answers what the caller hears, as TwiML."""
        fields = form(request)
        try:
            self.welcome(request, "twilio-route", fields["CallSid"], fields.get("From") or None)
        except Unavailable:
            return self._as_twiml(request, Fallback())
        return self._next(request, fields["CallSid"], clock.now() + FIRST_WORDS_SECONDS)

    @endpoint("POST", "/v1/telephony/twilio/wait", query=conversation.HeldOn, roles=CALLING, takes=(FORM,), shapes=SHAPES, signature=SIGNED,
              gives=XML, tag="telephony")  # fmt: skip
    def post_twilio_wait(self, request: Request) -> Response:
        """Where our TwiML leads after each piece of music: what the caller hears next."""
        return self._next(request, form(request)["CallSid"], request.query["say_at"])

    @endpoint("POST", "/v1/telephony/twilio/agent", query=conversation.PickedUp, roles=CALLING, takes=(FORM,), shapes=SHAPES,
              signature=SIGNED, gives=XML, tag="telephony")  # fmt: skip
    def post_twilio_agent(self, request: Request) -> Response:
        """Where our TwiML leads when an agent picks up: accepts the offer. One that is somebody else's by now is hung up on."""
        form(request)
        return Response(twiml.picked_up(self.picks_up(request.query["agent"], request.query["offer"])).encode(), content_type=XML)

    @endpoint("POST", "/v1/telephony/twilio/dialled", query=conversation.Rung, roles=CALLING, takes=(FORM,),
              shapes={FORM: conversation.TwilioDialled}, signature=SIGNED, gives=XML, tag="telephony")  # fmt: skip
    def post_twilio_dialled(self, request: Request) -> Response:
        """Where our TwiML leads after a <Dial>: the contact is over, or the next agent is asked while the music goes on."""
        fields, query = form(request), request.query
        outcome = OUTCOMES.get(fields.get("DialCallStatus", ""))
        if outcome is None:
            raise Malformed(f"DialCallStatus must be one of {', '.join(OUTCOMES)}")
        if outcome == "talked" and fields.get("DialBridged") == "false":
            outcome = "unavailable"
        try:
            waits = self.rang(request, fields["CallSid"], query["agent"], query["offer"], outcome, fields.get("CallStatus") in OVER)
        except AnswerlineError:
            return self._as_twiml(request, Fallback())
        return self._next(request, fields["CallSid"], query["say_at"]) if waits else self._as_twiml(request, Goodbye())

    def _next(self, request: Request, call: str, say_at: float) -> Response:
        return self._as_twiml(request, self.go_on(request, call, twiml.dialable, say_at))

    def _as_twiml(self, request: Request, step: Step) -> Response:
        query = request.query
        again = {name: str(query[name]) for name in REPEATED if query[name] != ""}
        return Response(twiml.render(step, again, query["music"], query["fallback"]).encode(), content_type=XML)


def form(request: Request) -> dict[str, str]:
    """The fields of Twilio's request. Raises Malformed."""
    fields = form_of(request)
    if not 1 <= len(fields.get("CallSid", "")) <= LONGEST_NAME:
        raise Malformed(f"CallSid must name the call, in at most {LONGEST_NAME} characters")
    return fields
