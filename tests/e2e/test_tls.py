"""A broker and a database that are reached by TLS, by their URLs alone; and those that are not who they should be are not trusted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.config import load
from shared.doctor import examine
from shared.runtime.definition import Finding
from tests.stack import Broker, Database, new_broker, new_database
from tests.stack.certificate import certificate
from tests.stack.postgres import LocalDatabase
from tests.stack.process import LOCAL
from tests.stack.rabbitmq import LocalBroker
from tests.system import CORE, SECRET_KEY, System
from tests.unit.gateway import telephony_samples as samples


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("tls"), "authority", LOCAL)


@pytest.fixture(scope="module")
def server(authority: Path) -> Path:
    return certificate(authority.parent, "server", LOCAL, authority)


@pytest.fixture(scope="module")
def query(authority: Path) -> str:
    """Whom we trust, and who we are."""
    ours = certificate(authority.parent, "ours", "answerline", authority)
    return f"?cacertfile={authority}&certfile={ours}&keyfile={ours}"


@pytest.fixture(scope="module")
def servers(authority: Path, server: Path) -> Iterator[tuple[LocalBroker, LocalDatabase]]:
    broker, database = new_broker(), new_database(durable=False)
    if not isinstance(broker, LocalBroker) or not isinstance(database, LocalDatabase):
        pytest.skip("broker and database are containers here, without a certificate")
    broker.certificate, broker.authority, database.certificate = str(server), str(authority), str(server)
    with broker, database:
        yield broker, database


def by_tls(broker: LocalBroker, url: str, query: str, host: str = LOCAL) -> str:
    return url.replace("amqp://", "amqps://").replace(f"@{LOCAL}:{broker.port}", f"@{host}:{broker.tls_port}") + query


def test_calls_are_taken_in_over_tls_alone(servers: tuple[LocalBroker, LocalDatabase], authority: Path, query: str) -> None:
    broker, database = servers
    system = System("deployed", Broker(broker.vhost("tls")), Database(database.url), CORE)
    system.settings["ANSWERLINE_BROKER_URL"] = by_tls(broker, system.broker_url, query)
    system.settings["ANSWERLINE_DATABASE_URL"] += f"?sslmode=verify-full&sslrootcert={authority}"
    with system:
        system.post("/v1/telephony/asterisk/queue-log", "\n".join(samples.queue_log_lines()), source="tls").ok()
        system.settle()
        assert system.get("/v1/reports/queues", source="tls").ok()["queues"]
        encrypted = broker.ctl("--no-table-headers", "list_connections", "ssl").split()
        assert set(encrypted) == {"true"}
        in_the_open = "select count(*) from pg_stat_ssl join pg_stat_activity using (pid) where not ssl and datname like %s"
        assert database.run(in_the_open, [f"{system.name}%"]) == [(0,)]


@pytest.mark.parametrize(
    ("host", "trusted", "why"),
    [(LOCAL, False, "self-signed certificate in certificate chain"), ("localhost", True, "certificate is not valid for 'localhost'")],
    ids=["of an authority that nobody knows", "of another host"],
)
def test_a_broker_that_may_be_somebody_else_is_not_spoken_to(
    servers: tuple[LocalBroker, LocalDatabase], query: str, tmp_path: Path, host: str, trusted: bool, why: str
) -> None:
    told = broker_of(by_tls(servers[0], servers[0].url, query if trusted else "", host), tmp_path)
    assert why in told.detail
    assert "?cacertfile=" in told.mend


def test_doctor_finds_a_broker_that_is_who_it_should_be(servers: tuple[LocalBroker, LocalDatabase], query: str, tmp_path: Path) -> None:
    assert broker_of(by_tls(servers[0], servers[0].url, query), tmp_path).state == "ok"


def broker_of(url: str, tmp_path: Path) -> Finding:
    settings = load({"ANSWERLINE_BROKER_URL": url, "ANSWERLINE_DATA": str(tmp_path), "ANSWERLINE_SECRET_KEY": SECRET_KEY})
    return next(one for one in examine(settings, []) if one.what == "broker")
