"""Recordings: which there are, who may hear them, the pause for card numbers, and what telephony systems are to do about it."""

from __future__ import annotations

from math import ceil
from typing import Any

from services.gateway import handlers, media, recordings
from services.gateway.domain.observation import Observation
from services.gateway.domain.recordings import FORMATS, format_of, is_address
from services.gateway.doors import CALLING, STAFF, Doors
from services.gateway.handlers import Reading, Taken
from services.gateway.schemas import recordings as schemas
from shared import clock
from shared.errors import Conflict, Forbidden, Gone, NotFound, Unavailable
from shared.http.endpoint import Response, endpoint
from shared.http.wsgi import Request
from shared.runtime import outbound
from shared.runtime.waiting import poll

HEARING = ("evaluator", "supervisor")
LOOKING = ("agent", *HEARING)
SOUNDS = tuple(sorted(set(FORMATS.values()) - {"audio/wav"}))
ASK_AGAIN_SECONDS = 0.1
COMMAND_AGAIN_SECONDS = 0.3, 0.6
"""Another process may have been asked for the pause, and the customer is about to speak."""


class RecordingDoors(Doors):
    @endpoint("GET", "/v1/contacts/{id}/recordings", answer=schemas.Recordings, roles=LOOKING, tag="recordings")
    def get_recordings(self, request: Request) -> dict[str, Any]:
        """The recordings of a contact, and the pauses that were asked for, with how long each has lasted."""
        return recordings.listing(self.core.units, self.contact_of(request), self.core.sources.get)

    @endpoint("PUT", "/v1/contacts/{id}/recording/consent", body=schemas.Consent, answer=schemas.ConsentAnswer, status=202, roles=LOOKING,
              tag="recordings")  # fmt: skip
    def put_consent(self, request: Request) -> dict[str, Any]:
        """Whether the customer agrees to the recordings of this contact. What was said last counts; where it was refused, nobody hears them."""
        contact, consent, at = self.contact_of(request), request.body["consent"], clock.now()
        source, call = handlers.call_of(self.core.units, contact)
        told = Observation("api", "consent", f"api|consent|{contact}|{consent}|{at!r}", at, call=call, reason=consent)
        self.core.take(Taken(source, "recordings", Reading([told])))
        return {"contact": contact, "consent": consent}

    # The pause for card numbers

    @endpoint("POST", "/v1/contacts/{id}/recording/pause", query=schemas.PauseWait, answer=schemas.PauseAnswer, roles=STAFF, takes=(),
              tag="recordings")  # fmt: skip
    def post_recording_pause(self, request: Request) -> dict[str, Any]:
        """Silence in the recordings, as for a card's number. Before it is spoken: the answer must say `confirmed`. It lasts until `resume`
        or the end of the contact, and never ends by itself."""
        contact = self.contact_of(request)
        id = recordings.pause(self.core.units, contact, request.principal.name)
        return self._confirmed(contact, id, request.query["wait"])

    @endpoint("POST", "/v1/contacts/{id}/recording/resume", query=schemas.PauseWait, answer=schemas.PauseAnswer, roles=STAFF, takes=(),
              tag="recordings")  # fmt: skip
    def post_recording_resume(self, request: Request) -> dict[str, Any]:
        """Record again; 409 where nothing is paused."""
        contact = self.contact_of(request)
        id = recordings.resume(self.core.units, contact, request.principal.name)
        return self._confirmed(contact, id, request.query["wait"])

    def _confirmed(self, contact: str, id: str, wait: float) -> dict[str, Any]:
        """What became of it within so many seconds."""
        source, _ = handlers.call_of(self.core.units, contact)
        with self.core.board.listening(id) as line:
            self.core.board.ring(_subject(source))
            for _ in range(ceil(wait / ASK_AGAIN_SECONDS)):
                answer = recordings.pause_shown(self.core.units, contact, id)
                if answer["confirmed"] or answer["trouble"]:
                    return answer
                line.wait(ASK_AGAIN_SECONDS)
        return recordings.pause_shown(self.core.units, contact, id)

    @endpoint("GET", "/v1/telephony/recording-commands", query=schemas.AwaitCommands, answer=schemas.Commands, roles=CALLING,
              tag="recordings")  # fmt: skip
    def get_recording_commands(self, request: Request) -> dict[str, Any]:
        """What a telephony system is to do with its recordings, as long as it has not said that it does so; waits up to `wait` seconds
        for the first. For bridges and controllers."""
        source = request.query["source"]

        def ask() -> list[dict[str, Any]]:
            return recordings.commands(self.core.units, source)

        return {"commands": poll(self.core.board, request, _subject(source), ask, bool, lambda: None, ask_again=COMMAND_AGAIN_SECONDS)}

    @endpoint("POST", "/v1/telephony/recording-commands/{id}", body=schemas.CommandDone, status=204, roles=CALLING, tag="recordings")
    def post_recording_command(self, request: Request) -> None:
        """The telephony system does it, or why it does not."""
        id, told = request.parameters["id"], request.body
        recordings.confirm(self.core.units, id, told["action"], told["done"], told["trouble"])
        self.core.board.ring(id)

    # Hearing

    @endpoint("GET", "/v1/recordings/{id}/media", roles=HEARING, gives="audio/wav", gives_also=SOUNDS, answers={206: None, 410: None, 416: None},
              tag="recordings")  # fmt: skip
    def get_media(self, request: Request) -> Response:
        """The sound, whole or the part that Range asks for. Who asks is written down before the first byte is given. 403 where the customer
        refused, 409 while it is being recorded, 410 when it is older than its source keeps recordings."""
        row, ending = self._audible(request)
        source, wanted = self.core.sources.get(row["source"]), request.header("Range")
        sound = self._sound(source, row["location"], wanted)
        try:
            if request.environ["REQUEST_METHOD"] != "HEAD":
                recordings.note_access(self.core.units, row["id"], request.principal, sound.first, sound.last, sound.size)
        except BaseException:
            media.close(sound.pieces)
            raise
        headers = [("Content-Length", str(sound.length)), ("Accept-Ranges", "bytes"), ("Content-Disposition", "inline")]
        if sound.is_part:
            headers.append(("Content-Range", f"bytes {sound.first}-{sound.last}/{sound.size}"))
        body: Any = sound.pieces
        if request.environ["REQUEST_METHOD"] == "HEAD":
            media.close(sound.pieces)
            body = ()
        return Response(body, 206 if sound.is_part else 200, FORMATS[ending], headers)

    def _sound(self, source: Any, location: str, wanted: str) -> media.Sound:
        if not is_address(location):
            return media.from_file(source, location, wanted)
        token = self.core.sources.secret(source.name, "twilio_auth_token")
        try:
            return media.from_twilio(source, token, location, wanted, outbound.flow, self.core.settings.webhook_allowance)
        except outbound.Unreachable as error:
            raise Unavailable(f"the recording cannot be fetched: {error}") from error

    def _audible(self, request: Request) -> tuple[dict[str, Any], str]:
        """The recording's row and format. Raises what keeps it from being heard."""
        row = self._recording_of(request)
        source, ending = self.core.sources.get(row["source"]), format_of(row["location"])
        if row["consent"] == "refused":
            raise Forbidden("the customer refused to be recorded: nobody hears this")
        if row["consent"] == "unknown" and source.recordings_need_consent:
            raise Forbidden("nobody has said that the customer agreed to be recorded, which recordings of this source need")
        match recordings.state_of(row, source):
            case "expired":
                raise Gone(f"recordings of {source.name} are given out for {source.recordings_days} days, and this one is older")
            case "recording":
                raise Conflict("it is still being recorded")
            case "failed":
                raise NotFound("the recording came to nothing")
        if not ending:
            raise NotFound("this is no format that is given out")
        return row, ending

    @endpoint("GET", "/v1/recordings/{id}/accesses", query=schemas.AccessPage, answer=schemas.Accesses, roles=HEARING, tag="recordings")
    def get_accesses(self, request: Request) -> dict[str, Any]:
        """Who was given which bytes of it and when, the latest first."""
        id = self._recording_of(request)["id"]
        return recordings.accesses(self.core.units, id, request.query["cursor"], request.query["limit"])

    def _recording_of(self, request: Request) -> dict[str, Any]:
        """The row of the recording that the path names. Raises NotFound."""
        return recordings.find(self.core.units, request.parameters["id"])


def _subject(source: str) -> str:
    return f"recordings of {source}"
