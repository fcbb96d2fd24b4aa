"""What the stream takes."""

from marshmallow import fields, validate

from shared.contracts.fields import Input


class Stream(Input):
    topics = fields.String(
        load_default="live",
        validate=validate.Length(min=1, max=8000),
        metadata={"description": "`live`, types of event such as `routing.*`, `queue:NAME`, `agent:ID`, `contact:ID`, with commas between"},
    )
    after = fields.String(
        load_default="",
        validate=validate.Regexp(r"[0-9]{0,18}\Z", error="Write the id of an event of this stream, a whole number."),
        metadata={"description": "the id of the last event that was received, where no Last-Event-ID header can be sent"},
    )
