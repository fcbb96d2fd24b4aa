"""What the installation says of itself: OpenAPI, AsyncAPI, health and metrics."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from shared import contracts
from tests.contract.telephony import post
from tests.system import System
from tests.unit.gateway import telephony_samples as samples

LOG = "\n".join(samples.queue_log_lines())


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [one for part in value.values() for one in references(part)]
    return [one for part in value for one in references(part)] if isinstance(value, list) else []


def resolve(document: Any, reference: str) -> Any:
    assert reference.startswith("#/"), reference
    for part in reference[2:].split("/"):
        document = document[part.replace("~1", "/").replace("~0", "~")]
    return document


def test_the_openapi_document_has_the_shape_of_openapi_3_1(system: System) -> None:
    document = system.client().get("/openapi.json").ok()
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert document["info"]["title"]
    assert document["info"]["version"]
    ids = []
    for path, operations in document["paths"].items():
        assert path.startswith("/")
        for method, told in operations.items():
            where = (method, path)
            assert method in ("get", "post", "put", "delete", "patch", "options"), where
            ids.append(told["operationId"])
            assert told["summary"], where
            assert any(status[0] in "23" for status in told["responses"]), where
            assert all(resolve(document, one["$ref"]) if "$ref" in one else one["description"] for one in told["responses"].values()), where
            parameters = {(one["in"], one["name"]) for one in told["parameters"]}
            assert len(parameters) == len(told["parameters"]), where
            assert {one for kind, one in parameters if kind == "path"} == set(re.findall(r"\{(\w+)\}", path)), where
            assert all("schema" in one and (one["required"] or one["in"] != "path") for one in told["parameters"]), where
            for requirement in told["security"]:
                assert set(requirement) <= set(document["components"]["securitySchemes"]), where
    assert len(ids) == len(set(ids))
    for reference in references(document):
        assert resolve(document, reference) is not None


def test_every_door_is_in_the_document(system: System) -> None:
    paths = system.get("/openapi.json").ok()["paths"]
    for method, path in (
        ("post", "/v1/telephony/asterisk/queue-log"), ("post", "/v1/telephony/asterisk/ami"), ("post", "/v1/telephony/asterisk/dialplan"),
        ("post", "/v1/telephony/asterisk/ari"),
        ("post", "/v1/contacts"), ("get", "/v1/contacts/{id}"), ("post", "/v1/contacts/{id}/assignment"), ("post", "/v1/contacts/{id}/end"),
        ("put", "/v1/agents/{id}"), ("put", "/v1/agents/{id}/state"), ("get", "/v1/agents/{id}/offers"), ("post", "/v1/offers/{id}/accept"),
        ("put", "/v1/queues/{name}"), ("get", "/v1/reports/queues"), ("get", "/v1/reports/agents"), ("get", "/v1/stream"),
        ("get", "/v1/queues"), ("get", "/v1/agents"), ("get", "/v1/customers"), ("put", "/v1/customers/{id}"), ("get", "/v1/customers/{id}"),
        ("put", "/v1/agents/{id}/certificates/{channel}"), ("delete", "/v1/agents/{id}/certificates/{channel}"),
        ("put", "/v1/agents/{id}/permits/{channel}"), ("get", "/v1/contacts/{id}/decisions"), ("post", "/v1/contacts/{id}/transfer"),
        ("post", "/v1/contacts/{id}/requeue"), ("post", "/v1/contacts/{id}/conference"), ("post", "/v1/contacts/{id}/pending"),
        ("post", "/v1/contacts/{id}/resume"), ("post", "/v1/contacts/{id}/wrap-up"), ("post", "/v1/contacts/{id}/callback"),
        ("post", "/v1/contacts/{id}/callback/dialled"), ("delete", "/v1/contacts/{id}/callback"), ("put", "/v1/policies/{name}"),
        ("get", "/v1/policies/{name}/diff"), ("post", "/v1/policies/{name}/rollback"), ("put", "/v1/policies/{name}/shadow"), ("put", "/v1/calendars/{name}"),
        ("post", "/v1/closures"), ("delete", "/v1/closures/{id}"), ("put", "/v1/dispositions/{name}"),
        ("get", "/v1/reports/queues/intervals"), ("get", "/v1/reports/agents/intervals"), ("get", "/v1/reports/callbacks"),
        ("get", "/v1/reports/estimates"),
        ("post", "/v1/telephony/twilio/voice"), ("post", "/v1/telephony/twilio/taskrouter"), ("post", "/v1/telephony/twilio/events"),
        ("post", "/v1/events"), ("options", "/v1/events"), ("put", "/v1/sources/{name}"), ("get", "/v1/sources/{name}"), ("get", "/v1/sources"),
        ("get", "/livez"), ("get", "/readyz"), ("get", "/metrics"), ("get", "/openapi.json"), ("get", "/asyncapi.json"), ("get", "/docs"),
    ):  # fmt: skip
        assert method in paths.get(path, {}), (method, path)


def test_the_asyncapi_document_lists_every_contract(system: System) -> None:
    document = system.client().get("/asyncapi.json").ok()
    assert document["asyncapi"].startswith("3.")
    messages = {message["name"]: message for message in document["components"]["messages"].values()}
    assert set(messages) == set(contracts.SCHEMAS)
    for name, schema in contracts.SCHEMAS.items():
        described = messages[name]["payload"]["properties"]["data"]["properties"]
        assert set(described) == {field.data_key or key for key, field in schema().fields.items()}, name
    assert {channel["address"] for channel in document["channels"].values()} == set(contracts.SCHEMAS)
    for reference in references(document):
        assert resolve(document, reference) is not None


@pytest.mark.parametrize("path", ["/", "/docs", "/livez", "/readyz"])
def test_the_public_pages_need_no_key(system: System, path: str) -> None:
    assert system.client().get(path).status == 200


def test_readiness_names_what_it_rests_on(system: System) -> None:
    told = system.client().get("/readyz").ok()
    assert told["status"] == "ok"
    for service, checks in told["checks"].items():
        assert checks == {"database": True, "broker": True}, service
    assert "gateway" in told["checks"]
    of_the_door = system.client().get("/readyz?without=broker").ok()
    assert of_the_door["checks"] == {name: {"database": True, "started": True} for name in told["checks"]}
    assert "broker" in str(system.client().get("/readyz?without=database").problem(422)["errors"])


def test_the_sums_of_all_buckets_agree_and_grow_with_what_is_told(system: System, name: str) -> None:
    def sums() -> tuple[float, float]:
        metrics = system.metrics("routing")
        kinds = ("answerline_routing_inbox_events_total{", "answerline_routing_inbox_set_aside_events{")
        named = {re.findall(r'bucket="(\w+)"', sample)[0]: value for sample, value in metrics.items() if sample.startswith(kinds)}
        assert set(named) == {"applied", "duplicate", "dropped", "waiting", "retrying", "dead"}
        return metrics["answerline_routing_inbox_received_events_total"], sum(named.values())

    system.settle()
    before, placed = sums()
    assert before == placed
    post(system, name, "queue-log", LOG).ok()
    system.settle()
    after, placed = sums()
    assert after == placed
    events = system.sql("gateway", "select body from outbox")
    bodies = [row[0] if isinstance(row[0], dict) else json.loads(row[0]) for row in events]
    told = sum(body["data"].get("source") == name for body in bodies)
    assert after - before >= told > 300
    assert system.metrics("gateway")["answerline_gateway_outbox_pending_events"] == 0


def test_what_came_in_is_counted_by_door_and_result(system: System, name: str) -> None:
    def count(result: str) -> float:
        return system.metrics("gateway").get(f'answerline_gateway_intake_observations_total{{door="queue-log",result="{result}"}}', 0.0)

    kinds = ("accepted", "duplicate", "ignored", "rejected")
    before = {kind: count(kind) for kind in kinds}
    text = "1795296258|1.1|sales|NONE|ENTERQUEUE||1|1\n" * 2 + "1795296258|1.1|sales|NONE|NOVELTY|\n" * 3 + "bad\n" * 4
    post(system, name, "queue-log", text).ok()
    assert {kind: count(kind) - before[kind] for kind in kinds} == {"accepted": 1, "duplicate": 1, "ignored": 3, "rejected": 4}


def test_metrics_hold_no_ids_keys_or_numbers(system: System, name: str) -> None:
    contact = system.post("/v1/contacts", {"queue": "metrics", "source": name, "call": "77.1", "caller": "+85291234567"}).ok()["contact"]
    system.get(f"/v1/contacts/{contact}")
    system.settle()
    for service in ("gateway", "routing"):
        text = system.internal(service).get("/metrics").body.decode()
        for secret in (contact, "+85291234567", "77.1", system.key or ""):
            assert secret not in text
