"""qa at the size of a large centre: a million contacts and a hundred thousand evaluations on PostgreSQL, each report, each analysis, and the checks."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Connection, MetaData, make_url, text

from services.qa import reports, store, studies
from services.qa.domain import checks, sampling
from services.qa.domain.checks import Turn
from services.qa.domain.sampling import Candidate
from services.qa.library import load
from shared import clock, config
from shared.bus.outbox import UnitOfWork
from shared.bus.tables import BusTables
from shared.config import SettingError
from shared.db import migrate
from shared.db.engine import Database

SCHEMA = "answerline_bench"
CRITERIA = 15
CALIBRATED = 4
"""Evaluators who score each contact of a calibration."""
DAYS = 90
TURNS = 30
SPOKEN = (
    "Good morning, thank you for calling, how may I help you today?",
    "Hello, my parcel has not come and I have waited for two weeks, this is the third time that I call about it.",
    "I am sorry to hear that, I understand. May I have your full name and the order number, please?",
    "Yes, it is Joan Miller, and the order number is 7 7 1 2 3 4 9.",
    "Thank you. One moment, please, while I look at where the parcel is.",
    "All right, I will wait.",
    "It left the warehouse on Monday and should be with you on Friday. Would you like a message when it is on its way?",
    "That would be nice. How do I change the address?",
    "You can open the page of your order and select another address until Thursday.",
    "Good, thank you.",
)


@click.command()
@click.option("--contacts", default=1_000_000, show_default=True, help="Contacts.")
@click.option("--evaluations", default=100_000, show_default=True, help="Evaluations, a fifth of them in calibrations.")
@click.option("--transcripts", default=2000, show_default=True, help="Transcripts for the checks.")
@click.option("--json", "as_json", is_flag=True)
def qa(contacts: int, evaluations: int, transcripts: int, as_json: bool) -> None:
    """Reports, analyses and checks of quality at the size of a large centre, on PostgreSQL."""
    settings = config.load()
    if not settings.database_url.startswith("postgresql"):
        raise SettingError("ANSWERLINE_DATABASE_URL: this measures PostgreSQL")
    with _filled(settings.database_of("qa"), contacts, evaluations) as (database, environment, fill_seconds):
        figures = {
            "contacts": contacts,
            "evaluations": evaluations,
            "fill_seconds": fill_seconds,
            "reports_seconds": _reports(database),
            "analyses": {kind: _analysis(database, environment, kind) for kind in ("validity", "calibration", "gaming")},
            "sample_seconds": _sample(contacts),
            "checks": _checks(transcripts),
        }
    click.echo(json.dumps(figures) if as_json else json.dumps(figures, indent=2))


@contextmanager
def _filled(url: str, contacts: int, evaluations: int) -> Iterator[tuple[Database, dict[str, str], float]]:
    """A schema of its own with so many rows; it goes at the end."""
    own = make_url(url).update_query_dict({"options": f"-csearch_path={SCHEMA}"}).render_as_string(hide_password=False)
    database = Database(own)
    try:
        with database.transaction() as connection:
            connection.execute(text(f"drop schema if exists {SCHEMA} cascade"))
            connection.execute(text(f"create schema {SCHEMA}"))
        migrate.upgrade(database, Path(__file__).parent / "migrations")
        began = time.monotonic()
        with database.transaction() as connection:
            _fill(connection, contacts, evaluations)
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("vacuum analyze"))
        yield database, {**os.environ, "ANSWERLINE_DATABASE_URL": own}, round(time.monotonic() - began, 1)
    finally:
        with database.transaction() as connection:
            connection.execute(text(f"drop schema if exists {SCHEMA} cascade"))
        database.close()


def _fill(connection: Connection, contacts: int, evaluations: int) -> None:
    now = clock.now()
    kinds = ["{id: c%d, title: {en: C%d}}" % (number, number) for number in range(8)]  # noqa: UP031
    kinds += ["{id: c%d, title: {en: C%d}, answering: scale, low: 1, high: 5}" % (number, number) for number in range(8, CRITERIA)]  # noqa: UP031
    document = "kind: internal\ntitle: {en: Bench}\nsections:\n  - id: all\n    title: {en: All}\n    criteria:\n"
    document += "".join(f"      - {one}\n" for one in kinds)
    card = {
        "name": "bench", "version": 1, "kind": "internal", "document": document, "criteria": [], "note": "", "created_at": now, "created_by": "bench",
    }  # fmt: skip
    store.add(connection, store.scorecard, card)
    told = {"contacts": contacts, "now": now, "span": DAYS * 86400.0, "each": max(1, contacts // max(1, evaluations)), "n": evaluations}
    told["calibrated"] = evaluations // 5
    for statement in FILL:
        connection.execute(text(statement), told)


FILL = (
    "select setseed(0.5)",
    """insert into contact (id, queue, channel, agent, customer, matter, outcome, ended_by, arrived_at, ended_at, waited_seconds, talk_seconds,
         hold_seconds, wrap_up_seconds, transferred, transfers, self_service_failed, disposition, resolved, amount, currency, next_at, is_repeat)
       select md5('c' || i)::uuid, 'q' || i % 10, case when i % 4 = 0 then 'chat' else 'voice' end, 'a' || i % 503, 'k' || i % 300000, 'q' || i % 10,
         'completed', case when random() < 0.8 then 'agent' else 'customer' end, :now - :span * i / :contacts - 300, :now - :span * i / :contacts,
         random() * 120, case when random() < 0.03 then 2 + random() * 10 else 60 - ln(random()) * 240 end, random() * 30, random() * 60,
         random() < 0.08, (random() < 0.08)::int, random() < 0.1, 'd' || floor(random() * 30), random() < 0.8,
         case when random() < 0.05 then -ln(random()) * 80 end, 'EUR',
         case when random() < 0.12 then :now - :span * i / :contacts + random() * 700000 end, random() < 0.1
       from generate_series(1, :contacts) i""",
    "update contact set currency = null where amount is null",
    """insert into evaluation (id, contact, agent, queue, channel, contact_at, scorecard, version, scorecard_kind, evaluator, evaluator_role,
         purpose, calibration, state, blind, live, practice, method, probability, note, score, failed, fails_customer, fails_business,
         fails_compliance, counts, dispute, outcome, created_at, submitted_at, sequence)
       select md5('e' || e)::uuid, contact.id, contact.agent, contact.queue, contact.channel, contact.ended_at, 'bench', 1, 'internal',
         'e' || case when e <= :calibrated then e % 4 else e % 40 end, 'evaluator', case when e <= :calibrated then 'calibration' else 'quality' end,
         case when e <= :calibrated then md5('s' || e / 400)::uuid end, 'final', false, false, false,
         case when random() < 0.2 then 'risk' else 'stratified' end, 0.05 + random() * 0.2, '', round(random()::numeric, 2), '[]',
         random() < 0.05, random() < 0.05, random() < 0.02, e > :calibrated, '', '', contact.ended_at + 3600, contact.ended_at + 86400, 1
       from generate_series(1, :n) e
       join contact on contact.id = md5('c' || case when e <= :calibrated then 1 + e / 4 * :each else e * :each end)::uuid""",
    """insert into mark (evaluation, criterion, answer, value, missed, note)
       select evaluation.id, 'c' || c, '1', case when random() < 0.05 then null when c < 8 then (random() < 0.7)::int
         else floor(random() * 5) / 4 end, false, '' from evaluation cross join generate_series(0, 14) c""",
    """insert into survey (id, contact, customer, agent, queue, channel, rule, contact_at, sent_at, answer_until, answered_at, csat, resolved)
       select md5('v' || id)::uuid, id, customer, agent, queue, channel, '*', ended_at, ended_at + 60, ended_at + 86400,
         case when heard then ended_at + 600 end, case when heard then 1 + floor(random() * 5) end, case when heard then random() < 0.7 end
       from (select *, random() < 0.4 heard from contact) contact where random() < 0.6""",
)


def _reports(database: Database) -> dict[str, float]:
    """Of the whole time, the slower of two runs."""
    asked: dict[str, Any] = {"from": 0.0, "to": clock.now() + 1, "days": 7.0, "within": 0.05, "scorecard": "bench"}
    questions: Mapping[str, tuple[Callable[..., Any], str]] = {
        "quality": (reports.quality, "agent"),
        "criteria": (reports.criteria, "agent"),
        "surveys": (reports.surveys, "queue"),
        "one_call": (reports.one_call, "queue"),
        "value": (reports.value, "agent"),
    }
    found = {}
    for name, (question, by) in questions.items():
        times = []
        for _ in range(2):
            began = time.monotonic()
            with database.reading() as connection:
                question(connection, asked | {"by": by})
            times.append(time.monotonic() - began)
        found[name] = round(max(times), 2)
    return found


def _analysis(database: Database, environment: Mapping[str, str], kind: str) -> dict[str, Any]:
    """In a process of its own, as the service does it; `told`: how many different states of progress were seen from outside."""
    units = UnitOfWork(database, BusTables(MetaData()))
    now = clock.now()
    id = studies.ask_analysis(units, {"kind": kind, "from": now - 2 * DAYS * 86400.0, "to": now + 1, "scorecard": "bench"}, "bench")["id"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "services.qa.analysis", id], env=dict(environment))
    seen = set()
    while process.poll() is None:
        with database.reading() as connection:
            row = store.find(connection, store.analysis, id)
        seen.add((row or {}).get("progress"))
        time.sleep(0.1)
    seconds = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    with database.reading() as connection:
        row = store.find(connection, store.analysis, id)
    if row is None or row["state"] != "done":
        raise SettingError(f"the analysis failed: {row and row['error']}")
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "progress_told": len(seen),
        "peak_mb": round(after.ru_maxrss / 1024),
    }


def _sample(contacts: int) -> float:
    """Drawing 2,000 of all contacts."""
    frame = [Candidate(f"c{number}", f"a{number % 503}", "voice", f"q{number % 10}", number % 503 < 20) for number in range(contacts)]
    began = time.monotonic()
    sampling.draw(frame, 2000, "bench")
    return round(time.monotonic() - began, 1)


def _checks(transcripts: int) -> dict[str, Any]:
    """The whole library against transcripts of 30 turns."""
    rules = checks.compile_rules(load())
    speakers: tuple[checks.Speaker, ...] = ("agent", "customer")
    talks = [
        [Turn(speakers[number % 2], SPOKEN[(number + first) % len(SPOKEN)], 6.0 * number, 6.0 * number + 5) for number in range(TURNS)]
        for first in range(0, 20, 2)
    ]
    facts: dict[str, checks.Fact] = {"channel": "voice", "queue": "sales", "transfers": 0, "waited_seconds": 12.0}
    began, cpu = time.monotonic(), time.process_time()
    for number in range(transcripts):
        rules.check(facts, talks[number % len(talks)])
    seconds, used = time.monotonic() - began, time.process_time() - cpu
    return {
        "rules": len(rules.rules),
        "turns": TURNS,
        "transcripts_per_second": round(transcripts / seconds),
        "transcripts_per_cpu_second": round(transcripts / used),
    }
