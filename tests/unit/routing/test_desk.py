"""The routing desk, by example. `Centre` reads like a day's log: who arrives, who is offered what, at which second."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from typing import Any

import pytest

from services.routing.domain import book
from services.routing.domain.desk import Changes, Desk, Event
from services.routing.domain.entities import Agent, Contact, Offer, Queue, Row
from services.routing.domain.errors import Conflict, Invalid, NotFound
from services.routing.domain.hours import Opening
from services.routing.domain.needs import Score
from services.routing.domain.policy import Callback, Levels, Overflow, Policy, Prefer, Relax, Segment, SuggestChannels
from services.routing.domain.record import rerun, words

SOLD = {"code": "sold", "resolved": True, "amount": "20.00", "currency": "EUR"}


class Centre:
    """A desk with a clock and short commands: each expires what is due, acts, assigns."""

    def __init__(self, **queue: Any) -> None:
        self.desk = Desk()
        self.now = 1000.0
        self.ids = map("o{}".format, itertools.count(1))
        self.desk.put_queue(Queue("sales", **{"wrap_up": False} | queue))
        self.events: list[Event] = []
        self.outcomes: list[Row] = []
        self.decisions: list[Row] = []

    def agent(self, agent_id: str, **profile: Any) -> Agent:
        agent = self.desk.put_agent(agent_id, **{"channels": ["voice"]} | profile)
        self.do("set_agent_state", agent_id, "available")
        return agent

    def at(self, second: float) -> Centre:
        self.now = 1000.0 + second
        self.desk.expire(self.now)
        self._settle()
        return self

    def do(self, command: str, *args: Any, **more: Any) -> Any:
        result = getattr(self.desk, command)(*args, now=self.now, **more)
        self._settle()
        return result

    def arrive(self, contact_id: str = "c1", queue: str = "sales", **more: Any) -> Contact:
        contact: Contact = self.do("arrive", contact_id, queue, **more)
        return contact

    def offered(self, contact_id: str = "c1") -> Offer:
        offer_id = self.desk.contacts[contact_id].offer
        assert offer_id is not None, f"{contact_id} is not on offer"
        return self.desk.offers[offer_id]

    def accept(self, contact_id: str = "c1") -> Offer:
        offer = self.offered(contact_id)
        self.do("accept", offer.id, offer.agent)
        return offer

    def reject(self, contact_id: str = "c1", reason: str = "") -> Offer:
        offer = self.offered(contact_id)
        self.do("reject", offer.id, offer.agent, reason=reason)
        return offer

    def names(self) -> list[str]:
        return [event.name for event in self.events]

    def told(self, name: str) -> dict[str, Any]:
        return [event.data for event in self.events if event.name == name][-1]

    def policy(self, queue: str = "sales", **rules: Any) -> None:
        self.desk.put_policy(Policy(f"of {queue}", 1, **rules))
        self.desk.put_queue(replace(self.desk.queues[queue], policy=f"of {queue}"))

    def states(self) -> dict[str, str]:
        return {contact.id: contact.state for contact in self.desk.contacts.values()}

    def _settle(self) -> None:
        while self.desk.assign_pending(self.now, self.ids.__next__):
            pass
        changes = self.desk.take_changes()
        self.events += changes.events
        self.outcomes += changes.outcomes
        self.decisions += changes.decisions


class TestALifeOfAContact:
    def test_from_arrival_to_the_next_caller(self) -> None:
        centre = Centre(wrap_up=True)
        anna = centre.agent("anna", address="PJSIP/1001")
        centre.events.clear()
        contact = centre.arrive(customer="k7")
        assert (contact.state, anna.state) == ("offered", "offered")
        centre.at(4).accept()
        assert (contact.state, contact.agent, contact.answered_at) == ("assigned", "anna", 1004)
        assert (anna.state, list(anna.work)) == ("busy", ["c1"])
        centre.at(64).do("complete", "c1", ended_by="caller")
        assert (contact.state, anna.state, anna.work["c1"]["phase"]) == ("ended", "wrap_up", "wrap_up")
        centre.at(80).do("end_wrap_up", "anna", disposition=SOLD)
        assert (anna.state, anna.work, contact.disposition) == ("available", {}, SOLD)
        assert centre.names() == [
            "contact_queued",
            "offer_made",
            "agent_state_changed",
            "offer_accepted",
            "contact_assigned",
            "agent_state_changed",
            "contact_completed",
            "agent_state_changed",
            "contact_wrapped_up",
            "agent_state_changed",
        ]
        assert {"agent": "anna", "address": "PJSIP/1001", "waited_seconds": 4, "customer": "k7"}.items() <= centre.told(
            "contact_assigned"
        ).items()
        assert {"talk_seconds": 60, "waited_seconds": 4, "ended_by": "caller"}.items() <= centre.told("contact_completed").items()
        assert {"wrap_up_seconds": 16, "disposition": "sold"}.items() <= centre.told("contact_wrapped_up").items()

    def test_without_wrap_up_the_agent_is_available_at_once(self) -> None:
        centre = Centre(wrap_up=False)
        anna = centre.agent("anna")
        centre.arrive()
        centre.accept()
        centre.at(60).do("complete", "c1")
        assert (anna.state, anna.idle_since) == ("available", 1060)

    def test_wrap_up_is_never_ended_by_the_clock(self) -> None:
        centre = Centre(wrap_up=True)
        anna = centre.agent("anna")
        centre.arrive()
        centre.accept()
        centre.do("complete", "c1")
        centre.at(86_400)
        assert anna.state == "wrap_up"
        assert centre.desk.next_deadline() is None

    def test_events_and_rows_are_json(self) -> None:
        centre = Centre()
        centre.agent("anna")
        centre.arrive()
        centre.reject()
        assert json.loads(json.dumps(centre.events)) == [list(event) for event in centre.events]
        for entity in (*centre.desk.agents.values(), *centre.desk.contacts.values(), *centre.desk.offers.values()):
            assert json.loads(json.dumps(entity.to_row())) == entity.to_row()


class TestWhoGetsTheContact:
    def test_the_longest_idle(self) -> None:
        centre = Centre()
        for second, name in enumerate(["anna", "bob", "carl"]):
            centre.at(second).agent(name)
        centre.at(10)
        for contact in ("c1", "c2", "c3"):
            centre.arrive(contact)
        assert [centre.offered(contact).agent for contact in ("c1", "c2", "c3")] == ["anna", "bob", "carl"]

    @pytest.mark.parametrize(
        ("profile", "reason"),
        [
            ({"channels": ["chat"]}, "not certified for voice"),
            ({"channels": []}, "not certified for voice"),
            ({"queues": ["billing"]}, "not in queue sales"),
            ({"skills": {"german": 2}}, "skill german below 3"),
            ({"skills": {}}, "skill german below 3"),
        ],
    )
    def test_only_who_has_the_channel_the_queue_and_every_skill(self, profile: dict[str, Any], reason: str) -> None:
        centre = Centre(required_skills={"german": 3})
        centre.agent("anna", **{"skills": {"german": 5}} | profile)
        centre.at(5).agent("bob", skills={"german": 3}, queues=["sales"])
        centre.arrive()
        assert centre.offered().agent == "bob"
        decision = centre.told("offer_made")["decision"]
        assert (decision["rule"], decision["chosen"], decision["candidates"], decision["excluded"]) == ("best_agent", "bob", 1, {reason: 1})

    def test_a_contact_can_ask_for_more_than_its_queue_but_not_for_less(self) -> None:
        centre = Centre(required_skills={"german": 3})
        centre.agent("anna", skills={"german": 3})
        centre.arrive("more", required_skills={"german": 4})
        assert centre.desk.contacts["more"].state == "waiting"
        centre.arrive("less", required_skills={"german": 1})
        assert centre.offered("less").agent == "anna"
        assert centre.told("contact_queued")["required_skills"] == {"german": 3}

    def test_the_decision_counts_everybody_once(self) -> None:
        centre = Centre(wrap_up=True)
        for number, name in enumerate(["busy", "wrap_up", "offered", "paused", "offline", "chosen", "other"]):
            centre.at(number).agent(name)
        centre.agent("untrained", channels=["e-mail"])
        for contact in ("c1", "c2", "c3"):
            centre.arrive(contact)
        centre.accept("c1")
        centre.accept("c2")
        centre.do("complete", "c2")
        centre.do("set_agent_state", "paused", "paused")
        centre.do("set_agent_state", "offline", "offline")
        centre.arrive("c4")
        decision = centre.told("offer_made")["decision"]
        assert (decision["chosen"], decision["candidates"]) == ("chosen", 2)
        states = ("busy", "wrap_up", "offered", "paused", "offline")
        assert decision["excluded"] == dict.fromkeys(states, 1) | {"not certified for voice": 1}

    def test_the_oldest_contact_goes_first_across_queues(self) -> None:
        centre = Centre()
        centre.desk.put_queue(Queue("billing"))
        centre.arrive("c1", "billing")
        centre.at(1).arrive("c2", "sales")
        centre.at(2).arrive("c3", "billing")
        centre.at(3).agent("anna")
        centre.agent("bob")
        assert (centre.offered("c1").agent, centre.offered("c2").agent) == ("anna", "bob")
        assert centre.desk.contacts["c3"].state == "waiting"

    def test_nobody_is_blocked_by_an_older_contact_that_no_idle_agent_suits(self) -> None:
        centre = Centre()
        centre.arrive("rare", required_skills={"welsh": 5})
        centre.arrive("plain")
        centre.agent("anna")
        assert centre.offered("plain").agent == "anna"

    def test_new_settings_and_skills_count_for_those_who_wait(self) -> None:
        centre = Centre(required_skills={"german": 3})
        centre.agent("anna")
        centre.arrive("c1")
        centre.arrive("c2")
        centre.desk.put_agent("anna", channels=["voice"], skills={"german": 3})
        centre.at(1)
        assert centre.offered("c1").agent == "anna"
        centre.agent("bob")
        centre.desk.put_queue(Queue("sales"))
        centre.at(2)
        assert centre.offered("c2").agent == "bob"

    def test_an_observed_queue_gets_no_offers(self) -> None:
        centre = Centre(mode="observed")
        centre.agent("anna")
        with pytest.raises(Conflict, match="observed"):
            centre.arrive()

    def test_who_waits_in_a_queue_that_becomes_observed_is_offered_no_more(self) -> None:
        centre = Centre()
        centre.arrive()
        centre.desk.put_queue(Queue("sales", mode="observed"))
        centre.agent("anna")
        assert centre.desk.contacts["c1"].state == "waiting"


class TestOffersThatLapse:
    def test_a_declined_contact_goes_to_the_next_agent_in_its_old_place(self) -> None:
        centre = Centre()
        centre.agent("anna")
        centre.at(1).agent("bob")
        centre.at(2).arrive()
        assert centre.reject(reason="know_the_caller").agent == "anna"
        assert centre.offered().agent == "bob"
        assert {"agent": "anna", "reason": "know_the_caller", "declined": 1, "missed": 0}.items() <= centre.told("offer_declined").items()
        assert centre.told("offer_made")["decision"]["excluded"] == {"passed on it before": 1}

    def test_an_offer_nobody_reacts_to_counts_as_missed(self) -> None:
        centre = Centre(offer_seconds=15)
        centre.agent("anna")
        contact = centre.arrive()
        assert centre.desk.next_deadline() == 1015
        centre.at(14.9)
        assert contact.state == "offered"
        centre.at(15)
        assert (contact.state, contact.passed) == ("waiting", {"anna": {"at": 1015, "declined": 0, "missed": 1}})
        assert centre.told("offer_expired")["missed"] == 1

    def test_who_let_a_contact_go_by_is_last_among_the_idle(self) -> None:
        centre = Centre()
        centre.agent("anna")
        centre.at(1).agent("bob")
        centre.at(2).arrive("c1")
        centre.reject("c1")
        centre.accept("c1")
        centre.at(3).agent("carl")
        centre.at(4).arrive("c2")
        assert centre.offered("c2").agent == "anna"  # declined at 2, and carl came at 3
        centre.reject("c2")
        centre.arrive("c3")
        assert centre.offered("c2").agent == "carl"

    def test_they_are_asked_again_after_a_pause_if_nobody_else_fits(self) -> None:
        centre = Centre(retry_seconds=5)
        anna = centre.agent("anna")
        contact = centre.arrive()
        centre.at(2).reject()
        assert (contact.state, anna.state) == ("waiting", "available")
        assert centre.desk.next_deadline() == 1007
        centre.at(6.9)
        assert contact.state == "waiting"
        centre.at(7)
        assert centre.offered().agent == "anna"

    def test_they_are_not_asked_again_while_somebody_else_fits(self) -> None:
        centre = Centre(retry_seconds=5)
        centre.agent("anna")
        centre.arrive()
        centre.reject()
        centre.now += 10
        centre.agent("bob")  # in the same moment as anna's retry, and idle for less long than she
        assert centre.offered().agent == "bob"
        assert centre.told("offer_made")["decision"]["excluded"] == {"passed on it before": 1}

    def test_meanwhile_they_get_the_next_contact(self) -> None:
        centre = Centre(retry_seconds=5)
        centre.agent("anna")
        centre.arrive("c1")
        centre.reject("c1")
        centre.arrive("c2")
        assert (centre.desk.contacts["c1"].state, centre.offered("c2").agent) == ("waiting", "anna")

    def test_a_retry_is_not_forgotten_because_another_agent_was_asked_meanwhile(self) -> None:
        centre = Centre(retry_seconds=5)
        centre.agent("anna")
        centre.arrive()
        centre.reject()
        centre.at(1).agent("bob")
        assert centre.offered().agent == "bob"
        centre.desk.next_deadline()
        centre.at(2).reject()
        assert centre.desk.next_deadline() == 1005
        centre.at(5)
        assert centre.offered().agent == "anna"


class TestHangUpWhileWaiting:
    def test_the_offer_is_withdrawn_and_the_agent_loses_nothing(self) -> None:
        centre = Centre()
        anna = centre.agent("anna")
        centre.at(1).agent("bob")
        contact = centre.at(5).arrive()
        offer = centre.offered()
        centre.at(8).do("hang_up", "c1")
        assert (offer.state, contact.state, contact.passed) == ("withdrawn", "abandoned", {})
        assert (anna.state, anna.idle_since) == ("available", 1000)
        assert {"reason": "hung_up", "waited_seconds": 3}.items() <= centre.told("contact_abandoned").items()
        centre.arrive("c2")
        assert centre.offered("c2").agent == "anna"
        centre.at(100)
        assert "offer_expired" in centre.names()  # c2's only
        assert centre.names().count("offer_withdrawn") == 1

    def test_a_hang_up_while_waiting_frees_nobody_and_is_idempotent(self) -> None:
        centre = Centre()
        centre.arrive()
        centre.at(3).do("abandon", "c1")
        centre.at(4).do("abandon", "c1")
        centre.at(5).do("hang_up", "c1")
        assert centre.names() == ["contact_queued", "contact_abandoned"]

    def test_a_hang_up_during_the_conversation_completes_it(self) -> None:
        centre = Centre()
        centre.agent("anna")
        centre.arrive()
        centre.accept()
        with pytest.raises(Conflict, match="with agent anna"):
            centre.do("abandon", "c1")
        assert centre.do("hang_up", "c1").state == "ended"
        assert centre.told("contact_completed")["ended_by"] == "caller"


class TestACallersPollThatVanishes:
    def test_the_contact_keeps_its_place_but_is_offered_to_nobody(self) -> None:
        centre = Centre()
        anna = centre.agent("anna")
        first = centre.arrive("first")
        centre.at(2).do("park", "first", seconds=10)
        assert (first.state, anna.state, anna.idle_since) == ("parked", "available", 1000)
        assert centre.told("offer_withdrawn")["reason"] == "caller_not_listening"
        centre.do("set_agent_state", "anna", "paused")
        centre.at(3).arrive("second")
        centre.at(4).do("unpark", "first")
        centre.at(5).do("set_agent_state", "anna", "available")
        assert centre.offered("first").agent == "anna"
        assert first.parked_until is None

    def test_in_the_end_it_is_abandoned_since_the_moment_nobody_listened(self) -> None:
        centre = Centre()
        contact = centre.arrive()
        centre.at(4).do("park", "c1", seconds=10)
        assert centre.desk.next_deadline() == 1014
        with pytest.raises(Conflict, match="too long"):
            centre.desk.unpark("c1", 1014)  # the timer has not run yet
        centre.at(14)
        assert contact.state == "abandoned"
        assert {"reason": "stopped_listening", "waited_seconds": 4}.items() <= centre.told("contact_abandoned").items()
        with pytest.raises(Conflict, match="abandoned"):
            centre.do("unpark", "c1")

    def test_a_deadline_of_an_earlier_parking_means_nothing(self) -> None:
        centre = Centre()
        contact = centre.arrive()
        centre.do("park", "c1", seconds=10)
        centre.at(5).do("unpark", "c1")
        centre.do("park", "c1", seconds=10)
        centre.at(10)
        assert contact.state == "parked"
        assert centre.desk.next_deadline() == 1015

    def test_the_poll_that_brought_the_assignment_may_go(self) -> None:
        centre = Centre()
        centre.agent("anna")
        contact = centre.arrive()
        centre.accept()
        centre.do("park", "c1", seconds=10)
        assert contact.state == "assigned"


class TestAnAnswerToAnOffer:
    def test_said_twice_counts_once(self) -> None:
        centre = Centre()
        centre.agent("anna")
        centre.arrive("c1")
        offer = centre.accept("c1")
        before = centre.names()
        assert centre.do("accept", offer.id, "anna") is offer
        centre.do("complete", "c1")
        centre.arrive("c2")
        declined = centre.reject("c2")
        centre.do("reject", declined.id, "anna")
        assert before.count("contact_assigned") == centre.names().count("contact_assigned") == 1
        assert centre.names().count("offer_declined") == 1

    def test_comes_too_late(self) -> None:
        centre = Centre(offer_seconds=20)
        centre.agent("anna")
        centre.arrive()
        offer = centre.offered()
        with pytest.raises(Conflict, match="has expired: nobody reacted within 20 s"):
            centre.desk.accept(offer.id, "anna", 1020)  # the timer has not run yet
        centre.at(20)
        with pytest.raises(Conflict, match="has expired"):
            centre.do("accept", offer.id, "anna")

    def test_after_the_caller_hung_up_is_told_so(self) -> None:
        centre = Centre()
        centre.agent("anna")
        centre.arrive()
        offer = centre.offered()
        centre.do("hang_up", "c1")
        with pytest.raises(Conflict, match=r"withdrawn \(hung_up\)"):
            centre.do("accept", offer.id, "anna")

    def test_must_come_from_the_agent_who_was_asked(self) -> None:
        centre = Centre()
        centre.agent("anna")
        centre.at(1).agent("bob")
        centre.arrive()
        with pytest.raises(Conflict, match="another agent"):
            centre.do("accept", centre.offered().id, "bob")


class TestWhatAnAgentChooses:
    def test_leaving_with_an_offer_on_the_table_declines_it(self) -> None:
        centre = Centre()
        anna = centre.agent("anna")
        centre.at(1).agent("bob")
        centre.arrive()
        centre.events.clear()
        centre.do("set_agent_state", "anna", "paused", reason="lunch")
        assert (anna.state, anna.reason, anna.work) == ("paused", "lunch", {})
        assert centre.offered().agent == "bob"
        assert centre.told("offer_declined")["reason"] == "paused"

    def test_leaving_during_a_contact_waits_until_it_is_over(self) -> None:
        centre = Centre(wrap_up=True)
        anna = centre.agent("anna")
        centre.arrive()
        centre.accept()
        centre.do("set_agent_state", "anna", "paused", reason="lunch")
        assert anna.state == "busy"
        centre.do("complete", "c1")
        assert anna.state == "wrap_up"
        centre.do("end_wrap_up", "anna")
        assert (anna.state, anna.reason) == ("paused", "lunch")

    def test_who_signed_out_during_a_contact_is_not_left_in_wrap_up(self) -> None:
        centre = Centre(wrap_up=True)
        anna = centre.agent("anna")
        centre.arrive()
        centre.accept()
        centre.do("set_agent_state", "anna", "offline")
        centre.do("complete", "c1")
        assert anna.state == "offline"

    def test_any_choice_ends_wrap_up(self) -> None:
        centre = Centre(wrap_up=True)
        anna = centre.agent("anna")
        centre.arrive()
        centre.accept()
        centre.do("complete", "c1")
        centre.at(30).do("set_agent_state", "anna", "available")
        assert (anna.state, anna.idle_since) == ("available", 1030)
        assert "contact_wrapped_up" in centre.names()
        with pytest.raises(Conflict, match="not in wrap-up"):
            centre.do("end_wrap_up", "anna")

    def test_saying_available_again_keeps_the_place(self) -> None:
        centre = Centre()
        anna = centre.agent("anna")
        centre.at(9).do("set_agent_state", "anna", "available")
        assert anna.idle_since == 1000
        assert centre.names().count("agent_state_changed") == 1

    def test_busy_is_not_a_choice(self) -> None:
        centre = Centre()
        centre.agent("anna")
        with pytest.raises(Invalid, match="not 'busy'"):
            centre.do("set_agent_state", "anna", "busy")

    def test_an_alias_leads_to_one_agent_only(self) -> None:
        centre = Centre()
        anna = centre.agent("anna", address="PJSIP/1001", aliases=["Agent/17"])
        assert centre.desk.find_agent("Agent/17") is centre.desk.find_agent("PJSIP/1001") is anna
        with pytest.raises(Conflict, match="already stands for agent anna"):
            centre.agent("bob", aliases=["Agent/17"])
        centre.agent("anna", aliases=["Agent/18"])
        assert centre.desk.find_agent("Agent/17") is None
        centre.agent("bob", aliases=["Agent/17"])


class TestRefusals:
    @pytest.mark.parametrize("level", [0, 6, 2.5, True, "3"])
    def test_skill_levels_are_whole_numbers_from_1_to_5(self, level: Any) -> None:
        with pytest.raises(Invalid, match="from 1 to 5"):
            Centre(required_skills={"german": level})

    @pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "20"])
    def test_seconds_are_positive_numbers(self, seconds: Any) -> None:
        with pytest.raises(Invalid, match="above 0"):
            Centre(offer_seconds=seconds)

    def test_what_does_not_exist_is_named(self) -> None:
        centre = Centre()
        centre.agent("anna")
        for command, args in {
            "arrive": ("c1", "nowhere"),
            "complete": ("nobody",),
            "set_agent_state": ("nobody", "available"),
            "accept": ("nothing", "anna"),
        }.items():
            with pytest.raises(NotFound, match=r"There is no .* no"):
                centre.do(command, *args)

    def test_arriving_twice_is_arriving_once_but_not_in_two_queues(self) -> None:
        centre = Centre()
        centre.desk.put_queue(Queue("billing"))
        first = centre.arrive()
        assert centre.at(5).arrive() is first
        assert centre.names() == ["contact_queued"]
        with pytest.raises(Conflict, match="in queue sales"):
            centre.arrive("c1", "billing")


class TestChanges:
    def test_each_changed_row_once_and_in_its_last_state(self) -> None:
        centre = Centre()
        centre.agent("anna")
        centre.agent("untouched")
        desk = centre.desk
        desk.arrive("c1", "sales", 1000)
        (offer,) = desk.assign_pending(1000, centre.ids.__next__)
        desk.accept(offer.id, offer.agent, 1001)
        changes = desk.take_changes()
        assert [row["state"] for row in changes.contacts] == ["assigned"]
        assert [row["state"] for row in changes.offers] == ["accepted"]
        assert [(row["id"], row["state"]) for row in changes.agents] == [("anna", "busy")]
        assert desk.take_changes() == Changes()

    def test_rows_taken_do_not_change_with_the_desk(self) -> None:
        centre = Centre()
        desk = centre.desk
        centre.agent("anna")
        desk.arrive("c1", "sales", 1000)
        (offer,) = desk.assign_pending(1000, centre.ids.__next__)
        desk.accept(offer.id, "anna", 1000)
        taken = desk.take_changes().agents[0]
        desk.complete("c1", 1060)
        assert list(taken["work"]) == ["c1"]

    def test_finished_contacts_can_be_forgotten_but_not_during_wrap_up(self) -> None:
        centre = Centre(wrap_up=True)
        centre.agent("anna")
        centre.arrive("c1")
        centre.accept("c1")
        centre.at(10).do("complete", "c1")
        centre.at(11).arrive("c2")
        centre.at(12).do("hang_up", "c2")
        centre.desk.forget(2000)
        assert (set(centre.desk.contacts), len(centre.desk.offers)) == ({"c1"}, 1)
        centre.do("end_wrap_up", "anna", disposition=SOLD)
        centre.desk.forget(2000)
        assert centre.desk.contacts == centre.desk.offers == {}


def test_deadlines_that_lost_their_meaning_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book, "LEAST_DEADLINES", 10)
    centre = Centre()
    for number in range(100):
        centre.arrive(f"c{number}")
        centre.desk.contacts[f"c{number}"].reserved_until = math.inf
        centre.desk._remind(1e12, "reserved", f"c{number}")
    centre.desk.forget(0)
    assert len(centre.desk._deadlines) >= 100, "all of these wait"
    for number in range(1, 100):
        centre.do("hang_up", f"c{number}")
    centre.at(10).desk.forget(5000)
    assert {one.id for one in centre.desk._deadlines} == {"c0"}


BLENDED = {"channels": ["voice", "chat", "e-mail"], "capacity": {"chat": 33, "e-mail": 34}}
TOKYO, UTC = ["Asia/Tokyo"], ["UTC"]  # the day begins at 09:16 in one, at 00:16 in the other
VIP = Segment("vip", weight=10, matches=lambda facts: facts.get("tier") == "vip")


class TestCapacity:
    def centre(self) -> Centre:
        centre = Centre()
        centre.desk.put_queue(Queue("chat", channel="chat", wrap_up=False))
        centre.desk.put_queue(Queue("mail", channel="e-mail", wrap_up=False))
        return centre

    def test_two_chats_and_an_e_mail_beside_each_other_and_no_more(self) -> None:
        centre = self.centre()
        anna = centre.agent("anna", **BLENDED)
        for contact, queue in (("c1", "chat"), ("c2", "chat"), ("m1", "mail"), ("c3", "chat")):
            centre.arrive(contact, queue)
        assert centre.states() == {"c1": "offered", "c2": "offered", "m1": "offered", "c3": "waiting"}
        for contact in ("c1", "c2", "m1"):
            centre.accept(contact)
        assert (anna.load, anna.state) == (100, "busy")
        centre.do("complete", "m1")
        assert (centre.offered("c3").agent, anna.load) == ("anna", 99)

    def test_a_call_needs_all_of_an_agent(self) -> None:
        centre = self.centre()
        anna = centre.agent("anna", **BLENDED)
        centre.arrive("c1", "chat")
        centre.arrive("v1", "sales")
        assert centre.states() == {"c1": "offered", "v1": "waiting"}
        centre.accept("c1")
        centre.do("complete", "c1")
        centre.accept("v1")
        centre.arrive("c2", "chat")
        assert (anna.load, centre.states()["c2"]) == (100, "waiting")

    def test_wrap_up_takes_what_the_conversation_took(self) -> None:
        centre = self.centre()
        centre.desk.put_queue(Queue("chat", channel="chat", wrap_up=True))
        anna = centre.agent("anna", **BLENDED)
        centre.arrive("c1", "chat")
        centre.accept("c1")
        centre.agent("anna", **BLENDED | {"capacity": {"chat": 100}})  # counts for the next
        centre.do("complete", "c1")
        assert (anna.state, anna.load) == ("wrap_up", 33)

    def test_the_agent_who_has_less_to_do_is_asked_first(self) -> None:
        centre = self.centre()
        centre.agent("anna", **BLENDED)
        centre.at(1).agent("bob", **BLENDED)
        for contact in ("c1", "c2"):
            centre.arrive(contact, "chat")
        assert [centre.offered(contact).agent for contact in ("c1", "c2")] == ["anna", "bob"]

    @pytest.mark.parametrize("percent", [0, 101])
    def test_a_contact_takes_1_to_100_percent(self, percent: int) -> None:
        with pytest.raises(Invalid, match="from 1 to 100 percent"):
            self.centre().agent("anna", capacity={"chat": percent})


class TestTwoSignIns:
    def test_the_newer_wins_and_the_older_is_told(self) -> None:
        centre = Centre()
        centre.agent("anna")
        centre.do("set_agent_state", "anna", "available", session="desk")
        centre.do("set_agent_state", "anna", "available", session="home")
        assert centre.told("agent_signed_in_elsewhere")["session"] == "desk"
        centre.desk.require_session("anna", "home")
        with pytest.raises(Conflict, match="signed in elsewhere"):
            centre.desk.require_session("anna", "desk")

    def test_after_signing_out_nobody_need_be_told(self) -> None:
        centre = Centre()
        centre.agent("anna")
        centre.do("set_agent_state", "anna", "offline", session="desk")
        centre.do("set_agent_state", "anna", "available", session="home")
        assert "agent_signed_in_elsewhere" not in centre.names()


class TestOffersMissedInARow:
    def test_pause_the_agent(self) -> None:
        centre = Centre(offer_seconds=10, retry_seconds=5, miss_limit=2)
        anna = centre.agent("anna")
        centre.arrive()
        centre.at(10)
        assert (anna.state, anna.missed_in_row) == ("available", 1)
        centre.at(15).at(25)
        assert (anna.state, anna.reason, anna.missed_in_row) == ("paused", "missed_offers", 2)
        centre.at(60).do("set_agent_state", "anna", "available")
        assert (centre.offered().agent, anna.missed_in_row) == ("anna", 0)

    def test_do_not_count_once_one_was_answered(self) -> None:
        centre = Centre(offer_seconds=10, retry_seconds=5, miss_limit=2)
        anna = centre.agent("anna")
        centre.arrive()
        centre.at(10).at(15).reject()
        centre.at(20).at(30)
        assert (anna.state, anna.missed_in_row) == ("available", 1)

    def test_what_else_was_on_the_table_is_withdrawn_not_declined(self) -> None:
        centre = Centre()
        centre.desk.put_queue(Queue("chat", channel="chat", offer_seconds=10, miss_limit=1))
        centre.agent("anna", **BLENDED)
        centre.arrive("c1", "chat")
        centre.at(5).arrive("c2", "chat")
        centre.at(10)
        assert centre.told("offer_withdrawn")["reason"] == "missed_offers"
        assert (centre.desk.contacts["c2"].passed, "offer_declined" in centre.names()) == ({}, False)


class TestARestartOfTheTelephonySystem:
    def test_nobody_knows_who_is_there_until_they_are_seen(self) -> None:
        centre = Centre()
        anna = centre.agent("anna")
        contact = centre.arrive()
        centre.do("lose_sight", "anna")
        assert (anna.state, contact.state, contact.passed) == ("unknown", "waiting", {})
        assert centre.told("offer_withdrawn")["reason"] == "source_restarted"
        centre.at(5).do("see_again", "anna", "available")
        assert (anna.state, centre.offered().agent) == ("offered", "anna")

    def test_who_was_not_there_stays_away(self) -> None:
        centre = Centre()
        anna = centre.agent("anna")
        centre.do("set_agent_state", "anna", "offline")
        centre.do("lose_sight", "anna")
        centre.do("see_again", "anna", "available")
        assert anna.state == "offline"

    def test_a_conversation_goes_on(self) -> None:
        centre = Centre()
        anna = centre.agent("anna")
        centre.arrive()
        centre.accept()
        centre.do("lose_sight", "anna")
        assert (anna.state, anna.presence) == ("busy", "unknown")


class TestTransfer:
    def centre(self) -> Centre:
        """Anna talks since second 40 to a customer who has waited 30 s."""
        centre = Centre(wrap_up=True)
        centre.desk.put_queue(Queue("billing", offer_seconds=100))
        centre.at(10).arrive()
        centre.at(40).agent("anna")
        centre.accept()
        return centre

    def test_to_a_queue_keeps_what_was_waited_but_not_what_was_talked(self) -> None:
        centre = self.centre()
        contact = centre.at(100).do("transfer", "c1", queue="billing", reason="invoice")
        assert (contact.queue, contact.state, contact.kind, contact.place_at) == ("billing", "waiting", "transfer", 1070)
        assert {"target": "billing", "talk_seconds": 60, "reason": "invoice", "leg": 1}.items() <= centre.told(
            "contact_transferred"
        ).items()
        centre.at(110).agent("bob")
        centre.accept()
        assert centre.at(120).do("transfer", "c1", queue="sales").place_at == 1080  # 40 s of waiting by now

    def test_the_giver_wraps_up_their_part(self) -> None:
        centre = self.centre()
        anna = centre.desk.agents["anna"]
        centre.at(100).do("transfer", "c1", queue="billing")
        assert anna.state == "wrap_up"
        centre.at(130).do("end_wrap_up", "anna", disposition=SOLD)
        assert {"queue": "sales", "leg": 1, "wrap_up_seconds": 30}.items() <= centre.told("contact_wrapped_up").items()

    def test_the_giver_can_wrap_up_what_is_over_elsewhere(self) -> None:
        centre = self.centre()
        centre.at(100).do("transfer", "c1", queue="billing")
        centre.at(101).do("hang_up", "c1")
        centre.desk.forget(5000)
        assert centre.at(130).do("end_wrap_up", "anna").state == "available"
        centre.desk.forget(5000)
        assert centre.desk.contacts == {}

    def test_an_agent_by_name_is_waited_for_30_s_and_no_longer(self) -> None:
        centre = self.centre()
        centre.agent("bob")
        centre.arrive("c2")
        centre.accept("c2")
        centre.agent("carl")
        contact = centre.at(100).do("transfer", "c1", agent="bob")
        assert contact.state == "waiting"
        assert centre.desk.next_deadline() == 1130
        centre.at(130)
        assert centre.offered().agent == "carl"

    def test_an_agent_by_name_who_is_free_is_asked_at_once(self) -> None:
        centre = self.centre()
        centre.at(50).agent("carl")
        centre.at(90).agent("bob")
        centre.at(100).do("transfer", "c1", agent="bob")
        assert centre.offered().agent == "bob"
        assert centre.told("offer_made")["decision"]["rule"] == "only"

    @pytest.mark.parametrize("what", ["declines", "leaves", "works in another pool"])
    def test_an_agent_by_name_is_not_waited_for_who(self, what: str) -> None:
        centre = self.centre()
        centre.at(50).agent("bob", pool="night" if what == "works in another pool" else "default")
        centre.at(60).agent("carl")
        centre.at(100).do("transfer", "c1", agent="bob")
        if what == "declines":
            centre.reject()
        elif what == "leaves":
            centre.do("set_agent_state", "bob", "offline")
        assert centre.offered().agent == "carl"

    def test_back_to_the_giver_ends_their_wrap_up(self) -> None:
        centre = Centre()
        centre.desk.put_queue(Queue("chat", channel="chat"))
        anna = centre.agent("anna", **BLENDED)
        centre.arrive("c1", "chat")
        centre.accept()
        centre.do("transfer", "c1", queue="chat")
        assert centre.offered().agent == "anna"
        assert (anna.state, anna.load, "contact_wrapped_up" in centre.names()) == ("offered", 33, True)

    def test_needs_a_conversation_and_somewhere_to_go(self) -> None:
        centre = self.centre()
        with pytest.raises(Invalid, match="a queue or an agent"):
            centre.do("transfer", "c1")
        for target in ({"queue": "nowhere"}, {"agent": "nobody"}):
            with pytest.raises(NotFound):
                centre.do("transfer", "c1", **target)
        centre.arrive("c2")
        with pytest.raises(Conflict, match="waiting, not with an agent"):
            centre.do("transfer", "c2", queue="billing")


class TestRequeue:
    def test_the_contact_goes_on_in_its_place_to_somebody_else(self) -> None:
        centre = Centre(wrap_up=True, retry_seconds=30)
        anna = centre.agent("anna")
        centre.arrive("c1")
        centre.accept("c1")
        centre.at(5).arrive("later")
        contact = centre.at(9).do("requeue", "c1", reason="cannot_hear")
        assert (contact.state, contact.place_at) == ("waiting", 1009)
        assert centre.offered("later").agent == "anna"  # there is no wrap-up, and c1 is for others
        centre.accept("later")
        centre.at(12).agent("bob")
        assert (centre.offered("c1").agent, anna.state) == ("bob", "busy")

    def test_the_same_agent_is_asked_again_if_nobody_else_comes(self) -> None:
        centre = Centre(retry_seconds=30)
        centre.agent("anna")
        contact = centre.arrive()
        centre.accept()
        centre.at(10).do("requeue", "c1")
        centre.at(39)
        assert contact.state == "waiting"
        centre.at(40)
        assert centre.offered().agent == "anna"


class TestCallback:
    def promise(self, centre: Centre, zones: list[str] = TOKYO, contact: str = "c1") -> Contact:
        promised: Contact = centre.do("promise_callback", contact, number="+815012345678", zones=zones)
        return promised

    def dial(self, centre: Centre, outcome: str) -> None:
        centre.accept()
        centre.do("callback_dialled", "c1", outcome=outcome)

    def test_it_keeps_its_place_before_later_arrivals_although_the_customer_hangs_up(self) -> None:
        centre = Centre()
        centre.arrive("c1")
        centre.at(5).arrive("c2")
        contact = self.promise(centre.at(10))
        centre.do("hang_up", "c1")
        assert (contact.state, contact.kind, contact.place_at) == ("waiting", "callback", 1000)
        centre.at(20).agent("anna")
        assert centre.offered("c1").agent == "anna"

    def test_the_conversation_begins_when_the_customer_answers(self) -> None:
        centre = Centre()
        anna = centre.agent("anna")
        contact = centre.arrive()
        self.promise(centre)
        centre.at(10).accept()
        assert (contact.state, contact.answered_at) == ("assigned", None)
        with pytest.raises(Conflict, match="being called back"):
            centre.do("complete", "c1")
        centre.at(25).do("callback_dialled", "c1", outcome="connected")
        assert (contact.answered_at, anna.state) == (1025, "busy")
        centre.at(85).do("complete", "c1")
        assert centre.told("contact_completed")["talk_seconds"] == 60

    @pytest.mark.parametrize(("outcome", "seconds"), [("busy", 300), ("no_answer", 1800), ("machine", 7200)])
    def test_in_vain_it_is_tried_again_later_and_the_agent_is_free(self, outcome: str, seconds: float) -> None:
        centre = Centre(wrap_up=True)
        anna = centre.agent("anna")
        contact = centre.arrive()
        self.promise(centre)
        self.dial(centre, outcome)
        assert (contact.state, anna.state) == ("callback", "available")
        assert centre.desk.next_deadline() == 1000 + seconds
        centre.at(seconds)
        assert centre.offered().agent == "anna"

    def owing(self, wrap_up: bool = False) -> Centre:
        """Anna talks, cannot answer, and has promised that somebody will call."""
        centre = Centre(wrap_up=wrap_up)
        centre.agent("anna")
        centre.arrive()
        centre.at(10).accept()
        centre.at(60).do("owe_callback", "c1", number="+815012345678", zones=TOKYO)
        return centre

    def test_promised_in_a_conversation_it_begins_when_that_is_over_in_the_place_that_it_had(self) -> None:
        centre = self.owing()
        contact = centre.desk.contacts["c1"]
        assert (contact.state, centre.names()[-1]) == ("assigned", "callback_promised")
        centre.at(90).do("hang_up", "c1")
        assert (contact.kind, contact.leg > 1, contact.place_at) == ("callback", True, 1000)
        assert centre.told("contact_completed")["talk_seconds"] == 80
        centre.accept()
        centre.do("callback_dialled", "c1", outcome="connected")
        centre.at(150).do("complete", "c1")
        assert contact.state == "ended"

    def test_the_agent_who_promised_wraps_up_first(self) -> None:
        centre = self.owing(wrap_up=True)
        centre.do("hang_up", "c1")
        assert (centre.desk.agents["anna"].state, centre.desk.contacts["c1"].offer) == ("wrap_up", None)
        centre.do("end_wrap_up", "anna")
        assert centre.offered("c1").agent == "anna"

    def test_what_was_promised_holds_when_the_customer_is_transferred_and_does_not_wait(self) -> None:
        centre = self.owing()
        centre.desk.put_queue(Queue("second", required_skills={"x": 5}))
        centre.do("transfer", "c1", queue="second")
        centre.do("hang_up", "c1")
        assert (centre.desk.contacts["c1"].kind, centre.desk.contacts["c1"].is_finished) == ("callback", False)
        assert "contact_abandoned" in centre.names()

    def test_promised_twice_it_is_owed_once(self) -> None:
        centre = self.owing()
        centre.do("owe_callback", "c1", number="+815012345678", zones=TOKYO)
        assert centre.names().count("callback_promised") == 1

    def test_after_the_last_attempt_it_is_given_up(self) -> None:
        centre = Centre()
        centre.policy(callback=Callback(0, attempts=2))
        centre.agent("anna")
        contact = centre.arrive()
        self.promise(centre)
        assert centre.told("callback_promised")["attempts_left"] == 2
        self.dial(centre, "busy")
        self.dial(centre.at(300), "busy")
        assert (contact.state, centre.told("callback_closed")["outcome"]) == ("abandoned", "given_up")

    def test_a_wrong_number_is_not_tried_again(self) -> None:
        centre = Centre()
        centre.agent("anna")
        contact = centre.arrive()
        self.promise(centre)
        self.dial(centre, "wrong_number")
        assert (contact.state, centre.told("callback_closed")["outcome"]) == ("abandoned", "wrong_number")

    def test_when_the_customer_rings_the_call_takes_its_place(self) -> None:
        centre = Centre()
        for contact in ("c1", "c2"):
            centre.arrive(contact, customer="k7")
            self.promise(centre, contact=contact)
        call = centre.at(60).arrive("c3", customer="k7")
        assert (centre.states(), call.place_at) == ({"c1": "released", "c2": "released", "c3": "waiting"}, 1000)
        assert centre.told("callback_closed")["outcome"] == "merged"

    def test_a_customer_whom_nobody_knows_is_known_by_the_number_that_was_to_be_called(self) -> None:
        centre = Centre()
        centre.arrive(facts={"caller_ref": "the office"})
        centre.do("promise_callback", "c1", number="+815012345678", zones=TOKYO, caller_ref="the mobile")
        centre.arrive("other", facts={"caller_ref": "the office"})
        assert centre.states()["c1"] == "waiting"
        call = centre.at(60).arrive("c2", facts={"caller_ref": "the mobile"})
        assert (centre.states()["c1"], call.place_at, centre.told("callback_closed")["outcome"]) == ("released", 1000, "merged")

    @pytest.mark.parametrize("ref", ["", "the switchboard"])
    def test_whose_number_is_withheld_or_shared_stays_apart(self, ref: str) -> None:
        centre = Centre()
        centre.arrive(customer="k7")
        centre.do("promise_callback", "c1", number="+815012345678", zones=TOKYO, caller_ref=ref)
        centre.arrive("c2", customer="k8", facts={"caller_ref": ref})
        assert centre.states() == {"c1": "waiting", "c2": "waiting"}

    def test_an_e_mail_of_the_customer_does_not_end_it(self) -> None:
        centre = Centre()
        centre.desk.put_queue(Queue("mail", channel="e-mail"))
        centre.arrive("c1", customer="k7")
        promised = self.promise(centre)
        centre.arrive("m1", "mail", customer="k7")
        assert promised.state == "waiting"

    def test_nobody_is_called_before_their_day_begins(self) -> None:
        centre = Centre()
        centre.agent("anna")
        contact = centre.arrive()
        self.promise(centre, UTC)
        assert (contact.state, centre.told("callback_promised")["due_at"]) == ("callback", 9 * 3600)
        centre.at(9 * 3600 - 1000)
        assert centre.offered().agent == "anna"

    def test_nor_after_it_has_ended(self) -> None:
        centre = Centre()
        contact = centre.arrive()
        self.promise(centre)
        evening = 11 * 3600 - 1000  # 20:00 in Tokyo
        centre.at(evening - 5).agent("anna")
        assert contact.state == "offered"
        centre.at(evening)
        assert (contact.state, centre.told("offer_withdrawn")["reason"]) == ("callback", "outside_hours")
        assert centre.desk.next_deadline() == 24 * 3600  # 09:00 in Tokyo

    def test_nor_by_a_desk_that_was_down_when_it_ended(self) -> None:
        centre = Centre()
        centre.arrive()
        self.promise(centre)
        tables = (centre.desk.queues, centre.desk.agents, centre.desk.contacts, centre.desk.offers)
        rows = [[entity.to_row() for entity in table.values()] for table in tables]
        desk = Desk.load(*rows, now=11 * 3600 + 60)
        desk.expire(11 * 3600 + 60)
        assert desk.contacts["c1"].state == "callback"

    def test_it_can_be_cancelled_but_not_while_it_is_dialled(self) -> None:
        centre = Centre()
        contact = centre.arrive("c1")
        self.promise(centre)
        centre.do("cancel_callback", "c1")
        assert (contact.state, centre.told("callback_closed")["outcome"]) == ("released", "cancelled")
        centre.agent("anna")
        centre.arrive("c2")
        self.promise(centre, contact="c2")
        centre.accept("c2")
        with pytest.raises(Conflict, match="awaits no callback"):
            centre.do("cancel_callback", "c2")

    def test_promised_again_when_its_turn_has_come_it_is_as_it_was(self) -> None:
        centre = Centre()
        centre.agent("anna")
        contact = centre.arrive()
        self.promise(centre)
        offer, leg = centre.at(1).offered(), contact.leg
        self.promise(centre)
        assert (contact.state, contact.offer, contact.leg) == ("offered", offer.id, leg)

    def test_a_matter_that_waits_again_after_its_callback_is_none_any_more(self) -> None:
        centre = Centre()
        centre.desk.put_queue(Queue("mail", channel="e-mail", wrap_up=False))
        anna = centre.agent("anna", channels=["e-mail"])
        contact = centre.arrive("m1", "mail")
        self.promise(centre, contact="m1")
        centre.accept("m1")
        centre.do("callback_dialled", "m1", outcome="connected")
        centre.at(60).do("pend", "m1")
        centre.at(120).do("resume", "m1")
        centre.accept("m1")
        assert not contact.is_promised
        centre.at(180).do("hang_up", "m1")
        assert (contact.state, anna.work) == ("ended", {})

    def test_who_gives_it_back_undialled_leaves_it_a_callback(self) -> None:
        centre = Centre()
        centre.agent("anna")
        contact = centre.arrive()
        self.promise(centre.at(5))
        centre.accept()
        centre.do("requeue", "c1")
        assert (contact.kind, contact.state, contact.place_at) == ("callback", "waiting", 1000)

    def test_given_back_in_the_evening_it_waits_for_the_morning(self) -> None:
        centre = Centre()
        centre.agent("anna")
        contact = centre.arrive()
        self.promise(centre)
        centre.accept()
        centre.at(11 * 3600).do("requeue", "c1")
        assert contact.state == "callback"

    def test_without_a_zone_it_is_refused(self) -> None:
        centre = Centre()
        centre.arrive()
        with pytest.raises(Invalid, match="time zone is not known"):
            self.promise(centre, [])


class TestADeadline:
    def test_a_contact_beyond_its_own_deadline_goes_before_those_who_wait_longer(self) -> None:
        centre = Centre()
        centre.arrive("early")
        centre.at(5).arrive("urgent", wants={"deadline": 1010.0})
        centre.at(11).agent("anna")
        assert centre.offered("urgent").agent == "anna"

    def test_before_it_the_usual_order_holds(self) -> None:
        centre = Centre()
        centre.arrive("early")
        centre.at(5).arrive("urgent", wants={"deadline": 1100.0})
        centre.at(11).agent("anna")
        assert centre.offered("early").agent == "anna"


class TestAMatterInWriting:
    def centre(self) -> Centre:
        """Anna has an e-mail, and bob nothing."""
        centre = Centre()
        centre.desk.put_queue(Queue("mail", channel="e-mail", wrap_up=False, reply_seconds=100, owner_seconds=50, call_after_replies=2))
        centre.agent("anna", channels=["e-mail"])
        centre.arrive("m1", "mail")
        centre.accept("m1")
        centre.at(1).agent("bob", channels=["e-mail"])
        return centre

    def test_pending_gives_its_capacity_back_but_keeps_its_owner(self) -> None:
        centre = self.centre()
        contact = centre.at(60).do("pend", "m1")
        assert (contact.state, contact.agent, centre.desk.agents["anna"].state) == ("pending", "anna", "available")
        assert centre.told("contact_pending")["talk_seconds"] == 60

    def test_news_go_to_the_owner_first(self) -> None:
        centre = self.centre()
        contact = centre.at(60).do("pend", "m1")
        centre.at(5000).do("resume", "m1")
        assert centre.offered("m1").agent == "anna"  # although bob is idle for longer
        assert (contact.place_at, contact.arrived_at) == (6000, 6000)

    def test_a_busy_owner_is_waited_for_so_long_and_an_absent_one_is_not(self) -> None:
        centre = self.centre()
        centre.do("set_agent_state", "bob", "paused")
        centre.do("pend", "m1")
        centre.arrive("m2", "mail")
        assert centre.accept("m2").agent == "anna"
        centre.do("set_agent_state", "bob", "available")
        contact = centre.at(10).do("resume", "m1")
        assert contact.state == "waiting"
        centre.at(99)
        assert contact.state == "waiting", "while the reply is not late"
        centre.at(100)
        assert centre.accept("m1").agent == "bob"
        centre.do("pend", "m1")
        centre.do("set_agent_state", "bob", "offline")
        centre.agent("carl", channels=["e-mail"])
        centre.do("resume", "m1")
        assert centre.offered("m1").agent == "carl"

    def test_a_new_message_of_the_thread_goes_to_the_owner_of_its_matter(self) -> None:
        centre = self.centre()
        thread = centre.desk.contacts["m1"].thread
        centre.do("pend", "m1")
        centre.arrive("m2", "mail", thread=thread)
        assert centre.offered("m2").agent == "anna"

    def test_so_it_does_when_the_matter_was_settled_lately_and_others_are_forgotten(self) -> None:
        centre = self.centre()
        thread = centre.desk.contacts["m1"].thread
        centre.do("hang_up", "m1")
        centre.desk.forget(2000, 1000)
        centre.desk.forget(2000, 1000)
        centre.arrive("m2", "mail", thread=thread)
        assert centre.offered("m2").agent == "anna"
        centre.desk.forget(2000, 2000)
        assert set(centre.desk.contacts) == {"m2"}
        centre.do("hang_up", "m2")
        centre.desk.forget(2000, 2000)
        assert (centre.desk.contacts, centre.desk._threads) == ({}, {})

    def test_the_reply_target_runs_from_the_first_message_and_counts_opening_time(self) -> None:
        centre = self.centre()
        centre.desk.after_business = lambda _queue, start, seconds: start + seconds + 86_400  # a holiday
        centre.arrive("m2", "mail")
        assert centre.desk.contacts["m2"].matter["reply_due"] == 1001 + 100 + 86_400  # type: ignore[index]

    def test_after_so_many_replies_a_call_is_suggested_once(self) -> None:
        centre = self.centre()
        told = [centre.do("reply", "m1", "anna") and centre.told("contact_replied")["call_suggested"] for _ in range(3)]
        assert told == [False, True, False]
        assert centre.desk.contacts["m1"].matter["reply_due"] is None  # type: ignore[index]
        with pytest.raises(Conflict, match="not with agent bob"):
            centre.do("reply", "m1", "bob")

    def test_a_call_cannot_be_pending(self) -> None:
        centre = Centre()
        centre.agent("anna")
        centre.arrive()
        centre.accept()
        with pytest.raises(Conflict, match="matters in writing"):
            centre.do("pend", "c1")

    def test_a_pending_matter_can_be_completed(self) -> None:
        centre = self.centre()
        centre.do("pend", "m1")
        assert centre.do("complete", "m1").state == "ended"


class TestClosedQueues:
    def test_an_arrival_is_turned_away_and_told_why_and_until_when(self) -> None:
        centre = Centre()
        centre.agent("anna")
        centre.desk.opening = lambda _queue, _now: Opening(False, "holiday", opens_at=9000)
        contact = centre.arrive()
        assert (contact.state, contact.ended_by) == ("closed", "holiday")
        assert {"cause": "holiday", "opens_at": 9000}.items() <= centre.told("contact_turned_away").items()

    def test_an_emergency_turns_away_who_waits_but_not_who_talks_or_awaits_a_callback(self) -> None:
        centre = Centre()
        centre.desk.put_queue(Queue("billing"))
        centre.agent("anna")
        for contact, queue in (("talking", "sales"), ("waiting", "sales"), ("parked", "sales"), ("called", "sales"), ("other", "billing")):
            centre.arrive(contact, queue)
        centre.accept("talking")
        centre.do("park", "parked", seconds=60)
        centre.do("promise_callback", "called", number="+815012345678", zones=TOKYO)
        assert centre.do("turn_away", {"sales"}, cause="emergency") == 2
        assert centre.states() == {"talking": "assigned", "waiting": "closed", "parked": "closed", "called": "waiting", "other": "waiting"}
        assert centre.do("turn_away", None, cause="emergency") == 1

    def test_who_came_in_time_is_let_in_when_heard_of_later_but_not_into_an_emergency(self) -> None:
        centre = Centre()
        closed = {"sales": "hours", "billing": "emergency"}
        centre.desk.put_queue(Queue("billing"))
        centre.at(10)
        centre.desk.opening = lambda queue, moment: Opening(moment < 1005, closed[queue.name])
        for queue in closed:
            centre.desk.now = 1010
            centre.desk.arrive(queue, queue, 1001)
        assert centre.states() == {"sales": "waiting", "billing": "closed"}

    def test_whoever_was_being_asked_missed_nothing(self) -> None:
        centre = Centre()
        anna = centre.agent("anna")
        centre.arrive()
        centre.do("turn_away", None, cause="emergency")
        assert (anna.state, centre.told("offer_withdrawn")["reason"]) == ("available", "emergency")


class TestSlices:
    """No turn is long, however many a change concerns."""

    COST = 0.004  # of one rule, in seconds: three of them are more than a slice

    def centre(self, contacts: int) -> Centre:
        centre = Centre()
        self.elapsed = 0.0
        centre.desk.stopwatch = lambda: self.elapsed
        centre.policy()
        for at in range(contacts):
            centre.arrive(f"c{at}")
        return centre

    def matching(self, weight: float) -> tuple[Segment, ...]:
        def matches(_facts: Any) -> bool:
            self.elapsed += self.COST
            return True

        return (Segment("all", "true", weight=weight, matches=matches),)

    def looked_at(self, centre: Centre, version: int) -> int:
        return sum(known[0].version == version for known in centre.desk._segments.values())

    def test_a_new_policy_reaches_who_waits_slice_by_slice_and_until_then_the_old_one_holds(self) -> None:
        centre = self.centre(10)
        centre.desk.put_policy(Policy("of sales", 2, segments=self.matching(2)))
        assert self.looked_at(centre, 2) == 3
        assert all(centre.desk.foresee(contact) for contact in centre.desk.contacts.values())  # the others stand where they stood
        assert centre.desk.next_deadline() == centre.now
        turns = 0
        while self.looked_at(centre, 2) < 10:
            turns += 1
            before = self.looked_at(centre, 2)
            centre.at(1)
            assert self.looked_at(centre, 2) - before <= 3
        assert turns <= 4
        assert centre.desk.next_deadline() is None or centre.desk.next_deadline() > centre.now

    def test_who_is_not_looked_at_yet_is_offered_as_before(self) -> None:
        centre = self.centre(10)
        centre.desk.put_policy(Policy("of sales", 2, segments=self.matching(2)))
        centre.desk.put_agent("anna", channels=["voice"])
        centre.desk.set_agent_state("anna", "available", centre.now)
        (made,) = centre.desk.assign_pending(centre.now, centre.ids.__next__)
        assert made.contact == "c0"

    def test_many_arrivals_at_once_have_their_rules_worked_out_in_turns_too_and_nobody_is_forgotten(self) -> None:
        centre = self.centre(0)
        centre.desk.put_policy(Policy("of sales", 2, segments=self.matching(2)))
        for at in range(10):
            centre.desk.arrive(f"c{at}", "sales", centre.now)
        assert self.looked_at(centre, 2) == 3
        for at in range(3):
            centre.desk.assign_pending(centre.now, centre.ids.__next__)
            centre.at(at)
        assert self.looked_at(centre, 2) == 10
        assert all(contact.estimate is not None or centre.desk.foresee(contact) for contact in centre.desk.contacts.values())

    def test_a_large_emergency_takes_several_turns_in_which_nobody_concerned_is_offered(self) -> None:
        centre = self.centre(120)
        centre.do("turn_away", {"sales"}, cause="emergency")
        assert list(centre.states().values()).count("closed") == 50
        centre.agent("anna")
        centre.at(1)
        centre.at(2)
        assert set(centre.states().values()) == {"closed"}
        assert "offer_made" not in centre.names()
        assert centre.names().count("contact_turned_away") == 120
        centre.arrive("later")
        assert centre.offered("later").agent == "anna"

    def test_who_left_and_came_again_meanwhile_is_not_sent_away(self) -> None:
        centre = self.centre(60)
        centre.do("turn_away", {"sales"}, cause="emergency")
        centre.desk.abandon("c59", centre.now)
        centre.desk.arrive("c59", "sales", centre.now, leg=2)
        centre.at(1)
        assert centre.states()["c59"] == "waiting"


class TestNoNumberTravels:
    """Words that people choose go into events; telephone numbers do not."""

    NUMBERS = ("+49 30 1234567", "call 0049-30-123456", "(030) 12.34.56")

    @pytest.mark.parametrize("number", NUMBERS)
    def test_in_no_reason_and_no_name(self, number: str) -> None:
        centre = Centre()
        centre.agent("anna")
        centre.arrive()
        offer = centre.offered()
        with pytest.raises(Invalid, match="no telephone number"):
            centre.do("reject", offer.id, "anna", reason=number)
        with pytest.raises(Invalid, match="no telephone number"):
            centre.do("set_agent_state", "anna", "paused", reason=number)
        centre.accept()
        for command, more in (
            ("transfer", {"queue": "sales", "reason": number}),
            ("requeue", {"reason": number}),
            ("confer", {"participant": number}),
        ):
            with pytest.raises(Invalid, match="no telephone number"):
                centre.do(command, "c1", **more)
        assert centre.states() == {"c1": "assigned"}

    def test_other_figures_may(self) -> None:
        centre = Centre()
        centre.agent("anna")
        centre.do("set_agent_state", "anna", "paused", reason="training, room 204, 14:30 to 15:45")


class TestPolicy:
    def test_a_segment_goes_before_others(self) -> None:
        centre = Centre()
        centre.policy(segments=(VIP,))
        centre.arrive("plain")
        centre.at(10).arrive("vip", facts={"tier": "vip"})
        centre.at(20).agent("anna")
        assert centre.offered("vip").agent == "anna"
        assert centre.told("offer_made")["decision"]["segment"] == "vip"

    def test_a_segment_is_chosen_anew_in_another_queue(self) -> None:
        centre = Centre()
        centre.policy(segments=(replace(VIP, matches=lambda facts: facts["queue"] == "second"),))
        centre.desk.put_queue(Queue("second", policy="of sales"))
        centre.agent("anna")
        centre.arrive()
        centre.accept()
        centre.do("transfer", "c1", queue="second")
        assert [event.data["decision"]["segment"] for event in centre.events if event.name == "offer_made"] == ["everyone", "vip"]

    def test_but_nobody_waits_beyond_the_bound_while_others_pass(self) -> None:
        centre = Centre()
        centre.policy(segments=(VIP,), bound_seconds=60)
        centre.arrive("plain")
        centre.at(50).arrive("vip", facts={"tier": "vip"})
        centre.at(60).agent("anna")
        assert centre.offered("plain").agent == "anna"

    def test_relaxation_finds_the_lesser_agent_after_its_wait(self) -> None:
        centre = Centre(required_skills={"german": 4})
        centre.policy(relax=(Relax(30, skills={"german": 2}),))
        centre.agent("anna", skills={"german": 2})
        contact = centre.at(1).arrive()
        centre.at(30.9)
        assert contact.state == "waiting"
        assert centre.desk.next_deadline() == 1031
        centre.at(31)
        assert centre.offered().agent == "anna"

    def test_but_never_below_the_floor(self) -> None:
        centre = Centre(required_skills={"german": 4})
        centre.policy(relax=(Relax(30, skills={"german": 1}),), floor=Levels(skills={"german": 3}))
        centre.agent("anna", skills={"german": 2})
        contact = centre.arrive()
        centre.at(500)
        assert contact.state == "waiting"
        centre.agent("bob", skills={"german": 3})
        assert centre.offered().agent == "bob"

    def test_affinity_waits_for_the_last_agent_and_no_longer(self) -> None:
        centre = Centre()
        centre.policy(affinity_seconds=20)
        centre.agent("anna")
        centre.arrive("c1")
        centre.accept("c1")
        centre.agent("bob")
        contact = centre.at(1).arrive("c2", facts={"last_agent": "anna"})
        assert contact.state == "waiting"
        centre.at(21)
        assert centre.offered("c2").agent == "bob"

    def test_affinity_ends_when_the_last_agent_leaves(self) -> None:
        centre = Centre()
        centre.policy(affinity_seconds=20)
        centre.agent("anna")
        centre.arrive("c1")
        centre.accept("c1")
        centre.agent("bob")
        centre.arrive("c2", facts={"last_agent": "anna"})
        centre.at(5).do("set_agent_state", "anna", "paused")
        assert centre.offered("c2").agent == "bob"

    def test_overflow_moves_the_contact_in_its_place(self) -> None:
        centre = Centre()
        centre.desk.put_queue(Queue("second"))
        centre.policy(overflow=(Overflow(60, "second"),))
        contact = centre.arrive("c1")
        centre.at(30).arrive("c2", "second")
        centre.at(60)
        assert (contact.queue, contact.state, contact.place_at) == ("second", "waiting", 1000)
        assert {"target": "second", "waited_seconds": 60, "queue": "sales"}.items() <= centre.told("contact_overflowed").items()
        centre.agent("anna", queues=["second"])
        assert centre.offered("c1").agent == "anna"

    def test_two_queues_that_overflow_into_each_other_do_not_play_ball(self) -> None:
        centre = Centre()
        centre.desk.put_queue(Queue("second"))
        centre.policy("sales", overflow=(Overflow(60, "second"),))
        centre.policy("second", overflow=(Overflow(30, "sales"),))
        contact = centre.arrive()
        centre.at(60).at(600).at(6000)
        assert (contact.queue, centre.names().count("contact_overflowed")) == ("second", 1)

    def test_who_was_parked_when_it_was_time_overflows_afterwards(self) -> None:
        centre = Centre()
        centre.desk.put_queue(Queue("second"))
        centre.policy(overflow=(Overflow(60, "second"),))
        contact = centre.arrive()
        centre.at(50).do("park", "c1", seconds=100)
        centre.at(60)
        assert contact.queue == "sales"
        centre.at(70).do("unpark", "c1")
        assert centre.desk.next_deadline() == 1070
        centre.at(70)
        assert contact.queue == "second"

    def test_a_new_version_counts_for_those_who_wait(self) -> None:
        centre = Centre(required_skills={"german": 4})
        centre.policy()
        centre.agent("anna", skills={"german": 2})
        centre.arrive()
        centre.policy(relax=(Relax(1, skills={"german": 2}),))
        centre.at(1)
        assert centre.offered().agent == "anna"


class TestWhatTheCustomerIsTold:
    def test_the_estimate_is_0_where_somebody_is_free(self) -> None:
        centre = Centre()
        centre.agent("anna")
        assert centre.arrive("c1").estimate == 0
        second = centre.arrive("c2")
        foreseen = centre.desk.foresee(second)
        assert foreseen is not None and foreseen.position == 1
        assert second.estimate is not None and second.estimate > 0

    def test_nobody_signed_in_is_no_estimate(self) -> None:
        centre = Centre()
        contact = centre.arrive()
        assert contact.estimate is None
        foreseen = centre.desk.foresee(contact)
        assert foreseen is not None and foreseen.seconds is None

    def test_the_estimate_is_learned_from(self) -> None:
        centre = Centre()
        centre.agent("anna")
        centre.arrive("c1")
        centre.accept("c1")
        estimate = centre.arrive("c2").estimate
        centre.at(600).do("complete", "c1")
        centre.accept("c2")
        experience = centre.desk.experience["sales"]
        assert estimate is not None
        assert (experience.calibration.errors.answered, experience.calibration.errors.at_once) == (1, 1)
        assert experience.calibration.errors.signed == pytest.approx(estimate - 600)
        assert experience.service.mean > 300  # which was assumed, until somebody talked for 600 s

    def test_who_awaits_a_callback_shows_no_patience(self) -> None:
        centre = Centre()
        centre.arrive()
        before = centre.desk.experience["sales"].patience.rate
        centre.do("promise_callback", "c1", number="+815012345678", zones=TOKYO)
        centre.at(20_000).agent("anna")
        centre.accept()
        assert centre.desk.experience["sales"].patience.rate == before

    def test_the_preferred_channel_is_suggested_where_it_is_sooner(self) -> None:
        centre = Centre()
        centre.desk.put_queue(Queue("chat", channel="chat"))
        centre.policy(suggest_channels=SuggestChannels(to={"chat": "chat"}, min_gain_seconds=30))
        centre.agent("anna")
        for contact in ("c1", "c2"):
            centre.arrive(contact)
        centre.agent("bob", channels=["chat"])
        for contact, preferred in (("c3", "voice"), ("c4", "chat")):
            centre.arrive(contact, facts={"preferred_channel": preferred})
        assert [centre.desk.contacts[contact].suggested for contact in ("c3", "c4")] == ["", "chat"]
        told = centre.told("channel_suggested")
        assert (told["contact"], told["preferred"], told["target"]) == ("c4", "chat", "chat")
        assert told["preferred_wait_seconds"] + 30 <= told["wait_seconds"]


class TestConference:
    def test_who_joins_is_recorded(self) -> None:
        centre = Centre()
        centre.agent("anna")
        centre.desk.put_agent("bob", channels=["voice"])
        contact = centre.arrive()
        with pytest.raises(Conflict, match="not with an agent"):
            centre.do("confer", "c1", agent="bob")
        centre.accept()
        centre.at(5).do("confer", "c1", agent="bob")
        centre.at(9).do("confer", "c1", participant="interpreter")
        assert contact.conference == [
            {"agent": "bob", "participant": None, "at": 1005},
            {"agent": None, "participant": "interpreter", "at": 1009},
        ]
        assert centre.told("contact_conferenced")["participant"] == "interpreter"
        for at in range(48):
            centre.do("confer", "c1", participant=f"guest {at}")
        with pytest.raises(Conflict, match="50 have joined"):
            centre.do("confer", "c1", participant="one more")
        with pytest.raises(Invalid, match="participant"):
            centre.do("confer", "c1")


class TestDispositions:
    def test_an_outcome_is_noted_for_the_leg_that_it_ends(self) -> None:
        centre = Centre(wrap_up=True)
        centre.desk.put_queue(Queue("billing", wrap_up=True))
        centre.agent("anna")
        centre.arrive()
        centre.accept()
        centre.do("transfer", "c1", queue="billing")
        centre.at(20).do("end_wrap_up", "anna", disposition=SOLD)
        assert centre.outcomes == [{**SOLD, "contact": "c1", "leg": 1, "agent": "anna", "at": 1020}]

    def test_without_one_nothing_is_noted(self) -> None:
        centre = Centre(wrap_up=True)
        centre.agent("anna")
        centre.arrive()
        centre.accept()
        centre.do("complete", "c1")
        centre.do("end_wrap_up", "anna")
        assert (centre.outcomes, centre.told("contact_wrapped_up")["disposition"]) == ([], None)

    def test_one_of_several_wrap_ups_is_ended_by_name(self) -> None:
        centre = Centre()
        centre.desk.put_queue(Queue("chat", channel="chat", wrap_up=True))
        anna = centre.agent("anna", **BLENDED)
        for contact in ("c1", "c2"):
            centre.arrive(contact, "chat")
            centre.accept(contact)
            centre.do("complete", contact)
        centre.do("end_wrap_up", "anna", contact_id="c1", disposition=SOLD)
        assert (list(anna.work), anna.state) == (["c2"], "wrap_up")
        with pytest.raises(Conflict, match="not in wrap-up of c1"):
            centre.do("end_wrap_up", "anna", contact_id="c1")


class TestCertificates:
    def test_once_training_has_spoken_it_alone_counts(self) -> None:
        centre = Centre()
        centre.agent("anna")
        centre.do("certify", "anna", "chat", 1500)
        centre.agent("anna", channels=["chat"])  # what the directory says no longer matters
        assert centre.arrive().state == "offered"

    def test_a_certificate_ends_by_the_clock(self) -> None:
        centre = Centre()
        centre.agent("anna", channels=[])
        centre.do("certify", "anna", "voice", 1050)
        assert centre.desk.next_deadline() == 1050
        centre.at(49).arrive("c1")
        assert centre.offered("c1").agent == "anna"
        centre.do("hang_up", "c1")
        centre.at(50)
        assert centre.arrive("c2").state == "waiting"

    def test_when_it_lapses_the_offer_is_withdrawn_but_no_conversation_is_cut_off(self) -> None:
        centre = Centre()
        anna = centre.agent("anna")
        centre.arrive("c1")
        centre.do("lapse", "anna", "voice")
        assert (centre.states(), centre.told("offer_withdrawn")["reason"]) == ({"c1": "waiting"}, "certificate_lapsed")
        centre.do("certify", "anna", "voice", None)
        centre.accept("c1")
        centre.do("lapse", "anna", "voice")
        assert anna.state == "busy"


class TestPracticePermits:
    def centre(self, **permit: Any) -> Centre:
        centre = Centre()
        centre.agent("dora", **BLENDED | {"channels": []})
        centre.desk.put_queue(Queue("chat", channel="chat", wrap_up=False))
        centre.desk.put_agent("sue")
        centre.do("permit", "dora", "chat", {"supervisor": "sue", "per_day": 2, "until": 500_000.0} | permit)
        return centre

    def test_nobody_supervises_themselves(self) -> None:
        with pytest.raises(Invalid, match="somebody else"):
            self.centre(supervisor="dora")

    def test_the_supervisor_is_somebody_who_is_known(self) -> None:
        with pytest.raises(Invalid, match="no agent zoe"):
            self.centre(supervisor="zoe")

    def test_count_while_the_supervisor_is_signed_in(self) -> None:
        centre = self.centre()
        contact = centre.arrive("c1", "chat")
        assert contact.state == "waiting"
        centre.agent("sue", channels=[])
        assert centre.offered("c1").agent == "dora"
        centre.do("hang_up", "c1")
        centre.do("set_agent_state", "sue", "paused")
        assert centre.arrive("c2", "chat").state == "offered"
        centre.do("set_agent_state", "sue", "offline")
        assert centre.told("offer_withdrawn")["reason"] == "supervisor_left"
        assert centre.arrive("c3", "chat").state == "waiting"
        assert centre.states()["c2"] == "waiting"
        centre.do("set_agent_state", "sue", "available")
        assert (centre.offered("c2").agent, centre.offered("c3").agent) == ("dora", "dora")

    def test_what_is_practised_already_goes_on_when_the_supervisor_leaves(self) -> None:
        centre = self.centre(per_day=1)
        centre.agent("sue", channels=[])
        centre.arrive("c1", "chat")
        centre.accept("c1")
        centre.do("set_agent_state", "sue", "offline")
        assert centre.states() == {"c1": "assigned"}

    def test_the_last_one_of_the_day_is_not_taken_away_because_it_is_being_asked(self) -> None:
        centre = self.centre(per_day=1)
        centre.agent("sue", channels=[])
        centre.agent("tom", channels=[])
        centre.arrive("c1", "chat")
        centre.do("set_agent_state", "sue", "paused")
        centre.do("set_agent_state", "sue", "offline")
        centre.do("set_agent_state", "sue", "available")
        assert centre.offered("c1").agent == "dora"

    def test_so_many_a_day_and_offers_on_the_table_count(self) -> None:
        centre = self.centre()
        centre.agent("sue", channels=[])
        for contact in ("c1", "c2", "c3"):
            centre.arrive(contact, "chat")
        assert centre.states() == {"c1": "offered", "c2": "offered", "c3": "waiting"}
        centre.do("hang_up", "c1")
        for contact in ("c2", "c3"):
            centre.accept(contact)
            centre.do("complete", contact)
        assert centre.arrive("c4", "chat").state == "waiting"
        centre.at(86_400 - 1000)  # midnight
        assert centre.offered("c4").agent == "dora"

    def test_end_by_the_clock(self) -> None:
        centre = self.centre(until=1050.0)
        centre.agent("sue", channels=[])
        centre.at(50)
        assert centre.arrive("c1", "chat").state == "waiting"


class TestScoresOfQuality:
    PREFERS = Policy("gold", prefer=Prefer(scores={"world-class": 1.0}))

    @staticmethod
    def scored(centre: Centre, **best: float) -> None:
        for agent, value in best.items():
            centre.do("note_scores", agent, {"world-class": Score(value, 1e9), "other": Score(0.1, 1e9)})

    def test_a_policy_that_asks_for_them_prefers_who_may_do_better(self) -> None:
        centre = Centre(policy="gold")
        centre.desk.put_policy(self.PREFERS)
        for agent in ("ann", "bob"):
            centre.agent(agent)
        self.scored(centre, ann=0.6, bob=0.9)
        centre.at(30).arrive()
        assert centre.offered().agent == "bob"
        (decision,) = centre.decisions
        told = decision["record"]
        assert [one["qa_scores"] for one in (told["chosen"], *told["runners_up"])] == [{"world-class": 0.9}, {"world-class": 0.6}]
        assert "The policy prefers by the scores of quality in world-class; who has none there counts as the best." in words(told)
        assert "策略还按质量评分（world-class）择优；没有评分者按满分计。" in words(told, "zh")
        assert rerun(told) == ("c1", "bob")

    def test_of_whom_little_is_known_nothing_is_held_against_them(self) -> None:
        centre = Centre(policy="gold")
        centre.desk.put_policy(self.PREFERS)
        for agent in ("ann", "new"):
            centre.agent(agent)
        self.scored(centre, ann=0.9)
        centre.at(30).arrive()
        assert centre.offered().agent == "new"

    def test_elsewhere_they_change_nothing(self) -> None:
        centre = Centre()
        for agent in ("ann", "bob"):
            centre.agent(agent)
        self.scored(centre, ann=0.1, bob=1.0)
        assert centre.desk.profile_of(centre.desk.agents["ann"]) == centre.desk.profile_of(centre.desk.agents["bob"])
        centre.at(30).arrive()
        assert centre.offered().agent == "ann", "the longest idle"
        (decision,) = centre.decisions
        assert "qa_scores" not in decision["record"]["chosen"]

    def test_they_are_soft(self) -> None:
        """Nobody waits for a better score: who alone is free gets the contact."""
        centre = Centre(policy="gold")
        centre.desk.put_policy(self.PREFERS)
        centre.agent("ann")
        self.scored(centre, ann=0.0)
        centre.arrive()
        assert centre.offered().agent == "ann"
