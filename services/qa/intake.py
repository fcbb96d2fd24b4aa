"""What is heard becomes contacts with their facts, surveys to send, and evidence: a batch of events in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, or_, select, update

from services.qa import store
from services.qa.domain import holds
from services.qa.domain import survey as asking
from services.qa.domain.survey import DAY
from shared import clock
from shared.bus.envelope import Event
from shared.bus.outbox import Work
from shared.contracts.gateway import is_stand_in
from shared.db import bulk
from shared.ids import is_id, new_id

Row = dict[str, Any]

NEW_STAFF_DAYS = 90.0
CHECK_AFTER_SECONDS = 60.0
"""So long after its end a contact is checked: its disposition, and perhaps its transcript, have come by then."""
ENDED_BY = {"caller": "customer"}
CONTACTS = ("routing.contact_", "gateway.contact_", "gateway.recording_available", "im.")


def receive(work: Work, events: Sequence[Event]) -> None:
    """Events in any order, late or again: of each publisher the newest word on a contact holds."""
    erased: list[Mapping[str, Any]] = []
    about_contacts = [event for event in events if event.type.startswith(CONTACTS) and is_id(event.data.get("contact") or "")]
    for event in sorted((event for event in events if not event.type.startswith(CONTACTS)), key=lambda event: event.sequence):
        match event.type:
            case "gateway.person_changed.v1":
                know_person(work.connection, event.data, event.sequence)
            case "gateway.survey_answered.v1":
                answer_survey(work.connection, event.data)
            case "gateway.customer_erased.v1":
                erased.append(event.data)
            case _ if event.type.startswith("training."):
                know_permit(work.connection, event.type, event.data, event.sequence)
    if about_contacts:
        _contacts(work, sorted(about_contacts, key=lambda event: event.sequence))
    for data in erased:  # last: what came with it is theirs too
        erase_customer(work.connection, data)


# ---- contacts


def _contacts(work: Work, events: Sequence[Event]) -> None:
    connection = work.connection
    known = store.contacts(connection, (event.data["contact"] for event in events), lock=True)
    rows: dict[str, Row] = {}
    completed: set[str] = set()
    matters = {id: _matter_of(row) for id, row in known.items() if row["outcome"] not in (None, "void")}
    counted = {id for id, row in known.items() if row["outcome"] != "void"}
    for event in events:
        id = event.data["contact"]
        row = rows.setdefault(id, known.get(id) or {**store.EMPTY_CONTACT, "id": id})
        if event.type.startswith("routing."):
            if _from_routing(row, event) and event.type == "routing.contact_completed.v1":
                completed.add(id)
        elif event.type.startswith("im."):
            row["escalations" if event.type.startswith("im.escalation_opened") else "answered_inside"] += 1
            if (held := event.data.get("hold_seconds")) is not None:
                _note_holds(row, holds.said(row, held))
        elif event.type == "gateway.recording_available.v1":
            row["recordings"] += event.sequence == 1  # announced again when what is known of it changed
        else:
            _from_gateway(row, event)
    _handovers(connection, events, rows)
    _know_staff(connection, [rows[id] for id in completed])
    for row in rows.values():
        row["matter"] = row["thread"] or (f"queue {row['queue']}" if row["queue"] else None)
    store.save_contacts(connection, list(rows.values()))
    moved = [row for id, row in rows.items() if row["outcome"] not in (None, "void") and _matter_of(row) != matters.get(id)]
    store.note_repeats(connection, moved)
    for id, row in rows.items():
        if row["outcome"] == "void" and id in counted:
            store.forget_repeat(connection, row)
    store.place_answers(connection, [rows[id] for id in completed])
    plan_surveys(connection, [rows[id] for id in sorted(completed)])


def _matter_of(row: Row) -> tuple[Any, ...]:
    return row["customer"], row["matter"], row["arrived_at"]


Word = int
"""Who said something of a leg, the righter the higher: the telephony system 0, routing 1, a correction (it is the telephony system's second thought) more
than that, the later the more. So what comes last does not win because it comes last."""


def _word(event: Event) -> Word:
    if event.type.startswith("routing."):
        return 1
    return event.sequence + 1 if event.type == "gateway.contact_corrected.v1" else 0


def _tell(row: Row, leg: int, word: Word, *, void: bool = False, **figures: Any) -> None:
    """Figures of a contact are those of its last leg that was one, each by the rightest word on it. A leg in which nobody talked has none of
    talking; a wait that nobody tells is the one before. `void`: there was no such leg."""
    known = {**(row["told_by"] or {})}
    for name, value in figures.items():
        legs = _told_before(row, name)
        now = [word] if void else [word if value is not None else -1, value]
        if now[0] < legs.get(str(leg), [-1])[0]:
            continue
        known[name] = legs = {**legs, str(leg): now}
        told = [one[1] for _, one in sorted(legs.items(), key=lambda item: int(item[0])) if one[1:]]
        value = next((one for one in reversed(told) if one is not None or name != "waited_seconds"), None)
        if value != row[name] and row["ended_at"] is not None and row["agent"]:  # what was checked before is checked anew
            row["check_at"] = row["check_at"] or clock.now()
        row[name] = value
    row["told_by"] = known


def _told_before(row: Row, name: str) -> dict[str, list[Any]]:
    """By leg: the rightest word on it and what it told. Of a contact that was stored before words were kept, its last leg as routing told it."""
    if row["told_by"] is None:
        leg = 1 if name == "arrived_at" else max(1, row["transfers"] + (not row["transferred"]))
        return {str(leg): [1 if row[name] is not None else -1, row[name]]} if row["outcome"] is not None else {}
    found: dict[str, list[Any]] = row["told_by"].get(name, {})
    return found


def _handovers(connection: Connection, events: Sequence[Event], rows: Mapping[str, Row]) -> None:
    """Who passed a contact on after how long: who it was by routing's word, whether and the figures by the rightest."""
    told = [
        event
        for event in events
        if event.type in ("routing.contact_transferred.v1", "gateway.contact_transferred.v1", "gateway.contact_corrected.v1")
    ]
    if not told:
        return
    table = store.handover
    known = {
        (row["contact"], row["leg"]): store.plain(row)
        for row in connection.execute(
            select(table).where(table.c.contact.in_(sorted({event.data["contact"] for event in told})))
        ).mappings()
    }
    changed: dict[tuple[str, int], Row] = {}
    for event in told:
        data, word = event.data, _word(event)
        by_routing = event.type.startswith("routing.")
        leg = data if by_routing else data["leg"]
        key = data["contact"], data["leg"] if by_routing else leg["number"]
        row = known.get(key)
        passed_on = by_routing or leg["outcome"] == "transferred"
        if row is None:
            row = dict.fromkeys(bulk.columns_of(table)) | {"contact": key[0], "leg": key[1], "agent": "", "word": -1}
        if by_routing or not row["agent"]:
            row |= {"agent": leg.get("agent") or row["agent"], "queue": leg["queue"], "channel": data.get("channel") or ""}
            row["at"] = data["at"] if by_routing else leg.get("ended_at") or event.time
        if word > row["word"]:
            row |= {"word": word, "passed_on": passed_on, "target": leg.get("target"), "talk_seconds": leg.get("talk_seconds")}
        changed[key] = known[key] = row
    columns = bulk.columns_of(table)
    bulk.insert(connection, table, list(changed.values()), columns=columns, key=("contact", "leg"), update=columns[2:])
    for id in {contact for contact, _ in changed}:
        rows[id]["transfers"] = 0
    counted = select(table.c.contact, func.count()).where(table.c.contact.in_(sorted({key[0] for key in changed})), store.PASSED_ON)
    for id, count in connection.execute(counted.group_by(table.c.contact)):
        rows[id]["transfers"] = count


def _from_routing(row: Row, event: Event) -> bool:
    """Whether it is news."""
    data = event.data
    if event.type == "routing.contact_wrapped_up.v1":
        amount = data.get("amount")
        row |= {name: data.get(name) for name in ("disposition", "resolved", "currency", "wrap_up_seconds")}
        row["amount"] = float(amount) if amount is not None else None
        return True
    if row["outcome"] == "void" or event.sequence <= row["routing_sequence"]:
        return False
    ended_by = ENDED_BY.get(data.get("ended_by") or "", data.get("ended_by"))
    _tell(row, data["leg"], 1, waited_seconds=data.get("waited_seconds"), talk_seconds=data.get("talk_seconds"), ended_by=ended_by)
    row |= {name: data.get(name) or row[name] for name in ("queue", "channel", "customer", "direction")}
    row |= {
        "routing_sequence": event.sequence,
        "ended_at": data["at"],
        "outcome": event.type.split(".")[1].removeprefix("contact_"),
        "agent": data.get("agent"),
        "transferred": event.type == "routing.contact_transferred.v1",
        "check_at": clock.now() + CHECK_AFTER_SECONDS if data.get("agent") else None,
    }
    if row["arrived_at"] is None:
        row["arrived_at"] = data["at"] - (data.get("talk_seconds") or 0.0) - (data.get("waited_seconds") or 0.0)
    return True


def _from_gateway(row: Row, event: Event) -> None:
    data, leg = event.data, event.data["leg"]
    if row["outcome"] != "void":
        _note_holds(row, holds.of_leg(row, leg, event.sequence, event.type == "gateway.contact_corrected.v1"))
    by = ENDED_BY.get(leg.get("ended_by") or "", leg.get("ended_by"))  # a PBX calls the wait in its queue the hold time
    figures = {"waited_seconds": leg.get("hold_seconds"), "talk_seconds": leg.get("talk_seconds"), "ended_by": by}
    _tell(row, leg["number"], _word(event), void=leg["outcome"] == "void", **figures)
    if leg["number"] == 1 and leg.get("arrived_at") is not None:
        _tell(row, 1, event.sequence, arrived_at=leg["arrived_at"])
    if event.sequence <= row["gateway_sequence"]:
        return
    row["gateway_sequence"] = event.sequence
    if event.type == "gateway.contact_corrected.v1" and (data.get("merged_into") or (leg["outcome"] == "void" and leg["number"] == 1)):
        row |= {"outcome": "void", "agent": None, "ended_at": None, "check_at": None}
        return
    row["thread"] = data.get("thread") or row["thread"]
    row["customer"] = row["customer"] or data.get("customer")
    row["channel"] = row["channel"] or data.get("channel") or ""
    row["queue"] = row["queue"] or leg["queue"]
    row["self_service_failed"] = bool((data.get("facts") or {}).get("self_service_failed", row["self_service_failed"]))


def _note_holds(row: Row, figures: Row) -> None:
    """What is told of holds after the contact was checked has it checked anew."""
    if row["ended_at"] is not None and row["agent"] and any(row[name] != figures[name] for name in ("holds", "hold_seconds")):
        row["check_at"] = row["check_at"] or clock.now()
    row |= figures


def _know_staff(connection: Connection, rows: Sequence[Row]) -> None:
    """Whether an agent was new then, or practised under a permit."""
    agents = sorted({row["agent"] for row in rows if row["agent"]})
    if not agents:
        return
    known = connection.execute(select(store.staff.c.person, store.staff.c.since).where(store.staff.c.person.in_(agents)))
    since: dict[str, float] = {row.person: row.since for row in known}
    table = store.permit
    permits = {(row.person, row.channel): row for row in connection.execute(select(table).where(table.c.person.in_(agents)))}
    for row in rows:
        if row["agent"] in since:
            row["new_staff"] = row["ended_at"] - since[row["agent"]] < NEW_STAFF_DAYS * DAY
        permit = permits.get((row["agent"], row["channel"]))
        row["practice"] = bool(permit and permit.certified_at is None and permit.supervisor and permit.until >= row["ended_at"])
        row["supervisor"] = permit.supervisor if row["practice"] and permit else None


def erase_customer(connection: Connection, data: Mapping[str, Any]) -> None:
    """What a customer said and wrote goes, and who it was; contacts, marks and what they ticked stay figures. Nobody asks them any more."""
    customer, stand_in = data["customer"], data["stand_in"]
    named = [id for id in data["contacts"] if is_id(id)]
    contact, survey, transcript = store.contact, store.survey, store.transcript
    ids = sorted({*named, *connection.scalars(select(contact.c.id).where(contact.c.customer == customer))})
    connection.execute(delete(transcript).where(transcript.c.contact.in_(ids)))
    connection.execute(update(contact).where(contact.c.id.in_(ids), contact.c.customer.is_not(None)).values(customer=stand_in))
    theirs = or_(survey.c.contact.in_(ids), survey.c.customer == customer)
    connection.execute(delete(survey).where(theirs, survey.c.sent_at.is_(None), survey.c.answered_at.is_(None)))
    connection.execute(update(survey).where(theirs).values(text=None, ask_at=None))
    connection.execute(update(survey).where(theirs, survey.c.customer != "").values(customer=stand_in))


# ---- people


def know_person(connection: Connection, data: Mapping[str, Any], sequence: int) -> None:
    row = {name: data[name] for name in ("person", "team", "site", "roles", "active")} | {"since": clock.now(), "sequence": sequence}
    bulk.insert(
        connection, store.staff, [row], columns=bulk.columns_of(store.staff), key=("person",),
        update=("team", "site", "roles", "active", "sequence"), newer="sequence",
    )  # fmt: skip


def know_permit(connection: Connection, type: str, data: Mapping[str, Any], sequence: int) -> None:
    """What training says last of somebody on a channel. A certificate takes the place of a permit."""
    row: Row = {
        "person": data["person"],
        "channel": data["channel"],
        "supervisor": None,
        "until": None,
        "certified_at": None,
        "sequence": sequence,
    }
    if type == "training.practice_permitted.v1":
        row |= {"supervisor": data["supervisor"], "until": data["until"]}
    elif type == "training.certified.v1":
        row["certified_at"] = data["certified_at"]
    columns = bulk.columns_of(store.permit)
    bulk.insert(connection, store.permit, [row], columns=columns, key=("person", "channel"), update=columns[2:], newer="sequence")


# ---- surveys


def plan_surveys(connection: Connection, rows: Iterable[Row]) -> None:
    """Customers of contacts that have just ended are asked, as far as the rule of the queue goes; nobody too often."""
    rows = [row for row in rows if row["agent"] and row["customer"] and not is_stand_in(row["customer"]) and row["direction"] == "inbound"]
    if not rows:
        return
    now = clock.now()
    asked = store.sent_at(connection, (row["customer"] for row in rows))
    for row in rows:
        rule = store.rule_for(connection, row["queue"])
        if asking.refusal(rule, row["id"], row["customer"], row["channel"], row["ended_at"], asked.get(row["customer"]), now):
            continue
        asked[row["customer"]] = row["ended_at"]
        planned = {**_survey_row(row), "rule": rule.queue, "ask_at": row["ended_at"] + rule.delay_seconds}
        planned["answer_until"] = planned["ask_at"] + rule.answer_days * DAY
        bulk.insert(connection, store.survey, [planned], columns=bulk.columns_of(store.survey), key=("contact",))


def _survey_row(row: Row) -> Row:
    return {
        **dict.fromkeys(bulk.columns_of(store.survey)),
        "late": False, "id": new_id(), "contact": row["id"], "customer": row["customer"] or "", "agent": row["agent"] or "", "queue": row["queue"],
        "channel": row["channel"], "rule": "", "contact_at": row["ended_at"] or clock.now(),
    }  # fmt: skip


def answer_survey(connection: Connection, data: Mapping[str, Any]) -> None:
    """The customer's answer; a later one takes the place of an earlier one, as long as it is waited for. One that comes after that is kept, marked,
    and in no figure. It may come before anything is known of its contact."""
    if not is_id(data["contact"]):
        return
    table = store.survey
    known = connection.execute(select(table).where(table.c.contact == data["contact"]).with_for_update()).mappings().first()
    told = {"answered_at": data["at"], "csat": data.get("satisfied"), "resolved": data.get("resolved"), "text": data.get("text")}
    if known is None:
        contact = store.contacts(connection, [data["contact"]]).get(data["contact"])
        row = {**_survey_row(contact or {**store.EMPTY_CONTACT, "id": data["contact"]}), **told}
        bulk.insert(connection, table, [row], columns=bulk.columns_of(table), key=("contact",), update=tuple(told))
        return
    late, was_late = (
        known["sent_at"] is not None and known["answer_until"] is not None and data["at"] > known["answer_until"],
        bool(known["late"]),
    )
    if known["answered_at"] is None or late < was_late or (late == was_late and known["answered_at"] <= data["at"]):
        store.change(connection, table, known["id"], **told, late=late, ask_at=None)
