"""For whoever wants to know of it at once: events as they happen, and the wallboard's figures."""

from __future__ import annotations

from dataclasses import replace

from services.gateway import handlers, stream
from services.gateway.doors import LISTENING, Doors
from services.gateway.schemas.stream import Stream
from services.gateway.scopes import sees_own_rooms
from services.gateway.stream import Topics
from shared.db.engine import is_outage
from shared.errors import Invalid, NotFound
from shared.http.endpoint import PUBLIC, Principal, Response, endpoint
from shared.http.wsgi import Request, require

LONGEST_POSITION = 18
HEADERS = [("X-Accel-Buffering", "no")]


class StreamDoors(Doors):
    @endpoint(
        "GET", "/v1/stream", query=Stream, answers={401: None, 403: None, 404: None}, public=True, gives="text/event-stream", tag="stream"
    )
    def get_stream(self, request: Request) -> Response:
        """Server-sent events by topic: `live` (the wallboard's figures, at most four times a second), types of event (`routing.offer_made`,
        `routing.*`), `queue:NAME`, `agent:ID`, `contact:ID`, `person:ID` (questions to experts that concern them); several with commas between. It begins now, or after the event that
        `Last-Event-ID` or `after` names; event `gap`: what followed that one is not kept any more."""
        topics = stream.parse(request.query["topics"])
        principal = self._listener(request, topics)
        topics = self._in_sight(principal, topics)
        after = _position(request)
        if request.environ.get("REQUEST_METHOD") == "HEAD":
            return Response(b"", content_type="text/event-stream; charset=utf-8", headers=HEADERS)
        self.core.stream.require_room()
        after, held = (None, None) if after is None or not topics.events else self.core.stream.place(after)

        def still() -> bool:
            try:
                return principal is PUBLIC or self.authenticate(request.environ) == principal
            except Exception as error:
                if not is_outage(error):
                    raise
                return True

        frames = self.core.stream.listen(request, principal, topics, after, held, still)
        return Response(frames, content_type="text/event-stream; charset=utf-8", headers=HEADERS)

    def _listener(self, request: Request, topics: Topics) -> Principal:
        """Who listens. Raises Unauthenticated or Forbidden."""
        watcher = self.require_watcher(request) if topics.live else PUBLIC
        return require(self.authenticate(request.environ), LISTENING) if topics.events else watcher

    def _in_sight(self, principal: Principal, topics: Topics) -> Topics:
        """The topics, contacts by their ids. Raises NotFound for what this one does not see, or nobody knows."""
        for queue in topics.queues:
            if not self.core.scopes.sees(principal, queue=queue):
                raise NotFound(f"no queue is called {queue}")
        for agent in topics.agents:
            if not self.core.scopes.sees(principal, agent=agent):
                raise NotFound(f"no agent is called {agent}")
        if sees_own_rooms(principal) and topics.people - {principal.person}:
            raise NotFound("of people you can listen for yourself alone")
        return replace(topics, contacts=frozenset(handlers.find_contact(self.core.units, contact) for contact in topics.contacts))


def _position(request: Request) -> int | None:
    """After which event to begin. A browser that reconnects says it in the header, and the query still holds what it began with."""
    text = request.header("Last-Event-ID") or request.query["after"]
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= LONGEST_POSITION):
        raise Invalid("Last-Event-ID is the id of an event of this stream, a whole number")
    return int(text)
