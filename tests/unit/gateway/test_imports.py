"""Tables of agents, skills, certificates and customers: in, out, and in again without a change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.gateway import imports, store
from services.gateway.imports import LEFT_ALONE_SECONDS, SLICE, import_job, import_row
from services.gateway.store import customer, customer_number
from shared import clock
from shared.errors import Conflict, NotFound, Unavailable
from tests.unit.conftest import MakeUnits, SetClock
from tests.unit.gateway.door import Doors

BLANK = {"name": "", "skills": {}, "channels": [], "queues": [], "address": "", "aliases": [], "languages": {}, "regions": [], "site": "",
         "team": "", "employment": "", "pool": "default", "capacity": {}}  # fmt: skip
CUSTOMERS = "id,value,tier,numbers\r\nc1,1200.5,gold,+49 30 1234567|+852 6778 6396\r\nc2,,,\r\n"


class Routing:
    """Keeps agents as routing does; `fails` is raised by the next changes, one by one; `spoken`: of whom training has said something."""

    def __init__(self) -> None:
        self.agents: dict[str, dict[str, Any]] = {}
        self.fails: list[Exception | None] = []
        self.changes = 0
        self.spoken: tuple[str, ...] = ()

    def spoken_for(self, agents: list[str]) -> list[str]:
        return [id for id in agents if id in self.spoken]

    def list_agents(self, after: str = "", limit: int = 100) -> dict[str, Any]:
        ids = sorted(id for id in self.agents if id > after)
        return {"items": [self.agents[id] for id in ids[:limit]], "next": ids[limit - 1] if len(ids) > limit else None}

    def get_agent(self, agent_id: str) -> dict[str, Any]:
        if agent_id not in self.agents:
            raise NotFound("no such agent")
        return self.agents[agent_id]

    def _change(self) -> None:
        self.changes += 1
        if self.fails and (failure := self.fails.pop(0)):
            raise failure

    def put_agent(self, agent_id: str, profile: dict[str, Any]) -> None:
        self._change()
        assert profile.keys() == BLANK.keys()
        kept = self.agents.get(agent_id, {"id": agent_id, "certificates": None, "state": "offline"})
        self.agents[agent_id] = {**kept, **profile}

    def certify(self, agent_id: str, channel: str, until: float | None) -> None:
        self._change()
        agent = self.agents[agent_id]
        agent["certificates"] = {**(agent["certificates"] or {}), channel: until}


class Tables(Doors):
    def __init__(self, make_units: MakeUnits) -> None:
        super().__init__(make_units(store.metadata))
        self.routing = self.service.routing = Routing()

    def post(self, kind: str, table: str | bytes, key: str = "supervisor", **query: str) -> Any:
        text = "&".join(f"{name}={value}" for name, value in query.items())
        return self("POST", f"/v1/imports/{kind}?{text}", table, key, "text/csv")

    def report(self, kind: str, table: str | bytes, **query: str) -> tuple[int, int, int, int]:
        """(created, updated, unchanged, rejected)"""
        answer = self.post(kind, table, **query)
        assert answer.status == 200, answer
        return tuple(answer.json[name] for name in ("created", "updated", "unchanged", "rejected"))  # type: ignore[return-value]

    def export(self, kind: str) -> bytes:
        status, headers, body = self.raw("GET", f"/v1/exports/{kind}", key="supervisor")
        assert (status, headers["Content-Type"]) == (200, "text/csv; charset=utf-8")
        return body

    def left(self) -> int:
        return len(self.kept(import_job)) + len(self.kept(import_row))


@pytest.fixture
def tables(make_units: MakeUnits) -> Iterator[Tables]:
    tables = Tables(make_units)
    yield tables
    assert tables.left() == 0, "an import that is over leaves nothing behind"


# ---- customers


def test_customers_are_imported_and_the_same_again_changes_nothing(tables: Tables) -> None:
    assert tables.report("customers", CUSTOMERS, dry_run="true") == (2, 0, 0, 0)
    assert tables.kept(customer) == []
    assert tables.report("customers", CUSTOMERS) == (2, 0, 0, 0)
    assert tables("GET", "/v1/customers/c1", key="supervisor").json == {
        "id": "c1", "value": 1200.5, "buying_power": None, "tier": "gold", "preferred_channel": "", "language": "", "region": "", "site": "",
        "numbers": ["+49301234567", "+85267786396"],
    }  # fmt: skip
    assert tables.report("customers", CUSTOMERS) == (0, 0, 2, 0)
    assert tables.report("customers", "id;tier\nc1;silver\nc3;\n") == (1, 1, 0, 0)
    told = tables("GET", "/v1/customers/c1", key="supervisor").json
    assert (told["tier"], told["value"], len(told["numbers"])) == ("silver", 1200.5, 2), "what the table has no column of stays"


def test_one_row_that_is_wrong_keeps_all_out_unless_rows_stand_for_themselves(tables: Tables) -> None:
    wrong = "id,value,numbers\na,1,+49301234567\nb,much,\n,1,\n+49301234567,,\nc,-1,\nd,,12\na,2,\n"
    answer = tables.post("customers", wrong)
    assert answer.status == 422
    assert [(one["line"], one["column"]) for one in answer.json["rows"]] == [
        (3, "value"), (4, "id"), (5, "id"), (6, "value"), (7, "numbers"), (8, "id"),
    ]  # fmt: skip
    assert "line 2 already" in answer.json["rows"][-1]["reason"]
    assert "+4930" not in str(answer.json)
    assert tables.kept(customer) == tables.kept(customer_number) == []
    dry = tables.post("customers", wrong, dry_run="true")
    assert (dry.status, dry.json["created"], dry.json["rejected"], dry.json["written"]) == (200, 1, 6, False)
    assert dry.json["errors"] == answer.json["rows"]
    assert tables.report("customers", wrong, by_row="true") == (1, 0, 0, 6)
    assert [row.id for row in tables.kept(customer)] == ["a"]


def test_only_the_first_hundred_errors_are_told(tables: Tables) -> None:
    answer = tables.post("customers", "id,value\n" + "".join(f"c{number},x\n" for number in range(300)), dry_run="true").json
    assert (answer["rejected"], len(answer["errors"])) == (300, 100)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("id\né".encode("latin-1"), "CSV UTF-8"),
        (b"", "the file is empty"),
        (b"name\nx\n", "known are id"),
        (b"tier\ngold\n", "the column id is missing"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused(tables: Tables, table: bytes, says: str) -> None:
    answer = tables.post("customers", table)
    assert (answer.status, says in answer.json["detail"]) == (422, True), answer


def test_who_may_and_what_there_is(tables: Tables) -> None:
    assert [tables.post("customers", CUSTOMERS, key=key).status for key in ("", "agent", "telephony")] == [401, 403, 403]
    assert [tables("GET", "/v1/exports/customers", key=key).status for key in ("", "agent")] == [401, 403]
    assert tables.post("dogs", CUSTOMERS).status == tables("GET", "/v1/exports/dogs", key="supervisor").status == 404
    assert "agents, skills" in tables.post("dogs", CUSTOMERS).json["detail"]


WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=8).map(str) | st.sampled_from(
    ["=1+1", "'=x", "-2", "@a", "a|b", "a=b\\"]
)
IDS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=8).filter(
    lambda text: text[0] != "+"
)
SIZES = st.none() | st.floats(0, 1e15)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(IDS, st.tuples(SIZES, WORDS, WORDS, st.sets(st.sampled_from(["+49301234567", "+85267786396"]))), min_size=1, max_size=4)
)
def test_what_is_exported_can_be_imported_without_a_change(tables: Tables, known: dict[str, Any]) -> None:
    from services.gateway import customers

    with tables.units() as work:
        work.connection.execute(customer.delete())
        work.connection.execute(customer_number.delete())
    customers.put_all(tables.units, [
        {"id": id, "value": size, "buying_power": None, "tier": tier, "preferred_channel": "", "language": word, "region": "", "site": "", "numbers": sorted(numbers)}
        for id, (size, tier, word, numbers) in known.items()
    ])  # fmt: skip
    table = tables.export("customers")
    assert tables.report("customers", table) == (0, 0, len(known), 0)
    with tables.units() as work:
        work.connection.execute(customer.delete())
        work.connection.execute(customer_number.delete())
    assert tables.report("customers", table) == (len(known), 0, 0, 0)
    assert tables.export("customers") == table


# ---- agents


AGENTS = "id,name,channels,languages,capacity,aliases\na1,Ann,voice|chat,zh=5|en=3,chat=33,Agent/1|PJSIP/1\na2,Bo,voice,,,\n"


def test_agents_their_skills_and_certificates(tables: Tables) -> None:
    assert tables.report("agents", AGENTS) == (2, 0, 0, 0)
    assert tables.routing.agents["a1"].items() >= {
        "name": "Ann", "channels": ["voice", "chat"], "languages": {"zh": 5, "en": 3}, "capacity": {"chat": 33}, "aliases": ["Agent/1", "PJSIP/1"],
        "pool": "default",
    }.items()  # fmt: skip
    assert tables.report("skills", "agent,skill,level\na1,sales,5\na1,billing,2\na2,sales,1\n") == (3, 0, 0, 0)
    assert tables.report("certificates", "agent,channel,until\na1,voice,2027-01-31T00:00:00Z\na2,chat,\n") == (2, 0, 0, 0)
    assert tables.routing.agents["a1"]["certificates"] == {"voice": clock.from_text("2027-01-31T00:00:00Z")}
    assert tables.report("agents", AGENTS.replace("Ann", "Anna")) == (0, 1, 1, 0)
    assert tables.routing.agents["a1"]["skills"] == {"sales": 5, "billing": 2}, "skills are a table of their own"
    assert tables.report("skills", "agent,skill,level\na1,sales,4\n") == (0, 1, 0, 0)
    assert tables.routing.agents["a1"]["skills"] == {"sales": 4, "billing": 2}, "skills that no row names stay"
    before, changes = {id: dict(agent) for id, agent in tables.routing.agents.items()}, tables.routing.changes
    for kind in ("agents", "skills", "certificates"):
        table = tables.export(kind)
        assert tables.report(kind, table)[:2] == (0, 0), kind
    assert (tables.routing.agents, tables.routing.changes) == (before, changes)


@pytest.mark.parametrize(
    ("kind", "row", "column"),
    [
        ("agents", "id,capacity\na1,chat=101", "capacity"),
        ("agents", "id,capacity\na1,chat", "capacity"),
        ("agents", "id,languages\na1,zh=6", "languages"),
        ("agents", "id,channels\na1,voice||chat", "channels"),
        ("agents", "id,address\na3,PJSIP/1", "address"),
        ("agents", "id,aliases\na2,a1", "aliases"),
        ("agents", f"id,name\n{'x' * 201},", "id"),
        ("skills", "agent,skill,level\na1,sales,6", "level"),
        ("skills", "agent,skill,level\nnobody,sales,1", "agent"),
        ("skills", "agent,skill,level\na1,,1", "skill"),
        ("certificates", "agent,channel,until\na1,voice,tomorrow", "until"),
        ("certificates", "agent,channel,until\na1,voice,2027-01-31", "until"),
        ("certificates", "agent,channel\nnobody,voice", "agent"),
    ],
)
def test_what_is_wrong_with_a_row_is_told_by_column(tables: Tables, kind: str, row: str, column: str) -> None:
    tables.report("agents", AGENTS)
    changes = tables.routing.changes
    answer = tables.post(kind, row)
    assert (answer.status, [(one["line"], one["column"]) for one in answer.json["rows"]]) == (422, [(2, column)])
    assert tables.routing.changes == changes


def test_names_may_change_owners_within_one_table(tables: Tables) -> None:
    tables.report("agents", "id,address\na1,PJSIP/1\na2,PJSIP/2\n")
    assert tables.report("agents", "id,address\na1,\na2,PJSIP/1\n", dry_run="true") == (0, 2, 0, 0)


def test_what_routing_refuses_in_the_end_is_told(tables: Tables) -> None:
    tables.routing.fails = [None, Conflict("One of the names of a2 already stands for agent a9.")]
    answer = tables.post("agents", AGENTS).json
    assert (answer["written"], answer["errors"]) == (
        True, [{"line": 3, "column": "id", "reason": "One of the names of a2 already stands for agent a9."}],
    )  # fmt: skip


def test_an_accepted_import_goes_on_after_an_interruption(tables: Tables, at: SetClock) -> None:
    tables.routing.fails = [None, Unavailable("routing is away")]
    answer = tables.post("agents", AGENTS)
    assert (answer.status, "goes on by itself" in answer.json["detail"]) == (503, True)
    assert imports.resume(tables.units, tables.service.kind_of) == 0, "somebody may be at it"
    at.forward(LEFT_ALONE_SECONDS + 1)
    tables.routing.fails = [Unavailable("still away")]
    assert imports.resume(tables.units, tables.service.kind_of) == 0
    at.forward(LEFT_ALONE_SECONDS + 1)
    assert imports.resume(tables.units, tables.service.kind_of) == 1
    assert sorted(tables.routing.agents) == ["a1", "a2"]


def test_what_was_never_accepted_is_never_written(tables: Tables, at: SetClock, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: Any, **__: Any) -> None:
        raise Unavailable("the database is away")

    with monkeypatch.context() as broken:
        broken.setattr("services.gateway.imports.bulk.insert", dies)
        assert tables.post("customers", CUSTOMERS).status == 503
    at.forward(LEFT_ALONE_SECONDS + 1)
    assert imports.resume(tables.units, tables.service.kind_of) == 0
    assert tables.kept(customer) == []


def test_a_table_of_many_slices(tables: Tables) -> None:
    count = 2 * SLICE + 7
    table = "id,tier\n" + "".join(f"c{number:05},gold\n" for number in range(count))
    assert tables.report("customers", table) == (count, 0, 0, 0)
    assert tables.export("customers").count(b"gold") == count
    assert tables.report("customers", table + "c99999,new\n") == (1, 0, count, 0)


def test_certificates_of_whom_training_speaks_for_are_trainings_to_give(tables: Tables) -> None:
    tables.routing.agents = {id: {"id": id, "certificates": {"voice": None}} for id in ("a", "b")}
    tables.routing.spoken = ("a",)
    assert tables.report("certificates", "agent,channel,until\na,voice,\nb,chat,\n") == (1, 0, 1, 0), "what is so already changes nothing"
    answer = tables.post("certificates", "agent,channel,until\na,chat,\nb,voice,\n")
    (refused,) = answer.json["rows"]
    assert (answer.status, refused["line"], "use the table certifications" in refused["reason"]) == (422, 2, True)


# ---- certificates that training is to know


class Training:
    """Keeps certificates as training does."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], dict[str, Any]] = {}
        self.away = False

    def held_certificates(self, people: list[str] | None = None, after: str = "", limit: int = 1000) -> dict[str, Any]:
        return {"items": [row for key, row in sorted(self.held.items()) if people is None or key[0] in people], "next": None}

    def import_certificates(self, rows: list[dict[str, Any]], by: str) -> list[str | None]:
        if self.away:
            raise Unavailable("away")
        for row in rows:
            since = clock.now() if row["certified_at"] is None else row["certified_at"]
            self.held[row["person"], row["channel"]] = {**row, "certified_at": since}
        return [None] * len(rows)


def test_certificates_from_before_go_to_training_and_come_out_again(tables: Tables) -> None:
    tables.service.training = training = Training()
    tables.routing.agents = {id: {"id": id, "name": id.upper(), "site": "berlin", "team": "", "certificates": None} for id in ("a", "b")}
    table = "agent,channel,certified_at,until,note\na,voice,2026-01-01T00:00:00Z,2030-01-01T00:00:00Z,old system\nb,voice,,,\n"
    assert tables.report("certifications", table, dry_run="true") == (2, 0, 0, 0) and not training.held
    assert tables.report("certifications", table) == (2, 0, 0, 0)
    assert training.held["a", "voice"]["name"] == "A" and training.held["b", "voice"]["expires_at"] is None
    assert tables.report("certifications", table) == tables.report("certifications", tables.export("certifications")) == (0, 0, 2, 0)
    assert tables.report("certifications", "agent,channel,until\nb,voice,2031-01-01T00:00:00Z\n") == (0, 1, 0, 0)


@pytest.mark.parametrize(
    ("row", "column"),
    [("nobody,voice,,", "agent"), ("a,voice,,2020-01-01T00:00:00Z", "until"), ("a,voice,2999-01-01T00:00:00Z,", "certified_at"), ("a,,,", "channel"), ("a,voice,,soon", "until")],
)  # fmt: skip
def test_a_certificate_that_cannot_be_keeps_all_out(tables: Tables, row: str, column: str) -> None:
    tables.service.training = training = Training()
    tables.routing.agents = {"a": {"id": "a", "name": "A", "site": "", "team": "", "certificates": None}}
    answer = tables.post("certifications", f"agent,channel,certified_at,until\na,chat,,\n{row}\n")
    assert (answer.status, [one["column"] for one in answer.json["rows"]], training.held) == (422, [column], {})


def test_an_import_that_training_was_away_for_goes_on_when_it_is_back(tables: Tables, at: SetClock) -> None:
    tables.service.training = training = Training()
    tables.routing.agents = {"a": {"id": "a", "name": "A", "site": "", "team": "", "certificates": None}}
    training.away = True
    assert tables.post("certifications", "agent,channel\na,voice\n").status == 503
    training.away = False
    at.forward(LEFT_ALONE_SECONDS + 1)
    assert imports.resume(tables.units, tables.service.kind_of) == 1
    assert list(training.held) == [("a", "voice")]
