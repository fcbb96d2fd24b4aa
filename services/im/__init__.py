"""An agent who is stuck reaches somebody who knows, within seconds, while the customer is still there."""

from pathlib import Path

from shared.runtime.definition import Definition

definition = Definition(name="im", service="services.im.service:ImService", migrations=Path(__file__).parent / "migrations")
