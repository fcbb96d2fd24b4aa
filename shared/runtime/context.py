"""What a service is given to work with."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import MetaData, make_url

from shared.bus.broker import Broker
from shared.bus.outbox import UnitOfWork
from shared.bus.relay import Relay
from shared.bus.tables import BusTables
from shared.config import SettingError, Settings
from shared.db.engine import Database
from shared.db.lease import Lease

NEWS = ""
"""The method of a request that only wakes."""


@dataclass
class Context:
    """One service's own: settings, database, units of work, broker, relay and lease. Of a service in shards, one shard's own."""

    name: str
    settings: Settings
    database: Database
    units: UnitOfWork
    broker: Broker
    relay: Relay
    lease: Lease
    phase: Literal["starting", "standing by", "started"] = "starting"
    links: dict[str, bool] = field(default_factory=dict)
    """Which of the service's loops are connected to the broker now."""

    shard: int = 0
    shards: int = 1
    parts: dict[int, "Context"] = field(default_factory=dict)
    """Of a service in shards: those that this process holds."""

    pass_on: Callable[[int, dict[str, Any]], None] = lambda _shard, _request: None
    """Send a request to whoever holds a shard."""

    on_news: Callable[[bool], None] = lambda _mail: None
    """Another shard has written something: mail for this one, or else announcements, which the first shard's relay publishes."""

    neighbours: dict[str, "Context"] = field(default_factory=dict)
    """All services of this process, this one included."""

    @property
    def begun(self) -> bool:
        """Whether it does what needs no broker, or would at once if the active process ended."""
        if self.parts:
            return all(part.begun for part in list(self.parts.values()))
        return self.phase != "starting"

    @property
    def connected(self) -> bool:
        """Whether it does its work, or would at once if the active process ended."""
        if self.parts:
            return all(part.connected for part in list(self.parts.values()))
        return self.phase == "standing by" or (self.phase == "started" and all(self.links.values()))

    @property
    def linked(self) -> bool:
        """Whether each loop that needs the broker is connected to it."""
        return all(all(one.links.values()) for one in [self, *self.parts.values()])

    @property
    def published(self) -> int:
        """Events that the broker has confirmed to this process."""
        return self.relay.published + sum(part.relay.published for part in list(self.parts.values()))


def build(name: str, settings: Settings) -> Context:
    database = Database(settings.database_of(name))
    units = UnitOfWork(database, BusTables(MetaData()))
    broker = Broker(settings.broker_url)
    relay = Relay(broker, units, name)
    units.on_announced = relay.wake
    return Context(name, settings, database, units, broker, relay, lease_of(database, name, 0))


def of_a_centre(name: str, settings: Settings) -> Context:
    """As `build`, for commands that look at the data of a centre. Raises SettingError where there are none, rather than making a folder for them."""
    path = make_url(settings.database_of(name)).database or ""
    if not settings.database_url and not Path(path).exists():
        raise SettingError(
            f"ANSWERLINE_DATA: no centre has its data in {settings.data.absolute()}; call this where it was started, or name its folder"
        )
    return build(name, settings)


def lease_of(database: Database, name: str, shard: int) -> Lease:
    return Lease(database, f"{name}:{shard}:active" if shard else f"{name}:active")


def part_of(whole: Context, shard: int, shards: int, lease: Lease) -> Context:
    """What one shard is given: the first has the service's inbox and its relay, which the others wake."""
    units = UnitOfWork(whole.database, whole.units.tables)
    relay = Relay(whole.broker, units, whole.name)
    part = replace(whole, units=units, relay=relay, lease=lease, shard=shard, shards=shards, phase="starting", links={}, parts={})
    units.on_announced = part.relay.wake if shard == 0 else partial(tell_news, part, 0, mail=False)
    return part


def tell_news(ours: Context, shard: int, mail: bool = True) -> None:
    """Another shard shall look now; it looks again and again anyhow."""
    ours.pass_on(shard, {"method": NEWS, "mail": mail})
