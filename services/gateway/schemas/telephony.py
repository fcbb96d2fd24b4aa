"""What telephony systems post to doors that read it themselves, as far as JSON Schema can say it."""

from typing import Any

from marshmallow import fields, validate

from shared.contracts.fields import Data


class DialplanPost(Data):
    """One post of the dialplan's CURL(). Numbers may come as text."""

    event = fields.String(required=True, validate=validate.OneOf(("call.arrived", "call.answered", "call.hangup")))
    callid = fields.String(required=True, metadata={"description": "UNIQUEID; of call.answered CHANNEL(linkedid)"})
    linkedid = fields.String(metadata={"description": "CHANNEL(linkedid)"})
    queue = fields.String(metadata={"description": "needed unless the call is over"})
    caller = fields.String()
    name = fields.String()
    customer = fields.String(metadata={"description": "whose call it is, by the directory's id; never a number"})
    agent = fields.String(metadata={"description": "the member's interface, as in PJSIP/1001"})
    member_uniqueid = fields.String()
    status = fields.String(metadata={"description": "why the call ended"})
    at = fields.Raw(metadata={"type": ["number", "string"], "description": "EPOCH, or ISO 8601"})


RECORD: dict[str, Any] = {"type": "object", "description": "a call detail record of mod_json_cdr"}
RECORD_FIELD: dict[str, Any] = {
    "type": "object",
    "required": ["cdr"],
    "properties": {"cdr": {"type": "string", "description": "the record, as JSON or XML, plain or URL-encoded"}},
}
PACKED_FIELD: dict[str, Any] = {"type": "string", "description": "cdr= and the record, plain or in base64"}
