"""Tables in and out of a whole system: agents reach routing, customers the directory, and what comes out can go in again."""

from __future__ import annotations

from typing import Any

from tests.system import Answer, System


def post(system: System, kind: str, table: str | bytes, **query: Any) -> Answer:
    return system.request("POST", f"/v1/imports/{kind}", table, headers={"Content-Type": "text/csv"}, query=query)


def counts(answer: Answer) -> tuple[int, ...]:
    told = answer.ok()
    return tuple(told[name] for name in ("created", "updated", "unchanged", "rejected"))


def test_agents_with_skills_and_certificates_reach_routing(system: System, name: str) -> None:
    agents = "id,name,queues,channels\n" + "".join(f"{name}-{number:03},Agent {number},{name},voice|chat\n" for number in range(120))
    assert counts(post(system, "agents", agents, dry_run="true")) == (120, 0, 0, 0)
    system.get(f"/v1/agents/{name}-000").problem(404)
    assert counts(post(system, "agents", agents)) == (120, 0, 0, 0)
    skills = "agent,skill,level\n" + "".join(
        f"{name}-{number:03},{skill},{level}\n" for number in range(60) for skill, level in (("sales", 5), ("billing", 2))
    )
    assert counts(post(system, "skills", skills)) == (120, 0, 0, 0)
    assert counts(post(system, "certificates", f"agent;channel;until\n{name}-000;voice;2030-01-01T00:00:00Z\n")) == (1, 0, 0, 0)
    one = system.get(f"/v1/agents/{name}-000").ok()
    assert (one["skills"], one["certificates"].keys() >= {"voice"}, one["queues"]) == ({"sales": 5, "billing": 2}, True, [name])
    for kind, table in (("agents", agents), ("skills", skills)):
        assert counts(post(system, kind, table))[:2] == (0, 0), "the same again changes nothing"
    for kind in ("agents", "skills", "certificates"):
        table = system.get(f"/v1/exports/{kind}")
        assert counts(post(system, kind, table.body))[:2] == (0, 0), kind


def test_customers_go_in_whole_or_not_at_all_and_come_out_as_they_are(system: System, name: str) -> None:
    rows = "".join(f"{name}-{number:04},{number}.5,gold,+4930{number + 1000000}\r\n" for number in range(1000))
    wrong = post(system, "customers", f"id,value,tier,numbers\r\n{rows}{name}-x,much,,\r\n").problem(422)
    assert wrong["rows"] == [{"line": 1002, "column": "value", "reason": "it is no number such as 1200.50"}]
    system.get(f"/v1/customers/{name}-0000").problem(404)
    assert counts(post(system, "customers", f"id,value,tier,numbers\r\n{rows}")) == (1000, 0, 0, 0)
    assert system.get(f"/v1/customers/{name}-0007").ok()["numbers"] == ["+49301000007"]
    table = system.get("/v1/exports/customers")
    assert table.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert b"'+49301000007" in table.body, "no cell is run as a formula"
    assert counts(post(system, "customers", table.body))[:2] == (0, 0)
