"""The door: telephony events in, the HTTP API, live streams out."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from click import Command

from shared.runtime.definition import Definition, Finding

if TYPE_CHECKING:
    from shared.runtime.context import Context


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


def _examine(context: "Context") -> "Iterator[Finding]":
    from services.gateway import doctor

    return doctor.examine(context)


definition = Definition(
    name="gateway",
    service="services.gateway.service:GatewayService",
    migrations=Path(__file__).parent / "migrations",
    commands=_commands,
    sample=_sample,
    benches=_benches,
    examine=_examine,
)
