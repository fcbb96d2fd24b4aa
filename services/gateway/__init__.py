"""The door: telephony events in, the HTTP API, live streams out."""

from pathlib import Path

from shared.runtime.definition import Definition

definition = Definition(
    name="gateway",
    service="services.gateway.service:GatewayService",
    migrations=Path(__file__).parent / "migrations",
)
