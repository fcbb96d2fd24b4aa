"""What looks at many contacts at once: samples, automatic checks, calibrations, and the analyses that take their time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, func, or_, select, update

from services.qa import handlers, scorecards, store
from services.qa.domain import checks, sampling
from services.qa.domain.checks import Rules, Turn
from services.qa.domain.sampling import Candidate, Risk
from services.qa.handlers import DAY, Row, Viewer, refusals, shown
from services.qa.library import load as load_library
from shared import clock, errors
from shared.bus.envelope import Event
from shared.bus.outbox import UnitOfWork, Work
from shared.db import bulk
from shared.ids import is_id, new_id

READY_RULES = "ready"
CHECK_AT_ONCE = 40
LARGEST_FRAME = 200_000
"""Contacts, all of which are read to draw some: what is more would keep everybody else waiting."""
GAMING_DAYS = 28.0
LONGEST_ANALYSIS_DAYS = 731.0
RISKY_TRANSFERS = 2
RISK_OF = {"repeated": 0.6, "handed_on": 0.4, "self_service_failed": 0.3, "asked_inside": 0.2}
"""Beside what the automatic checks found: why a contact is worth listening to, and how much."""

Aside = Callable[..., Any]
"""Carries out heavy work while everybody else goes on."""


# ---- sampling


def draw_sample(units: UnitOfWork, told: Mapping[str, Any], by: str, viewer: Viewer, aside: Aside) -> Row:
    """Choose contacts to evaluate: by chance within strata, each with its probability, and beside them by risk. The same seed and frame give
    the same sample. `told`: scorecard, from, to, size, risk_size, seed, queues, channels, evaluators, due_days."""
    with units.database.reading() as connection:
        card = handlers.card_of(connection, told["scorecard"])
        if (size := connection.scalar(select(func.count()).select_from(store.contact).where(*_wanted(told, viewer))) or 0) > LARGEST_FRAME:
            raise errors.Invalid(
                f"{size} contacts are more than a sample is drawn from at once ({LARGEST_FRAME}): narrow the time, queues or channels"
            )
        frame = _frame(connection, told, viewer)
        risky = _risky(connection, told, viewer) if told["risk_size"] else []
    if not frame:
        raise errors.Conflict("no contact that an agent had ended in that time, in those queues and channels")
    seed = told["seed"]
    drawn = aside(sampling.draw, [one for one, _ in frame], told["size"], seed)
    by_chance = {one.id for one in drawn}
    chosen = sampling.by_risk(risky, told["risk_size"], by_chance)
    contacts = {one.id: one for one, _ in frame}
    now, id = clock.now(), new_id()
    rows = [_sampled(id, contacts[one.id], "stratified", one.stratum, one.probability) for one in drawn]
    rows += [_sampled(id, contacts[one.id], "risk", "", None, one) for one in chosen if one.id in contacts]
    for turn, row in enumerate(sorted(rows, key=lambda row: row["contact"])):
        able = [name for name in told["evaluators"] if name != row["agent"]]
        row["evaluator"] = able[turn % len(able)] if able else None
    strata: dict[str, list[float]] = {}
    for one in drawn:
        strata.setdefault(one.stratum, []).append(one.probability)
    told_strata = [{"stratum": name, "drawn": len(all), "probability": min(all)} for name, all in sorted(strata.items())]
    plan = {name: value for name, value in told.items() if name != "seed"} | {"frame": len(frame)}
    with units() as work:
        sample = {"id": id, "seed": seed, "plan": plan, "strata": told_strata, "created_at": now, "created_by": by}
        store.add(work.connection, store.sample, sample)
        bulk.insert(work.connection, store.sampled, rows, columns=bulk.columns_of(store.sampled))
        for row in rows:
            names = ("contact", "agent", "queue", "channel", "method", "stratum", "probability", "reasons", "evaluator")
            data = {
                "sample": id, **{name: row[name] for name in names}, "scorecard": card.name, "due_at": now + told["due_days"] * DAY,
                "people": [row["evaluator"]] if row["evaluator"] else [], "at": now,
            }  # fmt: skip
            work.announce(Event("qa.contact_sampled.v1", row["contact"], data, now, int(now * 1000)))
    with units.database.reading() as connection:
        return get_sample(connection, id, viewer)


def _sampled(sample: str, one: Candidate, method: str, stratum: str, probability: float | None, risk: Risk | None = None) -> Row:
    return {
        "sample": sample, "contact": one.id, "method": method, "agent": one.agent, "queue": one.queue, "channel": one.channel, "stratum": stratum,
        "probability": probability, "risk": risk.score if risk else None, "reasons": list(risk.reasons) if risk else [], "evaluator": None,
        "evaluation": None,
    }  # fmt: skip


def _wanted(told: Mapping[str, Any], viewer: Viewer) -> list[Any]:
    table = store.contact
    wanted = [table.c.ended_at >= told["from"], table.c.ended_at < told["to"], table.c.agent.is_not(None), table.c.outcome == "completed"]
    if viewer.queues is not None:
        wanted.append(table.c.queue.in_(viewer.queues))
    return wanted + [table.c[column].in_(told[name]) for name, column in (("queues", "queue"), ("channels", "channel")) if told.get(name)]


def _frame(connection: Connection, told: Mapping[str, Any], viewer: Viewer) -> list[tuple[Candidate, float]]:
    table = store.contact
    query = select(table.c.id, table.c.agent, table.c.channel, table.c.queue, table.c.new_staff, table.c.ended_at).where(
        *_wanted(told, viewer)
    )
    rows = connection.execute(query.order_by(table.c.id))
    return [(Candidate(row.id, row.agent, row.channel, row.queue, bool(row.new_staff)), row.ended_at) for row in rows]


def _risky(connection: Connection, told: Mapping[str, Any], viewer: Viewer) -> list[Risk]:
    table, automatic = store.contact, store.automatic
    query = (
        select(
            table.c.id,
            table.c.transfers,
            table.c.self_service_failed,
            table.c.next_at,
            table.c.escalations,
            automatic.c.risk,
            automatic.c.reasons,
        )
        .outerjoin(automatic, automatic.c.contact == table.c.id)
        .where(*_wanted(told, viewer))
    )
    found: dict[str, Risk] = {}
    for row in connection.execute(query):
        marks = {
            "repeated": row.next_at is not None,
            "handed_on": row.transfers >= RISKY_TRANSFERS,
            "self_service_failed": bool(row.self_service_failed),
            "asked_inside": row.escalations > 0,
        }
        reasons = [name for name, holds in marks.items() if holds]
        score = sum(RISK_OF[name] for name in reasons) + (row.risk or 0.0)
        known = found.get(row.id)
        if known:
            found[row.id] = Risk(row.id, tuple(dict.fromkeys((*known.reasons, *(row.reasons or ())))), known.score + (row.risk or 0.0))
        elif score > 0:
            found[row.id] = Risk(row.id, (*reasons, *(row.reasons or ())), score)
    return list(found.values())


def get_sample(connection: Connection, id: str, viewer: Viewer) -> Row:
    row = store.find(connection, store.sample, id)
    if row is None:
        raise errors.NotFound(f"there is no sample {id}")
    table = store.sampled
    query = select(table).where(table.c.sample == id).order_by(table.c.method.desc(), table.c.contact)
    if viewer.queues is not None:
        query = query.where(table.c.queue.in_(viewer.queues))
    contacts = [store.plain(one) for one in connection.execute(query).mappings()]
    row["strata"] = [told for told in row["strata"] if told["stratum"] in {one["stratum"] for one in contacts}]
    return {**shown(row), "contacts": [{name: value for name, value in one.items() if name != "sample"} for one in contacts]}


def to_do(connection: Connection, evaluator: str, after: str, limit: int, viewer: Viewer) -> Row:
    """Contacts that were chosen for somebody and that they have not begun to evaluate; risk's reasons are left out, so that nothing sways them. A page has
    so many contacts, each with all scorecards that it was drawn for."""
    table = store.sampled
    wanted = [table.c.evaluator == evaluator, table.c.evaluation.is_(None)]
    if after and is_id(after):
        wanted.append(table.c.contact > after)
    if viewer.queues is not None:
        wanted.append(table.c.queue.in_(viewer.queues))
    contacts = list(connection.scalars(select(table.c.contact).where(*wanted).distinct().order_by(table.c.contact).limit(limit)))
    query = select(table, store.sample.c.plan).join(store.sample, store.sample.c.id == table.c.sample)
    query = query.where(*wanted, table.c.contact.in_(contacts)).order_by(table.c.contact, table.c.sample)
    rows = [store.plain(row) for row in connection.execute(query).mappings()]
    names = ("sample", "contact", "agent", "queue", "channel")
    once = {(row["contact"], row["plan"]["scorecard"]): row for row in reversed(rows)}  # two samples may have drawn it
    items = [{**{name: row[name] for name in names}, "scorecard": row["plan"]["scorecard"]} for row in reversed(once.values())]
    return {"items": items, "next": contacts[-1] if len(contacts) == limit else None}


# ---- automatic checks


def install_rules(units: UnitOfWork) -> None:
    """The rules that come with the product, where there are none of that name."""
    with suppress(errors.Conflict), units() as work:  # another process that starts now has just done it
        if store.newest(work.connection, store.ruleset, READY_RULES) is None:
            _save_rules(work.connection, READY_RULES, "library: ['*']\n", "answerline")


def put_rules(units: UnitOfWork, name: str, document: str, by: str) -> Row:
    with units() as work, refusals():
        return _shown_rules(_save_rules(work.connection, name, document, by))


def _save_rules(connection: Connection, name: str, document: str, by: str) -> Row:
    known = store.newest(connection, store.ruleset, name)
    if known and known["document"] == document:
        return known
    read_rules(document)
    row = {
        "name": name, "version": known["version"] + 1 if known else 1, "document": document, "created_at": clock.now(), "created_by": by,
    }  # fmt: skip
    columns = bulk.columns_of(store.ruleset)
    if not bulk.insert(connection, store.ruleset, [row], columns=columns, key=("name", "version"), returning=("name",)):
        raise errors.Conflict(f"somebody else has just written version {row['version']} of {name}: look at it, and send yours again")
    return row


def read_rules(text: str, *, accepted: bool = False) -> tuple[dict[str, Any], Rules]:
    """A set of rules as written: `library`, names of ready rules or ['*'] for all; `rules`, one's own; `queues` and `channels` that they are
    for. Raises Invalid. `accepted`: as in `scorecards.compile`."""
    document = scorecards.load(text)
    known = {"library": list, "rules": list, "queues": list, "channels": list}
    if not isinstance(document, dict) or not document or not (document.keys() <= known.keys()):
        raise errors.Invalid(f"a set of rules has {', '.join(known)}")
    if wrong := [name for name, value in document.items() if not isinstance(value, list)]:
        raise errors.Invalid(f"{wrong[0]} is a list", errors={wrong[0]: ["Write a list."]})
    ready = {one["name"]: one for one in load_library()}
    wanted = document.get("library", [])
    if unknown := [str(name) for name in wanted if name != "*" and name not in ready]:
        raise errors.Invalid(f"no ready rule is called {', '.join(unknown)}", ready=sorted(ready))
    chosen = list(ready.values()) if "*" in wanted else [ready[name] for name in wanted]
    with refusals():
        return document, checks.compile_rules([*chosen, *document.get("rules", [])], accepted=accepted)


def get_rules(connection: Connection, name: str) -> Row:
    row = store.newest(connection, store.ruleset, name)
    if row is None:
        raise errors.NotFound(f"there is no set of rules {name}")
    return _shown_rules(row)


def list_rules(connection: Connection) -> Row:
    items = [shown(row, "document") for row in store.all_newest(connection, store.ruleset)]
    return {"items": items, "ready": [{"name": one["name"], "title": one["title"]} for one in load_library()]}


def _shown_rules(row: Row) -> Row:
    document, _ = read_rules(row["document"], accepted=True)
    return {
        **shown(row),
        "queues": document.get("queues", []),
        "channels": document.get("channels", []),
        "library": document.get("library", []),
    }


class Checker:
    """The rules in force, compiled once for each version of theirs."""

    def __init__(self) -> None:
        self._compiled: dict[tuple[str, int], tuple[dict[str, Any], Rules]] = {}

    def sets(self, connection: Connection) -> list[tuple[Row, dict[str, Any], Rules]]:
        found = []
        for row in store.all_newest(connection, store.ruleset):
            key = row["name"], row["version"]
            if key not in self._compiled:
                self._compiled = {known: value for known, value in self._compiled.items() if known[0] != row["name"]}
                self._compiled[key] = read_rules(row["document"], accepted=True)
            found.append((row, *self._compiled[key]))
        return found


def check_due(units: UnitOfWork, checker: Checker, aside: Aside) -> int:
    """Check contacts that are due, by all sets of rules that are for them. Returns how many contacts were looked at."""
    table, now = store.contact, clock.now()
    with units.database.reading() as connection:
        query = select(table).where(table.c.check_at <= now).order_by(table.c.check_at).limit(CHECK_AT_ONCE)
        contacts = [store.plain(row) for row in connection.execute(query).mappings()]
        if not contacts:
            return 0
        query = select(store.transcript).where(store.transcript.c.contact.in_([row["id"] for row in contacts if row["turns"]]))
        transcripts = {row["contact"]: store.plain(row) for row in connection.execute(query).mappings()}
        sets = checker.sets(connection)
    judged = aside(_check_all, contacts, transcripts, sets)
    with units() as work:
        known = _sequences(work.connection, [row["id"] for row in contacts])
        for row in judged:
            row["sequence"] = known.get((row["contact"], row["ruleset"]), 0) + 1
        columns = bulk.columns_of(store.automatic)
        bulk.insert(work.connection, store.automatic, judged, columns=columns, key=("contact", "ruleset"), update=columns[2:])
        by_id = {row["id"]: row for row in contacts}
        for row in judged:
            _announce_check(work, by_id[row["contact"]], row)
        for one in contacts:
            done = update(table).where(table.c.id == one["id"], table.c.check_at == one["check_at"]).values(check_at=None)
            work.connection.execute(done)
    return len(contacts)


def _sequences(connection: Connection, contacts: Sequence[str]) -> dict[tuple[str, str], int]:
    table = store.automatic
    query = select(table.c.contact, table.c.ruleset, table.c.sequence).where(table.c.contact.in_(list(contacts)))
    return {(row.contact, row.ruleset): row.sequence for row in connection.execute(query)}


FACTS = (
    "waited_seconds", "talk_seconds", "hold_seconds", "holds", "transfers", "silence_seconds", "ended_by", "channel", "queue", "disposition",
    "matter", "self_service_failed",
)  # fmt: skip


def facts_of(contact: Row, transcript: Row | None) -> Row:
    facts = {name: contact[name] for name in FACTS} | {"language": transcript["language"] if transcript else None}
    return facts | {"self_service_failed": bool(contact["self_service_failed"])}


def turns_of(transcript: Row) -> list[Turn]:
    return [Turn(one["speaker"], one["text"], one.get("start"), one.get("end"), one.get("action")) for one in transcript["turns"]]


def _check_all(contacts: Sequence[Row], transcripts: Mapping[str, Row], sets: Sequence[tuple[Row, dict[str, Any], Rules]]) -> list[Row]:
    judged = []
    for contact in contacts:
        transcript = transcripts.get(contact["id"])
        facts, turns = facts_of(contact, transcript), turns_of(transcript) if transcript else None
        for row, document, rules in sets:
            if document.get("queues") and contact["queue"] not in document["queues"]:
                continue
            if document.get("channels") and contact["channel"] not in document["channels"]:
                continue
            results = rules.check(facts, turns)
            failing = [one for one in results if one.passed is False]
            judged.append(
                {
                    "contact": contact["id"], "ruleset": row["name"], "version": row["version"], "agent": contact["agent"] or "",
                    "queue": contact["queue"], "channel": contact["channel"], "score": checks.score(results, rules),
                    "failed": sorted({one.critical for one in failing if one.critical}), "risk": sum(rules.risk_of(one.rule) for one in failing),
                    "reasons": [one.rule for one in failing], "results": [asdict(one) for one in results], "checked_at": clock.now(),
                    "contact_at": contact["ended_at"] or clock.now(),
                }
            )  # fmt: skip
    return judged


def _announce_check(work: Work, contact: Row, row: Row) -> None:
    if row["score"] is None or not contact["agent"]:
        return
    marks = [
        {
            "criterion": one["rule"], "section": row["ruleset"], "answer": "yes" if one["passed"] else "no", "value": float(one["passed"]),
            "weight": 1.0, "critical": one["critical"], "second": one["second"], "message": one["turn"],
        }
        for one in row["results"]
        if one["passed"] is not None
    ]  # fmt: skip
    id, now = f"{row['contact']} by {row['ruleset']}", clock.now()
    data = {
        "evaluation": id, "stage": "submitted", "contact": row["contact"], "agent": row["agent"], "queue": row["queue"], "channel": row["channel"],
        "contact_at": contact["ended_at"], "practice": bool(contact["practice"]), "supervisor": contact["supervisor"], "purpose": "quality",
        "counts": True, "scorecard": row["ruleset"], "scorecard_version": row["version"], "scorecard_kind": "internal", "kind": "automatic",
        "evaluator": None, "evaluator_role": None, "blind": False, "score": row["score"], "failed_classes": row["failed"], "marks": marks,
        "sampled": "chosen", "probability": None, "people": [row["agent"]], "at": now,
    }  # fmt: skip
    work.announce(Event("qa.evaluation_submitted.v1", id, data, now, row["sequence"]))


# ---- calibrations


def open_calibration(units: UnitOfWork, told: Mapping[str, Any], by: str, viewer: Viewer) -> Row:
    """Several evaluators score the same contacts, none seeing another's marks until it is closed. `told`: title, scorecard, contacts, evaluators."""
    with units() as work, refusals():
        connection = work.connection
        card = handlers.card_of(connection, told["scorecard"])
        contacts = [handlers.evaluable(connection, id, viewer) for id in dict.fromkeys(told["contacts"])]
        evaluators = list(dict.fromkeys(told["evaluators"]))
        if len(evaluators) < 2:
            raise errors.Invalid("a calibration needs two evaluators or more")
        if beside := [row["agent"] for row in contacts if row["agent"] in evaluators]:
            raise errors.Invalid(f"nobody evaluates their own contact: {', '.join(sorted(set(beside)))}")
        row = {
            "id": new_id(), "title": told["title"], "scorecard": card.name, "version": card.version, "contacts": [one["id"] for one in contacts],
            "evaluators": evaluators, "leader": by, "state": "open", "created_at": clock.now(), "closed_at": None, "analysis": None,
        }  # fmt: skip
        store.add(connection, store.calibration, row)
        for contact in contacts:
            for evaluator in evaluators:
                handlers.begin(connection, contact, contact["agent"], card, evaluator, "", "calibration", blind=True, calibration=row["id"])
        return _shown_calibration(connection, row)


def close_calibration(units: UnitOfWork, id: str, by: str, viewer: Viewer) -> Row:
    """Marks become visible to those who took part, and agreement is computed. What was not submitted by now is dropped."""
    with units() as work:
        row = store.find(work.connection, store.calibration, id, lock=True)
        if row is None or not _sees_calibration(work.connection, row, viewer):
            raise errors.NotFound(f"there is no calibration {id}")
        if row["state"] == "closed":
            raise errors.Conflict("it is closed already")
        table = store.evaluation
        done = select(func.count(table.c.evaluator.distinct())).where(table.c.calibration == id, table.c.submitted_at.is_not(None))
        if (work.connection.scalar(done) or 0) < 2:
            raise errors.Conflict("fewer than two evaluators have submitted anything: there is nothing to compare yet")
        unfinished = select(table.c.id).where(table.c.calibration == id, table.c.state == "draft").order_by(table.c.id)
        drafts = list(work.connection.scalars(unfinished.with_for_update()))  # one that is being submitted now stays
        work.connection.execute(store.mark.delete().where(store.mark.c.evaluation.in_(drafts)))
        work.connection.execute(table.delete().where(table.c.id.in_(drafts)))
        asked = {"scorecard": row["scorecard"], "version": row["version"], "session": id, "from": 0.0, "to": clock.now()}
        analysis = _ask(work, "calibration", asked, by)
        row |= {"state": "closed", "closed_at": clock.now(), "analysis": analysis["id"]}
        store.change(work.connection, store.calibration, id, state="closed", closed_at=row["closed_at"], analysis=analysis["id"])
        return _shown_calibration(work.connection, row)


def get_calibration(connection: Connection, id: str, viewer: Viewer) -> Row:
    row = store.find(connection, store.calibration, id)
    if row is None or not _sees_calibration(connection, row, viewer):
        raise errors.NotFound(f"there is no calibration {id}")
    return _shown_calibration(connection, row)


def list_calibrations(connection: Connection, after: str, limit: int, viewer: Viewer) -> Row:
    rows = store.page(connection, store.calibration, after, limit)
    seen = [row for row in rows if _sees_calibration(connection, row, viewer)]
    return {"items": [_shown_calibration(connection, row) for row in seen], "next": rows[-1]["id"] if len(rows) == limit else None}


def _sees_calibration(connection: Connection, row: Row, viewer: Viewer) -> bool:
    """It says how each evaluator differs from the others: for those who take part, and for leads who see one of its contacts."""
    if viewer.person and viewer.person in (row["leader"], *row["evaluators"]):
        return True
    if not viewer.leads or viewer.queues is None:
        return viewer.leads
    table = store.contact
    query = select(func.count()).where(table.c.id.in_(row["contacts"]), table.c.queue.in_(viewer.queues))
    return bool(connection.scalar(query))


def _shown_calibration(connection: Connection, row: Row) -> Row:
    table = store.evaluation
    query = select(table.c.evaluator, func.count(table.c.submitted_at)).where(table.c.calibration == row["id"]).group_by(table.c.evaluator)
    submitted = {row[0]: row[1] for row in connection.execute(query)}
    found = store.find(connection, store.analysis, row["analysis"]) if row["analysis"] else None
    return {
        **shown(row),
        "submitted": {name: submitted.get(name, 0) for name in row["evaluators"]},
        "agreement": shown(found, "parameters") if found else None,
    }


# ---- analyses


def ask_analysis(units: UnitOfWork, told: Mapping[str, Any], by: str) -> Row:
    """Ask for validity, calibration (the agreement of evaluators) or gaming over a time; it runs in a process of its own."""
    if told["to"] - told["from"] > LONGEST_ANALYSIS_DAYS * DAY or told["from"] >= told["to"]:
        raise errors.Invalid(f"from must be before to, by at most {LONGEST_ANALYSIS_DAYS:g} days")
    with units() as work:
        if told["kind"] != "gaming":
            if not told.get("scorecard"):
                raise errors.Invalid("say which scorecard", errors={"scorecard": ["It is missing."]})
            handlers.card_of(work.connection, told["scorecard"])
        parameters = {name: value for name, value in told.items() if name != "kind" and value is not None}
        return shown(_ask(work, told["kind"], parameters, by))


def _ask(work: Work, kind: str, parameters: Mapping[str, Any], by: str) -> Row:
    row = {
        "id": new_id(), "kind": kind, "subject": parameters.get("scorecard") or "", "parameters": dict(parameters), "state": "queued", "step": "",
        "progress": 0.0, "beat_at": None, "requested_by": by, "requested_at": clock.now(), "started_at": None, "finished_at": None, "error": None,
        "result": None,
    }  # fmt: skip
    store.add(work.connection, store.analysis, row)
    return row


def get_analysis(connection: Connection, id: str, viewer: Viewer) -> Row:
    """Gaming names people: only to those who may see the flags, and of the queues in their sight."""
    row = store.find(connection, store.analysis, id)
    if row is None or not _sees_analysis(connection, row, viewer):
        raise errors.NotFound(f"there is no analysis {id}")
    if row["kind"] == "gaming" and viewer.queues is not None and row["result"]:
        result = row["result"]
        row["result"] = result | {name: [one for one in result[name] if viewer.sees(one["queue"])] for name in ("groups", "flags")}
    return shown(row)


def _sees_analysis(connection: Connection, row: Row, viewer: Viewer) -> bool:
    """Validity names nobody. A calibration's is for those who see the session; one over all sessions for leads who see every queue."""
    if row["kind"] != "calibration":
        return viewer.leads or bool(row["kind"] == "validity")
    session = store.find(connection, store.calibration, row["parameters"].get("session") or "")
    return _sees_calibration(connection, session, viewer) if session else viewer.leads and viewer.queues is None


def list_analyses(connection: Connection, kind: str, subject: str, after: str, limit: int, viewer: Viewer) -> Row:
    table = store.analysis
    wanted = [table.c[name] == value for name, value in (("kind", kind), ("subject", subject)) if value]
    if not viewer.leads:
        wanted.append(table.c.kind == "validity")
    rows = store.page(connection, table, after, limit, *wanted)
    seen = [row for row in rows if _sees_analysis(connection, row, viewer)]
    return {"items": [shown(row, "result") for row in seen], "next": rows[-1]["id"] if len(rows) == limit else None}


def newest_result(connection: Connection, kind: str, subject: str) -> Row | None:
    table = store.analysis
    query = (
        select(table).where(table.c.kind == kind, table.c.subject == subject, table.c.state == "done").order_by(table.c.id.desc()).limit(1)
    )
    row = connection.execute(query).mappings().first()
    return shown(store.plain(row)) if row else None


def next_queued(connection: Connection) -> str | None:
    """The analysis that is to be begun, where none runs."""
    table = store.analysis
    if connection.scalar(select(func.count()).where(table.c.state == "running")):
        return None
    found: str | None = connection.scalar(select(table.c.id).where(table.c.state == "queued").order_by(table.c.id).limit(1))
    return found


def ask_daily(units: UnitOfWork) -> None:
    """Once a day the figures are looked through for what chance does not explain."""
    table, now = store.analysis, clock.now()
    with units() as work:
        latest = work.connection.scalar(select(func.max(table.c.requested_at)).where(table.c.kind == "gaming"))
        first = work.connection.scalar(select(func.min(store.contact.c.ended_at)))
        if first is not None and first < now - DAY and (latest is None or latest < now - DAY):
            _ask(work, "gaming", {"from": now - GAMING_DAYS * DAY, "to": now}, "answerline")


def announce(work: Work, id: str, kind: str, result: Mapping[str, Any]) -> None:
    """What an analysis found, kept and told: in the transaction that keeps its result."""
    now = clock.now()
    if kind == "validity":
        for row in result["criteria"]:
            names = ("criterion", "outcome", "verdict", "contacts", "effect", "low", "high", "p_adjusted")
            data = {name: row.get(name) for name in names} | {
                "analysis": id, "scorecard": result["scorecard"], "scorecard_version": result["version"], "at": now,
            }  # fmt: skip
            work.announce(Event("qa.criterion_validity_computed.v1", result["scorecard"], data, now, int(now * 1000)))
        for proposed in (result.get("proposals") or {}).values():
            if proposed and proposed.get("weights"):
                row = {
                    "id": new_id(),
                    "scorecard": result["scorecard"],
                    "version": result["version"],
                    "analysis": id,
                    "weights": proposed["weights"],
                }
                store.add(
                    work.connection, store.proposal, {**row, "created_at": now, "decided_at": None, "decided_by": None, "accepted": None}
                )
                break  # one proposal at a time: of the outcome that stands first
    if kind == "gaming":
        for told in result["flags"]:
            _flag(work, id, told, now)


def _flag(work: Work, analysis: str, told: Mapping[str, Any], now: float) -> None:
    """A flag that is open already is brought up to date, and not raised again."""
    table = store.flag
    same = (table.c[name] == told[name] for name in ("agent", "queue", "channel", "measure"))
    figures = {name: told[name] for name in ("cases", "opportunities", "rate", "peer_rate", "limit", "peers", "expected_by_chance")}
    found = {"analysis": analysis, "figures": figures, "contacts": list(told["contacts"]), "from_at": told["from"], "to_at": told["to"]}
    known = work.connection.scalar(select(table.c.id).where(*same, table.c.state == "open"))
    if known:
        store.change(work.connection, table, known, **found)
        return
    id = new_id()
    place = {name: told[name] for name in ("agent", "queue", "channel", "measure")}
    store.add(work.connection, table, {"id": id, **place, **found, "state": "open", "heard": None, "created_at": now, "closed_at": None})
    data = {
        "flag": id, **place, **figures, "since": told["from"], "until": told["to"], "contacts": list(told["contacts"])[:20], "people": [], "at": now,
    }  # fmt: skip
    work.announce(Event("qa.gaming_suspected.v1", id, data, now, 1))


# ---- flags


def list_flags(connection: Connection, filters: Mapping[str, Any], viewer: Viewer) -> Row:
    table = store.flag
    wanted = [table.c[name] == filters[name] for name in ("agent", "queue", "measure", "state") if filters.get(name)]
    if viewer.queues is not None:
        wanted.append(or_(table.c.queue.in_(viewer.queues)))
    rows = store.page(connection, table, filters["after"], filters["limit"], *wanted)
    return {"items": [_shown_flag(row) for row in rows], "next": rows[-1]["id"] if len(rows) == filters["limit"] else None}


def close_flag(units: UnitOfWork, id: str, told: Mapping[str, Any], by: str) -> Row:
    """Somebody has listened. `told`: contacts (heard), found (explained, agreed or unclear), note."""
    with units() as work:
        row = store.find(work.connection, store.flag, id, lock=True)
        if row is None:
            raise errors.NotFound(f"there is no flag {id}")
        if row["state"] == "closed":
            raise errors.Conflict("it is closed already")
        if not set(told["contacts"]) & set(row["contacts"]):
            raise errors.Conflict("a flag is a reason to listen: name the contacts of it that you have heard")
        heard = {"contacts": list(told["contacts"]), "found": told["found"], "note": told["note"], "by": by}
        row |= {"state": "closed", "heard": heard, "closed_at": clock.now()}
        store.change(work.connection, store.flag, id, state="closed", heard=heard, closed_at=row["closed_at"])
        return _shown_flag(row)


def _shown_flag(row: Row) -> Row:
    told = shown(row, "figures", "from_at", "to_at")
    return {
        **told, **row["figures"], "from": clock.to_text(row["from_at"]), "to": clock.to_text(row["to_at"]),
        "meaning": "a reason to listen, not a verdict",
    }  # fmt: skip


# ---- retention


def forget(units: UnitOfWork, keep_seconds: float) -> int:
    """What was said, and what customers wrote, goes when its time is up; figures stay. Returns how many transcripts went."""
    before = clock.now() - keep_seconds
    with units() as work:
        work.connection.execute(
            update(store.survey).where(store.survey.c.contact_at < before, store.survey.c.text.is_not(None)).values(text=None)
        )
        gone = work.connection.execute(store.transcript.delete().where(store.transcript.c.stored_at < before))
        return int(gone.rowcount)
