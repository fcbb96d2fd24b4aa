"""A centre's calls from a CSV file, one row a call, as PBX exports and research data have them; and its agents from another."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from services.routing.domain.entities import TOP_LEVEL
from services.routing.simulation.play import Shift, Worker
from services.routing.simulation.scenario import Record
from shared.errors import Invalid

COLUMNS = ("arrival", "type", "wait_s", "outcome", "service_s", "agent")
MAY_BE_ABSENT = ("customer", "priority")
OUTCOMES = ("answered", "abandoned")
LONGEST_SECONDS = 604_800
YEARS = (1971, 2101)


def read_calls(path: Path, zone: ZoneInfo) -> Record:
    """Columns: arrival (local time), type, wait_s, outcome (answered or abandoned; others are left out), service_s, agent, and where they
    are known customer and priority. Raises Invalid with the line that is to be mended."""
    rows = list(_rows(path, COLUMNS, lambda row: _call(row, zone)))
    if not rows:
        raise Invalid(f"{path}: no call was answered or abandoned")
    rows.sort(key=lambda row: row["at"])  # stable: those of one second stay in their order
    return Record(
        np.array([row["at"] for row in rows]),
        [row["type"] for row in rows],
        [row["customer"] for row in rows],
        np.array([row["waited"] for row in rows]),
        np.array([row["answered"] for row in rows]),
        np.array([row["service"] for row in rows]),
        [row["agent"] for row in rows],
        np.array([row["priority"] for row in rows]),
    )


def _call(row: Mapping[str, str], zone: ZoneInfo) -> dict[str, Any] | None:
    if row["outcome"] not in OUTCOMES:
        return None
    answered = row["outcome"] == "answered"
    if not row["type"]:
        raise ValueError("type is empty")
    return {
        "at": _moment(row["arrival"], zone),
        "type": row["type"],
        "customer": row.get("customer") or "",
        "waited": _seconds("wait_s", row["wait_s"]),
        "answered": answered,
        "service": _seconds("service_s", row["service_s"]) if answered else 0.0,
        "agent": row["agent"] if answered else "",
        "priority": _priority(row.get("priority") or "0"),
    }


def _priority(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 3:
        raise ValueError(f"priority must be a whole number from 0 to 999, not {text!r}")
    return int(text)


def read_agents(path: Path, zone: ZoneInfo) -> tuple[list[Worker], list[Shift]]:
    """Columns: agent, skills (`PS:4 NW:2`), since, until (local times); one row a shift, skills needed in an agent's first row alone."""
    workers: dict[str, Worker] = {}
    shifts: list[Shift] = []

    def read(row: Mapping[str, str]) -> None:
        agent = row["agent"]
        if not agent:
            raise ValueError("agent is empty")
        if agent not in workers:
            skills = dict(_skill(one) for one in row["skills"].split())
            if not skills:
                raise ValueError(f"agent {agent} has no skills")
            workers[agent] = Worker(agent, skills)
        shift = Shift(agent, _moment(row["since"], zone), _moment(row["until"], zone))
        if shift.until <= shift.since:
            raise ValueError("a shift ends before it begins")
        shifts.append(shift)

    list(_rows(path, ("agent", "skills", "since", "until"), read))
    if not shifts:
        raise Invalid(f"{path}: there is no agent")
    return list(workers.values()), sorted(shifts, key=lambda shift: (shift.since, shift.agent))


def write_agents(path: Path, workers: Iterable[Worker], shifts: Iterable[Shift], zone: ZoneInfo) -> None:
    """What `read_agents` reads: to be changed by hand and tried."""
    skills = {worker.id: " ".join(f"{name}:{level}" for name, level in sorted(worker.skills.items())) for worker in workers}
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("agent", "skills", "since", "until"))
        for shift in shifts:
            moments = (datetime.fromtimestamp(at, zone).replace(tzinfo=None).isoformat() for at in (shift.since, shift.until))
            writer.writerow((shift.agent, skills[shift.agent], *moments))


def _skill(text: str) -> tuple[str, int]:
    name, _, level = text.rpartition(":")
    if not name or not level.isdigit() or not 1 <= int(level) <= TOP_LEVEL:
        raise ValueError(f"a skill is written as name:level with a level from 1 to {TOP_LEVEL}, not {text!r}")
    return name, int(level)


def _rows(path: Path, columns: Iterable[str], read: Any) -> Iterator[Any]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if missing := [name for name in columns if name not in (reader.fieldnames or ())]:
                found = ", ".join(name for name in reader.fieldnames or () if name)[:200] or "nothing"
                raise Invalid(
                    f"{path}: there is no column {', '.join(missing)}; the first line names them, parted by commas, and says: {found}"
                )
            for row in reader:
                try:
                    known = read({name: (value or "").strip() for name, value in row.items() if name is not None})
                except ValueError as error:
                    raise Invalid(f"{path}, line {reader.line_num}: {error}") from error
                if known is not None:
                    yield known
    except UnicodeDecodeError as error:
        raise Invalid(f"{path} is not in UTF-8: byte {error.start + 1} means nothing there; save it as CSV in UTF-8") from error
    except (OSError, csv.Error) as error:
        raise Invalid(f"{path}: {error}") from error


def _moment(text: str, zone: ZoneInfo) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no time: write 2026-11-21T09:00:00") from error
    if not YEARS[0] <= moment.year < YEARS[1]:
        raise ValueError(f"{text!r} is not between {YEARS[0]} and {YEARS[1]}")
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text or 0)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_SECONDS:
        raise ValueError(f"{name} must be a number of seconds from 0 to {LONGEST_SECONDS} (a week), not {text!r}")
    return seconds
