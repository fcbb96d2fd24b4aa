"""From a request to a door and back; every refusal is a problem document that says what to mend."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import orjson
import pytest
from marshmallow import fields, validate
from sqlalchemy.exc import OperationalError

from services.gateway.service import GatewayService
from shared.config import Rate, Settings
from shared.contracts.fields import Input
from shared.errors import (
    BY_NAME,
    AnswerlineError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)
from shared.http import documents
from shared.http.address import Proxies
from shared.http.endpoint import Principal, Response, Router, Signature, endpoint, endpoints_of
from shared.http.rate import Limits
from shared.http.wsgi import Application, Claim, Request, problem
from tests.unit.conftest import SetClock


class Thing(Input):
    name = fields.String(required=True, validate=validate.Length(min=1, max=20))
    size = fields.Integer(load_default=1)


class Look(Input):
    wait = fields.Float(load_default=0.0)
    since = fields.String(data_key="from")


class Annex:
    """Part of a service that others are made of."""

    @endpoint("GET", "/v1/annex")
    def get_annex(self, _request: Request) -> Any:
        """What the annex has."""
        return {"from": "the annex"}

    @endpoint("GET", "/v1/things/{id}")
    def get_thing(self, _request: Request) -> Any:
        """What the house has better."""
        raise AssertionError


class House(Annex):
    def __init__(self) -> None:
        self.does: Callable[[Request], Any] = lambda request: {"name": request.parameters.get("id"), **request.query, **request.body}

    @endpoint("GET", "/v1/things/{id}", query=Look, roles=("agent", "supervisor"))
    def get_thing(self, request: Request) -> Any:
        """A thing. With its name."""
        return self.does(request)

    @endpoint("PUT", "/v1/things/{id}", body=Thing, status=201)
    def put_thing(self, request: Request) -> Any:
        """Make a thing."""
        return self.does(request)

    @endpoint("POST", "/v1/raw", limit=10, takes=("text/plain", "application/json"))
    def post_raw(self, request: Request) -> Any:
        """Anything."""
        return {"got": request.raw.decode("latin-1"), "as": request.content_type}

    @endpoint("POST", "/v1/things/{id}/rest", takes=())
    def post_rest(self, _request: Request) -> Any:
        """Nothing to say."""
        return {}

    @endpoint("POST", "/v1/things", status=201)
    def post_thing(self, request: Request) -> Any:
        """Make another thing."""
        return self.does(request)

    @endpoint("POST", "/v1/tell", tag="telephony")
    def post_tell(self, _request: Request) -> Any:
        """What a telephony system tells."""
        return {}

    @endpoint("POST", "/v1/question", once=False)
    def post_question(self, _request: Request) -> Any:
        """Ask something."""
        return {}

    @endpoint("POST", "/v1/sign-in", public=True)
    def post_sign_in(self, request: Request) -> Any:
        """Say who you are."""
        if request.raw != b"right":
            raise Unauthenticated("the password is wrong")
        return {}

    @endpoint("GET", "/livez", public=True)
    def get_livez(self, request: Request) -> Any:
        """Whether it lives."""
        return {"who": request.principal.name}

    @endpoint("OPTIONS", "/v1/things/{id}", status=204, public=True)
    def options_thing(self, _request: Request) -> Any:
        """What may be done with it."""
        return Response(status=204, headers=[("Allow", "GET, PUT")])

    @endpoint(
        "POST", "/v1/signed", roles=("agent",), limit=10, takes=("text/plain", "application/json", "application/x-www-form-urlencoded"),
        signature=Signature("X-Sign", "check_sign"), shapes={"application/json": {"type": "array", "items": Thing}, "application/x-www-form-urlencoded": Thing},
    )  # fmt: skip
    def post_signed(self, request: Request) -> Any:
        """Whatever somebody signed."""
        return {"who": request.principal.name, "got": request.raw.decode()}

    def check_sign(self, request: Request) -> Principal | None:
        return {"ann": KEYS["agent"], "eve": KEYS["expert"]}.get(request.header("X-Sign").removesuffix(request.raw.decode()))

    @endpoint("DELETE", "/v1/things/{id}", status=204)
    def delete_thing(self, _request: Request) -> None:
        """Gone."""


class Answer:
    def __init__(self, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status, self.headers, self.body = int(status.split()[0]), dict(headers), body

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


KEYS = {
    "agent": Principal("ann", frozenset(["agent"])),
    "admin": Principal("root", frozenset(["admin"])),
    "expert": Principal("eve", frozenset(["expert"])),
}


class Client:
    def __init__(self, limits: Limits | None = None, memory: Any = None) -> None:
        self.house = House()
        self.observed: list[tuple[str, str, int]] = []
        self.application = Application(
            Router(self.house),
            lambda environ: KEYS.get(environ.get("key", "")),
            lambda route, method, status, _: self.observed.append((route, method, status)),
            limits=limits,
            memory=memory,
        )

    def __call__(self, method: str, path: str, body: bytes | None = None, key: str = "admin", **environ: str) -> Answer:
        path, _, query = path.partition("?")
        raw = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "RAW_PATH_INFO": path,
            "QUERY_STRING": query,
            "wsgi.input": BytesIO(body or b""),
            "key": key,
        }
        if body is not None:
            raw["CONTENT_LENGTH"] = str(len(body))
        started: list[Any] = []
        content = b"".join(self.application({**raw, **environ}, lambda *told: started.extend(told)))
        return Answer(*started, content)


@pytest.fixture
def ask() -> Client:
    return Client()


def test_a_door_gets_what_its_schemas_made_of_the_request(ask: Client) -> None:
    assert ask("GET", "/v1/things/a%20b?wait=1.5&from=now").json == {"name": "a b", "wait": 1.5, "since": "now"}
    assert ask("GET", "/v1/things/x").json == {"name": "x", "wait": 0.0}
    made = ask("PUT", "/v1/things/x", b'{"name": "y"}', CONTENT_TYPE="application/json; charset=utf-8")
    assert (made.status, made.json) == (201, {"name": "y", "size": 1})


def test_an_answer_says_what_it_is_and_is_not_kept_or_guessed_at(ask: Client) -> None:
    headers = ask("GET", "/livez").headers
    assert headers == {
        "Content-Type": "application/json",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "Content-Length": "16",
    }
    gone = ask("DELETE", "/v1/things/x")
    assert (gone.status, gone.body, "Content-Type" in gone.headers) == (204, b"", False)
    head = ask("HEAD", "/livez")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", "16")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("GET", "/nowhere", None, 404, "nothing is at /nowhere; /openapi.json lists"),
        ("GET", "/v1/things/", None, 404, "nothing is at"),
        ("GET", "/v1/things/a/b", None, 404, "nothing is at"),
        ("PATCH", "/v1/things/x", None, 405, "takes DELETE, GET, OPTIONS, PUT"),
        ("GET", "/v1/things/%ff", None, 400, "path is not valid UTF-8"),
        ("GET", "/v1/things/%00", None, 400, "U+0000"),
        ("GET", "/v1/things/x?from=%00", None, 422, "U+0000"),
        ("GET", "/v1/things/x?from=%ff", None, 400, "query string cannot be read"),
        ("GET", "/v1/things/x?wait=1&wait=2", None, 422, "given twice"),
        ("GET", "/v1/things/x?what=1", None, 422, "unknown query parameter: what; known: from, wait"),
        ("GET", "/v1/things/x?wait=long", None, 422, "the query is not as it must be"),
        ("GET", "/v1/things/x?wait=nan", None, 422, "the query is not as it must be"),
        ("PUT", "/v1/things/x", b"{", 400, "not JSON"),
        ("PUT", "/v1/things/x", b"\xff", 400, "not JSON"),
        ("PUT", "/v1/things/x", b"", 400, "not JSON"),
        ("PUT", "/v1/things/x", b"[]", 422, "must be a JSON object"),
        ("PUT", "/v1/things/x", b'{"name": "a\\u0000b"}', 422, "U+0000"),
        ("PUT", "/v1/things/x", b'{"name": "\\ud800"}', 400, "not JSON"),
        ("PUT", "/v1/things/x", b"[" * 100_000, 400, "not JSON"),
        ("PUT", "/v1/things/x", b'{"name": ' + b"[" * 64 + b"]" * 64 + b"}", 422, "nested too deeply: at most 64 levels"),
        ("PUT", "/v1/things/x", b'{"name": ' + b"[" * 1000 + b'"\\u0000"' + b"]" * 1000 + b"}", 422, "nested too deeply"),
        ("PUT", "/v1/things/x", b'{"name": ' + b"[" * 63 + b"]" * 63 + b"}", 422, "the body is not as it must be"),
        ("PUT", "/v1/things/x", b'{"name": "y", "colour": "red"}', 422, "the body is not as it must be"),
        ("PUT", "/v1/things/x", b'{"name": 5}', 422, "the body is not as it must be"),
        ("PUT", "/v1/things/x", b"{}", 422, "the body is not as it must be"),
        ("PUT", "/v1/things/x", b" " * 300_000, 413, "at most 262144"),
        ("POST", "/v1/raw", b"12345678901", 413, "the body has 11 bytes; at most 10"),
    ],
)
def test_bad_input_is_a_problem_that_says_what_to_mend(
    ask: Client, method: str, path: str, body: bytes | None, status: int, said: str
) -> None:
    answer = ask(method, path, body)
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/problem+json")
    assert said in answer.json["detail"]
    assert answer.json["status"] == status and answer.json["title"] and answer.json["type"].startswith("urn:answerline:problem:")
    assert ask.observed[-1][2] == status


def test_faults_are_told_by_field(ask: Client) -> None:
    answer = ask("PUT", "/v1/things/x", b'{"name": "", "size": "big", "colour": 1}')
    assert set(answer.json["errors"]) == {"name", "size", "colour"}
    assert set(ask("GET", "/v1/things/x?wait=x").json["errors"]) == {"wait"}


def test_an_escaped_backslash_is_no_nul(ask: Client) -> None:
    assert ask("PUT", "/v1/things/x", rb'{"name": "a\\u0000b"}').json["name"] == r"a\u0000b"


@pytest.mark.parametrize("text", ["-1", "1.5", "²", "1e3"])
def test_a_length_is_a_whole_number(ask: Client, text: str) -> None:
    answer = ask("POST", "/v1/raw", b"", CONTENT_LENGTH=text)
    assert (answer.status, answer.json["detail"]) == (400, "Content-Length must be a whole number")


def test_a_body_cut_short_is_not_taken_for_whole(ask: Client) -> None:
    assert ask("POST", "/v1/raw", b"1234", CONTENT_LENGTH="6").status == 400


def test_a_chunked_body_has_its_limit_too(ask: Client) -> None:
    chunked = {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked"}
    assert ask("POST", "/v1/raw", b"1234567890", **chunked).json["got"] == "1234567890"
    assert ask("POST", "/v1/raw", b"12345678901", **chunked).status == 413
    assert ask("POST", "/v1/raw", b"ignored", CONTENT_LENGTH="").json["got"] == ""


def test_a_wrong_media_type_is_refused_and_a_missing_one_is_not(ask: Client) -> None:
    assert ask("PUT", "/v1/things/x", b'{"name": "y"}', CONTENT_TYPE="text/xml").status == 415
    assert ask("PUT", "/v1/things/x", b'{"name": "y"}').status == 201


@pytest.mark.parametrize("sent", ["text/plain", "Text/Plain; charset=utf-8", "text/plain, text/plain", "text/plain;a=b, application/json"])
def test_asterisk_sends_the_header_twice(ask: Client, sent: str) -> None:
    assert ask("POST", "/v1/raw", b"x", CONTENT_TYPE=sent).json == {"got": "x", "as": "text/plain"}


def test_who_may_come_in(ask: Client) -> None:
    assert [ask("GET", "/v1/things/x", key=key).status for key in ("", "expert", "agent", "admin")] == [401, 403, 200, 200]
    assert [ask("DELETE", "/v1/things/x", key=key).status for key in ("", "expert")] == [401, 204]
    assert ask("GET", "/livez", key="").json == {"who": "anyone"}
    assert ask("GET", "/v1/things/x", key="").headers["WWW-Authenticate"] == "Bearer"
    assert "agent or supervisor" in ask("GET", "/v1/things/x", key="expert").json["detail"]


def test_a_signature_over_the_body_stands_for_a_key_at_a_door_that_says_so(ask: Client) -> None:
    assert ask("POST", "/v1/signed", b"x", key="", HTTP_X_SIGN="annx").json == {"who": "ann", "got": "x"}
    assert ask("POST", "/v1/signed", b"x", key="agent", HTTP_X_SIGN="wrong").json == {"who": "ann", "got": "x"}, "a key is enough"
    statuses = [ask("POST", "/v1/signed", b"x", key="", **sign).status for sign in ({}, {"HTTP_X_SIGN": "anny"}, {"HTTP_X_SIGN": "evex"})]
    assert statuses == [401, 401, 403]
    assert ask("POST", "/v1/signed", b"x" * 11, key="", HTTP_X_SIGN="ann").status == 413
    assert ask("POST", "/v1/raw", b"x", key="", HTTP_X_SIGN="annx").status == 401
    assert ask("OPTIONS", "/v1/things/x", key="").headers["Allow"] == "GET, PUT"


def test_a_problem_carries_what_helps() -> None:
    def headers(error: AnswerlineError) -> dict[str, str]:
        return dict(problem(error).headers)

    assert headers(Unavailable("later"))["Retry-After"] == "2"
    assert headers(TooManyRequests("slower", retry_after=9))["Retry-After"] == "9"
    assert Client()("PATCH", "/livez").headers["Allow"] == "GET"
    assert orjson.loads(problem(Conflict("no", offer="o1")).body) == {
        "type": "urn:answerline:problem:conflict", "title": "Conflict", "status": 409, "detail": "no", "offer": "o1",
    }  # fmt: skip
    assert len({error.status for error in BY_NAME.values()}) == len(BY_NAME)


@pytest.mark.parametrize(
    ("fault", "status"), [(Conflict("taken"), 409), (OperationalError("x", None, Exception()), 503), (KeyError("+49 30 1234567"), 503)]
)
def test_a_door_that_fails_answers_without_telling_secrets(ask: Client, fault: Exception, status: int) -> None:
    def fail(_request: Request) -> None:
        raise fault

    ask.house.does = fail
    answer = ask("GET", "/v1/things/x")
    assert (answer.status, b"1234567" in answer.body) == (status, False)
    assert ask.observed[-1] == ("/v1/things/{id}", "GET", status)


def test_our_own_trouble_says_when_to_come_back(ask: Client) -> None:
    ask.house.does = lambda _request: 1 / 0
    answer = ask("GET", "/v1/things/x")
    assert (answer.status, answer.headers["Retry-After"], "ZeroDivision" in answer.body.decode()) == (503, "2", False)


def test_a_stream_that_fails_before_its_first_part_is_no_success(ask: Client) -> None:
    def parts() -> Iterator[bytes]:
        raise Unavailable("nothing to tell yet")
        yield b""

    ask.house.does = lambda _request: Response(parts(), content_type="text/event-stream")
    assert ask("GET", "/v1/things/x").json["detail"] == "nothing to tell yet"


def test_a_stream_is_closed_with_its_request(ask: Client) -> None:
    ended: list[str] = []

    def parts() -> Iterator[bytes]:
        try:
            yield b"a"
            yield b"b"
        finally:
            ended.append("closed")

    ask.house.does = lambda _request: Response(parts(), content_type="text/event-stream")
    assert ask("HEAD", "/v1/things/x").body == b""
    assert ended == ["closed"]


def test_what_no_header_can_hold_is_encoded(ask: Client) -> None:
    named = [("Content-Disposition", 'attachment; filename="Grüße\r\nX-Other: 1.csv"')]
    ask.house.does = lambda _request: Response(b"", headers=named)
    assert ask("GET", "/v1/things/x").headers["Content-Disposition"] == 'attachment; filename="Gr%C3%BC%C3%9Fe%0D%0AX-Other: 1.csv"'


@pytest.mark.parametrize(
    ("trusted", "environ", "secure"),
    [
        ("", {"wsgi.url_scheme": "https"}, True),
        ("", {"wsgi.url_scheme": "http"}, False),
        ("", {"HTTP_X_FORWARDED_PROTO": "https", "REMOTE_ADDR": "10.0.0.5"}, False),
        ("10.0.0.0/8", {"HTTP_X_FORWARDED_PROTO": "https", "REMOTE_ADDR": "10.0.0.5"}, True),
        ("10.0.0.0/8", {"HTTP_X_FORWARDED_PROTO": "https", "REMOTE_ADDR": "192.0.2.1"}, False),
        ("10.0.0.0/8", {"HTTP_X_FORWARDED_PROTO": "http", "REMOTE_ADDR": "10.0.0.5"}, False),
    ],
)
def test_who_came_by_tls_is_told_to_come_no_other_way(trusted: str, environ: dict[str, str], secure: bool) -> None:
    ask = Client(Limits({}, Proxies(Settings(trusted_proxies=trusted).proxies)))
    assert ("Strict-Transport-Security" in ask("GET", "/livez", **environ).headers) is secure


def test_a_body_that_comes_too_slowly_is_told_so(ask: Client) -> None:
    class Slow:
        def read(self, length: int) -> bytes:
            raise TimeoutError

    assert ask("POST", "/v1/raw", b"x", **{"wsgi.input": Slow()}).status == 408  # type: ignore[arg-type]


@pytest.mark.parametrize("digits", ["9" * 16, "9" * 5000])
def test_no_length_is_too_long_to_be_read(ask: Client, digits: str) -> None:
    assert ask("POST", "/v1/raw", b"x", CONTENT_LENGTH=digits).status == 413


# ---- how often


def limited(**rates: Rate) -> Client:
    return Client(Limits(rates, Proxies()))


def test_whoever_asks_too_often_is_told_when_to_ask_again(at: SetClock) -> None:
    ask = limited(key=Rate(0.5, 2))
    assert [ask("GET", "/v1/things/x", key="agent").status for _ in range(3)] == [200, 200, 429]
    answer = ask("GET", "/v1/things/x", key="agent")
    assert (answer.headers["Retry-After"], answer.headers["Content-Type"]) == ("2", "application/problem+json")
    assert (answer.headers["RateLimit"], answer.headers["RateLimit-Policy"]) == ('"key";r=0;t=2', '"key";q=2;w=4')
    assert ask("GET", "/v1/things/x", key="admin").status == 200, "somebody else is somebody else"
    at.forward(2)
    assert ask("GET", "/v1/things/x", key="agent").status == 200


def test_wrong_keys_are_slowed_down_and_the_right_one_behind_the_same_address_is_not(at: SetClock) -> None:
    ask = limited(wrong_key=Rate(0.1, 3), address=Rate(1000, 1000))
    guess = {"HTTP_AUTHORIZATION": "Bearer guess", "REMOTE_ADDR": "192.0.2.1"}
    assert [ask("GET", "/v1/things/x", key="", **guess).status for _ in range(5)] == [401, 401, 401, 429, 429]
    assert ask("GET", "/v1/things/x", key="agent", REMOTE_ADDR="192.0.2.1").status == 200
    assert ask("GET", "/v1/things/x", key="", **{**guess, "REMOTE_ADDR": "192.0.2.2"}).status == 401
    assert ask("GET", "/v1/things/x", key="", REMOTE_ADDR="192.0.2.1").status == 401, "who brings nothing guesses nothing"
    assert ask("POST", "/v1/signed", b"x", key="", HTTP_X_SIGN="wrong", REMOTE_ADDR="192.0.2.1").status == 429
    at.forward(10)
    assert ask("GET", "/v1/things/x", key="", **guess).status == 401


def test_after_too_many_wrong_passwords_none_is_looked_at_for_a_while(at: SetClock) -> None:
    ask = limited(password=Rate(0.1, 2))
    there = {"REMOTE_ADDR": "192.0.2.1"}
    assert [ask("POST", "/v1/sign-in", b"wrong", key="", **there).status for _ in range(3)] == [401, 401, 429]
    assert ask("POST", "/v1/sign-in", b"right", key="", **there).status == 429
    assert ask("POST", "/v1/sign-in", b"right", key="", REMOTE_ADDR="192.0.2.2").status == 200
    assert ask("GET", "/v1/things/x", key="agent", **there).status == 200
    at.forward(10)
    assert ask("POST", "/v1/sign-in", b"right", key="", **there).status == 200


# ---- Idempotency-Key


class Book:
    """A memory that keeps everything."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str, str], Any] = {}
        self.released: list[bool] = []

    def claim(self, whose: str, route: str, key: str, fingerprint: str) -> Claim | Response:
        first, answer = self.known.setdefault((whose, route, key), (fingerprint, None))
        if first != fingerprint:
            raise Invalid("another request")
        self.claimed = whose, route, key
        return answer or Claim(key, 1, "the-id")

    def keep(self, claim: Claim, response: Response) -> None:
        first, _ = self.known[self.claimed]
        self.known[self.claimed] = first, response

    def release(self, claim: Claim, unsure: bool = False) -> None:
        self.released.append(unsure)
        del self.known[self.claimed]


def test_a_request_that_comes_again_with_its_key_is_answered_again_and_not_done_again() -> None:
    ask, made = Client(memory=Book()), []
    ask.house.does = lambda request: made.append(request.raw) or {"made": len(made), "id": request.new_id()}
    answers = [ask("POST", "/v1/things", b"{}", HTTP_IDEMPOTENCY_KEY="k1") for _ in range(3)]
    assert {answer.body for answer in answers} == {b'{"made":1,"id":"the-id"}'}
    assert {answer.status for answer in answers} == {201}
    assert ask("POST", "/v1/things", b"{}", HTTP_IDEMPOTENCY_KEY="k2").json["made"] == 2
    assert ask("POST", "/v1/things", b"{}", key="agent", HTTP_IDEMPOTENCY_KEY="k1").json["made"] == 3, "another's key is another key"
    assert ask("POST", "/v1/things", b"{}").json["id"] != "the-id"
    assert ask("POST", "/v1/things", b"[]", HTTP_IDEMPOTENCY_KEY="k1").status == 422
    assert ask("POST", "/v1/things?a=1", b"{}", HTTP_IDEMPOTENCY_KEY="k1").status == 422
    assert len(made) == 4


@pytest.mark.parametrize(
    ("fault", "status", "kept"),
    [(NotFound("no"), 404, True), (Conflict("no"), 409, True), (Unavailable("no"), 503, False), (TooManyRequests("no"), 429, False),
     (Forbidden("no"), 403, False), (KeyError("no"), 503, False)],
)  # fmt: skip
def test_only_final_answers_are_kept(fault: Exception, status: int, kept: bool) -> None:
    book = Book()
    ask = Client(memory=book)

    def fail(_request: Request) -> None:
        raise fault

    ask.house.does = fail
    assert ask("POST", "/v1/things", b"{}", HTTP_IDEMPOTENCY_KEY="k1").status == status
    ask.house.does = lambda _request: {"done": True}
    assert ask("POST", "/v1/things", b"{}", HTTP_IDEMPOTENCY_KEY="k1").status == (status if kept else 201)
    assert book.released == ([] if kept else [status >= 500]), "after our own trouble nobody knows whether something was done"


@pytest.mark.parametrize("key", ["", " ", "a b", "ä", "x" * 256, "a\tb", "\x7f"])
def test_a_key_is_visible_ascii(key: str) -> None:
    answer = Client(memory=Book())("POST", "/v1/things", b"{}", HTTP_IDEMPOTENCY_KEY=key)
    assert (answer.status, "1 to 255 visible ASCII" in answer.json["detail"]) == (400, True)


def test_doors_that_change_nothing_twice_or_know_nobody_do_not_heed_the_key() -> None:
    book = Book()
    ask = Client(memory=book)
    for path, key in (("/v1/tell", "admin"), ("/v1/question", "admin"), ("/v1/sign-in", "")):
        assert ask("POST", path, b"right", key=key, HTTP_IDEMPOTENCY_KEY="a b").status == 200, path
    assert ask("PUT", "/v1/things/x", b'{"name": "y"}', HTTP_IDEMPOTENCY_KEY="a b").status == 201
    assert not book.known


def test_no_path_becomes_a_label(ask: Client) -> None:
    ask("GET", "/secret/4711")
    assert ask.observed == [("none", "GET", 404)]


def test_a_door_may_answer_with_more_than_json(ask: Client) -> None:
    ask.house.does = lambda _request: Response(iter([b"a", b"b"]), 202, "text/event-stream", [("X-More", "1")])
    answer = ask("GET", "/v1/things/x")
    assert (answer.status, answer.body, answer.headers["X-More"], "Content-Length" in answer.headers) == (202, b"ab", "1", False)


def test_doors_of_the_classes_that_a_service_is_made_of_are_its_own(ask: Client) -> None:
    assert ask("GET", "/v1/annex").json == {"from": "the annex"}
    assert ask("GET", "/v1/things/x").json == {"name": "x", "wait": 0.0}


# ---- the description


@pytest.mark.parametrize("service", [House, GatewayService])
def test_openapi_has_every_door(service: type[Any]) -> None:
    document = documents.openapi(service)
    described = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    assert described == {(spec.method, spec.path) for spec, _ in endpoints_of(service)}
    operations = [operation for operations in document["paths"].values() for operation in operations.values()]
    assert all(operation["summary"] and operation["responses"] for operation in operations)
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert document["openapi"].startswith("3.1")
    orjson.dumps(document)


def test_openapi_tells_parameters_bodies_roles_and_problems() -> None:
    paths = documents.openapi(House)["paths"]
    look, make = paths["/v1/things/{id}"]["get"], paths["/v1/things/{id}"]["put"]
    assert [(one["name"], one["in"], one["required"]) for one in look["parameters"]] == [
        ("id", "path", True),
        ("wait", "query", False),
        ("from", "query", False),
    ]
    assert (look["x-roles"], look["security"], paths["/livez"]["get"]["security"]) == (["agent", "supervisor"], [{"key": []}], [])
    body = make["requestBody"]["content"]["application/json"]["schema"]
    assert (body["required"], body["additionalProperties"], set(body["properties"])) == (["name"], False, {"name", "size"})
    assert {"201", "400", "401", "403", "404", "405", "408", "409", "413", "414", "415", "422", "429", "431", "503"} == set(
        make["responses"]
    )
    assert set(paths["/v1/raw"]["post"]["requestBody"]["content"]) == {"text/plain", "application/json"}
    assert "requestBody" not in paths["/v1/things/{id}/rest"]["post"]


def test_openapi_tells_what_a_door_reads_itself_and_that_a_signature_will_do() -> None:
    document = documents.openapi(House)
    signed = document["paths"]["/v1/signed"]["post"]
    content = signed["requestBody"]["content"]
    assert content["text/plain"]["schema"] == {"type": "string"}
    assert set(content["application/json"]["schema"]["items"]["properties"]) == {"name", "size"}
    assert content["application/x-www-form-urlencoded"]["schema"]["required"] == ["name"]
    assert signed["security"] == [{"key": []}, {"X-Sign": []}]
    scheme = document["components"]["securitySchemes"]["X-Sign"]
    assert scheme.items() >= {"type": "apiKey", "in": "header", "name": "X-Sign"}.items()


def test_every_door_of_the_gateway_needs_a_key_unless_it_says_so() -> None:
    public = {spec.path for spec, _ in endpoints_of(GatewayService) if spec.public and spec.method != "OPTIONS"}
    assert not any(re.match(r"/v1/(?!stream|sign-in|chats/{name}/reply)", path) for path in public)
