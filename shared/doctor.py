"""Looks an installation over: the usual mistakes, each with what to do about it."""

from __future__ import annotations

import errno
import http.client
import json
import resource
import shutil
import socket
import ssl
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from amqp.exceptions import AccessRefused, NotAllowed
from kombu import Connection
from kombu.exceptions import OperationalError as BrokerError
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from shared import clock
from shared.bus import broker as brokers
from shared.bus.inbox import sums
from shared.config import Settings
from shared.contracts import topology
from shared.db import migrate
from shared.runtime import context
from shared.runtime.context import Context
from shared.runtime.definition import Definition, Finding, State

NEWEST = 5000
"""What is still on its way is among the last published."""
LATE_SECONDS = 60.0
"""So old is an event in the outbox only where nobody sends it."""
SKEW_SECONDS = 2.0
LEAST_ROOM, LITTLE_ROOM = 1 << 30, 5 << 30
LEAST_DESCRIPTORS = 1024
CERTIFICATE_DAYS = 14
PATIENCE = 3.0


def examine(settings: Settings, definitions: Sequence[Definition], environment: Mapping[str, str] | None = None) -> list[Finding]:
    """Everything that can be checked from outside the processes. `environment`: the one that the settings were read from."""
    findings = [*_own_databases(settings, definitions), *_broker(settings, definitions), *_files(settings, environment or {})]
    findings += [*_room(settings), *_descriptors(settings), *_address(settings), *_openness(settings), *_certificate(settings)]
    if settings.timezone == "UTC":
        mend = "a centre elsewhere sets ANSWERLINE_TIMEZONE, such as Europe/Berlin"
        findings.append(Finding("time zone", "note", "UTC: in reports a day begins at midnight there", mend))
    services = {one.name: context.of_a_centre(one.name, settings) for one in definitions}
    answering = set()
    for one in definitions:
        found = list(_database(services[one.name], one))
        findings += found
        if all(finding.state != "bad" for finding in found):
            answering.add(one.name)
            findings += [*_bus(services[one.name]), *_own(services[one.name], one)]
    for name in services:
        if name in answering:
            findings += _arrived(name, services[name], {known: ours for known, ours in services.items() if known in answering})
    for ours in services.values():
        ours.database.close()
    return findings


# ---- settings and machine


def _own_databases(settings: Settings, definitions: Sequence[Definition]) -> Iterator[Finding]:
    if len({settings.database_of(one.name) for one in definitions}) < len(definitions):
        mend = "write {service} where its name belongs in ANSWERLINE_DATABASE_URL"
        yield Finding("databases", "bad", "services share one, and each has tables of its own there, some of the same name", mend)
    if settings.embedded and not settings.database_of("gateway").startswith("sqlite"):
        mend = "run one process (`answerline up`), or set ANSWERLINE_BROKER_URL for one process each"
        yield Finding("broker", "note", "in memory beside a database server: a second process would not hear of what the first does", mend)


def _files(settings: Settings, environment: Mapping[str, str]) -> Iterator[Finding]:
    """What is secret and may be read by others. Below /run the one who mounts it decides."""
    named = [Path(value) for name, value in environment.items() if name.startswith("ANSWERLINE_") and name.endswith("_FILE") and value]
    kept = [settings.data, *(settings.data / name for name in ("admin.key", "secret.key"))] if settings.embedded else []
    secret = [path for path in (*named, *kept) if path.exists() and not path.absolute().is_relative_to("/run")]
    for path in secret:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            yield Finding(
                "secrets", "bad", f"{path} can be read by other users of this machine", f"chmod {'700' if path.is_dir() else '600'} {path}"
            )
    if not settings.secret_key and settings.embedded and settings.data.is_dir() and not (settings.data / "secret.key").exists():
        mend = f"put {settings.data / 'secret.key'} back from the backup; without it kept secrets have to be written anew"
        yield Finding("secrets", "bad", "the key that secrets are sealed with is not there", mend)
    if secret:
        yield Finding("secrets", "ok", f"{len(secret)} files looked at")


def _room(settings: Settings) -> Iterator[Finding]:
    if settings.database_url and not settings.database_url.startswith("sqlite"):
        return
    folder = next((one for one in (settings.data, *settings.data.absolute().parents) if one.exists()), Path("/"))
    free = shutil.disk_usage(folder).free
    state: State = "bad" if free < LEAST_ROOM else "note" if free < LITTLE_ROOM else "ok"
    mend = "" if state == "ok" else "make room, or move the folder and set ANSWERLINE_DATA"
    yield Finding("disk", state, f"{free / 2**30:.1f} GiB are left for {settings.data.absolute()}", mend)


def _descriptors(settings: Settings) -> Iterator[Finding]:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.most_connections[0]
    if hard == resource.RLIM_INFINITY or hard > wanted:
        yield Finding("file descriptors", "ok", "enough for all connections that the settings allow")
        return
    state: State = "bad" if hard < LEAST_DESCRIPTORS else "note"
    mend = "raise it: `ulimit -Hn`, LimitNOFILE of systemd, ulimits of Compose; or lower ANSWERLINE_CONNECTIONS"
    yield Finding(
        "file descriptors", state, f"at most {hard}, and ANSWERLINE_CONNECTIONS is {wanted}: connections beyond are refused", mend
    )


def _address(settings: Settings) -> Iterator[Finding]:
    """Whether what answers where the API listens is ours."""
    host, port = settings.http_address
    host = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 - it is asked, not opened
    try:
        with closing(http.client.HTTPConnection(host, port, timeout=PATIENCE)) as connection:
            connection.request("GET", "/livez")
            ours = json.loads(connection.getresponse().read(1000)) == {"status": "ok"}
    except (ConnectionError, TimeoutError, socket.gaierror):
        yield Finding("API", "note", f"nothing answers at {host}:{port}: it does not run here, or another service's process was asked")
        return
    except OSError as error:
        where = "is no address of this machine" if error.errno == errno.EADDRNOTAVAIL else str(error.strerror or error)
        yield Finding("API", "bad", f"{host}:{port} {where}", "set ANSWERLINE_HTTP to an address of this machine")
        return
    except (http.client.HTTPException, ValueError):
        ours = False
    if ours:
        yield Finding("API", "ok", f"answers at {host}:{port}")
    else:
        mend = f"`ss -ltnp 'sport = :{port}'` says which; stop it, or set ANSWERLINE_HTTP (Compose: ANSWERLINE_PUBLISH) to another port"
        yield Finding("API", "bad", f"{host}:{port} is taken by a program that is not Answerline", mend)


def _openness(settings: Settings) -> Iterator[Finding]:
    if settings.watching_is_public() and settings.public_watching:
        detail = "the live page and the metrics are shown without a key to all who reach the address"
        yield Finding("openness", "note", detail, "take ANSWERLINE_PUBLIC_WATCHING away unless it is meant")
    host = settings.reached_at
    if host in ("localhost", "127.0.0.1", "::1") or settings.proxies:
        return
    detail = f"the API listens on {host} and no proxy is named: keys and callers' numbers would go over the network as they are"
    mend = "put a proxy that speaks TLS before it and name it in ANSWERLINE_TRUSTED_PROXIES, or let it listen on 127.0.0.1 (Compose: ANSWERLINE_PUBLISH)"
    yield Finding("openness", "note", detail, mend)


def _certificate(settings: Settings) -> Iterator[Finding]:
    """Of the proxy before us: what ANSWERLINE_PUBLIC_URL shows to the world."""
    if not settings.public_address:
        return
    address = urlsplit(settings.public_address)
    if address.scheme != "https":
        detail = "ANSWERLINE_PUBLIC_URL is http: what others send us can be read on its way"
        yield Finding("certificate", "note", detail, "put a proxy that speaks TLS before the gateway and write https")
        return
    try:
        with (
            socket.create_connection((address.hostname or "", address.port or 443), timeout=PATIENCE) as plain,
            ssl.create_default_context().wrap_socket(plain, server_hostname=address.hostname) as connection,
        ):
            ends = ssl.cert_time_to_seconds(str((connection.getpeercert() or {})["notAfter"]))
    except ssl.SSLCertVerificationError as error:
        yield Finding(
            "certificate", "bad", f"{address.hostname}: {error.verify_message}", "renew it, or let the proxy send the whole chain"
        )
        return
    except OSError as error:
        yield Finding("certificate", "note", f"{settings.public_address} cannot be reached from here: {error.strerror or error}")
        return
    days = (ends - clock.now()) / 86400
    told = f"of {address.hostname} ends on {datetime.fromtimestamp(ends, UTC).date()}"
    yield Finding("certificate", "bad" if days < CERTIFICATE_DAYS else "ok", told, "renew it" if days < CERTIFICATE_DAYS else "")


# ---- broker


def _broker(settings: Settings, definitions: Sequence[Definition]) -> Iterator[Finding]:
    if settings.embedded:
        yield Finding("broker", "ok", "in memory, within the process")
        return
    address = urlsplit(settings.broker_url)
    place = f"{address.hostname}:{address.port or (5671 if address.scheme == 'amqps' else 5672)}"
    host, _, number = place.rpartition(":")
    try:
        socket.create_connection((host, int(number)), timeout=PATIENCE).close()  # the library would try again, and wait between
        with brokers.Broker(settings.broker_url).connect() as connection:
            yield Finding("broker", "ok", f"{place} answers")
            yield from _queues(connection, [one.name for one in definitions])
    except Exception as error:  # noqa: BLE001 - the finding says it
        yield _broker_fault(error, place, address.path.removeprefix("/") or "/")


def _broker_fault(error: BaseException, place: str, vhost: str) -> Finding:
    cause = error.__cause__ if isinstance(error, BrokerError) and error.__cause__ else error
    told, setting = str(cause).splitlines()[0] if str(cause) else type(cause).__name__, "ANSWERLINE_BROKER_URL"
    if isinstance(cause, AccessRefused):
        mend = f"mend {setting}; `rabbitmqctl change_password`, or in Compose `docker compose up -d` with the volume of secrets that belongs to it"
        return Finding("broker", "bad", f"{place} refuses user or password", mend)
    if isinstance(cause, NotAllowed):
        mend = f"`rabbitmqctl add_vhost` and `set_permissions`, or name another at the end of {setting}"
        return Finding("broker", "bad", f"{place}: the virtual host {vhost!r} is not there, or not for this user", mend)
    if isinstance(cause, socket.gaierror):
        return Finding("broker", "bad", f"no address is known of {place.rpartition(':')[0]}", f"mend the host in {setting}")
    if isinstance(cause, ConnectionRefusedError):
        return Finding("broker", "bad", f"nothing listens at {place}", f"start the broker, or mend host and port in {setting}")
    if isinstance(cause, ssl.SSLCertVerificationError):
        mend = f"name the file of the authority that signed it at the end of {setting}: ?cacertfile=…; its names must be those of the host in the URL"
        return Finding("broker", "bad", f"{place}: its certificate is not trusted: {cause.verify_message}", mend)
    if isinstance(cause, ssl.SSLError):
        return Finding("broker", "bad", f"{place}: TLS failed: {told}", f"amqps:// and the port of TLS (5671) belong together in {setting}")
    return Finding("broker", "bad", f"out of reach at {place}: {type(cause).__name__}: {told}", f"see its log, and {setting}")


def _queues(connection: Connection, names: Sequence[str]) -> Iterator[Finding]:
    """Whether each service reads what is meant for it."""
    for name in names:
        if name not in topology.SUBSCRIPTIONS:
            continue
        if not brokers.exists(connection, brokers.inbox(name)):
            yield Finding(f"{name} queue", "bad", "it is not there: the service has never run with this broker", f"start {name}")
            continue
        with connection.channel() as channel:
            declared = brokers.inbox(name)(channel).queue_declare(passive=True)
        if not declared.consumer_count:
            detail = f"nobody reads it, and {declared.message_count} events lie there"
            yield Finding(f"{name} queue", "bad", detail, f"start {name}; if it runs, its log says why it does not read")
        else:
            yield Finding(f"{name} queue", "ok", f"is read; {declared.message_count} events lie there")


# ---- databases


def _database(ours: Context, definition: Definition) -> Iterator[Finding]:
    what, place = f"{ours.name} database", ours.database.url.render_as_string()
    try:
        half_restored = migrate.is_half_restored(ours.database)
        standing = migrate.standing(ours.database, definition.migrations)
        with ours.database.reading() as connection:
            skew = ours.database.skew(connection)
    except SQLAlchemyError as error:
        told = _cause(error)
        yield Finding(what, "bad", f"{told} ({place})", _database_mend(told))
        return
    if half_restored:
        yield Finding(what, "bad", "a restore was cut off, and left it by half: no service starts", "run `answerline restore` again")
    elif standing == "empty":
        yield Finding(what, "bad", f"it has no tables ({place})", f"answerline migrate {ours.name}")
    elif standing == "behind":
        yield Finding(what, "bad", "its tables are of an older Answerline: the service waits", f"answerline migrate {ours.name}")
    elif standing == "newer":
        mend = "update the program (in Compose: `docker compose up -d --build`), or restore the backup taken before the upgrade"
        yield Finding(what, "note", "its tables are of a newer Answerline than this program", mend)
    else:
        yield Finding(what, "ok", "answers, and its tables are up to date")
    if abs(skew) > SKEW_SECONDS:
        mend = "let both machines take the time from the same server (timedatectl, chronyc tracking)"
        yield Finding(f"{ours.name} clock", "bad", f"this machine's is {skew:+.1f} s from the database's", mend)


def _database_mend(told: str) -> str:
    for part, mend in {
        "root certificate file": "put the file of the authority where ANSWERLINE_DATABASE_URL says with sslrootcert=…",
        "certificate verify failed": "name the file of the authority that signed it in ANSWERLINE_DATABASE_URL: sslrootcert=…",
        "does not match host name": "name the host in ANSWERLINE_DATABASE_URL as the server's certificate does",
        "password authentication failed": "mend the password in ANSWERLINE_DATABASE_URL, or `alter role … password` in PostgreSQL",
        "does not exist": "make the role and its database (in Compose: `docker compose up -d migrate`), or mend ANSWERLINE_DATABASE_URL",
        "could not translate host name": "mend the host in ANSWERLINE_DATABASE_URL",
        "Connection refused": "start PostgreSQL, or mend host and port in ANSWERLINE_DATABASE_URL",
        "too many": "raise max_connections of PostgreSQL, or run fewer processes",
        "permission denied": "the role must own the database: `alter database … owner to …`",
    }.items():
        if part in told:
            return mend
    return "see the database's log, and ANSWERLINE_DATABASE_URL"


def _cause(error: Exception) -> str:
    return (str(getattr(error, "orig", None) or "") or type(error).__name__).strip().splitlines()[0]


def _bus(ours: Context) -> Iterator[Finding]:
    outbox = ours.units.tables.outbox
    waiting = outbox.c.published_at.is_(None)
    with ours.database.reading() as connection:
        buckets = sums(connection, ours.units)
        pending, oldest = connection.execute(select(func.count(), func.min(outbox.c.written_at)).where(waiting)).one()
        last = connection.scalar(select(func.max(outbox.c.written_at)))
    late = oldest is not None and clock.now() - oldest > LATE_SECONDS
    detail = f"{pending} events wait to be sent" + (f", the oldest for {clock.now() - oldest:.0f} s: nobody sends them" if late else "")
    mend = f"is {ours.name} running, and the broker in reach? A service sends what it owes when it starts" if late else ""
    yield Finding(f"{ours.name} outbox", "bad" if late else "ok", detail, mend)
    if last is not None and last > clock.now() + LATE_SECONDS:
        mend = "set the clock right (timedatectl); what has a time in the future is late until then"
        yield Finding(f"{ours.name} clock", "bad", f"its newest event is {last - clock.now():.0f} s ahead: the clock was set back", mend)
    received = buckets.pop("received")
    told = ", ".join(f"{bucket} {events}" for bucket, events in buckets.items())
    agree = received == sum(buckets.values())
    mend = "" if agree else "this must never be: keep the log and a backup of this database, and report it"
    yield Finding(f"{ours.name} sums", "ok" if agree else "bad", f"received {received} = {told}", mend)
    dead = buckets["dead"]
    mend = f"`answerline dlq list --service {ours.name}` tells their causes, `answerline dlq retry` tries them again" if dead else ""
    yield Finding(f"{ours.name} dead letters", "bad" if dead else "ok", str(dead), mend)


def _own(ours: Context, definition: Definition) -> Iterable[Finding]:
    """What the service itself knows to look for."""
    checks: Callable[[Context], Iterable[Finding]] | None = definition.examine
    return checks(ours) if checks else ()


def _arrived(name: str, ours: Context, services: dict[str, Context]) -> Iterator[Finding]:
    """Of what a publisher has published for us, how much is still on its way."""
    for publisher in topology.publishers_of(name):
        if publisher not in services:
            continue
        outbox = services[publisher].units.tables.outbox
        heard = outbox.c.type.in_(topology.SUBSCRIPTIONS[name])
        try:
            with services[publisher].database.reading() as connection:
                newest = select(outbox.c.id).where(heard, outbox.c.published_at.is_not(None)).order_by(outbox.c.seq.desc()).limit(NEWEST)
                ids = set(connection.scalars(newest))
            inbox, aside = ours.units.tables.inbox, ours.units.tables.set_aside
            with ours.database.reading() as connection:
                known = set(connection.scalars(select(inbox.c.id).where(inbox.c.id.in_(ids))))
                known |= set(connection.scalars(select(aside.c.id).where(aside.c.id.in_(ids))))
        except SQLAlchemyError as error:
            yield Finding(f"{publisher} to {name}", "bad", type(error).__name__)
            continue
        yield Finding(f"{publisher} to {name}", "ok", f"of the last {len(ids)} published {len(ids - known)} are on their way")
