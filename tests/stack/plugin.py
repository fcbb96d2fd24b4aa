"""The pytest side: one stack a test session, shared by all xdist workers, brought up when the first test asks for it.

The controller (or the only pytest process) starts a holder, `python -m tests.stack hold`, which idles until a worker writes the
file `wanted`. The holder owns the servers and ends with the controller, however that ends. Workers find it by ANSWERLINE_TEST_STACK.

- `stack`: the session's Stack; `broker`, `database`: its halves. Each xdist worker has a vhost and a database prefix of its own.
  They are shared, so they refuse to be stopped, killed or wiped.
- `fresh_broker()`, `fresh_database()`: make one more server, started, to be killed at will; removed after the test. 3 s and 1.5 s.

Where a server cannot be had, the test is skipped and the summary says so loudly; with CI set it is an error.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest

from . import Broker, Database, MissingError, Stack, new_broker, new_database, process

PLACE = "ANSWERLINE_TEST_STACK"
REASON = "real servers missing: "
REPOSITORY = Path(__file__).parents[2]

Server = TypeVar("Server", Broker, Database)

_holder: subprocess.Popen[bytes] | None = None


def pytest_configure(config: pytest.Config) -> None:
    global _holder
    worker, idle = hasattr(config, "workerinput"), config.option.collectonly or getattr(config.option, "help", False)
    if worker or idle or Path(os.environ.get(PLACE, "/nowhere")).is_dir():
        return
    place = process.folder("session")
    argv = [sys.executable, "-m", "tests.stack", "hold", str(place), str(os.getpid())]
    # pytest captures nothing yet: what the holder says goes to the terminal
    _holder = subprocess.Popen(argv, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=2, start_new_session=True)
    (place / "holder").write_text(str(_holder.pid))
    os.environ[PLACE] = str(place)


def pytest_unconfigure() -> None:
    global _holder
    if _holder:
        _holder.terminate()
        _holder.wait(60)
        _holder = None
        process.reap(Path(os.environ.pop(PLACE)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _holder:
        return
    known = _known()
    without = [report for report in terminalreporter.stats.get("skipped", []) if REASON in str(report.longrepr)]
    if known and not known.get("error") and not known["missing"]:
        terminalreporter.write_line(f"real servers: {Stack.attach(known)}")
    if without:
        terminalreporter.section("REAL SERVERS MISSING", sep="!", red=True, bold=True)
        for reason in sorted({str(report.longrepr[-1]).partition(REASON)[2] for report in without if isinstance(report.longrepr, tuple)}):
            terminalreporter.write_line(reason, red=True)
        terminalreporter.write_line(
            f"{len(without)} tests did NOT run: nothing was tried over these servers. The embedded half ran. "
            "Give ANSWERLINE_TEST_BROKER_URL and ANSWERLINE_TEST_DATABASE_URL, a Docker engine, or run as root on Debian.",
            red=True, bold=True,
        )  # fmt: skip


@pytest.fixture(scope="session")
def stack() -> Stack:
    """The session's servers; one of them may be missing."""
    place = Path(os.environ[PLACE])
    (place / "wanted").touch()
    deadline = time.monotonic() + 1200  # it may have to install them
    while not (known := _known()):
        if time.monotonic() > deadline or not process.alive(int((place / "holder").read_text())):
            pytest.fail("the holder of the real servers is gone", pytrace=False)
        time.sleep(0.05)
    if "error" in known:
        pytest.fail(f"the real servers did not start: {known['error']}", pytrace=False)
    return Stack.attach(known)


@pytest.fixture(scope="session")
def broker(stack: Stack) -> Broker:
    """The session's RabbitMQ, in a vhost of this worker."""
    if not stack.broker:
        _without(stack.missing)
    return dataclasses.replace(stack.broker, url=stack.broker.vhost(_worker()))


@pytest.fixture(scope="session")
def database(stack: Stack) -> Database:
    """The session's PostgreSQL; `create(name)` makes a database of this worker."""
    if not stack.database:
        _without(stack.missing)
    return dataclasses.replace(stack.database, prefix=f"{_worker()}_")


@pytest.fixture
def fresh_broker() -> Iterator[Callable[[], Broker]]:
    """Makes a RabbitMQ of this test's own: empty, started, to be killed at will."""
    yield from _factory(new_broker)


@pytest.fixture
def fresh_database() -> Iterator[Callable[[], Database]]:
    """Makes a PostgreSQL of this test's own: empty, started, to be killed at will."""
    yield from _factory(new_database)


def _factory(new: Callable[[], Server]) -> Iterator[Callable[[], Server]]:
    made: list[Server] = []

    def make() -> Server:
        missing = ""
        try:
            made.append(new())
        except MissingError as reason:
            missing = str(reason)
        return _without(missing) if missing else made[-1].start()

    yield make
    for server in made:
        server.remove()


def _without(reason: str) -> NoReturn:
    if os.environ.get("CI", "").lower() in ("", "0", "false"):
        pytest.skip(REASON + reason)
    pytest.fail(REASON + reason, pytrace=False)


def _worker() -> str:
    return os.environ.get("PYTEST_XDIST_WORKER", "main")


def _known() -> dict[str, Any]:
    file = Path(os.environ.get(PLACE, "/nowhere"), "stack.json")
    return dict(json.loads(file.read_text())) if file.exists() else {}
