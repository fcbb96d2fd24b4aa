"""The one-shot jobs of docker-compose.yml.

`secrets` makes keys, passwords and the URLs that hold them, and gives each container its own and no other's;
`migrate` makes roles, databases, the broker's users and the tables.
Both run at every `docker compose up`: what is there stays, what is new (an added service) is added.
`restore` makes the same but for the tables, which come with the archive: `answerline migrate` would refuse what another restore has left by half,
and tables of a newer version.
"""

import base64
import hashlib
import http.client
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

KEPT = Path("/secrets/kept")
"""All that was generated: one file each, seen by this job alone."""
OWN = Path("/secrets/own")
"""What the operator brought, if he did."""
FOR = Path("/secrets/for")
"""A volume for each container, mounted there as /run/secrets."""

BROKER, DATABASE, DASHBOARDS = "rabbitmq", "postgres", "grafana"
BROKER_HOST = "broker"
"""Every node of the broker has this name."""
VHOST, EXCHANGE = "answerline", "answerline.events"
PROVISIONER = "provisioner"
NAMES = r"^answerline\."
PUBLISHING = r"^(answerline\..*|amq\.default)$"
PATIENCE_SECONDS = 300


def services() -> list[str]:
    """Every service that has a volume for its secrets."""
    return sorted(folder.name for folder in FOR.iterdir() if folder.name not in (BROKER, DATABASE, DASHBOARDS))


# ---- secrets


def make_secrets() -> None:
    users = {}
    lost = not any(KEPT.iterdir())  # else what a container holds may be what the operator brought once and has taken away
    for service in services():
        if own_database := own(f"{service}-database-url", "database-url"):
            put(service, "database-password", None)
            put(service, "database-url", own_database.replace("{service}", service))
        else:
            password = generated(f"{service}-database-password", held(service, "database-password"))
            put(service, "database-password", password)
            put(service, "database-url", f"postgresql://{service}:{quote(password, safe='')}@{DATABASE}:5432/{service}")
        if own_broker := own(f"{service}-broker-url", "broker-url"):
            put(service, "broker-url", own_broker)
        else:
            ours = re.fullmatch(rf"amqp://{service}:([\w-]+)@{BROKER_HOST}:5672/{VHOST}", held(service, "broker-url"))
            users[service] = password = generated(f"{service}-broker-password", ours[1] if ours else "")
            put(service, "broker-url", f"amqp://{service}:{quote(password, safe='')}@{BROKER_HOST}:5672/{VHOST}")
        for name in ("authority.pem", "certificate.pem", "key.pem"):
            put(service, name, own(name) or None)
    put("gateway", "admin-key", own("admin-key") or generated("admin-key", held("gateway", "admin-key") if lost else "", prefix="al_"))
    put("gateway", "secret-key", own("secret-key") or generated("secret-key", held("gateway", "secret-key")))
    put("gateway", "oidc-client-secret", own("oidc-client-secret"))
    put(DATABASE, "password", generated("postgres-password", held(DATABASE, "password")))
    there = held(DASHBOARDS, "admin-password") if lost else ""
    put(DASHBOARDS, "admin-password", own("grafana-admin-password") or generated("grafana-admin-password", there))
    provisioner = generated("provisioner-password", held(BROKER, "provisioner-password"))
    put(BROKER, "provisioner-password", provisioner if users else None)
    put(BROKER, "erlang-cookie", generated("erlang-cookie", held(BROKER, "erlang-cookie")))
    put(BROKER, "definitions.json", json.dumps(definitions(users, provisioner), indent=1))


def own(*names: str) -> str:
    """The operator's value from the folder that he mounted; the first of these files that is there counts."""
    for name in names:
        if (path := OWN / name).is_file():
            return path.read_text().strip()
    return ""


def held(container: str, name: str) -> str:
    """What a container has been given before, or nothing."""
    path = FOR / container / name
    return path.read_text() if path.exists() else ""


def generated(name: str, there: str, prefix: str = "") -> str:
    """A random value, made once and kept. What a container still holds of it is not made anew where it is kept no more: with another
    secret-key nobody could read what was sealed."""
    path = KEPT / name
    if not path.exists():
        write(path, there or prefix + secrets.token_urlsafe(32), 0o400)
        print(f"took {name} from its container" if there else f"made {name}")
    return path.read_text()


def put(container: str, name: str, text: str | None) -> None:
    """Give a container a file, or take it away. Who may read it is decided by who mounts the volume."""
    path = FOR / container / name
    if text is None:
        path.unlink(missing_ok=True)
    elif not path.exists() or path.read_text() != text:
        write(path, text, 0o444)


def write(path: Path, text: str, mode: int) -> None:
    """All or nothing, and on the disk before anybody relies on it."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def definitions(users: dict[str, str], provisioner: str) -> dict[str, Any]:
    """RabbitMQ's users and rights: a service touches only our names and publishes events only in its own name. No guest."""
    rights = {"vhost": VHOST, "configure": NAMES, "write": PUBLISHING, "read": NAMES}
    topics = {"vhost": VHOST, "exchange": EXCHANGE, "read": ".*"}
    return {
        "vhosts": [{"name": VHOST}],
        "users": [
            {
                "name": name,
                "password_hash": rabbit_hash(name, password),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": tags,
            }
            for name, password, tags in [*((*user, "") for user in users.items()), (PROVISIONER, provisioner, "administrator")]
        ],
        "permissions": [{"user": name, **rights} for name in users],
        "topic_permissions": [{"user": name, "write": rf"^{name}\.", **topics} for name in users],
    }


def rabbit_hash(name: str, password: str) -> str:
    """Salted SHA-256 as RabbitMQ wants it; the passwords are random, and the salt stays the same so that the file does."""
    salt = hashlib.sha256(f"{name} {password}".encode()).digest()[:4]
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


# ---- migrate and restore


def migrate() -> None:
    """Prepare our own database and broker, and bring every service's tables up to date."""
    prepare_database()
    tables = subprocess.Popen(["answerline", "migrate", *services()])  # noqa: S607
    prepare_broker()
    if tables.wait():
        sys.exit("not migrated")
    print(f"at their newest revision: {', '.join(services())}")


def restore() -> None:
    """Prepare the same, and become `answerline restore` with what was said to us."""
    prepare_database()
    prepare_broker()
    sys.stdout.flush()
    os.execvp("answerline", ["answerline", *sys.argv[1:]])  # noqa: S606, S607


def prepare_database() -> None:
    """Our own, unless a setting names another."""
    passwords = {service: path.read_text() for service in services() if (path := FOR / service / "database-password").exists()}
    if passwords and not os.environ.get("ANSWERLINE_DATABASE_URL"):
        patiently("the database", lambda: make_databases(passwords))


def prepare_broker() -> None:
    """Our own, unless a setting names another."""
    path = FOR / BROKER / "provisioner-password"
    if path.exists() and not os.environ.get("ANSWERLINE_BROKER_URL"):
        patiently("the broker", lambda: import_definitions(path.read_text()))


def patiently(what: str, step: Callable[[], None]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    told = ""
    while True:
        try:
            return step()
        except OSError as error:
            if time.monotonic() > deadline:
                sys.exit(f"{what} cannot be prepared: {error}")
            if str(error) != told:
                told = str(error)
                print(f"waiting for {what}: {error}", flush=True)
            time.sleep(1)


def make_databases(passwords: dict[str, str]) -> None:
    """A role for each service that can do nothing but use its own database, of which it is the owner."""
    import psycopg2
    from psycopg2.extensions import encrypt_password
    from psycopg2.sql import SQL, Identifier, Literal

    try:
        connection = psycopg2.connect(
            host=DATABASE, user="postgres", dbname="postgres", password=(FOR / DATABASE / "password").read_text(), connect_timeout=5
        )
    except psycopg2.OperationalError as error:
        if "password authentication failed" in str(error):
            sys.exit(
                "the database was made with another superuser password: restore the volume of kept secrets that belongs to it, or set the"
                " password anew, see docs/operations.md"
            )
        raise OSError(str(error).strip()) from error
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("select rolname from pg_roles")
        roles = {name for (name,) in cursor.fetchall()}
        cursor.execute("select datname from pg_database")
        databases = {name for (name,) in cursor.fetchall()}
        cursor.execute("revoke all on database postgres, template1 from public")
        for service, password in passwords.items():
            name = Identifier(service)
            if service not in roles:
                cursor.execute(SQL("create role {} nologin").format(name))
            # Only the hash of the password travels and can get into a log.
            verifier = encrypt_password(password, service, scope=connection, algorithm="scram-sha-256")
            cursor.execute(
                SQL("alter role {} login nosuperuser nocreatedb nocreaterole noreplication password {}").format(name, Literal(verifier))
            )
            if service not in databases:
                cursor.execute(SQL("create database {} owner {}").format(name, name))
                print(f"made database {service}")
            cursor.execute(SQL("revoke all on database {} from public").format(name))
    connection.close()


def import_definitions(password: str) -> None:
    """The broker reads them when it boots; a service added since is made known to the running one."""
    credentials = base64.b64encode(f"{PROVISIONER}:{password}".encode()).decode()
    connection = http.client.HTTPConnection(BROKER_HOST, 15672, timeout=10)
    headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
    connection.request("POST", "/api/definitions", (FOR / BROKER / "definitions.json").read_bytes(), headers)
    answer = connection.getresponse()
    if answer.status >= 300:
        raise OSError(f"definitions refused: {answer.status} {answer.read(500).decode(errors='replace')}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    {"secrets": make_secrets, "migrate": migrate, "restore": restore}[sys.argv[1]]()
