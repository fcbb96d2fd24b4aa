"""What happens for each command, event and due moment: one transaction each, with the escalation locked in it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, NamedTuple

import structlog
from sqlalchemy import Connection

from services.im import ladders, store
from services.im.domain import errors as domain
from services.im.domain import experts
from services.im.domain.escalation import Escalation, Kind
from services.im.domain.experts import Choice, Expert, Record
from services.im.domain.ladder import DEFAULT, Ladder
from shared import clock, errors
from shared.bus.envelope import Event
from shared.bus.outbox import UnitOfWork, Work
from shared.ids import new_id

log = structlog.get_logger()

Row = dict[str, Any]

PRESENT_SECONDS = 45.0
"""Who is not heard of for so long is offline."""
CODE_ALPHABET = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"
CODE_LENGTH = 6
DUE_AT_ONCE = 20
ARMED_AHEAD = 0.1
ERASE_AT_ONCE = 500
LATELY_SECONDS = 60.0
OF_LATE = 10
"""Times as many questions as may be open at once are taken from one agent within that: each asks people away from their work."""
KEEP_CARDS = 400 * 86400.0
LANGUAGES: tuple[experts.Language, ...] = ("en", "zh")


# ---- asking


def open_escalation(units: UnitOfWork, asked: Mapping[str, Any], id: str = "") -> Row:
    """An agent asks. `asked`: contact, agent, topic, question, urgency, language, site; the card says the rest. Asked again with the same
    `id` it is the question that it is."""
    with units() as work, _refusals():
        card = store.get_card(work.connection, asked["contact"])
        still_open, of_late = store.asked_by(work.connection, asked["agent"], clock.now() - LATELY_SECONDS)
        # not before that lock: the same question may come twice at one moment
        if (known := store.find(work.connection, id)) and known.contact == asked["contact"]:
            return shown(known, card)
        if card is None or card["agent"] != asked["agent"]:
            raise errors.NotFound(f"{asked['agent']} has no contact {asked['contact']}")
        ladder = ladder_for(work.connection, asked["topic"])
        if of_late >= OF_LATE * ladder.open_per_agent:
            raise errors.TooManyRequests(
                f"{asked['agent']} has asked {of_late} questions within {LATELY_SECONDS:g} s: wait a while", retry_after=int(LATELY_SECONDS)
            )
        if still_open >= ladder.open_per_agent:
            raise errors.Conflict(
                f"{asked['agent']} has {ladder.open_per_agent} questions open already: accept, refuse or close one of them first"
            )
        facts = {name: asked[name] for name in ("contact", "agent", "topic", "question", "urgency", "language", "site")}
        facts |= {name: card[name] for name in ("queue", "channel", "customer")} | {"contact_ended_at": card["ended_at"]}
        one = Escalation.open(ladder, clock.now(), id=id or new_id(), code=_code(work.connection), **facts)
        store.count_escalation(work.connection, one.contact)
        _climb_while_due(one, ladder, clock.now(), lambda: _known(work.connection, [one.topic]))
        finish(work, one)
        return shown(one, card)


def _code(connection: Connection) -> str:
    """One that no other question has, however old."""
    while True:
        code = "".join(secrets.choice(CODE_ALPHABET) for _ in range(CODE_LENGTH))
        if store.id_of_code(connection, code) is None:
            return code


def ladder_for(connection: Connection, topic: str, version: int | None = None) -> Ladder:
    """The topic's ladder, else the default one; of an escalation that is under way the version that it began with."""
    for name in (topic, DEFAULT.name):
        if row := store.ladder_document(connection, name, version):
            return ladders.compile(row["document"], name, row["version"])
    return DEFAULT


def _ladder_of(connection: Connection, one: Escalation) -> Ladder:
    return _ladders(connection, [one])[one.ladder, one.ladder_version]


def _ladders(connection: Connection, several: Iterable[Any]) -> dict[tuple[str, int], Ladder]:
    """By name and version, those of these escalations."""
    wanted = {(one.ladder, one.ladder_version) for one in several}
    return {(name, version): ladder_for(connection, name, version) if version else DEFAULT for name, version in wanted}


# ---- the ladder


class Known(NamedTuple):
    """What choices are made of, read once for several."""

    experts: Sequence[Expert]
    records: Mapping[str, Mapping[str, Record]]


def _known(connection: Connection, topics: Iterable[str]) -> Known:
    return Known(store.experts(connection, clock.now()), {topic: store.records(connection, topic) for topic in topics})


class Armed(NamedTuple):
    """What is due within ARMED_AHEAD, and what is needed to do it. `first_at`: when the first of all is due, None where nothing is."""

    ids: Sequence[str]
    first_at: float | None
    known: Known
    ladders: Mapping[tuple[str, int], Ladder]


def arm(connection: Connection) -> Armed:
    """Read ahead for what is due soon: when the moment comes, all that is left is to write, and nothing was locked meanwhile."""
    soonest = store.soonest_due(connection, DUE_AT_ONCE)
    soon = [row for row in soonest if row.next_at <= clock.now() + ARMED_AHEAD]
    first_at = soonest[0].next_at if soonest else None
    if not soon:
        return Armed((), first_at, Known((), {}), {})
    return Armed([row.id for row in soon], first_at, _known(connection, {row.topic for row in soon}), _ladders(connection, soon))


def climb_due(units: UnitOfWork, armed: Armed) -> list[float]:
    """Do what is due now; returns by how many seconds each was late when it was written."""
    moments = []
    with units() as work:
        known, of_version = armed.known, armed.ladders
        climbing = store.lock_due(work.connection, armed.ids, clock.now())
        if not climbing:  # another process that holds all of them, frozen maybe, must not keep the rest waiting
            climbing = store.lock_soonest_due(work.connection, DUE_AT_ONCE, clock.now())
            known, of_version = _known(work.connection, {one.topic for one in climbing}), _ladders(work.connection, climbing)
        for one in climbing:
            moments.append(one.next_at or 0.0)
            ladder = of_version[one.ladder, one.ladder_version]
            if one.state == "claimed":
                assert one.claimed_by
                one.release(one.claimed_by, ladder, clock.now(), "silence")
            _climb_while_due(one, ladder, clock.now(), lambda: known)
        finish(work, *climbing)
    return [clock.now() - moment for moment in moments]


def _climb_while_due(one: Escalation, ladder: Ladder, now: float, known: Callable[[], Known]) -> None:
    """Every step whose time has come, in order: after an outage none is left out."""
    while one.state == "asking" and one.next_at is not None and one.next_at <= now:
        if one.step < len(ladder.steps):
            one.climb(ladder, choose(one, ladder, known()), now)
        else:
            one.end_ladder(now)


def choose(one: Escalation, ladder: Ladder, known: Known) -> Choice:
    records = known.records[one.topic]
    want = one.want(ladder.steps[one.step])
    return experts.choose(known.experts, want, one.agent, one.already_asked, records, store.total(records.values()))


# ---- in the room


def change(units: UnitOfWork, id: str, do: Callable[[Escalation, Ladder, float], Any]) -> Row:
    """Change one escalation. What is due because of it happens at once."""
    with units() as work, _refusals():
        one = _locked(work.connection, id)
        ladder = _ladder_of(work.connection, one)
        do(one, ladder, clock.now())
        _climb_while_due(one, ladder, clock.now(), lambda: _known(work.connection, [one.topic]))
        finish(work, one)
        return shown(one, store.get_card(work.connection, one.contact))


def claim(units: UnitOfWork, id: str, expert: str) -> Row:
    """The first one has it; that another came too late is counted."""
    with units() as work:
        one = _locked(work.connection, id)
        try:
            one.claim(expert, _ladder_of(work.connection, one), clock.now())
            refused = None
        except domain.Conflict as late:
            refused = late
        finish(work, one)
    if refused:
        raise errors.Conflict(str(refused), claimed_by=one.claimed_by)
    return shown(one, None)


def accept(units: UnitOfWork, id: str, agent: str, hold_seconds: float | None, in_contact: bool | None) -> Row:
    with units() as work, _refusals():
        one = _locked(work.connection, id)
        texts = {row["number"]: row["text"] for row in store.messages_of(work.connection, id, (one.answer or 1) - 1, 1)}
        one.accept(agent, clock.now(), texts.get(one.answer or 0, ""), hold_seconds, in_contact)
        finish(work, one)
        return shown(one, None)


def post_messages(units: UnitOfWork, posts: Sequence[Mapping[str, Any]]) -> list[Row | errors.AnswerlineError]:
    """Messages for any rooms, in one transaction; each result is the message, or what refused it."""
    results: list[Row | errors.AnswerlineError] = []
    with units() as work:
        rooms = {one.id: one for one in store.lock_all(work.connection, [post["escalation"] for post in posts])}
        claimed = [one for one in rooms.values() if one.state == "claimed"]
        ladders_known = _ladders(work.connection, claimed)
        keeps = {one.id: ladders_known[one.ladder, one.ladder_version].claim_seconds for one in claimed}
        for post in posts:
            one = rooms.get(post["escalation"])
            if one is None:
                results.append(_unknown(post["escalation"]))
                continue
            kind: Kind = post["kind"]
            try:
                written = one.post(post["author"], post["text"], clock.now(), kind, keeps.get(one.id, 0.0))
            except domain.Refused as refused:
                results.append(translated(refused))
            else:
                results.append({**asdict(written), "at": clock.to_text(written.at), "escalation": one.id})
        finish(work, *rooms.values())
    return results


def _locked(connection: Connection, id: str) -> Escalation:
    one = store.lock(connection, id)
    if one is None:
        raise _unknown(id)
    return one


def _unknown(id: str) -> errors.NotFound:
    return errors.NotFound(f"there is no escalation {id}")


def finish(work: Work, *several: Escalation) -> None:
    """Write escalations and announce what happened to them."""
    now = clock.now()
    for one in several:
        base = {name: getattr(one, name) for name in ("code", "contact", "queue", "channel", "topic", "agent", "people")}
        for event in one.take_events():
            one.sequence += 1
            data = {"escalation": one.id, **base, "customer": one.customer or None, "at": now, **event.data}
            work.announce(Event(f"im.{event.name}.v1", one.id, data, now, one.sequence))
    store.save_all(work.connection, several)


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except domain.Refused as refused:
        raise translated(refused) from refused


def translated(refused: domain.Refused) -> errors.AnswerlineError:
    kinds = {domain.NotFound: errors.NotFound, domain.Conflict: errors.Conflict, domain.Invalid: errors.Invalid}
    return kinds.get(type(refused), errors.Conflict)(str(refused))


# ---- what is heard


def receive(work: Work, events: Sequence[Event]) -> None:
    """Contacts come into somebody's hands, go on and end; people change."""
    for event in sorted(events, key=lambda event: event.sequence):
        data = event.data
        match event.type:
            case "routing.contact_assigned.v1" if data.get("agent"):
                row = {name: data.get(name) or "" for name in ("contact", "queue", "channel", "customer", "agent")}
                row |= {
                    "waited_seconds": data.get("waited_seconds"),
                    "assigned_at": data["at"],
                    "ended_at": None,
                    "sequence": event.sequence,
                }
                store.put_cards(work.connection, [row])
                card = store.get_card(work.connection, data["contact"])
                is_news = card is not None and card["sequence"] == event.sequence
                for one in store.of_contact(work.connection, data["contact"], alive_only=True) if is_news else ():
                    if one.contact_ended_at is None:
                        one.follow(data["agent"], data["queue"], clock.now())
                        finish(work, one)
            case "routing.contact_completed.v1":
                store.note_on_card(work.connection, data["contact"], ended_at=data["at"], talk_seconds=data.get("talk_seconds"))
                for one in store.of_contact(work.connection, data["contact"], alive_only=True):
                    one.outlive(clock.now())
                    finish(work, one)
            case "gateway.person_changed.v1":
                know_person(work, data, event.sequence)
            case "gateway.customer_erased.v1":
                erase_customer(work, data)
            case "routing.contact_wrapped_up.v1":
                told = {"disposition": data.get("disposition"), "resolved": data.get("resolved")}
                store.note_on_card(work.connection, data["contact"], **told)
            case "gateway.survey_answered.v1":
                store.note_answer(work.connection, data["contact"], data["at"], data.get("satisfied"), data.get("resolved"))
            case "qa.survey_asked.v1":
                store.note_on_card(work.connection, data["contact"], answer_until=data["answer_until"])


def erase_customer(work: Work, data: Mapping[str, Any]) -> None:
    """What was asked and said about a customer goes at once, and with it whose it was; figures stay."""
    several = store.of_customer(work.connection, data["customer"], data["contacts"])
    for one in several:
        one.orphan(clock.now())
        one.customer = one.customer and data["stand_in"]
    finish(work, *several)
    store.erase(work.connection, [one.id for one in several], clock.now())
    store.rename_customer(work.connection, data["customer"], data["contacts"], data["stand_in"])


# ---- looking


def get(connection: Connection, id: str, person: str = "") -> Row:
    """The escalation with its card, members, steps and reasons. `person`: somebody whom it must concern."""
    one = store.find(connection, id)
    if one is None or (person and not one.concerns(person)):
        raise _unknown(id)
    steps = [
        {
            **{name: row[name] for name in ("step", "who", "asked")},
            "due_at": clock.to_text(row["due_at"]),
            "at": clock.to_text(row["at"]),
            "choice": row["choice"],
            "words": {language: experts.words(row["choice"], language) for language in LANGUAGES},
        }
        for row in store.steps_of(connection, id)
    ]
    return {**shown(one, store.get_card(connection, one.contact)), "steps": steps}


def room(connection: Connection, id: str) -> Row:
    """Where the question belongs, and whom it concerns."""
    one = store.find(connection, id)
    if one is None:
        raise _unknown(id)
    return {"queue": one.queue, "people": one.people}


def id_of_code(connection: Connection, code: str) -> str:
    id = store.id_of_code(connection, code)
    if id is None:
        raise errors.NotFound(f"no question has the code {code}")
    return id


def listing(
    connection: Connection, contact: str, person: str, state: str, after: str, limit: int, queues: Sequence[str] | None = None
) -> Row:
    """Escalations, the newest first; `person`: only those that concern somebody, so that a page may be short. `queues`: only of these.
    `next`: the cursor of the page after."""
    found = store.listing(connection, contact=contact, state=state, after=after, limit=limit, queues=queues)
    items = [shown(one, None) for one in found if not person or one.concerns(person)]
    return {"items": items, "next": found[-1].id if len(found) == limit else None}


def messages(connection: Connection, id: str, person: str, after: int, limit: int) -> Row:
    one = store.find(connection, id)
    if one is None or (person and not one.concerns(person)):
        raise _unknown(id)
    rows = store.messages_of(connection, id, after, limit)
    return {"messages": [{**row, "at": clock.to_text(row["at"])} for row in rows], "read_to": {m.person: m.read_to for m in one.members}}


def shown(one: Escalation, card: Mapping[str, Any] | None) -> Row:
    """An escalation as the API tells of it."""
    plain = (
        "id", "code", "contact", "queue", "channel", "customer", "agent", "topic", "question", "urgency", "language", "site", "state",
        "step", "ladder", "ladder_version", "claimed_by", "answered_by", "answer", "close_reason", "hold_seconds", "in_contact", "messages",
    )  # fmt: skip
    moments = ("opened_at", "next_at", "claimed_at", "answered_at", "closed_at", "contact_ended_at")
    told: Row = {name: getattr(one, name) for name in plain}
    told |= {name: None if (at := getattr(one, name)) is None else clock.to_text(at) for name in moments}
    told["members"] = [
        {"person": member.person, "role": member.role, "present": member.left_at is None, "read_to": member.read_to}
        for member in one.members
    ]
    told["asked"] = [{"expert": asked.expert, "step": asked.step, "passed": asked.passed_at is not None} for asked in one.asked]
    if card is not None:
        told["card"] = {name: card[name] for name in ("queue", "channel", "customer", "agent", "waited_seconds")}
    return told


# ---- experts and ladders


def put_expert(units: UnitOfWork, id: str, profile: Mapping[str, Any]) -> Row:
    with units() as work:
        known = store.get_expert(work.connection, id, lock=True) or {}
        row = {**_EXPERT, **known, **profile, "id": id, "changed_at": clock.now()}
        store.put_expert(work.connection, row)
        return _expert(row, store.presence_of(work.connection, [id], clock.now()).get(id, "offline"))


_EXPERT: Row = {
    "name": "", "topics": {}, "languages": [], "site": "", "team": "", "department": "", "ranks": [], "cap": 3, "active": True, "sequence": 0,
}  # fmt: skip


def know_person(work: Work, data: Mapping[str, Any], sequence: int) -> None:
    """What the directory says of an expert holds here too; with the role expert somebody is a new one, of whom no topic is known yet."""
    known = store.get_expert(work.connection, data["person"], lock=True)
    if (known is None and "expert" not in data["roles"]) or (known and known["sequence"] >= sequence):
        return
    told = {name: data[name] for name in ("name", "site", "team", "active")}
    if known is None and data["language"]:
        told["languages"] = [data["language"]]
    row = {**_EXPERT, **(known or {}), **told, "id": data["person"], "sequence": sequence, "changed_at": clock.now()}
    store.put_expert(work.connection, row)


def get_expert(connection: Connection, id: str) -> Row:
    row = store.get_expert(connection, id)
    if row is None:
        raise errors.NotFound(f"there is no expert {id}")
    return _expert(row, store.presence_of(connection, [id], clock.now()).get(id, "offline"))


def list_experts(connection: Connection, after: str, limit: int) -> Row:
    rows = store.experts_page(connection, after, limit)
    present = store.presence_of(connection, [row["id"] for row in rows], clock.now())
    items = [_expert(row, present.get(row["id"], "offline")) for row in rows]
    return {"items": items, "next": rows[-1]["id"] if len(rows) == limit else None}


def _expert(row: Row, presence: str) -> Row:
    return {
        **{name: value for name, value in row.items() if name not in ("sequence", "changed_at")},
        "active": bool(row["active"]),
        "presence": presence,
    }


def set_presence(units: UnitOfWork, person: str, state: str) -> Row:
    """Told by the person; holds while they are heard of."""
    now = clock.now()
    with units() as work:
        if state == "offline":
            store.note_presence(work.connection, person, "offline", now, now)
        else:
            store.note_presence(work.connection, person, state, now, now + PRESENT_SECONDS)
    return {"person": person, "state": state, "holds_seconds": 0 if state == "offline" else PRESENT_SECONDS}


def heartbeat(units: UnitOfWork, people: Sequence[str]) -> None:
    """These have a stream open."""
    if people:
        with units() as work:
            store.renew_presence(work.connection, people, clock.now(), clock.now() + PRESENT_SECONDS)


def put_ladder(units: UnitOfWork, name: str, document: str, who: str) -> Row:
    """A new version, in force for questions asked from now on. The same document again changes nothing."""
    ladders.compile(document, name, 0)
    with units() as work:
        return _ladder(store.put_ladder(work.connection, name, document, who, clock.now()))


def get_ladder(connection: Connection, name: str) -> Row:
    row = store.ladder_document(connection, name)
    if row is None and name == DEFAULT.name:
        return {"name": name, "version": 0, "document": None, "steps": [asdict(step) for step in DEFAULT.steps]}
    if row is None:
        raise errors.NotFound(f"there is no ladder {name}: the topic goes by the default one")
    return _ladder(row)


def _ladder(row: Row) -> Row:
    steps = ladders.compile(row["document"], row["name"], row["version"]).steps
    return {**row, "created_at": clock.to_text(row["created_at"]), "steps": [asdict(step) for step in steps]}


# ---- retention


def forget(units: UnitOfWork) -> int:
    """Texts that are older than their ladder keeps them, and cards of long ago. Returns how many rooms were emptied."""
    now, emptied = clock.now(), 0
    with units.database.reading() as connection:
        kept = {name: ladder_for(connection, name).keep_days for name in {*store.ladder_names(connection), DEFAULT.name}}
    for name, days in kept.items():
        with units() as work:
            ids = store.to_erase(work.connection, name, now - days * 86400.0, ERASE_AT_ONCE)
            store.erase(work.connection, ids, now)
            emptied += len(ids)
    with units() as work:
        store.forget_cards(work.connection, now - KEEP_CARDS)
    return emptied
