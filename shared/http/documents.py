"""OpenAPI and AsyncAPI, generated from the endpoints and the contracts."""

import re
from functools import cache
from importlib.metadata import version
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema

from shared import contracts
from shared.contracts.fields import Time
from shared.http.endpoint import Endpoint, endpoints_of

TITLE = "Answerline"
VERSION = version("answerline")
ENVELOPE: dict[str, Any] = {
    "specversion": {"const": "1.0"},
    "id": {"type": "string", "format": "uuid"},
    "source": {"type": "string"},
    "subject": {"type": "string", "description": "the aggregate that it happened to"},
    "time": {"type": "string", "format": "date-time"},
    "datacontenttype": {"const": "application/json"},
    "sequence": {"type": "integer", "description": "rises for each subject: of two events the later holds"},
    "correlationid": {"type": "string"},
    "causationid": {"type": "string"},
    "traceparent": {"type": "string"},
}
OPTIONAL = {"correlationid", "causationid", "traceparent"}
PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "what to mend"},
        "errors": {"type": "object", "description": "messages by field"},
    },
}


def _inline(_schema: type[Schema]) -> Any:
    """No name: schemas stand where they are used."""


def _spec(openapi_version: str) -> tuple[APISpec, MarshmallowPlugin]:
    plugin = MarshmallowPlugin(schema_name_resolver=_inline)
    spec = APISpec(TITLE, VERSION, openapi_version, plugins=[plugin])
    plugin.map_to_openapi_type(Time, "string", "date-time")
    return spec, plugin


@cache
def openapi(service: Any) -> dict[str, Any]:
    """The OpenAPI 3.1 document of a service's doors."""
    spec, plugin = _spec("3.1.0")
    spec.components.security_scheme("key", {"type": "http", "scheme": "bearer"})
    for header in sorted({endpoint.signature.header for endpoint, _ in endpoints_of(service) if endpoint.signature}):
        spec.components.security_scheme(header, {"type": "apiKey", "in": "header", "name": header})
    spec.components.schema("Problem", PROBLEM)
    for endpoint, door in endpoints_of(service):
        spec.path(path=endpoint.path, operations={endpoint.method.lower(): _operation(endpoint, door, plugin)})
    return spec.to_dict()


def _operation(endpoint: Endpoint, door: Any, plugin: MarshmallowPlugin) -> dict[str, Any]:
    converter = plugin.converter
    assert converter is not None
    described = (door.__doc__ or "").strip()
    operation: dict[str, Any] = {
        "operationId": door.__name__,
        "summary": described.split(". ")[0].rstrip("."),
        "description": described,
        "tags": [endpoint.tag],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in re.findall(r"\{(\w+)\}", endpoint.path)
        ],
        "responses": _responses(endpoint, converter),
        "security": [] if endpoint.public else [{"key": []}, *([{endpoint.signature.header: []}] if endpoint.signature else [])],
        "x-roles": list(endpoint.roles),
    }
    if endpoint.query:
        for name, field in endpoint.query().load_fields.items():
            schema = converter.field2property(field)
            operation["parameters"].append({"name": field.data_key or name, "in": "query", "required": field.required, "schema": schema})
    if endpoint.body:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": _schema(endpoint.body, converter)}}}
    elif endpoint.method in ("POST", "PUT") and endpoint.takes:
        content = {kind: {"schema": _shape(endpoint.shapes.get(kind), converter)} for kind in endpoint.takes}
        if endpoint.query is None or endpoint.limit > 1_000_000 or len(endpoint.takes) > 1:
            operation["requestBody"] = {"required": True, "content": content}
    return operation


def _responses(endpoint: Endpoint, converter: Any) -> dict[str, Any]:
    schema = _schema(endpoint.answer, converter) if endpoint.answer else {}
    good: dict[str, Any] = {"description": "Success"}
    if endpoint.status != 204:
        good["content"] = {endpoint.gives: {"schema": schema}}
    problem = {"content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    failures = {400: "Malformed request", 404: "Not found", 422: "Invalid content", 503: "Not available at the moment"}
    if not endpoint.public:
        failures |= {401: "No valid key", 403: "Not allowed"}
    if endpoint.method in ("POST", "PUT"):
        failures |= {409: "Conflict", 413: "Too large", 415: "Unsupported media type"}
    return {str(endpoint.status): good} | {str(status): {"description": text, **problem} for status, text in sorted(failures.items())}


def _shape(shape: type[Schema] | dict[str, Any] | None, converter: Any) -> dict[str, Any]:
    """What a body looks like that the door reads itself; text, where nothing is said."""
    if shape is None:
        return {"type": "string"}
    if not isinstance(shape, dict):
        return _schema(shape, converter)
    return {name: _inside(value, converter) for name, value in shape.items()}


def _inside(value: Any, converter: Any) -> Any:
    """JSON Schema may hold schemas of ours."""
    if isinstance(value, list):
        return [_inside(one, converter) for one in value]
    return _shape(value, converter) if isinstance(value, dict | type) else value


def _schema(schema: type[Schema], converter: Any) -> dict[str, Any]:
    described: dict[str, Any] = converter.schema2jsonschema(schema())
    if schema.Meta.unknown == "raise":
        described["additionalProperties"] = False
    return described


@cache
def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3 document of every event of the published language."""
    _, plugin = _spec("3.1.0")
    messages, channels, operations = {}, {}, {}
    for name, schema in sorted(contracts.SCHEMAS.items()):
        key = re.sub(r"\W", "_", name)
        attributes = {**ENVELOPE, "type": {"const": name}, "data": _schema(schema, plugin.converter)}
        envelope = {"type": "object", "required": sorted({*attributes} - OPTIONAL), "properties": attributes}
        messages[key] = {
            "name": name,
            "summary": (schema.__doc__ or "").strip(),
            "contentType": "application/cloudevents+json",
            "payload": envelope,
        }
        channels[key] = {"address": name, "messages": {key: {"$ref": f"#/components/messages/{key}"}}}
        operations[f"publish_{key}"] = {"action": "send", "channel": {"$ref": f"#/channels/{key}"}}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": TITLE,
            "version": VERSION,
            "description": "CloudEvents 1.0 in structured JSON on the topic exchange answerline.events.",
        },
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages},
    }
