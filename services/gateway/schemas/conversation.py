"""What a telephony system that asks for each next step of a call says in the address."""

from marshmallow import fields, validate

from services.gateway.schemas import NAME, TEXT, Source
from services.gateway.schemas.control import LANGUAGE
from shared.contracts.fields import Data

LONGEST_ADDRESS = 1000
FALLBACK = validate.And(
    validate.Length(min=1, max=LONGEST_ADDRESS),
    validate.Regexp(r"[^\x00-\x20]+\Z", error="an address with TwiML, or the name of a queue or workflow, without spaces"),
)


class Waits(Source):
    queue = fields.String(required=True, validate=NAME, metadata={"description": "that Answerline routes"})
    language = fields.String(load_default="", validate=LANGUAGE, metadata={"description": "en or zh; none: en"})
    wait = fields.Float(
        load_default=0.5,
        validate=validate.Range(min=0, max=10),
        metadata={
            "description": "seconds in which an agent may still be found before the music goes on; the caller hears nothing meanwhile"
        },
    )
    back = fields.Float(
        load_default=45.0,
        validate=validate.Range(min=1, max=60),
        metadata={
            "description": "seconds within which we are asked again, more than words and music last; after that the caller counts as gone"
        },
    )


class Held(Waits):
    """How a caller is held at Twilio. Each next address repeats it."""

    fallback = fields.String(
        required=True,
        validate=FALLBACK,
        metadata={
            "description": "who takes the caller when Answerline cannot: an address with TwiML, or a queue (a name) or workflow (WW…) of Twilio's"
        },
    )
    music = fields.String(
        load_default="",
        validate=validate.And(
            validate.Length(max=LONGEST_ADDRESS),
            validate.Regexp(r"(https?://[^\x00-\x20]+)?\Z", error="an address that begins with https://"),
        ),
        metadata={"description": "a short piece: after each one we are asked whether an agent is there. None: silence"},
    )


class FreeswitchHeld(Waits):
    music = fields.String(
        load_default="local_stream://moh",
        validate=validate.Length(min=1, max=LONGEST_ADDRESS),
        metadata={
            "description": "what FreeSWITCH plays; after each piece, or after playback_timeout_sec, we are asked whether an agent is there"
        },
    )
    engine = fields.String(
        load_default="", validate=TEXT, metadata={"description": "of text-to-speech, as in flite; none: nothing is said"}
    )
    voice = fields.String(load_default="", validate=TEXT, metadata={"description": "of that engine"})


class HeldOn(Held):
    say_at = fields.Float(load_default=0.0, validate=validate.Range(min=0, max=1e11), metadata={"description": "epoch seconds; ours"})


class Rung(HeldOn):
    agent = fields.String(required=True, validate=NAME, metadata={"description": "whose telephone rang; ours"})
    offer = fields.String(load_default="", validate=TEXT, metadata={"description": "that it answers; ours"})


class PickedUp(Source):
    agent = fields.String(required=True, validate=NAME, metadata={"description": "whose telephone rang; ours"})
    offer = fields.String(load_default="", validate=TEXT, metadata={"description": "that it answers; ours"})


class TwilioCall(Data):
    call = fields.String(data_key="CallSid", required=True, validate=NAME)
    status = fields.String(data_key="CallStatus", validate=TEXT)
    caller = fields.String(data_key="From", validate=TEXT)


class TwilioDialled(TwilioCall):
    outcome = fields.String(
        data_key="DialCallStatus",
        required=True,
        validate=validate.OneOf(("completed", "answered", "busy", "no-answer", "failed", "canceled")),
    )
    bridged = fields.String(data_key="DialBridged", validate=validate.OneOf(("true", "false")))


class FreeswitchCall(Data):
    """A post of mod_httapi. What begins with answerline_ is ours: mod_httapi gives it back."""

    call = fields.String(data_key="Caller-Unique-ID", validate=NAME)
    session = fields.String(data_key="session_id", validate=NAME)
    caller = fields.String(data_key="Caller-Caller-ID-Number")
    url = fields.String(metadata={"description": "under which FreeSWITCH knows us"})
    profile = fields.String(data_key="httapi_profile")
    exiting = fields.String(metadata={"description": "true: the caller has hung up"})
    outcome = fields.String(data_key="originate_disposition", metadata={"description": "what came of ringing the agent"})
