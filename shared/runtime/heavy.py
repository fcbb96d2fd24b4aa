"""Work that keeps a processor busy for tens of milliseconds and lets go of the interpreter meanwhile, such as the hashing of a password."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from eventlet import tpool
from eventlet.semaphore import Semaphore

AT_ONCE = 2
"""Each hash takes tens of MB as well; whoever comes when as many are at work waits."""

Result = TypeVar("Result")

_turn = Semaphore(AT_ONCE)


def off_the_hub(work: Callable[..., Result], *arguments: Any) -> Result:
    """The result of `work`, done by a real thread while everybody else goes on. It must touch nothing that belongs to the hub:
    no database, no lock, no log."""
    with _turn:
        return tpool.execute(work, *arguments)
