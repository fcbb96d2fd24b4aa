"""Heavy work holds nobody up."""

from __future__ import annotations

import threading

import eventlet
import pytest

from shared.runtime.heavy import AT_ONCE, off_the_hub


def test_others_go_on_while_it_is_done_and_only_so_much_is_done_at_once() -> None:
    """Each piece of work ends only when those beside it have begun, and somebody else has had a turn meanwhile."""
    others_turn, together, at_work, most = threading.Event(), threading.Barrier(AT_ONCE), [], 0

    def work(number: int) -> int:
        nonlocal most
        at_work.append(number)
        most = max(most, len(at_work))
        assert others_turn.wait(30)
        together.wait(30)
        at_work.remove(number)
        return number

    tasks = [eventlet.spawn(off_the_hub, work, number) for number in range(2 * AT_ONCE)]
    while len(at_work) < AT_ONCE:
        eventlet.sleep(0)
    others_turn.set()
    assert [task.wait() for task in tasks] == list(range(2 * AT_ONCE))
    assert most == AT_ONCE


def test_what_it_raises_comes_back() -> None:
    with pytest.raises(ValueError, match="no"):
        off_the_hub(int, "no")
