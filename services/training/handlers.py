"""What happens for each command, event and due moment about people: learning, certificates, permits, exams, hours and lessons. One transaction each, in
which first the sessions concerned are locked, then the people."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, select

from services.training import classes, documents, store
from services.training.base import (
    Row,
    Scope,
    account_of,
    all_known,
    announce,
    courses,
    in_sight,
    known,
    policy,
    record_hours,
    records,
    refusals,
    require_active,
    require_person,
    settle_course,
    tell,
    texts,
    words,
)
from services.training.domain import certificate, exam, ladder, ledger, lessons, paths
from services.training.domain import errors as domain
from services.training.domain.courses import Course, Curriculum, check_order
from services.training.domain.exam import Exam
from services.training.domain.ladder import Ladder, Standing
from services.training.domain.paths import Path
from services.training.domain.sessions import local_day
from shared import clock, errors
from shared.bus.envelope import Event
from shared.bus.outbox import UnitOfWork, Work
from shared.errors import AnswerlineError
from shared.ids import new_id

DUE_AT_ONCE = 100
LONGEST_STUDY = 600
APPROVING = {"supervisor", "admin"}


# ---- what people wrote down


def put_definition(units: UnitOfWork, kind: str, name: str, document: Mapping[str, Any], by: str) -> Row:
    """A new version, in force from now on. Raises Invalid with every mistake."""
    with units() as work, refusals():
        known = store.newest(work.connection, kind, name)
        made = documents.compile(kind, name, known["version"] + 1 if known else 1, document)
        _check_names(work.connection, kind, made)
        row = store.put_definition(work.connection, kind, name, document, by, clock.now())
        return _definition(row)


def _check_names(connection: Connection, kind: str, made: Any) -> None:
    """What it names must be there, in an order that can be taught. Raises Invalid."""
    match made:
        case Course():
            known = courses(connection)
            if lacking := [one for one in made.after if one not in known]:
                raise domain.Invalid(f"There is no course {', '.join(lacking)}: write it down first.")
            _check_circle(made, known)
        case Curriculum():
            known = courses(connection)
            check_order(made.courses, known)
            if lacking := [one for one in made.renewal_courses if one not in known]:
                raise domain.Invalid(f"There is no course {', '.join(lacking)}: write it down first.")
            if made.exam and store.newest(connection, "exams", made.exam) is None:
                raise domain.Invalid(f"There is no exam {made.exam}: write it down first.")
        case tuple() if kind == "templates":
            known = courses(connection)
            if lacking := sorted({name for term in made for name in term.courses} - set(known)):
                raise domain.Invalid(f"There is no course {', '.join(lacking)}: write it down first.")


def _check_circle(made: Course, known: Mapping[str, Course]) -> None:
    waiting, seen = list(made.after), {made.name}
    while waiting:
        name = waiting.pop()
        if name == made.name:
            raise domain.Invalid(f"{made.name} would come after itself: a circle of courses.")
        if name not in seen:
            seen.add(name)
            waiting += known[name].after if name in known else ()


def get_definition(connection: Connection, kind: str, name: str, version: int | None = None) -> Row:
    if kind not in documents.READERS:
        raise errors.NotFound(f"training has no {kind}; there are {', '.join(documents.READERS)}")
    row = store.newest(connection, kind, name, version)
    if row is None and kind == "policy" and name == "default":
        return {"kind": kind, "name": name, "version": 0, "document": documents.defaults(), "created_at": None, "created_by": ""}
    if row is None:
        raise errors.NotFound(f"there is no {name} among the {kind}" + (f" in version {version}" if version else ""))
    return _definition(row)


def list_definitions(connection: Connection, kind: str, after: str, limit: int) -> Row:
    if kind not in documents.READERS:
        raise errors.NotFound(f"training has no {kind}; there are {', '.join(documents.READERS)}")
    rows = store.all_newest(connection, kind, after=after, limit=limit)
    return {"items": [_definition(row) for row in rows], "next": rows[-1]["name"] if len(rows) == limit else None}


def _definition(row: Row) -> Row:
    return {**row, "created_at": clock.to_text(row["created_at"])}


# ---- people


def standing(connection: Connection, who: str) -> Standing:
    channels = [row for row in store.learning_of(connection, who) if row["kind"] == "channel"]
    scores: dict[str, list[float]] = {}
    for row in store.evaluations_of(connection, [who]):
        if row["score"] is not None:
            scores.setdefault(row["channel"], []).append(row["score"])
    certified = [row["target"] for row in store.certificates_of(connection, who)]
    return Standing(certified, [row["target"] for row in channels], store.practice_days(connection, [who]).get(who, {}), scores)


def ladder_of(connection: Connection, roles: Mapping[str, Any], channel: str) -> Ladder:
    """Of the ladders of somebody's roles the one that leads to the channel. Raises NotFound where there is none."""
    ladders: dict[str, Ladder] = {name: one for name, one in all_known(connection, "ladders").items() if name in roles}
    for one in ladders.values():
        if one.rung(channel):
            return one
    told = f"the ladders of their roles ({', '.join(ladders)}) do not lead to {channel}" if ladders else "their roles have no ladder"
    raise errors.NotFound(f"{told}: PUT /v1/training/ladders/ROLE first")


# ---- learning


def open_learning(units: UnitOfWork, person: str, target: str, by: str, approver: str, reason: str, scope: Scope = None) -> Row:
    """Somebody begins with a channel or a product."""
    with units() as work, refusals():
        row = require_person(work.connection, person, scope, lock=True)
        require_active(row)
        curriculum: Curriculum = known(work.connection, "curricula", target)
        if curriculum.audience and set(curriculum.audience).isdisjoint(row["roles"]):
            raise errors.Invalid(
                f"{target} is for {', '.join(curriculum.audience)}; {person} is {', '.join(row['roles']) or 'none of these'}"
            )
        role, skipped = "", []
        if curriculum.kind == "channel":
            way = ladder_of(work.connection, row["roles"], target)
            if approver and approver != person:
                _require_approver(work.connection, approver)
            role, skipped = way.role, ladder.open(way, target, person, standing(work.connection, person), approver, reason)
        elif any(one["target"] == target for one in store.learning_of(work.connection, person)):
            raise errors.Conflict(f"{person} is learning {target} already")
        told = {
            "id": new_id(), "person": person, "target": target, "kind": curriculum.kind, "role": role, "opened_at": clock.now(), "closed_at": None,
            "outcome": None, "opened_by": by, "approver": approver if skipped else "", "reason": reason if skipped else "", "skipped": skipped,
        }  # fmt: skip
        store.add(work.connection, store.learning, told)
        return _learning(work.connection, told)


def _require_approver(connection: Connection, approver: str) -> None:
    """Raises Invalid where the directory does not know the approver as somebody who leads, and works here."""
    row = store.get_person(connection, approver)
    if row is None or not row["active"]:
        told = f"the approver {approver} is nobody known" if row is None else f"the approver {approver} does not work here any more"
    elif APPROVING.isdisjoint(row["roles"]):
        told = f"{approver} ({', '.join(sorted(row['roles'])) or 'without a role'}) cannot approve this"
    else:
        return
    raise errors.Invalid(told, errors={"approver": [f"Name somebody of /v1/people with the role {' or '.join(sorted(APPROVING))}."]})


def give_up(units: UnitOfWork, person: str, target: str, scope: Scope = None) -> None:
    with units() as work:
        require_person(work.connection, person, scope, lock=True)
        row = _open_learning(work.connection, person, target)
        store.change(work.connection, store.learning, row["id"], closed_at=clock.now(), outcome="given_up")
        _end_permits(work, person, target, "given up")


def _open_learning(connection: Connection, person: str, target: str) -> Row:
    row = next((one for one in store.learning_of(connection, person) if one["target"] == target), None)
    if row is None:
        raise errors.Conflict(f"{person} is not learning {target}: POST /v1/learners/{person}/learning first")
    return row


def _learning(connection: Connection, row: Mapping[str, Any]) -> Row:
    curriculum: Curriculum = known(connection, "curricula", row["target"])
    made = _progress(connection, row, curriculum)
    told = {**row, **texts(row, "opened_at", "closed_at")}
    return {**told, "progress": {**asdict(made), "words": words(made.missing)}}


def _progress(connection: Connection, row: Mapping[str, Any], curriculum: Curriculum) -> certificate.Progress:
    who = row["person"]
    completed = store.completions(connection, [who]).get(who, {})
    passed = curriculum.exam in store.passed_exams(connection, [who], _counts_since(connection, who, curriculum.exam)).get(who, set())
    seen = store.seen(store.evaluations_of(connection, [who], row["opened_at"]))
    return certificate.progress(curriculum, courses(connection), completed, passed, seen, row["opened_at"])


def _counts_since(connection: Connection, person: str, name: str) -> float:
    """An exam counts once: what was passed before a certificate that needed it was given does not count for the next."""
    of = {one.target for one in all_known(connection, "curricula").values() if one.exam == name}
    return max(
        (row["certified_at"] for row in store.certificates_of(connection, person, holding=False) if row["target"] in of), default=0.0
    )


# ---- permits


def give_permit(units: UnitOfWork, person: str, told: Mapping[str, Any], by: str, scope: Scope = None) -> Row:
    """Leave to practise; one given before for the channel is replaced."""
    with units() as work, refusals():
        require_active(require_person(work.connection, person, scope, lock=True))
        if by == person:
            raise errors.Conflict("nobody gives themselves leave to practise")
        _open_learning(work.connection, person, told["channel"])
        limits, now = policy(work.connection), clock.now()
        certificate.check_permit(told, person, now, limits.permit_days, limits.permit_contacts)
        supervisor = store.get_person(work.connection, told["supervisor"])
        if supervisor is None or not supervisor["active"]:
            raise errors.Invalid(
                f"{told['supervisor']} cannot supervise: nobody of that id works here",
                errors={"supervisor": ["Name somebody of /v1/people."]},
            )
        for old in store.permits_of(work.connection, person, now):
            if old["channel"] == told["channel"]:
                store.change(work.connection, store.permit, old["id"], ended_at=now)
        row = {"id": new_id(), "person": person, **told, "given_at": now, "given_by": by, "ended_at": None}
        store.add(work.connection, store.permit, row)
        announce(work, "practice_permitted", person, **told)
        return {**row, **texts(row, "given_at", "until", "ended_at")}


def withdraw_permit(units: UnitOfWork, person: str, channel: str, scope: Scope = None) -> None:
    with units() as work:
        require_person(work.connection, person, scope, lock=True)
        if not _end_permits(work, person, channel, "permit withdrawn"):
            raise errors.NotFound(f"{person} has no permit for {channel}")


def _end_permits(work: Work, person: str, channel: str, reason: str) -> bool:
    """Whether there was one."""
    now = clock.now()
    ended = [row for row in store.permits_of(work.connection, person, now) if row["channel"] == channel]
    for row in ended:
        store.change(work.connection, store.permit, row["id"], ended_at=now)
    if ended and reason and channel not in [row["target"] for row in store.certificates_of(work.connection, person)]:
        announce(work, "certification_lapsed", person, channel=channel, at=now, reason=reason)
    return bool(ended)


# ---- certificates


def certify(units: UnitOfWork, person: str, target: str, by: str, scope: Scope = None) -> Row:
    """Courses done, exam passed, practice evaluated: the person may serve the channel. Raises Conflict that says what is missing."""
    with units() as work, refusals():
        require_active(require_person(work.connection, person, scope, lock=True))
        if by == person:
            raise errors.Conflict("nobody certifies themselves")
        if any(row["target"] == target for row in store.certificates_of(work.connection, person)):
            raise errors.Conflict(f"{person} is certified for {target} already")
        row = _open_learning(work.connection, person, target)
        curriculum: Curriculum = known(work.connection, "curricula", target)
        made = _progress(work.connection, row, curriculum)
        certificate.require_complete(person, target, made)
        now = clock.now()
        store.change(work.connection, store.learning, row["id"], closed_at=now, outcome="certified")
        _end_permits(work, person, target, "")
        evidence = {
            "learning": row["id"],
            "curriculum_version": curriculum.version,
            "courses": list(made.courses_done),
            "practice": made.practice,
        }
        until = certificate.expires_at(curriculum, now)
        return _give(work, person, target, curriculum.kind, until, "earned", by, evidence)


def _give(
    work: Work, person: str, target: str, kind: str, until: float | None, source: str, by: str, evidence: Row, renews: str | None = None,
    since: float | None = None,
) -> Row:  # fmt: skip
    now = clock.now()
    due_at, _ = certificate.next_due(until, policy(work.connection).reminders, None, now)
    row = {
        "id": new_id(), "person": person, "target": target, "kind": kind, "certified_at": now if since is None else since, "expires_at": until,
        "ended_at": None, "end_reason": "", "source": source, "certified_by": by, "renews": renews, "evidence": evidence, "reminded": None, "due_at": due_at,
    }  # fmt: skip
    store.add(work.connection, store.certificate, row)
    if kind == "channel":
        announce(work, "certified", person, channel=target, certified_at=row["certified_at"], expires_at=until)
    return shown(row)


def renew(units: UnitOfWork, id: str, by: str, scope: Scope = None) -> Row:
    """A certificate anew, for another while; the old one stays on record. Raises Conflict that says what is missing."""
    with units() as work, refusals():
        row = _certificate(work, id, scope)
        if row["ended_at"] is not None and row["end_reason"] != "expired":
            raise errors.Conflict(f"a certificate that was {row['end_reason']} is not renewed")
        later = store.certificates_of(work.connection, row["person"], holding=False)
        if any(one["target"] == row["target"] and one["id"] > id for one in later):  # one that was revoked too: the way begins anew
            raise errors.Conflict(f"{row['person']} has had a newer certificate for {row['target']}")
        curriculum: Curriculum = known(work.connection, "curricula", row["target"])
        since, who = row["certified_at"], row["person"]
        if by == who:
            raise errors.Conflict("nobody renews their own certificate")
        completed = store.completions(work.connection, [who], since).get(who, {})
        passed = curriculum.exam in store.passed_exams(work.connection, [who], since).get(who, set())
        if lacking := certificate.renewal_missing(curriculum, courses(work.connection), completed, passed):
            raise errors.Conflict(
                f"{who}'s certificate for {row['target']} cannot be renewed yet: {ladder.words(lacking)}", missing=lacking
            )
        now = clock.now()
        if row["ended_at"] is None:
            store.change(work.connection, store.certificate, id, ended_at=now, end_reason="renewed", due_at=None)
        evidence = {"curriculum_version": curriculum.version, "courses": list(curriculum.renewal_courses)}
        until = certificate.renewed_until(curriculum, now, row["expires_at"])
        return _give(work, who, row["target"], row["kind"], until, "renewed", by, evidence, renews=id)


def revoke(units: UnitOfWork, id: str, reason: str, by: str, scope: Scope = None) -> Row:
    with units() as work:
        row = _certificate(work, id, scope)
        if row["ended_at"] is not None:
            raise errors.Conflict(f"the certificate holds no longer: {row['end_reason']}")
        now = clock.now()
        ended = {"ended_at": now, "end_reason": f"revoked: {reason}", "due_at": None, "evidence": {**row["evidence"], "revoked_by": by}}
        store.change(work.connection, store.certificate, id, **ended)
        if row["kind"] == "channel":
            announce(work, "certification_lapsed", row["person"], channel=row["target"], at=now, reason="revoked")
        return shown({**row, **ended})


def _certificate(work: Work, id: str, scope: Scope) -> Row:
    """The certificate, its person locked. Raises NotFound."""
    row = store.find(work.connection, store.certificate, id)
    if row is None:
        raise errors.NotFound(f"there is no certificate {id}")
    person = store.get_person(work.connection, row["person"], lock=True)
    if person is None or not in_sight(person, scope):
        raise errors.NotFound(f"there is no certificate {id}")
    return store.find(work.connection, store.certificate, id) or row


def list_certificates(connection: Connection, person: str, target: str, state: str, after: str, limit: int, scope: Scope = None) -> Row:
    rows = store.certificates_page(connection, person, target, state, after, limit, scope)
    return {"items": [shown(row) for row in rows], "next": rows[-1]["id"] if len(rows) == limit else None}


def shown(row: Mapping[str, Any]) -> Row:
    told = {name: row[name] for name in ("id", "person", "target", "kind", "source", "certified_by", "renews", "end_reason", "evidence")}
    return {**told, **texts(row, "certified_at", "expires_at", "ended_at"), "holds": row["ended_at"] is None}


def import_certificates(units: UnitOfWork, rows: Sequence[Mapping[str, Any]], by: str) -> list[AnswerlineError | None]:
    """Certificates that people had before: {person, channel, certified_at, expires_at, note, and for who is not known yet name, site, team}. One that
    holds already gives way. Returns for each row what refused it."""
    results: list[AnswerlineError | None] = []
    now = clock.now()
    with units() as work:
        there = store.lock_people(work.connection, [row["person"] for row in rows])
        new = {
            row["person"]: {
                "id": row["person"], "name": row.get("name", ""), "site": row.get("site", ""), "team": row.get("team", ""), "roles": {"agent": now},
                "active": True, "since": now, "heard": 0, "sequence": 0,
            }
            for row in rows
            if row["person"] not in there and not _is_over(row, now)
        }  # fmt: skip
        store.put_people(work.connection, list(new.values()))
        for row in rows:
            if _is_over(row, now):
                results.append(errors.Invalid("the certificate is over already"))
                continue
            since = now if row.get("certified_at") is None else row["certified_at"]
            held_now = [old for old in store.certificates_of(work.connection, row["person"]) if old["target"] == row["channel"]]
            if any((old["source"], old["certified_at"], old["expires_at"]) == ("imported", since, row["expires_at"]) for old in held_now):
                results.append(None)
                continue
            for old in held_now:
                store.change(work.connection, store.certificate, old["id"], ended_at=now, end_reason="renewed", due_at=None)
            for open in store.learning_of(work.connection, row["person"]):
                if open["target"] == row["channel"]:
                    store.change(work.connection, store.learning, open["id"], closed_at=now, outcome="certified")
            _give(
                work,
                row["person"],
                row["channel"],
                "channel",
                row["expires_at"],
                "imported",
                by,
                {"note": row.get("note", "")},
                since=since,
            )
            results.append(None)
    return results


def _is_over(row: Mapping[str, Any], now: float) -> bool:
    return row["expires_at"] is not None and row["expires_at"] <= now


def held(connection: Connection, who: Collection[str] | None = None, after: str = "", limit: int = 1000) -> Row:
    """Channel certificates that hold, by person, for tables: a page of people, or these people."""
    found = store.people(connection, ids=who, active=False)
    if who is None:
        found = [row for row in found if row["id"] > after][:limit]
    ids = [row["id"] for row in found]
    rows = [row for row in store.certificates_of(connection, ids) if row["kind"] == "channel"]
    rows.sort(key=lambda row: (row["person"], row["target"]))
    told = [
        {
            "person": row["person"],
            "channel": row["target"],
            "certified_at": row["certified_at"],
            "expires_at": row["expires_at"],
            "note": row["evidence"].get("note", ""),
        }
        for row in rows
    ]
    return {"items": told, "next": ids[-1] if who is None and len(ids) == limit else None}


def do_due(units: UnitOfWork) -> list[float]:
    """Reminders and ends that are due now; returns how late each was, in seconds."""
    late = []
    with units() as work:
        now = clock.now()
        waiting = store.due_certificates(work.connection, now, DUE_AT_ONCE)
        store.lock_people(work.connection, [row["person"] for row in waiting])
        reminders = policy(work.connection).reminders
        for told in waiting:
            row = store.find(work.connection, store.certificate, told["id"])
            if row is None or row["due_at"] is None or row["due_at"] > now:
                continue
            late.append(now - row["due_at"])
            due_at, days = certificate.next_due(row["expires_at"], reminders, row["reminded"], now)
            if due_at is not None and due_at <= now and days is None:
                store.change(work.connection, store.certificate, row["id"], ended_at=row["expires_at"], end_reason="expired", due_at=None)
                if row["kind"] == "channel":
                    announce(work, "certification_lapsed", row["person"], channel=row["target"], at=row["expires_at"], reason="expired")
                continue
            if due_at is not None and due_at <= now and days is not None:
                if row["kind"] == "channel":
                    announce(work, "certification_lapsing", row["person"], channel=row["target"], expires_at=row["expires_at"], days=days)
                row["reminded"] = days
                due_at, _ = certificate.next_due(row["expires_at"], reminders, days, now)
            store.change(work.connection, store.certificate, row["id"], reminded=row["reminded"], due_at=due_at)
    return late


# ---- exams


def begin_attempt(units: UnitOfWork, name: str, person: str, scope: Scope = None) -> Row:
    """The questions of a new attempt, without their answers."""
    with units() as work, refusals():
        require_person(work.connection, person, scope, lock=True)
        paper: Exam = known(work.connection, "exams", name)
        now, before = clock.now(), store.attempts_of(work.connection, person, name)
        for row in before:
            if row["ended_at"] is None and row["due_at"] <= now:
                store.change(work.connection, store.attempt, row["id"], ended_at=row["due_at"], score=0.0, passed=False)
                row["ended_at"] = row["due_at"]
        since = _counts_since(work.connection, person, name)
        passed = any(row["passed"] and row["ended_at"] >= since for row in before)
        open = any(row["ended_at"] is None for row in before)
        exam.require_attempt(paper, person, [row["started_at"] for row in before if row["started_at"] >= since], passed, open, now)
        seen = [one["id"] for row in before for one in row["drawn"]]
        row = {
            "id": new_id(), "person": person, "exam": name, "version": paper.version, "started_at": now, "due_at": now + paper.minutes * 60.0,
            "ended_at": None, "drawn": exam.draw(paper, secrets.SystemRandom(), seen), "marked": None, "score": None, "passed": None,
        }  # fmt: skip
        store.add(work.connection, store.attempt, row)
        return _attempt(row, questions=True)


def answer_attempt(units: UnitOfWork, id: str, answers: Mapping[str, Sequence[int]], scope: Scope = None) -> Row:
    """Grade it. Which answers were right is not told: the questions will be asked again."""
    with units() as work, refusals():
        row = store.find(work.connection, store.attempt, id)
        if row is None:
            raise errors.NotFound(f"there is no attempt {id}")
        require_person(work.connection, row["person"], scope, lock=True)
        row = store.find(work.connection, store.attempt, id) or row
        if row["ended_at"] is not None:
            raise errors.Conflict("the attempt is over")
        now = clock.now()
        if now > row["due_at"]:
            store.change(work.connection, store.attempt, id, ended_at=row["due_at"], score=0.0, passed=False)
            row |= {"ended_at": row["due_at"], "score": 0.0, "passed": False}
            return _attempt(row)
        paper: Exam = known(work.connection, "exams", row["exam"], row["version"])
        graded = exam.grade(paper, row["drawn"], answers)
        store.change(work.connection, store.attempt, id, ended_at=now, marked=graded.right, score=graded.score, passed=graded.passed)
        return _attempt({**row, "ended_at": now, "score": graded.score, "passed": graded.passed})


def list_attempts(connection: Connection, name: str, person: str, scope: Scope = None) -> Row:
    require_person(connection, person, scope)
    return {"attempts": [_attempt(row) for row in store.attempts_of(connection, person, name)]}


def _attempt(row: Mapping[str, Any], questions: bool = False) -> Row:
    told = {name: row[name] for name in ("id", "person", "exam", "version", "score")}
    told |= {"passed": None if row["passed"] is None else bool(row["passed"]), **texts(row, "started_at", "due_at", "ended_at")}
    if questions:
        told["questions"] = [{name: one[name] for name in ("id", "text", "choices", "several")} for one in row["drawn"]]
    return told


# ---- hours


def note_self_study(units: UnitOfWork, person: str, day: str, minutes: int, course: str, by: str, scope: Scope = None) -> Row:
    """Study alone, in breaks or after work: it counts up to the policy's cap, and completes a course that can be learnt so."""
    with units() as work:
        row = require_person(work.connection, person, scope, lock=True)
        limits = policy(work.connection)
        try:
            on = ledger.check_day(day, limits.zone_of(row["site"]), clock.now())
        except ValueError as error:
            raise errors.Invalid(f"the day cannot be used: {error}", errors={"day": [str(error)]}) from error
        already = sum(one.hours for one in work.connection.execute(
            select(store.hours.c.hours).where(store.hours.c.person == person, store.hours.c.day == day, store.hours.c.source == "self_study")
        ))  # fmt: skip
        if already * 60 + minutes > LONGEST_STUDY:
            raise errors.Invalid(
                f"nobody studies more than {LONGEST_STUDY} minutes a day beside their work; {already * 60:g} are noted for {day}"
            )
        version = 0
        if course:
            studied: Course = known(work.connection, "courses", course)
            if not studied.self_study:
                raise errors.Invalid(
                    f"{course} is attended, and not learnt alone", errors={"course": ["Leave it out, or name a course with `self_study`."]}
                )
            version = studied.version
        record_hours(work, person, on.year, day, "self_study", minutes / 60.0, by, course=course, version=version)
        if course:
            settle_course(work, person, studied, row["site"])
        return account_of(work.connection, row, on.year)


# ---- a learner as a whole


def learner(connection: Connection, person: str, scope: Scope = None) -> Row:
    """What somebody may serve, learns and has learnt; what each channel of their ladders still needs; their hours, lessons and seats."""
    row = require_person(connection, person, scope)
    now, has = clock.now(), standing(connection, person)
    steps = []
    for way in all_known(connection, "ladders").values():
        if way.role in row["roles"]:
            for rung in way.channels:
                state = "certified" if rung.channel in has.certified else "learning" if rung.channel in has.learning else "open"
                lacking = ladder.missing(way, rung.channel, has) if state == "open" else []
                steps.append(
                    {
                        "role": way.role,
                        "channel": rung.channel,
                        "state": "closed" if lacking else state,
                        "missing": lacking,
                        "words": words(lacking),
                    }
                )
    year = local_day(now, policy(connection).zone_of(row["site"])).year
    return {
        "person": person, "name": row["name"], "site": row["site"], "team": row["team"], "roles": sorted(row["roles"]), "active": bool(row["active"]),
        "certificates": [shown(one) for one in store.certificates_of(connection, person, holding=False)],
        "learning": [_learning(connection, one) for one in store.learning_of(connection, person)],
        "permits": [{**one, **texts(one, "given_at", "until", "ended_at")} for one in store.permits_of(connection, person, now)],
        "ladder": steps,
        "courses": [{"course": name, "version": version} for name, version in sorted(store.completions(connection, [person]).get(person, {}).items())],
        "hours": account_of(connection, row, year),
        "lessons": [shown_lesson(one) for one in store.lessons_of(connection, [person])],
        "sessions": classes.seats_of(connection, person, now),
        "paths": _paths_of(connection, row, now),
    }  # fmt: skip


def _paths_of(connection: Connection, row: Mapping[str, Any], now: float) -> list[Row]:
    record = records(connection, [row])[row["id"]]
    told = []
    for path in all_known(connection, "paths").values():
        if record.may_take(path):
            lacking = paths.missing(path, record, now)
            told.append({**_path(path), "ready": not lacking, "missing": lacking, "words": words(lacking)})
    return told


def _path(path: Path) -> Row:
    return {"path": path.name, "kind": path.kind, "role": path.role, "to_role": path.to_role, "to_team": path.to_team}


def shown_lesson(row: Mapping[str, Any]) -> Row:
    told = {name: row[name] for name in ("finding", "person", "scorecard", "criterion", "course", "verdict", "comparison")}
    return {**told, **texts(row, "assigned_at", "due_at", "done_at")}


# ---- what is heard


def receive(work: Work, events: Sequence[Event]) -> None:
    """People come, change and leave; contacts are served; quality evaluates, and finds gaps."""
    changed = {
        event.data["person"]: event
        for event in sorted(events, key=lambda event: event.sequence)
        if event.type == "gateway.person_changed.v1"
    }
    heard = {row["id"]: row["heard"] for row in store.people(work.connection, ids=changed, active=False)}
    gone = [who for who, event in changed.items() if not event.data["active"] and event.sequence > heard.get(who, 0)]
    classes.release(work, gone, clock.now(), {_whose(event) for event in events} - {""})
    zones: dict[str, str] = {}
    served: Counter[tuple[str, str, str]] = Counter()
    evaluated: set[str] = set()
    for event in sorted(events, key=lambda event: event.sequence):
        data = event.data
        match event.type:
            case "gateway.person_changed.v1":
                know_person(work, data, event)
            case "routing.contact_completed.v1" if data.get("agent"):
                agent = data["agent"]
                zone = zones.get(agent) or zones.setdefault(agent, _zone_of(work.connection, agent))
                served[agent, data["channel"], local_day(data["at"], zone).isoformat()] += 1
            case "qa.evaluation_submitted.v1" if data["kind"] == "human" and data["scorecard_kind"] == "internal":
                _note_evaluation(work, data, event.sequence)
                evaluated.add(data["agent"])
            case "qa.gap_found.v1" if data.get("agent") and data["cause"] in ("knowledge", "training"):
                assign_lesson(work, data, event)
    store.count_contacts(work.connection, served)
    if evaluated:
        judge_lessons(work, evaluated)


def _whose(event: Event) -> str:
    return event.data.get("person") or event.data.get("agent") or ""


def _zone_of(connection: Connection, person: str) -> str:
    row = store.get_person(connection, person)
    return policy(connection).zone_of(row["site"] if row else "")


def know_person(work: Work, data: Mapping[str, Any], event: Event) -> None:
    row = store.get_person(work.connection, data["person"])
    if row and row["heard"] >= event.sequence:
        return
    before = row["roles"] if row else {}
    roles = {role: before.get(role, event.time) for role in data["roles"]}
    told = {name: data[name] for name in ("name", "site", "team", "active")}
    kept = {"since": row["since"] if row else event.time, "sequence": row["sequence"] if row else 0}
    store.put_people(work.connection, [{"id": data["person"], **told, "roles": roles, "heard": event.sequence, **kept}])


def _note_evaluation(work: Work, data: Mapping[str, Any], sequence: int) -> None:
    marks = {f"{data['scorecard']}/{one['criterion']}": one["value"] for one in data["marks"] if one.get("value") is not None}
    told = {name: data[name] for name in ("contact", "channel", "queue", "contact_at", "practice")}
    row = {"id": data["evaluation"], "person": data["agent"], **told, "score": data.get("score"), "counts": data["counts"]}
    store.put_evaluation(work.connection, {**row, "evaluator": data.get("evaluator"), "marks": marks, "sequence": sequence})


# ---- findings become lessons


def assign_lesson(work: Work, data: Mapping[str, Any], event: Event) -> None:
    """The module for the criterion: the one that somebody chose, or else the course that says it teaches it."""
    before = next((row for row in store.lessons_of(work.connection, [data["agent"]]) if row["finding"] == data["finding"]), None)
    if before and (before["sequence"] >= event.sequence or before["done_at"] is not None):
        return
    there = courses(work.connection)
    names = {data["criterion"], f"{data['scorecard']}/{data['criterion']}"}
    course = (
        data.get("module")
        if data.get("module") in there
        else next((name for name, one in there.items() if names & set(one.criteria)), None)
    )
    wanted = (data.get("check") or {}).get("at_least")
    row = {
        "finding": data["finding"], "person": data["agent"], "scorecard": data["scorecard"], "criterion": data["criterion"], "course": course,
        "evaluation": data.get("evaluation"), "at_least": float(wanted) if isinstance(wanted, int | float) else 0.8,
        "assigned_at": before["assigned_at"] if before else data["at"], "due_at": data["due_at"], "done_at": None, "verdict": "assigned",
        "comparison": None, "sequence": event.sequence,
    }  # fmt: skip
    store.put_lesson(work.connection, row)
    if store.get_person(work.connection, data["agent"]) and (before is None or before["course"] != course):
        told = {name: row[name] for name in ("finding", "scorecard", "criterion", "course", "due_at")}
        tell(work, "lesson_assigned", data["agent"], **told)


def judge_lessons(work: Work, who: Collection[str]) -> None:
    """Whether the gaps of these people closed, by the evaluations of the criterion before the lesson and after it."""
    limits, now = policy(work.connection), clock.now()
    rows = [
        row
        for row in store.lessons_of(work.connection, who)
        if row["done_at"] is not None and now - row["done_at"] <= 2 * limits.lesson_days * certificate.DAY
    ]
    evaluations: dict[str, list[Row]] = {}
    for one in store.evaluations_of(work.connection, {row["person"] for row in rows}):
        evaluations.setdefault(one["person"], []).append(one)
    for row in rows:
        key, span = f"{row['scorecard']}/{row['criterion']}", limits.lesson_days * certificate.DAY
        values = [
            (one["contact_at"], one["marks"][key])
            for one in evaluations.get(row["person"], ())
            if key in one["marks"] and one["id"] != row["evaluation"]
        ]
        before = [value for at, value in values if row["assigned_at"] - span <= at < row["assigned_at"]]
        after = [value for at, value in values if row["done_at"] < at <= row["done_at"] + span]
        if len(after) < limits.lesson_evaluations:
            continue
        made = lessons.compare(before, after, row["at_least"], limits.lesson_evaluations)
        store.put_lesson(work.connection, {**row, "verdict": made.verdict, "comparison": asdict(made)})
        if made.verdict != row["verdict"] and store.get_person(work.connection, row["person"]):
            told = {name: row[name] for name in ("finding", "scorecard", "criterion", "course")}
            figures = {name: getattr(made, name) for name in ("verdict", "before", "after", "difference", "low", "high")}
            tell(work, "lesson_judged", row["person"], **told, **figures)
