"""What happens for each event, command and question that comes through a door of the service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from services.routing import hearing, interval_reports, interval_store, numbers, score_store, store, training_store
from services.routing.domain import errors as domain
from services.routing.domain import record
from services.routing.domain.desk import Desk
from services.routing.domain.disposition import Tree, amount_sold, choose, free_code
from services.routing.domain.entities import Agent, Contact, Offer, Queue
from services.routing.domain.needs import Need, Profile
from services.routing.domain.policy import announcement
from services.routing.hearing import FRESH_SECONDS
from services.routing.live import PARKED_SECONDS, LiveDesk
from services.routing.rules import Rules
from shared import clock, errors
from shared.bus.envelope import Event
from shared.bus.outbox import UnitOfWork, Work

KEEP_DECISIONS = 30 * 86400.0
LANGUAGES: tuple[record.Language, ...] = ("en", "zh")


def close_the_books(units: UnitOfWork) -> None:
    """Quarter hours that are over become final; decisions that nobody will ask about any more are forgotten."""
    with units() as work:
        interval_reports.finalise(work.connection, clock.now())
        store.prune_decisions(work.connection, clock.now() - KEEP_DECISIONS)


# ---- events


def receive(live: LiveDesk, work: Work, events: Sequence[Event]) -> None:
    """A batch from the gateway: contacts of routed queues go to the desk, all others are kept as they were observed. What is on the
    desk stays its own when its queue is observed from now on: else its agent would be busy for ever."""
    events = sorted(events, key=lambda event: event.sequence)  # what a lost broker had held comes again behind what is newer
    of_contacts = [event for event in events if "leg" in event.data]
    modes = store.known_queues(work.connection, {event.data["leg"]["queue"] for event in of_contacts}) if of_contacts else {}
    on_desk = store.on_desk(work.connection, {event.data["contact"] for event in of_contacts})
    routed = [event for event in of_contacts if _is_routed(event, modes) or event.data["contact"] in on_desk]
    watched = [event for event in of_contacts if not _is_routed(event, modes) and event.data["contact"] not in on_desk]
    for event in watched:
        hearing.pass_on(work, event, event.sequence)
    ours, theirs = live.shard.divide(work.connection, routed)
    live.shard.forward(work, theirs)
    _note_agents(live, work, events)
    _note_people(live, work, [event for event in events if event.type == "gateway.person_changed.v1"])
    _note_erased(live, work, [event for event in events if event.type == "gateway.customer_erased.v1"])
    _note_training(live, work, [event for event in events if event.type in training_store.KINDS])
    _note_scores(live, work, [event for event in events if event.type == score_store.AGENT_SCORED])
    rows = [hearing.leg_row(event) for event in of_contacts]
    interval_store.note_late(work.connection, rows, clock.now())
    if ours:
        # the desk before the legs, as in every command: in the other order two would wait for each other for ever
        with live.turn(work) as desk:
            live.hear(work, desk, ours, store.save_legs(work.connection, rows))
    else:
        store.save_legs(work.connection, rows)
    store.note_holds(work.connection, [hearing.leg_row(event) for event in routed])


def _is_routed(event: Event, modes: Mapping[str, str]) -> bool:
    """Whether its queue is ours to distribute. A source that distributes by itself says so in each event."""
    return modes.get(event.data["leg"]["queue"]) == "routed" and not event.data.get("observed")


def _note_agents(live: LiveDesk, work: Work, events: Sequence[Event]) -> None:
    """After a restart of the telephony system nobody knows who is there, until they are seen again."""
    restarts = [event for event in events if event.type == "gateway.source_restarted.v1"]
    reported = [event for event in events if event.type == "gateway.agent_state_reported.v1"]
    fresh = {event.data["source"] for event in restarts if clock.now() - event.data["at"] <= FRESH_SECONDS}
    lost = {source: store.agents_of(work.connection, source) for source in fresh}
    live.shard.pass_reports(work, lost, reported)
    if restarts or (reported and live.misses_somebody):
        with live.turn(work) as desk:
            now = clock.now()
            for event in restarts:
                hearing.lose_sight(desk, lost.get(event.data["source"], ()), now)
            for event in reported:
                hearing.see_again(desk, event.data, now)
    store.save_observed_agents(work.connection, [hearing.agent_row(event) for event in reported])
    for event in restarts:
        store.forget_agents_of(work.connection, event.data["source"], event.data["at"])


def _note_people(live: LiveDesk, work: Work, events: Sequence[Event]) -> None:
    """Who has left is taken out of work on whichever desk they are."""
    if news := store.note_people(work.connection, events) if events else {}:
        live.shard.tell_all(work, "people", news)
        with live.turn(work) as desk:
            hearing.note_people(desk, news, clock.now())


def _note_training(live: LiveDesk, work: Work, events: Sequence[Event]) -> None:
    """Whatever comes late or twice is no news."""
    if news := training_store.note(work.connection, events) if events else {}:
        with live.turn(work) as desk:
            for person, channels in sorted(news.items()):
                live.heed_training(work, desk, person, channels)


def _note_erased(live: LiveDesk, work: Work, events: Sequence[Event]) -> None:
    """Who is to be forgotten is so on every desk, and in what desks have put away."""
    for event in events:
        told = {name: event.data[name] for name in ("customer", "stand_in", "contacts")}
        live.shard.tell_all(work, "erased", told)
        with live.turn(work) as desk:
            desk.forget_customer(**told, now=clock.now())
        work.write()  # what the desk has written must not come after
        store.forget_customer(work.connection, **told)


def _note_scores(live: LiveDesk, work: Work, events: Sequence[Event]) -> None:
    if news := score_store.note(work.connection, events) if events else set():
        with live.turn(work) as desk:
            for agent in sorted(news):
                live.heed_scores(work, desk, agent)


# ---- commands


def put_queue(desk: Desk, queue: dict[str, Any]) -> dict[str, Any]:
    """Whoever waits in a queue that is observed from now on is the PBX's again."""
    row = desk.put_queue(Queue(**queue)).to_row()
    desk.leave_to_the_pbx(clock.now())
    return row


def listen(desk: Desk, contact_id: str, now: float, language: str = "", polls: bool = False) -> dict[str, Any]:
    """Somebody waits for a contact. Was it parked, it is back in its place, unless it was away for too long."""
    contact = desk.contacts[contact_id]
    if (contact.parked_until or 0) > now:
        desk.unpark(contact_id, now)
    if polls and contact.state in ("waiting", "offered"):
        desk.note_poll(contact_id)
    return assignment(desk, contact_id, now, language)


def is_news_to(desk: Desk, contact_id: str) -> bool:
    """Whether it is still to be noted that somebody keeps asking whom to dial for a contact."""
    contact = desk.contacts[contact_id]
    return not contact.polled and contact.state in ("waiting", "offered")


def stop_listening(desk: Desk, contact_id: str, now: float) -> None:
    """The waiting request broke off: the caller has most likely hung up, so nobody is asked in vain meanwhile."""
    if contact_id in desk.contacts:
        desk.park(contact_id, now, PARKED_SECONDS)


def assignment(desk: Desk, contact_id: str, now: float, language: str = "") -> dict[str, Any]:
    """Where a routed contact stands, and with whom; while it waits, what to tell the customer, in this language if there is a choice."""
    contact = desk.contacts.get(contact_id)
    if contact is None:
        raise domain.NotFound(f"Contact {contact_id} is not being routed.")
    agent = desk.agents.get(contact.agent or "")
    answer: dict[str, Any] = {
        "contact": contact.id,
        "state": contact.state,
        "queue": contact.queue,
        "agent": agent.id if agent else None,
        "name": agent.name if agent else None,
        "address": agent.address if agent else None,
    }
    if contact.state == "closed":
        opening = desk.opening(desk.queues[contact.queue], now)
        return answer | {
            "message": dict(opening.message),
            "opens_at": None if opening.opens_at is None else clock.to_text(opening.opens_at),
        }
    if _is_to_be_dialled(contact):
        return answer | {"dial": contact.caller}
    if contact.state in ("waiting", "offered"):
        policy, foreseen = desk.policy_of(contact), desk.foresee(contact)
        if foreseen is not None:
            answer |= {"position": foreseen.position, "estimated_wait_seconds": foreseen.seconds}
        if contact.offer is not None:
            answer["offer"] = _to_be_rung(desk, desk.offers[contact.offer])
        if announce := announcement(policy, language or str(contact.wants.get("language", ""))):
            answer |= {"announce": announce, "announce_every_seconds": policy.announce and policy.announce.every_seconds}
        if policy.callback and now - contact.place_at >= policy.callback.offer_after_seconds:
            answer["callback_offered"] = True
        if contact.suggested:
            answer["suggested_channel"] = contact.suggested
    return answer


def _to_be_rung(desk: Desk, offer: Offer) -> dict[str, Any]:
    """Who is being asked: for a telephony system that rings their telephone and answers the offer for them."""
    agent = desk.agents[offer.agent]
    return {"id": offer.id, "agent": agent.id, "address": agent.address or None, "expires_at": clock.to_text(offer.expires_at)}


def _is_to_be_dialled(contact: Contact) -> bool:
    """An agent is reserved for a callback, and its number has not answered yet: the one moment in which it is told."""
    return contact.kind == "callback" and contact.state == "assigned" and contact.answered_at is None


def accept(desk: Desk, offer_id: str, agent_id: str, session: str, now: float) -> dict[str, Any]:
    desk.require_session(agent_id, session)
    offer = desk.accept(offer_id, agent_id, now)
    contact = desk.contacts[offer.contact]
    return {**offer.to_row(), **({"dial": contact.caller} if _is_to_be_dialled(contact) else {})}


def wrap_up(desk: Desk, in_force: Rules, agent_id: str, contact_id: str | None, disposition: Any, now: float) -> Agent:
    """The agent has finished with a contact; `disposition` is chosen from its queue's tree, or any code where the queue has none."""
    agent = desk.agents.get(agent_id)
    wrapping = [id for id, work in agent.work.items() if work["phase"] == "wrap_up" and contact_id in (None, id)] if agent else []
    chosen = None
    if disposition is not None and wrapping:
        told = {"code": disposition} if isinstance(disposition, str) else disposition
        chosen = _chosen(in_force.trees.get(desk.queues[desk.contacts[wrapping[0]].queue].dispositions), told)
    return desk.end_wrap_up(agent_id, now, contact_id=contact_id, disposition=chosen)


def _chosen(tree: Tree | None, told: dict[str, Any]) -> dict[str, Any]:
    if tree is None:
        sold = amount_sold(told.get("amount"), told.get("currency"))
        return {"code": free_code(told["code"]), "resolved": told.get("resolved"), "amount": sold, "currency": told.get("currency")}
    made = choose(tree, told["code"], resolved=told.get("resolved"), amount=told.get("amount"), currency=told.get("currency"))
    return {**made.to_dict(), "resolved": made.resolved == "yes"}


def promise_callback(desk: Desk, contact_id: str, number: str, country: str, zone: str, now: float, caller_ref: str = "") -> dict[str, Any]:
    """`zone`: the customer's, where it is known better than by the number. `caller_ref`: by which the gateway knows the number again."""
    called = numbers.to_call_back(number, country)
    if called is None:
        raise domain.Invalid("A callback needs a number that is not withheld.")
    zones = (zone,) if zone else numbers.zones(called) or (str(desk.zone),)
    known = desk.contacts.get(contact_id)
    in_conversation = known is not None and known.state == "assigned" and not known.is_promised
    promise = desk.owe_callback if in_conversation else desk.promise_callback
    return shown(promise(contact_id, now, called, zones, caller_ref))


def shown(contact: Contact) -> dict[str, Any]:
    """A contact on the desk as the API tells of it: without the number."""
    names = ("id", "queue", "channel", "leg", "kind", "state", "agent", "customer")
    row = {name: getattr(contact, name) for name in names}
    matter = contact.matter or {}
    moments = {"callback_at": (contact.callback or {}).get("next_at"), "reply_due_at": matter.get("reply_due")}
    told = {name: None if moment is None else clock.to_text(moment) for name, moment in moments.items()}
    return {
        **row,
        "contact": contact.id,
        **told,
        "replies": matter.get("replies", 0),
        "call_suggested": matter.get("call_suggested", False),
    }


def offers_to(desk: Desk, agent_id: str, session: str = "") -> list[dict[str, Any]]:
    """What an agent is asked to take, the oldest first."""
    agent = desk.agents.get(agent_id)
    if agent is None:
        raise domain.NotFound(f"No agent is called {agent_id}.")
    desk.require_session(agent_id, session)
    held = [desk.contacts[id] for id, work in agent.work.items() if work["phase"] == "offered"]
    offers = [(desk.offers[contact.offer], contact) for contact in held if contact.offer]
    return [_offered(offer, contact) for offer, contact in sorted(offers, key=lambda pair: (pair[0].made_at, pair[0].id))]


def _offered(offer: Offer, contact: Contact) -> dict[str, Any]:
    more = {"queue": contact.queue, "channel": contact.channel, "kind": contact.kind, "customer": contact.customer or None}
    return {**offer.to_row(), **more, "waited_seconds": contact.waited(clock.now())}


def decisions(connection: Connection, contact_id: str, agent: str | None = None, profile: Profile | None = None) -> dict[str, Any]:
    """Why each offer of a contact went where it went: the record, and the same in words. `agent`, whose profile today is `profile`: why
    that one was not chosen."""
    found = []
    for row in store.decisions_on(connection, contact_id):
        told = {
            "offer": row["id"],
            "at": clock.to_text(row["at"]),
            "agent": row["agent"],
            "state": row["state"],
            "words": {language: record.words(row["record"], language) for language in LANGUAGES},
            "rerun_agrees": record.rerun(row["record"]) == (row["contact"], row["agent"]),
            "record": row["record"],
        }
        if agent is not None and profile is not None:
            told["asked_about"] = _asked_about(connection, row["record"], agent, profile)
        found.append(told)
    if not found:
        raise errors.NotFound(f"nothing has been decided about contact {contact_id}")
    return {"contact": contact_id, "decisions": found}


def _asked_about(connection: Connection, decision: dict[str, Any], agent: str, profile: Profile) -> dict[str, Any]:
    """What kept this agent from getting the contact."""
    candidates = [
        one for one in (decision["chosen"], *decision["runners_up"]) if one["agent"] == agent and one["contact"] == decision["contact"]
    ]
    need = decision["need"]
    asked = Need(need["queue"], need["channel"], tuple(need["skills"].items()), tuple(need["languages"].items()))
    state = interval_store.state_at(connection, agent, decision["at"])
    if agent == decision["agent"]:
        reason = "chosen"
    elif candidates:
        reason = "candidate"
    else:
        reason = profile.objection(asked) or (state if state and state != "available" else "candidate")
    score = candidates[0]["score"] if candidates else None
    return {"agent": agent, "reason": reason, "words": {one: record.reason_in(reason, one) for one in LANGUAGES}, "score": score}
