"""Who may serve which channel, how they come to it, and what everybody learns."""

from pathlib import Path

from click import Command

from shared.runtime.definition import Definition


def _benches() -> list[Command]:
    from services.training.bench import training

    return [training]


definition = Definition(
    name="training", service="services.training.service:TrainingService", migrations=Path(__file__).parent / "migrations", benches=_benches
)
