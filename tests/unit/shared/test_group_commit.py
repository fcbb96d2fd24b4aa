"""What many want written at one moment is written in one transaction."""

from __future__ import annotations

from collections.abc import Sequence

import eventlet
from eventlet.greenpool import GreenPool

from shared.runtime.group import GroupCommit


class Ledger:
    def __init__(self, fails_on: int | None = None) -> None:
        self.commits: list[list[int]] = []
        self.fails_on = fails_on

    def write(self, items: Sequence[int]) -> list[int]:
        self.commits.append(list(items))
        if self.fails_on in items:
            raise OSError("the disk is full")
        return [item * 10 for item in items]


def submit_all(group: GroupCommit[int, int], items: Sequence[int]) -> list[int | str]:
    def submit(item: int) -> int | str:
        try:
            return group.submit(item)
        except (OSError, ValueError) as error:
            return str(error)

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


def test_an_error_reaches_all_of_its_group_and_nobody_else() -> None:
    ledger = Ledger(fails_on=3)
    group = GroupCommit(ledger.write, most=5)
    assert submit_all(group, range(10)) == ["the disk is full"] * 5 + [50, 60, 70, 80, 90]
    assert group.submit(7) == 70


def test_a_commit_that_forgets_somebody_leaves_nobody_waiting() -> None:
    group: GroupCommit[int, int] = GroupCommit(lambda _items: [1])
    assert submit_all(group, range(3)) == ["zip() argument 2 is shorter than argument 1"] * 3
