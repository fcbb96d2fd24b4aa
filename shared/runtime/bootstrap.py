"""How nameko's extensions, and a service's doors, find what they work with."""

from collections.abc import Callable
from typing import Any

from nameko.containers import ServiceContainer
from nameko.extensions import DependencyProvider

from shared.observability import trace
from shared.runtime.context import Context

CONFIG_KEY = "answerline"


def of(container: ServiceContainer) -> Context:
    return container.config[CONFIG_KEY][container.service_name]


class Bootstrap(DependencyProvider):
    """Makes the service's core once per process and injects it: `core = Bootstrap(RoutingCore)`."""

    def __init__(self, make: Callable[[Context], Any]) -> None:
        self.make = make

    def setup(self) -> None:
        self.core = self.make(of(self.container))

    def stop(self) -> None:
        if close := getattr(self.core, "close", None):
            close()

    def worker_setup(self, worker_ctx: Any) -> None:
        trace.adopt(worker_ctx.data.get(trace.KEY))

    def get_dependency(self, worker_ctx: Any) -> Any:  # noqa: ARG002 - nameko's signature
        return self.core


def instance(container: ServiceContainer) -> Any:
    """An instance of the service with everything injected, for loops and requests that need no worker of nameko's. Its `injected` is told, if there is one."""
    service = container.service_cls()
    for provider in container.dependencies:
        setattr(service, provider.attr_name, provider.get_dependency(None))
    if introduce := getattr(service, "injected", None):
        introduce()
    return service
