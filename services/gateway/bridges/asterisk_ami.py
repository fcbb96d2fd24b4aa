"""Asterisk's manager interface, followed: events as they come, and after each login what there is now.

AMI repeats nothing after a break. What ended meanwhile is found by the snapshot that is asked for at each login and every few minutes
(CoreShowChannels, QueueStatus); the exact figures come from queue_log, which `queue-log-tail` carries beside this.
Messages without a Timestamp are dated by the PBX's clock, which a Ping tells.
"""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any

import click
import structlog

from services.gateway.bridges.kernel import Pauses, Poster, Where, posting, secret_of, until_stopped
from services.gateway.bridges.silence import Command, channels_of, obey_beside, pause_commands
from services.gateway.domain import ami
from services.gateway.domain.observation import Malformed
from shared import clock

log = structlog.get_logger()

DOOR = "/v1/telephony/asterisk/ami"
EVENTS = "system,call,agent,dialplan"
"""Classes of events asked for: FullyBooted, Hangup and transfers, queues and members, QUEUESTATUS."""
ANSWER_SECONDS = 10.0
QUIET_SECONDS = 15.0
READ_SECONDS = 0.5
SNAPSHOT_SECONDS = 300.0
CHUNK = 65536
LISTS = {"CoreShowChannels": "CoreShowChannelsComplete", "QueueStatus": "QueueStatusComplete"}
"""Action -> the event that ends its list."""


class Broken(Exception):
    """The connection is of no more use."""


class Denied(Broken):
    """The user or the secret is wrong, or lacks a permission."""


@dataclass(frozen=True)
class Manager:
    """Where the manager interface listens, and as whom to log in."""

    host: str
    port: int
    user: str
    secret: str = field(repr=False)
    plain: bool = False
    tls: ssl.SSLContext | None = None

    def connect(self) -> socket.socket:
        connection = socket.create_connection((self.host, self.port), ANSWER_SECONDS)
        return self.tls.wrap_socket(connection, server_hostname=self.host) if self.tls else connection


class Session:
    """One login. Reading never waits longer than `READ_SECONDS`; Broken and OSError say that a new session is needed.
    One thread reads; any may send."""

    def __init__(
        self, manager: Manager, now: Callable[[], float] = clock.now, events: str = EVENTS, read: Container[str] = ami.READ
    ) -> None:
        """`events`: the classes asked for; `read`: those that are read whole."""
        self.now, self.events, self.read_whole = now, events, read
        self.ahead = 0.0
        """how far the PBX's clock is before ours, in seconds"""
        self._rest = b""
        self._actions = 0
        self._sending = threading.Lock()
        self._early: list[ami.Message] = []
        self._connection = manager.connect()
        try:
            self._connection.settimeout(READ_SECONDS)
            self._log_in(manager)
            self._heed(self._answer(self.send("Ping")))
        except BaseException:
            self._connection.close()
            raise

    def _log_in(self, manager: Manager) -> None:
        proof = {"Secret": manager.secret}
        if not manager.plain:
            given = self._answer(self.send("Challenge", AuthType="MD5")).get("Challenge", "")
            key = hashlib.md5((given + manager.secret).encode(), usedforsecurity=False).hexdigest()  # as the protocol has it
            proof = {"AuthType": "MD5", "Key": key}
        self._answer(self.send("Login", Username=manager.user, Events=self.events, **proof))

    def send(self, action: str, **headers: str) -> str:
        """Returns the ActionID by which the answer is known."""
        with self._sending:
            self._actions += 1
            headers.setdefault("ActionID", f"answerline-{self._actions}")
            if any("\r" in value or "\n" in value for value in headers.values()):
                raise Denied("a line break in the user's name or secret")
            lines = [f"Action: {action}", *(f"{header}: {value}" for header, value in headers.items())]
            self._connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            return headers["ActionID"]

    def _answer(self, action: str) -> ami.Message:
        give_up_at = clock.monotonic() + ANSWER_SECONDS
        while clock.monotonic() < give_up_at:
            for message in (messages := self._read()):
                if message.get("ActionID") == action and "Response" in message:
                    self._early += [other for other in messages if other is not message]
                    if message["Response"] != "Success":
                        raise Denied(message.get("Message", "refused"))
                    return message
            self._early += messages
        raise Broken("no answer: is this a manager interface?")

    def refusal(self, action: str, **headers: str) -> str:
        """Why the PBX does not do it; empty where it does. Raises Broken and OSError."""
        try:
            self._answer(self.send(action, **headers))
        except Denied as error:
            return str(error)
        return ""

    def read(self) -> list[ami.Message]:
        """The messages that came since; none after `READ_SECONDS` of silence."""
        early, self._early = self._early, []
        messages = early or self._read()
        for message in messages:
            self._heed(message)
        return messages

    def messages(self, stopped: threading.Event, quiet_seconds: float) -> Iterator[list[ami.Message]]:
        """The messages as they come, until `stopped`; none now and then, where none come. Raises Broken where even a Ping is not answered."""
        heard_at, pinged = clock.monotonic(), False
        while not stopped.is_set():
            messages = self.read()
            now = clock.monotonic()
            if messages:
                heard_at, pinged = now, False
            elif now - heard_at > 2 * quiet_seconds:
                raise Broken("nothing was heard for too long")
            elif now - heard_at > quiet_seconds and not pinged:
                self.send("Ping")
                pinged = True
            yield messages

    def _heed(self, message: ami.Message) -> None:
        if message.get("Ping") == "Pong" and (told := message.get("Timestamp")):
            with suppress(ValueError):
                self.ahead = float(told) - self.now()

    def _read(self) -> list[ami.Message]:
        try:
            some = self._connection.recv(CHUNK)
        except TimeoutError:
            return []
        if not some:
            raise Broken("the connection was closed")
        messages, self._rest = ami.split(self._rest + some, self.read_whole)
        return list(messages)

    def close(self) -> None:
        with suppress(OSError):
            self.send("Logoff")
        self._connection.close()


def in_sessions(manager: Manager, work: Callable[[Session], None], stopped: threading.Event, pauses: Pauses, **options: Any) -> None:
    """Give `work` a session, with these options, and a new one whenever that is broken, until `stopped`."""
    while not stopped.is_set():
        try:
            session = Session(manager, **options)
            pauses.reset()
            try:
                work(session)
            finally:
                session.close()
        except Denied as error:
            log.error("the manager interface refused", why=str(error))
            stopped.wait(pauses.longest)
        except (Broken, Malformed, OSError) as error:
            log.warning("not connected; tried again", why=str(error) if isinstance(error, Broken) else type(error).__name__)
            stopped.wait(pauses.next())


class Bridge:
    """From sessions to the poster. `follow` works through one session, `run` through one after the other."""

    def __init__(
        self, manager: Manager, poster: Poster, snapshot_seconds: float = SNAPSHOT_SECONDS, quiet_seconds: float = QUIET_SECONDS
    ) -> None:
        self.manager, self.poster = manager, poster
        self.snapshot_seconds, self.quiet_seconds = snapshot_seconds, quiet_seconds
        self._lists: dict[str, tuple[str, list[bytes]]] = {}
        """by ActionID: the event that ends the list, and its lines so far"""
        self._lost = False

    def run(self, stopped: threading.Event, pauses: Pauses) -> None:
        in_sessions(self.manager, lambda session: self.follow(session, stopped), stopped, pauses)

    def follow(self, session: Session, stopped: threading.Event) -> None:
        log.info("following the manager interface", host=self.manager.host, clock_ahead=round(session.ahead, 1))
        self.ask(session)
        asked_at = clock.monotonic()
        for messages in session.messages(stopped, self.quiet_seconds):
            self.take(messages, session)
            if clock.monotonic() - asked_at > self.snapshot_seconds:
                self.ask(session)
                asked_at = clock.monotonic()

    def ask(self, session: Session) -> None:
        """For what there is now. A list that a break cut off is forgotten."""
        session.send("Ping")
        self._lists = {session.send(action): (last, []) for action, last in LISTS.items()}

    def take(self, messages: list[ami.Message], session: Session) -> None:
        """Keep what matters. A list is kept whole or not at all: half of one would tell of ends that never were."""
        at = session.now() + session.ahead
        kept = b"".join(self._matter(messages, at))
        if kept and not self.poster.put(kept):
            self._lost = True
        elif kept and self._lost:  # there is room again: what was lost meanwhile is found by a snapshot
            self._lost = False
            self.ask(session)

    def _matter(self, messages: list[ami.Message], at: float) -> Iterator[bytes]:
        for message in messages:
            last, lines = self._lists.get(message.get("ActionID", ""), ("", None))
            if "Response" in message and lines is not None and message["Response"] != "Success":
                log.error("the manager interface does not tell what there is now", why=message.get("Message", ""))
            if message.get("Event") in ami.READ and len(message) > 1:
                line = _line(message, at)
                if lines is None:
                    yield line
                else:
                    lines.append(line)
            if lines is not None and message.get("Event") == last:
                del self._lists[message["ActionID"]]
                yield b"".join(lines)


def silence(manager: Manager, command: Command) -> str:
    """Pause or resume recordings over a login of its own; why that is not certain. Raises Broken and OSError.

    Success means that the channel has a MixMonitor and one was silenced; of two on a channel older Asterisks silence one alone. So what
    is not known to be the channel's only one is silenced as far as may be, and not confirmed."""
    session = Session(manager, events="off")
    try:
        refusals = [why for action, headers in pause_commands(command) if (why := session.refusal(action, **headers))]
    finally:
        session.close()
    if not command["recordings"]:
        return "no recording of the call is known: Asterisk told of none (MIXMONITOR_FILENAME)"
    if len(channels_of(command)) < len(command["recordings"]):
        return "a channel has several recordings at once: it is not certain that Asterisk silences all of them"
    return refusals[0] if refusals else ""


def _line(message: Mapping[str, str], at: float) -> bytes:
    return json.dumps({"recv": round(at, 6), "ami": message}, ensure_ascii=False).encode() + b"\n"


LOGIN = (
    click.option("--host", default="127.0.0.1", show_default=True, help="Where the manager interface listens."),
    click.option("--port", default=5038, show_default=True, type=click.IntRange(1, 65535)),
    click.option(
        "--user", default="answerline", show_default=True, help="Of manager.conf. Its secret stands in ANSWERLINE_AMI_SECRET(_FILE)."
    ),
    click.option("--plain", is_flag=True, help="Send the secret itself: for a manager interface without MD5 challenge."),
    click.option("--tls", is_flag=True, help="The port speaks TLS (usually 5039)."),
)


def logging_in(command: Callable[..., None]) -> Callable[..., None]:
    """The options of a bridge to the manager interface, given to the command as one `manager`."""

    @wraps(command)
    def run(host: str, port: int, user: str, plain: bool, tls: bool, **others: Any) -> None:
        context = ssl.create_default_context() if tls else None
        command(manager=Manager(host, port, user, secret_of("ANSWERLINE_AMI_SECRET"), plain, context), **others)

    for option in reversed(LOGIN):
        run = option(run)
    return run


@click.command("asterisk-ami")
@posting
@logging_in
@click.option("--snapshot", default=SNAPSHOT_SECONDS, show_default=True, type=click.FloatRange(10), help="Seconds between two snapshots.")
def follow(where: Where, manager: Manager, snapshot: float) -> None:
    """Follow Asterisk's manager interface."""
    poster = where.poster(DOOR)
    poster.start()
    stopped = until_stopped()
    obey_beside(where, partial(silence, manager), stopped)
    try:
        Bridge(manager, poster, snapshot).run(stopped, Pauses())
    finally:
        poster.close()
