"""Idempotency-Key: what was answered to a request is kept for a day, and given again when the request comes again.

A request is claimed (a row, committed) before it is carried out, and its answer written to that row afterwards; so of several that come at
once, to whatever process, one is carried out. What is not in one transaction can be torn apart: when the process dies between doing and
remembering, the claim is orphaned. Who comes again is then refused (409) until it is certain that nobody works on it, and after that the
request is carried out once more, with the id for what it makes that it had before (`Request.new_id`). So it is, at once, where our own trouble
was the answer: another service that did not answer in time may have done what was asked.
Answers are sealed: one may hold a key that is shown once.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson
import structlog
from sqlalchemy import Column, Integer, Table, Text, delete, insert, select, update

from services.gateway.sealing import Sealer
from services.gateway.store import metadata
from shared import clock
from shared.bus.outbox import UnitOfWork
from shared.db import bulk
from shared.db.engine import is_outage
from shared.db.types import Id, Moment
from shared.errors import Conflict, Invalid, Unavailable
from shared.http.endpoint import Response
from shared.http.wsgi import Claim
from shared.ids import new_id

log = structlog.get_logger()

KEEP_SECONDS = 86_400.0
ORPHANED_SECONDS = 120.0
"""Longer than any door takes: the claim of a process that lives is settled by then."""
LARGEST_KEPT = 64 * 1024
COME_BACK_SECONDS = 1

request_key = Table(
    "request_key",
    metadata,
    Column("id", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("made", Id, nullable=False),
    Column("claimed_at", Moment, nullable=False, index=True),
    Column("turn", Integer, nullable=False),
    Column("status", Integer),
    Column("answer", Text),
)
"""`id`: a digest of principal, route and key. `turn`: how often it was begun. `status`: none while it is carried out. `answer`: sealed; none
where it is a stream or too large."""
COLUMNS = ("id", "fingerprint", "made", "claimed_at", "turn")


@dataclass(frozen=True)
class Memory:
    """What was answered under which Idempotency-Key, in the gateway's database."""

    units: UnitOfWork
    sealer: Sealer
    alone_since: float = 0.0
    """Since when no other process can be at work on a request (epoch seconds); 0: another may at any time."""

    def claim(self, whose: str, route: str, key: str, fingerprint: str) -> Claim | Response:
        """The right to carry the request out, or what was answered to it before. Raises Invalid where the key was used for another
        request, Conflict while the request is carried out elsewhere."""
        id = blake2b("\0".join((whose, route, key)).encode(), digest_size=20).hexdigest()
        moment, made = clock.now(), new_id()
        row = {"id": id, "fingerprint": fingerprint, "made": made, "claimed_at": moment, "turn": 1}
        with self.units() as work:
            if bulk.insert(work.connection, request_key, [row], columns=COLUMNS, key=("id",), returning=("id",)):
                return Claim(id, 1, made)
            known = work.connection.execute(select(request_key).where(request_key.c.id == id).with_for_update()).first()
            if known is None:  # it was given up between the two statements
                raise _in_progress()
            if known.claimed_at < moment - KEEP_SECONDS:
                work.connection.execute(delete(request_key).where(request_key.c.id == id))
                work.connection.execute(insert(request_key).values(**row))
                return Claim(id, 1, made)
            if known.fingerprint != fingerprint:
                raise Invalid("this Idempotency-Key was used for another request; each request has a key of its own, repeated only with it")
            if known.status is not None:
                return self._kept(known)
            if known.claimed_at >= self.alone_since and known.claimed_at > moment - ORPHANED_SECONDS:
                raise _in_progress()
            taken = {"turn": known.turn + 1, "claimed_at": moment}
            work.connection.execute(update(request_key).where(request_key.c.id == id).values(**taken))
        log.warning("a request is carried out again: what came of it before is not known", turn=known.turn + 1)
        return Claim(id, known.turn + 1, known.made)

    def keep(self, claim: Claim, response: Response) -> None:
        """This is the answer, for a day. What was done is done: where it cannot be written the answer is given all the same."""
        values: dict[str, Any] = {"status": response.status, "answer": None}
        if isinstance(response.body, bytes) and len(response.body) <= LARGEST_KEPT:
            told = [response.content_type, response.headers, response.body.decode("latin-1")]
            values["answer"] = self.sealer.seal(orjson.dumps(told).decode())
        try:
            with self.units() as work:
                work.connection.execute(update(request_key).where(_ours(claim)).values(**values))
        except Exception as error:
            if not is_outage(error):
                raise
            log.warning("an answer could not be kept for its Idempotency-Key", error=type(error).__name__)

    def release(self, claim: Claim, unsure: bool = False) -> None:
        """Nothing came of it, or nobody can say whether something did: the next one may try, in doubt with the same id for what it makes."""
        unsure = unsure or claim.turn > 1  # what came of the turns before is as unknown as it was
        free = update(request_key).values(claimed_at=request_key.c.claimed_at - ORPHANED_SECONDS) if unsure else delete(request_key)
        try:
            with self.units() as work:
                work.connection.execute(free.where(_ours(claim)))
        except Exception as error:
            if not is_outage(error):
                raise
            log.warning("an Idempotency-Key could not be given free", error=type(error).__name__)

    def prune(self) -> None:
        """Forget what is older than a day."""
        with self.units() as work:
            work.connection.execute(delete(request_key).where(request_key.c.claimed_at < clock.now() - KEEP_SECONDS))

    def _kept(self, known: Any) -> Response:
        if known.answer is None:
            raise Conflict(f"this was carried out, and answered {known.status}; the answer was too large to be kept: ask for what it made")
        try:
            content_type, headers, body = orjson.loads(self.sealer.unseal(known.answer))
        except Unavailable as error:
            raise Conflict(f"this was carried out, and answered {known.status}; the answer cannot be read any more") from error
        again = [*map(tuple, headers), ("Idempotency-Replayed", "true")]
        return Response(body.encode("latin-1"), known.status, content_type, again)


def _ours(claim: Claim) -> Any:
    return (request_key.c.id == claim.id) & (request_key.c.turn == claim.turn)


def _in_progress() -> Conflict:
    return Conflict("the request with this Idempotency-Key is being carried out; ask again for its answer", retry_after=COME_BACK_SECONDS)
