"""For telephony systems that ask us for each next step of a call: the caller waits, an agent's telephone rings, the two talk, or nobody is
reached and the next agent is asked. What a step is stands in domain/conversation.py; how it is put into words, in the system's own door."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Literal

import structlog

from services.gateway import handlers
from services.gateway.domain import announcements
from services.gateway.domain.conversation import Fallback, Ring, Step, next_step
from services.gateway.domain.observation import Malformed as NotReadable
from services.gateway.domain.observation import Observation, read_form
from services.gateway.doors.contacts import NEWS, ContactDoors, announcement
from services.gateway.handlers import Arrival, Reading, Taken
from shared import clock
from shared.errors import AnswerlineError, Conflict, Gone, Malformed, NotFound
from shared.http.wsgi import Request
from shared.ids import new_id
from shared.runtime.waiting import expect

log = structlog.get_logger()

Outcome = Literal["talked", "no_answer", "busy", "unavailable"]
MOST_UNREACHABLE = 3
"""So many agents without an address that can be rung are passed over before the caller hears music again."""
AFTER_RING_SECONDS = 20.0
REFUSED = (NotFound, Conflict, Gone)


def form_of(request: Request) -> dict[str, str]:
    """The fields of a form. Raises Malformed."""
    try:
        return read_form(request.raw)
    except NotReadable as fault:
        raise Malformed(str(fault)) from fault


class ConversationDoors(ContactDoors):
    def welcome(self, request: Request, door: str, call: str, caller: str | None) -> None:
        """A caller is held for the queue that the address names. Told again, it is the same contact."""
        query = request.query
        told = Observation("api", "entered", f"api|entered|{call}", clock.now(), call=call, queue=query["queue"], caller=caller)
        wishes = {"wants": {"language": query["language"]}} if query["language"] else {}
        self.core.take(Taken(query["source"], door, Reading([told]), Arrival(new_id(), wishes=wishes)))

    def go_on(self, request: Request, call: str, dialable: Callable[[str], bool], say_at: float) -> Step:
        """What the caller hears next. Whatever keeps us from knowing leads to the fallback."""
        try:
            contact = handlers.find_contact(self.core.units, f"{request.query['source']}:{call}")
        except NotFound:
            return Fallback()
        try:
            step = self._reachable(request, contact, dialable, say_at)
        except AnswerlineError as error:
            log.warning("a caller goes to the telephony system's own queue", error=error.detail)
            step = Fallback()
        if isinstance(step, Fallback):
            self.left(contact)
        elif isinstance(step, Ring):
            expect(self.core.board, contact, step.seconds + AFTER_RING_SECONDS, lambda: self.left(contact))
        return step

    def _reachable(self, request: Request, contact: str, dialable: Callable[[str], bool], say_at: float) -> Step:
        for _ in range(MOST_UNREACHABLE):
            step = self._look(request, contact, say_at)
            if not isinstance(step, Ring) or dialable(step.address):
                return step
            self._pass_on(contact, step.agent, step.offer, "unavailable")
        return Fallback()

    def _look(self, request: Request, contact: str, say_at: float) -> Step:
        query = request.query
        found = self._await_assignment(request, contact, (*NEWS, "offered"), polls=True)
        expires_at = (found.get("offer") or {}).get("expires_at")
        language = announcements.understood(query["language"])
        text = announcement(found, query["language"])["text"]
        return next_step(found, text, language, say_at, clock.now(), clock.from_text(expires_at) if expires_at else None)

    def picks_up(self, agent: str, offer: str) -> bool:
        """The agent's telephone was answered: whether the two may be connected. Where routing does not answer, they are all the same."""
        if offer:
            try:
                self.routing.accept_offer(offer_id=offer, agent_id=agent, session="")
            except REFUSED:
                return False
            except AnswerlineError as error:
                log.warning("an offer could not be accepted; agent and caller are connected all the same", error=error.detail)
        return True

    def rang(self, request: Request, call: str, agent: str, offer: str, outcome: Outcome, caller_gone: bool) -> bool:
        """What came of ringing an agent. Returns whether the caller still waits. Raises NotFound for a call that was never announced."""
        contact = handlers.find_contact(self.core.units, f"{request.query['source']}:{call}")
        talked = outcome == "talked"
        try:
            if talked and offer:
                with suppress(*REFUSED):  # it may not have reached routing when the telephone was answered
                    self.routing.accept_offer(offer_id=offer, agent_id=agent, session="")
            found = self._assignment(contact)
            talked = talked and found["state"] == "assigned" and found["agent"] == agent
        except AnswerlineError as error:
            log.warning("what came of a call is known from telephony alone", error=error.detail)
        if caller_gone or talked:
            self.hangs_up(contact, "caller" if caller_gone else "agent")
            return False
        self._pass_on(contact, agent, offer, "unavailable" if outcome == "talked" else outcome)
        return True

    def _pass_on(self, contact: str, agent: str, offer: str, outcome: Outcome) -> None:
        """The agent was not reached: somebody else is asked. Only a telephone that rang in vain is a miss."""
        with suppress(*REFUSED):
            found = self._assignment(contact)
            if found["state"] == "assigned" and found["agent"] == agent:
                self.routing.requeue_contact(contact_id=contact, reason=outcome)
            elif offer:
                self.routing.reject_offer(offer_id=offer, agent_id=agent, reason=outcome, session="", missed=outcome == "no_answer")
