from __future__ import annotations

import math
import stat
from ipaddress import ip_network
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from shared import config
from shared.config import RATES, SettingError, Settings


def load(**variables: str) -> Settings:
    return config.load({f"ANSWERLINE_{name}": value for name, value in variables.items()})


def test_nothing_need_be_set() -> None:
    settings = config.load({})
    assert settings == Settings()
    assert (settings.embedded, settings.http_address, settings.metrics_address) == (True, ("127.0.0.1", 8000), ("127.0.0.1", 9100))
    assert settings.database_of("routing") == "sqlite:///data/routing.sqlite3"
    assert settings.zone == ZoneInfo("UTC")


TEXTS = {name for name, field in Settings.__dataclass_fields__.items() if field.type is str} - {
    "http",
    "metrics",
    "timezone",
    "country",
    "routing_shards",
    "rate_limits",
    "trusted_proxies",
    "connections",
    "connections_per_address",
    "client_seconds",
    "secret_key",
    "audit_days",
    "stream_hours",
    "public_url",
    "broker_url",
    "database_url",
    "log_level",
}


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_every_setting_is_a_variable_or_a_file(name: str, tmp_path: Path) -> None:
    assert getattr(load(**{name.upper(): "value"}), name) == "value"
    (tmp_path / "secret").write_text("from the file\n")
    assert getattr(load(**{f"{name.upper()}_FILE": str(tmp_path / "secret")}), name) == "from the file"
    assert getattr(load(**{name.upper(): "", f"{name.upper()}_FILE": str(tmp_path / "secret")}), name) == "from the file"
    assert getattr(load(**{name.upper(): "value", f"{name.upper()}_FILE": "/nowhere"}), name) == "value"


def test_addresses_zone_and_folder() -> None:
    settings = load(HTTP="0.0.0.0:80", METRICS="[::1]:9", TIMEZONE="Europe/Berlin", COUNTRY="de", DATA="/var/lib/answerline")
    assert (settings.http_address, settings.metrics_address) == (("0.0.0.0", 80), ("::1", 9))
    assert (settings.zone, settings.home_country) == (ZoneInfo("Europe/Berlin"), "DE")
    assert settings.database_of("gateway") == "sqlite:////var/lib/answerline/gateway.sqlite3"
    assert load(HTTP=":8000").http_address == ("0.0.0.0", 8000)


@pytest.mark.parametrize(
    ("value", "address"),
    [("", ""), ("https://a.example/", "https://a.example"), ("http://a.example:8000/b/", "http://a.example:8000/b")],
)
def test_the_public_address(value: str, address: str) -> None:
    assert load(PUBLIC_URL=value).public_address == address


def test_each_service_has_a_database_of_its_own() -> None:
    settings = load(DATABASE_URL="postgresql://{service}@db/{service}", BROKER_URL="amqp://broker//")
    assert (settings.database_of("routing"), settings.embedded) == ("postgresql://routing@db/routing", False)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("HTTP", "8000", r"ANSWERLINE_HTTP: '8000' is not host:port, for example"),
        ("HTTP", "here:there", "ANSWERLINE_HTTP"),
        ("HTTP", "here:70000", "ANSWERLINE_HTTP"),
        ("HTTP", "here:²", "ANSWERLINE_HTTP"),
        ("METRICS", "", None),
        ("METRICS", "x", "ANSWERLINE_METRICS"),
        ("PUBLIC_URL", "calls.example.com", "ANSWERLINE_PUBLIC_URL: 'calls.example.com' is no address such as https://"),
        ("PUBLIC_URL", "https://calls.example.com?x", "ANSWERLINE_PUBLIC_URL"),
        ("TIMEZONE", "Europe/Nowhere", "ANSWERLINE_TIMEZONE: no time zone is called 'Europe/Nowhere'"),
        ("TIMEZONE", "../etc/passwd", "ANSWERLINE_TIMEZONE"),
        ("COUNTRY", "Germany", "ANSWERLINE_COUNTRY: 'Germany' is no country's two letters"),
        ("RATE_LIMITS", "fast", r"ANSWERLINE_RATE_LIMITS: 'fast' is not NAME=PER_SECOND/AT_ONCE or NAME=off"),
        ("RATE_LIMITS", "role:agent=5", "ANSWERLINE_RATE_LIMITS"),
        ("RATE_LIMITS", "nobody=5/10", "a name is key, address, password, wrong_key, role:… or tag:…"),
        ("RATE_LIMITS", "key=0/10", "would refuse everything"),
        ("TRUSTED_PROXIES", "nginx", "ANSWERLINE_TRUSTED_PROXIES: 'nginx'"),
        ("CONNECTIONS", "0", "ANSWERLINE_CONNECTIONS: '0' is not a whole number from 1"),
        ("CONNECTIONS_PER_ADDRESS", "many", "ANSWERLINE_CONNECTIONS_PER_ADDRESS"),
        ("CLIENT_SECONDS", "nan", "ANSWERLINE_CLIENT_SECONDS: 'nan' is not a number from 0.1 to 3600"),
        ("CLIENT_SECONDS", "0", "ANSWERLINE_CLIENT_SECONDS"),
        ("ROUTING_SHARDS", "0", "ANSWERLINE_ROUTING_SHARDS: '0' is not a whole number from 1 to 64"),
        ("ROUTING_SHARDS", "two", "ANSWERLINE_ROUTING_SHARDS"),
        ("STREAM_HOURS", "0", "ANSWERLINE_STREAM_HOURS: '0' is not a whole number from 1 to 2160"),
        ("STREAM_HOURS", "1.5", "ANSWERLINE_STREAM_HOURS"),
        ("BROKER_URL", "http://broker", "ANSWERLINE_BROKER_URL: it begins with http; one of amqp, amqps"),
        ("BROKER_URL", "broker:5672", "ANSWERLINE_BROKER_URL: it begins with no scheme"),
        (
            "BROKER_URL",
            "amqps://host/a?cacertfile=/nowhere/ca.pem",
            "ANSWERLINE_BROKER_URL: cacertfile: /nowhere/ca.pem is no file that can be read",
        ),
        ("BROKER_URL", "amqps://host/a?certfile=/bin/sh", "ANSWERLINE_BROKER_URL: certfile and keyfile belong together"),
        ("BROKER_URL", "amqp://host/a?cacertfile=/bin/sh", "ANSWERLINE_BROKER_URL: cacertfile is of use with amqps:// only"),
        ("BROKER_URL", "amqp://u:hunter℀@host/a", "ANSWERLINE_BROKER_URL: it cannot be read as a URL"),
        ("BROKER_URL", "amqp://u:hunter?2@host/a", "ANSWERLINE_BROKER_URL: after the . only cacertfile"),
        ("DATABASE_URL", "mysql://u:p@host/{service}", "ANSWERLINE_DATABASE_URL: it begins with mysql; one of postgresql"),
        ("LOG_LEVEL", "LOUD", "ANSWERLINE_LOG_LEVEL: 'LOUD' is none of DEBUG, INFO"),
        ("TIMEZON", "Europe/Berlin", "ANSWERLINE_TIMEZON: there is no such setting; is ANSWERLINE_TIMEZONE meant"),
        ("DATABSE_URL_FILE", "/run/secrets/url", "is ANSWERLINE_DATABASE_URL_FILE meant"),
        ("KEY", "al_what-the-bridges-use", None),
        ("TEST_BROKER_URL", "amqp://what-the-tests-use", None),
        ("TEST_DATABASE_URL", "postgresql://what-the-tests-use", None),
        ("ADMIN_KEY_FILE", "/nowhere/key", "ANSWERLINE_ADMIN_KEY_FILE: /nowhere/key cannot be read: No such file"),
        ("ADMIN_KEY_FILE", "/bin/sh", "ANSWERLINE_ADMIN_KEY_FILE: /bin/sh cannot be read"),
    ],
)
def test_what_cannot_be_used_is_named_at_the_start(name: str, value: str, said: str | None) -> None:
    if said is None:
        assert load(**{name: value}) == Settings()
    else:
        with pytest.raises(SettingError, match=said):
            load(**{name: value})


def test_only_a_deployed_centre_on_postgresql_is_divided_into_shards() -> None:
    deployed = {"ROUTING_SHARDS": "2", "BROKER_URL": "amqp://broker//"}
    assert load(ROUTING_SHARDS="2").shards_of_routing == 1
    assert load(**deployed, DATABASE_URL="postgresql://db/{service}").shards_of_routing == 2
    with pytest.raises(SettingError, match="more than one needs PostgreSQL"):
        load(**deployed)


def test_the_data_folder_is_nobody_elses_to_read(tmp_path: Path) -> None:
    Settings(data=tmp_path / "new").make_data()
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match=r"ANSWERLINE_DATA: .*/file/data cannot be made: Not a directory"):
        Settings(data=tmp_path / "file" / "data").make_data()


def test_a_key_that_is_set_is_used() -> None:
    assert load(ADMIN_KEY="secret").bootstrap_key() == ("secret", False)


def test_a_key_is_made_once_and_kept_for_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "new")
    key, made = settings.bootstrap_key()
    assert (made, key.startswith("al_"), len(key) > 40) == (True, True, True)
    assert settings.bootstrap_key() == (key, False)
    assert stat.S_IMODE((tmp_path / "new" / "admin.key").stat().st_mode) == 0o600
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["admin.key"]


def test_limits_are_the_usual_ones_but_for_what_is_said() -> None:
    rates = load(RATE_LIMITS="role:agent=0.5/20, tag:reports=5/10 address=off").rates
    assert (rates["role:agent"], rates["tag:reports"], rates["address"].per_second) == ((0.5, 20), (5, 10), math.inf)
    assert {name: rate for name, rate in rates.items() if name in RATES and name != "address"} == {
        name: rate for name, rate in RATES.items() if name != "address"
    }
    assert RATES["tag:telephony"].per_second > 1000, "a PBX that posts a thousand events a second, each by itself, is never refused"


def test_who_is_trusted_and_how_much_is_taken_of_one() -> None:
    settings = load(TRUSTED_PROXIES="10.0.0.5, 172.18.0.1/16 ::1", CONNECTIONS="500", CONNECTIONS_PER_ADDRESS="50", CLIENT_SECONDS="2.5")
    assert [str(one) for one in settings.proxies] == ["10.0.0.5/32", "172.18.0.0/16", "::1/128"]
    assert (settings.most_connections, settings.patience) == ((500, 50), 2.5)


def test_what_seals_secrets_is_made_once_in_an_embedded_centre_alone(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    (key,) = settings.sealing_keys()
    assert (settings.sealing_keys(), stat.S_IMODE((tmp_path / "secret.key").stat().st_mode)) == ([key], 0o600)
    with pytest.raises(SettingError, match="ANSWERLINE_SECRET_KEY: a deployed gateway needs the key"):
        load(BROKER_URL="amqp://broker//", DATA=str(tmp_path)).sealing_keys()


def test_keys_that_seal_are_several_the_newest_first_and_none_is_short(tmp_path: Path) -> None:
    new, former = "n" * 32, "f" * 40
    (tmp_path / "keys").write_text(f"{new}\n{former}\n")
    assert load(SECRET_KEY_FILE=str(tmp_path / "keys"), BROKER_URL="amqp://broker//").sealing_keys() == [new, former]
    for short in (f"{new} short", ",", "n" * 31):
        with pytest.raises(SettingError, match="has 32 characters or more"):
            load(SECRET_KEY=short).sealing_keys()


def test_where_webhooks_may_go() -> None:
    allowance = load(WEBHOOK_ALLOW="10.20.0.0/16, crm.internal").webhook_allowance
    assert (allowance.networks, allowance.names) == ((ip_network("10.20.0.0/16"),), {"crm.internal"})
    with pytest.raises(SettingError, match=r"ANSWERLINE_WEBHOOK_ALLOW: '10\.20\.0\.1/16' is no network"):
        load(WEBHOOK_ALLOW="10.20.0.1/16")


def test_an_empty_key_file_is_never_a_key(tmp_path: Path) -> None:
    (tmp_path / "admin.key").write_text("\n")
    with pytest.raises(SettingError, match=r"admin\.key is empty: delete it"):
        Settings(data=tmp_path).bootstrap_key()


@pytest.mark.parametrize(
    ("http", "decided", "public"),
    [
        ("127.0.0.1:1", "", True),
        ("localhost:1", "", True),
        ("[::1]:1", "", True),
        ("0.0.0.0:1", "", False),
        (":1", "", False),
        ("answerline.example:1", "", False),
        ("0.0.0.0:1", "yes", True),
        ("127.0.0.1:1", "no", False),
    ],
)
def test_watching_needs_no_key_only_where_nobody_else_can(http: str, decided: str, public: bool) -> None:
    assert Settings(http=http, public_watching=decided).watching_is_public() is public
