"""Starts services in this process and keeps them until they are told to stop."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

import eventlet
import structlog
from eventlet.event import Event
from nameko.runners import ServiceRunner

from shared.config import Settings
from shared.db import migrate
from shared.db.engine import is_outage
from shared.observability import health
from shared.observability import metrics as bus_metrics
from shared.runtime import context
from shared.runtime.context import Context
from shared.runtime.definition import Definition
from shared.runtime.web import HttpServer, listen

log = structlog.get_logger()

WORKERS = 500
WATCH_SECONDS = 1.0
LOST_LEASE_EXIT = 75


def migrate_all(settings: Settings, definitions: Sequence[Definition]) -> None:
    """Bring every service's database to its newest revision, waiting for a database that is not there yet."""
    for definition in definitions:
        database = context.build(definition.name, settings).database
        _patiently(lambda database=database, definition=definition: migrate.upgrade(database, definition.migrations), definition.name)
        database.close()


def run(
    settings: Settings,
    definitions: Sequence[Definition],
    on_ready: Callable[[dict[str, Context]], None] | None = None,
    internal: bool = False,
) -> None:
    """Run services until SIGTERM or Ctrl-C. `internal`: serve health and metrics on their own port, as a service alone must."""
    contexts = {definition.name: context.build(definition.name, settings) for definition in definitions}
    stopped = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None if stopped.ready() else stopped.send(None))
    if internal:
        _serve_internal(settings, contexts)
    for definition in definitions:
        bus_metrics.register(definition.name, contexts[definition.name].units)
        if definition.single_active and not _stand_by(contexts[definition.name], stopped):
            return
    runner = ServiceRunner({"AMQP_URI": settings.broker_url, "max_workers": WORKERS, context.CONFIG_KEY: contexts})
    for definition in definitions:
        runner.add_service(definition.load())
    runner.start()
    log.info("started", services=sorted(contexts))
    watcher = eventlet.spawn(_watch_leases, [contexts[definition.name] for definition in definitions if definition.single_active])
    if on_ready:
        eventlet.spawn(on_ready, contexts)
    failed = eventlet.spawn(_wait, runner, stopped)
    stopped.wait()
    watcher.kill()
    failed.kill()
    log.info("stopping")
    runner.stop()
    for one in contexts.values():
        one.lease.release()
        one.database.close()
    log.info("stopped")


def _wait(runner: ServiceRunner, stopped: Event) -> None:
    """A container that dies takes the process with it: whoever supervises us starts a new one."""
    try:
        runner.wait()
    except Exception as error:
        log.critical("a service died", error=type(error).__name__, exc_info=error)
        os._exit(1)
    if not stopped.ready():
        stopped.send(None)


def _patiently(step: Callable[[], Any], service: str) -> Any:
    """Services start in any order and wait for what they need."""
    pause = 0.2
    while True:
        try:
            return step()
        except Exception as error:
            if not is_outage(error):
                raise
            log.info("waiting for the database", service=service, error=type(error).__name__)
            time.sleep(pause)
            pause = min(pause * 2, 5.0)


def _stand_by(ours: Context, stopped: Event) -> bool:
    """Wait until this process is the active one; whether it is, or was told to stop meanwhile."""
    told = False
    while not stopped.ready():
        if _patiently(ours.lease.acquire, ours.name):
            return True
        if not told:
            log.info("standing by: another process is active", service=ours.name)
            told = True
        time.sleep(WATCH_SECONDS)
    return False


def _watch_leases(contexts: Sequence[Context]) -> None:
    """Who loses the lease (the database was restarted and another was quicker) must not go on from memory."""
    while True:
        time.sleep(WATCH_SECONDS)
        for ours in contexts:
            try:
                held = ours.lease.acquire()
            except Exception as error:
                if not is_outage(error):
                    raise
                continue
            if not held:
                log.critical("another process is active now", service=ours.name)
                os._exit(LOST_LEASE_EXIT)


def _serve_internal(settings: Settings, contexts: dict[str, Context]) -> None:
    eventlet.spawn_n(HttpServer(listen(settings.metrics_address), _internal_application(contexts)).serve)


def _internal_application(contexts: dict[str, Context]) -> Callable[..., Any]:
    """Health and metrics for those inside: no key, and no port to the outside."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        match environ["PATH_INFO"]:
            case "/livez":
                status, kind, body = "200 OK", "application/json", b'{"status":"ok"}'
            case "/readyz":
                answers = [health.ready(one.database, one.connected and bool(one.links)) for one in contexts.values()]
                worst = max(answers, key=lambda answer: answer.status)
                status, kind, body = (
                    f"{worst.status} {'OK' if worst.status == 200 else 'Service Unavailable'}",
                    "application/json",
                    worst.body,
                )
            case "/metrics":
                answer = health.metrics()
                status, kind, body = "200 OK", answer.content_type, answer.body
            case _:
                status, kind, body = "404 Not Found", "text/plain", b"/livez /readyz /metrics\n"
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body]

    return application
