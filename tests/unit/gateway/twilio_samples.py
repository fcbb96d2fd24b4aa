"""The golden examples of Twilio's posts: one form a line, and a post of Event Streams that tells the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

DATA = Path(__file__).parents[2] / "data/telephony/twilio"
START = 1795296250.123


def posts(name: str) -> list[str]:
    return (DATA / name).read_text().splitlines()


def fields(name: str) -> list[dict[str, str]]:
    return [dict(parse_qsl(line, keep_blank_values=True)) for line in posts(name)]


def stream() -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads((DATA / "event_stream.json").read_text())
    return told
