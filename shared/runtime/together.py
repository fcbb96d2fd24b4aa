"""Many requests to another service at once: it takes what comes at one moment in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from eventlet import GreenPool

from shared.errors import AnswerlineError

AT_ONCE = 50

Item = TypeVar("Item")
Result = TypeVar("Result")


def together(work: Callable[[Item], Result], items: Iterable[Item], at_once: int = AT_ONCE) -> list[Result | AnswerlineError]:
    """The result for each item, in order, or the error that refused it."""

    def one(item: Item) -> Result | AnswerlineError:
        try:
            return work(item)
        except AnswerlineError as error:
            return error

    return list(GreenPool(at_once).imap(one, items))
