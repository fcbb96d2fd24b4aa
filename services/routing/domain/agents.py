"""The agents' side of the desk: profiles, certificates, what they chose to be, what they do."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Literal

from .book import Book
from .entities import (
    FULL,
    Agent,
    Contact,
    Offer,
    Pass,
    Permit,
    Phase,
    Presence,
    Queue,
    Skills,
    require_no_number,
    require_skills,
    require_text,
)
from .errors import Conflict, Invalid
from .needs import Score
from .policy import Policy

CHOICES = ("available", "paused", "offline")
MOST_NAMES = 500
"""Of skills, channels and so on that one agent has."""


class Agents(Book):
    # Queues and rules

    def put_queue(self, queue: Queue) -> Queue:
        """Create or replace a queue. Whoever waits in it is routed by the new settings, slice by slice."""
        queue.validate()
        queue = Queue.from_row(queue.to_row())
        self.queues[queue.name] = queue
        self._mark("queues", queue.name, queue)
        self._look_again(lambda contact: contact.queue == queue.name or any(to == queue.name for _, to in self._overflows(contact)))
        return queue

    def put_policy(self, policy: Policy) -> None:
        """Whoever waits under this policy is routed by its new version, slice by slice."""
        before = self.scorecards()
        self.policies[policy.name] = policy
        self._cards = None
        for agent_id in self.scores if self.scorecards() != before else ():
            if agent := self.agents.get(agent_id):
                self._seat(agent)
        self._look_again(lambda contact: self.queues[contact.queue].policy == policy.name)

    # Profiles

    def put_agent(
        self,
        agent_id: str,
        *,
        name: str = "",
        skills: Skills | None = None,
        languages: Skills | None = None,
        regions: Iterable[str] = (),
        site: str = "",
        team: str = "",
        employment: str = "",
        pool: str = "default",
        channels: Iterable[str] = (),
        capacity: Mapping[str, int] | None = None,
        queues: Iterable[str] = (),
        address: str = "",
        aliases: Iterable[str] = (),
    ) -> Agent:
        """Create an agent, offline, or replace the profile of one, whose state, certificates and contacts stay."""
        require_text("An agent's id", agent_id)
        require_text("An agent's pool", pool)
        require_skills(skills or {})
        require_skills(languages or {})
        for channel, percent in (capacity or {}).items():
            if not 1 <= percent <= FULL:
                raise Invalid(f"capacity: a contact on {channel} takes from 1 to 100 percent of an agent's attention, not {percent}.")
        aliases, channels, queues, regions = list(aliases), list(channels), list(queues), list(regions)
        told: dict[str, Collection[str]] = {"skills": skills or (), "languages": languages or (), "capacity": capacity or ()}
        told |= {"aliases": aliases, "channels": channels, "queues": queues, "regions": regions}
        for kind, names in told.items():
            if len(names) > MOST_NAMES:
                raise Invalid(f"{kind}: an agent has at most {MOST_NAMES}.")
        self._require_unclaimed(agent_id, [agent_id, address, *aliases])
        agent = self.agents.get(agent_id) or Agent(agent_id)
        for alias in agent.known_as:
            self._known_as.pop(alias, None)
        agent.name, agent.address, agent.aliases = name, address, aliases
        agent.skills, agent.languages, agent.regions = dict(skills or {}), dict(languages or {}), regions
        agent.site, agent.team, agent.employment, agent.pool = site, team, employment, pool
        agent.channels, agent.queues, agent.capacity = channels, queues, dict(capacity or {})
        self._enrol(agent)
        self._save_agent(agent)
        return agent

    def certify(self, agent_id: str, channel: str, until: float | None, now: float) -> Agent:
        """From now on certificates count, and no longer the directory's list. `until` None = without end."""
        self.now = now
        agent = self.agent(agent_id)
        if agent.certificates is None:
            agent.certificates = dict.fromkeys(agent.channels)
        agent.certificates[channel] = until
        self._enrol(agent)
        self._save_agent(agent)
        return agent

    def lapse(self, agent_id: str, channel: str, now: float) -> Agent:
        """Certificate and permit for the channel are gone: no new offer on it; what the agent has, they finish."""
        self.now = now
        agent = self.agent(agent_id)
        if agent.certificates is None:
            agent.certificates = dict.fromkeys(agent.channels)
        agent.certificates.pop(channel, None)
        agent.permits.pop(channel, None)
        self._save_agent(agent)
        for offer in self._offers_held_by(agent):
            if self.contacts[offer.contact].channel == channel:
                self._withdraw(offer, "certificate_lapsed", now)
        return agent

    def permit(self, agent_id: str, channel: str, permit: Permit, now: float) -> Agent:
        """Leave to practise without a certificate, while the supervisor is signed in, some contacts a day, until a moment."""
        self.now = now
        agent = self.agent(agent_id)
        if permit["per_day"] < 1:
            raise Invalid("A permit is for at least one contact a day.")
        if permit["supervisor"] == agent_id:
            raise Invalid("A permit needs somebody else as supervisor.")
        if permit["supervisor"] not in self.agents and permit["supervisor"] not in self.colleagues:
            raise Invalid(f"There is no agent {permit['supervisor']} who could supervise: the supervisor must be signed in for each offer.")
        agent.permits[channel] = permit
        self._enrol(agent)
        self._save_agent(agent)
        return agent

    def heed(self, agent_id: str, word: Mapping[str, Any], now: float) -> None:
        """What training says of an agent: {channel, kind (certified, permitted, lapsed), until, supervisor, per_day, queues}. A supervisor whom nobody
        knows is never present; nobody supervises themselves."""
        channel = word["channel"]
        if word["kind"] == "certified":
            self.certify(agent_id, channel, word["until"], now)
        elif word["kind"] == "lapsed":
            self.lapse(agent_id, channel, now)
        else:
            self.now = now
            agent = self.agent(agent_id)
            if agent.certificates is None:
                agent.certificates = dict.fromkeys(agent.channels)
            agent.certificates.pop(channel, None)  # it can only be the profile's: training gives no permit beside a certificate
            if word["supervisor"] != agent_id:
                permit: Permit = {"supervisor": word["supervisor"], "per_day": word["per_day"], "until": word["until"]}
                if word.get("queues"):
                    permit["queues"] = list(word["queues"])
                agent.permits[channel] = permit
            self._enrol(agent)
            self._save_agent(agent)
            self._look_after_learners(word["supervisor"], now)

    def note_scores(self, agent_id: str, scores: Mapping[str, Score], now: float) -> None:
        """How well somebody does, as qa says, by scorecard: it counts where a policy prefers by it."""
        self.now = now
        agent = self.agent(agent_id)
        self.scores[agent_id] = dict(scores)
        for score in scores.values():
            if now < score.until < math.inf:
                self._remind(score.until, "profile", agent_id)
        self._seat(agent)

    # What they choose to be

    def set_agent_state(self, agent_id: str, state: Presence, now: float, reason: str = "", session: str = "") -> Agent:
        """What an agent may choose: available, paused or offline.

        With an offer on the table, leaving declines it. During a contact the choice counts for what comes after: nobody is cut off, and
        no sign-out is lost. In wrap-up, any choice ends the wrap-up. Of two sign-ins the newer wins (`session` is the name of one).
        """
        self.now = now
        agent = self.agent(agent_id)
        self._require_choice(agent, state)
        require_no_number("A reason", reason)
        if session and session != agent.session:
            if agent.session and agent.present:
                self._tell_agent("agent_signed_in_elsewhere", agent, now, session=agent.session)
            agent.session = session
        self._end_wrap_ups(agent, None, None, now)
        self._choose(agent, state, reason, now)
        return agent

    def require_session(self, agent_id: str, session: str) -> None:
        """Raises Conflict when somebody has signed in as this agent since."""
        agent = self.agent(agent_id)
        if session and agent.session and session != agent.session:
            raise Conflict(f"Agent {agent_id} has signed in elsewhere since.")

    def lose_sight(self, agent_id: str, now: float) -> None:
        """The telephony system began anew: whether the agent is there is unknown until they are seen again."""
        self.now = now
        agent = self.agent(agent_id)
        if agent.present:
            self._withdraw_offers(agent, "source_restarted", now)
            self._choose(agent, "unknown", "source_restarted", now)

    def note_person(self, person: str, active: bool, now: float) -> None:
        """Somebody left, or is back. Whoever left is offered nothing more, has missed nothing, and finishes what they have in hand."""
        self.now = now
        if active:
            self.departed.discard(person)
            return
        self.departed.add(person)
        agent = self.agents.get(person)
        if agent and agent.presence != "offline":
            self._withdraw_offers(agent, "left", now)
            self._choose(agent, "offline", "left", now)

    def see_again(self, agent_id: str, state: Presence, now: float) -> None:
        self.now = now
        agent = self.agent(agent_id)
        if agent.presence == "unknown":
            self._choose(agent, state, "", now)

    def end_wrap_up(
        self,
        agent_id: str,
        now: float,
        *,
        contact_id: str | None = None,
        state: Presence | None = None,
        reason: str = "",
        disposition: dict[str, Any] | None = None,
    ) -> Agent:
        """The agent has finished with a contact (every one in wrap-up, if none is named): on to `state`, or to what they chose meanwhile."""
        self.now = now
        agent = self.agent(agent_id)
        if state is not None:
            self._require_choice(agent, state)
        if not self._end_wrap_ups(agent, contact_id, disposition, now):
            raise Conflict(f"Agent {agent_id} is {agent.state}, not in wrap-up{f' of {contact_id}' if contact_id else ''}.")
        if state is not None:
            self._choose(agent, state, reason, now)
        return agent

    # Transitions, each used by several commands

    def _end_wrap_ups(self, agent: Agent, contact_id: str | None, disposition: dict[str, Any] | None, now: float) -> bool:
        wrapping = [contact for contact, work in agent.work.items() if work["phase"] == "wrap_up" and contact_id in (None, contact)]
        for wrapped in wrapping:
            self._finish_wrap_up(agent, self.contacts[wrapped], disposition, now)
        if wrapping:
            self._settle(agent, now, idle=not agent.work)
        return bool(wrapping)

    def _choose(self, agent: Agent, state: Presence, reason: str, now: float) -> None:
        if state != "available":
            for offer in self._offers_held_by(agent):
                self._pass_on(offer, "declined", state, now)
        comes_back = state == "available" and agent.presence != "available"
        changed = (agent.presence, agent.reason) != (state, reason)
        appears = agent.present != (state in ("available", "paused"))
        agent.presence, agent.reason = state, reason
        if comes_back:
            agent.missed_in_row = 0
        self._settle(agent, now, idle=comes_back and not agent.work, tell=changed)
        if appears:
            self._look_after_learners(agent.id, now)

    def _look_after_learners(self, supervisor: str, now: float) -> None:
        """Their supervisor came or went: without one present nobody practises, and what they are asked to take is not theirs."""
        for learner in sorted(self._learners_of.get(supervisor, ())):
            if agent := self.agents.get(learner):
                for offer in [] if self.is_present(supervisor) else self._offers_held_by(agent):
                    channel = self.contacts[offer.contact].channel
                    permit = agent.permits.get(channel)
                    if permit and permit["supervisor"] == supervisor and not agent.is_certified(channel, now):
                        self._withdraw(offer, "supervisor_left", now)
                self._seat(agent)

    def _finish_wrap_up(self, agent: Agent, contact: Contact, disposition: dict[str, Any] | None, now: float) -> None:
        work = agent.work.pop(contact.id)
        told: dict[str, Any] = dict.fromkeys(("disposition", "resolved", "amount", "currency"))
        if disposition is not None:
            contact.disposition = disposition
            self._save_contact(contact)
            told = {"disposition": disposition["code"], **{name: disposition.get(name) for name in ("resolved", "amount", "currency")}}
            noted = {**told, "code": told["disposition"], "contact": contact.id, "leg": work["leg"], "agent": agent.id, "at": now}
            del noted["disposition"]
            self._changes.outcomes.append(noted)
        self._learn_service(contact, work, now - work["began"])
        of = {name: work[name] for name in ("leg", "queue", "channel")}  # the contact may have gone on to another
        self._tell("contact_wrapped_up", contact, now, **of, agent=agent.id, **told, wrap_up_seconds=round(now - work["since"], 3))

    def _take_on(self, agent: Agent, contact: Contact, phase: Phase, now: float) -> None:
        before = agent.work.get(contact.id)
        agent.work[contact.id] = {
            "phase": phase,
            "queue": contact.queue,
            "leg": contact.leg,
            "channel": contact.channel,
            "load": before["load"] if before else agent.takes(contact.channel),  # as it was when there was room for it
            "began": before["began"] if before and phase == "wrap_up" else now,
            "since": now,
        }

    def _let_go(self, agent: Agent, contact: Contact, now: float, *, wrap_up: bool) -> None:
        """The conversation is over for this agent: on to wrap-up, which has no limit, or free for others."""
        if wrap_up:
            self._take_on(agent, contact, "wrap_up", now)
        elif work := agent.work.pop(contact.id, None):
            self._learn_service(contact, work, now - work["began"])
        self._settle(agent, now, idle=not agent.work, contact=contact.id if wrap_up else None)

    def _settle(self, agent: Agent, now: float, *, idle: bool = False, contact: str | None = None, tell: bool = False) -> None:
        """Show what the agent does now. `idle`: from now on they are last among the idle; else they keep their place."""
        previous, agent.state = agent.state, agent.doing()
        if idle:
            agent.idle_since = now
        if agent.state != previous or (tell and agent.state == agent.presence):
            agent.since = now
            reason = agent.reason if agent.state == agent.presence else ""
            self._tell_agent("agent_state_changed", agent, now, state=agent.state, previous=previous, reason=reason, contact=contact)
        told = (agent.state, agent.presence, agent.reason)
        if self._noted.get(agent.id) != told:
            self._noted[agent.id] = told
            self._changes.states.append(
                {"agent": agent.id, "state": agent.state, "presence": agent.presence, "reason": agent.reason, "at": now}
            )
        self._save_agent(agent)

    def _withdraw(self, offer: Offer, reason: str, now: float) -> None:
        """Not the agent's doing: they keep their place among the idle. The contact waits again."""
        contact, agent = self.contacts[offer.contact], self.agents[offer.agent]
        self._close(offer, "withdrawn", reason, now)
        contact.state = "waiting"
        agent.work.pop(contact.id, None)
        self._settle(agent, now)
        self._save_contact(contact)

    def _withdraw_offers(self, agent: Agent, reason: str, now: float) -> None:
        for offer in self._offers_held_by(agent):
            self._withdraw(offer, reason, now)

    def _pass_on(self, offer: Offer, state: Literal["declined", "expired"], reason: str, now: float) -> None:
        """The agent let the contact go by: it waits again, in its old place. Who misses several in a row is paused."""
        contact, agent = self.contacts[offer.contact], self.agents[offer.agent]
        before = contact.passed.get(agent.id, Pass(at=now, declined=0, missed=0))
        declined = before["declined"] + (state == "declined")
        missed = before["missed"] + (state == "expired")
        contact.passed[agent.id] = Pass(at=now, declined=declined, missed=missed)
        contact.state = "waiting"
        self._close(offer, state, reason, now, declined=declined, missed=missed)
        agent.work.pop(contact.id, None)
        agent.missed_in_row = agent.missed_in_row + 1 if state == "expired" else 0
        if agent.missed_in_row >= self.queues[contact.queue].miss_limit and agent.presence == "available":
            self._withdraw_offers(agent, "missed_offers", now)
            self._choose(agent, "paused", "missed_offers", now)
        else:
            self._settle(agent, now, idle=not agent.work)
        self._save_contact(contact)

    def _close(self, offer: Offer, state: Any, reason: str, now: float, **more: Any) -> None:
        offer.state, offer.reason, offer.closed_at = state, reason, now
        contact = self.contacts[offer.contact]
        contact.offer = None
        self._mark("offers", offer.id, offer)
        open_for = round(now - offer.made_at, 3)
        self._tell(f"offer_{state}", contact, now, offer=offer.id, agent=offer.agent, reason=reason, open_seconds=open_for, **more)

    def _offers_held_by(self, agent: Agent) -> list[Offer]:
        held = [self.contacts[contact].offer for contact, work in agent.work.items() if work["phase"] == "offered"]
        return [self.offers[offer] for offer in held if offer is not None]

    def _look_again(self, concerns: Callable[[Contact], bool]) -> None:
        self._to_review |= {contact.id: None for contact in self.contacts.values() if not contact.is_finished and concerns(contact)}
        self._review()

    def _require_choice(self, agent: Agent, state: str) -> None:
        if state not in CHOICES:
            raise Invalid(f"An agent can choose {', '.join(CHOICES)}, not {state!r}.")
        if agent.id in self.departed and state != "offline":
            raise Conflict(f"Agent {agent.id} has left (the person is deactivated) and can only be offline.")
