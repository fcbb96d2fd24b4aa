"""FreeSWITCH: mod_callcenter's events and call detail records (mod_json_cdr, mod_format_cdr) into observations.

Three reporters tell of one call. `callcenter` is the events, every stay in every queue as it happens; `cdr` is the record of the
caller's channel once it is over, with what its variables still hold: the last queue that it was in, and who hung up, which the events
do not say; `agent_cdr` is the record of an agent's channel: one ring, or one talk.

What misleads:
- a caller who hangs up while waiting is told as Cancel with the reason BREAK_OUT (so is one whom somebody transfers away: the
  event's Answer-State tells them apart); the reason NONE is one who hung up while an agent was being connected;
- bridge-agent-start precedes the bridge: where that fails, bridge-agent-end follows with CC-Agent-Bridged false, and nobody talked;
- bridge-agent-end and member-queue-end tell the same end within milliseconds: the second is taken, since it alone is certain. Neither
  says in words that the agent transferred the call: the cause for which the agent's channel hung up (Hangup-Cause) does;
- the channel of an agent of type uuid-standby lives through many calls: an agent's channel is named with the member it served;
- variables of an earlier queue stay on the channel: only what is not older than cc_queue_joined_epoch counts;
- a caller's channel that hangs up during the talk is reported before cc_queue_terminated_epoch is set;
- mod_json_cdr leaves %xx of encoded values as they are when it encodes the whole as a form, so that a quote in a name breaks the JSON;
  its base64 is not encoded for the form that it is sent in; disable-100-continue loses its Content-Type;
- what it writes to err-log-dir is the body as it would have been posted, without `cdr=`;
- hold_accum_seconds leaves out a hold that lasted until the hang-up, which hold_events has.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from math import floor
from typing import Any, NamedTuple
from urllib.parse import unquote
from xml.etree import ElementTree

from services.gateway.domain.observation import Ignored, Kind, Malformed, Observation, storable

Message = Mapping[str, str]

MAX_FRAME_BYTES = 1_048_576
HANGUP_SECONDS = 2.0
"""Between the end of the talk and that of the channel, when one is the cause of the other."""

_UNDEFINED = frozenset({"", "_undef_"})
ON_HOLD: dict[str, Kind] = {"CHANNEL_HOLD": "held", "CHANNEL_UNHOLD": "resumed"}


# ---- the event socket's bytes


class Frame(NamedTuple):
    """One message of the event socket: its headers, and its body where it has one."""

    headers: Message
    body: bytes

    @property
    def kind(self) -> str:
        return self.headers.get("Content-Type", "")


def frames(raw: bytes) -> tuple[list[Frame], bytes]:
    """Whole messages in `raw`, and the unfinished rest, to be put before the next bytes. Raises Malformed for what is no event socket."""
    found: list[Frame] = []
    at = 0
    while True:
        while raw[at : at + 1] == b"\n":
            at += 1
        end = raw.find(b"\n\n", at)
        if end < 0:
            if len(raw) - at > MAX_FRAME_BYTES:
                raise Malformed(f"no end of headers (an empty line) within {MAX_FRAME_BYTES} bytes: this is not an event socket")
            return found, raw[at:]
        headers = _headers(raw[at:end])
        told = headers.get("Content-Length", "0")
        if not (told.isascii() and told.isdigit() and len(told) < 10):
            raise Malformed("Content-Length must be a number of bytes")
        after = end + 2 + int(told)
        if len(raw) < after:
            return found, raw[at:]
        found.append(Frame(headers, raw[end + 2 : after]))
        at = after


def _headers(block: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in block.decode("utf-8", "replace").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            headers.setdefault(name.strip(), value.strip())
    return headers


def event(block: bytes) -> Message:
    """A plain event's headers: every value is URL-encoded, `_undef_` is none. Those that nobody reads are left out."""
    return {name: _decoded(value) for name, value in _headers(block).items() if name in READ and value not in _UNDEFINED}


def _decoded(value: str) -> str:
    return storable(unquote(value) if "%" in value else value)


def read_blocks(raw: bytes) -> Iterator[Message]:
    """The events of a plain post: blocks with an empty line between, with or without the frames' own headers."""
    for block in re.split(rb"\n(?:[ \t]*\n)+", raw.replace(b"\r\n", b"\n")):
        if block.strip() and (b"Event-Name:" in block or b"CC-Action:" in block or b"Content-Type:" not in block):
            yield event(block)


def read_json(line: str | bytes) -> dict[str, Any]:
    """One JSON object: an event as `event json` gives it, or a row of a bridge's snapshot."""
    try:
        read = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Malformed("an event must be one JSON object a line") from error
    if not isinstance(read, dict):
        raise Malformed("an event must be a JSON object: header names and values")
    return read


# ---- callcenter events into observations


def interpret(message: Mapping[str, Any], received: float | None = None) -> Observation | Ignored:
    """What an event, or a row of a snapshot, tells. `received` (epoch seconds) stands in where it has no time."""
    if "snapshot" in message:
        return _snapshot(message)
    told = {name: _plain(name, value) for name, value in message.items() if name in READ}
    told = {name: value for name, value in told.items() if value not in _UNDEFINED}
    name, at = told.get("Event-Name", ""), _instant("Event-Date-Timestamp", told.get("Event-Date-Timestamp"))
    stamp = told.get("Event-Date-Timestamp", "")
    if name == "SHUTDOWN":
        return Observation("callcenter", "stopped", f"callcenter|stopped|{_need(told, name, 'Core-UUID')}", at or received)
    if name in ("RECORD_START", "RECORD_STOP"):
        return _recording(name, told, at or received)
    if name in ON_HOLD:
        return _on_hold(name, told, at or received)
    action = told.get("CC-Action", "")
    read = _ACTIONS.get(action)
    if read is None:
        return Ignored(action or name or "no event")
    usual, needed, identity = read
    for header in needed:
        _need(told, action, header)
    fields = _fields(action, told)
    kind, more = _details(action, usual, told)
    if kind is None:
        return Ignored(action)
    key = "|".join(["callcenter", action, *[told.get(header, "") for header in identity]])
    if _STAMPED in identity and not stamp and "CC-Agent-Called-Time" not in told:  # nothing of its own tells it from the next of its kind
        key += f"{received or 0:.0f}"
    at = at or fields.pop("at", None) or received
    fields.pop("at", None)
    return Observation("callcenter", kind, key, at, **{**fields, **more})


_MEMBER = ("CC-Queue", "CC-Member-UUID", "CC-Member-Session-UUID")
_STAMPED = "Event-Date-Timestamp"
_WHO = ("CC-Agent",)

# action -> its kind, the headers it must have, and those that name the fact
_ACTIONS: dict[str, tuple[Kind, tuple[str, ...], tuple[str, ...]]] = {
    "member-queue-start": ("entered", _MEMBER, ("CC-Member-UUID", "CC-Member-Session-UUID", _STAMPED)),
    "member-queue-resume": ("entered", _MEMBER, ("CC-Member-UUID", "CC-Member-Session-UUID", _STAMPED)),
    "agent-offering": ("called", (*_MEMBER, *_WHO), ("CC-Member-UUID", "CC-Agent", _STAMPED)),
    "bridge-agent-start": ("answered", (*_MEMBER, *_WHO, "CC-Agent-UUID"), ("CC-Member-UUID", "CC-Agent-UUID")),
    "bridge-agent-fail": (
        "missed",
        (*_MEMBER, *_WHO),
        ("CC-Member-UUID", "CC-Agent", "CC-Agent-Called-Time", "CC-Agent-Aborted-Time", _STAMPED),
    ),
    "bridge-agent-end": ("unmet", (*_MEMBER, "CC-Agent-UUID"), ("CC-Member-UUID", "CC-Agent-UUID")),
    "member-queue-end": (
        "completed",
        (*_MEMBER, "CC-Cause"),
        ("CC-Member-UUID", "CC-Member-Session-UUID", "CC-Agent-UUID", "CC-Member-Leaving-Time"),
    ),
    "agent-status-change": ("member_status", (*_WHO, "CC-Agent-Status"), ("CC-Agent", "CC-Agent-Status", _STAMPED)),
    "agent-state-change": ("device", (*_WHO, "CC-Agent-State"), ("CC-Agent", "CC-Agent-State", _STAMPED)),
    "agent-contact-change": ("device", _WHO, ("CC-Agent", "CC-Agent-Contact", _STAMPED)),
}
READ = frozenset(
    {header for _, needed, identity in _ACTIONS.values() for header in (*needed, *identity)}
    | {
        "Event-Name", "Event-Subclass", "Core-UUID", "Answer-State", "Hangup-Cause", "CC-Action", "CC-Cancel-Reason", "CC-Hangup-Cause", "CC-Agent-Bridged",
        "CC-Agent-Contact", "CC-Agent-Answered-Time", "CC-Member-Joined-Time",
        "Unique-ID", "Other-Leg-Unique-ID", "Record-File-Path", "variable_record_ms", "variable_cc_member_session_uuid", "variable_cc_member_uuid",
        "variable_cc_side",
        "CC-Bridge-Terminated-Time", "CC-Member-CID-Number", "CC-Member-CID-Name", "variable_cc_exit_key",
    }
)  # fmt: skip
"""The headers that are read; a bridge posts no others."""


def _recording(name: str, told: Message, at: float | None) -> Observation:
    """RECORD_START and RECORD_STOP, of the channel on which record_session or uuid_record runs."""
    call, where = _need(told, name, "Unique-ID"), _need(told, name, "Record-File-Path")
    stopped = name == "RECORD_STOP"
    return Observation(
        "callcenter",
        "record_stopped" if stopped else "recorded",
        f"callcenter|{name}|{call}|{where}|{told.get('Event-Date-Timestamp', '')}",
        at,
        call=call,
        linked=told.get("variable_cc_member_session_uuid") or told.get("Other-Leg-Unique-ID"),
        recording=where,
        recorded_seconds=_milliseconds("variable_record_ms", told.get("variable_record_ms")) if stopped else None,
    )


def _on_hold(name: str, told: Message, at: float | None) -> Observation | Ignored:
    """CHANNEL_HOLD and CHANNEL_UNHOLD, of the channel whose end asked for it. An agent's is named with the member whom it serves; a caller who puts
    us on hold, and calls that are none of a queue, are of no concern."""
    channel = _need(told, name, "Unique-ID")
    session, line = told.get("variable_cc_member_session_uuid"), _member_call(told.get("variable_cc_member_uuid"), channel)
    if told.get("variable_cc_side") != "agent" or not session or not line:
        return Ignored(f"{name} of no agent's channel")
    key = f"callcenter|{name}|{line}|{told.get(_STAMPED) or at}"
    return Observation("callcenter", ON_HOLD[name], key, at, call=session, member_call=line)


def _milliseconds(what: str, text: str | None) -> float | None:
    figure = _number(what, text or "")
    return None if figure is None else figure / 1000


_TRANSFERS = frozenset({"BLIND_TRANSFER", "ATTENDED_TRANSFER"})
_NO_RING = frozenset({"LOSE_RACE", "ORIGINATOR_CANCEL"})
_EXITS: dict[str, Kind] = {
    "TIMEOUT": "timed_out",
    "NO_AGENT_TIMEOUT": "left_empty",
    "EXIT_WITH_KEY": "left_by_key",
    "NONE": "abandoned",
    "BREAK_OUT": "abandoned",
}
_DEVICES = {
    "Waiting": "not_in_use",
    "Idle": "not_in_use",
    "Reserved": "not_in_use",
    "Receiving": "ringing",
    "In a queue call": "in_use",
}
_TIMES = {
    "bridge-agent-start": "CC-Agent-Answered-Time",
    "bridge-agent-fail": "CC-Agent-Aborted-Time",
    "bridge-agent-end": "CC-Bridge-Terminated-Time",
    "member-queue-end": "CC-Member-Leaving-Time",
}


def _fields(action: str, told: Message) -> dict[str, Any]:
    """What is read alike from every event: who, where, and the durations between its instants."""

    def instant(header: str) -> float | None:
        return _instant(f"{header} of {action}", told.get(header))

    member, agent = told.get("CC-Member-UUID"), told.get("CC-Agent-UUID")
    joined, called, answered, end = (
        instant("CC-Member-Joined-Time"),
        instant("CC-Agent-Called-Time"),
        instant("CC-Agent-Answered-Time"),
        instant(_TIMES.get(action, "")),
    )
    met = action in ("bridge-agent-start", "member-queue-end") and answered is not None
    fields = {
        "call": told.get("CC-Member-Session-UUID"),
        "member_call": _member_call(member, agent),
        "queue": told.get("CC-Queue"),
        "agent": told.get("CC-Agent"),
        "interface": told.get("CC-Agent-Contact"),
        "caller": told.get("CC-Member-CID-Number"),
        "name": told.get("CC-Member-CID-Name"),
        "hold_seconds": _between(joined, answered if met else end) if action in ("bridge-agent-start", "member-queue-end") else None,
        "talk_seconds": _between(answered, end) if action == "member-queue-end" and met else None,
        "ring_seconds": _between(called, answered if met else end) if action in ("bridge-agent-start", "bridge-agent-fail") else None,
        "at": end,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _details(action: str, kind: Kind, told: Message) -> tuple[Kind | None, dict[str, Any]]:
    """What an event's own headers make of its kind. None: it tells nothing new."""
    if action == "bridge-agent-end":
        if told.get("CC-Agent-Bridged") == "false":
            return kind, {}
        return ("redirected" if told.get("Hangup-Cause") in _TRANSFERS else None), {}
    if action == "bridge-agent-fail":
        return ("cancelled" if told.get("CC-Hangup-Cause") in _NO_RING else kind), {}
    if action == "member-queue-end":
        return _left(told)
    if action == "agent-status-change":
        return _status(told["CC-Agent-Status"])
    if action == "agent-state-change":
        return kind, {"device": _DEVICES.get(told["CC-Agent-State"], "unknown")}
    return kind, {}


def _left(told: Message) -> tuple[Kind | None, dict[str, Any]]:
    """member-queue-end has two shapes: Terminated after a talk, Cancel with its reason without one."""
    cause, reason = told["CC-Cause"], told.get("CC-Cancel-Reason", "NONE")
    if cause == "Terminated":
        return "completed", {}
    if cause != "Cancel" or reason not in _EXITS:
        raise Malformed(f"member-queue-end must have CC-Cause Terminated, or Cancel and a CC-Cancel-Reason of {', '.join(_EXITS)}")
    if reason == "BREAK_OUT" and told.get("Answer-State", "hangup") != "hangup":
        return "withdrawn", {}
    return _EXITS[reason], {"target": told["variable_cc_exit_key"]} if "variable_cc_exit_key" in told and reason == "EXIT_WITH_KEY" else {}


def _status(status: str) -> tuple[Kind | None, dict[str, Any]]:
    if status == "Logged Out":
        return "member_removed", {}
    if status == "On Break":
        return "member_status", {"paused": True, "reason": status}
    if status.startswith("Available"):
        return "member_status", {"paused": False}
    return None, {}


def _member_call(member: str | None, agent: str | None) -> str | None:
    return f"{member}/{agent}" if member and agent else None


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else max(0.0, end - start)


def _need(told: Message, what: str, header: str) -> str:
    value = told.get(header)
    if not value:
        raise Malformed(f"{what} has no {header}: send the event with all its headers")
    return value


def _plain(name: str, value: Any) -> str:
    first = value[0] if isinstance(value, list) and value else value
    if isinstance(first, bool) or not isinstance(first, str | int | float | None):
        raise Malformed(f"{name} must be text")
    return "" if first is None else storable(str(first))


def _instant(what: str, text: str | None) -> float | None:
    """Epoch seconds from seconds or microseconds; FreeSWITCH writes 0 for never. Raises Malformed."""
    if not text or text == "0":
        return None
    if text.isascii() and text.isdigit() and len(text) in (9, 10):
        return float(text)
    if text.isascii() and text.isdigit() and len(text) in (15, 16):
        return int(text) / 1_000_000
    raise Malformed(f"{what} must be epoch seconds or microseconds")


# ---- a bridge's snapshots: what `callcenter_config`, `show channels` and the core answer when asked


def _snapshot(message: Mapping[str, Any]) -> Observation | Ignored:
    what, at, row = message["snapshot"], message.get("at"), message.get("row")
    if isinstance(at, bool) or not isinstance(at, int | float) or not 0 < at < 1e11:
        raise Malformed('"at" of a snapshot must be epoch seconds')
    if what == "channels":
        calls = message.get("calls")
        if not isinstance(calls, list) or not all(isinstance(call, str) for call in calls):
            raise Malformed('"calls" of a snapshot must be the uuids of all channels')
        return Observation("callcenter", "snapshot", f"callcenter|snapshot|{at}", at, calls=tuple(calls))
    if not isinstance(row, dict):
        raise Malformed('"row" of a snapshot must be a JSON object: columns and values')
    told = {str(name): _plain(str(name), value) for name, value in row.items()}
    if what == "core":
        started = at - (_number("uptime", told.get("uptime", "")) or 0.0)
        return Observation("callcenter", "restarted", f"callcenter|restarted|{_need(told, 'a snapshot', 'core_uuid')}", started)
    if what == "agent":
        return _agent_row(told, float(at))
    if what == "member":
        return _member_row(told, float(at))
    raise Malformed('"snapshot" must be core, channels, agent or member')


def _agent_row(told: Message, at: float) -> Observation | Ignored:
    agent = _need(told, "a row of agents", "name")
    kind, more = _status(told.get("status", ""))
    if kind is None:
        return Ignored("an agent without a status")
    changed = _instant("last_status_change", told.get("last_status_change"))
    key = f"callcenter|agent|{agent}|{told.get('status')}|{changed if changed is not None else at}"
    device = _DEVICES.get(told.get("state", ""))
    more = {**more, "device": device} if kind == "member_status" and device else more
    return Observation("callcenter", kind, key, at, agent=agent, interface=told.get("contact") or None, **more)


def _member_row(told: Message, at: float) -> Observation | Ignored:
    """A member who waits, or talks with an agent whose channel (`agent_uuid`) the bridge has found beside."""
    state, member, session = told.get("state"), told.get("uuid", ""), told.get("session_uuid", "")
    if state not in ("Waiting", "Trying", "Answered") or not member or not session:
        return Ignored("a member who is not in the queue")
    joined = _instant("joined_epoch", told.get("joined_epoch"))
    joined = _instant("rejoined_epoch", told.get("rejoined_epoch")) or joined or at
    who: dict[str, Any] = {
        "call": session,
        "queue": _need(told, "a row of members", "queue"),
        "caller": told.get("cid_number") or None,
        "name": told.get("cid_name") or None,
    }
    bridged = _instant("bridge_epoch", told.get("bridge_epoch"))
    if state != "Answered" or bridged is None:
        key = f"callcenter|waiting|{member}|{session}|{joined:.0f}"
        return Observation("callcenter", "waiting", key, at, hold_seconds=max(0.0, at - joined), **who)
    agent, channel = told.get("serving_agent") or None, told.get("agent_uuid") or None
    answer: dict[str, Any] = {"agent": agent, "hold_seconds": max(0.0, bridged - joined), **who}
    if channel:  # as bridge-agent-start tells it, and with the same key
        key = f"callcenter|bridge-agent-start|{member}|{channel}"
        return Observation("callcenter", "answered", key, bridged, member_call=_member_call(member, channel), **answer)
    return Observation("callcenter", "connected", f"callcenter|connected|{member}|{session}", bridged, **answer)


def _number(what: str, text: str) -> float | None:
    if not text:
        return None
    if text.isascii() and text.isdigit() and len(text) < 12:
        return float(text)
    raise Malformed(f"{what} must be a whole number")


# ---- call detail records


def read_cdr(body: bytes) -> dict[str, Any]:
    """The record in a body, whichever way it is wrapped: JSON or XML, plain, as the form field `cdr`, URL-encoded or base64.

    Content-Type is not asked: disable-100-continue loses it. Raises Malformed.
    """
    text = body.decode("utf-8", "replace").removeprefix("\ufeff").strip()
    text = text.removeprefix("cdr=").strip()
    if not text:
        raise Malformed("the body is empty: it must be the record, or the form field cdr")
    if text[0] not in "{<":
        text = _unwrapped(text)
    if text.startswith("<"):
        return _xml(text)
    if not text.startswith("{"):
        raise Malformed("the body is no record: JSON or XML, plain, as the form field cdr, or in base64")
    return _json(text)


def _unwrapped(text: str) -> str:
    if text[:3] in ("%7B", "%7b", "%3C", "%3c"):
        return unquote(text.replace("+", " "))
    packed = re.sub(r"\s", "", unquote(text) if "%" in text else text).rstrip("=")
    try:
        plain = base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed("the body is no record: JSON or XML, plain, as the form field cdr, or in base64") from error
    return plain.decode("utf-8", "replace").rstrip("\0").strip()


_LOOSE_QUOTE = re.compile(r'(?<![{\[,:\\])"(?![:,}\]])')
_LOOSE_BACKSLASH = re.compile(r'\\(?!["\\/bfnrtu])')


def _json(text: str) -> dict[str, Any]:
    try:
        read = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        try:
            read = json.loads(_LOOSE_QUOTE.sub(r'\\"', _LOOSE_BACKSLASH.sub(r"\\\\", text)), strict=False)
        except (ValueError, RecursionError) as error:
            raise Malformed("the record is not JSON that can be read; is it whole?") from error
    if not isinstance(read, dict):
        raise Malformed("the record must be a JSON object")
    return read


def _xml(text: str) -> dict[str, Any]:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise Malformed("the record declares entities: FreeSWITCH sends none")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - no entities, see above
    except (ElementTree.ParseError, ValueError) as error:
        raise Malformed("the record is not XML that can be read; is it whole?") from error

    def leaves(parent: ElementTree.Element | None) -> dict[str, str]:
        return {} if parent is None else {child.tag: child.text or "" for child in parent}

    flow = []
    for profile in root.findall("callflow"):
        caller: dict[str, Any] = leaves(profile.find("caller_profile"))
        if profile.find("caller_profile/originator") is None:
            caller.pop("originator", None)
        flow.append({"caller_profile": caller, "times": leaves(profile.find("times"))})
    return {"channel_data": leaves(root.find("channel_data")), "variables": leaves(root.find("variables")), "callflow": flow}


def interpret_cdr(record: Mapping[str, Any], received: float | None = None) -> list[Observation] | Ignored:
    """What the record of one channel tells: of a caller's, its last stay in a queue; of an agent's, the ring that nobody answered."""
    stored = record.get("variables")
    if not isinstance(stored, dict):
        raise Malformed('the record has no "variables"')
    variables = {name: text for name, value in stored.items() if (text := _decoded(_plain(name, value)))}
    uuid = variables.get("uuid", "").removeprefix("a_")
    if not uuid:
        raise Malformed('the record has no "uuid" in its variables')
    flow = [profile for profile in _items(record.get("callflow")) if isinstance(profile, dict)]
    end = _end(variables, flow) or received
    told = _of_queue(uuid, variables, flow, end)
    recorded = _recorded(uuid, variables, end)
    if isinstance(told, Ignored):
        return recorded or told
    return [*told, *recorded]


def _recorded(uuid: str, variables: Message, end: float | None) -> list[Observation]:
    """Where mod_callcenter (record-template) or the dialplan's record_session wrote to: the channel's end is the file's."""
    began = next(
        (at for name in ("cc_queue_answered_epoch", "answer_uepoch", "answer_epoch") if (at := _instant_of(variables, name))), None
    )
    found = []
    for where in dict.fromkeys(variables.get(name, "") for name in ("cc_record_filename", "record_file")):
        if not where:
            continue
        of: dict[str, Any] = {"call": uuid, "linked": variables.get("cc_member_session_uuid") or None, "recording": where}
        seconds = _milliseconds("record_ms", variables.get("record_ms")) or _number("record_seconds", variables.get("record_seconds", ""))
        if began is not None:
            found.append(Observation("cdr", "recorded", f"cdr|{uuid}|recorded|{where}", began, **of))
        found.append(Observation("cdr", "record_stopped", f"cdr|{uuid}|record_stopped|{where}", end, recorded_seconds=seconds, **of))
    return found


def _of_queue(uuid: str, variables: Message, flow: Sequence[Mapping[str, Any]], end: float | None) -> list[Observation] | Ignored:
    if variables.get("cc_side") == "agent" or (_is_b_leg(flow) and "cc_member_session_uuid" in variables):
        return _agent_leg(uuid, variables, flow, end)
    if "cc_queue" not in variables or _instant_of(variables, "cc_queue_joined_epoch") is None:
        return Ignored("a call that was in no queue")
    return _member_leg(uuid, variables, flow, end)


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []


def _of(profile: Mapping[str, Any], part: str, name: str) -> str:
    inner = profile.get(part)
    value = inner.get(name) if isinstance(inner, dict) else None
    return _decoded(value) if isinstance(value, str) else ""


def _is_b_leg(flow: Sequence[Mapping[str, Any]]) -> bool:
    return any(isinstance(caller := profile.get("caller_profile"), dict) and "originator" in caller for profile in flow)


def _instant_of(variables: Message, name: str) -> float | None:
    return _instant(name, variables.get(name))


def _end(variables: Message, flow: Sequence[Mapping[str, Any]]) -> float | None:
    for name in ("end_uepoch", "end_epoch"):
        if at := _instant_of(variables, name):
            return at
    told = [_instant("hangup_time", _of(profile, "times", "hangup_time")) for profile in flow]
    return max((at for at in told if at), default=None)


def _agent_leg(uuid: str, variables: Message, flow: Sequence[Mapping[str, Any]], end: float | None) -> list[Observation] | Ignored:
    """An agent's channel: a ring missed, or one talk, whichever queue of the caller's it was in."""
    call, member = variables.get("cc_member_session_uuid"), variables.get("cc_member_uuid")
    if not call or not member or "cc_queue" not in variables or variables.get("cc_agent_type") == "uuid-standby":
        return Ignored("an agent's channel that served no one caller")
    stem = f"agent_cdr|{uuid}|{member}|"
    where: dict[str, Any] = {"call": call, "queue": variables["cc_queue"]}
    met: dict[str, Any] = {**where, "member_call": _member_call(member, uuid), "agent": variables.get("cc_agent")}
    cause = variables.get("hangup_cause")
    answered = _instant_of(variables, "answer_uepoch") or _instant_of(variables, "answer_epoch")
    if answered is None:
        began = _instant_of(variables, "start_uepoch") or _instant_of(variables, "start_epoch")
        kind: Kind = "cancelled" if cause in _NO_RING else "missed"
        return [Observation("agent_cdr", kind, stem + "ring", end, ring_seconds=_between(began, end), **met)]
    joined = _instant_of(variables, "cc_queue_joined_epoch")
    if variables.get("cc_agent_bridged") != "true" or joined is None or end is None:
        return Ignored("an agent's channel that met no caller")
    met["hold_seconds"] = max(0.0, floor(answered) - joined)
    ended: Kind = "transferred" if cause in _TRANSFERS else "completed"
    by = {"recv": "agent", "send": "caller"}.get(variables.get("sip_hangup_disposition", "")[:4]) if ended == "completed" else None
    talk = float(floor(end) - floor(answered))
    return [
        Observation("agent_cdr", "entered", stem + "entered", joined, **where, **_caller(flow, variables)),
        Observation("agent_cdr", "answered", stem + "answered", answered, **met),
        Observation("agent_cdr", ended, stem + "ended", end, talk_seconds=talk, reason=by, **met),
        *_holds(stem, variables, {"call": call, "member_call": met["member_call"]}),
    ]


_HELD = re.compile(r"\{(\d{15,16}),(\d{15,16})\}")


def _holds(stem: str, variables: Message, whose: Mapping[str, Any]) -> Iterator[Observation]:
    """`hold_events`: {{on,off},{on,off}}, in microseconds, the newest first; one that lasted to the end goes to the hang-up."""
    for began, over in _HELD.findall(variables.get("hold_events", "")):
        yield Observation("agent_cdr", "held", f"{stem}held|{began}", int(began) / 1_000_000, **whose)
        yield Observation("agent_cdr", "resumed", f"{stem}resumed|{over}", int(over) / 1_000_000, **whose)


def _caller(flow: Sequence[Mapping[str, Any]], variables: Message) -> dict[str, Any]:
    """The caller as the channel's first profile has it."""
    first = flow[-1] if flow else {}
    return {
        "caller": _of(first, "caller_profile", "caller_id_number") or variables.get("caller_id_number"),
        "name": _of(first, "caller_profile", "caller_id_name") or variables.get("caller_id_name"),
    }


def _member_leg(uuid: str, variables: Message, flow: Sequence[Mapping[str, Any]], end: float | None) -> list[Observation]:
    joined = _instant_of(variables, "cc_queue_joined_epoch") or 0.0

    def since(name: str) -> float | None:
        at = _instant_of(variables, name)
        return at if at is not None and at >= joined else None

    member = variables.get("cc_member_uuid", "")
    stem = f"cdr|{uuid}|{member}|{joined:.0f}|"
    where: dict[str, Any] = {"call": uuid, "queue": variables["cc_queue"]}
    told = [Observation("cdr", "entered", stem + "entered", joined, **where, **_caller(flow, variables))]
    answered, cancelled = since("cc_queue_answered_epoch"), since("cc_queue_canceled_epoch")
    reason = variables.get("cc_cancel_reason", "NONE")
    if answered is not None:
        told += _talk(stem, variables, flow, joined, answered, since("cc_queue_terminated_epoch"), end, where)
    elif cancelled is not None and variables.get("cc_cause") == "cancel":
        kind = _EXITS.get(reason, "abandoned")
        if reason == "BREAK_OUT" and end is not None and end - cancelled > HANGUP_SECONDS:
            kind = "withdrawn"
        key = variables.get("cc_exit_key") if kind == "left_by_key" else None
        told.append(Observation("cdr", kind, stem + "left", cancelled, hold_seconds=cancelled - joined, target=key, **where))
    return [*told, Observation("cdr", "hung_up", stem + "hung_up", end, call=uuid)]


def _talk(
    stem: str,
    variables: Message,
    flow: Sequence[Mapping[str, Any]],
    joined: float,
    answered: float,
    terminated: float | None,
    end: float | None,
    where: Mapping[str, Any],
) -> list[Observation]:
    hold = answered - joined
    met: dict[str, Any] = {
        **where,
        "agent": variables.get("cc_agent"),
        "member_call": _member_call(variables.get("cc_member_uuid"), variables.get("cc_agent_uuid")),
        "hold_seconds": hold,
    }
    told = [Observation("cdr", "answered", stem + "answered", answered, **met)]
    over = terminated if terminated is not None else end
    if over is not None:
        met |= {"talk_seconds": max(0.0, float(floor(over) - answered)), "reason": _who_hung_up(variables, over, end)}
        told.append(Observation("cdr", "completed", stem + "completed", over, **met, target=_went_to(flow, joined, answered)))
    return told


def _went_to(flow: Sequence[Mapping[str, Any]], joined: float, answered: float) -> str | None:
    """Where the caller went after the answer: the first later profile of the channel with another destination. It may be where an agent
    transferred to, or where the dialplan went on to by itself: that the agent's channel tells."""

    def created(profile: Mapping[str, Any]) -> float:
        return _instant("profile_created_time", _of(profile, "times", "profile_created_time")) or 0.0

    oldest_first = sorted(flow, key=created)
    queued = [profile for profile in oldest_first if created(profile) <= joined + 1]
    at = _of(queued[-1] if queued else {}, "caller_profile", "destination_number")
    later = [_of(profile, "caller_profile", "destination_number") for profile in oldest_first if created(profile) > answered]
    return next((place for place in later if place and place != at), None)


def _who_hung_up(variables: Message, over: float, end: float | None) -> str | None:
    """By the caller's channel: a BYE received as the talk ended is the caller's; one sent, or the line going on, means the agent."""
    disposition = variables.get("sip_hangup_disposition", "")
    if not disposition or end is None:
        return None
    return "caller" if disposition.startswith("recv_") and end - over <= HANGUP_SECONDS else "agent"
