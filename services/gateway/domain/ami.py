"""Asterisk's manager interface: bytes or JSON lines into messages, messages into observations.

An AMI event carries no id. Its identity is what names the fact: the event, the channels, the queue, the figures, and the Timestamp
where the PBX sends one (timestampevents=yes). Without one, the member's channel still tells attempts and talks apart; facts with
neither (a caller who joins the same queue twice) take the second of receipt into their key, after `RECEIVED`, and the fold treats
such keys as equal when they were received within a few seconds of each other.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Container, Mapping
from typing import Any, NamedTuple

from services.gateway.domain.observation import Ignored, Kind, Malformed, Observation, Reporter, storable

Message = Mapping[str, str]

RECEIVED = "≈"
MAX_FRAME_BYTES = 262_144

_END = b"\r\n\r\n"
_EVENT_NAME = re.compile(rb"^Event: *([^\r\n]*)", re.MULTILINE)
_STAMP = re.compile(rb'\bTimestamp"?: ?"?(\d{1,10}\.\d{1,9})\b')
_VARIABLES = (b"QUEUESTATUS", b"MIXMONITOR_FILENAME")
"""What of all that VarSet tells is read."""
_SECONDS = re.compile(r"\d{1,10}\.\d{1,9}")
_ESCAPED = re.compile(r"\\(.)")
_UNKNOWN = frozenset({"", "<unknown>"})


# ---- bytes and lines into messages


def split(raw: bytes, read: Container[str] | None = None) -> tuple[list[Message], bytes]:
    """Whole messages in `raw`, and the unfinished rest, to be put before the next bytes.

    Of events other than those to `read` (none said: those that interpret() reads) only the name is decoded: they are nineteen of twenty.
    """
    *frames, rest = raw.split(_END)
    if len(rest) > MAX_FRAME_BYTES:
        raise Malformed(f"no end of message (an empty line, CR LF CR LF) within {MAX_FRAME_BYTES} bytes: this is not an AMI stream")
    return [_decode(frame, READ if read is None else read) for frame in frames if frame.strip()], rest


def _decode(frame: bytes, read: Container[str]) -> Message:
    named = _EVENT_NAME.search(frame)
    name = named[1].decode("utf-8", "replace") if named else ""
    if (name and name not in read) or (name == "VarSet" and not any(variable in frame for variable in _VARIABLES)):
        return {"Event": name}
    message: dict[str, str] = {}
    for line in storable(frame.decode("utf-8", "replace")).split("\r\n"):
        header, colon, value = line.partition(":")
        if colon:
            message.setdefault(header, value.removeprefix(" "))
    return message


def read_json(line: str | bytes) -> tuple[Message, float | None]:
    """A message written as JSON, bare or as {"recv": epoch, "ami": {…}}, with the time of receipt if it was noted."""
    try:
        read = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Malformed("an AMI message must be one JSON object a line") from error
    if not isinstance(read, dict):
        raise Malformed("an AMI message must be a JSON object: header names and values")
    message, received = read, None
    if "ami" in read:
        message, received = read["ami"], _epoch(read.get("recv"))
        if not isinstance(message, dict):
            raise Malformed('"ami" must be a JSON object: header names and values')
    event = message.get("Event")
    if isinstance(event, str) and event in READ:
        message = {header: _text(value) for header, value in message.items()}
    return message, received


def _text(value: Any) -> str:
    """A header that came twice is a list; none of those we read ever does."""
    first = value[0] if isinstance(value, list) and value else value
    return storable(first) if isinstance(first, str) else "" if first is None else str(first)


class Times:
    """When the messages of one post were sent that carry no Timestamp (FullyBooted and the answers to QueueStatus never do):
    with the one before them, else with the first after, else when received. A capture posted later is no news of today."""

    def __init__(self, post: bytes, received: float) -> None:
        first = _STAMP.search(post)
        self._at = float(first[1]) if first else received

    def of(self, message: Message) -> float:
        stamp = message.get("Timestamp")
        if isinstance(stamp, str) and _SECONDS.fullmatch(stamp):
            self._at = float(stamp)
        return self._at


# ---- messages into observations


def interpret(message: Message, received: float | None = None) -> Observation | Ignored:
    """What a message tells. `received` (epoch seconds) stands in where the message has no Timestamp."""
    event = message.get("Event", "")
    rule = _RULES.get(event) if isinstance(event, str) else None
    if rule is None:
        return Ignored(event or "no event")
    if event == "VarSet" and message.get("Variable") != "QUEUESTATUS":
        if message.get("Variable") != "MIXMONITOR_FILENAME":
            return Ignored(event)
        rule = _RECORDED
    for header in rule.required:
        if not message.get(header):
            raise Malformed(f"{event} has no {header}: send the event with all its headers")
    told: dict[str, Any] = {field: text for field, header in rule.texts if (text := message.get(header, "")) not in _UNKNOWN}
    for field, header, read in rule.figures:
        if figure := message.get(header):
            told[field] = read(event, header, figure)
    at = _epoch(message.get("Timestamp")) or received
    told |= rule.finish(message, told)
    key = _key(event, rule, message, at)
    kind, uptime = told.pop("kind", rule.kind), told.pop("uptime", 0.0)
    if at is not None:
        at -= uptime  # FullyBooted comes at each login, and the fact is the start
    return Observation("ami", kind, key, at, **told)


class Channels:
    """interpret() for the messages of one post, in their order: the list that answers CoreShowChannels becomes a snapshot.

    Its messages are told apart by ActionID. A list that is not whole, or does not end in the same post, proves nothing and is Ignored.
    """

    def __init__(self) -> None:
        self._lists: dict[str, tuple[float | None, set[str], int]] = {}
        """by ActionID: when it began, the channels' ids, how many messages"""

    def interpret(self, message: Message, received: float | None = None) -> Observation | Ignored:
        event = message.get("Event")
        if event == "CoreShowChannel":
            return self._channel(message, received)
        if event == "CoreShowChannelsComplete":
            return self._whole(message, received)
        return interpret(message, received)

    def _channel(self, message: Message, received: float | None) -> Observation | Ignored:
        began, calls, count = self._lists.get(message.get("ActionID", ""), (received, set(), 0))
        ids = {id for header in ("Uniqueid", "Linkedid") if (id := message.get(header))}
        self._lists[message.get("ActionID", "")] = began, calls | ids, count + 1
        call, bridge = message.get("Uniqueid"), message.get("BridgeId")
        queue = message.get("ApplicationData", "").split(",", 1)[0]
        if not (call and bridge and queue and message.get("Application") == "Queue"):
            return Ignored("CoreShowChannel")
        key = f"ami|connected|{call}|{queue}|{bridge}"
        return Observation("ami", "connected", key, received, call=call, linked=message.get("Linkedid") or None, queue=queue)

    def _whole(self, message: Message, received: float | None) -> Observation | Ignored:
        began, calls, count = self._lists.pop(message.get("ActionID", ""), (received, set(), 0))
        if message.get("ListItems") != str(count) or began is None:
            return Ignored("CoreShowChannelsComplete")
        return snapshot("ami", began, calls)


def snapshot(reporter: Reporter, at: float, calls: set[str]) -> Observation:
    """These channels existed at `at` (epoch seconds), and no others."""
    told = tuple(sorted(calls))
    digest = hashlib.blake2b("\n".join(told).encode(), digest_size=16).hexdigest()
    return Observation(reporter, "snapshot", f"{reporter}|snapshot|{at!r}|{digest}", at, calls=told)


def _key(event: str, rule: _Rule, message: Message, at: float | None) -> str:
    stamp = message.get("Timestamp", "")
    key = "|".join(["ami", event, *[message.get(header, "") for header in rule.identity], stamp])
    if stamp or at is None or message.get("DestUniqueid"):
        return key
    return f"{key}{RECEIVED}{int(at)}"


def _epoch(value: object) -> float | None:
    if value is None or value == "":
        return None
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise Malformed("recv and Timestamp must be epoch seconds") from error
    if not (math.isfinite(seconds) and 0 < seconds < 1e11):
        raise Malformed("recv and Timestamp must be epoch seconds (not milliseconds)")
    return seconds


def _seconds(event: str, header: str, value: str) -> float:
    if value.isascii() and value.isdigit() and len(value) <= 9:
        return float(value)
    raise Malformed(f"{header} of {event} must be a whole number of at most 9 digits")


def _milliseconds(event: str, header: str, value: str) -> float:
    return _seconds(event, header, value) / 1000


def _integer(event: str, header: str, value: str) -> int:
    return int(_seconds(event, header, value))


def _nothing_more(_message: Message, _told: Mapping[str, Any]) -> dict[str, Any]:
    return {}


class _Rule(NamedTuple):
    """How one event is read: its kind, the headers that name the fact, those that must be there, texts and figures to take."""

    kind: Kind
    identity: tuple[str, ...]
    required: tuple[str, ...] = ()
    texts: tuple[tuple[str, str], ...] = ()
    figures: tuple[tuple[str, str, Callable[[str, str, str], float | int]], ...] = ()
    finish: Callable[[Message, Mapping[str, Any]], dict[str, Any]] = _nothing_more


def _place(message: Message, told: Mapping[str, Any]) -> dict[str, Any]:
    return {"place": f"{message.get('Exten', '')}@{message.get('Context', '')}", **_unescaped(message, told)}


def _unescaped(_message: Message, told: Mapping[str, Any]) -> dict[str, Any]:
    """AMI puts backslashes before quotes and backslashes of a caller's name."""
    name = told.get("name")
    return {"name": _ESCAPED.sub(r"\1", name)} if name and "\\" in name else {}


def _completed(_message: Message, told: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": "transferred"} if told.get("reason") == "transfer" else {}


def _attended(message: Message, _told: Mapping[str, Any]) -> dict[str, Any]:
    return {"target": message.get("TransferTargetExten") or None}


def _paused(message: Message, _told: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": "paused" if message.get("Paused") == "1" else "unpaused"}


def _muted(message: Message, _told: Mapping[str, Any]) -> dict[str, Any]:
    """One direction alone leaves the other to be heard."""
    return {"reason": "on" if message.get("State") in ("1", "on") and message.get("Direction", "both").lower() == "both" else "off"}


_DEVICE_STATES = ("unknown", "not_in_use", "in_use", "busy", "invalid", "unavailable", "ringing", "ring_in_use", "on_hold")


def _member(message: Message, _told: Mapping[str, Any]) -> dict[str, Any]:
    status = message.get("Status", "")
    known = status.isascii() and status.isdigit() and int(status[:4]) < len(_DEVICE_STATES)
    paused = message.get("Paused")
    return {"device": _DEVICE_STATES[int(status)] if known else None, "paused": paused == "1" if paused else None}


_CALLER = (("call", "Uniqueid"), ("linked", "Linkedid"), ("queue", "Queue"), ("caller", "CallerIDNum"), ("name", "CallerIDName"))
_WITH_MEMBER = (*_CALLER, ("member_call", "DestUniqueid"), ("agent", "MemberName"), ("interface", "Interface"))
_MEMBER = (("queue", "Queue"), ("agent", "MemberName"), ("interface", "Interface"), ("reason", "PausedReason"))
_IN_QUEUE = ("Uniqueid", "Queue", "Position", "Count", "Priority", "ConnectedLineNum")
_WITH = ("Uniqueid", "Queue", "Interface", "DestUniqueid")
_MEMBERSHIP = ("Queue", "Interface", "Status", "Paused", "Penalty", "InCall", "CallsTaken", "LastCall", "LastPause")
_HOLD = ("hold_seconds", "HoldTime", _seconds)
_PENALTY = (("penalty", "Penalty", _integer),)
_CALL = ("Uniqueid", "Queue")

_CHANNEL = (("call", "Uniqueid"), ("linked", "Linkedid"))
_ON_HOLD = (("member_call", "Uniqueid"), ("linked", "Linkedid"))
"""The channel is that of whoever asked for it, the customer's own too."""
_RECORDED = _Rule("recorded", ("Uniqueid", "Variable", "Value"), ("Uniqueid", "Value"), (*_CHANNEL, ("recording", "Value")))
"""MixMonitorStart comes at the same moment, and does not say where."""

_RULES: dict[str, _Rule] = {
    "QueueCallerJoin": _Rule("entered", _IN_QUEUE, _CALL, _CALLER, (("position", "Position", _integer),), finish=_place),
    "QueueCallerLeave": _Rule("left", _IN_QUEUE, _CALL, _CALLER, finish=_place),
    "QueueCallerAbandon": _Rule(
        "abandoned",
        ("Uniqueid", "Queue", "Position", "OriginalPosition", "HoldTime"),
        _CALL,
        _CALLER,
        (_HOLD, ("position", "OriginalPosition", _integer)),
        finish=_unescaped,
    ),
    "QueueEntry": _Rule(
        "waiting", ("Uniqueid", "Queue", "Position", "Wait"), _CALL, _CALLER, (("hold_seconds", "Wait", _seconds),), finish=_unescaped
    ),
    "AgentCalled": _Rule("called", _WITH, _CALL, _WITH_MEMBER, finish=_unescaped),
    "AgentConnect": _Rule(
        "answered", (*_WITH, "HoldTime"), _CALL, _WITH_MEMBER, (_HOLD, ("ring_seconds", "RingTime", _seconds)), finish=_unescaped
    ),
    "AgentRingNoAnswer": _Rule(
        "missed", (*_WITH, "RingTime"), _CALL, _WITH_MEMBER, (("ring_seconds", "RingTime", _milliseconds),), finish=_unescaped
    ),
    "AgentComplete": _Rule(
        "completed",
        (*_WITH, "HoldTime", "TalkTime", "Reason"),
        _CALL,
        (*_WITH_MEMBER, ("reason", "Reason")),
        (_HOLD, ("talk_seconds", "TalkTime", _seconds)),
        finish=lambda message, told: _completed(message, told) | _unescaped(message, told),
    ),
    "BlindTransfer": _Rule(
        "redirected",
        ("TransfereeUniqueid", "TransfererUniqueid", "Extension", "Context"),
        texts=(
            ("call", "TransfereeUniqueid"),
            ("linked", "TransfereeLinkedid"),
            ("member_call", "TransfererUniqueid"),
            ("target", "Extension"),
        ),
    ),
    "AttendedTransfer": _Rule(
        "redirected",
        ("TransfereeUniqueid", "OrigTransfererUniqueid", "SecondTransfererUniqueid", "DestBridgeUniqueid"),
        texts=(("call", "TransfereeUniqueid"), ("linked", "TransfereeLinkedid"), ("member_call", "OrigTransfererUniqueid")),
        finish=_attended,
    ),
    "Hold": _Rule("held", ("Uniqueid",), ("Uniqueid",), _ON_HOLD),
    "Unhold": _Rule("resumed", ("Uniqueid",), ("Uniqueid",), _ON_HOLD),
    "Hangup": _Rule("hung_up", ("Uniqueid",), ("Uniqueid",), (("call", "Uniqueid"), ("linked", "Linkedid"))),
    "VarSet": _Rule(
        "status",
        ("Uniqueid", "Variable", "Value"),
        ("Uniqueid",),
        (("call", "Uniqueid"), ("linked", "Linkedid"), ("reason", "Value")),
    ),
    "QueueMemberPause": _Rule("paused", (*_MEMBERSHIP, "PausedReason"), ("Queue",), _MEMBER, finish=_paused),
    "QueueMemberAdded": _Rule("member_added", _MEMBERSHIP, ("Queue",), _MEMBER, _PENALTY, finish=_member),
    "QueueMemberRemoved": _Rule("member_removed", _MEMBERSHIP, ("Queue",), _MEMBER),
    "QueueMemberPenalty": _Rule("member_penalty", _MEMBERSHIP, ("Queue",), _MEMBER, _PENALTY),
    "QueueMemberStatus": _Rule("member_status", _MEMBERSHIP, ("Queue",), _MEMBER, _PENALTY, finish=_member),
    "QueueMember": _Rule(
        "member_status",
        ("Queue", "Location", "Status", "Paused", "Penalty", "InCall", "CallsTaken", "LastCall", "LastPause"),
        ("Queue",),
        (("queue", "Queue"), ("agent", "Name"), ("interface", "Location"), ("reason", "PausedReason")),
        _PENALTY,
        finish=_member,
    ),
    "MixMonitorStop": _Rule("record_stopped", ("Uniqueid",), ("Uniqueid",), _CHANNEL),
    "MixMonitorMute": _Rule("record_muted", ("Uniqueid", "Direction", "State"), ("Uniqueid", "State"), _CHANNEL, finish=_muted),
    "FullyBooted": _Rule("restarted", ("Uptime",), figures=(("uptime", "Uptime", _seconds),)),
    "Shutdown": _Rule("stopped", ("Shutdown", "Restart")),
}

READ = frozenset(_RULES) | {"CoreShowChannel", "CoreShowChannelsComplete"}
"""The events that tell anything; all others are of no concern."""
