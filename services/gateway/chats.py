"""Chats from which experts answer where they are: who may speak there for whom, and what a message from there proves itself with.

Token and signing secret are written and never shown: an answer says only which there are. They are kept sealed (see sealing.py).
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Column, Connection, Table, Text, delete, select

from services.gateway import sealing, store
from services.gateway.domain import chat as rules
from services.gateway.domain.chat import NotAReply, Order, Said
from services.gateway.sealing import Sealer
from services.gateway.store import metadata
from shared import clock
from shared.bus.outbox import UnitOfWork
from shared.db import bulk
from shared.db.types import Document, Moment
from shared.errors import Invalid, NotFound, Unauthenticated

SECRETS = ("token", "signing_secret")

chat = Table(
    "chat",
    metadata,
    Column("name", Text, primary_key=True),
    Column("people", Document, nullable=False),
    Column("changed_at", Moment, nullable=False),
)
"""`people`: user of the chat -> id in the directory."""

chat_secret = Table(
    "chat_secret",
    metadata,
    Column("chat", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""Sealed."""


def put(units: UnitOfWork, sealer: Sealer, name: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """Register a chat, or change it. A secret not spoken of stays; null takes it away. Raises Invalid."""
    if not 1 <= len(name) <= store.LONGEST_NAME or "/" in name:
        raise Invalid(f"a chat's name has 1 to {store.LONGEST_NAME} characters and holds no /")
    row = {"name": name, "people": told["people"], "changed_at": clock.now()}
    with units() as work:
        bulk.insert(work.connection, chat, [row], key=("name",), update=("people", "changed_at"))
        sealing.keep(work.connection, sealer, chat_secret.c.chat, name, {secret: told[secret] for secret in SECRETS if secret in told})
        if not _sealed(work.connection, name):
            wanted = ["Say the token, or the signing secret, by which the chat's messages are known."]
            raise Invalid("anybody could speak for your experts", errors={"token": wanted})
    return get(units, name)


def get(units: UnitOfWork, name: str) -> dict[str, Any]:
    """A chat as it is shown. Raises NotFound."""
    with units.database.reading() as connection:
        row = connection.execute(select(chat).where(chat.c.name == name)).first()
        if row is None:
            raise _unknown(name)
        return {"name": row.name, "people": row.people, "secrets": sorted(_sealed(connection, name))}


def remove(units: UnitOfWork, name: str) -> None:
    """Nobody speaks from there any more. Raises NotFound."""
    with units() as work:
        if work.connection.execute(delete(chat).where(chat.c.name == name)).rowcount == 0:
            raise _unknown(name)
        work.connection.execute(delete(chat_secret).where(chat_secret.c.chat == name))


def _unknown(name: str) -> NotFound:
    return NotFound(f"no chat is called {name}")


def _sealed(connection: Connection, name: str) -> dict[str, str]:
    query = select(chat_secret.c.name, chat_secret.c.value).where(chat_secret.c.chat == name)
    return {row.name: row.value for row in connection.execute(query)}


def read(
    units: UnitOfWork, sealer: Sealer, name: str, body: bytes, content_type: str, timestamp: str, signature: str
) -> tuple[str, Order | NotAReply]:
    """Who in the directory speaks ("": nobody whom we know), and what they order or what their message lacks. `timestamp` and `signature`:
    Slack's headers, where there are any. Raises Invalid, and Unauthenticated for a message that does not prove where it is from."""
    try:
        said = rules.read(body, content_type)
    except NotAReply as error:
        raise Invalid(str(error)) from error
    with units.database.reading() as connection:
        people = connection.scalar(select(chat.c.people).where(chat.c.name == name)) or {}
        secrets = {secret: sealer.unseal(sealed) for secret, sealed in _sealed(connection, name).items()}
    if not _is_proven(secrets, said, body, timestamp, signature):
        raise Unauthenticated("there is no such chat, or the message has neither its token nor a signature that is right and fresh")
    return _speaker(people, said.users), _order(said)


def _is_proven(secrets: Mapping[str, str], said: Said, body: bytes, timestamp: str, signature: str) -> bool:
    token, signing = secrets.get("token"), secrets.get("signing_secret")
    by_token = bool(token) and hmac.compare_digest(str(token).encode(), said.token.encode("utf-8", "replace"))
    return by_token or (bool(signing) and rules.is_signed(body, timestamp, signature, str(signing), clock.now()))


def _speaker(people: Mapping[str, str], users: Iterable[str]) -> str:
    return next((people[user] for user in users if user in people), "")


def _order(said: Said) -> Order | NotAReply:
    try:
        return rules.order(said.text)
    except NotAReply as error:
        return error
