"""Asterisk's queue_log: `epoch|callid|queue|agent|EVENT|data…`, one line a fact, whole seconds.

The whole line is the fact's identity. app_queue waits `retry` (at least one second) before it rings a member again, and nothing
else repeats within a second, so two equal lines are one fact read twice.
"""

from __future__ import annotations

import re
from typing import Any

from services.gateway.domain.observation import Ignored, Kind, Malformed, Observation, storable

_HOLD_TALK_POSITION = ("hold_seconds", "talk_seconds", "position")
_EXIT = ("", "position", "hold_seconds")  # the first is the position on leaving

# event -> what it tells, how many data fields it must have, and what each of them is ("" = of no concern)
_EVENTS: dict[str, tuple[Kind, int, tuple[str, ...]]] = {
    "ENTERQUEUE": ("entered", 2, ("", "caller", "position", "name")),
    "CONNECT": ("answered", 1, ("hold_seconds", "member_call", "ring_seconds")),
    "RINGNOANSWER": ("missed", 0, ("ring_milliseconds",)),
    "RINGCANCELED": ("cancelled", 0, ("ring_milliseconds",)),
    "COMPLETEAGENT": ("completed", 2, _HOLD_TALK_POSITION),
    "COMPLETECALLER": ("completed", 2, _HOLD_TALK_POSITION),
    "BLINDTRANSFER": ("transferred", 4, ("target", "", *_HOLD_TALK_POSITION)),
    "TRANSFER": ("transferred", 4, ("target", "", *_HOLD_TALK_POSITION)),  # its name before Asterisk 12
    "ATTENDEDTRANSFER": ("transferred", 3, _HOLD_TALK_POSITION),  # the last three; what precedes depends on the way
    "ABANDON": ("abandoned", 3, _EXIT),
    "EXITWITHTIMEOUT": ("timed_out", 0, _EXIT),
    "EXITWITHKEY": ("left_by_key", 1, ("target", *_EXIT)),
    "EXITEMPTY": ("left_empty", 0, _EXIT),
    "WITHDRAW": ("withdrawn", 0, _EXIT),
    "PAUSE": ("paused", 0, ("reason",)),
    "PAUSEALL": ("paused", 0, ("reason",)),
    "UNPAUSE": ("unpaused", 0, ("reason",)),
    "UNPAUSEALL": ("unpaused", 0, ("reason",)),
    "ADDMEMBER": ("member_added", 0, ()),
    "REMOVEMEMBER": ("member_removed", 0, ()),
    "PENALTY": ("member_penalty", 1, ("penalty",)),
    "QUEUESTART": ("restarted", 0, ()),
}
_MOST_FIELDS = 10  # of one line, but for reasons and names that hold the separator
_ANOTHER_LINE = re.compile(r"\d{10}\|(?:[^|]*\|){3}(?:" + "|".join(_EVENTS) + r")(?:\||$)")
_BY = {"COMPLETEAGENT": "agent", "COMPLETECALLER": "caller"}
_NAMES_THE_DEVICE = frozenset({"ADDMEMBER", "REMOVEMEMBER", "PENALTY"})
_WITHOUT_CALL = frozenset({"PAUSE", "PAUSEALL", "UNPAUSE", "UNPAUSEALL", "QUEUESTART"}) | _NAMES_THE_DEVICE
_TEXT = frozenset({"caller", "name", "reason", "target", "member_call"})
_INTEGER = frozenset({"position", "penalty"})


def parse(line: str) -> Observation | Ignored:
    """One line as an observation; event names unknown to us are Ignored, anything unreadable raises Malformed."""
    line = storable(line.rstrip("\r\n"))
    parts = line.split("|")
    if len(parts) < 5:
        raise Malformed(f"a queue_log line is epoch|callid|queue|agent|EVENT|data, this one has {len(parts)} of those fields")
    if len(parts) > _MOST_FIELDS and _ANOTHER_LINE.search(line, len(parts[0])):
        raise Malformed("several lines are joined into one: send their line ends too (curl: --data-binary, for -d removes them)")
    epoch, call, queue, agent, event, *data = parts
    shape = _EVENTS.get(event)
    if shape is None:
        return Ignored(event)
    kind, required, names = shape
    told: dict[str, Any] = {}
    if event not in _WITHOUT_CALL:
        if not call or call == "NONE":
            raise Malformed(f"{event} names no call: its second field must be the call's Uniqueid")
        if not queue or queue == "NONE":
            raise Malformed(f"{event} names no queue: its third field must be the queue's name")
        told["call"] = call
    if queue != "NONE":
        told["queue"] = queue or None
    if agent and agent != "NONE":
        told["interface" if event in _NAMES_THE_DEVICE else "agent"] = agent
    if event in _BY:
        told["reason"] = _BY[event]
    if len(data) < required:
        raise Malformed(f"{event} needs {required} data fields after its name, this line has {len(data)}")
    if event == "ATTENDEDTRANSFER":
        data = data[-3:]
    told |= _read(event, names, data)
    return Observation("queue_log", kind, "queue_log|" + line, _number(event, "epoch", epoch, digits=10), **told)


def _read(event: str, names: tuple[str, ...], data: list[str]) -> dict[str, Any]:
    if names and names[-1] in _TEXT and len(data) > len(names):
        data = [*data[: len(names) - 1], "|".join(data[len(names) - 1 :])]  # a reason or a name may hold the separator
    told: dict[str, Any] = {}
    for name, value in zip(names, data, strict=False):
        if not name or not value:
            continue
        if name in _TEXT:
            told[name] = value
        elif name in _INTEGER:
            told[name] = int(_number(event, name, value))
        elif name == "ring_milliseconds":
            told["ring_seconds"] = _number(event, name, value) / 1000
        else:
            told[name] = _number(event, name, value)
    return told


def _number(event: str, name: str, value: str, digits: int = 9) -> float:
    if value.isascii() and value.isdigit() and len(value) <= digits:
        return float(value)
    raise Malformed(f"{name} of {event} must be a whole number of at most {digits} digits")
