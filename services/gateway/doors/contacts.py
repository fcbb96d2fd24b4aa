"""For telephony systems and other channels, and for the staff's desktops: contacts from their arrival to their end."""

from __future__ import annotations

from collections.abc import Container
from contextlib import suppress
from typing import Any

import structlog

from services.gateway import handlers, metrics, schemas
from services.gateway.domain import announcements
from services.gateway.domain.observation import Observation
from services.gateway.doors import CALLING, REPORT_SECONDS, STAFF, Doors
from services.gateway.handlers import Arrival, Reading, Taken
from services.gateway.schemas import answers, control
from services.gateway.scopes import acts_alone
from shared import clock
from shared.errors import AnswerlineError, Conflict, Invalid, NotFound
from shared.http.endpoint import endpoint
from shared.http.wsgi import Request
from shared.runtime.waiting import poll

log = structlog.get_logger()

EVERYBODY = (*STAFF, *CALLING)
NEWS = ("assigned", "pending", "callback", "closed", "ended", "abandoned", "released", "observed")
"""Once a contact is there, whoever asks whom to dial need not wait any longer."""
WANTS = ("preferred_skills", "language", "region", "site", "deadline")
USUAL = ("contact", "state", "queue", "agent", "name")
"""Of an assignment, always in the answer; all else only where there is something: JSON_DECODE() reads null as a word."""


class ContactDoors(Doors):
    @endpoint("POST", "/v1/contacts", body=schemas.NewContact, answer=schemas.ContactRef, status=201, roles=CALLING, tag="contacts")
    def post_contact(self, request: Request) -> dict[str, Any]:
        """Announce a contact that wants an agent. With your own `call` id, posting again finds the same contact."""
        body, id = request.body, request.new_id()
        call = body.get("call") or id
        told = Observation("api", "entered", f"api|entered|{call}", clock.now(), call=call, queue=body["queue"], caller=body.get("caller"))
        arrival = Arrival(id, body["channel"], body["required_skills"], wishes(body))
        return {"contact": self.core.take(Taken(body["source"], "contacts", Reading([told]), arrival)).contact}

    @endpoint("GET", "/v1/contacts/{id}", answer=answers.Contact, roles=EVERYBODY, tag="contacts")
    def get_contact(self, request: Request) -> dict[str, Any]:
        """A contact with its legs. `id` may be `<source>:<call id>`."""
        return self.routing.get_contact(contact_id=self.contact_of(request))

    @endpoint("GET", "/v1/contacts/{id}/decisions", query=schemas.AboutAgent, answer=answers.Decisions, roles=STAFF, tag="contacts")
    def get_decisions(self, request: Request) -> dict[str, Any]:
        """Why this agent, why not that one: every decision about the contact, in words and numbers."""
        told = self.routing.get_decisions(contact_id=self.contact_of(request), agent=request.query["agent"], deadline=REPORT_SECONDS)
        return without_scores(told) if acts_alone(request.principal) else told

    @endpoint(
        "POST",
        "/v1/contacts/{id}/assignment",
        query=control.AskAssignment,
        answer=schemas.Assignment,
        roles=CALLING,
        tag="contacts",
        takes=(),
        once=False,
    )
    def post_assignment(self, request: Request) -> dict[str, Any]:
        """Whom to dial: waits up to `wait` seconds for an agent. A caller whose request breaks off is offered to nobody until it asks again,
        and so is one for whom nobody asks again within 3 s, or within `back`."""
        contact, query = self.contact_of(request), request.query
        polls = bool(query["wait"] or query["back"])
        news = (*NEWS, "offered") if query["until"] == "offered" else NEWS

        found = self._await_assignment(request, contact, news, polls)
        return {name: value for name, value in found.items() if name in USUAL or value not in (None, "", {})}

    @endpoint("GET", "/v1/contacts/{id}/announcement", query=control.Language, answer=control.Announcement, roles=EVERYBODY, tag="contacts")
    def get_announcement(self, request: Request) -> dict[str, Any]:
        """What to tell a customer who waits, as numbers and in sentences: their place, the estimated wait, the self-service address."""
        return announcement(self._assignment(self.contact_of(request), request.query["language"]), request.query["language"])

    def _await_assignment(self, request: Request, contact: str, news: Container[str], polls: bool) -> dict[str, Any]:
        """Where a contact stands, as soon as that is one of `news` or `wait` is over. Who asks no more within `back` has left."""
        query = request.query
        with metrics.WAITING_REQUESTS.labels("assignment").track_inprogress():
            return poll(
                self.core.board,
                request,
                contact,
                lambda: self._assignment(contact, query["language"], polls),
                lambda found: found["state"] in news,
                lambda: self.left(contact),
                lambda found: found["state"] in NEWS,
                query["back"],
            )

    def _assignment(self, contact: str, language: str = "", polls: bool = False) -> dict[str, Any]:
        """Where a contact stands. `polls`: whoever asks goes on asking for as long as the caller is there."""
        try:
            found = self.routing.get_assignment(contact_id=contact, language=language, polls=polls)
        except NotFound:
            return self._not_routed(contact)
        return {**found, "estimated_wait_minutes": announcements.minutes(found.get("estimated_wait_seconds"))}

    def _not_routed(self, contact: str) -> dict[str, Any]:
        """Either its arrival is still under way, or its queue is observed, or it arrived too long ago to be served."""
        blank = {"contact": contact, "state": "waiting", "queue": None, "agent": None, "name": None}
        try:
            leg = self.routing.get_contact(contact_id=contact)["legs"][-1]
        except NotFound:
            return blank
        try:
            return self.routing.get_assignment(contact_id=contact)  # it may have arrived between the two questions
        except NotFound:
            return {**blank, "state": "observed", "queue": leg["queue"]}

    def left(self, contact: str) -> None:
        """Nobody asks any more whom to dial for the contact."""
        try:
            self.routing.stop_waiting(contact_id=contact)
        except AnswerlineError as error:
            log.warning("could not tell routing that a caller stopped waiting", error=error.detail)

    @endpoint(
        "POST", "/v1/contacts/{id}/end", body=schemas.EndContact, answer=schemas.ContactRef, status=202, roles=EVERYBODY, tag="contacts"
    )
    def post_end(self, request: Request) -> dict[str, Any]:
        """The contact is over: the caller or the agent hung up."""
        contact = self.contact_of(request)
        ended_by = request.body["ended_by"]
        if not self.hangs_up(contact, ended_by):
            # its call ended long since: what ends now is a callback, or a matter in writing, of which routing alone knows
            with suppress(NotFound, Conflict):
                self.routing.end_contact(contact_id=contact, ended_by=ended_by)
        return {"contact": contact}

    def hangs_up(self, contact: str, by: str) -> bool:
        """The call of a contact is over; False: that is known already."""
        if not handlers.is_open(self.core.units, contact):
            return False
        source, call = handlers.call_of(self.core.units, contact)
        told = Observation("api", "hung_up", f"api|hung_up|{contact}", clock.now(), call=call, reason=by)
        self.core.take(Taken(source, "contacts", Reading([told])))
        return True

    # What an agent does with a contact

    @endpoint("POST", "/v1/contacts/{id}/transfer", body=schemas.Transfer, answer=answers.DeskContact, roles=EVERYBODY, tag="contacts")
    def post_transfer(self, request: Request) -> dict[str, Any]:
        """Pass the contact on, to another queue or to an agent by name. What the customer has waited so far counts on."""
        told = one_of(request.body, "queue", "agent")
        return self.routing.transfer_contact(contact_id=self.contact_of(request), queue=told["queue"], agent=told["agent"])

    @endpoint("POST", "/v1/contacts/{id}/requeue", body=schemas.Requeue, answer=answers.DeskContact, roles=EVERYBODY, tag="contacts")
    def post_requeue(self, request: Request) -> dict[str, Any]:
        """The agent cannot serve the contact after all: it waits again, in its place, for somebody else."""
        return self.routing.requeue_contact(contact_id=self.contact_of(request), reason=request.body["reason"])

    @endpoint("POST", "/v1/contacts/{id}/conference", body=schemas.Conference, answer=answers.DeskContact, roles=EVERYBODY, tag="contacts")
    def post_conference(self, request: Request) -> dict[str, Any]:
        """Somebody has joined the conversation: an agent, or a person outside."""
        told = one_of(request.body, "agent", "participant")
        return self.routing.confer_contact(contact_id=self.contact_of(request), agent=told["agent"], participant=told["participant"])

    @endpoint("POST", "/v1/contacts/{id}/reply", body=schemas.Reply, answer=answers.DeskContact, roles=STAFF, tag="contacts")
    def post_reply(self, request: Request) -> dict[str, Any]:
        """The agent wrote to the customer; the answer says whether a call would be better by now."""
        return self.routing.reply_contact(contact_id=self.contact_of(request), agent_id=request.body["agent"])

    @endpoint("POST", "/v1/contacts/{id}/pending", answer=answers.DeskContact, roles=STAFF, tag="contacts", takes=())
    def post_pending(self, request: Request) -> dict[str, Any]:
        """A matter in writing waits for something, perhaps for days: its agent keeps it and has room for others meanwhile."""
        return self.routing.pend_contact(contact_id=self.contact_of(request))

    @endpoint("POST", "/v1/contacts/{id}/resume", answer=answers.DeskContact, roles=EVERYBODY, tag="contacts", takes=())
    def post_resume(self, request: Request) -> dict[str, Any]:
        """There is news of a pending matter: its agent is asked first."""
        return self.routing.resume_contact(contact_id=self.contact_of(request))

    @endpoint("POST", "/v1/contacts/{id}/wrap-up", body=schemas.WrapUp, answer=answers.Agent, roles=STAFF, tag="contacts")
    def post_wrap_up(self, request: Request) -> dict[str, Any]:
        """The agent has done what the contact left to do, and notes how it ended."""
        body = request.body
        return self.routing.wrap_up_contact(contact_id=self.contact_of(request), agent_id=body["agent"], disposition=body["disposition"])

    # Callbacks

    @endpoint("POST", "/v1/contacts/{id}/callback", body=schemas.Callback, answer=answers.DeskContact, roles=EVERYBODY, tag="callbacks")
    def post_callback(self, request: Request) -> dict[str, Any]:
        """The customer hangs up and keeps their place: at its turn an agent is reserved and the number dialled."""
        body = request.body
        ref = self.core.caller_ref(body["number"], body["country"])
        return self.routing.promise_callback(contact_id=self.contact_of(request), **body, caller_ref=ref)

    @endpoint(
        "POST", "/v1/contacts/{id}/callback/dialled", body=schemas.Dialled, answer=answers.DeskContact, roles=EVERYBODY, tag="callbacks"
    )
    def post_dialled(self, request: Request) -> dict[str, Any]:
        """What came of dialling. `connected` begins the conversation; after busy, no_answer and machine the policy says when again."""
        return self.routing.callback_dialled(contact_id=self.contact_of(request), outcome=request.body["outcome"])

    @endpoint("DELETE", "/v1/contacts/{id}/callback", answer=answers.DeskContact, roles=EVERYBODY, tag="callbacks")
    def delete_callback(self, request: Request) -> dict[str, Any]:
        """Nobody is called back any more."""
        return self.routing.cancel_callback(contact_id=self.contact_of(request))


def announcement(found: dict[str, Any], language: str) -> dict[str, Any]:
    """What a customer of this language is told of an assignment as routing has it."""
    spoken = announcements.understood(language)
    facts = {"position": found.get("position"), "estimated_wait_seconds": found.get("estimated_wait_seconds"),
             "estimated_wait_minutes": found.get("estimated_wait_minutes"), "self_service": found.get("announce"),
             "every_seconds": found.get("announce_every_seconds")}  # fmt: skip
    told = announcements.sentences(spoken, facts["position"], facts["estimated_wait_minutes"], facts["self_service"] or "")
    known = {name: value for name, value in facts.items() if value is not None}
    return {"contact": found["contact"], "state": found["state"], "language": spoken, **known, "text": " ".join(told)}


def wishes(body: dict[str, Any]) -> dict[str, Any]:
    """What the poster knows of a contact, as it travels in its events."""
    told: dict[str, Any] = {name: body[name] for name in ("customer", "thread") if name in body}
    if wants := {name: body[name] for name in WANTS if name in body}:
        told["wants"] = wants
    if facts := body.get("facts"):
        told["facts"] = facts
    return told


def without_scores(told: dict[str, Any]) -> dict[str, Any]:
    """Decisions as an agent reads them: how well their colleagues do by quality's scorecards is not theirs to know."""
    for decision in told["decisions"]:
        for candidate in (decision["record"]["chosen"], *decision["record"]["runners_up"]):
            candidate.pop("qa_scores", None)
    return told


def one_of(body: dict[str, Any], *names: str) -> dict[str, Any]:
    """The body, where it says one of these at least. Raises Invalid."""
    if any(body[name] for name in names):
        return body
    raise Invalid(f"say {' or '.join(names)}", errors={name: ["One of these is needed."] for name in names})
