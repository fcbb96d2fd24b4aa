"""What a service is given to work with."""

from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy import MetaData

from shared.bus.broker import Broker
from shared.bus.outbox import UnitOfWork
from shared.bus.relay import Relay
from shared.bus.tables import BusTables
from shared.config import Settings
from shared.db.engine import Database
from shared.db.lease import Lease


@dataclass
class Context:
    """One service's own: settings, database, units of work, broker, relay and lease."""

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

    neighbours: dict[str, "Context"] = field(default_factory=dict)
    """All services of this process, this one included."""

    @property
    def connected(self) -> bool:
        """Whether it does its work, or would at once if the active process ended."""
        return self.phase == "standing by" or (self.phase == "started" and all(self.links.values()))


def build(name: str, settings: Settings) -> Context:
    database = Database(settings.database_of(name))
    units = UnitOfWork(database, BusTables(MetaData()))
    broker = Broker(settings.broker_url)
    relay = Relay(broker, units, name)
    units.on_announced = relay.wake
    return Context(name, settings, database, units, broker, relay, Lease(database, f"{name}:active"))
