"""What docker-compose.yml and its surroundings must know of every setting and every service."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.config import Settings
from shared.db.engine import OVERFLOW, POOL_SIZE
from shared.runtime.definition import installed

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
EXAMPLE = (ROOT / ".env.example").read_text()
MADE = {"admin_key", "secret_key"}
"""Secrets that are generated; a file of the operator's own counts before, never a line of .env."""
FIXED = {"http", "metrics", "data"}
"""Within the container; ANSWERLINE_PUBLISH says where the API listens outside, and a deployed service has no data folder."""


@pytest.mark.parametrize("field", sorted(set(Settings.__dataclass_fields__) - FIXED))
def test_every_setting_reaches_a_service(field: str) -> None:
    name = f"ANSWERLINE_{field.upper()}"
    given = {variable for one in installed() for variable in COMPOSE["services"][one]["environment"]}
    assert name in given or f"{name}_FILE" in given
    if field not in MADE and f"{name}_FILE" not in given:
        assert name in EXAMPLE


def test_what_the_example_of_settings_names_is_heeded() -> None:
    named = set(re.findall(r"^# ([A-Z_]+)=", EXAMPLE, re.M))
    assert named <= set(re.findall(r"[A-Z_]{6,}", (ROOT / "docker-compose.yml").read_text()))


@pytest.mark.parametrize("service", sorted(installed()))
def test_every_service_has_a_container_its_own_secrets_and_is_scraped(service: str) -> None:
    services = COMPOSE["services"]
    ours = services[service]
    assert ours["command"] == ["service", service]
    assert ours["environment"]["ANSWERLINE_SERVICE"] == service
    assert ours["volumes"] == [f"{service}-secrets:/run/secrets:ro"]
    assert f"{service}-secrets:/secrets/for/{service}" in services["secrets"]["volumes"]
    assert f"{service}-secrets:/secrets/for/{service}:ro" in services["migrate"]["volumes"]
    assert ("ports" in ours) == (service == "gateway")
    scraped = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"][0]
    assert service in scraped["dns_sd_configs"][0]["names"]


@pytest.mark.parametrize("name", sorted(COMPOSE["services"]))
def test_every_container_is_locked(name: str) -> None:
    container = COMPOSE["services"][name]
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert container["logging"]["options"] == {"max-size": "10m", "max-file": "5"}
    assert container["mem_limit"]
    assert "privileged" not in container
    if container.get("image", "").startswith("answerline:"):
        assert container["read_only"] is True
    if name in installed():
        assert container["stop_grace_period"]


@pytest.mark.parametrize("files", [["docker-compose.yml"], ["docker-compose.yml", "compose.ha.yml"]])
def test_the_database_takes_the_connections_of_every_process(files: list[str]) -> None:
    words = " ".join(COMPOSE["services"]["postgres"]["command"])
    (most,) = re.findall(r"max_connections=\$\{POSTGRES_CONNECTIONS:-(\d+)\}", words)
    scales: dict[str, int] = {}
    for file in files:
        services = yaml.safe_load((ROOT / file).read_text().replace("!override", ""))["services"]
        scales |= {name: int(re.sub(r"\$\{\w+:-(\d+)\}", r"\1", str(services[name].get("scale", 1)))) for name in installed()}
    assert set(scales) == set(installed())
    jobs = 2 * len(scales)  # a backup and a doctor while everything works
    assert sum(scales.values()) * (POOL_SIZE[False] + OVERFLOW[False]) + jobs <= int(most)


@pytest.mark.parametrize("name", ["prometheus", "grafana"])
def test_what_watches_is_asked_for_and_seen_from_this_machine_alone(name: str) -> None:
    container = COMPOSE["services"][name]
    assert container["profiles"] == ["observability"]
    assert container["read_only"] is True
    assert container["stop_grace_period"] and container["pids_limit"] and container["healthcheck"]
    assert re.search(r":v?[0-9]+\.[0-9]+\.[0-9]+$", container["image"])
    assert container["networks"] == ["core"]
    assert all(re.fullmatch(r"\$\{[A-Z_]+:-127\.0\.0\.1:\d+\}:\d+", port) for port in container.get("ports", ()))
    for mount in (one for one in container["volumes"] if one.startswith("./")):
        source, _, mode = mount.removeprefix("./").split(":")
        assert (ROOT / source).is_dir() and mode == "ro"


def test_every_port_of_metrics_is_scraped() -> None:
    jobs = {
        job["job_name"]: job for job in yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    }
    assert COMPOSE["x-environment"]["ANSWERLINE_METRICS"] == f"0.0.0.0:{jobs['answerline']['dns_sd_configs'][0]['port']}"
    for name in ("rabbitmq", "rabbitmq-queues"):
        (found,) = jobs[name]["dns_sd_configs"]
        assert "rabbitmq" in found["names"] and found["port"] == 15692


@pytest.fixture
def bootstrap(tmp_path: Path) -> Any:
    """The one-shot job with the folders that Compose gives it."""
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "deploy" / "bootstrap.py")
    assert spec and spec.loader
    bootstrap = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bootstrap)
    bootstrap.KEPT, bootstrap.OWN, bootstrap.FOR = (tmp_path / name for name in ("kept", "own", "for"))
    mounted = [volume.partition(":")[2] for volume in COMPOSE["services"]["secrets"]["volumes"]]
    for folder in (bootstrap.KEPT, *(tmp_path / path.removeprefix("/secrets/") for path in mounted)):
        folder.mkdir(parents=True, exist_ok=True)
    return bootstrap


def test_the_authority_of_ones_own_broker_and_database_is_known_to_every_service(bootstrap: Any) -> None:
    bootstrap.OWN.mkdir()
    for name in ("authority.pem", "certificate.pem", "key.pem"):
        (bootstrap.OWN / name).write_text("of ours")
    bootstrap.make_secrets()
    for name in ("authority.pem", "certificate.pem", "key.pem"):
        assert {path.parent.name for path in bootstrap.FOR.rglob(name)} == set(installed())
        (bootstrap.OWN / name).unlink()
    bootstrap.make_secrets()
    assert not list(bootstrap.FOR.rglob("*.pem"))


def test_grafanas_password_is_made_once_and_nobody_else_gets_it(bootstrap: Any) -> None:
    bootstrap.make_secrets()
    assert bootstrap.services() == sorted(installed())
    password = (bootstrap.FOR / "grafana" / "admin-password").read_text()
    assert len(password) > 40
    assert COMPOSE["services"]["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"] == "/run/secrets/admin-password"
    assert [path.parent.name for path in bootstrap.FOR.rglob("*") if path.is_file() and password in path.read_text()] == ["grafana"]
    bootstrap.make_secrets()
    assert (bootstrap.FOR / "grafana" / "admin-password").read_text() == password


def everything(bootstrap: Any) -> dict[str, str]:
    return {str(path.relative_to(bootstrap.FOR)): path.read_text() for path in bootstrap.FOR.rglob("*") if path.is_file()}


def test_what_containers_hold_is_not_made_anew_when_what_was_kept_is_lost(bootstrap: Any) -> None:
    bootstrap.make_secrets()
    given, kept = everything(bootstrap), {path.name: path.read_text() for path in bootstrap.KEPT.iterdir()}
    assert {"gateway/secret-key", "postgres/password", "routing/broker-url"} < given.keys()
    for path in bootstrap.KEPT.iterdir():
        path.unlink()
    bootstrap.make_secrets()
    assert everything(bootstrap) == given
    assert {path.name: path.read_text() for path in bootstrap.KEPT.iterdir()} == kept


def test_a_container_that_lost_its_secrets_gets_them_again(bootstrap: Any) -> None:
    bootstrap.make_secrets()
    given = everything(bootstrap)
    for path in (bootstrap.FOR / "gateway").iterdir():
        path.unlink()
    bootstrap.make_secrets()
    assert everything(bootstrap) == given


def test_the_password_of_a_broker_elsewhere_is_not_taken_for_ours(bootstrap: Any) -> None:
    bootstrap.OWN.mkdir()
    (bootstrap.OWN / "broker-url").write_text("amqp://routing:theirs@broker.example:5672/answerline")
    bootstrap.make_secrets()
    (bootstrap.OWN / "broker-url").unlink()
    bootstrap.make_secrets()
    assert not [name for name, text in everything(bootstrap).items() if "theirs" in text]


@pytest.mark.parametrize("name", ["admin-key", "grafana-admin-password"])
def test_a_key_that_the_operator_takes_away_counts_no_more(bootstrap: Any, name: str) -> None:
    bootstrap.OWN.mkdir()
    (bootstrap.OWN / name).write_text("al_leaked")
    bootstrap.make_secrets()
    (bootstrap.OWN / name).unlink()
    bootstrap.make_secrets()
    assert not [place for place, text in everything(bootstrap).items() if "al_leaked" in text]


def test_a_restore_needs_no_migrated_tables(bootstrap: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`answerline migrate` refuses tables that a restore has left by half, and those of a newer version: what restores must not wait for it."""
    for files in ("docker-compose.yml", "compose.ha.yml"):
        jobs = yaml.safe_load((ROOT / files).read_text().replace("!override", ""))["services"]
        assert jobs["restore"]["depends_on"] == jobs["migrate"]["depends_on"]
    assert COMPOSE["services"]["restore"]["entrypoint"] == ["python", "bootstrap.py"]
    done: list[Any] = []
    monkeypatch.setattr(bootstrap, "make_databases", lambda passwords: done.append(sorted(passwords)))
    monkeypatch.setattr(bootstrap, "import_definitions", lambda _: done.append("broker"))
    monkeypatch.setattr("os.execvp", lambda _, words: done.append(words))
    monkeypatch.setattr("sys.argv", ["bootstrap.py", *COMPOSE["services"]["restore"]["command"]])
    bootstrap.make_secrets()
    bootstrap.restore()
    assert done == [sorted(installed()), "broker", ["answerline", "restore", "--yes", "-"]]
