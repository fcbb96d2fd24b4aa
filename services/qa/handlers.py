"""What happens for each command: one transaction, with what it changes locked in it, and what is announced of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, Table, and_, delete, func, or_, select, update

from services.qa import reports, scorecards, store
from services.qa.domain import errors as domain
from services.qa.domain import evaluation as evaluating
from services.qa.domain import finding as findings
from services.qa.domain import holds as held
from services.qa.domain import sampling
from services.qa.domain import scorecard as carding
from services.qa.domain import survey as asking
from services.qa.domain.evaluation import Evaluation, Evidence
from services.qa.domain.scorecard import Scorecard
from shared import clock, errors
from shared.bus.envelope import Event
from shared.bus.outbox import UnitOfWork, Work
from shared.db import bulk
from shared.ids import is_id, new_id

Row = dict[str, Any]

DAY = 86400.0
SCORED_DAYS = 90.0
"""An agent's score is that of so many days."""
DUE_AT_ONCE = 200
MOMENTS = frozenset(
    (
        "arrived_at", "ended_at", "next_at", "contact_at", "created_at", "submitted_at", "ended_at", "sent_at", "ask_at", "answer_until",
        "answered_at", "due_at", "planned_at", "closed_at", "requested_at", "started_at", "finished_at", "decided_at", "checked_at",
        "from_at", "to_at", "at", "stored_at", "certified_at",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Viewer:
    """Who asks, as the gateway knows them. `person`: "" for a key. `leads`: supervisor, administrator, or a key. `agent`: they are an agent
    and nothing else. `queues`: those in sight; None: all."""

    person: str = ""
    principal: str = ""
    role: str = ""
    leads: bool = True
    agent: bool = False
    queues: Sequence[str] | None = None

    def sees(self, queue: str) -> bool:
        return self.queues is None or queue in self.queues


@contextmanager
def refusals() -> Iterator[None]:
    """What the domain refuses, as an answer."""
    kinds = {domain.Invalid: errors.Invalid, domain.Conflict: errors.Conflict, domain.Denied: errors.Forbidden}
    try:
        yield
    except domain.Refused as refused:
        raise kinds.get(type(refused), errors.Conflict)(str(refused)) from refused


def shown(row: Mapping[str, Any], *without: str) -> Row:
    """A row as it is told: moments as text."""
    return {
        name: clock.to_text(value) if name in MOMENTS and value is not None else value for name, value in row.items() if name not in without
    }


def _required(row: Row | None, what: str, id: str) -> Row:
    if row is None:
        raise errors.NotFound(f"there is no {what} {id}")
    return row


# ---- scorecards


def install_ready(units: UnitOfWork) -> None:
    """The scorecards that come with the product, where there are none of their names."""
    for name, document in scorecards.ready().items():
        with suppress(errors.Conflict), units() as work:  # another process that starts now has just done it
            if store.newest(work.connection, store.scorecard, name) is None:
                _save_card(work.connection, name, document, "comes with Answerline", "answerline")


def put_scorecard(units: UnitOfWork, name: str, document: str, by: str, note: str = "") -> Row:
    """A new version, in force for evaluations begun from now on. The same document again changes nothing."""
    with units() as work:
        return _shown_card(_save_card(work.connection, name, document, note, by))


def _save_card(connection: Connection, name: str, document: str, note: str, by: str) -> Row:
    known = store.newest(connection, store.scorecard, name)
    if known and known["document"] == document:
        return known
    version = known["version"] + 1 if known else 1
    card = scorecards.compile(document, name, version)
    if known and known["kind"] != card.kind:
        raise errors.Conflict(
            f"{name} is a scorecard of kind {known['kind']}: internal and customer scores are never one figure; take another name"
        )
    criteria = [
        {"key": one.id, "section": section.id, "weight": one.weight, "type": one.answering, "critical": one.critical}
        for section in card.sections
        for one in section.criteria
    ]
    row = {
        "name": name, "version": version, "kind": card.kind, "document": document, "criteria": criteria, "note": note,
        "created_at": clock.now(), "created_by": by,
    }  # fmt: skip
    written = bulk.insert(
        connection, store.scorecard, [row], columns=bulk.columns_of(store.scorecard), key=("name", "version"), returning=("name",)
    )
    if not written:
        raise errors.Conflict(f"somebody else has just written version {version} of {name}: look at it, and send yours again")
    return row


def get_scorecard(connection: Connection, name: str, version: int | None = None) -> Row:
    row = _required(
        store.newest(connection, store.scorecard, name, version), "scorecard", name if version is None else f"{name}, version {version}"
    )
    return _shown_card(row)


def list_scorecards(connection: Connection, after: str, limit: int) -> Row:
    rows = [row for row in store.all_newest(connection, store.scorecard) if row["name"] > after]
    page = rows[:limit]
    items = [shown(row, "document", "criteria") for row in page]
    return {"items": items, "next": page[-1]["name"] if len(rows) > limit else None}


def _shown_card(row: Row) -> Row:
    card = scorecards.compile(row["document"], row["name"], row["version"], accepted=True)
    sections = [
        {
            "id": section.id,
            "title": section.title,
            "weight": section.weight,
            "criteria": [_shown_criterion(one) for one in section.criteria],
        }
        for section in card.sections
    ]
    return {**shown(row, "criteria"), "title": card.title, "channels": list(card.channels), "sections": sections}


def _shown_criterion(one: carding.Criterion) -> Row:
    told = asdict(one)
    if one.answering == "yes_no":
        told |= {"low": None, "high": None}
    return told


def card_of(connection: Connection, name: str, version: int | None = None) -> Scorecard:
    row = _required(store.newest(connection, store.scorecard, name, version), "scorecard", name)
    return scorecards.compile(row["document"], name, row["version"], accepted=True)


def list_proposals(connection: Connection, name: str) -> Row:
    table = store.proposal
    _required(store.newest(connection, store.scorecard, name), "scorecard", name)
    rows = connection.execute(select(table).where(table.c.scorecard == name).order_by(table.c.id.desc()).limit(100)).mappings()
    return {"items": [shown(store.plain(row)) for row in rows]}


def decide_proposal(units: UnitOfWork, id: str, accepted: bool, by: str) -> Row:
    """Weights that a model proposed become a new version of the scorecard, or do not: a person decides, once."""
    with units() as work:
        row = _required(store.find(work.connection, store.proposal, id, lock=True), "proposal", id)
        if row["decided_at"] is not None:
            raise errors.Conflict(f"{row['decided_by']} has {'accepted' if row['accepted'] else 'refused'} it already")
        card = _required(store.newest(work.connection, store.scorecard, row["scorecard"]), "scorecard", row["scorecard"])
        if accepted:
            if card["version"] != row["version"]:
                raise errors.Conflict(
                    f"the proposal is for version {row['version']} of {row['scorecard']}, which has a version {card['version']} by now: compute anew"
                )
            weights = {key: told["proposed"] for key, told in row["weights"].items()}
            document = carding.reweighted(scorecards.load(card["document"]), weights)
            text = orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()
            _save_card(work.connection, row["scorecard"], text, f"weights proposed by analysis {row['analysis']}", by)
        decided = {"decided_at": clock.now(), "decided_by": by, "accepted": accepted}
        store.change(work.connection, store.proposal, id, **decided)
        return shown({**row, **decided})


# ---- contacts, as qa knows them


def get_contact(units: UnitOfWork, id: str, viewer: Viewer) -> Row:
    """A contact with its facts and what the automatic checks say; what the customer said is not shown to those who have yet to evaluate it, and
    whoever is shown it evaluates it no more."""
    with units.database.reading() as connection:
        row = _required(store.find(connection, store.contact, id), "contact", id)
        told = shown(row, "check_at", "routing_sequence", "gateway_sequence", "told_holds", "told_by")
        handed = select(store.handover).where(store.handover.c.contact == id, store.PASSED_ON).order_by(store.handover.c.leg)
        told["handovers"] = [shown(store.plain(one), "contact", "passed_on", "word") for one in connection.execute(handed).mappings()]
        told["automatic"] = _automatic_of(connection, id)
        told["customer_said"] = None if _must_not_know(connection, viewer, id) else _customer_said(connection, id)
    _note_looks(units, viewer, answer=[id] if told["customer_said"] else [])
    return told


def _note_looks(units: UnitOfWork, viewer: Viewer, *, answer: Sequence[str] = (), marks: Sequence[str] = ()) -> None:
    """Written down before it is shown: of these contacts the viewer learns what the customer said, or what somebody else marked."""
    if seen := [(contact, "answer") for contact in answer] + [(contact, "marks") for contact in marks]:
        with units() as work:
            _note_looks_in(work.connection, viewer, seen)


def _note_looks_in(connection: Connection, viewer: Viewer, seen: Sequence[tuple[str, str]]) -> None:
    who = viewer.person or viewer.principal
    if not who or viewer.agent:  # an agent sees their own contacts alone, which they never evaluate
        return
    rows = [{"contact": contact, "person": who, "what": what, "at": clock.now()} for contact, what in dict.fromkeys(seen)]
    bulk.insert(connection, store.looked, rows, key=("contact", "person", "what"))


SWAYS = {"answer": "what the customer said", "marks": "what somebody else marked"}


def require_unswayed(connection: Connection, contact: str, evaluator: str, *, blind: bool) -> None:
    """Raises Conflict where the evaluator has seen what would sway them. `blind`: others' marks do too."""
    table = store.looked
    kinds = ("answer", "marks") if blind else ("answer",)
    query = select(table.c.what, table.c.at).where(table.c.contact == contact, table.c.person == evaluator, table.c.what.in_(kinds))
    if seen := connection.execute(query.order_by(table.c.what).limit(1)).first():
        raise errors.Conflict(
            f"{evaluator} has looked at {SWAYS[seen.what]} in contact {contact} ({clock.to_text(seen.at)}), which would sway them: "
            "somebody else evaluates it, or this one by all its scorecards before they look"
        )


def _automatic_of(connection: Connection, contact: str) -> list[Row]:
    rows = connection.execute(
        select(store.automatic).where(store.automatic.c.contact == contact).order_by(store.automatic.c.ruleset)
    ).mappings()
    return [shown(store.plain(row), "contact", "sequence") for row in rows]


def _customer_said(connection: Connection, contact: str) -> Row | None:
    table = store.survey
    row = connection.execute(select(table).where(table.c.contact == contact, table.c.answered_at.is_not(None))).mappings().first()
    return {"satisfied": row["csat"], "resolved": row["resolved"], "text": row["text"]} if row else None


def _must_not_know(connection: Connection, viewer: Viewer, contact: str) -> bool:
    """Whether the viewer has yet to evaluate this contact, or might: then what the customer said, and what others marked, would sway them."""
    table = store.evaluation
    if viewer.person:
        drafts = select(func.count()).where(table.c.contact == contact, table.c.evaluator == viewer.person, table.c.state == "draft")
        if connection.scalar(drafts):
            return True
    if viewer.leads or viewer.agent:
        return False
    done = select(func.count()).where(table.c.contact == contact, table.c.evaluator == viewer.person, table.c.submitted_at.is_not(None))
    return not connection.scalar(done)


def put_transcript(
    units: UnitOfWork,
    id: str,
    turns: Sequence[Row],
    language: str,
    silence_seconds: float | None,
    holds: int | None = None,
    hold_seconds: float | None = None,
) -> Row:
    """What was said or written in a contact, and what was heard of its silence and its holds; in place of what was told before. It is checked anew."""
    with units() as work:
        row = _required(store.contacts(work.connection, [id], lock=True).get(id), "contact", id)
        told = {"contact": id, "language": language, "turns": list(turns), "stored_at": clock.now()}
        bulk.insert(
            work.connection,
            store.transcript,
            [told],
            columns=bulk.columns_of(store.transcript),
            key=("contact",),
            update=("language", "turns", "stored_at"),
        )
        known = held.heard(row, holds, hold_seconds)
        if silence_seconds is not None:
            known["silence_seconds"] = silence_seconds
        due = clock.now() if row["ended_at"] is not None else None
        store.change(work.connection, store.contact, id, turns=len(turns), check_at=due, **known)
    return {"contact": id, "turns": len(turns)}


def get_transcript(units: UnitOfWork, id: str, viewer: Viewer) -> Row:
    """The thread. That it was opened is written down before it is shown."""
    with units() as work:
        row = store.find(work.connection, store.transcript, id)
        if row is None:
            raise errors.NotFound(f"nothing was told of what was said in contact {id}")
        who = viewer.person or viewer.principal
        opened = {"contact": id, "person": who, "at": clock.now()}
        bulk.insert(work.connection, store.opening, [opened], key=("contact", "person"), update=("at",))
    turns = [{"number": number, **turn} for number, turn in enumerate(row["turns"], 1)]
    return {"contact": id, "language": row["language"], "turns": turns}


# ---- evaluations


def open_evaluation(units: UnitOfWork, told: Mapping[str, Any], viewer: Viewer) -> Row:
    """Begin to evaluate a contact. `told`: contact, scorecard, evaluator, role, agent (of several), practice, blind (another evaluator who scores
    the same, neither seeing the other's)."""
    with units() as work, refusals():
        connection = work.connection
        contact = evaluable(connection, told["contact"], viewer)
        agent = told.get("agent") or contact["agent"]
        others = select(store.handover.c.agent).where(store.handover.c.contact == contact["id"], store.PASSED_ON)
        if agent != contact["agent"] and agent not in set(connection.scalars(others)):
            raise errors.Invalid(f"{agent} had no part in contact {contact['id']}")
        card = card_of(connection, told["scorecard"])
        if card.channels and contact["channel"] not in card.channels:
            raise errors.Invalid(f"{card.name} is for {', '.join(card.channels)}, and this contact came by {contact['channel']}")
        evaluating.require_evaluator(told["evaluator"], agent)
        purpose = "practice" if told.get("practice") else "quality"
        first = begin(connection, contact, agent, card, told["evaluator"], told.get("role") or "", purpose)
        if other := told.get("blind"):
            evaluating.require_evaluator(other, agent)
            if other == told["evaluator"]:
                raise errors.Invalid("two who score the same blindly are two")
            begin(connection, contact, agent, card, other, "", "double", other=first, blind=True)
            store.change(connection, store.evaluation, first, blind=True)
        return _shown(connection, first, viewer)


def evaluable(connection: Connection, id: str, viewer: Viewer) -> Row:
    """The contact's row, locked, so that two do not begin the same at once. Raises NotFound or Conflict."""
    contact = _required(store.find(connection, store.contact, id, lock=True), "contact", id)
    if not viewer.sees(contact["queue"]):
        raise errors.NotFound(f"there is no contact {id}")
    if contact["ended_at"] is None or not contact["agent"]:
        raise errors.Conflict("only a contact that an agent had, and that is over, can be evaluated")
    return contact


def begin(
    connection: Connection, contact: Row, agent: str, card: Scorecard, evaluator: str, role: str, purpose: str, *,
    other: str | None = None, blind: bool = False, calibration: str | None = None,
) -> str:  # fmt: skip
    require_unswayed(connection, contact["id"], evaluator, blind=blind)
    table = store.evaluation
    twice = select(table.c.id).where(
        table.c.contact == contact["id"], table.c.scorecard == card.name, table.c.agent == agent, table.c.evaluator == evaluator,
        table.c.calibration.is_(None) if calibration is None else table.c.calibration == calibration,
    )  # fmt: skip
    if known := connection.scalar(twice):
        raise errors.Conflict(f"{evaluator} has evaluated this contact by {card.name} already, or is about to: {known}", evaluation=known)
    if purpose in ("quality", "practice"):
        standing = select(table.c.id).where(
            table.c.contact == contact["id"],
            table.c.scorecard == card.name,
            table.c.agent == agent,
            table.c.purpose.in_(("quality", "practice")),
        )
        if known := connection.scalar(standing):
            raise errors.Conflict(f"somebody else evaluates this contact by {card.name}: {known}", evaluation=known)
    chosen = store.sampled
    drawn = [
        row
        for row in connection.execute(
            select(chosen, store.sample.c.plan)
            .join(store.sample, store.sample.c.id == chosen.c.sample)
            .where(chosen.c.contact == contact["id"], chosen.c.evaluation.is_(None))
            .order_by(chosen.c.method.desc(), chosen.c.sample)
        ).mappings()
        if row["plan"]["scorecard"] == card.name
    ]
    of_sample = drawn[0] if drawn and purpose == "quality" and agent == contact["agent"] else None
    id = new_id()
    store.add(
        connection, table,
        {
            "id": id, "contact": contact["id"], "agent": agent, "queue": contact["queue"], "channel": contact["channel"],
            "contact_at": contact["ended_at"], "scorecard": card.name, "version": card.version, "scorecard_kind": card.kind, "kind": "human",
            "evaluator": evaluator, "evaluator_role": role, "purpose": purpose, "other": other, "calibration": calibration, "state": "draft",
            "blind": blind, "live": False, "practice": bool(contact["practice"]), "supervisor": contact["supervisor"],
            "method": of_sample["method"] if of_sample else "chosen", "probability": of_sample["probability"] if of_sample else None,
            "note": "", "score": None, "failed": [], "fails_customer": False, "fails_business": False, "fails_compliance": False,
            "counts": False, "dispute": "", "outcome": "", "created_at": clock.now(), "submitted_at": None, "ended_at": None, "sequence": 0,
        },
    )  # fmt: skip
    if of_sample:  # drawn again by another sample, it is done there too
        samples = [row["sample"] for row in drawn]
        connection.execute(update(chosen).where(chosen.c.sample.in_(samples), chosen.c.contact == contact["id"]).values(evaluation=id))
    return id


def _changed(units: UnitOfWork, id: str, viewer: Viewer, do: Callable[[Work, Evaluation, Row, Scorecard], None]) -> Row:
    """Change one evaluation, locked; it and its marks are written, whatever `do` did."""
    with units() as work, refusals():
        row = _evaluation_row(work.connection, id, viewer, lock=True)
        one = store.evaluation_of(row, store.marks_of(work.connection, [id])[id])
        card = card_of(work.connection, one.scorecard, one.version)
        do(work, one, row, card)
        _keep(work.connection, one, card)
        told = _shown(work.connection, id, viewer)
        _note_looks_in(work.connection, viewer, [(contact, "marks") for contact in _marks_shown([told], viewer)])
        return told


def _keep(connection: Connection, one: Evaluation, card: Scorecard) -> None:
    result = carding.judge(card, one.marks)
    store.save_evaluation(connection, one, result.values, result.missed)


def _evaluation_row(connection: Connection, id: str, viewer: Viewer, *, lock: bool = False) -> Row:
    """Raises NotFound where the viewer must not see it, as if it were not there."""
    row = store.find(connection, store.evaluation, id, lock=lock)
    if row is None or not _may_see(connection, row, viewer):
        raise errors.NotFound(f"there is no evaluation {id}")
    return row


def _may_see(connection: Connection, row: Row, viewer: Viewer) -> bool:
    if viewer.agent:
        return (
            row["agent"] == viewer.person and row["submitted_at"] is not None and row["calibration"] is None and row["purpose"] != "double"
        )
    if not viewer.sees(row["queue"]):
        return False
    own = bool(viewer.person) and row["evaluator"] == viewer.person
    if own:
        return True
    if not viewer.leads and (row["state"] == "draft" or leading(connection, [row["agent"]])):
        return False
    if row["calibration"] is not None:
        session = store.find(connection, store.calibration, row["calibration"])
        return bool(session and session["state"] == "closed")
    return not (viewer.person and _has_draft(connection, viewer.person, row["contact"]))


def _has_draft(connection: Connection, person: str, contact: str) -> bool:
    table = store.evaluation
    wanted = select(func.count()).where(table.c.contact == contact, table.c.evaluator == person, table.c.state == "draft")
    return bool(connection.scalar(wanted))


def write_evaluation(units: UnitOfWork, id: str, told: Mapping[str, Any], by: str, viewer: Viewer) -> Row:
    def do(_work: Work, one: Evaluation, _row: Row, card: Scorecard) -> None:
        one.write(card, told.get("marks"), told.get("note"), told.get("live"), by)

    return _changed(units, id, viewer, do)


def submit_evaluation(units: UnitOfWork, id: str, by: str, recordings: int, played: bool, viewer: Viewer) -> Row:
    """`recordings`: of the contact that can be heard; `played`: this evaluator heard one (the gateway's access log says so)."""

    def do(work: Work, one: Evaluation, row: Row, card: Scorecard) -> None:
        connection = work.connection
        thread = store.find(connection, store.transcript, one.contact)
        people = [name for name in (viewer.person, viewer.principal) if name]
        table = store.opening
        opened = connection.scalar(select(func.count()).where(table.c.contact == one.contact, table.c.person.in_(people)))
        if one.state == "draft":
            require_unswayed(connection, one.contact, one.evaluator, blind=one.blind)  # they may have looked while it was being begun
        one.submit(
            card,
            Evidence(recordings, played, thread is not None, len(thread["turns"]) if thread else 0, bool(opened), one.live),
            by,
            clock.now(),
        )
        one.evaluator_role = one.evaluator_role or viewer.role
        _keep(connection, one, card)
        _after_step(work, one, row, card, "submitted")

    return _changed(units, id, viewer, do)


def _after_step(work: Work, one: Evaluation, row: Row, card: Scorecard, stage: str) -> None:
    """Tell of it, and of what follows from marks that count from now on."""
    announce_evaluation(work, one, row, card, stage)
    if one.counts:
        announce_score(work, one, card)
        close_by_evidence(work, agent=one.agent, queue=row["queue"], criteria=[mark.criterion for mark in one.marks])


def announce_evaluation(work: Work, one: Evaluation, row: Row, card: Scorecard, stage: str) -> None:
    result = carding.judge(card, one.marks)
    criteria = card.criteria
    marks = [
        {
            "criterion": mark.criterion, "section": card.section_of(mark.criterion),
            "answer": f"{mark.answer:.15g}" if isinstance(mark.answer, float) else mark.answer, "value": result.values[mark.criterion],
            "weight": criteria[mark.criterion].weight, "critical": criteria[mark.criterion].critical, "second": mark.second, "message": mark.message,
        }
        for mark in one.marks
    ]  # fmt: skip
    number, now = row["sequence"] + 1, clock.now()
    row["sequence"] = number
    store.change(work.connection, store.evaluation, one.id, sequence=number)
    people = [one.evaluator] if one.calibration or one.purpose == "double" else [one.agent, one.evaluator]
    data = {
        "evaluation": one.id, "stage": stage, "contact": one.contact, "agent": one.agent, "queue": row["queue"], "channel": row["channel"],
        "contact_at": row["contact_at"], "practice": bool(row["practice"]), "supervisor": row["supervisor"], "purpose": one.purpose,
        "counts": one.counts, "scorecard": one.scorecard, "scorecard_version": one.version, "scorecard_kind": row["scorecard_kind"], "kind": "human",
        "evaluator": one.evaluator, "evaluator_role": one.evaluator_role or None, "blind": one.blind, "score": one.score,
        "failed_classes": list(one.failed), "marks": marks, "sampled": row["method"], "probability": row["probability"], "people": people, "at": now,
    }  # fmt: skip
    work.announce(Event("qa.evaluation_submitted.v1", one.id, data, now, number))


def announce_score(work: Work, one: Evaluation, card: Scorecard) -> None:
    """The agent's mean by this scorecard, over the contacts that chance chose: those that somebody picked would bend it."""
    table, now = store.evaluation, clock.now()
    query = select(table.c.score, table.c.probability).where(
        table.c.agent == one.agent, table.c.scorecard == one.scorecard, table.c.submitted_at > now - SCORED_DAYS * DAY, table.c.counts,
        table.c.score.is_not(None), table.c.probability.is_not(None), table.c.purpose.in_(("quality", "second_opinion")),
    )  # fmt: skip
    drawn = [(row.score, row.probability) for row in work.connection.execute(query)]
    found = sampling.weighted_mean(drawn) if len(drawn) > 1 else None
    if found is None or found.value is None or found.low is None or found.high is None:
        return
    data = {
        "agent": one.agent, "queue": None, "channel": None, "scorecard": one.scorecard, "scorecard_kind": card.kind, "kind": "human",
        "score": found.value, "low": found.low, "high": found.high, "evaluations": len(drawn), "since": now - SCORED_DAYS * DAY, "until": now,
        "people": [one.agent], "at": now,
    }  # fmt: skip
    work.announce(Event("qa.agent_scored.v1", one.agent, data, now, int(now * 1000)))


def acknowledge_evaluation(units: UnitOfWork, id: str, by: str, viewer: Viewer) -> Row:
    return _changed(units, id, viewer, lambda _work, one, _row, _card: one.acknowledge(by))


def dispute_evaluation(units: UnitOfWork, id: str, by: str, reason: str, viewer: Viewer) -> Row:
    return _changed(units, id, viewer, lambda _work, one, _row, _card: one.contest(by, reason, clock.now()))


def ask_second_opinion(units: UnitOfWork, id: str, evaluator: str, viewer: Viewer) -> Row:
    """Another evaluator looks at the contact anew, without seeing the first one's marks."""

    if evaluator == viewer.person:
        raise errors.Conflict("who asks for a second opinion is shown the first one's marks: name somebody else")

    def do(work: Work, one: Evaluation, _row: Row, card: Scorecard) -> None:
        one.ask_second(evaluator)
        contact = _required(store.find(work.connection, store.contact, one.contact), "contact", one.contact)
        begin(work.connection, contact, one.agent, card, evaluator, "", "second_opinion", other=one.id, blind=True)

    return _changed(units, id, viewer, do)


def close_evaluation(units: UnitOfWork, id: str, holds: str, reason: str, by: str, viewer: Viewer) -> Row:
    """Final. Where the second opinion holds, its marks count, and the first ones no longer. After a dispute neither of those who evaluated decides."""

    def do(work: Work, one: Evaluation, row: Row, card: Scorecard) -> None:
        connection, table = work.connection, store.evaluation
        query = select(table).where(table.c.other == one.id, table.c.purpose == "second_opinion").with_for_update()
        found = connection.execute(query).mappings().first()
        counted = one.counts
        one.close(holds, reason, bool(found and found["submitted_at"]), clock.now(), by, found["evaluator"] if found else "")
        _keep(connection, one, card)
        store.change(connection, table, one.id, decided_by=by)
        announce_evaluation(work, one, row, card, "final")
        if found is None:
            return
        other_row = store.plain(found)
        other = store.evaluation_of(other_row, store.marks_of(connection, [other_row["id"]])[other_row["id"]])
        if other.state == "draft":
            return
        other.state, other.ended_at, other.counts = "final", clock.now(), counted and holds == "second"
        if other.counts:  # it takes the place of the first one in the sample too
            other_row |= {"method": row["method"], "probability": row["probability"]}
            store.change(connection, table, other.id, method=row["method"], probability=row["probability"])
        _keep(connection, other, card)
        _after_step(work, other, other_row, card, "final")

    return _changed(units, id, viewer, do)


def drop_evaluation(units: UnitOfWork, id: str, by: str, viewer: Viewer) -> None:
    """A draft that comes to nothing goes; the contact is as if it had not been begun."""
    with units() as work:
        row = _evaluation_row(work.connection, id, viewer, lock=True)
        if row["state"] != "draft":
            raise errors.Conflict("it was submitted: what somebody was told of stays, and can be disputed")
        if row["evaluator"] != by and not viewer.leads:
            raise errors.Forbidden(f"it is {row['evaluator']}'s to drop")
        if row["blind"] and row["evaluator"] == by:
            raise errors.Forbidden(
                "what is scored blind is not dropped by whoever scores it, who would then see the other's marks: ask a lead"
            )
        table = store.evaluation
        if row["purpose"] == "second_opinion":
            work.connection.execute(update(table).where(table.c.id == row["other"]).values(state="disputed"))
        work.connection.execute(update(store.sampled).where(store.sampled.c.evaluation == id).values(evaluation=None))
        work.connection.execute(delete(store.mark).where(store.mark.c.evaluation == id))
        work.connection.execute(delete(table).where(table.c.id == id))


def finish_due(units: UnitOfWork) -> int:
    """What nobody disputed in time is final. Returns how many."""
    table = store.evaluation
    with units() as work:
        due = and_(table.c.state.in_(("submitted", "acknowledged")), table.c.submitted_at < clock.now() - evaluating.DISPUTE_SECONDS)
        query = select(table).where(due, table.c.calibration.is_(None)).order_by(table.c.submitted_at).limit(DUE_AT_ONCE)
        rows = [store.plain(row) for row in work.connection.execute(query.with_for_update(skip_locked=True)).mappings()]
        marks = store.marks_of(work.connection, [row["id"] for row in rows])
        for row in rows:
            one = store.evaluation_of(row, marks[row["id"]])
            card = card_of(work.connection, one.scorecard, one.version)
            one.close("first", "nobody disputed it", False, clock.now(), "")
            _keep(work.connection, one, card)
            announce_evaluation(work, one, row, card, "final")
        return len(rows)


def get_evaluation(units: UnitOfWork, id: str, viewer: Viewer) -> Row:
    """With what the customer said, where the viewer may know it. Who looks at another's marks, or at that, is written down."""
    with units.database.reading() as connection:
        row = _evaluation_row(connection, id, viewer)
        told = _shown(connection, id, viewer)
        if row["state"] != "draft" and not _must_not_know(connection, viewer, row["contact"]):
            told["customer_said"] = _customer_said(connection, row["contact"])
    _note_looks(units, viewer, answer=[row["contact"]] if told["customer_said"] else [], marks=_marks_shown([told], viewer))
    return told


def _marks_shown(told: Sequence[Row], viewer: Viewer) -> list[str]:
    """Of which contacts the viewer is shown what somebody else marked, be it in a draft, or what came of it."""
    return [
        one["contact"]
        for one in told
        if one["evaluator"] != viewer.person and (one.get("marks") or one.get("note") or one.get("score") is not None or one.get("failed"))
    ]


def list_evaluations(units: UnitOfWork, filters: Mapping[str, Any], viewer: Viewer) -> Row:
    """The newest first, as far as the viewer may see them, so that a page may be short; others' without their score for somebody who might
    yet evaluate the contact. Who is shown it is written down."""
    with units.database.reading() as connection:
        told = _evaluations(connection, filters, viewer)
    _note_looks(units, viewer, marks=_marks_shown(told["items"], viewer))
    return told


def _evaluations(connection: Connection, filters: Mapping[str, Any], viewer: Viewer) -> Row:
    table = store.evaluation
    wanted = [
        table.c[name] == filters[name]
        for name in ("contact", "agent", "evaluator", "state", "scorecard", "calibration")
        if filters.get(name)
    ]
    if (filters.get("calibration") and not is_id(filters["calibration"])) or (filters.get("contact") and not is_id(filters["contact"])):
        return {"items": [], "next": None}
    if viewer.queues is not None and not viewer.agent:
        wanted.append(table.c.queue.in_(viewer.queues))
    if viewer.agent:
        wanted.append(table.c.agent == viewer.person)
    rows = store.page(connection, table, filters["after"], filters["limit"], *wanted)
    seen = [row for row in rows if _may_see(connection, row, viewer)]
    items = [_told(row, viewer) for row in seen]
    for one in items:
        if one["evaluator"] != viewer.person and _must_not_know(connection, viewer, one["contact"]):
            for name in ("score", "failed", "note"):
                del one[name]
    return {"items": items, "next": rows[-1]["id"] if len(rows) == filters["limit"] else None}


def _told(row: Row, viewer: Viewer) -> Row:
    told = shown(row, "fails_customer", "fails_business", "fails_compliance", "sequence", "kind")
    told |= {name: bool(row[name]) for name in ("blind", "live", "practice", "counts")}
    if viewer.agent and row["purpose"] == "second_opinion":
        told["evaluator"] = ""
    return told


def _shown(connection: Connection, id: str, viewer: Viewer) -> Row:
    row = _required(store.find(connection, store.evaluation, id), "evaluation", id)
    marks = store.marks_of(connection, [id])[id]
    card = card_of(connection, row["scorecard"], row["version"])
    result = carding.judge(card, store.evaluation_of(row, marks).marks)
    by_id = {mark["criterion"]: mark for mark in marks}
    answers = {name: store.answer_of(mark["answer"]) for name, mark in by_id.items()}
    told = _told(row, viewer)
    told["marks"] = [
        {
            **{name: value for name, value in by_id[one].items() if name != "evaluation"},
            "answer": answers[one],
            "missed": bool(by_id[one]["missed"]),
        }
        for one in card.criteria
        if one in by_id
    ]
    told["asked"] = [one for one in card.criteria if one in carding.asked(card, answers)]
    told["sections"] = dict(result.sections)
    told["score"] = result.score
    told["customer_said"] = None  # a command's answer leaves it out: who evaluates by two scorecards submits both before they look
    return told


def place_of(connection: Connection, kind: str, id: str) -> Row:
    """Where an evaluation, a finding, a flag or a calibration belongs: its queue, and whom it concerns."""
    table: Table = {"evaluation": store.evaluation, "finding": store.finding, "flag": store.flag}[kind]
    row = _required(store.find(connection, table, id), kind, id)
    concerned = [row.get("agent"), row.get("evaluator"), row.get("owner")]
    return {"queue": row["queue"], "people": [name for name in concerned if name]}


# ---- findings and their plans


def leading(connection: Connection, people: Sequence[str | None]) -> set[str]:
    """Who of these leads a team, or the centre: what is found about them is not for those whom they lead (R24)."""
    table = store.staff
    rows = connection.execute(select(table.c.person, table.c.roles).where(table.c.person.in_([name for name in people if name])))
    return {row.person for row in rows if {"supervisor", "admin"} & set(row.roles)}


def open_finding(units: UnitOfWork, told: Mapping[str, Any], by: str, viewer: Viewer) -> Row:
    """What went wrong, why, and what keeps it from happening again: all at once, or not at all. `told`: contact or evaluation, scorecard,
    criterion, cause, agent, owner, action, due_at, check, module."""
    with units() as work, refusals():
        connection = work.connection
        source = _evaluation_row(connection, told["evaluation"], viewer) if told.get("evaluation") else None
        if source and source["submitted_at"] is None:
            raise errors.Conflict("the evaluation is a draft: submit it first")
        contact = evaluable(connection, source["contact"] if source else told["contact"], viewer)
        card = card_of(connection, source["scorecard"] if source else told["scorecard"], source["version"] if source else None)
        criterion = card.criteria.get(told["criterion"])
        if criterion is None:
            raise errors.Invalid(f"{card.name} has no criterion {told['criterion']}; there are {', '.join(card.criteria)}")
        personal = told["cause"] in findings.PERSONAL
        agent = told.get("agent") or ((source["agent"] if source else contact["agent"]) if personal else None)
        now = clock.now()
        findings.require_plan(cause=told["cause"], agent=agent, owner=told["owner"], action=told["action"], due_at=told["due_at"], now=now)
        require_fit_owner(connection, agent, told["owner"])
        check = findings.read_check(told["check"], told["cause"], agent, contact["channel"])
        row = {
            "id": new_id(), "contact": contact["id"], "evaluation": source["id"] if source else None, "agent": agent, "queue": contact["queue"],
            "channel": contact["channel"], "scorecard": card.name, "scorecard_version": card.version, "section": card.section_of(criterion.id),
            "criterion": criterion.id, "title": dict(criterion.title), "critical": criterion.critical, "cause": told["cause"], "owner": told["owner"],
            "owners": None, "action": told["action"], "due_at": told["due_at"], "check": asdict(check), "module": told.get("module") or None, "state": "open",
            "created_at": now, "created_by": by, "planned_at": now, "closed_at": None, "evidence": None, "sequence": 1,
        }  # fmt: skip
        store.add(connection, store.finding, row)
        _announce_gap(work, row, "qa.gap_found.v1")
        return _shown_finding(row)


def require_fit_owner(connection: Connection, agent: str | None, owner: str) -> None:
    """Raises Invalid where one of their own people would see to the plan of somebody who leads."""
    if agent and agent in (found := leading(connection, [agent, owner])) and owner not in found and _is_known(connection, owner):
        raise errors.Invalid(f"{agent} leads: somebody who leads too sees to the plan, none of their own people")


def _is_known(connection: Connection, person: str) -> bool:
    return bool(connection.scalar(select(func.count()).where(store.staff.c.person == person)))


def change_plan(units: UnitOfWork, id: str, told: Mapping[str, Any], viewer: Viewer) -> Row:
    """Another plan for the same finding: what has to be shown counts from now."""
    with units() as work, refusals():
        row = _finding_row(work.connection, id, viewer, lock=True)
        if row["state"] != "open":
            raise errors.Conflict("it is closed")
        if told.get("owner") not in (None, row["owner"]):
            row["owners"] = sorted({*(row["owners"] or ()), row["owner"]})
        row |= {name: told[name] for name in ("owner", "action", "due_at", "module") if told.get(name) is not None}
        now = clock.now()
        findings.require_plan(
            cause=row["cause"], agent=row["agent"], owner=row["owner"], action=row["action"], due_at=row["due_at"], now=now
        )
        require_fit_owner(work.connection, row["agent"], row["owner"])
        if told.get("check") is not None:
            row["check"] = asdict(findings.read_check(told["check"], row["cause"], row["agent"], row["channel"]))
        row |= {"planned_at": now, "sequence": row["sequence"] + 1}
        store.change(work.connection, store.finding, id, **{name: value for name, value in row.items() if name != "id"})
        _announce_gap(work, row, "qa.gap_found.v1")
        return _shown_finding(row)


def close_finding(units: UnitOfWork, id: str, document: str, by: str, viewer: Viewer) -> Row:
    """Closed by evidence, and by nothing else."""
    with units() as work, refusals():
        row = _finding_row(work.connection, id, viewer, lock=True)
        if row["state"] != "open":
            raise errors.Conflict("it is closed already")
        return _shown_finding(_close(work, row, document, by))


def _close(work: Work, row: Row, document: str = "", by: str = "") -> Row:
    """Raises domain.Conflict with what is missing."""
    concerned = {row["owner"], *(row["owners"] or ()), row["agent"]}
    evidence = shown(findings.prove(findings.Check(**row["check"]), concerned, _evidence(work.connection, row, document, by)))
    row |= {"state": "closed", "closed_at": clock.now(), "evidence": evidence, "sequence": row["sequence"] + 1}
    closed = {name: row[name] for name in ("state", "closed_at", "evidence", "sequence")}
    store.change(work.connection, store.finding, row["id"], **closed)
    _announce_gap(work, row, "qa.gap_closed.v1")
    return row


def _evidence(connection: Connection, row: Row, document: str, by: str) -> findings.Evidence:
    one, mark, permit = store.evaluation, store.mark, store.permit
    query = (
        select(one.c.id, mark.c.value)
        .join(mark, mark.c.evaluation == one.c.id)
        .where(one.c.scorecard == row["scorecard"], one.c.contact_at > row["planned_at"], one.c.counts, one.c.submitted_at.is_not(None))
        .where(mark.c.criterion == row["criterion"], mark.c.value.is_not(None))
        .where(one.c.agent == row["agent"] if row["agent"] else one.c.queue == row["queue"])
        .order_by(one.c.contact_at, one.c.id)
    )
    values = tuple((found.id, found.value) for found in connection.execute(query))
    certified = None
    if row["agent"]:
        certified = connection.scalar(
            select(permit.c.certified_at).where(
                permit.c.person == row["agent"], permit.c.channel == row["check"].get("channel"), permit.c.certified_at > row["planned_at"]
            )
        )
    return findings.Evidence(values, certified, document, by)


def close_by_evidence(work: Work, *, agent: str, queue: str, criteria: Sequence[str] | None = None, kind: str = "evaluations") -> None:
    """Plans that what has just been learnt proves are closed without anybody's doing."""
    table = store.finding
    query = select(table).where(table.c.state == "open", or_(table.c.agent == agent, and_(table.c.agent.is_(None), table.c.queue == queue)))
    if criteria is not None:
        query = query.where(table.c.criterion.in_(list(criteria)))
    for row in work.connection.execute(query.order_by(table.c.id).with_for_update()).mappings().all():
        if row["check"]["kind"] == kind:
            try:
                _close(work, store.plain(row))
            except domain.Conflict:
                continue


def _announce_gap(work: Work, row: Row, type: str) -> None:
    names: tuple[str, ...] = ("contact", "agent", "queue", "channel", "scorecard", "criterion", "cause")
    if type == "qa.gap_found.v1":
        names += ("evaluation", "scorecard_version", "section", "title", "critical", "owner", "due_at", "check", "module")
    else:
        names += ("evidence",)
    now = clock.now()
    people = sorted({name for name in (row["agent"], row["owner"]) if name})
    data = {"finding": row["id"], "plan": row["id"], **{name: row[name] for name in names}, "people": people, "at": now}
    work.announce(Event(type, row["id"], data, now, row["sequence"]))


def _finding_row(connection: Connection, id: str, viewer: Viewer, *, lock: bool = False) -> Row:
    row = store.find(connection, store.finding, id, lock=lock)
    if row is None or not _sees_finding(row, viewer, leading(connection, [row["agent"]])):
        raise errors.NotFound(f"there is no finding {id}")
    return row


def _sees_finding(row: Row, viewer: Viewer, leads: Collection[str]) -> bool:
    """`leads`: those concerned who lead a team."""
    if viewer.person and viewer.person in (row["agent"], row["owner"], row["created_by"]):
        return True
    return not viewer.agent and viewer.sees(row["queue"]) and (viewer.leads or row["agent"] not in leads)


def get_finding(connection: Connection, id: str, viewer: Viewer) -> Row:
    return _shown_finding(_finding_row(connection, id, viewer))


def list_findings(connection: Connection, filters: Mapping[str, Any], viewer: Viewer) -> Row:
    table = store.finding
    wanted = [table.c[name] == filters[name] for name in ("agent", "owner", "state", "cause", "criterion", "queue") if filters.get(name)]
    if filters.get("overdue"):
        wanted += [table.c.state == "open", table.c.due_at < clock.now()]
    if viewer.agent:
        wanted.append(or_(table.c.agent == viewer.person, table.c.owner == viewer.person))
    rows = store.page(connection, table, filters["after"], filters["limit"], *wanted)
    leads = leading(connection, [row["agent"] for row in rows])
    items = [_shown_finding(row) for row in rows if _sees_finding(row, viewer, leads)]
    return {"items": items, "next": rows[-1]["id"] if len(rows) == filters["limit"] else None}


def _shown_finding(row: Row) -> Row:
    return {**shown(row, "sequence", "owners"), "overdue": row["state"] == "open" and row["due_at"] < clock.now()}


# ---- surveys


def report_answers(units: UnitOfWork, report: Callable[[Connection, Mapping[str, Any]], Row], asked: Mapping[str, Any]) -> Row:
    """A report in which customers' answers stand. `person`: who reads it; a group of one answer says what that customer said, so it is written down."""
    with units.database.reading() as connection:
        told = report(connection, asked)
        alone = reports.answers_alone(connection, asked, told) if asked.get("person") else []
    if alone:
        _note_looks(units, Viewer(asked["person"]), answer=alone)
    return told


def put_survey_rule(units: UnitOfWork, queue: str, told: Mapping[str, Any]) -> Row:
    with units() as work:
        rule = {**asdict(store.rule_for(work.connection, queue)), **told, "queue": queue}
        rule["channels"] = list(rule["channels"])
        columns = bulk.columns_of(store.survey_rule)
        bulk.insert(work.connection, store.survey_rule, [rule], columns=columns, key=("queue",), update=columns[1:])
        return rule


def get_survey_rule(connection: Connection, queue: str) -> Row:
    """A queue's own rule, or the default one by its name. Raises NotFound."""
    rule = store.rule_for(connection, queue)
    if queue not in ("default", rule.queue):
        raise errors.NotFound(f"{queue} has no rule of its own: default holds")
    return {**asdict(rule), "channels": list(rule.channels)}


def send_due(units: UnitOfWork) -> int:
    """Announce what is due: webhooks bring it to whoever writes to customers. Returns how many."""
    now = clock.now()
    with units() as work:
        due = store.due_surveys(work.connection, now, DUE_AT_ONCE)
        sent = store.sent_at(work.connection, (row["customer"] for row in due), planned=False)
        for row in due:
            late = now - row["contact_at"] > asking.FRESH_SECONDS + DAY  # we were down for long: nobody is asked about what was days ago
            rule = store.rule_for(work.connection, row["queue"])
            tired = row["customer"] in sent and now - sent[row["customer"]] < rule.fatigue_days * DAY  # two processes planned at once
            store.change(work.connection, store.survey, row["id"], ask_at=None, sent_at=None if late or tired else now)
            if late or tired:
                continue
            sent[row["customer"]] = now
            data = {
                "survey": row["id"], **{name: row[name] for name in ("contact", "customer", "queue", "channel", "rule", "answer_until")},
                "people": [], "at": now,
            }  # fmt: skip
            work.announce(Event("qa.survey_asked.v1", row["id"], data, now, 1))
        return len(due)


def list_surveys(units: UnitOfWork, filters: Mapping[str, Any], viewer: Viewer) -> Row:
    """What was asked and answered, the newest first; not to somebody who has yet to evaluate the contact. Who looks is written down."""
    with units.database.reading() as connection:
        told = _surveys(connection, filters, viewer)
    _note_looks(units, viewer, answer=[one["contact"] for one in told["items"] if one["answered_at"] is not None])
    return told


def _surveys(connection: Connection, filters: Mapping[str, Any], viewer: Viewer) -> Row:
    table = store.survey
    wanted = [table.c[name] == filters[name] for name in ("queue", "agent", "contact") if filters.get(name)]
    if filters.get("contact") and not is_id(filters["contact"]):
        return {"items": [], "next": None}
    if filters.get("answered") is not None:
        wanted.append(table.c.answered_at.is_not(None) if filters["answered"] else table.c.answered_at.is_(None))
    if viewer.queues is not None:
        wanted.append(table.c.queue.in_(viewer.queues))
    rows = store.page(connection, table, filters["after"], filters["limit"], *wanted)
    items = [
        {**shown(row, "ask_at", "csat"), "satisfied": row["csat"], "late": bool(row["late"])}
        for row in rows
        if not _must_not_know(connection, viewer, row["contact"])
    ]
    return {"items": items, "next": rows[-1]["id"] if len(rows) == filters["limit"] else None}
