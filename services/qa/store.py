"""Tables of qa, and the statements upon them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from services.qa.domain.evaluation import Evaluation
from services.qa.domain.scorecard import Marked
from services.qa.domain.survey import Rule
from shared.db import bulk
from shared.db.types import Document, Id, Moment, Serial
from shared.ids import is_id

metadata = MetaData()

contact = Table(
    "contact",
    metadata,
    Column("id", Id, primary_key=True),
    Column("queue", Text, nullable=False, server_default=""),
    Column("channel", Text, nullable=False, server_default=""),
    Column("agent", Text),
    Column("customer", Text),
    Column("thread", Text),
    Column("matter", Text),
    Column("direction", Text, nullable=False, server_default="inbound"),
    Column("outcome", Text),
    Column("ended_by", Text),
    Column("arrived_at", Moment),
    Column("ended_at", Moment),
    Column("waited_seconds", Float),
    Column("talk_seconds", Float),
    Column("hold_seconds", Float),
    Column("holds", Integer),
    Column("told_holds", Document),
    Column("wrap_up_seconds", Float),
    Column("silence_seconds", Float),
    Column("transferred", Boolean, nullable=False, server_default="0"),
    Column("transfers", Integer, nullable=False, server_default="0"),
    Column("escalations", Integer, nullable=False, server_default="0"),
    Column("answered_inside", Integer, nullable=False, server_default="0"),
    Column("recordings", Integer, nullable=False, server_default="0"),
    Column("turns", Integer, nullable=False, server_default="0"),
    Column("self_service_failed", Boolean, nullable=False, server_default="0"),
    Column("practice", Boolean, nullable=False, server_default="0"),
    Column("supervisor", Text),
    Column("new_staff", Boolean, nullable=False, server_default="0"),
    Column("disposition", Text),
    Column("resolved", Boolean),
    Column("amount", Float),
    Column("currency", Text),
    Column("next_at", Moment),
    Column("is_repeat", Boolean, nullable=False, server_default="0"),
    Column("check_at", Moment),
    Column("routing_sequence", Serial, nullable=False, server_default="0"),
    Column("gateway_sequence", Serial, nullable=False, server_default="0"),
    Column("told_by", Document),
)
"""One row a contact: `agent`, `queue` and `ended_by` of its last leg. `matter`: by which a repeat is known. `amount`: sold; for figures, so a
float. `resolved`: the agent's word. `next_at`: the arrival of the customer's next contact about the same matter; `is_repeat`: it is itself such a
one. `told_holds`: what `holds` and `hold_seconds` are made of (domain.holds). `check_at`: when the automatic checks are due; null: they are not.
`routing_sequence`, `gateway_sequence`: of the newest word of each (routing counts in microseconds). `told_by`: of each
figure what each leg's rightest word (`intake.Word`) told, so that the last leg's counts; null: stored before that was kept."""
Index("contact_ended", contact.c.ended_at)
Index("contact_check", contact.c.check_at, postgresql_where=contact.c.check_at.is_not(None), sqlite_where=contact.c.check_at.is_not(None))
Index("contact_of_customer", contact.c.customer, contact.c.matter, contact.c.arrived_at)
Index("contact_of_agent", contact.c.agent, contact.c.ended_at)

handover = Table(
    "handover",
    metadata,
    Column("contact", Id, primary_key=True),
    Column("leg", Integer, primary_key=True),
    Column("agent", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("target", Text),
    Column("talk_seconds", Float),
    Column("at", Moment, nullable=False),
    Column("passed_on", Boolean, nullable=False, server_default="1"),
    Column("word", Serial, nullable=False, server_default="0"),
)
"""An agent passed the contact on. `passed_on` false: a correction says that they did not. `word`: which one told target and talk_seconds, see `intake.Word`."""
Index("handover_at", handover.c.at)
PASSED_ON = and_(handover.c.passed_on, handover.c.agent != "")

transcript = Table(
    "transcript",
    metadata,
    Column("contact", Id, primary_key=True),
    Column("language", Text, nullable=False),
    Column("turns", Document, nullable=False),
    Column("stored_at", Moment, nullable=False),
)
"""What was said or written; goes when its time is up."""
Index("transcript_stored", transcript.c.stored_at)

opening = Table(
    "opening",
    metadata,
    Column("contact", Id, primary_key=True),
    Column("person", Text, primary_key=True),
    Column("at", Moment, nullable=False),
)
"""Who has opened the contact's thread, and when last."""

looked = Table(
    "looked",
    metadata,
    Column("contact", Id, primary_key=True),
    Column("person", Text, primary_key=True),
    Column("what", Text, primary_key=True),
    Column("at", Moment, nullable=False),
)
"""Who was shown what the customer said of a contact (`answer`), or somebody else's marks of it (`marks`), and when first: it would sway them."""

staff = Table(
    "staff",
    metadata,
    Column("person", Text, primary_key=True),
    Column("team", Text, nullable=False),
    Column("site", Text, nullable=False),
    Column("roles", Document, nullable=False),
    Column("since", Moment, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("sequence", Serial, nullable=False),
)
"""`since`: when the directory first spoke of them, which is how new staff is known."""

permit = Table(
    "permit",
    metadata,
    Column("person", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("supervisor", Text),
    Column("until", Moment),
    Column("certified_at", Moment),
    Column("sequence", Serial, nullable=False),
)
"""What training said last of somebody on a channel: `supervisor` and `until` of a practice permit, or the certificate."""

scorecard = Table(
    "scorecard",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("document", Text, nullable=False),
    Column("criteria", Document, nullable=False),
    Column("note", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("created_by", Text, nullable=False),
)

"""`document`: as it was written; `criteria`: of each the key, section, weight, type and critical class, for those who compute."""

proposal = Table(
    "proposal",
    metadata,
    Column("id", Id, primary_key=True),
    Column("scorecard", Text, nullable=False, index=True),
    Column("version", Integer, nullable=False),
    Column("analysis", Id, nullable=False),
    Column("weights", Document, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("decided_at", Moment),
    Column("decided_by", Text),
    Column("accepted", Boolean),
)
"""Weights that a model proposes; nothing happens until a person decides."""

evaluation = Table(
    "evaluation",
    metadata,
    Column("id", Id, primary_key=True),
    Column("contact", Id, nullable=False),
    Column("agent", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("contact_at", Moment, nullable=False),
    Column("scorecard", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("scorecard_kind", Text, nullable=False),
    Column("kind", Text, nullable=False, server_default="human"),
    Column("evaluator", Text, nullable=False),
    Column("evaluator_role", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("other", Id),
    Column("calibration", Id),
    Column("state", Text, nullable=False),
    Column("blind", Boolean, nullable=False),
    Column("live", Boolean, nullable=False),
    Column("practice", Boolean, nullable=False),
    Column("supervisor", Text),
    Column("method", Text, nullable=False),
    Column("probability", Float),
    Column("note", Text, nullable=False),
    Column("score", Float),
    Column("failed", Document, nullable=False),
    Column("fails_customer", Boolean, nullable=False),
    Column("fails_business", Boolean, nullable=False),
    Column("fails_compliance", Boolean, nullable=False),
    Column("counts", Boolean, nullable=False),
    Column("dispute", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("submitted_at", Moment),
    Column("ended_at", Moment),
    Column("sequence", Integer, nullable=False),
    Column("decided_by", Text),
)
Index("evaluation_of_contact", evaluation.c.contact)
Index("evaluation_of_agent", evaluation.c.agent, evaluation.c.submitted_at)
Index("evaluation_submitted", evaluation.c.submitted_at)
Index("evaluation_of_evaluator", evaluation.c.evaluator, evaluation.c.id)
Index("evaluation_other", evaluation.c.other)
Index("evaluation_calibration", evaluation.c.calibration)

mark = Table(
    "mark",
    metadata,
    Column("evaluation", Id, primary_key=True),
    Column("criterion", Text, primary_key=True),
    Column("answer", Text, nullable=False),
    Column("value", Float),
    Column("missed", Boolean, nullable=False),
    Column("second", Float),
    Column("message", Integer),
    Column("note", Text, nullable=False),
)
"""`answer` as JSON."""

ruleset = Table(
    "ruleset",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("document", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("created_by", Text, nullable=False),
)

automatic = Table(
    "automatic",
    metadata,
    Column("contact", Id, primary_key=True),
    Column("ruleset", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("agent", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("score", Float),
    Column("failed", Document, nullable=False),
    Column("risk", Float, nullable=False),
    Column("reasons", Document, nullable=False),
    Column("results", Document, nullable=False),
    Column("contact_at", Moment, nullable=False),
    Column("checked_at", Moment, nullable=False),
    Column("sequence", Integer, nullable=False),
)
"""What the automatic checks say of a contact, one row for each set of rules; never mixed with what people say.
`risk` and `reasons`: for choosing what to listen to."""
Index("automatic_figures", *(automatic.c[name] for name in ("contact_at", "ruleset", "agent", "queue", "channel", "score")))

sample = Table(
    "sample",
    metadata,
    Column("id", Id, primary_key=True),
    Column("seed", Integer, nullable=False),
    Column("plan", Document, nullable=False),
    Column("strata", Document, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("created_by", Text, nullable=False),
)

sampled = Table(
    "sampled",
    metadata,
    Column("sample", Id, primary_key=True),
    Column("contact", Id, primary_key=True),
    Column("method", Text, primary_key=True),
    Column("agent", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("stratum", Text, nullable=False),
    Column("probability", Float),
    Column("risk", Float),
    Column("reasons", Document, nullable=False),
    Column("evaluator", Text),
    Column("evaluation", Id),
)
Index("sampled_contact", sampled.c.contact)

survey = Table(
    "survey",
    metadata,
    Column("id", Id, primary_key=True),
    Column("contact", Id, nullable=False, unique=True),
    Column("customer", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("contact_at", Moment, nullable=False),
    Column("ask_at", Moment),
    Column("sent_at", Moment),
    Column("answer_until", Moment),
    Column("answered_at", Moment),
    Column("csat", Integer),
    Column("resolved", Boolean),
    Column("text", Text),
    Column("late", Boolean, nullable=False, server_default="0"),
)
"""`ask_at`: when it is due; null once sent. `sent_at` null: nobody asked, the answer came by itself. `text` is what a customer wrote. `late`: answered
after `answer_until`: kept, and in no figure."""
Index("survey_due", survey.c.ask_at, postgresql_where=survey.c.ask_at.is_not(None), sqlite_where=survey.c.ask_at.is_not(None))
Index("survey_of_customer", survey.c.customer, survey.c.sent_at)
Index("survey_contact_at", survey.c.contact_at)

survey_rule = Table(
    "survey_rule",
    metadata,
    Column("queue", Text, primary_key=True),
    Column("enabled", Boolean, nullable=False),
    Column("share", Float, nullable=False),
    Column("fatigue_days", Float, nullable=False),
    Column("delay_seconds", Float, nullable=False),
    Column("answer_days", Float, nullable=False),
    Column("channels", Document, nullable=False),
)

calibration = Table(
    "calibration",
    metadata,
    Column("id", Id, primary_key=True),
    Column("title", Text, nullable=False),
    Column("scorecard", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("contacts", Document, nullable=False),
    Column("evaluators", Document, nullable=False),
    Column("leader", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("closed_at", Moment),
    Column("analysis", Id),
)

finding = Table(
    "finding",
    metadata,
    Column("id", Id, primary_key=True),
    Column("contact", Id, nullable=False),
    Column("evaluation", Id),
    Column("agent", Text),
    Column("queue", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("scorecard", Text, nullable=False),
    Column("scorecard_version", Integer, nullable=False),
    Column("section", Text, nullable=False),
    Column("criterion", Text, nullable=False),
    Column("title", Document, nullable=False),
    Column("critical", Text),
    Column("cause", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("owners", Document),
    Column("action", Text, nullable=False),
    Column("due_at", Moment, nullable=False),
    Column("check", Document, nullable=False),
    Column("module", Text),
    Column("state", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("planned_at", Moment, nullable=False),
    Column("closed_at", Moment),
    Column("evidence", Document),
    Column("sequence", Integer, nullable=False),
)
"""A finding and its plan: neither is without the other. `planned_at`: from when on evidence counts. `owners`: who owned the plan before; null: nobody."""
Index(
    "finding_open", finding.c.criterion, finding.c.agent, postgresql_where=finding.c.state == "open", sqlite_where=finding.c.state == "open"
)
Index("finding_of_agent", finding.c.agent, finding.c.id)

flag = Table(
    "flag",
    metadata,
    Column("id", Id, primary_key=True),
    Column("analysis", Id, nullable=False),
    Column("agent", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("measure", Text, nullable=False),
    Column("figures", Document, nullable=False),
    Column("contacts", Document, nullable=False),
    Column("from_at", Moment, nullable=False),
    Column("to_at", Moment, nullable=False),
    Column("state", Text, nullable=False),
    Column("heard", Document),
    Column("created_at", Moment, nullable=False),
    Column("closed_at", Moment),
)
"""A reason to listen. `heard`: what whoever listened found, by whom."""
Index("flag_of", flag.c.agent, flag.c.measure, flag.c.state)

analysis = Table(
    "analysis",
    metadata,
    Column("id", Id, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("parameters", Document, nullable=False),
    Column("state", Text, nullable=False),
    Column("step", Text, nullable=False),
    Column("progress", Float, nullable=False),
    Column("beat_at", Moment),
    Column("requested_by", Text, nullable=False),
    Column("requested_at", Moment, nullable=False),
    Column("started_at", Moment),
    Column("finished_at", Moment),
    Column("error", Text),
    Column("result", Document),
)
"""Statistics that take their time: asked for, run by a process of their own, and kept. `progress`: from 0 to 1; `subject`: the scorecard."""
Index("analysis_newest", analysis.c.kind, analysis.c.subject, analysis.c.id)

Row = dict[str, Any]


# ---- anything by its id


def find(connection: Connection, table: Table, id: str, *, lock: bool = False) -> Row | None:
    if not is_id(id):
        return None
    query = select(table).where(table.primary_key.columns.values()[0] == id)
    row = connection.execute(query.with_for_update() if lock else query).mappings().first()
    return plain(row) if row else None


def plain(row: Mapping[Any, Any]) -> Row:
    return {str(name): value for name, value in row.items()}


def add(connection: Connection, table: Table, row: Mapping[str, Any]) -> None:
    connection.execute(insert(table).values(**row))


def change(connection: Connection, table: Table, id: str, **values: Any) -> None:
    connection.execute(update(table).where(table.primary_key.columns.values()[0] == id).values(**values))


def page(connection: Connection, table: Table, after: str, limit: int, *wanted: Any) -> list[Row]:
    """The newest first; `after`: the id of the last of the page before."""
    query = select(table).where(*wanted).order_by(table.c.id.desc()).limit(limit)
    if after and is_id(after):
        query = query.where(table.c.id < after)
    return [plain(row) for row in connection.execute(query).mappings()]


# ---- contacts


def contacts(connection: Connection, ids: Iterable[str], *, lock: bool = False) -> dict[str, Row]:
    wanted = sorted({id for id in ids if is_id(id)})
    query = select(contact).where(contact.c.id.in_(wanted)).order_by(contact.c.id)
    return {row["id"]: plain(row) for row in connection.execute(query.with_for_update() if lock else query).mappings()}


def known_until(connection: Connection, now: float) -> float | None:
    """The newest end of a contact that was heard of (epoch seconds): what customers did later is not known yet. A source whose clock runs ahead
    makes nothing known."""
    found: float | None = connection.scalar(select(func.max(contact.c.ended_at)).where(contact.c.ended_at <= now))
    return found


CONTACT_COLUMNS = bulk.columns_of(contact)


def save_contacts(connection: Connection, rows: Sequence[Row]) -> None:
    changing = [name for name in CONTACT_COLUMNS if name != "id"]
    bulk.insert(connection, contact, rows, columns=CONTACT_COLUMNS, key=("id",), update=changing)


EMPTY_CONTACT: Row = {
    **dict.fromkeys(CONTACT_COLUMNS),
    "queue": "", "channel": "", "direction": "inbound", "transfers": 0, "transferred": False, "is_repeat": False, "escalations": 0, "answered_inside": 0, "recordings": 0, "turns": 0,
    "self_service_failed": False, "practice": False, "new_staff": False, "routing_sequence": 0, "gateway_sequence": 0, "told_by": {},
}  # fmt: skip


def note_repeats(connection: Connection, rows: Sequence[Row]) -> None:
    """The contact before, of the same customer about the same matter, learns when the next arrived, and this one whether it is a repeat and
    what came after it: in whatever order they are told. How long after is still the same is the report's to ask."""
    table = contact
    for row in sorted(
        (row for row in rows if row["customer"] and row["matter"] and row["arrived_at"] is not None), key=lambda row: row["id"]
    ):
        of = (
            table.c.customer == row["customer"],
            table.c.matter == row["matter"],
            table.c.id != row["id"],
            table.c.arrived_at.is_not(None),
            or_(table.c.outcome.is_(None), table.c.outcome != "void"),
        )
        earlier = select(table.c.id).where(*of, table.c.arrived_at <= row["arrived_at"])
        before = connection.scalar(earlier.order_by(table.c.arrived_at.desc(), table.c.id.desc()).limit(1))
        after = connection.execute(
            select(table.c.id, table.c.arrived_at).where(*of, table.c.arrived_at > row["arrived_at"]).order_by(table.c.arrived_at).limit(1)
        ).first()
        if before:
            connection.execute(update(table).where(table.c.id == before).values(next_at=row["arrived_at"]))
        if after:
            connection.execute(update(table).where(table.c.id == after.id).values(is_repeat=True))
        found = {"is_repeat": before is not None, "next_at": after.arrived_at if after else None}
        connection.execute(update(table).where(table.c.id == row["id"]).values(**found))


def forget_repeat(connection: Connection, void: Row) -> None:
    """A contact that was none is nobody's repeat: those before and after it stand next to each other again."""
    if not void["customer"] or not void["matter"] or void["arrived_at"] is None:
        return
    of = select(contact).where(contact.c.customer == void["customer"], contact.c.matter == void["matter"], contact.c.id != void["id"])
    of = of.where(contact.c.outcome.is_not(None), contact.c.outcome != "void")
    before = of.where(contact.c.arrived_at <= void["arrived_at"]).order_by(contact.c.arrived_at.desc(), contact.c.id.desc()).limit(1)
    after = of.where(contact.c.arrived_at > void["arrived_at"]).order_by(contact.c.arrived_at, contact.c.id).limit(1)
    note_repeats(connection, [plain(row) for query in (before, after) for row in connection.execute(query).mappings()])


# ---- evaluations

EVALUATION_FIELDS = tuple(one.name for one in fields(Evaluation) if one.name not in ("marks", "failed"))


def evaluation_of(row: Row, marks: Sequence[Row] = ()) -> Evaluation:
    values = {name: row[name] for name in EVALUATION_FIELDS}
    values |= {name: bool(row[name]) for name in ("blind", "live", "counts")}
    made = [
        Marked(one["criterion"], answer_of(one["answer"]), one["second"], one["message"], one["note"])
        for one in marks
    ]  # fmt: skip
    return Evaluation(**values, failed=tuple(row["failed"]), marks=made)


def answer_of(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def marks_of(connection: Connection, ids: Sequence[str]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {id: [] for id in ids}
    query = select(mark).where(mark.c.evaluation.in_(list(ids)))
    for row in connection.execute(query).mappings():
        found[row["evaluation"]].append(plain(row))
    return found


def save_evaluation(
    connection: Connection, one: Evaluation, values: Mapping[str, float | None], missed: Iterable[str], **more: Any
) -> None:
    """The row as it is now, and its marks in place of those before."""
    row = {name: getattr(one, name) for name in EVALUATION_FIELDS if name != "id"}
    row |= {"failed": list(one.failed), **{f"fails_{kind}": kind in one.failed for kind in ("customer", "business", "compliance")}, **more}
    connection.execute(update(evaluation).where(evaluation.c.id == one.id).values(**row))
    connection.execute(delete(mark).where(mark.c.evaluation == one.id))
    missed = set(missed)
    rows = [
        {"evaluation": one.id, **asdict(made), "answer": f"{made.answer:.15g}" if isinstance(made.answer, float) else made.answer,
         "value": values.get(made.criterion), "missed": made.criterion in missed}
        for made in one.marks
    ]  # fmt: skip
    bulk.insert(connection, mark, rows, columns=bulk.columns_of(mark))


# ---- what is kept in versions


def newest(connection: Connection, table: Table, name: str, version: int | None = None) -> Row | None:
    """Of scorecards or sets of rules: the version, or the one in force."""
    query = select(table).where(table.c.name == name).order_by(table.c.version.desc()).limit(1)
    if version is not None:
        query = query.where(table.c.version == version)
    row = connection.execute(query).mappings().first()
    return plain(row) if row else None


def all_newest(connection: Connection, table: Table) -> list[Row]:
    latest = select(table.c.name, func.max(table.c.version).label("version")).group_by(table.c.name).subquery()
    query = select(table).join(latest, (latest.c.name == table.c.name) & (latest.c.version == table.c.version)).order_by(table.c.name)
    return [plain(row) for row in connection.execute(query).mappings()]


# ---- surveys


def rule_for(connection: Connection, queue: str) -> Rule:
    """The queue's own rule, else the default one."""
    rows = {
        row["queue"]: row for row in connection.execute(select(survey_rule).where(survey_rule.c.queue.in_((queue, "default")))).mappings()
    }
    row = rows.get(queue) or rows.get("default")
    return as_rule(row) if row else Rule()


def as_rule(row: Mapping[Any, Any]) -> Rule:
    return Rule(**{**plain(row), "enabled": bool(row["enabled"]), "channels": tuple(row["channels"])})


def sent_at(connection: Connection, customers: Iterable[str], *, planned: bool = True) -> dict[str, float]:
    """When each was asked last, or (`planned`) is to be."""
    when = func.max(func.coalesce(survey.c.sent_at, survey.c.ask_at) if planned else survey.c.sent_at)
    query = select(survey.c.customer, when).where(survey.c.customer.in_(sorted(set(customers)))).group_by(survey.c.customer)
    return {row[0]: row[1] for row in connection.execute(query) if row[1] is not None}


def place_answers(connection: Connection, rows: Iterable[Row]) -> None:
    """An answer may be told before its contact's end: then it was nobody's until now."""
    for row in rows:
        told = {name: row[name] or "" for name in ("agent", "queue", "channel", "customer")} | {"contact_at": row["ended_at"]}
        connection.execute(update(survey).where(survey.c.contact == row["id"], survey.c.agent == "").values(**told))


def due_surveys(connection: Connection, now: float, most: int) -> list[Row]:
    """For this transaction alone; what another process works at is left to it."""
    query = select(survey).where(survey.c.ask_at <= now).order_by(survey.c.ask_at).limit(most).with_for_update(skip_locked=True)
    return [plain(row) for row in connection.execute(query).mappings()]
