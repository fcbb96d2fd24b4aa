"""A contact whose end was never told is closed by evidence, and marked so: a snapshot that no longer has it, or a day's silence."""

from __future__ import annotations

import gzip
import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest

from services.gateway import handlers, store
from services.gateway.domain import ami, queue_log
from services.gateway.domain.legs import Leg, Snapshot, fold
from services.gateway.domain.observation import Observation
from tests.unit.conftest import SetClock
from tests.unit.gateway.telephony_samples import DATA, TRUTH, ami_lines, by_agent, by_queue, group_by_contact
from tests.unit.gateway.test_handlers import ANSWER, END, LINE, Gateway, gateway
from tests.unit.gateway.test_legs import ANN, CALL, Tale, logged_call

__all__ = ["gateway"]

NO_LONGER = "its end was never told; a snapshot no longer had it"


def shot(at: float, *calls: str) -> Snapshot:
    return Snapshot(at, frozenset(calls))


# ---- the fold


def test_who_is_not_in_a_snapshot_has_ended_and_is_marked() -> None:
    (talked,) = fold(logged_call(), (), [shot(200)])
    assert (talked.outcome, talked.ended_at, talked.agent, talked.talk_seconds, talked.uncertain) == ("lost", 200, ANN, None, NO_LONGER)
    (waited,) = fold(Tale().log(100, "entered"), (), [shot(200)])
    assert (waited.outcome, waited.answered, waited.uncertain) == ("lost", False, NO_LONGER)


def test_who_is_in_it_came_later_or_shortly_before_goes_on() -> None:
    assert fold(logged_call(), (), [shot(200, CALL)])[0].outcome == "talking"
    assert fold(logged_call(), (), [shot(90)])[0].outcome == "talking"
    assert fold(logged_call(), (), [shot(107)])[0].outcome == "talking", "the clocks of two reporters are apart a little"


def test_the_first_evidence_counts() -> None:
    assert fold(logged_call(), [250], [shot(300), shot(200), shot(150, CALL)])[0].ended_at == 200
    assert fold(logged_call(), [150], [shot(200)])[0].uncertain == "the PBX restarted before the end was told"


def test_an_end_that_is_told_after_all_is_believed() -> None:
    (leg,) = fold(logged_call().log(131, "completed", agent=ANN, hold_seconds=6, talk_seconds=25), (), [shot(200)])
    assert (leg.outcome, leg.talk_seconds, leg.uncertain) == ("completed", 25, None)


def test_contacts_that_are_no_channels_of_the_pbx_are_not_judged_by_its_channels() -> None:
    chat = [Observation("api", "entered", "api|entered|c1", 100, call="c1", queue="sales")]
    assert fold(chat, (), [shot(200)])[0].outcome == "waiting"


def test_a_call_known_by_its_linkedid_alone_is_looked_up_by_that() -> None:
    answered = Tale().dialplan(106, "answered", member_call="5.2")
    assert fold(answered, (), [shot(200, "5.0")])[0].outcome == "talking"
    assert fold(answered, (), [shot(200)])[0].outcome == "lost"


def test_our_own_word_ends_what_was_silent_for_too_long() -> None:
    silent = [*logged_call(), Observation("gateway", "expired", "gateway|expired|x|106", 86506, call=CALL)]
    (leg,) = fold(silent)
    assert (leg.outcome, leg.ended_at, leg.uncertain) == ("lost", 86506, "nothing more was heard of it")
    assert fold(Tale(silent).log(90000, "completed", agent=ANN, hold_seconds=6, talk_seconds=5))[0].outcome == "completed"


def test_a_snapshot_may_show_that_a_caller_talks() -> None:
    tale = Tale().ami(100, "entered", place="sales@q").ami(150, "connected")
    (leg,) = fold(tale)
    assert (leg.outcome, leg.answered_at, leg.agent, leg.estimated) == ("talking", 150, None, ("answered_at", "hold_seconds"))
    leg = tale.ami(160, "completed", agent=ANN, hold_seconds=20, talk_seconds=40, reason="agent").leg
    assert (leg.outcome, leg.answered_at, leg.agent, leg.talk_seconds) == ("completed", 120, ANN, 40)


# ---- AMI's lists


def channel(id: str, **headers: str) -> dict[str, str]:
    return {"Event": "CoreShowChannel", "ActionID": "a", "Uniqueid": id, "Linkedid": id, **headers}


def whole(count: int) -> dict[str, str]:
    return {"Event": "CoreShowChannelsComplete", "ActionID": "a", "EventList": "Complete", "ListItems": str(count)}


def seen(*list_of: dict[str, str]) -> list[Observation]:
    channels = ami.Channels()
    read = [channels.interpret(message, at) for at, message in enumerate(list_of, 100)]
    return [told for told in read if isinstance(told, Observation)]


def test_a_whole_list_of_channels_is_a_snapshot_of_the_moment_it_began() -> None:
    (told,) = seen(channel("5.1", Linkedid="5.0"), channel("6.1"), whole(2))
    assert (told.kind, told.at, told.calls) == ("snapshot", 100, ("5.0", "5.1", "6.1"))
    (empty,) = seen(whole(0))
    assert empty.calls == ()


def test_half_a_list_proves_nothing() -> None:
    assert seen(channel("5.1"), whole(2)) == []
    assert seen(whole(3)) == []
    assert seen(channel("5.1"), {"Event": "CoreShowChannelsComplete", "ActionID": "a"}) == []


def test_lists_are_told_apart_by_their_action() -> None:
    (told,) = seen(channel("5.1"), channel("6.1") | {"ActionID": "b"}, whole(1))
    assert told.calls == ("5.1",)


def test_a_queues_caller_in_a_bridge_is_connected() -> None:
    queued = {"Application": "Queue", "ApplicationData": "sales,tT,,,90"}
    talking, waiting = channel("5.1", BridgeId="b1", **queued), channel("6.1", BridgeId="", **queued)
    told = seen(talking, waiting, channel("7.1", BridgeId="b1", Application="AppQueue", ApplicationData="(Outgoing Line)"), whole(3))
    assert [(one.kind, one.call, one.queue) for one in told if one.kind != "snapshot"] == [("connected", "5.1", "sales")]
    assert seen(talking)[0].key == seen(whole(0), talking)[1].key, "told again in the next snapshot, it is the same fact"


# ---- a real gap of seven seconds


def of_gap() -> list[Observation]:
    channels = ami.Channels()
    read = [channels.interpret(*ami.read_json(line)) for line in ami_lines("ami_gap")]
    return [told for told in read if isinstance(told, Observation)]


def of_log() -> list[Observation]:
    lines = gzip.decompress((DATA / "queue_log_run2.gz").read_bytes()).decode().splitlines()
    return [told for line in lines if isinstance(told := queue_log.parse(line), Observation)]


def legs_with_evidence(told: Sequence[Observation]) -> list[Leg]:
    shots = [Snapshot(one.at or 0.0, frozenset(one.calls or ())) for one in told if one.kind == "snapshot"]
    restarts = [one.at or 0.0 for one in told if one.kind == "restarted"]
    return [leg for contact in group_by_contact(told) for leg in fold(contact, restarts, shots)]


def test_the_snapshot_after_a_gap_closes_exactly_what_ended_in_it() -> None:
    legs = legs_with_evidence(of_gap())
    open_by_truth = {leg.call for leg in legs_with_evidence(of_log()) if leg.outcome in ("waiting", "talking")}
    assert {leg.call for leg in legs if leg.outcome in ("waiting", "talking")} == open_by_truth
    lost = [leg for leg in legs if leg.outcome == "lost"]
    assert len(lost) == 3
    true_ends = {leg.call: leg.ended_at or 0.0 for leg in legs_with_evidence(of_log())}
    gap = (1795296447.0, 1795296456.0)  # by whole seconds
    assert all(gap[0] <= true_ends[leg.call] <= gap[1] for leg in lost)


@pytest.mark.parametrize("seed", range(3))
def test_with_the_queue_log_the_figures_after_a_gap_are_exact(seed: int) -> None:
    told = [*of_gap(), *of_log()] * 2
    random.Random(seed).shuffle(told)
    legs = legs_with_evidence(told)
    assert by_queue(legs) == TRUTH["run2"]["queues"]
    assert by_agent(legs) == TRUTH["run2"]["agents"]
    assert not any(leg.uncertain for leg in legs)


# ---- in the gateway


def list_of(at: float, *calls: str) -> list[dict[str, Any]]:
    return [{"recv": at, "ami": message} for message in (*map(channel, calls), whole(len(calls)))]


def lost(news: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [one for one in news if one[1] == "sales lost"]


def test_a_snapshot_closes_open_contacts_and_a_late_end_corrects_that(gateway: Gateway) -> None:
    gateway.post(LINE, ANSWER)
    assert lost(gateway.news()) == []
    gateway.ami(*list_of(1795296300, "5.1"))
    assert gateway.news() == []
    gateway.ami(*list_of(1795296600, "6.1"))
    assert gateway.news() == [("contact_ended", "sales lost")]
    gateway.post(END)
    assert gateway.news() == [("contact_corrected", "sales completed")]


def test_when_the_snapshot_comes_does_not_matter(gateway: Gateway) -> None:
    steps = {"log": lambda: gateway.post(LINE, ANSWER), "list": lambda: gateway.ami(*list_of(1795296600, "6.1")), "correlate": gateway.news}
    for number, order in enumerate(itertools.permutations(steps)):
        gateway.source = f"pbx-{number}"
        for step in order:
            steps[step]()
        gateway.news()
        with gateway.units.database.reading() as connection:
            contacts = connection.execute(store.contact.select().where(store.contact.c.source == gateway.source)).all()
        assert [row.legs[0]["outcome"] for row in contacts] == ["lost"], order
        assert [row.is_open for row in contacts] == [False]


def test_a_snapshot_of_one_source_says_nothing_of_another(gateway: Gateway) -> None:
    gateway.post(LINE, source="pbx2")
    gateway.ami(*list_of(1795296600))
    assert lost(gateway.news()) == []


def test_a_snapshot_from_a_clock_that_is_days_ahead_is_not_believed(gateway: Gateway) -> None:
    gateway.post(LINE)
    gateway.ami(*list_of(1795296300 + 3 * 86400))
    assert lost(gateway.news()) == []


def test_old_snapshots_are_forgotten_but_for_the_latest(gateway: Gateway, at: SetClock) -> None:
    gateway.ami(*list_of(1795296300))
    gateway.ami(*list_of(1795296400, "5.1"))
    gateway.correlate()
    at.seconds = 1795296400 + 2 * 86400
    handlers.prune(gateway.units, 0.0)
    assert [(row.at, row.calls) for row in gateway.kept(store.source_snapshot)] == [(1795296400, ["5.1"])]


def test_after_a_day_of_silence_a_call_counts_as_over(gateway: Gateway, at: SetClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "lowest_id", lambda _at: "ffffffff-ffff-7fff-bfff-ffffffffffff")  # ids are made by the real clock
    gateway.post(LINE)
    gateway.news()
    at.seconds = 1795296250 + 86000
    assert handlers.expire(gateway.units) == 0
    at.seconds = 1795296250 + 86500
    assert handlers.expire(gateway.units) == 1
    assert gateway.news() == [("contact_abandoned", "sales lost")]
    assert handlers.expire(gateway.units) == 0
    gateway.post(ANSWER, END)
    assert gateway.news()[-1] == ("contact_ended", "sales completed")
