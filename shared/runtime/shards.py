"""A service in shards: each of its processes holds a fair part of them, and takes over those of a process that died.

A shard is a container of nameko's own, with a lease and all doors of the service. Events come to the first shard alone.
"""

from __future__ import annotations

import os
import time
from collections import deque
from typing import Any

import eventlet
import structlog
from nameko.containers import ServiceContainer

from shared.db import migrate
from shared.db.engine import is_outage
from shared.db.lease import Presence
from shared.observability.metrics import shards_held
from shared.runtime import bootstrap, context
from shared.runtime.context import Context

log = structlog.get_logger()

LOOK_SECONDS = 0.5
LOOKS = 3
"""So often a process is missed before its shards are taken: when the database was restarted, all come back one after the other."""
LOST_LEASE_EXIT = 75


def leave(service: str, **more: Any) -> None:
    """Another process does our work, or did so for a while: whoever supervises us starts us anew, and then we stand by."""
    log.critical("another process is active now", service=service, **more)
    os._exit(LOST_LEASE_EXIT)


def fair_share(shards: int, processes: int) -> int:
    """How many shards a process may hold."""
    return -(-shards // max(processes, 1))


class Holder:
    """The shards that this process holds."""

    def __init__(self, service: type[Any], ours: Context, shards: int, config: dict[str, Any]) -> None:
        self.service = service
        self.ours = ours
        self.shards = shards
        self.config = config
        self.presence = Presence(ours.database, ours.name)
        self.leases = [context.lease_of(ours.database, ours.name, shard) for shard in range(shards)]
        self.held: dict[int, ServiceContainer] = {}
        self._present: deque[int] = deque(maxlen=LOOKS)
        self._running = True
        self._thread: Any = None
        self._keeper: Any = None
        shards_held(ours.name).set_function(lambda: len(self.held))

    def start(self) -> None:
        self._thread = eventlet.spawn(self._live)
        self._keeper = eventlet.spawn(self._keep)

    def _live(self) -> None:
        """Until told to stop. A shard that dies, or that another process has taken, ends the process: whoever supervises us starts a new one."""
        while self._running:
            try:
                self.step()
            except Exception as error:
                if not is_outage(error):
                    log.critical("a shard cannot be held", service=self.ours.name, error=type(error).__name__, exc_info=error)
                    os._exit(1)
                log.warning("waiting for the database", service=self.ours.name, error=type(error).__name__)
            time.sleep(LOOK_SECONDS)

    def _keep(self) -> None:
        """Show that we live, for shards that are given back after others too: each may take longer than a frozen process is waited for."""
        while True:
            for lease in self.leases:
                try:
                    lease.keep()
                except Exception as error:
                    if not is_outage(error):
                        log.critical("a shard cannot be held", service=self.ours.name, error=type(error).__name__, exc_info=error)
                        os._exit(1)
            time.sleep(LOOK_SECONDS)

    def step(self) -> None:
        """Keep what is ours, give back what is above our share, take what is free below it. Raises when the database is out of reach."""
        for shard in self.held:
            if not self.leases[shard].acquire():
                leave(self.ours.name, shard=shard)
        self._present.append(self.presence.count())
        share = fair_share(self.shards, max(self._present))
        for shard in sorted(self.held)[share:]:
            self.give_back(shard)
        for shard in range(self.shards):
            if len(self.held) < share and shard not in self.held and migrate.take(self.leases[shard]):
                self.take(shard)
        self.ours.phase = "started" if self.held else "standing by"

    def take(self, shard: int) -> None:
        """Open the shard's doors. Its lease is ours."""
        part = context.part_of(self.ours, shard, self.shards, self.leases[shard])
        contexts = {**self.config[bootstrap.CONFIG_KEY], self.ours.name: part}
        container = ServiceContainer(self.service, {**self.config, bootstrap.CONFIG_KEY: contexts})
        self.ours.parts[shard] = part
        container.start()
        self.held[shard] = container
        part.phase = "started"
        eventlet.spawn_n(_watch, container, shard)
        log.info("took a shard", service=self.ours.name, shard=shard)

    def give_back(self, shard: int) -> None:
        """Finish what was begun, then let others have it."""
        self.held.pop(shard).stop()
        self.ours.parts.pop(shard)
        self.leases[shard].release()
        log.info("gave a shard back", service=self.ours.name, shard=shard)

    def stop(self) -> None:
        """Where there are others, they are let to miss us first: then each shard finds somebody as soon as it is given back."""
        self._running = False
        self._thread.wait()
        if self._take_leave():
            time.sleep(LOOKS * LOOK_SECONDS)
        for shard in list(self.held):
            self.give_back(shard)
        self._keeper.kill()

    def _take_leave(self) -> bool:
        """Whether there are others."""
        try:
            return self.presence.count() > 1
        except Exception as error:
            if not is_outage(error):
                raise
            return False
        finally:
            self.presence.leave()


def _watch(container: ServiceContainer, shard: int) -> None:
    try:
        container.wait()
    except Exception as error:
        log.critical("a shard died", service=container.service_name, shard=shard, error=type(error).__name__, exc_info=error)
        os._exit(1)
