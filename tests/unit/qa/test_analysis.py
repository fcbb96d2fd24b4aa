"""Analyses from the tables to the result: what is read, what is told of progress, and what is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from services.qa import analysis, store, studies
from services.qa.domain.resolution import DAY
from shared.db import bulk
from shared.ids import new_id
from tests.unit.qa.house import LEAD, House

NOW = 1_800_000_000.0


class Centre:
    """Rows as a busy centre would have them, written at once."""

    def __init__(self, house: House, seed: int = 0) -> None:
        self.house, self.rng = house, np.random.default_rng(seed)

    def contacts(self, count: int, **columns: Any) -> list[dict[str, Any]]:
        def of(name: str, number: int, default: Any) -> Any:
            value = columns.get(name, default)
            return value[number] if isinstance(value, list | np.ndarray) else value

        rows = []
        for number in range(count):
            ended = float(NOW - 40 * DAY + number * 60)
            rows.append(
                {
                    "id": new_id(), "agent": f"a{number % 12}", "queue": "support", "channel": "voice", "customer": f"k{number}", "outcome": "completed",
                    "ended_by": "agent", "arrived_at": ended - 100, "ended_at": ended, "waited_seconds": 20.0, "transferred": False,
                    "talk_seconds": float(of("talk_seconds", number, 200.0)), "next_at": of("next_at", number, None), "disposition": "bill",
                }
                | {name: of(name, number, None) for name in columns}
            )  # fmt: skip
        self.save(store.contact, rows)
        return rows

    def save(self, table: Any, rows: list[dict[str, Any]]) -> None:
        with self.house.units() as work:
            bulk.insert(work.connection, table, [{name: plain(value) for name, value in row.items()} for row in rows])

    def evaluations(self, contacts: list[dict[str, Any]], marks: dict[str, Any], **columns: Any) -> None:
        rows, marked = [], []
        for number, contact in enumerate(contacts):
            id = new_id()
            values = {name: float(given[number]) for name, given in marks.items()}
            rows.append(
                {
                    "id": id, "contact": contact["id"], "agent": contact["agent"], "queue": contact["queue"], "channel": "voice",
                    "contact_at": contact["ended_at"], "scorecard": "small", "version": 1, "scorecard_kind": "internal", "evaluator": "eve",
                    "evaluator_role": "evaluator", "purpose": "quality", "state": "final", "blind": False, "live": False, "practice": False,
                    "method": "stratified", "note": "", "score": float(np.mean(list(values.values()))), "failed": [], "fails_customer": False,
                    "fails_business": False, "fails_compliance": False, "counts": True, "dispute": "", "outcome": "", "created_at": NOW - DAY,
                    "submitted_at": NOW - DAY + number, "sequence": 1,
                }
                | columns
            )  # fmt: skip
            marked += [
                {"evaluation": id, "criterion": name, "answer": "1", "value": value, "missed": value < 0.5, "note": ""}
                for name, value in values.items()
            ]
        self.save(store.evaluation, rows)
        self.save(store.mark, marked)

    def surveys(self, contacts: list[dict[str, Any]], csat: Any, resolved: Any) -> None:
        rows = [
            {
                "id": new_id(), "contact": contact["id"], "customer": contact["customer"], "agent": contact["agent"], "queue": contact["queue"],
                "channel": "voice", "rule": "*", "contact_at": contact["ended_at"], "sent_at": contact["ended_at"] + 60,
                "answer_until": contact["ended_at"] + DAY, "answered_at": contact["ended_at"] + 90, "csat": int(csat[number]), "resolved": bool(resolved[number]),
            }
            for number, contact in enumerate(contacts)
        ]  # fmt: skip
        self.save(store.survey, rows)

    def ask(self, kind: str, **told: Any) -> str:
        with self.house.units() as work:
            parameters = {"from": NOW - 60 * DAY, "to": NOW, "scorecard": "small"} | told
            return str(studies._ask(work, kind, parameters, "test")["id"])

    def run(self, kind: str, **told: Any) -> dict[str, Any]:
        id = self.ask(kind, **told)
        assert analysis.run(self.house.units, id, studies.announce)
        return self.see(id)

    def see(self, id: str) -> dict[str, Any]:
        return dict(self.house.look(studies.get_analysis, id, LEAD))


def plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


@pytest.fixture
def centre(house: House) -> Centre:
    house.at.seconds = NOW
    return Centre(house)


def test_validity_finds_what_serves_customers_and_proposes_weights_that_nobody_has_accepted(centre: Centre) -> None:
    solved, clear = (centre.rng.random(900) < 0.6), centre.rng.integers(0, 5, 900) / 4
    contacts = centre.contacts(900, next_at=[None if one else NOW - 39.9 * DAY for one in solved])
    centre.contacts(1, arrived_at=NOW - DAY, ended_at=NOW)  # so much is known
    happy = centre.rng.random(900) < 0.3 + 0.5 * solved
    centre.evaluations(contacts, {"solved": solved, "clear": clear})
    centre.surveys(contacts, np.where(happy, 5, 2), happy)
    beside = centre.contacts(30)  # marks of a calibration are about evaluators, not about contacts
    centre.evaluations(beside, {"solved": np.ones(30), "clear": np.ones(30)}, purpose="calibration", counts=False)
    seen = centre.run("validity", margin=0.25)
    assert (seen["state"], seen["progress"], seen["error"]) == ("done", 1.0, None)
    found = {(one["criterion"], one["outcome"]): one for one in seen["result"]["criteria"]}
    assert found["solved", "satisfied"]["verdict"] == "serves"
    assert found["solved", "satisfied"]["low"] < 0.5 < found["solved", "satisfied"]["high"]
    assert found["clear", "satisfied"]["verdict"] == "ritual"
    assert found["solved", "one_call"]["effect"] > 0.9
    assert seen["result"]["contacts"] == 900
    weights = seen["result"]["proposals"]["satisfied"]["weights"]
    assert weights["solved"]["proposed"] > weights["solved"]["current"] == 1.0
    assert len(centre.house.told("criterion_validity_computed")) == 6
    assert [(row.weights["solved"]["current"], row.accepted) for row in centre.house.rows(store.proposal)] == [(1.0, None)]
    assert len(centre.house.rows(store.scorecard)) == 1 + sum(row.name != "small" for row in centre.house.rows(store.scorecard))


def test_a_contact_too_recent_to_know_is_no_success(centre: Centre) -> None:
    centre.contacts(1, arrived_at=NOW, ended_at=NOW + 1)
    recent = [NOW - DAY] * 150 + [NOW - 20 * DAY] * 150
    contacts = centre.contacts(300, ended_at=recent, arrived_at=recent)
    centre.evaluations(contacts, {"solved": np.ones(300), "clear": np.ones(300)})
    result = centre.run("validity")["result"]
    assert result["answers"] == {"satisfied": 0, "resolved": 0, "one_call": 150}
    assert {one["reason"] for one in result["criteria"]} == {"few_contacts", "hardly_varies"}
    assert result["proposals"] == {"satisfied": None, "resolved": None, "one_call": None}


def test_calibration_tells_agreement_and_who_differs(centre: Centre) -> None:
    contacts = centre.contacts(40)
    truth, session = centre.rng.integers(0, 5, 40) / 4, new_id()
    for evaluator in ("eve", "otto", "strict"):
        clear = np.clip(truth - (0.5 if evaluator == "strict" else 0), 0, 1)
        told = {
            "evaluator": evaluator,
            "purpose": "calibration",
            "calibration": session,
            "counts": False,
        }
        centre.evaluations(contacts, {"solved": truth >= 0.5, "clear": clear}, **told)
    result = centre.run("calibration", session=session, resamples=200)["result"]
    found = {one["criterion"]: one for one in result["criteria"]}
    assert (found["solved"]["alpha"], found["solved"]["level"], found["solved"]["verdict"]) == (1.0, "nominal", "reliable")
    assert (found["clear"]["level"], found["clear"]["units"], found["clear"]["evaluators"]) == ("ordinal", 40, 3)
    by_evaluator = {one["evaluator"]: one for one in found["clear"]["against"]}
    assert by_evaluator["strict"]["alpha"] < by_evaluator["eve"]["alpha"]
    assert by_evaluator["strict"]["bias"]["high"] < 0
    assert found["clear"]["within_a_point"] < 1
    assert result["whole"]["criterion"] == ""
    assert [one["alarm"] for one in result["drift"]] == [False] * 3
    assert centre.run("calibration", session=new_id())["result"]["whole"]["verdict"] == "not_enough_data"


def test_gaming_flags_with_the_contacts_to_listen_to(centre: Centre) -> None:
    talks = np.where(centre.rng.random(2400) < 0.03, 8.0, 200.0)
    of = [number for number in range(2400) if number % 12 == 5][:60]
    talks[of] = 5.0
    contacts = centre.contacts(2400, talk_seconds=talks)
    result = centre.run("gaming")["result"]
    assert [(one["agent"], one["measure"], one["queue"], one["channel"]) for one in result["flags"]] == [
        ("a5", "short_hang_ups", "support", "voice")
    ]
    flag = result["flags"][0]
    assert flag["rate"] >= flag["limit"] > flag["peer_rate"]
    assert 0 < flag["expected_by_chance"] < 0.02
    assert len(flag["contacts"]) == 20
    cases = [one["id"] for one in contacts if one["agent"] == "a5" and one["talk_seconds"] < 15]
    assert flag["contacts"] == cases[::-1][:20]
    assert [one["measure"] for one in centre.house.told("gaming_suspected")] == ["short_hang_ups"]


def test_passing_on_is_seen_in_legs_that_others_ended(centre: Centre) -> None:
    """An agent who hands hard contacts on is not the agent of their last leg."""
    hard = np.arange(3000) % 5 == 0
    contacts = centre.contacts(3000, self_service_failed=[bool(one) for one in hard])
    legs = []
    for number, one in enumerate(contacts):
        passer = "a3" if hard[number] and number % 3 == 0 else "a4" if number % 50 == 1 else None
        if passer and one["agent"] != passer:
            legs.append(
                {
                    "contact": one["id"],
                    "leg": 1,
                    "agent": passer,
                    "queue": "support",
                    "channel": "voice",
                    "talk_seconds": 60.0,
                    "at": one["ended_at"],
                }
            )
    centre.save(store.handover, legs)
    assert ("a3", "hard_transfers") in {(one["agent"], one["measure"]) for one in centre.run("gaming")["result"]["flags"]}


def test_an_analysis_runs_once_and_what_died_is_said_to_have_failed(centre: Centre) -> None:
    id = centre.ask("gaming")
    assert analysis.run(centre.house.units, id, studies.announce)
    assert not analysis.run(centre.house.units, id, studies.announce)
    assert not analysis.run(centre.house.units, new_id(), studies.announce)
    dead = centre.ask("gaming")
    with centre.house.units() as work:
        store.change(work.connection, store.analysis, dead, state="running", beat_at=NOW - 30)
        assert analysis.reap(work.connection, NOW) == []
        assert analysis.reap(work.connection, NOW + 31) == [dead]
    assert "ask again" in centre.see(dead)["error"]


def test_what_cannot_be_computed_says_why(centre: Centre) -> None:
    seen = centre.run("validity", version=99)
    assert (seen["state"], seen["error"]) == ("failed", "there is no scorecard small of version 99")
    assert seen["result"] is None


def test_a_centre_without_contacts_has_results_without_figures(centre: Centre) -> None:
    assert centre.run("gaming")["result"]["flags"] == []
    assert {one["verdict"] for one in centre.run("validity")["result"]["criteria"]} == {"not_enough_data"}
    assert centre.run("calibration")["result"]["drift"] == []
