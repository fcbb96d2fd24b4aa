"""The OpenAPI document is valid, complete, and its examples are what it describes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import jsonschema_rs
import pytest
from schemathesis.core.errors import InvalidSchema
from schemathesis.openapi import from_dict

from services.gateway.contract import ABOUT, TAGS
from services.gateway.service import GatewayService
from shared import contracts
from shared.http import documents
from shared.http.endpoint import endpoints_of


@cache
def document() -> dict[str, Any]:
    return json.loads(json.dumps(documents.openapi(GatewayService, ABOUT)))  # type: ignore[no-any-return]


class Operation(NamedTuple):
    method: str
    path: str
    told: dict[str, Any]

    @property
    def id(self) -> str:
        return str(self.told["operationId"])


def operations() -> Iterator[Operation]:
    for path, methods in document()["paths"].items():
        for method, told in methods.items():
            yield Operation(method.upper(), path, told)


EVERY = pytest.mark.parametrize("operation", list(operations()), ids=lambda operation: operation.id)


def response(told: dict[str, Any]) -> dict[str, Any]:
    name = told.get("$ref", "").rpartition("/")[2]
    return document()["components"]["responses"][name] if name else told


def bodies(operation: Operation) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is sent and what is answered, by media type."""
    for kind, content in operation.told.get("requestBody", {}).get("content", {}).items():
        yield f"request {kind}", content
    for status, told in operation.told["responses"].items():
        for kind, content in response(told).get("content", {}).items():
            yield f"answer {status} {kind}", content


def mistakes(schema: Any, value: Any) -> list[str]:
    """What JSON Schema, as OpenAPI 3.1 has it, finds wrong with a value."""
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", "allOf": [schema], "components": document()["components"]}
    return [f"{error.instance_path}: {error.message}" for error in jsonschema_rs.validator_for(whole).iter_errors(value)]


def test_the_document_is_valid_openapi_3_1() -> None:
    try:
        from_dict(document()).validate()
    except InvalidSchema as fault:
        pytest.fail(str(fault))


def test_what_is_no_openapi_is_found_out() -> None:
    broken = json.loads(json.dumps(document()))
    broken["paths"]["/v1/queues"]["get"]["responses"] = 17
    with pytest.raises(Exception, match=r"responses|17"):
        from_dict(broken).validate()


def test_every_schema_is_one() -> None:
    for operation in operations():
        for parameter in operation.told["parameters"]:
            jsonschema_rs.Draft202012Validator(parameter["schema"], validate_formats=True)
        for _, content in bodies(operation):
            mistakes(content["schema"], None)


def test_every_area_is_told_of_in_the_order_of_the_contract() -> None:
    used = {tag for operation in operations() for tag in operation.told["tags"]}
    assert [tag["name"] for tag in document()["tags"]] == [tag for tag in TAGS if tag in used], "each tag needs a sentence in contract.py"
    assert used <= set(TAGS)


@EVERY
def test_every_operation_has_a_summary_an_answer_and_examples_that_fit(operation: Operation) -> None:
    assert operation.told["summary"]
    for what, content in bodies(operation):
        for example in content.get("examples", {}).values():
            assert not mistakes(content["schema"], example["value"]), what
    sent = operation.told.get("requestBody", {}).get("content", {}).values()
    assert not sent or any("examples" in content for content in sent), f"services/gateway/examples has no request of {operation.id}"
    good = next(response(told) for status, told in operation.told["responses"].items() if status[0] in "23")
    for kind, content in good.get("content", {}).items():
        if kind == "application/json":
            assert content["schema"], f"{operation.id} says nothing of its answer"
            described = content["schema"].get("properties") or "items" in content["schema"]
            assert "examples" in content or not described, f"services/gateway/examples has no answer of {operation.id}"


@EVERY
def test_examples_name_only_what_there_is_and_all_that_is_needed(operation: Operation) -> None:
    example = ABOUT.examples.get(operation.id, {})
    assert set(example) <= {"path", "query", "request", "answer"}
    assert set(example.get("path", {})) == set(re.findall(r"\{(\w+)\}", operation.path)) or not example
    query = {one["name"]: one for one in operation.told["parameters"] if one["in"] == "query"}
    given = example.get("query", {})
    assert set(given) <= set(query)
    assert not example or {name for name, one in query.items() if one["required"]} <= set(given)
    for name, value in given.items():
        assert not mistakes(query[name]["schema"], value), name
    assert set(example.get("request", {})) <= set(operation.told.get("requestBody", {}).get("content", {}))


def test_no_example_is_of_an_operation_that_is_gone() -> None:
    assert set(ABOUT.examples) <= {operation.id for operation in operations()}


@EVERY
def test_every_operation_says_how_it_refuses(operation: Operation) -> None:
    statuses, security = set(operation.told["responses"]), operation.told["security"]
    assert {"400", "405", "422", "429", "503"} <= statuses
    if security and {} not in security:
        assert "401" in statuses
    if operation.told["x-roles"]:
        assert "403" in statuses
    if operation.method in ("POST", "PUT", "PATCH"):
        assert {"413", "415"} <= statuses
    for status, told in operation.told["responses"].items():
        headers = response(told).get("headers", {})
        if "application/problem+json" in response(told).get("content", {}):
            assert ("Retry-After" in headers) == (status in ("429", "503")), status
            assert ("Allow" in headers) == (status == "405")


def test_a_telephony_system_may_send_its_key_as_basic_or_sign() -> None:
    by_path = {operation.path: operation.told["security"] for operation in operations()}
    assert by_path["/v1/telephony/freeswitch/cdr"] == [{"key": []}, {"basic": []}]
    assert by_path["/v1/telephony/twilio/voice"] == [{"key": []}, {"basic": []}, {"X-Twilio-Signature": []}]
    assert by_path["/livez"] == []
    assert by_path["/metrics"] == [{}, {"key": []}]


def test_operation_ids_are_those_of_the_doors() -> None:
    assert [operation.id for operation in operations()] == [door.__name__ for _, door in endpoints_of(GatewayService)]


# ---- AsyncAPI


def test_every_event_has_an_example_that_fits_its_description() -> None:
    told = json.loads(json.dumps(documents.asyncapi()))
    assert told["asyncapi"] == "3.0.0"
    assert {message["name"] for message in told["components"]["messages"].values()} == set(contracts.SCHEMAS)
    for message in told["components"]["messages"].values():
        (example,) = message["examples"]
        assert not mistakes(message["payload"], example["payload"]), message["name"]
        assert example["payload"]["type"] == message["name"]
        assert mistakes(message["payload"], {**example["payload"], "data": 17})
