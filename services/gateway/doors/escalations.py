"""For agents who are stuck and for whoever can help: questions, rooms, experts and their ladders."""

from __future__ import annotations

from typing import Any

from services.gateway.doors import OPERATING, REPORT_SECONDS, Doors, text_of
from services.gateway.doors.supervision import WRITTEN
from services.gateway.schemas import Page
from services.gateway.schemas import escalations as schemas
from services.gateway.scopes import sees_own_rooms
from shared.errors import Invalid, NotFound
from shared.http.endpoint import endpoint
from shared.http.wsgi import Request

ASKING = ("agent", "supervisor")
HELPING = ("expert", "agent", "supervisor")


class EscalationDoors(Doors):
    # Questions

    @endpoint("POST", "/v1/escalations", body=schemas.Ask, answer=schemas.Escalation, status=201, roles=ASKING, tag="experts")
    def post_escalation(self, request: Request) -> dict[str, Any]:
        """Ask inside, in the middle of a contact: the best experts are asked at once, more after seconds, until somebody has it."""
        body = {name: value for name, value in request.body.items() if name != "person"}
        return self.im.open_escalation(asked={**body, "agent": acting(request)}, id=request.new_id())

    @endpoint("GET", "/v1/escalations", query=schemas.Escalations, answer=schemas.EscalationPage, roles=HELPING, tag="experts")
    def get_escalations(self, request: Request) -> dict[str, Any]:
        """Questions, the newest first; a person sees those that concern them, and a page of theirs may be short."""
        query = request.query
        own = concerned(request)
        return self.im.list_escalations(
            contact=query["contact"],
            person=own or query["person"],
            state=query["state"],
            after=query["cursor"],
            limit=query["limit"],
            queues=None if own else self.core.scopes.queues(request.principal),
        )

    @endpoint("GET", "/v1/escalations/{id}", answer=schemas.Escalation, roles=HELPING, tag="experts")
    def get_escalation(self, request: Request) -> dict[str, Any]:
        """A question with its card, its members, and each step of the ladder with whom it asked and why, in words."""
        return self.im.get_escalation(id=request.parameters["id"], person=concerned(request))

    @endpoint("POST", "/v1/escalations/{id}/claim", body=schemas.Act, answer=schemas.Escalation, roles=HELPING, tag="experts")
    def post_claim(self, request: Request) -> dict[str, Any]:
        """Take the question. The first one has it; everybody else learns who."""
        return self.im.claim(id=request.parameters["id"], expert=acting(request))

    @endpoint("POST", "/v1/escalations/{id}/release", body=schemas.Act, answer=schemas.Escalation, roles=HELPING, tag="experts")
    def post_release(self, request: Request) -> dict[str, Any]:
        """Give a question back that one has claimed; the ladder goes on."""
        return self.im.release(id=request.parameters["id"], expert=acting(request))

    @endpoint("POST", "/v1/escalations/{id}/pass", body=schemas.Act, answer=schemas.Escalation, roles=HELPING, tag="experts")
    def post_pass(self, request: Request) -> dict[str, Any]:
        """Say that one cannot help. When nobody is left who might, the ladder goes on at once."""
        return self.im.pass_by(id=request.parameters["id"], expert=acting(request))

    @endpoint("POST", "/v1/escalations/{id}/join", body=schemas.Act, answer=schemas.Escalation, roles=HELPING, tag="experts")
    def post_join(self, request: Request) -> dict[str, Any]:
        """Come into the room beside the one who has claimed the question."""
        return self.im.join(id=request.parameters["id"], expert=acting(request))

    @endpoint("POST", "/v1/escalations/{id}/hand-over", body=schemas.HandOver, answer=schemas.Escalation, roles=HELPING, tag="experts")
    def post_hand_over(self, request: Request) -> dict[str, Any]:
        """Give a question that one has claimed to another expert."""
        return self.im.hand_over(id=request.parameters["id"], expert=acting(request), to=request.body["to"])

    @endpoint("POST", "/v1/escalations/{id}/answer", body=schemas.Say, answer=schemas.Message, status=201, roles=HELPING, tag="experts")
    def post_answer(self, request: Request) -> dict[str, Any]:
        """Answer the question: a message like others, which the agent accepts or refuses."""
        return self.im.post_message(id=request.parameters["id"], author=acting(request), text=request.body["text"], kind="answer")

    @endpoint("POST", "/v1/escalations/{id}/accept", body=schemas.Accept, answer=schemas.Escalation, roles=ASKING, tag="experts")
    def post_accept_answer(self, request: Request) -> dict[str, Any]:
        """The answer helped: the question is over, and what was learnt is announced."""
        body = request.body
        return self.im.accept(
            id=request.parameters["id"], agent=acting(request), hold_seconds=body["hold_seconds"], in_contact=body["in_contact"]
        )

    @endpoint("POST", "/v1/escalations/{id}/refuse", body=schemas.Act, answer=schemas.Escalation, roles=ASKING, tag="experts")
    def post_refuse_answer(self, request: Request) -> dict[str, Any]:
        """The answer was no help: the ladder goes on."""
        return self.im.did_not_help(id=request.parameters["id"], agent=acting(request))

    @endpoint("POST", "/v1/escalations/{id}/close", body=schemas.Close, answer=schemas.Escalation, roles=ASKING, tag="experts")
    def post_close_escalation(self, request: Request) -> dict[str, Any]:
        """The question is over without an answer."""
        return self.im.close(id=request.parameters["id"], agent=acting(request), reason=request.body["reason"])

    # The room

    @endpoint("POST", "/v1/escalations/{id}/messages", body=schemas.Say, answer=schemas.Message, status=201, roles=HELPING, tag="experts")
    def post_message(self, request: Request) -> dict[str, Any]:
        """Write in the room. Whoever is in it hears it on /v1/stream."""
        return self.im.post_message(id=request.parameters["id"], author=acting(request), text=request.body["text"])

    @endpoint("GET", "/v1/escalations/{id}/messages", query=schemas.Messages, answer=schemas.MessagePage, roles=HELPING, tag="experts")
    def get_messages(self, request: Request) -> dict[str, Any]:
        """The room's messages after a number, in their order, and how far each member has read."""
        query = request.query
        return self.im.list_messages(id=request.parameters["id"], person=concerned(request), after=query["after"], limit=query["limit"])

    @endpoint("PUT", "/v1/escalations/{id}/read", body=schemas.Read, answer=schemas.Escalation, roles=HELPING, tag="experts")
    def put_read(self, request: Request) -> dict[str, Any]:
        """Say how far one has read."""
        return self.im.read(id=request.parameters["id"], person=acting(request), number=request.body["number"])

    # Experts

    @endpoint("GET", "/v1/experts", query=Page, answer=schemas.ExpertPage, roles=HELPING, tag="experts")
    def get_experts(self, request: Request) -> dict[str, Any]:
        """All experts by id, page by page, with their presence."""
        return self.im.list_experts(after=request.query["cursor"], limit=request.query["limit"])

    @endpoint("PUT", "/v1/experts/{id}", body=schemas.PutExpert, answer=schemas.Expert, roles=OPERATING, tag="experts")
    def put_expert(self, request: Request) -> dict[str, Any]:
        """Say what somebody knows, and how well. What is not named stays as it is."""
        return self.im.put_expert(id=request.parameters["id"], profile=request.body)

    @endpoint("GET", "/v1/experts/{id}", answer=schemas.Expert, roles=HELPING, tag="experts")
    def get_expert(self, request: Request) -> dict[str, Any]:
        """What somebody knows, and whether they are there."""
        return self.im.get_expert(id=request.parameters["id"])

    @endpoint("PUT", "/v1/experts/{id}/presence", body=schemas.PutPresence, answer=schemas.Presence, roles=HELPING, tag="experts")
    def put_presence(self, request: Request) -> dict[str, Any]:
        """Be available, away or gone. It holds for a while, and for as long as one listens to /v1/stream."""
        person = request.parameters["id"]
        if (own := concerned(request)) and own != person:
            raise NotFound(f"there is no expert {person}")
        return self.im.set_presence(person=person, state=request.body["state"])

    # Ladders

    @endpoint("PUT", "/v1/ladders/{name}", answer=schemas.Ladder, roles=OPERATING, tag="experts", takes=WRITTEN)
    def put_ladder(self, request: Request) -> dict[str, Any]:
        """A topic's ladder (or `default`), as YAML or JSON: whom a question goes to, and after how many seconds."""
        return self.im.put_ladder(name=request.parameters["name"], document=text_of(request), by=request.principal.name)

    @endpoint("GET", "/v1/ladders/{name}", answer=schemas.Ladder, roles=HELPING, tag="experts")
    def get_ladder(self, request: Request) -> dict[str, Any]:
        """The ladder in force."""
        return self.im.get_ladder(name=request.parameters["name"])

    # Figures

    @endpoint(
        "GET", "/v1/reports/escalations", query=schemas.QuestionFilters, answer=schemas.QuestionReport, roles=OPERATING, tag="reports"
    )
    def get_question_report(self, request: Request) -> dict[str, Any]:
        """By topic and step: questions, seconds to the first answer, claims that came too late, how they ended."""
        return self.im.report_questions(filters=self._questions(request), deadline=REPORT_SECONDS)

    @endpoint("GET", "/v1/reports/experts", query=schemas.QuestionFilters, answer=schemas.ExpertReport, roles=OPERATING, tag="reports")
    def get_expert_report(self, request: Request) -> dict[str, Any]:
        """What each expert was asked, took and answered."""
        return self.im.report_experts(filters=self._questions(request), deadline=REPORT_SECONDS)

    @endpoint(
        "GET", "/v1/reports/escalation-effect", query=schemas.QuestionFilters, answer=schemas.EffectReport, roles=OPERATING, tag="reports"
    )
    def get_effect_report(self, request: Request) -> dict[str, Any]:
        """What asking does for resolution, satisfaction and seconds of talk, compared within the same queue and disposition."""
        return self.im.report_effect(filters=self._questions(request), deadline=REPORT_SECONDS)

    def _questions(self, request: Request) -> dict[str, Any]:
        query, queues = request.query, self.core.scopes.queues(request.principal)
        asked = {"from": query["from_"], "to": query["to"], "topic": query["topic"]}
        return asked if queues is None else {**asked, "queues": queues}


def acting(request: Request) -> str:
    """Who does it: the one who is signed in, or whom a key names. Raises Invalid where nobody is named."""
    named: str = request.body["person"]
    own = request.principal.person
    if own and named not in ("", own):
        raise Invalid(f"you are {own}, and act as nobody else")
    if not (own or named):
        raise Invalid("say who does it: `person`")
    return own or named


def concerned(request: Request) -> str:
    """Whom what is shown must concern: a person who neither supervises nor administers; "" for all others."""
    return request.principal.person if sees_own_rooms(request.principal) else ""
