"""Load whose outcome is known: a PBX that tells of synthetic calls, and a routed queue with callers and agents."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tests.system import Answer, Client, eventually

DOOR = "/v1/telephony/asterisk/queue-log"
BROKEN = (OSError, http.client.HTTPException)
AGAIN_SECONDS = 0.05
CALLS_AT_ONCE = 8
QUEUES = ("sales", "service", "support")
AGENTS = tuple(f"Agent/{number}" for number in range(8))

Figures = dict[str, dict[str, float]]


@dataclass
class Call:
    """One caller's way through one observed queue, as the lines of the queue_log that tell it."""

    queue: str
    lines: list[str]
    agent: str | None = None
    hold: int = 0
    talk: int = 0
    missed: Counter[str] = field(default_factory=Counter)


def call(random: random.Random, id: str, at: int, queues: Sequence[str] = QUEUES) -> Call:
    queue = random.choice(queues)
    told = Call(queue, [f"{at}|{id}|{queue}|NONE|ENTERQUEUE||0301234567|1"])
    begun = at
    for _ in range(random.choice((0, 0, 1, 2))):
        at += random.randint(1, 5)
        agent = random.choice(AGENTS)
        told.missed[agent] += 1
        told.lines.append(f"{at}|{id}|{queue}|{agent}|RINGNOANSWER|1000")
    at += random.randint(1, 20)
    told.hold = at - begun
    if random.random() < 0.2:
        told.lines.append(f"{at}|{id}|{queue}|NONE|ABANDON|1|1|{told.hold}")
        return told
    told.agent, told.talk = random.choice(AGENTS), random.randint(1, 300)
    told.lines.append(f"{at}|{id}|{queue}|{told.agent}|CONNECT|{told.hold}|{id}.m|1")
    end = random.choice(("COMPLETEAGENT", "COMPLETECALLER"))
    told.lines.append(f"{at + told.talk}|{id}|{queue}|{told.agent}|{end}|{told.hold}|{told.talk}|1")
    return told


def expected_queues(calls: Sequence[Call]) -> Figures:
    rows: Figures = {}
    for one in calls:
        row = rows.setdefault(
            one.queue, dict.fromkeys(("offered", "answered", "abandoned", "hold_seconds", "talk_seconds", "ring_no_answer"), 0)
        )
        row["offered"] += 1
        row["ring_no_answer"] += one.missed.total()
        row["answered" if one.agent else "abandoned"] += 1
        row["hold_seconds"] += one.hold if one.agent else 0
        row["talk_seconds"] += one.talk
    return rows


def expected_agents(calls: Sequence[Call]) -> Figures:
    rows: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(("answered", "talk_seconds", "ring_no_answer"), 0))
    for one in calls:
        if one.agent:
            rows[one.agent]["answered"] += 1
            rows[one.agent]["talk_seconds"] += one.talk
        for agent, times in one.missed.items():
            rows[agent]["ring_no_answer"] += times
    return dict(rows)


class Crew:
    """Threads that work until told to finish, and then end what they began. What goes wrong in one fails the test."""

    def __init__(self) -> None:
        self.finishing = threading.Event()
        self.giving_up = threading.Event()
        self.statuses: Counter[str] = Counter()
        self.refused = ""
        self._threads: list[threading.Thread] = []
        self._faults: list[BaseException] = []

    def hire(self, work: Any, *arguments: Any) -> None:
        def run() -> None:
            try:
                work(*arguments)
            except BaseException as fault:  # noqa: BLE001 - told to the test by `finish`
                if not self.giving_up.is_set():
                    self._faults.append(fault)

        thread = threading.Thread(target=run, name=work.__name__, daemon=True)
        self._threads.append(thread)
        thread.start()

    def finish(self, within: float = 60.0) -> None:
        self.finishing.set()
        deadline = time.monotonic() + within
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.01))
        late = [thread.name for thread in self._threads if thread.is_alive()]
        self.giving_up.set()
        if self._faults:
            raise self._faults[0]
        assert not late, f"not at an end after {within:g} s: {late}; answers so far: {dict(self.statuses)}, last refusal: {self.refused}"

    def ask(self, client: Client, method: str, path: str, body: Any = None, key: str = "", **query: Any) -> Answer | None:
        """One try; None where nothing came back. `key`: its Idempotency-Key."""
        if self.giving_up.is_set():
            raise InterruptedError
        try:
            answer = client.request(method, path, body, headers={"Idempotency-Key": key} if key else None, query=query)
        except BROKEN:
            self.statuses["no answer"] += 1
            return None
        self.statuses[str(answer.status)] += 1
        if answer.status >= 400:
            self.refused = f"{method} {path}: {answer.status} {answer.body.decode(errors='replace')[:300]}"
        return answer

    def insist(self, clients: Sequence[Client], method: str, path: str, body: Any = None, **query: Any) -> Any:
        """Again and again, with whoever of them it may be, until a 2xx; what is refused for good fails the test."""
        for tries in range(10**9):
            answer = self.ask(clients[tries % len(clients)], method, path, body, **query)
            if answer and answer.status < 300:
                return answer.json
            assert answer is None or answer.status >= 500 or answer.status == 429, (method, path, answer)
            self.giving_up.wait(AGAIN_SECONDS)
        return None

    @contextmanager
    def working(self) -> Iterator[Any]:
        try:
            yield self
            self.finish()
        finally:
            self.giving_up.set()


class Pbx(Crew):
    """Posts the lines of many calls, singly and in batches, each until it is acknowledged."""

    def __init__(
        self,
        clients: Sequence[Client],
        seed: int,
        source: str = "pbx",
        threads: int = 3,
        pace: float = 0.05,
        queues: Sequence[str] = QUEUES,
    ) -> None:
        super().__init__()
        self.clients, self.source, self.pace, self.queues = list(clients), source, pace, queues
        self.calls: list[Call] = []
        self.acknowledged: set[str] = set()
        self.posts = self.accepted = self.duplicate = 0
        self._lock = threading.Lock()
        self._began = int(time.time()) - 86400
        for number in range(threads):
            self.hire(self._tell, random.Random(seed * 100 + number), number)

    def _tell(self, random: random.Random, number: int) -> None:
        clients = self.clients[:]
        under_way: list[tuple[Call, list[str]]] = []
        for serial in range(10**9):
            if not self.finishing.is_set():
                while len(under_way) < CALLS_AT_ONCE:
                    told = call(random, f"{self.source}-{number}-{serial}-{len(under_way)}", self._began + serial, self.queues)
                    under_way.append((told, told.lines[:]))
                    with self._lock:
                        self.calls.append(told)
            if not under_way:
                return
            lines = self._next(random, under_way, 1 if random.random() < 0.6 else random.randint(2, 30))
            under_way = [one for one in under_way if one[1]]
            random.shuffle(clients)
            receipt = self.insist(clients, "POST", DOOR, "\n".join(lines), source=self.source)
            assert not receipt["rejected"], receipt
            assert receipt["accepted"] + receipt["duplicate"] == len(lines), receipt
            with self._lock:
                self.posts += 1
                self.accepted += receipt["accepted"]
                self.duplicate += receipt["duplicate"]
                self.acknowledged.update(lines)
            self.finishing.wait(self.pace)

    def _next(self, random: random.Random, under_way: list[tuple[Call, list[str]]], most: int) -> list[str]:
        lines: list[str] = []
        while len(lines) < most and (left := [rest for _, rest in under_way if rest]):
            lines.append(random.choice(left).pop(0))
        return lines

    @property
    def lines(self) -> set[str]:
        return {line for one in self.calls for line in one.lines}

    def check_reports(self, client: Client) -> None:
        """Every line in the figures, exactly once."""
        wanted = expected_queues(self.calls)
        rows = client.get("/v1/reports/queues", source=self.source).ok()["queues"]
        found = {row["queue"]: {figure: row[figure] for figure in wanted[row["queue"]]} for row in rows}
        assert found == wanted, f"found {found}, told {wanted}"
        assert all(row["waiting"] == row["talking"] == 0 for row in rows)
        people = {row["agent"]: row for row in client.get("/v1/reports/agents", source=self.source).ok()["agents"]}
        wanted = expected_agents(self.calls)
        assert {who: {figure: people[who][figure] for figure in row} for who, row in wanted.items() if who in people} == wanted


class Floor(Crew):
    """A routed queue: callers who ask whom to dial, wait, hang up; agents who take, decline, let ring, wrap up."""

    def __init__(
        self, clients: Sequence[Client], seed: int, callers: int = 4, agents: int = 5, name: str = "floor", pool: str = "default"
    ) -> None:
        super().__init__()
        self.clients, self.seed, self.source, self.queue, self.pool = list(clients), seed, name, name, pool
        self.contacts: list[str] = []
        self.outcomes: Counter[str] = Counter()
        self.agents = [f"{name}-{number}" for number in range(agents)]
        self._callers = callers

    def open(self) -> Floor:
        settings = {"mode": "routed", "offer_seconds": 2, "retry_seconds": 0.3, "pool": self.pool}
        self.insist(self.clients, "PUT", f"/v1/queues/{self.queue}", settings)
        for agent in self.agents:
            profile = {"channels": ["voice"], "queues": [self.queue], "address": f"PJSIP/{agent}", "pool": self.pool}
            self.insist(self.clients, "PUT", f"/v1/agents/{agent}", profile)
        for number in range(self._callers):
            self.hire(self._call, random.Random(self.seed * 1000 + number), number)
        self._staff = Crew()
        for number, agent in enumerate(self.agents):
            self._staff.hire(self._serve, random.Random(self.seed * 2000 + number), agent)
        return self

    def finish(self, within: float = 60.0) -> None:
        try:
            super().finish(within)
        finally:
            self.giving_up.set()
            self._staff.finish(15.0)

    def _call(self, random: random.Random, number: int) -> None:
        for serial in range(10**9):
            if self.finishing.is_set():
                return
            id = f"{self.source}-{number}-{serial}"
            body = {"queue": self.queue, "source": self.source, "call": id}
            contact = self.insist(self.clients, "POST", "/v1/contacts", body)["contact"]
            self.contacts.append(contact)
            state = self._wait_for_agent(random, f"/v1/contacts/{quote(self.source)}:{id}")
            self.outcomes[state] += 1
            self.finishing.wait(random.uniform(0, 0.3))  # they talk
            ended_by = random.choice(("caller", "agent"))
            self.insist(self.clients, "POST", f"/v1/contacts/{contact}/end", {"ended_by": ended_by})

    def _wait_for_agent(self, random: random.Random, path: str) -> str:
        patience = time.monotonic() + random.uniform(0.3, 6)
        while time.monotonic() < patience:
            answer = self.ask(random.choice(self.clients), "POST", f"{path}/assignment", wait=1)
            if answer and answer.status == 200 and answer.json["state"] in ("assigned", "observed", "abandoned", "ended"):
                return str(answer.json["state"])
            if not answer or answer.status >= 300:
                assert not answer or answer.status >= 500, answer
                self.giving_up.wait(AGAIN_SECONDS)
        return "impatient"

    def _serve(self, random: random.Random, agent: str) -> None:
        while not self.giving_up.is_set():
            client = random.choice(self.clients)
            state = self._staff.ask(client, "GET", f"/v1/agents/{agent}")
            if state and state.status == 200 and state.json["state"] in ("offline", "wrap_up", "paused"):
                self._staff.ask(client, "PUT", f"/v1/agents/{agent}/state", {"state": "available"})
            found = self._staff.ask(client, "GET", f"/v1/agents/{agent}/offers", wait=0.3)
            if not found or found.status != 200:
                self.giving_up.wait(AGAIN_SECONDS)
                continue
            for offer in found.json["offers"]:
                verb = random.choices(("accept", "reject", "look away"), (85, 12, 3))[0]
                if verb != "look away":
                    answer = self._staff.ask(client, "POST", f"/v1/offers/{offer['id']}/{verb}", {"agent": agent})
                    # 404: made by a routing whose transaction was never committed
                    assert not answer or answer.status in (200, 404, 409) or answer.status >= 500, answer
            self.giving_up.wait(0.02)


def until(crew: Crew, check: Any, within: float = 30.0) -> Any:
    """Load goes on until `check` is true; what went wrong in the load is told first."""
    return eventually(lambda: bool(crew._faults) or check(), within)
