"""What training announces. The subject is the person, whose id is their agent id too."""

from marshmallow import fields, validate

from shared.contracts.fields import Data, Time


class Word(Data):
    person = fields.String(required=True)
    channel = fields.String(required=True)


class Certified(Word):
    """The person may serve the channel. From the first word of training on, it alone says what this person may serve."""

    certified_at = Time(required=True)
    expires_at = Time(allow_none=True, metadata={"description": "null: without end"})


class PracticePermitted(Word):
    """A learner may serve the channel without its certificate, while the supervisor is signed in."""

    supervisor = fields.String(required=True)
    contacts_a_day = fields.Integer(required=True, validate=validate.Range(min=1))
    until = Time(required=True)


class CertificationLapsed(Word):
    """Certificate and permit for the channel are gone."""

    at = Time(required=True)
    reason = fields.String(required=True)


EVENTS = {
    "training.certified.v1": Certified,
    "training.practice_permitted.v1": PracticePermitted,
    "training.certification_lapsed.v1": CertificationLapsed,
}
