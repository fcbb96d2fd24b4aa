"""Callbacks: dialled inside the customer's hours, as often as the rules say, and not about what is settled."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.routing.domain.callback import (
    REACHED,
    UNDIALLED,
    UNREACHED,
    Plan,
    Rules,
    after,
    closed,
    first,
    first_due,
    merges,
    next_due,
    next_within,
    within,
)
from services.routing.domain.errors import Conflict, Invalid

BERLIN, NEW_YORK, LOS_ANGELES, SHANGHAI = "Europe/Berlin", "America/New_York", "America/Los_Angeles", "Asia/Shanghai"
NUMBER = "+49301234567"


def at(text: str, zone: str = BERLIN, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def clock(moment: float | None, zone: str = BERLIN) -> str:
    assert moment is not None
    return datetime.fromtimestamp(moment, ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M")


class TestTheFirstAttempt:
    def test_at_once_inside_the_hours(self) -> None:
        plan = first(NUMBER, [BERLIN], at("2026-03-10 14:07:30.5"), Rules())
        assert plan.next_at == at("2026-03-10 14:07:30.5")
        assert (plan.is_open, plan.attempts, plan.outcome) == (True, 0, None)

    @pytest.mark.parametrize(
        ("wanted", "due"),
        [
            ("2026-03-10 03:00", "2026-03-10 09:00"),
            ("2026-03-10 08:59:59", "2026-03-10 09:00"),
            ("2026-03-10 19:59:59", "2026-03-10 19:59"),
            ("2026-03-10 20:00", "2026-03-11 09:00"),
            ("2026-12-31 23:00", "2027-01-01 09:00"),
        ],
    )
    def test_else_when_they_begin(self, wanted: str, due: str) -> None:
        assert clock(first(NUMBER, [BERLIN], at(wanted), Rules()).next_at) == due

    def test_hours_are_the_customers_not_ours(self) -> None:
        plan = first("+8613800138000", [SHANGHAI], at("2026-03-10 15:00"), Rules())
        assert clock(plan.next_at, SHANGHAI) == "2026-03-11 09:00"

    def test_where_the_customer_may_be_in_several_zones_all_count(self) -> None:
        plan = first("+12125550100", [NEW_YORK, LOS_ANGELES], at("2026-03-10 09:00", NEW_YORK), Rules())
        assert clock(plan.next_at, LOS_ANGELES) == "2026-03-10 09:00"
        late = first("+12125550100", [NEW_YORK, LOS_ANGELES], at("2026-03-10 18:00", LOS_ANGELES), Rules())
        assert clock(late.next_at, LOS_ANGELES) == "2026-03-11 09:00"

    def test_zones_that_never_share_the_hours_are_refused(self) -> None:
        with pytest.raises(Invalid, match="never between 10 and 18 o'clock in all 2 time zones"):
            first("+18005550100", [NEW_YORK, "Pacific/Guam"], 1.8e9, Rules(from_hour=10, to_hour=18))

    def test_no_zone_or_none_that_exists(self) -> None:
        with pytest.raises(Invalid, match="time zone is not known"):
            first(NUMBER, [], 1.8e9, Rules())
        for name in ("Europe/Atlantis", "../etc/passwd", ""):
            with pytest.raises(Invalid, match="no time zone"):
                first(NUMBER, [name], 1.8e9, Rules())

    def test_no_message_tells_the_number(self) -> None:
        with pytest.raises(Invalid) as refused:
            first(NUMBER, [], 1.8e9, Rules())
        assert NUMBER not in str(refused.value)


class TestDaylightSaving:
    """Berlin: forward on 2026-03-29 at 02:00, back on 2026-10-25 at 03:00."""

    def test_nine_is_nine_on_the_days_of_the_change(self) -> None:
        for day in ("2026-03-28", "2026-03-29", "2026-03-30", "2026-10-24", "2026-10-25", "2026-10-26"):
            assert clock(first(NUMBER, [BERLIN], at(f"{day} 00:30"), Rules()).next_at) == f"{day} 09:00"

    def test_an_hour_that_is_left_out(self) -> None:
        assert clock(next_within(at("2026-03-29 01:00"), [BERLIN], 2.5, 4)) == "2026-03-29 03:00"
        assert clock(next_within(at("2026-03-29 01:00"), [BERLIN], 2, 3)) == "2026-03-30 02:00"

    def test_an_hour_that_comes_twice(self) -> None:
        once, again = at("2026-10-25 02:15"), at("2026-10-25 02:15", fold=1)
        assert again - once == 3600
        assert within(once, [BERLIN], 2, 2.5) and within(again, [BERLIN], 2, 2.5)
        assert next_within(once + 1800, [BERLIN], 2, 2.5) == again - 900

    def test_a_change_of_half_an_hour(self) -> None:
        lord_howe = "Australia/Lord_Howe"
        assert clock(next_within(at("2026-10-03 23:00", lord_howe), [lord_howe], 2, 4), lord_howe) == "2026-10-04 02:30"


class TestDialledInVain:
    @pytest.mark.parametrize(("outcome", "pause"), [("busy", 300), ("no_answer", 1800), ("machine", 7200)])
    def test_dialled_again_after_a_pause_that_depends_on_why(self, outcome: str, pause: float) -> None:
        now = at("2026-03-10 10:00")
        plan = after(first(NUMBER, [BERLIN], now, Rules()), outcome, now, Rules())
        assert (plan.next_at, plan.attempts) == (now + pause, 1)
        assert (plan.outcome, plan.outcome_at) == (outcome, now)

    def test_never_in_the_evening(self) -> None:
        plan = first(NUMBER, [BERLIN], at("2026-03-10 19:00"), Rules())
        assert clock(after(plan, "machine", at("2026-03-10 19:00"), Rules()).next_at) == "2026-03-11 09:00"

    def test_given_up_after_the_last_attempt(self) -> None:
        now = at("2026-03-10 10:00")
        rules = Rules(attempts=2)
        plan = after(first(NUMBER, [BERLIN], now, rules), "busy", now, rules)
        assert next_due(plan, "busy", now + 300, rules) is None
        plan = after(plan, "busy", now + 300, rules)
        assert (plan.is_open, plan.outcome, plan.attempts) == (False, "given_up", 2)

    def test_rules_that_became_stricter_hold_from_the_next_attempt(self) -> None:
        now = at("2026-03-10 10:00")
        plan = after(first(NUMBER, [BERLIN], now, Rules(attempts=5)), "busy", now, Rules(attempts=5))
        assert after(plan, "busy", now + 300, Rules(attempts=1)).outcome == "given_up"

    def test_an_agent_free_too_late_does_not_dial(self) -> None:
        plan = first(NUMBER, [BERLIN], at("2026-03-10 19:55"), Rules())
        assert first_due(plan, at("2026-03-10 19:59"), Rules()) == at("2026-03-10 19:59")
        assert clock(first_due(plan, at("2026-03-10 20:05"), Rules())) == "2026-03-11 09:00"


class TestOver:
    @pytest.mark.parametrize("outcome", REACHED)
    def test_reached(self, outcome: str) -> None:
        plan = after(first(NUMBER, [BERLIN], at("2026-03-10 10:00"), Rules()), outcome, at("2026-03-10 10:01"), Rules())
        assert (plan.is_open, plan.outcome, plan.attempts) == (False, outcome, 1)

    @pytest.mark.parametrize("outcome", UNDIALLED)
    def test_without_dialling(self, outcome: str) -> None:
        plan = closed(first(NUMBER, [BERLIN], at("2026-03-10 10:00"), Rules()), outcome, at("2026-03-10 10:01"))
        assert (plan.is_open, plan.outcome, plan.attempts) == (False, outcome, 0)

    def test_over_is_over(self) -> None:
        plan = closed(first(NUMBER, [BERLIN], 1.8e9, Rules()), "cancelled", 1.8e9)
        with pytest.raises(Conflict, match="cancelled"):
            after(plan, "busy", 1.8e9, Rules())
        with pytest.raises(Conflict, match="cancelled"):
            closed(plan, "merged", 1.8e9)

    def test_words_that_do_not_belong(self) -> None:
        plan = first(NUMBER, [BERLIN], 1.8e9, Rules())
        with pytest.raises(Invalid, match="busy, no_answer, machine, connected, wrong_number or refused, not 'merged'"):
            after(plan, "merged", 1.8e9, Rules())
        with pytest.raises(Invalid, match="given_up, merged or cancelled, not 'busy'"):
            closed(plan, "busy", 1.8e9)


class TestTheCustomerRingsMeanwhile:
    def test_the_same_number_merges(self) -> None:
        plan = first(NUMBER, [BERLIN], 1.8e9, Rules())
        assert merges(plan, NUMBER)
        assert not merges(plan, "+49307654321")

    def test_a_withheld_number_merges_with_nothing(self) -> None:
        assert not merges(first(NUMBER, [BERLIN], 1.8e9, Rules()), None)

    def test_a_plan_that_is_over_merges_with_nothing(self) -> None:
        assert not merges(closed(first(NUMBER, [BERLIN], 1.8e9, Rules()), "merged", 1.8e9), NUMBER)


class TestRules:
    @pytest.mark.parametrize(
        ("rules", "sentence"),
        [
            ({"attempts": 0}, "attempts must be a whole number from 1 to 20"),
            ({"attempts": True}, "attempts"),
            ({"attempts": 21}, "attempts"),
            ({"retry_seconds": {"busy": 60}}, "retry_seconds must name busy, no_answer, machine"),
            ({"retry_seconds": {"busy": 0, "no_answer": 60, "machine": 60}}, "retry_seconds.busy must be a number of seconds"),
            ({"from_hour": -1}, "from_hour"),
            ({"to_hour": 24.25}, "to_hour"),
            ({"to_hour": 17.1}, "in quarters"),
            ({"from_hour": 20, "to_hour": 9}, "from_hour must be before to_hour"),
        ],
    )
    def test_refused(self, rules: dict[str, Any], sentence: str) -> None:
        with pytest.raises(Invalid, match=sentence):
            Rules(**rules)

    def test_round_the_clock(self) -> None:
        assert first(NUMBER, [BERLIN], at("2026-03-10 03:00"), Rules(from_hour=0, to_hour=24)).next_at == at("2026-03-10 03:00")


class TestAsADocument:
    def test_there_and_back(self) -> None:
        plan = after(first(NUMBER, [BERLIN, NEW_YORK], 1.8e9, Rules()), "busy", 1.8e9, Rules())
        assert Plan.from_row(json.loads(json.dumps(plan.to_row()))) == plan


zones = st.lists(
    st.sampled_from([BERLIN, NEW_YORK, LOS_ANGELES, SHANGHAI, "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns", "Africa/Cairo"]),
    min_size=1,
    max_size=3,
)
moments = st.floats(at("2024-01-01", "UTC"), at("2030-01-01", "UTC"))
quarters = st.integers(0, 95)


@given(
    zones, moments, quarters, quarters, st.integers(1, 6), st.lists(st.tuples(st.sampled_from(UNREACHED), st.floats(0, 90_000)), max_size=8)
)
def test_never_outside_the_hours_never_too_often_and_always_later(
    zones: list[str], start: float, one: int, other: int, attempts: int, calls: list[tuple[str, float]]
) -> None:
    rules = Rules(attempts=attempts, from_hour=min(one, other) / 4, to_hour=max(one, other) / 4 + 0.25)
    try:
        plan = first(NUMBER, zones, start, rules)
    except Invalid:
        return
    dialled: list[float] = []
    for outcome, late in calls:
        if plan.next_at is None:
            break
        for zone in zones:
            local = datetime.fromtimestamp(plan.next_at, ZoneInfo(zone))
            hour = local.hour + local.minute / 60 + local.second / 3600 + local.microsecond / 3.6e9
            assert rules.from_hour - 1e-6 <= hour < rules.to_hour + 1e-6
        assert plan.next_at >= (dialled[-1] + rules.retry_seconds[plan.outcome] if dialled and plan.outcome else start)
        ready = first_due(plan, plan.next_at + late, rules)
        if ready is None:
            break
        assert ready >= plan.next_at + late and within(ready, zones, rules.from_hour, rules.to_hour)
        dialled.append(ready)
        plan = after(plan, outcome, ready, rules)
    assert len(dialled) <= attempts
    assert plan.is_open or plan.outcome == "given_up"


@given(st.sampled_from([BERLIN, NEW_YORK, "Australia/Lord_Howe"]), moments, quarters, st.integers(1, 96))
def test_no_earlier_minute_would_do(zone: str, start: float, opens: int, length: int) -> None:
    hours = opens / 4, min(24.0, (opens + length) / 4)
    found = next_within(start, [zone], *hours)
    assert found is not None
    if found > start:
        earlier = range(int(start) + 1, int(found), 60)
        assert not any(within(moment, [zone], *hours) for moment in earlier)
        assert not within(found - 0.001, [zone], *hours)
