"""What the doors of training take and give."""

import re
from datetime import date

from marshmallow import ValidationError, fields, validate

from services.gateway.schemas import NAME, TEXT, Page
from shared.contracts.fields import Data, Input, Time

PLACES = ("on_site", "off_site", "lab")
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
PERSON = {"description": "whose id it is; somebody who is signed in and does not lead says nothing, or themselves"}
WORDS = {"description": "the same for reading, by language"}
MISSING = {
    "description": "what is missing (certificate, practice_days, quality, courses, exam, practice, months, hours), with figures or names"
}


def day(text: str) -> None:
    """A date. Raises ValidationError."""
    try:
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
            raise ValueError
        date.fromisoformat(text)
    except ValueError:
        raise ValidationError("a day is a date such as 2027-01-18") from None


class _Person(Input):
    person = fields.String(load_default="", validate=TEXT, metadata=PERSON)


# ---- what is written down


class Definition(Data):
    kind = fields.String()
    name = fields.String()
    version = fields.Integer(metadata={"description": "0: the one that is built in"})
    document = fields.Dict(metadata={"description": "as docs/training.md has it for each kind"})
    created_at = Time(allow_none=True)
    created_by = fields.String()


class DefinitionPage(Data):
    items = fields.List(fields.Nested(Definition))
    next = fields.String(allow_none=True)


class Version(Input):
    version = fields.Integer(load_default=None, allow_none=True, validate=validate.Range(min=1, max=2**31 - 1))


# ---- learners


class OpenLearning(Input):
    target = fields.String(required=True, validate=NAME, metadata={"description": "the channel or product, which has a curriculum"})
    approver = fields.String(load_default="", validate=TEXT, metadata={"description": "who lets a step of the ladder be skipped"})
    reason = fields.String(load_default="", validate=validate.Length(max=1000), metadata={"description": "why it is skipped"})


class GivePermit(Input):
    channel = fields.String(required=True, validate=NAME)
    supervisor = fields.String(required=True, validate=NAME, metadata={"description": "who must be signed in for each offer"})
    contacts_a_day = fields.Integer(required=True, strict=True, validate=validate.Range(min=1, max=1000))
    until = Time(required=True)
    queues = fields.List(
        fields.String(validate=NAME), load_default=list, validate=validate.Length(max=100),
        metadata={"description": "those with easy contacts, which a novice begins with; empty: all"},
    )  # fmt: skip


class SelfStudy(Input):
    day = fields.String(required=True, validate=day, metadata={"description": "by the clock of the person's site"})
    minutes = fields.Integer(required=True, strict=True, validate=validate.Range(min=1, max=600))
    course = fields.String(load_default="", validate=TEXT)


class Progress(Data):
    courses_done = fields.List(fields.String())
    courses_missing = fields.List(fields.String())
    exam_passed = fields.Boolean()
    practice = fields.Integer(metadata={"description": "contacts evaluated at the mark or above"})
    missing = fields.List(fields.Dict(), metadata=MISSING)
    words = fields.Dict(metadata=WORDS)


class Learning(Data):
    id = fields.String()
    person = fields.String()
    target = fields.String()
    kind = fields.String(validate=validate.OneOf(("channel", "product")))
    role = fields.String(metadata={"description": "whose ladder; empty for a product"})
    opened_at = Time()
    opened_by = fields.String()
    closed_at = Time(allow_none=True)
    outcome = fields.String(allow_none=True)
    approver = fields.String()
    reason = fields.String()
    skipped = fields.List(fields.Dict(), metadata={"description": "what was missing when an approver let the step be skipped"})
    progress = fields.Nested(Progress)


class Permit(Data):
    id = fields.String()
    person = fields.String()
    channel = fields.String()
    supervisor = fields.String()
    contacts_a_day = fields.Integer()
    queues = fields.List(fields.String())
    given_at = Time()
    given_by = fields.String()
    until = Time()
    ended_at = Time(allow_none=True)


class Certificate(Data):
    id = fields.String()
    person = fields.String()
    target = fields.String()
    kind = fields.String()
    source = fields.String(validate=validate.OneOf(("earned", "renewed", "imported")))
    certified_at = Time()
    certified_by = fields.String()
    expires_at = Time(allow_none=True, metadata={"description": "null: without end"})
    ended_at = Time(allow_none=True)
    end_reason = fields.String(metadata={"description": "expired, renewed or revoked: with its reason"})
    renews = fields.String(allow_none=True, metadata={"description": "the certificate before"})
    holds = fields.Boolean()
    evidence = fields.Dict()


class CertificatePage(Data):
    items = fields.List(fields.Nested(Certificate))
    next = fields.String(allow_none=True)


class Rung(Data):
    role = fields.String()
    channel = fields.String()
    state = fields.String(validate=validate.OneOf(("certified", "learning", "open", "closed")))
    missing = fields.List(fields.Dict(), metadata=MISSING)
    words = fields.Dict(metadata=WORDS)


class Account(Data):
    person = fields.String()
    name = fields.String()
    site = fields.String()
    team = fields.String()
    year = fields.Integer()
    attended = fields.Float(metadata={"description": "hours, as all here"})
    self_study = fields.Float(metadata={"description": "all of it; so much counts as the policy says"})
    counted = fields.Float()
    planned = fields.Float(metadata={"description": "in sessions to come"})
    at_this_rate = fields.Float(allow_none=True, metadata={"description": "what the year will bring if it goes on so; null: too early"})
    needed = fields.Float(metadata={"description": "less for who came during the year"})
    will_miss = fields.Boolean(metadata={"description": "by the present rate, and with what is planned"})


class Lesson(Data):
    finding = fields.String()
    person = fields.String()
    scorecard = fields.String()
    criterion = fields.String()
    course = fields.String(allow_none=True)
    assigned_at = Time()
    due_at = Time()
    done_at = Time(allow_none=True)
    verdict = fields.String(validate=validate.OneOf(("assigned", "done", "closed", "open", "unclear")))
    comparison = fields.Dict(allow_none=True, metadata={"description": "before and after: means, counts, difference and its 95 % interval"})


class Learner(Data):
    person = fields.String()
    name = fields.String()
    site = fields.String()
    team = fields.String()
    roles = fields.List(fields.String())
    active = fields.Boolean()
    certificates = fields.List(fields.Nested(Certificate), metadata={"description": "those that are over too"})
    learning = fields.List(fields.Nested(Learning))
    permits = fields.List(fields.Nested(Permit))
    ladder = fields.List(fields.Nested(Rung))
    courses = fields.List(fields.Dict(), metadata={"description": "completed: course and version"})
    hours = fields.Nested(Account)
    lessons = fields.List(fields.Nested(Lesson))
    sessions = fields.List(fields.Dict(), metadata={"description": "to come: session, course, when, where, enrolled or waiting"})
    paths = fields.List(fields.Dict(), metadata={"description": "where one can go from here, what is missing, and whether one is ready"})


# ---- certificates


class Certify(Input):
    person = fields.String(required=True, validate=NAME)
    target = fields.String(required=True, validate=NAME)


class Certificates(Page):
    person = fields.String(load_default="", validate=TEXT)
    target = fields.String(load_default="", validate=TEXT)
    state = fields.String(load_default="", validate=validate.OneOf(("holds", "over")))


class Revoke(Input):
    reason = fields.String(required=True, validate=validate.Length(min=1, max=1000))


# ---- exams


class BeginAttempt(_Person):
    pass


class Attempts(Input):
    person = fields.String(load_default="", validate=TEXT, metadata=PERSON)


class Answers(Input):
    answers = fields.Dict(
        required=True,
        keys=fields.String(validate=NAME),
        values=fields.List(fields.Integer(strict=True, validate=validate.Range(min=0, max=1000)), validate=validate.Length(max=100)),
        metadata={"description": "question -> the numbers of the choices, from 0"},
    )


class Attempt(Data):
    id = fields.String()
    person = fields.String()
    exam = fields.String()
    version = fields.Integer()
    started_at = Time()
    due_at = Time()
    ended_at = Time(allow_none=True)
    score = fields.Float(allow_none=True, metadata={"description": "the share that was right"})
    passed = fields.Boolean(allow_none=True)
    questions = fields.List(fields.Dict(), metadata={"description": "id, text, choices, and whether several are right"})


class AttemptList(Data):
    attempts = fields.List(fields.Nested(Attempt))


# ---- sessions


class _Where(Input):
    site = fields.String(load_default="", validate=TEXT)
    place = fields.String(load_default="on_site", validate=validate.OneOf(PLACES))
    room = fields.String(load_default="", validate=TEXT)
    trainers = fields.List(fields.String(validate=NAME), load_default=list, validate=validate.Length(max=20))
    equipment = fields.List(fields.String(validate=NAME), load_default=list, validate=validate.Length(max=100))
    capacity = fields.Integer(
        load_default=None, allow_none=True, strict=True, validate=validate.Range(min=1, max=1000),
        metadata={"description": "null: as many as room, trainers and equipment take"},
    )  # fmt: skip


class NewSession(_Where):
    course = fields.String(required=True, validate=NAME)
    day = fields.String(required=True, validate=day)
    half = fields.String(required=True, validate=NAME, metadata={"description": "a half-day of the training policy: am, pm"})


class MoveSession(Input):
    day = fields.String(validate=day)
    half = fields.String(validate=NAME)
    site = fields.String(validate=TEXT)
    place = fields.String(validate=validate.OneOf(PLACES))
    room = fields.String(validate=TEXT)
    trainers = fields.List(fields.String(validate=NAME), validate=validate.Length(max=20))
    equipment = fields.List(fields.String(validate=NAME), validate=validate.Length(max=100))


class CancelSession(Input):
    reason = fields.String(load_default="", validate=validate.Length(max=1000))


class Enrol(Input):
    people = fields.List(fields.String(validate=NAME), required=True, validate=validate.Length(min=1, max=1000))
    wait = fields.Boolean(load_default=False, metadata={"description": "on the waiting list where all seats are taken"})


class Withdraw(_Person):
    pass


class Present(Input):
    person = fields.String(required=True, validate=NAME)
    present = fields.Boolean(load_default=True)
    hours = fields.Float(
        load_default=None, allow_none=True, validate=validate.Range(min=0, max=24), metadata={"description": "null: all of it"}
    )


class Attendance(Input):
    attendance = fields.List(fields.Nested(Present), required=True, validate=validate.Length(min=1, max=1000))


class Sessions(Page):
    from_ = Time(data_key="from", load_default=0.0)
    to = Time(load_default=4102444800.0)
    course = fields.String(load_default="", validate=TEXT)
    site = fields.String(load_default="", validate=TEXT)
    programme = fields.String(load_default="", validate=TEXT)
    person = fields.String(load_default="", validate=TEXT)


class Seat(Data):
    person = fields.String()
    state = fields.String(validate=validate.OneOf(("enrolled", "waiting", "withdrawn", "attended", "absent")))
    hours = fields.Float()


class Session(Data):
    id = fields.String()
    course = fields.String()
    course_version = fields.Integer()
    day = fields.String()
    half = fields.String()
    zone = fields.String()
    starts_at = Time()
    ends_at = Time()
    site = fields.String()
    place = fields.String()
    room = fields.String()
    trainers = fields.List(fields.String())
    equipment = fields.List(fields.String())
    capacity = fields.Integer()
    free = fields.Integer()
    state = fields.String(validate=validate.OneOf(("planned", "held", "cancelled")))
    programme = fields.String()
    reason = fields.String()
    seats = fields.List(fields.Nested(Seat))


class SessionPage(Data):
    items = fields.List(fields.Nested(Session))
    next = fields.String(allow_none=True)


# ---- programmes and plans


class NewProgramme(_Where):
    template = fields.String(required=True, validate=NAME)
    start = fields.String(required=True, validate=day)
    weekday = fields.String(load_default="", validate=validate.OneOf(("", *WEEKDAYS)), metadata={"description": "empty: that of `start`"})


class MoveProgramme(Input):
    start = fields.String(required=True, validate=day)
    weekday = fields.String(load_default="", validate=validate.OneOf(("", *WEEKDAYS)))


class Programme(Data):
    id = fields.String()
    template = fields.String()
    template_version = fields.Integer()
    start = fields.String()
    weekday = fields.String()
    site = fields.String()
    room = fields.String()
    trainers = fields.List(fields.String())
    created_at = Time()
    created_by = fields.String()
    ends = fields.String(allow_none=True)
    weeks = fields.Integer()
    sessions = fields.List(fields.Dict(), metadata={"description": "session, course, day, half, state"})


class NewPlan(Input):
    from_ = fields.String(data_key="from", required=True, validate=day)
    to = fields.String(required=True, validate=day)
    courses = fields.List(
        fields.String(validate=NAME),
        required=True,
        validate=validate.Length(min=1, max=100),
        metadata={"description": "in the order in which they are taught"},
    )
    sites = fields.List(
        fields.String(validate=NAME), load_default=list, validate=validate.Length(max=100), metadata={"description": "empty: all"}
    )


class Plan(Data):
    id = fields.String()
    state = fields.String(validate=validate.OneOf(("waiting", "planning", "ready", "failed", "accepted", "applying", "applied")))
    told = fields.Dict()
    progress = fields.Dict(metadata={"description": "steps done, of how many, half-days of people placed, of how many"})
    created_at = Time()
    created_by = fields.String()
    result = fields.Dict(
        allow_none=True,
        metadata={"description": "sessions with people; who is not placed; which constraint is short and by how much, with words"},
    )


# ---- reports


class Team(Input):
    site = fields.String(load_default="", validate=TEXT)
    team = fields.String(load_default="", validate=TEXT)


class HourFilters(Team):
    year = fields.Integer(
        load_default=None, allow_none=True, validate=validate.Range(min=2000, max=2200), metadata={"description": "null: this one"}
    )
    missing_only = fields.Boolean(load_default=False, metadata={"description": "of people, those alone who will miss their hours"})


class ExamFilters(Input):
    exam = fields.String(required=True, validate=NAME)


class Matrix(Data):
    targets = fields.List(fields.String())
    certified = fields.Dict(metadata={"description": "target -> how many people"})
    people = fields.List(
        fields.Dict(), metadata={"description": "person, and by target the state (certified, practising, learning) and until when"}
    )


class Expiring(Data):
    expiring = fields.List(fields.Dict())
    targets = fields.List(fields.Dict(), metadata={"description": "how many end within 30, 60 and 90 days, each counted in the nearest"})


class Competence(Data):
    targets = fields.List(
        fields.Dict(),
        metadata={"description": "days until 25, 50 and 75 % of those who begin are certified (product-limit estimate); null: not yet"},
    )


class Hours(Data):
    year = fields.Integer()
    hours_a_year = fields.Float()
    sites = fields.List(fields.Dict())
    teams = fields.List(fields.Dict())
    people = fields.List(fields.Nested(Account))


class ExamItems(Data):
    exam = fields.String()
    attempts = fields.Integer()
    questions = fields.List(
        fields.Dict(), metadata={"description": "asked, difficulty (share right), discrimination (item-rest correlation), verdict"}
    )


class Lessons(Data):
    courses = fields.List(
        fields.Dict(), metadata={"description": "lessons assigned, done, judged, closed; the mean difference with its 95 % interval"}
    )
    closes_nothing = fields.List(fields.String())
    untaught = fields.List(fields.Dict(), metadata={"description": "criteria with findings that no course teaches"})


class Paths(Data):
    paths = fields.List(fields.Dict(), metadata={"description": "each with who may take it, who is ready, and what the others lack"})
