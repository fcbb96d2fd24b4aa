"""Field types of the published language."""

from collections.abc import Mapping
from typing import Any

from marshmallow import EXCLUDE, INCLUDE, RAISE, Schema, ValidationError, fields

from shared import clock


class Time(fields.Field[float]):
    """A moment: RFC 3339 with a zone outside, epoch seconds inside."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> float:  # noqa: ARG002
        if type(value) is not str:
            raise ValidationError("a time is text such as 2026-11-21T21:24:18Z")
        try:
            return clock.from_text(value)
        except ValueError as error:
            raise ValidationError(str(error)) from error

    def _serialize(self, value: float | None, attr: str | None, obj: Any, **kwargs: Any) -> str | None:  # noqa: ARG002
        return None if value is None else clock.to_text(value)


class Data(Schema):
    """The data of an event: readers pass over what they do not know, so that optional fields can be added."""

    class Meta:
        unknown = EXCLUDE


class Input(Schema):
    """What comes in at the door: an unknown field is a mistake, and said so."""

    class Meta:
        unknown = RAISE


class Document(Schema):
    """An object whose inside is its owner's business: it is passed on as it came."""

    class Meta:
        unknown = INCLUDE


def as_json(schema: Schema) -> Schema:
    """The schema, for a body: JSON has numbers and truth values, so that text in their place is a mistake. In a query all is text."""
    for field in schema.load_fields.values():
        _as_json(field)
    return schema


def _as_json(field: fields.Field) -> None:
    match field:
        case fields.Nested():
            as_json(field.schema)
        case fields.List():
            _as_json(field.inner)
        case fields.Dict():
            for inner in (field.key_field, field.value_field):
                if inner is not None:
                    _as_json(inner)
        case fields.Boolean():
            _only(field, bool)
        case fields.Integer():
            _only(field, int)
        case fields.Float():
            _only(field, int, float)


def _only(field: fields.Field, *kinds: type) -> None:
    lenient = field._deserialize

    def deserialize(value: Any, *arguments: Any, **more: Any) -> Any:
        if type(value) not in kinds:
            raise field.make_error("invalid")
        return lenient(value, *arguments, **more)

    field._deserialize = deserialize  # type: ignore[method-assign]
