"""What training announces. The subject is the person, whose id is their agent id too."""

from marshmallow import fields, validate

from shared.contracts.fields import Data, Time

AGENT = {"description": "the person, as others name them: whoever follows an agent hears this too"}
PEOPLE = {"description": "who of those that do not lead may see it"}


class Word(Data):
    person = fields.String(required=True)
    channel = fields.String(required=True)
    agent = fields.String(allow_none=True, metadata=AGENT)
    people = fields.List(fields.String(), load_default=list, metadata=PEOPLE)


class Certified(Word):
    """The person may serve the channel. From the first word of training on, it alone says what this person may serve."""

    certified_at = Time(required=True)
    expires_at = Time(allow_none=True, metadata={"description": "null: without end"})


class PracticePermitted(Word):
    """A learner may serve the channel without its certificate, while the supervisor is signed in."""

    supervisor = fields.String(required=True)
    contacts_a_day = fields.Integer(required=True, validate=validate.Range(min=1))
    until = Time(required=True)
    queues = fields.List(fields.String(), load_default=list, metadata={"description": "of these alone, which are easy; empty: of all"})


class CertificationLapsing(Word):
    """The certificate comes to its end: a reminder."""

    expires_at = Time(required=True)
    days = fields.Integer(required=True, metadata={"description": "which reminder: so many days before the end"})


class CertificationLapsed(Word):
    """Certificate and permit for the channel are gone."""

    at = Time(required=True)
    reason = fields.String(required=True)


class PersonEvent(Data):
    person = fields.String(required=True)
    agent = fields.String(allow_none=True, metadata=AGENT)
    people = fields.List(fields.String(), load_default=list, metadata=PEOPLE)
    at = Time(required=True)


class Enrolled(PersonEvent):
    """Somebody's seat in a session is another than before."""

    session = fields.String(required=True)
    course = fields.String(required=True)
    state = fields.String(required=True, validate=validate.OneOf(("enrolled", "waiting", "withdrawn")))
    starts_at = Time(required=True)
    ends_at = Time(required=True)


class SessionAttended(PersonEvent):
    """Somebody was in a session; announced again when it was corrected."""

    session = fields.String(required=True)
    course = fields.String(required=True)
    course_version = fields.Integer(required=True)
    hours = fields.Float(required=True)
    completed = fields.Boolean(required=True, metadata={"description": "the course is done with it"})


class HoursRecorded(PersonEvent):
    """The ledger has more hours, or less: a correction."""

    year = fields.Integer(required=True)
    day = fields.String(required=True, metadata={"description": "by the clock of the person's site"})
    source = fields.String(required=True, validate=validate.OneOf(("session", "self_study", "import")))
    hours = fields.Float(required=True)


class LessonAssigned(PersonEvent):
    """A finding of quality became something to learn."""

    finding = fields.String(required=True)
    scorecard = fields.String(required=True)
    criterion = fields.String(required=True)
    course = fields.String(allow_none=True, metadata={"description": "null: no course teaches this criterion yet"})
    due_at = Time(required=True)


class LessonJudged(PersonEvent):
    """What evaluations say of the criterion, before the lesson and after it, is enough to judge, or changes the verdict."""

    finding = fields.String(required=True)
    scorecard = fields.String(required=True)
    criterion = fields.String(required=True)
    course = fields.String(required=True)
    verdict = fields.String(required=True, validate=validate.OneOf(("closed", "open", "unclear")))
    before = fields.Float(allow_none=True, metadata={"description": "mean, from 0 to 1"})
    after = fields.Float(allow_none=True)
    difference = fields.Float(allow_none=True)
    low = fields.Float(allow_none=True, metadata={"description": "of the difference's 95 % interval"})
    high = fields.Float(allow_none=True)


EVENTS = {
    "training.certified.v1": Certified,
    "training.practice_permitted.v1": PracticePermitted,
    "training.certification_lapsing.v1": CertificationLapsing,
    "training.certification_lapsed.v1": CertificationLapsed,
    "training.enrolled.v1": Enrolled,
    "training.session_attended.v1": SessionAttended,
    "training.hours_recorded.v1": HoursRecorded,
    "training.lesson_assigned.v1": LessonAssigned,
    "training.lesson_judged.v1": LessonJudged,
}
