"""Keys, sign-in and scopes, from end to end in both modes."""

from __future__ import annotations

import secrets
import subprocess
from http.client import HTTPConnection
from typing import Any

import pytest

from tests.system import COMMAND, Client, System, eventually

PASSWORD = "several words do well"
HOST = f"127.{secrets.randbelow(250) + 2}.{secrets.randbelow(250) + 1}.{secrets.randbelow(250) + 1}"


@pytest.fixture
def site(system: System, name: str) -> str:
    """A site of the test's own with a team, a queue and an agent, and beside it another's queue and agent."""
    for id in (name, f"{name}-else"):
        system.put(f"/v1/sites/{id}", {"name": id}).ok()
        system.put(f"/v1/teams/{id}", {"name": id, "site": id}).ok()
        system.put(f"/v1/queues/{id}", {"site": id, "pool": id}).ok()
        system.put(f"/v1/agents/{id}", {"name": f"agent of {id}", "site": id, "pool": id, "channels": ["voice"]}).ok()
    return name


def person(system: System, id: str, **told: Any) -> None:
    system.put(f"/v1/people/{id}", {"name": f"Somebody {id[-3:]}", "roles": ["agent"], **told}).ok()
    system.put(f"/v1/people/{id}/password", {"password": PASSWORD}).ok()


class Elsewhere(Client):
    """Somebody without a key at an address of their own: failed sign-ins of other tests do not count there."""

    def _connection(self) -> HTTPConnection:
        return HTTPConnection(*self.address, timeout=self.timeout, source_address=(HOST, 0))


def signed_in(system: System, login: str, password: str = PASSWORD) -> Client:
    return Client(system.address, Elsewhere(system.address, None).post("/v1/sign-in", {"login": login, "password": password}).ok()["token"])


def test_a_supervisor_sees_their_site_and_nothing_else(system: System, site: str) -> None:
    other = f"{site}-else"
    made = system.post("/v1/keys", {"name": site, "roles": ["supervisor", "telephony"], "sites": [site], "days": 1}).ok()
    mine = Client(system.address, made["key"])
    contacts = {queue: system.post("/v1/contacts", {"queue": queue}).ok()["contact"] for queue in (site, other)}
    system.settle()
    for path, id in (("queues", other), ("agents", other), ("contacts", contacts[other])):
        mine.get(f"/v1/{path}/{id}").problem(404)
        mine.get(f"/v1/{path}/{site if id == other else contacts[site]}").ok()
    mine.post("/v1/contacts", {"queue": other}).problem(404)
    assert mine.put(f"/v1/queues/{site}", {"site": other}).problem(422)["errors"]["site"]
    queues = {row["name"] for row in mine.get("/v1/queues", limit=1000).ok()["items"]}
    agents = {row["id"] for row in mine.get("/v1/agents", limit=1000).ok()["items"]}
    assert site in queues & agents and other not in queues | agents
    reported = {row["queue"] for row in mine.get("/v1/reports/queues").ok()["queues"]}
    assert site in reported and other not in reported
    assert other in {row["queue"] for row in system.get("/v1/reports/queues").ok()["queues"]}


def test_who_signs_in_acts_as_themselves_until_they_sign_out(system: System, site: str) -> None:
    person(system, site, site=site, team=site)
    mine = signed_in(system, site)
    assert mine.get("/v1/me").ok() == {
        "id": site, "name": f"Somebody {site[-3:]}", "person": site, "roles": ["agent"], "sites": [site], "teams": [site],
    }  # fmt: skip
    assert mine.put(f"/v1/agents/{site}/state", {"state": "available"}).ok()["state"] == "available"
    mine.put(f"/v1/agents/{site}-else/state", {"state": "offline"}).problem(404)
    contact = system.post("/v1/contacts", {"queue": site}).ok()["contact"]
    offer = eventually(lambda: mine.get(f"/v1/agents/{site}/offers").ok()["offers"])[0]
    assert offer["contact"] == contact
    mine.post(f"/v1/offers/{offer['id']}/accept", {"agent": f"{site}-else"}).problem(404)
    mine.post(f"/v1/offers/{offer['id']}/accept", {"agent": site}).ok()
    mine.post(f"/v1/contacts/{contact}/end", {"ended_by": "agent"}).ok()
    mine.post("/v1/sign-out").ok()
    assert "sign in again" in mine.get("/v1/me").problem(401)["detail"]


def test_the_address_and_the_name_survive_a_wrong_password_a_few_times_and_then_wait(system: System, name: str) -> None:
    person(system, name, email=f"{name}@example.com")
    nobody = Elsewhere(system.address, None)
    statuses = [nobody.post("/v1/sign-in", {"login": name, "password": "wrong"}).status for _ in range(6)]
    assert statuses == [401] * 5 + [429]
    answer = nobody.post("/v1/sign-in", {"login": name, "password": PASSWORD})
    assert answer.problem(429) and 1 <= int(answer.headers["Retry-After"]) <= 30
    system.put(f"/v1/people/{name}/password", {"password": PASSWORD}).ok()
    assert nobody.post("/v1/sign-in", {"login": f"{name}@example.com", "password": PASSWORD}).ok()["person"] == name


def test_the_command_line_makes_keys_and_sets_passwords(system: System, name: str) -> None:
    key = system.answerline("key", "create", name, "--role", "agent", "--days", "2", "--site", name).stdout.split()[-1]
    me = Client(system.address, key).get("/v1/me").ok()
    assert (me["roles"], me["sites"]) == (["agent"], [name])
    assert f"sites {name}" in next(line for line in system.answerline("key", "list").stdout.splitlines() if me["id"] in line)
    system.put(f"/v1/people/{name}", {"name": "Somebody", "roles": ["agent"]}).ok()
    for password, code in (("short", 1), (PASSWORD, 0)):
        done = subprocess.run(
            [*COMMAND, "person", "password", name], env=system._environment("cli", {}), cwd=system.folder, input=password + "\n", text=True,
            capture_output=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert password not in done.stdout + done.stderr
    signed_in(system, name)
    acts = [act["act"] for act in system.get("/v1/audit", object=name).ok()["items"]]
    assert acts[:3] == ["signed in", "answerline person password", "PUT /v1/people/{id}"]


def test_what_administrators_do_is_on_record(system: System, name: str) -> None:
    system.put(f"/v1/queues/{name}", {"mode": "observed"}).ok()
    (act,) = system.get("/v1/audit", object=name).ok()["items"]
    assert (act["who"], act["act"], act["status"]) == ("bootstrap", "PUT /v1/queues/{name}", 200)
    assert 'mode="observed"' in act["summary"]
