"""What the doors of quality take and give: scorecards, evaluations, findings, surveys, samples, rules, calibrations, analyses, flags, reports."""

from collections.abc import Mapping
from typing import Any, ClassVar

from marshmallow import ValidationError, fields, validate, validates_schema

from services.gateway.schemas import NAME, TEXT, Page
from shared.contracts.fields import Data, Input, Time
from shared.errors import Invalid

KINDS = ("internal", "customer")
CLASSES = ("customer", "business", "compliance")
CAUSES = ("process", "knowledge", "tool", "training", "workload", "customer")
STATES = ("draft", "submitted", "acknowledged", "disputed", "second_opinion", "final")
PURPOSES = ("quality", "practice", "double", "second_opinion", "calibration")
ANALYSES = ("validity", "calibration", "gaming")
WHO = {"description": "who does it; somebody who is signed in does it themselves"}
LONG = validate.Length(max=4000)
NAMES = validate.Length(max=200)
SHARE = validate.Range(min=0, max=1)
SCORE = {"description": "from 0 to 1; null: nothing applied"}
INTERVAL = {"description": "value, low and high of the 95 % interval, and count; null where there is too little"}


class Answer(fields.Field[Any]):
    """yes, no, na or a number."""

    shape: ClassVar = {"type": ["string", "number"], "maxLength": 10}

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:  # noqa: ARG002
        if isinstance(value, bool) or not (value in ("yes", "no", "na") or (isinstance(value, int | float) and abs(value) <= 1e9)):
            raise ValidationError("an answer is yes, no, na or a number")
        return value


class _Actor(Input):
    person = fields.String(load_default="", validate=TEXT, metadata=WHO)


# ---- scorecards


class PutNote(Input):
    note = fields.String(load_default="", validate=TEXT, metadata={"description": "why there is another version"})


class OfVersion(Input):
    version = fields.Integer(load_default=None, allow_none=True, validate=validate.Range(min=1, max=2**31 - 1))


class Criterion(Data):
    id = fields.String()
    title = fields.Dict(keys=fields.String(), values=fields.String())
    answering = fields.String(validate=validate.OneOf(("yes_no", "scale", "number")))
    weight = fields.Float()
    critical = fields.String(allow_none=True, validate=validate.OneOf(CLASSES))
    may_not_apply = fields.Boolean()
    low = fields.Float(allow_none=True, metadata={"description": "what is worth nothing"})
    high = fields.Float(allow_none=True, metadata={"description": "what is worth all"})
    good = fields.String(metadata={"description": "yes or no"})
    missed_below = fields.Float(metadata={"description": "a value below it is a miss"})
    when = fields.Dict(allow_none=True, metadata={"description": "asked only where an earlier criterion was answered so"})
    guidance = fields.Dict(keys=fields.String(), values=fields.String())


class Section(Data):
    id = fields.String()
    title = fields.Dict(keys=fields.String(), values=fields.String())
    weight = fields.Float(allow_none=True, metadata={"description": "null: as much as its criteria together"})
    criteria = fields.List(fields.Nested(Criterion))


class ScorecardHead(Data):
    name = fields.String()
    version = fields.Integer()
    kind = fields.String(validate=validate.OneOf(KINDS))
    note = fields.String()
    created_at = Time()
    created_by = fields.String()


class Scorecard(ScorecardHead):
    document = fields.String()
    title = fields.Dict(keys=fields.String(), values=fields.String())
    channels = fields.List(fields.String())
    sections = fields.List(fields.Nested(Section))


class ScorecardPage(Data):
    items = fields.List(fields.Nested(ScorecardHead))
    next = fields.String(allow_none=True)


class Proposal(Data):
    id = fields.String()
    scorecard = fields.String()
    version = fields.Integer()
    analysis = fields.String()
    weights = fields.Dict(metadata={"description": "criterion -> current and proposed"})
    created_at = Time()
    decided_at = Time(allow_none=True)
    decided_by = fields.String(allow_none=True)
    accepted = fields.Boolean(allow_none=True)


class Proposals(Data):
    items = fields.List(fields.Nested(Proposal))


class Decide(Input):
    accepted = fields.Boolean(required=True)


# ---- contacts


class Turn(Input):
    speaker = fields.String(required=True, validate=validate.OneOf(("agent", "customer", "system")))
    text = fields.String(required=True, validate=validate.Length(max=8000))
    start = fields.Float(load_default=None, allow_none=True, validate=validate.Range(min=0, max=1e6), metadata={"description": "second"})
    end = fields.Float(load_default=None, allow_none=True, validate=validate.Range(min=0, max=1e6), metadata={"description": "second"})
    action = fields.String(load_default=None, allow_none=True, validate=TEXT, metadata={"description": "what was done in a tool (system)"})

    @validates_schema(skip_on_field_errors=True)
    def in_order(self, data: dict[str, Any], **_: Any) -> None:
        if data["start"] is not None and data["end"] is not None and data["end"] < data["start"]:
            raise ValidationError("a turn ends after its start", "end")


class PutTranscript(Input):
    turns = fields.List(fields.Nested(Turn), required=True, validate=validate.Length(min=1, max=2000))
    language = fields.String(load_default="", validate=TEXT)
    silence_seconds = fields.Float(load_default=None, allow_none=True, validate=validate.Range(min=0, max=1e6))
    holds = fields.Integer(
        load_default=None,
        allow_none=True,
        strict=True,
        validate=validate.Range(min=0, max=10_000),
        metadata={"description": "how often the customer was put on hold"},
    )
    hold_seconds = fields.Float(
        load_default=None, allow_none=True, validate=validate.Range(min=0, max=1e6), metadata={"description": "on hold, together"}
    )


class TranscriptTaken(Data):
    contact = fields.String()
    turns = fields.Integer()


class NumberedTurn(Turn):
    number = fields.Integer(metadata={"description": "from 1; what a mark's `message` names"})


class Transcript(Data):
    contact = fields.String()
    language = fields.String()
    turns = fields.List(fields.Nested(NumberedTurn))


class CustomerSaid(Data):
    satisfied = fields.Integer(allow_none=True, metadata={"description": "from 1 to 5"})
    resolved = fields.Boolean(allow_none=True)
    text = fields.String(allow_none=True)


class ContactQuality(Data):
    """A contact with its facts, what the automatic checks say of it, and (not before somebody has evaluated it) what the customer said."""

    id = fields.String()
    queue = fields.String()
    channel = fields.String()
    agent = fields.String(allow_none=True)
    customer = fields.String(allow_none=True)
    thread = fields.String(allow_none=True)
    matter = fields.String(allow_none=True)
    direction = fields.String()
    outcome = fields.String(allow_none=True)
    ended_by = fields.String(allow_none=True, metadata={"description": "who hung up"})
    arrived_at = Time(allow_none=True)
    ended_at = Time(allow_none=True)
    waited_seconds = fields.Float(allow_none=True)
    talk_seconds = fields.Float(allow_none=True)
    hold_seconds = fields.Float(allow_none=True)
    holds = fields.Integer(allow_none=True)
    wrap_up_seconds = fields.Float(allow_none=True)
    silence_seconds = fields.Float(allow_none=True)
    transferred = fields.Boolean()
    transfers = fields.Integer()
    escalations = fields.Integer()
    answered_inside = fields.Integer()
    recordings = fields.Integer()
    turns = fields.Integer()
    self_service_failed = fields.Boolean(metadata={"description": "the customer failed in self-service first, and arrives impatient"})
    practice = fields.Boolean()
    supervisor = fields.String(allow_none=True)
    new_staff = fields.Boolean()
    disposition = fields.String(allow_none=True)
    resolved = fields.Boolean(allow_none=True)
    amount = fields.Float(allow_none=True)
    currency = fields.String(allow_none=True)
    next_at = Time(allow_none=True, metadata={"description": "the customer's next contact about the same matter"})
    is_repeat = fields.Boolean()
    handovers = fields.List(fields.Dict())
    automatic = fields.List(fields.Dict())
    customer_said = fields.Nested(CustomerSaid, allow_none=True)


# ---- evaluations


class OpenEvaluation(Input):
    contact = fields.String(required=True, validate=NAME)
    scorecard = fields.String(required=True, validate=NAME)
    evaluator = fields.String(load_default="", validate=TEXT, metadata={"description": "unsaid: who is signed in"})
    agent = fields.String(load_default="", validate=TEXT, metadata={"description": "where several had it; unsaid: the last"})
    practice = fields.Boolean(load_default=False, metadata={"description": "for training, not for the agent's score"})
    blind = fields.String(
        load_default="", validate=TEXT, metadata={"description": "another evaluator who scores the same, neither seeing the other's"}
    )


class Mark(Input):
    criterion = fields.String(required=True, validate=NAME)
    answer = Answer(required=True)
    second = fields.Float(
        load_default=None, allow_none=True, validate=validate.Range(min=0, max=1e6), metadata={"description": "of the recording"}
    )
    message = fields.Integer(
        load_default=None, allow_none=True, validate=validate.Range(min=1, max=10_000), metadata={"description": "of the thread"}
    )
    note = fields.String(load_default="", validate=LONG)


class WriteEvaluation(_Actor):
    marks = fields.List(fields.Nested(Mark), validate=validate.Length(max=100))
    note = fields.String(validate=LONG)
    live = fields.Boolean(metadata={"description": "listened or sat beside the agent while it happened"})


class Act(_Actor):
    pass


class Dispute(_Actor):
    reason = fields.String(required=True, validate=validate.Length(min=1, max=4000))


class SecondOpinion(Input):
    evaluator = fields.String(required=True, validate=NAME)


class Close(_Actor):
    holds = fields.String(load_default="first", validate=validate.OneOf(("first", "second")))
    reason = fields.String(load_default="", validate=LONG)


class Evaluations(Page):
    contact = fields.String(load_default="", validate=NAME)
    agent = fields.String(load_default="", validate=NAME)
    evaluator = fields.String(load_default="", validate=NAME)
    scorecard = fields.String(load_default="", validate=NAME)
    calibration = fields.String(load_default="", validate=NAME)
    state = fields.String(load_default="", validate=validate.OneOf(STATES))


class Marked(Data):
    criterion = fields.String()
    answer = Answer()
    value = fields.Float(allow_none=True)
    missed = fields.Boolean()
    second = fields.Float(allow_none=True)
    message = fields.Integer(allow_none=True)
    note = fields.String()


class EvaluationHead(Data):
    id = fields.String()
    contact = fields.String()
    agent = fields.String()
    queue = fields.String()
    channel = fields.String()
    contact_at = Time()
    scorecard = fields.String()
    version = fields.Integer()
    scorecard_kind = fields.String(validate=validate.OneOf(KINDS))
    evaluator = fields.String()
    evaluator_role = fields.String()
    purpose = fields.String(validate=validate.OneOf(PURPOSES))
    other = fields.String(allow_none=True, metadata={"description": "the evaluation that it stands beside"})
    calibration = fields.String(allow_none=True)
    state = fields.String(validate=validate.OneOf(STATES))
    blind = fields.Boolean()
    live = fields.Boolean()
    practice = fields.Boolean()
    supervisor = fields.String(allow_none=True)
    method = fields.String(metadata={"description": "stratified, risk or chosen"})
    probability = fields.Float(allow_none=True)
    note = fields.String()
    score = fields.Float(allow_none=True, metadata=SCORE)
    failed = fields.List(fields.String(), metadata={"description": "critical classes"})
    counts = fields.Boolean(metadata={"description": "for its agent"})
    dispute = fields.String()
    outcome = fields.String()
    decided_by = fields.String(allow_none=True, metadata={"description": "who made it final; null: nobody disputed it in time"})
    created_at = Time()
    submitted_at = Time(allow_none=True)
    ended_at = Time(allow_none=True)


class Evaluation(EvaluationHead):
    marks = fields.List(fields.Nested(Marked))
    asked = fields.List(fields.String(), metadata={"description": "the criteria that are asked, given the answers so far"})
    sections = fields.Dict(metadata={"description": "section -> score"})
    customer_said = fields.Nested(CustomerSaid, allow_none=True, metadata={"description": "shown to whoever has submitted theirs"})


class EvaluationPage(Data):
    items = fields.List(fields.Nested(EvaluationHead))
    next = fields.String(allow_none=True)


# ---- findings


class Check(Input):
    kind = fields.String(required=True, validate=validate.OneOf(("evaluations", "certificate", "document")))
    evaluations = fields.Integer(load_default=5, validate=validate.Range(min=1, max=50))
    at_least = fields.Float(load_default=0.8, validate=SHARE)
    channel = fields.String(load_default="", validate=TEXT)


class OpenFinding(Input):
    evaluation = fields.String(load_default="", validate=TEXT, metadata={"description": "or else contact and scorecard"})
    contact = fields.String(load_default="", validate=TEXT)
    scorecard = fields.String(load_default="", validate=TEXT)
    criterion = fields.String(required=True, validate=NAME)
    cause = fields.String(required=True, validate=validate.OneOf(CAUSES))
    agent = fields.String(
        load_default="", validate=TEXT, metadata={"description": "whose learning mends it; unsaid: the evaluated agent's"}
    )
    owner = fields.String(required=True, validate=NAME, metadata={"description": "who sees to it"})
    action = fields.String(required=True, validate=validate.Length(min=1, max=4000))
    due_at = Time(required=True)
    check = fields.Nested(Check, required=True, metadata={"description": "what will show that it is mended"})
    module = fields.String(load_default="", validate=TEXT, metadata={"description": "a lesson of training; unsaid: training knows which"})


class ChangePlan(Input):
    owner = fields.String(validate=NAME)
    action = fields.String(validate=validate.Length(min=1, max=4000))
    due_at = Time()
    check = fields.Nested(Check)
    module = fields.String(validate=TEXT)


class CloseFinding(_Actor):
    document = fields.String(load_default="", validate=LONG, metadata={"description": "what was changed, where documents are the evidence"})


class Findings(Page):
    agent = fields.String(load_default="", validate=NAME)
    owner = fields.String(load_default="", validate=NAME)
    queue = fields.String(load_default="", validate=NAME)
    criterion = fields.String(load_default="", validate=NAME)
    cause = fields.String(load_default="", validate=validate.OneOf(CAUSES))
    state = fields.String(load_default="", validate=validate.OneOf(("open", "closed")))
    overdue = fields.Boolean(load_default=False)


class Finding(Data):
    id = fields.String()
    contact = fields.String()
    evaluation = fields.String(allow_none=True)
    agent = fields.String(allow_none=True)
    queue = fields.String()
    channel = fields.String()
    scorecard = fields.String()
    scorecard_version = fields.Integer()
    section = fields.String()
    criterion = fields.String()
    title = fields.Dict(keys=fields.String(), values=fields.String())
    critical = fields.String(allow_none=True)
    cause = fields.String(validate=validate.OneOf(CAUSES))
    owner = fields.String()
    action = fields.String()
    due_at = Time()
    check = fields.Dict()
    module = fields.String(allow_none=True)
    state = fields.String(validate=validate.OneOf(("open", "closed")))
    created_at = Time()
    created_by = fields.String()
    planned_at = Time(metadata={"description": "from when on evidence counts"})
    closed_at = Time(allow_none=True)
    evidence = fields.Dict(allow_none=True)
    overdue = fields.Boolean()


class FindingPage(Data):
    items = fields.List(fields.Nested(Finding))
    next = fields.String(allow_none=True)


# ---- surveys


class AnswerSurvey(Input):
    contact = fields.String(required=True, validate=NAME, metadata={"description": "its id, or <source>:<call id>"})
    satisfied = fields.Integer(load_default=None, allow_none=True, strict=True, validate=validate.Range(min=1, max=5))
    resolved = fields.Boolean(load_default=None, allow_none=True)
    text = fields.String(load_default=None, allow_none=True, validate=LONG)
    survey = fields.String(load_default=None, allow_none=True, validate=NAME, metadata={"description": "of qa.survey_asked"})
    answered_at = Time(load_default=None, allow_none=True, metadata={"description": "when they answered; unsaid: now"})


class SurveyAnswered(AnswerSurvey):
    """A customer said how it went; the event's `time` is when."""

    class Meta(Input.Meta):
        exclude = ("answered_at",)


def require_answer(told: Mapping[str, Any]) -> None:
    """Raises Invalid where it says nothing."""
    if told["satisfied"] is None and told["resolved"] is None and not told["text"]:
        raise Invalid("an answer says at least one of satisfied, resolved and text")


class SurveyTaken(Data):
    answer = fields.String()
    contact = fields.String()


class Surveys(Page):
    queue = fields.String(load_default="", validate=NAME)
    agent = fields.String(load_default="", validate=NAME)
    contact = fields.String(load_default="", validate=NAME)
    answered = fields.Boolean(load_default=None, allow_none=True)


class Survey(Data):
    id = fields.String()
    contact = fields.String()
    customer = fields.String()
    agent = fields.String()
    queue = fields.String()
    channel = fields.String()
    rule = fields.String()
    contact_at = Time()
    sent_at = Time(allow_none=True, metadata={"description": "null: nobody asked, the answer came by itself; or it is not due yet"})
    answer_until = Time(allow_none=True)
    answered_at = Time(allow_none=True)
    satisfied = fields.Integer(allow_none=True, metadata={"description": "from 1 to 5"})
    resolved = fields.Boolean(allow_none=True)
    text = fields.String(allow_none=True)
    late = fields.Boolean(metadata={"description": "answered after answer_until: kept, and in no figure"})


class SurveyPage(Data):
    items = fields.List(fields.Nested(Survey))
    next = fields.String(allow_none=True)


class PutSurveyRule(Input):
    enabled = fields.Boolean()
    share = fields.Float(validate=SHARE, metadata={"description": "of the contacts"})
    fatigue_days = fields.Float(validate=validate.Range(min=0, max=3650), metadata={"description": "nobody is asked again within"})
    delay_seconds = fields.Float(validate=validate.Range(min=0, max=21600))
    answer_days = fields.Float(validate=validate.Range(min=1, max=90))
    channels = fields.List(fields.String(validate=NAME), validate=validate.Length(max=50), metadata={"description": "empty: all"})


class SurveyRule(PutSurveyRule):
    queue = fields.String(metadata={"description": "whose rule it is; default: of queues without their own"})


# ---- samples and rules


class DrawSample(Input):
    scorecard = fields.String(required=True, validate=NAME)
    from_ = Time(data_key="from", required=True)
    to = Time(required=True)
    size = fields.Integer(required=True, strict=True, validate=validate.Range(min=1, max=10_000), metadata={"description": "by chance"})
    risk_size = fields.Integer(
        load_default=0, strict=True, validate=validate.Range(min=0, max=10_000), metadata={"description": "by risk, beside it"}
    )
    seed = fields.Integer(load_default=1, strict=True, validate=validate.Range(min=0, max=2**31 - 1))
    queues = fields.List(fields.String(validate=NAME), load_default=list, validate=NAMES)
    channels = fields.List(fields.String(validate=NAME), load_default=list, validate=NAMES)
    evaluators = fields.List(fields.String(validate=NAME), load_default=list, validate=NAMES)
    due_days = fields.Float(load_default=7.0, validate=validate.Range(min=0.1, max=90))


class SampledContact(Data):
    contact = fields.String()
    agent = fields.String()
    queue = fields.String()
    channel = fields.String()
    method = fields.String(validate=validate.OneOf(("stratified", "risk")))
    stratum = fields.String()
    probability = fields.Float(allow_none=True, metadata={"description": "of being drawn; null: chosen by risk, and in no mean"})
    risk = fields.Float(allow_none=True)
    reasons = fields.List(fields.String())
    evaluator = fields.String(allow_none=True)
    evaluation = fields.String(allow_none=True)


class Sample(Data):
    id = fields.String()
    seed = fields.Integer()
    plan = fields.Dict()
    strata = fields.List(fields.Dict())
    created_at = Time()
    created_by = fields.String()
    contacts = fields.List(fields.Nested(SampledContact))


class ToDo(Page):
    evaluator = fields.String(load_default="", validate=NAME, metadata={"description": "unsaid: who is signed in"})


class ToDoPage(Data):
    items = fields.List(fields.Dict())
    next = fields.String(allow_none=True)


class RuleSet(Data):
    name = fields.String()
    version = fields.Integer()
    document = fields.String()
    created_at = Time()
    created_by = fields.String()
    queues = fields.List(fields.String())
    channels = fields.List(fields.String())
    library = fields.List(fields.String())


class RuleSets(Data):
    items = fields.List(fields.Dict())
    ready = fields.List(fields.Dict(), metadata={"description": "the rules that come with Answerline"})


# ---- calibrations, analyses, flags


class OpenCalibration(Input):
    title = fields.String(required=True, validate=NAME)
    scorecard = fields.String(required=True, validate=NAME)
    contacts = fields.List(fields.String(validate=NAME), required=True, validate=validate.Length(min=1, max=200))
    evaluators = fields.List(fields.String(validate=NAME), required=True, validate=validate.Length(min=2, max=50))


class Analysis(Data):
    id = fields.String()
    kind = fields.String(validate=validate.OneOf(ANALYSES))
    subject = fields.String(metadata={"description": "the scorecard"})
    parameters = fields.Dict()
    state = fields.String(metadata={"description": "queued, running, done or failed"})
    step = fields.String()
    progress = fields.Float(metadata={"description": "from 0 to 1"})
    beat_at = fields.Float(allow_none=True)
    requested_by = fields.String()
    requested_at = Time()
    started_at = Time(allow_none=True)
    finished_at = Time(allow_none=True)
    error = fields.String(allow_none=True)
    result = fields.Dict(allow_none=True)


class AnalysisPage(Data):
    items = fields.List(fields.Nested(Analysis))
    next = fields.String(allow_none=True)


class AskAnalysis(Input):
    kind = fields.String(required=True, validate=validate.OneOf(ANALYSES))
    from_ = Time(data_key="from", required=True)
    to = Time(required=True)
    scorecard = fields.String(load_default=None, allow_none=True, validate=NAME)
    version = fields.Integer(load_default=None, allow_none=True, validate=validate.Range(min=1, max=2**31 - 1))


class Analyses(Page):
    kind = fields.String(load_default="", validate=validate.OneOf(ANALYSES))
    scorecard = fields.String(load_default="", validate=NAME)


class Calibration(Data):
    id = fields.String()
    title = fields.String()
    scorecard = fields.String()
    version = fields.Integer()
    contacts = fields.List(fields.String())
    evaluators = fields.List(fields.String())
    leader = fields.String()
    state = fields.String(validate=validate.OneOf(("open", "closed")))
    created_at = Time()
    closed_at = Time(allow_none=True)
    analysis = fields.String(allow_none=True)
    submitted = fields.Dict(metadata={"description": "evaluator -> how many they have submitted"})
    agreement = fields.Dict(allow_none=True, metadata={"description": "after the close: alpha by criterion, each against the others"})


class CalibrationPage(Data):
    items = fields.List(fields.Nested(Calibration))
    next = fields.String(allow_none=True)


class Flags(Page):
    agent = fields.String(load_default="", validate=NAME)
    queue = fields.String(load_default="", validate=NAME)
    measure = fields.String(load_default="", validate=NAME)
    state = fields.String(load_default="", validate=validate.OneOf(("open", "closed")))


class Flag(Data):
    """A reason to listen, not a verdict."""

    id = fields.String()
    analysis = fields.String()
    agent = fields.String()
    queue = fields.String()
    channel = fields.String()
    measure = fields.String(metadata={"description": "short_hang_ups, hard_transfers or survey_steering"})
    contacts = fields.List(fields.String(), metadata={"description": "to listen to"})
    state = fields.String(validate=validate.OneOf(("open", "closed")))
    heard = fields.Dict(allow_none=True)
    created_at = Time()
    closed_at = Time(allow_none=True)
    cases = fields.Integer()
    opportunities = fields.Integer()
    rate = fields.Float()
    peer_rate = fields.Float()
    limit = fields.Float(metadata={"description": "the funnel's, at so many opportunities"})
    peers = fields.Integer()
    expected_by_chance = fields.Float(metadata={"description": "so many agents would be flagged without any cause"})
    began = Time(data_key="from")
    to = Time()
    meaning = fields.String()


class FlagPage(Data):
    items = fields.List(fields.Nested(Flag))
    next = fields.String(allow_none=True)


class CloseFlag(_Actor):
    contacts = fields.List(
        fields.String(validate=NAME), required=True, validate=validate.Length(min=1, max=100), metadata={"description": "heard"}
    )
    found = fields.String(required=True, validate=validate.OneOf(("explained", "agreed", "unclear")))
    note = fields.String(required=True, validate=validate.Length(min=1, max=4000))


# ---- reports


class _Period(Input):
    from_ = Time(data_key="from", load_default=0.0)
    to = Time(load_default=4102444800.0)
    queue = fields.String(load_default="", validate=NAME)


class QualityFilters(_Period):
    by = fields.String(load_default="agent", validate=validate.OneOf(("agent", "queue", "channel", "evaluator")))
    scorecard = fields.String(load_default="", validate=NAME)
    within = fields.Float(
        load_default=0.05, validate=validate.Range(min=0.005, max=0.5), metadata={"description": "how near a mean is to be known"}
    )


class CriteriaFilters(_Period):
    scorecard = fields.String(required=True, validate=NAME)
    agent = fields.String(load_default="", validate=NAME)


class SurveyFilters(_Period):
    by = fields.String(load_default="queue", validate=validate.OneOf(("queue", "agent", "channel", "self_service_failed")))


class ResolutionFilters(_Period):
    by = fields.String(load_default="queue", validate=validate.OneOf(("queue", "agent", "channel", "disposition")))
    days = fields.Float(load_default=7.0, validate=validate.Range(min=1, max=60))


class ValueFilters(_Period):
    by = fields.String(load_default="agent", validate=validate.OneOf(("agent", "queue", "channel")))


class ValidityFilters(Input):
    scorecard = fields.String(required=True, validate=NAME)


class Groups(Data):
    by = fields.String()
    groups = fields.List(fields.Dict())


class QualityReport(Groups):
    """For each group the human scores by scorecard (`internal` and `customer` apart), `automatic` ones by set of rules, and what customers said."""

    within = fields.Float()


class SurveyReport(Groups):
    pass


class ResolutionReport(Groups):
    days = fields.Float()
    known_until = Time(allow_none=True, metadata={"description": "the newest contact; what ended shortly before is too recent to know"})


class ValueReport(Groups):
    no_target = fields.String(metadata={"description": "why handle time is shown and is no target"})


class CriterionFigures(Data):
    criterion = fields.String()
    marked = fields.Integer()
    applied = fields.Integer()
    mean = fields.Dict(metadata=INTERVAL)
    missed = fields.Dict(metadata=INTERVAL)


class CriteriaReport(Data):
    scorecard = fields.String()
    criteria = fields.List(fields.Nested(CriterionFigures))
