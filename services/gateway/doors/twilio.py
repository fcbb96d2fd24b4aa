"""What Twilio posts: voice status callbacks, TaskRouter event callbacks, Event Streams. Its signature stands for a key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

from services.gateway import schemas
from services.gateway.domain import twilio
from services.gateway.domain.observation import CALL_KINDS, Ignored, Malformed, Observation, read_form
from services.gateway.doors import CALLING, Doors, as_receipt
from services.gateway.handlers import Arrival, Reading, Taken
from services.gateway.schemas.recordings import RecordingCallback
from services.gateway.sources import Source
from shared import clock
from shared.errors import Unauthenticated
from shared.http.endpoint import Principal, Response, Signature, endpoint
from shared.http.wsgi import Request
from shared.ids import new_id

FORM = "application/x-www-form-urlencoded"
SIGNED = Signature("X-Twilio-Signature", "check_twilio")
LONGEST_STREAM = 4 * 1024 * 1024
LONGEST_CHANNEL = 100
Interpret = Callable[[Mapping[str, str]], Observation | Ignored]
TWILIO = Principal("twilio", frozenset(CALLING))


class TwilioDoors(Doors):
    def check_twilio(self, request: Request) -> Principal | None:
        """Whether Twilio signed the request with its source's auth token. Raises Unauthenticated, which says what may be wrong."""
        name = request.query["source"]
        token = self.core.sources.secret(name, "twilio_auth_token")
        if token is None:
            raise Unauthenticated(
                f"the source {name} has no twilio_auth_token to check the signature with: PUT /v1/sources/{name}, "
                "or send a key as `Authorization: Bearer KEY`"
            )
        url = self._address(request)
        if twilio.is_signed(token, url, request.raw, request.header("Content-Type"), request.header(SIGNED.header)):
            return TWILIO
        raise Unauthenticated(
            f"X-Twilio-Signature does not fit a request to {url.partition('?')[0]}: ANSWERLINE_PUBLIC_URL must be the address as Twilio "
            "calls it, and the source's twilio_auth_token the primary one of its account. A key as `Authorization: Bearer KEY` does too"
        )

    def _address(self, request: Request) -> str:
        """The address that Twilio called, byte for byte: a proxy may have changed its beginning, which is why a setting says it."""
        environ = request.environ
        path, query = environ.get("RAW_PATH_INFO") or quote(environ["PATH_INFO"]), environ.get("QUERY_STRING", "")
        base = self.core.settings.public_address
        if not base:
            scheme = request.header("X-Forwarded-Proto").split(",")[0].strip() or environ.get("wsgi.url_scheme", "http")
            host = request.header("X-Forwarded-Host").split(",")[0].strip() or request.header("Host")
            base = f"{scheme}://{host}"
        return f"{base}{path}?{query}" if query else f"{base}{path}"

    @endpoint("POST", "/v1/telephony/twilio/voice", query=schemas.TwilioVoice, status=204, roles=CALLING, takes=(FORM,),
              shapes={FORM: schemas.VoiceCallback}, signature=SIGNED, tag="telephony")  # fmt: skip
    def post_twilio_voice(self, request: Request) -> None:
        """A voice status callback. Where the address names a `queue`, the legs of a <Dial> are rings and talks in it. A recording status
        callback is understood here too, and a conference's: who in it is on hold."""
        queue, agent, received = request.query.get("queue"), request.query.get("agent"), clock.now()

        def interpret(fields: Mapping[str, str]) -> Observation | Ignored:
            if fields.get("StatusCallbackEvent", "").startswith(twilio.OF_CONFERENCES):
                return twilio.interpret_conference(fields, received)
            return twilio.interpret_voice(fields, received, queue, agent)

        self._take_form(request, "twilio-voice", interpret, partial(twilio.interpret_recording, received=received))

    @endpoint("POST", "/v1/telephony/twilio/recording", query=schemas.Twilio, status=204, roles=CALLING, takes=(FORM,),
              shapes={FORM: RecordingCallback}, signature=SIGNED, tag="telephony")  # fmt: skip
    def post_twilio_recording(self, request: Request) -> None:
        """A recording status callback: the recording belongs to its call's contact, whichever of the two is told first."""
        self._take_form(request, "twilio-recording", partial(twilio.interpret_recording, received=clock.now()))

    @endpoint("POST", "/v1/telephony/twilio/taskrouter", query=schemas.Twilio, status=204, roles=CALLING, takes=(FORM,),
              shapes={FORM: schemas.TaskRouterCallback}, signature=SIGNED, tag="telephony")  # fmt: skip
    def post_twilio_taskrouter(self, request: Request) -> None:
        """A TaskRouter event callback: tasks, reservations and workers' activities."""
        available = activities(self.core.sources.get(request.query["source"]))
        self._take_form(request, "twilio-taskrouter", partial(twilio.interpret_taskrouter, received=clock.now(), available=available))

    @endpoint("POST", "/v1/telephony/twilio/events", query=schemas.Twilio, answer=schemas.Receipt, roles=CALLING, limit=LONGEST_STREAM,
              shapes={"application/json": schemas.STREAM}, signature=SIGNED, tag="telephony")  # fmt: skip
    def post_twilio_events(self, request: Request) -> Response:
        """A post of Event Streams: TaskRouter's events and the voice status callbacks are read, all others passed over."""
        source, received = self.core.sources.get(request.query["source"]), clock.now()
        text = request.raw.decode("utf-8", "backslashreplace")
        try:
            events = twilio.read_stream(request.raw)
        except Malformed as fault:
            return as_receipt(self.take_all([Taken(source.name, "twilio-events", Reading(rejected=[(1, str(fault), text)]))]))
        posts = []
        for number, event in enumerate(events, 1):
            read = partial(twilio.interpret_event, event, received, activities(source))
            posts.append(post(source.name, "twilio-events", number, repr(event), read, partial(twilio.payload, event)))
        return as_receipt(self.take_all(posts))

    def _take_form(self, request: Request, door: str, interpret: Interpret, of_recording: Interpret | None = None) -> None:
        """`of_recording`: what is told of a recording, where the form names one beside its call or alone."""
        fields: dict[str, str] = {}

        def read() -> Observation | Ignored:
            fields.update(read_form(request.raw))
            return interpret(fields)

        text = request.raw.decode("utf-8", "backslashreplace")
        taken = post(request.query["source"], door, 1, text, read, lambda: fields)
        if of_recording and fields.get("RecordingSid"):
            if "CallStatus" not in fields:
                taken = Taken(taken.source, door, Reading())
            taken.reading.read(1, text, partial(of_recording, fields))
        as_receipt(self.core.take(taken))


def activities(source: Source) -> frozenset[str]:
    return source.available_activities or twilio.AVAILABLE


def post(
    source: str, door: str, number: int, text: str, interpret: Callable[[], Observation | Ignored], fields: Callable[[], Mapping[str, Any]]
) -> Taken:
    """One event as a post. A task in writing has its channel told with it, for a contact is a call unless somebody says otherwise."""
    reading = Reading()
    reading.read(number, text, interpret)
    told = reading.observations[0] if reading.observations else None
    if told is None or told.reporter != "taskrouter" or told.kind not in CALL_KINDS:
        return Taken(source, door, reading)
    channel = twilio.channel(fields())
    return Taken(source, door, reading, None if channel == "voice" else Arrival(new_id(), channel[:LONGEST_CHANNEL]))
