"""What telephony asks and is told while it holds a caller for us."""

from marshmallow import fields, validate

from services.gateway.schemas import Wait
from shared.contracts.fields import Data, Input

LANGUAGE = validate.And(
    validate.Length(max=35), validate.Regexp(r"([A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*)?\Z", error="a language is one such as en or zh-CN")
)


class AskAssignment(Wait):
    until = fields.String(
        load_default="assigned",
        validate=validate.OneOf(("assigned", "offered")),
        metadata={"description": "offered: answer as soon as an agent is asked, for whoever rings the agent's telephone"},
    )
    back = fields.Float(
        load_default=0.0,
        validate=validate.Range(min=0, max=60),
        metadata={"description": "seconds within which you ask again, if more than 3: an announcement is played meanwhile"},
    )
    language = fields.String(load_default="", validate=LANGUAGE, metadata={"description": "of what is announced"})


class Language(Input):
    language = fields.String(load_default="", validate=LANGUAGE, metadata={"description": "en or zh; none: the contact's, else en"})


class Announcement(Data):
    """What a waiting customer is told. What is not known is absent."""

    contact = fields.String()
    state = fields.String()
    language = fields.String(metadata={"description": "en or zh"})
    position = fields.Integer(metadata={"description": "place in line, from 1"})
    estimated_wait_seconds = fields.Float()
    estimated_wait_minutes = fields.Integer(metadata={"description": "rounded up"})
    self_service = fields.String(metadata={"description": "where an answer may be found meanwhile, as the queue's policy has it"})
    every_seconds = fields.Float(metadata={"description": "how often it is to be told"})
    text = fields.String(metadata={"description": "all of it in sentences, to be spoken or shown"})
