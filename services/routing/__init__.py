"""Who answers: assigns contacts to agents, and keeps the figures of every queue."""

from pathlib import Path

from click import Command

from shared.runtime.definition import Definition


def _benches() -> list[Command]:
    from services.routing import bench

    return [bench.pipeline]


definition = Definition(
    name="routing",
    service="services.routing.service:RoutingService",
    migrations=Path(__file__).parent / "migrations",
    single_active=True,
    benches=_benches,
)
