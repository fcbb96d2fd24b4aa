"""FreeSWITCH's event socket, followed; and records that it could not post, brought in from its disk."""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import Any
from urllib.parse import urlencode

import click
import structlog

from services.gateway.bridges.kernel import Answer, Client, Pauses, Poster, Posts, Where, posting, reaching, secret_in, until_stopped
from services.gateway.bridges.silence import Command, obey_beside, pause_lines
from services.gateway.domain import freeswitch
from services.gateway.domain.freeswitch import Frame
from services.gateway.domain.observation import Malformed
from shared import clock

log = structlog.get_logger()

EVENTS = "/v1/telephony/freeswitch/callcenter"
RECORDS = "/v1/telephony/freeswitch/cdr"
SUBSCRIBE = "event plain HEARTBEAT SHUTDOWN RECORD_START RECORD_STOP CHANNEL_HOLD CHANNEL_UNHOLD CUSTOM callcenter::info"
"""CUSTOM comes last: all that follows it are names of its kinds."""
CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 65.0
"""A heartbeat comes every twenty seconds; after three without one nobody is there."""
CHUNK = 65536
SETTLED_SECONDS = 5.0
"""A file changed more recently than that may still be written."""
PATTERNS = ("*.cdr.json", "*.cdr.xml")
DELIVERED = "delivered"


class Broken(Exception):
    """The event socket is gone, or says what it should not; a new connection may do better."""


class Denied(Broken):
    """FreeSWITCH does not let us in; the operator can mend that."""


# ---- one connection


class EventSocket:
    """One connection to mod_event_socket. Events that come while an answer is awaited are kept for `events`."""

    def __init__(self, connection: socket.socket, silence: float = SILENCE_SECONDS) -> None:
        self.connection = connection
        self.connection.settimeout(silence)
        self._rest = b""
        self._frames: deque[Frame] = deque()
        self._events: deque[Frame] = deque()

    def authenticate(self, password: str) -> None:
        """Raises Denied where the password or the address is refused."""
        if self._next().kind != "auth/request":
            raise Broken("no auth/request: is this the port of mod_event_socket?")
        if not self.command(f"auth {password}").startswith("+OK"):
            raise Denied("the password is wrong (event_socket.conf.xml, `password`)")

    def command(self, line: str) -> str:
        """Reply-Text of a command."""
        return self._answer(line, "command/reply").headers.get("Reply-Text", "")

    def api(self, line: str) -> str:
        """What an API command prints."""
        return self._answer(f"api {line}", "api/response").body.decode("utf-8", "replace")

    def events(self) -> Iterator[Mapping[str, str]]:
        """Events as they come, for ever. Raises Broken at the end of the connection."""
        while True:
            frame = self._events.popleft() if self._events else self._next()
            if frame.kind == "text/event-plain":
                yield freeswitch.event(frame.body)

    def close(self) -> None:
        with suppress(OSError):
            self.connection.close()

    @property
    def idle(self) -> bool:
        """Whether nothing is at hand that has been read already."""
        return not self._events and not self._frames

    def _answer(self, line: str, kind: str) -> Frame:
        if "\n" in line or "\r" in line:
            raise ValueError("a command is one line")
        try:
            self.connection.sendall(line.encode() + b"\n\n")
        except OSError as error:
            raise Broken(type(error).__name__) from error
        while True:
            frame = self._next()
            if frame.kind == kind:
                return frame
            self._events.append(frame)

    def _next(self) -> Frame:
        while not self._frames:
            try:
                some = self.connection.recv(CHUNK)
            except TimeoutError as error:
                raise Broken("nothing was heard, not even a heartbeat") from error
            except OSError as error:
                raise Broken(type(error).__name__) from error
            if not some:
                raise Broken("the connection was closed")
            try:
                found, self._rest = freeswitch.frames(self._rest + some)
            except Malformed as fault:
                raise Broken(str(fault)) from fault
            self._frames.extend(found)
        frame = self._frames.popleft()
        if frame.kind == "text/disconnect-notice":
            raise Broken("FreeSWITCH ended the connection")
        if frame.kind == "text/rude-rejection":
            raise Denied("FreeSWITCH refuses this address (event_socket.conf.xml, `apply-inbound-acl`)")
        return frame


# ---- what is there now


def snapshot(fs: EventSocket) -> list[dict[str, Any]]:
    """What FreeSWITCH has at this moment, as lines for the gateway: the core, all channels, agents, and callers in queues.

    The moment is FreeSWITCH's own, and before all else is asked: what changes meanwhile is told by events.
    """
    at = _at(fs.api("strepoch"))
    lines: list[dict[str, Any]] = []
    core, uptime = fs.api("global_getvar core_uuid").strip(), fs.api("uptime s").strip()
    if core and not core.startswith("-") and uptime.isdigit():
        lines.append({"snapshot": "core", "at": at, "row": {"core_uuid": core, "uptime": uptime}})
    agents = table(fs.api("callcenter_config agent list"), free="contact")
    lines += [{"snapshot": "agent", "at": at, "row": row} for row in agents]
    channel_of = {row.get("name", ""): row.get("uuid", "") for row in agents}
    for queue in table(fs.api("callcenter_config queue list")):
        for row in table(fs.api(f"callcenter_config queue list members {queue.get('name', '')}"), free="cid_name"):
            row["agent_uuid"] = channel_of.get(row.get("serving_agent", ""), "")
            lines.append({"snapshot": "member", "at": at, "row": row})
    calls = _channels(fs.api("show channels as json"))
    if calls is not None:
        lines.append({"snapshot": "channels", "at": at, "calls": calls})
    return lines


def _at(answer: str) -> float:
    text = answer.strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 12 else clock.now()


def table(text: str, free: str = "") -> list[dict[str, str]]:
    """Rows of what callcenter_config lists: a line of names, then a line for each row, and +OK.

    Nothing is escaped: where a row has too many fields, the column `free` (a dial string, a caller's name) holds the separator.
    """
    lines = [line for line in text.splitlines() if line and not line.startswith(("+OK", "-ERR"))]
    if not lines:
        return []
    names = lines[0].split("|")
    return [row for line in lines[1:] if (row := _row(names, line.split("|"), free)) is not None]


def _row(names: Sequence[str], values: list[str], free: str) -> dict[str, str] | None:
    more = len(values) - len(names)
    if more > 0 and free in names:
        at = names.index(free)
        values = [*values[:at], "|".join(values[at : at + more + 1]), *values[at + more + 1 :]]
    return dict(zip(names, values, strict=True)) if len(values) == len(names) else None


def _channels(text: str) -> list[str] | None:
    """The uuids of all channels; None where the list is not certainly whole."""
    try:
        read = json.loads(text)
        rows = read.get("rows", [])
        calls = [row["uuid"] for row in rows]
        return calls if read["row_count"] == len(calls) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


# ---- following it


@dataclass
class Follower:
    """Carries events into the poster, over as many connections as it takes. After each connecting it takes a snapshot, which repairs
    what the break hid; facts told by both have the same key at the gateway."""

    connect: Callable[[], socket.socket]
    password: str
    poster: Poster
    stopped: Flag
    pauses: Pauses = field(default_factory=Pauses)
    silence: float = SILENCE_SECONDS

    def run(self) -> None:
        """Until `stopped`."""
        while not self.stopped.is_set():
            try:
                self._follow()
            except (Broken, OSError) as error:
                if self.stopped.is_set():
                    return
                pause = self.pauses.next()
                level = log.error if isinstance(error, Denied) else log.warning
                reason = str(error) if isinstance(error, Broken) else type(error).__name__
                level("not connected to FreeSWITCH; tried again", reason=reason, seconds=round(pause, 1))
                self.stopped.wait(pause)

    def _follow(self) -> None:
        fs = EventSocket(self.connect(), self.silence)
        self._connection = fs
        try:
            fs.authenticate(self.password)
            if not fs.command(SUBSCRIBE).startswith("+OK"):
                raise Broken("the subscription was refused")
            lines = snapshot(fs)
            if not all(map(self._put, lines)):
                raise Broken("the spool is full")
            self.pauses.reset()
            log.info("following FreeSWITCH", snapshot=len(lines))
            for event in fs.events():
                if event.get("Event-Name") != "HEARTBEAT" and not self._put(event):
                    raise Broken("the spool is full")  # the next connection's snapshot repairs the gap
                if self.stopped.is_set():
                    return
        finally:
            fs.close()

    def _put(self, line: Mapping[str, Any]) -> bool:
        return self.poster.put(json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n")

    def stop(self) -> None:
        """From another thread: end the connection at once."""
        self.stopped.set()
        if connection := getattr(self, "_connection", None):
            with suppress(OSError):
                connection.connection.shutdown(socket.SHUT_RDWR)


def silence(connect: Callable[[], socket.socket], password: str, command: Command) -> str:
    """Pause or resume recordings over a connection of its own; why it could not. Raises Broken and OSError."""
    lines = pause_lines(command)
    if not lines:
        return "no recording of the call is known: FreeSWITCH told of none (RECORD_START)"
    fs = EventSocket(connect(), CONNECT_SECONDS)
    try:
        fs.authenticate(password)
        refusals = [answer for line in lines if not (answer := fs.api(line).strip()).startswith("+OK")]
    finally:
        fs.close()
    return refusals[0][:200] if refusals else ""


@click.command()
@posting
@click.option("--host", default="127.0.0.1", show_default=True, help="Where mod_event_socket listens.")
@click.option("--port", default=8021, show_default=True, type=click.IntRange(1, 65535))
@click.option("--password", envvar="FREESWITCH_PASSWORD", default="", help="Rather in FREESWITCH_PASSWORD.")
@click.option("--password-file", envvar="FREESWITCH_PASSWORD_FILE", type=click.Path(path_type=Path), help="Or the file that holds it.")
def follow(where: Where, host: str, port: int, password: str, password_file: Path | None) -> None:
    """Follow mod_callcenter over FreeSWITCH's event socket. What the gateway cannot take now waits on disk."""
    if password_file is not None:
        password = secret_in(password_file)
    if not password:
        raise click.UsageError("the event socket's password is needed: FREESWITCH_PASSWORD, or FREESWITCH_PASSWORD_FILE")
    poster = where.poster(EVENTS)
    connect, stopped = partial(socket.create_connection, (host, port), CONNECT_SECONDS), until_stopped()
    follower = Follower(connect, password, poster, stopped)
    poster.start()
    obey_beside(where, partial(silence, connect, password), stopped)
    try:
        _run(follower)
    finally:
        poster.close()


def _run(follower: Follower) -> None:
    """The reading blocks where a signal does not wake it: it has a thread of its own, and this one waits for the signal."""
    thread = Thread(target=follower.run, name="follower", daemon=True)
    thread.start()
    while thread.is_alive() and not follower.stopped.wait(1.0):
        pass
    follower.stop()
    thread.join(CONNECT_SECONDS + 1)


# ---- records on disk


@dataclass
class Imported:
    delivered: int = 0
    refused: int = 0
    left: int = 0


def waiting(folder: Path, now: float) -> list[Path]:
    """Records in a folder and below it, the oldest first; those that may still be written are left for the next time."""
    found = []
    for pattern in PATTERNS:
        for path in folder.rglob(pattern):
            with suppress(OSError):
                if DELIVERED not in path.relative_to(folder).parts and path.is_file() and path.stat().st_mtime <= now - SETTLED_SECONDS:
                    found.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(found)]


def import_records(client: Posts, path: str, folder: Path, stopped: Flag, tries: int, pauses: Pauses) -> Imported:
    """Post each record by itself; what the gateway has is moved to `delivered`, what it cannot read stays where it is."""
    done = Imported()
    files = waiting(folder, clock.now())
    for number, file in enumerate(files):
        answer = _post(client, path, file, stopped, tries, pauses)
        if answer is None or not (answer.taken or answer.refused):
            done.left = len(files) - number
            log.error("the gateway does not take records; they stay where they are", left=done.left, reason=answer.reason if answer else "")
            return done
        reasons = _reasons(answer)
        if reasons:
            done.refused += 1
            log.error("a record cannot be read and stays where it is", file=str(file), reason=reasons[0])
            continue
        target = folder / DELIVERED / file.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.replace(target)
        done.delivered += 1
    return done


def _reasons(answer: Answer) -> Sequence[str]:
    rejected = answer.document.get("rejected")
    told = [str(one.get("reason")) for one in rejected if isinstance(one, dict)] if isinstance(rejected, list) else []
    return told or ([answer.reason] if answer.refused else [])


def _post(client: Posts, path: str, file: Path, stopped: Flag, tries: int, pauses: Pauses) -> Answer | None:
    """None: asked to stop."""
    body, answer = file.read_bytes(), None
    for _ in range(tries):
        answer = client.post(path, body, "application/json")
        if answer.taken or answer.refused:
            pauses.reset()
            return answer
        if stopped.wait(pauses.next(min(answer.retry_after, 60.0))):
            return None
    return answer


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@reaching
@click.option("--tries", default=10, show_default=True, type=click.IntRange(1, 1000), help="For a record, before giving up.")
@click.option("--every", type=click.FloatRange(1, 86400), help="Look again after so many seconds, until stopped; otherwise once.")
def import_spool(where: Where, folder: Path, tries: int, every: float | None) -> None:
    """Bring in call detail records that FreeSWITCH wrote to FOLDER (log-dir, err-log-dir). May be run again at any time: what the
    gateway has is moved to FOLDER/delivered, all else stays. Exits with 1 when something stayed."""
    stopped = until_stopped()
    try:
        client = Client(where.to, where.key)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    while True:
        done = import_records(client, f"{RECORDS}?{urlencode({'source': where.source})}", folder, stopped, tries, Pauses())
        if done.delivered or done.refused or done.left or every is None:
            click.echo(f"{done.delivered} delivered, {done.refused} could not be read, {done.left} not delivered")
        if every is None or stopped.wait(every):
            break
    client.close()
    if done.refused or done.left:
        raise SystemExit(1)
