"""Who answers: assigns contacts to agents, and keeps the figures of every queue."""

from pathlib import Path

from shared.runtime.definition import Definition

definition = Definition(
    name="routing",
    service="services.routing.service:RoutingService",
    migrations=Path(__file__).parent / "migrations",
    single_active=True,
)
