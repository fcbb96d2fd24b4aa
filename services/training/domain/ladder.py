"""The order in which somebody learns channels: one at a time, each after practice on the one before."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.training.domain.errors import Conflict, Invalid

Missing = dict[str, Any]
"""`what` is missing (certificate, practice_days, quality, courses, exam, practice), with figures (`has`, `needs`) or `names`."""


@dataclass(frozen=True)
class Rung:
    """A channel, and what must be there before it opens: the certificate of `after`, `practice_days` on which contacts were served on it, and
    there a mean score (0 to 1) of at least `quality` over the last `evaluations` evaluations."""

    channel: str
    after: str = ""
    practice_days: int = 0
    quality: float = 0.0
    evaluations: int = 0


@dataclass(frozen=True)
class Ladder:
    role: str
    channels: tuple[Rung, ...]

    def rung(self, channel: str) -> Rung | None:
        return next((one for one in self.channels if one.channel == channel), None)


@dataclass(frozen=True)
class Standing:
    """What one person has: certificates that hold, what they learn now, and by channel the days of practice and the scores, newest first."""

    certified: Collection[str] = ()
    learning: Collection[str] = ()
    practice_days: Mapping[str, int] = field(default_factory=dict)
    scores: Mapping[str, list[float]] = field(default_factory=dict)


def in_order(rungs: list[Rung]) -> tuple[Rung, ...]:
    """The rungs, each behind the one it follows: where a rung does not say which, that is the one listed before it. Raises Invalid for a channel
    that stands twice or follows one that is not there, and for a circle, with its channels."""
    told: dict[str, Rung] = {}
    before = ""
    for rung in rungs:
        if rung.channel in told:
            raise Invalid(f"The channel {rung.channel} stands on the ladder twice: that would be a circle.")
        told[rung.channel] = rung if rung.after or not before else Rung(rung.channel, before, *_asked(rung))
        before = rung.channel
    for rung in told.values():
        if rung.after and rung.after not in told:
            raise Invalid(f"{rung.channel} follows {rung.after}, which is not on the ladder.")
    done: list[Rung] = []
    for channel in told:
        way: list[str] = []
        while channel and all(one.channel != channel for one in done):
            if channel in way:
                circle = [*way[way.index(channel) :], channel]
                raise Invalid(f"The ladder has a circle: {' → '.join(reversed(circle))}. One channel must come first.")
            way.append(channel)
            channel = told[channel].after
        done += [told[name] for name in reversed(way)]
    return tuple(done)


def _asked(rung: Rung) -> tuple[int, float, int]:
    return rung.practice_days, rung.quality, rung.evaluations


def missing(ladder: Ladder, channel: str, has: Standing) -> list[Missing]:
    """What is missing before somebody may begin with the channel; empty: nothing. Raises Invalid where the ladder does not lead there."""
    rung = ladder.rung(channel)
    if rung is None:
        names = ", ".join(one.channel for one in ladder.channels)
        raise Invalid(f"The ladder of {ladder.role} has no channel {channel}; it has {names}.")
    if not rung.after:
        return []
    found: list[Missing] = []
    if rung.after not in has.certified:
        found.append({"what": "certificate", "channel": rung.after})
    days = has.practice_days.get(rung.after, 0)
    if days < rung.practice_days:
        found.append({"what": "practice_days", "channel": rung.after, "has": days, "needs": rung.practice_days})
    scores = has.scores.get(rung.after, [])[: max(rung.evaluations, 1)]
    mean = sum(scores) / len(scores) if scores else None
    if rung.quality and (len(scores) < rung.evaluations or mean is None or mean < rung.quality):
        figures = {"has": mean, "needs": rung.quality, "evaluations": len(scores), "evaluations_needed": max(rung.evaluations, 1)}
        found.append({"what": "quality", "channel": rung.after, **figures})
    return found


def open(ladder: Ladder, channel: str, person: str, has: Standing, approver: str, reason: str) -> list[Missing]:
    """Somebody begins with a channel; returns what was skipped with leave of the approver, to be recorded. Raises Conflict or Invalid."""
    if channel in has.certified:
        raise Conflict(f"{person} is certified for {channel} already.")
    if has.learning:
        raise Conflict(f"{person} is learning {', '.join(sorted(has.learning))}: nobody learns two new channels at once.")
    lacking = missing(ladder, channel, has)
    if not lacking:
        return []
    if not approver:
        raise Conflict(f"{person} cannot begin with {channel} yet: {words(lacking)}. To skip it name an approver and a reason.")
    if approver == person:
        raise Invalid("Nobody approves skipping a step of their own ladder.")
    if not reason:
        raise Invalid("Say why the step is skipped: `reason`.")
    return lacking


def words(lacking: list[Missing], language: str = "en") -> str:
    """What is missing, for reading; `language`: en or zh."""
    return ("；" if language == "zh" else "; ").join(_word(one, language) for one in lacking)


def _word(one: Missing, language: str) -> str:
    zh = language == "zh"
    names = ("、" if zh else ", ").join(one.get("names", ()))
    match one["what"]:
        case "certificate":
            return f"缺少 {one['channel']} 渠道的证书" if zh else f"the certificate for {one['channel']} is missing"
        case "practice_days":
            if zh:
                return f"在 {one['channel']} 渠道实践了 {one['has']} 天，需要 {one['needs']} 天"
            return f"{one['has']} of {one['needs']} days of practice on {one['channel']}"
        case "quality":
            mean = "—" if one["has"] is None else f"{one['has']:.2f}"
            count = one["evaluations"], one["evaluations_needed"]
            if zh:
                return f"{one['channel']} 渠道质量分 {mean}（{count[0]}/{count[1]} 次评估），需要 {one['needs']:g}"
            return f"quality on {one['channel']} is {mean} over {count[0]} of {count[1]} evaluations, and must be {one['needs']:g}"
        case "courses":
            return f"未完成课程：{names}" if zh else f"courses not done: {names}"
        case "exam":
            return f"未通过考试 {names}" if zh else f"the exam {names} is not passed"
        case "months":
            return (
                f"任职 {one['has']:.1f} 个月，需要 {one['needs']:g}" if zh else f"{one['has']:.1f} of {one['needs']:g} months in the role"
            )
        case "hours":
            return (
                f"今年培训 {one['has']:g} 小时，需要 {one['needs']:g}"
                if zh
                else f"{one['has']:g} of {one['needs']:g} hours of training this year"
            )
        case _:
            if zh:
                return f"合格的受监督实践联系 {one['has']} 次，需要 {one['needs']} 次（不低于 {one['mark']:g} 分）"
            return f"{one['has']} of {one['needs']} supervised contacts evaluated at {one['mark']:g} or above"
