"""Rooms through the whole way: posted to the gateway, kept by im, announced over RabbitMQ, heard on the stream; every room's ladder climbs meanwhile."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import click
import orjson

from shared import clock, config
from shared.bus.broker import Broker, inbox
from shared.bus.envelope import Event
from shared.bus.relay import Sender
from shared.config import SettingError
from shared.db.engine import Database
from shared.ids import new_id

SERVICES = ("gateway", "im")
READY_SECONDS = 60.0
PATIENCE_SECONDS = 30.0
POSTERS = 16
LISTENERS = 20
EXPERTS = 30
PRESENT_EVERY = 20.0
STEP_EVERY = 10.0
"""Seconds from one step of a room's ladder to the next: 500 rooms make 50 steps a second."""
STEPS = 20


@click.command()
@click.option("--rooms", default=500, show_default=True, help="Open rooms.")
@click.option("--rate", default=200, show_default=True, help="Messages a second.")
@click.option("--seconds", default=20, show_default=True, help="How long.")
@click.option("--kill", is_flag=True, help="Kill the im process in the middle; whatever was acknowledged must still be heard.")
@click.option(
    "--lock", default=0, show_default=True, help="Milliseconds of each second for which another process holds the lock of im's tables."
)
@click.option("--json", "as_json", is_flag=True)
def im(rooms: int, rate: int, seconds: int, kill: bool, lock: int, as_json: bool) -> None:
    """Messages in rooms, and their ladders' steps, over RabbitMQ and PostgreSQL: from the post, or the moment a step is due, to whoever listens."""
    settings = config.load()
    if settings.embedded or "{service}" not in settings.database_url:
        raise SettingError(
            "ANSWERLINE_BROKER_URL and ANSWERLINE_DATABASE_URL (with {service} in it): this measures RabbitMQ and PostgreSQL"
        )
    with Platform() as platform:
        flow = Flow(platform, rooms)
        figures = flow.play(rate, seconds, kill, lock / 1000)
    click.echo(json.dumps(figures) if as_json else json.dumps(figures, indent=2))


class Platform:
    """Gateway and im as processes of their own, on the settings' servers."""

    def __init__(self) -> None:
        self.key = "al_" + secrets.token_urlsafe(32)
        self.ports = {name: _free_port() for name in ("http", *SERVICES)}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Platform:
        self.log = tempfile.TemporaryFile()
        subprocess.run([sys.executable, "-m", "shared.cli", "migrate", *SERVICES], check=True, env=self._environment("im"), stdout=self.log)
        try:
            for name in SERVICES:
                self.start(name)
            for name in SERVICES:
                self.wait_ready(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(30)
        self.log.close()

    def start(self, name: str) -> None:
        arguments = [sys.executable, "-m", "shared.cli", "service", name]
        self.processes[name] = subprocess.Popen(arguments, env=self._environment(name), stdout=self.log, stderr=self.log)

    def wait_ready(self, name: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            try:
                with _connection(self.ports[name]) as connection:
                    connection.request("GET", "/readyz")
                    if connection.getresponse().status == 200:
                        return
            except OSError:
                pass
            time.sleep(0.05)
        raise SettingError(f"{name} was not ready after {READY_SECONDS:g} s")

    def _environment(self, name: str) -> dict[str, str]:
        return {
            **os.environ,
            "ANSWERLINE_HTTP": f"127.0.0.1:{self.ports['http']}",
            "ANSWERLINE_METRICS": f"127.0.0.1:{self.ports[name]}",
            "ANSWERLINE_ADMIN_KEY": self.key,
            "ANSWERLINE_SECRET_KEY": self.key,
        }

    def ask(self, connection: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        connection.request(method, path, orjson.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        read = answer.read()
        return answer.status, orjson.loads(read) if read else None


class Flow:
    """Rooms, those who write in them, and those who listen."""

    def __init__(self, platform: Platform, rooms: int) -> None:
        self.platform = platform
        self.heard: dict[str, float] = {}
        self.steps_heard: dict[tuple[str, int], float] = {}
        self.step_ids: dict[tuple[str, int], set[str]] = {}
        self.posted: dict[str, float] = {}
        self.refused = 0
        self.over = threading.Event()
        self.database = Database(config.load().database_of("im"))
        self._write_ladder()
        threading.Thread(target=self._stay_present, daemon=True).start()
        self.rooms = self._open(rooms)
        self.listeners = [threading.Thread(target=self._listen, args=(part,), daemon=True) for part in _parts(self.rooms, LISTENERS)]
        for listener in self.listeners:
            listener.start()
        time.sleep(1)

    def _write_ladder(self) -> None:
        steps = [{"after": number * STEP_EVERY, "who": "experts", "best": 1} for number in range(STEPS)]
        with _connection(self.platform.ports["http"]) as connection:
            self.platform.ask(connection, "PUT", "/v1/ladders/bench", {"steps": steps, "ends_after": STEPS * STEP_EVERY})
            for number in range(EXPERTS):
                self.platform.ask(connection, "PUT", f"/v1/experts/expert{number}", {"topics": {"bench": 3}, "cap": 100})

    def _stay_present(self) -> None:
        while not self.over.is_set():
            try:
                with _connection(self.platform.ports["http"]) as connection:
                    for number in range(EXPERTS):
                        self.platform.ask(connection, "PUT", f"/v1/experts/expert{number}/presence", {"state": "available"})
            except OSError:
                continue
            self.over.wait(PRESENT_EVERY)

    def _open(self, count: int) -> list[tuple[str, str, str]]:
        """(escalation, contact, agent) of each room; routing's part, a contact in an agent's hands, is ours here."""
        contacts = [(new_id(), f"agent{number}") for number in range(count)]
        with Broker(config.load().broker_url).connect() as connection:
            rows = []
            for number, (contact, agent) in enumerate(contacts):
                data = {"contact": contact, "queue": "bench", "channel": "voice", "agent": agent, "at": clock.to_text(clock.now())}
                event = Event("routing.contact_assigned.v1", contact, data, clock.now(), 1)
                rows.append((number, event.id, orjson.dumps(event.envelope()).decode(), "", inbox("im").name))
            if len(Sender(connection, confirms=True).send(rows)) < len(rows):
                raise SettingError("the broker did not take the bench's contacts")

        def ask(one: tuple[str, str]) -> tuple[str, str, str]:
            contact, agent = one
            body = {"contact": contact, "topic": "bench", "question": "?", "person": agent}
            deadline = time.monotonic() + PATIENCE_SECONDS
            with _connection(self.platform.ports["http"]) as connection:
                while True:
                    status, told = self.platform.ask(connection, "POST", "/v1/escalations", body)
                    if status == 201:
                        return told["id"], contact, agent
                    if time.monotonic() > deadline:
                        raise SettingError(f"the bench could not be set up: {told}")
                    time.sleep(0.1)

        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(ask, contacts))

    def _listen(self, rooms: Sequence[tuple[str, str, str]]) -> None:
        """One stream for several rooms, taken up again where it broke."""
        topics = ",".join(f"person:{agent}" for _, _, agent in rooms)
        last = ""
        while not self.over.is_set():
            try:
                with _connection(self.platform.ports["http"]) as connection:
                    headers = {"Authorization": f"Bearer {self.platform.key}"} | ({"Last-Event-ID": last} if last else {})
                    connection.request("GET", f"/v1/stream?topics={topics}", headers=headers)
                    answer = connection.getresponse()
                    if answer.status != 200:
                        raise OSError(f"the stream answered {answer.status}")
                    for line in answer:
                        if line.startswith(b"id:"):
                            last = line[3:].strip().decode()
                        elif line.startswith(b"data:") and b"im.message_posted.v1" in line:
                            text = orjson.loads(line[5:])["data"]["text"]
                            self.heard.setdefault(text, time.monotonic())
                        elif line.startswith(b"data:") and b"im.expert_asked.v1" in line:
                            event = orjson.loads(line[5:])
                            step = event["data"]["escalation"], event["data"]["step"]
                            self.steps_heard.setdefault(step, clock.now())
                            self.step_ids.setdefault(step, set()).add(event["id"])
            except OSError:
                time.sleep(0.1)

    def _lock(self, seconds: float) -> None:
        """Nobody else writes what is asked, claimed or due, for so long in each second."""
        while not self.over.is_set():
            with self.database.engine.begin() as connection:
                connection.exec_driver_sql("lock table escalation, ladder_step in exclusive mode")
                time.sleep(seconds)
            time.sleep(1 - seconds)

    def play(self, rate: int, seconds: int, kill: bool, lock: float) -> dict[str, Any]:
        if lock:
            threading.Thread(target=self._lock, args=(lock,), daemon=True).start()
        begin, total = time.monotonic(), rate * seconds
        began_at = clock.now()
        numbers = itertools.count()

        def post() -> None:
            with _connection(self.platform.ports["http"]) as connection:
                for number in numbers:
                    if number >= total:
                        return
                    time.sleep(max(0.0, begin + number / rate - time.monotonic()))
                    room, _, agent = self.rooms[number % len(self.rooms)]
                    text, at = f"m{number}", time.monotonic()
                    status, _ = self.platform.ask(connection, "POST", f"/v1/escalations/{room}/messages", {"person": agent, "text": text})
                    if status == 201:
                        self.posted[text] = at
                    else:
                        self.refused += 1

        with ThreadPoolExecutor(POSTERS) as pool:
            posting = [pool.submit(post) for _ in range(POSTERS)]
            if kill:
                time.sleep(seconds / 2)
                self.platform.processes["im"].kill()
                self.platform.start("im")
            for one in posting:
                one.result()
        ended_at = clock.now()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.posted.keys() - self.heard.keys() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.over.set()
        seconds_to = sorted(self.heard[text] - at for text, at in self.posted.items() if text in self.heard)
        return {
            "rooms": len(self.rooms),
            "rate": rate,
            "posted": len(self.posted),
            "refused": self.refused,
            "lost": len(self.posted.keys() - self.heard.keys()),
            "delivery_p50_ms": _milliseconds(seconds_to, 0.5),
            "delivery_p99_ms": _milliseconds(seconds_to, 0.99),
            **self._timers(began_at, ended_at),
            "load_average": round(os.getloadavg()[0], 1),
        }

    def _timers(self, began_at: float, ended_at: float) -> dict[str, Any]:
        """Of the steps that were due while messages were posted. `timer_error`: until the step was done; `asked_heard`: until the agent had it
        on the stream, too."""
        mine = {room for room, _, _ in self.rooms}
        with self.database.engine.connect() as connection:
            rows = connection.exec_driver_sql("select escalation::text, step, due_at, at from ladder_step where step > 0").all()
            opened = connection.exec_driver_sql("select id::text, opened_at from escalation").all()
        done = {(room, step): (due_at, at) for room, step, due_at, at in rows if room in mine}
        moments = {(room, step): at + step * STEP_EVERY for room, at in opened if room in mine for step in range(1, STEPS)}
        skipped = [step for step, due_at in moments.items() if due_at < ended_at and step not in done]
        due = {step: (due_at, at) for step, (due_at, at) in done.items() if began_at <= due_at < ended_at}
        late = sorted(at - due_at for due_at, at in due.values())
        heard = sorted(self.steps_heard[step] - due_at for step, (due_at, _) in due.items() if step in self.steps_heard)
        return {
            "steps": len(due),
            "steps_skipped": len(skipped),
            "steps_repeated": sum(len(ids) - 1 for ids in self.step_ids.values()),
            "timer_error_p50_ms": _milliseconds(late, 0.5),
            "timer_error_p99_ms": _milliseconds(late, 0.99),
            "timer_error_max_ms": _milliseconds(late, 1),
            "asked_heard_p50_ms": _milliseconds(heard, 0.5),
            "asked_heard_p99_ms": _milliseconds(heard, 0.99),
        }


@contextmanager
def _connection(port: int) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    try:
        yield connection
    finally:
        connection.close()


def _parts(items: Sequence[Any], count: int) -> list[Sequence[Any]]:
    return [items[number::count] for number in range(min(count, len(items)))]


def _milliseconds(seconds: Sequence[float], share: float) -> float | None:
    return round(1000 * seconds[min(len(seconds) - 1, int(share * len(seconds)))], 1) if seconds else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
