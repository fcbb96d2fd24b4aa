"""How fast the door takes in what telephony systems post, against the same door storing nothing, measured in the same run.

What is measured ends where the poster gets its answer: authentication, reading, validation, one durable row for each observation.
The correlation that follows works off a backlog at its own pace and is measured by itself.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from shared import config
from shared.config import SettingError

KEY = "al_bench"
PATIENCE_SECONDS = 30.0


@click.command()
@click.option("--events", default=6000, show_default=True, help="Events posted one at a time per round.")
@click.option("--batched", default=40000, show_default=True, help="Events in posts of 100 per round.")
@click.option("--connections", default=32, show_default=True)
@click.option("--rounds", default=3, show_default=True, help="Rounds, with and without storing in turn; medians count.")
@click.option("--json", "as_json", is_flag=True)
def ingest(events: int, batched: int, connections: int, rounds: int, as_json: bool) -> None:
    """One event a post and posts of 100, durable before the answer. Uses a database of its own in a temporary folder."""
    singles, ceilings, batches, batch_ceilings = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            with _Door(Path(folder) / str(number), stores=False) as bare:
                ceilings.append(bare.post(_dialplan_posts(events, number), connections))
                batch_ceilings.append(100 * bare.post(_queue_log_posts(batched, number), connections))
            with _Door(Path(folder) / str(number), stores=True) as door:
                singles.append(door.post(_dialplan_posts(events, number), connections))
                batches.append(100 * door.post(_queue_log_posts(batched, number), connections))
        correlated = _correlate(Path(folder) / "0")
    single, ceiling = statistics.median(singles), statistics.median(ceilings)
    figures = {
        "rounds": rounds,
        "events_per_second": round(single),
        "ceiling_per_second": round(ceiling),
        "ratio": round(single / ceiling, 3),
        "batch_events_per_second": round(statistics.median(batches)),
        "batch_ceiling_per_second": round(statistics.median(batch_ceilings)),
        "correlated_per_second": round(correlated),
        "events_per_second_of_rounds": [round(one) for one in singles],
        "ceiling_per_second_of_rounds": [round(one) for one in ceilings],
        "batch_events_per_second_of_rounds": [round(one) for one in batches],
    }
    click.echo(json.dumps(figures) if as_json else "\n".join(f"{name}: {value}" for name, value in figures.items()))


class _Door:
    """The gateway's door in a process of its own, with a SQLite database in `folder`."""

    def __init__(self, folder: Path, stores: bool) -> None:
        folder.mkdir(exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        environment = {
            **os.environ,
            "ANSWERLINE_DATA": str(folder),
            "ANSWERLINE_DATABASE_URL": "",
            "ANSWERLINE_BROKER_URL": "",
            "ANSWERLINE_ADMIN_KEY": KEY,
            "ANSWERLINE_HTTP": f"127.0.0.1:{self.port}",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__, "store" if stores else "nothing"], env=environment, stderr=subprocess.PIPE
        )

    def __enter__(self) -> _Door:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                time.sleep(0.05)
        raise SettingError(f"the door did not open: {self.process.stderr.read().decode()[-500:] if self.process.stderr else ''}")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(20)
        if self.process.stderr:
            self.process.stderr.close()

    def post(self, requests: list[bytes], connections: int) -> float:
        """Answered posts a second over that many connections. Raises when an answer is not a success."""
        selector = selectors.DefaultSelector()
        waiting = iter(requests)
        for _ in range(min(connections, len(requests))):
            one = socket.create_connection(("127.0.0.1", self.port))
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(one, selectors.EVENT_READ)
        start = time.monotonic()
        for key in list(selector.get_map().values()):
            key.fileobj.sendall(next(waiting))  # type: ignore[union-attr]
        answered = 0
        while answered < len(requests):
            for key, _ in selector.select(PATIENCE_SECONDS):
                poster: Any = key.fileobj
                answer = poster.recv(65536)
                if not answer.startswith(b"HTTP/1.1 200"):
                    raise SettingError(f"the door answered {answer[:300]!r}")
                answered += 1
                if (following := next(waiting, None)) is not None:
                    poster.sendall(following)
        elapsed = time.monotonic() - start
        for key in list(selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        return len(requests) / elapsed


def _request(path: str, kind: str, body: str) -> bytes:
    content = body.encode()
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {KEY}\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


def _dialplan_posts(events: int, seed: int) -> list[bytes]:
    moment = int(time.time())
    return [
        _request(
            "/v1/telephony/asterisk/dialplan?source=bench",
            "application/json",
            f'{{"event":"call.hangup","queue":"sales","callid":"{moment}.{seed}{number}","linkedid":"{moment}.{seed}{number}","cause":16,'
            f'"status":"","agent":"PJSIP/1001","at":{moment}}}',
        )
        for number in range(events)
    ]


def _queue_log_posts(events: int, seed: int) -> list[bytes]:
    moment = int(time.time())
    lines = [f"{moment}|{moment}.9{seed}{number}|sales|NONE|ENTERQUEUE||+85265511844|1" for number in range(events)]
    return [
        _request("/v1/telephony/asterisk/queue-log?source=bench", "text/plain", "\n".join(lines[first : first + 100]))
        for first in range(0, events, 100)
    ]


def _correlate(folder: Path) -> float:
    """Observations a second turned into contacts and events, from the backlog that a round left."""
    from services.gateway import handlers
    from shared.runtime import context

    units = context.build("gateway", config.load({"ANSWERLINE_DATA": str(folder)})).units
    start, done, most = time.monotonic(), 0, 5000
    while done < most and (worked := handlers.correlate(units)):
        done += worked
    return done / (time.monotonic() - start)


def _serve(stores: bool) -> None:
    from shared.runtime import patch

    patch.apply()
    from services.gateway import definition, metrics
    from services.gateway.handlers import Receipt, Taken
    from services.gateway.service import GatewayCore, GatewayService
    from shared.http.endpoint import Router
    from shared.http.wsgi import Application
    from shared.runtime import context, runner
    from shared.runtime.web import HttpServer, listen

    settings = config.load()
    runner.migrate_all(settings, [definition])
    service: Any = GatewayService()
    service.core = GatewayCore(context.build("gateway", settings))
    if not stores:

        def discard(taken: Taken) -> Receipt:
            return Receipt(len(taken.reading.observations), 0, taken.reading.ignored, [])

        service.core.take = discard
    HttpServer(listen(settings.http_address), Application(Router(service), service.authenticate, metrics.observe)).serve()


if __name__ == "__main__":
    _serve(sys.argv[1] == "store")
