"""Figures: who may serve what, whose certificate ends, how long it takes to become competent, hours, exam questions, lessons, paths."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, select

from services.training import store
from services.training.base import Row, Scope, accounts, all_known, known, policy, records, words
from services.training.domain import competence, exam, lessons, paths
from services.training.domain.certificate import DAY
from services.training.domain.exam import Exam
from services.training.domain.sessions import local_day
from shared import clock

WINDOWS = (30, 60, 90)
Filters = Mapping[str, Any]


def _people(connection: Connection, filters: Filters, scope: Scope) -> list[Row]:
    found = store.people(connection, scope)
    return [row for row in found if all(not filters.get(name) or row[name] == filters[name] for name in ("site", "team"))]


def matrix(connection: Connection, filters: Filters, scope: Scope) -> Row:
    """People × channels: the state on each (certified with its end, practising with a permit, learning) and how many are certified for each."""
    people, now = _people(connection, filters, scope), clock.now()
    ids = {row["id"] for row in people}
    cells: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in store.learning_of(connection, ids):
        cells[row["person"]][row["target"]] = {"state": "learning", "until": None}
    query = select(store.permit).where(store.permit.c.ended_at.is_(None), store.permit.c.until > now, store.permit.c.person.in_(ids))
    for permit in connection.execute(query):
        cells[permit.person][permit.channel] = {"state": "practising", "until": clock.to_text(permit.until)}
    for row in store.certificates_of(connection, ids):
        cells[row["person"]][row["target"]] = {
            "state": "certified",
            "until": None if row["expires_at"] is None else clock.to_text(row["expires_at"]),
        }
    targets = sorted({target for of in cells.values() for target in of} | set(all_known(connection, "curricula")))
    certified = {target: sum(of.get(target, {}).get("state") == "certified" for of in cells.values()) for target in targets}
    rows = [
        {"person": row["id"], "name": row["name"], "site": row["site"], "team": row["team"], "targets": cells.get(row["id"], {})}
        for row in people
    ]
    return {"targets": targets, "certified": certified, "people": rows}


def expiring(connection: Connection, filters: Filters, scope: Scope) -> Row:
    """Certificates that end within 30, 60 and 90 days, each in the nearest window; how many of each target."""
    people = {row["id"]: row for row in _people(connection, filters, scope)}
    now = clock.now()
    found = [
        row
        for row in store.certificates_of(connection, set(people))
        if row["expires_at"] is not None and row["expires_at"] <= now + WINDOWS[-1] * DAY
    ]
    told: list[Row] = []
    counts: dict[str, dict[str, int]] = defaultdict(lambda: {str(days): 0 for days in WINDOWS})
    for row in sorted(found, key=lambda row: (row["expires_at"], row["person"])):
        window = next(days for days in WINDOWS if row["expires_at"] <= now + days * DAY)
        counts[row["target"]][str(window)] += 1
        person = people[row["person"]]
        told.append({
            "certificate": row["id"], "person": row["person"], "name": person["name"], "site": person["site"], "team": person["team"],
            "target": row["target"], "expires_at": clock.to_text(row["expires_at"]), "within_days": window,
        })  # fmt: skip
    return {"expiring": told, "targets": [{"target": target, "within_days": of} for target, of in sorted(counts.items())]}


def time_to_competence(connection: Connection, filters: Filters, scope: Scope) -> Row:
    """By target: days from the beginning to the certificate, those counted in who are still learning or gave up."""
    ids, now = {row["id"] for row in _people(connection, filters, scope)}, clock.now()
    by_target: dict[str, dict[str, list[float]]] = defaultdict(lambda: {"certified": [], "open": [], "given_up": []})
    for row in store.learning_of(connection, ids, open_only=False):
        ended = now if row["closed_at"] is None else row["closed_at"]
        by_target[row["target"]][row["outcome"] or "open"].append((ended - row["opened_at"]) / DAY)
    told = []
    for target, of in sorted(by_target.items()):
        censored = of["open"] + of["given_up"]
        figures = {f"p{share}_days": competence.quantile(of["certified"], censored, share / 100) for share in (25, 50, 75)}
        told.append({"target": target, **{name: len(days) for name, days in of.items()}, **figures})
    return {"targets": told}


def hours(connection: Connection, filters: Filters, scope: Scope) -> Row:
    """The ledger of a year by person, by team and by site, and who will miss the hours at the present rate and with what is planned."""
    people = _people(connection, filters, scope)
    limits = policy(connection)
    year = filters.get("year") or local_day(clock.now(), limits.zone).year
    rows = list(accounts(connection, people, year).values())
    return {
        "year": year,
        "hours_a_year": limits.hours_a_year,
        "sites": _summed(rows, "site"),
        "teams": _summed(rows, "team"),
        "people": [row for row in rows if row["will_miss"]] if filters.get("missing_only") else rows,
    }


def _summed(rows: Iterable[Row], by: str) -> list[Row]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row[by]].append(row)
    return [
        {
            by: name,
            "people": len(of),
            "hours": sum(row["counted"] for row in of),
            "planned": sum(row["planned"] for row in of),
            "hours_a_person": sum(row["counted"] for row in of) / len(of),
            "reached": sum(row["counted"] + 1e-9 >= row["needed"] for row in of),
            "will_miss": sum(row["will_miss"] for row in of),
        }
        for name, of in sorted(groups.items())
    ]


def exam_items(connection: Connection, filters: Filters, _scope: Scope) -> Row:
    """Each question of an exam: how often asked, how hard, and whether those who know more get it right more often."""
    paper: Exam = known(connection, "exams", filters["exam"])
    marked = store.marked(connection, filters["exam"])
    found = exam.item_statistics(marked)
    texts = {one.id: one.text for one in paper.bank}
    nothing = {"asked": 0, "difficulty": None, "discrimination": None, "verdict": "too_few"}
    items = [{"question": id, "text": texts.get(id), **found.get(id, nothing)} for id in {**dict.fromkeys(texts), **dict.fromkeys(found)}]
    return {"exam": paper.name, "attempts": len(marked), "questions": items}


def lesson_effects(connection: Connection, filters: Filters, scope: Scope) -> Row:
    """By module: lessons given, done, judged and closed, with the mean difference; which modules close nothing, and criteria no module teaches."""
    ids = {row["id"] for row in _people(connection, filters, scope)}
    by_course: dict[str, list[Row]] = defaultdict(list)
    untaught: dict[str, int] = defaultdict(int)
    for row in store.lessons_of(connection, ids):
        if row["course"] is None:
            untaught[f"{row['scorecard']}/{row['criterion']}"] += 1
        else:
            by_course[row["course"]].append(row)
    told = []
    for course, rows in sorted(by_course.items()):
        judged = [row for row in rows if row["comparison"]]
        closed = sum(row["verdict"] == "closed" for row in judged)
        differences = [row["comparison"]["difference"] for row in judged if row["comparison"]["difference"] is not None]
        made = lessons.effect(differences, len(judged), closed)
        told.append({
            "course": course, "assigned": len(rows), "done": sum(row["done_at"] is not None for row in rows), "judged": made.judged, "closed": made.closed,
            "difference": made.difference, "low": made.low, "high": made.high, "closes_nothing": made.closes_nothing,
        })  # fmt: skip
    return {
        "courses": told,
        "closes_nothing": [one["course"] for one in told if one["closes_nothing"]],
        "untaught": [{"criterion": criterion, "findings": count} for criterion, count in sorted(untaught.items())],
    }


def readiness(connection: Connection, filters: Filters, scope: Scope) -> Row:
    """By path: who may take it, who is ready, and what the others still lack."""
    people, now = _people(connection, filters, scope), clock.now()
    brought = records(connection, people)
    told = []
    for path in all_known(connection, "paths").values():
        candidates = []
        for row in people:
            if brought[row["id"]].may_take(path):
                lacking = paths.missing(path, brought[row["id"]], now)
                candidates.append(
                    {"person": row["id"], "name": row["name"], "ready": not lacking, "missing": lacking, "words": words(lacking)}
                )
        candidates.sort(key=lambda one: (len(one["missing"]), one["person"]))
        told.append({
            "path": path.name, "kind": path.kind, "role": path.role, "to_role": path.to_role, "to_team": path.to_team,
            "ready": sum(one["ready"] for one in candidates), "candidates": candidates,
        })  # fmt: skip
    return {"paths": told}


REPORTS: dict[str, Callable[[Connection, Filters, Scope], Row]] = {
    "certifications": matrix,
    "expiring": expiring,
    "competence": time_to_competence,
    "hours": hours,
    "exam_items": exam_items,
    "lessons": lesson_effects,
    "paths": readiness,
}
