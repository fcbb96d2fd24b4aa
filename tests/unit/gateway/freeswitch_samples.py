"""A small FreeSWITCH: calls as mod_callcenter tells of them and as mod_json_cdr records them, in the bytes that its source writes.

Names of headers and variables, their order, and how they are encoded follow FreeSWITCH 1.10's source; times, numbers and names are made up.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

DATA = Path(__file__).parents[2] / "data" / "telephony" / "freeswitch"
NUMBER = "+85221112222"
CORE = "dfbc6d5c-8a4e-4c2a-9a1e-5b3d2f1c0a99"
NAMESPACE = UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")
UNSAFE = set(b'\r\n #%&+:;<=>?@[\\]^`{|}"')


def uuid(name: str) -> str:
    return str(uuid5(NAMESPACE, name))


def url_encode(text: str, twice: bool = False) -> str:
    """switch_url_encode_opt(): without `twice`, a %XX (capitals) already there stays as it is."""
    raw, out = text.encode(), []
    hexes = b"0123456789ABCDEF"
    for at, byte in enumerate(raw):
        kept = not twice and byte == ord("%") and len(raw) - at > 2 and raw[at + 1] in hexes and raw[at + 2] in hexes
        out.append(chr(byte) if kept or (32 <= byte <= 126 and byte not in UNSAFE) else f"%{byte:02X}")
    return "".join(out)


def block(event: dict[str, str]) -> bytes:
    """switch_event_serialize(), with values encoded."""
    return "".join(f"{name}: {url_encode(value) or '_undef_'}\n" for name, value in event.items()).encode() + b"\n"


def frame(event: dict[str, str]) -> bytes:
    body = block(event)
    return b"Content-Length: %d\nContent-Type: text/event-plain\n\n%b" % (len(body), body)


@dataclass
class Call:
    """One caller in one queue: `told` gathers the events, `variables` what the channel keeps for its record."""

    name: str
    at: float
    queue: str = "support@default"
    number: str = NUMBER
    caller: str = "Ann Lee"
    session: str = ""
    told: list[dict[str, str]] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    profiles: list[tuple[float, str]] = field(default_factory=list)
    rings: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.session = self.session or uuid(f"session {self.name}")
        self.member = uuid(f"member {self.name} {self.queue}")
        self.joined = int(self.at)
        self.profiles = self.profiles or [(self.at - 1, "5000")]
        self.variables |= {"uuid": self.session, "direction": "inbound", "cc_side": "member", "cc_member_uuid": self.member}
        self.variables |= {"cc_queue_joined_epoch": str(self.joined), "cc_queue": self.queue}
        self._say("member-queue-start", self.at)

    def _say(self, action: str, at: float, data: bool = True, **headers: Any) -> None:
        sequence = str(1000 + len(self.told))
        event = {
            "Event-Subclass": "callcenter::info",
            "Event-Name": "CUSTOM",
            "Core-UUID": CORE,
            "FreeSWITCH-Hostname": "fs1",
            "FreeSWITCH-Switchname": "fs1",
            "Event-Date-Timestamp": str(int(at * 1_000_000)),
            "Event-Calling-File": "mod_callcenter.c",
            "Event-Sequence": sequence,
        }
        if data:
            event |= {
                "Channel-State": "CS_EXECUTE",
                "Answer-State": headers.pop("answer_state", "answered"),
                "Caller-Caller-ID-Number": self.number,
            }
        event |= {"CC-Queue": self.queue, "CC-Action": action}
        event |= {name: str(value) for name, value in headers.items()}
        event |= {
            "CC-Member-UUID": self.member,
            "CC-Member-Session-UUID": self.session,
            "CC-Member-CID-Name": self.caller,
            "CC-Member-CID-Number": self.number,
        }
        self.told.append(event)

    def offered(self, agent: str, at: float) -> Call:
        self._say("agent-offering", at, data=False, **{"CC-Agent": agent, "CC-Agent-Type": "callback", "CC-Agent-System": "single_box"})
        return self

    def failed(self, agent: str, called: float, at: float, cause: str = "NO_ANSWER") -> Call:
        who = {"CC-Hangup-Cause": cause, "CC-Agent": agent, "CC-Agent-System": "single_box"}
        self._say(
            "bridge-agent-fail",
            at,
            data=False,
            **who,
            **{"CC-Agent-Called-Time": int(called), "CC-Agent-Aborted-Time": int(at), "CC-Member-Joined-Time": self.joined},
        )
        self.rings.append(self._leg(agent, uuid(f"ring {self.name} {agent} {at}"), cause, called, at))
        return self

    def _leg(self, agent: str, channel: str, cause: str, called: float, end: float, answered: str = "0") -> dict[str, str]:
        who = {"uuid": channel, "direction": "outbound", "cc_side": "agent", "cc_queue": self.queue, "cc_agent": agent}
        caller = {"cc_member_uuid": self.member, "cc_member_session_uuid": self.session, "hangup_cause": cause}
        caller |= {"cc_queue_joined_epoch": str(self.joined), "cc_agent_type": "callback"}
        if answered != "0":
            caller |= {"cc_agent_bridged": "true", "sip_hangup_disposition": "send_bye" if cause == "by caller" else "recv_bye"}
            caller["hangup_cause"] = "NORMAL_CLEARING" if cause == "by caller" else cause
        times = {"start_uepoch": str(int(called * 1_000_000)), "answer_uepoch": answered, "end_uepoch": str(int(end * 1_000_000))}
        return {**who, **caller, **times}

    def _meeting(self, agent: str, called: float, answered: float) -> dict[str, Any]:
        self.channel = uuid(f"agent {self.name} {agent} {answered}")
        return {
            "CC-Agent": agent,
            "CC-Agent-System": "single_box",
            "CC-Agent-UUID": self.channel,
            "CC-Agent-Called-Time": int(called),
            "CC-Agent-Answered-Time": int(answered),
            "CC-Member-Joined-Time": self.joined,
        }

    def answered(self, agent: str, called: float, at: float, bridged: bool = True) -> Call:
        self.meeting = self._meeting(agent, called, at)
        self._say("bridge-agent-start", at, **self.meeting)
        if not bridged:
            self._say(
                "bridge-agent-end",
                at + 1,
                **{"CC-Hangup-Cause": "SUCCESS", **self.meeting, "CC-Agent-Bridged": "false", "CC-Bridge-Terminated-Time": int(at + 1)},
            )
            return self
        self.variables |= {"cc_agent_found": "true", "cc_agent_uuid": self.channel, "cc_agent_bridged": "true", "cc_agent": agent}
        self.variables |= {"cc_queue_answered_epoch": str(int(at)), "cc_cause": "answered"}
        return self

    def completed(self, at: float, by: str = "agent") -> Call:
        end = {**self.meeting, "CC-Hangup-Cause": "SUCCESS"}
        cause = {"transfer": "BLIND_TRANSFER", "caller": "by caller"}.get(by, "NORMAL_CLEARING")
        agent = end["CC-Agent"]
        self.rings.append(
            self._leg(agent, self.channel, cause, end["CC-Agent-Called-Time"], at, str(end["CC-Agent-Answered-Time"] * 1_000_000))
        )
        self._say(
            "bridge-agent-end",
            at,
            **end,
            **{
                "Hangup-Cause": "NORMAL_CLEARING" if by != "transfer" else cause,
                "CC-Agent-Bridged": "true",
                "CC-Bridge-Terminated-Time": int(at),
            },
        )
        self._say("member-queue-end", at + 0.004, **end, **{"CC-Cause": "Terminated", "CC-Member-Leaving-Time": int(at)})
        if by == "agent":  # else the record is written before the variable is set
            self.variables["cc_queue_terminated_epoch"] = str(int(at))
            self.hung_up(at + 0.3, "send_bye")
        elif by == "caller":
            self.hung_up(at - 0.05, "recv_bye")
        else:
            self.variables["cc_queue_terminated_epoch"] = str(int(at))
        return self

    def cancelled(self, at: float, reason: str, key: str = "") -> Call:
        state = "hangup" if reason == "BREAK_OUT" else "answered"
        more = {"variable_cc_exit_key": key} if key else {}
        self._say(
            "member-queue-end", at, answer_state=state, **more,
            **{"CC-Member-Leaving-Time": int(at), "CC-Member-Joined-Time": self.joined, "CC-Cause": "Cancel", "CC-Cancel-Reason": reason},
        )  # fmt: skip
        self.variables |= {"cc_queue_canceled_epoch": str(int(at)), "cc_cause": "cancel", "cc_cancel_reason": reason}
        self.variables |= {"cc_exit_key": key} if key else {}
        return self.hung_up(at + (0.1 if state == "hangup" else 5), "recv_bye" if state == "hangup" else "send_bye")

    def hung_up(self, at: float, disposition: str) -> Call:
        self.variables |= {"end_epoch": str(int(at)), "end_uepoch": str(int(at * 1_000_000)), "sip_hangup_disposition": disposition}
        self.variables |= {"hangup_cause": "NORMAL_CLEARING"}
        return self

    def transferred_to(self, place: str, at: float) -> Call:
        self.profiles = [(at, place), *self.profiles]
        return self

    def record(self, encode_values: bool = True) -> dict[str, Any]:
        flow = [self._profile(str(len(self.profiles) - n), created, place) for n, (created, place) in enumerate(self.profiles)]
        return _record(self.variables, flow, encode_values)

    def _profile(self, index: str, created: float, place: str) -> dict[str, Any]:
        caller = {"caller_id_name": self.caller, "caller_id_number": self.number, "destination_number": place, "uuid": self.session}
        times = {"created_time": str(int(self.at * 1_000_000)), "profile_created_time": str(int(created * 1_000_000)), "hangup_time": "0"}
        return {"dialplan": "XML", "profile_index": index, "caller_profile": caller, "times": times}


def ring_record(ring: dict[str, str]) -> dict[str, Any]:
    originator = {"originator_caller_profiles": [{"uuid": ring["cc_member_session_uuid"]}]}
    caller = {"caller_id_number": NUMBER, "destination_number": "1000", "originator": originator}
    return _record(ring, [{"profile_index": "1", "caller_profile": caller, "times": {}}], True)


def _record(variables: dict[str, str], flow: list[dict[str, Any]], encode_values: bool) -> dict[str, Any]:
    written = {name: url_encode(value) if encode_values else value for name, value in variables.items()}
    data = {"state": "CS_REPORTING", "direction": variables["direction"], "state_number": "11"}
    return {"core-uuid": CORE, "switchname": "fs1", "channel_data": data, "variables": written, "callflow": flow}


def as_json(record: dict[str, Any]) -> bytes:
    """cJSON_PrintUnformatted()."""
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()


def as_form(record: dict[str, Any], twice: bool = False) -> bytes:
    """As mod_json_cdr encodes it, or (`twice`) mod_format_cdr."""
    return b"cdr=" + url_encode(as_json(record).decode(), twice).encode()


def as_base64(record: dict[str, Any]) -> bytes:
    return b"cdr=" + base64.b64encode(as_json(record))


def as_xml(record: dict[str, Any]) -> bytes:
    def leaves(told: dict[str, Any]) -> str:
        return "".join(f"<{name}>{url_encode(value) if isinstance(value, str) else ''}</{name}>" for name, value in told.items())

    flow = "".join(
        f'<callflow dialplan="XML"><caller_profile>{leaves(one["caller_profile"])}</caller_profile><times>{leaves(one["times"])}</times></callflow>'
        for one in record["callflow"]
    )
    variables = "".join(f"<{name}>{value}</{name}>" for name, value in record["variables"].items())
    return f'<?xml version="1.0"?>\n<cdr core-uuid="{CORE}"><variables>{variables}</variables>{flow}</cdr>'.encode()


T = 1_790_071_700.25


def calls() -> list[Call]:
    """An hour of a centre with everything in it once; TRUTH says what happened."""
    by_agent = Call("by agent", T).offered("1000@default", T + 1).answered("1000@default", T + 1, T + 5).completed(T + 65)
    by_caller = Call("by caller", T + 100, caller='Robert "Bob" O\'Neil, 50% \\ 陳大文').offered("1001@default", T + 101)
    by_caller.answered("1001@default", T + 101, T + 104).completed(T + 134, by="caller")
    gave_up = Call("gave up", T + 200).offered("1000@default", T + 201).failed("1000@default", T + 201, T + 209, "ORIGINATOR_CANCEL")
    gave_up.cancelled(T + 209, "BREAK_OUT")
    timed_out = Call("timed out", T + 300).cancelled(T + 360, "TIMEOUT")
    nobody = Call("nobody there", T + 400).cancelled(T + 405, "NO_AGENT_TIMEOUT")
    by_key = Call("by key", T + 500).cancelled(T + 512, "EXIT_WITH_KEY", "1")
    second = Call("second try", T + 600).offered("1000@default", T + 601).failed("1000@default", T + 601, T + 611)
    second.offered("1001@default", T + 612).answered("1001@default", T + 612, T + 615).completed(T + 625)
    unmet = Call("unmet", T + 700).offered("1000@default", T + 701).answered("1000@default", T + 701, T + 703, bridged=False)
    unmet.offered("1001@default", T + 706).answered("1001@default", T + 706, T + 709).completed(T + 719)
    passed_on = Call("passed on", T + 800).offered("1000@default", T + 801).answered("1000@default", T + 801, T + 803)
    passed_on.completed(T + 823, by="transfer").transferred_to("9001", T + 822.9).hung_up(T + 900, "recv_bye")
    first = Call("two queues", T + 1000).offered("1000@default", T + 1001).answered("1000@default", T + 1001, T + 1002)
    first.completed(T + 1012, by="transfer")
    then = Call("two queues", T + 1012.5, queue="sales@default", session=first.session, variables=dict(first.variables))
    then.profiles = [(T + 1012.2, "6000"), *first.profiles]
    then.offered("1001@default", T + 1013).answered("1001@default", T + 1013, T + 1016).completed(T + 1026)
    first.variables = {}
    return [by_agent, by_caller, gave_up, timed_out, nobody, by_key, second, unmet, passed_on, first, then]


# call -> for each leg: queue, outcome, agent, hold, talk, rings missed
TRUTH: dict[str, list[tuple[str, str, str | None, float, float | None, dict[str, int]]]] = {
    "by agent": [("support@default", "completed", "1000@default", 5, 60, {})],
    "by caller": [("support@default", "completed", "1001@default", 4, 30, {})],
    "gave up": [("support@default", "abandoned", None, 9, None, {})],
    "timed out": [("support@default", "timed_out", None, 60, None, {})],
    "nobody there": [("support@default", "left_empty", None, 5, None, {})],
    "by key": [("support@default", "left_by_key", None, 12, None, {})],
    "second try": [("support@default", "completed", "1001@default", 15, 10, {"1000@default": 1})],
    "unmet": [("support@default", "completed", "1001@default", 9, 10, {})],
    "passed on": [("support@default", "transferred", "1000@default", 3, 20, {})],
    "two queues": [
        ("support@default", "transferred", "1000@default", 2, 10, {}),
        ("sales@default", "completed", "1001@default", 4, 10, {}),
    ],
}
ENDED_BY = {"by agent": "agent", "by caller": "caller", "second try": "agent", "unmet": "agent", "passed on": "transfer"}


def events() -> list[dict[str, str]]:
    """All that mod_callcenter said, in the order in which it said so."""
    return sorted((event for call in calls() for event in call.told), key=lambda event: int(event["Event-Date-Timestamp"]))


def records() -> Iterator[tuple[str, dict[str, Any]]]:
    """(file name, record) of every channel, as log-b-leg and prefix-a-leg leave them."""
    for call in calls():
        if call.variables:
            yield f"a_{call.session}.cdr.json", call.record()
        for ring in call.rings:
            yield f"{ring['uuid']}.cdr.json", ring_record(ring)
