"""The real routing service for a bench: on the settings' broker and database, in a schema of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import make_url, text

from shared import config
from shared.bus.broker import Broker, declare_for, exists, inbox
from shared.config import SettingError, Settings
from shared.contracts import topology
from shared.db import migrate
from shared.db.engine import Database

SCHEMA = "answerline_bench"
READY_SECONDS = 120.0
USED = ("routing", *topology.receivers_of("routing"))
"""Whose queues are made: routing's own, and of those who hear it, for whom nobody is there."""


def real_servers() -> Settings:
    """The settings, where they name RabbitMQ and PostgreSQL that no routing service uses. Raises SettingError."""
    settings = config.load()
    if settings.embedded or not settings.database_url.startswith("postgresql"):
        raise SettingError(
            "ANSWERLINE_BROKER_URL and ANSWERLINE_DATABASE_URL: this measures RabbitMQ and PostgreSQL; set both (`make bench` does)"
        )
    require_unused(Broker(settings.broker_url))
    return settings


@contextmanager
def running(settings: Settings) -> Iterator[tuple[subprocess.Popen[bytes], Broker, Database]]:
    """One routing process, ready; its queues and its schema go with it."""
    url = make_url(settings.database_of("routing")).update_query_dict({"options": f"-csearch_path={SCHEMA}"})
    own_url = url.render_as_string(hide_password=False)
    database = Database(own_url)
    with database.transaction() as connection:
        connection.execute(text(f"drop schema if exists {SCHEMA} cascade"))
        connection.execute(text(f"create schema {SCHEMA}"))
    from services.routing import definition

    migrate.upgrade(database, definition.migrations)
    broker = Broker(settings.broker_url)
    with broker.connect() as connection:
        declare_for(connection, ["routing"], ["gateway"])
    with tempfile.TemporaryFile() as log:
        environment = {**os.environ, "ANSWERLINE_DATABASE_URL": own_url, "ANSWERLINE_METRICS": f"127.0.0.1:{_free_port()}"}
        process = subprocess.Popen([sys.executable, "-m", "services.routing"], env=environment, stdout=log, stderr=log)
        try:
            wait_for_consumer(broker)
            yield process, broker, database
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(30)
            with broker.connect() as connection:
                for name in USED:
                    inbox(name)(connection.channel()).delete()
            with database.transaction() as connection:
                connection.execute(text(f"drop schema {SCHEMA} cascade"))
            database.close()


def require_unused(broker: Broker) -> None:
    """The service has its real queues here: the bench must neither take a running one's events nor throw away what waits for one."""
    with broker.connect() as connection:
        for name in USED:
            if not exists(connection, inbox(name)):
                continue
            found = inbox(name)(connection.channel()).queue_declare(passive=True)
            if found.consumer_count or found.message_count:
                raise SettingError(
                    f"ANSWERLINE_BROKER_URL: a {name} service uses this broker; give the bench a broker or a virtual host of its own"
                )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_consumer(broker: Broker) -> None:
    deadline = time.monotonic() + READY_SECONDS
    with broker.connect() as connection, connection.channel() as channel:
        while time.monotonic() < deadline:
            if inbox("routing")(channel).queue_declare(passive=True).consumer_count:
                return
            time.sleep(0.05)
    raise SettingError("the routing service did not start to consume; run `answerline service routing` to see why")
