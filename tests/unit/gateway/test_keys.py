from __future__ import annotations

import pytest
from sqlalchemy import select

from services.gateway import keys, store
from services.gateway.keys import KNOWN_FOR_SECONDS, ROLES, Keyring
from shared.bus.outbox import UnitOfWork
from shared.errors import Invalid, NotFound
from shared.http.endpoint import Principal
from tests.unit.conftest import MakeUnits, SetClock


@pytest.fixture
def units(make_units: MakeUnits, at: SetClock) -> UnitOfWork:
    return make_units(store.metadata)


def bearer(key: str) -> dict[str, str]:
    return {"HTTP_AUTHORIZATION": f"Bearer {key}"}


def test_a_key_opens_with_its_roles(units: UnitOfWork) -> None:
    made = keys.create(units, "pbx1", ["telephony", "metrics"])
    assert made["key"].startswith("al_") and made["roles"] == ["metrics", "telephony"]
    assert Keyring(units, "boot").authenticate(bearer(made["key"])) == Principal("pbx1", frozenset(["telephony", "metrics"]))


def test_what_is_stored_is_no_key(units: UnitOfWork) -> None:
    made = keys.create(units, "pbx1", list(ROLES))
    with units.database.reading() as connection:
        row = connection.execute(select(store.api_key)).one()
    assert made["key"] not in str(tuple(row)) and row.digest == keys.digest(made["key"])


@pytest.mark.parametrize(
    "environ",
    [{}, bearer(""), bearer("al_wrong"), bearer("boot "[:3]), {"HTTP_AUTHORIZATION": "Basic boot"}, {"HTTP_AUTHORIZATION": "boot"}],
)
def test_anything_else_opens_nothing(units: UnitOfWork, environ: dict[str, str]) -> None:
    assert Keyring(units, "boot").authenticate(environ) is None


def test_the_bootstrap_key_is_an_administrators(units: UnitOfWork) -> None:
    assert Keyring(units, "boot").authenticate(bearer("boot")) == Principal("bootstrap", frozenset(["admin"]))


def test_a_revoked_key_stops_working_within_seconds(units: UnitOfWork, at: SetClock) -> None:
    made, ring = keys.create(units, "pbx1", ["telephony"]), Keyring(units, "boot")
    assert ring.authenticate(bearer(made["key"]))
    keys.revoke(units, made["id"])
    at.forward(KNOWN_FOR_SECONDS + 1)
    assert ring.authenticate(bearer(made["key"])) is None
    with pytest.raises(NotFound):
        keys.revoke(units, made["id"])


def test_a_new_key_works_within_seconds_though_it_was_tried_before(
    units: UnitOfWork, at: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = Keyring(units, "boot")
    monkeypatch.setattr(keys.secrets, "token_urlsafe", lambda _: "guessed")
    assert ring.authenticate(bearer("al_guessed")) is None
    keys.create(units, "late", ["agent"])
    at.forward(KNOWN_FOR_SECONDS + 1)
    assert ring.authenticate(bearer("al_guessed"))


def test_a_key_is_looked_up_once_in_a_while(units: UnitOfWork, at: SetClock, monkeypatch: pytest.MonkeyPatch) -> None:
    made, ring = keys.create(units, "pbx1", ["telephony"]), Keyring(units, "boot")
    asked: list[str] = []
    look_up = ring._look_up
    monkeypatch.setattr(ring, "_look_up", lambda offered: asked.append(offered) or look_up(offered))
    for _ in range(5):
        ring.authenticate(bearer(made["key"]))
    at.forward(KNOWN_FOR_SECONDS + 1)
    ring.authenticate(bearer(made["key"]))
    assert len(asked) == 2


@pytest.mark.parametrize(("roles", "said"), [(["king"], "unknown role: king; there are admin"), ([], "needs a role")])
def test_roles_must_be_known(units: UnitOfWork, roles: list[str], said: str) -> None:
    with pytest.raises(Invalid, match=said):
        keys.create(units, "x", roles)


@pytest.mark.parametrize("id", ["01a200b7-27f1-73d4-82f8-8f2034b92023", "not-an-id", ""])
def test_an_id_that_is_no_keys_is_not_found(units: UnitOfWork, id: str) -> None:
    with pytest.raises(NotFound):
        keys.revoke(units, id)
