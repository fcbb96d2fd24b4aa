"""How fast routing works off events, against a ceiling measured in the same run.

The ceiling is the durable chain stripped of everything a product needs: consume a batch, one transaction (inbox keys, state, outbox),
publish with confirms in flight, one acknowledgement; no validation, no relay of its own, no retries. Only the ratio means anything.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import time
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import click
import orjson
from kombu import Connection, Consumer, Exchange, Producer, Queue
from sqlalchemy import create_engine, text

from services.routing.bench.service import real_servers, running
from shared import clock
from shared.bus.address import divided
from shared.bus.broker import Broker, inbox
from shared.bus.envelope import Event
from shared.bus.relay import Sender
from shared.config import SettingError, Settings
from shared.db.engine import Database
from shared.ids import new_id

SCHEMA = "answerline_bench"
STEPS = ("arrived", "answered", "ended")
READY_SECONDS = 30.0
PATIENCE_SECONDS = 120.0


@click.command()
@click.option("--events", default=6000, show_default=True, help="Events per round.")
@click.option("--batch", default=200, show_default=True, help="Batch size of the ceiling.")
@click.option("--rounds", default=3, show_default=True, help="Rounds, ceiling and service in turn; medians count.")
@click.option("--json", "as_json", is_flag=True)
def pipeline(events: int, batch: int, rounds: int, as_json: bool) -> None:
    """Event in, inbox + state + outbox in one transaction, confirmed publish: over RabbitMQ and PostgreSQL.

    Uses the database of the settings in a schema of its own, and the broker only where no routing service uses it.
    """
    settings = real_servers()
    ceilings, speeds = [], []
    for _ in range(rounds):
        ceilings.append(_ceiling(settings, events, batch))
        speeds.append(_service(settings, events))
    ceiling, speed = (statistics.median(one.events_per_second for one in kind) for kind in (ceilings, speeds))
    bare, own = (statistics.median(one.cpu_microseconds for one in kind) for kind in (ceilings, speeds))
    figures = {
        "events": events,
        "rounds": rounds,
        "events_per_second": round(speed),
        "ceiling_per_second": round(ceiling),
        "ratio": round(speed / ceiling, 3),
        "cpu_microseconds": round(own, 1),
        "ceiling_cpu_microseconds": round(bare, 1),
        "cpu_ratio": round(bare / own, 3) if own else None,
        "events_per_second_of_rounds": [round(one.events_per_second) for one in speeds],
        "ceiling_per_second_of_rounds": [round(one.events_per_second) for one in ceilings],
    }
    click.echo(json.dumps(figures) if as_json else "\n".join(f"{name}: {value}" for name, value in figures.items()))


class Speed(NamedTuple):
    """The process's own work for an event (broker and database not counted) stays as it is on a busy machine."""

    events_per_second: float
    cpu_microseconds: float


def _service(settings: Settings, events: int) -> Speed:
    """Of the real service: it is stopped while its queue is filled, and timed from its release to the last confirm."""
    with running(settings) as (process, broker, database):
        process.send_signal(signal.SIGSTOP)
        _fill(broker, events)
        start, spent = time.monotonic(), cpu_seconds(process.pid)
        process.send_signal(signal.SIGCONT)
        _wait_until_published(database, events, start)
        return Speed(events / (time.monotonic() - start), 1e6 * (cpu_seconds(process.pid) - spent) / events)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process; 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _fill(broker: Broker, events: int) -> None:
    """Returns when the broker has all of it: what is unconfirmed when a channel closes may be lost."""
    bodies = _bodies(events)
    with broker.connect() as connection:
        sender = Sender(connection, confirms=True)
        for first in range(0, events, 500):
            sender.send([(0, "", body, "", inbox("routing").name) for body in bodies[first : first + 500]])


def _bodies(events: int) -> list[str]:
    """Contacts that arrive, are answered and end, interleaved as in a centre."""
    moment = clock.now()
    bodies = []
    for number in range(0, events, len(STEPS)):
        contact = new_id()
        leg: dict[str, Any] = {
            "number": 1, "queue": f"queue{number % 20}", "call": f"{moment:.0f}.{number}", "position": 1, "arrived_at": clock.to_text(moment),
            "outcome": "waiting", "missed": {}, "ringing": [], "estimated": [],
        }  # fmt: skip
        changes: dict[str, dict[str, Any]] = {
            "arrived": {},
            "answered": {
                "answered_at": clock.to_text(moment + 5),
                "agent": "Alice Wong",
                "address": "PJSIP/1001",
                "hold_seconds": 5.0,
                "outcome": "talking",
            },
            "ended": {"ended_at": clock.to_text(moment + 65), "talk_seconds": 60.0, "ended_by": "caller", "outcome": "completed"},
        }
        for sequence, step in enumerate(STEPS, 1):
            leg = {**leg, **changes[step]}
            data = {"contact": contact, "source": "bench", "channel": "voice", "required_skills": {}, "leg": leg}
            bodies.append(orjson.dumps(Event(f"gateway.contact_{step}.v1", contact, data, moment, sequence).envelope()).decode())
    return bodies[:events]


def _wait_until_published(database: Database, events: int, start: float) -> None:
    """Every event that came in has one that went out, confirmed by the broker."""
    done = text("select count(*) from outbox where published_at is not null")
    while time.monotonic() - start < PATIENCE_SECONDS:
        with database.reading() as connection:
            if (connection.scalar(done) or 0) >= events:
                return
        time.sleep(0.05)
    raise SettingError(f"after {PATIENCE_SECONDS:g} s not all events were published; `answerline dlq list` may tell why")


def _ceiling(settings: Settings, events: int, batch: int) -> Speed:
    """Of the bare chain."""
    exchange = Exchange("answerline.ceiling", type="topic", durable=True)
    quorum = {"x-queue-type": "quorum"}
    incoming = Queue("answerline.ceiling.in", exchange, routing_key="in.#", durable=True, queue_arguments=quorum)
    outgoing = Queue("answerline.ceiling.out", exchange, routing_key="out.#", durable=True, queue_arguments=quorum)
    engine = create_engine(Database(settings.database_of("routing")).engine.url)
    properties: dict[str, Any] = {"content_type": "application/json", "content_encoding": "utf-8", "delivery_mode": 2}
    with engine.begin() as connection:
        for statement in (
            "drop table if exists ceiling_inbox, ceiling_outbox, ceiling_contact",
            "create table ceiling_inbox(id uuid primary key, at timestamptz default now())",
            "create table ceiling_outbox(seq bigserial primary key, body jsonb)",
            "create table ceiling_contact(id uuid primary key, state text, body jsonb)",
        ):
            connection.execute(text(statement))
    with _bare(settings.broker_url) as broker:
        channel = broker.channel()
        for queue in (incoming, outgoing):
            bound = queue(channel)
            bound.declare()
            bound.purge()
        sender = Sender(broker, confirms=True)  # what is unconfirmed when a connection ends may be lost, and would be waited for in vain
        for first in range(0, events, 500):
            sender.send([(0, "", _small_body(), incoming.exchange.name, "in.x") for _ in range(first, min(first + 500, events))])
    try:
        spent = time.process_time()
        took = _run_ceiling(settings.broker_url, engine, exchange, incoming, events, batch, properties)
        return Speed(events / took, 1e6 * (time.process_time() - spent) / events)
    finally:
        with _bare(settings.broker_url) as broker:
            for queue in (incoming, outgoing):
                queue(broker.channel()).delete()
            exchange(broker.channel()).delete()
        with engine.begin() as connection:
            connection.execute(text("drop table ceiling_inbox, ceiling_outbox, ceiling_contact"))
        engine.dispose()


def _bare(url: str) -> Connection:
    """Without what makes our own connections faster."""
    address, tls = divided(url)
    return Connection(address, ssl=tls or False)


def _small_body() -> str:
    data = {"customer": "c" * 12, "skills": ["a", "b"], "channel": "voice", "value": 0.7}
    return json.dumps({"id": str(uuid.uuid4()), "type": "gateway.contact_arrived.v1", "data": data})


def _run_ceiling(url: str, engine: Any, exchange: Exchange, incoming: Queue, events: int, batch: int, properties: dict[str, Any]) -> float:
    buffer: list[Any] = []
    unconfirmed: set[int] = set()
    done = tag = 0

    def confirmed(delivery_tag: int, multiple: bool) -> None:
        unconfirmed.difference_update([one for one in unconfirmed if one == delivery_tag or (multiple and one < delivery_tag)])

    with _bare(url) as publishing, _bare(url) as consuming:
        channel = publishing.channel()
        channel.confirm_select()
        channel.events["basic_ack"].add(confirmed)
        publisher = Producer(channel, exchange)
        with Consumer(consuming.channel(), [incoming], on_message=buffer.append, prefetch_count=batch * 2, accept=["json"]):
            start = time.monotonic()
            while done < events:
                if time.monotonic() - start > PATIENCE_SECONDS:
                    raise SettingError(f"the ceiling's {events} events were not all delivered within {PATIENCE_SECONDS:g} s")
                try:
                    consuming.drain_events(timeout=0.01)
                    while len(buffer) < batch:
                        consuming.drain_events(timeout=0.002)
                except TimeoutError:
                    pass
                if not buffer:
                    continue
                rows = json.dumps([{"id": json.loads(m.body)["id"], "state": "queued", "body": json.loads(m.body)} for m in buffer])
                with engine.begin() as connection:
                    for statement in (
                        "insert into ceiling_inbox(id) select id from json_to_recordset(:r) as x(id uuid) on conflict do nothing",
                        "insert into ceiling_contact select id, state, body from json_to_recordset(:r) as x(id uuid, state text, body jsonb) "
                        "on conflict (id) do update set state = excluded.state",
                        "insert into ceiling_outbox(body) select body from json_to_recordset(:r) as x(body jsonb)",
                    ):
                        connection.execute(text(statement), {"r": rows})
                for message in buffer:
                    tag += 1
                    unconfirmed.add(tag)
                    publisher.publish(message.body, routing_key="out.x", **properties)
                while unconfirmed:
                    publishing.drain_events(timeout=5)
                buffer[-1].channel.basic_ack(buffer[-1].delivery_tag, multiple=True)
                done += len(buffer)
                buffer.clear()
            return time.monotonic() - start
