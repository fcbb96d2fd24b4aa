"""Starts services in this process and keeps them until they are told to stop."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import eventlet
import structlog
from eventlet.event import Event
from nameko.runners import ServiceRunner

from shared import clock
from shared.config import SettingError, Settings
from shared.db import migrate
from shared.db.engine import Database, is_outage
from shared.db.lease import RESTORE, Lease
from shared.http.endpoint import Response
from shared.http.wsgi import send
from shared.observability import health
from shared.observability import metrics as bus_metrics
from shared.runtime import bootstrap, context
from shared.runtime.context import Context
from shared.runtime.definition import Definition
from shared.runtime.shards import Holder, leave
from shared.runtime.web import HttpServer, listen

log = structlog.get_logger()

WORKERS = 500
WATCH_SECONDS = 1.0
LONGEST_PAUSE = 2.0
HUB_LOOK_SECONDS = 0.25


def check_databases(settings: Settings, names: Sequence[str]) -> None:
    """Raises SettingError when services would share a database: each has tables of its own there, some of the same name."""
    if len({settings.database_of(name) for name in names}) < len(names):
        raise SettingError("ANSWERLINE_DATABASE_URL: each service needs a database of its own; write {service} where its name belongs")


def migrate_all(settings: Settings, definitions: Sequence[Definition]) -> None:
    """Bring every service's database to its newest revision, waiting for a database that is not there yet."""
    check_databases(settings, [definition.name for definition in definitions])
    for definition in definitions:
        database = context.build(definition.name, settings).database
        if why := _patiently(partial(restore_under_way, database), definition.name):
            raise SettingError(f"{definition.name}: {why}")
        _patiently(partial(migrate.upgrade, database, definition.migrations), definition.name)
        database.close()


def run(
    settings: Settings,
    definitions: Sequence[Definition],
    on_ready: Callable[[dict[str, Context]], None] | None = None,
    internal: bool = False,
) -> None:
    """Run services until SIGTERM or Ctrl-C. `internal`: serve health and metrics on their own port, as a service alone must."""
    contexts = {definition.name: context.build(definition.name, settings) for definition in definitions}
    shards = {definition.name: definition.shards(settings) for definition in definitions}
    whole = [definition for definition in definitions if shards[definition.name] == 1]
    for one in contexts.values():
        one.neighbours = contexts
    stopped = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None if stopped.ready() else stopped.send(None))
    if internal:
        _serve_internal(settings, contexts)
    for definition in definitions:
        bus_metrics.register(definition.name, contexts[definition.name])
        if not _await_migration(contexts[definition.name], definition, stopped):
            return
        if definition in whole and definition.single_active and not _become_active(settings, contexts[definition.name], stopped):
            return
    config = {"AMQP_URI": settings.broker_url, "max_workers": WORKERS, bootstrap.CONFIG_KEY: contexts}
    runner = ServiceRunner(config)
    for definition in whole:
        runner.add_service(definition.load())
    keeper = eventlet.spawn(_watch_leases, [(contexts[definition.name], definition.single_active) for definition in whole])
    gc.collect()
    gc.freeze()  # what was loaded stays for ever: looking through it again and again would hold up everything else
    runner.start()
    for definition in whole:
        contexts[definition.name].phase = "started"
    log.info("started", services=sorted(contexts))
    holders = [Holder(one.load(), contexts[one.name], shards[one.name], config) for one in definitions if one not in whole]
    watchers = [eventlet.spawn(_wait, runner, stopped)] if whole else []
    watchers.append(eventlet.spawn(_watch_hub))
    for holder in holders:
        holder.start()
    if on_ready:
        eventlet.spawn(on_ready, contexts)
    stopped.wait()
    for watcher in watchers:
        watcher.kill()
    log.info("stopping")
    for holder in holders:
        holder.stop()
    runner.stop()
    keeper.kill()  # not before: who stops slowly would be taken for frozen
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


def _patiently(step: Callable[[], Any], service: str, stopped: Event | None = None) -> Any:
    """Services start in any order and wait for what they need. None when told to stop meanwhile."""
    pause = 0.2
    while stopped is None or not stopped.ready():
        try:
            return step()
        except Exception as error:
            if not is_outage(error):
                raise
            log.warning("waiting for the database", service=service, cause=str(getattr(error, "orig", error)).splitlines()[0])
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
    return None


def _await_migration(ours: Context, definition: Definition, stopped: Event) -> bool:
    """Wait until somebody has brought the database to our revision; False when told to stop meanwhile."""
    told = ""

    def why_to_wait() -> str:
        why = restore_under_way(ours.database)
        return why or ("" if migrate.is_current(ours.database, definition.migrations) else "waiting for `answerline migrate`")

    while not stopped.ready():
        why = _patiently(why_to_wait, ours.name, stopped)
        if why == "":
            return True
        if why and why != told:
            log.info(why, service=ours.name)
            told = why
        time.sleep(WATCH_SECONDS)
    return False


def restore_under_way(database: Database) -> str:
    """Why nobody may work with the database now, or an empty text."""
    if Lease(database, RESTORE).is_taken():
        return "a restore is under way: wait until it is done"
    if migrate.is_half_restored(database):
        return "a restore was cut off, and left this by half: run `answerline restore` again"
    return ""


def _become_active(settings: Settings, ours: Context, stopped: Event) -> bool:
    """Wait until this process is the active one; whether it is, or was told to stop meanwhile. Raises SettingError where a second
    process makes no sense: all of an embedded centre is in one."""
    told = False
    while not stopped.ready():
        if _patiently(partial(migrate.take, ours.lease), ours.name, stopped):
            ours.phase = "starting"
            return True
        if settings.embedded:
            raise SettingError(
                f"another Answerline works with the data in {settings.data.resolve()}; stop it or set ANSWERLINE_DATA to another folder"
            )
        if not told:
            log.info("standing by: another process is active", service=ours.name)
            told = True
            ours.phase = "standing by"
        time.sleep(WATCH_SECONDS)
    return False


def _watch_leases(contexts: Sequence[tuple[Context, bool]]) -> None:
    """Who holds a lease shows that it lives. Who loses it (the database was restarted and another was quicker, or we stood still) must not
    go on from memory, where the service is all in one process."""
    while True:
        time.sleep(WATCH_SECONDS)
        for ours, single_active in contexts:
            try:
                if not single_active:
                    ours.lease.keep()
                    continue
                held = ours.lease.acquire()
            except Exception as error:
                if not is_outage(error):
                    log.critical("a lease cannot be held", service=ours.name, error=type(error).__name__, exc_info=error)
                    os._exit(1)
                continue
            if not held:
                leave(ours.name)


def _watch_hub() -> None:
    """Measure what a step of work that is too long does to all others."""
    while True:
        began = clock.monotonic()
        eventlet.sleep(HUB_LOOK_SECONDS)
        bus_metrics.HUB_DELAY.observe(max(clock.monotonic() - began - HUB_LOOK_SECONDS, 0.0))


def _serve_internal(settings: Settings, contexts: dict[str, Context]) -> None:
    eventlet.spawn_n(HttpServer(listen(settings.metrics_address, "ANSWERLINE_METRICS"), _internal_application(contexts)).serve)


def _internal_application(contexts: dict[str, Context]) -> Callable[..., Any]:
    """Health and metrics for those inside: no key, and no port to the outside."""

    def ready(query: str) -> Response:
        without = parse_qs(query, keep_blank_values=True).get("without")
        if without is None or (len(without) == 1 and without[0] in health.WITHOUT):
            return health.ready(contexts, without[0] if without else "")
        return Response(f"without={' or '.join(health.WITHOUT)}\n".encode(), 400, "text/plain")

    answers: dict[str, Callable[[str], Response]] = {
        "/livez": lambda _: Response(b'{"status":"ok"}'),
        "/readyz": ready,
        "/metrics": lambda _: health.metrics(),
    }

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        answer = answers.get(environ["PATH_INFO"])
        told = answer(environ.get("QUERY_STRING", "")) if answer else Response(f"{' '.join(answers)}\n".encode(), 404, "text/plain")
        return send(told, environ["REQUEST_METHOD"], start_response)

    return application
