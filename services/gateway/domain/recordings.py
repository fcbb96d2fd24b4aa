"""What telephony systems tell of recordings, made into the recordings of a contact.

A recording is named by the channel that it was made on and where it is kept. Asterisk says where (MIXMONITOR_FILENAME) apart from that
it began, and that it ended only where the dialplan stops it before the hang-up: then the channel's end is the recording's. Neither order
nor repetition of what is told changes the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from services.gateway.domain.observation import Observation

Consent = Literal["granted", "refused", "unknown"]
Span = tuple[float, float | None]
"""from and to, epoch seconds; without an end it goes on"""

FORMATS = {
    "wav": "audio/wav",
    "wav49": "audio/wav",
    "mp3": "audio/mpeg",
    "ogg": "audio/ogg",
    "opus": "audio/ogg",
    "gsm": "audio/x-gsm",
    "g722": "audio/G722",
    "ulaw": "audio/basic",
    "pcmu": "audio/basic",
    "alaw": "audio/x-alaw-basic",
    "pcma": "audio/x-alaw-basic",
    "sln": "audio/L16",
    "sln16": "audio/L16",
    "raw": "audio/L16",
    "m4a": "audio/mp4",
    "flac": "audio/flac",
}
"""Endings of files that are recordings, and their media types. Nothing else is ever given out."""


@dataclass(frozen=True, slots=True)
class Recording:
    """`ended_at` None: it is still being made. `failed`: it came to nothing. `muted`: what the telephony system told of silence in it."""

    call: str
    location: str
    started_at: float | None = None
    ended_at: float | None = None
    seconds: float | None = None
    failed: bool = False
    muted: tuple[Span, ...] = ()


def is_address(location: str) -> bool:
    """Whether it is kept elsewhere, and not in a file."""
    return location.startswith(("https://", "http://"))


def format_of(location: str) -> str:
    """The ending of the file, in small letters; of an address without one, wav, which is what Twilio gives then. Empty: none that we know."""
    name = location.partition("?")[0].rpartition("/")[2]
    ending = name.rpartition(".")[2].lower() if "." in name else ""
    if not ending and is_address(location):
        return "wav"
    return ending if ending in FORMATS else ""


def consent_of(told: Iterable[Observation]) -> Consent:
    """What was said last counts; of both at one moment the refusal."""
    said = max(((one.at or 0.0, one.reason == "refused") for one in told if one.kind == "consent"), default=None)
    return "unknown" if said is None else "refused" if said[1] else "granted"


def fold(told: Iterable[Observation], over_at: Mapping[str, float]) -> list[Recording]:
    """The recordings of a contact, by when they began. `over_at`: when each channel (or its whole call) was over, where that is known."""
    by_call: dict[str, list[Observation]] = {}
    for one in told:
        if one.kind != "consent" and one.call:
            by_call.setdefault(one.call, []).append(one)
    found = [recording for call, of_call in sorted(by_call.items()) for recording in _of_call(call, of_call, over_at.get(call))]
    return sorted(found, key=lambda one: (one.started_at or 0.0, one.call, one.location))


def _of_call(call: str, told: list[Observation], over_at: float | None) -> list[Recording]:
    stops = sorted(one.at for one in told if one.kind == "record_stopped" and not one.recording and one.at is not None)
    found = []
    for location in sorted({one.recording for one in told if one.recording}):
        own = [one for one in told if one.recording == location]
        lengths = [one.recorded_seconds for one in own if one.recorded_seconds is not None]
        began = [one.at for one in own if one.kind == "recorded" and one.at is not None]
        ends = [one.at for one in own if one.kind == "record_stopped" and one.at is not None]
        seconds = max(lengths, default=None)
        started_at = min(began, default=None)
        ended_at = max(ends, default=None)
        if ended_at is None:
            ended_at = next((at for at in stops if started_at is None or at >= started_at), over_at)
        if ended_at is not None and (started_at is None or started_at > ended_at):
            started_at = ended_at - (seconds or 0.0)
        if seconds is None and started_at is not None and ended_at is not None:
            seconds = round(ended_at - started_at, 3)
        failed = any(one.reason == "failed" for one in own) and not any(length > 0 for length in lengths)
        found.append(Recording(call, location, started_at, ended_at, seconds, failed, _silences(told, started_at, ended_at)))
    return found


def _silences(told: Iterable[Observation], started_at: float | None, ended_at: float | None) -> tuple[Span, ...]:
    switched = sorted({(one.at, one.reason == "on") for one in told if one.kind == "record_muted" and one.at is not None})
    spans: list[Span] = []
    since: float | None = None
    for at, on in switched:
        if on and since is None:
            since = at
        elif not on and since is not None:
            spans.append((since, at))
            since = None
    if since is not None:
        spans.append((since, None))
    return tuple(_within(spans, started_at, ended_at))


def _within(spans: Iterable[Span], start: float | None, end: float | None) -> Iterable[Span]:
    for since, until in spans:
        since = max(since, start or since)
        until = end if until is None else until if end is None else min(until, end)
        if until is None or until > since:
            yield since, until


def overlapping(spans: Iterable[Span], recording: Recording) -> list[Span]:
    """The parts of these spans that lie within the recording."""
    return list(_within(spans, recording.started_at, recording.ended_at))
