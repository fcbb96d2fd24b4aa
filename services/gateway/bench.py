"""How fast the door takes in what telephony systems post, against the same door storing nothing, measured in the same run; and what each
layer between the socket and the database costs.

What is measured ends where the poster gets its answer: authentication, reading, validation, rate limit, one durable row for each
observation. The correlation that follows works off a backlog at its own pace and is measured by itself.
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
from collections import defaultdict
from pathlib import Path
from typing import Any

import click

from shared import config
from shared.config import SettingError

LAYERS = ("server", "routing and parsing", "authentication", "validation", "rate limit", "storage")
"""Each is measured with all before it."""
STORING_NOTHING, STORING = LAYERS[-2:]
PATIENCE_SECONDS = 30.0
KEY_FILE = "bench.key"
PATH = "/v1/telephony/asterisk/dialplan"


@click.command()
@click.option("--events", default=6000, show_default=True, help="Events posted one at a time per round and layer.")
@click.option("--batched", default=40000, show_default=True, help="Events in posts of 100 per round.")
@click.option("--connections", default=32, show_default=True)
@click.option("--rounds", default=3, show_default=True, help="Rounds, all layers in turn; medians count.")
@click.option("--json", "as_json", is_flag=True)
def ingest(events: int, batched: int, connections: int, rounds: int, as_json: bool) -> None:
    """One event a post and posts of 100, durable before the answer, and layer by layer. Uses a database of its own in a temporary folder."""
    singles: defaultdict[str, list[float]] = defaultdict(list)
    busy: defaultdict[str, list[float]] = defaultdict(list)
    batches: defaultdict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        with _Door(Path(folder)) as door:
            for number in range(rounds):
                posts = _dialplan_posts(events, number, door.key)
                for layer in LAYERS:
                    spent = door.cpu_seconds()
                    singles[layer].append(door.post(layer, posts, connections))
                    busy[layer].append((door.cpu_seconds() - spent) / events)
                for layer in (STORING_NOTHING, STORING):
                    batches[layer].append(100 * door.post(layer, _queue_log_posts(batched, number, door.key), connections))
        correlated = _correlate(Path(folder))
    single = {layer: statistics.median(rates) for layer, rates in singles.items()}
    work = {layer: statistics.median(seconds) for layer, seconds in busy.items()}
    figures = {
        "rounds": rounds,
        "events_per_second": round(single[STORING]),
        "ceiling_per_second": round(single[STORING_NOTHING]),
        "ratio": round(single[STORING] / single[STORING_NOTHING], 3),
        "cpu_ratio": round(work[STORING_NOTHING] / work[STORING], 3) if work[STORING] else None,
        "batch_events_per_second": round(statistics.median(batches[STORING])),
        "batch_ceiling_per_second": round(statistics.median(batches[STORING_NOTHING])),
        "correlated_per_second": round(correlated),
        "events_per_second_of_rounds": [round(one) for one in singles[STORING]],
        "ceiling_per_second_of_rounds": [round(one) for one in singles[STORING_NOTHING]],
        "batch_events_per_second_of_rounds": [round(one) for one in batches[STORING]],
        "layers": _layers(single, work),
    }
    click.echo(json.dumps(figures) if as_json else _as_text(figures))


def _layers(rates: dict[str, float], busy: dict[str, float]) -> list[dict[str, Any]]:
    """For each layer with those before it: events a second, microseconds a request, those that it adds, and the server's own work, which a busy
    machine leaves as it is."""
    layers, before = [], 0.0
    for layer in LAYERS:
        microseconds = 1e6 / rates[layer]
        layers.append(
            {
                "layer": layer,
                "events_per_second": round(rates[layer]),
                "microseconds": round(microseconds, 1),
                "added_microseconds": round(microseconds - before, 1),
                "cpu_microseconds": round(busy[layer] * 1e6, 1),
            }
        )
        before = microseconds
    return layers


def _as_text(figures: dict[str, Any]) -> str:
    lines = [f"{name}: {value}" for name, value in figures.items() if name != "layers"]
    lines += [
        f"{one['layer']:>20}: {one['events_per_second']:>6} a second, {one['microseconds']:>6} us a request, {one['added_microseconds']:+.1f}"
        for one in figures["layers"]
    ]
    return "\n".join(lines)


class _Door:
    """The gateway's doors in a process of their own, a port for each layer, with a SQLite database in `folder`."""

    def __init__(self, folder: Path) -> None:
        probes = [socket.create_server(("127.0.0.1", 0)) for _ in LAYERS]
        self.ports = {layer: int(probe.getsockname()[1]) for layer, probe in zip(LAYERS, probes, strict=True)}
        for probe in probes:
            probe.close()
        self.key_file = folder / KEY_FILE
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSWERLINE_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__, *map(str, self.ports.values())],
            env={**kept, "ANSWERLINE_DATA": str(folder)},
            stderr=subprocess.PIPE,
        )

    def __enter__(self) -> _Door:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            if self.key_file.exists():
                self.key = self.key_file.read_text()
                return self
            time.sleep(0.05)
        raise SettingError(f"the door did not open: {self.process.stderr.read().decode()[-500:] if self.process.stderr else ''}")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(20)
        if self.process.stderr:
            self.process.stderr.close()

    def cpu_seconds(self) -> float:
        """What the server has worked so far; 0 where the system does not tell."""
        try:
            told = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")

    def post(self, layer: str, requests: list[bytes], connections: int) -> float:
        """Answered posts a second over that many connections. Raises when an answer is not a success."""
        selector = selectors.DefaultSelector()
        waiting = iter(requests)
        for _ in range(min(connections, len(requests))):
            one = socket.create_connection(("127.0.0.1", self.ports[layer]))
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


def _request(path: str, kind: str, body: str, key: str) -> bytes:
    content = body.encode()
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


def _dialplan_posts(events: int, seed: int, key: str) -> list[bytes]:
    moment = int(time.time())
    return [
        _request(
            f"{PATH}?source=bench",
            "application/json",
            f'{{"event":"call.hangup","queue":"sales","callid":"{moment}.{seed}{number}","linkedid":"{moment}.{seed}{number}","cause":16,'
            f'"status":"","agent":"PJSIP/1001","at":{moment}}}',
            key,
        )
        for number in range(events)
    ]


def _queue_log_posts(events: int, seed: int, key: str) -> list[bytes]:
    moment = int(time.time())
    lines = [f"{moment}|{moment}.9{seed}{number}|sales|NONE|ENTERQUEUE||+85265511844|1" for number in range(events)]
    return [
        _request("/v1/telephony/asterisk/queue-log?source=bench", "text/plain", "\n".join(lines[first : first + 100]), key)
        for first in range(0, events, 100)
    ]


def _correlate(folder: Path) -> float:
    """Observations a second turned into contacts and events, from the backlog that the rounds left."""
    from services.gateway import handlers
    from shared.runtime import context

    units = context.build("gateway", config.load({"ANSWERLINE_DATA": str(folder)})).units
    start, done, most = time.monotonic(), 0, 5000
    while done < most and (worked := handlers.correlate(units)):
        done += worked
    return done / (time.monotonic() - start)


def _serve(ports: list[int]) -> None:
    """Each layer's door on a port of its own, all in this process: whichever is posted to works alone."""
    from shared.runtime import patch

    patch.apply()
    import threading

    from services.gateway import definition, keys, metrics, schemas
    from services.gateway.handlers import Receipt, Taken
    from services.gateway.service import GatewayCore, GatewayService
    from shared.http.address import Proxies
    from shared.http.endpoint import Response, Router, endpoint
    from shared.http.rate import Limits
    from shared.http.wsgi import Application, Request, json_object
    from shared.runtime import context, runner
    from shared.runtime.web import HttpServer, listen

    settings = config.load()
    runner.migrate_all(settings, [definition])
    gateway = context.build("gateway", settings)

    def service(**own: Any) -> Any:
        made: Any = GatewayService()
        made.core = GatewayCore(gateway)
        for name, value in own.items():
            setattr(made.core, name, value)
        return made

    def discard(taken: Taken) -> Receipt:
        return Receipt(len(taken.reading.observations), 0, taken.reading.ignored, [])

    def answer(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", "2")])
        return [b"{}"]

    class Parsing:
        @endpoint("POST", PATH, query=schemas.Source, public=True)
        def post(self, request: Request) -> Response:
            json_object(request)
            return Response(b"{}")

    class Knowing:
        @endpoint("POST", PATH, query=schemas.Source, roles=("telephony",))
        def post(self, request: Request) -> Response:
            json_object(request)
            return Response(b"{}")

    storing, discarding = service(), service(take=discard)
    limits = Limits(settings.rates, Proxies(settings.proxies))

    def application(doors: Any, who: Any = storing, limits: Limits | None = None) -> Application:
        return Application(Router(doors), who.authenticate, metrics.observe, who.permit, who.witness, limits, who.memory)

    applications = [
        answer, application(Parsing()), application(Knowing()), application(discarding, discarding), application(discarding, discarding, limits),
        application(storing, storing, limits),
    ]  # fmt: skip
    servers = [HttpServer(listen(("127.0.0.1", port)), one) for port, one in zip(ports, applications, strict=True)]
    for server in servers:
        threading.Thread(target=server.serve, daemon=True).start()
    key = keys.create(gateway.units, "bench", ["telephony"])["key"]
    (settings.data / f"{KEY_FILE}.new").write_text(key)
    (settings.data / f"{KEY_FILE}.new").rename(settings.data / KEY_FILE)
    threading.Event().wait()


if __name__ == "__main__":
    _serve([int(port) for port in sys.argv[1:]])
