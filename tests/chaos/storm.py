"""Faults under load, over a real broker and database with all five services: what is lost, applied twice or stuck afterwards, and for how long.

    python -m tests.chaos.storm [--seed N] [--minutes M | --seconds S] [--faults kills,wipe,…]

Each fault has a centre of its own: a PBX that tells of calls, a routed queue with callers and agents, an agent with questions to experts, an
administrator who changes people. When the fault is over the load ends, and every service's books are read: each event that anybody
published must have been applied once by everybody who hears it. Wanted: 0 lost, 0 twice, 0 stuck, drained within 30 s after the fault.

What a fault draws comes from the seed and its name alone, so that any of them can be tried again with the seed and the seconds that its line
says; the moments at which the services do their work still differ. Ends with 0 when all is as wanted, with 1 when something is wrong, and
with 2 when nothing is but this machine could not try something that was asked for.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
from kombu import Connection

from shared.contracts import topology
from tests.chaos import checks, synthetic
from tests.chaos.conftest import revive
from tests.chaos.harness import RECOVERY_SECONDS, Chaos, Monkey
from tests.chaos.load import Crew, Floor, Pbx, until
from tests.chaos.proxy import Proxy
from tests.chaos.test_consumer import PREFETCH
from tests.chaos.test_dead_letters import NOW
from tests.stack import Broker, Database, StackError, faketime, new_broker, new_database, process
from tests.stack.postgres import LocalDatabase
from tests.stack.rabbitmq import LocalBroker
from tests.system import COMMAND, SERVICES, Client, eventually

DRAIN_SECONDS = 30.0
PATIENCE_SECONDS = 120.0
CLIENT_SECONDS = 10.0
LEAST_POSTS = 20
BETWEEN_QUESTIONS_SECONDS = 2.2
"""One person may ask 30 questions a minute."""
POISON = "poison"
BROKER_WANTS = 100
"""Megabytes that must be free on the broker's disk."""
DISK_MEGABYTES = {"rabbitmq": 512, "postgresql": 640}


class NotTriedError(Exception):
    """This machine cannot have the fault; the text says what it lacks."""


class Storm(Chaos):
    """A Chaos of which single services have settings of their own, or are programs of their own rather than forks."""

    def __init__(self, broker: Broker, database: Database) -> None:
        super().__init__("deployed", broker, database, SERVICES)
        self.own: dict[str, dict[str, str]] = {}

    def start(self, service: str, *, wait: bool = True, **settings: str) -> None:
        own = self.own.get(service, {})
        with self._turn:
            if "LD_PRELOAD" in own and not self.running(service):
                with self._log_of(service).open("ab") as log:
                    self._processes[service] = subprocess.Popen(  # type: ignore[assignment]
                        [*COMMAND, "service", service], env=self._environment(service, own | settings), stdin=subprocess.DEVNULL,
                        stdout=log, stderr=log, cwd=self.folder, start_new_session=True,
                    )  # fmt: skip
            else:
                super().start(service, wait=False, **own | settings)
        if wait:
            self.wait_ready(service)

    def stop_for_a_while(self, service: str) -> None:
        os.kill(self.pid(service), signal.SIGSTOP)

    def go_on(self, service: str) -> None:
        os.kill(self.pid(service), signal.SIGCONT)


class Questions(Crew):
    """An agent in one long call asks inside, again and again, and the expert answers. What was acknowledged must be there once."""

    def __init__(self, clients: Sequence[Client]) -> None:
        super().__init__()
        self.clients, self.contact = list(clients), ""
        self.asked: list[str] = []

    def open(self) -> Questions:
        # the contact is observed: whoever its agent is may ask, and no fault can take it from them
        lines = (
            f"{int(time.time())}|ask.1|asking|NONE|ENTERQUEUE||0301234567|1",
            f"{int(time.time())}|ask.1|asking|anna|CONNECT|1|ask.2|1",
        )
        self.insist(self.clients, "POST", "/v1/telephony/asterisk/queue-log", "\n".join(lines), source="asking")
        self.contact = eventually(lambda: (found := self.ask(self.clients[0], "GET", "/v1/contacts/asking:ask.1")) and found.ok())[
            "contact"
        ]
        self.insist(self.clients, "PUT", "/v1/experts/bob", {"topics": {"asking": 5}, "cap": 100})
        self.insist(self.clients, "PUT", "/v1/experts/bob/presence", {"state": "available"})
        self.hire(self._ask)
        return self

    def _ask(self) -> None:
        body = {"contact": self.contact, "topic": "asking", "question": "?", "person": "anna"}
        while not self.finishing.is_set():
            id = self._insist("/v1/escalations", body)["id"]
            self.asked.append(id)
            self._insist(f"/v1/escalations/{id}/claim", {"person": "bob"})
            self._insist(f"/v1/escalations/{id}/answer", {"person": "bob", "text": "!"})
            self._insist(f"/v1/escalations/{id}/accept", {"person": "anna"})
            self.finishing.wait(BETWEEN_QUESTIONS_SECONDS)

    def _insist(self, path: str, body: dict[str, Any]) -> Any:
        """Until it is done: 409 says that it was (the answer was lost), or, to a question, that it is being asked. A refusal is final for its key."""
        refusals = 0
        for tries in range(10**9):
            key = f"{len(self.asked)}/{refusals}" if path.endswith("escalations") else ""
            answer = self.ask(self.clients[tries % len(self.clients)], "POST", path, body, key)
            if answer and (answer.status < 300 or (answer.status == 409 and not path.endswith("escalations"))):
                return answer.json
            assert answer is None or answer.status in (404, 409, 429) or answer.status >= 500, (path, answer)
            refusals += answer is not None and answer.status == 404
            if answer and answer.status == 404 and path.endswith("/answer"):
                # a clock that leapt ahead between claim and answer made a long silence of it, and the question was given back
                self._insist(path.removesuffix("answer") + "claim", {"person": body["person"]})
            self.giving_up.wait(0.1)
        return None


class Personnel(Crew):
    """Somebody joins, again and again; im, qa, routing and training hear of them."""

    def __init__(self, clients: Sequence[Client]) -> None:
        super().__init__()
        self.clients = list(clients)
        self.people: set[str] = set()

    def open(self) -> Personnel:
        self.hire(self._join)
        return self

    def _join(self) -> None:
        for number in range(10**9):
            if self.finishing.is_set():
                return
            self.insist(self.clients, "PUT", f"/v1/people/joined-{number}", {"name": f"No {number}", "roles": ["agent"]})
            self.people.add(f"joined-{number}")
            self.finishing.wait(0.3)


@dataclass
class Trial:
    """One fault and all that it is tried on."""

    system: Storm
    monkey: Monkey
    seconds: float
    clients: list[Client] = field(default_factory=list)
    loads: list[Any] = field(default_factory=list)
    extra: set[str] = field(default_factory=set)
    """Events that routing was sent beside what the gateway published."""

    dead: dict[str, int] = field(default_factory=dict)
    """Receiver -> malformed messages that it must have set aside for ever."""

    told: Counter[str] = field(default_factory=Counter)
    """What clients were told by services in trouble."""

    lines: list[Proxy] = field(default_factory=list)
    twin: Chaos | None = None
    until: float = 0.0

    @property
    def pbx(self) -> Pbx:
        found: Pbx = self.loads[0]
        return found

    def going_on(self) -> bool:
        return time.monotonic() < self.until

    def pause(self, least: float, most: float) -> None:
        time.sleep(self.monkey.random.uniform(least, most))

    def progress(self, posts: int) -> None:
        """Wait until so many more posts were acknowledged."""
        enough = self.pbx.posts + posts
        until(self.pbx, lambda: self.pbx.posts >= enough, PATIENCE_SECONDS)

    def ask_what_happens(self) -> None:
        """What a client is told just now."""
        client = self.clients[0]
        for method, path, body in (("POST", "/v1/contacts", {"queue": "probed", "call": "x"}), ("GET", "/v1/agents/floor-0", None)):
            try:
                answer = client.request(method, path, body)
            except OSError as error:
                self.told[f"{method} {path}: {type(error).__name__}"] += 1
                continue
            detail = answer.json.get("detail", "") if answer.status >= 300 else ""
            self.told[f"{method} {path}: {answer.status} {detail}".strip()] += 1


# ---- the faults


def turns(random: random.Random, going_on: Callable[[], bool]) -> Iterator[str]:
    """Services to be hit, in shuffled rounds: each has had its turn when it is over, for the first round is always finished."""
    for number in itertools.count():
        for service in random.sample(SERVICES, len(SERVICES)):
            if number and not going_on():
                return
            yield service


def kills(trial: Trial) -> None:
    done = trial.system.done
    for service in turns(trial.monkey.random, trial.going_on):
        trial.pause(1, 3)
        trial.system.kill(service)
    spared = [service for service in SERVICES if not done[f"kill {service}"]]
    assert not spared, f"never killed: {', '.join(spared)}"


def consumer(trial: Trial, times: int = 20) -> None:
    """Routing is killed again and again while more than its prefetch waits for it."""
    system = trial.system
    stream = synthetic.Stream(system.broker_url, trial.monkey.random)
    with Connection(system.broker_url) as watching:
        while (killed := system.done["kill routing"]) < times:
            if synthetic.backlog(watching)[0] < 3 * PREFETCH:
                stream.send()
            eventually(lambda: synthetic.backlog(watching)[1], RECOVERY_SECONDS, every=0.01)
            trial.monkey.pause(0.1)
            full = synthetic.backlog(watching)[0] > 0  # somebody consumes and something is left
            system.kill("routing")  # unless the broker still told of the one before
            system.done["with full prefetch"] += full and system.done["kill routing"] > killed
    trial.extra |= stream.ids
    assert system.done["with full prefetch"] > times / 2, f"of {times} kills with full prefetch: {system.done['with full prefetch']}"


def consumer_200(trial: Trial) -> None:
    consumer(trial, 200)


def broker(trial: Trial) -> None:
    system = trial.system
    assert system.broker
    while trial.going_on():
        system.kill_broker()
        trial.pause(0, 2)
        system.broker.start()
        trial.progress(LEAST_POSTS)
        system.broker.restart()
        system.done["restart broker"] += 1
        trial.progress(LEAST_POSTS)


def wipe(trial: Trial) -> None:
    while trial.going_on():
        trial.pause(1, 3)
        trial.system.wipe_broker()
        trial.progress(LEAST_POSTS)


def wipe_twice(trial: Trial) -> None:
    """The second wipe comes while what the first one lost is being sent again."""
    while trial.going_on():
        trial.system.wipe_broker()
        trial.pause(0, 3)
        trial.system.wipe_broker()
        trial.progress(LEAST_POSTS)


def database(trial: Trial) -> None:
    system = trial.system
    assert system.database
    while trial.going_on():
        system.database.restart()
        system.done["restart database"] += 1
        trial.progress(LEAST_POSTS)
        system.kill_database()
        trial.pause(0, 2)
        system.database.start()
        trial.progress(LEAST_POSTS)


def disks(trial: Trial) -> None:
    """The broker's disk has less room than the broker wants, so that it takes in nothing more; then no byte is left for the database; then both.
    At last no byte is left for the broker: quorum queues do not come back from that by themselves, so it is restarted when there is room."""
    system = trial.system
    assert system.broker
    assert system.database
    homes = {"broker": Path(system.broker.home).parent, "database": Path(system.database.home).parent}  # type: ignore[attr-defined]
    system.broker.ctl("set_disk_free_limit", f"{BROKER_WANTS}MB")
    share = max(trial.seconds / 4, 10.0)
    below = BROKER_WANTS // 2 * 2**20
    for left in ({"broker": below}, {"database": 0}, {"broker": below, "database": 0}, {"broker": 0}):
        for name, leave in left.items():
            fill(homes[name] / "ballast", leave)
        over = time.monotonic() + share
        while time.monotonic() < over:
            trial.ask_what_happens()
            time.sleep(0.5)
        for name, leave in left.items():
            (homes[name] / "ballast").unlink()
            system.done[f"{name} disk {'below its limit' if leave else 'full'}"] += 1
        if not system.database.running():  # as whoever supervises it would
            system.done["database ended by itself"] += 1
            revive(system.database)
        if left == {"broker": 0}:
            system.kill_broker()
            system.broker.start()
        trial.progress(LEAST_POSTS)


def fill(path: Path, leave: int) -> None:
    """All that is left on the disk but so many bytes."""
    free = os.statvfs(path.parent).f_bavail * os.statvfs(path.parent).f_frsize
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        for _ in range(max(free - leave, 0) // 65536 if leave else 10**9):
            file.write(b"\0" * 65536)
    if not leave:  # the last byte
        with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * 512)


def network(trial: Trial) -> None:
    """Each chunk takes 20 to 200 ms between services and servers, and now and then all lines are reset."""
    proxies = trial.lines
    try:
        while trial.going_on():
            for proxy in proxies:
                proxy.delay = trial.monkey.random.uniform(0.02, 0.2)
            trial.pause(1, 4)
            proxy = trial.monkey.random.choice(proxies)
            trial.system.done["lines reset"] += proxy.reset()
    finally:
        for proxy in proxies:
            proxy.delay = 0.0


def slow(trial: Trial) -> None:
    """Of each 100 ms a service has 10; each of them in turn."""
    share = trial.seconds / len(SERVICES)
    for service in trial.monkey.random.sample(SERVICES, len(SERVICES)):
        over = time.monotonic() + share
        while time.monotonic() < over:
            trial.system.stop_for_a_while(service)
            time.sleep(0.09)
            trial.system.go_on(service)
            time.sleep(0.01)
        trial.system.done[f"{service} slow"] += 1


TRIGGERS = {"routing": "leg", "qa": "contact"}
"""Where an event of the poisonous queue cannot be written."""


def poison(trial: Trial) -> None:
    """1 % of the calls cannot be written by routing and qa until the fault is mended; 1 % of what comes in is no event at all."""
    system, random = trial.system, trial.monkey.random
    for service, table in TRIGGERS.items():
        system.sql(
            service,
            f"create function poisoned() returns trigger language plpgsql as $$ begin if new.queue = '{POISON}' then "
            "raise exception 'not today'; end if; return new; end $$",
        )
        system.sql(service, f"create trigger poisoned before insert on {table} for each row execute function poisoned()")
    spoilt = Pbx(trial.clients, random.randrange(10**6), "spoilt", 1, 0.02, (*["fine"] * 99, POISON))
    # the one in a hundred need not come: this one does
    certain = Pbx(trial.clients, random.randrange(10**6), "certain", 1, 0.5, (POISON,))
    trial.loads += [spoilt, certain]
    while trial.going_on():
        trial.pause(0.2, 0.5)
        events = system.count("gateway", "outbox")
        for receiver in SERVICES:
            while trial.dead.get(receiver, 0) < events / 100:
                trial.dead[receiver] = trial.dead.get(receiver, 0) + 1
                system.publish(malformed(random, f"{receiver}-{trial.dead[receiver]}"), topology.inbox_queue(receiver))
    system.done["malformed"] = sum(trial.dead.values())
    system.done["poisoned calls"] = sum(one.queue == POISON for load in (spoilt, certain) for one in load.calls)

    def is_stopped() -> int:
        return system.count("routing", "set_aside where state in ('retrying', 'waiting')")

    eventually(is_stopped, PATIENCE_SECONDS)
    for _ in range(8):  # the pauses between tries are minutes: let them pass
        for service in TRIGGERS:
            system.sql(service, NOW)
        time.sleep(1.1)
    system.done["dead by poison"] = sum(system.count(one, "set_aside where state = 'dead' and subject <> ''") for one in TRIGGERS)
    for service, table in TRIGGERS.items():
        system.sql(service, f"drop trigger poisoned on {table}")
    for load in (spoilt, certain):
        load.finish(PATIENCE_SECONDS)
    for service in TRIGGERS:
        system.answerline("dlq", "retry", "--service", service, code=None)
        system.sql(service, NOW)


def malformed(random: random.Random, name: str) -> bytes:
    good = synthetic.envelope(
        "gateway.contact_arrived.v1", name, {"number": 1, "queue": "q", "call": name, "outcome": "waiting", "arrived_at": 1e9}
    )
    match random.randrange(5):
        case 0:
            return orjson.dumps(good)[: random.randrange(1, 200)] + name.encode()
        case 1:
            return name.encode() + random.randbytes(50)
        case 2:
            lacking = random.choice(("id", "type", "time", "data", "sequence"))
            return orjson.dumps({key: value for key, value in good.items() if key != lacking})
        case 3:
            return orjson.dumps({**good, "time": name})
        case _:
            return orjson.dumps({**good, "data": [name]})


def duplicates(trial: Trial) -> None:
    """What was published comes again to everybody, a fifth of it, shuffled over 1,000; and so do calls of yesterday, for the first time.
    As much as is worked off meanwhile: this is no flood."""
    system, random = trial.system, trial.monkey.random
    stream = synthetic.Stream(system.broker_url, random)
    with Connection(system.broker_url) as watching:
        while trial.going_on():
            trial.pause(0.5, 1.5)
            if any(synthetic.backlog(watching, receiver)[0] > PREFETCH for receiver in SERVICES):
                continue
            stream.send_shuffled()
            for publisher in SERVICES:
                rows = system.sql(
                    publisher,
                    "select type, cast(body as text) as body from outbox where published_at is not null order by seq desc limit 1000",
                )
                again = random.sample(rows, len(rows) // 5)
                for receiver in SERVICES:
                    bodies = [row.body.encode() for row in again if row.type in topology.SUBSCRIPTIONS[receiver]]
                    if bodies:
                        synthetic.publish(system.broker_url, bodies, topology.inbox_queue(receiver))
                        system.done["sent again"] += len(bodies)
    trial.extra |= stream.ids
    system.done["a day late"] = stream.sent


def clock(trial: Trial) -> None:
    """Each service's clock in turn jumps ten minutes ahead, then ten minutes behind, then right again."""
    share = trial.seconds / len(SERVICES) / 2
    for service in trial.monkey.random.sample(SERVICES, len(SERVICES)):
        for offset in ("+600", "-600"):
            Path(trial.system.own[service]["FAKETIME_TIMESTAMP_FILE"]).write_text(offset)
            trial.system.done[f"{service} {offset} s"] += 1
            time.sleep(share)
        Path(trial.system.own[service]["FAKETIME_TIMESTAMP_FILE"]).write_text("+0")


def sigterm(trial: Trial) -> None:
    system = trial.system
    for service in turns(trial.monkey.random, trial.going_on):
        trial.pause(0.5, 2)
        with system._turn:  # or the supervisor would be first
            began = time.monotonic()
            system.terminate(service)
            system.done["longest end in ms"] = max(system.done["longest end in ms"], round(1000 * (time.monotonic() - began)))
            system.done[f"SIGTERM {service}"] += 1


def frozen(trial: Trial) -> None:
    """Of two processes of each service the active ones stand still, with their connections open; the others take over."""
    system = trial.system
    for service in SERVICES:
        system.stop_for_a_while(service)
    began = time.monotonic()
    time.sleep(1)  # what the broker and the database were still doing for them
    counts = {service: system.count(service, "outbox where published_at is not null") for service in ("gateway", "routing")}
    try:
        for service, count in counts.items():
            eventually(
                lambda service=service, count=count: system.count(service, "outbox where published_at is not null") > count + 10, 90, 0.2
            )
            system.done[f"{service} took over, s"] = round(time.monotonic() - began)
        while trial.going_on():
            time.sleep(0.5)
    finally:
        for service in SERVICES:
            system.go_on(service)
    system.done["frozen, s"] = round(time.monotonic() - began)


def everything(trial: Trial) -> None:
    """All that needs no preparation, in random order."""
    system, monkey = trial.system, trial.monkey
    assert system.broker
    assert system.database

    def freeze() -> None:
        service = monkey.random.choice(SERVICES)
        with system._turn:
            system.stop_for_a_while(service)
            monkey.pause(4)
            system.go_on(service)
        system.done["frozen for a moment"] += 1

    def restart(server: Broker | Database, kill: Callable[[], None]) -> None:
        kill()
        monkey.pause(2)
        server.start()

    def end() -> None:
        with system._turn:
            service = monkey.random.choice(SERVICES)
            system.terminate(service)
            system.done[f"SIGTERM {service}"] += 1

    while trial.going_on():
        trial.pause(0.5, 4)
        action: Callable[[], None] = monkey.random.choices(
            (
                lambda: system.kill(monkey.random.choice(SERVICES)), freeze, end, system.wipe_broker,
                lambda: restart(system.broker, system.kill_broker), lambda: restart(system.database, system.kill_database),
            ), (8, 3, 3, 1, 1, 1),
        )[0]  # fmt: skip
        action()


# ---- what a fault needs beforehand


@contextmanager
def bad_lines(trial: Trial) -> Iterator[None]:
    """Services reach broker and database through proxies; who checks does not."""
    system = trial.system
    proxies, urls = [], {}
    for name in ("ANSWERLINE_BROKER_URL", "ANSWERLINE_DATABASE_URL"):
        parts = urlsplit(system.settings[name].replace("{service}", "SERVICE"))
        proxy = Proxy((parts.hostname or "", parts.port or 0))
        proxies.append(proxy)
        urls[name] = system.settings[name].replace(f"@{parts.hostname}:{parts.port}", f"@{process.LOCAL}:{proxy.port}")
    system.own = {service: dict(urls) for service in SERVICES}
    trial.lines = proxies
    try:
        yield
    finally:
        for proxy in proxies:
            proxy.close()


@contextmanager
def clocks(trial: Trial) -> Iterator[None]:
    library = faketime()
    if not library:
        raise NotTriedError("needs libfaketime: python -m tests.stack install clocks, as root")
    for service in SERVICES:
        offset = trial.system.folder / f"{service}.clock"
        offset.write_text("+0")
        trial.system.own[service] = {
            "LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_CACHE_DURATION": "1",
            "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }  # fmt: skip
    yield


@contextmanager
def twins(trial: Trial) -> Iterator[None]:
    with trial.system.twin() as twin:
        trial.twin = twin
        yield


@contextmanager
def small_disks() -> Iterator[tuple[Broker, Database]]:
    """Servers with file systems of their own."""
    if not (LocalBroker.installed() and LocalDatabase.installed()) or os.geteuid() != 0:
        raise NotTriedError("needs root, to mount small file systems, and installed servers")
    with ExitStack() as stack:
        homes = {}
        for name, size in DISK_MEGABYTES.items():
            folder = process.folder(f"disk-{name}")
            if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}m,mode=755", "tmpfs", folder], capture_output=True).returncode:
                raise NotTriedError("needs the right to mount a small file system")
            stack.callback(subprocess.run, ["umount", "-l", folder], check=False)
            homes[name] = folder / "home"
        servers = LocalBroker(home=str(homes["rabbitmq"])), LocalDatabase(home=str(homes["postgresql"]))
        for server in servers:
            stack.callback(server.remove)
            server.start()
        yield servers


@contextmanager
def nothing(_trial: Trial) -> Iterator[None]:
    yield


@dataclass(frozen=True)
class Fault:
    what: str
    run: Callable[[Trial], None]
    prepare: Callable[[Trial], Any] = nothing
    own_servers: Callable[[], Any] | None = None
    supervised: bool = True
    listed: bool = True
    floor: bool = True


FAULTS: dict[str, Fault] = {
    "kills": Fault("every 1 to 3 s a service is killed, each in its turn", kills),
    "consumer": Fault("routing is killed 20 times with full prefetch", consumer),
    "consumer-200": Fault("routing is killed 200 times with full prefetch", consumer_200, listed=False),
    "broker": Fault("the broker is killed, and restarted cleanly", broker),
    "wipe": Fault("the broker's data are wiped", wipe),
    "wipe-twice": Fault("the broker's data are wiped twice within seconds", wipe_twice),
    "database": Fault("the database is restarted, and killed", database),
    "disks": Fault(
        "the broker's disk is below its limit, the database's full, both, and the broker's full to the last byte",
        disks,
        own_servers=small_disks,
    ),
    "network": Fault("20 to 200 ms of latency, and resets", network, bad_lines),
    "slow": Fault("each service in turn is ten times too slow", slow, supervised=False),
    "poison": Fault("1 % poison and 1 % malformed", poison),
    "duplicates": Fault("20 % duplicates, shuffled over 1,000, and a day late", duplicates),
    "clock": Fault("each clock in turn is 10 min ahead, then behind", clock, clocks),
    "sigterm": Fault("every 0.5 to 2 s a service is told to end, each in its turn", sigterm),
    "frozen": Fault("of two processes of each service the active ones are frozen", frozen, twins),
    "everything": Fault("all of it in random order", everything, listed=False),
}


# ---- trying them


@dataclass
class Outcome:
    fault: str
    wrong: str = ""
    not_tried: str = ""
    drained: float = 0.0
    steps: dict[str, float] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    books: checks.Books = field(default_factory=checks.Books)
    done: dict[str, int] = field(default_factory=dict)
    told: dict[str, int] = field(default_factory=dict)
    busy: float = 0.0


def seed_of(name: str, seed: int) -> int:
    """A fault's own seed, wherever it stands among others."""
    return zlib.crc32(f"{seed} {name}".encode())


def attempt(name: str, seed: int, seconds: float, servers: tuple[Broker, Database]) -> Outcome:
    fault, outcome = FAULTS[name], Outcome(name)
    print(f"\n{name}: {seconds:g} s of seed {seed}; once more: make chaos FAULTS={name} SEED={seed} EACH={seconds:g}", flush=True)
    seed = seed_of(name, seed)
    with ExitStack() as stack:
        try:
            if fault.own_servers:
                servers = stack.enter_context(fault.own_servers())
        except NotTriedError as lacking:
            outcome.not_tried = str(lacking)
            return outcome
        for server in servers:
            revive(server)
        system = Storm(*servers)
        stack.callback(system.remove)
        stack.callback(lambda: [revive(server) for server in servers])
        trial = Trial(system, Monkey(seed), seconds)
        try:
            _play(fault, trial, outcome, seed, stack)
        except NotTriedError as lacking:
            outcome.not_tried = str(lacking)
        except (AssertionError, StackError, InterruptedError, OSError) as failure:
            outcome.wrong = f"{failure}"
            traceback.print_exc()
            with contextlib.suppress(Exception):
                print(system.story(), file=sys.stderr)
        outcome.done, outcome.told = dict(system.done), dict(trial.told)
        outcome.busy = os.getloadavg()[0] / (os.cpu_count() or 1)
    return outcome


def _play(fault: Fault, trial: Trial, outcome: Outcome, seed: int, stack: ExitStack) -> None:
    system = trial.system
    system.migrate()
    stack.enter_context(fault.prepare(trial))
    trial.clients = [Client(one.address, system.key, CLIENT_SECONDS) for one in (system, trial.twin) if one]
    for service in SERVICES:
        system.start(service, wait=False)
    system.all_ready()
    if twin := trial.twin:
        for service in SERVICES:
            twin.start(service, wait=False)
        twin.wait_ready("gateway")
    loads: list[Any] = [Pbx(trial.clients, seed), Personnel(trial.clients).open(), Questions(trial.clients).open()]
    floor = Floor(trial.clients, seed).open()
    trial.loads = [*loads, floor]
    supervised = system.supervised() if fault.supervised else contextlib.nullcontext()
    try:
        with supervised:
            trial.progress(LEAST_POSTS)
            trial.until = time.monotonic() + trial.seconds
            fault.run(trial)
            over = time.monotonic()
            system.all_ready()
            outcome.steps["ready"] = time.monotonic() - over
            for load in trial.loads:
                load.finish(PATIENCE_SECONDS)
                outcome.steps[type(load).__name__] = time.monotonic() - over
            checks.wait_for_rest(system, trial.extra, PATIENCE_SECONDS)
            outcome.drained = time.monotonic() - over
            outcome.books = checks.balance(system, trial.extra)
            wrong = outcome.books.wrong(trial.dead)
            assert not wrong, wrong
            questions, personnel = trial.loads[2], trial.loads[1]
            for pbx in [load for load in trial.loads if isinstance(load, Pbx)]:
                outcome.figures |= {f"{pbx.source} {key}": value for key, value in checks.pbx(system, pbx).items()}
            outcome.figures |= checks.floor(system, floor)
            outcome.figures["questions"] = checks.questions(system, questions.contact, questions.asked)
            outcome.figures["people"] = checks.people(system, personnel.people)
            outcome.figures["events in the stream once"] = checks.stream(system)
    finally:
        for load in trial.loads:
            load.giving_up.set()
    asked = ("75", "0") if any(what.startswith("SIGTERM") for what in system.done) else ("75",)  # 75: another had its lease meanwhile
    unasked = [what for what in system.done if " exited " in what and not what.endswith(asked)]
    assert not unasked, f"a process ended by itself: {unasked}"
    assert outcome.drained <= DRAIN_SECONDS, f"drained only after {outcome.drained:.0f} s"


def show(outcome: Outcome) -> None:
    state = f"NOT TRIED: {outcome.not_tried}" if outcome.not_tried else "WRONG" if outcome.wrong else "ok"
    books = outcome.books
    print(f"\n== {outcome.fault}: {FAULTS[outcome.fault].what}: {state}")
    if outcome.not_tried:
        return
    print(f"   events {books.events}, applied {books.applied}, lost {books.lost}, twice {books.twice}, stuck {books.stuck}, "
          f"drained after {outcome.drained:.1f} s, load {outcome.busy:.1f} a core")  # fmt: skip
    print(f"   done: {outcome.done}")
    print("   after the fault: " + ", ".join(f"{what} {seconds:.1f} s" for what, seconds in outcome.steps.items()))
    print(f"   load: {outcome.figures}")
    for receiver, sums in books.sums.items():
        print(f"   {receiver:9}" + "  ".join(f"{bucket} {number}" for bucket, number in sums.items()))
    for told, times in sorted(outcome.told.items()):
        print(f"   a client was told {times} times: {told}")
    if outcome.wrong:
        print(f"   {outcome.wrong.splitlines()[0][:600] if outcome.wrong else ''}")
    sys.stdout.flush()


def verdict(outcomes: Sequence[Outcome]) -> int:
    """How it ends: 1 when something is wrong, or else 2 when something could not be tried, or else 0."""
    return 1 if any(one.wrong for one in outcomes) else 2 if any(one.not_tried for one in outcomes) else 0


def main() -> int:
    listed = [name for name, fault in FAULTS.items() if fault.listed]
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.storm", description="Faults under load, and what they did.")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument(
        "--minutes", type=float, default=4.0, help="that the faults last, all together; making and checking each comes on top"
    )
    parser.add_argument("--seconds", type=float, help="that each fault lasts, instead of its share of the minutes")
    parser.add_argument("--faults", help=f"of {', '.join(FAULTS)}")
    parser.add_argument("--long", action="store_true", help="those that take long, too")
    options = parser.parse_args()
    names = options.faults.split(",") if options.faults else list(FAULTS) if options.long else listed
    if unknown := set(names) - set(FAULTS):
        parser.error(f"no such fault: {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
    seconds = options.seconds or round(60 * options.minutes / len(names), 1)
    print(f"seed {options.seed}, {seconds:g} s each of {', '.join(names)}", flush=True)
    outcomes = []
    process.root()
    with new_broker() as broker, new_database() as database:
        for name in names:
            outcomes.append(attempt(name, options.seed, seconds, (broker, database)))
            show(outcomes[-1])
    print(f"\n{'fault':14}{'events':>8}{'lost':>6}{'twice':>6}{'stuck':>6}{'dead':>6}{'drained s':>11}  ")
    for one in outcomes:
        books = one.books
        told = (one.not_tried and "not tried") or (one.wrong and "WRONG") or "ok"
        print(f"{one.fault:14}{books.events:8}{books.lost:6}{books.twice:6}{books.stuck:6}{books.dead:6}{one.drained:11.1f}  {told}")
    not_tried = [one.fault for one in outcomes if one.not_tried]
    print(f"seed {options.seed}, {seconds:g} s each: {sum(not one.wrong and not one.not_tried for one in outcomes)} of {len(outcomes)} as wanted"
          f", {len(not_tried)} NOT TRIED{': ' + ', '.join(not_tried) if not_tried else ''}")  # fmt: skip
    return verdict(outcomes)


if __name__ == "__main__":
    sys.exit(main())
