"""compose.ha.yml under load, on a Docker engine: a node of the broker is killed, another is cut off, and one of the two processes of each service
dies. `make e2e-ha`. Nothing may be lost, applied twice or left lying. It has a project and ports of its own."""

from __future__ import annotations

import base64
import http.client
import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from shared.contracts import topology
from tests.chaos.load import Pbx, until
from tests.compose.journey import OURS, PATIENT, ROOT, Installation
from tests.stack.process import port
from tests.system import Client, eventually

NODES = ("rabbitmq", "rabbitmq-2", "rabbitmq-3")
PATIENCE = 600.0
"""Seconds; a node that was cut off is believed dead after a minute, and three nodes start slowly on a busy machine."""
SEED = int(os.environ.get("ANSWERLINE_CHAOS_SEED") or time.time() % 10**6)


class Cluster(Installation):
    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.project = f"answerline-ha-{os.getpid()}"
        self.folder = ROOT
        self.first_port = port()
        self.patience.write_text(json.dumps({"services": {name: {"healthcheck": PATIENT} for name in (*OURS, *NODES, "postgres")}}))

    @property
    def own(self) -> dict[str, str]:
        return {
            "COMPOSE_PROJECT_NAME": self.project, "ANSWERLINE_VERSION": self.project, "COMPOSE_FILE": f"docker-compose.yml:compose.ha.yml:{self.patience}",
            "COMPOSE_ENV_FILES": ".env.example", "ANSWERLINE_PUBLISH": f"127.0.0.1:{self.first_port}-{self.first_port + 1}",
        }  # fmt: skip

    def clients(self) -> list[Client]:
        return [Client(("127.0.0.1", self.first_port + number), self.key, timeout=10) for number in range(2)]

    def report(self) -> Any:
        return self.clients()[0].get("/v1/reports/queues", source="pbx").ok()

    def sql(self, service: str, statement: str) -> list[str]:
        return self.run_in("postgres", "psql", "-U", "postgres", "-At", service, "-c", statement).split("\n")[:-1]

    def every(self) -> list[dict[str, Any]]:
        ids = self.compose("ps", "-aq").stdout.split()
        found: list[dict[str, Any]] = json.loads(
            subprocess.run(["docker", "inspect", *ids], capture_output=True, text=True, check=True).stdout
        )
        return found

    def containers_of(self, service: str) -> list[str]:
        return self.compose("ps", "-q", service).stdout.split()

    @cached_property
    def password(self) -> str:
        """Of the one user who may look at the broker."""
        return self.run_in("rabbitmq", "cat", "/run/secrets/provisioner-password")

    def ask(self, node: str, path: str) -> Any:
        """What that node's management says; None where it does not answer."""
        (one,) = [one for one in self.every() if one["Config"]["Labels"]["com.docker.compose.service"] == node]
        address = one["NetworkSettings"]["Networks"].get(f"{self.project}_core", {}).get("IPAddress")
        if address and one["State"]["Running"]:
            with suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection(address, 15672, timeout=30)
                credentials = base64.b64encode(f"provisioner:{self.password}".encode()).decode()
                connection.request("GET", path, headers={"Authorization": f"Basic {credentials}"})
                answer = connection.getresponse()
                return json.loads(answer.read()) if answer.status == 200 else None
        return None

    def running_nodes(self, seen_by: str) -> set[str]:
        return {one["name"].removeprefix("rabbit@") for one in self.ask(seen_by, "/api/nodes") or () if one["running"]}

    def queues(self, seen_by: str = "rabbitmq") -> dict[str, dict[str, Any]]:
        return {one["name"]: one for one in self.ask(seen_by, "/api/queues") or ()}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.fail("there is no Docker engine here; `make e2e-ha` needs one", pytrace=False)
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.compose("build")
        began = time.monotonic()
        cluster.compose("up", "-d", "--wait")
        print(f"\nthree nodes and two processes of each service: healthy after {time.monotonic() - began:.0f} s, seed {SEED}")
        cluster.key = cluster.run_in("gateway", "cat", "/run/secrets/admin-key").strip()
        yield cluster
    finally:
        cluster.compose("--profile", "*", "down", "-v", "--remove-orphans", "-t", "5", check=False)
        subprocess.run(["docker", "image", "rm", "-f", f"answerline:{cluster.project}"], capture_output=True)


def test_three_nodes_have_every_queue(cluster: Cluster) -> None:
    assert cluster.running_nodes("rabbitmq") == set(NODES)
    queues = cluster.queues()
    for service in OURS:
        for name in (topology.inbox_queue(service), topology.replay_queue(service), topology.UNROUTED_QUEUE):
            assert len(queues[name]["members"]) == 3, queues[name]
    assert not [name for name, one in queues.items() if one["type"] == "classic" and one["durable"]], "it would go away with its node"


def test_nothing_is_lost_while_nodes_and_processes_die(cluster: Cluster) -> None:
    with Pbx(cluster.clients(), SEED, pace=0.2).working() as pbx:
        until(pbx, lambda: pbx.posts >= 10, PATIENCE)

        def goes_on(what: str, further: int = 10) -> None:
            began, enough, before = time.monotonic(), pbx.posts + further, applied(cluster)
            until(pbx, lambda: pbx.posts >= enough, PATIENCE)
            until(pbx, lambda: applied(cluster) > before, PATIENCE)
            print(f"{what}: {further} posts more taken in, and events applied, after {time.monotonic() - began:.0f} s")

        node = leader(cluster)
        docker("kill", *cluster.containers_of(node))
        goes_on(f"{node} killed")
        docker("start", container(cluster, node))
        eventually(lambda: cluster.running_nodes(node) == set(NODES), PATIENCE, every=2)

        node = leader(cluster)
        network = f"{cluster.project}_core"
        docker("network", "disconnect", network, container(cluster, node))
        others = {*NODES} - {node}
        eventually(lambda: cluster.running_nodes(min(others)) == others, PATIENCE, every=2)
        goes_on(f"{node} cut off")
        docker("network", "connect", "--alias", "broker", "--alias", node, network, container(cluster, node))
        eventually(lambda: cluster.running_nodes(node) == set(NODES), PATIENCE, every=2)
        goes_on(f"{node} back")

        for service in OURS:
            docker("kill", cluster.containers_of(service)[0])
        goes_on("one process of each service killed")
        cluster.compose("up", "-d", "--wait")
    began = time.monotonic()
    eventually(lambda: drained(cluster), PATIENCE, every=2)
    print(f"drained after {time.monotonic() - began:.0f} s")
    print({"calls": len(pbx.calls), "lines": len(pbx.lines), "posts": pbx.posts, **sums(cluster)})
    pbx.check_reports(cluster.clients()[0])


def test_everything_stops_and_starts_again(cluster: Cluster) -> None:
    """Whichever node is the last to stop."""
    before = cluster.report()
    cluster.compose("stop")
    began = time.monotonic()
    cluster.compose("up", "-d", "--wait")
    print(f"\nall stopped and started: healthy after {time.monotonic() - began:.0f} s")
    assert cluster.running_nodes("rabbitmq") == set(NODES)
    assert cluster.report() == before
    with Pbx(cluster.clients(), SEED, source="later", pace=0.2).working() as pbx:
        until(pbx, lambda: pbx.posts >= 10, PATIENCE)
    eventually(lambda: drained(cluster), PATIENCE, every=2)
    sums(cluster)
    pbx.check_reports(cluster.clients()[0])


# ---- what has become of it


def docker(*words: str) -> None:
    subprocess.run(["docker", *words], capture_output=True, text=True, check=True)


def container(cluster: Cluster, service: str) -> str:
    (id,) = cluster.compose("ps", "-aq", service).stdout.split()
    return id


def leader(cluster: Cluster) -> str:
    """The node that leads the queue of routing's events: the worst to lose."""
    return str(cluster.queues()[topology.inbox_queue("routing")]["leader"]).removeprefix("rabbit@")


def applied(cluster: Cluster) -> int:
    return int(cluster.sql("routing", "select count(*) from inbox")[0])


def left(cluster: Cluster) -> dict[str, int]:
    """What is not done yet: everything at its end is nothing."""
    found = Counter({"uncorrelated": int(cluster.sql("gateway", "select count(*) from intake where processed_at is null")[0])})
    for service in OURS:
        found[f"unpublished by {service}"] = int(cluster.sql(service, "select count(*) from outbox where published_at is null")[0])
        found[f"set aside by {service}"] = int(cluster.sql(service, "select count(*) from set_aside")[0])
    for service, (published, known) in events(cluster).items():
        found[f"not applied by {service}"] = len(published - known)
    return {what: number for what, number in found.items() if number}


def books(cluster: Cluster) -> dict[str, dict[str, int]]:
    """Of each service as of one moment: how many events it has announced and applied, and its buckets (G2)."""
    each = (
        "select 'announced', count(*) from outbox union all select 'known', count(*) from inbox union all select bucket, events from tally"
    )
    return {name: {what: int(number) for what, number in (line.split("|") for line in cluster.sql(name, each))} for name in OURS}


def drained(cluster: Cluster) -> bool:
    """Databases are read one after another: an event that went on meanwhile was seen nowhere. So nothing may have moved from before to after."""
    before = books(cluster)
    return not left(cluster) and books(cluster) == before


def events(cluster: Cluster) -> dict[str, tuple[set[str], set[str]]]:
    """By receiver: what was announced of what it hears, and what it has applied."""
    outboxes = {name: [line.split("|") for line in cluster.sql(name, "select id, type from outbox")] for name in OURS}
    return {
        receiver: (
            {id for rows in outboxes.values() for id, type in rows if type in topology.SUBSCRIPTIONS[receiver]},
            set(cluster.sql(receiver, "select id from inbox")),
        )
        for receiver in OURS
    }


def sums(cluster: Cluster) -> dict[str, Any]:
    """0 lost, 0 twice, and each receiver's buckets agree (G2)."""
    lost = sum(len(published - known) for published, known in events(cluster).values())
    told = {"lost": lost, "twice": 0, "events": 0}
    for receiver, book in books(cluster).items():
        told["twice"] += book["applied"] - book["known"]
        told["events"] += book["known"]
        buckets = sum(number for bucket, number in book.items() if bucket not in ("announced", "known", "received"))
        assert book["received"] == buckets, (receiver, book)
    assert (told["lost"], told["twice"]) == (0, 0), told
    return told
