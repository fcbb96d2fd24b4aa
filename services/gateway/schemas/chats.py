"""Chats from which experts answer."""

from typing import Any

from marshmallow import fields, validate

from services.gateway.schemas import NAME
from shared.contracts.fields import Data, Input

SECRET = validate.Length(min=8, max=500)


class PutChat(Input):
    token = fields.String(allow_none=True, validate=SECRET, metadata={"description": "that the chat sends in each message; null: none"})
    signing_secret = fields.String(
        allow_none=True, validate=SECRET, metadata={"description": "with which Slack signs its messages; null: none"}
    )
    people = fields.Dict(
        keys=fields.String(validate=NAME),
        values=fields.String(validate=NAME),
        required=True,
        validate=validate.Length(max=5000),
        metadata={"description": "user of the chat (name, id or e-mail address, as it sends them) -> person"},
    )


class Chat(Data):
    name = fields.String()
    people = fields.Dict(keys=fields.String(), values=fields.String())
    secrets = fields.List(fields.String(), metadata={"description": "which there are"})


class ChatMessage(Data):
    """As Slack, Mattermost and Rocket.Chat post it."""

    token = fields.String()
    user_name = fields.String()
    user_id = fields.String()
    text = fields.String(required=True, metadata={"description": "K7Q2XM and the answer; or K7Q2XM claim, K7Q2XM pass"})
    trigger_word = fields.String()


_TEXT = {"type": "string"}
JSON_MESSAGE: dict[str, Any] = {
    "anyOf": [
        {
            "description": "Mattermost's and Rocket.Chat's",
            "type": "object",
            "properties": dict.fromkeys(("token", "user_name", "user_id", "text", "trigger_word"), _TEXT),
            "required": ["text"],
        },
        {
            "description": "Zulip's",
            "type": "object",
            "properties": {"token": _TEXT, "data": _TEXT, "message": {"type": "object", "properties": {"sender_email": _TEXT}}},
            "required": ["message"],
        },
    ]
}


class ChatReply(Data):
    text = fields.String(metadata={"description": "what the chat shows"})
