"""The published language: every event that crosses from one service to another. One module per publisher."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from marshmallow import Schema, ValidationError

from shared.contracts import gateway, im, qa, routing, training
from shared.contracts.compile import Loader, compile_loader, compile_writer

SCHEMAS: dict[str, type[Schema]] = {**gateway.EVENTS, **im.EVENTS, **qa.EVENTS, **routing.EVENTS, **training.EVENTS}


EXAMPLES = Path(__file__).parent / "examples"


class ContractBroken(ValueError):
    """The data of an event is not what its type promises."""


@cache
def _loader(type: str) -> Loader:
    return compile_loader(SCHEMAS[type]())


@cache
def _writer(type: str) -> Loader:
    return compile_writer(SCHEMAS[type]())


def _known(type: str, find: Callable[[str], Loader]) -> Loader:
    if type not in SCHEMAS:
        raise ContractBroken(f"no event is called {type!r}")
    return find(type)


def load(type: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """The data of a received event, checked, moments as epoch seconds. Raises ContractBroken."""
    try:
        return _known(type, _loader)(data)
    except ValidationError as error:
        raise ContractBroken(f"{type}: {error.messages}") from error


def write(type: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """The data of an event about to be announced in its published form. Raises ContractBroken: the publisher has a fault."""
    try:
        return _known(type, _writer)(data)
    except ValidationError as error:
        raise ContractBroken(f"{type}: {error}") from error


def example(type: str) -> dict[str, Any]:
    """The golden example of an event, envelope and all. Raises FileNotFoundError."""
    found: dict[str, Any] = orjson.loads((EXAMPLES / f"{type}.json").read_bytes())
    return found
