"""Compiled loaders and writers against the schemas that they stand for."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import Schema, ValidationError, fields, validate

from services.gateway import schemas as doors
from shared import clock, contracts
from shared.contracts import SCHEMAS, ContractBroken
from shared.contracts.compile import compile_loader, compile_moments
from shared.contracts.fields import Document, Input, Time

DOORS = {name: kind for name, kind in vars(doors).items() if isinstance(kind, type) and issubclass(kind, Schema)}
TEXT = st.text(max_size=8)
MOMENTS = st.integers(0, 4_000_000_000_000).map(lambda milliseconds: milliseconds / 1000)
WRONG = [
    None,
    True,
    0,
    -1,
    1.5,
    math.nan,
    math.inf,
    10**400,
    "",
    "5",
    "text",
    "2026-11-21T21:24:18",
    [],
    [None],
    {},
    {"a": None},
    {"a": "b"},
]


def valid(schema: Schema, moments: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Data as a schema wants it, optional fields now there and now not."""
    by_name = {field.data_key or name: (field, _value(field, moments)) for name, field in schema.load_fields.items()}
    required = {name: value for name, (field, value) in by_name.items() if field.required}
    return st.fixed_dictionaries(required, optional={name: value for name, (_, value) in by_name.items() if name not in required})


def _value(field: Any, moments: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    choices = [list(check.choices) for check in field.validators if isinstance(check, validate.OneOf)]
    ranges = [check for check in field.validators if isinstance(check, validate.Range)]
    low, high = (ranges[0].min, ranges[0].max) if ranges else (-(10**9), 10**9)
    match field:
        case Time():
            value = moments
        case fields.Nested():
            value = valid(field.schema, moments)
        case fields.List():
            value = st.lists(_value(field.inner, moments), max_size=3)
        case fields.Dict():
            value = st.dictionaries(TEXT, _value(field.value_field, moments) if field.value_field else st.integers(), max_size=3)
        case fields.Integer():
            value = st.integers(low, high)
        case fields.Float():
            value = st.floats(low, high) | st.integers(math.ceil(low), math.floor(high))
        case fields.Boolean():
            value = st.booleans()
        case _:
            value = st.sampled_from(choices[0]) if choices else TEXT
    return value | st.none() if field.allow_none else value


def mutate(data: dict[str, Any], draw: Callable[[st.SearchStrategy[Any]], Any]) -> dict[str, Any]:
    """One fault somewhere: a field gone, one of another kind, or one that nobody knows."""
    data = copy.deepcopy(data)
    target = data
    if isinstance(data.get("leg"), dict) and draw(st.booleans()):
        target = data["leg"]
    name = draw(st.sampled_from([*sorted(target), "unheard_of"]))
    if draw(st.booleans()):
        target.pop(name, None)
    else:
        target[name] = draw(st.sampled_from(WRONG))
    return data


def outcome(load: Callable[[Mapping[str, Any]], Any], data: Mapping[str, Any]) -> Any:
    try:
        return load(data)
    except ValidationError as error:
        return error.normalized_messages()


@pytest.mark.parametrize("schema", [*SCHEMAS.values(), *DOORS.values()], ids=[*SCHEMAS, *DOORS])
@settings(max_examples=10, deadline=None)
@given(draw=st.data())
def test_a_compiled_loader_does_what_its_schema_does(schema: type[Schema], draw: st.DataObject) -> None:
    data = draw.draw(valid(schema(), MOMENTS.map(clock.to_text)))
    load, known = compile_loader(schema()), schema()
    assert outcome(load, data) == outcome(known.load, data)
    for _ in range(3):
        data = mutate(data, draw.draw)
        assert repr(outcome(load, data)) == repr(outcome(known.load, data))


@pytest.mark.parametrize("type", SCHEMAS)
@settings(max_examples=10, deadline=None)
@given(draw=st.data())
def test_what_is_written_is_read_back_and_what_is_wrong_is_refused(type: str, draw: st.DataObject) -> None:
    schema = SCHEMAS[type]()
    data = draw.draw(valid(schema, MOMENTS))
    written = contracts.write(type, data)
    assert contracts.load(type, written).items() >= data.items()
    wrong = mutate(data, draw.draw)
    try:
        written = contracts.write(type, wrong)
    except ContractBroken:
        return
    assert schema.load(written).items() >= wrong.items()


@pytest.mark.parametrize("moment", [math.nan, math.inf, 1e15, -1e15, "2026-11-21T21:24:18Z", True])
def test_a_moment_that_cannot_be_written_breaks_the_contract(moment: Any) -> None:
    with pytest.raises(ContractBroken):
        contracts.write("gateway.source_restarted.v1", {"source": "pbx1", "at": moment})


def test_the_plain_case_does_not_even_ask_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    class Post(Input):
        names = fields.List(fields.String(validate=validate.Length(max=5)), required=True)
        levels = fields.Dict(keys=fields.String(), values=fields.Integer(strict=True), load_default=dict)

    load = compile_loader(Post())
    monkeypatch.setattr(Post, "load", lambda *_: pytest.fail("the schema was asked"))
    assert load({"names": ["Ann"]}) == {"names": ["Ann"], "levels": {}}


def test_a_document_is_passed_on_as_it_came() -> None:
    told = {"zone": "UTC", "weekly": {"mon": [None, 1.5]}, "": []}
    assert compile_loader(Document())(told) == Document().load(told) == told


def test_readers_pass_over_what_they_do_not_know_and_writers_do_not() -> None:
    data = {"source": "pbx1", "at": "2026-11-21T21:24:18Z", "since_version_2": True}
    assert contracts.load("gateway.source_restarted.v1", data) == {"source": "pbx1", "at": 1795296258.0}
    with pytest.raises(ContractBroken):
        contracts.write("gateway.source_restarted.v1", {"source": "pbx1", "at": 1795296258.0, "since_version_2": True})


def test_an_unknown_type_is_said_so() -> None:
    with pytest.raises(ContractBroken, match=r"no event is called 'gateway\.nothing\.v9'"):
        contracts.load("gateway.nothing.v9", {})
    with pytest.raises(ContractBroken, match=r"no event is called 'gateway\.nothing\.v9'"):
        contracts.write("gateway.nothing.v9", {})


def test_moments_of_an_answer_are_written_wherever_they_are() -> None:
    class Inner(Document):
        at = Time(allow_none=True)

    class Outer(Document):
        at = Time()
        many = fields.List(fields.Nested(Inner))
        more = fields.Nested(Inner, many=True)
        by_name = fields.Dict(values=Time(allow_none=True))
        one = fields.Nested(Inner)
        figure = fields.Float()

    write = compile_moments(Outer())
    assert write is not None
    text = clock.to_text(7.0)
    told = {
        "at": 7,
        "many": [{"at": 7.0, "x": 1.0}],
        "more": [{"at": None}],
        "by_name": {"a": 7.0, "b": None},
        "one": None,
        "figure": 7.0,
        "y": 7.0,
    }
    assert write(told) == {
        "at": text, "many": [{"at": text, "x": 1.0}], "more": [{"at": None}], "by_name": {"a": text, "b": None}, "one": None, "figure": 7.0, "y": 7.0,
    }  # fmt: skip
    assert write({"at": text}) == {"at": text}, "what is text already stays"
    assert write(None) is None
    assert compile_moments(DOORS["Permit"]()) is not None
    assert compile_moments(DOORS["AcceptOffer"]()) is None
