"""What the gateway tells: what an event means for the desk, and for those who only watch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from services.routing import store
from services.routing.domain.desk import Desk
from shared import clock
from shared.bus.envelope import Event
from shared.bus.outbox import Work

FRESH_SECONDS = 30.0
"""An arrival older than this is history: it is reported, and offered to nobody."""


def leg_row(event: Event) -> dict[str, Any]:
    leg = event.data["leg"]
    row = {name: leg.get(name) for name in store.LEG_FACTS}
    row |= {
        "contact": event.data["contact"],
        "number": leg["number"],
        "source": event.data["source"],
        "channel": event.data["channel"],
        "observed": True,
        "kind": "inbound",
        "sequence": event.sequence,
    }
    return row


def to_desk(desk: Desk, event: Event, is_news: bool, last_agent: str | None) -> None:
    """A routed contact arrives, hangs up, or is served by somebody else. An arrival that is late, or comes behind newer events, changes
    nothing here: it is in the leg already."""
    leg, contact, now = event.data["leg"], event.data["contact"], clock.now()
    known = desk.contacts.get(contact)
    is_here = known is not None and known.told_leg == leg["number"]
    distributed = bool(event.data.get("observed"))
    if distributed and is_here and leg["outcome"] == "waiting":
        desk.release(contact, now, "telephony_queue")
        return
    match event.type:
        case "gateway.contact_arrived.v1":
            arrived_at = leg.get("arrived_at") or event.time
            is_fresh = is_news and now - arrived_at <= FRESH_SECONDS
            is_routed = leg["queue"] in desk.queues and desk.queues[leg["queue"]].mode == "routed" and not distributed
            if leg["outcome"] == "waiting" and is_routed and is_fresh and (known is None or leg["number"] > known.told_leg):
                facts = {"source": event.data["source"]} | (event.data.get("facts") or {})
                desk.arrive(
                    contact,
                    leg["queue"],
                    min(arrived_at, now),
                    channel=event.data["channel"],
                    required_skills=event.data["required_skills"],
                    wants=event.data.get("wants"),
                    facts={"last_agent": last_agent} | facts if last_agent else facts,
                    customer=event.data.get("customer") or "",
                    thread=event.data.get("thread") or "",
                    leg=leg["number"],
                    trace=event.trace or "",
                )
        case "gateway.contact_answered.v1":
            if is_here:
                desk.release(contact, now, "answered_elsewhere")
        case (
            "gateway.contact_abandoned.v1" | "gateway.contact_ended.v1" | "gateway.contact_transferred.v1" | "gateway.contact_corrected.v1"
        ):
            merged = event.data.get("merged_into") is not None
            is_over = merged if leg["outcome"] == "void" else leg["outcome"] not in ("waiting", "talking")
            if is_over and is_here:
                desk.hang_up(contact, now, leg.get("ended_by") or "caller")


def leaves_another_queue(desk: Desk, event: Event) -> bool:
    """Whether a contact that arrives is still on the desk for the queue that it was in before."""
    known = desk.contacts.get(event.data["contact"])
    return (
        event.type == "gateway.contact_arrived.v1"
        and known is not None
        and not known.is_finished
        and event.data["leg"]["number"] > known.told_leg
    )


def is_ours(desk: Desk, event: Event) -> bool:
    """Whether the desk says what becomes of this leg; if not (it came too late, or is served elsewhere), the telephony system does."""
    known = desk.contacts.get(event.data["contact"])
    return known is not None and known.told_leg >= event.data["leg"]["number"] and known.state != "released"


def pass_on(work: Work, event: Event, sequence: int) -> None:
    """What we only watch is announced too: an agent may ask an expert about any call, and every call may be evaluated."""
    leg = event.data["leg"]
    data: dict[str, Any] = {
        "contact": event.data["contact"],
        "leg": leg["number"],
        "source": event.data["source"],
        "queue": leg["queue"],
        "channel": event.data["channel"],
        "observed": True,
        "at": event.time,
    }
    match event.type:
        case "gateway.contact_arrived.v1":
            name = "contact_queued"
        case "gateway.contact_answered.v1":
            name = "contact_assigned"
            data |= {"agent": leg.get("agent"), "address": leg.get("address"), "waited_seconds": leg.get("hold_seconds")}
        case "gateway.contact_abandoned.v1":
            name = "contact_abandoned"
            data |= {"reason": leg["outcome"], "waited_seconds": leg.get("hold_seconds")}
        case "gateway.contact_transferred.v1":
            name = "contact_transferred"
            data |= {"agent": leg.get("agent"), "target": leg.get("target"), "talk_seconds": leg.get("talk_seconds")}
        case "gateway.contact_ended.v1":
            name = "contact_completed"
            data |= {
                "agent": leg.get("agent"),
                "ended_by": leg.get("ended_by"),
                "waited_seconds": leg.get("hold_seconds"),
                "talk_seconds": leg.get("talk_seconds"),
            }
        case _:
            return
    work.announce(Event(f"routing.{name}.v1", data["contact"], data, event.time, sequence, correlation=event.correlation, cause=event.id))


def lose_sight(desk: Desk, names: Iterable[str], now: float) -> None:
    for name in names:
        if agent := desk.find_agent(name):
            desk.lose_sight(agent.id, now)


def see_again(desk: Desk, told: Mapping[str, Any], now: float) -> None:
    agent = desk.find_agent(told["agent"]) or desk.find_agent(told.get("address") or "")
    if agent and told["state"] in ("available", "paused", "offline"):
        desk.see_again(agent.id, told["state"], now)


def note_people(desk: Desk, news: Mapping[str, bool], now: float) -> None:
    for person, active in sorted(news.items()):
        desk.note_person(person, active, now)


def agent_row(event: Event) -> dict[str, Any]:
    names = ("source", "agent", "address", "state", "reason", "since")
    return {**{name: event.data.get(name) for name in names}, "queue": event.data.get("queue") or "", "sequence": event.sequence}
