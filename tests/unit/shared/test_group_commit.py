"""What many want written at one moment is written in one transaction."""

from __future__ import annotations

from collections.abc import Sequence

import eventlet
from eventlet.greenpool import GreenPool
from sqlalchemy.exc import InterfaceError

from shared.runtime.group import GroupCommit


class Ledger:
    def __init__(self, fails_on: int | None = None, error: Exception | None = None) -> None:
        self.commits: list[list[int]] = []
        self.written: list[int] = []
        self.fails_on = fails_on
        self.error = error or ValueError("the row is too long")

    def write(self, items: Sequence[int]) -> list[int]:
        self.commits.append(list(items))
        if self.fails_on in items:
            raise self.error
        self.written += items
        return [item * 10 for item in items]


def submit_all(group: GroupCommit[int, int], items: Sequence[int]) -> list[int | str]:
    def submit(item: int) -> int | str:
        try:
            return group.submit(item)
        except (InterfaceError, ValueError) as error:
            return str(error.args[0])

    with eventlet.Timeout(2):
        return list(GreenPool(1000).imap(submit, items))


def test_many_at_once_are_one_commit_and_each_has_its_own_result() -> None:
    ledger = Ledger()
    assert submit_all(GroupCommit(ledger.write), range(100)) == [n * 10 for n in range(100)]
    assert ledger.commits == [list(range(100))]


def test_a_group_is_no_larger_than_it_may_be() -> None:
    ledger = Ledger()
    submit_all(GroupCommit(ledger.write, most=40), range(100))
    assert [len(commit) for commit in ledger.commits] == [40, 40, 20]


def test_one_after_the_other_are_commits_of_their_own() -> None:
    ledger = Ledger()
    group = GroupCommit(ledger.write)
    assert [group.submit(n) for n in range(3)] == [0, 10, 20]
    assert ledger.commits == [[0], [1], [2]]


def test_an_error_is_the_culprit_s_alone_and_what_the_others_want_is_written_once_in_order() -> None:
    ledger = Ledger(fails_on=3)
    group = GroupCommit(ledger.write, most=5)
    assert submit_all(group, range(10)) == [0, 10, 20, "the row is too long", 40, 50, 60, 70, 80, 90]
    assert ledger.written == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert len(ledger.commits) == 7 + 1  # the five: halved until 3 stood alone; the other five: at once
    assert group.submit(7) == 70


def test_an_outage_is_nobody_s_fault_and_nothing_is_tried_again() -> None:
    ledger = Ledger(fails_on=3, error=InterfaceError("gone", None, ConnectionError()))
    group = GroupCommit(ledger.write, most=5)
    answers = submit_all(group, range(10))
    assert len(set(answers[:5])) == 1
    assert answers[5:] == [50, 60, 70, 80, 90]
    assert len(ledger.commits) == 2


def test_a_commit_that_forgets_somebody_leaves_nobody_waiting() -> None:
    group: GroupCommit[int, int] = GroupCommit(lambda _items: [1])
    assert submit_all(group, range(3)) == ["zip() argument 2 is shorter than argument 1"] * 3
