"""Loaders and writers compiled from marshmallow schemas, field by field, for the paths where every microsecond counts.

A compiled function handles the plain, valid case; whatever is unusual goes to the schema itself, which alone knows how to
explain an error. tests/unit/shared/test_compile.py holds the two against each other.
"""

import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from marshmallow import INCLUDE, RAISE, Schema, ValidationError, fields, missing, validate

from shared import clock
from shared.contracts.fields import Time

Loader = Callable[[Mapping[str, Any]], dict[str, Any]]
LARGEST = sys.float_info.max


class _Unusual(Exception):
    """The schema must look at it."""


def _text(value: Any) -> Any:
    if type(value) is not str:
        raise _Unusual
    return value


def _integer(value: Any) -> Any:
    if type(value) is not int:
        raise _Unusual
    return value


def _number(value: Any) -> Any:
    if (type(value) is float or type(value) is int) and -LARGEST <= value <= LARGEST:  # not NaN, not infinite
        return float(value)
    raise _Unusual


def _boolean(value: Any) -> Any:
    if type(value) is not bool:
        raise _Unusual
    return value


def _time(value: Any) -> float:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise _Unusual from None
    if moment.tzinfo is None:
        raise _Unusual
    return moment.timestamp()


def _time_to_text(value: Any) -> str:
    if type(value) is not float and type(value) is not int:
        raise _Unusual
    try:
        return clock.to_text(value)
    except (ValueError, OverflowError, OSError):  # no moment of our calendar
        raise _Unusual from None


PLAIN = {fields.String: _text, fields.Integer: _integer, fields.Float: _number, fields.Boolean: _boolean}
READING = {**PLAIN, Time: _time}
WRITING = {**PLAIN, Time: _time_to_text}
Leaves = Mapping[type, Callable[[Any], Any]]


def compile_loader(schema: Schema) -> Loader:
    """A function with the result of `schema.load`, several times faster for valid input; raises what `schema.load` raises."""
    convert = _object(schema, READING)

    def load(data: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return convert(data)
        except _Unusual:
            return schema.load(data)

    return load


def compile_writer(schema: Schema) -> Loader:
    """A function from the inside form (moments as epoch seconds) to the published form; strict when the schema is.
    Raises marshmallow's ValidationError for a field that is unknown, missing or of a wrong type."""
    convert = _object(schema, WRITING)

    def write(data: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return convert(data)
        except _Unusual:
            schema.load(_published(schema, data))
            raise ValidationError(f"{type(schema).__name__} cannot be written from {sorted(data)}") from None

    return write


def compile_moments(schema: Schema) -> Callable[[Any], Any] | None:
    """A function that writes the moments in an answer (epoch seconds inside) as RFC 3339, wherever the schema has a Time; all else, and what
    is text already, stays as it is. None: the schema has no moments."""
    inner = {name: each for name, field in schema.fields.items() if (each := _moments(field))}
    if not inner:
        return None

    def write(data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        return {name: inner[name](value) if name in inner else value for name, value in data.items()}

    return write


def _moments(field: fields.Field | None) -> Callable[[Any], Any] | None:
    match field:
        case Time():
            return lambda value: field._serialize(value, None, None) if type(value) in (int, float) else value
        case fields.Nested():
            each = compile_moments(field.schema)
            return _of_each(each) if each and field.many else each
        case fields.List():
            each = _moments(field.inner)
            return _of_each(each) if each else None
        case fields.Dict():
            each = _moments(field.value_field)
            return _of_values(each) if each else None
    return None


def _of_each(write: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: [write(one) for one in value] if isinstance(value, list) else value


def _of_values(write: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: {name: write(one) for name, one in value.items()} if isinstance(value, Mapping) else value


def _published(schema: Schema, data: Mapping[str, Any]) -> dict[str, Any]:
    """The published form without any check, for the schema to find fault with."""

    def outside(field: fields.Field | None, value: Any) -> Any:
        match field:
            case Time() if type(value) in (int, float):
                try:
                    return _time_to_text(value)
                except _Unusual:
                    return value
            case fields.Nested() if isinstance(value, Mapping):
                return _published(field.schema, value)
            case fields.List() if isinstance(value, list):
                return [outside(field.inner, one) for one in value]
            case _:
                return value

    return {name: outside(schema.load_fields.get(name), value) for name, value in data.items()}


def _object(schema: Schema, leaves: Leaves) -> Callable[[Any], dict[str, Any]]:
    """One converter for an object, written as source: a line per field, no loop at run time."""
    scope: dict[str, Any] = {"Unusual": _Unusual, "missing": object(), "known": keys_of(schema)}
    rest = "{name: value for name, value in data.items() if name not in known}" if schema.unknown == INCLUDE else "{}"
    lines = ["def convert(data):", "    if type(data) is not dict: raise Unusual", f"    out = {rest}"]
    if schema.unknown == RAISE or leaves is WRITING:
        lines.append("    if not known.issuperset(data): raise Unusual")
    for index, (name, field) in enumerate(schema.load_fields.items()):
        scope[f"c{index}"] = _value(field, leaves)
        scope[f"d{index}"] = field.load_default
        absent = "raise Unusual" if field.required else _default(name, index, field.load_default)
        lines += [
            f"    value = data.get({(field.data_key or name)!r}, missing)",
            f"    if value is missing: {absent}",
            "    elif value is None: " + (f"out[{name!r}] = None" if field.allow_none else "raise Unusual"),
            f"    else: out[{name!r}] = c{index}(value)",
        ]
    lines.append("    return out")
    exec("\n".join(lines), scope)  # noqa: S102 - the source is made here, from field names quoted by repr
    return scope["convert"]


def keys_of(schema: Schema) -> frozenset[str]:
    """The names under which a schema's fields come in."""
    return frozenset(field.data_key or name for name, field in schema.load_fields.items())


def _default(name: str, index: int, default: Any) -> str:
    if default is missing:
        return "pass"
    return f"out[{name!r}] = d{index}" + ("()" if callable(default) else "")


def _value(field: fields.Field, leaves: Leaves) -> Callable[[Any], Any]:
    plain = _unchecked(field, leaves)
    checks = [_check(validator) for validator in field.validators]
    if not checks:
        return plain

    def checked(value: Any) -> Any:
        value = plain(value)
        for check in checks:
            if not check(value):
                raise _Unusual
        return value

    return checked


def _unchecked(field: fields.Field, leaves: Leaves) -> Callable[[Any], Any]:
    if leaf := leaves.get(type(field)):
        return leaf
    match field:
        case fields.Nested():
            return _object(field.schema, leaves)
        case fields.List():
            item = _value(field.inner, leaves)
            return lambda value: [item(one) for one in value] if type(value) is list else _refuse()
        case fields.Dict():
            key = _value(field.key_field, leaves) if field.key_field else _as_it_is
            inner = _value(field.value_field, leaves) if field.value_field else _as_it_is
            return lambda value: {key(k): inner(v) for k, v in value.items()} if type(value) is dict else _refuse()
        case _:
            return lambda _value: _refuse()


def _check(validator: Any) -> Callable[[Any], bool]:
    if isinstance(validator, validate.OneOf):
        return frozenset(validator.choices).__contains__

    def check(value: Any) -> bool:
        try:
            validator(value)
        except ValidationError:
            return False
        return True

    return check


def _as_it_is(value: Any) -> Any:
    return value


def _refuse() -> Any:
    raise _Unusual
