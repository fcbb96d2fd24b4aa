"""An agent who is stuck reaches somebody who knows, within seconds, while the customer is still there."""

from pathlib import Path

from click import Command

from shared.runtime.definition import Definition


def _benches() -> list[Command]:
    from services.im import bench

    return [bench.im]


definition = Definition(
    name="im", service="services.im.service:ImService", migrations=Path(__file__).parent / "migrations", benches=_benches
)
