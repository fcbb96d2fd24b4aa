"""Automatic checks: rules written as data, held against every contact's facts and transcript.

A rule never raises and never guesses: what it cannot see (no transcript, no times, no words of the language) does not apply. Words are looked for, not
patterns of a programming language, so no rule can be slow or be written to stall the service.

    name: identity_first
    title: {en: Verifies identity before disclosing, zh: 先核实身份再透露信息}
    applies: {channel: [voice, chat]}         facts that must hold; a list: any of them
    critical: compliance                      optional; weight: 1; risk: 0.5; criterion: of a scorecard
    check:
      before:                                 one of CHECKS
        first: {say: {en: [date of birth, account number], zh: [出生日期, 账号]}, do: [verify-identity]}
        then: {say: {en: [your balance is], zh: [您的余额]}}

In a phrase, * is up to a few words and # a number. Capitals, punctuation and apostrophes do not matter.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from services.qa.domain.errors import Invalid
from services.qa.domain.scorecard import CLASSES, HANDLE_TIME_FACTS, NO_TARGET, hurries

Speaker = Literal["agent", "customer", "system"]
Fact = str | float | bool | None
SPEAKERS = ("agent", "customer", "system")
LANGUAGES = ("en", "zh")
TEXT_FACTS = frozenset({"ended_by", "channel", "queue", "disposition", "matter", "language"})
NUMBER_FACTS = frozenset({"waited_seconds", "transfers", "holds", "silence_seconds", "agent_turns", "customer_turns"})
TRUTH_FACTS = frozenset({"self_service_failed"})
FACTS = TEXT_FACTS | NUMBER_FACTS | TRUTH_FACTS
MAX_RULES, MAX_PHRASES, MAX_PHRASE, MAX_GAPS = 500, 200, 200, 2
NEAR_TURNS = 6
FEWEST_CHINESE = 0.1
ENGLISH = re.compile(r" (?:the|you|your|please|thank|thanks|what|with|this) ")
CHINESE = re.compile(r"[\u3400-\u9fff]")
SPACED_CHINESE = re.compile(r"(?<=[\u3400-\u9fff])[ \t]+(?=[\u3400-\u9fff])")
BETWEEN = re.compile(r"[^\w\n]+")
IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,59}")
LINE = 1 << 32
"""A place is the number of the turn times this, and how far into it."""


@dataclass(frozen=True)
class Turn:
    """What one side said, or did in a tool (`system`; `action`: its name, as in verify-identity). Seconds since the contact's beginning."""

    speaker: Speaker
    text: str
    start: float | None = None
    end: float | None = None
    action: str | None = None


@dataclass(frozen=True)
class Result:
    """`passed` None: does not apply, or cannot be seen. `turn` (from 0) and `second`: where it shows. `detail` repeats nothing that anybody said."""

    rule: str
    passed: bool | None
    turn: int | None = None
    second: float | None = None
    detail: str = ""
    critical: str | None = None


@dataclass(frozen=True)
class Found:
    """What a check says: passed or not, where, and why."""

    passed: bool | None
    place: int | None = None
    detail: str = ""


SILENT = Found(None)


class Talk:
    """A transcript, prepared for looking words up: each speaker's turns in one text, without capitals and punctuation."""

    def __init__(self, turns: Sequence[Turn], language: str | None) -> None:
        self.turns = turns
        self.told = language

    @cached_property
    def lines(self) -> dict[str, tuple[str, list[int], list[int]]]:
        """By speaker: the text, where each of its lines begins, and which turn that is."""
        said: dict[str, tuple[list[str], list[int]]] = {speaker: ([], []) for speaker in SPEAKERS}
        for number, turn in enumerate(self.turns):
            texts, numbers = said[turn.speaker]
            texts.append(turn.text.replace("\n", " "))
            numbers.append(number)
        return {speaker: (*_lines(texts), numbers) for speaker, (texts, numbers) in said.items()}

    @cached_property
    def language(self) -> str | None:
        """As told, or as it looks; None: neither English nor Chinese."""
        if self.told:
            return next((one for one in LANGUAGES if self.told.lower().startswith(one)), None)
        text = self.lines["agent"][0] + self.lines["customer"][0]
        if not text.isascii() and len(CHINESE.findall(text)) > FEWEST_CHINESE * len(text):
            return "zh"
        return "en" if ENGLISH.search(text) else None

    @cached_property
    def actions(self) -> list[tuple[int, str]]:
        return [
            (number, _action(turn.action if turn.action is not None else turn.text))
            for number, turn in enumerate(self.turns)
            if turn.speaker == "system"
        ]

    def find(self, phrases: Sequence[Phrase], speaker: str, after: int = -1) -> int | None:
        """The first place after a place at which `speaker` says one of the phrases."""
        text, starts, numbers = self.lines[speaker]
        begin = _offset(after, starts, numbers) if after >= 0 else 0
        best = -1
        for phrase in phrases:
            at = phrase.find(text, begin)
            if at >= 0 and (best < 0 or at < best):
                best = at
        if best < 0:
            return None
        line = bisect_right(starts, best) - 1
        return numbers[line] * LINE + best - starts[line]

    def said(self, phrases: Sequence[Phrase], speaker: str, first: int, last: int) -> int | None:
        """Where `speaker` says one of the phrases in their turns `first` to `last` (of their own, the last one excluded)."""
        text, starts, numbers = self.lines[speaker]
        first, last = max(0, first), min(last, len(starts))
        if first >= last:
            return None
        begin, end = starts[first], starts[last] if last < len(starts) else len(text)
        part = text[begin:end]
        for phrase in phrases:
            at = phrase.find(part, 0)
            if at >= 0:
                line = bisect_right(starts, begin + at) - 1
                return numbers[line] * LINE + begin + at - starts[line]
        return None

    def did(self, actions: frozenset[str], after: int = -1) -> int | None:
        for number, action in self.actions:
            if number * LINE > after and action in actions:
                return number * LINE
        return None


def _lines(texts: Sequence[str]) -> tuple[str, list[int]]:
    joined = "\n".join(texts).lower()
    if not joined.isascii():
        joined = SPACED_CHINESE.sub("", joined.replace("’", "'"))
    plain = " " + BETWEEN.sub(" ", joined.replace("'", "")).replace("\n", " \n ") + " "
    starts, at = [0] if texts else [], plain.find("\n")
    while at >= 0:
        starts.append(at + 1)
        at = plain.find("\n", at + 1)
    return plain, starts


def _offset(place: int, starts: Sequence[int], numbers: Sequence[int]) -> int:
    """Where in a speaker's text to go on looking after a place in anybody's."""
    turn, within = divmod(place, LINE)
    line = bisect_right(numbers, turn) - 1
    if line >= 0 and numbers[line] == turn:
        return starts[line] + within + 1
    return starts[line + 1] if line + 1 < len(starts) else 1 << 40


class Phrase:
    """Words to look for: a search in a text where nothing varies, a bounded pattern (behind such a search) where * or # do."""

    __slots__ = ("literals", "pattern")

    def __init__(self, words: str) -> None:
        marked = words.replace("*", " \x00 ").replace("#", "\x01")
        plain = "".join(" " if not (char.isalnum() or char in "_\x00\x01 ") else char for char in _plain(marked))
        pieces = [" ".join(piece.split()) for piece in plain.split("\x00")]
        pieces = [piece for piece in pieces if piece]
        if not pieces or not any(piece.strip("\x01 ") for piece in pieces):
            raise Invalid(f"{words!r} has no words to look for")
        if len(pieces) > MAX_GAPS + 1:  # each more multiplies the ways to look
            raise Invalid(f"{words!r} has more than {MAX_GAPS} *")
        padded = [_padded(piece) for piece in pieces]
        self.literals = [part for piece in padded for part in piece.split("\x01") if part.strip()]
        self.pattern = None
        if len(padded) > 1 or any("\x01" in piece for piece in padded):
            written = (_bounded(piece).replace("\x01", r"\d[\d ]{0,30}") for piece in pieces)
            self.pattern = re.compile(r"[^\n]{0,40}?".join(written))

    def find(self, text: str, begin: int) -> int:
        if self.pattern is None:
            return text.find(self.literals[0], begin)
        for literal in self.literals:
            if text.find(literal, begin) < 0:
                return -1
        found = self.pattern.search(text, begin)
        return found.start() if found else -1


def _plain(text: str) -> str:
    return SPACED_CHINESE.sub("", text.lower().replace("’", "'").replace("'", ""))


def _padded(piece: str) -> str:
    """Whole words alone count; Chinese has no spaces between them."""
    left = "" if CHINESE.match(piece[0]) else " "
    right = "" if CHINESE.match(piece[-1]) else " "
    return f"{left}{piece}{right}"


def _bounded(piece: str) -> str:
    left = "" if CHINESE.match(piece[0]) else r"(?<![a-z0-9_])"
    right = "" if CHINESE.match(piece[-1]) else r"(?![a-z0-9_])"
    return f"{left}{re.escape(piece)}{right}"


def _action(name: str) -> str:
    return "-".join(re.split(r"[\s_-]+", name.strip().lower()))


# ---- what is sought


@dataclass(frozen=True)
class Sought:
    """Something said (one of the phrases of the transcript's language) or done (one of the actions)."""

    name: str
    phrases: Mapping[str, Sequence[Phrase]]
    actions: frozenset[str]
    by: Speaker
    optional: bool = False
    unless: Sought | None = None

    def visible(self, talk: Talk) -> bool:
        return bool(self.actions) or bool(self.of(talk))

    def of(self, talk: Talk) -> Sequence[Phrase]:
        return self.phrases.get("", ()) or (self.phrases.get(talk.language, ()) if talk.language else ())

    def find(self, talk: Talk, after: int = -1) -> int | None:
        places = [talk.find(phrases, self.by, after)] if (phrases := self.of(talk)) else []
        if self.actions:
            places.append(talk.did(self.actions, after))
        return min((place for place in places if place is not None), default=None)


Check = Callable[[Mapping[str, Fact], Talk | None], Found]


@dataclass(frozen=True)
class Rule:
    name: str
    title: Mapping[str, str]
    check: Check
    applies: Mapping[str, frozenset[Fact]] = field(default_factory=dict)
    weight: float = 1.0
    critical: str | None = None
    criterion: str | None = None
    risk: float = 0.5

    def judge(self, facts: Mapping[str, Fact], talk: Talk | None) -> Result:
        for name, wanted in self.applies.items():
            if facts.get(name) not in wanted:
                return Result(self.name, None, critical=self.critical)
        found = self.check(facts, talk)
        if found.place is None or talk is None:
            return Result(self.name, found.passed, detail=found.detail, critical=self.critical)
        turn = found.place // LINE
        return Result(self.name, found.passed, turn, talk.turns[turn].start, found.detail, self.critical)


class Rules:
    """Rules, compiled once and held against any number of contacts."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self._by_name = {rule.name: rule for rule in rules}

    def check(self, facts: Mapping[str, Fact], turns: Sequence[Turn] | None) -> list[Result]:
        """One result a rule, in their order. `facts`: FACTS, those that are known. `turns` None: there is no transcript."""
        talk = None
        if turns:
            language = facts.get("language")
            talk = Talk(turns, language if isinstance(language, str) else None)
            counts = {f"{who}_turns": float(sum(turn.speaker == who for turn in turns)) for who in ("agent", "customer")}
            facts = {**facts, **counts}
        return [rule.judge(facts, talk) for rule in self.rules]

    def risk_of(self, rule: str) -> float:
        """How much a failure of the rule counts when contacts to listen to are chosen."""
        return self._by_name[rule].risk

    def weight_of(self, rule: str) -> float:
        return self._by_name[rule].weight


def score(results: Sequence[Result], rules: Rules) -> float | None:
    """The weighted share that passed, of what applied; None: nothing did."""
    counted = [(rules.weight_of(one.rule), one.passed) for one in results if one.passed is not None]
    whole = sum(weight for weight, _ in counted)
    return sum(weight for weight, passed in counted if passed) / whole if whole else None


# ---- kinds of checks: each reads its part of a rule and gives what judges a contact


def _steps(told: Mapping[str, Any], at: str) -> Check:
    """All steps, in order (`in_order: false`: in any); others may come between."""
    given = _fields(told, at, {"steps": list, "in_order": bool}, ("steps",))
    steps = [_sought(one, f"{at}.steps[{number}]", step=True) for number, one in enumerate(given["steps"])]
    if not steps:
        raise Invalid(f"{at}.steps: at least one step")
    return _in_order(steps, bool(given.get("in_order", True)))


def _in_order(steps: Sequence[Sought], in_order: bool) -> Check:
    def judge(_: Mapping[str, Fact], talk: Talk | None) -> Found:
        if talk is None or not all(step.visible(talk) for step in steps):
            return SILENT
        missing: list[str] = []
        disordered: list[str] = []
        place = -1
        for step in steps:
            at = step.find(talk, place if in_order else -1)
            if at is not None:
                place = max(place, at)
            elif step.optional or (step.unless and step.unless.find(talk) is not None):
                continue
            else:
                (disordered if in_order and step.find(talk) is not None else missing).append(step.name)
        if not missing and not disordered:
            return Found(True, place if place >= 0 else None)
        told = [f"missing: {', '.join(missing)}"] * bool(missing) + [f"out of order: {', '.join(disordered)}"] * bool(disordered)
        return Found(False, place if place >= 0 else None, "; ".join(told))

    return judge


def _procedures(told: Mapping[str, Any], at: str) -> Check:
    """The actions that each kind of case requires, by the contact's matter (or `by: disposition`); others may come between. `unless`: the
    case was ended before its end for a reason, as by a refusal that the rules demand."""
    given = _fields(told, at, {"procedures": dict, "in_order": bool, "by": str, "unless": dict}, ("procedures",))
    by = given.get("by", "matter")
    if by not in ("matter", "disposition"):
        raise Invalid(f"{at}.by is matter or disposition")
    unless = _sought(given["unless"], f"{at}.unless") if "unless" in given else None
    judges = {}
    for matter, actions in given["procedures"].items():
        if not isinstance(actions, list) or not actions or not all(isinstance(one, str) and one.strip() for one in actions):
            raise Invalid(f"{at}.procedures.{matter} is a list of actions")
        steps = [Sought(one, {}, frozenset({_action(one)}), "system", unless=unless) for one in actions]
        judges[str(matter)] = _in_order(steps, bool(given.get("in_order", True)))

    def judge(facts: Mapping[str, Fact], talk: Talk | None) -> Found:
        of = judges.get(str(facts.get(by)))
        return of(facts, talk) if of and talk is not None and talk.actions else SILENT

    return judge


def _says(told: Mapping[str, Any], at: str) -> Check:
    """One of the phrases, anywhere, in the speaker's `first_turns` or `last_turns`, or `within_seconds` of the beginning."""
    shape = {"say": object, "by": str, "first_turns": int, "last_turns": int, "within_seconds": (int, float)}
    given = _fields(told, at, shape, ("say",))
    sought = _sought({name: given[name] for name in ("say", "by") if name in given}, at)
    first, last, seconds = given.get("first_turns"), given.get("last_turns"), given.get("within_seconds")
    if sum(one is not None for one in (first, last, seconds)) > 1:
        raise Invalid(f"{at}: only one of first_turns, last_turns and within_seconds")
    if any(one is not None and one <= 0 for one in (first, last, seconds)):
        raise Invalid(f"{at}: first_turns, last_turns and within_seconds are more than 0")

    def judge(_: Mapping[str, Fact], talk: Talk | None) -> Found:
        if talk is None or not (phrases := sought.of(talk)):
            return SILENT
        count = len(talk.lines[sought.by][1])
        begin, end = (count - last if last else 0), (first if first else count)
        if seconds is not None:
            numbers = talk.lines[sought.by][2]
            starts = [talk.turns[number].start for number in numbers]
            if any(start is None for start in starts):
                return SILENT
            end = sum(start is not None and start <= seconds for start in starts)
        place = talk.said(phrases, sought.by, begin, end)
        return Found(place is not None, place, "" if place is not None else "not said")

    return judge


def _never(told: Mapping[str, Any], at: str) -> Check:
    """None of the phrases."""
    given = _fields(told, at, {"say": object, "by": str}, ("say",))
    sought = _sought(given, at)

    def judge(_: Mapping[str, Fact], talk: Talk | None) -> Found:
        if talk is None or not sought.of(talk):
            return SILENT
        place = sought.find(talk)
        return Found(place is None, place, "said" if place is not None else "")

    return judge


def _dead_air(told: Mapping[str, Any], at: str) -> Check:
    """No pause longer than `seconds` between two turns; one that the agent announced (`unless`) may be as long as `announced_seconds`."""
    shape = {"seconds": (int, float), "announced_seconds": (int, float), "unless": dict}
    given = _fields(told, at, shape, ("seconds",))
    limit, announced = float(given["seconds"]), float(given.get("announced_seconds", "inf"))
    if limit <= 0 or announced <= 0:
        raise Invalid(f"{at}: seconds are more than 0")
    sought = _sought({"say": given["unless"]}, f"{at}.unless") if "unless" in given else None

    def judge(_: Mapping[str, Fact], talk: Talk | None) -> Found:
        if talk is None:
            return SILENT
        end: float | None = None
        timed = False
        for number, turn in enumerate(talk.turns):
            if turn.start is None or turn.speaker == "system":
                continue
            if end is not None:
                timed = True
                gap = turn.start - end
                if gap > limit and (gap > announced or sought is None or not _announced(talk, sought, number)):
                    return Found(False, number * LINE, f"{gap:.0f} s of silence")
            end = max(end or 0.0, turn.end if turn.end is not None else turn.start)
        return Found(True) if timed else SILENT

    return judge


def _announced(talk: Talk, sought: Sought, number: int) -> bool:
    """Whether the agent's last turn before this one says so."""
    before = bisect_right(talk.lines["agent"][2], number - 1)
    return talk.said(sought.of(talk), "agent", before - 1, before) is not None


def _before(told: Mapping[str, Any], at: str) -> Check:
    """`then` only after `first` (at least `at_least` of its phrases and actions). Where `then` never comes, there is nothing to judge."""
    given = _fields(told, at, {"first": object, "then": object, "at_least": int}, ("first", "then"))
    first, then = _sought(given["first"], f"{at}.first"), _sought(given["then"], f"{at}.then")
    at_least = given.get("at_least", 1)
    if at_least < 1:
        raise Invalid(f"{at}.at_least is at least 1")

    def judge(_: Mapping[str, Fact], talk: Talk | None) -> Found:
        if talk is None or not (first.visible(talk) and then.visible(talk)):
            return SILENT
        place = then.find(talk)
        if place is None:
            return SILENT
        found = 0
        for phrase in first.of(talk):
            earlier = talk.find((phrase,), first.by)
            found += earlier is not None and earlier < place
        for action in first.actions:
            earlier = talk.did(frozenset({action}))
            # an action is a verification carried out, which stands for all that was asked
            found += at_least if earlier is not None and earlier < place else 0
        return Found(found >= at_least, place, "" if found >= at_least else f"{found} of {at_least} before it")

    return judge


def _reply(told: Mapping[str, Any], at: str) -> Check:
    """When one side says this, the other says or does that within so many turns."""
    given = _fields(told, at, {"when": object, "then": object, "within_turns": int}, ("when", "then"))
    when, then = _sought(given["when"], f"{at}.when", by="customer"), _sought(given["then"], f"{at}.then")
    near = given.get("within_turns", NEAR_TURNS)
    if near < 1:
        raise Invalid(f"{at}.within_turns is at least 1")

    def judge(_: Mapping[str, Fact], talk: Talk | None) -> Found:
        if talk is None or not (when.visible(talk) and then.visible(talk)):
            return SILENT
        place, said = when.find(talk), None
        while place is not None:
            said = place
            answer = then.find(talk, place)
            if answer is not None and answer // LINE - place // LINE <= near:
                return Found(True, answer)
            place = when.find(talk, (place // LINE + near) * LINE)
        return SILENT if said is None else Found(False, said, "no answer to it")

    return judge


def _fact(told: Mapping[str, Any], at: str) -> Check:
    """A fact within limits, or one of some values."""
    shape = {"fact": str, "at_least": (int, float), "at_most": (int, float), "is": object, "one_of": list}
    given = _fields(told, at, shape, ("fact",))
    name = given["fact"]
    if name in HANDLE_TIME_FACTS:
        raise Invalid(f"{at}.fact: {NO_TARGET}")
    if name not in FACTS:
        raise Invalid(f"{at}.fact: there is no fact {name!r}; there are {', '.join(sorted(FACTS))}")
    low, high = given.get("at_least"), given.get("at_most")
    values = frozenset(given.get("one_of", ())) | ({given["is"]} if "is" in given else frozenset())
    if (low is None and high is None) == (not values):
        raise Invalid(f"{at}: either at_least and at_most, or is, or one_of")
    if name not in NUMBER_FACTS and not values:
        raise Invalid(f"{at}: {name} is no number: use is or one_of")

    def judge(facts: Mapping[str, Fact], _: Talk | None) -> Found:
        value = facts.get(name)
        if value is None:
            return SILENT
        if values:
            return Found(value in values, None, f"{name} is {value}")
        number = float(value)
        fine = (low is None or number >= low) and (high is None or number <= high)
        return Found(fine, None, f"{name} is {number:g}")

    return judge


CHECKS: Mapping[str, Callable[[Mapping[str, Any], str], Check]] = {
    "steps": _steps,
    "procedures": _procedures,
    "says": _says,
    "never": _never,
    "dead_air": _dead_air,
    "before": _before,
    "reply": _reply,
    "fact": _fact,
}
"""What each asks for stands in its function."""


# ---- reading rules


def compile_rules(documents: Sequence[Mapping[str, Any]], *, accepted: bool = False) -> Rules:
    """Rules as they are written. Raises Invalid with the place and what to mend. `accepted`: they are in force, and their words are not judged again."""
    if len(documents) > MAX_RULES:
        raise Invalid(f"at most {MAX_RULES} rules")
    rules: dict[str, Rule] = {}
    for number, document in enumerate(documents):
        rule = _rule(document, f"rules[{number}]")
        if not accepted and hurries(rule.name, *rule.title.values()):
            raise Invalid(f"rules[{number}] ({rule.name}): {NO_TARGET}")
        if rule.name in rules:
            raise Invalid(f"rules[{number}].name: there is a rule {rule.name} already")
        rules[rule.name] = rule
    return Rules(list(rules.values()))


RULE = {
    "name": str, "title": dict, "check": dict, "applies": dict, "weight": (int, float), "critical": str, "criterion": str, "risk": (int, float),
}  # fmt: skip


def _rule(document: Any, at: str) -> Rule:
    told = _fields(document, at, RULE, ("name", "title", "check"))
    name = told["name"]
    if not IDENTIFIER.fullmatch(name):
        raise Invalid(f"{at}.name: small letters, digits and _, beginning with a letter")
    at = f"{at} ({name})"
    title = told["title"]
    if not title or not all(isinstance(text, str) and text for text in title.values()):
        raise Invalid(f"{at}.title: words by language, as in {{en: Greets the customer}}")
    if told.get("critical") not in (None, *CLASSES):
        raise Invalid(f"{at}.critical is one of {', '.join(CLASSES)}")
    weight, risk = float(told.get("weight", 1)), float(told.get("risk", 0.5))
    if not 0 <= weight <= 1000 or not 0 <= risk <= 1:
        raise Invalid(f"{at}: weight is from 0 to 1000, risk from 0 to 1")
    if len(told["check"]) != 1:
        raise Invalid(f"{at}.check: exactly one of {', '.join(CHECKS)}")
    kind, inner = next(iter(told["check"].items()))
    if kind not in CHECKS:
        raise Invalid(f"{at}.check: there is no check {kind!r}; there are {', '.join(CHECKS)}")
    check = CHECKS[kind](inner, f"{at}.check.{kind}")
    return Rule(name, title, check, _applies(told.get("applies", {}), at), weight, told.get("critical"), told.get("criterion"), risk)


def _applies(told: Mapping[str, Any], at: str) -> dict[str, frozenset[Fact]]:
    found = {}
    for name, value in told.items():
        if name not in TEXT_FACTS | TRUTH_FACTS:
            raise Invalid(f"{at}.applies: {name!r} is none of {', '.join(sorted(TEXT_FACTS | TRUTH_FACTS))}")
        values = value if isinstance(value, list) else [value]
        if not values or not all(isinstance(one, str | bool) for one in values):
            raise Invalid(f"{at}.applies.{name} is a word, or a list of them")
        found[name] = frozenset(values)
    return found


def _fields(told: Any, at: str, shape: Mapping[str, Any], required: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(told, Mapping):
        raise Invalid(f"{at} has {', '.join(shape)}")
    if unknown := [str(name) for name in told if name not in shape]:
        raise Invalid(f"{at}: there is no {', '.join(unknown)}; there are {', '.join(shape)}")
    if missing := [name for name in required if name not in told]:
        raise Invalid(f"{at}: {', '.join(missing)} is missing")
    for name, value in told.items():
        kind = shape[name]
        numeric = kind in (int, (int, float))
        if not isinstance(value, kind) or (numeric and isinstance(value, bool)) or (numeric and not abs(value) < 1e9):
            raise Invalid(f"{at}.{name} is not {KINDS.get(kind, 'as it must be')}")
    return told


KINDS: Mapping[Any, str] = {
    str: "a text",
    dict: "a group of fields",
    list: "a list",
    int: "a whole number",
    (int, float): "a number",
    bool: "true or false",
}


def _sought(told: Any, at: str, *, step: bool = False, by: Speaker = "agent") -> Sought:
    shape = {"say": object, "do": list, "by": str} | ({"optional": bool, "unless": object, "name": str} if step else {})
    given = _fields(told, at, shape, ())
    if not given.keys() & {"say", "do"}:
        raise Invalid(f"{at}: say (phrases) or do (actions)")
    speaker = given.get("by", by)
    if speaker not in SPEAKERS:
        raise Invalid(f"{at}.by is one of {', '.join(SPEAKERS)}")
    actions = given.get("do", [])
    if not all(isinstance(one, str) and one.strip() for one in actions):
        raise Invalid(f"{at}.do is a list of actions' names")
    phrases = _phrases(given["say"], f"{at}.say") if "say" in given else {}
    name = given.get("name") or (actions[0] if actions else at.rsplit(".", 1)[-1])
    unless = _sought(given["unless"], f"{at}.unless") if "unless" in given else None
    return Sought(str(name), phrases, frozenset(_action(one) for one in actions), speaker, bool(given.get("optional")), unless)


def _phrases(told: Any, at: str) -> dict[str, tuple[Phrase, ...]]:
    """A list: whatever the language; or lists by language."""
    by_language = told if isinstance(told, Mapping) else {"": told}
    found = {}
    for language, texts in by_language.items():
        where = f"{at}.{language}" if language else at
        if language not in ("", *LANGUAGES):
            raise Invalid(f"{at}: lists by language: {', '.join(LANGUAGES)}")
        if not isinstance(texts, list) or not texts or not all(isinstance(one, str) for one in texts):
            raise Invalid(f"{where} is a list of phrases")
        if len(texts) > MAX_PHRASES or any(len(one) > MAX_PHRASE for one in texts):
            raise Invalid(f"{where}: at most {MAX_PHRASES} phrases of at most {MAX_PHRASE} characters")
        try:
            found[language] = tuple(Phrase(one) for one in texts)
        except Invalid as wrong:
            raise Invalid(f"{where}: {wrong}") from None
    if not found:
        raise Invalid(f"{at}: no phrases")
    return found
