"""Starting, ending, dying and starting again: clear messages, clean ends, and every figure still there."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException

from tests.e2e.listening import Ear
from tests.system import SERVICES, System, eventually
from tests.unit.gateway import telephony_samples as samples

LOG = samples.queue_log_lines()


def figures(system: System, source: str) -> object:
    return system.get("/v1/reports/queues", source=source).ok(), system.get("/v1/reports/agents", source=source).ok()


def test_a_second_start_on_the_same_port_fails_with_one_clear_line(own_system: System) -> None:
    command = ("service", "gateway") if own_system.deployed else ("up",)
    done = own_system.answerline(*command, code=None)
    assert done.returncode not in (0, None)
    said = [line for line in done.stderr.splitlines() if own_system.settings["ANSWERLINE_HTTP"] in line]
    assert len(said) == 1, done.stderr
    assert "taken by another process" in said[0]
    assert "Traceback" not in done.stderr
    assert own_system.get("/livez").status == 200, "the first goes on"
    assert own_system.ready("gateway")


def test_sigterm_ends_cleanly_with_polls_and_streams_open_and_a_restart_keeps_all(own_system: System, name: str) -> None:
    system = own_system
    system.post("/v1/telephony/asterisk/queue-log", "\n".join(LOG), source=name).ok()
    system.put(f"/v1/queues/{name}", {"mode": "routed"}).ok()
    system.put(f"/v1/agents/{name}", {"channels": ["voice"], "queues": [name], "address": "PJSIP/1"}).ok()
    contact = system.post("/v1/contacts", {"queue": name, "source": f"{name}_routed"}).ok()["contact"]
    supervisor = system.client("supervisor")
    once = {"Idempotency-Key": f"{name}-key"}
    made = system.post("/v1/keys", {"name": name, "roles": ["agent"]}, headers=once).ok()
    system.settle()
    before = figures(system, name), figures(system, f"{name}_routed")

    with socket.create_connection(system.address) as poll, socket.create_connection(system.address) as stream:
        key = f"Authorization: Bearer {system.key}\r\n\r\n"
        poll.sendall(f"POST /v1/contacts/{contact}/assignment?wait=100 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n{key}".encode())
        stream.sendall(f"GET /v1/stream HTTP/1.1\r\nHost: x\r\n{key}".encode())
        assert b"200 OK" in stream.recv(1000)
        eventually(lambda: system.metrics("gateway").get('answerline_gateway_waiting_requests{kind="assignment"}') == 1)
        system.stop()
    assert "Traceback" not in system.log("gateway"), system.log("gateway")
    assert "Traceback" not in system.log("routing"), system.log("routing")

    system.up()
    assert (figures(system, name), figures(system, f"{name}_routed")) == before
    assert supervisor.get("/v1/reports/queues").status == 200, "keys are kept"
    assert system.post("/v1/keys", {"name": name, "roles": ["agent"]}, headers=once).ok() == made, "and what was answered to whom"
    assert system.get(f"/v1/queues/{name}").ok()["mode"] == "routed"
    assert system.post(f"/v1/contacts/{contact}/assignment").ok()["state"] == "waiting", "and who waits still waits"
    system.put(f"/v1/agents/{name}/state", {"state": "available"}).ok()
    assert eventually(lambda: system.get(f"/v1/agents/{name}/offers", wait=1).ok()["offers"])[0]["contact"] == contact


def test_an_offer_and_an_assignment_survive_the_death_of_routing(own_system: System, name: str) -> None:
    system = own_system
    system.put(f"/v1/queues/{name}", {"mode": "routed", "offer_seconds": 300}).ok()
    for agent in ("a", "b"):
        system.put(f"/v1/agents/{name}_{agent}", {"channels": ["voice"], "queues": [name], "address": f"PJSIP/{agent}"}).ok()
        system.put(f"/v1/agents/{name}_{agent}/state", {"state": "available"}).ok()
    contacts = [system.post("/v1/contacts", {"queue": name, "source": name}).ok()["contact"] for _ in "ab"]
    offers = [eventually(lambda agent=agent: system.get(f"/v1/agents/{name}_{agent}/offers", wait=1).ok()["offers"])[0] for agent in "ab"]
    system.post(f"/v1/offers/{offers[0]['id']}/accept", {"agent": f"{name}_a"}).ok()
    system.kill("routing")
    system.start("routing")
    system.wait_ready("gateway")
    assert eventually(lambda: system.post(f"/v1/contacts/{offers[0]['contact']}/assignment").json.get("agent")) == f"{name}_a"
    system.post(f"/v1/offers/{offers[1]['id']}/accept", {"agent": f"{name}_b"}).ok()
    assert {offer["contact"] for offer in offers} == set(contacts)
    assert system.get("/v1/reports/queues", source=name).ok()["queues"][0]["answered"] == 2


def test_what_was_acknowledged_survives_kills_of_everything_under_way(own_system: System, name: str) -> None:
    """Posts go on while gateway and routing are killed in turn; a post that got no answer is posted again."""
    system = own_system
    parts = [LOG[start : start + 5] for start in range(0, len(LOG), 5)]
    killer_done = threading.Event()

    def kill_in_turn() -> None:
        try:
            for service in ("gateway", "routing", "gateway"):
                reached = posted[0]
                eventually(lambda reached=reached: posted[0] > reached + 3 or posted[0] >= len(parts))
                system.kill(service)
                system.start(service)
        finally:
            killer_done.set()

    posted = [0]
    killer = threading.Thread(target=kill_in_turn)
    killer.start()
    for part in parts:

        def deliver(part: list[str] = part) -> bool:
            try:
                return system.post("/v1/telephony/asterisk/queue-log", "\n".join(part), source=name).status == 200
            except OSError:
                return False
            except Exception as error:  # noqa: BLE001 - the connection broke in the middle of an answer
                assert type(error).__module__ == "http.client", error
                return False

        eventually(deliver, within=60)
        posted[0] += 1
    killer.join(120)
    assert killer_done.is_set()
    for service in ("gateway", "routing"):
        system.start(service)
    system.settle(60)
    rows = {row["queue"]: row for row in system.get("/v1/reports/queues", source=name).ok()["queues"]}
    for queue, truth in samples.TRUTH["run1"]["queues"].items():
        assert {figure: rows[queue]["ring_no_answer" if figure == "missed" else figure] for figure in truth} == truth
    metrics = system.metrics("routing")
    received = metrics["answerline_routing_inbox_received_events_total"]
    placed = sum(
        value
        for sample, value in metrics.items()
        if sample.startswith(("answerline_routing_inbox_events_total{", "answerline_routing_inbox_set_aside"))
    )
    assert received == placed


def test_contacts_posted_with_a_key_of_their_own_are_made_once_though_the_gateway_dies_over_them(own_system: System, name: str) -> None:
    """Each is posted until it is answered, without a `call` that would make it known again."""
    system, answered = own_system, {}

    def post(number: int) -> str | None:
        try:
            answer = system.post("/v1/contacts", {"queue": name, "source": name}, headers={"Idempotency-Key": f"{name}-{number}"})
        except (OSError, HTTPException):
            return None
        assert answer.status in (201, 409, 503), answer
        if answer.status == 201:
            assert answered.setdefault(number, answer.ok()) == answer.ok()
        return answered.get(number)

    with ThreadPoolExecutor(8) as pool:
        first = [pool.submit(post, number) for number in range(200)]
        eventually(lambda: len(answered) > 30)
        system.kill("gateway")
        assert any(future.result() is None for future in first), "it died in the middle of them"
        system.start("gateway")
        if system.deployed:  # another process might still be at it for two minutes: let these pass
            system.sql("gateway", "update request_key set claimed_at = claimed_at - 1000 where status is null")
        eventually(lambda: all(pool.map(post, range(200))), within=60)
        assert all(pool.map(post, range(200)))
    assert len({one["contact"] for one in answered.values()}) == 200
    assert system.sql("gateway", "select count(*) from contact where source = :source", source=name)[0][0] == 200


def test_a_listener_goes_on_after_a_restart_where_it_was(own_system: System, name: str) -> None:
    system = own_system
    with Ear(system, f"queue:{name}").opened() as ear:
        contacts = [system.post("/v1/contacts", {"queue": name, "source": name}).ok()["contact"]]
        heard = ear.until(lambda told: told.data["data"]["contact"] == contacts[0])
        contacts.append(system.post("/v1/contacts", {"queue": name, "source": name}).ok()["contact"])
        system.stop()
    system.up()
    contacts.append(system.post("/v1/contacts", {"queue": name, "source": name}).ok()["contact"])
    with Ear(system, f"queue:{name}", heard[-1].id) as ear:
        heard += ear.until(lambda told: told.name == "routing.contact_queued.v1" and told.data["data"]["contact"] == contacts[-1])
    stored = system.sql("gateway", "select id from stream_event where queue = :name order by position", name=name)
    assert [told.data["id"] for told in heard] == [str(row.id) for row in stored]
    assert {told.data["data"]["contact"] for told in heard} == set(contacts)
    announced = {str(row.id) for service in ("gateway", "routing") for row in system.sql(service, "select id from outbox")}
    assert {str(row.id) for row in system.sql("gateway", "select id from stream_event")} <= announced


def test_services_start_in_any_order(own_system: System, name: str) -> None:
    system = own_system
    system.stop()
    system.start("gateway", wait=not system.deployed)
    if system.deployed:
        # without routing the gateway takes everything in, and says of the rest that it cannot be had at the moment
        eventually(lambda: system.ready("gateway"))
        assert system.post("/v1/telephony/asterisk/queue-log", "\n".join(LOG), source=name).ok()["accepted"] == len(LOG)
        answer = system.get(f"/v1/queues/{name}")
        assert "routing" in answer.problem(503)["detail"]
        assert answer.headers["Retry-After"]
    else:
        system.post("/v1/telephony/asterisk/queue-log", "\n".join(LOG), source=name).ok()
    system.start("routing")
    system.settle()
    assert sum(row["offered"] for row in system.get("/v1/reports/queues", source=name).ok()["queues"]) == 117


def test_a_wrong_setting_is_one_clear_line(own_system: System) -> None:
    for setting, value in (("ANSWERLINE_TIMEZONE", "Mars/Olympus"), ("ANSWERLINE_HTTP", "203.0.113.1:1")):
        done = own_system.answerline(*(("service", "gateway") if own_system.deployed else ("up",)), code=1, **{setting: value})
        assert value in done.stderr
        assert "Traceback" not in done.stderr


def test_no_key_stands_in_the_logs(own_system: System) -> None:
    for service in ("gateway", "routing"):
        assert own_system.key not in own_system.log(service, 10**7)


def test_doctor_looks_at_a_running_system(own_system: System) -> None:
    system = own_system.up()
    system.settle()
    told = system.answerline("doctor", code=None).stdout
    assert f"ok   API: answers at 127.0.0.1:{system.ports['http']}\n" in told
    for service in SERVICES:
        assert f"ok   {service} database: answers, and its tables are up to date\n" in told
        assert f"ok   {service} sums: received " in told
        if system.deployed and service in system.services:
            assert f"ok   {service} queue: is read; " in told
    assert "source ~settle" not in told
