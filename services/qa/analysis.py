"""Statistics that take their time, in a process of their own: python -m services.qa.analysis ID

The service inserts a row of `analysis` and starts this; the process writes what it does and how far it is into the row, and at the end, in one
transaction, the result and what is announced of it. docs/quality-statistics.md says what the figures mean.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, MetaData, Select, and_, case, func, or_, select, text, update
from sqlalchemy.exc import OperationalError

from services.qa import scorecards, store
from services.qa.domain import agreement, gaming, validity
from services.qa.domain.agreement import Level, Ratings
from services.qa.domain.gaming import Served
from services.qa.domain.resolution import DAY
from services.qa.domain.scorecard import Criterion, Scorecard
from services.qa.domain.validity import Evaluated
from shared import clock, config
from shared.bus.outbox import UnitOfWork, Work
from shared.bus.tables import BusTables
from shared.db.engine import Database
from shared.errors import AnswerlineError, NotFound

Row = dict[str, Any]
Floats = NDArray[np.float64]
Announce = Callable[[Work, str, str, Mapping[str, Any]], None]

BEAT_SECONDS = 2.0
NICENESS = 10
"""Whoever talks to a customer goes first."""
DEAD_SECONDS = 60.0
BLOCK = 20_000
SATISFIED = 4
REPEAT_DAYS = 7.0
LEVELS: Mapping[str, Level] = {"yes_no": "nominal", "scale": "ordinal", "number": "interval"}
WHOLE_STEP = 0.1
"""Whole scores (0..1) are "within a point" at ten of a hundred, as practice has it."""
NUMBER_STEP = 0.1
MOST_POINTS = 5000
UNFINISHED = "the process that computed it ended before it was done; ask again"


def spawn(analysis_id: str) -> subprocess.Popen[bytes]:
    """Begin an analysis that is queued, with this process's settings."""
    arguments = [sys.executable, "-m", "services.qa.analysis", analysis_id]
    return subprocess.Popen(arguments, env=dict(os.environ), stdin=subprocess.DEVNULL, start_new_session=True)


def reap(connection: Connection, now: float) -> list[str]:
    """Analyses that run no more, though they say so: their process was killed. They fail, and are returned."""
    table = store.analysis
    dead = and_(table.c.state == "running", table.c.beat_at < now - DEAD_SECONDS)
    found = list(connection.scalars(select(table.c.id).where(dead)))
    if found:
        connection.execute(update(table).where(dead).values(state="failed", error=UNFINISHED, finished_at=now))
    return found


class Progress:
    """Tells how far it is, every two seconds at most, and lives on while one long step computes."""

    def __init__(self, database: Database, id: str) -> None:
        self._database, self._id = database, id
        self._step, self._share, self._told = "", 0.0, 0.0
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._beating = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Progress:
        self._beating.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._beating.join()

    def at(self, step: str, share: float) -> None:
        with self._lock:
            new = step != self._step
            self._step, self._share = step, max(self._share, min(1.0, share))
        if new or time.monotonic() > self._told + BEAT_SECONDS:
            self._tell()

    def reading(self, result: Any, step: str, begin: float, end: float, expected: int) -> Iterator[Sequence[Any]]:
        """The rows of a query, block by block."""
        count = 0
        for block in result.partitions(BLOCK):
            count += len(block)
            self.at(step, begin + (end - begin) * min(1.0, count / max(1, expected)))
            yield block

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        table = store.analysis
        mine = and_(table.c.id == self._id, table.c.state == "running")
        told = {"step": self._step, "progress": round(self._share, 3), "beat_at": clock.now()}
        with suppress(OperationalError), self._database.transaction() as connection:  # a busy database is no reason to give up the work
            connection.execute(update(table).where(mine).values(told))


def run(units: UnitOfWork, id: str, announce: Announce) -> bool:
    """Carry out a queued analysis. False: it is not queued (any more)."""
    row = _claim(units.database, id)
    if row is None:
        return False
    try:
        with Progress(units.database, id) as progress:
            result = ANALYSES[row["kind"]](units.database, row["parameters"], progress)
        with units() as work:
            if not _finish(work.connection, id, state="done", step="", progress=1.0, result=result):
                return False
            announce(work, id, row["kind"], result)
    except AnswerlineError as refused:
        with units() as work:
            _finish(work.connection, id, state="failed", error=str(refused))
    except Exception as error:
        with units() as work:
            _finish(work.connection, id, state="failed", error=f"it could not be computed ({type(error).__name__})")
        raise
    return True


def _claim(database: Database, id: str) -> Row | None:
    table, now = store.analysis, clock.now()
    with database.transaction() as connection:
        row = store.find(connection, table, id, lock=True)
        if row is None or row["state"] != "queued":
            return None
        store.change(connection, table, id, state="running", started_at=now, beat_at=now, step="begins", progress=0.0)
        return row


def _finish(connection: Connection, id: str, **values: Any) -> bool:
    table = store.analysis
    mine = and_(table.c.id == id, table.c.state == "running")
    return bool(connection.execute(update(table).where(mine).values(finished_at=clock.now(), **values)).rowcount)


# ---- reading


def _columns(blocks: Iterator[Sequence[Any]], kinds: str) -> list[Any]:
    """The columns of a query's rows, turned block by block into what is computed with (a million rows as Python objects would fill the memory).

    `kinds`, a letter a column: f numbers (NaN: null), b truth (null: no), k whether it is known, n names (numbers for them, and the names), o as it is."""
    parts: list[list[Any]] = [[] for _ in kinds]
    names: list[dict[Any, int]] = [{} for _ in kinds]
    for block in blocks:
        for place, values in enumerate(zip(*block, strict=True)):
            parts[place].append(_part(kinds[place], values, names[place]))
    return [_whole(kind, part, list(known)) for kind, part, known in zip(kinds, parts, names, strict=True)]


def _part(kind: str, values: Sequence[Any], known: dict[Any, int]) -> Any:
    match kind:
        case "f":
            return np.array([math.nan if value is None else value for value in values], dtype=float)
        case "b":
            return np.array([bool(value) for value in values], dtype=bool)
        case "k":
            return np.array([value is not None for value in values], dtype=bool)
        case "n":
            return np.array([known.setdefault(value, len(known)) for value in values], dtype=np.int64)
    return values


def _whole(kind: str, parts: Sequence[Any], names: list[Any]) -> Any:
    if kind == "o":
        return [value for part in parts for value in part]
    types = {"f": float, "n": np.int64}
    column = np.concatenate(parts) if parts else np.empty(0, dtype=types.get(kind, bool))
    return (column, names) if kind == "n" else column


def _floats(values: Sequence[Any]) -> Floats:
    return np.array([math.nan if value is None else value for value in values], dtype=float)


def _together(*codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """One number for each combination."""
    return np.unique(np.column_stack(codes), axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


@contextmanager
def _roomy(database: Database) -> Iterator[Connection]:
    """For queries that sort and group a million rows."""
    with database.reading() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("set work_mem = '128MB'"))
        yield connection


def _card(connection: Connection, name: str, version: int | None) -> Scorecard:
    table = store.scorecard
    query = select(table).where(table.c.name == name).order_by(table.c.version.desc()).limit(1)
    if version is not None:
        query = query.where(table.c.version == version)
    row = connection.execute(query).mappings().first()
    if row is None:
        raise NotFound(f"there is no scorecard {name}" + (f" of version {version}" if version is not None else ""))
    return scorecards.compile(row["document"], row["name"], row["version"], accepted=True)


def _marks(names: Sequence[str], of: Any) -> Select[Any]:
    """One row an evaluation, one column a criterion."""
    table = store.mark
    values = [func.max(table.c.value).filter(table.c.criterion == name).label(f"m{number}") for number, name in enumerate(names)]
    return select(table.c.evaluation, *values).where(table.c.evaluation.in_(of)).group_by(table.c.evaluation)


# ---- validity


def compute_validity(database: Database, told: Mapping[str, Any], progress: Progress) -> Row:
    """`told`: from, to (epoch seconds; of the contact), scorecard, version (None: the newest card, and marks of all versions for its criteria),
    margin (of a share), days (within which a repeat undoes a resolution)."""
    days, margin = float(told.get("days") or REPEAT_DAYS), float(told.get("margin") or validity.MARGIN)
    with _roomy(database) as connection:
        card = _card(connection, told["scorecard"], told.get("version"))
        names = list(card.criteria)
        known_until = store.known_until(connection, clock.now()) or 0.0
        data, scores = _evaluated(connection, card, told, days, known_until, progress)
    progress.at("compares", 0.6)
    found = validity.validities(data, margin)
    whole = replace(data, criteria=("",), marks=scores[:, None])
    whole_found = validity.validities(whole, margin)
    progress.at("weighs", 0.8)
    current = [card.criteria[name].weight for name in names]
    proposals = {outcome: validity.propose(data, outcome, current) for outcome in data.outcomes}
    return {
        "scorecard": card.name,
        "version": card.version,
        "kind": card.kind,
        "from": told["from"],
        "to": told["to"],
        "days": days,
        "margin": margin,
        "known_until": known_until,
        "contacts": len(data.wait),
        "answers": {outcome: int((~np.isnan(values)).sum()) for outcome, values in data.outcomes.items()},
        "adjusted_for": ["queue", "channel", "wait", "self_service_failed", "repeat", "chosen_by_risk"],
        "criteria": [asdict(one) for one in found],
        "score": [asdict(one) for one in whole_found],
        "proposals": {outcome: _told(one) if one and one.worth_it else None for outcome, one in proposals.items()},
    }


def _told(one: validity.Proposal) -> Row:
    return {
        "weights": {name: {"current": one.current[name], "proposed": weight} for name, weight in one.weights.items()},
        "skill_current": one.skill_current,
        "skill_proposed": one.skill_proposed,
        "lambda": None if math.isinf(one.penalty) else one.penalty,
        "contacts": one.contacts,
    }


def _evaluated(
    connection: Connection, card: Scorecard, told: Mapping[str, Any], days: float, known_until: float, progress: Progress
) -> tuple[Evaluated, Floats]:
    """What is evaluated, and the whole scores."""
    evaluation, contact, survey = store.evaluation, store.contact, store.survey
    names = list(card.criteria)
    wanted = [
        evaluation.c.scorecard == card.name,
        evaluation.c.counts,
        evaluation.c.submitted_at.is_not(None),
        evaluation.c.contact_at >= told["from"],
        evaluation.c.contact_at < told["to"],
    ]
    if told.get("version") is not None:
        wanted.append(evaluation.c.version == told["version"])
    expected = connection.scalar(select(func.count()).select_from(evaluation).where(*wanted)) or 0
    marks = _marks(names, select(evaluation.c.id).where(*wanted)).subquery()
    facts = [
        evaluation.c.contact, evaluation.c.agent, evaluation.c.queue, evaluation.c.channel, evaluation.c.method, evaluation.c.score,
        contact.c.waited_seconds, contact.c.self_service_failed, contact.c.is_repeat, contact.c.customer, contact.c.ended_at, contact.c.next_at,
        survey.c.csat, survey.c.resolved,
    ]  # fmt: skip
    query = (
        select(*facts, *(marks.c[f"m{number}"] for number in range(len(names))))
        .join(marks, marks.c.evaluation == evaluation.c.id)
        .join(contact, contact.c.id == evaluation.c.contact)
        .outerjoin(survey, and_(survey.c.contact == evaluation.c.contact, ~survey.c.late))
        .where(*wanted)
        .order_by(evaluation.c.submitted_at, evaluation.c.id)
    )
    result = connection.execution_options(stream_results=True).execute(query)
    blocks = progress.reading(result, "reads", 0.05, 0.55, expected)
    ids, agents, queues, channels, methods, scores, waits, failed, repeats, customers, ended_at, next_at, csat, resolved, *marked = (
        _columns(blocks, "nnnnnffbbkffff" + "f" * len(names))
    )
    newest = np.sort(len(ids[0]) - 1 - np.unique(ids[0][::-1], return_index=True)[1])  # one row a contact: the last
    one_call = np.where(next_at <= ended_at + days * DAY, 0.0, 1.0)
    one_call[(ended_at + days * DAY > known_until) | ~customers] = math.nan
    outcomes = {
        "satisfied": np.where(np.isnan(csat), math.nan, csat >= SATISFIED),
        "resolved": resolved,
        "one_call": one_call,
    }
    by_risk = np.array([name == "risk" for name in methods[1]], dtype=np.int64)[methods[0]] if len(methods[0]) else methods[0]
    cell = _together(queues[0], channels[0], failed.astype(np.int64), repeats.astype(np.int64), by_risk)
    data = Evaluated(
        tuple(names),
        np.column_stack(marked)[newest],
        {name: values[newest] for name, values in outcomes.items()},
        cell[newest],
        waits[newest],
        agents[0][newest],
    )
    return data, scores[newest]


# ---- calibration


def compute_calibration(database: Database, told: Mapping[str, Any], progress: Progress) -> Row:
    """`told`: scorecard, version (None: the newest), from, to (epoch seconds; of the submission), session (None: all of them, and contacts that
    were scored twice blind), resamples. Agreement is of the session; drift is over all the time."""
    resamples = int(told.get("resamples") or agreement.RESAMPLES)
    with _roomy(database) as connection:
        card = _card(connection, told["scorecard"], told.get("version"))
        names = list(card.criteria)
        columns = _scored_together(connection, card, told, progress)
    (contacts, _), (rater, people), (sessions, known_sessions), moments, scores, *marks = columns
    unit = _together(contacts, sessions)
    here = np.ones(len(unit), dtype=bool)
    if told.get("session"):
        here = sessions == (known_sessions.index(told["session"]) if told["session"] in known_sessions else -1)
    rng = np.random.default_rng(20_07)
    found = []
    for number, (name, values) in enumerate(zip(["", *names], [scores, *marks], strict=True)):
        progress.at(f"compares {name}".strip(), 0.5 + 0.4 * number / (len(names) + 1))
        known = here & ~np.isnan(values)
        ratings = _once(Ratings(unit[known], rater[known], values[known], moments[known]))
        criterion = card.criteria.get(name)
        level = LEVELS[criterion.answering] if criterion else "interval"
        one = agreement.agreement(ratings, level, _step(criterion), rng, resamples)
        against = [{**asdict(other), "evaluator": people[other.rater], "bias": asdict(other.bias)} for other in one.against]
        for other in against:
            other.pop("rater")
        found.append({**asdict(one), "criterion": name, "evaluators": one.raters, "against": against})
    for shown in found:
        shown.pop("raters")
    progress.at("looks for drift", 0.95)
    return {
        "scorecard": card.name,
        "version": card.version,
        "session": told.get("session"),
        "from": told["from"],
        "to": told["to"],
        "resamples": resamples,
        "evaluations": int(here.sum()),
        "whole": found[0],
        "criteria": found[1:],
        "drift": _drifts(unit, rater, people, moments, scores),
    }


def _step(criterion: Criterion | None) -> float:
    if criterion is None:
        return WHOLE_STEP
    return {"yes_no": 0.0, "number": NUMBER_STEP}.get(criterion.answering, 1 / max(1.0, abs(criterion.high - criterion.low)))


def _once(ratings: Ratings) -> Ratings:
    """An evaluator's last mark of a contact alone counts."""
    at = ratings.at if ratings.at is not None else np.zeros(len(ratings.unit))
    order = np.lexsort((at, ratings.rater, ratings.unit))
    unit, rater = ratings.unit[order], ratings.rater[order]
    last = np.ones(len(order), dtype=bool)
    last[:-1] = (unit[1:] != unit[:-1]) | (rater[1:] != rater[:-1])
    return Ratings(unit[last], rater[last], ratings.value[order][last], at[order][last])


def _drifts(unit: NDArray[np.int64], rater: NDArray[np.int64], people: Sequence[str], at: Floats, scores: Floats) -> list[Row]:
    known = ~np.isnan(scores)
    pairs = _once(Ratings(unit[known], rater[known], scores[known], at[known])).pairable()
    if not len(pairs.unit):
        return []
    found = []
    for number, of, apart in agreement.differences(pairs):
        one = agreement.drift(apart.tolist())
        since = None if one.since is None or pairs.at is None else float(pairs.at[of[one.since]])
        told = {"evaluator": people[number], "criterion": "", "contacts": one.count, "since": since, "shift": one.shift, "alarm": one.alarm}
        found.append(told)
    return sorted(found, key=lambda told: (not told["alarm"], told["evaluator"]))


def _scored_together(connection: Connection, card: Scorecard, told: Mapping[str, Any], progress: Progress) -> list[Any]:
    """Evaluations of sessions, and those that were scored twice blind with the ones that they stand beside."""
    evaluation = store.evaluation
    doubles = select(evaluation.c.other).where(evaluation.c.purpose == "double", evaluation.c.other.is_not(None))
    wanted = [
        evaluation.c.scorecard == card.name,
        evaluation.c.submitted_at >= told["from"],
        evaluation.c.submitted_at < told["to"],
        or_(evaluation.c.purpose.in_(("calibration", "double")), evaluation.c.id.in_(doubles)),
    ]
    if told.get("version") is not None:
        wanted.append(evaluation.c.version == told["version"])
    names = list(card.criteria)
    expected = connection.scalar(select(func.count()).select_from(evaluation).where(*wanted)) or 0
    marks = _marks(names, select(evaluation.c.id).where(*wanted)).subquery()
    facts = [evaluation.c.contact, evaluation.c.evaluator, evaluation.c.calibration, evaluation.c.submitted_at, evaluation.c.score]
    query = (
        select(*facts, *(marks.c[f"m{number}"] for number in range(len(names))))
        .join(marks, marks.c.evaluation == evaluation.c.id)
        .where(*wanted)
        .order_by(evaluation.c.submitted_at, evaluation.c.id)
    )
    result = connection.execution_options(stream_results=True).execute(query)
    return _columns(progress.reading(result, "reads", 0.05, 0.5, expected), "nnnff" + "f" * len(names))


# ---- gaming


def compute_gaming(database: Database, told: Mapping[str, Any], progress: Progress) -> Row:
    """`told`: from, to (epoch seconds; of the contact's end), queues (None: all), short_seconds, tail, days."""
    short, tail = float(told.get("short_seconds") or gaming.SHORT_SECONDS), float(told.get("tail") or gaming.TAIL)
    days = float(told.get("days") or REPEAT_DAYS)
    with _roomy(database) as connection:
        served, ids, ended, groups, agents = _served(connection, told, days, progress)
    progress.at("compares", 0.85)
    watched = gaming.watch(served, short, tail) if len(ids) else []
    found, flags = [], []
    points = sum(len(one.points) for one in watched)
    for one in watched:
        queue, channel = groups[one.group]
        shown = [point for point in one.points if points <= MOST_POINTS or point.flag or point.why == "control"]
        found.append(
            {
                "queue": queue,
                "channel": channel,
                "measure": one.measure,
                "peers": one.peers,
                "peer_rate": _rate(one),
                "overdispersion": one.overdispersion,
                "expected_by_chance": one.expected_by_chance,
                "flagged": sum(point.flag for point in one.points),
                "points": [{**asdict(point), "agent": agents[point.agent]} for point in shown],
            }
        )
        cases = gaming.cases_of(served, one.measure, short) if any(point.flag for point in one.points) else None
        for point in one.points:
            if not point.flag or cases is None:
                continue
            of = np.nonzero(cases & (served.group == one.group) & (served.agent == point.agent))[0]
            newest = of[np.argsort(-ended[of], kind="stable")]
            flags.append(
                {
                    "agent": agents[point.agent],
                    "queue": queue,
                    "channel": channel,
                    "measure": one.measure,
                    "cases": point.cases,
                    "opportunities": point.opportunities,
                    "rate": point.rate,
                    "peer_rate": point.peer_rate,
                    "limit": point.limit,
                    "peers": one.peers,
                    "expected_by_chance": one.expected_by_chance,
                    "from": told["from"],
                    "to": told["to"],
                    "contacts": list(dict.fromkeys(ids[number] for number in newest))[: gaming.LISTEN_TO],
                }
            )
    return {
        "from": told["from"],
        "to": told["to"],
        "contacts": len(ids),
        "short_seconds": short,
        "tail": tail,
        "days": days,
        "expected_by_chance": sum(one.expected_by_chance for one in watched),
        "groups": found,
        "flags": flags,
    }


def _rate(one: gaming.Watched) -> float | None:
    opportunities = sum(point.opportunities for point in one.points)
    return sum(point.cases for point in one.points) / opportunities if opportunities else None


def _served(
    connection: Connection, told: Mapping[str, Any], days: float, progress: Progress
) -> tuple[Served, list[str], Floats, list[tuple[str, str]], list[str]]:
    """Rows of `Served` with the contact of each, when it ended, and the names of groups and agents. Whoever passed a contact on has a row of their own."""
    contact, survey, handover = store.contact, store.survey, store.handover
    known_until = store.known_until(connection, clock.now()) or 0.0
    wanted = [contact.c.ended_at >= told["from"], contact.c.ended_at < told["to"], contact.c.agent.is_not(None)]
    wanted.append(contact.c.outcome.in_(("completed", "transferred")))
    if told.get("queues"):
        wanted.append(contact.c.queue.in_(told["queues"]))
    expected = connection.scalar(select(func.count()).select_from(contact).where(*wanted)) or 0
    facts = [
        contact.c.id, contact.c.agent, contact.c.queue, contact.c.channel, contact.c.talk_seconds, contact.c.ended_by, contact.c.transferred,
        contact.c.self_service_failed, contact.c.is_repeat, contact.c.disposition, contact.c.resolved, contact.c.ended_at, contact.c.next_at,
        survey.c.sent_at, survey.c.answer_until, case((survey.c.late, None), else_=survey.c.answered_at),
    ]  # fmt: skip
    query = select(*facts).outerjoin(survey, survey.c.contact == contact.c.id).where(*wanted)
    result = connection.execution_options(stream_results=True).execute(query)
    columns = _columns(progress.reading(result, "reads", 0.05, 0.7, expected), "onnnfnbbbnfffkfk")
    (
        ids,
        (agents, known_agents),
        (queues, known_queues),
        (channels, known_channels),
        talk,
        (ended_by, enders),
        passed_on,
        failed,
        repeats,
    ) = columns[:9]
    (matter, _), resolved, ended_at, next_at, asked, until, heard_of = columns[9:]
    burdened = failed | repeats
    surveyable = asked & (heard_of | (until <= clock.now()))
    repeated = next_at <= np.minimum(ended_at + days * DAY, known_until)
    by_agent = ended_by == (enders.index("agent") if "agent" in enders else -1)

    progress.at("reads handovers", 0.7)
    legs = select(handover.c.contact, handover.c.agent, handover.c.queue, handover.c.channel, handover.c.talk_seconds, handover.c.at)
    legs = legs.where(store.PASSED_ON, handover.c.at >= told["from"] - DAY, handover.c.at < told["to"])
    if told.get("queues"):
        legs = legs.where(handover.c.queue.in_(told["queues"]))
    rows = list(connection.execute(legs))
    wanted_ids = {row.contact for row in rows}
    by_contact = {id: number for number, id in enumerate(ids) if id in wanted_ids}
    # the last leg's own transfer is in `contact.transferred` already
    rows = [
        row
        for row in rows
        if (at := by_contact.get(row.contact)) is not None and not (passed_on[at] and known_agents[agents[at]] == row.agent)
    ]
    of = np.array([by_contact[row.contact] for row in rows], dtype=np.int64)
    agent, names = _longer(agents, known_agents, [row.agent for row in rows])
    queue, queue_names = _longer(queues, known_queues, [row.queue for row in rows])
    channel, channel_names = _longer(channels, known_channels, [row.channel for row in rows])
    pairs, group = np.unique(queue * len(channel_names) + channel, return_inverse=True)
    groups = [(queue_names[pair // len(channel_names)], channel_names[pair % len(channel_names)]) for pair in pairs]
    progress.at("tells hard from easy", 0.75)
    hard = gaming.hardness(matter, talk, passed_on, burdened, group[: len(ids)])
    none = np.zeros(len(rows), dtype=bool)
    served = Served(
        group=group,
        agent=agent,
        talk=np.concatenate((talk, _floats([row.talk_seconds for row in rows]))),
        by_agent=np.concatenate((by_agent, none)),
        passed_on=np.concatenate((passed_on, ~none)),
        hard=np.concatenate((hard, hard[of])) if len(ids) else none,
        bad=np.concatenate((gaming.went_badly(repeated, passed_on, resolved == 0), none)),
        surveyable=np.concatenate((surveyable, none)),
        heard_of=np.concatenate((heard_of, none)),
    )
    return served, [*ids, *(row.contact for row in rows)], np.concatenate((ended_at, _floats([row.at for row in rows]))), groups, names


def _longer(codes: NDArray[np.int64], names: Sequence[str], more: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
    """Names' numbers with those of more names at the end."""
    known = {name: number for number, name in enumerate(names)}
    added = np.array([known.setdefault(name, len(known)) for name in more], dtype=np.int64)
    return np.concatenate((codes, added)), list(known)


ANALYSES: Mapping[str, Callable[[Database, Mapping[str, Any], Progress], Row]] = {
    "validity": compute_validity,
    "calibration": compute_calibration,
    "gaming": compute_gaming,
}


def main(arguments: Sequence[str]) -> int:
    from services.qa import studies

    if len(arguments) != 1:
        raise SystemExit("usage: python -m services.qa.analysis ID")
    os.nice(NICENESS)
    database = Database(config.load().database_of("qa"))
    try:
        ran = run(UnitOfWork(database, BusTables(MetaData())), arguments[0], studies.announce)
        return 0 if ran else 1
    finally:
        database.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
