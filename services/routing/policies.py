"""Policies as people write them: one YAML or JSON document each, checked, compiled, compared and tried out.

    policy = compile(text, "sales", 3)      # every mistake at once, each with its line
    diff(running, policy)                   # what would change
    dry_run(policy, waiting, running)       # whom it would change for

docs/policy-reference.md describes the document.
"""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

import rule_engine
import structlog
import yaml
from rule_engine import ast

from services.routing.domain import policy as domain
from services.routing.domain.entities import TOP_LEVEL
from services.routing.domain.policy import FACTS, Facts, Policy, Segment
from shared import yamldoc
from shared.errors import Invalid
from shared.yamldoc import MAX_PROBLEMS, Node, join

log = structlog.get_logger()

MAX_BYTES = 65_536
MAX_SEGMENTS = 50
MAX_STEPS = 20
MAX_NAMES = 100
MAX_DEPTH = 12
MAX_RULE_LENGTH = 1000
MAX_RULE_TOKENS = 200
MAX_TOKENS = 1000
"""Of all rules of a policy: they are worked out for each contact, at a microsecond a word."""
BREATH = 200
"""Parts of a document that are read in a millisecond or two."""
MAX_SECONDS = 30 * 86_400

MAX_READ_LATELY = 50
_read_lately: dict[str, dict[str, Any]] = {}

RULE_TOKENS = {"SYMBOL", "FLOAT", "STRING", "TRUE", "FALSE", "AND", "OR", "NOT", "IN", "EQ", "NE", "GT", "GE", "LT", "LE"}
RULE_TOKENS |= {"ADD", "SUB", "MUL", "TDIV", "LPAREN", "RPAREN", "LBRACKET", "RBRACKET", "COMMA"}
"""Only what takes time in proportion to its length: no powers, shifts, patterns, loops or calls."""


def compile(text: str, name: str, version: int, breathe: Callable[[], None] = lambda: None) -> Policy:
    """The policy that a document describes. Raises Invalid with all its mistakes: `errors` is a list of {line, path, detail}.

    A large document takes a while: `breathe` is called now and then. One that was read lately takes no time.
    """
    values = _read_lately.get(text)
    if values is None:
        values = _read_document(text, breathe)
        _read_lately[text] = values
        if len(_read_lately) > MAX_READ_LATELY:
            del _read_lately[next(iter(_read_lately))]
    policy = Policy(name, version, **values)
    return replace(policy, segments=tuple(_with_rule(policy, segment) for segment in policy.segments))


def _read_document(text: str, breathe: Callable[[], None]) -> dict[str, Any]:
    reading = _Reading(breathe)
    values = reading.document(text)
    if reading.problems:
        first_of_each = {problem["path"]: problem for problem in reversed(reading.problems)}
        problems = sorted(first_of_each.values(), key=lambda problem: problem["line"])[:MAX_PROBLEMS]
        sentences = [f"line {problem['line']}: {problem['detail']}" for problem in problems]
        raise Invalid("; ".join(sentences), errors=problems)
    return values


def render(policy: Policy) -> str:
    """The policy as a document in canonical form: every number spelled out, nothing empty. It compiles to the same policy."""
    text = yaml.safe_dump(to_document(policy), sort_keys=False, allow_unicode=True, width=4096, default_flow_style=None)
    return str(text)


def to_document(policy: Policy) -> dict[str, Any]:
    """All of the policy but its name and version, without what is empty by default."""
    values = _plain(policy)
    values.setdefault("prefer", {})  # without the key the built-in preferences would hold
    return {key: value for key, value in values.items() if key not in ("name", "version")}


def diff(old: Policy, new: Policy) -> list[dict[str, Any]]:
    """What differs: {path, before, after}, None where it is absent. Segments go by their names, steps by their waits."""
    before, after = dict(_leaves(to_document(old))), dict(_leaves(to_document(new)))
    changes = [
        {"path": path, "before": before.get(path), "after": after.get(path)}
        for path in [*before, *(path for path in after if path not in before)]
        if before.get(path) != after.get(path)
    ]
    names = [[segment.name for segment in policy.segments] for policy in (old, new)]
    kept = [[name for name in mine if name in theirs] for mine, theirs in (names, names[::-1])]
    if kept[0] != kept[1]:
        changes.append({"path": "segments (order)", "before": names[0], "after": names[1]})
    return changes


def dry_run(policy: Policy, contacts: Iterable[Mapping[str, Any]], running: Policy | None = None) -> dict[str, Any]:
    """What the policy would mean for these contacts, and which of them `running` puts into another segment.

    A contact is its facts, and optionally `id`, `waited` (seconds), `skills` (required by its queue and itself) and `preferred` skills.
    Requirements are told at arrival, now, and at each relaxation.
    """
    rows = []
    for contact in contacts:
        segment = domain.segment_of(policy, contact)
        waits = {0.0, float(contact.get("waited", 0))} | {float(step.after_seconds) for step in policy.relax}
        asked = {"skills": contact.get("skills"), "preferred": contact.get("preferred", ())}
        rows.append(
            {
                "id": contact.get("id"),
                "segment": segment.name,
                "segment_now": domain.segment_of(running, contact).name if running else None,
                "requirements": [
                    {"waited": waited, **domain.requirement(policy, segment, contact, waited, **asked)._asdict()}
                    for waited in sorted(waits)
                ],
                "terms": domain.terms(policy, segment),
            }
        )
    sizes = Counter(row["segment"] for row in rows)
    names = [segment.name for segment in (*policy.segments, domain.EVERYONE)]
    return {
        "contacts": rows,
        "segments": {name: sizes[name] for name in names},
        "moved": sum(row["segment"] != row["segment_now"] for row in rows) if running else None,
        "failures": rule_failures(policy),
    }


def queues_of(policy: Policy) -> set[str]:
    """Every queue that the policy names, for whoever knows which exist."""
    suggested = policy.suggest_channels.to.values() if policy.suggest_channels else ()
    return {step.to for step in policy.overflow} | set(suggested)


# Rules


class Rule:
    """A condition on the facts of a contact. One that fails counts as no match and is reported; it never raises."""

    def __init__(self, text: str) -> None:
        """Raises ValueError where the text is no condition, with a sentence that says what to mend."""
        self.text = text
        self.where: dict[str, Any] = {}  # who asks: for the log
        self.failures = 0
        self.cause = ""
        self._rule = _checked_rule(text)

    def __call__(self, facts: Facts) -> bool:
        try:
            return self._rule.matches(facts)
        except Exception as error:  # noqa: BLE001 whatever is the matter with a rule, routing goes on
            self._report(error)
            return False

    def _report(self, error: Exception) -> None:
        # A fact's value may be personal: only rule_engine's own sentences, which hold none, are repeated.
        self.cause = error.message if isinstance(error, rule_engine.EngineError) else type(error).__name__
        self.failures += 1
        if self.failures == 1:
            log.warning("a policy's rule failed: no match", cause=self.cause, **self.where)


def rule_failures(policy: Policy) -> dict[str, dict[str, Any]]:
    """Segments whose rule failed since the policy was compiled: how often, and why it did last."""
    rules = {segment.name: segment.matches for segment in policy.segments}
    return {
        name: {"failures": rule.failures, "cause": rule.cause} for name, rule in rules.items() if isinstance(rule, Rule) and rule.failures
    }


def _with_rule(policy: Policy, segment: Segment) -> Segment:
    rule = Rule(segment.when)
    rule.where = {"policy": policy.name, "version": policy.version, "segment": segment.name}
    return replace(segment, matches=rule)


def _fact(facts: Facts, name: str) -> Any:
    value = facts.get(name)
    return FACTS[name] if value is None else value


TYPES = {bool: rule_engine.DataType.BOOLEAN, float: rule_engine.DataType.FLOAT, str: rule_engine.DataType.STRING}
CONTEXT = rule_engine.Context(
    resolver=_fact, type_resolver=rule_engine.type_resolver_from_dict({name: TYPES[type(value)] for name, value in FACTS.items()})
)
TYPE_NAMES = {"BOOLEAN": "a condition", "FLOAT": "a number", "STRING": "a text", "ARRAY": "a list", "UNDEFINED": "something"}


@lru_cache(maxsize=1024)
def _checked_rule(text: str) -> rule_engine.Rule:
    if len(text) > MAX_RULE_LENGTH:
        raise ValueError(f"is longer than {MAX_RULE_LENGTH} characters")
    try:
        tokens = _tokens(text)
        if len(tokens) > MAX_RULE_TOKENS:
            raise ValueError(f"has more than {MAX_RULE_TOKENS} words and signs")
        for token in tokens:
            if token.type not in RULE_TOKENS or (token.type == "SYMBOL" and token.value.startswith("$")):
                raise ValueError(
                    f"uses {token.value!r}: a rule is made of facts, numbers, texts, lists, "
                    "and, or, not, in, ==, !=, <, <=, >, >=, +, -, *, / and brackets"
                )
        rule = rule_engine.Rule(text, context=CONTEXT)
        _check_types(rule.statement.expression)
    except rule_engine.RuleSyntaxError as error:
        raise ValueError(_syntax_problem(text, error)) from error
    except rule_engine.SymbolResolutionError as error:
        raise ValueError(f"asks for {error.symbol_name!r}, which is no fact{_nearest(error.symbol_name, FACTS)}") from error
    except rule_engine.EngineError as error:
        raise ValueError(
            f"cannot be worked out: {error.message.replace('data type mismatch', 'numbers, texts and conditions do not mix')}"
        ) from error
    except ArithmeticError as error:
        raise ValueError("cannot be worked out: a number is beyond all measure") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    return rule


def _tokens(text: str) -> list[Any]:
    lexer = rule_engine.Rule.parser._lexer.clone()
    lexer.input(text)
    return list(lexer)


def _syntax_problem(text: str, error: rule_engine.RuleSyntaxError) -> str:
    if "reserved" in error.message:
        return "uses a word that is reserved: elif, else or while"
    if error.token is None:
        return "ends too early" if text.strip() else "is empty"
    hint = " (write == to compare)" if re.match("=(?!=)", text[error.token.lexpos :]) else ""
    return f"is not understood from {text[error.token.lexpos :][:20]!r} on{hint}"


def _check_types(expression: Any) -> None:
    """What the library lets pass: a number or text where a condition belongs, and comparisons that can never be true."""
    found = _type(expression)
    if found != "BOOLEAN":
        raise ValueError(f"has {TYPE_NAMES[found]} where a condition belongs")
    if isinstance(expression, ast.LogicExpression) or (
        isinstance(expression, ast.ComparisonExpression) and _type(expression.left) == "BOOLEAN"
    ):
        _check_types(expression.left)
        _check_types(expression.right)
    elif isinstance(expression, ast.UnaryExpression) and found == "BOOLEAN":
        _check_types(expression.right)
    elif isinstance(expression, ast.ComparisonExpression):
        left, right = _type(expression.left), _type(expression.right)
        if left != right:
            raise ValueError(f"compares {TYPE_NAMES[left]} with {TYPE_NAMES[right]}")
    elif isinstance(expression, ast.ContainsExpression) and _type(expression.container) == "ARRAY":
        member, held = _type(expression.member), expression.container.result_type.value_type.name
        if held not in (member, "UNDEFINED"):
            raise ValueError(f"looks for {TYPE_NAMES[member]} in a list that has none")


def _type(expression: Any) -> str:
    return str(expression.result_type.name)


# The document's form


class _Bad:
    """What is read of a part with a mistake in it."""


BAD = _Bad()
Read = Callable[["_Reading", Node, str], Any]


class _Reading:
    """One pass over a document, which notes every mistake and goes on."""

    def __init__(self, breathe: Callable[[], None]) -> None:
        self.breathe = breathe
        self.parts = 0
        self.problems: list[dict[str, Any]] = []
        self.lines: dict[str, int] = {}  # by path
        self.values: dict[str, Any] = {}  # by path, as far as they are good

    def problem(self, line: int, path: str, what: str) -> _Bad:
        self.problems.append({"line": line, "path": path, "detail": f"{path or 'the document'} {what}"})
        return BAD

    def count(self) -> None:
        self.parts += 1
        if self.parts % BREATH == 0:
            self.breathe()

    def document(self, text: str) -> dict[str, Any]:
        root = yamldoc.read(text, MAX_BYTES, self.problem, max_depth=MAX_DEPTH, on_part=self.count)
        if root is None:
            return {}
        values = POLICY(self, root, "")
        _check_floor(self)
        return {} if values is BAD else dict(values)


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean {near[0]!r}?)" if near else f" (known: {', '.join(known)})"


# What each part of a document may be


def number(*, least: float | None = None, above: float | None = None, most: float = MAX_SECONDS, whole: bool = False) -> Read:
    lower = f"above {above:g}" if above is not None else f"at least {least:g}"

    def read(reading: _Reading, node: Node, path: str) -> Any:
        value = node.value
        if isinstance(value, bool) or not isinstance(value, int | float) or (whole and value % 1):
            return reading.problem(node.line, path, f"must be a {'whole ' if whole else ''}number, not {_shown(node)}")
        if not math.isfinite(value) or (above is not None and value <= above) or (least is not None and value < least):
            return reading.problem(node.line, path, f"must be {lower}")
        if value > most:
            return reading.problem(node.line, path, f"must be at most {most:.12g}")
        return int(value) if whole else float(value)

    return read


def text(longest: int = 100) -> Read:
    def read(reading: _Reading, node: Node, path: str) -> Any:
        value = node.value.strip().replace("\n", " ") if isinstance(node.value, str) else node.value
        if not isinstance(value, str) or not value:
            hint = ": put it in quotes" if isinstance(value, bool | int | float) else ""
            return reading.problem(node.line, path, f"must be a text, not {_shown(node)}{hint}")
        if len(value) > longest or any(not character.isprintable() for character in value):
            return reading.problem(node.line, path, f"must be at most {longest} characters, none of them invisible")
        return value

    return read


def flag(reading: _Reading, node: Node, path: str) -> Any:
    return node.value if isinstance(node.value, bool) else reading.problem(node.line, path, f"must be true or false, not {_shown(node)}")


def rule(reading: _Reading, node: Node, path: str) -> Any:
    value = text(MAX_RULE_LENGTH)(reading, node, path)
    if value is not BAD:
        try:
            _checked_rule(value)
        except ValueError as error:
            return reading.problem(node.line, path, str(error))
    return value


def table(value: Read, *, least: int = 0) -> Read:
    """A mapping with keys of the operator's own."""

    def read(reading: _Reading, node: Node, path: str) -> Any:
        if not isinstance(node.value, dict) or not least <= len(node.value) <= MAX_NAMES:
            return reading.problem(node.line, path, f"must be a mapping with {least} to {MAX_NAMES} names, not {_shown(node)}")
        for key in node.value:
            if text()(reading, Node(node.key_lines[key], key), f"{path}, the name {key[:40]!r},") not in (BAD, key):
                reading.problem(node.key_lines[key], f"{path}, the name {key[:40]!r},", "must not begin or end with a space")
        return _good({key: _read(reading, value, part, join(path, key)) for key, part in node.value.items()})

    return read


def several(item: Read, most: int) -> Read:
    def read(reading: _Reading, node: Node, path: str) -> Any:
        if not isinstance(node.value, list):
            return reading.problem(node.line, path, f"must be a list, not {_shown(node)}")
        if len(node.value) > most:
            return reading.problem(node.line, path, f"must have at most {most} entries")
        entries = _good({str(at): _read(reading, item, part, f"{path}[{at}]") for at, part in enumerate(node.value)})
        return entries if entries is BAD else tuple(entries.values())

    return read


def steps(item: Read) -> Read:
    """A list in the order of its waits."""

    def read(reading: _Reading, node: Node, path: str) -> Any:
        found = several(item, MAX_STEPS)(reading, node, path)
        for at, (one, next_one) in enumerate(pairwise(found if found is not BAD else ()), 1):
            if next_one.after_seconds <= one.after_seconds:
                where = f"{path}[{at}].after_seconds"
                reading.problem(reading.lines[where], where, f"must be above {one.after_seconds:g}, the wait of the step before")
        return found

    return read


def record(make: Callable[..., Any], required: tuple[str, ...] = (), /, **keys: Read) -> Read:
    """A mapping with these keys and no others; what is left out is as `make` has it."""

    def read(reading: _Reading, node: Node, path: str) -> Any:
        if not isinstance(node.value, dict):
            return reading.problem(node.line, path, f"must be a mapping of {', '.join(keys)}, not {_shown(node)}")
        values = {}
        for key, part in node.value.items():
            if key in keys:
                values[key] = _read(reading, keys[key], part, join(path, key))
            elif len(reading.problems) < MAX_PROBLEMS:
                values[key] = reading.problem(node.key_lines[key], join(path, key), f"is unknown{_nearest(key, keys)}")
        for key in required:
            if key not in values:
                values[key] = reading.problem(node.line, path, f"lacks {key}")
        good = _good(values)
        return good if good is BAD else make(**good)

    return read


def _read(reading: _Reading, read: Read, node: Node, path: str) -> Any:
    reading.lines[path] = node.line
    reading.count()
    if (value := read(reading, node, path)) is not BAD:
        reading.values[path] = value
    return value


def _good(values: dict[str, Any]) -> Any:
    return BAD if any(value is BAD for value in values.values()) else values


def _shown(node: Node) -> str:
    if isinstance(node.value, dict | list):
        return "a mapping" if isinstance(node.value, dict) else "a list"
    return "nothing" if node.value is None else repr(node.value)[:40]


SECONDS = number(least=0)
SECONDS_ABOVE_0 = number(above=0)
PAUSE = number(least=1, most=7 * 86_400)
LEVELS = {"skills": table(number(least=1, most=TOP_LEVEL, whole=True)), "languages": table(number(least=1, most=TOP_LEVEL, whole=True))}
RELAXED = {"skills": table(number(least=0, most=TOP_LEVEL, whole=True)), "languages": table(number(least=0, most=TOP_LEVEL, whole=True))}
WEIGHTS = table(number(least=0, most=1000))
REQUIRE = record(domain.Levels, **LEVELS)
PREFER = record(domain.Prefer, skills=WEIGHTS, languages=WEIGHTS, regions=WEIGHTS, sites=WEIGHTS, employment=WEIGHTS, scores=WEIGHTS)


def hour(reading: _Reading, node: Node, path: str) -> Any:
    value = number(least=0, most=24)(reading, node, path)
    return (
        reading.problem(node.line, path, "must be in quarters of an hour: 9.5 is half past nine")
        if value is not BAD and value * 4 % 1
        else value
    )


def segments(reading: _Reading, node: Node, path: str) -> Any:
    found = several(SEGMENT, MAX_SEGMENTS)(reading, node, path)
    taken = {domain.EVERYONE.name: "the name of those whom no segment matches"}
    for at, segment in enumerate(found if found is not BAD else ()):
        where = f"{path}[{at}].name"
        if segment.name in taken:
            reading.problem(reading.lines[where], where, f"is {taken[segment.name]}: choose another")
        taken[segment.name] = f"also that of {path}[{at}]"
    words = 0
    for at, segment in enumerate(found if found is not BAD else ()):
        words += len(_tokens(segment.when))
        if words > MAX_TOKENS:
            where = f"{path}[{at}].when"
            reading.problem(
                reading.lines[where],
                where,
                f"brings all rules together above {MAX_TOKENS} words and signs: they are worked out for each contact",
            )
            break
    return found


def callback(reading: _Reading, node: Node, path: str) -> Any:
    found = CALLBACK(reading, node, path)
    if found is not BAD and found.from_hour >= found.to_hour:
        return reading.problem(node.line, path, "must have a from_hour before its to_hour")
    return found


def _check_floor(reading: _Reading) -> None:
    """No step goes below the floor, and none takes back what an earlier one gave up."""
    floor = reading.values.get("floor", domain.Levels())
    for kind in ("skills", "languages"):
        lowest: dict[str, tuple[int, str]] = {}
        for at, step in enumerate(reading.values.get("relax", ())):
            for name, level in getattr(step, kind).items():
                path = f"relax[{at}].{kind}.{name}"
                line, least = reading.lines[path], getattr(floor, kind).get(name, 0)
                before, where = lowest.get(name, (TOP_LEVEL, ""))
                if level < least:
                    reading.problem(line, path, f"relaxes {name} to {level}, but the floor is {least}")
                elif level > before:
                    reading.problem(line, path, f"is {level}, but {where} has relaxed it to {before} already")
                lowest[name] = min((level, path), (before, where))


SEGMENT = record(
    Segment,
    ("name", "when"),
    name=text(),
    when=rule,
    weight=number(above=0, most=1000),
    head_start_seconds=SECONDS,
    require=REQUIRE,
    prefer=PREFER,
    bound_seconds=SECONDS_ABOVE_0,
    affinity_seconds=SECONDS,
)
CALLBACK = record(
    domain.Callback,
    ("offer_after_seconds",),
    offer_after_seconds=SECONDS,
    keep_place=flag,
    attempts=number(least=1, most=20, whole=True),
    retry_seconds=record(domain.Retry, busy=PAUSE, no_answer=PAUSE, machine=PAUSE),
    from_hour=hour,
    to_hour=hour,
)
POLICY = record(
    dict,
    target=record(domain.Target, share=number(above=0, most=1), seconds=SECONDS_ABOVE_0),
    bound_seconds=SECONDS_ABOVE_0,
    affinity_seconds=SECONDS,
    segments=segments,
    require=REQUIRE,
    prefer=PREFER,
    floor=REQUIRE,
    relax=steps(record(domain.Relax, ("after_seconds",), after_seconds=SECONDS_ABOVE_0, **RELAXED)),
    overflow=steps(record(domain.Overflow, ("after_seconds", "to"), after_seconds=SECONDS_ABOVE_0, to=text())),
    callback=callback,
    suggest_channels=record(domain.SuggestChannels, ("to",), to=table(text(), least=1), min_gain_seconds=SECONDS),
    announce=record(
        domain.Announce, ("every_seconds", "self_service"), every_seconds=number(least=5), self_service=table(text(500), least=1)
    ),
    fit_seconds=SECONDS,
    scarcity_seconds=SECONDS,
    idle_seconds=SECONDS,
    load_seconds=SECONDS,
)


# Back to a document


def _plain(value: Any) -> Any:
    """Dataclasses as mappings without what is empty, whole numbers without a point."""
    if is_dataclass(value):
        parts = {part.name: _plain(getattr(value, part.name)) for part in fields(value) if part.compare}
        return {name: part for name, part in parts.items() if part not in (None, {}, [], "")}
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(part, join(path, str(key)))
    elif isinstance(value, list):
        for part in value:
            label = part.get("name") or f"{part['after_seconds']:g}s"
            yield from _leaves({key: of for key, of in part.items() if key not in ("name", "after_seconds")} or True, f"{path}[{label}]")
    else:
        yield path, value
