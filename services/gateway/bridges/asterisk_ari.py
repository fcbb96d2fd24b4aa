"""Asterisk's REST interface, followed: the events of its websocket, and after each connection which channels there are.

ARI repeats nothing after a break either: the snapshot tells what ended meanwhile, queue_log (`queue-log-tail`) the exact figures.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import threading
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any
from urllib.parse import urlencode, urlsplit

import click
import structlog

from services.gateway.bridges.asterisk_ami import SNAPSHOT_SECONDS
from services.gateway.bridges.kernel import Pauses, Poster, Where, posting, secret_of, until_stopped
from services.gateway.bridges.silence import Command, obey_beside, pause_requests
from services.gateway.bridges.websocket import Closed, Refused, WebSocket
from services.gateway.domain import ari
from services.gateway.domain.observation import Malformed, Observation
from shared import clock

log = structlog.get_logger()

DOOR = "/v1/telephony/asterisk/ari"
ANSWER_SECONDS = 10.0
READ_SECONDS = 0.5
QUIET_SECONDS = 15.0
LARGEST_ANSWER = 64 * 1024 * 1024


@dataclass(frozen=True)
class Rest:
    """Where ARI listens (http or https), and as whom to ask. `application`: the name under which its events come."""

    url: str
    user: str
    secret: str = field(repr=False)
    application: str = "answerline"
    everything: bool = True
    """whether the events of all channels are asked for, or of the application's own alone"""

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": "Basic " + base64.b64encode(f"{self.user}:{self.secret}".encode()).decode()}

    def address(self) -> tuple[str, int, str, ssl.SSLContext | None]:
        """(host, port, prefix of paths, TLS). Raises ValueError where the address is none."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{self.url!r} is no address such as http://127.0.0.1:8088")
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        return parts.hostname, parts.port or (8089 if tls else 8088), parts.path.rstrip("/"), tls

    def listen(self) -> WebSocket:
        """The websocket of events. Raises OSError, Refused, Closed."""
        host, port, prefix, tls = self.address()
        connection: socket.socket = socket.create_connection((host, port), ANSWER_SECONDS)
        try:
            if tls:
                connection = tls.wrap_socket(connection, server_hostname=host)
            query = urlencode({"app": self.application, "subscribeAll": str(self.everything).lower()})
            events = WebSocket(connection, f"{host}:{port}", f"{prefix}/ari/events?{query}", self.headers)
        except BaseException:
            connection.close()
            raise
        connection.settimeout(READ_SECONDS)
        return events

    def connection(self, timeout: float = ANSWER_SECONDS) -> http.client.HTTPConnection:
        host, port, _, tls = self.address()
        if tls:
            return http.client.HTTPSConnection(host, port, timeout=timeout, context=tls)
        return http.client.HTTPConnection(host, port, timeout=timeout)

    def path(self, path: str) -> str:
        return f"{self.address()[2]}/ari{path}"

    def ask(self, path: str, method: str = "GET") -> tuple[Any, float]:
        """What a request answers, and when by the PBX's clock. Raises OSError, http.client.HTTPException, Refused, ValueError."""
        connection = self.connection()
        asked_at = clock.now()
        try:
            connection.request(method, self.path(path), headers=self.headers)
            response = connection.getresponse()
            body = response.read(LARGEST_ANSWER)
        finally:
            connection.close()
        if response.status not in (200, 204):
            raise Refused(response.status)
        dated = response.headers.get("Date")
        return json.loads(body or b"null"), parsedate_to_datetime(dated).timestamp() if dated else asked_at


class Bridge:
    """From connections to the poster. `follow` works through one websocket, `run` through one after the other."""

    def __init__(
        self, rest: Rest, poster: Poster, snapshot_seconds: float = SNAPSHOT_SECONDS, quiet_seconds: float = QUIET_SECONDS
    ) -> None:
        self.rest, self.poster = rest, poster
        self.snapshot_seconds, self.quiet_seconds = snapshot_seconds, quiet_seconds
        self._lost = False

    def run(self, stopped: threading.Event, pauses: Pauses) -> None:
        while not stopped.is_set():
            try:
                events = self.rest.listen()
                try:
                    log.info("following ARI", application=self.rest.application)
                    self.follow(events, stopped, pauses)
                finally:
                    events.close()
            except Refused as error:
                log.error("ARI refused", status=error.status)
                stopped.wait(pauses.longest)
            except (Closed, ValueError, OSError, http.client.HTTPException) as error:
                log.warning("not connected; tried again", why=type(error).__name__)
                stopped.wait(pauses.next())

    def follow(self, events: WebSocket, stopped: threading.Event, pauses: Pauses) -> None:
        self.ask()
        pauses.reset()
        asked_at = clock.monotonic()
        for text in events.messages(stopped, self.quiet_seconds, self.ask):
            if text is not None:
                self.take(text)
            if clock.monotonic() - asked_at > self.snapshot_seconds:
                self.ask()
                asked_at = clock.monotonic()

    def ask(self) -> None:
        """For what there is now; of each channel the id alone is passed on."""
        info, _ = self.rest.ask("/asterisk/info?only=status")
        channels, at = self.rest.ask("/channels")
        status = info.get("status") if isinstance(info, dict) else None
        self._put({"recv": at, "info": {"status": status}})
        self._put({"recv": at, "channels": [{"id": channel["id"]} for channel in channels]})

    def take(self, text: str) -> None:
        """Keep an event that tells something. One that cannot be read goes too: the gateway keeps it, with the reason."""
        try:
            event = json.loads(text)
            if not isinstance(ari.interpret(event), Observation):
                return
        except Malformed:
            pass
        except (ValueError, RecursionError):
            log.warning("an event is no JSON", characters=len(text))
            return
        if self._put({"recv": round(clock.now(), 6), "ari": event}) and self._lost:  # there is room again
            self._lost = False
            self.ask()

    def _put(self, message: dict[str, Any]) -> bool:
        kept = self.poster.put(json.dumps(message, ensure_ascii=False).encode() + b"\n")
        self._lost = self._lost or not kept
        return kept


def silence(rest: Rest, command: Command) -> str:
    """Pause or resume recordings that ARI began; why it could not. Raises OSError, http.client.HTTPException."""
    requests = pause_requests(command)
    if not requests or len(requests) < len(command["recordings"]):
        return "a recording is none that ARI began: run `answerline bridge asterisk-ami` too"
    for method, path in requests:
        try:
            rest.ask(path, method)
        except Refused as error:
            return f"ARI answered {error.status}"
    return ""


@click.command("asterisk-ari")
@posting
@click.option("--url", default="http://127.0.0.1:8088", show_default=True, help="Where ARI listens.")
@click.option("--user", default="answerline", show_default=True, help="Of ari.conf. Its password stands in ANSWERLINE_ARI_SECRET(_FILE).")
@click.option("--app", default="answerline", show_default=True, help="The application's name; no dialplan needs to know it.")
@click.option("--snapshot", default=SNAPSHOT_SECONDS, show_default=True, type=click.FloatRange(10), help="Seconds between two snapshots.")
def follow(where: Where, url: str, user: str, app: str, snapshot: float) -> None:
    """Follow the events of Asterisk's REST interface."""
    rest = Rest(url, user, secret_of("ANSWERLINE_ARI_SECRET"), app)
    try:
        rest.address()
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--url") from error
    poster = where.poster(DOOR)
    poster.start()
    stopped = until_stopped()
    obey_beside(where, partial(silence, rest), stopped)
    try:
        Bridge(rest, poster, snapshot).run(stopped, Pauses())
    finally:
        poster.close()
