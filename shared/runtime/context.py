"""What a service is given to work with, and how nameko's extensions find it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from nameko.containers import ServiceContainer
from nameko.extensions import DependencyProvider
from sqlalchemy import MetaData

from shared.bus.broker import Broker
from shared.bus.outbox import UnitOfWork
from shared.bus.relay import Relay
from shared.bus.tables import BusTables
from shared.config import Settings
from shared.db.engine import Database
from shared.db.lease import Lease

Core = TypeVar("Core")
CONFIG_KEY = "answerline"


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
    links: dict[str, bool] = field(default_factory=dict)
    """Which of the service's loops are connected to the broker now."""

    neighbours: dict[str, "Context"] = field(default_factory=dict)
    """All services of this process, this one included."""

    @property
    def connected(self) -> bool:
        return all(self.links.values())


def build(name: str, settings: Settings) -> Context:
    database = Database(settings.database_of(name))
    units = UnitOfWork(database, BusTables(MetaData()))
    broker = Broker(settings.broker_url)
    relay = Relay(broker, units, name)
    units.on_announced = relay.wake
    return Context(name, settings, database, units, broker, relay, Lease(database, f"{name}:active"))


def of(container: ServiceContainer) -> Context:
    return container.config[CONFIG_KEY][container.service_name]


class Bootstrap(DependencyProvider):
    """Makes the service's core once per process and injects it: `core = Bootstrap(RoutingCore)`."""

    def __init__(self, make: Callable[[Context], Any]) -> None:
        self.make = make

    def setup(self) -> None:
        self.core = self.make(of(self.container))

    def get_dependency(self, worker_ctx: Any) -> Any:  # noqa: ARG002 - nameko's signature
        return self.core


def instance(container: ServiceContainer) -> Any:
    """An instance of the service with everything injected, for loops and requests that need no worker of nameko's."""
    service = container.service_cls()
    for provider in container.dependencies:
        setattr(service, provider.attr_name, provider.get_dependency(None))
    return service
