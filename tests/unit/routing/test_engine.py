"""The engine, by example: who gets whom, and what is told about it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from services.routing.domain.engine import Decision, Engine
from services.routing.domain.floor import Floor
from services.routing.domain.needs import Need, Pair, Profile, Seat, Terms, Waiting, urgency
from services.routing.domain.record import rerun, words
from services.routing.domain.scarcity import Demand
from services.routing.domain.slots import Comparison, Ordered, Slots

ORDINARY = Terms("sales", 3, "ordinary")


class Centre:
    """An engine with a clock and short commands."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.now = 1000.0

    def agent(
        self, name: str, idle: float = 0.0, state: str = "available", room: tuple[str, ...] = ("voice",), load: int = 0, **skills: int
    ) -> None:
        """Idle for that many seconds, with these skills."""
        self.seat(name, Profile(channels=frozenset({"voice", "chat"}), skills=frozenset(skills.items())), idle, state, room, load)

    def seat(
        self, name: str, profile: Profile, idle: float = 0.0, state: str = "available", room: tuple[str, ...] = ("voice",), load: int = 0
    ) -> None:
        self.engine.put_agent(Seat(name, profile, state, frozenset(room if state == "available" else ()), load, self.now - idle))

    def contact(
        self, name: str, waited: float = 0.0, terms: Terms = ORDINARY, prefers: Any = (), channel: str = "voice", **more: Any
    ) -> None:
        """Has waited that many seconds; `only` and `passed` as they are, all else is a skill and its minimum."""
        special = {key: more.pop(key) for key in ("only", "passed") if key in more}
        need = Need("sales", channel, tuple(sorted(more.items())), (), prefers)
        self.engine.put_contact(Waiting(name, self.now - waited, need, terms, **special))

    def decide(self, **options: Any) -> list[Decision]:
        return self.engine.decide(self.now, **options)

    def given(self) -> dict[str, str]:
        """Agents by contact."""
        return {decision.contact: decision.agent for decision in self.decide()}


@pytest.fixture
def centre() -> Centre:
    return Centre()


class TestOneContactAndManyAgents:
    def test_the_longest_idle_of_equals_is_asked(self, centre: Centre) -> None:
        for name, idle in (("anna", 10), ("berk", 90), ("cem", 40)):
            centre.agent(name, idle)
        centre.contact("c1")
        assert centre.given() == {"c1": "berk"}

    def test_the_better_fit_is_asked_though_somebody_is_idle_longer(self, centre: Centre) -> None:
        centre.agent("anna", idle=10, tax=5)
        centre.agent("berk", idle=900, tax=3)
        centre.contact("c1", tax=2)
        assert centre.given() == {"c1": "anna"}

    def test_who_has_scarce_skills_is_kept_free(self, centre: Centre) -> None:
        centre.agent("generalist", idle=10)
        centre.agent("specialist", idle=900, cobol=5)
        centre.engine.prices = {Profile(channels=frozenset({"voice", "chat"}), skills=frozenset({("cobol", 5)})): 0.9}
        centre.contact("c1")
        assert centre.given() == {"c1": "generalist"}

    def test_who_has_fewer_contacts_already_is_asked(self, centre: Centre) -> None:
        centre.agent("anna", idle=900, room=("chat",), load=60)
        centre.agent("berk", idle=10, room=("chat",), load=30)
        centre.contact("c1", channel="chat")
        assert centre.given() == {"c1": "berk"}

    def test_a_preference_counts_by_its_weight_and_level(self) -> None:
        need = Need("sales", "voice", (), (), (("region", "aegean", 3.0), ("skill", "tax", 1.0)))
        assert Profile(regions=frozenset({"aegean"}), skills=frozenset({("tax", 2)})).fit(need) == pytest.approx((3 + 0.4) / 4)

    def test_without_preferences_the_level_in_what_is_required_counts(self) -> None:
        need = Need("sales", "voice", (("loan", 1), ("tax", 1)), (("tr", 3),))
        profile = Profile(skills=frozenset({("loan", 5), ("tax", 2)}), languages=frozenset({("tr", 5)}))
        assert profile.fit(need) == pytest.approx((5 + 2 + 5) / 15)
        assert profile.fit(Need("sales", "voice")) == 1.0


class TestOneAgentAndManyContacts:
    def test_who_has_waited_longest_of_equals_comes_first(self, centre: Centre) -> None:
        for name, waited in (("c1", 20), ("c2", 50), ("c3", 30)):
            centre.contact(name, waited)
        assert centre.given() == {}
        centre.agent("anna")
        assert centre.given() == {"c2": "anna"}

    def test_a_precious_customer_overtakes_an_ordinary_one(self, centre: Centre) -> None:
        centre.contact("ordinary", 50)
        centre.contact("precious", 30, ORDINARY._replace(weight=4.0))
        centre.agent("anna")
        assert centre.given() == {"precious": "anna"}

    def test_but_nobody_waits_beyond_the_bound_while_others_pass(self, centre: Centre) -> None:
        centre.contact("ordinary", 120, ORDINARY._replace(bound=120.0))
        centre.contact("precious", 300, ORDINARY._replace(weight=100.0))
        centre.agent("anna")
        assert centre.given() == {"ordinary": "anna"}

    def test_of_two_beyond_the_bound_the_more_overdue_comes_first_whatever_its_worth(self, centre: Centre) -> None:
        centre.contact("precious", 130, ORDINARY._replace(weight=100.0, bound=100.0))
        centre.contact("ordinary", 240, ORDINARY._replace(bound=200.0))
        centre.agent("anna")
        assert centre.given() == {"ordinary": "anna"}

    def test_the_cost_of_waiting_grows_with_the_wait(self) -> None:
        """weight × (head start + t + t²/2·target)"""
        assert urgency(Terms(weight=2.0, head_start=5.0, target=20.0), 40.0) == 2 * (5 + 40 + 40)
        assert urgency(Terms(target=math.inf), 40.0) == 40.0


class TestManyOfBoth:
    def test_the_sum_is_made_as_large_as_it_can_be(self, centre: Centre) -> None:
        """The most urgent one on its best agent would leave the other with a bad fit."""
        centre.agent("both", tax=5, loan=5)
        centre.agent("tax only", tax=4)
        centre.contact("tax", 30, prefers=(("skill", "tax", 1.0),))
        centre.contact("loan", 29, prefers=(("skill", "loan", 1.0),))
        assert centre.given() == {"tax": "tax only", "loan": "both"}

    def test_who_is_overdue_is_served_before_the_sum_counts(self, centre: Centre) -> None:
        centre.agent("anna")
        centre.agent("berk")
        for number in range(40):
            centre.contact(f"precious{number}", 60, ORDINARY._replace(weight=100.0))
        centre.contact("overdue", 50, ORDINARY._replace(bound=50.0))
        made = centre.decide()
        assert len(made) == 2 and made[0].contact == "overdue"

    def test_more_than_fit_into_one_assignment_are_all_served(self, centre: Centre) -> None:
        for number in range(100):
            centre.agent(f"a{number}", idle=number)
            centre.contact(f"c{number}", number)
        made = centre.decide(limit=70)
        assert (len(made), centre.engine.pending) == (70, True)
        made += centre.decide(limit=70)
        assert {len({one.contact for one in made}), len({one.agent for one in made})} == {100}
        assert not centre.engine.pending


class TestWhoMayBeAsked:
    def test_a_contact_kept_for_one_agent_waits_for_them(self, centre: Centre) -> None:
        centre.agent("anna", state="busy")
        centre.agent("berk")
        centre.contact("c1", only="anna")
        assert centre.given() == {}
        centre.agent("anna")
        (decision,) = centre.decide()
        assert (decision.agent, decision.record["rule"]) == ("anna", "only")

    def test_but_they_take_a_more_urgent_one_from_the_line_first(self, centre: Centre) -> None:
        centre.contact("kept", 10, only="anna")
        centre.contact("anybody", 60)
        centre.agent("anna")
        assert centre.given() == {"anybody": "anna"}

    def test_kept_no_longer_it_goes_to_anybody(self, centre: Centre) -> None:
        centre.agent("berk")
        centre.contact("c1", only="anna")
        assert centre.given() == {}
        centre.contact("c1")
        assert centre.given() == {"c1": "berk"}

    def test_who_passed_on_it_is_not_asked_before_their_pause_is_over(self, centre: Centre) -> None:
        centre.agent("anna")
        centre.contact("c1", passed={"anna": 1005.0})
        assert centre.given() == {}
        centre.now = 1005.0
        centre.contact("c1", passed={"anna": 1005.0})
        assert centre.given() == {"c1": "anna"}

    def test_who_passed_and_becomes_free_when_the_pause_is_over_is_asked_again(self, centre: Centre) -> None:
        centre.agent("anna", state="busy")
        centre.contact("c1", passed={"anna": 900.0})
        assert centre.given() == {}
        centre.agent("anna")
        assert centre.given() == {"c1": "anna"}

    def test_nor_while_anybody_else_suits_it(self, centre: Centre) -> None:
        centre.agent("anna", idle=900, tax=5)
        centre.agent("berk", tax=1)
        centre.contact("c1", tax=1, passed={"anna": 0.0})
        assert centre.given() == {"c1": "berk"}

    def test_who_passed_takes_the_next_contact_meanwhile(self, centre: Centre) -> None:
        centre.contact("c1", 60, passed={"anna": 1005.0})
        centre.contact("c2", 1)
        centre.agent("anna")
        assert centre.given() == {"c2": "anna"}

    @pytest.mark.parametrize(
        ("need", "objection"),
        [
            (Need("sales", "voice", (("tax", 2),)), None),
            (Need("help", "voice"), "not in queue help"),
            (Need("sales", "email"), "not certified for email"),
            (Need("sales", "voice", (("tax", 4),)), "skill tax below 4"),
            (Need("sales", "voice", (("loan", 1),)), "skill loan below 1"),
            (Need("sales", "voice", (), (("de", 2),)), "language de below 2"),
        ],
    )
    def test_a_profile_says_why_it_does_not_suit(self, need: Need, objection: str | None) -> None:
        profile = Profile(frozenset({"sales"}), frozenset({"voice"}), frozenset({("tax", 3)}))
        assert profile.objection(need) == objection

    def test_room_is_by_channel(self, centre: Centre) -> None:
        centre.agent("anna", room=("chat",), load=30)
        centre.contact("call")
        centre.contact("chat", channel="chat")
        assert centre.given() == {"chat": "anna"}

    def test_a_decision_takes_both_out_of_the_books(self, centre: Centre) -> None:
        centre.agent("anna")
        centre.contact("c1")
        centre.decide()
        centre.contact("c2")
        assert (centre.given(), len(centre.engine)) == ({}, 1)
        centre.agent("anna")
        assert centre.given() == {"c2": "anna"}

    def test_who_left_is_asked_no_more_and_who_hung_up_is_not_given(self, centre: Centre) -> None:
        centre.agent("anna")
        centre.agent("berk")
        centre.contact("c1")
        centre.contact("c2")
        centre.engine.remove_agent("anna")
        centre.engine.remove_contact("c1")
        assert centre.given() == {"c2": "berk"}


class TestRecord:
    def test_it_holds_what_the_decision_depended_on(self, centre: Centre) -> None:
        centre.agent("anna", idle=600, tax=4)
        centre.agent("berk", idle=0, tax=2)
        centre.agent("cem", tax=1)
        centre.agent("deniz", state="paused", tax=4)
        centre.contact("c1", 20, ORDINARY._replace(bound=15.0), tax=2)
        (decision,) = centre.decide()
        told = decision.record
        assert {
            "rule": "best_agent",
            "at": 1000.0,
            "contact": "c1",
            "agent": "anna",
            "policy": "sales",
            "version": 3,
        }.items() <= told.items()
        assert (told["segment"], told["waited_seconds"], told["overdue_seconds"]) == ("ordinary", 20, 5)
        assert told["need"] == {"queue": "sales", "channel": "voice", "skills": {"tax": 2}, "languages": {}, "prefers": []}
        assert told["score"] == {"urgency": 30, "fit": 48, "scarcity": 0, "idle": 2.5, "load": 0, "total": 80.5}
        assert [(one["agent"], one["score"]["total"]) for one in told["runners_up"]] == [("berk", 54)]
        assert told["further"] == {"candidates": 0, "best": None}
        reasons = [(one["reason"], one["agents"]) for one in told["pool"]]
        assert sorted(reasons) == [("candidate", 1), ("candidate", 1), ("paused", 1), ("skill tax below 2", 1)]
        json.dumps(told, allow_nan=False)

    def test_competing_contacts_are_the_runners_up_of_an_agents_choice(self, centre: Centre) -> None:
        for number in range(30):
            centre.contact(f"c{number:02}", waited=number)
        centre.agent("anna")
        told = centre.decide()[0].record
        assert (told["rule"], told["contact"]) == ("best_contact", "c29")
        assert [one["contact"] for one in told["runners_up"]] == [f"c{number}" for number in range(28, 18, -1)]
        assert told["further"]["candidates"] == 19
        assert told["further"]["best"] == pytest.approx(told["runners_up"][-1]["score"]["total"] - (1 + (19 * 19 - 18 * 18) / 40))

    def test_the_pool_tells_apart_who_passed_and_who_is_full(self, centre: Centre) -> None:
        centre.agent("anna")
        centre.agent("berk", room=())
        centre.agent("cem")
        centre.contact("c1", passed={"anna": 2000.0})
        reasons = {one["reason"]: one["agents"] for one in centre.decide()[0].record["pool"]}
        assert reasons == {"candidate": 1, "passed on it before": 1, "no room": 1}

    def test_and_for_whom_it_was_kept(self, centre: Centre) -> None:
        centre.agent("anna")
        centre.agent("berk")
        centre.contact("c1", only="anna")
        reasons = {one["reason"]: one["agents"] for one in centre.decide()[0].record["pool"]}
        assert reasons == {"candidate": 1, "kept for anna": 1}

    def test_run_again_on_other_numbers_it_decides_otherwise(self, centre: Centre) -> None:
        centre.agent("anna", tax=5)
        centre.agent("berk", tax=3)
        centre.contact("c1", tax=1)
        told = json.loads(json.dumps(centre.decide()[0].record))
        assert rerun(told) == ("c1", "anna")
        told["chosen"]["price"] = 1.0
        assert rerun(told) == ("c1", "berk")

    def test_a_joint_one_can_be_run_again_from_both_sides(self, centre: Centre) -> None:
        for name, skills in (("anna", {"tax": 5}), ("berk", {"loan": 5}), ("cem", {"tax": 2, "loan": 2})):
            centre.agent(name, **skills)
        for name, skills in (("c1", {"tax": 1}), ("c2", {"loan": 1}), ("c3", {})):
            centre.contact(name, **skills)
        made = centre.decide()
        assert {one.record["rule"] for one in made} == {"joint"}
        assert [rerun(json.loads(json.dumps(one.record))) for one in made] == [one[:2] for one in made]

    def test_nothing_is_told_unless_asked(self, centre: Centre) -> None:
        centre.agent("anna")
        centre.contact("c1")
        assert centre.decide(explain=False) == [("c1", "anna", {})]


class TestInWords:
    @pytest.fixture
    def told(self, centre: Centre) -> dict[str, Any]:
        centre.agent("anna", idle=600, tax=4)
        centre.agent("berk", tax=2)
        centre.agent("cem", tax=1)
        centre.agent("deniz", state="paused", tax=4)
        centre.contact("c1", 20, ORDINARY._replace(bound=15.0), tax=2)
        return centre.decide()[0].record

    def test_in_english(self, told: dict[str, Any]) -> None:
        assert words(told, "en") == [
            "anna got contact c1 as the best of 2 who suited it and had room.",
            "It had waited 20 s.",
            "That was 5 s beyond the bound, and who is most overdue goes first.",
            "Worth 80.5 s of an ordinary customer's waiting: waiting +30.0, fit +48.0, idleness +2.5.",
            "Not berk: worth 54 s, 26.5 s less (waiting +30.0, fit +24.0).",
            "Agents who were not asked: 1 paused, 1 skill tax below 2.",
        ]

    def test_in_chinese(self, told: dict[str, Any]) -> None:
        assert words(told, "zh") == [
            "联络 c1 分配给 anna：在 2 位合适且有余量的坐席中得分最高。",
            "客户已等待 20 秒。",
            "已超出等待上限 5 秒；超时最久者优先。",
            "价值相当于普通客户等待 80.5 秒：等待 +30.0，匹配 +48.0，空闲 +2.5。",
            "未选 berk：54 秒，少 26.5 秒（等待 +30.0，匹配 +24.0）。",
            "未被询问的坐席：1 位暂停中，1 位技能不足（tax 低于 2）。",
        ]

    def test_a_contact_worth_more_but_less_overdue_is_told_so(self, centre: Centre) -> None:
        centre.contact("precious", 100, ORDINARY._replace(weight=9.0))
        centre.contact("overdue", 50, ORDINARY._replace(bound=40.0))
        centre.agent("anna")
        assert any(line.startswith("Not contact precious: worth") and "less overdue" in line for line in words(centre.decide()[0].record))


class TestStanding:
    def test_contacts_ahead_count_by_the_share_of_their_agents_that_also_suit_this_one(self, centre: Centre) -> None:
        for name in ("anna", "berk", "cem"):
            centre.agent(name, state="busy")
        centre.agent("deniz", state="busy", tax=3)
        centre.contact("anybody", 50)
        centre.contact("tax", 30, tax=2)
        centre.contact("late", 10)
        centre.decide()
        assert centre.engine.standing("anybody", centre.now) == (1, 0, 4)
        assert centre.engine.standing("tax", centre.now) == (2, 0.25, 1)
        assert centre.engine.standing("late", centre.now) == (3, 2, 4)

    def test_who_overtakes_is_ahead(self, centre: Centre) -> None:
        centre.agent("anna", state="busy")
        centre.contact("ordinary", 50)
        centre.contact("precious", 30, ORDINARY._replace(weight=4.0))
        assert centre.engine.standing("ordinary", centre.now).position == 2
        centre.contact("ordinary", 50, ORDINARY._replace(bound=45.0))
        assert centre.engine.standing("ordinary", centre.now).position == 1

    def test_agents_away_do_not_serve(self, centre: Centre) -> None:
        centre.agent("anna", state="offline")
        centre.agent("berk", state="unknown")
        centre.agent("cem", state="paused")
        centre.contact("c1")
        centre.decide()
        assert centre.engine.standing("c1", centre.now).servers == 1
        centre.agent("anna")
        assert centre.engine.standing("c1", centre.now).servers == 2

    def test_who_waits_for_one_agent_stands_in_their_line(self, centre: Centre) -> None:
        centre.agent("anna", state="busy")
        centre.contact("c1", 20, only="anna")
        centre.contact("c2", 10, only="anna")
        assert centre.engine.standing("c2", centre.now) == (2, 1, 1)


class TestPrices:
    def arrive(self, centre: Centre, a_minute: int, **skills: int) -> None:
        need = Need("sales", "voice", tuple(sorted(skills.items())))
        for number in range(a_minute * 60):
            centre.engine.observe_arrival(need, centre.now - 3600 + number * 60 / a_minute)
        centre.engine.observe_service(need, 50.0)

    def test_no_known_demand_no_price(self, centre: Centre) -> None:
        centre.agent("anna")
        centre.engine.reprice(centre.now)
        assert set(centre.engine.prices.values()) == {0.0}

    def test_who_is_alone_in_what_many_want_is_dear(self, centre: Centre) -> None:
        for number in range(9):
            centre.agent(f"a{number}")
        centre.agent("cobol", cobol=5)
        self.arrive(centre, 2)
        self.arrive(centre, 1, cobol=3)
        centre.engine.reprice(centre.now)
        prices = {bool(profile.skills): price for profile, price in centre.engine.prices.items()}
        assert prices[False] == pytest.approx(2 * 50 / 60 / 9, rel=0.05)
        assert prices[True] == pytest.approx(50 / 60, rel=0.05)

    def test_where_all_can_do_all_all_cost_the_same(self, centre: Centre) -> None:
        centre.agent("anna", tax=3)
        centre.agent("berk", loan=3)
        self.arrive(centre, 1)
        centre.engine.reprice(centre.now)
        low, high = sorted(centre.engine.prices.values())
        assert low == pytest.approx(high) and high > 0.4

    def test_demand_is_forgotten(self) -> None:
        demand, need = Demand(), Need("sales", "voice")
        for second in range(0, 3600, 10):
            demand.arrival(need, float(second))
        demand.service(need, 100.0)
        assert demand.erlangs(3600.0)[need] == pytest.approx(10.0, rel=0.01)
        assert demand.erlangs(3600.0 + 5 * 1800)[need] < 0.1

    def test_what_nobody_has_asked_for_in_weeks_is_no_price(self, centre: Centre) -> None:
        """Two weeks after the last such call its demand is 1e-300 erlangs: to divide by it stopped every decision of the desk."""
        centre.agent("cobol", cobol=5)
        self.arrive(centre, 1, cobol=3)
        centre.now += 14.4 * 86_400
        centre.engine.reprice(centre.now)
        assert set(centre.engine.prices.values()) == {0.0}


class TestSize:
    """Whatever comes, it stays correct and within its bounds."""

    def test_ten_thousand_different_profiles(self) -> None:
        engine = Engine()
        for number in range(10_000):
            profile = Profile(channels=frozenset({"voice"}), skills=frozenset({(f"s{number}", 3)}))
            engine.put_agent(Seat(f"a{number}", profile, "available", frozenset({"voice"}), 0, 0.0))
        for number in range(0, 10_000, 1000):
            engine.put_contact(Waiting(f"c{number}", 0.0, Need("q", "voice", ((f"s{number}", 2),)), ORDINARY))
        made = []
        while engine.pending:
            made += engine.decide(10.0)
        assert {one.agent[1:] == one.contact[1:] for one in made} == {True} and len(made) == 10
        assert all(sum(one["agents"] for one in decision.record["pool"]) == 10_000 for decision in made)
        assert all(len(decision.record["pool"]) < 1100 for decision in made)

    def test_twenty_thousand_different_needs(self) -> None:
        engine = Engine()
        for number in range(20_000):
            engine.put_contact(Waiting(f"c{number}", float(-number), Need("q", "voice", ((f"s{number}", 1),)), ORDINARY))
        while engine.pending:
            assert engine.decide(10.0) == []
        for number in (7, 19_999):
            profile = Profile(channels=frozenset({"voice"}), skills=frozenset({(f"s{number}", 3), ("s3", 1)}))
            engine.put_agent(Seat(f"a{number}", profile, "available", frozenset({"voice"}), 0, 0.0))
        assert {one[:2] for one in engine.decide(10.0)} == {("c7", "a7"), ("c19999", "a19999")}
        for number in range(20_000):
            engine.remove_contact(f"c{number}")
        assert len(engine) == 0

    def test_needs_that_come_and_go_take_no_more_room(self) -> None:
        floor = Floor()
        floor.put_agent(Seat("anna", Profile(channels=frozenset({"voice"})), "available", frozenset({"voice"}), 0, 0.0))
        for number in range(5000):
            floor.put_contact(Waiting("c", 0.0, Need("q", "voice", ((f"s{number}", 1),)), ORDINARY))
        assert floor.lines.capacity <= 2048 and len(floor.lines.needs) < 2100

    def test_comparisons_are_remembered_within_their_bound(self) -> None:
        these, those = Slots[int](), Slots[int]()
        compared = Comparison(these, those, lambda one, other: float(one * other), cells=1000)
        for number in range(100):
            those.take(number)
        for number in range(100):
            these.take(number)
            assert compared.row(number)[99] == number * 99
            assert compared.cells <= 1000

    def test_a_slot_used_again_is_compared_again(self) -> None:
        these, those = Slots[int](spare=0), Slots[int](spare=0)
        compared = Comparison(these, those, lambda one, other: float(one * other))
        these.take(3)
        slot, _, _ = those.take(5)
        assert compared.row(0)[slot] == 15
        those.drop(slot)
        assert those.take(7)[:2] == (slot, True)
        assert compared.row(0)[slot] == 21

    def test_a_line_keeps_its_order_whoever_leaves(self) -> None:
        line = Ordered()
        places = [(float(number), f"c{number}") for number in range(1000)]
        for place in reversed(places):
            line.add(place)
        for place in places[:600:2] + places[1:600:2]:
            line.remove(place)
        assert list(line) == places[600:]
        assert (line[0], len(line), line.before((700.0,))) == (places[600], 400, 100)


def test_a_pair_worth_the_same_is_ordered_by_who_came_first() -> None:
    one, other = (Pair("c", 0.0, ORDINARY, agent, "", 0.5, 0.0, 0, idle) for agent, idle in (("b", 5.0), ("a", 5.0)))
    assert other.rank(10.0) < one.rank(10.0)
