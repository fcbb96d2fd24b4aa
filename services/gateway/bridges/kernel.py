"""What every bridge does the same: keep what a telephony system said on disk, and post it to the gateway in order, however long that takes.

`Client` asks the gateway once; `Spool` is a bounded queue in a folder; `Poster` is the two together with a thread that delivers.
A bridge's reader calls `Poster.put` and never waits for the network.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import random
import signal
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, urlencode, urlsplit

import click
import structlog

from shared import clock
from shared.observability import logging

log = structlog.get_logger()

TIMEOUT_SECONDS = 30.0
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
SPOOL_BYTES = 512 * 1024 * 1024
SEGMENT_BYTES = 4 * 1024 * 1024
BATCH_BYTES = 512 * 1024
BATCH_ITEMS = 1000
SYNC_SECONDS = 1.0
"""A power cut may take what was spooled in the last second; the end of the process alone takes nothing."""
LAST_SECONDS = 5.0
LONGEST_ANSWER = 1024 * 1024
OURS_TO_MEND = frozenset({401, 403, 404, 405, 407, 408, 411, 415, 421, 425, 426, 429})
"""The key, the address or the load is wrong, not what is sent: it is sent again until somebody has mended that."""


# ---- asking the gateway


class Answer(NamedTuple):
    """`status` 0: nobody answered, and `document` says why. `retry_after`: seconds that the gateway asks us to wait, or 0."""

    status: int
    document: Mapping[str, Any]
    retry_after: float = 0.0

    @property
    def taken(self) -> bool:
        return 200 <= self.status < 300

    @property
    def refused(self) -> bool:
        """Whether sending the same again can only lead to the same answer."""
        return 400 <= self.status < 500 and self.status not in OURS_TO_MEND

    @property
    def reason(self) -> str:
        return str(self.document.get("detail") or self.document.get("title") or "no reason given")


class Client:
    """The gateway at `base_url` (http or https), with a key of the role `telephony`. One connection, kept open; for one thread."""

    def __init__(self, base_url: str, key: str, timeout: float = TIMEOUT_SECONDS) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{base_url!r} is no address such as http://127.0.0.1:8000")
        self.prefix = parts.path.rstrip("/")
        self.headers = {"Authorization": f"Bearer {key}", "User-Agent": "answerline-bridge/1"}
        if parts.scheme == "https":
            self.connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=timeout, context=ssl.create_default_context()
            )
        else:
            self.connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)

    def post(self, path: str, body: bytes, content_type: str) -> Answer:
        """One try. Never raises for what the network or the gateway does."""
        return self._ask("POST", path, body, {"Content-Type": content_type})

    def get(self, path: str) -> Answer:
        """Likewise."""
        return self._ask("GET", path, None, {})

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        kept_open = self.connection.sock is not None
        answer = self._ask_once(method, path, body, headers)
        if answer.status == 0 and kept_open and not answer.document.get("late"):  # it may have been closed long ago, for idling
            answer = self._ask_once(method, path, body, headers)
        return answer

    def _ask_once(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        try:
            self.connection.request(method, self.prefix + path, body, {**self.headers, **headers})
            response = self.connection.getresponse()
            raw = response.read(LONGEST_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            return Answer(0, {"detail": f"no answer ({type(error).__name__})", "late": isinstance(error, TimeoutError)})
        if response.will_close or not response.isclosed():
            self.connection.close()
        try:
            document = json.loads(raw or b"{}")
        except (ValueError, RecursionError):
            document = {}
        told = response.headers.get("Retry-After", "")
        wait = float(told) if told.isascii() and told.isdigit() and len(told) < 6 else 0.0
        return Answer(response.status, document if isinstance(document, dict) else {}, wait)

    def close(self) -> None:
        self.connection.close()


class Pauses:
    """Growing waits between tries: doubling from `first` to `longest` seconds, spread by half so that many bridges do not knock together."""

    def __init__(self, first: float = FIRST_PAUSE_SECONDS, longest: float = LONGEST_PAUSE_SECONDS) -> None:
        self.first, self.longest = first, longest
        self._next = first

    def next(self, at_least: float = 0.0) -> float:
        pause, self._next = self._next, min(self.longest, self._next * 2)
        return max(at_least, pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret depends on it

    def reset(self) -> None:
        self._next = self.first


# ---- keeping it on disk


class SpoolFull(Exception):
    """No room is left. What was to be kept is not; the caller says so, and repairs the gap once there is room again."""


class Spool:
    """A queue of byte strings in a folder (mode 0700, for it holds callers' numbers), bounded, in order, for one process at a time.

    Records (`<length>\\n<bytes>\\n`) are appended to numbered segments; `position` says how far they are delivered. A record that
    the end of a process cut off is passed over. Thread-safe. Raises BlockingIOError when another process has the folder.
    """

    def __init__(self, folder: Path, most_bytes: int = SPOOL_BYTES, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder, self.most_bytes, self.segment_bytes = folder, most_bytes, segment_bytes
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock_file = (folder / "lock").open("w")
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock_file.close()
            raise
        self._lock = threading.RLock()
        self.arrived = threading.Event()
        """Set by every append."""
        kept = sorted(int(path.stem) for path in folder.glob("*.spool") if path.stem.isdigit())
        done = kept_document(folder / "position")
        self._segments: deque[int] = deque(number for number in kept if number >= int(done.get("segment", 0)))
        for number in kept:
            if number not in self._segments:
                self._path(number).unlink(missing_ok=True)
        self._offset = int(done.get("offset", 0)) if self._segments and self._segments[0] == done.get("segment") else 0
        self._sizes = {number: self._path(number).stat().st_size for number in self._segments}
        last = max([*kept, int(done.get("segment", 0))], default=0)
        self._open(last + 1)  # never after a record that may be cut off
        self._synced_at = clock.monotonic()
        self._ahead: tuple[int, int] = (self._segments[0], self._offset)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:010d}.spool"

    def _open(self, number: int) -> None:
        descriptor = os.open(self._path(number), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._file = os.fdopen(descriptor, "ab", buffering=0)
        self._segments.append(number)
        self._sizes[number] = self._path(number).stat().st_size

    @property
    def waiting_bytes(self) -> int:
        """Roughly how much waits to be delivered."""
        with self._lock:
            return sum(self._sizes.values()) - self._offset

    def append(self, item: bytes) -> None:
        """Returns when the item would survive the end of this process. Raises SpoolFull, or OSError when the disk is full."""
        record = b"%d\n%b\n" % (len(item), item)
        with self._lock:
            if self.waiting_bytes + len(record) > self.most_bytes:
                raise SpoolFull
            number = self._segments[-1]
            if self._sizes[number] and self._sizes[number] + len(record) > self.segment_bytes:
                os.fdatasync(self._file.fileno())
                self._file.close()
                self._open(number + 1)
                number += 1
            self._write(number, record)
            if clock.monotonic() - self._synced_at > SYNC_SECONDS:
                os.fdatasync(self._file.fileno())
                self._synced_at = clock.monotonic()
            self.arrived.set()

    def _write(self, number: int, record: bytes) -> None:
        written = 0
        try:
            while written < len(record):
                written += self._file.write(record[written:]) or 0
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file.fileno(), self._sizes[number])
            raise
        self._sizes[number] += len(record)

    def batch(self, most_bytes: int = BATCH_BYTES, most_items: int = BATCH_ITEMS) -> list[bytes]:
        """The oldest items not yet delivered, at least one if there is any; `delivered()` passes them. Asked again, it gives the same ones."""
        with self._lock:
            items: list[bytes] = []
            size, (number, offset) = 0, (self._segments[0], self._offset)
            while True:
                for item, after in self._records(number, offset):
                    if items and size + len(item) > most_bytes:
                        break
                    items.append(item)
                    size, offset = size + len(item), after
                    if len(items) >= most_items:
                        break
                else:
                    later = [other for other in self._segments if other > number]
                    if later and not items:
                        number, offset = later[0], 0
                        continue
                break
            self._ahead = number, offset
            return items

    def _records(self, number: int, offset: int) -> Iterator[tuple[bytes, int]]:
        """(item, offset after it) of the whole records of a segment."""
        end = self._sizes[number]
        with self._path(number).open("rb") as file:
            file.seek(offset)
            while offset < end:
                head = file.readline(20)
                length = int(head) if head.endswith(b"\n") and head[:-1].isdigit() else -1
                item = file.read(length) if length >= 0 else b""
                if length < 0 or len(item) != length or file.read(1) != b"\n":
                    log.warning("the end of a spool segment was cut off and is passed over", segment=number, bytes=end - offset)
                    return
                offset += len(head) + length + 1
                yield item, offset

    def delivered(self) -> None:
        """What the last `batch` gave is with the gateway: forget it."""
        with self._lock:
            number, self._offset = self._ahead
            keep_document(self.folder / "position", {"segment": number, "offset": self._offset})
            while self._segments[0] != number:
                over = self._segments.popleft()
                del self._sizes[over]
                self._path(over).unlink(missing_ok=True)

    def close(self) -> None:
        with self._lock:
            if not self._file.closed:
                os.fdatasync(self._file.fileno())
                self._file.close()
            self._lock_file.close()


def keep_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write a small JSON document so that either the old one or the new one is there, whatever happens meanwhile."""
    beside = path.with_name(path.name + ".new")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(document, file)
    beside.replace(path)


def kept_document(path: Path) -> dict[str, Any]:
    """What keep_document wrote, or an empty one."""
    try:
        document = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


# ---- delivering


class Posts(Protocol):
    def post(self, path: str, body: bytes, content_type: str) -> Answer: ...

    def close(self) -> None: ...


@dataclass
class Counts:
    """What became of it, for the log: `items` delivered, and the gateway's own counts of what was in them."""

    items: int = 0
    accepted: int = 0
    duplicate: int = 0
    ignored: int = 0
    rejected: int = 0
    set_aside: int = 0
    lost: int = 0


@dataclass
class Poster:
    """Posts what is put in, in order, to one door of the gateway; a batch's body is its items put together as they are.

    `path` is the door's with its query. Items that the gateway refuses for good are kept in `<spool_folder>/refused`, one file each,
    and the rest goes on. `start` makes the thread that delivers; `deliver` does one round without it.
    """

    client: Posts
    path: str
    spool: Spool
    content_type: str = "application/x-ndjson"
    batch_bytes: int = BATCH_BYTES
    batch_items: int = BATCH_ITEMS
    pauses: Pauses = field(default_factory=Pauses)
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._full = False

    def put(self, item: bytes) -> bool:
        """Keep an item for delivery. False: there is no room (it is counted as lost, and logged once until there is room again)."""
        try:
            self.spool.append(item)
        except (SpoolFull, OSError) as error:
            self.counts.lost += 1
            if not self._full:
                why = "spool full" if isinstance(error, SpoolFull) else os.strerror(error.errno or 0)
                log.error("nothing more can be kept: events are being lost", why=why, waiting_bytes=self.spool.waiting_bytes)
            self._full = True
            return False
        if self._full:
            log.warning("there is room again", lost=self.counts.lost)
        self._full = False
        return True

    def deliver(self) -> Answer | None:
        """Post the oldest batch once. None: nothing waits. An answer that is neither taken nor refused means: try again later."""
        items = self.spool.batch(self.batch_bytes, self.batch_items)
        if not items:
            return None
        answer = self._post(items)
        if answer.taken or answer.refused:
            self.spool.delivered()
        return answer

    def _post(self, items: Sequence[bytes]) -> Answer:
        """Where a batch is refused it is halved until the culprit stands alone; sending the rest twice changes nothing there."""
        answer = self.client.post(self.path, b"".join(items), self.content_type)
        if answer.taken:
            self.counts.items += len(items)
            self._count(answer)
        elif answer.refused and len(items) > 1:
            middle = len(items) // 2
            first = self._post(items[:middle])
            return self._post(items[middle:]) if first.taken or first.refused else first
        elif answer.refused:
            self._set_aside(items[0], answer)
        return answer

    def _count(self, answer: Answer) -> None:
        for name in ("accepted", "duplicate", "ignored"):
            told = answer.document.get(name)
            setattr(self.counts, name, getattr(self.counts, name) + (told if isinstance(told, int) else 0))
        rejected = answer.document.get("rejected")
        if isinstance(rejected, list) and rejected:
            self.counts.rejected += len(rejected)
            reasons = sorted({str(entry.get("reason")) for entry in rejected if isinstance(entry, dict)})
            log.warning("the gateway could not read some of it, and keeps it for inspection", count=len(rejected), reasons=reasons[:5])

    def _set_aside(self, item: bytes, answer: Answer) -> None:
        folder = self.spool.folder / "refused"
        folder.mkdir(exist_ok=True, mode=0o700)
        path = folder / f"{int(clock.now() * 1000)}-{self.counts.set_aside}"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(item)
        self.counts.set_aside += 1
        log.error("the gateway refused this for good; it is set aside", status=answer.status, reason=answer.reason, file=str(path))

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="poster", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.spool.arrived.clear()
            try:
                answer = self.deliver()
            except OSError as error:
                log.error("the spool cannot be used", error=type(error).__name__, folder=str(self.spool.folder))
                answer = Answer(0, {})
            if answer is None:
                self.spool.arrived.wait(1.0)
            elif answer.taken or answer.refused:
                self.pauses.reset()
            else:
                pause = self.pauses.next(min(answer.retry_after, 2 * LONGEST_PAUSE_SECONDS))
                level = log.error if answer.status in OURS_TO_MEND else log.warning
                level("not delivered; kept, and tried again", status=answer.status, reason=answer.reason, seconds=round(pause, 1))
                self._stop.wait(pause)

    def close(self) -> None:
        """Deliver what a few seconds allow, and stop. What is not delivered waits in the folder for the next start."""
        self._stop.set()
        self.spool.arrived.set()
        give_up_at = clock.monotonic() + LAST_SECONDS
        if self._thread:
            self._thread.join(TIMEOUT_SECONDS + 5)
        if self._thread is None or not self._thread.is_alive():
            with suppress(OSError):
                while clock.monotonic() < give_up_at and (answer := self.deliver()) is not None and answer.taken:
                    pass
            self.client.close()
            self.spool.close()


def post_to(base_url: str, key: str, path: str, spool_folder: Path, **options: Any) -> Poster:
    """A Poster to the gateway. Raises click.ClickException for what the operator can mend."""
    try:
        return Poster(Client(base_url, key), path, Spool(spool_folder), **options)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    except BlockingIOError as error:
        raise click.ClickException(f"another bridge works in {spool_folder}: give each its own folder (--spool)") from error
    except OSError as error:
        raise click.ClickException(f"{spool_folder}: {error.strerror}") from error


# ---- the command line


@dataclass(frozen=True)
class Where:
    """Where a bridge posts and asks, and under which name (`--to`, `--key`, `--source`, `--spool`)."""

    to: str
    key: str = field(repr=False)
    source: str
    spool: Path = Path()
    timeout: float = TIMEOUT_SECONDS

    def client(self, timeout: float = 0.0) -> Client:
        return Client(self.to, self.key, timeout or self.timeout)

    def contact(self, call: str) -> str:
        return f"/v1/contacts/{quote(f'{self.source}:{call}', safe='')}"

    def poster(self, path: str, **options: Any) -> Poster:
        return post_to(self.to, self.key, f"{path}?{urlencode({'source': self.source})}", self.spool, **options)


def posting(command: Callable[..., None]) -> Callable[..., None]:
    """The options of a bridge that keeps what is not delivered, given to the command as one `where`."""
    return _reaching(command, [SPOOL])


def reaching(command: Callable[..., None]) -> Callable[..., None]:
    """The options of a bridge that has nothing to keep, given to the command as one `where`."""
    return _reaching(command, [])


SPOOL = click.option(
    "--spool",
    envvar="ANSWERLINE_SPOOL",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("bridge-spool"),
    show_default=True,
    help="Folder for what is not delivered yet; one for each bridge.",
)


def _reaching(command: Callable[..., None], more: Sequence[Callable[..., Any]]) -> Callable[..., None]:
    def run(gateway: str, key: str, key_file: Path | None, source: str, spool: Path = Path(), **others: Any) -> None:
        if key_file is not None:
            key = secret_in(key_file)
        if not key:
            raise click.UsageError(
                "a key with the role telephony is needed: ANSWERLINE_KEY, or ANSWERLINE_KEY_FILE for the file that holds it"
            )
        logging.configure(os.environ.get("ANSWERLINE_LOG_LEVEL", "INFO"))
        command(where=Where(gateway, key, source, spool), **others)

    run.__doc__, run.__name__ = command.__doc__, command.__name__
    for option in reversed(
        [
            click.option(
                "--to", "gateway", envvar="ANSWERLINE_GATEWAY", default="http://127.0.0.1:8000", show_default=True, help="The gateway."
            ),
            click.option("--key", envvar="ANSWERLINE_KEY", default="", help="Rather in ANSWERLINE_KEY: others can see a command line."),
            click.option("--key-file", envvar="ANSWERLINE_KEY_FILE", type=click.Path(path_type=Path), help="Or the file that holds it."),
            click.option("--source", default="default", show_default=True, help="What this telephony system is called."),
            *more,
        ]
    ):
        run = option(run)
    params = getattr(command, "__click_params__", [])
    run.__click_params__ = [*params, *run.__click_params__]  # type: ignore[attr-defined]
    return run


def secret_in(path: Path, named_by: str = "") -> str:
    """The secret that a file holds. Raises click.ClickException."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{named_by}{path} cannot be read") from error


def secret_of(variable: str) -> str:
    """The secret in this variable of the environment, or in the file that `<variable>_FILE` names. Raises click.ClickException."""
    if path := os.environ.get(f"{variable}_FILE"):
        return secret_in(Path(path), f"{variable}_FILE: ")
    if secret := os.environ.get(variable):
        return secret
    raise click.ClickException(f"set {variable}, or {variable}_FILE to the file that holds it")


def until_stopped() -> threading.Event:
    """Set when the process is asked to end (SIGTERM, SIGINT)."""
    stopped = threading.Event()

    def stop(_signal: int, _frame: Any) -> None:
        stopped.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return stopped
