"""What came of a contact: the tree of reasons that a queue's wrap-up chooses from, and the choice.

    tree = read_tree("sales", 3, document)                         # Invalid names every place that needs mending
    made = choose(tree, "order/new", amount="19.90", currency="EUR")

A tree's document:

    nodes:
      - code: order
        label: {en: Order, zh: 订单}
        resolved: yes                # yes | no | null: the agent says which. Left out: as above it
        requires_amount: true        # left out: as above it
        children: [{code: new, label: {en: New}}, …]

Versions are never changed, only followed by the next: a code that a later version dropped stays readable in the one it was chosen from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal, InvalidOperation
from functools import cached_property
from itertools import islice
from typing import Any, Literal, Self

from .errors import Invalid, NotFound

Resolved = Literal["yes", "no"]

MOST_DEPTH = 5
MOST_NODES = 500
MOST_LABEL = 200
MOST_LANGUAGES = 50
MOST_PROBLEMS = 20
MOST_AMOUNT = 15
"""Digits before the point of an amount."""
MOST_DECIMALS = 4
"""After it: no currency has more."""
MOST_NOTE = 1_000_000

CODE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
FREE_CODE = re.compile(r"[^\W\d_][\w.-]{0,63}")
MOST_DIGITS = 4
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
CURRENCY = re.compile(r"[A-Z]{3}")
KEYS = ("code", "label", "resolved", "requires_amount", "children")


@dataclass(frozen=True)
class Node:
    """A reason, with what it inherits filled in. `path`: its codes from the root."""

    path: tuple[str, ...]
    label: Mapping[str, str]  # by language
    resolved: Resolved | None  # None: the agent says
    requires_amount: bool
    is_leaf: bool

    @property
    def code(self) -> str:
        return self.path[-1]


@dataclass(frozen=True)
class Tree:
    name: str
    version: int
    nodes: Mapping[str, Node]  # by code, in the order of the document

    def node(self, code: str) -> Node:
        found = self.nodes.get(code)
        if found is None:
            raise NotFound(f"Version {self.version} of dispositions {self.name} has no code {code!r}.")
        return found

    def reason(self, code: str, language: str = "en") -> str:
        """'Order > New': the labels from the root; where one lacks the language, in English, else in its first."""
        labels = (self.node(part).label for part in self.node(code).path)
        return " > ".join(label.get(language) or label.get("en") or next(iter(label.values())) for label in labels)

    @cached_property
    def leaves(self) -> tuple[Node, ...]:
        """What can be chosen."""
        return tuple(node for node in self.nodes.values() if node.is_leaf)


@dataclass(frozen=True)
class Disposition:
    """An agent's choice, fit for JSON. `amount`: what was sold, decimal digits as text, in `currency` (ISO 4217)."""

    tree: str
    version: int
    code: str
    path: tuple[str, ...]
    resolved: Resolved
    reason: str
    amount: str | None = None
    currency: str | None = None
    note_length: int | None = None  # characters; the note itself is kept elsewhere

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "path": list(self.path)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        return cls(**{**stored, "path": tuple(stored["path"])})


def read_tree(name: str, version: int, document: Any) -> Tree:
    """Invalid with a line for every problem (the first 20), each beginning with the path of the node."""
    if not isinstance(name, str) or not name.strip() or not name.isprintable() or len(name) > MOST_LABEL:
        raise Invalid(f"The name of a tree of dispositions must be a text of 1 to {MOST_LABEL} characters.")
    nodes: dict[str, Node] = {}
    found = list(islice(_problems(document, nodes), MOST_PROBLEMS + 1))
    if found:
        raise Invalid("\n".join([*found[:MOST_PROBLEMS], *(["… and more."] if len(found) > MOST_PROBLEMS else [])]))
    return Tree(name, version, nodes)


def choose(
    tree: Tree,
    code: str | Sequence[str],
    *,
    resolved: bool | str | None = None,
    amount: Decimal | float | str | None = None,
    currency: str | None = None,
    note_length: int | None = None,
) -> Disposition:
    """The record of a choice. code: a leaf's code, or the path to it ('order/new' or ['order', 'new']). Invalid says what to mend."""
    node = _leaf(tree, code)
    said = _resolved(resolved)
    if node.resolved is None and said is None:
        raise Invalid(f"{node.code!r} leaves it open whether the matter is resolved: say 'yes' or 'no'.")
    if node.resolved is not None and said not in (None, node.resolved):
        raise Invalid(f"{node.code!r} always means resolved: {node.resolved}. Leave `resolved` out or choose another code.")
    if amount is None and node.requires_amount:
        raise Invalid(f"{node.code!r} needs the amount that was sold.")
    sold = amount_sold(amount, currency)
    if note_length is not None and (isinstance(note_length, bool) or not isinstance(note_length, int) or not 0 <= note_length <= MOST_NOTE):
        raise Invalid(f"note_length must be a whole number from 0 to {MOST_NOTE}.")
    outcome = node.resolved or said
    assert outcome is not None
    return Disposition(tree.name, tree.version, node.code, node.path, outcome, tree.reason(node.code), sold, currency, note_length)


def amount_sold(amount: Decimal | float | str | None, currency: str | None) -> str | None:
    """As decimal digits; None where nothing was sold. Invalid says what to mend."""
    sold = None if amount is None else _amount(amount)
    if sold is not None and currency is None:
        raise Invalid("An amount needs its currency, three letters such as EUR.")
    if sold is None and currency is not None:
        raise Invalid("There is a currency without an amount.")
    if currency is not None and not (isinstance(currency, str) and CURRENCY.fullmatch(currency)):
        raise Invalid("A currency is three capital letters such as EUR.")
    return sold


def free_code(code: str) -> str:
    """What an agent notes where the queue has no tree: a word, which travels. Invalid says what to mend."""
    if not FREE_CODE.fullmatch(code) or sum(character.isdigit() for character in code) > MOST_DIGITS:
        raise Invalid(
            "Where a queue has no tree of dispositions, a code is one word of at most 64 letters, digits, '_', '-' and '.', "
            f"beginning with a letter, with at most {MOST_DIGITS} digits."
        )
    return code


def _leaf(tree: Tree, code: str | Sequence[str]) -> Node:
    path = code.split("/") if isinstance(code, str) else list(code)
    node = tree.nodes.get(path[-1]) if path and all(isinstance(part, str) for part in path) else None
    if node is None:
        raise Invalid(f"Version {tree.version} of dispositions {tree.name} has no code {_short(path[-1] if path else '')}.")
    if len(path) > 1 and tuple(path) != node.path:
        raise Invalid(f"{node.code!r} is found under {'/'.join(node.path)}, not there.")
    if not node.is_leaf:
        below = [other.code for other in tree.nodes.values() if other.path[:-1] == node.path]
        raise Invalid(f"{node.code!r} is only a heading: choose one of {', '.join(below)}.")
    return node


def _resolved(value: object) -> Resolved | None:
    """YAML reads a plain yes as true, and so do agents' programs write it."""
    if value is None:
        return None
    if value is True or value == "yes":
        return "yes"
    if value is False or value == "no":
        return "no"
    raise Invalid("resolved must be 'yes' or 'no'.")


def _amount(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        raise Invalid("An amount must be a number.")
    try:
        amount = Decimal(str(value) if isinstance(value, float) else value)
    except InvalidOperation:
        raise Invalid("An amount must be a number.") from None
    if not amount.is_finite() or amount < 0:
        raise Invalid("An amount must be a number from 0 up.")
    exponent = amount.as_tuple().exponent
    if amount.adjusted() >= MOST_AMOUNT or (isinstance(exponent, int) and not -MOST_DECIMALS <= exponent <= MOST_AMOUNT):
        raise Invalid(f"An amount has at most {MOST_AMOUNT} digits before the point and {MOST_DECIMALS} after it.")
    return f"{abs(amount):f}"


def _problems(document: Any, nodes: dict[str, Node]) -> Iterator[str]:
    """Sentences; the nodes found on the way are put into `nodes`."""
    if not isinstance(document, Mapping) or not isinstance(document.get("nodes"), list) or not document["nodes"]:
        yield "A tree of dispositions is a document with a list of `nodes`, one at least."
        return
    for key in document:
        if key != "nodes":
            yield f"{_short(key)} is not known here: only nodes."
    yield from _walk(document["nodes"], (), None, False, nodes)
    if len(nodes) > MOST_NODES:
        yield f"There are more than {MOST_NODES} nodes."


def _walk(
    items: Sequence[Any], above: tuple[str, ...], resolved: Resolved | None, requires_amount: bool, nodes: dict[str, Node]
) -> Iterator[str]:
    for index, item in enumerate(items):
        if len(nodes) > MOST_NODES:
            return
        code = item.get("code") if isinstance(item, Mapping) else None
        path = (*above, code if isinstance(code, str) and CODE.fullmatch(code) else f"[{index}]")
        where = "/".join(path)
        if not isinstance(item, Mapping):
            yield f"{where}: a node is a mapping with a code and a label."
            continue
        for key in item:
            if key not in KEYS:
                yield f"{where}: {_short(key)} is not known here: only {', '.join(KEYS)}."
        if path[-1] != code:
            yield f"{where}: code must be small letters, digits, '_', '-' and '.', at most 64, not {_short(code)}."
        elif code in nodes:
            yield f"{where}: the code {code} is used at {'/'.join(nodes[code].path)} already."
        label = item.get("label")
        yield from (f"{where}: {sentence}" for sentence in _label_problems(label))
        own_resolved, own_amount = resolved, requires_amount
        if "resolved" in item:
            try:
                own_resolved = _resolved(item["resolved"])
            except Invalid:
                yield f"{where}: resolved must be yes, no or null, not {_short(item['resolved'])}."
        if "requires_amount" in item:
            if isinstance(item["requires_amount"], bool):
                own_amount = item["requires_amount"]
            else:
                yield f"{where}: requires_amount must be true or false, not {_short(item['requires_amount'])}."
        children = item.get("children")
        if children is not None and not isinstance(children, list):
            yield f"{where}: children must be a list."
            children = None
        nodes.setdefault(path[-1], Node(path, label if isinstance(label, Mapping) else {}, own_resolved, own_amount, not children))
        if children and len(path) >= MOST_DEPTH:
            yield f"{where}: children of the {MOST_DEPTH}th level are one level too deep."
        elif children:
            yield from _walk(children, path, own_resolved, own_amount, nodes)


def _label_problems(label: Any) -> Iterator[str]:
    if not isinstance(label, Mapping) or not label:
        yield "label must give a text for each language, as in {en: Order}."
        return
    if len(label) > MOST_LANGUAGES:
        yield f"label is in more than {MOST_LANGUAGES} languages."
        return
    for language, text in label.items():
        if not isinstance(language, str) or not LANGUAGE.fullmatch(language):
            yield f"{_short(language)} is no language such as en or zh."
        elif not isinstance(text, str) or not text.strip() or not text.isprintable() or len(text) > MOST_LABEL:
            yield f"the {language} label must be one line of 1 to {MOST_LABEL} characters."


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, (str, int, float, bool, type(None))) and len(str(value)) <= 64 else ""
    return text or f"such a {'text' if isinstance(value, str) else type(value).__name__}"
