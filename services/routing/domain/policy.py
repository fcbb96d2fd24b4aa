"""A queue's policy: who is worth how much, what may be given up while they wait, and when something else is tried.

A policy says what the engine is to want; who is free and who gets whom is the engine's business. Waits are seconds since
the contact took its place in line. Everything here is a function of its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar

from .entities import TOP_LEVEL

Facts = Mapping[str, Any]
SkillLevels = Mapping[str, int]
Weights = Mapping[str, float]
Number = TypeVar("Number", int, float)

CUSTOMER = "customer"
"""Among languages, regions and sites this name stands for the contact's own."""
PLAIN_PREFERENCE = 1.0
"""The weight of a preference that nobody weighed: of the contact itself, or what was required until it was relaxed."""

FACTS: Mapping[str, float | str | bool] = {
    "value": 0.0,
    "buying_power": 0.0,
    "tier": "",
    "region": "",
    "language": "",
    "site": "",
    "channel": "",
    "preferred_channel": "",
    "direction": "inbound",
    "customer": "",
    "age_seconds": 0.0,
    "queue": "",
    "source": "",
    "hour": 0.0,
    "weekday": 0.0,
    "repeat": 0.0,
    "self_service_failed": False,
}
"""What a rule can ask about a contact, and what is taken for granted where nobody knows (absent, or None).
`age_seconds` is that of the matter; `hour` (0–23) and `weekday` (1 = Monday) are local; `repeat` counts contacts about the same matter."""


def _matches_anybody(_facts: Facts) -> bool:
    return True


@dataclass(frozen=True)
class Target:
    """This share of the contacts is to be answered within so many seconds."""

    share: float = 0.8
    seconds: float = 20


@dataclass(frozen=True)
class Levels:
    """Minimum levels, 1 to 5."""

    skills: SkillLevels = field(default_factory=dict)
    languages: SkillLevels = field(default_factory=dict)


@dataclass(frozen=True)
class Relax:
    """From this wait on, no more than these levels is asked (0 = not asked any more), nor less than the floor."""

    after_seconds: float
    skills: SkillLevels = field(default_factory=dict)
    languages: SkillLevels = field(default_factory=dict)


@dataclass(frozen=True)
class Prefer:
    """What makes one agent who may serve the contact better than another, by weight (0 = no matter)."""

    skills: Weights = field(default_factory=dict)
    languages: Weights = field(default_factory=dict)
    regions: Weights = field(default_factory=dict)
    sites: Weights = field(default_factory=dict)
    employment: Weights = field(default_factory=dict)
    scores: Weights = field(default_factory=dict)  # how well they do by qa's scorecards

    def by_kind(self) -> tuple[tuple[str, Weights], ...]:
        return (
            ("skill", self.skills),
            ("language", self.languages),
            ("region", self.regions),
            ("site", self.sites),
            ("employment", self.employment),
            ("score", self.scores),
        )


@dataclass(frozen=True)
class Overflow:
    """Who has waited so long moves to another queue and keeps its place."""

    after_seconds: float
    to: str


@dataclass(frozen=True)
class Retry:
    """Pauses before the next try, by what became of the last one."""

    busy: float = 300
    no_answer: float = 1800
    machine: float = 7200


@dataclass(frozen=True)
class Callback:
    offer_after_seconds: float
    keep_place: bool = True
    attempts: int = 3
    retry_seconds: Retry = field(default_factory=Retry)
    from_hour: float = 9  # local hours of the customer, in quarters; nobody is rung outside
    to_hour: float = 20


@dataclass(frozen=True)
class SuggestChannels:
    """The queue that serves each other channel; one is suggested where its estimated wait is shorter by so much."""

    to: Mapping[str, str]
    min_gain_seconds: float = 60


@dataclass(frozen=True)
class Announce:
    """What those who wait hear or see again and again: the self-service address, by language."""

    every_seconds: float
    self_service: Mapping[str, str]


@dataclass(frozen=True)
class Segment:
    """Contacts treated alike. What is None is as the policy says."""

    name: str
    when: str = ""
    weight: float = 1  # 1 = an ordinary customer: their seconds of waiting count so much
    head_start_seconds: float = 0
    require: Levels = field(default_factory=Levels)
    prefer: Prefer = field(default_factory=Prefer)
    bound_seconds: float | None = None
    affinity_seconds: float | None = None
    matches: Callable[[Facts], bool] = field(default=_matches_anybody, compare=False, repr=False)  # never raises


EVERYONE = Segment("everyone")
"""Always the last segment, in no document."""


@dataclass(frozen=True)
class Policy:
    name: str
    version: int = 0  # 0 = built in
    target: Target = field(default_factory=Target)
    bound_seconds: float = 600  # who waits longer goes before everybody who does not
    affinity_seconds: float = 0  # so long only the agent who served the customer last is asked
    segments: tuple[Segment, ...] = ()
    require: Levels = field(default_factory=Levels)
    prefer: Prefer = field(default_factory=lambda: Prefer(languages={CUSTOMER: 2}, regions={CUSTOMER: 1}, sites={CUSTOMER: 0.5}))
    floor: Levels = field(default_factory=Levels)
    relax: tuple[Relax, ...] = ()  # in the order of their waits
    overflow: tuple[Overflow, ...] = ()  # likewise
    callback: Callback | None = None
    suggest_channels: SuggestChannels | None = None
    announce: Announce | None = None
    # what each is worth, in seconds of an ordinary customer's waiting
    fit_seconds: float = 20  # an agent who meets all preferences, against one who meets none
    scarcity_seconds: float = 20  # each unit of the price of the agent's skills
    idle_seconds: float = 2  # at most, the agent longest idle
    load_seconds: float = 10  # an agent fully occupied with other contacts


DEFAULT = Policy("standard")
"""For queues that name no policy."""


class Requirement(NamedTuple):
    """The asking half of the engine's Need; every part sorted."""

    skills: tuple[tuple[str, int], ...]
    languages: tuple[tuple[str, int], ...]
    prefers: tuple[tuple[str, str, float], ...]


class Moment(NamedTuple):
    """After this wait something changes for the contact. `detail` is the queue of an overflow."""

    after: float
    kind: Literal["relax", "affinity_end", "overflow", "callback_offer", "bound"]
    detail: str = ""


def scorecards_of(policy: Policy) -> set[str]:
    """By which of qa's scorecards it prefers, for anybody."""
    prefers = (policy.prefer, *(segment.prefer for segment in policy.segments))
    return {name for prefer in prefers for name, weight in prefer.scores.items() if weight > 0}


def segment_of(policy: Policy, facts: Facts) -> Segment:
    """The first segment that matches; `EVERYONE` where none does."""
    return next((segment for segment in policy.segments if segment.matches(facts)), EVERYONE)


def requirement(
    policy: Policy, segment: Segment, facts: Facts, waited: float, *, skills: SkillLevels | None = None, preferred: Iterable[str] = ()
) -> Requirement:
    """What the contact asks of its agent after `waited` seconds.

    `skills`: what its queue and the contact itself require (see `highest`); `preferred`: skills that it would like.

    Hard: for each skill and language the highest level that anybody asks; after relaxation the effective minimum is
    max(floor, min(asked, relaxed)). The floor holds at any wait, for any segment, and where nobody else asks.
    Soft: the policy's preferences, with the segment's in their place where it names the same thing, the contact's own, and whatever
    relaxation has lowered.
    """
    waited = round(waited, 3)  # the difference of two moments of today is exact to a microsecond only: no step may be missed by that
    steps = [step for step in policy.relax if step.after_seconds <= waited]
    asked_skills = highest(skills or {}, policy.require.skills, segment.require.skills)
    asked_languages = highest(policy.require.languages, segment.require.languages)
    hard_skills = _lowered(asked_skills, [step.skills for step in steps], policy.floor.skills)
    hard_languages = _lowered(asked_languages, [step.languages for step in steps], policy.floor.languages)

    soft: dict[tuple[str, str], float] = {("skill", name): PLAIN_PREFERENCE for name in preferred}
    soft |= {("skill", name): PLAIN_PREFERENCE for name, level in asked_skills.items() if hard_skills.get(name, 0) < level}
    soft |= {("language", name): PLAIN_PREFERENCE for name, level in asked_languages.items() if hard_languages.get(name, 0) < level}
    for prefer in (policy.prefer, segment.prefer):
        soft |= {(kind, name): weight for kind, weights in prefer.by_kind() for name, weight in weights.items()}

    return Requirement(
        tuple(sorted(hard_skills.items())),
        tuple(sorted(_meant(hard_languages, facts, "language").items())),
        tuple(
            (kind, name, weight)
            for kind in ("employment", "language", "region", "score", "site", "skill")
            for name, weight in sorted(_meant({name: weight for (of, name), weight in soft.items() if of == kind}, facts, kind).items())
            if weight > 0
        ),
    )


def highest(*asked: SkillLevels) -> dict[str, int]:
    """All that is asked, each at the highest level that anybody asks."""
    names = {name for levels in asked for name in levels}
    return {name: max(levels.get(name, 0) for levels in asked) for name in names}


def moments(policy: Policy, segment: Segment) -> tuple[Moment, ...]:
    """When anything changes for a waiting contact, by wait. (Announcements repeat: see `Announce.every_seconds`.)"""
    found = [Moment(step.after_seconds, "relax") for step in policy.relax]
    found += [Moment(step.after_seconds, "overflow", step.to) for step in policy.overflow]
    if affinity := affinity_seconds(policy, segment):
        found.append(Moment(affinity, "affinity_end"))
    if policy.callback:
        found.append(Moment(policy.callback.offer_after_seconds, "callback_offer"))
    found.append(Moment(bound_seconds(policy, segment), "bound"))
    return tuple(sorted(found))


def terms(policy: Policy, segment: Segment) -> dict[str, Any]:
    """The fields of the engine's Terms."""
    return {
        "policy": policy.name,
        "version": policy.version,
        "segment": segment.name,
        "weight": segment.weight,
        "head_start": segment.head_start_seconds,
        "target": policy.target.seconds,
        "bound": bound_seconds(policy, segment),
        "fit_seconds": policy.fit_seconds,
        "scarcity_seconds": policy.scarcity_seconds,
        "idle_seconds": policy.idle_seconds,
        "load_seconds": policy.load_seconds,
    }


def bound_seconds(policy: Policy, segment: Segment) -> float:
    return policy.bound_seconds if segment.bound_seconds is None else segment.bound_seconds


def affinity_seconds(policy: Policy, segment: Segment) -> float:
    return policy.affinity_seconds if segment.affinity_seconds is None else segment.affinity_seconds


def announcement(policy: Policy, language: str) -> str:
    """What a waiting customer of this language is told: in it (`de-CH` falls back to `de`), else in the document's first language."""
    if policy.announce is None:
        return ""
    texts = policy.announce.self_service
    return texts.get(language) or texts.get(language.partition("-")[0]) or next(iter(texts.values()), "")


def _lowered(asked: SkillLevels, steps: Iterable[SkillLevels], floor: SkillLevels) -> dict[str, int]:
    relaxed = dict(asked)
    for step in steps:
        relaxed = {name: min(level, step.get(name, TOP_LEVEL)) for name, level in relaxed.items()}
    return {name: level for name, level in highest(relaxed, floor).items() if level > 0}


def _meant(named: Mapping[str, Number], facts: Facts, kind: str) -> dict[str, Number]:
    """With the contact's own language, region or site in the place of `customer`; where both are named, the greater counts."""
    if CUSTOMER not in named or kind not in ("language", "region", "site"):
        return dict(named)
    meant = {name: number for name, number in named.items() if name != CUSTOMER}
    if own := facts.get(kind):
        meant[own] = max(named[CUSTOMER], meant.get(own, named[CUSTOMER]))
    return meant
