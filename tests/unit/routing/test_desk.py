"""The routing desk, by example. `Centre` reads like a day's log: who arrives, who is offered what, at which second."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from services.routing.domain.desk import Changes, Desk, Event
from services.routing.domain.entities import Agent, Contact, Offer, Queue
from services.routing.domain.errors import Conflict, Invalid, NotFound


class Centre:
    """A desk with a clock and short commands: each expires what is due, acts, assigns."""

    def __init__(self, **queue: Any) -> None:
        self.desk = Desk()
        self.now = 1000.0
        self.ids = map("o{}".format, itertools.count(1))
        self.desk.put_queue(Queue("sales", **{"wrap_up": False} | queue))
        self.events: list[Event] = []

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

    def _settle(self) -> None:
        self.desk.assign_pending(self.now, self.ids.__next__)
        self.events += self.desk.take_changes().events


class TestALifeOfAContact:
    def test_from_arrival_to_the_next_caller(self) -> None:
        centre = Centre(wrap_up=True)
        anna = centre.agent("anna", address="PJSIP/1001")
        centre.events.clear()
        contact = centre.arrive(customer="k7")
        assert (contact.state, anna.state) == ("offered", "offered")
        centre.at(4).accept()
        assert (contact.state, contact.agent, contact.answered_at) == ("assigned", "anna", 1004)
        assert (anna.state, anna.contacts) == ("busy", ["c1"])
        centre.at(64).do("complete", "c1", ended_by="caller")
        assert (contact.state, anna.state, anna.wrapping_up) == ("ended", "wrap_up", "c1")
        centre.at(80).do("end_wrap_up", "anna", disposition="sold")
        assert (anna.state, anna.contacts, anna.wrapping_up, contact.disposition) == ("available", [], None, "sold")
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
        assert decision == {
            "rule": "longest_idle",
            "chosen": "bob",
            "why": "longest idle of 1",
            "idle_since": 1005,
            "candidates": 1,
            "excluded": {reason: 1},
        }

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
        assert centre.told("offer_made")["decision"]["why"] == "passed on it before, and nobody else fits"

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
        assert (anna.state, anna.reason, anna.offer) == ("paused", "lunch", None)
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
        assert (anna.state, anna.reason, anna.next_state) == ("paused", "lunch", None)

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
        assert taken["contacts"] == ["c1"]

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
        centre.do("end_wrap_up", "anna", disposition="sold")
        centre.desk.forget(2000)
        assert centre.desk.contacts == centre.desk.offers == {}
