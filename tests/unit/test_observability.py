"""Metrics, dashboards, alerts and their pages hold together. What promtool and a real Prometheus say: `make alerts`, `make e2e-observe`."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from shared.runtime.definition import installed
from tests.unit.shared import metrics_table

ROOT = Path(__file__).parents[2]
PROMETHEUS, GRAFANA = ROOT / "deploy" / "prometheus", ROOT / "deploy" / "grafana"
RUNBOOKS = (ROOT / "docs" / "alerts.md").read_text()
RULES = [rule for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"] for rule in group["rules"]]
TRIED = [test for name in ("rules_test.yml", "rules_days_test.yml") for test in yaml.safe_load((PROMETHEUS / name).read_text())["tests"]]
NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
OTHERS = ("up", "ALERTS")
LABELS_OF_SCRAPES = {"job", "instance", "service", "alertstate", "queue", "__name__"}
"""What Prometheus, and RabbitMQ with the name of a queue, add to what our code says."""
HANDLE_TIME = re.compile(r"talk|wrap|handle|hold|conversation|duration_of_contact|aht", re.IGNORECASE)


def _dashboards() -> ModuleType:
    spec = importlib.util.spec_from_file_location("answerline_dashboards", GRAFANA / "dashboards.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


DASHBOARDS = _dashboards()
QUERIES: dict[str, str] = DASHBOARDS.queries() | {f"alert {rule['alert']}": rule["expr"] for rule in RULES}


@pytest.fixture(scope="module")
def series() -> dict[str, tuple[str, ...]]:
    return metrics_table.every_series()


def selectors(query: str) -> Iterator[tuple[str, str]]:
    """(pattern of the metric's name, what stands between its braces)"""
    for inside in re.findall(r"\{(__name__=~[^}]*)\}", query):
        pattern, _, rest = inside.removeprefix('__name__=~"').partition('"')
        yield pattern, rest
    for name, _, inside in re.findall(
        r"\b(answerline_\w+|process_\w+|rabbitmq_\w+|up|ALERTS)(?:\s*(\{)([^}]*)\})?", re.sub(r'\{__name__[^}]*\}|"[^"]*"', "", query)
    ):
        yield name, inside


def labels_asked(query: str) -> set[str]:
    plain = re.sub(r'"(\\.|[^"\\])*"', '""', query)
    inside = {name for braces in re.findall(r"\{([^}]*)\}", plain) for name in re.findall(r"(\w+)\s*[=!]", braces)}
    grouped = {name.strip() for group in re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", plain) for name in group.split(",")}
    return (inside | grouped) - {""}


def test_the_list_of_metrics_is_current() -> None:
    page = metrics_table.PAGE.read_text()
    assert page.split(metrics_table.BEGIN)[1].split(metrics_table.END)[0] == metrics_table.table(), (
        "python -m tests.unit.shared.metrics_table"
    )


def test_names_follow_their_rules_and_labels_are_no_ids() -> None:
    services = {*installed(), "<service>", "backup"}
    for group, known in metrics_table.catalogue().items():
        for one in known:
            named = re.fullmatch(r"answerline_([a-z]+|<service>)_[a-z0-9_]+", one.name)
            assert named and named[1] in services if group != "process" else one.name.startswith("process_"), one.name
            assert not re.search(r"milliseconds|_ms$|minutes|kilobytes", one.name)
            assert not {"id", "contact", "call", "caller", "customer", "agent", "person", "number", "session"} & set(one.labels), one.name
            assert one.told.endswith((".", "setting.", "be 0.")) or group == "process", one.name


def test_the_dashboards_are_current() -> None:
    written = {path.name: path.read_text() for path in (GRAFANA / "dashboards").glob("*.json")}
    assert written == DASHBOARDS.written(), "python deploy/grafana/dashboards.py"


@pytest.mark.parametrize("name", sorted(DASHBOARDS.DASHBOARDS))
def test_a_dashboard_is_whole(name: str) -> None:
    made = json.loads((GRAFANA / "dashboards" / f"{name}.json").read_text())
    provisioned = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text())["datasources"][0]
    assert {source["uid"] for source in _every(made, "datasource")} == {provisioned["uid"]}
    assert len({panel["id"] for panel in made["panels"]}) == len({panel["title"] for panel in made["panels"]}) == len(made["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in made["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["targets"] and all(target["expr"] for target in panel["targets"])
    used = set(re.findall(r"\$([a-z]+)\b", json.dumps([panel["targets"] for panel in made["panels"]])))
    assert used == {variable["name"] for variable in made["templating"]["list"]}


def _every(tree: Any, key: str) -> Iterator[Any]:
    if isinstance(tree, dict):
        if key in tree:
            yield tree[key]
        for value in tree.values():
            yield from _every(value, key)
    elif isinstance(tree, list):
        for value in tree:
            yield from _every(value, key)


@pytest.mark.parametrize("query", sorted(QUERIES))
def test_every_metric_and_label_of_a_query_is_the_codes(query: str, series: dict[str, tuple[str, ...]]) -> None:
    told = QUERIES[query]
    known = set(LABELS_OF_SCRAPES)
    asked = list(selectors(told))
    assert asked
    for name, _ in asked:
        if name in OTHERS or name.startswith("rabbitmq_"):
            continue
        meant = [one for one in series if re.fullmatch(name, one)]
        assert meant, name
        if "[a-z]+" in name and not name.endswith("_data_free_bytes"):
            assert len(meant) >= len(installed()), f"{name} is not of every service"
        known |= {label for one in meant for label in series[one]}
    assert labels_asked(told) <= known


@pytest.mark.parametrize("alert", sorted({rule["alert"] for rule in RULES}))
def test_every_alert_has_a_runbook_and_is_tried(alert: str) -> None:
    for rule in RULES:
        if rule["alert"] == alert:
            assert rule["labels"]["severity"] in ("page", "ticket")
            assert rule["annotations"]["summary"]
            assert rule["annotations"]["runbook"] == f"docs/alerts.md#{alert.lower()}"
            assert not HANDLE_TIME.search(rule["expr"]), "handle time is shown, never limited"
    section = re.search(rf"^### {alert}\n\n(.+?)(?=^##|\Z)", RUNBOOKS, re.M | re.S)
    assert section, f"docs/alerts.md has no section {alert}"
    assert "**Means**" in section[1] and "**Do**" in section[1]
    cases = [case for test in TRIED if test["name"] == alert for case in test.get("promql_expr_test", ())]
    assert {case["expr"] for case in cases} == {f'ALERTS{{alertname="{alert}", alertstate="firing"}}'}
    assert {bool(case.get("exp_samples")) for case in cases} == {True, False}, "it fires, and it stays silent"


def test_no_runbook_is_left_of_an_alert_that_went() -> None:
    assert set(re.findall(r"^### (\w+)$", RUNBOOKS, re.M)) == {rule["alert"] for rule in RULES}


def test_every_service_is_missed_when_it_is_gone() -> None:
    assert sorted(rule["labels"]["service"] for rule in RULES if rule["alert"] == "ServiceDown") == sorted(installed())
