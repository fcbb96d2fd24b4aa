"""What the doors of recordings take and give."""

from marshmallow import fields, validate

from services.gateway.schemas import NAME, Listing, Page, Source
from shared.contracts.fields import Data, Input, Time


class RecordingCallback(Data):
    """Twilio's recording status callback."""

    recording = fields.String(data_key="RecordingSid", required=True, validate=NAME)
    call = fields.String(data_key="CallSid", required=True, validate=NAME)
    address = fields.String(data_key="RecordingUrl", metadata={"description": "https, without a user"})
    status = fields.String(data_key="RecordingStatus", validate=validate.OneOf(("in-progress", "completed", "absent", "failed")))
    seconds = fields.String(data_key="RecordingDuration", metadata={"description": "whole seconds"})
    began = fields.String(data_key="RecordingStartTime", metadata={"description": "RFC 2822"})


class Silence(Data):
    began = Time(data_key="from")
    ended = Time(data_key="to", allow_none=True, metadata={"description": "null: it goes on"})


class Pause(Data):
    """A pause that somebody asked for. Nothing ends it but `resume` or the end of the call: `seconds` says how long it has been."""

    id = fields.String()
    since = Time()
    until = Time(allow_none=True)
    seconds = fields.Float(metadata={"description": "so far, or altogether"})
    by = fields.String()
    resumed_by = fields.String(allow_none=True)
    confirmed = fields.Boolean(metadata={"description": "the telephony system says that it does so"})
    trouble = fields.String(allow_none=True, metadata={"description": "why the telephony system does not, as far as is known"})


class Recording(Data):
    id = fields.String()
    contact = fields.String()
    source = fields.String()
    state = fields.String(
        validate=validate.OneOf(("recording", "available", "failed", "expired")),
        metadata={"description": "expired: older than its source keeps recordings; it is no longer given out"},
    )
    started_at = Time(allow_none=True)
    ended_at = Time(allow_none=True)
    seconds = fields.Float(allow_none=True)
    format = fields.String(metadata={"description": "the file's ending, as in wav; empty: none that is given out"})
    consent = fields.String(validate=validate.OneOf(("granted", "refused", "unknown")))
    paused = fields.List(fields.Nested(Silence), metadata={"description": "the parts of it for which a pause was asked"})
    muted = fields.List(fields.Nested(Silence), metadata={"description": "the parts of it that the telephony system says are silent"})
    media = fields.String(metadata={"description": "where to hear it: GET, with Range"})


class Recordings(Data):
    items = fields.List(fields.Nested(Recording))
    pauses = fields.List(fields.Nested(Pause))
    paused = fields.Boolean(metadata={"description": "a pause goes on now"})


class PauseAnswer(Pause):
    contact = fields.String()
    paused = fields.Boolean()


class PauseWait(Input):
    wait = fields.Float(
        load_default=2.0,
        validate=validate.Range(min=0, max=10),
        metadata={"description": "seconds, at most, for the telephony system to say that it does so"},
    )


class Consent(Input):
    consent = fields.String(required=True, validate=validate.OneOf(("granted", "refused")))


class ConsentAnswer(Consent):
    contact = fields.String()


class Access(Data):
    at = Time()
    by = fields.String(metadata={"description": "the name of the key or person"})
    principal = fields.String(metadata={"description": "its id"})
    first = fields.Integer(metadata={"description": "the first byte asked for"})
    last = fields.Integer(metadata={"description": "the last one"})
    size = fields.Integer(metadata={"description": "bytes of the whole recording"})


class Accesses(Listing):
    items = fields.List(fields.Nested(Access))


class AccessPage(Page):
    pass


class AwaitCommands(Source):
    wait = fields.Float(load_default=0.0, validate=validate.Range(min=0, max=60), metadata={"description": "seconds to wait for one"})


class Command(Data):
    """What a bridge or a controller is to make a telephony system do, as often as it is told so."""

    id = fields.String()
    action = fields.String(validate=validate.OneOf(("pause", "resume")))
    contact = fields.String()
    calls = fields.List(fields.String(), metadata={"description": "the channels of the contact"})
    recordings = fields.List(
        fields.Dict(keys=fields.String(), values=fields.String()), metadata={"description": "`call` and `location` of each under way"}
    )


class Commands(Data):
    commands = fields.List(fields.Nested(Command))


class CommandDone(Input):
    action = fields.String(required=True, validate=validate.OneOf(("pause", "resume")))
    done = fields.Boolean(required=True)
    trouble = fields.String(load_default="", validate=validate.Length(max=500), metadata={"description": "why it was not done"})
