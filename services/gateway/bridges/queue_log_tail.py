"""queue_log, followed as it grows: the one record of Asterisk that can be read again, and so the one that closes every gap.

How far it was read is remembered with the file's first bytes, which tell it apart wherever rotation has put it: renamed, copied and
cut off, or compressed, once or several times. In doubt a file is read again from its beginning, since a line posted twice changes
nothing.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import click
import structlog

from services.gateway.bridges.kernel import Poster, Where, keep_document, kept_document, posting, until_stopped

log = structlog.get_logger()

DOOR = "/v1/telephony/asterisk/queue-log"
STATE = "queue-log.json"
HEAD_BYTES = 256
CHUNK = 256 * 1024
POLL_SECONDS = 0.5
FULL_SECONDS = 5.0


@dataclass(frozen=True)
class Mark:
    """How far a file was read: `offset` bytes, of which the first `head_bytes` have this digest."""

    offset: int = 0
    head_bytes: int = 0
    digest: str = ""

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Mark | None:
        offset, head, digest = kept.get("offset"), kept.get("head_bytes"), kept.get("digest")
        if isinstance(offset, int) and isinstance(head, int) and isinstance(digest, str) and 0 < head <= offset:
            return cls(offset, head, digest)
        return None


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb", buffering=0)  # type: ignore[return-value]


def _head(file: IO[bytes], most: int) -> bytes:
    file.seek(0)
    return file.read(most)


def _digest(head: bytes) -> str:
    return hashlib.blake2b(head, digest_size=16).hexdigest()


def _began(head: bytes) -> int:
    """The epoch of a file's first line: files of one log follow each other by it."""
    first = head.split(b"|", 1)[0].strip()
    return int(first) if first.isdigit() and len(first) <= 12 else 0


def _changed_at(path: Path) -> float:
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _size(file: IO[bytes]) -> int:
    return file.seek(0, os.SEEK_END)


class Tail:
    """Reads on where `mark` says. `more` gives lines; once they are kept elsewhere, `mark` is where to go on after them.

    `since`: lines told before (epoch seconds) are passed over.
    """

    def __init__(self, path: Path, mark: Mark | None = None, since: float = 0.0) -> None:
        self.path, self.since = path, since
        self.mark = mark or Mark()
        self._file: IO[bytes] | None = None
        self._after = 0
        """first epoch of the file last read to its end"""
        self._done: set[str] = set()
        """digests of the first bytes of all such files"""
        if mark is not None:
            self._file = self._find(mark)
            if self._file is None:
                log.warning("what was read last is not there any more; the log is read from its beginning", path=str(path))
                self.mark = Mark()

    def more(self) -> bytes:
        """Whole lines, at most some 256 KB; none where nothing has come."""
        while True:
            if self._file is None and not self._next():
                return b""
            if not self._same():
                self._replaced()
                continue
            over = self._over()  # asked first: what a file says after that is read once more
            lines = self._lines(over)
            if lines:
                wanted = self._wanted(lines)
                if wanted:
                    return wanted
            elif not over:
                return b""
            else:
                self._leave()
                if not self._next():
                    return b""

    def back_to(self, mark: Mark) -> None:
        """What was given after that mark comes again."""
        self.close()
        self.mark = mark
        self._file = self._find(mark) if mark.head_bytes else None

    # ---- the file that is being read

    def _same(self) -> bool:
        """Whether it still begins as it did, and was not cut off."""
        file = self._file
        assert file is not None
        head = _head(file, self.mark.head_bytes)
        return _size(file) >= self.mark.offset and _digest(head) == self.mark.digest if self.mark.head_bytes else True

    def _replaced(self) -> None:
        """The file was emptied and written anew (copytruncate): its rest is in a copy, if anywhere."""
        self._close()
        self._file = self._find(self.mark)
        if self._file is None:
            log.warning("the log was cut off, and no copy of what it held is there; some lines may be missing", path=str(self.path))
            self.mark = Mark()

    def _over(self) -> bool:
        """Whether nothing can be added to it any more: the log goes on in another file."""
        file = self._file
        assert file is not None
        if isinstance(file, gzip.GzipFile):
            return True
        mine = os.fstat(file.fileno())
        with suppress(OSError):
            current = self.path.stat()
            if (current.st_dev, current.st_ino) == (mine.st_dev, mine.st_ino):
                return False
            if current.st_size:
                return True
        head = _head(file, HEAD_BYTES)  # there is no log at the moment, but perhaps one that was rotated since
        return any(_began(other) >= _began(head) and other != head and self._unread(other) for _, other in self._candidates())

    def _lines(self, over: bool) -> bytes:
        file = self._file
        assert file is not None
        file.seek(self.mark.offset)
        some = file.read(CHUNK) or b""
        end = some.rfind(b"\n") + 1
        if not end and (over or len(some) == CHUNK):  # the last line of a finished file, or something that is no line
            end = len(some)
        lines = some[:end]
        if lines:
            self._advance(lines)
        return lines if not lines or lines.endswith(b"\n") else lines + b"\n"

    def _advance(self, lines: bytes) -> None:
        file, mark = self._file, self.mark
        assert file is not None
        offset = mark.offset + len(lines)
        if mark.head_bytes < HEAD_BYTES:
            head = _head(file, min(HEAD_BYTES, offset))
            self.mark = Mark(offset, len(head), _digest(head))
        else:
            self.mark = Mark(offset, mark.head_bytes, mark.digest)

    def _wanted(self, lines: bytes) -> bytes:
        if not self.since:
            return lines
        return b"".join(line for line in lines.splitlines(keepends=True) if not 0 < _began(line) < self.since)

    # ---- one file after the other

    def _candidates(self) -> Iterator[tuple[Path, bytes]]:
        """The log and what rotation made of it, each with its first bytes."""
        beside = [path for path in self.path.parent.glob(self.path.name + "*") if path != self.path and not path.name.endswith(".new")]
        for path in [self.path, *sorted(beside)]:
            with suppress(OSError, EOFError), _open(path) as file:
                yield path, _head(file, HEAD_BYTES)

    def _find(self, mark: Mark) -> IO[bytes] | None:
        """The file that was read so far, open."""
        for path, head in self._candidates():
            if len(head) >= mark.head_bytes and _digest(head[: mark.head_bytes]) == mark.digest:
                file = _open(path)
                with suppress(OSError, EOFError):
                    if _size(file) >= mark.offset:
                        return file
                file.close()
        return None

    def _leave(self) -> None:
        assert self._file is not None
        head = _head(self._file, HEAD_BYTES)
        self._after = _began(head)
        self._done.add(_digest(head))
        self._close()

    def _next(self) -> bool:
        """Open the file that follows the one read to its end; where none was, the log itself (or, with `since`, what reaches back so far)."""
        files = [(_began(head), path == self.path, _changed_at(path), path) for path, head in self._candidates() if self._unread(head)]
        if self._done:
            later = [file for file in files if file[0] >= self._after]
        else:
            later = [file for file in files if file[1] or (self.since and file[0] and file[2] >= self.since)]
        for *_, path in sorted(later):
            with suppress(OSError):
                self._file = _open(path)
                self.mark = Mark()
                return True
        return False

    def _unread(self, head: bytes) -> bool:
        return bool(head) and _digest(head) not in self._done

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    close = _close


def carry(tail: Tail, poster: Poster, state: Path) -> bool:
    """Keep what came since, and then how far that was. False: there is no room; the same lines come again."""
    before = tail.mark
    while lines := tail.more():
        if not poster.put(lines):
            tail.back_to(before)
            return False
        mark = before = tail.mark
        keep_document(state, {"offset": mark.offset, "head_bytes": mark.head_bytes, "digest": mark.digest})
    return True


def _moment(text: str) -> float:
    """Epoch seconds, or ISO 8601 (without a zone: UTC)."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter("epoch seconds, or a moment such as 2026-11-21T08:00:00+08:00") from error
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()


@click.command("queue-log-tail")
@posting
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path), default=Path("/var/log/asterisk/queue_log"))
@click.option(
    "--since", default="0", callback=lambda _c, _p, text: _moment(text), help="Pass over what is older: epoch seconds or ISO 8601."
)
@click.option("--once", is_flag=True, help="End when all is delivered, instead of waiting for more.")
def follow(where: Where, path: Path, since: float, once: bool) -> None:
    """Follow Asterisk's queue_log, through rotation and restarts."""
    poster = where.poster(DOOR, content_type="text/plain")
    state = where.spool / STATE
    stopped: threading.Event = until_stopped()
    tail = Tail(path, Mark.of(kept_document(state)), since)
    poster.start()
    try:
        while not stopped.is_set():
            room = carry(tail, poster, state)
            if once and room and poster.spool.waiting_bytes <= 0:
                break
            stopped.wait(POLL_SECONDS if room else FULL_SECONDS)
    finally:
        tail.close()
        poster.close()
