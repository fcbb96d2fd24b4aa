"""Sign-in for people: passwords, sessions, and the guessing of passwords."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from argon2 import PasswordHasher
from sqlalchemy import select

from services.gateway import accounts, people, store
from services.gateway.accounts import FIRST_PAUSE, FORGOTTEN_AFTER, HASHER, IDLE_SESSION, LONGEST_PAUSE, LONGEST_SESSION, Accounts
from shared.bus.outbox import UnitOfWork
from shared.errors import Invalid, NotFound, TooManyRequests, Unauthenticated
from shared.http.endpoint import Scope
from tests.unit.conftest import MakeUnits, SetClock
from tests.unit.gateway.door import QUICK, Doors

GOOD = "correct horse battery"
OTHER = "four words are better"
HERE, THERE = "192.0.2.1", "192.0.2.2"
ANN = {"name": "Ann Lee", "email": "Ann@example.com", "site": "", "team": "", "roles": ["supervisor"], "language": "en", "sites": ["berlin"],
       "teams": None, "active": True}  # fmt: skip


class Work:
    """What would run off the hub: runs at once, and is counted."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def __call__(self, work: Callable[..., Any], *arguments: Any) -> Any:
        self.done.append(work.__name__)
        return work(*arguments)


@pytest.fixture
def units(make_units: MakeUnits, at: SetClock) -> UnitOfWork:
    units = make_units(store.metadata)
    people.put(units, "ann", ANN)
    return units


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def house(units: UnitOfWork, work: Work) -> Accounts:
    house = Accounts(units, work, QUICK)
    house.set_password("ann", GOOD)
    work.done.clear()
    return house


def rows(units: UnitOfWork, table: Any) -> list[Any]:
    with units.database.reading() as connection:
        return list(connection.execute(select(table)))


def wrong(house: Accounts, login: str = "ann", address: str = HERE, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(Unauthenticated):
            house.sign_in(login, "not the password", address)


# ---- sessions


@pytest.mark.parametrize("login", ["ann", "ANN@example.com", " ann@example.com "])
def test_who_signs_in_is_themselves_with_their_roles_and_scope(house: Accounts, login: str) -> None:
    signed_in = house.sign_in(login, GOOD, HERE)
    principal = house.authenticate(signed_in.token)
    assert principal
    assert (principal.name, principal.roles, principal.id, principal.person) == ("Ann Lee", {"supervisor"}, "ann", "ann")
    assert principal.scope == Scope(frozenset(["berlin"]))


def test_neither_password_nor_token_is_kept(house: Accounts, units: UnitOfWork) -> None:
    signed_in = house.sign_in("ann", GOOD, HERE)
    kept = str([rows(units, table) for table in store.metadata.sorted_tables])
    assert GOOD not in kept and signed_in.token not in kept and signed_in.token.removeprefix("as_") not in kept
    assert rows(units, store.password)[0].hash.startswith("$argon2id$")
    assert accounts.digest(signed_in.token) in kept


def test_a_key_is_no_sign_in(house: Accounts) -> None:
    assert house.authenticate("al_something") is None
    with pytest.raises(Unauthenticated, match="has ended"):
        house.authenticate("as_something")


def test_a_session_ends_when_nothing_is_asked_and_in_any_case_after_a_shift(house: Accounts, at: SetClock) -> None:
    token = house.sign_in("ann", GOOD, HERE).token
    for _ in range(int(LONGEST_SESSION / (IDLE_SESSION - 1))):
        at.forward(IDLE_SESSION - 1)
        assert house.authenticate(token)
    at.forward(IDLE_SESSION - 1)
    with pytest.raises(Unauthenticated, match="sign in again"):
        house.authenticate(token)
    token = house.sign_in("ann", GOOD, HERE).token
    at.forward(IDLE_SESSION)
    with pytest.raises(Unauthenticated):
        house.authenticate(token)


def test_who_signs_out_is_out_at_once_in_every_process(house: Accounts, units: UnitOfWork, work: Work) -> None:
    elsewhere = Accounts(units, work, QUICK)
    tokens = [house.sign_in("ann", GOOD, HERE).token for _ in range(3)]
    assert all(elsewhere.authenticate(token) for token in tokens)
    house.end(tokens[0])
    assert elsewhere.authenticate(tokens[1])
    with pytest.raises(Unauthenticated):
        elsewhere.authenticate(tokens[0])
    house.end_all("ann")
    for token in tokens:
        with pytest.raises(Unauthenticated):
            elsewhere.authenticate(token)


def test_what_the_directory_says_counts_at_once(house: Accounts, units: UnitOfWork) -> None:
    token = house.sign_in("ann", GOOD, HERE).token
    people.put(units, "ann", {**ANN, "roles": ["agent"], "sites": []})
    principal = house.authenticate(token)
    assert principal and (principal.roles, principal.scope) == ({"agent"}, Scope())
    people.deactivate(units, "ann")
    with pytest.raises(Unauthenticated):
        house.authenticate(token)
    wrong(house, times=1)
    with pytest.raises(NotFound):
        house.set_password("ann", GOOD)
    people.put(units, "ann", ANN)
    with pytest.raises(Unauthenticated):
        house.sign_in("ann", GOOD, HERE)


def test_what_is_over_is_forgotten(house: Accounts, units: UnitOfWork, at: SetClock) -> None:
    house.sign_in("ann", GOOD, HERE)
    wrong(house)
    house.prune()
    assert [len(rows(units, table)) for table in (store.session, store.failed_sign_in)] == [1, 2]
    at.forward(FORGOTTEN_AFTER + 1)
    house.prune()
    assert [len(rows(units, table)) for table in (store.session, store.failed_sign_in)] == [0, 0]


# ---- passwords


@pytest.mark.parametrize(
    "password", ["short", "x" * 201, "aaaaaaaaaaaaaaaa", "abababababababab", "my name is Ann Lee", "annannannann", "ANN Lee is great"]
)
def test_a_bad_password_is_refused(house: Accounts, password: str) -> None:
    with pytest.raises(Invalid) as refused:
        house.set_password("ann", password)
    assert password not in str(refused.value.detail) + str(refused.value.more)
    assert house.sign_in("ann", GOOD, HERE)


def test_a_password_is_the_same_however_its_letters_are_composed(house: Accounts) -> None:
    house.set_password("ann", "über die Brücke 12")
    assert house.sign_in("ann", "u\u0308ber die Bru\u0308cke 12", HERE)


def test_a_new_password_signs_everybody_else_out(house: Accounts) -> None:
    here, there = (house.sign_in("ann", GOOD, HERE).token for _ in range(2))
    with pytest.raises(Invalid, match="old password"):
        house.change_password("ann", "not the password", OTHER, here)
    house.change_password("ann", GOOD, OTHER, here)
    assert house.authenticate(here)
    with pytest.raises(Unauthenticated):
        house.authenticate(there)
    wrong(house)
    house.set_password("ann", GOOD)
    with pytest.raises(Unauthenticated):
        house.authenticate(here)


def test_the_old_password_cannot_be_guessed_by_who_found_an_open_desk(house: Accounts) -> None:
    token = house.sign_in("ann", GOOD, HERE).token
    for _ in range(accounts.TRIES_A_NAME):
        with pytest.raises(Invalid):
            house.change_password("ann", "not the password", OTHER, token)
    with pytest.raises(TooManyRequests):
        house.change_password("ann", GOOD, OTHER, token)


def test_a_hash_of_former_strength_is_made_anew_at_the_next_sign_in(house: Accounts, units: UnitOfWork, work: Work) -> None:
    stronger = PasswordHasher(time_cost=2, memory_cost=16, parallelism=1)
    Accounts(units, work, stronger).sign_in("ann", GOOD, HERE)
    assert not stronger.check_needs_rehash(rows(units, store.password)[0].hash)
    assert Accounts(units, work, stronger).sign_in("ann", GOOD, HERE)


def test_passwords_are_hashed_as_owasp_says() -> None:
    assert (HASHER.type.name, HASHER.memory_cost, HASHER.time_cost, HASHER.parallelism) == ("ID", 19_456, 2, 1)


# ---- guessing


def test_whatever_is_wrong_the_answer_and_the_work_are_the_same(house: Accounts, units: UnitOfWork, work: Work) -> None:
    people.put(units, "bob", {**ANN, "email": None})
    people.put(units, "gone", {**ANN, "email": "gone@example.com"})
    house.set_password("gone", GOOD)
    people.deactivate(units, "gone")
    answers = []
    for login in ("ann", "bob", "gone", "gone@example.com", "nobody", "nobody@example.com"):
        for _ in range(accounts.TRIES_A_NAME + 1):
            work.done.clear()
            with pytest.raises((Unauthenticated, TooManyRequests)) as refused:
                house.sign_in(login, GOOD if login != "ann" else OTHER, f"192.0.2.{len(answers)}")
            answers.append((type(refused.value), refused.value.detail, refused.value.more, tuple(work.done)))
    first, *others = [answers[start : start + accounts.TRIES_A_NAME + 1] for start in range(0, len(answers), accounts.TRIES_A_NAME + 1)]
    assert all(other == first for other in others)
    assert [len(done) for *_, done in first] == [1] * accounts.TRIES_A_NAME + [0], "one hash for each try, and none while it is locked"


def test_failures_lock_the_name_for_longer_and_longer_and_survive_a_restart(
    house: Accounts, units: UnitOfWork, work: Work, at: SetClock
) -> None:
    wrong(house, times=accounts.TRIES_A_NAME)
    pauses = []
    for _ in range(8):
        house = Accounts(units, work, QUICK)
        with pytest.raises(TooManyRequests) as locked:
            house.sign_in("ann", GOOD, THERE)
        pauses.append(locked.value.more["retry_after"])
        at.forward(pauses[-1])
        wrong(house, address=THERE)
    assert pauses == [min(FIRST_PAUSE * 2**number, LONGEST_PAUSE) for number in range(8)]
    at.forward(LONGEST_PAUSE)
    assert house.sign_in("ann", GOOD, THERE), "the right one opens, and all is forgotten"
    wrong(house, times=accounts.TRIES_A_NAME - 1)
    assert house.sign_in("ann", GOOD, HERE)


def test_failures_of_long_ago_do_not_count(house: Accounts, at: SetClock) -> None:
    for _ in range(3 * accounts.TRIES_A_NAME):
        wrong(house)
        at.forward(FORGOTTEN_AFTER)


def test_guesses_at_one_moment_are_not_more_than_one_after_another(units: UnitOfWork, work: Work) -> None:
    """Each guess begins the next before it is answered."""
    opened = []

    def nested(task: Callable[..., Any], *arguments: Any) -> Any:
        if len(opened) < 3 * accounts.TRIES_A_NAME:
            opened.append(1)
            with pytest.raises((Unauthenticated, TooManyRequests)):
                house.sign_in("ann", "not the password", HERE)
        return work(task, *arguments)

    house = Accounts(units, work, QUICK)
    house.set_password("ann", GOOD)
    house._off_the_hub, work.done = nested, []
    with pytest.raises((Unauthenticated, TooManyRequests)):
        house.sign_in("ann", "not the password", HERE)
    assert len(work.done) == accounts.TRIES_A_NAME


def test_an_address_that_tries_many_names_is_locked_and_others_are_not(house: Accounts, at: SetClock) -> None:
    for number in range(accounts.TRIES_AN_ADDRESS):
        wrong(house, f"name {number}")
    with pytest.raises(TooManyRequests):
        house.sign_in("ann", GOOD, HERE)
    assert house.sign_in("ann", GOOD, THERE)
    at.forward(FIRST_PAUSE)
    assert house.sign_in("ann", GOOD, HERE)


def test_strangers_who_guess_keep_nobody_out_of_where_they_signed_in_before(house: Accounts, units: UnitOfWork, at: SetClock) -> None:
    house.sign_in("Ann@Example.com", GOOD, HERE)
    house.sign_in("ann", GOOD, HERE)
    wrong(house, "ann", THERE, accounts.TRIES_A_NAME)
    with pytest.raises(TooManyRequests):
        house.sign_in("ann", GOOD, THERE)
    wrong(house, "ann", HERE)
    assert house.sign_in("ann", GOOD, HERE)
    with pytest.raises(TooManyRequests):
        house.sign_in("ann", GOOD, THERE)
    wrong(house, "ann", HERE, accounts.TRIES_A_NAME)
    with pytest.raises(TooManyRequests):
        house.sign_in("ann", GOOD, HERE)
    house.set_password("ann", GOOD)
    assert house.sign_in("ann", GOOD, HERE), "an administrator unlocks it everywhere"
    at.forward(accounts.KNOWN_PLACE_SECONDS - 1)
    house.prune()
    wrong(house, "ann", THERE, accounts.TRIES_A_NAME)
    assert house.sign_in("ann", GOOD, HERE)
    at.forward(accounts.KNOWN_PLACE_SECONDS + 1)
    house.prune()
    assert rows(units, store.failed_sign_in) == []


def test_a_whole_office_signs_in_from_one_address(house: Accounts) -> None:
    for _ in range(2 * accounts.TRIES_AN_ADDRESS):
        house.sign_in("ann", GOOD, HERE)


def test_lockouts_and_sign_ins_are_on_record_and_nobody_elses_words(house: Accounts, units: UnitOfWork) -> None:
    house.end(house.sign_in("ann", GOOD, HERE).token)
    wrong(house, times=accounts.TRIES_A_NAME)
    wrong(house, "hunter2-my-password", times=accounts.TRIES_A_NAME)
    told = [(row.who, row.act, row.object, row.status) for row in rows(units, select(store.audit).order_by(store.audit.c.id).subquery())]
    assert told == [
        ("ann", "signed in", "ann", 200),
        ("ann", "signed out", "ann", 204),
        ("", "locked", "ann", 429),
        ("", "locked", "", 429),
    ]
    kept = str([rows(units, table) for table in store.metadata.sorted_tables])
    assert "hunter2" not in kept and HERE not in kept


# ---- at the door


def test_the_way_through_the_doors(units: UnitOfWork) -> None:
    doors = Doors(units)
    assert doors("PUT", "/v1/people/ann/password", {"password": GOOD}, "supervisor").status == 403
    assert doors("PUT", "/v1/people/ann/password", {"password": "ann"}, "admin").status == 422
    assert doors("PUT", "/v1/people/ann/password", {"password": GOOD}, "admin").status == 204
    assert doors("POST", "/v1/sign-in", {"login": "ann", "password": OTHER}).status == 401
    first, second = (doors("POST", "/v1/sign-in", {"login": "ann", "password": GOOD}) for _ in range(2))
    assert (first.status, first.json.keys()) == (200, {"token", "ends_at", "person", "name", "roles"})
    mine = first.json["token"]
    assert doors("GET", "/v1/me", key=mine).json == {
        "id": "ann", "name": "Ann Lee", "person": "ann", "roles": ["supervisor"], "sites": ["berlin"], "teams": [],
    }  # fmt: skip
    assert doors("PUT", "/v1/me/password", {"old": OTHER, "password": OTHER}, mine).status == 422
    assert doors("PUT", "/v1/me/password", {"old": GOOD, "password": OTHER}, mine).status == 204
    assert doors("GET", "/v1/me", key=second.json["token"]).status == 401
    assert doors("POST", "/v1/sign-out?everywhere=true", key=mine).status == 204
    answer = doors("GET", "/v1/me", key=mine)
    assert (answer.status, "sign in again" in answer.json["detail"]) == (401, True)


def test_a_key_is_itself_and_has_no_password(units: UnitOfWork) -> None:
    doors = Doors(units)
    made = doors("POST", "/v1/keys", {"name": "desk", "roles": ["agent"], "sites": ["berlin"], "days": 30}, "admin").json
    assert doors("GET", "/v1/me", key=made["key"]).json == {
        "id": made["id"], "name": "desk", "person": "", "roles": ["agent"], "sites": ["berlin"], "teams": [],
    }  # fmt: skip
    assert doors("POST", "/v1/sign-out", key=made["key"]).status == 409
    assert doors("PUT", "/v1/me/password", {"old": "x", "password": GOOD}, made["key"]).status == 409


def test_an_administrator_signs_somebody_out_everywhere(units: UnitOfWork) -> None:
    doors = Doors(units)
    doors("PUT", "/v1/people/ann/password", {"password": GOOD}, "admin")
    token = doors("POST", "/v1/sign-in", {"login": "ann", "password": GOOD}).json["token"]
    assert doors("DELETE", "/v1/people/ann/sign-ins", key="admin").status == 204
    assert doors("GET", "/v1/me", key=token).status == 401
    assert doors("DELETE", "/v1/people/nobody/sign-ins", key="admin").status == 404
