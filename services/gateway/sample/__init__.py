"""A sample centre and two minutes of a real PBX, played through the doors that any telephony system uses.

`run1.ami.jsonl.gz` holds what an Asterisk 22 sent over its manager interface, cut down to the messages and headers that the gateway
reads, without callers' numbers and names.
"""

from __future__ import annotations

import atexit
import gzip
import http.client
import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, urlsplit

import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

HERE = Path(__file__).parent
SOURCE = "sample"
POST_EVERY_SECONDS = 0.2
TIMEOUT_SECONDS = 15.0
PATIENCE_SECONDS = 30.0
RETRY_SECONDS = 0.25

_EPOCH = re.compile(r"\b1\d{9}\b")


class Refused(Exception):
    """The server's answer was not the one hoped for."""


class Told(NamedTuple):
    """One message, and how many seconds into the run it came."""

    after: float
    line: str


class ProgressLine(Protocol):
    def __call__(self, seconds_played: float) -> None: ...


def play(address: str, key: str, speed: float) -> None:
    """Set up the centre, then post the run as it happened, `speed` times faster, its last event being of the moment when it is posted."""
    console = Console(stderr=True)
    server = _Server(address, key)
    try:
        _set_up(server)
        run, began = _load()
        length = run[-1].after
        shift = int(time.time() + length / speed - (began + length))
        with _progress(console, length, speed) as show:
            _post(server, run, shift, speed, show)
        console.print(f"sample played; figures at {address}/v1/reports/queues?source={SOURCE}", highlight=False, soft_wrap=True)
    except ConnectionError:
        return  # the server we are part of is closing
    except Exception as error:  # noqa: BLE001 - a sample must never hurt the server it shows
        console.print(f"the sample stopped: {error or type(error).__name__}", highlight=False, markup=False, soft_wrap=True)


# ---- the centre


def _set_up(server: _Server) -> None:
    centre = yaml.safe_load((HERE / "centre.yaml").read_text(encoding="utf-8"))
    for kind in ("queues", "agents"):
        for name, settings in centre[kind].items():
            path = f"/v1/{kind}/{quote(name)}"
            if not server.has(path):
                server.send("PUT", path, json.dumps(settings).encode())


# ---- the run


def _load() -> tuple[list[Told], float]:
    """The run, and the moment (epoch seconds) when it began."""
    lines = gzip.decompress((HERE / "run1.ami.jsonl.gz").read_bytes()).decode().splitlines()
    began = json.loads(lines[0])["recv"]
    return [Told(json.loads(line)["recv"] - began, line) for line in lines], began


def _shifted(line: str, seconds: int) -> str:
    """All times moved by one constant, so that durations stay. An Asterisk call id begins with a time, so each start has fresh calls."""
    return _EPOCH.sub(lambda found: str(int(found[0]) + seconds), line)


def _post(server: _Server, run: Sequence[Told], shift: int, speed: float, show: ProgressLine) -> None:
    started, posted = time.monotonic(), 0
    while posted < len(run):
        played = (time.monotonic() - started) * speed
        due = posted
        while due < len(run) and run[due].after <= played:
            due += 1
        if due > posted:
            body = "\n".join(_shifted(told.line, shift) for told in run[posted:due])
            server.send("POST", f"/v1/telephony/asterisk/ami?source={SOURCE}", body.encode(), "application/x-ndjson")
            posted = due
        show(min(played, run[-1].after))
        if posted < len(run):
            time.sleep(max(POST_EVERY_SECONDS, (run[posted].after - played) / speed))


@contextmanager
def _progress(console: Console, length: float, speed: float) -> Iterator[ProgressLine]:
    title = f"playing {length:.0f} s of a real PBX at {speed:g}×"
    if not console.is_terminal:
        console.print(f"sample: {title}", highlight=False)
        yield _at_quarters(console, length)
        return
    progress = Progress(TextColumn(title), BarColumn(), TimeRemainingColumn(), console=console, transient=True)
    atexit.register(progress.stop)  # Ctrl-C ends the process around us; the terminal must get its cursor back
    with progress:
        task = progress.add_task("", total=length)
        yield lambda seconds_played: progress.update(task, completed=seconds_played)
    atexit.unregister(progress.stop)


def _at_quarters(console: Console, length: float) -> ProgressLine:
    told = 0

    def show(seconds_played: float) -> None:
        nonlocal told
        quarter = int(4 * seconds_played / length)
        if told < quarter < 4:
            console.print(f"sample: {25 * quarter} %", highlight=False)
        told = quarter

    return show


# ---- the server


class _Server:
    """The HTTP API, as anybody outside would use it."""

    def __init__(self, address: str, key: str) -> None:
        self.place = urlsplit(address).netloc
        self.key = key

    def has(self, path: str) -> bool:
        return self._answer("GET", path)[0] == 200

    def send(self, method: str, path: str, body: bytes, content_type: str = "application/json") -> None:
        """Raises Refused."""
        status, answer = self._answer(method, path, body, content_type)
        if status >= 300 or answer.get("rejected"):
            raise Refused(f"{method} {path} was answered {status}: {answer.get('detail') or answer.get('rejected') or 'no reason given'}")

    def _answer(
        self, method: str, path: str, body: bytes | None = None, content_type: str = "application/json"
    ) -> tuple[int, dict[str, Any]]:
        """Just after the start the other services may not be there yet: 503 is asked again for a while."""
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while True:
            status, answer = self._ask(method, path, body, content_type)
            if status != 503 or time.monotonic() > give_up_at:
                return status, answer
            time.sleep(RETRY_SECONDS)

    def _ask(self, method: str, path: str, body: bytes | None, content_type: str) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection(self.place, timeout=TIMEOUT_SECONDS)
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {self.key}", "Content-Type": content_type})
            response = connection.getresponse()
            answer = json.loads(response.read() or b"{}")
        finally:
            connection.close()
        return response.status, answer if isinstance(answer, dict) else {}
