"""From observations to legs: what happened to one customer's call, queue by queue, whoever told it.

A contact is one customer's call; a leg is its stay in one queue, from joining it to leaving it or to the end of the talk with the
agent it gave. `fold` is a pure function of the *set* of a contact's observations: their order of arrival and repeated delivery
change nothing, and what several reporters say of the same stay becomes one leg. (Only observations without any time keep the
order in which they are given.)

How it works: facts of one call in one queue are one leg, unless some reporter tells a once-in-a-leg fact n times: then there are n
legs, and the k-th such fact belongs to the k-th leg. Each leg is then settled by precedence: the queue_log's word over AMI's,
AMI's over ARI's, and that over the dialplan's.

Holds are of the contact: a line of it, other than the customer's own, puts the customer on hold. What lies within a leg's talk, all
lines together, are the leg's.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import floor, inf
from typing import Any, Literal, NamedTuple, cast

from services.gateway.domain.ami import RECEIVED
from services.gateway.domain.observation import AGENT_KINDS, CALL_KINDS, HOLDS, Observation

EndedBy = Literal["agent", "caller", "transfer"]
Outcome = Literal[
    "waiting",
    "talking",
    "completed",
    "abandoned",
    "timed_out",
    "left_by_key",
    "left_empty",
    "withdrawn",
    "transferred",
    "lost",  # its end was never told: the PBX restarted, a snapshot no longer had it, or nothing was heard of it for too long
    "void",  # in a Change only: the leg published under this number never was; its facts belong to another
]

MOST_TRUSTED_FIRST = (
    "queue_log",
    "ami",
    "ari",
    "callcenter",
    "cdr",
    "agent_cdr",
    "dialplan",
    "api",
    "gateway",
    "taskrouter",
    "twilio",
    "events",
)
PRECEDENCE = {reporter: rank for rank, reporter in enumerate(MOST_TRUSTED_FIRST)}
TELLS_CHANNELS = frozenset({"queue_log", "ami", "ari", "callcenter", "cdr", "agent_cdr", "dialplan"})
"""Reporters whose calls are channels of a PBX: only of such does a snapshot of its channels say that they ended."""
DISTRIBUTES = frozenset({"queue_log", "ami", "ari", "callcenter"})
"""Reporters of queues that look for an agent by themselves: who stands in one is not ours to route."""
TELLS_RINGS = frozenset({"queue_log", "ami", "callcenter", "taskrouter", "events"})
TELLS_HOLDS = frozenset({"ami", "ari", "callcenter", "agent_cdr"})
"""Reporters of answers that would tell of each hold after it too: where they told of none, there was none."""
QUEUE_TOLD_ONCE = frozenset({"taskrouter", "twilio", "events"})
"""Reporters that need not name the queue each time: what names none is about the call's stay at that moment."""
SAME_RECEIPT_SECONDS = 5.0
CLOCK_SECONDS = 2.0

ENTRY = frozenset({"entered", "arrived"})
CLOSING = frozenset({"completed", "transferred", "abandoned", "timed_out", "left_by_key", "left_empty", "withdrawn"})
TALKED = frozenset({"talking", "completed", "transferred"})
OPEN = frozenset({"waiting", "talking"})
# at most once in a leg from one reporter; the order is that of a leg's life
_ONCE = {**dict.fromkeys(ENTRY, 0), "answered": 1, "left": 2, **dict.fromkeys(CLOSING, 3)}
_BY_STATUS: dict[str | None, Outcome] = {
    "TIMEOUT": "timed_out",
    "LEAVEEMPTY": "left_empty",
    "LEAVEUNAVAIL": "left_empty",
    "WITHDRAW": "withdrawn",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """Instants are epoch seconds UTC; durations are the PBX's own whole seconds, or named in `estimated`."""

    number: int
    queue: str
    outcome: Outcome
    call: str | None = None
    caller: str | None = None
    arrived_at: float | None = None
    answered_at: float | None = None
    ended_at: float | None = None
    agent: str | None = None
    interface: str | None = None
    position: int | None = None
    ended_by: EndedBy | None = None
    transfer_target: str | None = None
    hold_seconds: float | None = None  # the wait in the queue, as a PBX calls it
    talk_seconds: float | None = None
    holds: int | None = None  # of the customer by the agent, within the talk; None: nobody who would know has spoken
    on_hold_seconds: float | None = None  # together, without one that still lasts
    missed: Mapping[str, int] | None = None  # None: nobody who would know has spoken
    ringing: tuple[str, ...] = ()
    estimated: tuple[str, ...] = ()
    uncertain: str | None = None
    distributed: bool = False  # a queue of the telephony system's own has it, which looks for an agent by itself

    @property
    def answered(self) -> bool:
        return self.answered_at is not None or self.outcome in TALKED


# ---- folding


class Snapshot(NamedTuple):
    """All channels that a PBX had at an instant (epoch seconds UTC)."""

    at: float
    calls: frozenset[str]


def fold(observations: Iterable[Observation], restarts: Sequence[float] = (), snapshots: Sequence[Snapshot] = ()) -> list[Leg]:
    """The legs of one contact, by time. `restarts` are the instants at which its PBX started anew, `snapshots` what it had when."""
    facts = _met(_distinct(observations))
    holds = [fact for fact in facts if fact.kind in HOLDS]
    if holds:
        facts = [fact for fact in facts if fact.kind not in HOLDS]
    stays = _stays(facts)
    gone = _attach(stays, facts)
    over = [_Over(at, "the PBX restarted before the end was told") for at in restarts]
    over += [_Over(fact.at, "nothing more was heard of it") for fact in facts if fact.kind == "expired" and fact.at is not None]
    over += [_Over(shot.at, "its end was never told; a snapshot no longer had it", shot.calls) for shot in snapshots]
    over.sort(key=lambda end: (end.at, end.why))
    lines = _lines(holds, facts, stays) if holds else None
    return [_settle(number, stay, _moved_on(stay, stays[number:]), gone, over, lines) for number, stay in enumerate(stays, 1)]


class _Over(NamedTuple):
    """Evidence that what was open at an instant is not any more: all of it, or all but the calls that a snapshot still has."""

    at: float
    why: str
    but: frozenset[str] | None = None


def _distinct(observations: Iterable[Observation]) -> list[Observation]:
    """Each fact once, by time. Keys made of the time of receipt count as equal when received close to each other."""
    facts: list[Observation] = []
    seen: set[str] = set()
    received: dict[str, float] = {}
    for fact in sorted(observations, key=_time_and_key):
        if fact.key in seen:
            continue
        seen.add(fact.key)
        stem, by_receipt, _ = fact.key.partition(RECEIVED)
        if by_receipt and fact.at is not None:
            if fact.at - received.get(stem, -inf) <= SAME_RECEIPT_SECONDS:
                continue
            received[stem] = fact.at
        facts.append(fact)
    return facts


def _met(facts: list[Observation]) -> list[Observation]:
    """Without the answers that proved to be none."""
    unmet = {fact.member_call for fact in facts if fact.kind == "unmet"}
    return [fact for fact in facts if not (fact.kind == "answered" and fact.member_call in unmet)] if unmet else facts


def _time_and_key(fact: Observation) -> tuple[float, str]:
    return (fact.at, fact.key) if fact.at is not None else (inf, "")


@dataclass(slots=True)
class _Stay:
    """The facts of one leg, on their way to become it."""

    queue: str
    call: str | None
    facts: list[Observation]
    hangups: list[Observation] = field(default_factory=list)
    start: float = inf
    last: float = inf

    def __post_init__(self) -> None:
        joined = [fact for fact in self.facts if fact.kind == "entered"]
        self.start = min(map(_origin, joined or self.facts))
        self.last = max(_at(f) for f in self.facts)


def _at(fact: Observation) -> float:
    return inf if fact.at is None else fact.at


def _origin(fact: Observation) -> float:
    """When the caller joined the queue, by this fact: an answer tells its hold, an end its hold and talk."""
    return _at(fact) - (fact.hold_seconds or 0.0) - (fact.talk_seconds or 0.0)


def _stays(facts: list[Observation]) -> list[_Stay]:
    told: dict[tuple[str, str | None], list[Observation]] = {}
    for fact in facts:
        if fact.queue and fact.kind not in AGENT_KINDS:
            told.setdefault((fact.queue, fact.call), []).append(fact)
    for queue, call in [whose for whose in told if whose[1] is None]:
        _give_to_known_call(told, queue, told.pop((queue, call)))
    if not told:
        told = _never_queued(facts)
    stays = [
        _Stay(queue, call, part)
        for (queue, call), all_told in told.items()
        for part in _split([fact for fact in all_told if fact.kind != "hung_up"] or all_told)
    ]
    # within one second, the stay that is over came first
    stays.sort(key=lambda stay: (stay.start, stay.last, stay.queue, stay.call or ""))
    return stays


def _never_queued(facts: list[Observation]) -> dict[tuple[str, str | None], list[Observation]]:
    """A call that was over before any queue took it stood where it was sent to: in TaskRouter's workflow."""
    over = any(fact.kind in CLOSING or fact.kind == "hung_up" for fact in facts)
    sent = [fact for fact in facts if over and fact.kind == "arrived" and fact.place and fact.reporter in QUEUE_TOLD_ONCE]
    return {(fact.place or "", fact.call): [fact] for fact in sent[:1]}


def _give_to_known_call(told: dict[tuple[str, str | None], list[Observation]], queue: str, nameless: list[Observation]) -> None:
    """The dialplan's answer names the call by Linkedid alone: give it to the call that met the same member, or to the only one."""
    calls = [call for known, call in told if known == queue]
    for fact in nameless:
        met = [c for c in calls if fact.member_call and any(f.member_call == fact.member_call for f in told[queue, c])]
        insort(told.setdefault((queue, (met or calls or [None])[0]), []), fact, key=_time_and_key)


def _split(facts: list[Observation]) -> list[list[Observation]]:
    """Facts of one call in one queue, leg by leg."""
    columns: dict[tuple[int, int, str], list[Observation]] = {}
    for fact in facts:
        stage = _ONCE.get(fact.kind)
        if stage is not None:
            columns.setdefault((stage, PRECEDENCE[fact.reporter], fact.kind if stage == 0 else ""), []).append(fact)
    legs = max(map(len, columns.values()), default=1)
    if legs == 1:
        return [facts]
    full = [column for _, column in sorted(columns.items(), key=lambda c: c[0]) if len(column) == legs]
    starts = sorted(_origin(fact) for fact in full[0])
    parts: list[list[Observation]] = [[] for _ in starts]
    settled: dict[int, int] = {}
    for column in full:
        for k, fact in enumerate(sorted(column, key=_origin)):
            settled[id(fact)] = k
    members = {fact.member_call: settled[id(fact)] for fact in facts if fact.member_call and id(fact) in settled}
    for fact in facts:
        part = settled.get(id(fact), members.get(fact.member_call or ""))
        parts[_nearest(fact, starts) if part is None else part].append(fact)
    return parts


def _nearest(fact: Observation, starts: list[float]) -> int:
    """Which of the legs that began at `starts` a fact belongs to: that of its own reckoning, or the last one begun by then."""
    if fact.hold_seconds is not None:
        return min(range(len(starts)), key=lambda k: abs(starts[k] - _origin(fact)))
    begun = _at(fact) - (fact.ring_seconds or 0.0) + 1.0
    return max((k for k, start in enumerate(starts) if start <= begun), default=0)


def _attach(stays: list[_Stay], facts: list[Observation]) -> set[str]:
    """Give facts that name no queue to the stay they are about; returns the channels known to be gone."""
    gone: set[str] = set()
    for fact in facts:
        if fact.kind == "hung_up":
            if fact.call:
                gone.add(fact.call)
            of_call = [s for s in stays if fact.call == s.call or (s.call is None and fact.reporter != "ami")]
            if of_call:  # a channel hangs up once, and that ends the last of its stays
                of_call[-1].hangups.append(fact)
        elif not fact.queue and (fact.kind in ("status", "redirected") or (fact.reporter in QUEUE_TOLD_ONCE and fact.kind in CALL_KINDS)):
            of_call = [s for s in stays if fact.call == s.call and fact not in s.facts]
            if fact.kind in ENTRY:
                of_call = of_call[:1]
            met = [s for s in of_call if fact.member_call and any(f.member_call == fact.member_call for f in s.facts)]
            by = _at(fact) if fact.reporter in QUEUE_TOLD_ONCE else _at(fact) + CLOCK_SECONDS
            begun = [s for s in of_call if s.start < by or (s.start == by and fact.kind not in CLOSING)]  # an end ends what was before it
            for stay in (met or begun or of_call)[-1:]:
                stay.facts.append(fact)
    return gone


def _moved_on(stay: _Stay, later: list[_Stay]) -> float | None:
    """When the same call joined its next queue: then it had left this one, whatever else was heard."""
    return next((s.start for s in later if s.call == stay.call or s.call is None or stay.call is None), None)


# ---- settling one leg


class _Told(NamedTuple):
    """The facts of one leg by what they are about, the most trusted reporter first."""

    facts: list[Observation]
    entries: list[Observation]
    answers: list[Observation]
    lefts: list[Observation]
    closings: list[Observation]
    hangups: list[Observation]
    connected: list[Observation]
    moved_on: float | None
    first: bool  # of the contact's legs

    @property
    def by_the_pbx(self) -> bool:
        """Whether a reporter spoke who counts hold and talk itself, and so owes us the end."""
        return any(fact.reporter in ("queue_log", "ami", "callcenter") for fact in self.facts)


class _Ending(NamedTuple):
    outcome: Outcome
    at: float | None = None
    uncertain: str | None = None


def _settle(number: int, stay: _Stay, moved_on: float | None, gone: set[str], over: Sequence[_Over], lines: Sequence[_Line] | None) -> Leg:
    told = _sort(stay, moved_on, number == 1)
    ending = _ending(told)
    if ending.outcome in OPEN:
        ending = _lost(told, over) or ending
    met = ending.outcome in TALKED or (ending.outcome == "lost" and bool(told.answers or told.connected))
    meetings = [*told.answers, *told.closings, *_details(told)] if met else []
    times = _times(stay, told, ending, met)
    holds, on_hold_seconds = _on_hold(lines, told, ending, times, met)
    return Leg(
        number=number,
        queue=stay.queue,
        outcome=ending.outcome,
        call=stay.call or _first("call", told.hangups),
        caller=_first("caller", told.entries) or _first("caller", told.facts),
        arrived_at=times.arrived_at,
        answered_at=times.answered_at,
        ended_at=ending.at,
        agent=_first("agent", meetings),
        interface=_first("interface", meetings) or (_first("interface", told.hangups) if met else None),
        position=_first("position", [*told.entries, *told.closings, *_details(told)]),
        ended_by=_ended_by(ending.outcome, told.closings, told.hangups),
        transfer_target=_first(
            "target",
            [
                f
                for f in told.facts
                if f.kind in ("transferred", "redirected") or (ending.outcome == "transferred" and f.kind == "completed")
            ],
        ),
        hold_seconds=times.hold_seconds,
        talk_seconds=times.talk_seconds,
        holds=holds,
        on_hold_seconds=on_hold_seconds,
        missed=_missed(told.facts),
        ringing=_ringing(told.facts, gone) if ending.outcome == "waiting" else (),
        estimated=times.estimated,
        uncertain=ending.uncertain,
        distributed=any(fact.kind in ("entered", "waiting") and fact.reporter in DISTRIBUTES for fact in told.facts),
    )


def _sort(stay: _Stay, moved_on: float | None, first: bool) -> _Told:
    facts = sorted(stay.facts, key=_precedence)
    connected = [fact for fact in facts if fact.kind == "connected"]
    told = _Told(facts, [], [], [], [], sorted(stay.hangups, key=_precedence), connected, moved_on, first)
    stages = (told.entries, told.answers, told.lefts, told.closings)
    for fact in facts:
        stage = _ONCE.get(fact.kind)
        if stage is not None:
            stages[stage].append(fact)
    return told


def _details(told: _Told) -> list[Observation]:
    return [fact for fact in told.facts if fact.kind == "detail"]


def _precedence(fact: Observation) -> int:
    return PRECEDENCE[fact.reporter]


def _first(name: str, facts: Iterable[Observation]) -> Any:
    for fact in facts:
        value = getattr(fact, name)
        if value is not None:
            return value
    return None


def _ending(told: _Told) -> _Ending:
    if told.closings:
        close = told.closings[0]
        if close.kind == "abandoned" and close.reporter in ("ami", "ari"):  # they say so of a queue's time-out too
            return _by_status(told, close.at) or _Ending("abandoned", close.at)
        if close.reporter == "taskrouter" and close.kind == "completed" and told.moved_on is not None and _redirect(told):
            return _Ending("transferred", close.at)  # an agent's part ends alike, passed on or not
        if close.reporter in ("callcenter", "cdr", "agent_cdr") and close.kind == "completed" and _passed_on(told, close):
            return _Ending("transferred", close.at)
        return _Ending(cast(Outcome, close.kind), close.at)
    return _end_of_talk(told) if told.answers or told.connected else _end_of_wait(told)


def _passed_on(told: _Told, close: Observation) -> bool:
    """mod_callcenter ends an agent's part alike, whatever comes after: why the agent's channel hung up tells, or the next queue, joined at once."""
    at_once = told.moved_on is not None and told.moved_on <= _at(close) + CLOCK_SECONDS
    return at_once or any(fact.kind in ("redirected", "transferred") for fact in told.facts)


def _by_status(told: _Told, at: float | None = None) -> _Ending | None:
    for fact in [*told.facts, *told.hangups]:
        outcome = _BY_STATUS.get(fact.reason) if fact.kind in ("status", "hung_up") else None
        if outcome is not None:
            return _Ending(outcome, fact.at if at is None else at)
    return None


def _end_of_talk(told: _Told) -> _Ending:
    """The PBX has not told how the talk ended; the caller's channel or a later queue may."""
    redirect = _redirect(told)
    if redirect is not None and (told.hangups or told.moved_on is not None):  # else the figures follow within milliseconds
        return _Ending("transferred", redirect.at, "the end is known only from the transfer" if told.by_the_pbx else None)
    if told.moved_on is not None:
        return _Ending("transferred", told.moved_on, "the end is known only from the next queue" if told.by_the_pbx else None)
    if told.hangups:
        return _Ending("completed", told.hangups[0].at, "the end is known only from a hang-up" if told.by_the_pbx else None)
    return _all_done(told) or _Ending("talking")


def _redirect(told: _Told) -> Observation | None:
    return next((fact for fact in told.facts if fact.kind == "redirected"), None)


def _all_done(told: _Told) -> _Ending | None:
    """Whose agent has nothing left to do talks with nobody any more."""
    done = next((fact for fact in told.facts if fact.kind == "status" and fact.reason == "COMPLETED"), None)
    return None if done is None else _Ending("completed", done.at, "the end is known only from the end of the agent's work")


def _end_of_wait(told: _Told) -> _Ending:
    """Nobody said in words how the wait ended. Leaving the queue alone proves nothing: it also precedes an answer."""
    by_status = _by_status(told)
    if by_status is not None:
        return by_status
    if done := _all_done(told):
        return done
    hangup = told.hangups[0] if told.hangups else None
    gone_at = hangup.at if hangup else told.moved_on
    if told.lefts:
        left, joined = told.lefts[0], _first("place", told.entries)
        if joined is not None and left.place is not None and joined != left.place:
            return _Ending("left_by_key", left.at)  # the key has sent the channel elsewhere in the dialplan
        if gone_at is not None:
            unknown = joined is None or left.place is None
            return _Ending("left_by_key" if unknown else "abandoned", left.at, "how the caller left was not told")
    if hangup is not None:
        if told.first and _first("interface", told.hangups):
            return _Ending("completed", hangup.at, "the answer was not told")  # Queue() names a member only once it has answered
        return _Ending("abandoned", hangup.at, "the end is known only from a hang-up" if told.by_the_pbx else None)
    if gone_at is not None:
        return _Ending("timed_out", gone_at, "how the caller left was not told")
    return _Ending("waiting")


def _lost(told: _Told, over: Sequence[_Over]) -> _Ending | None:
    """The first evidence after all that was told. A snapshot proves something only of channels named, and well before it."""
    last = max(map(_at, told.facts), default=inf)
    calls = {fact.call for fact in told.facts if fact.call} or {fact.linked for fact in told.facts if fact.linked}
    named = calls if any(fact.reporter in TELLS_CHANNELS for fact in told.facts) else set()
    for end in over[bisect_right(over, last, key=lambda end: end.at) :]:
        if end.but is None or (named and not named & end.but and end.at > last + CLOCK_SECONDS):
            return _Ending("lost", end.at, end.why)
    return None


class _Times(NamedTuple):
    arrived_at: float | None
    answered_at: float | None
    hold_seconds: float | None
    talk_seconds: float | None
    estimated: tuple[str, ...]


def _times(stay: _Stay, told: _Told, ending: _Ending, met: bool) -> _Times:
    """Instants and durations as told; what is missing is the difference of two others, counted as the PBX counts: in whole seconds."""
    estimated: list[str] = []

    def or_else(name: str, as_told: float | None, reckoned: float | None) -> float | None:
        if as_told is None and reckoned is not None:
            estimated.append(name)
            return reckoned
        return as_told

    talk = _first("talk_seconds", told.closings) if met else None
    hold = _first("hold_seconds", [*told.closings, *told.answers, *_details(told)] if met else told.closings)
    arrived_at = or_else("arrived_at", told.entries[0].at if told.entries else None, None if stay.start == inf else stay.start)
    began = ending.at - talk if ending.at is not None and talk is not None else None
    if began is None and met and told.connected:
        began = min(map(_at, told.connected))  # at the latest
    answered_at = or_else("answered_at", told.answers[0].at if met and told.answers else None, began)
    hold = or_else("hold_seconds", hold, _whole_seconds(arrived_at, answered_at if met else ending.at))
    talk = or_else("talk_seconds", talk, _whole_seconds(answered_at, ending.at)) if ending.outcome != "lost" else None
    return _Times(arrived_at, answered_at, hold, talk, tuple(estimated))


def _whole_seconds(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else float(max(0, floor(end) - floor(start)))


def _ended_by(outcome: Outcome, closings: list[Observation], hangups: list[Observation]) -> EndedBy | None:
    """Who hung up. Of a contact that we route, only the hang-up itself says so: its answer is known to routing alone."""
    if outcome == "transferred":
        return "transfer"
    reason = _first("reason", closings) if outcome == "completed" else None
    if reason is None and outcome in ("completed", "abandoned"):
        reason = _first("reason", [fact for fact in hangups if fact.reporter in ("api", "events")])
    return cast(EndedBy, reason) if reason in ("agent", "caller") else None


def _missed(facts: list[Observation]) -> dict[str, int] | None:
    """Rings not answered, by agent. Every reporter that knows of rings tells of each: take the one that heard most."""
    heard: dict[str, Counter[str]] = {}
    known = False
    for fact in facts:
        known = known or fact.reporter in TELLS_RINGS or fact.kind == "missed"
        if fact.kind == "missed" and (agent := fact.agent or fact.interface):
            heard.setdefault(fact.reporter, Counter())[agent] += 1
    most: Counter[str] = Counter()
    for counts in heard.values():
        most |= counts
    return dict(sorted(most.items())) if known else None


def _ringing(facts: list[Observation], gone: set[str]) -> tuple[str, ...]:
    """Who is rung now. Each of the member's channels has one name, that of the most trusted reporter: ARI knows the device alone."""
    quiet = gone | {fact.member_call for fact in facts if fact.kind in ("missed", "cancelled") and fact.member_call}
    rung: dict[str, str] = {}
    stopped = Counter(fact.agent for fact in facts if fact.kind in ("missed", "cancelled") and not fact.member_call)
    for fact in facts:
        if fact.kind == "called" and fact.member_call not in quiet and (name := fact.agent or fact.interface):
            if not fact.member_call and stopped[name] > 0:  # a channel without a name: as many rings stopped as began
                stopped[name] -= 1
                continue
            rung.setdefault(fact.member_call or name, name)
    return tuple(sorted(set(rung.values())))


# ---- holds

_Line = Mapping[float, set[bool]]
"""By instant: whether it has the customer on hold from then on."""


def _lines(holds: Iterable[Observation], facts: Iterable[Observation], stays: Iterable[_Stay]) -> list[_Line]:
    """The lines that may put the customer on hold: all but those on the customer's own side, who may put us on hold, which is their affair."""
    calls = {stay.call for stay in stays}
    own = {id for id in calls if id} | {fact.linked for fact in facts if fact.linked and (fact.call is None or fact.call in calls)}
    lines: dict[str, dict[float, set[bool]]] = {}
    for fact in holds:
        line = fact.member_call or fact.call
        if line and fact.at is not None and (line in own) == (fact.member_call is None):
            lines.setdefault(line, {}).setdefault(fact.at, set()).add(fact.kind == "held")
    for fact in facts:
        if fact.kind == "hung_up" and fact.at is not None and fact.call in lines:
            lines[fact.call].setdefault(fact.at, set()).add(False)
    return list(lines.values())


def _on_hold(lines: Sequence[_Line] | None, told: _Told, ending: _Ending, times: _Times, met: bool) -> tuple[int | None, float | None]:
    """How often and how long the customer was on hold in the talk; where only others know of an answer, in all of the leg.

    Two lines may have the customer on hold at once (a Local channel and the device behind it): that is one hold."""
    if lines is None:
        return (0, 0.0) if met and any(fact.reporter in TELLS_HOLDS for fact in told.answers) else (None, None)
    begins = [at for at in (times.answered_at if met else times.arrived_at, *(fact.at for fact in told.answers)) if at is not None]
    start, end = min(begins, default=-inf), inf
    if ending.at is not None:  # of the instants told for it the last: a queue_log has whole seconds
        end = max(ending.at, *(fact.at for fact in told.closings if fact.at is not None and fact.at <= ending.at + CLOCK_SECONDS), -inf)
    count, seconds, until = 0, 0.0, -inf
    for began, over in sorted(span for line in lines for span in _spans(line, start, end)):
        count += began > until
        if over < inf:
            seconds += max(0.0, over - max(began, until))
        until = max(until, over)
    return (count, round(seconds, 3)) if met or count else (None, None)


def _spans(line: _Line, start: float, end: float) -> Iterator[tuple[float, float]]:
    """When the line had the customer on hold, among what it told from `start` to `end`."""
    since: float | None = None
    for at in sorted(at for at in line if start <= at < end):
        held = line[at]
        if len(held) == 2:  # on hold and off at one instant: it stays as it is
            continue
        if True in held:
            since = at if since is None else since
        elif since is not None:
            yield since, at
            since = None
    if since is not None:
        yield since, end


# ---- what changed since the legs were last published

What = Literal["arrived", "answered", "missed", "abandoned", "transferred", "ended", "corrected"]


class Change(NamedTuple):
    """One thing to publish: `abandoned` covers every exit without an answer (see the leg's outcome)."""

    what: What
    leg: Leg


# the facts that each step makes known; a difference in one already known is a correction
_TOLD_BY: dict[str, tuple[str, ...]] = {
    "arrived": ("queue", "caller", "arrived_at"),
    "answered": ("agent", "interface", "answered_at", "hold_seconds"),
    "abandoned": ("outcome", "ended_at", "hold_seconds", "holds", "on_hold_seconds", "uncertain"),
    "transferred": ("outcome", "ended_at", "talk_seconds", "holds", "on_hold_seconds", "transfer_target", "uncertain"),
    "ended": ("outcome", "ended_at", "ended_by", "talk_seconds", "holds", "on_hold_seconds", "uncertain"),
}
_BY_CLOCKS = frozenset({"arrived_at", "answered_at", "ended_at", "on_hold_seconds"})


def diff(before: Sequence[Leg], after: Sequence[Leg]) -> list[Change]:
    """What to publish when `after` replaces `before`: natural steps forward, after `corrected` where a published fact changed."""
    known = {leg.number: leg for leg in before}
    changes: list[Change] = []
    for leg in after:
        changes += _steps_forward(known.pop(leg.number, None), leg)
    return changes + [Change("corrected", replace(leg, outcome="void")) for leg in known.values() if leg.outcome != "void"]


def _steps_forward(before: Leg | None, leg: Leg) -> list[Change]:
    done, now = _steps(before), _steps(leg)
    missed_before, missed_now = (before.missed or {}) if before else {}, leg.missed or {}
    was_wrong = before is not None and (now[: len(done)] != done or any(_differs(before, leg, step) for step in done))
    if before is not None and before.outcome == leg.outcome == "waiting" and before.distributed != leg.distributed:
        was_wrong = True
    changes: list[Change] = []
    if was_wrong or any(missed_now.get(agent, 0) < count for agent, count in missed_before.items()):
        changes = [Change("corrected", leg)]
    elif missed_now != missed_before:
        changes = [Change("missed", leg)]
    steps = [Change(step, leg) for step in now if step not in done]
    at = 1 if steps and steps[0].what == "arrived" else 0
    return [*steps[:at], *changes, *steps[at:]]


def _steps(leg: Leg | None) -> list[What]:
    """The steps a leg has made, in their order."""
    if leg is None or leg.outcome == "void":
        return []
    steps: list[What] = ["arrived"]
    if leg.answered:
        steps.append("answered")
    if leg.outcome not in OPEN:
        steps.append("transferred" if leg.outcome == "transferred" else "ended" if leg.answered else "abandoned")
    return steps


def _differs(before: Leg, leg: Leg, step: str) -> bool:
    return any(_other(name, getattr(before, name), getattr(leg, name)) for name in _TOLD_BY[step])


def _other(name: str, old: Any, new: Any) -> bool:
    """Two reporters' clocks may name one instant a second or two apart: that is no news."""
    if name in _BY_CLOCKS and old is not None and new is not None:
        return bool(abs(old - new) > CLOCK_SECONDS)
    return bool(old != new)
