"""The centre's own log through another policy: replayed by command, and in the shadow of the one in force."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from click.testing import CliRunner
from sqlalchemy import Connection, MetaData, insert

from services.routing import policy_store, shadow_store, store
from services.routing.domain.desk import Desk
from services.routing.domain.entities import Agent, Contact, Queue
from services.routing.domain.errors import RoutingError
from services.routing.interval_store import agent_span
from services.routing.metrics import RoutingMetrics
from services.routing.rulebook import put_shadow
from services.routing.shadows import Shadows
from services.routing.simulation import commands, log, shadow
from services.routing.simulation.scenario import Scenario
from shared.bus.outbox import UnitOfWork
from shared.bus.tables import BusTables
from shared.db.engine import Database
from shared.errors import Invalid, NotFound

DAY = 1_790_000_000.0
UTC = ZoneInfo("UTC")
VIP = 'segments: [{name: vip, when: tier == "vip", weight: 20, head_start_seconds: 300}]'


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = Database(f"sqlite:///{tmp_path / 'routing.sqlite3'}")
    store.metadata.create_all(found.engine)
    yield found
    found.close()


def fill(connection: Connection, contacts: int = 120) -> None:
    """Two agents, one queue under the policy `sales`, more calls than they manage; each sixth caller is a VIP."""
    connection.execute(insert(store.queue).values(**Queue("sales", policy="sales", required_skills={"sales": 1}).to_row()))
    for name in ("ann", "ben"):
        agent = Agent(name, name=name.title(), skills={"sales": 3}, channels=["voice"])
        connection.execute(insert(store.agent).values(**agent.to_row(), shard=0))
        span = {
            "agent": name,
            "seq": 1,
            "since": DAY - 60,
            "until": DAY + 20_000,
            "state": "available",
            "reason": "",
            "presence": "available",
        }
        connection.execute(insert(agent_span).values(**span))
    policy_store.put(connection, "sales", "bound_seconds: 600", "ann", DAY)
    policy_store.activate(connection, "sales", 1, "ann", DAY)
    chance = np.random.default_rng(3)
    free = [DAY, DAY]
    for number, at in enumerate(sorted(chance.uniform(DAY, DAY + 7200, contacts).tolist())):
        vip = number % 6 == 0
        starts, patience = max(min(free), at), chance.exponential(400)
        answered = starts - at <= patience
        ends = starts + chance.exponential(110) + 1 if answered else at + patience
        if answered:
            free[free.index(min(free))] = ends
        facts = {"tier": "vip", "value": 5} if vip else {}
        contact = Contact(f"c{number:05}", "sales", "voice", at, place_at=at, facts=facts, state="ended" if answered else "abandoned")
        connection.execute(insert(store.contact).values(**contact.to_row(), shard=0))
        leg = {
            **dict.fromkeys(store.LEG_COLUMNS), "contact": contact.id, "number": 1, "source": "pbx", "queue": "sales", "channel": "voice",
            "observed": False, "agent": "Ann" if answered else None, "arrived_at": at, "answered_at": starts if answered else None,
            "ended_at": ends, "outcome": "completed" if answered else "abandoned", "kind": "inbound", "sequence": number + 1,
        }  # fmt: skip
        connection.execute(insert(store.leg).values(**leg))


def test_the_log_becomes_a_case(database: Database) -> None:
    with database.transaction() as connection:
        fill(connection, 30)
        late = {**dict.fromkeys(store.LEG_COLUMNS), "contact": "late", "number": 1, "source": "pbx", "queue": "sales", "channel": "voice"}
        late |= {"observed": False, "arrived_at": DAY + 9000, "outcome": "waiting", "kind": "inbound", "sequence": 99}
        connection.execute(insert(store.leg).values(**late))
    with database.reading() as connection:
        found = log.read(connection, DAY, DAY + 10_000, Scenario())
        assert (len(found.record), found.left_out) == (30, 1)
        assert {shift[0]: (shift.since, shift.until) for shift in found.shifts} == dict.fromkeys(("ann", "ben"), (DAY, DAY + 10000))
        assert set(found.record.agent) <= {"ann", ""}  # by id, though legs tell the name
        assert found.record.values is not None
        assert sorted(set(found.record.values.tolist())) == [1.0, 5.0]
        assert found.policies == {"sales": "bound_seconds: 600"}
        assert log.changed(found, "x", None) == {"sales": "x"}
        with pytest.raises(NotFound):
            log.read(connection, DAY - 900, DAY - 800, Scenario())


def test_an_observed_queue_can_be_replayed_too(database: Database) -> None:
    """Nobody told of its agents but their calls."""
    with database.transaction() as connection:
        for number in range(12):
            at = DAY + 100.0 * number
            leg = {
                **dict.fromkeys(store.LEG_COLUMNS),
                "contact": f"o{number}",
                "number": 1,
                "source": "pbx",
                "queue": "old",
                "channel": "voice",
            }
            leg |= {"observed": True, "agent": "Eva", "arrived_at": at, "answered_at": at + 5, "ended_at": at + 90, "outcome": "completed"}
            connection.execute(insert(store.leg).values(**(leg | {"kind": "inbound", "sequence": number})))
    with database.reading() as connection:
        found = log.read(connection, DAY, DAY + 5000, Scenario())
    assert [worker.id for worker in found.agents] == ["Eva"]
    assert found.agents[0].profile["queues"] == ["old"]
    assert [queue.mode for queue in found.record.queues] == ["routed"]
    told = shadow.compare(found, "standard", "bound_seconds: 60", UTC)
    assert told["contacts"] == 12
    assert told["figures"]["abandoned"]["live"] == 0
    assert log.changed(found, "x", "standard") == {"": "x", "standard": "x"}  # the queue names no policy


def test_a_shadow_that_favours_vips_shows_it(database: Database) -> None:
    with database.transaction() as connection:
        fill(connection)
        found = log.read(connection, DAY, DAY + 10_000, Scenario())
    told = shadow.compare(found, "sales", VIP, UTC)["figures"]
    assert told["value_weighted_wait_s"]["gap"] < 0
    assert told["value_weighted_wait_s"]["gap"] == pytest.approx(
        told["value_weighted_wait_s"]["shadow"] - told["value_weighted_wait_s"]["live"]
    )
    same = shadow.compare(found, "sales", "bound_seconds: 600", UTC)["figures"]
    assert {one["gap"] for one in same.values()} == {0.0}


def test_a_shadow_is_kept_compared_and_ended(database: Database) -> None:
    desk = Desk()
    with database.transaction() as connection:
        fill(connection, 5)
        with pytest.raises(RoutingError, match="no policy care"):
            put_shadow(connection, desk, "care", VIP, "ann")
        with pytest.raises(Invalid, match="line 1"):
            put_shadow(connection, desk, "sales", "weight: 5", "ann")
        with pytest.raises(Invalid, match="queues that do not exist: elsewhere"):
            put_shadow(connection, desk, "sales", "overflow: [{after_seconds: 5, to: elsewhere}]", "ann")
        first = put_shadow(connection, desk, "sales", VIP, "ann")
        assert (first["contacts"], first["compared_at"], first["created_by"]) == (0, None, "ann")
        row = shadow_store.due(connection, DAY)
        assert row is not None
        compared = {"contacts": 5, "figures": {"abandoned": {"live": 3.0, "shadow": 2.0, "gap": -1.0, "half": 0.1}}}
        shadow_store.note(connection, row, compared, DAY)
        assert shadow_store.due(connection, DAY + 10) is None
        assert shadow_store.due(connection, DAY + shadow_store.EVERY_SECONDS) is not None
        assert shadow_store.gaps(connection) == {"sales": (5, {"abandoned": -1.0})}
        told = {metric.name: metric.samples for metric in RoutingMetrics.families(None, connection)}  # type: ignore[arg-type]
        assert [(one.labels, one.value) for one in told["answerline_routing_shadow_gap"]] == [
            ({"policy": "sales", "figure": "abandoned"}, -1.0)
        ]
        assert [(one.labels, one.value) for one in told["answerline_routing_shadow_contacts"]] == [({"policy": "sales"}, 5)]
        assert "answerline_routing_contacts" in told
        assert put_shadow(connection, desk, "sales", VIP, "ben")["contacts"] == 5  # the same document again
        put_shadow(connection, desk, "sales", VIP + "\nbound_seconds: 60", "ben")
        shadow_store.note(connection, row, compared, DAY)  # of the one that was replaced meanwhile
        assert shadow_store.get(connection, "sales")["contacts"] == 0
        shadow_store.end(connection, "sales")
        with pytest.raises(NotFound, match="no shadow"):
            shadow_store.get(connection, "sales")


def test_the_comparison_is_made_by_another_process(database: Database, tmp_path: Path) -> None:
    with database.transaction() as connection:
        fill(connection, 20)
        shadow_store.put(connection, "sales", VIP, "ann", DAY)
    shadows = Shadows(UnitOfWork(database, BusTables(MetaData())), f"sqlite:///{tmp_path / 'routing.sqlite3'}", "UTC")
    deadline = time.monotonic() + 110
    told: dict = {}
    while not told.get("compared_at") and time.monotonic() < deadline:
        shadows.step()
        time.sleep(0.05)
        with database.reading() as connection:
            told = shadow_store.get(connection, "sales")
    shadows.close()
    # those contacts are older than a day: there is nothing to compare yet, and it says so
    assert told["problem"].startswith("no contact of that time")


class Comparison:
    """A process that prints this and ends so, or cannot be started; it takes ten seconds."""

    def __init__(self, now: list[float], told: bytes, returncode: int) -> None:
        self.now, self.told, self.returncode, self.begun, self.killed = now, told, returncode, 0, 0

    def __call__(self, _command: list[str], *, stdout: IO[bytes], **_options: object) -> Comparison:
        if self.returncode < 0:
            raise OSError("no memory")
        self.begun += 1
        stdout.write(self.told)
        return self

    def poll(self) -> int:
        self.now[0] += 10.0
        return self.returncode


@pytest.mark.parametrize(
    ("told", "ended", "problem"),
    [
        (b'{"contacts": 3, "figures": {}}', 0, None),
        (b"Traceback", 1, "the comparison failed"),
        (b"no JSON", 0, "the comparison failed"),
        (b"", -1, "the comparison failed"),
    ],
)
def test_a_comparison_that_fails_says_so_and_none_takes_more_than_half_the_time(
    database: Database, monkeypatch: pytest.MonkeyPatch, told: bytes, ended: int, problem: str | None
) -> None:
    now = [1000.0]
    monkeypatch.setattr("services.routing.shadows.clock.monotonic", lambda: now[0])
    process = Comparison(now, told, ended)
    monkeypatch.setattr("services.routing.shadows.subprocess.Popen", process)
    with database.transaction() as connection:
        for name in ("care", "sales"):
            shadow_store.put(connection, name, VIP, "ann", DAY)
    shadows = Shadows(UnitOfWork(database, BusTables(MetaData())), "sqlite://", "UTC")
    shadows.step()
    if process.begun:
        shadows.step()
        for _ in range(3):
            shadows.step()  # rests
        assert process.begun == 1
    with database.reading() as connection:
        care = shadow_store.get(connection, "care")
        assert (care["problem"] or "").startswith(problem or "") and bool(care["problem"]) == bool(problem)
        assert shadow_store.get(connection, "sales")["compared_at"] is None
    now[0] += 11.0
    shadows.step()
    shadows.step()
    with database.reading() as connection:
        assert shadow_store.get(connection, "sales")["compared_at"] is not None


def test_the_replay_command(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with database.transaction() as connection:
        fill(connection)
    (tmp_path / "vip.yaml").write_text(VIP)
    monkeypatch.setenv("ANSWERLINE_DATABASE_URL", f"sqlite:///{tmp_path / '{service}'}.sqlite3")
    monkeypatch.setenv("ANSWERLINE_DATA", str(tmp_path))
    options = ["--from", "2026-09-21", "--to", "2026-09-22", "--policy", str(tmp_path / "vip.yaml"), "--seeds", "2", "--jobs", "1"]
    told = json.loads(CliRunner().invoke(commands.replay, [*options, "--json"], catch_exceptions=False).stdout)
    segments = {row["name"]: row for row in told["by_segment"]}
    assert segments["vip"]["difference"]["mean"] < segments["everyone"]["difference"]["mean"]
    assert segments["vip"]["wait_s"]["changed"] < segments["everyone"]["wait_s"]["changed"] / 2
    assert told["another_agent"] > 0
    assert set(told["policies"]) == {"changed", "in force"}
    with pytest.raises(Invalid, match="--from 2026-09-22 is not before --to 2026-09-21"):
        CliRunner().invoke(commands.replay, ["--from", "2026-09-22", "--to", "2026-09-21", *options[4:]], catch_exceptions=False)
    with pytest.raises(Invalid, match="no queue goes by a policy nothing"):
        CliRunner().invoke(commands.replay, [*options, "--as", "nothing"], catch_exceptions=False)
