"""Requests that survive a broken connection, a restart and a rate limit without doing anything twice."""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from answerline.problems import Problem, problem_of

PASSING = frozenset({429, 502, 503, 504})
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 20.0
LONGEST_POLL = 20.0
HEARTBEATS_MISSED = 45.0
"""The stream sends something every 15 s: after so long without a byte it is dead."""
THERE = frozenset({"assigned", "pending", "callback", "closed", "ended", "abandoned", "released", "observed"})


class Unreachable(Exception):
    """No answer came, and all tries are used up."""


@dataclass(frozen=True)
class Event:
    """One event of the stream. `id` is where to go on after it; `data` is what was told, read from JSON."""

    id: str
    type: str
    data: Any


class Client:
    """`Client("https://calls.example.com", key)`. Several threads may share one; each keeps a connection open.

    `timeout` (seconds) holds for connecting and for each wait for bytes; a long poll has its own wait on top. What failed in passing
    (no connection, 429, 502, 503, 504) is tried `tries` times, pausing as long as Retry-After says, else longer each time, by chance
    between nothing and that. A POST carries an Idempotency-Key, the same for each try, so that nothing happens twice."""

    def __init__(
        self, address: str, key: str = "", *, timeout: float = 10.0, tries: int = 5, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{address!r} is no address such as https://calls.example.com")
        self.address, self.timeout, self.tries = address.rstrip("/"), timeout, max(tries, 1)
        self._key, self._sleep = key, sleep
        self._base = parts.path.rstrip("/")
        self._connect = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._host, self._port = parts.hostname, parts.port
        self._kept = threading.local()

    def __repr__(self) -> str:
        return f"Client({self.address!r})"

    # Requests

    def get(self, path: str, **query: Any) -> Any:
        return self.request("GET", path, query=query)

    def post(self, path: str, body: Any = None, **query: Any) -> Any:
        return self.request("POST", path, body, query=query)

    def put(self, path: str, body: Any = None, **query: Any) -> Any:
        return self.request("PUT", path, body, query=query)

    def delete(self, path: str, **query: Any) -> Any:
        return self.request("DELETE", path, query=query)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        idempotency_key: str | None = None,
        wait: float = 0.0,
    ) -> Any:
        """The answer: JSON read, anything else as bytes, None where there is none.

        A body that is bytes or text goes as it is, under `content_type`; anything else as JSON. A `query` value that is None is left out.
        `idempotency_key`: your own, where the request must not happen twice even if this program is started anew; "" sends none. `wait`:
        seconds that the answer may take beyond the usual. Raises Problem or Unreachable."""
        raw = body if body is None or isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        headers = self._headers()
        if raw is not None:
            headers["Content-Type"] = content_type
        if method == "POST" and idempotency_key != "":
            headers["Idempotency-Key"] = idempotency_key or uuid.uuid4().hex
        target = self._target(path, query)
        for number in range(1, self.tries + 1):
            try:
                response = self._send(method, target, raw, headers, self.timeout + wait)
                answer = response.read()
            except (OSError, HTTPException) as fault:
                self._drop()
                if number == self.tries:
                    raise Unreachable(f"{method} {path}: {type(fault).__name__} after {number} tries") from fault
                self._pause(number, None)
                continue
            if response.status < 400:
                return self._read(response, answer)
            problem = problem_of(response.status, response.headers, answer)  # type: ignore[arg-type]
            if response.status == 404 and method == "DELETE" and number > 1:
                return None  # an earlier try was heard, only its answer was lost
            in_hand = response.status == 409 and problem.retry_after is not None  # an earlier try of this request is still at work
            if not (response.status in PASSING or in_hand) or number == self.tries:
                raise problem
            self._pause(number, problem.retry_after)
        raise AssertionError("unreachable")

    def items(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """All items of a list, fetched page by page as they are needed."""
        cursor: str | None = None
        while True:
            page = self.get(path, **{**query, **({} if cursor is None else {"cursor": cursor})})
            yield from page["items"]
            cursor = page["next"]
            if not cursor:
                return

    # What takes a while

    def assignment(self, contact: str, within: float = 60.0) -> dict[str, Any]:
        """Whom to dial for a contact: waits up to `within` seconds until an agent has it, or nobody will. The answer's `state` says which."""
        path, deadline = f"/v1/contacts/{quote(contact, safe=':')}/assignment", time.monotonic() + within
        while True:
            wait = round(min(max(deadline - time.monotonic(), 0.0), LONGEST_POLL), 3)
            found: dict[str, Any] = self.request("POST", path, query={"wait": wait}, idempotency_key="", wait=wait)
            if found["state"] in THERE or time.monotonic() >= deadline:
                return found

    def offers(self, agent: str, within: float = 60.0, session: str | None = None) -> list[dict[str, Any]]:
        """What an agent is asked to take: waits up to `within` seconds for it; empty: nothing came."""
        path, deadline = f"/v1/agents/{quote(agent, safe='')}/offers", time.monotonic() + within
        while True:
            wait = round(min(max(deadline - time.monotonic(), 0.0), LONGEST_POLL), 3)
            offers: list[dict[str, Any]] = self.request("GET", path, query={"wait": wait, "session": session}, wait=wait)["offers"]
            if offers or time.monotonic() >= deadline:
                return offers

    def stream(self, *topics: str, after: str | None = None) -> Iterator[Event]:
        """Events of these topics as they happen, for ever: a connection that breaks is made anew and goes on after the last event received,
        or after `after`. An event of type `gap` says that what followed is not kept any more. Raises Problem where it is refused for good."""
        failed, target = 0, self._target("/v1/stream", {"topics": ",".join(topics)})
        while True:
            response, connection = None, self._connect(self._host, self._port, timeout=max(self.timeout, HEARTBEATS_MISSED))
            try:
                headers = {**self._headers(), "Accept": "text/event-stream"} | ({"Last-Event-ID": after} if after else {})
                connection.request("GET", target, headers=headers)
                response = connection.getresponse()
                if response.status >= 400:
                    problem = problem_of(response.status, response.headers, response.read())  # type: ignore[arg-type]
                    if response.status not in PASSING:
                        raise problem
                    failed += 1
                    self._pause(failed, problem.retry_after)
                    continue
                for event in _events(response):
                    failed, after = 0, event.id or after
                    yield event
            except (OSError, HTTPException):
                pass
            finally:
                connection.close()
            failed += 1
            self._pause(failed, None)

    # Below

    def _headers(self) -> dict[str, str]:
        return {"Accept": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})

    def _target(self, path: str, query: Mapping[str, Any] | None) -> str:
        given = {name: _word(value) for name, value in (query or {}).items() if value is not None}
        return self._base + path + (f"?{urlencode(given)}" if given else "")

    def _send(self, method: str, target: str, body: bytes | None, headers: Mapping[str, str], timeout: float) -> HTTPResponse:
        connection: HTTPConnection | None = getattr(self._kept, "connection", None)
        if connection is None:
            connection = self._kept.connection = self._connect(self._host, self._port, timeout=timeout)
        connection.timeout = timeout
        if connection.sock:
            connection.sock.settimeout(timeout)
        connection.request(method, target, body, dict(headers))
        return connection.getresponse()

    def _drop(self) -> None:
        connection: HTTPConnection | None = getattr(self._kept, "connection", None)
        if connection:
            connection.close()

    def _read(self, response: HTTPResponse, answer: bytes) -> Any:
        if not answer:
            return None
        return json.loads(answer) if "json" in response.headers.get("Content-Type", "") else answer

    def _pause(self, number: int, retry_after: float | None) -> None:
        longest = min(FIRST_PAUSE * 2 ** (number - 1), LONGEST_PAUSE)
        by_chance = random.uniform(0.0, longest)  # noqa: S311 - so that not all come back at one moment
        self._sleep(by_chance if retry_after is None else min(retry_after, LONGEST_PAUSE) + by_chance)


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _events(response: HTTPResponse) -> Iterator[Event]:
    """Server-sent events: fields line by line, an empty line ends one. What breaks off in the middle is none."""
    id, type, lines = "", "message", list[str]()
    while line := response.readline():
        name, _, value = line.decode("utf-8").rstrip("\r\n").partition(":")
        value = value.removeprefix(" ")
        if line.strip(b"\r\n") == b"":
            if lines:
                yield Event(id, type, _data("\n".join(lines)))
            type, lines = "message", []
        elif name == "data":
            lines.append(value)
        elif name == "event":
            type = value
        elif name == "id":
            id = value


def _data(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


__all__ = ["Client", "Event", "Problem", "Unreachable"]
