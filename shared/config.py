"""Settings from the environment. `NAME_FILE` names a file that holds the value, for secrets."""

import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from zoneinfo import ZoneInfo

MOST_SHARDS = 64


class SettingError(ValueError):
    """A setting that cannot be used; the message says which and how to mend it."""


@dataclass(frozen=True)
class Settings:
    """What an operator may set. Each field is an environment variable ANSWERLINE_<FIELD>."""

    broker_url: str = "memory://"
    database_url: str = ""
    http: str = "127.0.0.1:8000"
    metrics: str = "127.0.0.1:9100"
    data: Path = Path("data")
    admin_key: str = ""
    timezone: str = "UTC"
    country: str = ""
    public_watching: str = ""
    public_url: str = ""
    log_level: str = "INFO"
    routing_shards: str = "1"

    @property
    def embedded(self) -> bool:
        """Whether all services share this one process and its in-memory bus."""
        return self.broker_url.startswith("memory://")

    @property
    def shards_of_routing(self) -> int:
        """Into how many parts the pools of agents and queues are divided; an embedded centre is never divided."""
        text = self.routing_shards
        if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= MOST_SHARDS:
            raise SettingError(f"ANSWERLINE_ROUTING_SHARDS: {text!r} is not a whole number from 1 to {MOST_SHARDS}")
        if int(text) > 1 and not self.embedded and not self.database_of("routing").startswith("postgresql"):
            raise SettingError("ANSWERLINE_ROUTING_SHARDS: more than one needs PostgreSQL (ANSWERLINE_DATABASE_URL)")
        return 1 if self.embedded else int(text)

    @property
    def http_address(self) -> tuple[str, int]:
        return parse_address("ANSWERLINE_HTTP", self.http)

    @property
    def metrics_address(self) -> tuple[str, int]:
        return parse_address("ANSWERLINE_METRICS", self.metrics)

    @property
    def home_country(self) -> str:
        """Two letters (ISO 3166): where a telephone number without a country code belongs. Empty: such a number says nothing."""
        if self.country and not (len(self.country) == 2 and self.country.isascii() and self.country.isalpha()):
            raise SettingError(f"ANSWERLINE_COUNTRY: {self.country!r} is no country's two letters, for example DE")
        return self.country.upper()

    @property
    def public_address(self) -> str:
        """The address under which others reach us, as in https://calls.example.com or https://example.com/answerline; empty: not known."""
        if self.public_url and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", self.public_url):
            raise SettingError(f"ANSWERLINE_PUBLIC_URL: {self.public_url!r} is no address such as https://calls.example.com")
        return self.public_url.rstrip("/")

    @property
    def zone(self) -> ZoneInfo:
        try:
            return ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError) as error:
            raise SettingError(f"ANSWERLINE_TIMEZONE: no time zone is called {self.timezone!r}") from error

    def watching_is_public(self, forwarded: bool = False) -> bool:
        """The live page and the metrics need no key only where nobody but this machine can reach it (so not through a proxy, which
        forwards for others), unless the operator decides."""
        if self.public_watching:
            return self.public_watching.lower() in ("1", "true", "yes")
        host = self.http_address[0]
        try:
            return not forwarded and (host == "localhost" or ip_address(host).is_loopback)
        except ValueError:  # a name, which may stand for anything
            return False

    def database_of(self, service: str) -> str:
        """The service's own database: `{service}` in ANSWERLINE_DATABASE_URL stands for its name; default one SQLite file each."""
        if self.database_url:
            return self.database_url.replace("{service}", service)
        return f"sqlite:///{self.data / service}.sqlite3"

    def bootstrap_key(self) -> tuple[str, bool]:
        """The first administrator's key and whether it was made just now. A made key is kept in the data folder, mode 0600."""
        if self.admin_key:
            return self.admin_key, False
        path = self.data / "admin.key"
        try:
            key = path.read_text().strip()
        except FileNotFoundError:
            self.data.mkdir(parents=True, exist_ok=True)
            key = "al_" + secrets.token_urlsafe(32)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(key + "\n")
            return key, True
        if not key:
            raise SettingError(f"{path} is empty: delete it and start again, and a new key is made")
        return key, False


def parse_address(name: str, text: str) -> tuple[str, int]:
    """`host:port` as a pair. Raises SettingError."""
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise SettingError(f"{name}: {text!r} is not host:port, for example 127.0.0.1:8000")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104


def load(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings. Raises SettingError for a value that cannot be used."""
    values: dict[str, object] = {}
    for field, default in Settings.__dataclass_fields__.items():
        name = f"ANSWERLINE_{field.upper()}"
        text = environment.get(name)
        if not text and (path := environment.get(f"{name}_FILE")):
            try:
                text = Path(path).read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                why = error.strerror if isinstance(error, OSError) else "it is not text"
                raise SettingError(f"{name}_FILE: {path} cannot be read: {why}") from error
        if text:
            values[field] = Path(text) if default.type is Path else text
    settings = Settings(**values)  # type: ignore[arg-type]
    _ = (
        settings.http_address,
        settings.metrics_address,
        settings.zone,
        settings.home_country,
        settings.shards_of_routing,
        settings.public_address,
    )
    return settings
