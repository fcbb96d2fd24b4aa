"""Quality over HTTP: the gateway's doors and qa's handlers in one process, on SQLite; what the broker would bring is handed over."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import MetaData, insert

from services.gateway import keys, people, recordings
from services.gateway import store as gateway_store
from services.qa import handlers, intake, store, studies
from services.qa.service import QaCore, QaService
from services.qa.studies import Checker
from shared.bus.envelope import Event
from shared.bus.outbox import UnitOfWork
from shared.bus.tables import BusTables
from shared.db.engine import Database
from shared.http.endpoint import Principal
from tests.unit.conftest import SetClock
from tests.unit.gateway.door import Answer, Doors
from tests.unit.qa.house import CARD

DAY = 86400.0


def aside(work: Callable[..., Any], *arguments: Any) -> Any:
    return work(*arguments)


class Local:
    """qa, asked without a broker in between."""

    def __init__(self, units: UnitOfWork) -> None:
        core: Any = SimpleNamespace(units=units, database=units.database, checker=Checker())
        core.look = lambda question, *arguments: QaCore.look(core, question, *arguments)
        self.service: Any = QaService()
        self.service.core = core

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def ask(deadline: float = 2, **arguments: Any) -> Any:
            call = getattr(self.service, method)
            inspect.signature(call).bind(**arguments)
            return call(**arguments)

        return ask


class Centre:
    """Lea leads, Eve, Otto and Olga evaluate, Anna answers, Bert too."""

    def __init__(self, folder: Path, at: SetClock) -> None:
        self.at = at
        self.gateway, self.units = self._units(folder, "gateway", gateway_store.metadata), self._units(folder, "qa", store.metadata)
        handlers.install_ready(self.units)
        studies.install_rules(self.units)
        handlers.put_scorecard(self.units, "small", CARD, "test")
        self.doors = Doors(self.gateway)
        self.qa = self.doors.service.qa = Local(self.units)
        self.doors.service.core.scopes.routing = SimpleNamespace(
            belongings=lambda: {"queues": {"support": ("berlin", ""), "sales": ("cork", "")}, "agents": {}},
            get_agent=lambda agent_id: {"name": agent_id},
        )
        self.doors.service.routing = SimpleNamespace(
            get_contact=lambda contact_id: {"legs": [{"queue": "support", "agent": "anna"}]}, get_assignment=lambda contact_id: {}
        )
        people.put_site(self.gateway, "berlin", {"name": "Berlin", "zone": "", "active": True})
        people.put_site(self.gateway, "cork", {"name": "Cork", "zone": "", "active": True})
        self.tokens = {"telephony": keys.create(self.gateway, "pbx", ["telephony"])["key"]}
        for id, role, site in (
            ("lea", "supervisor", ""), ("eve", "evaluator", ""), ("otto", "evaluator", ""), ("olga", "evaluator", ""), ("anna", "agent", ""), ("bert", "agent", ""),
            ("carl", "supervisor", "cork"),
        ):  # fmt: skip
            person = {"name": id, "site": site, "team": "", "roles": [role], "language": "", "sites": None, "teams": None, "active": True}
            people.put(self.gateway, id, person)
            with self.gateway() as work:
                row = work.connection.execute(gateway_store.person.select().where(gateway_store.person.c.id == id)).one()
                self.tokens[id] = self.doors.service.core.accounts.begin(work.connection, row, "test").token

    @staticmethod
    def _units(folder: Path, name: str, metadata: MetaData) -> UnitOfWork:
        database, bus = Database(f"sqlite:///{folder / name}.sqlite3"), MetaData()
        tables = BusTables(bus)
        bus.create_all(database.engine)
        metadata.create_all(database.engine)
        return UnitOfWork(database, tables)

    def close(self) -> None:
        self.gateway.database.close()
        self.units.database.close()

    def ask(self, who: str, method: str, path: str, body: Any = b"", **more: Any) -> Answer:
        return self.doors(method, path, body, self.tokens[who], **more)

    def ok(self, who: str, method: str, path: str, body: Any = b"", **more: Any) -> Any:
        answer = self.ask(who, method, path, body, **more)
        assert 200 <= answer.status < 300, answer
        return answer.json

    def hear(self, type: str, subject: str, data: dict[str, Any], sequence: int = 1) -> None:
        with self.units() as work:
            intake.receive(work, [Event(type, subject, data, self.at(), sequence)])

    def call(self, agent: str = "anna", queue: str = "support", recorded: bool = True, **data: Any) -> str:
        """A contact that the gateway knows, and that is over."""
        contact: str = self.doors("POST", "/v1/contacts", {"queue": queue}, "admin").json["contact"]
        base = {"contact": contact, "leg": 1, "queue": queue, "channel": "voice", "customer": "k1", "direction": "inbound", "at": self.at()}
        told = base | {"agent": agent, "talk_seconds": 60.0, "waited_seconds": 5.0, "ended_by": "caller"} | data
        self.hear("routing.contact_completed.v1", contact, told, 9)
        if recorded:
            row = {
                "id": contact,
                "contact": contact,
                "source": "api",
                "call": contact,
                "location": "x.wav",
                "ended_at": self.at(),
                "failed": False,
            }
            with self.gateway() as work:
                work.connection.execute(insert(recordings.recording).values(**row, muted=[], consent="granted", sequence=1))
        return contact

    def play(self, who: str, contact: str) -> None:
        recordings.note_access(self.gateway, contact, Principal(who, frozenset(), who, who), 0, 99, 100)

    def evaluate(self, who: str = "eve", contact: str = "", **answers: Any) -> dict[str, Any]:
        contact = contact or self.call()
        id = self.ok(who, "POST", "/v1/evaluations", {"contact": contact, "scorecard": "small"})["id"]
        marks = [
            {"criterion": name, "answer": answer, "second": 41.5} for name, answer in ({"solved": "yes", "clear": 5} | answers).items()
        ]
        self.ok(who, "PUT", f"/v1/evaluations/{id}", {"marks": marks})
        self.play(who, contact)
        done: dict[str, Any] = self.ok(who, "POST", f"/v1/evaluations/{id}/submit", {})
        return done


@pytest.fixture
def centre(tmp_path: Path, at: SetClock) -> Iterator[Centre]:
    made = Centre(tmp_path, at)
    yield made
    made.close()


def test_a_recorded_contact_is_evaluated_once_it_was_heard(centre: Centre) -> None:
    contact = centre.call()
    id = centre.ok("eve", "POST", "/v1/evaluations", {"contact": contact, "scorecard": "small"})["id"]
    centre.ok(
        "eve",
        "PUT",
        f"/v1/evaluations/{id}",
        {"marks": [{"criterion": "solved", "answer": "no", "second": 3}, {"criterion": "clear", "answer": 4}]},
    )
    answer = centre.ask("eve", "POST", f"/v1/evaluations/{id}/submit", {})
    assert (answer.status, "have not played it" in answer.json["detail"]) == (409, True)
    centre.play("otto", contact)
    assert centre.ask("eve", "POST", f"/v1/evaluations/{id}/submit", {}).status == 409, "somebody else heard it"
    centre.play("eve", contact)
    done = centre.ok("eve", "POST", f"/v1/evaluations/{id}/submit", {})
    assert (done["state"], done["score"], done["failed"], done["evaluator_role"]) == ("submitted", 0.375, ["customer"], "evaluator")


def test_an_agent_sees_theirs_and_disputes_it(centre: Centre) -> None:
    id = centre.evaluate(solved="no")["id"]
    assert [one["id"] for one in centre.ok("anna", "GET", "/v1/evaluations")["items"]] == [id]
    for path in (f"/v1/evaluations/{id}", f"/v1/evaluations/{id}/acknowledge"):
        assert centre.ask("bert", "GET" if path.endswith(id) else "POST", path, b"" if path.endswith(id) else {}).status == 404
    assert (
        centre.ok("anna", "POST", f"/v1/evaluations/{id}/dispute", {"reason": "The line broke, she called again."})["state"] == "disputed"
    )
    centre.ok("lea", "POST", f"/v1/evaluations/{id}/second-opinion", {"evaluator": "otto"})
    (second,) = [one for one in centre.ok("otto", "GET", "/v1/evaluations")["items"] if one["evaluator"] == "otto"]
    assert centre.ask("otto", "GET", f"/v1/evaluations/{id}").status == 404, "the first marks would sway the second"
    centre.ok(
        "otto",
        "PUT",
        f"/v1/evaluations/{second['id']}",
        {"marks": [{"criterion": "solved", "answer": "yes"}, {"criterion": "clear", "answer": 5}]},
    )
    centre.play("otto", second["contact"])
    centre.ok("otto", "POST", f"/v1/evaluations/{second['id']}/submit", {})
    assert (
        centre.ok("lea", "POST", f"/v1/evaluations/{id}/close", {"holds": "second", "reason": "The recording breaks off."})["counts"]
        is False
    )


def test_what_is_of_another_site_is_not_there(centre: Centre) -> None:
    id = centre.evaluate()["id"]
    for method, path, body in (("GET", f"/v1/evaluations/{id}", b""), ("POST", f"/v1/evaluations/{id}/close", {})):
        assert centre.ask("carl", method, path, body).status == 404
    assert centre.ok("carl", "GET", "/v1/evaluations")["items"] == []
    assert centre.ok("carl", "GET", "/v1/reports/quality")["groups"] == []


def test_handle_time_is_refused_as_a_target_with_the_reason(centre: Centre) -> None:
    card = CARD.replace("{en: Clear}", "{en: Handle time below 180 s}")
    answer = centre.ask("lea", "PUT", "/v1/scorecards/fast", card, kind="application/yaml")
    assert (answer.status, "hurries customers away" in answer.json["detail"]) == (422, True)
    assert "never a target" in centre.ok("lea", "GET", "/v1/reports/value")["no_target"]


def test_the_ready_scorecards_are_there(centre: Centre) -> None:
    names = [one["name"] for one in centre.ok("eve", "GET", "/v1/scorecards")["items"]]
    assert names == ["small", "standards", "world-class"]
    card = centre.ok("eve", "GET", "/v1/scorecards/world-class")
    assert (card["kind"], card["title"]["zh"], card["version"]) == ("customer", "世界级服务", 1)


def test_a_customers_answer_is_durable_before_the_202_and_finds_its_contact(centre: Centre) -> None:
    contact = centre.call()
    told = centre.ok("telephony", "POST", "/v1/surveys", {"contact": contact, "satisfied": 2, "resolved": False, "text": "Still broken."})
    (event,) = [one for one in centre.doors.announced() if one["type"] == "gateway.survey_answered.v1"]
    assert (event["data"]["answer"], event["data"]["contact"], event["data"]["people"]) == (told["answer"], contact, [])
    centre.hear(event["type"], event["subject"], {**event["data"], "at": centre.at()})
    assert centre.ok("eve", "GET", f"/v1/contacts/{contact}/quality")["customer_said"] is None
    assert centre.ok("lea", "GET", f"/v1/contacts/{contact}/quality")["customer_said"]["satisfied"] == 2
    assert centre.ask("telephony", "POST", "/v1/surveys", {"contact": contact}).status == 422
    assert centre.ask("telephony", "POST", "/v1/surveys", {"contact": "pbx:none", "satisfied": 1}).status == 404


def test_a_finding_has_all_of_it_and_closes_by_evidence(centre: Centre) -> None:
    id = centre.evaluate(clear=1)["id"]
    plan = {
        "owner": "lea",
        "action": "Half an hour beside Bob.",
        "due_at": "2027-02-01T00:00:00Z",
        "check": {"kind": "evaluations", "evaluations": 1},
    }
    assert centre.ask("eve", "POST", "/v1/findings", {"evaluation": id, "criterion": "clear", "cause": "knowledge"}).status == 422
    finding = centre.ok("eve", "POST", "/v1/findings", {"evaluation": id, "criterion": "clear", "cause": "knowledge", **plan})
    answer = centre.ask("lea", "POST", f"/v1/findings/{finding['id']}/close", {})
    assert (answer.status, "there are 0" in answer.json["detail"]) == (409, True)
    centre.at.forward(60)
    centre.evaluate()
    assert centre.ok("anna", "GET", f"/v1/findings/{finding['id']}")["state"] == "closed"
    assert centre.ask("bert", "GET", f"/v1/findings/{finding['id']}").status == 404


def test_every_contact_is_checked_by_the_rules_and_apart_from_people(centre: Centre) -> None:
    rules = "rules:\n  - {name: no_transfer, title: {en: Not handed on, zh: 未转接}, check: {fact: {fact: transfers, at_most: 0}}}\n"
    made = centre.ask("lea", "PUT", "/v1/checks/own", rules, kind="application/yaml")
    assert made.status == 200, made
    contact = centre.call()
    turns = [{"speaker": "agent", "text": "Good morning.", "start": 0}, {"speaker": "customer", "text": "It is broken.", "start": 4}]
    centre.ok("telephony", "PUT", f"/v1/contacts/{contact}/transcript", {"turns": turns, "language": "en"})
    centre.at.forward(61)
    assert studies.check_due(centre.units, Checker(), aside) == 1
    assert studies.check_due(centre.units, Checker(), aside) == 0
    automatic = {one["ruleset"]: one for one in centre.ok("lea", "GET", f"/v1/contacts/{contact}/quality")["automatic"]}
    assert set(automatic) == {"own", "ready"}
    assert automatic["own"]["score"] == 1.0
    (group,) = centre.ok("lea", "GET", "/v1/reports/quality?by=agent")["groups"]
    assert (group["internal"], group["automatic"][0]["ruleset"]) == ([], "own")
    assert centre.ok("eve", "GET", f"/v1/contacts/{contact}/transcript")["turns"][1]["number"] == 2


def test_a_sample_is_drawn_by_its_seed_with_probabilities_and_given_to_evaluators(centre: Centre) -> None:
    for agent in ("anna", "bert"):
        for _ in range(5):
            centre.call(agent)
    asked = {
        "scorecard": "small",
        "from": "2020-01-01T00:00:00Z",
        "to": "2030-01-01T00:00:00Z",
        "size": 4,
        "seed": 7,
        "evaluators": ["eve", "otto"],
    }
    first, again = (centre.ok("lea", "POST", "/v1/samples", asked) for _ in range(2))
    assert [one["contact"] for one in first["contacts"]] == [one["contact"] for one in again["contacts"]]
    assert sum(one["probability"] for one in first["contacts"]) / len(first["contacts"]) == pytest.approx(0.4, abs=0.2)
    todo = centre.ok("eve", "GET", "/v1/samples")["items"]
    assert {one["contact"] for one in todo} < {one["contact"] for one in first["contacts"]}
    done = centre.evaluate("eve", todo[0]["contact"])
    assert (done["method"], 0 < done["probability"] <= 1) == ("stratified", True)


def test_a_sample_is_drawn_from_what_can_be_read_at_once(centre: Centre, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "LARGEST_FRAME", 1)
    asked = {"scorecard": "small", "from": "2020-01-01T00:00:00Z", "to": "2030-01-01T00:00:00Z", "size": 1}
    assert centre.ask("lea", "POST", "/v1/samples", asked).status == 409, "there is none"
    centre.call()
    assert len(centre.ok("lea", "POST", "/v1/samples", asked)["contacts"]) == 1
    centre.call()
    assert "narrow the time" in centre.ask("lea", "POST", "/v1/samples", asked).json["detail"]


def test_a_calibration_shows_marks_and_agreement_after_its_close_alone(centre: Centre) -> None:
    contacts = [centre.call() for _ in range(2)]
    told = {"title": "January", "scorecard": "small", "contacts": contacts, "evaluators": ["eve", "otto"]}
    session = centre.ok("lea", "POST", "/v1/calibrations", told)
    assert session["submitted"] == {"eve": 0, "otto": 0}
    assert centre.ask("lea", "POST", f"/v1/calibrations/{session['id']}/close").status == 409
    for who in ("eve", "otto"):
        for one in centre.ok(who, "GET", f"/v1/evaluations?calibration={session['id']}")["items"]:
            assert one["evaluator"] == who
            marks = [{"criterion": "solved", "answer": "yes"}, {"criterion": "clear", "answer": 4}]
            centre.ok(who, "PUT", f"/v1/evaluations/{one['id']}", {"marks": marks})
            centre.play(who, one["contact"])
            assert centre.ok(who, "POST", f"/v1/evaluations/{one['id']}/submit", {})["counts"] is False
    closed = centre.ok("lea", "POST", f"/v1/calibrations/{session['id']}/close")
    assert (closed["state"], closed["agreement"]["state"], closed["submitted"]) == ("closed", "queued", {"eve": 2, "otto": 2})
    assert len(centre.ok("eve", "GET", f"/v1/evaluations?calibration={session['id']}")["items"]) == 4
    assert centre.ok("anna", "GET", "/v1/evaluations")["items"] == [], "a calibration is about evaluators, not about agents"


def test_proposed_weights_wait_for_a_person(centre: Centre) -> None:
    weights = {"solved": {"current": 1.0, "proposed": 3.0}, "clear": {"current": 1.0, "proposed": 0.5}}
    result = {"scorecard": "small", "version": 1, "criteria": [], "proposals": {"satisfied": {"weights": weights}, "resolved": None}}
    analysis = centre.evaluate()["id"]
    with centre.units() as work:
        studies.announce(work, analysis, "validity", result)
    (proposal,) = centre.ok("eve", "GET", "/v1/scorecards/small/proposals")["items"]
    assert centre.ok("eve", "GET", "/v1/scorecards/small")["version"] == 1
    assert centre.ask("eve", "POST", f"/v1/scorecards/small/proposals/{proposal['id']}", {"accepted": True}).status == 403
    centre.ok("lea", "POST", f"/v1/scorecards/small/proposals/{proposal['id']}", {"accepted": True})
    card = centre.ok("eve", "GET", "/v1/scorecards/small")
    assert (card["version"], [one["weight"] for one in card["sections"][0]["criteria"]]) == (2, [3.0, 0.5])
    assert centre.ask("lea", "POST", f"/v1/scorecards/small/proposals/{proposal['id']}", {"accepted": False}).status == 409


def test_a_flag_is_a_reason_to_listen(centre: Centre) -> None:
    contact = centre.call()
    told = {
        "agent": "anna", "queue": "support", "channel": "voice", "measure": "short_hang_ups", "cases": 14, "opportunities": 160, "rate": 0.0875,
        "peer_rate": 0.02, "limit": 0.061, "peers": 11, "expected_by_chance": 0.05, "from": 0.0, "to": centre.at(), "contacts": [contact],
    }  # fmt: skip
    for _ in range(2):
        with centre.units() as work:
            studies.announce(work, contact, "gaming", {"flags": [told]})
    (flag,) = centre.ok("lea", "GET", "/v1/flags")["items"]
    assert (flag["state"], flag["cases"], flag["meaning"]) == ("open", 14, "a reason to listen, not a verdict")
    assert centre.ask("eve", "GET", "/v1/flags").status == 403
    heard = {"contacts": [], "found": "explained", "note": "The headset was broken."}
    assert centre.ask("lea", "POST", f"/v1/flags/{flag['id']}/close", heard).status == 422
    assert centre.ask("lea", "POST", f"/v1/flags/{flag['id']}/close", heard | {"contacts": ["another"]}).status == 409
    assert centre.ok("lea", "POST", f"/v1/flags/{flag['id']}/close", heard | {"contacts": [contact]})["heard"]["by"] == "lea"


def test_an_analysis_waits_for_its_process(centre: Centre) -> None:
    asked = {"kind": "validity", "from": "2026-01-01T00:00:00Z", "to": "2026-12-01T00:00:00Z", "scorecard": "small"}
    one = centre.ok("lea", "POST", "/v1/analyses", asked)
    assert (one["state"], one["progress"]) == ("queued", 0.0)
    with centre.units.database.reading() as connection:
        assert studies.next_queued(connection) == one["id"]
    assert centre.ask("lea", "POST", "/v1/analyses", asked | {"scorecard": None}).status == 422
    assert centre.ask("lea", "POST", "/v1/analyses", asked | {"to": "2020-01-01T00:00:00Z"}).status == 422


def test_what_gaming_found_is_told_to_those_alone_who_see_the_flags(centre: Centre) -> None:
    asked = {"kind": "gaming", "from": "2026-01-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"}
    id = centre.ok("lea", "POST", "/v1/analyses", asked)["id"]
    found = [{"queue": "support", "agent": "anna"}]
    with centre.units() as work:
        store.change(work.connection, store.analysis, id, state="done", result={"groups": found, "flags": found})
    assert centre.ok("lea", "GET", f"/v1/analyses/{id}")["result"]["flags"] == found
    assert centre.ok("carl", "GET", f"/v1/analyses/{id}")["result"] == {"groups": [], "flags": []}
    assert centre.ask("eve", "GET", f"/v1/analyses/{id}").status == 404
    assert centre.ok("eve", "GET", "/v1/analyses")["items"] == []


def test_a_sample_of_another_site_is_not_there(centre: Centre) -> None:
    centre.call()
    asked = {"scorecard": "small", "from": "2020-01-01T00:00:00Z", "to": "2030-01-01T00:00:00Z", "size": 1, "evaluators": ["eve"]}
    id = centre.ok("lea", "POST", "/v1/samples", asked)["id"]
    told = centre.ok("carl", "GET", f"/v1/samples/{id}")
    assert (told["contacts"], told["strata"]) == ([], [])
    assert centre.ok("carl", "GET", "/v1/samples?evaluator=eve")["items"] == []


def test_how_evaluators_differ_is_for_those_who_took_part_and_for_leads(centre: Centre) -> None:
    told = {"title": "January", "scorecard": "small", "contacts": [centre.call()], "evaluators": ["eve", "otto"]}
    session = centre.ok("lea", "POST", "/v1/calibrations", told)["id"]
    for who in ("eve", "otto"):
        (one,) = centre.ok(who, "GET", f"/v1/evaluations?calibration={session}")["items"]
        marks = [{"criterion": "solved", "answer": "yes"}, {"criterion": "clear", "answer": 4}]
        centre.ok(who, "PUT", f"/v1/evaluations/{one['id']}", {"marks": marks})
        centre.play(who, one["contact"])
        centre.ok(who, "POST", f"/v1/evaluations/{one['id']}/submit", {})
    analysis = centre.ok("lea", "POST", f"/v1/calibrations/{session}/close")["analysis"]
    for who in ("eve", "otto", "lea"):
        assert centre.ok(who, "GET", f"/v1/calibrations/{session}")["id"] == session
        assert centre.ok(who, "GET", f"/v1/analyses/{analysis}")["id"] == analysis
        assert [one["id"] for one in centre.ok(who, "GET", "/v1/calibrations")["items"]] == [session]
    for who in ("olga", "carl"):
        assert centre.ask(who, "GET", f"/v1/calibrations/{session}").status == 404
        assert centre.ok(who, "GET", "/v1/calibrations")["items"] == []
    assert centre.ask("olga", "GET", f"/v1/analyses/{analysis}").status == 404


def test_a_contact_is_named_by_its_call_too(centre: Centre) -> None:
    id = centre.doors("POST", "/v1/contacts", {"queue": "support", "source": "pbx1", "call": "7.1"}, "admin").json["contact"]
    told = {"contact": id, "leg": 1, "queue": "support", "channel": "voice", "customer": "k1", "direction": "inbound", "at": centre.at()}
    centre.hear("routing.contact_completed.v1", id, told | {"agent": "anna", "talk_seconds": 60.0, "ended_by": "caller"}, 9)
    assert centre.ok("eve", "POST", "/v1/evaluations", {"contact": "pbx1:7.1", "scorecard": "small"})["contact"] == id
    assert centre.ask("eve", "POST", "/v1/evaluations", {"contact": "pbx1:none", "scorecard": "small"}).status == 404


def test_an_agent_reads_why_a_contact_was_theirs_without_how_well_colleagues_do(centre: Centre) -> None:
    contact = centre.call()

    def decided(**_: Any) -> dict[str, Any]:
        found = {"chosen": {"agent": "anna", "qa_scores": {"small": 0.9}}, "runners_up": [{"agent": "bert", "qa_scores": {"small": 0.5}}]}
        return {"contact": contact, "decisions": [{"record": found}]}

    centre.doors.service.routing.get_decisions = decided
    for who, told in (("lea", True), ("anna", False)):
        (decision,) = centre.ok(who, "GET", f"/v1/contacts/{contact}/decisions")["decisions"]
        assert all(("qa_scores" in one) is told for one in (decision["record"]["chosen"], *decision["record"]["runners_up"]))
