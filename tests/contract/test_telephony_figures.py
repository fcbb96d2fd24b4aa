"""What a real PBX told, through every door, alone and together, in disorder, twice and with gaps: the figures are the truth's."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest

from services.gateway.domain.legs import Leg
from tests.contract.telephony import (
    Told,
    agents,
    ami_told,
    dialplan_told,
    doubts,
    kept,
    post,
    post_all,
    queue_log_told,
    queue_report,
    queues,
    raw_ami,
    true_agents,
    true_queues,
)
from tests.system import System
from tests.unit.gateway import telephony_samples as samples

LOG = "\n".join(samples.queue_log_lines())
AMI = "\n".join(line.decode() for line in samples.ami_lines("ami_with_timestamps"))
KNOWN_TO_THE_DIALPLAN = ("offered", "answered", "abandoned")
STILL_WAITING = {"1795296384.618": ("waiting", False)}
"""Run1 ends with one caller waiting. Nobody contradicts that, but the PBX has told nothing since."""
ENDS = {"completed", "transferred", "abandoned", "left", "hung_up", "redirected"}


def known_to_ami(run: str = "run1") -> dict[str, dict[str, float]]:
    truth = true_queues(run)
    if run == "run1":
        truth["support-phone"]["ring_no_answer"] -= 1  # it rang after the capture had ended
    return truth


# ---- queue_log


def test_the_queue_log_gives_exactly_the_true_figures_and_again_changes_nothing(system: System, name: str) -> None:
    lines = len(samples.queue_log_lines())
    assert post(system, name, "queue-log", LOG).ok() == {
        "accepted": lines,
        "duplicate": 0,
        "ignored": 0,
        "rejected": [],
        "rejected_total": 0,
    }
    system.settle()
    assert queues(system, name) == true_queues()
    assert agents(system, name) == true_agents()
    assert doubts(system, name) == STILL_WAITING

    before = system.get("/v1/reports/queues", source=name).json
    assert post(system, name, "queue-log", LOG).ok() == {
        "accepted": 0,
        "duplicate": lines,
        "ignored": 0,
        "rejected": [],
        "rejected_total": 0,
    }
    system.settle()
    assert system.get("/v1/reports/queues", source=name).json == before
    assert agents(system, name) == true_agents()


def test_lines_may_come_one_by_one_in_many_posts_and_several_at_a_time(system: System, name: str) -> None:
    post_all(system, name, queue_log_told(), seconds=0.5)
    system.settle()
    assert queues(system, name) == true_queues()
    assert agents(system, name) == true_agents()


def test_a_figure_seen_while_the_run_is_half_told_never_exceeds_what_was_told(system: System, name: str) -> None:
    lines = samples.queue_log_lines()
    post(system, name, "queue-log", "\n".join(lines[: len(lines) // 2])).ok()
    system.settle()
    half = queues(system, name)
    for queue, row in half.items():
        assert row["offered"] == sum(row[x] for x in ("answered", "abandoned", "timed_out", "left_by_key", "waiting")), queue
    post(system, name, "queue-log", "\n".join(lines[len(lines) // 2 :])).ok()
    system.settle()
    assert queues(system, name) == true_queues()


def test_the_same_log_of_another_source_is_another_centre(system: System, name: str) -> None:
    for source in (f"{name}_a", f"{name}_b"):
        assert post(system, source, "queue-log", LOG).ok()["duplicate"] == 0
    system.settle()
    assert queues(system, f"{name}_a") == queues(system, f"{name}_b") == true_queues()


def test_malformed_lines_are_rejected_with_line_and_reason_kept_and_disturb_no_other(system: System, name: str) -> None:
    good = samples.queue_log_lines()
    bad = {
        3: b"half a line",
        5: b"notatime|1.1|sales|NONE|ENTERQUEUE||1|1",
        7: b"1795296258|1.2|sales|NONE|ENTERQUEUE|",
        9: b"1795296258|NONE|sales|Dave|CONNECT|1|x|0",
        11: b"1795296258|\xff\xfe|sales|NONE|ENTERQUEUE||1|1",
    }
    lines = [line.encode() for line in good]
    for number, line in bad.items():
        lines.insert(number - 1, line)
    receipt = post(system, name, "queue-log", b"\n".join(lines)).ok()
    assert receipt["accepted"] == len(good)
    assert [one["line"] for one in receipt["rejected"]] == list(bad)
    assert all(len(one["reason"]) > 10 for one in receipt["rejected"])
    assert [(door, text) for door, text, _ in kept(system, name)] == [
        ("queue-log", line.decode("utf-8", "backslashreplace")) for line in bad.values()
    ]
    system.settle()
    assert queues(system, name) == true_queues()


def test_a_post_of_nothing_readable_is_a_400_that_names_the_reason_and_is_kept(system: System, name: str) -> None:
    told = post(system, name, "queue-log", "this is no queue_log").problem(400)
    assert "epoch|callid|queue|agent|EVENT" in told["detail"]
    assert told["rejected"][0]["line"] == 1
    assert [text for _, text, _ in kept(system, name)] == ["this is no queue_log"]


def test_unknown_event_names_and_empty_lines_are_ignored(system: System, name: str) -> None:
    text = LOG + "\n\n1795296258|1.1|sales|NONE|SOMETHINGNEW|a|b\r\n1795296259|NONE|NONE|NONE|CONFIGRELOAD|\r\n\r\n"
    receipt = post(system, name, "queue-log", text).ok()
    assert (receipt["ignored"], receipt["rejected"]) == (2, [])
    system.settle()
    assert queues(system, name) == true_queues()


def test_windows_line_ends_are_the_same_lines(system: System, name: str) -> None:
    post(system, name, "queue-log", LOG.replace("\n", "\r\n")).ok()
    assert post(system, name, "queue-log", LOG).ok()["accepted"] == 0


# ---- AMI


def test_ami_as_json_lines_gives_the_figures_that_ami_knows(system: System, name: str) -> None:
    receipt = post(system, name, "ami", AMI, "application/x-ndjson").ok()
    assert receipt["rejected"] == []
    assert receipt["accepted"] + receipt["duplicate"] + receipt["ignored"] == len(ami_told())
    system.settle()
    assert queues(system, name) == known_to_ami()
    assert doubts(system, name) == STILL_WAITING


def test_ami_as_raw_bytes_gives_the_same_and_both_together_are_one(system: System, name: str) -> None:
    post(system, name, "ami", raw_ami(), "application/octet-stream").ok()
    system.settle()
    assert queues(system, name) == known_to_ami()
    assert post(system, name, "ami", raw_ami(), "application/octet-stream").ok()["accepted"] == 0
    without_timestamp = sum(b'"Timestamp"' not in line for line in samples.ami_lines("ami_with_timestamps"))
    assert post(system, name, "ami", AMI, "application/x-ndjson").ok()["accepted"] <= without_timestamp, (
        "known by the time of receipt alone"
    )
    system.settle()
    assert queues(system, name) == known_to_ami()


def test_the_first_bytes_of_a_real_session_are_understood(system: System, name: str) -> None:
    told = samples.raw_ami()
    whole = told[: told.rindex(b"\r\n\r\n") + 4]
    receipt = post(system, name, "ami", whole, "application/octet-stream").ok()
    assert receipt["accepted"] > 0
    assert receipt["rejected"] == []


def test_ami_bytes_cut_in_a_message_are_taken_up_to_there_and_the_rest_is_asked_for(system: System, name: str) -> None:
    whole = raw_ami()
    cut = whole.index(b"\r\n\r\n", len(whole) // 2) + 30
    first = post(system, name, "ami", whole[:cut], "application/octet-stream").ok()
    assert "not complete" in first["rejected"][0]["reason"]
    again = whole[whole.rindex(b"\r\n\r\n", 0, cut) + 4 :]
    assert post(system, name, "ami", again, "application/octet-stream").ok()["rejected"] == []
    system.settle()
    assert queues(system, name) == known_to_ami()


def test_bare_messages_without_a_time_of_receipt_are_dated_by_their_neighbours(system: System, name: str) -> None:
    bare = b"\n".join(json.dumps(json.loads(line)["ami"]).encode() for line in samples.ami_lines("ami_with_timestamps"))
    post(system, name, "ami", bare, "application/x-ndjson").ok()
    system.settle()
    assert queues(system, name) == known_to_ami(), "a FullyBooted of long ago is no restart of today"


def test_ami_without_timestamps_is_exact_too(system: System, name: str) -> None:
    post_all(system, name, ami_told("ami_without_timestamps"), seconds=5)
    system.settle()
    assert queues(system, name) == true_queues("run2")
    assert agents(system, name) == true_agents("run2")


def test_an_ami_line_that_is_no_object_is_rejected_by_its_number(system: System, name: str) -> None:
    text = AMI.replace("\n", "\n[1, 2]\n{broken\n", 1)
    receipt = post(system, name, "ami", text, "application/x-ndjson").ok()
    assert [one["line"] for one in receipt["rejected"]] == [2, 3]
    assert len(kept(system, name)) == 2
    system.settle()
    assert queues(system, name) == known_to_ami()


# ---- dialplan


def test_the_dialplans_posts_give_the_figures_that_the_dialplan_knows(system: System, name: str) -> None:
    answers = post_all(system, name, dialplan_told())
    refused = [(told.text, answer) for told, answer in zip(dialplan_told(), answers, strict=True) if told.means is None]
    assert {answer.status for told, answer in zip(dialplan_told(), answers, strict=True) if told.means} == {200}
    for _, answer in refused:
        assert "not JSON" in answer.problem(400)["detail"]
    assert sorted(text for _, text, _ in kept(system, name)) == sorted(text for text, _ in refused)
    assert len(refused) == 16, "17 are not JSON by the letter; one holds no more than a tab in a name, which is no reason to lose a call"
    system.settle()
    found, truth = queues(system, name), true_queues()
    assert {q: {n: row[n] for n in KNOWN_TO_THE_DIALPLAN} for q, row in found.items()} == {
        q: {n: row[n] for n in KNOWN_TO_THE_DIALPLAN} for q, row in truth.items()
    }
    assert all(row["ring_no_answer"] is None for row in queue_report(system, name).values()), "the dialplan knows of no ring"


@pytest.mark.parametrize(
    ("kind", "body", "says"),
    [
        ("application/json", '{\\"event\\":\\"call.arrived\\"\\,\\"queue\\":\\"sales\\"}', "plain"),
        ("application/json", '{"event":"call.arrived","queue":"sales","callid":"1.1","name":"a "quoted" name"}', '"name"'),
        ("application/json", '{"event":"call.arrived","queue":"sales","callid":"1.1","name":"back\\slash"}', "URIENCODE"),
        ("application/json", '["call.arrived"]', "object"),
        ("application/json", '{"event":"call.danced"}', "call.arrived, call.answered, call.hangup"),
        ("application/json", '{"event":"call.arrived","queue":"sales"}', '"callid"'),
        ("application/json", '{"event":"call.arrived","queue":"sales","callid":"1.1","at":1795296258000}', "milliseconds"),
        ("application/x-www-form-urlencoded", "event=call.arrived&queue=sales", '"callid"'),
        ("application/x-www-form-urlencoded", "event=call.arrived&queue=sales&callid=1.1&name=%ff", "UTF-8"),
        ("application/x-www-form-urlencoded", "hello", "call.arrived"),
        ("", "", "call.arrived"),
    ],
)
def test_a_post_that_cannot_be_read_is_answered_with_what_to_mend_and_kept(
    system: System, name: str, kind: str, body: str, says: str
) -> None:
    told = post(system, name, "dialplan", body, kind).problem(400)
    assert says in told["detail"]
    assert [text for _, text, _ in kept(system, name)] == [body]


def test_json_and_form_say_the_same(system: System, name: str) -> None:
    form = "event=call.arrived&queue=vip&callid=1.7&linkedid=1.6&caller=%2B852&name=O%27Brien+%22x%22&at=1795296258"
    first = post(system, name, "dialplan", form, "application/x-www-form-urlencoded").ok()
    told = (
        '{"event":"call.arrived","queue":"vip","callid":"1.7","linkedid":"1.6","caller":"+852","name":"O\'Brien \\"x\\"","at":1795296258}'
    )
    again = post(system, name, "dialplan", told, "application/json").ok()
    assert (first["accepted"], again["accepted"], again["duplicate"]) == (1, 0, 1)
    assert first["contact"] == again["contact"]


# ---- together, in disorder, twice, with gaps

EVERYTHING = (*queue_log_told(), *ami_told(), *dialplan_told())


def shuffled(told: tuple[Told, ...], seed: int, times: int = 1) -> list[Told]:
    """As it happened, but each thing told up to 2 s late."""
    chance = random.Random(seed)
    late = [one._replace(at=one.at + chance.uniform(0, 2)) for one in told * times]
    return sorted(late, key=lambda one: one.at)


def test_one_call_told_by_all_three_is_one_contact(system: System, name: str) -> None:
    post_all(system, name, shuffled(EVERYTHING, 1))
    system.settle()
    assert queues(system, name) == true_queues()
    assert agents(system, name) == true_agents()
    assert doubts(system, name) == STILL_WAITING
    arrivals = [one.means for one in dialplan_told() if one.means and one.means.kind == "arrived"][:20]
    for told in arrivals:
        found = [system.get(f"/v1/contacts/{name}:{id}").ok() for id in (told.call, told.linked)]
        assert found[0] == found[1]
        assert found[0]["legs"][0]["call"] == told.call


@pytest.mark.parametrize("door", ["queue-log", "ami", "dialplan"])
def test_each_alone_shuffled_and_doubled_gives_the_same_figures(system: System, name: str, door: str) -> None:
    post_all(system, name, shuffled(tuple(one for one in EVERYTHING if one.door == door), 2, times=2), seconds=3)
    system.settle()
    found = queues(system, name)
    if door == "dialplan":
        known = [{q: {n: row[n] for n in KNOWN_TO_THE_DIALPLAN} for q, row in rows.items()} for rows in (found, true_queues())]
        assert known[0] == known[1]
    else:
        assert found == (true_queues() if door == "queue-log" else known_to_ami())


def test_all_three_shuffled_and_doubled_give_the_same_figures(system: System, name: str) -> None:
    post_all(system, name, shuffled(EVERYTHING, 3, times=2), seconds=3)
    system.settle()
    assert queues(system, name) == true_queues()
    assert agents(system, name) == true_agents()


TRUE_LEGS: dict[str, list[Leg]] = {}
for _leg in samples.legs_of(samples.by_queue_log()):
    TRUE_LEGS.setdefault(_leg.call or "", []).append(_leg)
ENDED = sorted(TRUE_LEGS.keys() - STILL_WAITING.keys())


@pytest.mark.parametrize(
    ("doors", "seed"), [(("queue-log",), 1), (("queue-log",), 2), (("ami",), 3), (("queue-log", "ami", "dialplan"), 4)], ids=str
)
def test_where_ends_are_missing_exactly_those_calls_are_uncertain(system: System, name: str, doors: tuple[str, ...], seed: int) -> None:
    calls = set(random.Random(seed).sample(ENDED, len(ENDED) // 20 + 1))
    gap = tuple(one for one in EVERYTHING if one.door in doors and not _is_end(one, calls))
    post_all(system, name, shuffled(gap, seed), seconds=3)
    system.settle()
    listed = doubts(system, name)
    assert listed.keys() == calls | STILL_WAITING.keys()
    contradicted = [call for call, (_, over) in listed.items() if over]
    assert len(contradicted) >= len(calls) // 2, "only a call near the end of the run can be open by all that others tell"

    truth = true_queues() if "queue-log" in doors else known_to_ami()
    for queue, row in queues(system, name).items():
        lost = [leg for call in calls for leg in TRUE_LEGS[call] if leg.queue == queue and leg == TRUE_LEGS[call][-1]]
        believed = [listed[leg.call or ""][0] for leg in lost if not listed[leg.call or ""][1]]
        assert row == _without_ends(truth[queue], lost, believed), (queue, lost)


def _is_end(told: Told, calls: set[str]) -> bool:
    return told.means is not None and told.means.call in calls and told.means.kind in ENDS


def _without_ends(row: dict[str, float], lost: list[Leg], believed: list[str]) -> dict[str, float]:
    """The true figures, but for what only the missing ends told: how they ended and how long they talked. `believed` are the states
    of those that may as well be open still."""
    exits, still = Counter(leg.outcome for leg in lost if not leg.answered), Counter(believed)
    less: dict[str, Any] = {**exits, "talk_seconds": sum(leg.talk_seconds or 0 for leg in lost)}
    return {figure: value - less.get(figure, 0) + still[figure] for figure, value in row.items()}


def test_an_end_that_comes_late_after_all_settles_the_doubt(system: System, name: str) -> None:
    calls = set(ENDED[10:60:10])
    gap = [one for one in queue_log_told() if not _is_end(one, calls)]
    post_all(system, name, gap, seconds=30)
    system.settle()
    assert doubts(system, name).keys() == calls | STILL_WAITING.keys()
    post_all(system, name, [one for one in queue_log_told() if _is_end(one, calls)], seconds=30)
    system.settle()
    assert queues(system, name) == true_queues()
    assert doubts(system, name) == STILL_WAITING


def test_the_clock_of_another_reporter_may_be_off_a_little(system: System, name: str) -> None:
    """The dialplan and AMI of one PBX share its clock; posts made by a relay that stamps on receipt are up to 2 s late."""
    late = [
        one._replace(text=one.text.replace(f'"at":{int(one.means.at)}', f'"at":{int(one.means.at) + 1}'))
        if one.means and one.means.at and f'"at":{int(one.means.at)}' in one.text
        else one
        for one in dialplan_told()
    ]
    post_all(system, name, [*queue_log_told(), *late], seconds=30)
    system.settle()
    assert queues(system, name) == true_queues()
