"""A PostgreSQL for tests: somebody else's (`Database`), a private cluster of the installed binaries (`LocalDatabase`), or a container."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import stat
import subprocess
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import psycopg2

from . import container, process
from .process import LOCAL, StackError

IMAGE = "postgres:16"
USER = "answerline"

# small, and where durability is tested as durable as its defaults
SETTINGS = {"shared_buffers": "32MB", "max_connections": "200", "max_wal_size": "256MB", "jit": "off"}
FORGETFUL = {"fsync": "off", "full_page_writes": "off"}


@dataclass
class Database:
    """A PostgreSQL server that is not ours: databases can be made in it, and nothing else. `url` is a superuser's."""

    url: str
    owned: bool = False
    what: str = "given by ANSWERLINE_TEST_DATABASE_URL"
    prefix: str = ""  # of every database made: parallel workers do not meet

    def start(self) -> Self:
        """Start, or start again with the same data, and wait until it accepts."""
        raise self._not_ours("start")

    def stop(self) -> None:
        """Orderly (fast) shutdown; the data stays."""
        raise self._not_ours("stop")

    def kill(self) -> None:
        """kill -9 of the postmaster and all its children; the data stays, the next start recovers."""
        raise self._not_ours("kill")

    def restart(self) -> Self:
        self.stop()
        return self.start()

    def remove(self) -> None:
        """The end: stop at once and delete everything."""
        raise self._not_ours("remove")

    def create(self, name: str, like: str | None = None) -> str:
        """Make an empty database, or a copy of one that nobody uses (dropping an old one of that name), and return its URL."""
        self.drop(name)
        self.run(f'CREATE DATABASE "{self.prefix}{name}"' + (f' TEMPLATE "{self.prefix}{like}"' if like else ""))
        return self.url_of(self.prefix + name)

    def drop(self, name: str) -> None:
        """Drop the database, whoever is connected."""
        self.run(f'DROP DATABASE IF EXISTS "{self.prefix}{name}" WITH (FORCE)')

    def url_of(self, database: str) -> str:
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{database}"))

    def run(self, statement: str, parameters: Sequence[object] = (), url: str | None = None) -> list[tuple[Any, ...]]:
        """One statement outside a transaction, as superuser; its rows."""
        # postgresql+psycopg2:// is SQLAlchemy's way of saying it
        with closing(psycopg2.connect(re.sub(r"^(postgres\w*)\+\w+:", r"\1:", url or self.url), connect_timeout=5)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters or None)
                return list(cursor.fetchall()) if cursor.description else []

    def running(self) -> bool:
        try:
            self.run("SELECT 1")
        except psycopg2.Error:
            return False
        return True

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _not_ours(self, verb: str) -> StackError:
        return StackError(f"{verb}: this database server ({self.what}) is not ours; take a fresh_database")


@dataclass
class _OwnDatabase(Database):
    url: str = ""
    owned: bool = True
    host: str = LOCAL
    port: int = field(default_factory=process.port)
    password: str = field(default_factory=lambda: secrets.token_hex(8))
    durable: bool = True

    def __post_init__(self) -> None:
        self.url = self.url or f"postgresql://{USER}:{self.password}@{self.host}:{self.port}/postgres"

    @property
    def settings(self) -> dict[str, str]:
        return SETTINGS | ({} if self.durable else FORGETFUL)

    def _need_owned(self, verb: str) -> None:
        if not self.owned:
            raise self._not_ours(verb)


@dataclass
class LocalDatabase(_OwnDatabase):
    what: str = "private cluster of the installed postgresql"
    home: str = ""
    certificate: str = ""
    """Of a file with its key: TLS is spoken to whoever wants it."""

    _postmaster: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    @staticmethod
    def binaries() -> Path | None:
        """The folder of initdb and postgres: the newest of Debian's, else what PATH has (where a lone link may lead elsewhere)."""
        found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
        if found:
            return max(found, key=lambda path: float(path.parent.name))
        other = shutil.which("initdb")
        return Path(other).resolve().parent if other and Path(other).resolve().with_name("postgres").exists() else None

    @classmethod
    def installed(cls) -> bool:
        return cls.binaries() is not None

    def start(self) -> Self:
        self._need_owned("start")
        if self._postmaster and self._postmaster.poll() is None:
            raise StackError("this database server runs already")
        home, bin_, user = self._folder(), self.binaries(), _user()
        if not bin_:
            raise StackError("postgresql is not installed")
        if not (home / "data" / "PG_VERSION").exists():
            self._initdb(bin_, home, user)
        argv = [str(bin_ / "postgres"), "-D", str(home / "data")]
        postmaster = self._postmaster = process.spawn(argv, env=_env(home), log=home / "log", user=user)
        process.until_ready(lambda: self.run("SELECT 1"), lambda: postmaster.poll() is None, "PostgreSQL", self.log)
        return self

    def stop(self) -> None:
        self._need_owned("stop")
        if self._postmaster:
            process.end(self._postmaster, signal.SIGINT)

    def kill(self) -> None:
        self._need_owned("kill")
        if self._postmaster and self._postmaster.poll() is None:
            process.kill_tree(self._postmaster.pid)
            self._postmaster.wait()

    def remove(self) -> None:
        self.kill()
        if self.home:
            shutil.rmtree(self.home, ignore_errors=True)

    def log(self) -> str:
        path = self._folder() / "log"
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""

    def _folder(self) -> Path:
        self.home = self.home or str(process.folder("postgresql"))
        home, user = Path(self.home), _user()
        home.mkdir(parents=True, exist_ok=True)
        if user:
            shutil.chown(home, user, process.group(user))
            closed = [parent for parent in home.parents if not parent.stat().st_mode & stat.S_IXOTH]
            if closed:
                raise StackError(f"the user {user} cannot pass {closed[-1]}: choose another folder for PostgreSQL's data")
        return home

    def _initdb(self, bin_: Path, home: Path, user: str | None) -> None:
        secret = home / "password"
        secret.write_text(self.password + "\n")
        argv = [str(bin_ / "initdb"), "-D", str(home / "data"), "-U", USER, "--pwfile", str(secret), "-A", "scram-sha-256"]
        argv += ["-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"]
        drop = {"user": user, "group": process.group(user), "extra_groups": []} if user else {}
        done = subprocess.run(argv, cwd=home, env=_env(home), capture_output=True, text=True, stdin=subprocess.DEVNULL, **drop)  # type: ignore[call-overload]
        if done.returncode:
            raise StackError(f"initdb: {done.stdout}{done.stderr}")
        own = {"listen_addresses": LOCAL, "port": str(self.port), "unix_socket_directories": str(home) if len(str(home)) < 80 else ""}
        if self.certificate:
            kept = home / "data" / "server.pem"
            shutil.copy(self.certificate, kept)
            kept.chmod(0o600)
            if user:
                shutil.chown(kept, user, process.group(user))
            own |= {"ssl": "on", "ssl_cert_file": kept.name, "ssl_key_file": kept.name}
        with (home / "data" / "postgresql.conf").open("a") as file:
            file.writelines(f"{key} = '{value}'\n" for key, value in (own | self.settings).items())


@dataclass
class ContainerDatabase(_OwnDatabase):
    what: str = f"container {IMAGE}"
    host: str = field(default_factory=container.host)
    name: str = field(default_factory=lambda: container.name("postgres"))

    def start(self) -> Self:
        self._need_owned("start")
        if container.exists(self.name):
            container.docker("start", self.name)
        else:
            settings = [part for key, value in self.settings.items() for part in ("-c", f"{key}={value}")]
            env = {"POSTGRES_USER": USER, "POSTGRES_PASSWORD": self.password, "POSTGRES_DB": "postgres"}
            container.run(self.name, IMAGE, self.port, 5432, env, ["postgres", *settings])
        ready, log = (lambda: container.running(self.name)), (lambda: container.logs(self.name))
        process.until_ready(lambda: self.run("SELECT 1"), ready, "PostgreSQL", log, timeout=120)
        return self

    def stop(self) -> None:
        self._need_owned("stop")
        container.docker("stop", "-t", "30", self.name)

    def kill(self) -> None:
        self._need_owned("kill")
        if container.running(self.name):
            container.docker("kill", self.name)

    def remove(self) -> None:
        self._need_owned("remove")
        if container.exists(self.name):
            container.docker("rm", "-f", "-v", self.name)


def attach(handle: dict[str, Any]) -> Database:
    """A handle on a server that another process started and will end: usable, but not to be stopped from here."""
    kinds = {kind.__name__: kind for kind in (Database, LocalDatabase, ContainerDatabase)}
    known = dict(handle)
    return kinds[known.pop("kind")](**known | {"owned": False})


def handle(database: Database) -> dict[str, Any]:
    return {"kind": type(database).__name__} | {k: v for k, v in vars(database).items() if not k.startswith("_")}


def _user() -> str | None:
    """PostgreSQL refuses to run as root: then as its own user."""
    return "postgres" if os.geteuid() == 0 else None


def _env(home: Path) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("PG")} | {"HOME": str(home), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
