"""The WSGI application: from a request to a door and back, with every error as a problem document (RFC 9457)."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from http import HTTPStatus
from itertools import chain
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qsl, quote, unquote_to_bytes

import orjson
import structlog

from shared import clock
from shared.db.engine import is_outage, why_out
from shared.errors import (
    AnswerlineError,
    Forbidden,
    Invalid,
    Malformed,
    TooLarge,
    TooSlow,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
)
from shared.http.endpoint import PUBLIC, Endpoint, Principal, Response, Route, Router, check
from shared.http.rate import Limits
from shared.ids import new_id
from shared.observability import trace

log = structlog.get_logger()

STATUS = {
    200: "200 OK", 201: "201 Created", 202: "202 Accepted", 204: "204 No Content", 206: "206 Partial Content", 207: "207 Multi-Status", 303: "303 See Other", 400: "400 Bad Request",
    401: "401 Unauthorized", 403: "403 Forbidden", 404: "404 Not Found", 405: "405 Method Not Allowed", 408: "408 Request Timeout",
    409: "409 Conflict", 410: "410 Gone", 413: "413 Content Too Large", 415: "415 Unsupported Media Type", 416: "416 Range Not Satisfiable", 422: "422 Unprocessable Content",
    429: "429 Too Many Requests", 503: "503 Service Unavailable",
}  # fmt: skip
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SECURITY_HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-store"),
    ("Referrer-Policy", "no-referrer"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
]
OVER_TLS = ("Strict-Transport-Security", "max-age=31536000")
"""For whoever came by TLS: come no other way for a year."""
RETRY_AFTER_SECONDS = "2"
# curl -d and Asterisk's CURL() call every body a form unless told otherwise; what is JSON is read as JSON
JSON_TYPES = ("application/json", "application/x-www-form-urlencoded", "")

Environ = Mapping[str, Any]
Authenticate = Callable[[Environ], Principal | None]
Observe = Callable[[str, str, int, float], None]
Permit = Callable[[Endpoint, "Request"], None]
Ended = Callable[[int, Any], None]
Witness = Callable[[Endpoint, "Request"], Ended | None]
LONGEST_LENGTH = 15
"""Digits of a Content-Length; more are no length of anything."""
LONGEST_KEY = 255
DEEPEST = 64
"""Levels of a JSON body; what walks through one later has no more room than some hundreds."""
PASSING = frozenset({401, 403, 408, 429})
"""Refusals that say nothing about what was asked: whoever asks again may find it otherwise."""


class Claim(NamedTuple):
    """The right to carry out a request under its Idempotency-Key. `made`: an id for what it makes, the same each time it is begun."""

    id: str
    turn: int
    made: str


class Memory(Protocol):
    """Remembers what was answered to requests with an Idempotency-Key."""

    def claim(self, whose: str, route: str, key: str, fingerprint: str) -> Claim | Response:
        """A claim, or what was answered before. Raises Invalid where the key was used for something else, Conflict where it is in use."""

    def keep(self, claim: Claim, response: Response) -> None:
        """This is the answer, from now on."""

    def release(self, claim: Claim, unsure: bool = False) -> None:
        """Nothing came of it: the next one may try."""


class Request:
    """What a door sees."""

    __slots__ = ("body", "environ", "made", "parameters", "principal", "query", "raw")

    def __init__(self, environ: Environ, parameters: Mapping[str, str], principal: Principal) -> None:
        self.environ = environ
        self.parameters = parameters
        self.principal = principal
        self.query: dict[str, Any] = {}
        self.body: dict[str, Any] = {}
        self.raw = b""
        self.made = ""

    def new_id(self) -> str:
        """For the one thing that the request makes: the same id again when it is carried out again under its Idempotency-Key."""
        return self.made or new_id()

    def header(self, name: str) -> str:
        key = name.upper().replace("-", "_")
        return self.environ.get(key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}", "")

    @property
    def content_type(self) -> str:
        """The media type alone. Asterisk sends the header twice; then the values are joined by a comma."""
        return self.environ.get("CONTENT_TYPE", "").split(";")[0].split(",")[0].strip().lower()


class Application:
    """`authenticate` says who asks (None: no valid key); `observe` is told route, method, status and seconds of each request; `permit`
    refuses what a door's role alone would let in; `witness` is told who begins what, and what it gives back how that ended: status and answer.
    `limits`: how often somebody may ask; `memory`: of what was answered to requests with an Idempotency-Key."""

    def __init__(
        self,
        router: Router,
        authenticate: Authenticate,
        observe: Observe,
        permit: Permit = lambda _endpoint, _request: None,
        witness: Witness = lambda _endpoint, _request: None,
        limits: Limits | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.limits = limits
        self.memory = memory
        self.permit = permit
        self.witness = witness
        self.router = router
        self.authenticate = authenticate
        self.observe = observe
        self.in_progress = 0

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        self.in_progress += 1
        try:
            return self._respond(environ, start_response)
        finally:
            self.in_progress -= 1

    def _respond(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        began = clock.monotonic()
        method, route = environ["REQUEST_METHOD"], None
        trace.begin(environ.get(trace.HEADER, ""))
        try:
            path = _path(environ)
            route, parameters = self.router.find(method, path)
            response = _begun(self._answer(route, parameters, environ))
        except AnswerlineError as error:
            response = problem(self._counted(error, route, environ))
        except Exception as error:
            if is_outage(error):
                response = problem(Unavailable(why_out(error)))
            else:
                log.exception("a door failed", path=route.endpoint.path if route else "", method=method, error=type(error).__name__)
                response = problem(Unavailable("the request failed here; the log says how"))
        known = method if method in METHODS else "other"  # anybody may send any word, and each would be kept as a label
        self.observe(route.endpoint.path if route else "none", known, response.status, clock.monotonic() - began)
        return send(response, method, start_response, self.limits is not None and self.limits.proxies.is_secure(environ))

    def _counted(self, error: AnswerlineError, route: Route | None, environ: Environ) -> AnswerlineError:
        """A wrong key, password or signature counts against the address that it came from; a right one is let in whatever came before."""
        if self.limits is None or route is None or not isinstance(error, Unauthenticated):
            return error
        address, spec = self.limits.proxies.client_of(environ), route.endpoint
        if _tries_password(spec):
            return self.limits.failed("password", address) or error
        signed = spec.signature is not None and f"HTTP_{spec.signature.header.upper().replace('-', '_')}" in environ
        if not signed and "HTTP_AUTHORIZATION" not in environ:
            return error
        return self.limits.failed("wrong_key", address) or error

    def _spend(self, spec: Endpoint, principal: Principal | None, environ: Environ) -> None:
        if self.limits is None:
            return
        address = self.limits.proxies.client_of(environ)
        self.limits.spend(spec.tag, None if spec.public else principal, address)
        if _tries_password(spec):
            self.limits.check_failures("password", address)

    def _answer(self, route: Route, parameters: Mapping[str, str], environ: dict[str, Any]) -> Response:
        spec = route.endpoint
        principal = PUBLIC if spec.public else self.authenticate(environ)
        self._spend(spec, principal, environ)
        request = Request(environ, parameters, principal or PUBLIC)
        ended = self.witness(spec, request) if principal else None
        try:
            response = self._let_in(route, request, principal)
        except Exception as error:
            if ended:
                ended(error.status if isinstance(error, AnswerlineError) else 503 if is_outage(error) else 500, None)
            raise
        if ended:
            ended(response.status, response.body)
        return response

    def _let_in(self, route: Route, request: Request, principal: Principal | None) -> Response:
        spec, environ = route.endpoint, request.environ
        signed = principal is None and spec.signature is not None and bool(request.header(spec.signature.header))
        if not spec.public and not signed:
            require(principal, spec.roles)
        if environ.get("QUERY_STRING") or route.load_query:
            request.query = _query(route, environ.get("QUERY_STRING", ""))
        if spec.method in ("POST", "PUT", "PATCH"):
            request.raw = _read_body(environ, spec.limit)
            if signed and route.check_signature:
                request.principal = require(route.check_signature(request), spec.roles)
            if route.load_body:
                request.body = check(route.load_body, json_object(request), "body")
        self.permit(spec, request)
        if self.memory is not None and "HTTP_IDEMPOTENCY_KEY" in environ and spec.heeds_key:
            return self._once(self.memory, route, request)
        return _call(route, request)

    def _once(self, memory: Memory, route: Route, request: Request) -> Response:
        """Carry a request out unless that was done under its Idempotency-Key before. What was answered is final, but for our own trouble
        and refusals that may pass."""
        whose = request.principal.id or request.principal.name
        claim = memory.claim(whose, f"POST {route.endpoint.path}", _idempotency_key(request), _fingerprint(request))
        if isinstance(claim, Response):
            return claim
        request.made = claim.made
        try:
            response = _call(route, request)
        except AnswerlineError as error:
            response = problem(error)
        except Exception:
            memory.release(claim, unsure=True)
            raise
        if response.status >= 500 or response.status in PASSING:
            memory.release(claim, unsure=response.status >= 500)
        else:
            memory.keep(claim, response)
        return response


def _call(route: Route, request: Request) -> Response:
    result = route.call(request)
    if isinstance(result, Response):
        return result
    return Response(b"" if result is None else orjson.dumps(result, default=str), 204 if result is None else route.endpoint.status)


def _tries_password(spec: Endpoint) -> bool:
    """Whether the door itself finds out who somebody is, by a password or the like."""
    return spec.public and spec.method == "POST"


def _idempotency_key(request: Request) -> str:
    """Raises Malformed."""
    key = request.header("Idempotency-Key")
    if not 1 <= len(key) <= LONGEST_KEY or not all("!" <= character <= "~" for character in key):
        raise Malformed(f"Idempotency-Key: 1 to {LONGEST_KEY} visible ASCII characters, such as a UUID of the request's own")
    return key


def _fingerprint(request: Request) -> str:
    environ = request.environ
    address = f"{environ.get('RAW_PATH_INFO') or environ.get('PATH_INFO', '')}?{environ.get('QUERY_STRING', '')}"
    return blake2b(b"\0".join((address.encode(), request.content_type.encode(), request.raw)), digest_size=20).hexdigest()


def _begun(response: Response) -> Response:
    """A stream whose first part is there: what goes wrong before it can still be told."""
    if not isinstance(response.body, bytes):
        response.body = _Begun(response.body)
    return response


class _Begun:
    """An iterable of which the first item was taken already."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._source = parts
        rest = iter(parts)
        self._parts: Iterator[bytes] = chain([part] if (part := next(rest, None)) is not None else [], rest)

    def __iter__(self) -> Iterator[bytes]:
        return self._parts

    def close(self) -> None:
        if close := getattr(self._source, "close", None):
            close()


def require(principal: Principal | None, roles: tuple[str, ...]) -> Principal:
    """The principal, if it may come in. Raises Unauthenticated or Forbidden."""
    if principal is None:
        raise Unauthenticated("send a valid key as `Authorization: Bearer KEY`; `answerline key create` makes one")
    if roles and not principal.roles.intersection((*roles, "admin")):
        raise Forbidden(f"this needs a key with the role {' or '.join(roles)}")
    return principal


def json_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object. Raises UnsupportedMediaType, Malformed or Invalid."""
    if request.content_type not in JSON_TYPES:
        raise UnsupportedMediaType(f"the body must be application/json, not {request.content_type}")
    try:
        value = orjson.loads(request.raw)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise Invalid("the body must be a JSON object")
    if request.raw.count(b"[") + request.raw.count(b"{") > DEEPEST and is_deeper(value, DEEPEST):
        raise Invalid(f"the body is nested too deeply: at most {DEEPEST} levels are read")
    if b"\\u0000" in request.raw and holds_nul(value):
        raise Invalid("no text may hold the character U+0000")
    return value


def is_deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects stand in one another beyond so many levels."""
    level = [value]
    for _ in range(levels):
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [*chain.from_iterable(inner)]
    return any(isinstance(one, dict | list) for one in level)


def holds_nul(value: Any) -> bool:
    """No database keeps U+0000 in a text."""
    match value:
        case str():
            return "\x00" in value
        case dict():
            return any(holds_nul(part) for pair in value.items() for part in pair)
        case list():
            return any(map(holds_nul, value))
        case _:
            return False


def problem(error: AnswerlineError) -> Response:
    """The error as a problem document."""
    more = dict(error.more)
    headers = [*more.pop("headers", ())]
    if isinstance(error, Unauthenticated):
        headers.append(("WWW-Authenticate", "Bearer"))
    if allow := more.pop("allow", None):
        headers.append(("Allow", ", ".join(allow)))
    if error.status in (429, 503) or "retry_after" in more:
        headers.append(("Retry-After", str(more.pop("retry_after", RETRY_AFTER_SECONDS))))
    slug = error.title.lower().replace(" ", "-")
    body = {"type": f"urn:answerline:problem:{slug}", "title": error.title, "status": error.status, "detail": error.detail, **more}
    document = orjson.dumps(body, default=str, option=orjson.OPT_NON_STR_KEYS)  # marshmallow names a list's items by number
    return Response(document, error.status, "application/problem+json", headers)


def _path(environ: Environ) -> str:
    """The decoded path. Raises Malformed for one that is no text."""
    raw = environ.get("RAW_PATH_INFO") or environ.get("PATH_INFO", "/")
    try:
        path = unquote_to_bytes(raw.encode("latin-1")).decode("utf-8") if "%" in raw else raw
    except UnicodeError as error:
        raise Malformed("the path is not valid UTF-8") from error
    if "\x00" in path:
        raise Malformed("the path holds the character U+0000")
    return path


def _query(route: Route, text: str) -> dict[str, Any]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError as error:
        raise Malformed(f"the query string cannot be read: {error}") from error
    values = dict(pairs)
    if holds_nul(values):
        raise Invalid("no text may hold the character U+0000")
    if len(values) < len(pairs):
        raise Invalid("a query parameter is given twice")
    if unknown := set(values) - route.query_names:
        known = ", ".join(sorted(route.query_names)) or "none"
        raise Invalid(f"unknown query parameter: {', '.join(sorted(unknown))}; known: {known}")
    return check(route.load_query, values, "query") if route.load_query else values


def _read_body(environ: Environ, limit: int) -> bytes:
    """The whole body. Raises TooLarge or Malformed."""
    text = environ.get("CONTENT_LENGTH", "")
    if text and not (text.isascii() and text.isdigit()):
        raise Malformed("Content-Length must be a whole number")
    if len(text) > LONGEST_LENGTH:
        raise TooLarge(f"the body cannot be so large; at most {limit} bytes are taken here")
    length = int(text) if text else None
    if length is not None and length > limit:
        raise TooLarge(f"the body has {length} bytes; at most {limit} are taken here")
    stream = environ["wsgi.input"]
    coding = environ.get("HTTP_TRANSFER_ENCODING", "").strip(" \t").lower()
    if coding not in ("", "chunked"):
        raise Malformed(f"Transfer-Encoding: send the body as it is or chunked, not {coding[:40]}")
    if length is None and not coding:
        return b""
    try:
        body: bytes = stream.read(limit + 1 if length is None else length)
    except ValueError as error:
        raise Malformed("a chunk of the body does not begin with its length") from error
    except TimeoutError as error:
        raise TooSlow("the body came too slowly; send it again, over a faster line or in smaller parts") from error
    except OSError as error:  # it broke off between two chunks, or was reset
        raise Malformed("the connection ended before the body did") from error
    if len(body) > limit:
        raise TooLarge(f"at most {limit} bytes are taken here")
    if length is not None and len(body) < length:
        raise Malformed("the connection ended before the body did")
    return body


def send(response: Response, method: str, start_response: Callable[..., Any], secure: bool = False) -> Iterable[bytes]:
    """Answer as WSGI wants it. `secure`: the client came by TLS."""
    headers = [("Content-Type", response.content_type)] if response.status not in (204, 304) else []
    if response.headers:
        own = {name for name, _ in response.headers}
        headers += [(name, _plain(value)) for name, value in response.headers]
        headers += [pair for pair in SECURITY_HEADERS if pair[0] not in own]
    else:
        headers += SECURITY_HEADERS
    if secure:
        headers.append(OVER_TLS)
    status = STATUS.get(response.status) or f"{response.status} {HTTPStatus(response.status).phrase}"
    if not isinstance(response.body, bytes):
        start_response(status, headers)
        return response.body if method != "HEAD" else _closed(response.body)
    if response.status not in (204, 304):
        headers.append(("Content-Length", str(len(response.body))))
    start_response(status, headers)
    return [] if method == "HEAD" or response.status in (204, 304) else [response.body]


def _closed(parts: Any) -> Iterable[bytes]:
    if close := getattr(parts, "close", None):
        close()
    return []


def _plain(value: str) -> str:
    """A header's value holds visible ASCII and blanks: what else is in it (a file's name, an address) is percent-encoded."""
    return value if value.isascii() and value.isprintable() else quote(value, safe=" !\"#$%&'()*+,/:;<=>?@[]^_`{|}~-.")
