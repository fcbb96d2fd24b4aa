"""OpenAPI and AsyncAPI, generated from the endpoints and the contracts."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import RAISE, Schema, validate
from marshmallow.fields import Field, Nested

from shared import contracts
from shared.contracts import topology
from shared.contracts.fields import Time
from shared.errors import AnswerlineError
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
        "errors": {"type": ["object", "array"], "description": "messages by field; of a policy: line, path and detail of each mistake"},
    },
}


RETRY_AFTER = {"description": "so many seconds later it may be tried again", "required": True, "schema": {"type": "integer", "minimum": 0}}
ALLOW = {"description": "the methods that the path takes", "required": True, "schema": {"type": "string"}}
CHALLENGE = {"description": "how a key is sent", "required": True, "schema": {"type": "string"}}
DETAILS = {
    400: "the body is not JSON: unexpected end of data",
    401: "send a valid key as `Authorization: Bearer KEY`; `answerline key create` makes one",
    403: "this needs a key with the role supervisor",
    404: "no queue is called sales",
    405: "/v1/queues/sales takes GET, PUT",
    408: "the body did not come in time",
    409: "offer 01a201d2-672a-7f5e-bdaf-c55909615874 is expired",
    413: "the body has 300000 bytes; at most 262144 are taken here",
    414: "an address has at most 8192 bytes with its query: send what is long in the body",
    415: "the body must be application/json, not text/xml",
    422: "the body is not as it must be",
    503: "the database is out of reach",
}
"""An example of each."""
HEADERS = {
    401: {"WWW-Authenticate": CHALLENGE}, 405: {"Allow": ALLOW}, 429: {"Retry-After": RETRY_AFTER}, 503: {"Retry-After": RETRY_AFTER},
}  # fmt: skip
TITLES = {kind.status: kind.title for kind in AnswerlineError.__subclasses__() if kind.status < 500 or kind.status == 503}
IDEMPOTENCY_KEY = {
    "description": "a name of your own for this request: sent again with it, it is answered as before and does nothing twice, for a day",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}
LAST_EVENT_ID = {
    "description": "the id of the last event received, a whole number: the stream goes on after it",
    "schema": {"type": "string"},
}
ANYTHING: dict[str, Any] = {}
WRITES = ("POST", "PUT", "PATCH", "DELETE")
READS_BODY = ("POST", "PUT", "PATCH")
TELEPHONY = "/v1/telephony/"
"""Where a key may come as Basic's password, for systems that can set no header of their own."""


@dataclass(frozen=True, eq=False)
class About:
    """What the document of a service says beyond its doors: `description` (Markdown), `tags` with a sentence each, in their order, and by
    operation what is sent and answered, for example: {"path": {…}, "query": {…}, "request": {media type: body}, "answer": body}."""

    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    examples: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


NOTHING = About()


def _inline(_schema: type[Schema]) -> Any:
    """No name: schemas stand where they are used."""


def _spec(openapi_version: str, **options: Any) -> tuple[APISpec, MarshmallowPlugin]:
    plugin = MarshmallowPlugin(schema_name_resolver=_inline)
    spec = APISpec(TITLE, VERSION, openapi_version, plugins=[plugin], **options)
    plugin.map_to_openapi_type(Time, "string", "date-time")
    assert plugin.converter is not None
    plugin.converter.add_attribute_function(_own_shape)
    return spec, plugin


def _own_shape(converter: Any, field: Field, ret: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001 - apispec's signature
    """What apispec cannot know: fields of our own say their shape themselves, nested inputs take no unknown fields, and validators may
    be joined by `validate.And`."""
    shape = _shape(getattr(field, "shape", {}), converter)
    if field.allow_none and "type" in shape:
        shape["type"] = [*shape["type"], "null"]
    elif field.allow_none and "anyOf" in shape:
        shape["anyOf"] = [*shape["anyOf"], {"type": "null"}]
    if isinstance(field, Nested) and field.schema.unknown == RAISE:
        shape["additionalProperties"] = False
    for joined in field.validators:
        for validator in joined.validators if isinstance(joined, validate.And) else ():
            if isinstance(validator, validate.Length):
                limits = {"minLength": validator.min, "maxLength": validator.max}
                shape |= {name: limit for name, limit in limits.items() if limit is not None}
            elif isinstance(validator, validate.Regexp):
                shape["pattern"] = validator.regex.pattern
    return shape


@cache
def openapi(service: Any, about: About = NOTHING, server: str = "/") -> dict[str, Any]:
    """The OpenAPI 3.1 document of a service's doors."""
    doors = endpoints_of(service)
    used = {endpoint.tag for endpoint, _ in doors}
    tags = [{"name": name, "description": words} for name, words in about.tags.items() if name in used]
    info = {"description": about.description, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}}
    spec, plugin = _spec("3.1.0", info=info, servers=[{"url": server}], tags=tags)
    spec.components.security_scheme("key", {"type": "http", "scheme": "bearer", "description": "An API key, or the token of a sign-in."})
    spec.components.security_scheme(
        "basic", {"type": "http", "scheme": "basic", "description": "For telephony systems: the API key as password, any name as user."}
    )
    for header in sorted({endpoint.signature.header for endpoint, _ in doors if endpoint.signature}):
        told = "The sender's own signature of address and body, instead of a key."
        spec.components.security_scheme(header, {"type": "apiKey", "in": "header", "name": header, "description": told})
    spec.components.schema("Problem", PROBLEM)
    for status in TITLES:
        spec.components.response(_title(status), _problem(status))
    for endpoint, door in doors:
        example = about.examples.get(door.__name__, {})
        spec.path(path=endpoint.path, operations={endpoint.method.lower(): _operation(endpoint, door, plugin, example)})
    return spec.to_dict()


def _operation(endpoint: Endpoint, door: Any, plugin: MarshmallowPlugin, example: Mapping[str, Any]) -> dict[str, Any]:
    converter = plugin.converter
    described = " ".join((door.__doc__ or "").split())
    operation: dict[str, Any] = {
        "operationId": door.__name__,
        "summary": described.split(". ")[0].rstrip("."),
        "description": described,
        "tags": [endpoint.tag],
        "parameters": [
            *_path_parameters(endpoint, example.get("path", {})),
            *_query_parameters(endpoint, converter, example.get("query", {})),
            *_header_parameters(endpoint),
        ],
        "responses": _responses(endpoint, converter, example),
        "security": _security(endpoint),
        "x-roles": list(endpoint.roles),
    }
    shapes: Mapping[str, Any] = {"application/json": endpoint.body} if endpoint.body else endpoint.shapes
    kinds = ("application/json",) if endpoint.body else endpoint.takes
    if endpoint.method in READS_BODY and kinds:
        content = {}
        for kind in kinds:
            unsaid = ANYTHING if kind.endswith(("json", "yaml")) else None
            content[kind] = {"schema": _shape(shapes.get(kind, unsaid), converter)} | _examples(example.get("request", {}), kind)
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _path_parameters(endpoint: Endpoint, examples: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"\{(\w+)\}", endpoint.path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} | _example(examples, name)


def _query_parameters(endpoint: Endpoint, converter: Any, examples: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for key, described in (endpoint.query().load_fields if endpoint.query else {}).items():
        name, schema = described.data_key or key, _portable(converter.field2property(described))
        yield {"name": name, "in": "query", "required": described.required, "schema": schema} | _example(examples, name)


def _header_parameters(endpoint: Endpoint) -> Iterator[dict[str, Any]]:
    if endpoint.heeds_key:
        yield {"name": "Idempotency-Key", "in": "header", "required": False, **IDEMPOTENCY_KEY}
    if endpoint.gives == "text/event-stream":
        yield {"name": "Last-Event-ID", "in": "header", "required": False, **LAST_EVENT_ID}


def _example(examples: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {"example": examples[name]} if name in examples else {}


def _examples(examples: Mapping[str, Any], kind: str) -> dict[str, Any]:
    return {"examples": {"usual": {"value": examples[kind]}}} if kind in examples else {}


def _security(endpoint: Endpoint) -> list[dict[str, Any]]:
    """Any one of these. An empty one: nothing is needed, at least where the installation says so."""
    if endpoint.public and not {401, 403} <= endpoint.answers.keys():
        return []
    ways: list[dict[str, Any]] = [{}] if endpoint.public else []
    ways.append({"key": []})
    if endpoint.path.startswith(TELEPHONY):
        ways.append({"basic": []})
    if endpoint.signature:
        ways.append({endpoint.signature.header: []})
    return ways


def _responses(endpoint: Endpoint, converter: Any, example: Mapping[str, Any]) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "Success"}
    if endpoint.status not in (204, 303):
        schema = _schema(endpoint.answer, converter) if endpoint.answer else {}
        shown = {endpoint.gives: example["answer"]} if "answer" in example else {}
        good["content"] = {endpoint.gives: {"schema": schema} | _examples(shown, endpoint.gives)}
        good["content"] |= {kind: {"schema": {"type": "string"}} for kind in endpoint.gives_also}
    problems = {*_failures(endpoint), *(status for status, other in endpoint.answers.items() if other is None and status >= 400)}
    answers: dict[int, dict[str, Any]] = {status: {"$ref": f"#/components/responses/{_title(status)}"} for status in problems}
    for status, other in endpoint.answers.items():
        if status not in problems:
            schema = {} if other is None else _schema(other, converter)
            answers[status] = {"description": HTTPStatus(status).phrase, "content": {endpoint.gives: {"schema": schema}}}
    return {str(status): answer for status, answer in sorted({endpoint.status: good, **answers}.items())}


def _failures(endpoint: Endpoint) -> list[int]:
    """The statuses of problem documents: those that follow from what the door is."""
    failures = [400, 405, 414, 422, 429, 431, 503]
    if not endpoint.public:
        failures += [401, 403]
    if "{" in endpoint.path or endpoint.method in WRITES:
        failures.append(404)
    if endpoint.method in WRITES:
        failures.append(409)
    if endpoint.method in READS_BODY:
        failures += [408, 413, 415]
    return failures


def _title(status: int) -> str:
    return "".join(word.capitalize() for word in TITLES[status].split())


def _problem(status: int) -> dict[str, Any]:
    title = TITLES[status]
    kind = f"urn:answerline:problem:{title.lower().replace(' ', '-')}"
    value: dict[str, Any] = {"type": kind, "title": title, "status": status, "detail": DETAILS.get(status, title)}
    if status == 422:
        value["errors"] = {"queue": ["Missing data for required field."]}
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {"usual": {"value": value}}}
    told: dict[str, Any] = {"description": title, "content": {"application/problem+json": content}}
    return told | ({"headers": HEADERS[status]} if status in HEADERS else {})


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
    if schema.Meta.unknown == RAISE:
        described["additionalProperties"] = False
    return _portable(described)


def _portable(schema: Any) -> Any:
    """Patterns as JSON Schema has them: Python's `\\Z` is `$` there, and what `re.match` begins with must be said."""
    if isinstance(schema, list):
        return [_portable(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    told = {name: _portable(value) for name, value in schema.items()}
    if isinstance(pattern := told.get("pattern"), str) and not pattern.startswith("^"):
        whole, pattern = pattern.endswith(r"\Z"), pattern.replace(r"\0", r"\x00")
        told["pattern"] = f"^(?:{pattern[:-2]})$" if whole else f"^(?:{pattern})"
    return told


@cache
def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3 document of every event of the published language, each with its golden example."""
    _, plugin = _spec("3.1.0")
    messages: dict[str, Any] = {}
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for name, schema in sorted(contracts.SCHEMAS.items()):
        key = re.sub(r"\W", "_", name)
        attributes = {**ENVELOPE, "type": {"const": name}, "data": _schema(schema, plugin.converter)}
        messages[key] = {
            "name": name,
            "title": name,
            "summary": " ".join((schema.__doc__ or "").split()),
            "contentType": "application/cloudevents+json",
            "tags": [{"name": name.partition(".")[0]}],
            "payload": {"type": "object", "required": sorted({*attributes} - OPTIONAL), "properties": attributes},
            "examples": [{"name": "usual", "payload": contracts.example(name)}],
        }
        heard = [receiver for receiver, types in sorted(topology.SUBSCRIPTIONS.items()) if name in types]
        channels[key] = {
            "address": name,
            "description": f"Published by {name.partition('.')[0]}; heard by {', '.join(heard) or 'whoever subscribes'}.",
            "servers": [{"$ref": "#/servers/broker"}],
            "messages": {key: {"$ref": f"#/components/messages/{key}"}},
        }
        operations[f"publish_{key}"] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{key}"},
            "messages": [{"$ref": f"#/channels/{key}/messages/{key}"}],
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": TITLE,
            "version": VERSION,
            "description": f"CloudEvents 1.0 in structured JSON on the topic exchange {topology.EXCHANGE}; the routing key is the type. "
            "Fields may be added: pass over what you do not know. Events may come twice or late: of one subject the higher sequence holds.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/cloudevents+json",
        "servers": {"broker": {"host": "localhost:5672", "protocol": "amqp", "description": "RabbitMQ; ANSWERLINE_BROKER_URL says where."}},
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages},
    }
