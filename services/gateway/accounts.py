"""Sign-in for people: passwords kept as argon2id hashes, sessions kept as digests of their tokens, and the guessing of passwords made slow.

A session is looked up at each request, with the person it belongs to: who signs out, is deactivated or loses a role has lost it at once,
in every process. It ends after 12 hours, and after an hour in which nothing was asked.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import ColumnElement, Connection, case, delete, insert, or_, select, update

from services.gateway import audit, people
from services.gateway.store import failed_sign_in, password, person, session
from shared import clock
from shared.bus.outbox import UnitOfWork
from shared.db import bulk
from shared.errors import Invalid, NotFound, TooManyRequests, Unauthenticated
from shared.http.endpoint import Principal

TOKEN = "as_"  # noqa: S105 - how every token begins
LONGEST_SESSION = 12 * 3600.0
IDLE_SESSION = 3600.0
NOTED_EVERY = 60.0
SHORTEST, LONGEST = 12, 200
LEAST_VARIETY = 5
TRIES_A_NAME, TRIES_AN_ADDRESS = 5, 50
FIRST_PAUSE, LONGEST_PAUSE = 30.0, 900.0
FORGOTTEN_AFTER = 86400.0
KNOWN_PLACE_SECONDS = 30 * 86400.0
"""So long after somebody's last sign-in from an address, failures from there count apart from those of strangers."""
REFUSED = "the name or the password is wrong, or nobody of this name may sign in with a password"

HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
"""Argon2id as OWASP's Password Storage Cheat Sheet has it: 19 MiB, two passes, one lane."""

Heavy = Callable[..., Any]


@dataclass(frozen=True)
class SignedIn:
    """A session just begun; `token` is shown this once. `ends_at`: epoch seconds."""

    token: str
    ends_at: float
    person: str
    name: str
    roles: list[str]


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Accounts:
    """`off_the_hub` runs what takes tens of milliseconds of processor time without holding anybody up."""

    def __init__(self, units: UnitOfWork, off_the_hub: Heavy, hasher: PasswordHasher = HASHER) -> None:
        self.units = units
        self._off_the_hub = off_the_hub
        self._hasher = hasher
        self._decoy = hasher.hash(secrets.token_urlsafe())
        """What is verified where there is no password, so that an unknown name takes as long as a known one."""

    # Sessions

    def authenticate(self, token: str) -> Principal | None:
        """Whose session it is; None for what is no session's token. Raises Unauthenticated for one that has ended."""
        if not token.startswith(TOKEN):
            return None
        now, told = clock.now(), digest(token)
        columns = (person.c[name] for name in ("id", "name", "roles", "site", "team", "sites", "teams"))
        whose = session.c.person == person.c.id
        query = select(session.c.roles.label("told"), session.c.made_at, session.c.seen_at, *columns).join(person, whose)
        with self.units.database.reading() as connection:
            row = connection.execute(query.where(session.c.digest == told, person.c.active)).mappings().first()
        if row is None or now >= min(row["made_at"] + LONGEST_SESSION, row["seen_at"] + IDLE_SESSION):
            raise Unauthenticated("this sign-in has ended: sign in again with POST /v1/sign-in")
        if now - row["seen_at"] > NOTED_EVERY:
            with self.units() as work:
                work.connection.execute(update(session).where(session.c.digest == told).values(seen_at=now))
        roles = row["told"] if row["told"] is not None else row["roles"]
        return Principal(row["name"], frozenset(roles), row["id"], row["id"], people.scope_of(row, roles))

    def begin(self, connection: Connection, row: Any, how: str, roles: list[str] | None = None) -> SignedIn:
        """A new session of the person in that row of the directory. `roles`: said by the identity provider, in place of the directory's."""
        token, now = TOKEN + secrets.token_urlsafe(32), clock.now()
        connection.execute(insert(session).values(digest=digest(token), person=row.id, roles=roles, made_at=now, seen_at=now))
        audit.note(connection, row.id, row.name, "signed in", row.id, 200, how)
        return SignedIn(token, now + LONGEST_SESSION, row.id, row.name, row.roles if roles is None else roles)

    def end(self, token: str) -> None:
        """This session alone."""
        with self.units() as work:
            found = select(person.c.id, person.c.name).join(session, session.c.person == person.c.id)
            row = work.connection.execute(found.where(session.c.digest == digest(token))).first()
            if row:
                work.connection.execute(delete(session).where(session.c.digest == digest(token)))
                audit.note(work.connection, row.id, row.name, "signed out", row.id, 204)

    def end_all(self, person_id: str, but: str = "") -> None:
        """Every session of a person, but that of one token."""
        with self.units() as work:
            _end_all(work.connection, person_id, but)

    # Passwords

    def sign_in(self, login: str, told: str, address: str) -> SignedIn:
        """By id or e-mail address. Raises Unauthenticated, in the same words and after the same work whatever was wrong, and
        TooManyRequests while too many have failed by that name or from that address. From where somebody has signed in before, they are
        counted apart: strangers who guess must not keep them out."""
        key, place = login.strip().casefold(), _subject("address", address)
        self._require_unlocked(place)
        known = _subject("name at", f"{key} {address}")
        name = known if self._is_open(known) else _subject("name", key)
        pause = self._count(name, TRIES_A_NAME)
        row = self._find(login.strip())
        fits, stale = self._off_the_hub(self._verify, row.hash if row else self._decoy, _normal(told))
        if row is None or not fits:
            self._failed(place, login.strip(), pause)
            raise Unauthenticated(REFUSED)
        better = self._off_the_hub(self._hasher.hash, _normal(told)) if stale else row.hash
        with self.units() as work:
            work.connection.execute(delete(failed_sign_in).where(failed_sign_in.c.subject == name))
            place_of = {"subject": known, "failures": 0, "last_at": clock.now(), "locked_until": 0.0}
            bulk.insert(work.connection, failed_sign_in, [place_of], key=("subject",), update=("failures", "last_at", "locked_until"))
            unchanged = password.c.person == row.id, password.c.hash == row.hash
            if work.connection.execute(update(password).where(*unchanged).values(hash=better)).rowcount == 0:
                raise Unauthenticated(REFUSED)  # it was changed this very moment
            return self.begin(work.connection, row, "password")

    def set_password(self, person_id: str, new: str) -> None:
        """Set by an administrator: whoever was signed in as that person is signed out, and nothing is locked any more. Raises NotFound or
        Invalid."""
        self._keep(person_id, new)

    def change_password(self, person_id: str, old: str, new: str, token: str) -> None:
        """By the person: all sessions but this one end. A wrong old password counts like a failed sign-in. Raises Invalid, with what was
        wrong, NotFound or TooManyRequests."""
        row = self._find(person_id)
        if row is None:
            raise NotFound("you have no password here: an administrator sets the first")
        self._count(_subject("name", person_id.casefold()), TRIES_A_NAME)
        fits, _ = self._off_the_hub(self._verify, row.hash, _normal(old))
        if not fits:
            raise Invalid("the old password is wrong", errors={"old": ["This is not your password."]})
        self._keep(person_id, new, token)

    def _keep(self, person_id: str, new: str, but: str = "") -> None:
        with self.units.database.reading() as connection:
            known = connection.execute(select(person).where(person.c.id == person_id)).first()
        if known is None or not known.active:
            raise NotFound(f"nobody in the directory who may sign in has the id {person_id}")
        _require_good(new, (known.id, known.name, (known.email or "").partition("@")[0]))
        hash = self._off_the_hub(self._hasher.hash, _normal(new))
        row = {"person": known.id, "hash": hash, "changed_at": clock.now()}
        names = [_subject("name", one.casefold()) for one in (known.id, known.email) if one]
        with self.units() as work:
            bulk.insert(work.connection, password, [row], key=("person",), update=("hash", "changed_at"))
            work.connection.execute(delete(failed_sign_in).where(failed_sign_in.c.subject.in_(names)))
            _end_all(work.connection, known.id, but)

    def _find(self, login: str) -> Any:
        whose = password.c.person == person.c.id
        query = select(person, password.c.hash).join(password, whose).where(_named(login), person.c.active)
        with self.units.database.reading() as connection:
            return connection.execute(query).first()

    def _verify(self, hash: str, told: str) -> tuple[bool, bool]:
        """Whether it is the password, and whether its hash is of another strength than today's."""
        try:
            return self._hasher.verify(hash, told), self._hasher.check_needs_rehash(hash)
        except (VerificationError, InvalidHashError):
            return False, False

    def prune(self) -> None:
        """Forget sessions that are over, failures that are too old to count, and places where nobody signed in for long."""
        now = clock.now()
        over = or_(session.c.made_at < now - LONGEST_SESSION, session.c.seen_at < now - IDLE_SESSION)
        with self.units() as work:
            work.connection.execute(delete(session).where(over))
            kept_for = case((failed_sign_in.c.failures == 0, KNOWN_PLACE_SECONDS), else_=FORGOTTEN_AFTER)
            work.connection.execute(delete(failed_sign_in).where(failed_sign_in.c.last_at < now - kept_for))

    # Guessing

    def _require_unlocked(self, subject: str) -> None:
        with self.units.database.reading() as connection:
            until = connection.scalar(select(failed_sign_in.c.locked_until).where(failed_sign_in.c.subject == subject))
        if until is not None and until > clock.now():
            raise _locked(until)

    def _is_open(self, known: str) -> bool:
        """Whether it is a place where that name signed in of late, with no pause there now."""
        now = clock.now()
        of_late = failed_sign_in.c.last_at > now - KNOWN_PLACE_SECONDS, failed_sign_in.c.locked_until <= now
        with self.units.database.reading() as connection:
            return connection.scalar(select(failed_sign_in.c.subject).where(failed_sign_in.c.subject == known, *of_late)) is not None

    def _count(self, subject: str, allowed: int) -> float:
        """Count a failure: of a name before its password is looked at, so that many at once are not more than one after another. Every
        failure from the `allowed`th on doubles the pause after it; its seconds, or 0. Raises TooManyRequests during a pause."""
        now = clock.now()
        blank = {"subject": subject, "failures": 0, "last_at": now, "locked_until": 0.0}
        with self.units() as work:
            bulk.insert(work.connection, failed_sign_in, [blank], key=("subject",))
            ours = failed_sign_in.c.subject == subject
            row = work.connection.execute(select(failed_sign_in).where(ours).with_for_update()).one()
            if row.locked_until > now:
                raise _locked(row.locked_until)
            failures = 1 + (row.failures if now - row.last_at < FORGOTTEN_AFTER else 0)
            pause = min(FIRST_PAUSE * 2.0 ** min(failures - allowed, 20), LONGEST_PAUSE) if failures >= allowed else 0.0
            work.connection.execute(update(failed_sign_in).where(ours).values(failures=failures, last_at=now, locked_until=now + pause))
        return pause

    def _failed(self, place: str, login: str, pause: float) -> None:
        """Whose name it was is written down where somebody has it; otherwise it may be a password typed into the wrong field."""
        pauses = {"locked": pause, "address locked": self._count(place, TRIES_AN_ADDRESS)}
        with self.units() as work:
            for act, seconds in pauses.items():
                if seconds:
                    named = work.connection.scalar(select(person.c.id).where(_named(login)))
                    audit.note(work.connection, "", "", act, named or "", 429, f"for {seconds:g} s, after failed sign-ins")


def _end_all(connection: Connection, person_id: str, but: str = "") -> None:
    connection.execute(delete(session).where(session.c.person == person_id, session.c.digest != digest(but)))


def _named(login: str) -> ColumnElement[bool]:
    return or_(person.c.id == login, person.c.email_key == login.casefold())


def _subject(kind: str, value: str) -> str:
    return digest(f"{kind}:{value}")


def _locked(until: float) -> TooManyRequests:
    seconds = math.ceil(until - clock.now())
    return TooManyRequests(f"too many sign-ins have failed: try again in {seconds} s", retry_after=seconds)


def _normal(told: str) -> str:
    """One and the same text, whatever keyboard it was typed on."""
    return unicodedata.normalize("NFKC", told)


def _require_good(new: str, names: tuple[str, ...]) -> None:
    """Long, of more than a few different characters, and without the person's names. Raises Invalid."""
    plain = _normal(new).casefold()
    if not SHORTEST <= len(new) <= LONGEST:
        wrong = f"A password has {SHORTEST} to {LONGEST} characters: several words do well."
    elif len(set(plain)) < LEAST_VARIETY:
        wrong = f"A password has {LEAST_VARIETY} different characters or more."
    elif any(len(name) > 2 and _normal(name).casefold() in plain for name in (*names, *" ".join(names).split())):
        wrong = "A password does not hold its owner's name."
    else:
        return
    raise Invalid("this password cannot be used", errors={"password": [wrong]})
