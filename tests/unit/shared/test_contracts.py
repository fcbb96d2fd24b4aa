"""The published language: golden examples load for ever, and everybody who listens listens to something."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson
import pytest

from shared import contracts
from shared.bus.envelope import Event, parse
from shared.contracts import SCHEMAS, ContractBroken, topology
from shared.http import documents

EXAMPLES = Path(contracts.__file__).parent / "examples"


def example(type: str) -> Event:
    return parse((EXAMPLES / f"{type}.json").read_bytes())


def test_every_type_has_a_golden_example_and_every_example_a_type() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.json")} == SCHEMAS.keys()


@pytest.mark.parametrize("type", SCHEMAS)
def test_a_golden_example_loads_and_is_written_the_same_again(type: str) -> None:
    event = example(type)
    data = contracts.load(type, event.data)
    assert event.type == type
    assert contracts.write(type, data) == event.data


@pytest.mark.parametrize("type", SCHEMAS)
def test_a_golden_example_shows_every_field(type: str) -> None:
    def shows(data: Any, schema: Any) -> None:
        assert data.keys() == schema.load_fields.keys()
        if "leg" in data and isinstance(data["leg"], dict):
            shows(data["leg"], schema.load_fields["leg"].schema)

    shows(example(type).data, SCHEMAS[type]())


@pytest.mark.parametrize("type", SCHEMAS)
def test_optional_fields_may_be_added_later(type: str) -> None:
    event = example(type)
    assert contracts.load(type, {**event.data, "added_later": {"deep": [1]}}) == contracts.load(type, event.data)
    with pytest.raises(ContractBroken):
        contracts.write(type, {**contracts.load(type, event.data), "added_later": 1})


@pytest.mark.parametrize("type", SCHEMAS)
def test_a_type_names_publisher_fact_and_version(type: str) -> None:
    assert re.fullmatch(r"(gateway|im|qa|routing|training)\.[a-z]+(_[a-z]+)*\.v[1-9]", type)
    assert example(type).envelope()["source"] == f"/answerline/{type.split('.')[0]}"


def test_no_example_shows_a_callers_number() -> None:
    assert not any(b"caller_number" in path.read_bytes() or b'"caller":' in path.read_bytes() for path in EXAMPLES.glob("*.json"))


def test_every_subscription_is_of_a_known_type() -> None:
    assert {type for types in topology.SUBSCRIPTIONS.values() for type in types} <= SCHEMAS.keys()
    assert all(len(types) == len(set(types)) for types in topology.SUBSCRIPTIONS.values())
    assert set(topology.SUBSCRIPTIONS["gateway"]) == SCHEMAS.keys(), "whatever is announced can be streamed"


def test_publishers_and_receivers_find_each_other() -> None:
    assert topology.publishers_of("routing") == ["gateway", "qa", "training"]
    assert topology.receivers_of("gateway") == ["gateway", "im", "qa", "routing", "training"]
    assert topology.receivers_of("routing") == ["gateway", "im", "qa", "training"]
    assert topology.publishers_of("nobody") == topology.receivers_of("nobody") == []


def test_queue_names_are_explicit_and_apart() -> None:
    names = [make("routing") for make in (topology.inbox_queue, topology.replay_queue, topology.command_queue)]
    assert names == ["answerline.routing.inbox", "answerline.routing.replay", "answerline.routing.requests"]


def test_asyncapi_describes_every_event() -> None:
    document = documents.asyncapi()
    assert {message["name"] for message in document["components"]["messages"].values()} == SCHEMAS.keys()
    orjson.dumps(document)
