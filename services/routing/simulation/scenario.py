"""A record of calls made into a case: what the record says, and what a scenario says of all that it does not.

    scenario = read(text)                       # one document, fixed before any policy runs
    record = Record(...)                        # the calls as they were
    staff, shifts = staffing(record, scenario)  # who had which skill, and when they were there
    case = draw(record, scenario, staff, shifts, seed)

Of one seed every policy gets the same case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import yaml

from services.routing.domain.entities import TOP_LEVEL, Queue
from services.routing.domain.policy import Policy, Segment
from services.routing.simulation.play import Call, Case, Shift, Worker
from services.routing.simulation.survival import Survival, kaplan_meier
from shared.errors import Invalid

STREAMS = ("value", "patience", "service", "between_calls", "priority")
"""Each is drawn for all calls in their order, so that one more of anything moves nothing else."""


MOST = 1e9
SHARES = ("least_share", "absent_while_nobody_waits")
LEAST_SHIFT = 1.0
SETTLED = 1 / 6
"""Of the longest pause between two calls: who waits no longer than that after one was not overlooked yet."""


@dataclass(frozen=True)
class Tier:
    name: str
    share: float
    value: float


@dataclass(frozen=True)
class Scenario:
    """What a record of calls lacks. See scenario.yaml for what each part means."""

    timezone: str = "UTC"
    tiers: tuple[Tier, ...] = (Tier("gold", 0.05, 5.0), Tier("silver", 0.15, 2.0), Tier("standard", 0.8, 1.0))
    least_calls: int = 5
    least_share: float = 0.01
    absent_after_seconds: float = 1800.0
    overlooked_seconds: float = 10.0
    absent_while_nobody_waits: float = 0.5
    between_calls_at_most_seconds: float = 60.0
    patience_by_type_from: int = 50
    target_seconds: float = 20.0
    head_start_seconds: float = 90.0

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)


def read(text: str) -> Scenario:
    """Raises Invalid with what is to be mended."""
    try:
        told = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Invalid(f"the scenario is no YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(told, dict):
        raise Invalid("the scenario must be a document of keys and values")
    known = {one.name: one for one in fields(Scenario)}
    if unknown := sorted(set(map(str, told)) - known.keys()):
        raise Invalid(f"the scenario says {', '.join(unknown)}, which means nothing; it may say {', '.join(known)}")
    values: dict[str, Any] = {}
    for name, value in told.items():
        if name == "tiers":
            values[name] = _tiers(value)
        elif name == "timezone":
            values[name] = _timezone(value)
        elif isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MOST:
            raise Invalid(f"the scenario's {name} must be a number from 0 to {MOST:g}, not {value!r}")
        elif name in SHARES and value > 1:
            raise Invalid(f"the scenario's {name} must be a share from 0 to 1, not {value!r}")
        else:
            values[name] = int(value) if isinstance(known[name].default, int) else float(value)
    return Scenario(**values)


def _timezone(value: Any) -> str:
    try:
        return ZoneInfo(str(value)).key
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Invalid(f"the scenario's timezone {value!r} is unknown; write it as in Europe/Berlin") from error


def _tiers(told: Any) -> tuple[Tier, ...]:
    try:
        tiers = tuple(Tier(str(one["tier"]), float(one["share"]), float(one["value"])) for one in told)
    except (KeyError, TypeError, ValueError) as error:
        raise Invalid("each of the scenario's tiers has a tier (its name), a share (0 to 1) and a value (a number)") from error
    total = sum(tier.share for tier in tiers)
    if not tiers or abs(total - 1.0) > 1e-6 or any(tier.share < 0 or tier.value <= 0 for tier in tiers):
        raise Invalid(f"the shares of the scenario's tiers must be from 0 up and make 1 together, not {total:g}, and their values above 0")
    return tiers


@dataclass(frozen=True)
class Record:
    """Calls as they were, in the order of their arrival; vectors by call. `service` is 0 and `agent` "" of those who gave up; `priority`
    counts only where they queued (see `draw`)."""

    at: np.ndarray
    kind: Sequence[str]
    customer: Sequence[str]
    waited: np.ndarray
    answered: np.ndarray
    service: np.ndarray
    agent: Sequence[str]
    priority: np.ndarray
    ids: Sequence[str] = ()
    facts: Sequence[Mapping[str, Any]] = ()
    wants: Sequence[Mapping[str, Any]] = ()
    skills: Sequence[Mapping[str, int]] = ()
    values: np.ndarray | None = None
    queues: Sequence[Queue] = ()  # none: one for each kind, that asks for the skill of its name

    def __len__(self) -> int:
        return len(self.at)

    @property
    def kinds(self) -> list[str]:
        return sorted(set(self.kind))


@dataclass(frozen=True)
class _Served:
    """One agent's calls, in their order."""

    start: np.ndarray
    end: np.ndarray
    index: np.ndarray


def _served(record: Record) -> dict[str, _Served]:
    agents = np.array(record.agent, dtype=object)
    start = record.at + record.waited
    found = {}
    for agent in sorted(set(record.agent) - {""}):
        mine = np.flatnonzero((agents == agent) & record.answered)
        mine = mine[np.argsort(start[mine], kind="stable")]
        if len(mine):
            found[agent] = _Served(start[mine], start[mine] + record.service[mine], mine)
    return found


def staffing(record: Record, scenario: Scenario) -> tuple[list[Worker], list[Shift]]:
    """Skills from the kinds of calls that an agent took, and presence from when they took them.

    A kind is a skill of whoever took `least_calls` of it, and `least_share` of all their calls; their level, 1 to 5, is their fifth among
    those with the skill by how many they took.

    Between two of their calls they are there, unless the pause is longer than `absent_after_seconds`, or callers whom they could have
    served waited meanwhile, `overlooked_seconds` or more. Then they were away while these waited; of the time before the first of them
    came and after the last had gone the record says nothing: `absent_while_nobody_waits` is the share of it that they were away.
    Who goes straight after a call made up their mind during it, and at no particular moment of it: their presence ends halfway. (To end
    it with the call would let them begin another in the simulation shortly before, and so give each absence half a call of work.)
    """
    served = _served(record)
    kinds = np.array(record.kind, dtype=object)
    taken = {
        agent: {kind: int((kinds[one.index] == kind).sum()) for kind in sorted(set(kinds[one.index]))} for agent, one in served.items()
    }
    skilled = {
        agent: [
            kind for kind, calls in mine.items() if calls >= scenario.least_calls and calls >= scenario.least_share * sum(mine.values())
        ]
        or [max(mine, key=lambda kind: mine[kind])]
        for agent, mine in taken.items()
    }
    workers = []
    for agent, mine in skilled.items():
        levels = {}
        for kind in mine:
            rivals = sorted(taken[other][kind] for other, theirs in skilled.items() if kind in theirs)
            below = sum(calls < taken[agent][kind] for calls in rivals)
            levels[kind] = 1 + min(TOP_LEVEL - 1, TOP_LEVEL * below // len(rivals))
        workers.append(Worker(agent, levels))
    left = record.at + record.waited
    shifts = []
    for agent, one in served.items():
        noticed = np.isin(kinds, skilled[agent]) & (record.waited > scenario.overlooked_seconds)
        came, gone = record.at[noticed], left[noticed]
        since = began = float(one.start[0])
        until = float(one.end[0])
        for start, end in zip(one.start[1:].tolist(), one.end[1:].tolist(), strict=True):
            if away := _absence(came, gone, began, until, start, scenario):
                shifts.append(Shift(agent, since, max(away[0], since + LEAST_SHIFT)))
                since = away[1]
            if end >= until:
                began, until = start, end
        shifts.append(Shift(agent, since, max((began + until) / 2, since + LEAST_SHIFT)))
    return workers, sorted(shifts, key=lambda shift: (shift.since, shift.agent))


def _absence(came: np.ndarray, gone: np.ndarray, began: float, end: float, start: float, scenario: Scenario) -> tuple[float, float] | None:
    """From when to when an agent was away between a call (`began` to `end`) and their next (`start`), if they were; `came` and `gone` are
    of callers who waited and whom they could have served."""
    pause = start - end
    if pause <= scenario.between_calls_at_most_seconds:
        return None
    leaving = (began + end) / 2
    if pause > scenario.absent_after_seconds:
        return leaving, start
    since = end + SETTLED * scenario.between_calls_at_most_seconds
    meanwhile = (came < start) & (gone > since)
    if np.maximum(np.minimum(gone[meanwhile], start) - np.maximum(came[meanwhile], since), 0.0).sum() < scenario.overlooked_seconds:
        return None
    first, last = float(came[meanwhile].min()), float(gone[meanwhile].max())
    share = scenario.absent_while_nobody_waits
    return leaving if first <= since else first - share * (first - end), min(start, last + share * max(0.0, start - last))


def pauses(record: Record, workers: Sequence[Worker]) -> Survival:
    """How long agents are taken up after a call: the product-limit estimate of the pause between two of an agent's calls, seen to its end
    where somebody whom they could have served waited all the while, and censored at the moment at which nobody did any more."""
    kinds = np.array(record.kind, dtype=object)
    served = _served(record)
    lasted, ended = [np.zeros(0)], [np.zeros(0, dtype=bool)]
    for worker in workers:
        one = served.get(worker.id)
        mine = np.isin(kinds, list(worker.skills)) & (record.waited > 0)
        if one is None or len(one.start) < 2 or not mine.any():
            continue
        came, gone = record.at[mine], np.maximum.accumulate((record.at + record.waited)[mine])
        apart = np.flatnonzero(came[1:] > gone[:-1])  # between these and the next nobody waits
        first, last = came[np.concatenate([[0], apart + 1])], gone[np.concatenate([apart, [len(gone) - 1]])]
        end, start = one.end[:-1], one.start[1:]
        span = np.maximum(np.searchsorted(first, end, side="right") - 1, 0)
        crowded = (first[span] <= end) & (last[span] > end) & (start >= end)
        lasted.append((np.minimum(last[span], start) - end)[crowded])
        ended.append((last[span] >= start)[crowded])
    return kaplan_meier(np.concatenate(lasted), np.concatenate(ended))


def patience(record: Record, scenario: Scenario) -> dict[str, Survival]:
    """By kind of call; kinds with few abandonments share what all say."""
    kinds = np.array(record.kind, dtype=object)
    everybody = kaplan_meier(record.waited, ~record.answered)
    found = {}
    for kind in record.kinds:
        mine = kinds == kind
        enough = int((~record.answered[mine]).sum()) >= scenario.patience_by_type_from
        found[kind] = kaplan_meier(record.waited[mine], ~record.answered[mine]) if enough else everybody
    return found


def draw(record: Record, scenario: Scenario, agents: Sequence[Worker], shifts: Sequence[Shift], seed: int) -> Case:
    """The case of one seed. What the record tells is as it tells it:

    - patience: who gave up stayed as long as they did; who was answered stays longer than that, by the fit (see `survival`);
    - talk: as recorded; of those who gave up, that of somebody who was answered with the same kind of call;
    - value: a tier of the scenario for each customer (each call, where the customer is unknown), by the seed alone;
    - priority, for the recorded strategy only: that of the customer's other calls or of a queued caller of the same kind where the
      record says nothing, as it does of those who did not queue.
    """
    chance = {name: np.random.default_rng([seed, number]).random(len(record)) for number, name in enumerate(STREAMS)}
    stay = np.zeros(len(record))
    service = record.service.astype(float).copy()
    kinds = np.array(record.kind, dtype=object)
    fits = patience(record, scenario)
    queued = record.waited > 0
    priority = record.priority.copy()
    by_customer: dict[str, int] = {}
    for customer, level, in_queue in zip(record.customer, record.priority, queued, strict=True):
        if customer and in_queue:
            by_customer[customer] = int(level)
    for kind in record.kinds:
        mine = np.flatnonzero(kinds == kind)
        stay[mine] = fits[kind].longer_than(record.waited[mine], chance["patience"][mine])
        talks = np.sort(record.service[mine][record.answered[mine]])
        silent = mine[~record.answered[mine]]
        if len(talks):
            service[silent] = talks[(chance["service"][silent] * len(talks)).astype(int)]
        known = record.priority[mine][queued[mine]]
        if len(known):
            unknown = mine[~queued[mine]]
            priority[unknown] = np.sort(known)[(chance["priority"][unknown] * len(known)).astype(int)]
    stay[~record.answered] = np.maximum(record.waited[~record.answered], 1.0)
    between = pauses(record, agents)
    longer = float(between.share(np.array(scenario.between_calls_at_most_seconds)))  # those are absences
    stayed = np.full(len(record), -1.0 if len(between.times) else 0.0)  # where there is a staircase, 0 may be a step of it
    wrap_up = between.longer_than(stayed, longer + (1.0 - longer) * chance["between_calls"])
    wrap_up = np.where(np.isfinite(wrap_up), np.minimum(wrap_up, scenario.between_calls_at_most_seconds), 0.0)

    bounds = np.cumsum([tier.share for tier in scenario.tiers])
    tiers = np.minimum(np.searchsorted(bounds, chance["value"], side="right"), len(bounds) - 1)
    first_of: dict[str, int] = {}
    calls = []
    for index in range(len(record)):
        customer, kind = record.customer[index], record.kind[index]
        tier = scenario.tiers[int(tiers[first_of.setdefault(customer, index) if customer else index])]
        level = by_customer.get(customer, int(priority[index])) if not queued[index] else int(priority[index])
        told = dict(record.facts[index]) if record.facts else {}
        value = float(record.values[index]) if record.values is not None else tier.value
        facts = told if record.values is not None else {**told, "value": tier.value, "tier": tier.name}
        calls.append(
            Call(
                record.ids[index] if record.ids else f"c{index:06}",
                float(record.at[index]),
                kind,
                float(stay[index]),
                float(service[index]),
                float(wrap_up[index]),
                value,
                customer,
                {**facts, "priority": level},
                record.wants[index] if record.wants else {},
                record.skills[index] if record.skills else {},
            )
        )
    queues = record.queues or [Queue(kind, required_skills={kind: 1}, wrap_up=False) for kind in record.kinds]
    return Case(calls, agents, shifts, queues, scenario.zone)


def rules_of_thumb(scenario: Scenario) -> Policy:
    """What a telephony system would know of a caller: the tier's value as its weight (for strict priority)."""
    return Policy(
        "",
        segments=tuple(
            Segment(tier.name, weight=tier.value, matches=partial(_is_of_tier, tier.name)) for tier in scenario.tiers if tier.value != 1.0
        ),
    )


def recorded_strategy(scenario: Scenario) -> Policy:
    """First come first served, with a head start for priority 2."""
    return Policy("", segments=(Segment("priority 2", head_start_seconds=scenario.head_start_seconds, matches=_is_second_priority),))


def _is_of_tier(tier: str, facts: Mapping[str, Any]) -> bool:
    return facts.get("tier") == tier


def _is_second_priority(facts: Mapping[str, Any]) -> bool:
    return facts.get("priority") == 2
