"""A whole Answerline as real processes, for tests that stand outside: start it, post to it, kill it, read its reports.

`embedded`: one process, in-memory bus, SQLite. `deployed`: a process for each service, the stack's RabbitMQ and PostgreSQL.
A test sees no difference: `system.kill("routing")` kills whatever process routing is in.

    system.post("/v1/contacts", {"queue": "sales"}).ok()      # the admin's key; `system.client("agent")` has another
    eventually(lambda: system.get("/v1/reports/queues").ok()["queues"])
    system.settle()                                            # all that was posted before is in the reports
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import http.client
import itertools
import json
import os
import re
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import psycopg2
import pytest
from kombu import Connection
from sqlalchemy import Engine, NullPool, create_engine, event, text

from shared.contracts import topology
from tests import zygote
from tests.stack import Broker, Database
from tests.stack.process import folder, port
from tests.zygote import Forked

MODES = ("embedded", "deployed")
SERVICES = ("gateway", "im", "qa", "routing", "training")
CORE = ("gateway", "routing")
ADMIN_KEY = "al_" + secrets.token_urlsafe(32)
SECRET_KEY = secrets.token_urlsafe(32)
START_SECONDS = 60.0
PATIENCE_SECONDS = 60.0
STOP_SECONDS = 20.0
COMMAND = [sys.executable, "-m", "shared.cli"]
REPOSITORY = Path(__file__).parents[1]

Found = TypeVar("Found")
SELDOM = 0.2
"""Seconds between two looks, at last."""


def eventually(check: Callable[[], Found], within: float = 30.0, every: float = 0.02) -> Found:
    """The first truthy result of `check`. An AssertionError of its own counts as "not yet"; the last one is what fails the test.
    Asks `every` so many seconds at first, then less and less often: whoever is waited for needs the processor."""
    deadline = time.monotonic() + within
    while True:
        failure: AssertionError | None = None
        result = None
        try:
            result = check()
        except AssertionError as error:
            failure = error
        if failure is None and result:
            return result
        if time.monotonic() > deadline:
            raise failure or AssertionError(f"still {result!r} after {within:g} s")
        time.sleep(every)
        every = min(every * 1.2, max(every, SELDOM))


# ---- talking to it


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def ok(self) -> Any:
        """The answer's JSON, having asserted success."""
        assert 200 <= self.status < 300, self
        return self.json if self.body else None

    def problem(self, status: int) -> dict[str, Any]:
        """The answer's problem document, having asserted that it is one and of that status."""
        assert self.status == status, self
        assert self.headers["Content-Type"] == "application/problem+json", self
        told = self.json
        assert {"type", "title", "status", "detail"} <= told.keys(), self
        assert told["status"] == status, self
        assert told["detail"], self
        return told


class Client:
    """HTTP with one key; each thread keeps a connection open. Nothing is ever sent twice: a broken connection raises."""

    def __init__(self, address: tuple[str, int], key: str | None, timeout: float = 60.0) -> None:
        self.address, self.key, self.timeout = address, key, timeout
        self._kept = threading.local()

    def get(self, path: str, **query: Any) -> Answer:
        return self.request("GET", path, query=query)

    def post(self, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None, **query: Any) -> Answer:
        return self.request("POST", path, body, headers=headers, query=query)

    def put(self, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None, **query: Any) -> Answer:
        return self.request("PUT", path, body, headers=headers, query=query)

    def delete(self, path: str) -> Answer:
        return self.request("DELETE", path)

    def request(
        self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None, query: Mapping[str, Any] | None = None
    ) -> Answer:
        """A body that is bytes or text goes as it is; anything else as JSON. `headers` win over ours; None leaves one out."""
        sent: dict[str, str | None] = {}
        if body is not None and not isinstance(body, bytes | str):
            body, sent["Content-Type"] = json.dumps(body), "application/json"
        if isinstance(body, str):
            body = body.encode()
        if self.key:
            sent["Authorization"] = f"Bearer {self.key}"
        sent |= headers or {}
        query = {name: value for name, value in (query or {}).items() if value is not None}
        connection = self._connection()
        try:
            connection.request(
                method,
                f"{path}?{urlencode(query)}" if query else path,
                body,
                {name: value for name, value in sent.items() if value is not None},
            )
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        except BaseException:
            connection.close()
            raise

    def patient(self) -> Client:
        """The same person, who comes back where an answer asks for that (503 with Retry-After, as whatever takes longer than its
        deadline): for many who ask at once, and for whatever a loaded machine may delay."""
        return _Patient(self.address, self.key, self.timeout)

    def _connection(self) -> http.client.HTTPConnection:
        kept: http.client.HTTPConnection | None = getattr(self._kept, "connection", None)
        if kept is None:
            kept = self._kept.connection = http.client.HTTPConnection(*self.address, timeout=self.timeout)
        elif kept.sock and select.select([kept.sock], [], [], 0)[0]:
            kept.close()  # the server has closed it meanwhile
        return kept


class _Patient(Client):
    def request(self, *asked: Any, **more: Any) -> Answer:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (answer := super().request(*asked, **more)).status == 503 and time.monotonic() < deadline:
            time.sleep(float(answer.headers["Retry-After"]))
        return answer


def raw_request(address: tuple[str, int], request: bytes, timeout: float = 15.0) -> bytes:
    """Send bytes, say that there are no more, and read all that comes back before the server hangs up, however it does that."""
    read = b""
    with socket.create_connection(address, timeout=timeout) as connection, contextlib.suppress(ConnectionError, BrokenPipeError):
        connection.sendall(request)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        while more := connection.recv(65536):
            read += more
    return read


# ---- the processes


class System(Client):
    """One Answerline. Made stopped; a `with` block migrates and starts it, and ends it."""

    def __init__(
        self,
        mode: str,
        broker: Broker | None = None,
        database: Database | None = None,
        services: tuple[str, ...] = SERVICES,
        **settings: str,
    ) -> None:
        self.mode, self.services = mode, services  # deployed, only these run
        self.folder = folder(mode)
        self.ports = {name: port() for name in ("http", *SERVICES)}
        self.name = f"t{os.getpid()}_{secrets.token_hex(3)}"
        self._stack = (broker, database)
        self._processes: dict[str, Forked] = {}
        self.secrets = {ADMIN_KEY, SECRET_KEY}
        self._marks = itertools.count(1)
        self.settings = {
            "ANSWERLINE_HTTP": f"127.0.0.1:{self.ports['http']}",
            "ANSWERLINE_DATA": str(self.folder / "data"),
            "ANSWERLINE_ADMIN_KEY": ADMIN_KEY,
            "ANSWERLINE_SECRET_KEY": SECRET_KEY,
            "ANSWERLINE_WEBHOOK_ALLOW": "127.0.0.0/8",
        }
        if mode == "deployed":
            assert database
            if broker:
                self.settings["ANSWERLINE_BROKER_URL"] = _empty(broker.vhost(self.name))
            self.settings["ANSWERLINE_DATABASE_URL"] = database.url_of(f"{database.prefix}{self.name}_{{service}}")
        self.settings |= settings
        super().__init__(("127.0.0.1", self.ports["http"]), ADMIN_KEY)

    @property
    def deployed(self) -> bool:
        return self.mode == "deployed"

    @property
    def broker_url(self) -> str:
        return self.settings["ANSWERLINE_BROKER_URL"]

    def client(self, *roles: str) -> Client:
        """Somebody with a new key of these roles; without roles, somebody without a key."""
        key = self.post("/v1/keys", {"name": "test", "roles": list(roles)}).ok()["key"] if roles else None
        if key:
            self.secrets.add(key)
        return Client(self.address, key)

    def says_no_secret(self) -> None:
        """Nothing secret stands in any log: no key, no password of broker or database."""
        urls = [self.settings.get(f"ANSWERLINE_{name}_URL", "") for name in ("BROKER", "DATABASE")]
        for log in self.folder.glob("*.log"):
            text = log.read_text(errors="replace")
            for secret in self.secrets | {password for url in urls if len(password := urlsplit(url).password or "") >= 12}:
                assert secret not in text, f"{secret[:6]}… stands in {log.name}"

    def __enter__(self) -> Self:
        try:
            self.migrate()
            return self.up()
        except BaseException:
            self.remove()
            raise

    def __exit__(self, *_: object) -> None:
        self.remove()

    # Starting and ending

    def up(self) -> Self:
        """Start everything, and wait until it is ready."""
        for service in self.services:
            self.start(service, wait=False)
        for service in self.services:
            self.wait_ready(service)
        return self

    def migrate(self) -> None:
        """Databases of the newest revision: `answerline migrate` makes the first on a server, all others are copies of those."""
        _broker, database = self._stack
        server = database.url if database else self.mode
        if server not in _migrated:
            first = System(self.mode, None, database)
            first.create()
            log = first.folder / "migrate.log"
            migration = zygote.fork(["migrate"], first._environment("cli", {}), log, first.folder)
            assert migration.wait(START_SECONDS) == 0, log.read_text()
            _migrated[server] = first
        self.create(like=_migrated[server])

    def create(self, like: System | None = None) -> None:
        """The databases, empty or with what another system has in its own."""
        _broker, database = self._stack
        for name in SERVICES if database else ():
            database.create(f"{self.name}_{name}", like and f"{like.name}_{name}")
        if like and not database:
            shutil.copytree(like.folder / "data", self.folder / "data")

    def start(self, service: str, *, wait: bool = True, **settings: str) -> None:
        """Start the process that the service is in, unless it runs."""
        process = self._process_of(service)
        if self.running(service):
            return
        arguments = ["service", service] if self.deployed else ["up"]
        self._processes[process] = zygote.fork(arguments, self._environment(service, settings), self._log_of(service), self.folder)
        if wait:
            self.wait_ready(service)

    def wait_ready(self, service: str = "gateway", within: float = START_SECONDS) -> None:
        """Wait until /readyz says that all is well."""

        try:
            eventually(lambda: self.ready(service) or not self.running(service), within)
        except AssertionError:
            raise AssertionError(f"{service} is not ready after {within:g} s:\n{self.log(service)}") from None
        assert self.running(service), f"{service} has ended:\n{self.log(service)}"

    def ready(self, service: str = "gateway") -> bool:
        """Whether /readyz says that all is well, now."""
        try:
            return self.internal(service).get("/readyz").status == 200
        except (OSError, http.client.HTTPException):
            return False

    def internal(self, service: str) -> Client:
        """The service's own health and metrics: its internal port, or the one process's only port."""
        return Client(("127.0.0.1", self.ports[service if self.deployed else "http"]), self.key, timeout=10)

    def running(self, service: str) -> bool:
        process = self._processes.get(self._process_of(service))
        return process is not None and process.poll() is None

    def pid(self, service: str) -> int:
        return self._processes[self._process_of(service)].pid

    def kill(self, service: str) -> None:
        """kill -9 of the process that the service is in."""
        process = self._processes[self._process_of(service)]
        process.kill()
        process.wait()

    def terminate(self, service: str, within: float = STOP_SECONDS) -> None:
        """SIGTERM; it must end by itself, in time and with code 0."""
        process = self._processes[self._process_of(service)]
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(within)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{service} did not end within {within:g} s of SIGTERM:\n{self.log(service)}") from None
        assert code == 0, f"{service} ended with code {code}:\n{self.log(service)}"

    def stop(self) -> None:
        """SIGTERM to all that run; each must end in time with code 0."""
        for service in self.services:
            if self.running(service):
                self.terminate(service)

    def remove(self) -> None:
        """Kill what runs and delete all data."""
        for process in self._processes.values():
            process.kill()
            process.wait()
        _broker, database = self._stack
        if database and not database.owned:  # what is ours goes as a whole
            for name in SERVICES:
                database.drop(f"{self.name}_{name}")
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self, service: str = "gateway", characters: int = 6000) -> str:
        path = self._log_of(service)
        return path.read_text(errors="replace")[-characters:] if path.exists() else ""

    # Looking inside

    def answerline(self, *arguments: str, code: int | None = 0, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run `answerline …` with this system's settings; asserts its exit code unless `code` is None."""
        stem = f"cli{next(self._marks)}"
        said, complained = self.folder / f"{stem}.out", self.folder / f"{stem}.err"
        command = zygote.fork(list(arguments), self._environment("cli", settings), said, self.folder, complained)
        done = subprocess.CompletedProcess(arguments, command.wait(60), said.read_text(), complained.read_text())
        assert code in (None, done.returncode), (
            f"answerline {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
        return done

    def sql(self, service: str, statement: str, **parameters: Any) -> list[Any]:
        """One statement in a transaction on the service's own database; its rows."""
        url = self.settings.get("ANSWERLINE_DATABASE_URL", f"sqlite:///{self.folder}/data/{{service}}.sqlite3").replace(
            "{service}", service
        )
        with _engine(re.sub(r"^postgresql:", "postgresql+psycopg2:", url)).begin() as connection:
            result = connection.execute(text(statement), parameters)
            return list(result) if result.returns_rows else []

    def publish(self, body: bytes | str, routing_key: str = topology.inbox_queue("routing"), exchange: str = "") -> None:
        """Put a message on the (real) broker, by default straight into routing's inbox."""
        with Connection(self.broker_url, connect_timeout=5) as connection, connection.channel() as channel:
            prepared = channel.prepare_message(
                body, content_type="application/json", content_encoding="utf-8", properties={"delivery_mode": 2}
            )
            channel.basic_publish(prepared, exchange=exchange, routing_key=routing_key)

    def metrics(self, service: str = "routing") -> dict[str, float]:
        """Every sample of the service's metrics, by name with labels as Prometheus writes them."""
        lines = self.internal(service).get("/metrics")
        assert lines.status == 200, lines
        samples = (line.rpartition(" ") for line in lines.body.decode().split("\n") if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    def settle(self, within: float = 30.0) -> None:
        """Wait until everything posted so far has been correlated, published and applied: a last contact, told after it, is known."""
        source, call = "~settle", f"{self.name}.{next(self._marks)}"  # ~: of sources in one batch the last by name comes last
        line = f"{int(time.time())}|{call}|~settle|NONE|ENTERQUEUE||1|1\n{int(time.time())}|{call}|~settle|NONE|ABANDON|1|1|0\n"
        self.post("/v1/telephony/asterisk/queue-log", line, source=source).ok()
        eventually(lambda: self.get(f"/v1/contacts/{quote(source)}:{call}").status == 200, within)

    def _process_of(self, service: str) -> str:
        return service if self.deployed else "all"

    def _log_of(self, service: str) -> Path:
        return self.folder / f"{self._process_of(service)}.log"

    def _environment(self, service: str, settings: Mapping[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSWERLINE_")}
        metrics = {"ANSWERLINE_METRICS": f"127.0.0.1:{self.ports.get(service) or port()}"}
        return kept | {"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"} | self.settings | metrics | settings


@functools.cache
def _engine(url: str) -> Engine:
    """What it finds out about the server on first connecting it asks once; no connection is kept."""
    if url.startswith("postgresql"):
        return create_engine(url, poolclass=NullPool)
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": 10})
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout=10000"))
    return engine


_migrated: dict[str, System] = {}
"""By server: a system that never runs, for its databases."""


@atexit.register
def _remove_migrated() -> None:
    for system in _migrated.values():
        with contextlib.suppress(psycopg2.OperationalError):  # the server may be gone, and they with it
            system.remove()


def _empty(url: str) -> str:
    """A vhost that was given to us may hold what an earlier test left."""
    with Connection(url, connect_timeout=5) as connection, connection.channel() as channel:
        for name in SERVICES:
            for queue in (topology.inbox_queue(name), topology.replay_queue(name)):
                channel.queue_delete(queue)
    return url


# ---- fixtures


@contextmanager
def running(mode: str, request: pytest.FixtureRequest, services: tuple[str, ...] = SERVICES, **settings: str) -> Iterator[System]:
    """A system of that mode, up; the stack's servers are brought up only where they are needed."""
    servers = {name: request.getfixturevalue(name) for name in ("broker", "database")} if mode == "deployed" else {}
    with System(mode, **servers, services=services, **settings) as system:
        yield system


_kept: dict[str, System] = {}
"""One system per mode, kept up although tests of both take turns."""


@pytest.fixture(scope="session")
def kept_systems() -> Iterator[Callable[[str, pytest.FixtureRequest], System]]:
    """They must still end cleanly."""
    with ExitStack() as stack:

        def of(mode: str, request: pytest.FixtureRequest) -> System:
            if mode not in _kept:
                _kept[mode] = stack.enter_context(running(mode, request))
            return _kept[mode]

        yield of
        for system in _kept.values():
            system.stop()
            system.says_no_secret()
        _kept.clear()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Kept systems end when the unit tests begin: six processes that do nothing take an eighth of a core."""
    for system in _kept.values():
        if "unit" in item.path.parts:
            system.stop()
        elif "system" in getattr(item, "fixturenames", ()) and not system.running("gateway"):
            system.up()


@pytest.fixture(scope="session", params=MODES)
def system(request: pytest.FixtureRequest, kept_systems: Callable[[str, pytest.FixtureRequest], System]) -> System:
    """The system for all tests: each uses sources, queues and agents of its own."""
    return kept_systems(request.param, request)


@pytest.fixture(scope="module")
def own_services() -> tuple[str, ...]:
    """Which run in a deployed `own_system`; a module that is about others has a fixture of its own."""
    return CORE


@pytest.fixture(scope="module", params=MODES)
def own_system(request: pytest.FixtureRequest, own_services: tuple[str, ...]) -> Iterator[System]:
    """A system of the module's own, to be stopped, killed and started again."""
    with running(request.param, request, own_services) as system:
        yield system


_names = itertools.count(1)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name of this test's own, for its source, its queue, its agents."""
    return f"{request.node.originalname.removeprefix('test_')[:40]}_{next(_names)}"
