"""`answerline bench burst` through all five services: callers and agents by the gateway's API, what becomes of them heard on its stream.

    python -m tests.bench.burst [options of `answerline bench burst`]

What is waited for is counted from the moment when it was to be sent, so that a gateway that keeps its clients waiting is seen to.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import click

from services.routing.bench.burst import Plan, options, play
from services.routing.bench.day import HEARD, Day
from services.routing.bench.pipeline import cpu_seconds
from services.routing.bench.route import FLOW, ID
from tests.chaos import checks
from tests.chaos.harness import Chaos
from tests.chaos.load import BROKEN
from tests.chaos.soak import backlog, memory
from tests.e2e.listening import Ear
from tests.stack import new_broker, new_database, process
from tests.system import SERVICES

CLIENTS = 48
"""Requests at a time: more than are ever under way, unless the gateway is slow."""
SOURCE = "burst"
LOOK_SECONDS = 5.0
REST_SECONDS = 300.0


class ByTheApi:
    """Callers and agents as programs of the gateway's."""

    def __init__(self, system: Chaos) -> None:
        self.system = system
        self.day: Day
        self.calls: dict[str, str] = {}
        self._early: dict[str, list[tuple[str, dict[str, Any], float]]] = {}
        self._wanted: queue.SimpleQueue[tuple[str, float, str, str, Any]] = queue.SimpleQueue()
        self._told: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._over = False
        self.backlogs: list[int] = []

    @contextmanager
    def opened(self, agents: int) -> Iterator[None]:
        settings = {"mode": "routed", "wrap_up": True, "offer_seconds": 60, "required_skills": {FLOW: 1}}
        self.system.put(f"/v1/queues/{FLOW}", settings).ok()
        topics = ",".join(f"routing.{name}" for name in HEARD)
        with ExitStack() as stack:
            ear = stack.enter_context(Ear(self.system, topics, timeout=600.0).opened())
            for work in (*[self._ask] * CLIENTS, self._look):
                threading.Thread(target=work, daemon=True).start()
            threading.Thread(target=self._hear, args=(ear,), daemon=True).start()
            ids = [f"agent{number}" for number in range(agents)]
            self._all([("PUT", f"/v1/agents/{id}", {"channels": ["voice"], "skills": {FLOW: 3}}) for id in ids])
            self._all([("PUT", f"/v1/agents/{id}/state", {"state": "available"}) for id in ids])
            try:
                yield
            finally:
                self._over = True

    def listen(self, seconds: float) -> None:
        try:
            told = self._told.get(timeout=max(seconds, 0.0005))
            while True:
                self._take(*told)
                told = self._told.get_nowait()
        except queue.Empty:
            return

    def spent(self) -> dict[str, float]:
        return {service: cpu_seconds(self.system.pid(service)) for service in SERVICES}

    # What callers and agents do

    def arrive(self, call: str) -> None:
        self._want("arrive", "POST", "/v1/contacts", {"queue": FLOW, "source": SOURCE, "call": call})

    def hang_up(self, call: str, answered: bool) -> None:
        self._want("hang_up", "POST", f"/v1/contacts/{SOURCE}:{call}/end", {"ended_by": "agent" if answered else "caller"})

    def ask_position(self, call: str) -> None:
        self._want("position", "GET", f"/v1/contacts/{SOURCE}:{call}/announcement")

    def accept(self, offer: str, agent: str) -> None:
        self._want("accept", "POST", f"/v1/offers/{offer}/accept", {"agent": agent})

    def make_available(self, agent: str) -> None:
        self._want("available", "PUT", f"/v1/agents/{agent}/state", {"state": "available", "disposition": "done"})

    def _want(self, name: str, method: str, path: str, body: Any = None) -> None:
        self._wanted.put((name, time.monotonic(), method, path, body))

    # In threads of their own

    def _ask(self) -> None:
        while not self._over:
            name, wanted, method, path, body = self._wanted.get()
            try:
                answer = self.system.request(method, path, body)
                status, told = answer.status, answer.json
            except (*BROKEN, ValueError) as error:  # no answer, or none that can be read
                status, told = 0, {"detail": type(error).__name__}
            self._told.put(("answer", name, time.monotonic() - wanted, status, told, body))

    def _hear(self, ear: Ear) -> None:
        try:
            for told in ear:
                if told.name.startswith("routing."):
                    self._told.put(("event", told.name.split(".")[1], told.data["data"], time.monotonic()))
                elif told.name == "gap":
                    raise ConnectionError("the stream has left something out")
            raise ConnectionError("the stream has ended")
        except (*BROKEN, AttributeError) as error:
            if not self._over:
                self._told.put(("fault", error))

    def _look(self) -> None:
        while not self._over:
            try:
                self.backlogs.append(backlog(self.system))
            except Exception as error:  # noqa: BLE001 - whatever it is, nothing would be known of the backlog any more
                if not self._over:
                    self._told.put(("fault", error))
                return
            time.sleep(LOOK_SECONDS)

    # What came of it

    def _take(self, kind: str, *told: Any) -> None:
        match kind:
            case "event":
                self._event(*told)
            case "answer":
                self._answer(*told)
            case _:
                raise told[0]

    def _event(self, what: str, data: dict[str, Any], at: float) -> None:
        contact = data["contact"]
        if call := self.calls.get(contact):
            self.day.hear(what, call, data, at)
        else:  # heard before its POST was answered
            self._early.setdefault(contact, []).append((what, data, at))

    def _answer(self, name: str, seconds: float, status: int, told: Any, body: Any) -> None:
        refused = "" if 200 <= status < 300 else f"{status} {ID.sub('…', str(told.get('detail')))}"
        self.day.answered(name, seconds, refused)
        if name == "arrive" and not refused:
            contact = told["contact"]
            self.calls[contact] = body["call"]
            for what, data, at in self._early.pop(contact, ()):
                self._event(what, data, at)

    def _all(self, requests: list[tuple[str, str, Any]]) -> None:
        for method, path, body in requests:
            self._want("set up", method, path, body)
        for _ in requests:
            kind, *told = self._told.get(timeout=120)
            assert kind == "answer", told
            assert 200 <= told[2] < 300, told


@click.command()
@options
def main(as_json: bool, **wanted: Any) -> None:
    """A busy centre and a burst through gateway, routing, im, qa and training, over RabbitMQ and PostgreSQL of their own."""
    plan = Plan(**wanted)
    process.root()
    with new_broker() as broker, new_database() as database, Chaos("deployed", broker, database, SERVICES) as system:
        figures = measured(system, plan)
    click.echo(json.dumps(figures) if as_json else json.dumps(figures, indent=2))
    wrong = figures["lost"], figures["twice"], figures["idle_while_waiting"], *figures["events"]["wrong"].values()
    sys.exit(int(any(wrong)))


def measured(system: Chaos, plan: Plan) -> dict[str, Any]:
    centre = ByTheApi(system)
    with centre.opened(plan.agents):
        figures = play(centre, plan)
    checks.wait_for_rest(system, (), REST_SECONDS)
    books = checks.balance(system)
    return figures | {
        "events": {"applied": books.applied, "wrong": {"lost": books.lost, "twice": books.twice, "stuck": books.stuck, "dead": books.dead}},
        "most_backlog": max(centre.backlogs, default=None),
        "memory_mb": {service: round(memory(system.pid(service))) for service in SERVICES},
    }


if __name__ == "__main__":
    main()
