"""A System that is broken on purpose: kept up as a supervisor would, on servers that can be killed, with twins of its processes."""

from __future__ import annotations

import copy
import http.client
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from tests.stack import Broker, Database
from tests.stack.process import port
from tests.system import CORE, Client, System, eventually

SUPERVISE_EVERY = 0.05
RECOVERY_SECONDS = 60.0


class Chaos(System):
    """`broker` and `database` are ours alone, so that they can be killed; the system lives in the broker's first vhost, which a wipe
    brings back by itself."""

    def __init__(self, mode: str, broker: Broker | None = None, database: Database | None = None, services: tuple[str, ...] = CORE) -> None:
        super().__init__(mode, broker and Broker(broker.url), database, services)
        self.broker, self.database = broker, database
        self.done: Counter[str] = Counter()
        """What was done to it, and `<service> exited <code>` where a process ended without being killed."""
        self._turn = threading.RLock()

    @property
    def apart(self) -> tuple[str, ...]:
        """The services whose processes can be killed one by one."""
        return self.services if self.deployed else ("gateway",)

    # Dying and coming back

    def start(self, service: str, *, wait: bool = True, **settings: str) -> None:
        with self._turn:
            super().start(service, wait=False, **settings)
        if wait:
            self.wait_ready(service)

    def kill(self, service: str) -> None:
        with self._turn:
            if self.running(service):
                super().kill(service)
                self.done[f"kill {service}" if self.deployed else "kill all"] += 1

    def kill_broker(self) -> None:
        assert self.broker
        self.broker.kill()
        self.done["kill broker"] += 1

    def kill_database(self) -> None:
        assert self.database
        self.database.kill()
        self.done["kill database"] += 1

    def wipe_broker(self) -> None:
        assert self.broker
        self.broker.wipe()
        self.done["wipe broker"] += 1

    @contextmanager
    def supervised(self) -> Iterator[Self]:
        """Whatever ends, by our hand or by itself, is started again at once. Leaves the block with everything up and ready."""
        over = threading.Event()

        def supervise() -> None:
            while not over.wait(SUPERVISE_EVERY):
                for service in self.apart:
                    with self._turn:
                        if self.running(service) or over.is_set():
                            continue
                        code = self._processes[self._process_of(service)].poll()
                        if code != -signal.SIGKILL:
                            self.done[f"{service} exited {code}"] += 1
                        self.start(service, wait=False)

        thread = threading.Thread(target=supervise, name="supervisor", daemon=True)
        thread.start()
        try:
            yield self
            self.all_ready()
        finally:
            over.set()
            thread.join()

    def all_ready(self) -> None:
        try:
            eventually(lambda: all(self.ready(service) for service in self.apart), RECOVERY_SECONDS)
        except AssertionError:
            states = {service: self.state(service) for service in self.apart}
            logs = (f"--- {service}:\n{self.log(service)}" for service in self.apart)
            raise AssertionError("\n".join([f"not ready: {states}", *logs])) from None

    def state(self, service: str) -> str:
        """What /readyz says, or why it says nothing."""
        try:
            return self.internal(service).get("/readyz").body.decode()
        except (OSError, http.client.HTTPException) as error:
            return f"{type(error).__name__}, {'running' if self.running(service) else 'ended'}"

    @contextmanager
    def twin(self) -> Iterator[Chaos]:
        """A second set of processes, not started, on the same servers, with ports of its own. Killed at the end."""
        twin = copy.copy(self)
        twin.ports = {name: port() for name in self.ports}
        twin.settings = self.settings | {"ANSWERLINE_HTTP": f"127.0.0.1:{twin.ports['http']}"}
        twin._processes = {}
        Client.__init__(twin, ("127.0.0.1", twin.ports["http"]), self.key)
        try:
            yield twin
        finally:
            for process in twin._processes.values():
                process.kill()
                process.wait()

    # Looking inside

    def count(self, service: str, what: str) -> int:
        return int(self.sql(service, f"select count(*) from {what}")[0][0])

    def ids(self, service: str, what: str) -> set[str]:
        return {str(row[0]) for row in self.sql(service, f"select id from {what}")}

    def story(self) -> str:
        """What may explain a failure."""
        told = [f"done: {dict(self.done)}"]
        for table in ("tally", "checkpoint"):
            told.append(f"{table}: {[tuple(row) for row in self.sql('routing', f'select * from {table}')]}")
        if self.broker:
            told.append(self.broker.ctl("list_queues", "name", "messages", "messages_unacknowledged", "consumers"))
        return "\n".join([*told, *(f"--- {service}:\n{self.log(service, 5000)}" for service in self.apart)])


class Monkey:
    """Does things at random moments; everything it draws comes from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def pause(self, most: float) -> None:
        """The random moment: not to wait for anything."""
        time.sleep(self.random.uniform(0, most))

    def plan(self, actions: dict[Callable[[], Any], int]) -> list[Callable[[], Any]]:
        planned = [action for action, times in actions.items() for _ in range(times)]
        self.random.shuffle(planned)
        return planned
