from __future__ import annotations

import time
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import clock
from shared.ids import is_id, new_id


def test_a_moment_is_utc_to_the_millisecond() -> None:
    assert clock.to_text(1795296258.585) == "2026-11-21T21:24:18.585Z"
    assert clock.to_text(0) == "1970-01-01T00:00:00.000Z"


@given(st.integers(0, 7_258_118_400_000))  # to the year 2200
def test_text_and_seconds_are_the_same_moment(milliseconds: int) -> None:
    assert round(clock.from_text(clock.to_text(milliseconds / 1000)) * 1000) == milliseconds


def test_any_zone_is_understood_and_none_is_refused() -> None:
    assert clock.from_text("2026-11-22T05:24:18+08:00") == clock.from_text("2026-11-21T21:24:18Z") == 1795296258
    with pytest.raises(ValueError, match="no zone"):
        clock.from_text("2026-11-21T21:24:18")


def test_ids_are_unique_and_of_version_7() -> None:
    made = [new_id() for _ in range(10_000)]
    assert len(set(made)) == len(made)
    assert {(UUID(id).version, UUID(id).variant, str(UUID(id)) == id) for id in made} == {(7, UUID(made[0]).variant, True)}


def test_ids_sort_by_the_time_they_were_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for millisecond in range(1_795_296_258_585, 1_795_296_258_685):
        monkeypatch.setattr(time, "time_ns", lambda now=millisecond: now * 1_000_000)
        made.append(new_id())
    assert made == sorted(made)
    assert UUID(made[0]).int >> 80 == 1_795_296_258_585


AN_ID = "01a200b7-27f1-73d4-82f8-8f2034b92023"


@pytest.mark.parametrize("text", ["", "x", "-" * 36, "0" * 32 + "----", AN_ID.upper(), AN_ID.replace("-", ""), "{" + AN_ID + "}"])
def test_an_id_is_written_in_one_way_only(text: str) -> None:
    assert is_id(new_id()) and not is_id(text)
