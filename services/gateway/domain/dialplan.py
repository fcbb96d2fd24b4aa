"""What the dialplan posts with CURL(): call.arrived, call.answered, call.hangup, as JSON or as a form; with each, where the call is recorded.

Limits of this reporter: it knows no positions and no unanswered rings, nothing of a second leg until it is answered, and nothing
of an exit from the queue whose context has no `h` extension.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Mapping
from datetime import datetime, tzinfo
from typing import Any
from urllib.parse import parse_qsl

from services.gateway.domain.observation import Kind, Malformed, Observation, storable

MAX_FIELDS = 64
NO_CHARSETS = frozenset({"idna", "punycode", "raw_unicode_escape", "undefined", "unicode_escape"})
"""What Python has among its charsets, and no PBX writes in; the time that punycode takes grows with the square of the body."""

# event -> its kind, the fields it must have, and (our name, its name) of what it tells
_EVENTS: dict[str, tuple[Kind, tuple[str, ...], tuple[tuple[str, str], ...]]] = {
    "call.arrived": (
        "arrived",
        ("callid", "queue"),
        (("call", "callid"), ("linked", "linkedid"), ("queue", "queue"), ("caller", "caller"), ("name", "name")),
    ),
    # it runs on the member's channel, where only CHANNEL(linkedid) names the call
    "call.answered": (
        "answered",
        ("callid", "queue"),
        (("linked", "callid"), ("member_call", "member_uniqueid"), ("queue", "queue"), ("interface", "agent")),
    ),
    "call.hangup": (
        "hung_up",
        ("callid",),
        (("call", "callid"), ("linked", "linkedid"), ("queue", "queue"), ("interface", "agent"), ("reason", "status")),
    ),
}


def interpret(body: Mapping[str, Any], received: float | None = None, zone: tzinfo | None = None) -> Observation:
    """A decoded post as an observation. `zone` is the PBX's, for times without one; `received` stands in for a missing `at`."""
    event = body.get("event")
    shape = _EVENTS.get(event) if isinstance(event, str) else None
    if shape is None:
        raise Malformed(f'"event" must be one of {", ".join(_EVENTS)}')
    kind, required, pairs = shape
    told = {field: text for field, name in pairs if (text := _text(name, body.get(name)))}
    for name in required:
        if not _text(name, body.get(name)):
            raise Malformed(f'{event} needs "{name}": the dialplan variable behind it was empty or the field is missing')
    at = _instant(body.get("at"), zone)
    key = "|".join(["dialplan", str(event), *[told.get(field, "") for field, _ in pairs], "" if at is None else repr(at)])
    return Observation("dialplan", kind, key, received if at is None else at, **told)  # type: ignore[arg-type]


def recordings(body: Mapping[str, Any], told: Observation) -> list[Observation]:
    """What a post says beside its event: where the call is recorded (`recording`, as MIXMONITOR_FILENAME has it), and whether the customer
    agrees (`consent`: granted or refused)."""
    found: list[Observation] = []
    where, consent = _text("recording", body.get("recording")).strip(), _text("consent", body.get("consent")).strip()
    call: dict[str, Any] = {"call": told.call or told.linked, "linked": told.linked}
    if where:
        kind: Kind = "record_stopped" if told.kind == "hung_up" else "recorded"
        found.append(Observation("dialplan", kind, f"{told.key}|recording|{where}", told.at, recording=where, **call))
    if consent:
        if consent not in ("granted", "refused"):
            raise Malformed('"consent" must be granted or refused, or be left out where nobody was asked')
        found.append(Observation("dialplan", "consent", f"{told.key}|consent|{consent}", told.at, reason=consent, **call))
    return found


def customer(body: Mapping[str, Any]) -> str:
    """The customer's id, where the dialplan knows it. A number in its place is passed over: ids travel, numbers do not."""
    told = _text("customer", body.get("customer")).strip()
    return "" if told.startswith("+") else told


def _text(name: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Malformed(f'"{name}" must be text')
    return storable(str(value))


def _instant(value: object, zone: tzinfo | None) -> float | None:
    """Epoch seconds, as a number or as text, or ISO 8601."""
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Malformed('"at" must be epoch seconds (${EPOCH}) or ISO 8601 with a zone')
    try:
        seconds = float(value)
    except OverflowError:
        seconds = float("inf")
    except ValueError:
        seconds = _iso(str(value), zone)
    if not 0 < seconds < 1e11:
        raise Malformed('"at" is out of range: send seconds since 1970 (${EPOCH}), not milliseconds')
    return seconds


def _iso(value: str, zone: tzinfo | None) -> float:
    try:
        instant = datetime.fromisoformat(value)
        if instant.tzinfo is None:
            instant = instant.replace(tzinfo=zone)
        if instant.tzinfo is not None:
            return instant.timestamp()
    except (ValueError, OverflowError) as error:
        raise Malformed('"at" must be epoch seconds (${EPOCH}) or ISO 8601 with a zone') from error
    raise Malformed('"at" has no zone: use ${EPOCH}, or end STRFTIME\'s format with %z')


# ---- bodies


def decode(body: bytes, content_type: str = "") -> dict[str, Any]:
    """The fields of a post. CURL() calls JSON a form unless told otherwise, so a body that begins with { is read as JSON."""
    text = _characters(body, content_type)
    if text.lstrip().startswith(("{", "[", '"')) or "json" in content_type.lower():
        return _json(text)
    try:
        return dict(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS))
    except UnicodeDecodeError as error:
        raise Malformed("a %xx in the form is not UTF-8: URIENCODE() the value on a PBX whose locale is UTF-8") from error
    except ValueError as error:
        raise Malformed(f"a form may have at most {MAX_FIELDS} fields") from error


def _characters(body: bytes, content_type: str) -> str:
    named = re.search(r"charset\s*=\s*\"?([\w.:-]+)", content_type, re.IGNORECASE)
    charset = named[1] if named else "utf-8"
    try:
        if codecs.lookup(charset).name.replace("-", "_") in NO_CHARSETS:
            raise LookupError(charset)
        return body.decode(charset).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise Malformed(
            f"byte {error.start} of the body is not {charset}: send UTF-8, or name the right charset in Content-Type"
        ) from error
    except (LookupError, ValueError) as error:
        raise Malformed("Content-Type names a charset unknown to us: send UTF-8") from error


def _json(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text, strict=False)  # a tab in a caller's name is no reason to lose a call
    except (ValueError, RecursionError) as error:
        raise Malformed(_why_not_json(text, error)) from error
    if not isinstance(fields, dict):
        raise Malformed("the body must be one JSON object")
    return fields


def _why_not_json(text: str, error: Exception) -> str:
    if re.match(r'\s*\{\s*\\"', text):
        return (
            'the body is not JSON: its quotes and commas arrive with backslashes. Inside CURL() write them plain, {"event":"…"}, '
            'not {\\"event\\":\\"…\\"\\,…}'
        )
    if not isinstance(error, json.JSONDecodeError):
        return "the body is not JSON we can read"
    field = re.findall(r'"(\w+)"\s*:\s*"', text[: error.pos])
    where = f' of "{field[-1]}"' if field else ""
    mend = "send a form, with URIENCODE() around each value: it carries every name whole"
    if "escape" in error.msg:
        return f"the body is not JSON: the value{where} has a backslash that is not escaped; {mend}"
    if "delimiter" in error.msg and field:
        return f"the body is not JSON: the value{where} seems to hold a quote that is not escaped; {mend}"
    return f"the body is not JSON: {error.msg} at character {error.pos}"
