"""What FreeSWITCH says, read as its source writes it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.domain import freeswitch
from services.gateway.domain.agents import agent_reports
from services.gateway.domain.legs import Leg, fold
from services.gateway.domain.observation import Ignored, Malformed, Observation
from tests.unit.gateway.freeswitch_samples import (
    DATA,
    ENDED_BY,
    TRUTH,
    Call,
    T,
    as_base64,
    as_form,
    as_json,
    as_xml,
    block,
    calls,
    events,
    frame,
    records,
    ring_record,
    url_encode,
    uuid,
)
from tests.unit.gateway.telephony_samples import group_by_contact


def read(event: dict[str, str]) -> Observation | Ignored:
    return freeswitch.interpret(freeswitch.event(block(event)))


def by_events() -> list[Observation]:
    return [told for event in events() if isinstance(told := read(event), Observation)]


def by_records() -> list[Observation]:
    return [told for _, record in records() for told in _told(freeswitch.interpret_cdr(freeswitch.read_cdr(as_json(record))))]


def _told(read: list[Observation] | Ignored) -> list[Observation]:
    return [] if isinstance(read, Ignored) else read


def legs_of(told: Iterable[Observation]) -> dict[str, list[Leg]]:
    names = {uuid(f"session {name}"): name for name in TRUTH}
    return {names[legs[0].call or ""]: legs for contact in group_by_contact(told) if (legs := fold(contact))}


def figures(told: Iterable[Observation]) -> dict[str, Any]:
    def of(leg: Leg) -> tuple[Any, ...]:
        return leg.queue, leg.outcome, leg.agent, leg.hold_seconds, leg.talk_seconds, dict(leg.missed or {})

    return {name: [of(leg) for leg in legs] for name, legs in legs_of(told).items()}


# ---- the whole of it


def test_events_and_records_of_the_same_calls_are_each_contact_once() -> None:
    told = by_events() + by_records()
    assert figures(told) == TRUTH
    assert not any(leg.uncertain for legs in legs_of(told).values() for leg in legs)


@pytest.mark.parametrize("seed", range(3))
def test_order_and_repetition_change_nothing(seed: int) -> None:
    told = [*by_events(), *by_records()] * 2
    random.Random(seed).shuffle(told)
    assert figures(told) == TRUTH


def test_events_alone_know_all_but_who_hung_up() -> None:
    assert figures(by_events()) == TRUTH
    assert {leg.ended_by for legs in legs_of(by_events()).values() for leg in legs} == {None, "transfer"}


def test_records_alone_know_every_talk_and_every_last_queue() -> None:
    told = by_records()
    assert {name: [leg[:5] for leg in legs] for name, legs in figures(told).items()} == {
        name: [leg[:5] for leg in legs] for name, legs in TRUTH.items()
    }
    assert legs_of(told)["second try"][0].missed == {"1000@default": 1}
    of_callers = [one for one in told if one.reporter == "cdr"]
    assert {name: len(legs) for name, legs in figures(of_callers).items()} == dict.fromkeys(TRUTH, 1)


def test_an_agents_record_alone_has_the_whole_talk() -> None:
    told = [one for one in by_records() if one.reporter == "agent_cdr"]
    truth = {name: [leg for leg in legs if leg[1] in ("completed", "transferred")] for name, legs in TRUTH.items()}
    found = figures(told)
    assert {name: [leg[:5] for leg in found[name]] for name, legs in truth.items() if legs} == {
        name: [leg[:5] for leg in legs] for name, legs in truth.items() if legs
    }
    assert legs_of(told)["by caller"][0].ended_by == "caller"


def test_records_tell_who_hung_up_and_where_a_transfer_went() -> None:
    legs = legs_of(by_events() + by_records())
    assert {name: legs[name][-1].ended_by for name in ENDED_BY} == ENDED_BY
    assert legs["passed on"][0].transfer_target == "9001"


@pytest.mark.parametrize("name", TRUTH)
def test_a_record_changes_no_time_that_the_events_told(name: str) -> None:
    alone, both = legs_of(by_events())[name], legs_of(by_events() + by_records())[name]
    for before, after in zip(alone, both, strict=True):
        assert (before.arrived_at, before.answered_at, before.ended_at) == (after.arrived_at, after.answered_at, after.ended_at)


def test_the_callers_number_comes_with_the_event_and_the_record() -> None:
    assert {leg.caller for legs in legs_of(by_events()).values() for leg in legs} == {"+85221112222"}
    assert {leg.caller for legs in legs_of(by_records()).values() for leg in legs} == {"+85221112222"}


def test_golden_examples_are_read_for_ever() -> None:
    session = (DATA / "session.esl").read_bytes()
    found, rest = freeswitch.frames(session)
    assert rest == b"" and [one.kind for one in found[:2]] == ["auth/request", "command/reply"]
    told = [freeswitch.interpret(freeswitch.event(one.body)) for one in found if one.kind == "text/event-plain"]
    for path in sorted(DATA.glob("*.cdr.*")):
        told += _told(freeswitch.interpret_cdr(freeswitch.read_cdr(path.read_bytes())))
    assert figures(one for one in told if isinstance(one, Observation)) == TRUTH


# ---- bytes


@pytest.mark.parametrize("size", [1, 7, 100, 5000])
def test_frames_are_found_however_the_network_cuts_them(size: int) -> None:
    stream = b"Content-Type: auth/request\n\n" + b"".join(map(frame, events()))
    found, rest = [], b""
    for start in range(0, len(stream), size):
        some, rest = freeswitch.frames(rest + stream[start : start + size])
        found += some
    assert rest == b"" and len(found) == 1 + len(events())
    assert [freeswitch.event(one.body).get("CC-Action") for one in found[1:]] == [event["CC-Action"] for event in events()]


@pytest.mark.parametrize("raw", [b"x" * (freeswitch.MAX_FRAME_BYTES + 1), b"Content-Length: -1\n\n", b"Content-Length: many\n\n"])
def test_what_is_no_event_socket_is_said_to_be_none(raw: bytes) -> None:
    with pytest.raises(Malformed):
        freeswitch.frames(raw)


@pytest.mark.parametrize("write", [block, frame, lambda event: frame(event).replace(b"\n", b"\r\n")], ids=["bare", "framed", "CRLF"])
def test_a_post_of_plain_blocks_is_read_with_or_without_their_frames(write: Callable[[dict[str, str]], bytes]) -> None:
    told = [freeswitch.interpret(message) for message in freeswitch.read_blocks(b"".join(map(write, events())))]
    assert figures(one for one in told if isinstance(one, Observation)) == figures(by_events())


def test_a_json_event_says_the_same_as_a_plain_one() -> None:
    assert [freeswitch.interpret(freeswitch.read_json(json.dumps(event))) for event in events()] == [read(event) for event in events()]


def test_headers_that_nobody_reads_are_left_out() -> None:
    assert set(freeswitch.event(block(events()[0]))) <= freeswitch.READ
    assert "Caller-Caller-ID-Number" not in freeswitch.READ


# ---- events


def agent(action: str, **headers: str) -> dict[str, str]:
    return {"Event-Name": "CUSTOM", "Event-Date-Timestamp": "1790071700250000", "CC-Agent": "1000@default", "CC-Action": action, **headers}


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (agent("agent-status-change", **{"CC-Agent-Status": "Available"}), {"kind": "member_status", "paused": False}),
        (agent("agent-status-change", **{"CC-Agent-Status": "Available (On Demand)"}), {"kind": "member_status", "paused": False}),
        (agent("agent-status-change", **{"CC-Agent-Status": "On Break"}), {"kind": "member_status", "paused": True, "reason": "On Break"}),
        (agent("agent-status-change", **{"CC-Agent-Status": "Logged Out"}), {"kind": "member_removed", "agent": "1000@default"}),
        (agent("agent-state-change", **{"CC-Agent-State": "Receiving"}), {"kind": "device", "device": "ringing", "at": 1790071700.25}),
        (agent("agent-state-change", **{"CC-Agent-State": "In a queue call"}), {"kind": "device", "device": "in_use"}),
        (agent("agent-contact-change", **{"CC-Agent-Contact": "user/1000@pbx"}), {"kind": "device", "interface": "user/1000@pbx"}),
        ({"Event-Name": "SHUTDOWN", "Core-UUID": "c"}, {"kind": "stopped"}),
    ],
)
def test_agents_and_the_core(event: dict[str, str], told: dict[str, object]) -> None:
    observation = read(event)
    assert isinstance(observation, Observation)
    assert {name: getattr(observation, name) for name in told} == told


def test_a_logged_out_agent_is_not_brought_back_by_the_state_of_the_device() -> None:
    said = [
        agent("agent-status-change", **{"CC-Agent-Status": "Logged Out"}),
        {**agent("agent-state-change", **{"CC-Agent-State": "Waiting"}), "Event-Date-Timestamp": "1790071701250000"},
    ]
    report = agent_reports([told for event in said if isinstance(told := read(event), Observation)])["1000@default", None]
    assert (report.member, report.device) == (False, "not_in_use")


@pytest.mark.parametrize("action", ["members-count", "agent-add", "agent-max-no-answer", "agent-state-get", "some-new-action", ""])
def test_the_rest_is_ignored(action: str) -> None:
    assert isinstance(read(agent(action)), Ignored)
    assert isinstance(read({"Event-Name": "HEARTBEAT"}), Ignored)


def test_a_caller_taken_away_by_somebody_has_not_given_up() -> None:
    call = Call("taken", T).cancelled(T + 20, "BREAK_OUT")
    call.told[-1]["Answer-State"] = "answered"
    told = read(call.told[-1])
    assert isinstance(told, Observation) and told.kind == "withdrawn"
    record = call.hung_up(T + 60, "recv_bye").record()
    assert "withdrawn" in {one.kind for one in _told(freeswitch.interpret_cdr(record))}


def test_who_is_rung_is_told_without_a_channel_to_name_the_ring() -> None:
    call = Call("rung", T).offered("1000@default", T + 1)
    assert legs(call)[0].ringing == ("1000@default",)
    call.failed("1000@default", T + 1, T + 5)
    assert legs(call)[0].ringing == ()
    call.offered("1000@default", T + 6)
    assert legs(call)[0].ringing == ("1000@default",)


def legs(call: Call) -> list[Leg]:
    return fold(told for event in call.told if isinstance(told := read(event), Observation))


def test_the_same_standby_channel_of_an_agent_joins_no_calls() -> None:
    told = [read(event) for name in ("one", "two") for event in Call(name, T).answered("1000@default", T, T + 1).told]
    raw = uuid("standby")
    for event in (one for call in (Call("one", T), Call("two", T)) for one in call.answered("1000@default", T, T + 1).told):
        told.append(read({**event, "CC-Agent-UUID": raw}))
    assert len(group_by_contact(one for one in told if isinstance(one, Observation))) == 2


def spoken() -> tuple[Call, float]:
    """A call and the moment of its answer."""
    call = Call("held", T).offered("1000@default", T + 1).answered("1000@default", T + 1, T + 5)
    return call.completed(T + 65), T + 5


def by_phone(name: str, at: float, call: Call, **changed: str) -> Observation | Ignored:
    """CHANNEL_HOLD and CHANNEL_UNHOLD of the agent's channel, with its variables."""
    told = {
        "Event-Name": name,
        "Event-Date-Timestamp": f"{at * 1_000_000:.0f}",
        "Unique-ID": call.channel,
        "Other-Leg-Unique-ID": call.session,
    }
    of_agent = {"variable_cc_side": "agent", "variable_cc_member_uuid": call.member, "variable_cc_member_session_uuid": call.session}
    return read(told | of_agent | changed)


def holds(call: Call, *more: Observation | Ignored) -> list[tuple[int | None, float]]:
    told = [read(event) for event in call.told]
    found = fold(one for one in (*told, *more) if isinstance(one, Observation))
    return [(leg.holds, round(leg.on_hold_seconds or 0.0, 2)) for leg in found]


def test_an_agents_phone_puts_the_caller_on_hold() -> None:
    call, answered = spoken()
    assert holds(call) == [(0, 0.0)]
    told = [
        by_phone(name, answered + after, call) for name, after in (("CHANNEL_HOLD", 10), ("CHANNEL_UNHOLD", 14.5), ("CHANNEL_HOLD", 50))
    ]
    assert holds(call, *told) == [(2, 14.5)]
    assert isinstance(told[0], Observation) and told[0].identifiers[0] == call.session, "a standby channel joins no calls"


def test_a_caller_who_holds_and_calls_of_no_queue_are_passed_over() -> None:
    call, answered = spoken()
    of_caller = by_phone("CHANNEL_HOLD", answered + 10, call, variable_cc_side="member", **{"Unique-ID": call.session})
    assert isinstance(of_caller, Ignored)
    assert isinstance(by_phone("CHANNEL_HOLD", answered, call, variable_cc_side="", variable_cc_member_uuid=""), Ignored)


def test_an_agents_record_tells_the_same_holds_and_none_twice() -> None:
    call, answered = spoken()
    (ring,) = call.rings
    spans = [(answered + 50, answered + 60), (answered + 10, answered + 14.5)]
    ring["hold_events"] = "{" + ",".join(f"{{{on * 1e6:.0f},{off * 1e6:.0f}}}" for on, off in spans) + "}"
    record = _told(freeswitch.interpret_cdr(freeswitch.read_cdr(as_json(ring_record(ring)))))
    told = [
        by_phone(name, answered + after, call) for name, after in (("CHANNEL_HOLD", 10), ("CHANNEL_UNHOLD", 14.5), ("CHANNEL_HOLD", 50))
    ]
    assert holds(call, *record) == holds(call, *told, *record) == [(2, 14.5)]
    assert [(leg.holds, leg.on_hold_seconds) for leg in fold(record)] == [(2, 14.5)]
    del ring["hold_events"]
    assert [leg.holds for leg in fold(_told(freeswitch.interpret_cdr(freeswitch.read_cdr(as_json(ring_record(ring))))))] == [0]


@pytest.mark.parametrize(
    ("change", "mend"),
    [
        ({"CC-Queue": ""}, "has no CC-Queue"),
        ({"CC-Member-Session-UUID": "_undef_"}, "has no CC-Member-Session-UUID"),
        ({"Event-Date-Timestamp": "soon"}, "epoch seconds or microseconds"),
        ({"CC-Cause": "Because"}, "CC-Cause Terminated, or Cancel"),
        ({"CC-Member-Joined-Time": "12"}, "CC-Member-Joined-Time of member-queue-end"),
    ],
)
def test_what_cannot_be_read_says_what_to_mend(change: dict[str, str], mend: str) -> None:
    event = {**Call("x", T).cancelled(T + 9, "TIMEOUT").told[-1], **change}
    with pytest.raises(Malformed, match=mend):
        read(event)


@pytest.mark.parametrize(
    "line", ["", "[]", "{", '{"CC-Action": {"a": 1}}', '{"snapshot": "moon", "at": 1790071700, "row": {}}', '{"snapshot": "core"}']
)
def test_a_line_that_is_no_event_is_malformed(line: str) -> None:
    with pytest.raises(Malformed):
        freeswitch.interpret(freeswitch.read_json(line))


@given(st.sampled_from(events()), st.data())
def test_a_damaged_event_is_read_ignored_or_malformed(event: dict[str, str], data: st.DataObject) -> None:
    raw = block(event).decode()
    at, until = sorted(data.draw(st.tuples(st.integers(0, len(raw)), st.integers(0, len(raw)))))
    try:
        for message in freeswitch.read_blocks((raw[:at] + data.draw(st.text(max_size=8)) + raw[until:]).encode("utf-8", "surrogatepass")):
            told = freeswitch.interpret(message, 1.0)
            assert isinstance(told, Ignored) or Observation.from_dict(told.to_dict()) == told
    except Malformed:
        pass


# ---- snapshots


def row(kind: str, at: float = T, **columns: str) -> Observation | Ignored:
    return freeswitch.interpret({"snapshot": kind, "at": at, "row": columns})


def member(call: Call, state: str, **more: str) -> Observation | Ignored:
    who = {"queue": call.queue, "uuid": call.member, "session_uuid": call.session, "joined_epoch": str(call.joined)}
    return row("member", T + 30, **who, cid_number=call.number, state=state, **more)


def test_a_snapshot_of_a_caller_who_waits_adds_what_was_missed_and_nothing_twice() -> None:
    call = Call("waits", T)
    seen = member(call, "Waiting")
    assert isinstance(seen, Observation) and seen.key == member(call, "Trying").key  # type: ignore[union-attr]
    alone = fold([seen])
    assert [(leg.outcome, leg.arrived_at, leg.caller) for leg in alone] == [("waiting", call.joined, call.number)]
    assert len(fold([seen, *(told for event in call.told if isinstance(told := read(event), Observation))])) == 1


def test_a_snapshot_of_a_talk_is_the_answer_that_the_event_would_have_told() -> None:
    call = Call("talks", T).answered("1000@default", T + 1, T + 5)
    event = read(call.told[-1])
    seen = member(call, "Answered", bridge_epoch=str(int(T + 5)), serving_agent="1000@default", agent_uuid=call.channel)
    assert isinstance(event, Observation) and isinstance(seen, Observation)
    assert (seen.kind, seen.key, seen.hold_seconds) == ("answered", event.key, event.hold_seconds)
    nameless = member(call, "Answered", bridge_epoch=str(int(T + 5)), serving_agent="1000@default")
    assert isinstance(nameless, Observation) and nameless.kind == "connected"
    assert [leg.outcome for leg in fold([event, nameless])] == ["talking"]


def test_a_member_kept_after_leaving_is_no_caller() -> None:
    assert isinstance(member(Call("left", T), "Abandoned", abandoned_epoch=str(int(T))), Ignored)


def test_a_new_core_is_a_restart_and_the_same_core_none() -> None:
    first, again = row("core", T, core_uuid="c1", uptime="100"), row("core", T + 50, core_uuid="c1", uptime="150")
    assert isinstance(first, Observation) and isinstance(again, Observation)
    assert (first.kind, first.at, first.key) == ("restarted", T - 100, again.key)
    assert row("core", T, core_uuid="c2", uptime="1").key != first.key  # type: ignore[union-attr]


def test_agents_of_a_snapshot() -> None:
    columns = {"name": "1000@default", "contact": "user/1000", "last_status_change": "1790071000", "state": "Waiting"}
    here, away = row("agent", **columns, status="Available"), row("agent", **columns, status="Logged Out")
    assert isinstance(here, Observation) and (here.kind, here.paused, here.device) == ("member_status", False, "not_in_use")
    assert isinstance(away, Observation) and away.kind == "member_removed"


def test_channels_of_a_snapshot() -> None:
    told = freeswitch.interpret({"snapshot": "channels", "at": T, "calls": ["a", "b"]})
    assert isinstance(told, Observation) and (told.kind, told.calls) == ("snapshot", ("a", "b"))


# ---- records


@pytest.mark.parametrize("name", ["by agent", "by caller"])
@pytest.mark.parametrize(
    "write",
    [
        as_json,
        as_form,
        lambda record: as_form(record, twice=True),
        as_base64,
        as_xml,
        lambda r: as_form(r)[4:],
        lambda r: as_base64(r)[4:] + b"\n",
    ],
    ids=["json", "form", "form encoded twice", "base64", "xml", "what is left on disk of a form", "what is left on disk of base64"],
)
def test_a_record_says_the_same_however_it_is_wrapped(name: str, write: Callable[[dict[str, Any]], bytes]) -> None:
    call = next(call for call in calls() if call.name == name)
    plain = freeswitch.interpret_cdr(freeswitch.read_cdr(as_json(call.record())))
    told = freeswitch.interpret_cdr(freeswitch.read_cdr(write(call.record())))
    assert [one.key for one in _told(told)] == [one.key for one in _told(plain)]
    assert [(one.kind, one.at, one.queue, one.agent) for one in _told(told)] == [
        (one.kind, one.at, one.queue, one.agent) for one in _told(plain)
    ]


def test_values_may_be_encoded_or_not() -> None:
    call = calls()[0]
    assert freeswitch.interpret_cdr(call.record()) == freeswitch.interpret_cdr(call.record(encode_values=False))


def test_a_quote_in_a_name_that_mod_json_cdr_lets_break_its_json_is_mended() -> None:
    call = calls()[0]
    call.variables["effective_caller_id_name"] = 'Robert "Bob" \\ Roe'
    body = as_form(call.record())
    with pytest.raises(ValueError, match=r"delimiter|escape"):
        json.loads(freeswitch.unquote(body[4:].decode()))
    assert freeswitch.read_cdr(body)["variables"]["effective_caller_id_name"] == 'Robert "Bob" \\ Roe'


def test_a_ring_that_an_agents_channel_records() -> None:
    call = Call("rings", T).failed("1000@default", T + 1, T + 9, "USER_BUSY").failed("1000@default", T + 20, T + 22, "LOSE_RACE")
    told = [one for ring in call.rings for one in _told(freeswitch.interpret_cdr(ring_record(ring)))]
    assert [(one.kind, one.agent, one.call, one.ring_seconds) for one in told] == [
        ("missed", "1000@default", call.session, 8.0),
        ("cancelled", "1000@default", call.session, 2.0),
    ]


def test_a_ring_in_vain_is_one_fact_however_often_it_is_told_and_with_or_without_a_stamp() -> None:
    fails = list(Call("rings", T).failed("1000@default", T + 1, T + 9).failed("1000@default", T + 20, T + 29).told)
    for stamped in (True, False):
        events = [{name: value for name, value in one.items() if stamped or name != "Event-Date-Timestamp"} for one in fails]
        keys = [
            {one.key for received in (T, T + 300) if isinstance(one := freeswitch.interpret(event, received), Observation)}
            for event in events
            if event["CC-Action"] == "bridge-agent-fail"
        ]
        assert [len(told) for told in keys] == [1, 1]
        assert not keys[0] & keys[1]


def test_what_is_left_of_an_earlier_queue_on_the_channel_does_not_count() -> None:
    call = Call("later", T + 500, variables={"cc_queue_answered_epoch": str(int(T)), "cc_agent": "1000@default", "cc_cause": "answered"})
    told = freeswitch.interpret_cdr(call.cancelled(T + 520, "TIMEOUT").record())
    assert [one.kind for one in _told(told)] == ["entered", "timed_out", "hung_up"]


def test_a_call_outside_the_queues_is_ignored() -> None:
    assert isinstance(freeswitch.interpret_cdr({"variables": {"uuid": "u", "direction": "inbound"}}), Ignored)


@pytest.mark.parametrize(
    ("body", "mend"),
    [
        (b"", "body is empty"),
        (b"cdr=", "body is empty"),
        (b"\xff\xfe", "no record"),
        (b"hello", "no record"),
        (b"[]", "no record"),
        (b'{"variables":', "is it whole"),
        (b"{}", '"variables"'),
        (b'{"variables":{}}', '"uuid"'),
        (b'{"variables":{"uuid":{}}}', "uuid must be text"),
        (b"<cdr>", "is it whole"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><cdr/>', "entities"),
        (b'{"variables":{"uuid":"u","cc_queue":"q","cc_queue_joined_epoch":"yesterday"}}', "cc_queue_joined_epoch must be epoch"),
    ],
)
def test_a_record_that_cannot_be_read_says_why(body: bytes, mend: str) -> None:
    with pytest.raises(Malformed, match=mend):
        freeswitch.interpret_cdr(freeswitch.read_cdr(body))


@given(st.sampled_from([as_json, as_form, as_base64, as_xml]), st.data())
def test_a_damaged_record_is_read_or_malformed(write: Callable[[dict[str, Any]], bytes], data: st.DataObject) -> None:
    raw = write(calls()[1].record())
    at, until = sorted(data.draw(st.tuples(st.integers(0, len(raw)), st.integers(0, len(raw)))))
    try:
        told = freeswitch.interpret_cdr(freeswitch.read_cdr(raw[:at] + data.draw(st.binary(max_size=8)) + raw[until:]), 1.0)
    except Malformed:
        return
    assert isinstance(told, Ignored) or all(Observation.from_dict(one.to_dict()) == one for one in told)


def test_the_samples_encode_as_freeswitch_does() -> None:
    assert url_encode('a b@c"%41%zz') == "a%20b%40c%22%41%25zz"
    assert url_encode("%41", twice=True) == "%2541"
