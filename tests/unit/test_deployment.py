"""What docker-compose.yml and its surroundings must know of every setting and every service."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from shared.config import Settings
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
