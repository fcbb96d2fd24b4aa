"""The WSGI application: from a request to a door and back, with every error as a problem document (RFC 9457)."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

import orjson
import structlog

from shared import clock
from shared.db.engine import is_outage
from shared.errors import AnswerlineError, Forbidden, Invalid, Malformed, TooLarge, Unauthenticated, Unavailable, UnsupportedMediaType
from shared.http.endpoint import PUBLIC, Principal, Response, Route, Router, check

log = structlog.get_logger()

STATUS = {
    200: "200 OK", 201: "201 Created", 202: "202 Accepted", 204: "204 No Content", 207: "207 Multi-Status", 400: "400 Bad Request",
    401: "401 Unauthorized", 403: "403 Forbidden", 404: "404 Not Found", 405: "405 Method Not Allowed", 408: "408 Request Timeout",
    409: "409 Conflict", 410: "410 Gone", 413: "413 Content Too Large", 415: "415 Unsupported Media Type", 422: "422 Unprocessable Content",
    429: "429 Too Many Requests", 500: "500 Internal Server Error", 503: "503 Service Unavailable",
}  # fmt: skip
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SECURITY_HEADERS = [("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store")]
RETRY_AFTER_SECONDS = "2"
# curl -d and Asterisk's CURL() call every body a form unless told otherwise; what is JSON is read as JSON
JSON_TYPES = ("application/json", "application/x-www-form-urlencoded", "")

Environ = Mapping[str, Any]
Authenticate = Callable[[Environ], Principal | None]
Observe = Callable[[str, str, int, float], None]


class Request:
    """What a door sees."""

    __slots__ = ("body", "environ", "parameters", "principal", "query", "raw")

    def __init__(self, environ: Environ, parameters: Mapping[str, str], principal: Principal) -> None:
        self.environ = environ
        self.parameters = parameters
        self.principal = principal
        self.query: dict[str, Any] = {}
        self.body: dict[str, Any] = {}
        self.raw = b""

    def header(self, name: str) -> str:
        key = name.upper().replace("-", "_")
        return self.environ.get(key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}", "")

    @property
    def content_type(self) -> str:
        """The media type alone. Asterisk sends the header twice; then the values are joined by a comma."""
        return self.environ.get("CONTENT_TYPE", "").split(";")[0].split(",")[0].strip().lower()


class Application:
    """`authenticate` says who asks (None: no valid key); `observe` is told route, method, status and seconds of each request."""

    def __init__(self, router: Router, authenticate: Authenticate, observe: Observe) -> None:
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
        try:
            path = _path(environ)
            route, parameters = self.router.find(method, path)
            response = self._answer(route, parameters, environ)
        except AnswerlineError as error:
            response = problem(error)
        except Exception as error:
            if is_outage(error):
                response = problem(Unavailable("the database is out of reach"))
            else:
                log.exception("a door failed", path=route.endpoint.path if route else "", method=method, error=type(error).__name__)
                response = problem(AnswerlineError("the request failed here; the log says how"))
        known = method if method in METHODS else "other"  # anybody may send any word, and each would be kept as a label
        self.observe(route.endpoint.path if route else "none", known, response.status, clock.monotonic() - began)
        return send(response, method, start_response)

    def _answer(self, route: Route, parameters: Mapping[str, str], environ: dict[str, Any]) -> Response:
        spec = route.endpoint
        principal = PUBLIC if spec.public else self.authenticate(environ)
        request = Request(environ, parameters, principal or PUBLIC)
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
        result = route.call(request)
        if isinstance(result, Response):
            return result
        return Response(b"" if result is None else orjson.dumps(result, default=str), 204 if result is None else spec.status)


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
    if b"\\u0000" in request.raw and holds_nul(value):
        raise Invalid("no text may hold the character U+0000")
    return value


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
    headers = []
    if isinstance(error, Unauthenticated):
        headers.append(("WWW-Authenticate", "Bearer"))
    if allow := more.pop("allow", None):
        headers.append(("Allow", ", ".join(allow)))
    if error.status in (429, 503):
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
    length = int(text) if text else None
    if length is not None and length > limit:
        raise TooLarge(f"the body has {length} bytes; at most {limit} are taken here")
    stream = environ["wsgi.input"]
    coding = environ.get("HTTP_TRANSFER_ENCODING", "").strip().lower()
    if coding not in ("", "chunked"):
        raise Malformed(f"Transfer-Encoding: send the body as it is or chunked, not {coding[:40]}")
    if length is None and not coding:
        return b""
    try:
        body: bytes = stream.read(limit + 1 if length is None else length)
    except ValueError as error:
        raise Malformed("a chunk of the body does not begin with its length") from error
    except OSError as error:  # it broke off between two chunks, was reset, or dawdled for too long
        raise Malformed("the connection ended before the body did") from error
    if len(body) > limit:
        raise TooLarge(f"at most {limit} bytes are taken here")
    if length is not None and len(body) < length:
        raise Malformed("the connection ended before the body did")
    return body


def send(response: Response, method: str, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer as WSGI wants it."""
    own = {name for name, _ in response.headers}
    headers = [("Content-Type", response.content_type), *response.headers, *(pair for pair in SECURITY_HEADERS if pair[0] not in own)]
    if response.status == 204:
        headers = headers[1:]
    if isinstance(response.body, bytes):
        headers.append(("Content-Length", str(len(response.body))))
        start_response(STATUS[response.status], headers)
        return [] if method == "HEAD" or response.status == 204 else [response.body]
    start_response(STATUS[response.status], headers)
    return response.body
