"""Dashboards and alerts on a real system that a real Prometheus scrapes: `make e2e-observe`. Not part of the whole suite: it needs a Prometheus
(Debian's package; installed where we are root) and some minutes of traffic.

Every panel's query has found something, every alert's rule was evaluated without an error, every metric of docs/metrics.md was scraped, and no label is an
id, a person or a number."""

from __future__ import annotations

import importlib.util
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e import test_escalations, test_loop, test_training, test_webhook_journeys
from tests.e2e.centre import Centre
from tests.e2e.listening import Ear
from tests.e2e.test_webhook_journeys import receiver  # noqa: F401 - a fixture
from tests.stack import Database, install
from tests.stack.process import port
from tests.stack.prometheus import Prometheus, installed
from tests.stack.rabbitmq import LocalBroker
from tests.system import SERVICES, System, eventually
from tests.unit.shared import metrics_table

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
WINDOW, STEP = "30s", "5s"
ONLY_ELSEWHERE = ("_shards_held", "_data_free_bytes")
"""Metrics of a routing in shards, and of an embedded centre."""
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-|^\+?[0-9]{6,}$|[0-9a-f]{24}")


def settings(system: System, broker: LocalBroker, own: int) -> str:
    """deploy/prometheus/prometheus.yml with the addresses of this machine."""
    told = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    told["global"] = {"scrape_interval": "2s", "evaluation_interval": "2s"}
    told["rule_files"] = [str(DEPLOY / "prometheus" / "rules.yml")]
    del told["alerting"]
    for job in told["scrape_configs"]:
        job.pop("dns_sd_configs", None)
        if job["job_name"] == "answerline":
            del job["relabel_configs"]
            job["static_configs"] = [{"targets": [f"127.0.0.1:{system.ports[one]}"], "labels": {"service": one}} for one in SERVICES]
        else:
            job["static_configs"] = [{"targets": [f"127.0.0.1:{own if job['job_name'] == 'prometheus' else broker.metrics_port}"]}]
    return yaml.safe_dump(told)


@pytest.fixture(scope="module")
def began() -> float:
    return time.time()


@pytest.fixture(scope="module")
def broker() -> Iterator[LocalBroker]:
    with LocalBroker(metrics_port=port()) as broker:
        yield broker


@pytest.fixture(scope="module")
def system(broker: LocalBroker, database: Database) -> Iterator[System]:
    with System("deployed", broker, database) as system:
        yield system


@pytest.fixture(scope="module")
def prometheus(system: System, broker: LocalBroker, began: float) -> Iterator[Prometheus]:
    if not installed() and (refused := install(watching=True)):
        pytest.fail(f"there is no Prometheus: {refused}", pytrace=False)
    own = port()
    with Prometheus(settings(system, broker, own), own) as running:
        eventually(lambda: len(running.values("up == 1")) == len(SERVICES) + 3, 60)
        yield running


def dashboards() -> Any:
    spec = importlib.util.spec_from_file_location("dashboards", DEPLOY / "grafana" / "dashboards.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


PANELS = dashboards().queries()


@pytest.fixture(scope="module")
def scraped(prometheus: Prometheus, system: System) -> Iterator[Prometheus]:
    """What the journeys leave out: a policy with a target and a shadow, a wait, one who hung up, a refusal, an analysis, a listener."""
    name = "floor"
    system.put(
        f"/v1/policies/{name}", "bound_seconds: 600\ntarget: {share: 0.8, seconds: 20}\n", headers={"Content-Type": "application/yaml"}
    ).ok()
    system.put(f"/v1/policies/{name}/shadow", "bound_seconds: 60\n", headers={"Content-Type": "application/yaml"}).ok()
    eventually(lambda: system.get(f"/v1/policies/{name}/shadow").ok()["compared_at"], 60)  # with nothing, as yet
    centre = Centre(system, name, policy=name, wrap_up=False)
    anna = centre.agent("anna")
    for _ in range(6):
        contact = centre.call()
        centre.serve(anna, contact)
        centre.end(contact)
        eventually(lambda: centre.state_of(anna) == "available")
    centre.serve(anna, first := centre.call())
    second = centre.call()
    eventually(lambda: prometheus.values('answerline_routing_longest_wait_seconds{queue="floor"} > 6'), 30)
    centre.end(first)
    centre.serve(anna, second)
    centre.end(second)
    system.sql("routing", "update shadow set compared_at = null where name = :name", name=name)  # five minutes have passed
    eventually(lambda: system.get(f"/v1/policies/{name}/shadow").ok()["figures"], 60)
    system.post("/v1/contacts", {"queue": name, "source": name, "call": "left"}).ok()
    system.post(f"/v1/contacts/{name}:left/end", {"ended_by": "caller"})
    system.post("/v1/offers/018f0000-0000-7000-8000-000000000000/accept", {"agent": anna}).problem(404)
    system.post("/v1/analyses", {"kind": "gaming", "from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"}).ok()
    with Ear(system, "live,queue:floor"):
        centre.call()
        told = 'answerline_routing_estimate_error_seconds{queue="floor"} and on (queue) answerline_routing_contacts'
        eventually(lambda: centre.state(anna, "available") and prometheus.values(told), 120, every=2)  # it is noted once a minute
    yield prometheus


def test_the_loop(prometheus: Prometheus, system: System) -> None:
    test_loop.test_what_one_contact_showed_changes_who_is_offered_the_next(system, "loop")


def test_escalations_that_climb(prometheus: Prometheus, system: System) -> None:
    test_escalations.test_the_ladder_asks_more_after_its_seconds(system, "climb")


def test_a_plan_and_a_certificate_that_ends(prometheus: Prometheus, system: System) -> None:
    school = test_training.School(system, "school")
    school.give(school.learner("ann"), test_training.in_seconds(4)).ok()
    test_training.test_a_quarter_is_planned_in_the_background_and_carried_out(system, "quarter")


def test_webhooks(prometheus: Prometheus, system: System, receiver: Any) -> None:  # noqa: F811 - the fixture
    test_webhook_journeys.test_what_happens_to_a_call_is_posted_signed_and_in_order(system, receiver, "hooked")


def found(prometheus: Prometheus, query: str, began: float) -> list[str]:
    """Every value that the query had since then."""
    plain = query.replace("$__rate_interval", WINDOW).replace("$queue", ".*")
    lines = prometheus.ask("query_range", query=plain, start=began, end=time.time(), step=STEP)["result"]
    return [value for line in lines for _, value in line["values"] if value not in ("NaN", "+Inf", "-Inf")]


@pytest.mark.parametrize("panel", PANELS)
def test_no_panel_is_empty(scraped: Prometheus, panel: str, began: float) -> None:
    assert found(scraped, PANELS[panel], began), PANELS[panel]


def test_every_metric_of_the_list_was_scraped(scraped: Prometheus) -> None:
    names = set(scraped.ask("label/__name__/values"))
    missing = {name for name in metrics_table.every_series() if name not in names and not name.endswith(ONLY_ELSEWHERE)}
    no_such = {
        name
        for name in missing
        if re.fullmatch(r"answerline_(im|qa|routing|training)_http_connections|answerline_gateway_command_seconds_.*", name)
    }
    assert sorted(missing - no_such) == []


def test_no_label_is_an_id_or_a_number(scraped: Prometheus) -> None:
    for label in scraped.ask("labels"):
        if label not in ("__name__", "le", "instance", "rabbitmq_node", "erlang_version"):
            values = scraped.ask(f"label/{label}/values", **{"match[]": '{job=~"answerline|rabbitmq-queues"}'})
            assert not [value for value in values if ID.search(value)], label


def test_every_alert_was_evaluated_and_the_sums_agreed(scraped: Prometheus, began: float) -> None:
    rules = [rule for group in scraped.ask("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 30
    assert not [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"]
    (sums,) = (query for panel, query in PANELS.items() if panel.startswith("events / G2"))
    settled = scraped.values(sums)
    assert {line["metric"]["service"]: float(line["value"][1]) for line in settled} == dict.fromkeys(SERVICES, 0.0)
    quiet = (
        "ServiceDown",
        "ServiceNotReady",
        "DatabaseUnreachable",
        "BrokerUnreachable",
        "DeadLetters",
        "SumsDisagree",
        "NoConsumer",
        "ConsumerStuck",
    )
    assert not [one for one in scraped.ask("alerts")["alerts"] if one["labels"]["alertname"] in quiet and one["state"] == "firing"]
