"""What a telephony system told us: one observation is one fact from one reporter, not yet believed, not yet combined.

The same fact may reach us several times (a resent post, two AMI sessions, a log read again) and several reporters tell of the
same call. `key` recognises the first; `services.gateway.domain.legs` combines the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args
from urllib.parse import parse_qsl

Reporter = Literal[
    "queue_log", "ami", "ari", "callcenter", "cdr", "agent_cdr", "dialplan", "api", "gateway", "taskrouter", "twilio", "events"
]

CallKind = Literal[
    "arrived",  # the dialplan took the call, on its way to a queue
    "entered",  # the caller joined the queue
    "waiting",  # a snapshot: the caller stands in the queue, and has for hold_seconds
    "called",  # a member's phone is rung
    "missed",  # it rang and was not answered, was busy or rejected the call
    "cancelled",  # it stopped ringing because somebody else answered or the caller left
    "answered",  # caller and agent are connected
    "unmet",  # what was told as an answer was none: the two were never connected
    "detail",  # more of an answer told elsewhere: the member's name or channel, how long the caller had waited
    "connected",  # a snapshot: the caller talks with somebody whom the queue gave
    "completed",  # agent or caller ended the talk
    "transferred",  # the agent's part ended by a transfer
    "redirected",  # where a transfer went; says nothing of the agent's figures
    "held",  # the line `member_call` put whom it talks with on hold; without it, the customer of `call` was put on hold
    "resumed",  # and no longer is
    "abandoned",  # the caller gave up (from AMI alone: or the queue timed out, see `status`)
    "timed_out",
    "left_by_key",
    "left_empty",  # no agent was left in the queue
    "withdrawn",  # taken out of the queue by an administrator
    "left",  # no longer in the queue, for a reason told elsewhere
    "status",  # what Queue() put into QUEUESTATUS, in `reason`; COMPLETED: all that an agent had to do is done
    "hung_up",  # a channel is gone: the caller's, or a member's
    "expired",  # our own word: nothing was heard of the call for so long that nobody believes it open
]
AgentKind = Literal["paused", "unpaused", "member_added", "member_removed", "member_penalty", "member_status", "device"]
SourceKind = Literal[
    "restarted",
    "stopped",
    "snapshot",  # these channels exist, in `calls`, and no others
]
RecordingKind = Literal[
    "recorded",  # a file or an address of a recording, in `recording`
    "record_stopped",  # it is whole: that one, or without a name all of the channel; reason "failed": there is none
    "record_muted",  # the recording of the channel keeps silence: reason "on" or "off"
    "consent",  # whether the customer agrees to it: reason "granted" or "refused"
]
Kind = Literal[CallKind, AgentKind, SourceKind, RecordingKind]

CALL_KINDS: frozenset[str] = frozenset(get_args(CallKind))
AGENT_KINDS: frozenset[str] = frozenset(get_args(AgentKind))
HOLDS: frozenset[str] = frozenset({"held", "resumed"})
SOURCE_KINDS: frozenset[str] = frozenset(get_args(SourceKind))
RECORDING_KINDS: frozenset[str] = frozenset(get_args(RecordingKind))
MAX_FIELDS = 200
LONGEST_LOCATION = 1000


class Malformed(ValueError):
    """What came cannot be read; the text tells the sender what to mend, and quotes no caller's name or number."""


def storable(text: str) -> str:
    """The text without what no database takes: lone surrogates and NUL."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def read_form(body: bytes) -> dict[str, str]:
    """The fields of a form (application/x-www-form-urlencoded). Raises Malformed."""
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except UnicodeDecodeError as error:
        raise Malformed("the form is not UTF-8") from error
    except ValueError as error:
        raise Malformed(f"a form may have at most {MAX_FIELDS} fields") from error
    if not fields:
        raise Malformed("the body is no form: post application/x-www-form-urlencoded")
    return {name: storable(value) for name, value in fields}


@dataclass(frozen=True, slots=True)
class Ignored:
    """Read and understood, but of no concern to us."""

    what: str


@dataclass(frozen=True, slots=True)
class Observation:
    """Instants are epoch seconds UTC, durations seconds. `at` is None only where neither the message nor the reader has a time."""

    reporter: Reporter
    kind: Kind
    key: str
    at: float | None = None
    call: str | None = None  # Uniqueid of the caller's channel (of any channel, for hung_up)
    linked: str | None = None  # Linkedid, shared by all channels of the call
    member_call: str | None = None  # Uniqueid of the member's channel
    queue: str | None = None
    agent: str | None = None  # the member's name
    interface: str | None = None  # the member's device
    caller: str | None = None
    name: str | None = None
    position: int | None = None  # in the queue, on entry
    place: str | None = None  # exten@context at which the caller's channel stood
    hold_seconds: float | None = None
    talk_seconds: float | None = None
    ring_seconds: float | None = None
    reason: str | None = None
    target: str | None = None
    device: str | None = None  # state of the member's device
    paused: bool | None = None
    penalty: int | None = None
    calls: tuple[str, ...] | None = None  # of a snapshot: the ids of all channels there are
    recording: str | None = None  # where it is kept: a path as the telephony system has it, or an address
    recorded_seconds: float | None = None

    @property
    def identifiers(self) -> tuple[str, ...]:
        """Ids by which observations belong to one contact: those of its channels."""
        return tuple(dict.fromkeys(i for i in (self.call, self.linked, self.member_call) if i))

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name in _NAMES if (value := getattr(self, name)) is not None}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Observation:
        told = {name: value for name, value in stored.items() if name in _KNOWN}
        if told.get("calls") is not None:
            told["calls"] = tuple(told["calls"])
        return cls(**told)


_NAMES = tuple(field.name for field in fields(Observation))
_KNOWN = frozenset(_NAMES)
