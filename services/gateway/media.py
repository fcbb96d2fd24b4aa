"""The sound of a recording: a file below the folder that its source's entry names, or fetched from its source's account at Twilio."""

from __future__ import annotations

import base64
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

from services.gateway.sources import TWILIO_API, Source
from shared import targets
from shared.errors import NotFound, RangeNotSatisfiable, Unavailable
from shared.targets import Allowance, BadTarget, Target

CHUNK = 64 * 1024
MOST_REDIRECTS = 3
ELSEWHERE = "the recording is not where it was"


class Flow(Protocol):
    """An answer that comes piece by piece: see shared.runtime.outbound."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Any: ...
    @property
    def pieces(self) -> Iterator[bytes]: ...


Fetch = Callable[[Target, Mapping[str, str], Allowance], Flow]


@dataclass
class Sound:
    """The bytes from `first` to `last` of `size`."""

    first: int
    last: int
    size: int
    pieces: Iterator[bytes]
    is_part: bool

    @property
    def length(self) -> int:
        return self.last - self.first + 1


def span_of(header: str, size: int) -> tuple[int, int] | None:
    """First and last byte of a Range header, None where it asks for all: there is none, or one that we do not know (RFC 9110, 14.2: then
    it is as if it were not there). Raises RangeNotSatisfiable."""
    match = re.fullmatch(r"bytes=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", header.strip(), re.IGNORECASE | re.ASCII)
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        first, last = max(size - int(match[2]), 0), size - 1
    else:
        first, last = int(match[1]), min(int(match[2] or size - 1), size - 1)
        if match[2] and int(match[2]) < first:
            return None
    if first >= size or last < first:
        raise RangeNotSatisfiable(f"the recording has {size} bytes", headers=[("Content-Range", f"bytes */{size}")])
    return first, last


# ---- from a folder


def from_file(source: Source, location: str, wanted: str) -> Sound:
    """The part that the header Range (`wanted`) asks for. Raises NotFound for what is not a file in the source's folder: whether
    anything is there is not told."""
    descriptor = _open(source, location)
    try:
        size = os.fstat(descriptor).st_size
        span = span_of(wanted, size) if size else None
    except BaseException:
        os.close(descriptor)
        raise
    first, last = span or (0, size - 1)
    return Sound(first, last, size, _read(descriptor, first, last), span is not None)


def _open(source: Source, location: str) -> int:
    """From folder to folder, no symbolic link followed: what a path means cannot change between looking and opening."""
    if not source.recordings_root:
        raise NotFound(f"the source {source.name} names no folder of its recordings: PUT /v1/sources/{source.name} with recordings_root")
    parts = _beneath(source, location)
    try:
        folder = os.open(source.recordings_root, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise NotFound(f"the folder of the recordings of {source.name} cannot be opened: {error.strerror}") from error
    try:
        for part in parts[:-1]:
            deeper = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = deeper
        file = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except (OSError, ValueError) as error:
        raise NotFound(ELSEWHERE) from error
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise NotFound(ELSEWHERE)
    return file


def _beneath(source: Source, location: str) -> tuple[str, ...]:
    """The names on the way from the source's folder to the file. Raises NotFound where the way leads out of it."""
    path = PurePosixPath(location)
    if path.is_absolute():
        for start in filter(None, (source.recordings_prefix, source.recordings_root)):
            if path.is_relative_to(start):
                path = path.relative_to(start)
                break
        else:
            raise NotFound(ELSEWHERE)
    if not path.parts or ".." in path.parts:
        raise NotFound(ELSEWHERE)
    return path.parts


def _read(descriptor: int, first: int, last: int) -> Iterator[bytes]:
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        file.seek(first)
        left = last - first + 1
        while left > 0 and (piece := file.read(min(CHUNK, left))):
            left -= len(piece)
            yield piece


# ---- from Twilio


def from_twilio(source: Source, token: str | None, location: str, wanted: str, fetch: Fetch, allowance: Allowance) -> Sound:
    """Fetched with the account's credentials, which go to the account's own address alone, and passed on as it comes. Raises NotFound
    and Unavailable."""
    url = _at_twilio(source, location)
    if not source.twilio_account or token is None:
        raise NotFound(f"the source {source.name} has no twilio_account and twilio_auth_token to fetch its recordings with")
    headers = authorization(source, token) | ({"Range": wanted} if wanted else {})
    for _ in range(MOST_REDIRECTS + 1):
        flow = _fetch(url, headers, fetch, allowance)
        if flow.status not in (301, 302, 303, 307, 308):
            return _sound(flow)
        close(flow.pieces)
        url = str(flow.headers.get("Location", ""))
        if urlsplit(url)[:2] != urlsplit(source.twilio_api)[:2]:
            headers.pop("Authorization", None)
    raise Unavailable("Twilio sends us from one address to the next")


def authorization(source: Source, token: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{source.twilio_account}:{token}".encode()).decode()}


def _at_twilio(source: Source, location: str) -> str:
    """The address, with TLS: of old Twilio wrote http. Raises NotFound for one that is not the source's account's."""
    parts, api = urlsplit(location), urlsplit(source.twilio_api)
    same = parts.netloc.lower() == api.netloc.lower()
    if not same or f"/Accounts/{source.twilio_account}/" not in parts.path or "/.." in parts.path:
        raise NotFound(f"the recording is not at {source.twilio_api or TWILIO_API} in the account of the source {source.name}")
    return urlunsplit(parts._replace(scheme=api.scheme))


def _fetch(url: str, headers: Mapping[str, str], fetch: Fetch, allowance: Allowance) -> Flow:
    try:
        return fetch(targets.read_url(url, allowance), headers, allowance)
    except BadTarget as error:
        raise Unavailable(f"the recording cannot be fetched: {error}") from error


def _sound(flow: Flow) -> Sound:
    told = str(flow.headers.get("Content-Length", ""))
    length = int(told) if told.isascii() and told.isdigit() and len(told) < 16 else None
    if flow.status in (200, 206) and length is not None:
        parts = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", str(flow.headers.get("Content-Range", "")), re.ASCII)
        if flow.status == 200:
            return Sound(0, length - 1, length, flow.pieces, False)
        if parts and int(parts[2]) - int(parts[1]) + 1 == length:
            return Sound(int(parts[1]), int(parts[2]), int(parts[3]), flow.pieces, True)
    close(flow.pieces)
    if flow.status == 416:
        raise RangeNotSatisfiable("the recording is shorter")
    if flow.status in (404, 410):
        raise NotFound("Twilio has the recording no more")
    raise Unavailable(f"Twilio answered {flow.status}")


def close(pieces: Iterator[bytes]) -> None:
    """Done with it, before its end or at it."""
    if end := getattr(pieces, "close", None):
        end()
