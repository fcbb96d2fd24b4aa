"""Settings from the environment. `NAME_FILE` names a file that holds the value, for secrets."""

import difflib
import logging
import math
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from shared.bus.address import divided
from shared.targets import Allowance, read_allowance

BROKERS = ("amqp", "amqps", "pyamqp", "memory")
DATABASES = ("postgresql", "postgresql+psycopg2", "sqlite")
ALIKE = 0.85
"""So like a setting's name is a name that was probably meant for it, and no name of something else's."""
FILE_OF_EACH = "file:"
"""Before the name of a file, with {service} in it, that holds the URL of that service's database."""
MOST_SHARDS = 64
MOST_DAYS = 36500
MOST_STREAM_HOURS = 24 * 90
LEAST_SECRET = 32
MOST_CONNECTIONS = 1_000_000
LONGEST_PATIENCE = 3600.0
Network = IPv4Network | IPv6Network


class Rate(NamedTuple):
    """So many a second in the long run, and so many at once."""

    per_second: float
    burst: float


RATES = {
    "tag:telephony": Rate(20_000, 40_000),  # more than a process can take in: what telephony tells is never refused for its number
    "tag:pages": Rate(1_000, 20_000),
    "tag:stream": Rate(1_000, 20_000),  # thousands of live pages behind one address come back at one moment
    "tag:operation": Rate(1_000, 10_000),
    "role:telephony": Rate(5_000, 20_000),
    "role:admin": Rate(5_000, 20_000),
    "key": Rate(500, 5_000),
    "address": Rate(200, 2_000),
    "password": Rate(0.5, 50),
    "wrong_key": Rate(5, 200),
}
"""`tag:…`: for each key (or address, where no key is needed) at the doors of that tag, counted apart; `role:…`: for each key or person of
that role at all others, the most generous of its roles; `key`: where no role of theirs is named; `address`: for each address without a
key; `password`: wrong ones, for each address: then none from there is looked at for a while; `wrong_key`: keys and signatures that were
wrong, for each address: they are still looked at, for the right one behind the same address must not wait."""


class SettingError(ValueError):
    """A setting that cannot be used; the message says which and how to mend it."""


@dataclass(frozen=True)
class Settings:
    """What an operator may set. Each field is an environment variable ANSWERLINE_<FIELD>."""

    broker_url: str = "memory://"
    database_url: str = ""
    http: str = "127.0.0.1:8000"
    publish: str = ""
    metrics: str = "127.0.0.1:9100"
    data: Path = Path("data")
    admin_key: str = ""
    secret_key: str = ""
    timezone: str = "UTC"
    country: str = ""
    public_watching: str = ""
    public_url: str = ""
    log_level: str = "INFO"
    routing_shards: str = "1"
    audit_days: str = "400"
    oidc_issuer: str = ""
    oidc_client_id: str = ""
    oidc_client_secret: str = ""
    oidc_scope: str = "openid email profile"
    oidc_claim: str = "email"
    oidc_roles_claim: str = ""
    oidc_roles: str = ""
    stream_hours: str = "72"
    rate_limits: str = ""
    trusted_proxies: str = ""
    webhook_allow: str = ""
    connections: str = "10000"
    connections_per_address: str = "4000"
    client_seconds: str = "20"

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
    def stream_seconds(self) -> float:
        """How long events are kept for those who come back to the stream, and for webhooks."""
        text = self.stream_hours
        if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= MOST_STREAM_HOURS:
            raise SettingError(f"ANSWERLINE_STREAM_HOURS: {text!r} is not a whole number from 1 to {MOST_STREAM_HOURS}")
        return int(text) * 3600.0

    @property
    def http_address(self) -> tuple[str, int]:
        return parse_address("ANSWERLINE_HTTP", self.http)

    @property
    def reached_at(self) -> str:
        """The address of this machine at which others find the API, 0.0.0.0 for all it has: what a container listens on is not it, but what
        ANSWERLINE_PUBLISH says, as Compose writes it: 127.0.0.1:8000, a range 127.0.0.1:8000-8001, or 8000 alone."""
        if not self.publish:
            return self.http_address[0]
        return self.publish.rpartition(":")[0].strip("[]") or "0.0.0.0"  # noqa: S104 - told, not listened on

    @property
    def metrics_address(self) -> tuple[str, int]:
        return parse_address("ANSWERLINE_METRICS", self.metrics)

    @cached_property
    def rates(self) -> dict[str, Rate]:
        """How often somebody may ask, by whom and where: RATES, and what ANSWERLINE_RATE_LIMITS has of it otherwise, such as
        `role:agent=50/200 tag:reports=5/20 address=off`: so many a second, and so many at once."""
        rates = dict(RATES)
        for one in self.rate_limits.replace(",", " ").split():
            name, _, told = one.partition("=")
            match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)/(\d{1,9})", told, re.ASCII)
            if (name not in RATES and not re.fullmatch(r"(role|tag):[a-z_-]+", name)) or not (match or told == "off"):
                raise SettingError(
                    f"ANSWERLINE_RATE_LIMITS: {one!r} is not NAME=PER_SECOND/AT_ONCE or NAME=off, for example role:agent=50/200; "
                    f"a name is key, address, password, wrong_key, role:… or tag:…"
                )
            rate = Rate(float(match[1]), float(match[2])) if match else Rate(math.inf, math.inf)
            if not (rate.per_second and rate.burst):
                raise SettingError(f"ANSWERLINE_RATE_LIMITS: {one!r} would refuse everything; the least is 0.000001/1")
            rates[name] = rate
        return rates

    @cached_property
    def proxies(self) -> tuple[Network, ...]:
        """Who is believed when it says for whom it asks (X-Forwarded-For, X-Forwarded-Proto): addresses and networks."""
        try:
            return tuple(ip_network(one, strict=False) for one in self.trusted_proxies.replace(",", " ").split())
        except ValueError as error:
            raise SettingError(
                f"ANSWERLINE_TRUSTED_PROXIES: {error}; write addresses or networks such as 10.0.0.5 172.18.0.0/16"
            ) from error

    @cached_property
    def webhook_allowance(self) -> Allowance:
        """Where webhooks may go beyond the public internet, and without TLS: networks, addresses and names of hosts."""
        try:
            return read_allowance(self.webhook_allow)
        except ValueError as error:
            raise SettingError(f"ANSWERLINE_WEBHOOK_ALLOW: {error}") from error

    @property
    def most_connections(self) -> tuple[int, int]:
        """At one time: of all, and from one address (a trusted proxy's apart)."""
        numbers = []
        for name in ("connections", "connections_per_address"):
            text = getattr(self, name)
            if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= MOST_CONNECTIONS:
                raise SettingError(f"ANSWERLINE_{name.upper()}: {text!r} is not a whole number from 1 to {MOST_CONNECTIONS}")
            numbers.append(int(text))
        return numbers[0], numbers[1]

    @property
    def patience(self) -> float:
        """Seconds that a client may take for the head of a request, and beyond a slow line's time for a body or an answer."""
        try:
            seconds = float(self.client_seconds)
        except ValueError:
            seconds = 0.0
        if not 0.1 <= seconds <= LONGEST_PATIENCE:
            raise SettingError(f"ANSWERLINE_CLIENT_SECONDS: {self.client_seconds!r} is not a number from 0.1 to {LONGEST_PATIENCE:g}")
        return seconds

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
    def audit_seconds(self) -> float:
        """So long the record of administrative acts is kept."""
        if not (self.audit_days.isascii() and self.audit_days.isdigit()) or not 1 <= int(self.audit_days) <= MOST_DAYS:
            raise SettingError(f"ANSWERLINE_AUDIT_DAYS: {self.audit_days!r} is not a whole number from 1 to {MOST_DAYS}")
        return int(self.audit_days) * 86400.0

    @property
    def zone(self) -> ZoneInfo:
        try:
            return ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError) as error:
            place = self.timezone.strip().replace(" ", "_").lower()
            meant = sorted(name for name in available_timezones() if place and name.lower().endswith(f"/{place}"))
            hint = f"; is {meant[0]} meant?" if meant else "; write it as in Europe/Berlin"
            raise SettingError(f"ANSWERLINE_TIMEZONE: no time zone is called {self.timezone!r}{hint}") from error

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
        """The service's own database: `{service}` in ANSWERLINE_DATABASE_URL stands for its name, or in the name of its file; default one
        SQLite file each. Raises SettingError where such a file cannot be used."""
        if self.database_url.startswith(FILE_OF_EACH):
            path = self.database_url.removeprefix(FILE_OF_EACH).replace("{service}", service)
            url = _content("ANSWERLINE_DATABASE_URL_FILE", path)
            _scheme(f"ANSWERLINE_DATABASE_URL_FILE ({path})", url, DATABASES, "postgresql://user:password@host/database")
            return url
        if self.database_url:
            return self.database_url.replace("{service}", service)
        return f"sqlite:///{self.data / service}.sqlite3"

    def bootstrap_key(self) -> tuple[str, bool]:
        """The first administrator's key and whether it was made just now. A made key is kept in the data folder, mode 0600."""
        return (self.admin_key, False) if self.admin_key else self._made_once("admin.key", "al_")

    def sealing_keys(self) -> list[str]:
        """What secrets at rest are sealed with: the newest key first, older ones for what they sealed. Raises SettingError where
        there is none: an embedded centre makes one and keeps it in the data folder, mode 0600; a deployed one has no such folder."""
        if not self.secret_key and not self.embedded:
            raise SettingError(
                "ANSWERLINE_SECRET_KEY: a deployed gateway needs the key that secrets are sealed with, the same at each start: "
                f"{LEAST_SECRET} random characters or more, as `openssl rand -base64 32` makes them (or ANSWERLINE_SECRET_KEY_FILE)"
            )
        keys = (self.secret_key or self._made_once("secret.key")[0]).replace(",", " ").split()
        if not keys or min(map(len, keys)) < LEAST_SECRET:
            raise SettingError(
                f"ANSWERLINE_SECRET_KEY: each key (the newest first, with blanks between) has {LEAST_SECRET} characters or more"
            )
        return keys

    def make_data(self) -> None:
        """The data folder, for nobody else's eyes: callers' numbers and keys are in it. Raises SettingError."""
        try:
            self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SettingError(f"ANSWERLINE_DATA: {self.data.absolute()} cannot be made: {error.strerror}") from error
        if not os.access(self.data, os.W_OK | os.X_OK):
            raise SettingError(f"ANSWERLINE_DATA: no permission to write to {self.data.absolute()}")

    def _made_once(self, name: str, prefix: str = "") -> tuple[str, bool]:
        """A random key from a file of the data folder, and whether it was made just now. Raises SettingError."""
        path = self.data / name
        try:
            key = path.read_text().strip()
        except FileNotFoundError:
            self.make_data()
            key = prefix + secrets.token_urlsafe(32)
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


def _scheme(name: str, url: str, known: tuple[str, ...], example: str) -> None:
    """Raises SettingError. The rest of the URL is not quoted: it may hold a password."""
    scheme = url.partition("://")[0] if "://" in url else ""
    if scheme not in known:
        raise SettingError(f"{name}: it begins with {scheme or 'no scheme'}; one of {', '.join(known)} can be used, for example {example}")


def _content(name: str, path: str) -> str:
    """Raises SettingError."""
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingError(f"{name}: {path} cannot be read: {why}") from error


def _misspelt(environment: Mapping[str, str]) -> None:
    """Raises SettingError for a name that is nearly a setting's: whoever wrote it relies on what would not be obeyed."""
    known = {f"ANSWERLINE_{field.upper()}{end}" for field in Settings.__dataclass_fields__ for end in ("", "_FILE")}
    for name in sorted(environment):
        if (
            name.startswith("ANSWERLINE_")
            and name not in known
            and (meant := difflib.get_close_matches(name[11:], [one[11:] for one in known], 1, ALIKE))
        ):
            raise SettingError(f"{name}: there is no such setting; is ANSWERLINE_{meant[0]} meant?")


def load(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings. Raises SettingError for a value that cannot be used."""
    _misspelt(environment)
    values: dict[str, object] = {}
    for field, default in Settings.__dataclass_fields__.items():
        name = f"ANSWERLINE_{field.upper()}"
        text = environment.get(name)
        if not text and (path := environment.get(f"{name}_FILE")):
            each = field == "database_url" and "{service}" in path
            text = f"{FILE_OF_EACH}{path}" if each else _content(f"{name}_FILE", path)
        if text:
            values[field] = Path(text) if default.type is Path else text
    settings = Settings(**values)  # type: ignore[arg-type]
    _scheme("ANSWERLINE_BROKER_URL", settings.broker_url, BROKERS, "amqp://user:password@host/vhost")
    try:
        divided(settings.broker_url)
    except ValueError as error:
        raise SettingError(f"ANSWERLINE_BROKER_URL: {error}") from error
    if settings.database_url and not settings.database_url.startswith(FILE_OF_EACH):
        _scheme("ANSWERLINE_DATABASE_URL", settings.database_url, DATABASES, "postgresql://{service}:password@host/{service}")
    if settings.log_level.upper() not in logging.getLevelNamesMapping():
        raise SettingError(f"ANSWERLINE_LOG_LEVEL: {settings.log_level!r} is none of DEBUG, INFO, WARNING, ERROR")
    _ = (
        settings.http_address,
        settings.metrics_address,
        settings.zone,
        settings.home_country,
        settings.shards_of_routing,
        settings.stream_seconds,
        settings.public_address,
        settings.audit_seconds,
        settings.rates,
        settings.proxies,
        settings.webhook_allowance,
        settings.most_connections,
        settings.patience,
        settings.secret_key and settings.sealing_keys(),
    )
    return settings
