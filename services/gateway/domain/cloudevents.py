"""CloudEvents 1.0 over HTTP: structured, binary and batched requests into events, and the answer to the webhook handshake."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from datetime import datetime, tzinfo
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from services.gateway.domain.observation import Malformed

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
VERSION = "1.0"
LONGEST_ATTRIBUTE = 2000
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ORIGIN = re.compile(r"[A-Za-z0-9*]([A-Za-z0-9.*:_-]{0,251}[A-Za-z0-9*])?")


class NotUnderstood(ValueError):
    """The request is in no mode or format of CloudEvents that is read here."""


class CloudEvent(NamedTuple):
    """An event with the attributes that matter here. `at` is epoch seconds; None where the event has no time."""

    id: str
    source: str
    type: str
    data: Any
    at: float | None = None


def decode(body: bytes, content_type: str, headers: Mapping[str, str]) -> list[Any]:
    """The events of a request as JSON objects with their attributes and `data`. `headers`: those that begin with ce-, small letters, the
    prefix gone, each byte a character. Raises NotUnderstood, and Malformed where the whole request cannot be read."""
    media, _, parameters = content_type.partition(";")
    media = media.strip().lower()
    if media.startswith("application/cloudevents"):
        charset = re.search(r"charset\s*=\s*\"?([\w.:-]+)", parameters, re.IGNORECASE)
        if charset and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
            raise NotUnderstood("send UTF-8: JSON in another charset is not read here")
        if media == BATCH:
            events = _json(body, "the batch")
            if not isinstance(events, list):
                raise Malformed("a batch is a JSON array of CloudEvents")
            return events
        if media == STRUCTURED:
            return [_json(body, "the event")]
        raise NotUnderstood(f"CloudEvents are read as {STRUCTURED} or {BATCH}, not as {media[:100]}")
    if "specversion" in headers:
        return [_binary(body, media, headers)]
    raise NotUnderstood(f"send CloudEvents: as {STRUCTURED}, as {BATCH}, or with the headers ce-specversion, ce-id, ce-source and ce-type")


def _json(body: bytes, what: str) -> Any:
    try:
        return json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise Malformed(f"{what} is not JSON in UTF-8") from error


def _binary(body: bytes, media: str, headers: Mapping[str, str]) -> dict[str, Any]:
    event: dict[str, Any] = {name: header_value(name, value) for name, value in headers.items()}
    if media not in ("", "application/json") and not media.endswith("+json"):
        raise NotUnderstood(f"the data of an event must be application/json, not {media[:100]}")
    if body.strip():
        event["data"] = _json(body, "the event's data")
    return event


def header_value(name: str, raw: str) -> str:
    """An attribute as it stood in a header: unquoted, then percent-decoded once. Raises Malformed."""
    text = raw.strip()
    if quoted := _QUOTED.fullmatch(text):
        text = re.sub(r"\\(.)", r"\1", quoted[1])
    try:
        return unquote_to_bytes(text.encode("latin-1")).decode()
    except UnicodeError as error:
        raise Malformed(f"the header ce-{name} is not UTF-8, percent-encoded") from error


def interpret(event: Any, zone: tzinfo | None = None) -> CloudEvent:
    """One decoded event, checked. `zone`: its source's, for a time without one."""
    if not isinstance(event, dict):
        raise Malformed("an event is a JSON object")
    if event.get("specversion") != VERSION:
        raise Malformed(f'"specversion" must be "{VERSION}"')
    id, source, kind = (_required(event, name) for name in ("id", "source", "type"))
    return CloudEvent(id, source, kind, _data(event), _time(event.get("time"), zone))


def _required(event: Mapping[str, Any], name: str) -> str:
    value = event.get(name)
    if not isinstance(value, str) or not value or len(value) > LONGEST_ATTRIBUTE:
        raise Malformed(f'an event needs "{name}": text of 1 to {LONGEST_ATTRIBUTE} characters')
    if "\x00" in value or any(0xD800 <= ord(letter) < 0xE000 for letter in value):
        raise Malformed(f'"{name}" holds a character that is none')
    return value


def _data(event: Mapping[str, Any]) -> Any:
    if "data_base64" not in event:
        return event.get("data")
    if "data" in event:
        raise Malformed('an event has "data" or "data_base64", not both')
    encoded = event["data_base64"]
    try:
        return _json(base64.b64decode(encoded, validate=True), "the event's data")
    except (binascii.Error, TypeError, ValueError) as error:
        if isinstance(error, Malformed):
            raise
        raise Malformed('"data_base64" is not base64') from error


def _time(value: Any, zone: tzinfo | None) -> float | None:
    if value is None or value == "":
        return None
    try:
        instant = datetime.fromisoformat(value)
        if instant.tzinfo is None:
            instant = instant.replace(tzinfo=zone)
        seconds = instant.timestamp() if instant.tzinfo else None
    except (TypeError, ValueError, OverflowError) as error:
        raise Malformed('"time" must be RFC 3339, such as 2026-11-21T21:24:18Z') from error
    if seconds is None:
        raise Malformed('"time" has no zone: end it with Z or +08:00, or register the zone of its source (PUT /v1/sources/NAME)')
    if not 0 < seconds < 1e11:
        raise Malformed('"time" is out of range')
    return seconds


def permission(headers: Mapping[str, str], rate: int) -> list[tuple[str, str]]:
    """The headers that let a sender post here, in answer to OPTIONS; `headers`: the request's, in small letters. `rate`: requests a
    minute that are taken at most. Nothing is permitted to who does not ask, or asks in no way that can be answered."""
    origin, asked = headers.get("webhook-request-origin", "").strip(), headers.get("webhook-request-rate", "").strip()
    if not _ORIGIN.fullmatch(origin):
        return []
    wanted = int(asked) if asked.isascii() and asked.isdigit() and len(asked) <= 9 else 0
    return [("WebHook-Allowed-Origin", origin), ("WebHook-Allowed-Rate", str(min(wanted, rate) if wanted else rate))]
