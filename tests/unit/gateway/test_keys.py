from __future__ import annotations

import pytest
from sqlalchemy import select

from services.gateway import keys, store
from services.gateway.keys import KNOWN_FOR_SECONDS, ROLES, Keyring
from shared.bus.outbox import UnitOfWork
from shared.errors import Invalid, NotFound, Unauthenticated
from shared.http.endpoint import Principal, Scope
from tests.unit.conftest import MakeUnits, SetClock


@pytest.fixture
def units(make_units: MakeUnits, at: SetClock) -> UnitOfWork:
    return make_units(store.metadata)


def bearer(key: str) -> dict[str, str]:
    return {"HTTP_AUTHORIZATION": f"Bearer {key}"}


def test_a_key_opens_with_its_roles(units: UnitOfWork) -> None:
    made = keys.create(units, "pbx1", ["telephony", "metrics"])
    assert made["key"].startswith("al_") and made["roles"] == ["metrics", "telephony"]
    assert Keyring(units, "boot").authenticate(bearer(made["key"])) == Principal("pbx1", frozenset(["telephony", "metrics"]), made["id"])


def test_a_key_may_hold_for_some_sites_and_teams_alone(units: UnitOfWork) -> None:
    made = keys.create(units, "berlin", ["supervisor"], sites=["berlin", "berlin"], teams=["sales"])
    principal = Keyring(units, "boot").authenticate(bearer(made["key"]))
    assert principal and principal.scope == Scope(frozenset(["berlin"]), frozenset(["sales"]))
    with pytest.raises(Invalid, match="whole organisation"):
        keys.create(units, "half an administrator", ["admin"], sites=["berlin"])


def test_a_key_ends_at_its_moment_and_says_so(units: UnitOfWork, at: SetClock) -> None:
    made, ring = keys.create(units, "guest", ["agent"], expires_at=at() + 2.0), Keyring(units, "boot")
    assert ring.authenticate(bearer(made["key"]))
    at.forward(2.0)  # sooner than what is remembered of a key is forgotten
    with pytest.raises(Unauthenticated, match="this key expired on 2027-01-15T08:00:02"):
        ring.authenticate(bearer(made["key"]))
    assert made["key"] not in ring._known
    with pytest.raises(Invalid, match="expired when it is made"):
        keys.create(units, "late", ["agent"], expires_at=at())


def test_the_list_shows_every_key_page_by_page_and_none_itself(units: UnitOfWork, at: SetClock) -> None:
    made = [keys.create(units, f"key {number}", ["agent"], expires_at=at() + 60, sites=["berlin"]) for number in range(5)]
    keys.revoke(units, made[0]["id"])
    found, cursor = [], ""
    while cursor is not None:
        page = keys.listing(units, cursor, 2)
        found += page["items"]
        cursor = page["next"]
    assert [row["id"] for row in found] == sorted(one["id"] for one in made)
    told = {row["id"]: row for row in found}[made[0]["id"]]
    assert told == {
        "id": made[0]["id"], "name": "key 0", "roles": ["agent"], "sites": ["berlin"], "teams": [], "created_at": "2027-01-15T08:00:00.000Z",
        "expires_at": "2027-01-15T08:01:00.000Z", "revoked_at": "2027-01-15T08:00:00.000Z",
    }  # fmt: skip
    with pytest.raises(Invalid, match="cursor"):
        keys.listing(units, "yesterday")


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
    assert Keyring(units, "boot").authenticate(bearer("boot")) == Principal("bootstrap", frozenset(["admin"]), "bootstrap")


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
