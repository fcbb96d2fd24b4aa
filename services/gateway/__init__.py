"""The door: telephony events in, the HTTP API, live streams out."""

from pathlib import Path

from click import Command

from shared.runtime.definition import Definition


def _benches() -> list[Command]:
    from services.gateway import bench, stream_bench

    return [bench.ingest, stream_bench.stream]


def _commands() -> list[Command]:
    from services.gateway import commands
    from services.gateway.bridges import bridge

    return [commands.backup, commands.key, commands.person, commands.restore, bridge]


def _sample(address: str, key: str, speed: float) -> None:
    from services.gateway import sample

    sample.play(address, key, speed)


definition = Definition(
    name="gateway",
    service="services.gateway.service:GatewayService",
    migrations=Path(__file__).parent / "migrations",
    commands=_commands,
    sample=_sample,
    benches=_benches,
)
