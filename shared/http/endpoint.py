"""A door: a method of a service, what it takes, who may use it and what it answers, in one decorator.

@endpoint("POST", "/v1/contacts", body=NewContact, answer=Contact, status=201, roles=("telephony",))
def post_contact(self, request):
    '''Announce a contact.'''
    return {...}
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

from marshmallow import Schema, ValidationError

from shared.contracts.compile import Loader, compile_loader, compile_moments, keys_of
from shared.contracts.fields import as_json
from shared.errors import Invalid, MethodNotAllowed, NotFound

ATTRIBUTE = "_answerline_endpoint"
SMALL = 256 * 1024
LARGE = 64 * 1024 * 1024
Door = TypeVar("Door", bound=Callable[..., Any])


@dataclass(frozen=True)
class Scope:
    """The sites and teams that somebody's roles hold for. Without any: the whole organisation."""

    sites: frozenset[str] = frozenset()
    teams: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Principal:
    """Who asks: a key or a person (`person`: their id in the directory), by name and with roles. `id` is the key's or the person's."""

    name: str
    roles: frozenset[str]
    id: str = ""
    person: str = ""
    scope: Scope = Scope()


PUBLIC = Principal("anyone", frozenset())


@dataclass(frozen=True)
class Signature:
    """How a sender is known that has no key: the service's method `check` holds `header` against the request and its body, and says who
    it is (None: nobody we know)."""

    header: str
    check: str


@dataclass(frozen=True)
class Endpoint:
    """`roles` empty: any valid key; `public`: no key needed. `limit` is the largest body in bytes; `takes` empty: none is needed.
    `shapes`: what a body of a media type looks like, as a schema or as JSON Schema, where the door reads it itself. `gives_also`: media types
    that it answers too. `answers`: what it answers with a status that other doors do not have; None: a problem document.
    `once` False: a POST that asks, and changes nothing that a second one would change again."""

    method: str
    path: str
    body: type[Schema] | None = None
    query: type[Schema] | None = None
    answer: type[Schema] | None = None
    status: int = 200
    roles: tuple[str, ...] = ()
    public: bool = False
    limit: int = SMALL
    takes: tuple[str, ...] = ("application/json",)
    gives: str = "application/json"
    gives_also: tuple[str, ...] = ()
    answers: Mapping[int, type[Schema] | None] = field(default_factory=dict)
    tag: str = ""
    signature: Signature | None = None
    shapes: Mapping[str, type[Schema] | dict[str, Any]] = field(default_factory=dict)
    once: bool = True

    @property
    def heeds_key(self) -> bool:
        """Whether its answer is kept under an Idempotency-Key: a POST by somebody known that changes something. What telephony tells is
        known again by its own keys."""
        return self.method == "POST" and self.once and not self.public and self.tag != "telephony"

    @property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(re.sub(r"\\?\{(\w+)\\?\}", r"(?P<\1>[^/]+)", re.escape(self.path)))


def endpoint(method: str, path: str, **options: Any) -> Callable[[Door], Door]:
    def mark(door: Door) -> Door:
        setattr(door, ATTRIBUTE, Endpoint(method, path, **options))
        return door

    return mark


def endpoints_of(service: type[Any]) -> list[tuple[Endpoint, Callable[..., Any]]]:
    """The doors of a service's class and of the classes that it is made of, by path and method."""
    members = {name: member for kind in reversed(service.__mro__) for name, member in vars(kind).items()}
    found = ((getattr(member, ATTRIBUTE), member) for member in members.values() if hasattr(member, ATTRIBUTE))
    return sorted(found, key=lambda pair: (pair[0].path, pair[0].method))


@dataclass
class Response:
    """An answer that is more than a JSON document; `body` is bytes, or an iterable of bytes for a stream."""

    body: Any = b""
    status: int = 200
    content_type: str = "application/json"
    headers: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Route:
    """An endpoint bound to a service instance, its schemas compiled."""

    endpoint: Endpoint
    call: Callable[..., Any]
    load_body: Loader | None
    load_query: Loader | None
    query_names: frozenset[str]
    check_signature: Callable[..., Principal | None] | None = None


class Router:
    """Finds the door for a method and path."""

    def __init__(self, service: Any) -> None:
        self.exact: dict[str, dict[str, Route]] = {}
        self.patterns: list[tuple[re.Pattern[str], dict[str, Route]]] = []
        by_pattern: dict[str, dict[str, Route]] = {}
        for spec, function in endpoints_of(type(service)):
            route = Route(
                spec,
                _telling(getattr(service, function.__name__), spec.answer),
                _body_loader(spec.body) if spec.body else None,
                _query_loader(spec.query) if spec.query else None,
                _query_keys(spec.query) if spec.query else frozenset(),
                getattr(service, spec.signature.check) if spec.signature else None,
            )
            if "{" in spec.path:
                by_pattern.setdefault(spec.path, {})[spec.method] = route
            else:
                self.exact.setdefault(spec.path, {})[spec.method] = route
        self.patterns = [(next(iter(methods.values())).endpoint.pattern, methods) for methods in by_pattern.values()]

    def find(self, method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        """Raises NotFound or MethodNotAllowed."""
        methods, parameters = self._methods(path)
        if route := methods.get("GET" if method == "HEAD" else method):
            return route, parameters
        raise MethodNotAllowed(f"{path} takes {', '.join(sorted(methods))}", allow=sorted(methods))

    def _methods(self, path: str) -> tuple[dict[str, Route], Mapping[str, str]]:
        if methods := self.exact.get(path):
            return methods, {}
        for pattern, methods in self.patterns:
            if match := pattern.fullmatch(path):
                return methods, match.groupdict()
        raise NotFound(f"nothing is at {path}; /openapi.json lists what there is")


@cache
def _body_loader(schema: type[Schema]) -> Loader:
    return compile_loader(as_json(schema()))


@cache
def _query_loader(schema: type[Schema]) -> Loader:
    return compile_loader(schema())


@cache
def _query_keys(schema: type[Schema]) -> frozenset[str]:
    return keys_of(schema())


@cache
def _moments(answer: type[Schema]) -> Callable[[Any], Any] | None:
    return compile_moments(answer())


def _telling(call: Callable[..., Any], answer: type[Schema] | None) -> Callable[..., Any]:
    """The door, with moments written as its answer's schema has them."""
    written = _moments(answer) if answer else None
    if written is None:
        return call

    def tell(*arguments: Any) -> Any:
        return written(call(*arguments))

    return tell


def check(load: Loader, values: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Load through a compiled schema. Raises Invalid with the schema's own messages by field."""
    try:
        return load(values)
    except ValidationError as error:
        raise Invalid(f"the {what} is not as it must be", errors=error.normalized_messages()) from error
