"""Identifiers that sort by the time they were made."""

import os
import re
import time

FORM = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def new_id() -> str:
    """A UUIDv7 in the usual hyphenated form: 48 bits of Unix milliseconds, 12 of their fraction (RFC 9562, 6.2, method 3), then random bits."""
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    fraction = rest * 4096 // 1_000_000
    raw = bytearray(milliseconds.to_bytes(6, "big") + fraction.to_bytes(2, "big") + os.urandom(8))
    raw[6] |= 0x70
    raw[8] = (raw[8] & 0x3F) | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def lowest_id(at: float) -> str:
    """Below all ids made at that moment (epoch seconds) or later, above all made before."""
    text = max(0, int(at * 1000)).to_bytes(6, "big").hex()
    return f"{text[:8]}-{text[8:]}-7000-8000-000000000000"


def is_id(text: str) -> bool:
    """Whether it has the form of an id: a database refuses to look for anything else."""
    return FORM.fullmatch(text) is not None
