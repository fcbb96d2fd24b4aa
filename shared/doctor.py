"""Looks an installation over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select

from shared.bus import broker as brokers
from shared.bus.inbox import sums
from shared.config import Settings
from shared.contracts import topology
from shared.runtime import context
from shared.runtime.context import Context
from shared.runtime.definition import Definition

NEWEST = 5000
"""What is still on its way is among the last published."""


@dataclass(frozen=True)
class Finding:
    what: str
    fine: bool
    detail: str


def examine(settings: Settings, definitions: Sequence[Definition]) -> list[Finding]:
    """Everything that can be checked from outside the processes."""
    findings = [_broker(settings)]
    services = {definition.name: context.of_a_centre(definition.name, settings) for definition in definitions}
    for ours in services.values():
        findings += _service(ours)
    for name, ours in services.items():
        findings += _arrived(name, ours, services)
    return findings


def _broker(settings: Settings) -> Finding:
    if settings.embedded:
        return Finding("broker", True, "in memory, within the process")
    try:
        with brokers.Broker(settings.broker_url).connect() as connection:
            missing = [name for name in topology.SUBSCRIPTIONS if not brokers.exists(connection, brokers.inbox(name))]
    except Exception as error:  # noqa: BLE001 - the finding says it
        return Finding("broker", False, f"out of reach: {type(error).__name__}: {error}")
    return Finding(
        "broker",
        not missing,
        f"no queue yet for {', '.join(missing)}: is the service running?" if missing else "answers, all queues are there",
    )


def _cause(error: Exception) -> str:
    return (str(getattr(error, "orig", None) or "") or type(error).__name__).strip().splitlines()[0]


def _service(ours: Context) -> list[Finding]:
    try:
        with ours.database.reading() as connection:
            buckets = sums(connection, ours.units)
            outbox = ours.units.tables.outbox
            pending = connection.scalar(select(func.count()).select_from(outbox).where(outbox.c.published_at.is_(None)))
    except Exception as error:  # noqa: BLE001 - the finding says it
        return [
            Finding(
                f"{ours.name} database",
                False,
                f"{_cause(error)} ({ours.database.url.render_as_string()}); `answerline migrate` makes its tables",
            )
        ]
    received = buckets.pop("received")
    told = ", ".join(f"{bucket} {events}" for bucket, events in buckets.items())
    return [
        Finding(f"{ours.name} database", True, f"answers; {pending} events wait to be published"),
        Finding(f"{ours.name} sums", received == sum(buckets.values()), f"received {received} = {told}"),
        Finding(
            f"{ours.name} dead letters", not buckets["dead"], f"{buckets['dead']}; `answerline dlq list --service {ours.name}` shows them"
        ),
    ]


def _arrived(name: str, ours: Context, services: dict[str, Context]) -> Iterator[Finding]:
    """Of what a publisher has published for us, how much is still on its way."""
    for publisher in topology.publishers_of(name):
        if publisher not in services:
            continue
        outbox = services[publisher].units.tables.outbox
        heard = outbox.c.type.in_(topology.SUBSCRIPTIONS[name])
        try:
            with services[publisher].database.reading() as connection:
                newest = select(outbox.c.id).where(heard, outbox.c.published_at.is_not(None)).order_by(outbox.c.seq.desc()).limit(NEWEST)
                ids = set(connection.scalars(newest))
            inbox, aside = ours.units.tables.inbox, ours.units.tables.set_aside
            with ours.database.reading() as connection:
                known = set(connection.scalars(select(inbox.c.id).where(inbox.c.id.in_(ids))))
                known |= set(connection.scalars(select(aside.c.id).where(aside.c.id.in_(ids))))
        except Exception as error:  # noqa: BLE001 - the finding says it
            yield Finding(f"{publisher} to {name}", False, type(error).__name__)
            continue
        yield Finding(f"{publisher} to {name}", True, f"of the last {len(ids)} published {len(ids - known)} are on their way")
