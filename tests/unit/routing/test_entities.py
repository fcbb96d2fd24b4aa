"""What an agent can take, may take and is shown as doing."""

from __future__ import annotations

from typing import Any

import pytest

from services.routing.domain.entities import Agent, Permit, Phase, Work

CAPACITY = {"chat": 33, "e-mail": 34}
PERMIT = Permit(supervisor="sue", per_day=2, until=2000.0)


def at_work(*work: tuple[Phase, str], **agent: Any) -> Agent:
    """An agent with contacts in these phases, on these channels."""
    made = Agent("anna", **{"presence": "available", "capacity": CAPACITY} | agent)
    for number, (phase, channel) in enumerate(work):
        load = made.takes(channel)
        made.work[f"c{number}"] = Work(phase=phase, queue="q", leg=1, channel=channel, load=load, began=1000.0, since=1000.0)
    return made


class TestRoom:
    @pytest.mark.parametrize(
        ("work", "room"),
        [
            ([], {"voice", "chat", "e-mail"}),
            ([("talking", "chat")], {"chat", "e-mail"}),
            ([("talking", "chat"), ("offered", "chat")], {"chat", "e-mail"}),
            ([("talking", "chat"), ("wrap_up", "chat"), ("offered", "e-mail")], set()),
            ([("talking", "chat")] * 3, set()),
            ([("wrap_up", "voice")], set()),
        ],
    )
    def test_is_what_offers_conversations_and_wrap_ups_leave(self, work: list[tuple[Phase, str]], room: set[str]) -> None:
        agent = at_work(*work)
        assert {channel for channel in ("voice", "chat", "e-mail") if agent.has_room(channel)} == room

    @pytest.mark.parametrize("presence", ["paused", "offline", "unknown"])
    def test_has_only_who_is_available(self, presence: str) -> None:
        assert not at_work(presence=presence).has_room("chat")

    def test_a_channel_not_named_takes_all(self) -> None:
        assert at_work().takes("voice") == 100


class TestDoing:
    @pytest.mark.parametrize(
        ("phases", "state"),
        [
            ([], "paused"),
            (["offered"], "offered"),
            (["offered", "wrap_up"], "wrap_up"),
            (["wrap_up", "offered", "talking"], "busy"),
        ],
    )
    def test_a_conversation_before_a_wrap_up_before_an_offer_before_what_was_chosen(self, phases: list[Phase], state: str) -> None:
        assert at_work(*[(phase, "chat") for phase in phases], presence="paused").doing() == state


class TestCertificates:
    def test_the_directory_counts_until_training_has_spoken(self) -> None:
        assert Agent("anna", channels=["voice"]).is_certified("voice", 1000)
        assert not Agent("anna", channels=["chat"]).is_certified("voice", 1000)
        assert not Agent("anna", channels=["voice"], certificates={}).is_certified("voice", 1000)

    @pytest.mark.parametrize(("until", "certified"), [(None, True), (1000.5, True), (1000.0, False), (999.0, False)])
    def test_one_counts_until_its_end(self, until: float | None, certified: bool) -> None:
        assert Agent("anna", certificates={"voice": until}).is_certified("voice", 1000) is certified


class TestPractice:
    def test_needs_a_permit_for_the_channel_that_has_not_ended(self) -> None:
        learner = Agent("dora", permits={"chat": PERMIT})
        assert learner.may_practise("chat", 1999, 7, supervisor_present=True)
        assert not learner.may_practise("chat", 2000, 7, supervisor_present=True)
        assert not learner.may_practise("voice", 1999, 7, supervisor_present=True)

    def test_needs_the_supervisor(self) -> None:
        assert not Agent("dora", permits={"chat": PERMIT}).may_practise("chat", 1000, 7, supervisor_present=False)

    @pytest.mark.parametrize(("day", "taken", "may"), [(7, 1, True), (7, 2, False), (6, 2, True)])
    def test_so_many_a_day(self, day: int, taken: int, may: bool) -> None:
        learner = Agent("dora", permits={"chat": PERMIT}, practised={"chat": {"day": day, "taken": taken}})
        assert learner.may_practise("chat", 1000, 7, supervisor_present=True) is may

    def test_what_is_on_offer_counts_already(self) -> None:
        offered = at_work(("offered", "chat"), permits={"chat": PERMIT}, practised={"chat": {"day": 7, "taken": 1}})
        assert not offered.may_practise("chat", 1000, 7, supervisor_present=True)
        talking = at_work(("talking", "chat"), permits={"chat": PERMIT}, practised={"chat": {"day": 7, "taken": 1}})
        assert talking.may_practise("chat", 1000, 7, supervisor_present=True)
