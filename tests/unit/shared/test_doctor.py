"""The likely mistakes of an installation: each is found, and the finding says how to mend it."""

from __future__ import annotations

import json
import resource
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from amqp.exceptions import AccessRefused, NotAllowed
from click.testing import CliRunner
from kombu.exceptions import OperationalError
from sqlalchemy import text

import services.gateway
from services.gateway import doctor as of_gateway
from services.gateway.sealing import Sealer
from shared import clock, doctor
from shared.bus import outbox
from shared.bus.envelope import Event
from shared.cli import main
from shared.config import Settings, load
from shared.db import migrate
from shared.db.engine import Database
from shared.doctor import examine
from shared.runtime import context
from shared.runtime.definition import Finding, installed
from tests.stack.process import port
from tests.unit.conftest import SetClock

GATEWAY = services.gateway.definition
KEY = "k" * 32


def settings(place: Path, **changed: str) -> Settings:
    told = {"ANSWERLINE_DATA": str(place), "ANSWERLINE_HTTP": f"127.0.0.1:{port()}"} | {
        f"ANSWERLINE_{name}": value for name, value in changed.items()
    }
    return load(told)


def found(what: str, findings: Any) -> Finding:
    """The one finding of that name that is no praise, or the only one there is."""
    named = [one for one in findings if one.what == what]
    (one,) = [one for one in named if one.state != "ok"] or named[:1]
    return one


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gateway's data folder as `answerline up` leaves it."""
    place = tmp_path_factory.mktemp("made")
    place.chmod(0o700)
    with closing(Database(f"sqlite:///{place}/gateway.sqlite3")) as database:
        migrate.upgrade(database, GATEWAY.migrations)
    settings(place).bootstrap_key()
    settings(place).sealing_keys()
    return place


@pytest.fixture
def centre(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "data")
    return tmp_path / "data"


def write(place: Path, statement: str, **values: Any) -> None:
    with closing(Database(f"sqlite:///{place}/gateway.sqlite3")) as database, database.transaction() as connection:
        connection.execute(text(statement), values)


def look(place: Path, environment: dict[str, str] | None = None, **changed: str) -> list[Finding]:
    return examine(settings(place, **changed), [GATEWAY], environment)


def test_a_sound_centre_has_nothing_bad(centre: Path) -> None:
    findings = look(centre)
    assert not [one for one in findings if one.state == "bad"]
    assert all(one.mend for one in findings if one.state == "note" and one.what != "API")
    assert found("gateway database", findings) == Finding("gateway database", "ok", "answers, and its tables are up to date")


def test_every_finding_that_is_bad_says_how_to_mend_it(centre: Path) -> None:
    (centre / "secret.key").unlink()
    write(centre, "delete from alembic_version")
    centre.chmod(0o755)
    bad = [one for one in look(centre) if one.state == "bad"]
    assert len(bad) == 3
    assert all(one.mend for one in bad)


# ---- broker


def untrusted() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    return error


@pytest.mark.parametrize(
    ("error", "detail", "mend"),
    [
        (AccessRefused("ACCESS_REFUSED - Login was refused"), "refuses user or password", "mend ANSWERLINE_BROKER_URL"),
        (NotAllowed("NOT_ALLOWED - vhost answerline not found"), "virtual host 'answerline'", "add_vhost"),
        (socket.gaierror(-2, "Name or service not known"), "no address is known of broker", "mend the host"),
        (ConnectionRefusedError(111, "Connection refused"), "nothing listens at broker:5672", "start the broker"),
        (ssl.SSLError(1, "wrong version number"), "TLS failed", "5671"),
        (untrusted(), "its certificate is not trusted: self-signed", "?cacertfile="),
        (TimeoutError("timed out"), "out of reach at broker:5672", "see its log"),
    ],
)
def test_a_broker_that_does_not_let_us_in_is_told_by_its_cause(error: Exception, detail: str, mend: str) -> None:
    wrapped = OperationalError(str(error))
    wrapped.__cause__ = error
    for one in (error, wrapped):
        told = doctor._broker_fault(one, "broker:5672", "answerline")
        assert told.state == "bad"
        assert detail in told.detail
        assert mend in told.mend


def test_a_broker_that_is_not_there_is_found_without_waiting_long(centre: Path) -> None:
    url = f"amqp://user:hunter2@127.0.0.1:{port()}/answerline"
    told = found("broker", look(centre, BROKER_URL=url, SECRET_KEY=KEY, DATABASE_URL=f"sqlite:///{centre}/{{service}}.sqlite3"))
    assert "nothing listens at 127.0.0.1:" in told.detail
    assert "hunter2" not in str(told)


def test_a_wrong_password_a_missing_host_and_a_queue_that_nobody_reads(broker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    user, _, rest = broker.url.removeprefix("amqp://").partition(":")
    wrong = Settings(broker_url=f"amqp://{user}:wrong@{rest.partition('@')[2]}")
    assert "refuses user or password" in found("broker", doctor._broker(wrong, [])).detail
    nowhere = Settings(broker_url=f"{broker.url.rpartition('/')[0]}/nowhere")
    assert "'nowhere'" in found("broker", doctor._broker(nowhere, [])).detail
    ours = Settings(broker_url=broker.url)
    with doctor.brokers.Broker(broker.url).connect() as connection, connection.channel() as channel:
        queue = doctor.brokers.inbox("im")
        queue(channel).delete()
        assert "has never run" in found("im queue", doctor._broker(ours, [installed()["im"]])).detail
        doctor.brokers.declare_for(connection, ["im"], ["im"])
        told = found("im queue", doctor._broker(ours, [installed()["im"]]))
        assert (told.state, told.detail) == ("bad", "nobody reads it, and 0 events lie there")
        with connection.Consumer([queue], channel=channel, on_message=print):
            assert found("im queue", doctor._broker(ours, [installed()["im"]])).state == "ok"
        queue(channel).delete()


# ---- databases


def test_tables_that_are_not_there_old_or_too_new(centre: Path) -> None:
    routing = installed()["routing"]
    with closing(Database(f"sqlite:///{centre}/routing.sqlite3")) as old:
        migrate.upgrade(old, routing.migrations, "routing_0001")
    told = found("routing database", examine(settings(centre), [routing]))
    assert (told.state, told.mend) == ("bad", "answerline migrate routing")
    write(centre, "update alembic_version set version_num = '9999'")
    told = found("gateway database", look(centre))
    assert (told.state, "newer Answerline" in told.detail) == ("note", True)
    write(centre, "delete from alembic_version")
    assert "has no tables" in found("gateway database", look(centre)).detail


@pytest.mark.parametrize("name", ["nobody", "answerline_no_such"])
def test_a_database_that_does_not_answer(centre: Path, name: str, database: Any) -> None:
    url = database.create("doctor_there") if name == "nobody" else database.url_of(name)
    if name == "nobody":
        url = url.replace("://", "://nobody:hunter2@", 1) if "@" not in url else f"postgresql://nobody:hunter2@{url.partition('@')[2]}"
    told = found("gateway database", look(centre, DATABASE_URL=url, BROKER_URL="memory://"))
    assert told.state == "bad"
    assert told.mend
    assert "hunter2" not in str(told)


@pytest.mark.parametrize(
    ("told", "mend"),
    [
        ('FATAL:  password authentication failed for user "im"', "mend the password"),
        ('FATAL:  database "im" does not exist', "make the role and its database"),
        ('could not translate host name "db" to address', "mend the host"),
        ("connection to server failed: Connection refused", "start PostgreSQL"),
        ("FATAL:  sorry, too many clients already", "raise max_connections"),
        ("permission denied for schema public", "must own the database"),
    ],
)
def test_each_refusal_of_a_database_has_its_advice(told: str, mend: str) -> None:
    assert mend in doctor._database_mend(told)


def test_services_that_share_a_database(centre: Path) -> None:
    shared = settings(centre, DATABASE_URL=f"sqlite:///{centre}/gateway.sqlite3")
    told = found("databases", doctor._own_databases(shared, list(installed().values())))
    assert (told.state, "{service}" in told.mend) == ("bad", True)


def test_a_bus_in_memory_beside_a_database_server() -> None:
    told = found("broker", doctor._own_databases(Settings(database_url="postgresql://u@h/{service}"), [GATEWAY]))
    assert (told.state, "one process" in told.mend) == ("note", True)


def test_a_clock_that_is_wrong(centre: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Database, "skew", lambda *_: -7.5)
    assert "-7.5 s from the database's" in found("gateway clock", look(centre)).detail


def announced(place: Path) -> None:
    ours = context.build("gateway", settings(place))
    with closing(ours.database), ours.units() as work:
        data = {"person": "p", "name": "", "roles": [], "skills": {}, "channels": [], "site": "", "team": "", "active": True}
        work.announce(Event("gateway.person_changed.v1", "p", data, clock.now(), 1))


def test_events_that_nobody_sends_and_a_clock_that_was_set_back(centre: Path, at: SetClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox.contracts, "write", lambda _type, data: data)
    announced(centre)
    assert found("gateway outbox", look(centre)).state == "ok"
    at.forward(100)
    told = found("gateway outbox", look(centre))
    assert (told.state, "the oldest for 100 s" in told.detail) == ("bad", True)
    at.forward(-4000)
    assert "the clock was set back" in found("gateway clock", look(centre)).detail


def test_dead_letters_and_sums_that_disagree(centre: Path) -> None:
    write(
        centre,
        "insert into set_aside (id, type, subject, body, state, attempts, next_try_at, cause, at) values ('x', '', '', '', 'dead', 5, 0, '', 0)",
    )
    assert "dlq list --service gateway" in found("gateway dead letters", look(centre)).mend
    assert "received 0 = " in found("gateway sums", look(centre)).detail
    assert found("gateway sums", look(centre)).state == "bad"


# ---- the machine


def test_secrets_that_others_may_read(centre: Path, tmp_path: Path) -> None:
    (centre / "admin.key").chmod(0o644)
    (named := tmp_path / "broker-url").write_text("amqp://")
    named.chmod(0o604)
    told = [one.mend for one in look(centre, {"ANSWERLINE_BROKER_URL_FILE": str(named)}) if one.what == "secrets" and one.state == "bad"]
    assert told == [f"chmod 600 {named}", f"chmod 600 {centre / 'admin.key'}"]


def test_a_secrets_file_that_is_not_there(centre: Path) -> None:
    environment = {"ANSWERLINE_DATA": str(centre), "ANSWERLINE_BROKER_URL_FILE": str(centre / "broker-url")}
    told = CliRunner().invoke(main, ["doctor"], env=environment)
    assert (told.exit_code, f"ANSWERLINE_BROKER_URL_FILE: {centre / 'broker-url'} cannot be read: No such file" in told.output) == (1, True)


def test_a_sealing_key_that_is_gone_is_not_made_anew(centre: Path) -> None:
    (centre / "secret.key").unlink()
    assert "is not there" in found("secrets", look(centre)).detail
    assert not (centre / "secret.key").exists()


@pytest.mark.parametrize(("free", "state"), [(1 << 29, "bad"), (2 << 30, "note"), (50 << 30, "ok")])
def test_a_disk_that_is_nearly_full(centre: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: str) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=free))
    assert found("disk", look(centre)).state == state


@pytest.mark.parametrize(("hard", "state"), [(512, "bad"), (4096, "note"), (20000, "ok"), (resource.RLIM_INFINITY, "ok")])
def test_too_few_file_descriptors(centre: Path, monkeypatch: pytest.MonkeyPatch, hard: int, state: str) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (512, hard))
    assert found("file descriptors", look(centre)).state == state


@contextmanager
def answering(body: bytes) -> Iterator[int]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_a_port_that_somebody_else_has(centre: Path) -> None:
    with answering(b"<html>") as taken:
        told = found("API", look(centre, HTTP=f"127.0.0.1:{taken}"))
    assert (told.state, f"sport = :{taken}" in told.mend) == ("bad", True)
    with answering(json.dumps({"status": "ok"}).encode()) as ours:
        assert found("API", look(centre, HTTP=f"127.0.0.1:{ours}")).state == "ok"
    assert found("API", look(centre)).state == "note"


@pytest.mark.parametrize(
    ("changed", "seen"),
    [
        ({"HTTP": "0.0.0.0:8000"}, True),
        ({"HTTP": "0.0.0.0:8000", "TRUSTED_PROXIES": "10.0.0.1"}, False),
        ({"HTTP": "0.0.0.0:8000", "PUBLISH": "127.0.0.1:8000-8001"}, False),
        ({"HTTP": "0.0.0.0:8000", "PUBLISH": "[::1]:8000"}, False),
        ({"HTTP": "0.0.0.0:8000", "PUBLISH": "192.0.2.7:8000"}, True),
        ({"HTTP": "0.0.0.0:8000", "PUBLISH": "8000"}, True),
        ({"PUBLIC_WATCHING": "yes"}, True),
        ({}, False),
    ],
)
def test_a_door_that_stands_open(centre: Path, changed: dict[str, str], seen: bool) -> None:
    told = list(doctor._openness(settings(centre, **changed)))
    assert [one.state for one in told] == ["note"] * seen
    assert all(one.mend for one in told)


def test_an_address_without_tls_and_a_certificate_that_nobody_trusts(centre: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (told,) = doctor._certificate(settings(centre, PUBLIC_URL="http://calls.example.com"))
    assert (told.state, "https" in told.mend) == ("note", True)
    ends = "Jun  1 12:00:00 2030 GMT"

    def shows(*_: Any, **__: Any) -> Any:
        return closing(SimpleNamespace(getpeercert=lambda: {"notAfter": ends}, close=lambda: None))

    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: closing(SimpleNamespace(close=lambda: None)))
    monkeypatch.setattr(ssl, "create_default_context", lambda: SimpleNamespace(wrap_socket=shows))
    for days, state in ((30, "ok"), (13, "bad"), (-1, "bad")):
        monkeypatch.setattr(clock, "now", lambda days=days: ssl.cert_time_to_seconds(ends) - days * 86400)
        (told,) = doctor._certificate(settings(centre, PUBLIC_URL="https://calls.example.com"))
        assert (told.state, bool(told.mend), "2030-06-01" in told.detail) == (state, state == "bad", True)
    refused = ssl.SSLCertVerificationError(1, "certificate verify failed")
    refused.verify_message = "self-signed certificate"

    def refuses(*_: Any, **__: Any) -> Any:
        raise refused

    monkeypatch.setattr(ssl, "create_default_context", lambda: SimpleNamespace(wrap_socket=refuses))
    (told,) = doctor._certificate(settings(centre, PUBLIC_URL="https://calls.example.com"))
    assert (told.state, told.detail) == ("bad", "calls.example.com: self-signed certificate")


def test_a_time_zone_that_does_not_exist_or_was_left_as_it_was(centre: Path) -> None:
    told = CliRunner().invoke(main, ["doctor"], env={"ANSWERLINE_DATA": str(centre), "ANSWERLINE_TIMEZONE": "hong kong"})
    assert told.exit_code == 1
    assert "no time zone is called 'hong kong'; is Asia/Hong_Kong meant?" in told.output
    assert found("time zone", look(centre)).state == "note"
    assert not [one for one in look(centre, TIMEZONE="Asia/Hong_Kong") if one.what == "time zone"]


# ---- what the gateway looks for


def test_sources_that_say_nothing_and_some_that_nobody_registered(centre: Path, at: SetClock) -> None:
    assert found("sources", look(centre)).detail == "no telephony has told anything yet"
    for name in ("quiet", "gone", "busy"):
        write(centre, "insert into source (name, settings, changed_at) values (:name, '{}', 0)", name=name)
    intake = "insert into intake (source, key, observation, received_at) values (:source, 'k', '{}', :at)"
    for source, before in (("gone", 2 * 86400), ("busy", 60), ("stranger", 60), ("~settle", 60)):
        write(centre, intake, source=source, at=at.seconds - before)
    findings = look(centre)
    assert "has never told" in found("source quiet", findings).detail
    assert "was last heard" in found("source gone", findings).detail
    assert [found(f"source {name}", findings).state for name in ("quiet", "gone", "busy")] == ["note", "note", "ok"]
    assert found("sources", findings).detail == "stranger tell of calls and are not registered"


def test_kept_secrets_that_do_not_open(centre: Path) -> None:
    write(
        centre, "insert into source_secret (source, name, value) values ('pbx', 'twilio_auth_token', :value)", value=Sealer([KEY]).seal("s")
    )
    assert found("kept secrets", look(centre, SECRET_KEY=KEY)).state == "ok"
    told = found("kept secrets", look(centre, SECRET_KEY="o" * 32))
    assert (told.state, "those of pbx" in told.detail, "behind the newest" in told.mend) == ("bad", True, True)


def test_a_backup_that_was_never_made_or_is_old(centre: Path, at: SetClock) -> None:
    assert found("backup", look(centre)).detail == "none was ever made"
    columns = {
        "id": "018f0000-0000-7000-8000-000000000000",
        "at": at.seconds - 3600,
        "act": of_gateway.BACKUP,
        "object": of_gateway.BACKUP_OBJECT,
    }
    with closing(Database(f"sqlite:///{centre}/gateway.sqlite3")) as database, database.transaction() as connection:
        blank = {column.name: "" for column in services.gateway.store.audit.c if not column.nullable}
        connection.execute(services.gateway.store.audit.insert().values({**blank, **_fitting(columns)}))
    assert found("backup", look(centre)).state == "ok"
    at.forward(86400 * 2)
    assert (found("backup", look(centre)).state, "answerline backup" in found("backup", look(centre)).mend) == ("note", True)


def _fitting(told: dict[str, Any]) -> dict[str, Any]:
    return {**told, **{name: 0 for name in ("status",) if name in services.gateway.store.audit.c}}


# ---- the command


def test_the_command_prints_what_is_wrong_with_what_to_do_and_ends_with_1(centre: Path) -> None:
    environment = {"ANSWERLINE_DATA": str(centre), "ANSWERLINE_HTTP": f"127.0.0.1:{port()}", "ANSWERLINE_SERVICE": "gateway"}
    fine = CliRunner().invoke(main, ["doctor"], env=environment)
    assert (fine.exit_code, "BAD" in fine.output) == (0, False)
    (centre / "admin.key").chmod(0o644)
    wrong = CliRunner().invoke(main, ["doctor"], env=environment)
    assert wrong.exit_code == 1
    assert (
        f"BAD  secrets: {centre / 'admin.key'} can be read by other users of this machine\n     -> chmod 600 {centre / 'admin.key'}\n"
        in wrong.output
    )
