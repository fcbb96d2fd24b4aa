"""The real servers that tests run against.

`bring_up()` takes, for the broker and for the database each, the first of these that is there:
1. the server named by ANSWERLINE_TEST_BROKER_URL / ANSWERLINE_TEST_DATABASE_URL (used as it is; it cannot be killed or wiped);
2. the installed binaries, as a private server with ports and folders of its own: the fastest;
3. a Docker engine that has the image or can pull it;
4. the Debian packages, installed now with apt-get, where we are root;
5. nothing: then `Stack.missing` says why, and only the embedded half of the tests can run.

    with bring_up() as stack:             # both, in parallel
        kombu.Connection(stack.broker.url)
        url = stack.database.create("routing")
    with new_broker() as broker:          # one more, to be killed
        broker.kill()
        broker.start()
        broker.wipe()
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from . import container, postgres, process, prometheus, rabbitmq
from .postgres import ContainerDatabase, Database, LocalDatabase
from .process import StackError
from .rabbitmq import Broker, ContainerBroker, LocalBroker

__all__ = ["Broker", "Database", "MissingError", "Stack", "StackError", "bring_up", "faketime", "install", "new_broker", "new_database"]

POLICY = Path("/usr/sbin/policy-rc.d")
LIBRARIES = Path("/usr/lib")


class MissingError(StackError):
    """There is no way to have this server on this machine; the message says why."""


@dataclass
class Stack:
    broker: Broker | None
    database: Database | None
    missing: str = ""
    seconds: float = 0.0

    def stop(self) -> None:
        for part in (self.broker, self.database):
            if part and part.owned:
                part.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __str__(self) -> str:
        parts = [("RabbitMQ", self.broker), ("PostgreSQL", self.database)]
        text = "; ".join(f"{name}: {part.what}" if part else f"{name}: MISSING" for name, part in parts)
        return f"{text} ({self.seconds:.1f} s)"

    def as_json(self) -> dict[str, Any]:
        return {
            "broker": self.broker and rabbitmq.handle(self.broker),
            "database": self.database and postgres.handle(self.database),
            "missing": self.missing,
            "seconds": self.seconds,
        }

    @classmethod
    def attach(cls, known: dict[str, Any]) -> Stack:
        """The stack that another process brought up and will stop."""
        return cls(
            known["broker"] and rabbitmq.attach(known["broker"]),
            known["database"] and postgres.attach(known["database"]),
            known["missing"],
            known["seconds"],
        )


def bring_up(scratch: Path | None = None, *, durable: bool = True) -> Stack:
    """Both servers, started in parallel, their data below `scratch` (default: a folder of our own that is deleted at exit).

    One that nobody can kill need not be durable, and is faster.
    """
    began = time.monotonic()
    given = os.environ.get("ANSWERLINE_TEST_BROKER_URL"), os.environ.get("ANSWERLINE_TEST_DATABASE_URL")
    missing: list[str] = []
    broker: Broker | None = Broker(given[0]) if given[0] else None
    database: Database | None = Database(given[1]) if given[1] else None
    if not broker:
        try:
            broker = new_broker(scratch and scratch / "rabbitmq")
        except MissingError as reason:
            missing.append(str(reason))
    if not database:
        try:
            database = new_database(scratch and scratch / "postgresql", durable=durable)
        except MissingError as reason:
            missing.append(str(reason))
    process.root()  # not for the first time in a thread
    stack = Stack(broker, database, " ".join(missing))
    with ThreadPoolExecutor(2) as pool:
        for start in [pool.submit(part.start) for part in (broker, database) if part and part.owned]:
            start.result()
    stack.seconds = time.monotonic() - began
    return stack


def new_broker(home: Path | None = None) -> Broker:
    """A broker of our own, not yet started."""
    if not LocalBroker.installed():
        without_engine = container.available(rabbitmq.IMAGE)
        if not without_engine:
            return ContainerBroker()
        if refused := install():
            raise MissingError(f"No RabbitMQ: not installed, {without_engine}, {refused}.")
    return LocalBroker(home=str(home or ""))


def new_database(home: Path | None = None, *, durable: bool = True) -> Database:
    """A database server of our own, not yet started."""
    if not LocalDatabase.installed():
        without_engine = container.available(postgres.IMAGE)
        if not without_engine:
            return ContainerDatabase(durable=durable)
        if refused := install():
            raise MissingError(f"No PostgreSQL: not installed, {without_engine}, {refused}.")
    return LocalDatabase(home=str(home or ""), durable=durable)


def faketime() -> Path | None:
    """The library that gives a process a clock of its own, where it is installed."""
    return next(LIBRARIES.glob("*/faketime/libfaketime.so.1"), None)


def install(watching: bool = False, clocks: bool = False) -> str:
    """Install what is missing with apt-get, without letting the packages start their services. Empty, or why it could not be.
    `watching`: Prometheus too; `clocks`: libfaketime too."""
    packages: dict[str, Callable[[], object]] = {"rabbitmq-server": LocalBroker.installed, "postgresql": LocalDatabase.installed}
    packages |= {"prometheus": prometheus.installed} if watching else {}
    packages |= {"libfaketime": faketime} if clocks else {}
    wanted = [package for package, installed in packages.items() if not installed()]
    if not wanted:
        return ""
    if not shutil.which("apt-get"):
        return f"no apt-get to install {' and '.join(wanted)} with"
    if os.geteuid() != 0:
        return f"not root, so {' and '.join(wanted)} cannot be installed"
    process.say(f"installing {' and '.join(wanted)} with apt-get (once; their own services are not started)")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"]
    ours = not POLICY.exists()
    try:
        if ours:
            POLICY.write_text("#!/bin/sh\nexit 101\n")
            POLICY.chmod(0o755)
        for command in (["update"], ["install", "-y", "--no-install-recommends", *wanted]):
            done = subprocess.run(
                [*apt, *command], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
    finally:
        if ours:
            POLICY.unlink(missing_ok=True)
    if done.returncode or not all(installed() for installed in packages.values()):
        process.say(done.stdout[-3000:])
        return f"apt-get could not install {' and '.join(wanted)}"
    process.say("installed")
    return ""
