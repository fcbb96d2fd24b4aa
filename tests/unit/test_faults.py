"""How `make chaos` chooses and judges. What it does: tests/chaos/storm.py itself."""

from __future__ import annotations

import random

import pytest

from tests.chaos.storm import FAULTS, Outcome, seed_of, turns, verdict
from tests.system import SERVICES


def test_a_fault_has_the_same_seed_whatever_is_tried_beside_it() -> None:
    assert seed_of("wipe", 7) == 3396680985, "and in any process"
    assert len({seed_of(name, seed) for name in FAULTS for seed in range(3)}) == 3 * len(FAULTS)


def test_each_service_has_its_turn_however_short_the_time() -> None:
    assert sorted(turns(random.Random(7), lambda: False)) == sorted(SERVICES)


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([Outcome("kills")], 0),
        ([Outcome("kills"), Outcome("clock", not_tried="needs libfaketime")], 2),
        ([Outcome("clock", not_tried="needs libfaketime"), Outcome("kills", wrong="1 lost")], 1),
    ],
)
def test_only_what_was_tried_and_right_ends_with_0(outcomes: list[Outcome], code: int) -> None:
    assert verdict(outcomes) == code
