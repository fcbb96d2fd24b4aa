"""Commands and questions from one service to another: answered within a deadline or refused as unavailable.

nameko's own RPC ends its container when the broker goes away in the middle of an answer, and leaves old requests in a durable queue
for a callee that returns; here every request expires with its deadline, and a queue soon after its last consumer has gone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import eventlet
import orjson
import structlog
from eventlet import Timeout
from eventlet.event import Event
from eventlet.semaphore import Semaphore
from kombu import Connection, Queue
from nameko.extensions import DependencyProvider, Entrypoint, ProviderCollector, SharedExtension

from shared import clock
from shared.bus import broker as brokers
from shared.contracts import topology
from shared.db.engine import is_outage, why_out
from shared.errors import BY_NAME, AnswerlineError, Elsewhere, Unavailable
from shared.ids import new_id
from shared.observability import metrics, trace
from shared.runtime import bootstrap
from shared.runtime.context import NEWS
from shared.runtime.loops import Loop

log = structlog.get_logger()

DEADLINE_SECONDS = 2.0
FAREWELL_SECONDS = 0.1
UNUSED_SECONDS = 60.0
"""A queue without a consumer is kept for so long: while a shard goes from one process to another, requests wait for it there."""
MOST_MOVES = 3
"""Of a request from shard to shard: what it is about may move meanwhile."""


class _Link(SharedExtension, Loop):
    """One connection to read from and one to write to; writers take turns."""

    must_be_linked = True

    def setup(self) -> None:
        if not hasattr(self, "running"):
            Loop.setup(self)
            self.turn = Semaphore(1)
            self.writing: Connection | None = None

    def start(self) -> None:
        if not self.running:
            Loop.start(self)

    def run(self) -> None:
        try:
            self.with_connection(self._read)
        finally:
            self._hang_up()

    def _read(self, connection: Connection) -> None:
        with (
            connection.channel() as channel,
            connection.Consumer(
                [queue(channel) for queue in self.queues()], channel=channel, on_message=self._take, no_ack=True, accept=["json"]
            ),
        ):
            with self.turn:
                self._open_writing()
            self.drain(connection, self._keep_writing)

    def _take(self, message: Any) -> None:
        try:
            self.receive(message)
        except (KeyError, TypeError, ValueError) as fault:
            log.warning("malformed message passed over", link=type(self).__name__, error=type(fault).__name__)

    def _keep_writing(self) -> None:
        """Nothing comes in on the writing connection but the broker's heartbeats, which must be read all the same."""
        if bootstrap.of(self.container).broker.in_memory:
            return
        with self.turn:
            if self.writing is not None:
                try:
                    with suppress(TimeoutError):
                        self.writing.drain_events(timeout=0.001)
                    brokers.keep_alive(self.writing)
                except brokers.errors(self.writing):
                    self._hang_up()

    def send(self, body: dict[str, Any], routing_key: str, **properties: Any) -> None:
        """Publish to a queue. Raises Unavailable when the broker is out of reach."""
        message = orjson.dumps(body, default=str, option=orjson.OPT_NON_STR_KEYS)
        with self.turn:
            try:
                self._open_writing()
                prepared = self.channel.prepare_message(
                    message, content_type="application/json", content_encoding="utf-8", properties=properties
                )
                self.channel.basic_publish(prepared, exchange="", routing_key=routing_key)
            except Exception as error:
                self._hang_up()
                raise Unavailable("the message broker is out of reach") from error
            except BaseException:  # out of time in the middle of a frame: this connection cannot be used any more
                self._hang_up()
                raise

    def _open_writing(self) -> None:
        if self.writing is None:
            self.writing = bootstrap.of(self.container).broker.connect()
            self.channel = self.writing.channel()

    def _hang_up(self) -> None:
        connection, self.writing = self.writing, None
        if connection is not None:
            connection.collect(FAREWELL_SECONDS)

    def queues(self) -> list[Queue]:
        raise NotImplementedError

    def receive(self, message: Any) -> None:
        raise NotImplementedError


class CommandServer(_Link, ProviderCollector):
    """Takes requests and runs each in a worker of nameko's."""

    def __init__(self) -> None:
        super().__init__()

    def setup(self) -> None:
        super().setup()
        self.ours = bootstrap.of(self.container)
        self.ours.pass_on = self.pass_on
        self.on_their_way: set[tuple[int, bool]] = set()
        self.seconds = metrics.commands(self.container.service_name)

    def queues(self) -> list[Queue]:
        name = self.container.service_name
        names = [topology.command_queue(name)] + ([topology.shard_queue(name, self.ours.shard)] if self.ours.shards > 1 else [])
        # Not durable: of a cluster's node that is down the others would refuse the name; so it is made anew on one of them. Requests are repeated anyhow.
        return [Queue(one, durable=False, expires=UNUSED_SECONDS) for one in names]

    def finish(self) -> None:
        """Take no more requests; those taken are still answered."""
        Loop.stop(self)

    def stop(self) -> None:
        self.finish()
        self._hang_up()

    def pass_on(self, shard: int, request: dict[str, Any]) -> None:
        """Send a request to whoever holds the shard; it need not be taken there. News that are on their way are not told twice."""
        news = (shard, request["mail"]) if request["method"] == NEWS else None
        if news in self.on_their_way:
            return
        if news:
            self.on_their_way.add(news)

        def send() -> None:
            if news:
                self.on_their_way.remove(news)
            with suppress(Unavailable):
                self.send(request, topology.shard_queue(self.container.service_name, shard), expiration=str(int(DEADLINE_SECONDS * 1000)))

        eventlet.spawn_n(send)  # whoever has news may be in the middle of a turn

    def receive(self, message: Any) -> None:
        request = orjson.loads(message.body)
        if request["method"] == NEWS:
            self.ours.on_news(request["mail"])
            return
        provider = next((one for one in self._providers if one.method_name == request["method"]), None)
        if provider is None:
            self.answer(request, error={"name": "NotFound", "detail": f"no such command: {request['method']}"})
            return

        began = clock.monotonic()

        def done(_worker: Any, result: Any, exc_info: Any) -> tuple[Any, Any]:
            self.seconds.labels(request["method"], _outcome(exc_info and exc_info[1])).observe(clock.monotonic() - began)
            if exc_info is None:
                self.answer(request, result=result)
            elif isinstance(elsewhere := exc_info[1], Elsewhere) and request.get("moves", 0) < MOST_MOVES:
                self.pass_on(elsewhere.shard, {**request, "moves": request.get("moves", 0) + 1})
            else:
                self.answer(request, error=_describe(exc_info[1]))
            return result, None

        self.container.spawn_worker(
            provider, (), request["arguments"], context_data={trace.KEY: request.get(trace.KEY)}, handle_result=done
        )

    def answer(self, request: dict[str, Any], **answer: Any) -> None:
        try:
            self.send({"id": request["id"], **answer}, request["reply_to"])
        except Unavailable:
            log.warning("answer lost: broker out of reach", method=request["method"])


class Rpc(Entrypoint):
    """Makes a method callable from other services: keyword arguments and result are JSON."""

    server = CommandServer()

    def __init__(self, expected_exceptions: Any = (AnswerlineError, Elsewhere), **kwargs: Any) -> None:
        super().__init__(expected_exceptions=expected_exceptions, **kwargs)

    def setup(self) -> None:
        self.server.register_provider(self)

    def stop(self) -> None:
        self.server.finish()


class _Replies(_Link):
    """Where the answers to this process's requests arrive."""

    def setup(self) -> None:
        super().setup()
        self.name = f"answerline.replies.{new_id()}"
        self.waiting: dict[Any, Event] = {}

    def queues(self) -> list[Queue]:
        return [Queue(self.name, durable=False, exclusive=True, auto_delete=True)]

    def receive(self, message: Any) -> None:
        answer: dict[str, Any] = orjson.loads(message.body)
        if waiter := self.waiting.pop(answer["id"], None):
            waiter.send(answer)


class Client(DependencyProvider):
    """Another service's commands as methods: `routing = Client("routing")`, then `self.routing.queue_report(...)`."""

    replies = _Replies()

    def __init__(self, target: str) -> None:
        self.target = target

    def get_dependency(self, worker_ctx: Any) -> _Proxy:  # noqa: ARG002 - nameko's signature
        return _Proxy(self)

    def call(self, method: str, arguments: dict[str, Any], deadline: float) -> Any:
        request = {
            "id": new_id(),
            "method": method,
            "arguments": arguments,
            "reply_to": self.replies.name,
            trace.KEY: trace.current(),
        }
        waiter = self.replies.waiting[request["id"]] = Event()
        try:
            with Timeout(deadline, False):
                self.replies.send(request, topology.command_queue(self.target), expiration=str(int(deadline * 1000)))
                return _unpack(waiter.wait())
            raise Unavailable(f"{self.target} did not answer within {deadline:g} s")
        finally:
            self.replies.waiting.pop(request["id"], None)


class _Proxy:
    def __init__(self, client: Client) -> None:
        self._client = client

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(deadline: float = DEADLINE_SECONDS, **arguments: Any) -> Any:
            return self._client.call(method, arguments, deadline)

        return call


def _outcome(error: BaseException | None) -> str:
    if error is None or isinstance(error, Elsewhere):
        return "ok"
    return "refused" if isinstance(error, AnswerlineError) and error.status < 500 else "failed"


def _describe(error: BaseException) -> dict[str, Any]:
    if isinstance(error, AnswerlineError):
        return {"name": type(error).__name__, "detail": error.detail, "more": error.more}
    if is_outage(error):
        return {"name": "Unavailable", "detail": why_out(error)}
    if isinstance(error, Elsewhere):
        return {"name": "Unavailable", "detail": "it is moving between shards; try again"}
    return {"name": "AnswerlineError", "detail": "the service failed; its log says how"}


def _unpack(answer: dict[str, Any]) -> Any:
    if failure := answer.get("error"):
        raise BY_NAME.get(failure["name"], AnswerlineError)(failure["detail"], **failure.get("more", {}))
    return answer.get("result")


rpc = Rpc.decorator
