"""Two sets of criteria, one truth, no blame: what contacts were worth to customers, and what makes the next ones better."""

from pathlib import Path

from click import Command

from shared.runtime.definition import Definition


def _benches() -> list[Command]:
    from services.qa import bench

    return [bench.qa]


definition = Definition(
    name="qa", service="services.qa.service:QaService", migrations=Path(__file__).parent / "migrations", benches=_benches
)
