"""What qa said last of how well each agent does, for the policies that prefer by it, whether or not there is such an agent yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Connection, Float, Table, Text, select

from services.routing.domain.needs import Score
from services.routing.store import metadata
from shared.bus.envelope import Event
from shared.db import bulk
from shared.db.types import Moment, Serial

AGENT_SCORED = "qa.agent_scored.v1"
GOOD_FOR_SECONDS = 90 * 86400.0
"""So long after the last evaluation in it a score says something of its agent."""

agent_score = Table(
    "agent_score",
    metadata,
    Column("agent", Text, primary_key=True),
    Column("scorecard", Text, primary_key=True),
    Column("best", Float, nullable=False),
    Column("until", Moment, nullable=False),
    Column("sequence", Serial, nullable=False),
)
"""`best`: the upper end of the score's interval. The row with the highest sequence holds."""


def note(connection: Connection, events: Sequence[Event]) -> set[str]:
    """Keep what these events say, unless something newer is known. Returns of whom there is news. Scores of one queue or channel alone, and
    those that rules gave, are not what a policy means."""
    last = {
        (event.data["agent"], event.data["scorecard"]): event
        for event in sorted(events, key=lambda event: event.sequence)
        if event.data["kind"] == "human" and event.data.get("queue") is None and event.data.get("channel") is None
    }
    rows = [
        {
            "agent": agent,
            "scorecard": scorecard,
            "best": min(1.0, max(0.0, event.data["high"])),
            "until": event.data["until"] + GOOD_FOR_SECONDS,
            "sequence": event.sequence,
        }
        for (agent, scorecard), event in last.items()
    ]
    facts, key = ("best", "until", "sequence"), ("agent", "scorecard")
    written = bulk.insert(connection, agent_score, rows, key=key, update=facts, newer="sequence", returning=("agent",))
    return {row.agent for row in written}


def scores_of(connection: Connection, names: Iterable[str]) -> dict[str, Score]:
    """By scorecard, of one agent, by whatever names they are known: the newest of each."""
    table = agent_score
    rows = connection.execute(select(table).where(table.c.agent.in_(set(names))).order_by(table.c.sequence)).mappings()
    return {row["scorecard"]: _score(row) for row in rows}


def all_scores(connection: Connection) -> dict[str, dict[str, Score]]:
    """agent -> scorecard -> score"""
    found: dict[str, dict[str, Score]] = {}
    for row in connection.execute(select(agent_score).order_by(agent_score.c.sequence)).mappings():
        found.setdefault(row["agent"], {})[row["scorecard"]] = _score(row)
    return found


def _score(row: Mapping[Any, Any]) -> Score:
    return Score(row["best"], row["until"])
