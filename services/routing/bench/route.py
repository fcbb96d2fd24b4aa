"""Whole contacts through the real service: how many a second, and how soon an arrival is offered."""

from __future__ import annotations

import json
import re
import statistics
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Self

import click
import orjson
from kombu import Exchange, Queue

from services.routing.bench.service import real_servers, running
from shared import clock
from shared.bus.broker import Broker, inbox, keep_alive
from shared.bus.envelope import Event
from shared.config import SettingError
from shared.contracts import topology
from shared.ids import new_id

TALK_SECONDS = 0.2
PATIENCE_SECONDS = 240.0
FLOW, BACKLOG = "flow", "backlog"
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")
HEARD = ("offer_made", "contact_assigned", "contact_completed", "contact_wrapped_up")


@click.command()
@click.option("--agents", default=1000, show_default=True, help="Agents signed in for the flow.")
@click.option("--waiting", default=5000, show_default=True, help="Contacts that wait all the time, for agents who are busy.")
@click.option("--rate", default=100, show_default=True, help="Contacts a second, sustained.")
@click.option("--seconds", default=30, show_default=True, help="How long.")
@click.option("--burst", default=500, show_default=True, help="Contacts a second of the burst.")
@click.option("--talk", default=TALK_SECONDS, show_default=True, help="Seconds that each contact lasts with its agent.")
@click.option("--burst-seconds", default=60, show_default=True, help="How long the burst lasts; 0 leaves it out.")
@click.option("--json", "as_json", is_flag=True)
def route(agents: int, waiting: int, rate: int, seconds: int, burst: int, talk: float, burst_seconds: int, as_json: bool) -> None:
    """Arrival, offer, accept, end and wrap-up over RabbitMQ and PostgreSQL, as the gateway and agents' programs would do it."""
    settings = real_servers()
    with running(settings) as (_process, broker, _database), Driver(broker, talk) as driver:
        driver.open_the_centre(agents, waiting)
        figures: dict[str, Any] = {"agents": agents, "waiting": waiting, "sustained": driver.play(rate, seconds)}
        if burst_seconds:
            figures["burst"] = driver.play(burst, burst_seconds)
    click.echo(json.dumps(figures) if as_json else json.dumps(figures, indent=2))


class Driver:
    """The gateway's and the agents' part, in one loop: events in, commands by RPC, offers and the rest heard as they are announced."""

    heard: tuple[str, ...] = HEARD

    def __init__(self, broker: Broker, talk: float = TALK_SECONDS) -> None:
        self.talk = talk
        self.hearing, self.sending = broker.connect(), broker.connect()
        self.channel = self.sending.channel()
        self.replies = f"answerline.bench.{new_id()}"
        self.answers: dict[str, Any] = {}
        self.arrived: dict[str, float] = {}
        self.due: deque[tuple[float, Callable[[], None]]] = deque()
        self.offered_after: list[float] = []
        self.decided_after: list[float] = []
        self.wrapped_up = 0
        self.beat_at = 0.0
        self.refused: dict[str, int] = {}

    def __enter__(self) -> Self:
        exchange = Exchange(topology.EXCHANGE, type="topic", durable=True)
        channel = self.hearing.channel()
        feed = Queue(f"{self.replies}.feed", durable=False, exclusive=True, auto_delete=True)(channel)
        replies = Queue(self.replies, durable=False, exclusive=True, auto_delete=True)(channel)
        feed.declare()
        replies.declare()
        for name in self.heard:
            feed.bind_to(exchange=exchange, routing_key=f"routing.{name}.v1")
        self.consumers = [
            self.hearing.Consumer([feed], channel=channel, on_message=self._hear, no_ack=True, accept=["json"]),
            self.hearing.Consumer([replies], channel=channel, on_message=self._answered, no_ack=True, accept=["json"]),
        ]
        for consumer in self.consumers:
            consumer.consume()
        return self

    def __exit__(self, *_: object) -> None:
        for connection in (self.hearing, self.sending):
            connection.release()

    # Setting up

    def open_the_centre(self, agents: int, waiting: int) -> None:
        queue = {"mode": "routed", "wrap_up": True, "offer_seconds": 60}
        self._all([("put_queue", {"queue": {"name": name, **queue, "required_skills": {name: 1}}}) for name in (FLOW, BACKLOG)])
        ids = [f"agent{number}" for number in range(agents)]
        self._all([("put_agent", {"agent_id": id, "profile": {"channels": ["voice"], "skills": {FLOW: 3}}}) for id in ids])
        self._all([("set_agent_state", {"agent_id": id, "state": "available"}) for id in ids])
        if waiting:
            last = [self._arrive(BACKLOG) for _ in range(waiting)][-1]
            self._until(lambda: self._ask("get_assignment", contact_id=last) is not None, "those who wait are in their line")

    def _all(self, commands: list[tuple[str, dict[str, Any]]]) -> None:
        for first in range(0, len(commands), 200):
            sent = [self._command(method, arguments) for method, arguments in commands[first : first + 200]]
            self._until(partial(self._are_answered, sent), "commands are answered")
            for id in sent:
                if "error" in (answer := self.answers.pop(id)):
                    raise SettingError(f"the bench could not be set up: {answer['error']}")

    def _are_answered(self, sent: list[str]) -> bool:
        return all(id in self.answers for id in sent)

    def _ask(self, method: str, **arguments: Any) -> Any:
        id = self._command(method, arguments)
        self._until(lambda: id in self.answers, method)
        return self.answers.pop(id).get("result")

    # The flow

    def play(self, rate: int, seconds: int) -> dict[str, Any]:
        """So many contacts a second for so long, then until the last is wrapped up."""
        self.offered_after, self.decided_after, self.wrapped_up, self.refused, self.arrived = [], [], 0, {}, {}
        total, begin = rate * seconds, time.monotonic()
        sent = 0
        while self.wrapped_up < total:
            now = time.monotonic()
            due = min(total, int((now - begin) * rate) + 1)
            while sent < due:
                self._arrive(FLOW)
                sent += 1
            while self.due and self.due[0][0] <= now:
                self.due.popleft()[1]()
            self._listen(0.002)
            if now - begin > seconds + PATIENCE_SECONDS:
                break
        took = time.monotonic() - begin
        waits = sorted(self.offered_after)
        return {
            "contacts": total,
            "rate": rate,
            "lost": total - self.wrapped_up,
            "refused": self.refused,
            "contacts_per_second": round(self.wrapped_up / took, 1),
            "worked_off_after_seconds": round(took - seconds, 2),
            "offer_p50_ms": _milliseconds(waits, 0.5),
            "offer_p99_ms": _milliseconds(waits, 0.99),
            "decided_p50_ms": _milliseconds(sorted(self.decided_after), 0.5),
            "decided_p99_ms": _milliseconds(sorted(self.decided_after), 0.99),
            "offer_mean_ms": round(1000 * statistics.mean(waits), 1) if waits else None,
        }

    def _hear(self, message: Any) -> None:
        self._note(orjson.loads(message.body))

    def _note(self, event: dict[str, Any]) -> None:
        data, now = event["data"], time.monotonic()
        contact = data["contact"]
        if contact not in self.arrived:
            return
        match event["type"]:
            case "routing.offer_made.v1":
                self.offered_after.append(now - self.arrived[contact])
                self.decided_after.append(clock.from_text(data["at"]) - clock.now() + self.offered_after[-1])
                self._command("accept_offer", {"offer_id": data["offer"], "agent_id": data["agent"]})
            case "routing.contact_assigned.v1":
                self.due.append((now + self.talk, lambda: self._tell("ended", contact, FLOW, 2, outcome="completed", ended_by="caller")))
            case "routing.contact_completed.v1":
                self._command("set_agent_state", {"agent_id": data["agent"], "state": "available", "disposition": "done"})
            case "routing.contact_wrapped_up.v1":
                self.wrapped_up += 1

    def _arrive(self, queue: str) -> str:
        contact = new_id()
        if queue == FLOW:
            self.arrived[contact] = time.monotonic()
        self._tell("arrived", contact, queue, 1, outcome="waiting")
        return contact

    def _tell(self, what: str, contact: str, queue: str, sequence: int, **leg: Any) -> None:
        now = clock.now()
        told = {
            "number": 1,
            "queue": queue,
            "call": contact,
            "arrived_at": clock.to_text(now),
            "missed": {},
            "ringing": [],
            "estimated": [],
            **leg,
        }
        data = {"contact": contact, "source": "bench", "channel": "voice", "required_skills": {}, "leg": told}
        body = orjson.dumps(Event(f"gateway.contact_{what}.v1", contact, data, now, sequence).envelope())
        self._send(body, inbox("routing").name)

    def _command(self, method: str, arguments: dict[str, Any]) -> str:
        id = new_id()
        body = orjson.dumps({"id": id, "method": method, "arguments": arguments, "reply_to": self.replies})
        self._send(body, topology.command_queue("routing"), delivery_mode=1)
        return id

    def _answered(self, message: Any) -> None:
        self._take(orjson.loads(message.body))

    def _take(self, answer: dict[str, Any]) -> None:
        if "error" in answer:
            why = self._why(answer)
            self.refused[why] = self.refused.get(why, 0) + 1
        self.answers[answer["id"]] = answer

    @staticmethod
    def _why(answer: dict[str, Any]) -> str:
        return ID.sub("…", str(answer["error"]["detail"]))

    def _send(self, body: bytes, queue: str, **properties: Any) -> None:
        message = self.channel.prepare_message(
            body, content_type="application/json", content_encoding="utf-8", properties={"delivery_mode": 2, **properties}
        )
        self.channel.basic_publish(message, exchange="", routing_key=queue)

    def _stay_connected(self) -> None:
        """The broker hangs up on whoever does not answer its heartbeats."""
        if time.monotonic() < self.beat_at:
            return
        self.beat_at = time.monotonic() + 1
        with suppress(TimeoutError):
            self.sending.drain_events(timeout=0.0001)
        for connection in (self.hearing, self.sending):
            keep_alive(connection)

    def _listen(self, seconds: float) -> None:
        self._stay_connected()
        try:
            self.hearing.drain_events(timeout=seconds)
            while True:
                self.hearing.drain_events(timeout=0.0001)
        except TimeoutError:
            return

    def _until(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not done():
            if time.monotonic() > deadline:
                raise SettingError(f"the bench waited in vain until {what}")
            self._listen(0.01)


def _milliseconds(ordered: list[float], share: float) -> float | None:
    return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1) if ordered else None
