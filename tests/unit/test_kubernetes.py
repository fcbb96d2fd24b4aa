"""What deploy/kubernetes must say of every service. Whether it is what Kubernetes takes: `make check-kubernetes`."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.config import Settings
from shared.contracts import topology
from shared.runtime.definition import installed

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
README = (FOLDER / "README.md").read_text()
ALL = [one for path in FOLDER.glob("*.yaml") for one in yaml.safe_load_all(path.read_text())]
POD = {"Deployment": ("template",), "Job": ("template",), "CronJob": ("jobTemplate", "spec", "template")}


def named(kind: str, name: str) -> Any:
    (found,) = [one for one in ALL if one["kind"] == kind and one["metadata"].get("name") == name]
    return found["spec"]


def pods() -> dict[str, Any]:
    found = {}
    for one in ALL:
        if one["kind"] in POD:
            spec = one["spec"]
            for step in POD[one["kind"]]:
                spec = spec[step]
            found[one["metadata"].get("name") or one["metadata"]["generateName"].rstrip("-")] = spec["spec"]
    return found


def test_everything_is_applied_but_a_restore() -> None:
    assert {*KUSTOMIZATION["resources"]} == {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml", "restore.yaml"}


@pytest.mark.parametrize("service", sorted(installed()))
def test_a_service_lives_through_a_node_that_goes(service: str) -> None:
    deployment = named("Deployment", service)
    (container,) = deployment["template"]["spec"]["containers"]
    assert container["args"] == ["service", service]
    assert {probe: container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")} == {
        "startupProbe": "/livez",
        "livenessProbe": "/livez",
        "readinessProbe": "/readyz?without=broker" if service == "gateway" else "/readyz",
    }
    assert deployment["template"]["spec"]["terminationGracePeriodSeconds"] > 25
    labels = {"app.kubernetes.io/name": service}
    assert deployment["selector"]["matchLabels"] == named("PodDisruptionBudget", service)["selector"]["matchLabels"] == labels
    assert labels.items() <= deployment["template"]["metadata"]["labels"].items()
    scaled = [
        one["spec"].get("minReplicas") or one["spec"].get("minReplicaCount")
        for one in ALL
        if one["kind"] in ("HorizontalPodAutoscaler", "ScaledObject") and one["spec"]["scaleTargetRef"]["name"] == service
    ]
    assert [deployment["replicas"]] == [2] if "replicas" in deployment else scaled == [2], "two, and one hand on the number"


@pytest.mark.parametrize("service", sorted(installed()))
def test_secrets_are_files_of_its_own_and_the_jobs_see_all(service: str) -> None:
    spec = pods()[service]
    assert [one["secret"]["secretName"] for one in spec["volumes"] if "secret" in one and one["name"] != "authority"] == [
        f"answerline-{service}"
    ]
    for job in ("migrate", "backup", "restore"):
        (volume,) = [one for one in pods()[job]["volumes"] if one["name"] == service]
        assert volume["secret"]["secretName"] == f"answerline-{service}"
        (container,) = pods()[job]["containers"]
        assert {"name": service, "mountPath": f"/run/secrets/{service}", "readOnly": True} in container["volumeMounts"]


@pytest.mark.parametrize("name", sorted(pods()))
def test_a_url_names_the_file_of_an_authority_as_every_pod_sees_it(name: str) -> None:
    """One URL is read by a service and by the jobs."""
    spec = pods()[name]
    (volume,) = [one["secret"] for one in spec["volumes"] if one["name"] == "authority"]
    assert (volume["secretName"], volume["optional"]) == ("answerline-authority", True)
    (path,) = [one["mountPath"] for one in spec["containers"][0]["volumeMounts"] if one["name"] == "authority"]
    urls = re.findall(r"\w+://\S+[?&](?:cacertfile|sslrootcert)=([^`&\s]+)", README)
    assert urls == [f"{path}/authority.pem"] * 2
    assert "create secret generic answerline-authority --from-file=authority.pem" in README


SCALED = [one["metadata"]["name"] for one in ALL if one["kind"] == "ScaledObject"]


def test_kedas_kinds_are_of_the_api_that_is_meant() -> None:
    assert {one["apiVersion"] for one in ALL if one["kind"] in ("ScaledObject", "TriggerAuthentication")} == {"keda.sh/v1alpha1"}
    assert len(SCALED) == len([one for one in ALL if one["kind"] == "TriggerAuthentication"]) == 3


@pytest.mark.parametrize("service", SCALED)
def test_keda_counts_the_requests_that_wait_for_a_service(service: str) -> None:
    """What KEDA requires of a ScaledObject, and by what it would do nothing: a queue, a Deployment or a secret that is not there."""
    spec = named("ScaledObject", service)
    assert spec.keys() == {"scaleTargetRef", "minReplicaCount", "maxReplicaCount", "cooldownPeriod", "fallback", "triggers"}
    assert spec["scaleTargetRef"] == {"name": service}
    assert named("Deployment", service)
    assert 0 < spec["minReplicaCount"] < spec["maxReplicaCount"]
    assert spec["fallback"].keys() == {"failureThreshold", "replicas"}
    assert spec["fallback"]["replicas"] >= spec["minReplicaCount"]
    waiting, busy = spec["triggers"]
    assert waiting.keys() == {"type", "metadata", "authenticationRef"}
    assert waiting["type"] == "rabbitmq"
    queue = topology.command_queue(service)
    assert waiting["metadata"] == {"protocol": "amqp", "queueName": queue, "mode": "QueueLength", "value": waiting["metadata"]["value"]}
    assert busy.keys() == {"type", "metricType", "metadata"}
    assert (busy["type"], busy["metricType"], busy["metadata"].keys()) == ("cpu", "Utilization", {"value"})
    assert all(isinstance(value, str) for trigger in (waiting, busy) for value in trigger["metadata"].values()), "numbers are texts there"
    assert pods()[service]["containers"][0]["resources"]["requests"]["cpu"], "of which the share is taken"


@pytest.mark.parametrize("service", SCALED)
def test_keda_asks_the_broker_as_the_service_does(service: str) -> None:
    (reference,) = [one["authenticationRef"] for one in named("ScaledObject", service)["triggers"] if "authenticationRef" in one]
    assert reference.keys() == {"name"}
    of_service = {one["name"]: one.get("value") for one in pods()[service]["containers"][0]["env"]}
    key = of_service["ANSWERLINE_BROKER_URL_FILE"].rpartition("/")[2]
    assert named("TriggerAuthentication", reference["name"]) == {
        "secretTargetRef": [{"parameter": "host", "name": f"answerline-{service}", "key": key}]
    }


def test_keda_can_be_told_of_an_authority_of_ones_own() -> None:
    """It has not the file that the broker's URL names; what the overlay of the README adds names the keys of the secret made there."""
    (overlay,) = re.findall(r"```yaml\n(patches:.*?)```", README, re.DOTALL)
    (patch,) = yaml.safe_load(overlay)["patches"]
    assert patch["target"] == {"group": "keda.sh", "kind": "TriggerAuthentication"}
    added = yaml.safe_load(patch["patch"])
    assert {(one["op"], one["path"]) for one in added} == {("add", "/spec/secretTargetRef/-")}
    assert [one["value"] for one in added] == [
        {"parameter": "tls", "name": "answerline-authority", "key": "tls"},
        {"parameter": "ca", "name": "answerline-authority", "key": "authority.pem"},
    ]
    assert "answerline-authority --from-file=authority.pem --from-literal=tls=enable" in README


def test_the_gateway_reaches_nothing_inside_by_an_address_of_the_outside() -> None:
    """Nodes, pods, the metadata service of a cloud and the space that providers share among their customers."""
    (rule,) = named("NetworkPolicy", "answerline-outside")["egress"]
    kept = [ip_network(one) for one in rule["to"][0]["ipBlock"]["except"]]
    for inside in ("10.0.0.1", "100.64.0.1", "100.127.255.254", "127.0.0.1", "169.254.169.254", "172.31.0.1", "192.168.0.1"):
        assert any(ip_address(inside) in one for one in kept), inside
    assert not any(ip_address("100.128.0.1") in one for one in kept)


@pytest.mark.parametrize("name", sorted(pods()))
def test_every_pod_is_locked_and_bounded(name: str) -> None:
    spec = pods()[name]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert container["resources"]["limits"]["memory"]
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        known = {f"ANSWERLINE_{field.upper()}{end}" for field in Settings.__dataclass_fields__ for end in ("", "_FILE")} | {
            "ANSWERLINE_SERVICE"
        }
        assert {one["name"] for one in container.get("env", ())} <= known
        assert not any("value" in one and one["name"].endswith(("_URL", "_KEY")) for one in container.get("env", ())), (
            "a secret in the open"
        )
