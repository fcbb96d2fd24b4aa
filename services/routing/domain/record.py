"""The record of a decision: all that it depended on, so that it can be run again and told to a person."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from .needs import Pair, Terms, Waiting, assign, idleness, urgency

RUNNERS_UP = 10
Language = Literal["en", "zh"]


def record(
    rule: str,
    now: float,
    waiting: Waiting,
    pairs: Sequence[Pair],
    further: int,
    best_further: float | None,
    pool: list[Any],
    joint: dict[str, Any] | None,
) -> dict[str, Any]:
    """What is kept of a decision; `pairs` are the chosen one and its runners-up, best first. Seconds, and JSON values only.

    rule: best_agent (of one contact's), best_contact (of one agent's), joint (assignment of many to many), only (nobody else was
    to be asked). Each candidate is a pair with the raw numbers its score is made of; `terms` names one of the list of terms.
    `further` are candidates beyond those shown. `pool` counts every agent once, by profile and reason.
    """
    terms: list[Terms] = []
    need = waiting.need
    preferred = {name for kind, name, _ in need.prefers if kind == "score"}
    candidates = [_candidate(pair, now, terms, preferred) for pair in pairs]
    return {
        "rule": rule,
        "at": now,
        "contact": waiting.id,
        "agent": pairs[0].agent,
        "policy": waiting.terms.policy,
        "version": waiting.terms.version,
        "segment": waiting.terms.segment,
        "need": {
            "queue": need.queue,
            "channel": need.channel,
            "skills": dict(need.skills),
            "languages": dict(need.languages),
            "prefers": [list(one) for one in need.prefers],
        },
        "waited_seconds": waiting.waited(now),
        "overdue_seconds": max(0.0, waiting.overdue(now)),
        "score": candidates[0]["score"],
        "chosen": candidates[0],
        "runners_up": candidates[1:],
        "further": {"candidates": further, "best": best_further},
        "terms": [_finite(one) for one in terms],
        "pool": pool,
        **({"joint": joint} if joint else {}),
    }


def heads(pairs: Sequence[Sequence[Pair | None]]) -> dict[str, Any]:
    """Both sides of a joint assignment: contacts are rows, agents columns, fit is null where they do not suit."""
    contacts: list[Any] = [next(filter(None, row)) for row in pairs]
    agents: list[Any] = [next(filter(None, column)) for column in zip(*pairs, strict=True)]
    return {
        "contacts": [{"contact": one.contact, "since": one.since, "terms": _finite(one.terms)} for one in contacts],
        "agents": [{"agent": one.agent, "price": one.price, "load": one.load, "idle_since": one.idle_since} for one in agents],
        "fit": [[pair and pair.fit for pair in row] for row in pairs],
    }


def rerun(told: Mapping[str, Any]) -> tuple[str, str]:
    """The contact and the agent that the stored raw numbers lead to: those of the record, or it was not this engine's decision."""
    now = told["at"]
    if "joint" in told:
        return _rerun_jointly(told, now)
    terms = [_terms(one) for one in told["terms"]]
    pairs = [_pair(one, terms[one["terms"]]) for one in (told["chosen"], *told["runners_up"])]
    best = min(pairs, key=lambda pair: pair.rank(now))
    return best.contact, best.agent


def _rerun_jointly(told: Mapping[str, Any], now: float) -> tuple[str, str]:
    contacts, agents = told["joint"]["contacts"], told["joint"]["agents"]
    worth = np.full((len(contacts), len(agents)), -math.inf)
    for row, (contact, fits) in enumerate(zip(contacts, told["joint"]["fit"], strict=True)):
        terms = _terms(contact["terms"])
        for column, (agent, fit) in enumerate(zip(agents, fits, strict=True)):
            if fit is not None:
                worth[row, column] = _pair({**contact, **agent, "fit": fit}, terms).total(now)
    return next(
        (
            (contacts[row]["contact"], agents[column]["agent"])
            for row, column in assign(worth)
            if contacts[row]["contact"] == told["contact"]
        ),
        ("", ""),
    )


def _candidate(pair: Pair, now: float, terms: list[Terms], preferred: Collection[str]) -> dict[str, Any]:
    number = next((index for index, one in enumerate(terms) if one is pair.terms or one == pair.terms), len(terms))
    if number == len(terms):
        terms.append(pair.terms)
    return {
        "contact": pair.contact,
        "since": pair.since,
        "terms": number,
        "agent": pair.agent,
        "profile": pair.profile,
        "fit": pair.fit,
        "price": pair.price,
        "load": pair.load,
        "idle_since": pair.idle_since,
        "score": _score(pair, now),
        **({"qa_scores": {name: step for name, step in sorted(pair.scores) if name in preferred}} if preferred else {}),
    }


def _score(pair: Pair, now: float) -> dict[str, float]:
    """The parts, in seconds of an ordinary customer's waiting; what counts against the pair is below 0."""
    terms = pair.terms
    waits = urgency(terms, max(0.0, now - pair.since))
    fit = terms.fit_seconds * pair.fit
    scarcity = 0.0 - terms.scarcity_seconds * pair.price
    load = 0.0 - terms.load_seconds * (pair.load / 100.0)
    idle = terms.idle_seconds * idleness(max(0.0, now - pair.idle_since))
    return {"urgency": waits, "fit": fit, "scarcity": scarcity, "idle": idle, "load": load, "total": waits + fit + scarcity + load + idle}


def _finite(terms: Terms) -> dict[str, Any]:
    return {name: None if value == math.inf else value for name, value in terms._asdict().items()}


def _terms(told: Mapping[str, Any]) -> Terms:
    values: dict[str, Any] = {name: math.inf if value is None else value for name, value in told.items()}
    return Terms(**values)


def _pair(told: Mapping[str, Any], terms: Terms) -> Pair:
    return Pair(
        told["contact"],
        told["since"],
        terms,
        told["agent"],
        told.get("profile", ""),
        told["fit"],
        told["price"],
        told["load"],
        told["idle_since"],
    )


# In words

_WORDS: dict[Language, dict[str, str]] = {
    "en": {
        "best_agent": "{agent} got contact {contact} as the best of {candidates} who suited it and had room.",
        "best_contact": "{agent} was free and got contact {contact} as the first of {candidates} waiting whom they suit.",
        "joint": "Contact {contact} went to {agent} in an assignment of {rows} contacts to {columns} agents at once, with the highest sum.",
        "only": "Contact {contact} was kept for {agent}, who got it.",
        "waited": "It had waited {waited} s.",
        "overdue": "That was {overdue} s beyond the bound, and who is most overdue goes first.",
        "score": "Worth {total} s of an ordinary customer's waiting: {parts}.",
        "urgency": "waiting {0}",
        "fit": "fit {0}",
        "scarcity": "scarce skills {0}",
        "qa_scores": "The policy prefers by the scores of quality in {cards}; who has none there counts as the best.",
        "idle": "idleness {0}",
        "load": "other contacts {0}",
        "agent_behind": "Not {other}: worth {total} s, {gap} s less ({parts}).",
        "agent_joint": "Not {other}: worth {total} s for this contact, but the sum over all was higher this way.",
        "contact_behind": "Not contact {other}: worth {total} s, {gap} s less ({parts}).",
        "contact_overdue": "Not contact {other}: worth {total} s, but less overdue.",
        "tie": "Not {other}: worth the same {total} s, and came later.",
        "further": "{count} more were candidates, the best of them worth {best} s.",
        "further_unknown": "{count} more were candidates.",
        "pool": "Agents who were not asked: {reasons}.",
        "join": ", ",
        "reason": "{agents} {reason}",
    },
    "zh": {
        "best_agent": "联络 {contact} 分配给 {agent}：在 {candidates} 位合适且有余量的坐席中得分最高。",
        "best_contact": "{agent} 空闲，在 {candidates} 个适合其处理的等待联络中，{contact} 排在首位。",
        "joint": "联络 {contact} 分配给 {agent}：{rows} 个联络与 {columns} 位坐席一并分配，总分最高。",
        "only": "联络 {contact} 专为 {agent} 保留，现已分配。",
        "waited": "客户已等待 {waited} 秒。",
        "overdue": "已超出等待上限 {overdue} 秒；超时最久者优先。",
        "score": "价值相当于普通客户等待 {total} 秒：{parts}。",
        "urgency": "等待 {0}",
        "fit": "匹配 {0}",
        "scarcity": "稀缺技能 {0}",
        "qa_scores": "策略还按质量评分（{cards}）择优；没有评分者按满分计。",
        "idle": "空闲 {0}",
        "load": "在办联络 {0}",
        "agent_behind": "未选 {other}：{total} 秒，少 {gap} 秒（{parts}）。",
        "agent_joint": "未选 {other}：就此联络为 {total} 秒，但如此分配总分更高。",
        "contact_behind": "未选联络 {other}：{total} 秒，少 {gap} 秒（{parts}）。",
        "contact_overdue": "未选联络 {other}：{total} 秒，但超时较短。",
        "tie": "未选 {other}：同为 {total} 秒，但次序在后。",
        "further": "另有 {count} 个候选，其中最高 {best} 秒。",
        "further_unknown": "另有 {count} 个候选。",
        "pool": "未被询问的坐席：{reasons}。",
        "join": "，",
        "reason": "{agents} 位{reason}",
    },
}

# Reasons of exclusion begin like this; the rest is a name.
_REASONS_ZH = (
    ("not in queue ", "不在队列 {}"),
    ("not certified for ", "未获 {} 渠道认证"),
    ("practises on other queues than ", "仅在其他队列实习，不含 {}"),
    ("skill ", "技能不足（{}）"),
    ("language ", "语言不足（{}）"),
    ("kept for ", "因联络为 {} 保留而未询问"),
    ("passed on it before", "先前已放过此联络"),
    ("no room", "没有余量"),
    ("chosen", "已选中"),
    ("candidate", "为候选但未选中"),
    ("offline", "未登录"),
    ("unknown", "状态未知"),
    ("available", "空闲"),
    ("paused", "暂停中"),
    ("offered", "已有待接联络"),
    ("busy", "通话或处理中"),
    ("wrap_up", "整理中"),
)


def words(told: Mapping[str, Any], language: Language = "en", others: int = 5) -> list[str]:
    """Why this one, and why not the others, in sentences; at most `others` of the runners-up are named. Languages: en, zh."""
    say = _WORDS[language]
    chosen, runners_up, further = told["chosen"], told["runners_up"], told["further"]
    joint = told.get("joint", {"contacts": (), "agents": ()})
    facts = {
        "agent": told["agent"],
        "contact": told["contact"],
        "candidates": 1 + len(runners_up) + further["candidates"],
        "rows": len(joint["contacts"]),
        "columns": len(joint["agents"]),
    }
    text = [say[told["rule"]].format(**facts), say["waited"].format(waited=_number(told["waited_seconds"]))]
    if told["overdue_seconds"] > 0:
        text.append(say["overdue"].format(overdue=_number(told["overdue_seconds"])))
    text.append(say["score"].format(total=_number(told["score"]["total"]), parts=_parts(told["score"], language)))
    if cards := [name for kind, name, _ in told["need"].get("prefers", ()) if kind == "score"]:
        text.append(say["qa_scores"].format(cards=say["join"].join(cards)))
    text += [_why_not(one, chosen, told, language) for one in runners_up[:others]]
    left = runners_up[others:]
    count = len(left) + further["candidates"]
    best = max((one["score"]["total"] for one in left), default=further["best"])
    if count:
        key = "further" if best is not None else "further_unknown"
        text.append(say[key].format(count=count, best=_number(best or 0.0)))
    reasons = _excluded(told, language)
    if reasons:
        text.append(say["pool"].format(reasons=say["join"].join(reasons)))
    return text


def _why_not(other: Mapping[str, Any], chosen: Mapping[str, Any], told: Mapping[str, Any], language: Language) -> str:
    say, total = _WORDS[language], other["score"]["total"]
    gap = chosen["score"]["total"] - total
    facts = {"total": _number(total), "gap": _number(gap), "parts": _parts(other["score"], language)}
    if other["contact"] == told["contact"]:
        if told["rule"] == "joint":
            return say["agent_joint"].format(other=other["agent"], **facts)
        return say["agent_behind" if gap > 0 else "tie"].format(other=other["agent"], **facts)
    if gap == 0:
        return say["tie"].format(other=other["contact"], **facts)
    return say["contact_behind" if gap > 0 else "contact_overdue"].format(other=other["contact"], **facts)


def _parts(score: Mapping[str, float], language: Language) -> str:
    say = _WORDS[language]
    named = [say[name].format(f"{score[name]:+.1f}") for name in ("urgency", "fit", "scarcity", "idle", "load") if score[name]]
    return say["join"].join(named)


def _excluded(told: Mapping[str, Any], language: Language) -> list[str]:
    counts: dict[str, int] = {}
    for one in told["pool"]:
        if one["reason"] != "candidate":
            counts[one["reason"]] = counts.get(one["reason"], 0) + one["agents"]
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [_WORDS[language]["reason"].format(agents=agents, reason=reason_in(reason, language)) for reason, agents in ordered]


def reason_in(reason: str, language: Language) -> str:
    if language == "zh":
        for start, chinese in _REASONS_ZH:
            if reason.startswith(start):
                return chinese.format(reason[len(start) :].replace(" below ", " 低于 "))
    return reason


def _number(seconds: float) -> str:
    return f"{seconds:.1f}".removesuffix(".0")
