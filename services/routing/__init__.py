"""Who answers: assigns contacts to agents, and keeps the figures of every queue."""

from pathlib import Path

from click import Command

from shared.runtime.definition import Definition


def _benches() -> list[Command]:
    from services.routing.bench.burst import burst
    from services.routing.bench.decide import decide
    from services.routing.bench.pipeline import pipeline
    from services.routing.bench.route import route

    return [pipeline, decide, route, burst]


def _commands() -> list[Command]:
    from services.routing.simulation.commands import replay, simulate

    return [simulate, replay]


definition = Definition(
    name="routing",
    service="services.routing.service:RoutingService",
    migrations=Path(__file__).parent / "migrations",
    single_active=True,
    shards=lambda settings: settings.shards_of_routing,
    benches=_benches,
    commands=_commands,
)
