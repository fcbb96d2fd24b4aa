"""Secrets at rest that are needed again as they were told (others' tokens, signing secrets): encrypted, so that a copy of the database
does not give them away.

Fernet (AES-128-CBC with HMAC-SHA-256, https://github.com/fernet/spec) under keys derived by HKDF-SHA-256 (RFC 5869) from
ANSWERLINE_SECRET_KEY. The first key seals, all of them unseal: a new one is put before the former, `answerline key reseal` seals
everything anew, and the former may go.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import Column, Connection, delete, insert, select, update

from shared.bus.outbox import UnitOfWork
from shared.errors import Unavailable

PURPOSE = b"answerline secrets at rest"
MARKING = b"answerline marks of callers"


class Sealer:
    """`keys`: texts of 32 characters or more, the newest first."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._fernet = MultiFernet([Fernet(base64.urlsafe_b64encode(_derived(key, PURPOSE))) for key in keys])
        self._marking = _derived(keys[0], MARKING)

    def seal(self, text: str) -> str:
        """Ciphertext of printable characters, another one each time."""
        return self._fernet.encrypt(text.encode()).decode()

    def mark(self, text: str) -> str:
        """The same for the same text, under the newest key; it says that two texts are equal, and nothing else (HMAC-SHA-256, 128 bits of it)."""
        return hmac.new(self._marking, text.encode(), "sha256").hexdigest()[:32]

    def unseal(self, sealed: str) -> str:
        """What was sealed. Raises Unavailable where none of our keys fits."""
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken:
            raise _unknown_key() from None

    def reseal(self, sealed: str) -> str:
        """The same under the newest key. Raises Unavailable where none of our keys fits."""
        try:
            return self._fernet.rotate(sealed.encode()).decode()
        except InvalidToken:
            raise _unknown_key() from None


def _derived(key: str, purpose: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=purpose).derive(key.encode())


def _unknown_key() -> Unavailable:
    return Unavailable(
        "a kept secret was sealed with a key that ANSWERLINE_SECRET_KEY does not hold: put that key back behind the newest, "
        "or write the secret anew"
    )


def keep(connection: Connection, sealer: Sealer, owner: Column[Any], name: str, secrets: Mapping[str, str | None]) -> None:
    """Keep secrets, by their name, for the owner of this name; None takes one away. `owner`: a column of a table with `name` and `value`."""
    table = owner.table
    for secret, text in secrets.items():
        connection.execute(delete(table).where(owner == name, table.c.name == secret))
        if text is not None:
            connection.execute(insert(table).values({owner.name: name, "name": secret, "value": sealer.seal(text)}))


def reseal(units: UnitOfWork, sealer: Sealer, columns: Iterable[Column[Any]]) -> int:
    """Seal everything in these columns with the newest key, all or nothing; how many there were. Raises Unavailable."""
    count = 0
    with units() as work:
        for column in columns:
            table = column.table
            keys = list(table.primary_key)
            for *key, sealed in work.connection.execute(select(*keys, column).with_for_update()).all():
                same = [one == value for one, value in zip(keys, key, strict=True)]
                work.connection.execute(update(table).where(*same).values({column: sealer.reseal(sealed)}))
                count += 1
    return count
