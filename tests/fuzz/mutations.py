"""What each telephony door is sent, from the captures, and the ways in which it may arrive broken."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st

from tests.contract.telephony import raw_ami
from tests.unit.gateway import freeswitch_samples, telephony_samples, twilio_samples

FORM = "application/x-www-form-urlencoded"
LINES = 40
"""Of a long capture, in one post."""
FLOODS = (b"x" * 5000, b"9" * 400, "陳".encode() * 300, b"|" * 300, b"%41" * 500)
NASTY = (
    b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"NaN", b"-Infinity", b"1e400", b"9" * 30, b"null", b"[]", b"{}", b'"', b"\\",
    b"\r", b"\n\n", b"\xe2\x80\xae", b"%", b"%ff", b"%00", b"+", b"&", b"=", b";", b"<!ENTITY x>", b"-1", b"0", b"true",
)  # fmt: skip


@dataclass(frozen=True)
class Intake:
    """A door, and whole posts as a sender makes them. `apart`: what stands between the things that it tells in one post."""

    name: str
    path: str
    kind: str
    posts: tuple[bytes, ...]
    apart: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def _packed(lines: Sequence[bytes], apart: bytes = b"\n") -> tuple[bytes, ...]:
    """Posts of some lines each."""
    return tuple(apart.join(lines[start : start + LINES]) + apart for start in range(0, len(lines), LINES))


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


@cache
def intakes() -> tuple[Intake, ...]:
    asterisk, freeswitch, twilio = "/v1/telephony/asterisk", "/v1/telephony/freeswitch", "/v1/telephony/twilio"
    clouds = telephony_samples.DATA / "cloudevents"
    dialplan = telephony_samples.posts()
    callcenter, records = freeswitch_samples.events(), [record for _, record in freeswitch_samples.records()]
    ari = (telephony_samples.ami_lines("ari_events"))[:400]
    frames = [frame + b"\r\n\r\n" for frame in raw_ami().split(b"\r\n\r\n") if frame][:600]
    head, _, body = (clouds / "binary.http").read_bytes().partition(b"\n\n")
    named = dict(line.split(": ", 1) for line in head.decode().splitlines() if line.startswith("ce-"))
    binary = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in named.items()}
    forms = {name: tuple(line.encode() for line in twilio_samples.posts(f"{name}.form")) for name in (
        "voice_of_dial", "voice_of_tasks", "taskrouter_answered", "taskrouter_abandoned")}  # fmt: skip
    stream = twilio_samples.stream()
    return (
        Intake("queue_log", f"{asterisk}/queue-log", "text/plain", _packed([line.encode() for line in telephony_samples.queue_log_lines()]), b"\n"),
        Intake("ami_raw", f"{asterisk}/ami", "text/plain", tuple(b"".join(frames[n : n + LINES]) for n in range(0, len(frames), LINES)), b"\r\n\r\n"),
        Intake("ami_json", f"{asterisk}/ami", "application/x-ndjson", _packed(telephony_samples.ami_lines("ami_with_timestamps")[:800]), b"\n"),
        Intake("ari", f"{asterisk}/ari", "application/x-ndjson", _packed(ari), b"\n"),
        Intake("dialplan_json", f"{asterisk}/dialplan", "application/json",
               tuple(post["body"].encode() for post in dialplan if post["body"].lstrip().startswith("{"))),
        Intake("dialplan_form", f"{asterisk}/dialplan", FORM,
               tuple(post["body"].encode() for post in dialplan if not post["body"].lstrip().startswith("{"))
               or (b"event=call.arrived&queue=sales&callid=1795296258.5&linkedid=1795296258.4&at=1795296258&caller=%2B85221112222",)),
        Intake("callcenter_json", f"{freeswitch}/callcenter", "application/x-ndjson", _packed([_json(event) for event in callcenter]), b"\n"),
        Intake("callcenter_plain", f"{freeswitch}/callcenter", "text/event-plain", (b"".join(map(freeswitch_samples.block, callcenter[:LINES])),), b"\n\n"),
        Intake("cdr_json", f"{freeswitch}/cdr", "application/json", tuple(map(freeswitch_samples.as_json, records))),
        Intake("cdr_form", f"{freeswitch}/cdr", FORM, tuple(map(freeswitch_samples.as_form, records))),
        Intake("cdr_base64", f"{freeswitch}/cdr", "application/x-www-form-base64-encoded", tuple(map(freeswitch_samples.as_base64, records))),
        Intake("cdr_xml", f"{freeswitch}/cdr", "text/xml", tuple(map(freeswitch_samples.as_xml, records))),
        Intake("twilio_voice", f"{twilio}/voice", FORM, forms["voice_of_dial"] + forms["voice_of_tasks"]),
        Intake("twilio_taskrouter", f"{twilio}/taskrouter", FORM, forms["taskrouter_answered"] + forms["taskrouter_abandoned"]),
        Intake("twilio_events", f"{twilio}/events", "application/json", tuple(_json(stream[n : n + 5]) for n in range(0, len(stream), 5))),
        Intake("cloudevents_structured", "/v1/events", "application/cloudevents+json", ((clouds / "structured.json").read_bytes(),)),
        Intake("cloudevents_binary", "/v1/events", "application/json", (body,), headers=binary),
        Intake("cloudevents_batch", "/v1/events", "application/cloudevents-batch+json", ((clouds / "batch.json").read_bytes(),)),
    )  # fmt: skip


# ---- how a post may arrive broken

Mutation = Callable[[bytes, Any], bytes]


def _place(body: bytes, draw: Any) -> int:
    return int(draw(st.integers(0, max(len(body) - 1, 0))))


def flip(body: bytes, draw: Any) -> bytes:
    at = _place(body, draw)
    return body[:at] + bytes([body[at] ^ draw(st.integers(1, 255))]) + body[at + 1 :] if body else body


def cut(body: bytes, draw: Any) -> bytes:
    return body[: _place(body, draw)]


def behead(body: bytes, draw: Any) -> bytes:
    return body[_place(body, draw) :]


def insert(body: bytes, draw: Any) -> bytes:
    at = _place(body, draw)
    return body[:at] + draw(st.sampled_from(NASTY + FLOODS)) + body[at:]


def drop(body: bytes, draw: Any) -> bytes:
    start = _place(body, draw)
    return body[:start] + body[start + draw(st.integers(1, 40)) :]


def recode(body: bytes, draw: Any) -> bytes:
    text = body.decode("utf-8", "replace")
    return text.encode(draw(st.sampled_from(("utf-16", "utf-32-le", "utf-8-sig", "latin-1", "gb18030", "big5"))), "replace")


def nest(body: bytes, draw: Any) -> bytes:
    depth, at = draw(st.sampled_from((50, 1000, 20_000))), _place(body, draw)
    return body[:at] + draw(st.sampled_from((b"[", b'{"a":', b"<a>", b"("))) * depth + body[at:]


def numbers_as_text(body: bytes, _draw: Any) -> bytes:
    return re.sub(rb"(?<=[:,\[ ])(-?\d+(?:\.\d+)?)(?=[,}\]])", rb'"\1"', body)


def text_as_numbers(body: bytes, _draw: Any) -> bytes:
    return re.sub(rb'"(-?\d+(?:\.\d+)?)"(?!\s*:)', rb"\1", body)


def odd_numbers(body: bytes, draw: Any) -> bytes:
    odd = draw(
        st.sampled_from((b"NaN", b"Infinity", b"-1", b"1e400", b"99999999999999999999", b"null", b"true", b"[]", b"{}", b'""', b"0.1"))
    )
    return re.sub(rb"\d+(?:\.\d+)?", lambda found: odd if draw(st.booleans()) else found[0], body, count=30)


def odd_texts(body: bytes, draw: Any) -> bytes:
    odd = draw(st.sampled_from((b"\\ud800", b"\\u0000", b"\\udfff\\ud800", b"", b"x" * 300, b"\\n", "\U0001f600".encode(), b"~")))
    return re.sub(rb'"[^"]*"(?=\s*[,}\]])', lambda found: b'"%b"' % odd if draw(st.booleans()) else found[0], body, count=30)


def percent(body: bytes, _draw: Any) -> bytes:
    return quote(body).encode()


BYTES: tuple[Mutation, ...] = (
    flip, flip, cut, behead, insert, insert, drop, recode, nest, numbers_as_text, text_as_numbers, odd_numbers, odd_texts, percent,
)  # fmt: skip


def duplicate(parts: list[bytes], draw: Any) -> list[bytes]:
    return parts + draw(st.lists(st.sampled_from(parts), max_size=10)) if parts else parts


def reorder(parts: list[bytes], draw: Any) -> list[bytes]:
    return list(draw(st.permutations(parts)))


def delete(parts: list[bytes], draw: Any) -> list[bytes]:
    return [part for part in parts if draw(st.integers(0, 3))]


PARTS = (duplicate, reorder, delete)


@st.composite
def broken(draw: Any, intake: Intake) -> bytes:
    """A post of the captures with up to four things wrong with it, or none."""
    body = draw(st.sampled_from(intake.posts))
    if intake.apart:
        parts = body.split(intake.apart)
        for change in draw(st.lists(st.sampled_from(PARTS), max_size=2)):
            parts = change(parts, draw)
        body = intake.apart.join(parts)
    for mutate in draw(st.lists(st.sampled_from(BYTES), max_size=4)):
        body = mutate(body, draw)
    return bytes(body[:200_000])
