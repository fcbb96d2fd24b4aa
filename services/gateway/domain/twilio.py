"""What Twilio posts: voice status callbacks and TaskRouter event callbacks as forms, both again in Event Streams as CloudEvents.

A call is named by the CallSid of the caller's leg; TaskRouter's task of it carries that in its attributes (`call_sid`), so that both
tell of one contact. A task without one (a chat, an SMS) is named by its own Sid. Each stay in a TaskQueue is a leg.

Identity: a reservation is created, accepted, … once, a task created and completed once, and a call has each status once; so the Sid
and what happened name the fact, whether it came as callback, again as callback, or in a stream. What may happen to one Sid again
(entering a queue, a worker's activity) takes its millisecond along.

Limits: `reservation.wrapup` is the end of the talk; without it, it is the caller's hang-up, else the end of the agent's work. Nobody
tells who hung up. Voice callbacks name no queue: they tell of queues only where the address they are posted to does.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import re
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from services.gateway.domain.observation import LONGEST_LOCATION, MAX_FIELDS, Ignored, Kind, Malformed, Observation, storable

AVAILABLE = frozenset({"available", "idle", "ready", "online", "reserved", "busy"})
"""Activities, in small letters, of a worker who is at work: the usual names, and those that TaskRouter itself once set during a task."""
OFFLINE = frozenset({"offline", "logged out", "signed out"})
STREAM_OF_TASKS = "com.twilio.taskrouter."
STREAM_OF_CALLS = "com.twilio.voice.status-callback.call."
OF_CONFERENCES = ("conference-", "participant-", "announcement-")
"""So begin the StatusCallbackEvents of a conference."""

_DEFAULT_PORTS = {"https": 443, "http": 80}
_FINAL = {"completed": "completed", "busy": "missed", "no-answer": "missed", "failed": "missed", "canceled": "cancelled"}
_STATUSES = ("queued", "initiated", "ringing", "in-progress", *_FINAL)
_VOICE_CHANNELS = frozenset({"", "voice", "default"})


# ---- the signature


def signature(auth_token: str, url: str, parameters: Iterable[tuple[str, str]] = ()) -> str:
    """X-Twilio-Signature of a request: over its address as Twilio knows it, and each field of a form. A JSON body is in the address,
    as `bodySHA256`."""
    told = url + "".join(name + value for name, value in sorted(set(parameters)))
    return base64.b64encode(hmac.new(auth_token.encode(), told.encode(), hashlib.sha1).digest()).decode()


def is_signed(auth_token: str, url: str, body: bytes, content_type: str, given: str) -> bool:
    """Whether Twilio, who alone knows the token beside us, sent this body to this address. Proxies and Twilio itself add a port to
    the address, or take it away: each form counts. Compares in constant time."""
    form = "json" not in content_type.lower()
    try:
        parameters = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS) if form else []
    except ValueError:
        return False
    if not form and not _holds_digest(url, body):
        return False
    fits = [hmac.compare_digest(signature(auth_token, one, parameters).encode(), given.encode()) for one in addresses(url)]
    return any(fits)


def _holds_digest(url: str, body: bytes) -> bool:
    told = dict(parse_qsl(urlsplit(url).query)).get("bodySHA256", "")
    return hmac.compare_digest(hashlib.sha256(body).hexdigest().encode(), told.lower().encode())


def addresses(url: str) -> list[str]:
    """The address as it is, without its port, and with the port that its scheme means."""
    parts = urlsplit(url)
    host = re.sub(r":\d*$", "", parts.netloc)
    hosts = dict.fromkeys((parts.netloc, host, f"{host}:{_DEFAULT_PORTS.get(parts.scheme, 443)}"))
    return [urlunsplit(parts._replace(netloc=one)) for one in hosts]


# ---- bodies


def read_stream(body: bytes) -> list[Any]:
    """The events of one post of Event Streams: a JSON array, or where batches are off one event."""
    try:
        events = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Malformed("the body is not JSON: Event Streams posts an array of CloudEvents") from error
    return events if isinstance(events, list) else [events]


# ---- voice


def interpret_voice(
    fields: Mapping[str, str], received: float | None = None, queue: str | None = None, agent: str | None = None
) -> Observation | Ignored:
    """One voice status callback. `queue` and `agent` are those of the address it was posted to: with a queue, the legs of <Dial> are
    rings, answers and ends in it; without, only the end of a call says anything. `received` (epoch seconds) stands in for a missing
    Timestamp."""
    call, status, parent = (_text(fields, name) for name in ("CallSid", "CallStatus", "ParentCallSid"))
    if not call:
        raise Malformed("the callback has no CallSid: point a statusCallback here")
    if status not in _STATUSES:
        raise Malformed(f"CallStatus must be one of {', '.join(_STATUSES)}")
    kind = _kind_of_voice(status, is_child=bool(parent), in_queue=bool(queue), inbound=_text(fields, "Direction") in ("", "inbound"))
    if kind is None:
        return Ignored(f"a call {status}")
    told: dict[str, Any] = {"call": call}
    if kind == "hung_up":
        told["linked"] = parent or None
    else:
        told["queue"] = queue
    if kind == "arrived":
        told["caller"] = _text(fields, "From") or None
    elif kind != "hung_up":
        told |= {"call": parent, "member_call": call, "interface": _device(_text(fields, "To")), "agent": agent}
    if kind == "completed" and (seconds := _text(fields, "CallDuration")):
        told["talk_seconds"] = _seconds("CallDuration", seconds)
    key = "|".join(["twilio", call, status, kind, told.get("queue") or ""])
    at = _time(_text(fields, "Timestamp"))
    return Observation("twilio", kind, key, received if at is None else at, **told)


_RECORDING_STATUSES: dict[str, Kind] = {
    "in-progress": "recorded",
    "completed": "record_stopped",
    "absent": "record_stopped",
    "failed": "record_stopped",
}


def interpret_recording(fields: Mapping[str, str], received: float | None = None) -> Observation | Ignored:
    """What a recording status callback tells, or a voice status callback of the recording that it names beside the call. `received` (epoch
    seconds) stands in for a missing Timestamp."""
    sid, call, address = (_text(fields, name) for name in ("RecordingSid", "CallSid", "RecordingUrl"))
    status = _text(fields, "RecordingStatus") or "completed"
    if not sid or not call:
        raise Malformed("the callback has no RecordingSid and CallSid: point a recordingStatusCallback here")
    if not address:
        return Ignored("a recording without an address")
    kind = _RECORDING_STATUSES.get(status)
    if kind is None:
        raise Malformed(f"RecordingStatus must be one of {', '.join(_RECORDING_STATUSES)}")
    parts = urlsplit(address)
    if parts.scheme not in ("https", "http") or not parts.hostname or "@" in parts.netloc or len(address) > LONGEST_LOCATION:
        raise Malformed("RecordingUrl must be an address that begins with https:// and names no user")
    began, length = _time(_text(fields, "RecordingStartTime")), _text(fields, "RecordingDuration")
    seconds = _seconds("RecordingDuration", length) if length and length != "-1" else None
    at = _time(_text(fields, "Timestamp"))
    if kind == "recorded":
        at = began or at
    elif began is not None and seconds is not None:
        at = began + seconds
    return Observation(
        "twilio",
        kind,
        f"twilio|{sid}|{status}",
        received if at is None else at,
        call=call,
        linked=_text(fields, "ParentCallSid") or None,
        recording=address,
        recorded_seconds=seconds if kind == "record_stopped" else None,
        reason="failed" if status in ("absent", "failed") else None,
    )


_ON_HOLD: dict[str, Kind] = {"participant-hold": "held", "participant-unhold": "resumed"}


def interpret_conference(fields: Mapping[str, str], received: float | None = None) -> Observation | Ignored:
    """What a status callback of a conference tells: who in it was put on hold, by their own call. `received` (epoch
    seconds) stands in for a missing Timestamp."""
    event = _text(fields, "StatusCallbackEvent")
    kind = _ON_HOLD.get(event)
    if kind is None:
        return Ignored(f"a conference's {event}")
    call, conference = _text(fields, "CallSid"), _text(fields, "ConferenceSid")
    if not call or not conference:
        raise Malformed(f"{event} has no CallSid and ConferenceSid: point a <Conference>'s statusCallback here")
    at = _time(_text(fields, "Timestamp"))
    number = _text(fields, "SequenceNumber") or _text(fields, "Timestamp")
    return Observation("twilio", kind, f"twilio|{conference}|{call}|{event}|{number}", received if at is None else at, call=call)


def _kind_of_voice(status: str, *, is_child: bool, in_queue: bool, inbound: bool) -> Kind | None:
    if is_child and in_queue:
        begun: dict[str, Kind] = {"ringing": "called", "in-progress": "answered"}
        return begun.get(status) or _FINAL.get(status)  # type: ignore[return-value]
    if status in _FINAL:
        return "hung_up"
    # one status alone may be the arrival, for two would be two stays; "ringing" is what an incoming call's first request says
    return "arrived" if in_queue and inbound and not is_child and status == "ringing" else None


# ---- TaskRouter


class _Rule(NamedTuple):
    """How one event is read. `once`: the Sid that can meet it once only; none: its time is part of what it is."""

    kind: Kind
    once: str = ""
    reason: str | None = None


_RULES = {
    "task.created": _Rule("arrived", "tasksid"),
    "task-queue.entered": _Rule("entered"),
    "task-queue.timeout": _Rule("status", reason="TIMEOUT"),
    "workflow.timeout": _Rule("status", reason="TIMEOUT"),
    "task.canceled": _Rule("withdrawn", "tasksid"),
    "task.deleted": _Rule("withdrawn", "tasksid"),
    "task.completed": _Rule("status", "tasksid", "COMPLETED"),
    "task.transfer-initiated": _Rule("redirected"),
    "reservation.created": _Rule("called", "reservationsid"),
    "reservation.accepted": _Rule("answered", "reservationsid"),
    "reservation.rejected": _Rule("missed", "reservationsid"),
    "reservation.timeout": _Rule("missed", "reservationsid"),
    "reservation.canceled": _Rule("cancelled", "reservationsid"),
    "reservation.rescinded": _Rule("cancelled", "reservationsid"),
    "reservation.failed": _Rule("cancelled", "reservationsid"),
    "reservation.wrapup": _Rule("completed", "reservationsid"),
    "reservation.completed": _Rule("status", "reservationsid", "COMPLETED"),
    "worker.activity.update": _Rule("member_status"),
    "worker.deleted": _Rule("member_removed"),
}
_OF_MEMBER = frozenset({"called", "answered", "missed", "cancelled", "completed"})


class _Task(NamedTuple):
    """What identifies the task's call, and who calls."""

    sid: str
    call: str
    caller: str | None
    outbound: bool


def interpret_taskrouter(
    fields: Mapping[str, Any], received: float | None = None, available: Collection[str] = AVAILABLE
) -> Observation | Ignored:
    """One TaskRouter event, its fields named as in a callback (TaskSid) or as in a stream (task_sid). `available`: the workspace's
    activities, in small letters, in which a worker takes tasks."""
    told = {re.sub(r"[_\s]", "", name).lower(): value for name, value in fields.items()}
    event = _text(told, "eventtype")
    if not event:
        raise Malformed("the callback has no EventType: point the EventCallbackUrl of a TaskRouter workspace here")
    rule = _RULES.get(event)
    if rule is None:
        return Ignored(event)
    at = _time(_text(told, "timestampms")) or _time(_text(told, "timestamp"))
    names = (rule.once,) if rule.once == "reservationsid" else (rule.once, "resourcesid", "workersid", "tasksid")
    sid = next((sid for name in names if (sid := _text(told, name))), "")
    if not sid:
        raise Malformed(f"{event} has no {_SPELT.get(rule.once, 'ResourceSid')}: pass the event on with all its fields")
    moment = "" if rule.once else str(round(at * 1000)) if at is not None else _text(told, "sid")
    key = "|".join(["taskrouter", event, sid, moment])
    at = received if at is None else at
    if event.startswith("worker."):
        return _of_worker(told, rule, key, at, available)
    task = _task(told, event)
    if task.outbound:
        return Ignored("an outbound task")
    return _of_task(told, event, rule, key, at, task)


_SPELT = {"tasksid": "TaskSid", "reservationsid": "ReservationSid"}


def _of_task(told: Mapping[str, Any], event: str, rule: _Rule, key: str, at: float | None, task: _Task) -> Observation | Ignored:
    kind, reason = rule.kind, rule.reason
    if event == "task.deleted" and _text(told, "taskassignmentstatus") not in ("pending", "reserved"):
        return Ignored("a task deleted after its end")
    if event == "task.canceled":
        kind = _why_canceled(_text(told, "taskcanceledreason") or _text(told, "reason"))
    more: dict[str, Any] = {
        "call": task.call,
        "linked": task.sid,
        "queue": _text(told, "taskqueuename") or _text(told, "taskqueuesid") or None,
        "member_call": _text(told, "reservationsid") or None,
        "reason": reason,
    }
    if kind in ("arrived", "entered"):
        more |= {"caller": task.caller, "member_call": None}
    if kind == "arrived":
        more["place"] = _text(told, "workflowname") or _text(told, "workflowsid") or None
    if kind in _OF_MEMBER:
        name = _text(told, "workername") or _text(told, "workersid")
        if not name:
            raise Malformed(f"{event} has no WorkerName: pass the event on with all its fields")
        more |= {"agent": name, "interface": _device(_contact_uri(told))}
    if kind == "redirected":
        more |= {"target": _target(told), "member_call": _text(told, "transferinitiatingreservationsid") or None}
    return Observation("taskrouter", kind, key, at, **more)


def _of_worker(told: Mapping[str, Any], rule: _Rule, key: str, at: float | None, available: Collection[str]) -> Observation:
    name, activity = _text(told, "workername") or _text(told, "workersid"), _text(told, "workeractivityname")
    device = _device(_contact_uri(told))
    if rule.kind == "member_removed" or activity.lower() in OFFLINE:
        return Observation("taskrouter", "member_removed", key, at, agent=name, interface=device)
    if not activity:
        raise Malformed("worker.activity.update has no WorkerActivityName: pass the event on with all its fields")
    paused = activity.lower() not in available
    return Observation(
        "taskrouter", "member_status", key, at, agent=name, interface=device, paused=paused, reason=activity if paused else None
    )


def _why_canceled(reason: str) -> Kind:
    """Twilio writes `hangup` where the caller left, and passes on what an application says."""
    told = reason.lower()
    if "hangup" in told or "hung up" in told:
        return "abandoned"
    if "ttl" in told.split() or "timeout" in told or "timed out" in told:
        return "timed_out"
    return "left_by_key" if told in ("redirected", "leave") else "withdrawn"


def _task(told: Mapping[str, Any], event: str) -> _Task:
    sid = _text(told, "tasksid") or (_text(told, "resourcesid") if event.startswith("task.") else "")
    if not sid:
        raise Malformed(f"{event} has no TaskSid: pass the event on with all its fields")
    attributes = _attributes(told, "taskattributes", "TaskAttributes")
    call = attributes.get("call_sid")
    caller = attributes.get("from") or attributes.get("caller")
    return _Task(
        sid,
        storable(call) if isinstance(call, str) and call else sid,
        storable(caller) if isinstance(caller, str) and caller else None,
        attributes.get("direction") == "outbound",
    )


def channel(fields: Mapping[str, Any]) -> str:
    """The channel of an event's task: the unique name of its TaskChannel, or voice."""
    told = {re.sub(r"[_\s]", "", name).lower(): value for name, value in fields.items()}
    name = _text(told, "taskchanneluniquename")
    if name.lower() in _VOICE_CHANNELS or _attributes(told, "taskattributes", "TaskAttributes").get("call_sid"):
        return "voice"
    return name


def _attributes(told: Mapping[str, Any], name: str, spelt: str) -> dict[str, Any]:
    value = told.get(name)
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value, strict=False)
        except (ValueError, RecursionError) as error:
            raise Malformed(f"{spelt} is not JSON: pass it on as it is") from error
    return value if isinstance(value, dict) else {}


def _contact_uri(told: Mapping[str, Any]) -> str:
    uri = _attributes(told, "workerattributes", "WorkerAttributes").get("contact_uri")
    return storable(uri) if isinstance(uri, str) else ""


def _device(address: str) -> str | None:
    """A client or SIP address. A telephone number is none: what is announced holds no numbers."""
    return address if address.startswith(("client:", "sip:", "sips:")) else None


def _target(told: Mapping[str, Any]) -> str | None:
    name = _text(told, "transferto")
    return None if name.startswith("+") else name or None


# ---- Event Streams


def interpret_event(event: Any, received: float | None = None, available: Collection[str] = AVAILABLE) -> Observation | Ignored:
    """One event of a stream: TaskRouter's and the voice status callbacks are read, all others Ignored."""
    told = payload(event)
    kind = event["type"]
    if kind.startswith(STREAM_OF_TASKS):
        named = kind.removeprefix(STREAM_OF_TASKS)
        at = {} if told.get("timestamp") or told.get("timestamp_ms") else {"timestamp": event.get("time")}
        return interpret_taskrouter({**told, "eventtype": named, **at}, received, available)
    if kind.startswith(STREAM_OF_CALLS):
        return interpret_voice({name: value for name, value in told.items() if isinstance(value, str)}, received)
    return Ignored(kind)


def payload(event: Any) -> dict[str, Any]:
    """What an event of a stream says of its task, worker or call, as a callback would. Raises Malformed for what is no CloudEvent."""
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise Malformed("an event of a stream is a JSON object with a type, such as com.twilio.taskrouter.task.created")
    data = event.get("data")
    inner = data.get("payload", data) if isinstance(data, dict) else None
    if event["type"].startswith(STREAM_OF_CALLS) and isinstance(data, dict):
        request = data.get("request")
        inner = request.get("parameters") if isinstance(request, dict) else None
    if isinstance(inner, str):
        try:
            inner = json.loads(inner)
        except (ValueError, RecursionError):
            inner = None
    if not isinstance(inner, dict):
        if event["type"].startswith((STREAM_OF_TASKS, STREAM_OF_CALLS)):
            raise Malformed(f"{event['type'][:100]} has no payload that can be read")
        return {}
    return inner


# ---- values


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if value is None or isinstance(value, dict | list | bool):
        return ""
    return storable(str(value)).strip()


def _seconds(name: str, value: str) -> float:
    if value.isascii() and value.isdigit() and len(value) <= 9:
        return float(value)
    raise Malformed(f"{name} must be a whole number of seconds")


def _time(value: str) -> float | None:
    """Epoch seconds or milliseconds, ISO 8601 or RFC 2822; Twilio's clock is UTC, also where no zone is said."""
    if not value:
        return None
    try:
        if re.fullmatch(r"\d{1,13}(\.\d{1,9})?", value):
            seconds = float(value)
            return _sane(seconds / 1000 if seconds >= 1e11 else seconds)
        instant = parsedate_to_datetime(value) if value[:1].isalpha() else datetime.fromisoformat(value)
        return _sane((instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError, TypeError) as error:
        raise Malformed("Timestamp must be as Twilio writes it: RFC 2822, ISO 8601 or epoch seconds") from error


def _sane(seconds: float) -> float:
    if not (math.isfinite(seconds) and 0 < seconds < 1e11):
        raise ValueError(seconds)
    return seconds
