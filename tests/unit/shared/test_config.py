from __future__ import annotations

import stat
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from shared import config
from shared.config import SettingError, Settings


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
    "public_url",
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
        ("ROUTING_SHARDS", "0", "ANSWERLINE_ROUTING_SHARDS: '0' is not a whole number from 1 to 64"),
        ("ROUTING_SHARDS", "two", "ANSWERLINE_ROUTING_SHARDS"),
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


def test_a_key_that_is_set_is_used() -> None:
    assert load(ADMIN_KEY="secret").bootstrap_key() == ("secret", False)


def test_a_key_is_made_once_and_kept_for_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "new")
    key, made = settings.bootstrap_key()
    assert (made, key.startswith("al_"), len(key) > 40) == (True, True, True)
    assert settings.bootstrap_key() == (key, False)
    assert stat.S_IMODE((tmp_path / "new" / "admin.key").stat().st_mode) == 0o600
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["admin.key"]


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
