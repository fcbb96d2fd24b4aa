"""Asterisk's REST interface: the events of its websocket, and the answers to two of its questions, as JSON lines or an array.

ARI has no queue events. What it tells of a queue is what Queue() does to the caller's channel: the variables it sets (with
setinterfacevar, setqueueentryvar and setqueuevar in queues.conf), the members it dials, transfers and hang-ups. The channel's
dialplan position names the queue. ARI names no Linkedid and no rings that were missed, but its channel ids are AMI's Uniqueids.

Events carry no id; what names the fact is its type, channel, variable, value and time (ms), whichever applications it came through.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from services.gateway.domain.ami import snapshot
from services.gateway.domain.observation import Ignored, Kind, Malformed, Observation, storable

RECORDINGS: dict[str, Kind] = {"RecordingStarted": "recorded", "RecordingFinished": "record_stopped", "RecordingFailed": "record_stopped"}
ON_HOLD: dict[str, Kind] = {"ChannelHold": "held", "ChannelUnhold": "resumed"}
READ = frozenset(
    {"ChannelVarset", "Dial", "ChannelDestroyed", "BridgeBlindTransfer", "BridgeAttendedTransfer", "StasisStart", *ON_HOLD, *RECORDINGS}
)
"""The types that may tell anything; all others are of no concern."""

_NOT_ANSWERED = frozenset({"NOANSWER", "BUSY", "CANCEL", "CONGESTION", "CHANUNAVAIL", "DONTCALL", "TORTURE"})
_Told = tuple[Kind, dict[str, Any]]


# ---- posts into messages


def messages(post: bytes) -> Iterator[tuple[str, Any]]:
    """(text, message or the Malformed that it raised) of each message: the elements of an array, one object, or JSON lines."""
    text = post.strip()
    if text[:1] == b"[" or not text.partition(b"\n")[0].rstrip().endswith(b"}"):  # an object may be written over several lines
        read = _load(text)
        for one in read if isinstance(read, list) else [read]:
            yield (json.dumps(one) if isinstance(read, list) else _shown(text)), one
        return
    for line in text.splitlines():
        if line.strip():
            yield _shown(line), _load(line)


def _load(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return Malformed("an ARI event must be one JSON object a line, or an array of them")


def _shown(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")


# ---- messages into observations


def interpret(message: Any, received: float | None = None) -> Observation | Ignored:
    """What a message tells: an event, bare or as {"recv": epoch, "ari": {…}}; or what a bridge asked for: {"recv": epoch,
    "channels": […]} (all that GET /channels gave: a snapshot) and {"recv": epoch, "info": {…}} (GET /asterisk/info: since when it runs).
    `received` (epoch seconds) stands in for a missing time."""
    if isinstance(message, Malformed):
        raise message
    if not isinstance(message, dict):
        raise Malformed("an ARI event must be a JSON object")
    at = _received(message.get("recv")) or received
    if "channels" in message and "type" not in message:
        return _snapshot(message["channels"], at)
    if "info" in message and "type" not in message:
        return _started(message["info"])
    event = message.get("ari", message)
    if not isinstance(event, dict):
        raise Malformed('"ari" must be a JSON object: an event')
    return _event(event, at)


def _event(event: Mapping[str, Any], received: float | None) -> Observation | Ignored:
    kind = event.get("type")
    if not isinstance(kind, str):
        raise Malformed('an ARI event has a "type": send it as it came')
    told = _READERS[kind](event) if kind in _READERS else None
    if told is None:
        return Ignored(kind)
    what, fields = told
    stamp = event.get("timestamp")
    at = received if stamp is None else _instant(stamp)
    names = [fields.get(name, "") for name in ("call", "member_call", "queue", "interface", "agent", "reason")]
    variable = f"{event.get('variable', '')}{fields.get('recording') or ''}"
    key = "|".join(["ari", kind, what, *map(str, names), variable, str(stamp or at or "")])
    return Observation("ari", what, key, at, **{name: value for name, value in fields.items() if value not in (None, "")})


def _channel(event: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    channel = event.get(name)
    if channel is None:
        return None
    if not isinstance(channel, dict) or not isinstance(channel.get("id"), str) or not channel["id"]:
        raise Malformed(f'"{name}" of {event.get("type")} must be a channel with its "id": send the event as it came')
    return channel


def _text(value: Any) -> str:
    return storable(value) if isinstance(value, str) else ""


def _position(channel: Mapping[str, Any]) -> Mapping[str, Any]:
    dialplan = channel.get("dialplan")
    return dialplan if isinstance(dialplan, dict) else {}


def _in_queue(channel: Mapping[str, Any] | None) -> str:
    """The queue in whose Queue() the channel is, or none. A member's channel runs AppQueue instead."""
    if channel is None or _position(channel).get("app_name") != "Queue":
        return ""
    return _text(_position(channel).get("app_data")).split(",", 1)[0]


def _caller(channel: Mapping[str, Any]) -> dict[str, Any]:
    caller = channel.get("caller")
    caller = caller if isinstance(caller, dict) else {}
    return {"call": storable(channel["id"]), "caller": _text(caller.get("number")), "name": _text(caller.get("name"))}


# what Queue() sets on the caller's channel -> what that tells
_VARIABLES: dict[str, tuple[Kind, str]] = {
    "MEMBERINTERFACE": ("answered", "interface"),  # set once the member has answered
    "MEMBERNAME": ("detail", "agent"),
    "QEHOLDTIME": ("detail", "hold_seconds"),
    "QEORIGINALPOS": ("detail", "position"),
    "ABANDONED": ("abandoned", ""),
    "QUEUEPOSITION": ("left", ""),  # set on leaving, for whatever reason
    "QUEUESTATUS": ("status", "reason"),
}


def _varset(event: Mapping[str, Any]) -> _Told | None:
    variable, value = _text(event.get("variable")), _text(event.get("value"))
    if variable not in _VARIABLES and variable not in ("ANSWEREDTIME", "MIXMONITOR_FILENAME"):
        return None
    channel = _channel(event, "channel")
    if variable == "MIXMONITOR_FILENAME":
        return ("recorded", {"call": storable(channel["id"]), "recording": value}) if channel and value else None
    queue = _in_queue(channel)
    if channel is None or not queue:
        return None
    place = f"{_position(channel).get('exten', '')}@{_position(channel).get('context', '')}"
    if variable == "ANSWEREDTIME":  # emptied once, on entry
        return None if value else ("entered", {**_caller(channel), "queue": queue, "place": place})
    kind, name = _VARIABLES[variable]
    if not value:
        return None
    told: dict[str, Any] = {"call": storable(channel["id"])}
    if kind != "status":
        told["queue"] = queue
    if kind == "left":
        told["place"] = place
    if name in ("hold_seconds", "position"):
        number = _whole(variable, value)
        told[name] = float(number) if name == "hold_seconds" else number
    elif name:
        told[name] = value
    return kind, told


def _whole(variable: str, value: str) -> int:
    if value.isascii() and value.isdigit() and len(value) <= 9:
        return int(value)
    raise Malformed(f"{variable} must be a whole number of at most 9 digits")


def _dial(event: Mapping[str, Any]) -> _Told | None:
    """Queue() dials a member: it rings, answers, or stops ringing."""
    caller, peer, status = _channel(event, "caller"), _channel(event, "peer"), _text(event.get("dialstatus"))
    queue = _in_queue(caller)
    if caller is None or peer is None or not queue:
        return None
    told = {
        "call": storable(caller["id"]),
        "queue": queue,
        "member_call": storable(peer["id"]),
        "interface": _text(event.get("dialstring")),
    }
    if status == "":
        return "called", told
    if status == "ANSWER":
        return "detail", told
    return ("cancelled", told) if status in _NOT_ANSWERED else None


def _destroyed(event: Mapping[str, Any]) -> _Told | None:
    channel = _channel(event, "channel")
    if channel is None:
        raise Malformed("ChannelDestroyed has no channel: send the event as it came")
    return "hung_up", {"call": storable(channel["id"])}


def _on_hold(event: Mapping[str, Any]) -> _Told:
    """The channel is that of whoever asked for it, the customer's own too."""
    channel = _channel(event, "channel")
    if channel is None:
        raise Malformed(f"{event['type']} has no channel: send the event as it came")
    return ON_HOLD[event["type"]], {"member_call": storable(channel["id"])}


def _transferred(event: Mapping[str, Any], transferer: str) -> _Told | None:
    if event.get("result") not in (None, "Success"):
        return None
    customer, agent = _channel(event, "transferee"), _channel(event, transferer)
    if customer is None or agent is None:
        return None
    return "redirected", {"call": storable(customer["id"]), "member_call": storable(agent["id"]), "target": _text(event.get("exten"))}


def _stasis(event: Mapping[str, Any]) -> _Told | None:
    """Stasis(app,support) or Stasis(app,…,queue=support): the call is on its way to that queue."""
    channel, told = _channel(event, "channel"), event.get("args")
    if channel is None:
        raise Malformed("StasisStart has no channel: send the event as it came")
    words = [_text(word) for word in told] if isinstance(told, list) else []
    named = [word.removeprefix("queue=") for word in words if word.startswith("queue=")]
    alone = words[0] if len(words) == 1 and words[0] != channel["id"] and "=" not in words[0] else ""
    queue = named[0] if named else alone
    return ("arrived", {**_caller(channel), "queue": queue}) if queue else None


def _recording(event: Mapping[str, Any]) -> _Told | None:
    """Of a channel's recording; one of a bridge names no call."""
    told = event.get("recording")
    if not isinstance(told, dict) or not _text(told.get("name")):
        raise Malformed(f'{event["type"]} has no "recording" with its "name": send the event as it came')
    target, ending = _text(told.get("target_uri")), _text(told.get("format"))
    if not target.startswith("channel:"):
        return None
    seconds = told.get("duration")
    known = isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < 1e7
    return RECORDINGS[event["type"]], {
        "call": target.removeprefix("channel:"),
        "recording": f"{_text(told['name'])}.{ending}" if ending else _text(told["name"]),
        "recorded_seconds": float(seconds) if known and event["type"] == "RecordingFinished" else None,  # type: ignore[arg-type]
        "reason": "failed" if event["type"] == "RecordingFailed" else None,
    }


_READERS = {
    **dict.fromkeys(RECORDINGS, _recording),
    **dict.fromkeys(ON_HOLD, _on_hold),
    "ChannelVarset": _varset,
    "Dial": _dial,
    "ChannelDestroyed": _destroyed,
    "BridgeBlindTransfer": lambda event: _transferred(event, "channel"),
    "BridgeAttendedTransfer": lambda event: _transferred(event, "transferer_first_leg"),
    "StasisStart": _stasis,
}


def _snapshot(channels: Any, at: float | None) -> Observation | Ignored:
    if not isinstance(channels, list) or not all(isinstance(one, dict) and isinstance(one.get("id"), str) for one in channels):
        raise Malformed('"channels" must be what GET /ari/channels answered: an array of channels with their "id"')
    if at is None:
        return Ignored("channels of an unknown time")
    return snapshot("ari", at, {storable(one["id"]) for one in channels})


def _started(info: Any) -> Observation | Ignored:
    status = info.get("status") if isinstance(info, dict) else None
    since = status.get("startup_time") if isinstance(status, dict) else None
    if since is None:
        return Ignored("info without startup_time")
    at = _instant(since)
    return Observation("ari", "restarted", f"ari|restarted|{int(at)}", at)


# ---- times


def _instant(value: Any) -> float:
    if isinstance(value, str):
        try:
            instant = datetime.fromisoformat(value)
            if instant.tzinfo is not None:
                return instant.timestamp()
        except (ValueError, OverflowError):
            pass
    raise Malformed("an ARI timestamp is ISO 8601 with a zone, as in 2026-08-06T10:15:02.123+0000: send it as it came")


def _received(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not 0 < value < 1e11:
        raise Malformed('"recv" must be epoch seconds (not milliseconds)')
    return float(value)
