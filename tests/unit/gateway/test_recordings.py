"""Recordings: from what telephony systems tell to what is announced, shown, given out and kept silent."""

from __future__ import annotations

import itertools
import os
import random
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway import handlers, media, recordings, store, twilio_api
from services.gateway.domain import freeswitch
from services.gateway.domain.observation import Observation
from services.gateway.domain.recordings import consent_of, fold, format_of
from shared.errors import RangeNotSatisfiable
from shared.targets import read_allowance
from tests.unit.conftest import MakeUnits, SetClock
from tests.unit.gateway.door import Answer, Doors

NOW = 1795296300.0
CALL, FILE = "1795296258.5", "2026/11/21/in-1.wav"
SPOOL = "/var/spool/asterisk/monitor"
ENTERED = f"1795296258|{CALL}|sales|NONE|ENTERQUEUE||+85267786396|1"
CONNECTED = f"1795296261|{CALL}|sales|Alice Wong|CONNECT|2|1795296259.8|1"
ENDED = f"1795296266|{CALL}|sales|Alice Wong|COMPLETECALLER|2|5|1"
NAMED = {
    "Event": "VarSet",
    "Variable": "MIXMONITOR_FILENAME",
    "Value": f"{SPOOL}/{FILE}",
    "Uniqueid": CALL,
    "Linkedid": CALL,
    "Timestamp": "1795296261.5",
}
STOPPED = {"Event": "MixMonitorStop", "Uniqueid": CALL, "Linkedid": CALL, "Timestamp": "1795296265.5"}
HUNG_UP = {"Event": "Hangup", "Uniqueid": CALL, "Linkedid": CALL, "Timestamp": "1795296266.25"}


@pytest.fixture
def doors(make_units: MakeUnits, at: SetClock) -> Doors:
    at.seconds = NOW
    return Doors(make_units(store.metadata))


def tell(doors: Doors, *told: str | dict[str, str], source: str = "pbx") -> None:
    for one in told:
        door = "queue-log" if isinstance(one, str) else "ami"
        answer = doors("POST", f"/v1/telephony/asterisk/{door}?source={source}", one, key="telephony", kind="text/plain")
        assert (answer.status, answer.json["rejected"]) == (200, []), answer


def shown(doors: Doors, contact: str = f"pbx:{CALL}") -> dict[str, Any]:
    doors.announced()
    answer = doors("GET", f"/v1/contacts/{contact}/recordings", key="supervisor")
    assert answer.status == 200, answer
    return answer.json  # type: ignore[no-any-return]


def available(doors: Doors) -> list[dict[str, Any]]:
    return [event for event in doors.announced() if event["type"] == "gateway.recording_available.v1"]


# ---- what is told becomes recordings


def test_a_recording_of_asterisk_belongs_to_its_call(doors: Doors) -> None:
    tell(doors, ENTERED, CONNECTED, NAMED)
    (one,) = shown(doors)["items"]
    assert (one["state"], one["format"], one["ended_at"], available(doors)) == ("recording", "wav", None, [])
    tell(doors, STOPPED, ENDED)
    (one,) = shown(doors)["items"]
    assert (one["state"], one["seconds"], one["consent"], one["media"]) == (
        "available",
        4.0,
        "unknown",
        f"/v1/recordings/{one['id']}/media",
    )
    (event,) = available(doors)
    assert event["subject"] == one["id"]
    assert {name: event["data"][name] for name in ("source", "queue", "agent", "seconds")} == {
        "source": "pbx", "queue": "sales", "agent": "Alice Wong", "seconds": 4.0,
    }  # fmt: skip
    assert SPOOL not in str(event), "names of files hold numbers"
    assert SPOOL not in str(one)


def test_without_a_stop_the_end_of_the_channel_is_that_of_the_recording(doors: Doors) -> None:
    tell(doors, ENTERED, CONNECTED, NAMED, ENDED, HUNG_UP)
    assert shown(doors)["items"][0]["seconds"] == 4.75
    tell(doors, STOPPED)
    assert shown(doors)["items"][0]["seconds"] == 4.0, "the stop is more exact, and comes late"
    assert [event["sequence"] for event in available(doors)] == [1, 2]


def test_without_a_hang_up_the_end_of_the_contact_will_do(doors: Doors) -> None:
    tell(doors, ENTERED, CONNECTED, NAMED, ENDED)
    assert shown(doors)["items"][0]["seconds"] == 4.5


def test_the_order_in_which_it_is_told_changes_nothing(doors: Doors) -> None:
    orders = list(itertools.permutations([ENTERED, CONNECTED, ENDED, NAMED, STOPPED, HUNG_UP]))
    seen = set()
    for number, told in enumerate(random.Random(7).sample(orders, 12)):
        for one in told:
            tell(doors, one, *([one] if number % 2 else []), source=f"pbx{number}")
            if number % 3:
                doors.announced()
        (item,) = shown(doors, f"pbx{number}:{CALL}")["items"]
        seen.add((item["started_at"], item["ended_at"], item["seconds"], item["state"]))
        assert [event["data"]["source"] for event in available(doors)].count(f"pbx{number}") >= 1, told
    assert len(seen) == 1, seen


def test_a_recording_of_a_call_in_no_queue_waits_and_is_forgotten(doors: Doors) -> None:
    tell(doors, NAMED, STOPPED)
    assert available(doors) == []
    assert len(doors.kept(recordings.recorded_call)) == 1
    handlers.prune(doors.units, NOW + 1)
    assert doors.kept(recordings.recorded_call) == []


@pytest.mark.parametrize("recorded", [CALL, "1795296258.9"])
def test_when_two_contacts_turn_out_to_be_one_the_recording_follows(doors: Doors, recorded: str) -> None:
    other = "1795296258.9"
    tell(doors, ENTERED)
    doors.announced()
    tell(doors, ENTERED.replace(CALL, other), {**NAMED, "Uniqueid": recorded, "Linkedid": recorded})
    assert [len(shown(doors, f"pbx:{call}")["items"]) for call in (CALL, other)] == [int(recorded == call) for call in (CALL, other)]
    tell(doors, {"Event": "QueueCallerJoin", "Queue": "sales", "Uniqueid": other, "Linkedid": CALL, "Timestamp": "1795296259.0"})
    (one,), (same,) = shown(doors)["items"], shown(doors, f"pbx:{other}")["items"]
    assert one == same
    tell(doors, {**STOPPED, "Uniqueid": recorded, "Linkedid": recorded})
    assert shown(doors)["items"][0]["state"] == "available"
    assert available(doors)[0]["data"]["contact"] == shown(doors)["items"][0]["contact"]


def test_a_transfer_keeps_both_recordings(doors: Doors) -> None:
    second = {**NAMED, "Value": f"{SPOOL}/second.wav", "Timestamp": "1795296268.0"}
    tell(doors, ENTERED, CONNECTED, NAMED, STOPPED, ENDED, second, {**STOPPED, "Timestamp": "1795296270.0"})
    assert [one["seconds"] for one in shown(doors)["items"]] == [4.0, 2.0]


def test_the_dialplan_tells_where_and_whether_the_customer_agrees(doors: Doors) -> None:
    def post(**fields: Any) -> Answer:
        return doors("POST", "/v1/telephony/asterisk/dialplan?source=pbx", fields, key="telephony")

    post(event="call.arrived", callid=CALL, queue="sales", at=1795296258, consent="granted")
    post(
        event="call.answered",
        callid=CALL,
        queue="sales",
        agent="PJSIP/1",
        member_uniqueid="m.1",
        at=1795296261,
        recording=f"{SPOOL}/{FILE}",
    )
    assert shown(doors)["items"][0]["state"] == "recording"
    post(event="call.hangup", callid=CALL, at=1795296266, recording=f"{SPOOL}/{FILE}")
    (one,) = shown(doors)["items"]
    assert (one["state"], one["seconds"], one["consent"]) == ("available", 5.0, "granted")
    wrong = post(event="call.hangup", callid="2.2", consent="perhaps")
    assert (wrong.status, "granted or refused" in wrong.json["detail"]) == (400, True)


def test_ari_tells_name_length_and_failure(doors: Doors) -> None:
    tell(doors, ENTERED, CONNECTED)

    def event(kind: str, at: str, **recording: Any) -> dict[str, Any]:
        told = {"name": "desk/7", "format": "wav", "target_uri": f"channel:{CALL}", **recording}
        return {"type": kind, "timestamp": f"2026-11-21T21:24:{at}+0000", "recording": told}

    def post(told: dict[str, Any]) -> None:
        assert doors("POST", "/v1/telephony/asterisk/ari?source=pbx", told, key="telephony").json["rejected"] == []

    post(event("RecordingStarted", "21.000"))
    post(event("RecordingFinished", "25.500", duration=4))
    post(event("RecordingFailed", "26.000", name="desk/8", cause="no disk"))
    post(event("RecordingStarted", "21.000", target_uri="bridge:7"))
    assert [(one["state"], one["seconds"]) for one in shown(doors)["items"]] == [("available", 4.0), ("failed", 0.0)]
    assert doors("POST", "/v1/telephony/asterisk/ari?source=pbx", {"type": "RecordingStarted"}, key="telephony").status == 400


def test_freeswitch_tells_by_event_and_by_record(doors: Doors) -> None:
    base = {
        "Event-Name": "CUSTOM",
        "Event-Subclass": "callcenter::info",
        "CC-Queue": "sales",
        "CC-Member-UUID": "m",
        "CC-Member-Session-UUID": "s",
    }
    start = {**base, "CC-Action": "member-queue-start", "Event-Date-Timestamp": "1795296258000000"}
    record = {"Event-Name": "RECORD_START", "Unique-ID": "agent-leg", "variable_cc_member_session_uuid": "s", "Record-File-Path": "/rec/a.mp3",
              "Event-Date-Timestamp": "1795296261000000"}  # fmt: skip
    stop = {**record, "Event-Name": "RECORD_STOP", "variable_record_ms": "4500", "Event-Date-Timestamp": "1795296265500000"}
    for told in (record, start, stop):
        assert doors("POST", "/v1/telephony/freeswitch/callcenter?source=fs", told, key="telephony").json["accepted"] == 1
    (one,) = shown(doors, "fs:s")["items"]
    assert (one["state"], one["seconds"], one["format"]) == ("available", 4.5, "mp3")
    cdr = {
        "variables": {
            "uuid": "s",
            "cc_record_filename": "/rec/b.wav",
            "record_seconds": "7",
            "answer_epoch": "1795296260",
            "end_epoch": "1795296267",
        }
    }
    assert doors("POST", "/v1/telephony/freeswitch/cdr?source=fs", cdr, key="telephony").json["accepted"] == 2
    assert [one["seconds"] for one in shown(doors, "fs:s")["items"]] == [7.0, 4.5]


def test_every_header_of_a_recording_passes_the_bridge() -> None:
    block = b"Event-Name: RECORD_STOP\nUnique-ID: u\nRecord-File-Path: /rec/a%20b.wav\nvariable_record_ms: 1200\nOther-Leg-Unique-ID: s\n"
    told = freeswitch.interpret(freeswitch.event(block), NOW)
    assert isinstance(told, Observation)
    assert (told.call, told.linked, told.recording, told.recorded_seconds) == ("u", "s", "/rec/a b.wav", 1.2)


RECORDED = {
    "CallSid": "CA1", "RecordingSid": "RE1", "RecordingUrl": "https://api.twilio.com/2010-04-01/Accounts/AC1/Recordings/RE1",
    "RecordingStatus": "completed", "RecordingDuration": "6", "RecordingStartTime": "Sat, 21 Nov 2026 21:24:21 +0000",
}  # fmt: skip


def twilio(doors: Doors, door: str, fields: dict[str, str], **query: str) -> Answer:
    query_text = urlencode({"source": "cloud", **query})
    return doors("POST", f"/v1/telephony/twilio/{door}?{query_text}", urlencode(fields), "telephony", "application/x-www-form-urlencoded")


@pytest.mark.parametrize("door", ["recording", "voice"])
def test_twilio_tells_of_a_recording_before_or_after_the_call(doors: Doors, door: str) -> None:
    assert twilio(doors, door, RECORDED).status == 204
    arrived = {"CallSid": "CA1", "CallStatus": "ringing", "Direction": "inbound", "Timestamp": "Sat, 21 Nov 2026 21:24:18 +0000"}
    assert twilio(doors, "voice", arrived, queue="sales").status == 204
    assert twilio(doors, door, RECORDED).status == 204, "again"
    (one,) = shown(doors, "cloud:CA1")["items"]
    assert (one["state"], one["seconds"], one["started_at"], one["format"]) == ("available", 6.0, "2026-11-21T21:24:21.000Z", "wav")
    assert len(available(doors)) == 1


def test_a_status_callback_of_a_recorded_call_tells_of_both(doors: Doors) -> None:
    arrived = {"CallSid": "CA1", "CallStatus": "ringing", "Direction": "inbound"}
    ended = {
        "CallSid": "CA1",
        "CallStatus": "completed",
        **{name: RECORDED[name] for name in ("RecordingSid", "RecordingUrl", "RecordingDuration")},
    }
    twilio(doors, "voice", arrived, queue="sales")
    twilio(doors, "voice", ended)
    assert shown(doors, "cloud:CA1")["items"][0]["seconds"] == 6.0
    assert doors.legs()[0]["outcome"] == "abandoned"


@pytest.mark.parametrize(
    "address", ["https://user:secret@api.twilio.com/x", "ftp://api.twilio.com/x", "nonsense", "https://a/" + "x" * 1000]
)
def test_an_address_that_is_none_is_refused_and_not_repeated(doors: Doors, address: str) -> None:
    answer = twilio(doors, "recording", {**RECORDED, "RecordingUrl": address})
    assert (answer.status, "secret" in str(answer.json)) == (400, False)


def test_what_a_system_tells_of_silence_is_shown(doors: Doors) -> None:
    mute = {"Event": "MixMonitorMute", "Uniqueid": CALL, "Direction": "both", "State": "1", "Timestamp": "1795296262.5"}
    tell(doors, ENTERED, CONNECTED, {**mute, "State": "0", "Timestamp": "1795296264.0"}, NAMED, mute, STOPPED)
    (one,) = shown(doors)["items"]
    assert one["muted"] == [{"from": "2026-11-21T21:24:22.500Z", "to": "2026-11-21T21:24:24.000Z"}]


@given(st.permutations(range(6)), st.lists(st.integers(0, 5), max_size=3))
def test_the_fold_is_a_function_of_the_set(order: list[int], again: list[int]) -> None:
    def one(kind: Any, at: float, **more: Any) -> Observation:
        return Observation("ami", kind, f"{kind}{at}", at, call="c", **more)

    told = [one("recorded", 1.0, recording="a.wav"), one("recorded", 5.0, recording="b.wav"), one("record_stopped", 4.0),
            one("record_muted", 2.0, reason="on"), one("record_muted", 3.0, reason="off"), one("record_stopped", 9.0, recording="b.wav")]  # fmt: skip
    assert fold([told[place] for place in (*order, *again)], {"c": 10.0}) == fold(told, {"c": 10.0})


def test_of_consent_the_last_word_counts_and_of_two_at_once_the_refusal() -> None:
    def said(what: str, at: float) -> Observation:
        return Observation("api", "consent", f"{what}{at}", at, call="c", reason=what)

    assert consent_of([]) == "unknown"
    assert consent_of([said("refused", 1), said("granted", 2)]) == "granted"
    assert consent_of([said("granted", 2), said("refused", 2)]) == "refused"


def test_only_sound_has_a_format() -> None:
    assert [format_of(one) for one in ("a.WAV", "/x/y.gsm", "https://t/RE1", "https://t/RE1.mp3?x=.wav")] == ["wav", "gsm", "wav", "mp3"]
    assert [format_of(one) for one in ("secret-key", "/etc/passwd", "admin.key", ".wav/x", "https://t/a.html")] == [""] * 5


# ---- hearing


@pytest.fixture
def heard(doors: Doors, tmp_path: Path) -> tuple[Doors, str, Path]:
    root = tmp_path / "recordings"
    file = root / FILE
    file.parent.mkdir(parents=True)
    file.write_bytes(bytes(range(250)) * 1000)
    settings = {"kind": "asterisk", "recordings_root": str(root), "recordings_prefix": SPOOL}
    assert doors("PUT", "/v1/sources/pbx", settings, key="admin").status == 200
    tell(doors, ENTERED, CONNECTED, NAMED, STOPPED, ENDED)
    return doors, shown(doors)["items"][0]["id"], root


def sound(doors: Doors, id: str, key: str = "evaluator", method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    return doors.raw(method, f"/v1/recordings/{id}/media", key=key, **headers)


def test_a_recording_is_heard_whole_and_in_parts(heard: tuple[Doors, str, Path]) -> None:
    doors, id, root = heard
    whole = (root / FILE).read_bytes()
    status, headers, body = sound(doors, id)
    assert (status, headers["Content-Type"], headers["Content-Length"], body == whole) == (200, "audio/wav", "250000", True)
    for wanted, first, last in (
        ("bytes=0-9", 0, 9),
        ("bytes=249990-", 249990, 249999),
        ("bytes=-5", 249995, 249999),
        ("bytes=100000-999999", 100000, 249999),
    ):
        status, headers, body = sound(doors, id, HTTP_RANGE=wanted)
        assert (status, headers["Content-Range"]) == (206, f"bytes {first}-{last}/250000")
        assert body == whole[first : last + 1]
        assert headers["Content-Length"] == str(len(body))
    status, headers, _ = sound(doors, id, HTTP_RANGE="bytes=250000-")
    assert (status, headers["Content-Range"]) == (416, "bytes */250000")
    status, headers, body = sound(doors, id, method="HEAD")
    assert (status, headers["Content-Length"], body) == (200, "250000", b"")


@given(st.integers(1, 50), st.integers(0, 60), st.integers(0, 60))
def test_a_range_is_within_the_sound_or_refused(size: int, first: int, last: int) -> None:
    try:
        span = media.span_of(f"bytes={first}-{last}", size)
    except RangeNotSatisfiable:
        assert first >= size
        return
    assert span is None if last < first else span == (first, min(last, size - 1))


def test_who_hears_it_is_written_down_before(heard: tuple[Doors, str, Path]) -> None:
    doors, id, root = heard
    sound(doors, id)
    sound(doors, id, key="supervisor", HTTP_RANGE="bytes=10-19")
    sound(doors, id, key="agent")
    sound(doors, id, method="HEAD")
    (root / FILE).unlink()
    assert sound(doors, id)[0] == 404
    told = doors("GET", f"/v1/recordings/{id}/accesses", key="supervisor").json
    assert [(one["by"], one["first"], one["last"], one["size"]) for one in told["items"]] == [
        ("supervisor", 10, 19, 250000),
        ("evaluator", 0, 249999, 250000),
    ]
    first = doors("GET", f"/v1/recordings/{id}/accesses?limit=1", key="supervisor").json
    then = doors("GET", f"/v1/recordings/{id}/accesses?limit=1&cursor={first['next']}", key="supervisor").json
    assert [*first["items"], *then["items"]] == told["items"]
    assert then["next"] is None


def test_roles(heard: tuple[Doors, str, Path]) -> None:
    doors, id, _ = heard
    assert [sound(doors, id, key=key)[0] for key in ("", "telephony", "agent", "evaluator", "supervisor", "admin")] == [
        401,
        403,
        403,
        200,
        200,
        200,
    ]
    assert sound(doors, "01a20084-8aa9-78ba-9740-3b5b66c90165")[0] == sound(doors, "x")[0] == 404


def test_consent_is_obeyed(heard: tuple[Doors, str, Path]) -> None:
    doors, id, root = heard

    def say(consent: str) -> None:
        assert doors("PUT", f"/v1/contacts/pbx:{CALL}/recording/consent", {"consent": consent}, key="agent").status == 202
        doors.announced()

    say("refused")
    status, _, body = sound(doors, id)
    assert (status, b"the customer refused" in body) == (403, True)
    say("granted")
    assert sound(doors, id)[0] == 403, "at one moment the refusal counts"
    assert available(doors)[-1]["data"]["consent"] == "refused"
    settings = {"recordings_root": str(root), "recordings_prefix": SPOOL, "recordings_need_consent": True}
    doors("PUT", "/v1/sources/strict", settings, key="admin")
    tell(doors, ENTERED, CONNECTED, NAMED, STOPPED, ENDED, source="strict")
    other = shown(doors, f"strict:{CALL}")["items"][0]["id"]
    status, _, body = sound(doors, other)
    assert (status, b"nobody has said" in body) == (403, True)


def test_after_its_days_it_is_expired(heard: tuple[Doors, str, Path], at: SetClock) -> None:
    doors, id, root = heard
    settings = {"recordings_root": str(root), "recordings_prefix": SPOOL, "recordings_days": 30}
    doors("PUT", "/v1/sources/pbx", settings, key="admin")
    assert sound(doors, id)[0] == 200
    at.forward(31 * 86400)
    assert shown(doors)["items"][0]["state"] == "expired"
    assert sound(doors, id)[0] == 410


def test_what_is_not_over_is_not_heard(doors: Doors, tmp_path: Path) -> None:
    doors("PUT", "/v1/sources/pbx", {"recordings_root": str(tmp_path)}, key="admin")
    tell(doors, ENTERED, CONNECTED, NAMED)
    assert sound(doors, shown(doors)["items"][0]["id"])[0] == 409


@pytest.mark.parametrize(
    "told",
    [
        f"{SPOOL}/../../outside.wav", "../outside.wav", "a/../../outside.wav", "/etc/passwd", "/outside.wav", f"{SPOOL}", f"{SPOOL}/", ".",
        f"{SPOOL}/link.wav", f"{SPOOL}/folder/outside.wav", f"{SPOOL}/pipe.wav", f"{SPOOL}/2026", f"{SPOOL}x/outside.wav", f"{SPOOL}/secret.key",
        "//outside.wav", f"{SPOOL}/2026/11/21", f"{SPOOL}/no\0thing.wav", f"{SPOOL}/" + "x" * 300 + ".wav",
    ],
)  # fmt: skip
def test_no_way_leads_out_of_the_folder(heard: tuple[Doors, str, Path], told: str) -> None:
    doors, _, root = heard
    (root.parent / "outside.wav").write_bytes(b"secret")
    (root / "secret.key").write_bytes(b"secret")
    (root / "link.wav").symlink_to(root.parent / "outside.wav")
    (root / "folder").symlink_to(root.parent)
    os.mkfifo(root / "pipe.wav")
    call = "7.7"
    tell(doors, ENTERED.replace(CALL, call), {**NAMED, "Uniqueid": call, "Linkedid": call, "Value": told}, {**STOPPED, "Uniqueid": call})
    (one,) = shown(doors, f"pbx:{call}")["items"]
    status, _, body = sound(doors, one["id"])
    assert (status, b"secret" in body) == (404, False)


def test_without_a_folder_named_no_file_is_given(heard: tuple[Doors, str, Path]) -> None:
    doors, id, root = heard
    doors("PUT", "/v1/sources/pbx", {"kind": "asterisk"}, key="admin")
    status, _, body = sound(doors, id)
    assert (status, b"recordings_root" in body, str(root).encode() in body) == (404, True, False)
    for folder in ("relative", "/", "//"):
        assert doors("PUT", "/v1/sources/pbx", {"recordings_root": folder}, key="admin").status == 422


class Flow:
    def __init__(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.status, self.headers = status, {name.replace("_", "-"): value for name, value in headers.items()}
        self.closed = False
        self.pieces = self._pieces(body)

    def _pieces(self, body: bytes) -> Any:
        try:
            yield body
        finally:
            self.closed = True


@pytest.fixture
def cloud(doors: Doors) -> tuple[Doors, str]:
    settings = {"kind": "twilio", "twilio_account": "AC1", "twilio_auth_token": "t0ken"}
    assert doors("PUT", "/v1/sources/cloud", settings, key="admin").status == 200
    twilio(doors, "voice", {"CallSid": "CA1", "CallStatus": "ringing", "Direction": "inbound"}, queue="sales")
    twilio(doors, "recording", RECORDED)
    return doors, shown(doors, "cloud:CA1")["items"][0]["id"]


def fetched(monkeypatch: pytest.MonkeyPatch, *flows: Flow) -> list[tuple[str, dict[str, str]]]:
    asked: list[tuple[str, dict[str, str]]] = []
    answers = iter(flows)

    def fetch(target: Any, headers: Any, _allowance: Any) -> Flow:
        asked.append((f"{target.scheme}://{target.authority}{target.path}", dict(headers)))
        return next(answers)

    monkeypatch.setattr("services.gateway.doors.recordings.outbound.flow", fetch)
    return asked


def test_twilios_is_fetched_with_the_sources_credentials(cloud: tuple[Doors, str], monkeypatch: pytest.MonkeyPatch) -> None:
    doors, id = cloud
    asked = fetched(monkeypatch, Flow(200, b"sound", Content_Length="5"), Flow(206, b"un", Content_Length="2", Content_Range="bytes 2-3/5"))
    status, headers, body = sound(doors, id)
    assert (status, headers["Content-Type"], body) == (200, "audio/wav", b"sound")
    status, headers, body = sound(doors, id, HTTP_RANGE="bytes=2-3")
    assert (status, headers["Content-Range"], body) == (206, "bytes 2-3/5", b"un")
    assert asked == [
        (RECORDED["RecordingUrl"], {"Authorization": "Basic QUMxOnQwa2Vu"}),
        (RECORDED["RecordingUrl"], {"Authorization": "Basic QUMxOnQwa2Vu", "Range": "bytes=2-3"}),
    ]


def test_credentials_go_to_nobody_else(cloud: tuple[Doors, str], monkeypatch: pytest.MonkeyPatch) -> None:
    doors, id = cloud
    moved = Flow(307, Location="https://media.example.com/x")
    asked = fetched(monkeypatch, moved, Flow(200, b"sound", Content_Length="5"))
    assert sound(doors, id)[2] == b"sound"
    assert [("Authorization" in headers) for _, headers in asked] == [True, False]
    for number, address in enumerate(("https://evil.example/Accounts/AC1/x", "https://api.twilio.com/2010-04-01/Accounts/AC2/Recordings/RE9",
                                      "https://api.twilio.com/Accounts/AC1/../AC2/x")):  # fmt: skip
        twilio(doors, "recording", {**RECORDED, "RecordingSid": f"RE9{number}", "RecordingUrl": address})
    doors.announced()
    others = [one["id"] for one in shown(doors, "cloud:CA1")["items"] if one["id"] != id]
    assert [sound(doors, other)[0] for other in others] == [404, 404, 404]
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("flows", "status"),
    [
        ([Flow(404)], 404),
        ([Flow(401)], 503),
        ([Flow(500)], 503),
        ([Flow(416)], 416),
        ([Flow(200, b"x")], 503),
        ([Flow(307, Location="https://10.0.0.1/x")], 503),
        ([Flow(307, Location="http://169.254.169.254/latest")], 503),
        ([Flow(302, Location="https://api.twilio.com/again")] * 5, 503),
    ],
)
def test_what_twilio_says_else(cloud: tuple[Doors, str], monkeypatch: pytest.MonkeyPatch, flows: list[Flow], status: int) -> None:
    doors, id = cloud
    fetched(monkeypatch, *flows)
    answered, _, body = sound(doors, id)
    assert (answered, b"t0ken" in body) == (status, False)


# ---- the pause for card numbers


@pytest.fixture
def talking(doors: Doors) -> Doors:
    tell(doors, ENTERED, CONNECTED, NAMED)
    doors.announced()
    return doors


def press(doors: Doors, what: str, key: str = "agent", contact: str = f"pbx:{CALL}") -> Answer:
    return doors("POST", f"/v1/contacts/{contact}/recording/{what}?wait=0", key=key)


def commands(doors: Doors, source: str = "pbx") -> list[dict[str, Any]]:
    return recordings.commands(doors.units, source)


def test_a_pause_lasts_until_somebody_resumes(talking: Doors, at: SetClock) -> None:
    doors = talking
    at.seconds = 1795296262.0
    paused = press(doors, "pause").json
    assert (paused["paused"], paused["confirmed"], paused["seconds"], paused["by"]) == (True, False, 0.0, "agent")
    at.forward(40)
    assert press(doors, "pause").json["id"] == paused["id"], "asked again, nothing changes"
    told = shown(doors)
    assert (told["paused"], told["pauses"][0]["seconds"], told["pauses"][0]["until"]) == (True, 40.0, None), "it does not end by itself"
    assert told["items"][0]["paused"] == [{"from": "2026-11-21T21:24:22.000Z", "to": None}]
    assert press(doors, "resume", "supervisor").json["paused"] is False
    assert press(doors, "resume").status == 409
    told = shown(doors)
    assert (told["paused"], told["pauses"][0]["seconds"], told["pauses"][0]["resumed_by"]) == (False, 40.0, "supervisor")
    events = [event for event in doors.announced() if "recording_" in event["type"]]
    assert [(event["type"], event["subject"], event["sequence"]) for event in events] == [
        ("gateway.recording_paused.v1", paused["id"], 1), ("gateway.recording_resumed.v1", paused["id"], 2),
    ]  # fmt: skip
    assert events[0]["data"]["agent"] == "Alice Wong"


def test_who_may_pause_and_when(talking: Doors) -> None:
    doors = talking
    assert [press(doors, "pause", key).status for key in ("", "telephony", "evaluator")] == [401, 403, 403]
    tell(doors, ENDED)
    doors.announced()
    assert press(doors, "pause").status == 409
    assert press(doors, "pause", contact="pbx:9.9").status == 404


def test_the_end_of_the_contact_ends_the_pause(talking: Doors, at: SetClock) -> None:
    doors = talking
    at.seconds = 1795296262.0
    press(doors, "pause")
    tell(doors, ENDED)
    told = shown(doors)
    assert (told["paused"], told["pauses"][0]["seconds"], commands(doors)) == (False, 4.0, [])
    assert told["items"][0]["paused"] == [{"from": "2026-11-21T21:24:22.000Z", "to": "2026-11-21T21:24:26.000Z"}]


def test_a_command_is_given_until_it_is_confirmed(talking: Doors) -> None:
    doors = talking
    id = press(doors, "pause").json["id"]
    assert commands(doors) == [
        {"id": id, "action": "pause", "contact": commands(doors)[0]["contact"], "calls": [CALL],
         "recordings": [{"call": CALL, "location": f"{SPOOL}/{FILE}"}]},
    ]  # fmt: skip
    assert commands(doors, "other") == []

    def report(action: str, done: bool, trouble: str = "") -> int:
        body = {"action": action, "done": done, "trouble": trouble}
        return doors("POST", f"/v1/telephony/recording-commands/{id}", body, key="telephony").status

    assert report("pause", False, "no such channel") == 204
    assert [(one["confirmed"], one["trouble"]) for one in shown(doors)["pauses"]] == [(False, "no such channel")]
    assert len(commands(doors)) == 1, "tried again"
    assert report("pause", True) == 204
    assert (shown(doors)["pauses"][0]["confirmed"], commands(doors)) == (True, [])
    press(doors, "resume")
    assert [one["action"] for one in commands(doors)] == ["resume"]
    assert report("pause", True) == 204
    assert len(commands(doors)) == 1, "a late word about the pause does not confirm that it is recorded again"
    assert report("resume", True) == 204
    assert commands(doors) == []
    assert doors("POST", "/v1/telephony/recording-commands/x", {"action": "pause", "done": True}, key="telephony").status == 404
    assert doors("GET", "/v1/telephony/recording-commands?source=pbx", key="agent").status == 403


class Post:
    def __init__(self, *answers: Any) -> None:
        self.answers, self.asked = iter(answers), []

    def __call__(self, target: Any, headers: Any, body: bytes, _allowance: Any) -> Any:
        self.asked.append((f"{target.scheme}://{target.authority}{target.path}", headers["Authorization"], body.decode()))
        answer = next(self.answers)
        if isinstance(answer, Exception):
            raise answer
        return type("Reply", (), {"status": answer})()


def test_twilio_is_asked_by_us(doors: Doors) -> None:
    doors("PUT", "/v1/sources/cloud", {"kind": "twilio", "twilio_account": "AC1", "twilio_auth_token": "t0ken"}, key="admin")
    twilio(doors, "voice", {"CallSid": "CA1", "CallStatus": "ringing", "Direction": "inbound"}, queue="sales")
    twilio(doors, "recording", {**RECORDED, "RecordingStatus": "in-progress"})
    doors.announced()
    press(doors, "pause", contact="cloud:CA1")
    post, told = Post(500, OSError("cut"), 200, 200), []

    def work() -> str | None:
        twilio_api.obey(doors.units, doors.service.core.sources, read_allowance(""), post, OSError, told.append)
        (pause,) = shown(doors, "cloud:CA1")["pauses"]
        return "confirmed" if pause["confirmed"] else pause["trouble"]

    assert [work(), work(), work(), work()] == ["Twilio answered 500", "Twilio cannot be asked: cut", "confirmed", "confirmed"]
    press(doors, "resume", contact="cloud:CA1")
    assert work() == "confirmed"
    url = "https://api.twilio.com/2010-04-01/Accounts/AC1/Calls/CA1/Recordings/Twilio.CURRENT.json"
    assert post.asked == [(url, "Basic QUMxOnQwa2Vu", "Status=paused&PauseBehavior=silence")] * 3 + [
        (url, "Basic QUMxOnQwa2Vu", "Status=in-progress")
    ]
    assert len(told) == 4
