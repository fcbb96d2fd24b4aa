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
