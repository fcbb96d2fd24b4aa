"""The gateway's doors over a database, from a WSGI request to what was announced: without a broker, and without routing."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from types import SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import unquote

import orjson
from argon2 import PasswordHasher
from sqlalchemy import select

from services.gateway import handlers
from services.gateway.accounts import Accounts
from services.gateway.handlers import Receipt, Taken
from services.gateway.keys import Keyring
from services.gateway.scopes import Scopes
from services.gateway.sealing import Sealer
from services.gateway.service import GatewayService
from services.gateway.sources import Register
from shared import contracts
from shared.bus.outbox import UnitOfWork
from shared.config import Settings
from shared.http.address import Proxies
from shared.http.endpoint import Principal, Router
from shared.http.wsgi import Application
from shared.runtime.waiting import Switchboard

KEYS = {f"Bearer {role}": Principal(role, frozenset([role])) for role in ("admin", "telephony", "supervisor", "agent", "evaluator")}

SEALER = Sealer(["k" * 32])
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""What is hashed here guards nothing."""


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    json: Any


class Doors:
    def __init__(self, units: UnitOfWork, public_url: str = "") -> None:
        service: Any = GatewayService()
        register = Register(units, SEALER)
        accounts = Accounts(units, lambda work, *arguments: work(*arguments), QUICK)

        def take(posts: Sequence[Taken]) -> list[Receipt]:
            for taken in posts:
                register.require(taken.source)
            return handlers.take_in(units, posts)

        service.core = SimpleNamespace(
            units=units,
            settings=Settings(public_url=public_url),
            sealer=SEALER,
            board=Switchboard(),
            sources=register,
            scopes=Scopes(),
            accounts=accounts,
            proxies=Proxies(),
            provider=None,
            take=lambda taken: take([taken])[0],
            take_all=take,
        )
        self.units = units
        self.service = service
        keyring = Keyring(units, "al_bootstrap", accounts.authenticate)
        self.application = Application(
            Router(service),
            lambda environ: KEYS.get(environ.get("HTTP_AUTHORIZATION", "")) or keyring.authenticate(environ),
            lambda *_: None,
            service.permit,
            service.witness,
        )

    def __call__(self, method: str, path: str, body: Any = b"", key: str = "", kind: str = "application/json", **headers: str) -> Answer:
        status, sent, read = self.raw(method, path, body, key, kind, **headers)
        return Answer(status, sent, orjson.loads(read) if read else None)

    def raw(
        self, method: str, path: str, body: Any = b"", key: str = "", kind: str = "application/json", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer as they are."""
        raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else orjson.dumps(body)
        path, _, query = path.partition("?")
        environ = {
            "REQUEST_METHOD": method, "PATH_INFO": unquote(path), "RAW_PATH_INFO": path, "QUERY_STRING": query, "CONTENT_TYPE": kind,
            "CONTENT_LENGTH": str(len(raw)), "wsgi.input": BytesIO(raw), "wsgi.url_scheme": "http", **headers,
        }  # fmt: skip
        if key:
            environ["HTTP_AUTHORIZATION"] = f"Bearer {key}"
        told: list[Any] = []
        read = b"".join(self.application(environ, lambda status, sent: told.extend((int(status.split()[0]), dict(sent)))))
        return told[0], told[1], read

    def announced(self) -> list[dict[str, Any]]:
        """Every event so far, each held against its contract."""
        while handlers.correlate(self.units):
            pass
        outbox = self.units.tables.outbox
        with self.units.database.reading() as connection:
            rows = connection.execute(select(outbox).order_by(outbox.c.seq)).all()
        for row in rows:
            contracts.SCHEMAS[row.body["type"]]().load(row.body["data"])
        return [row.body for row in rows]

    def legs(self) -> list[dict[str, Any]]:
        """The legs as they stand, contact by contact."""
        last = {
            (event["subject"], event["data"]["leg"]["number"]): event["data"]["leg"] for event in self.announced() if "leg" in event["data"]
        }
        return [leg for _, leg in sorted(last.items(), key=lambda item: (item[1]["arrived_at"] or "", item[0]))]

    def stories(self) -> list[tuple[Any, ...]]:
        """(queue, outcome, agent, missed) of each leg."""
        return [(leg["queue"], leg["outcome"], leg["agent"], leg["missed"]) for leg in self.legs()]

    def kept(self, table: Any) -> list[Any]:
        with self.units.database.reading() as connection:
            return list(connection.execute(select(table).order_by(*table.primary_key)).all())
