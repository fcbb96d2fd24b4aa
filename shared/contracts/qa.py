"""What qa announces. Scores are from 0 to 1. No comment, transcript or free text travels."""

from marshmallow import fields, validate

from shared.contracts.fields import Data, Time

KINDS = ("internal", "customer")
CLASSES = ("customer", "business", "compliance")
CAUSES = ("process", "knowledge", "tool", "training", "workload", "customer")
PEOPLE = {"description": "who of those that do not lead may see it"}


class ContactSampled(Data):
    """A contact was chosen to be evaluated."""

    sample = fields.String(required=True)
    contact = fields.String(required=True)
    agent = fields.String(required=True)
    queue = fields.String(required=True)
    channel = fields.String(required=True)
    scorecard = fields.String(required=True)
    method = fields.String(required=True, validate=validate.OneOf(("stratified", "risk")))
    stratum = fields.String(required=True, metadata={"description": "empty: chosen by risk"})
    probability = fields.Float(allow_none=True, metadata={"description": "of being chosen; null: chosen by risk, and in no mean"})
    reasons = fields.List(fields.String(), load_default=list)
    evaluator = fields.String(allow_none=True)
    due_at = Time(allow_none=True)
    people = fields.List(fields.String(), load_default=list, metadata=PEOPLE)
    at = Time(required=True)


class Mark(Data):
    criterion = fields.String(required=True)
    section = fields.String(required=True)
    answer = fields.String(required=True, metadata={"description": "yes, no, na or a number"})
    value = fields.Float(allow_none=True, metadata={"description": "from 0 to 1; null: it does not apply"})
    weight = fields.Float(required=True)
    critical = fields.String(allow_none=True, validate=validate.OneOf(CLASSES))
    second = fields.Float(allow_none=True, metadata={"description": "of the recording"})
    message = fields.Integer(allow_none=True, metadata={"description": "of the thread, from 1"})


class EvaluationSubmitted(Data):
    """A contact was evaluated; announced again when a second opinion changed it, or it became final: the newest replaces what was before.
    Internal and customer scores, automatic and human ones, are different things: nobody averages them with each other."""

    evaluation = fields.String(required=True)
    stage = fields.String(required=True, validate=validate.OneOf(("submitted", "final")))
    contact = fields.String(required=True)
    agent = fields.String(required=True)
    queue = fields.String(required=True)
    channel = fields.String(required=True)
    contact_at = Time(required=True, metadata={"description": "the contact's end"})
    practice = fields.Boolean(required=True, metadata={"description": "served under a practice permit"})
    supervisor = fields.String(allow_none=True, metadata={"description": "of that permit"})
    purpose = fields.String(required=True, validate=validate.OneOf(("quality", "practice", "double", "second_opinion", "calibration")))
    counts = fields.Boolean(required=True, metadata={"description": "for its agent: false in calibrations, and where another holds"})
    scorecard = fields.String(required=True)
    scorecard_version = fields.Integer(required=True)
    scorecard_kind = fields.String(required=True, validate=validate.OneOf(KINDS))
    kind = fields.String(required=True, validate=validate.OneOf(("human", "automatic")))
    evaluator = fields.String(allow_none=True)
    evaluator_role = fields.String(allow_none=True)
    blind = fields.Boolean(required=True)
    score = fields.Float(allow_none=True, metadata={"description": "null: nothing in it applied"})
    failed_classes = fields.List(fields.String(validate=validate.OneOf(CLASSES)), required=True)
    marks = fields.List(fields.Nested(Mark), required=True)
    sampled = fields.String(required=True, validate=validate.OneOf(("stratified", "risk", "chosen")))
    probability = fields.Float(allow_none=True)
    people = fields.List(fields.String(), load_default=list, metadata=PEOPLE)
    at = Time(required=True)


class AgentScored(Data):
    """How an agent does by one scorecard, over a while."""

    agent = fields.String(required=True)
    queue = fields.String(allow_none=True, metadata={"description": "null: all"})
    channel = fields.String(allow_none=True, metadata={"description": "null: all"})
    scorecard = fields.String(required=True)
    scorecard_kind = fields.String(required=True, validate=validate.OneOf(KINDS))
    kind = fields.String(required=True, validate=validate.OneOf(("human", "automatic")))
    score = fields.Float(required=True)
    low = fields.Float(required=True, metadata={"description": "of the 95 % interval"})
    high = fields.Float(required=True)
    evaluations = fields.Integer(required=True)
    since = Time(required=True)
    until = Time(required=True)
    people = fields.List(fields.String(), load_default=list, metadata=PEOPLE)
    at = Time(required=True)


class GapFound(Data):
    """Something went wrong, its cause is known, and there is a plan; announced again when the plan changes. Where the cause is knowledge or
    training, training assigns what teaches the criterion."""

    finding = fields.String(required=True)
    plan = fields.String(required=True)
    contact = fields.String(required=True)
    evaluation = fields.String(allow_none=True)
    agent = fields.String(allow_none=True, metadata={"description": "null: the cause is nobody's learning"})
    queue = fields.String(required=True)
    channel = fields.String(required=True)
    scorecard = fields.String(required=True)
    scorecard_version = fields.Integer(required=True)
    section = fields.String(required=True)
    criterion = fields.String(required=True)
    title = fields.Dict(
        keys=fields.String(), values=fields.String(), required=True, metadata={"description": "of the criterion, by language"}
    )
    critical = fields.String(allow_none=True, validate=validate.OneOf(CLASSES))
    cause = fields.String(required=True, validate=validate.OneOf(CAUSES))
    owner = fields.String(required=True)
    due_at = Time(required=True)
    check = fields.Dict(
        required=True, metadata={"description": "kind (evaluations, certificate, document), evaluations, at_least, channel"}
    )
    module = fields.String(allow_none=True, metadata={"description": "a person's choice of lesson; null: training knows which"})
    people = fields.List(fields.String(), load_default=list, metadata=PEOPLE)
    at = Time(required=True)


class GapClosed(Data):
    """Evidence has shown that it is mended."""

    finding = fields.String(required=True)
    plan = fields.String(required=True)
    contact = fields.String(required=True)
    agent = fields.String(allow_none=True)
    queue = fields.String(required=True)
    channel = fields.String(required=True)
    scorecard = fields.String(required=True)
    criterion = fields.String(required=True)
    cause = fields.String(required=True, validate=validate.OneOf(CAUSES))
    evidence = fields.Dict(required=True, metadata={"description": "ids and figures"})
    people = fields.List(fields.String(), load_default=list, metadata=PEOPLE)
    at = Time(required=True)


class GamingSuspected(Data):
    """Figures that lie beyond what chance does to peers on the same queue. A reason to listen, no verdict."""

    flag = fields.String(required=True)
    agent = fields.String(required=True)
    queue = fields.String(required=True)
    channel = fields.String(required=True)
    measure = fields.String(required=True, metadata={"description": "short_hang_ups, hard_transfers or survey_steering"})
    cases = fields.Integer(required=True)
    opportunities = fields.Integer(required=True)
    rate = fields.Float(required=True)
    peer_rate = fields.Float(required=True)
    limit = fields.Float(required=True, metadata={"description": "the funnel's, at so many opportunities"})
    peers = fields.Integer(required=True)
    expected_by_chance = fields.Float(required=True, metadata={"description": "so many agents would be flagged without any cause"})
    since = Time(required=True)
    until = Time(required=True)
    contacts = fields.List(fields.String(), required=True, metadata={"description": "to listen to"})
    people = fields.List(fields.String(), load_default=list, metadata=PEOPLE)
    at = Time(required=True)


class CriterionValidityComputed(Data):
    """How far a criterion goes with what customers say."""

    analysis = fields.String(required=True)
    scorecard = fields.String(required=True)
    scorecard_version = fields.Integer(required=True)
    criterion = fields.String(required=True)
    outcome = fields.String(required=True, validate=validate.OneOf(("satisfied", "resolved", "one_call")))
    verdict = fields.String(required=True, validate=validate.OneOf(("serves", "ritual", "harms", "unclear", "not_enough_data")))
    contacts = fields.Integer(required=True)
    effect = fields.Float(allow_none=True)
    low = fields.Float(allow_none=True)
    high = fields.Float(allow_none=True)
    p_adjusted = fields.Float(allow_none=True)
    at = Time(required=True)


class SurveyAsked(Data):
    """A customer is to be asked: whoever hears this by webhook writes to them, and posts the answer to /v1/surveys."""

    survey = fields.String(required=True)
    contact = fields.String(required=True)
    customer = fields.String(required=True)
    queue = fields.String(required=True)
    channel = fields.String(required=True)
    rule = fields.String(required=True, metadata={"description": "the queue whose rule asks, or default"})
    answer_until = Time(required=True)
    people = fields.List(fields.String(), load_default=list, metadata=PEOPLE)
    at = Time(required=True)


EVENTS = {
    "qa.contact_sampled.v1": ContactSampled,
    "qa.evaluation_submitted.v1": EvaluationSubmitted,
    "qa.agent_scored.v1": AgentScored,
    "qa.gap_found.v1": GapFound,
    "qa.gap_closed.v1": GapClosed,
    "qa.gaming_suspected.v1": GamingSuspected,
    "qa.criterion_validity_computed.v1": CriterionValidityComputed,
    "qa.survey_asked.v1": SurveyAsked,
}
