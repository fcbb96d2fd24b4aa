"""How a service announces itself to the platform: one object behind an entry point."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from click import Command

from shared.config import Settings

if TYPE_CHECKING:
    from shared.runtime.context import Context

GROUP = "answerline.services"
State = Literal["ok", "note", "bad"]


@dataclass(frozen=True)
class Finding:
    """Of `answerline doctor`. `note`: nothing is broken, and yet it is probably not what was meant. `mend`: what to do, as a sentence or a command."""

    what: str
    state: State
    detail: str
    mend: str = ""


def _undivided(_settings: Settings) -> int:
    return 1


@dataclass(frozen=True)
class Definition:
    """`service` is `module:Class` of the nameko class, loaded only in a process that runs it.
    `single_active`: of all its processes one works, the others stand by to take over; `shards`: one for each of so many parts.
    `examine`: what `answerline doctor` looks for in this service beside what it looks for in all.
    `sample` sets up something to look at through the API: (address, key, speed). `commands` and `benches` add to `answerline` and `answerline bench`."""

    name: str
    service: str
    migrations: Path
    single_active: bool = False
    shards: Callable[[Settings], int] = _undivided
    commands: Callable[[], list[Command]] = list
    sample: Callable[[str, str, float], None] | None = None
    benches: Callable[[], list[Command]] = list
    examine: Callable[["Context"], Iterable[Finding]] | None = None

    def load(self) -> type[Any]:
        module, _, name = self.service.partition(":")
        return getattr(import_module(module), name)


def installed() -> dict[str, Definition]:
    """Every service of this installation by name."""
    return {point.name: point.load() for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)}
