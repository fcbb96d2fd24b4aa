"""For who learns and who teaches: what is written down, learners, certificates, exams, sessions, programmes, plans, and their figures."""

from __future__ import annotations

from typing import Any

from services.gateway.doors import REPORT_SECONDS, Doors, text_of
from services.gateway.doors.supervision import WRITTEN
from services.gateway.schemas import Page
from services.gateway.schemas import training as schemas
from shared.errors import Forbidden, Invalid, NotFound
from shared.http.endpoint import Principal, endpoint
from shared.http.wsgi import Request

LEARNING = ("agent", "expert", "evaluator", "supervisor", "trainer")
TEACHING = ("supervisor", "trainer")
LEADING = {*TEACHING, "admin"}
SECRET = {"trainer", "admin"}
LONG = 30.0


class TrainingDoors(Doors):
    # What is written down

    @endpoint("GET", "/v1/training/{kind}", query=Page, answer=schemas.DefinitionPage, roles=LEARNING, tag="training")
    def get_definitions(self, request: Request) -> dict[str, Any]:
        """What is in force of a kind, by name, page by page: policy, ladders, courses, curricula, exams, resources, templates, paths."""
        kind = readable(request)
        return self.training.list_definitions(kind=kind, after=request.query["cursor"], limit=request.query["limit"])

    @endpoint("PUT", "/v1/training/{kind}/{name}", answer=schemas.Definition, roles=("trainer",), takes=WRITTEN, tag="training")
    def put_definition(self, request: Request) -> dict[str, Any]:
        """A new version of a document, as YAML or JSON, in force at once; docs/training.md has the fields of each kind. 422 names every mistake."""
        kind, name = request.parameters["kind"], request.parameters["name"]
        return self.training.put_definition(kind=known_kind(kind), name=name, document=text_of(request), by=actor(request))

    @endpoint("GET", "/v1/training/{kind}/{name}", query=schemas.Version, answer=schemas.Definition, roles=LEARNING, tag="training")
    def get_definition(self, request: Request) -> dict[str, Any]:
        """A document in force, or an earlier version of it. Exams are for trainers alone."""
        return self.training.get_definition(kind=readable(request), name=request.parameters["name"], version=request.query["version"])

    # Learners

    @endpoint("GET", "/v1/learners/{person}", answer=schemas.Learner, roles=LEARNING, tag="training")
    def get_learner(self, request: Request) -> dict[str, Any]:
        """What somebody may serve, learns and has learnt; what each step still needs; their hours, lessons, seats and paths."""
        return self.training.get_learner(person=request.parameters["person"], **seen_by(request.principal))

    @endpoint(
        "POST",
        "/v1/learners/{person}/learning",
        body=schemas.OpenLearning,
        answer=schemas.Learning,
        status=201,
        roles=TEACHING,
        tag="training",
    )
    def post_learning(self, request: Request) -> dict[str, Any]:
        """Somebody begins with a channel or a product. 409 says what the ladder still asks for; with approver and reason it is skipped, and recorded."""
        return self.training.open_learning(**request.body, **of_person(request), by=actor(request))

    @endpoint("DELETE", "/v1/learners/{person}/learning/{target}", status=204, roles=TEACHING, tag="training")
    def delete_learning(self, request: Request) -> None:
        """Somebody gives up a channel that they were learning; the permit goes with it."""
        self.training.give_up_learning(**of_person(request), target=request.parameters["target"])

    @endpoint(
        "POST", "/v1/learners/{person}/permits", body=schemas.GivePermit, answer=schemas.Permit, status=201, roles=TEACHING, tag="training"
    )
    def post_permit(self, request: Request) -> dict[str, Any]:
        """Leave to practise on live contacts: so many a day, while the supervisor is signed in, until a moment. Routing obeys at once."""
        return self.training.give_permit(**of_person(request), told=request.body, by=actor(request))

    @endpoint("DELETE", "/v1/learners/{person}/permits/{channel}", status=204, roles=TEACHING, tag="training")
    def delete_learner_permit(self, request: Request) -> None:
        """The permit is withdrawn; a contact in progress goes on."""
        self.training.withdraw_permit(**of_person(request), channel=request.parameters["channel"])

    @endpoint(
        "POST",
        "/v1/learners/{person}/self-study",
        body=schemas.SelfStudy,
        answer=schemas.Account,
        status=201,
        roles=LEARNING,
        tag="training",
    )
    def post_self_study(self, request: Request) -> dict[str, Any]:
        """Study alone, in breaks or after work: it counts up to the policy's cap. Answers the year's account."""
        return self.training.note_self_study(**request.body, **of_person(request), by=actor(request))

    # Certificates

    @endpoint("POST", "/v1/certifications", body=schemas.Certify, answer=schemas.Certificate, status=201, roles=TEACHING, tag="training")
    def post_certification(self, request: Request) -> dict[str, Any]:
        """Certify somebody for what they have been learning. 409 says what is missing: courses, exam, supervised practice."""
        return self.training.certify(**request.body, by=actor(request), **seen_by(request.principal))

    @endpoint("GET", "/v1/certifications", query=schemas.Certificates, answer=schemas.CertificatePage, roles=LEARNING, tag="training")
    def get_certifications(self, request: Request) -> dict[str, Any]:
        """Certificates, the newest first; those that are over stay on record."""
        query = request.query
        asked = {name: query[name] for name in ("person", "target", "state", "limit")}
        return self.training.list_certificates(**asked, after=query["cursor"], **seen_by(request.principal))

    @endpoint("POST", "/v1/certifications/{id}/renew", takes=(), answer=schemas.Certificate, status=201, roles=TEACHING, tag="training")
    def post_renewal(self, request: Request) -> dict[str, Any]:
        """A new certificate with dates of its own, once the renewal's courses and exam are done; in good time no day is lost."""
        return self.training.renew_certificate(id=request.parameters["id"], by=actor(request), **seen_by(request.principal))

    @endpoint("POST", "/v1/certifications/{id}/revoke", body=schemas.Revoke, answer=schemas.Certificate, roles=TEACHING, tag="training")
    def post_revocation(self, request: Request) -> dict[str, Any]:
        """Take a certificate away, with the reason: from now on no contact of the channel is offered."""
        told = {"reason": request.body["reason"], "by": actor(request), **seen_by(request.principal)}
        return self.training.revoke_certificate(id=request.parameters["id"], **told)

    # Exams

    @endpoint(
        "POST", "/v1/exams/{name}/attempts", body=schemas.BeginAttempt, answer=schemas.Attempt, status=201, roles=LEARNING, tag="training"
    )
    def post_attempt(self, request: Request) -> dict[str, Any]:
        """Begin an attempt: its questions, drawn from the bank, without their answers. Who may read the answers does not sit the exam alone:
        another trainer begins the attempt, naming the `person`, and enters the answers."""
        person = whose(request)
        if person == request.principal.person and request.principal.roles & SECRET:
            raise Forbidden("you may read this exam's answers: let another trainer begin your attempt, and enter what you answer")
        return self.training.begin_attempt(exam=request.parameters["name"], person=person, **seen_by(request.principal))

    @endpoint("GET", "/v1/exams/{name}/attempts", query=schemas.Attempts, answer=schemas.AttemptList, roles=LEARNING, tag="training")
    def get_attempts(self, request: Request) -> dict[str, Any]:
        """Somebody's attempts at an exam."""
        return self.training.list_attempts(exam=request.parameters["name"], person=whose(request), **seen_by(request.principal))

    @endpoint("POST", "/v1/exams/attempts/{id}/answers", body=schemas.Answers, answer=schemas.Attempt, roles=LEARNING, tag="training")
    def post_exam_answers(self, request: Request) -> dict[str, Any]:
        """Answer an attempt: the score, and whether it is passed."""
        return self.training.answer_attempt(id=request.parameters["id"], answers=request.body["answers"], **seen_by(request.principal))

    # Sessions

    @endpoint("POST", "/v1/sessions", body=schemas.NewSession, answer=schemas.Session, status=201, roles=TEACHING, tag="training")
    def post_session(self, request: Request) -> dict[str, Any]:
        """A half-day of a course. 409 names the room, the trainer or the equipment that is taken."""
        sites = request.principal.scope.sites
        if sites and request.body["site"] not in sites:
            raise Invalid("it would belong to others than you", errors={"site": [f"Say one of yours: {', '.join(sorted(sites))}."]})
        return self.training.create_session(told=request.body, id=request.new_id())

    @endpoint(
        "GET", "/v1/sessions", query=schemas.Sessions, answer=schemas.SessionPage, answers={404: None}, roles=LEARNING, tag="training"
    )
    def get_sessions(self, request: Request) -> dict[str, Any]:
        """Sessions by their beginning, page by page; of seats, who does not lead sees their own."""
        query = request.query
        asked = {
            **{name: query[name] for name in ("to", "course", "site", "programme", "person", "limit")},
            "from": query["from_"],
            "after": query["cursor"],
        }
        return self.training.list_sessions(asked=asked, **seen_by(request.principal))

    @endpoint("GET", "/v1/sessions/{id}", answer=schemas.Session, roles=LEARNING, tag="training")
    def get_session(self, request: Request) -> dict[str, Any]:
        """A session, and who has a seat in it or waits for one."""
        return self.training.get_session(id=request.parameters["id"], **seen_by(request.principal))

    @endpoint("POST", "/v1/sessions/{id}/move", body=schemas.MoveSession, answer=schemas.Session, roles=TEACHING, tag="training")
    def post_session_move(self, request: Request) -> dict[str, Any]:
        """Another day, half-day, room, trainer or equipment; all seats go with it, or nothing moves."""
        return self.training.move_session(id=request.parameters["id"], told=request.body, **seen_by(request.principal))

    @endpoint("POST", "/v1/sessions/{id}/cancel", body=schemas.CancelSession, answer=schemas.Session, roles=TEACHING, tag="training")
    def post_session_cancel(self, request: Request) -> dict[str, Any]:
        """The session does not take place."""
        return self.training.cancel_session(id=request.parameters["id"], reason=request.body["reason"], **seen_by(request.principal))

    @endpoint("POST", "/v1/sessions/{id}/enrol", body=schemas.Enrol, answer=schemas.Session, roles=LEARNING, tag="training")
    def post_enrol(self, request: Request) -> dict[str, Any]:
        """Seats for these people, for all or for none; with `wait` a place on the waiting list."""
        return self.training.enrol(id=request.parameters["id"], **request.body, **seen_by(request.principal))

    @endpoint("POST", "/v1/sessions/{id}/withdraw", body=schemas.Withdraw, answer=schemas.Session, roles=LEARNING, tag="training")
    def post_withdraw(self, request: Request) -> dict[str, Any]:
        """Give a seat back; the first who waits and is free has it."""
        return self.training.withdraw(id=request.parameters["id"], person=whose(request), **seen_by(request.principal))

    @endpoint("POST", "/v1/sessions/{id}/attendance", body=schemas.Attendance, answer=schemas.Session, roles=TEACHING, tag="training")
    def post_attendance(self, request: Request) -> dict[str, Any]:
        """Who was there, and for how long: it goes into the ledger and completes courses. Told again, it corrects."""
        told = {"told": request.body["attendance"], "by": actor(request), **seen_by(request.principal)}
        return self.training.attend(id=request.parameters["id"], **told)

    # Programmes and plans

    @endpoint(
        "POST", "/v1/programmes/{id}", body=schemas.NewProgramme, answer=schemas.Programme, status=201, roles=TEACHING, tag="training"
    )
    def post_programme(self, request: Request) -> dict[str, Any]:
        """All sessions of a template, from a day on. All of them or none."""
        return self.training.create_programme(id=request.parameters["id"], told=request.body, by=actor(request), deadline=LONG)

    @endpoint("POST", "/v1/programmes/{id}/move", body=schemas.MoveProgramme, answer=schemas.Programme, roles=TEACHING, tag="training")
    def post_programme_move(self, request: Request) -> dict[str, Any]:
        """The programme begins on another day: what is still to come follows, all of it or nothing."""
        return self.training.move_programme(id=request.parameters["id"], **request.body, deadline=LONG)

    @endpoint("GET", "/v1/programmes/{id}", answer=schemas.Programme, roles=LEARNING, tag="training")
    def get_programme(self, request: Request) -> dict[str, Any]:
        """A programme with its sessions."""
        return self.training.get_programme(id=request.parameters["id"])

    @endpoint("POST", "/v1/training-plans", body=schemas.NewPlan, answer=schemas.Plan, status=202, roles=TEACHING, tag="training")
    def post_training_plan(self, request: Request) -> dict[str, Any]:
        """Have a span planned so that everybody reaches their hours of the year. It is made in the background: look at it again."""
        told = {name.rstrip("_"): value for name, value in request.body.items()}
        return self.training.ask_plan(told=told, by=actor(request), id=request.new_id())

    @endpoint("GET", "/v1/training-plans/{id}", answer=schemas.Plan, roles=TEACHING, tag="training")
    def get_training_plan(self, request: Request) -> dict[str, Any]:
        """How far a plan is; when it is ready its sessions, and what is short and by how much."""
        return self.training.get_plan(id=request.parameters["id"], **seen_by(request.principal), deadline=REPORT_SECONDS)

    @endpoint("POST", "/v1/training-plans/{id}/apply", takes=(), answer=schemas.Plan, status=202, roles=TEACHING, tag="training")
    def post_training_plan_apply(self, request: Request) -> dict[str, Any]:
        """Create the plan's sessions with their people, unless something is taken by now."""
        return self.training.apply_plan(id=request.parameters["id"], deadline=LONG)

    # Figures

    @endpoint("GET", "/v1/reports/certifications", query=schemas.Team, answer=schemas.Matrix, roles=TEACHING, tag="reports")
    def get_certification_matrix(self, request: Request) -> dict[str, Any]:
        """People × channels: certified, practising or learning, and until when."""
        return self._figures("certifications", request)

    @endpoint("GET", "/v1/reports/expiring-certificates", query=schemas.Team, answer=schemas.Expiring, roles=TEACHING, tag="reports")
    def get_expiring_certificates(self, request: Request) -> dict[str, Any]:
        """Certificates that end within 30, 60 and 90 days."""
        return self._figures("expiring", request)

    @endpoint("GET", "/v1/reports/time-to-competence", query=schemas.Team, answer=schemas.Competence, roles=TEACHING, tag="reports")
    def get_time_to_competence(self, request: Request) -> dict[str, Any]:
        """Days from the beginning to the certificate, with those counted in who are not there yet."""
        return self._figures("competence", request)

    @endpoint("GET", "/v1/reports/training-hours", query=schemas.HourFilters, answer=schemas.Hours, roles=TEACHING, tag="reports")
    def get_training_hours(self, request: Request) -> dict[str, Any]:
        """Hours of a year by person, team and site, and who will miss theirs."""
        return self._figures("hours", request)

    @endpoint(
        "GET",
        "/v1/reports/exam-questions",
        query=schemas.ExamFilters,
        answer=schemas.ExamItems,
        answers={404: None},
        roles=("trainer",),
        tag="reports",
    )
    def get_exam_questions(self, request: Request) -> dict[str, Any]:
        """Each question of an exam: how hard it is, and whether it tells who knows from who does not."""
        return self._figures("exam_items", request)

    @endpoint("GET", "/v1/reports/lessons", query=schemas.Team, answer=schemas.Lessons, roles=TEACHING, tag="reports")
    def get_lesson_report(self, request: Request) -> dict[str, Any]:
        """What findings of quality gave people to learn, whether the gaps closed, and which modules close nothing."""
        return self._figures("lessons", request)

    @endpoint("GET", "/v1/reports/career-paths", query=schemas.Team, answer=schemas.Paths, roles=TEACHING, tag="reports")
    def get_career_paths(self, request: Request) -> dict[str, Any]:
        """For each path who may take it, who is ready, and what the others lack."""
        return self._figures("paths", request)

    def _figures(self, name: str, request: Request) -> dict[str, Any]:
        return self.training.report(name=name, filters=request.query, **seen_by(request.principal), deadline=REPORT_SECONDS)


KINDS = ("policy", "ladders", "courses", "curricula", "exams", "resources", "templates", "paths")


def known_kind(kind: str) -> str:
    """Raises NotFound."""
    if kind not in KINDS:
        raise NotFound(f"training has no {kind}; there are {', '.join(KINDS)}")
    return kind


def readable(request: Request) -> str:
    """The kind that the path names. Raises Forbidden for exams, whose answers are not for candidates."""
    kind = known_kind(request.parameters["kind"])
    if kind == "exams" and not request.principal.roles & SECRET:
        raise Forbidden("exams hold their answers: this needs the role trainer")
    return kind


def seen_by(principal: Principal) -> dict[str, Any]:
    """The argument with which training leaves out whom a principal does not see: the people of other sites and teams, and for a person who does
    not lead everybody but themselves."""
    if principal.person and not principal.roles & LEADING:
        return {"scope": {"sites": [], "teams": [], "agent": principal.person}}
    scope = principal.scope
    return {"scope": {"sites": sorted(scope.sites), "teams": sorted(scope.teams), "agent": None}} if scope.sites or scope.teams else {}


def of_person(request: Request) -> dict[str, Any]:
    return {"person": request.parameters["person"], **seen_by(request.principal)}


def actor(request: Request) -> str:
    return request.principal.person or request.principal.name


def whose(request: Request) -> str:
    """Whom it is about: the one who is named, or else the one who is signed in. Raises Invalid where nobody is."""
    named: str = {**request.query, **request.body}.get("person", "")
    if not (named or request.principal.person):
        raise Invalid("say whose it is: `person`", errors={"person": ["Name somebody."]})
    return named or request.principal.person
