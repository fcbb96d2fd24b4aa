"""The rules in force: policies, calendars, closures, trees of dispositions. Read when the desk is opened and whenever one of them changes."""

from __future__ import annotations

from dataclasses import dataclass, field

import structlog
from sqlalchemy import Connection

from services.routing import calendar_store, disposition_store, policy_store
from services.routing.calendars import Calendars
from services.routing.domain.disposition import Tree
from services.routing.domain.entities import Queue
from services.routing.domain.hours import Closure, Opening, add_business_seconds, decide
from services.routing.domain.policy import Policy
from shared.errors import Invalid

log = structlog.get_logger()


@dataclass
class Rules:
    policies: dict[str, Policy] = field(default_factory=dict)
    calendars: Calendars = field(default_factory=Calendars)
    closures: list[Closure] = field(default_factory=list)
    trees: dict[str, Tree] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    """Of calendars."""
    next_start: float | None = None
    """When the next scheduled policy starts."""

    def opening(self, queue: Queue, now: float) -> Opening:
        """Whether the queue takes contacts now."""
        return decide(self.calendars.of(queue.calendar, now), self.closures, queue.name, now)

    def after_business(self, queue: Queue, start: float, seconds: float) -> float | None:
        """The moment so many seconds of the queue's opening time after `start`; None where it never opens again."""
        return add_business_seconds(self.calendars.of(queue.calendar, start), start, seconds)


def load(connection: Connection, now: float, known: Rules) -> Rules:
    """What holds now; of `known`, what has not changed is not read again."""
    rules = Rules(calendars=known.calendars, versions=dict(known.versions))
    for name, version in policy_store.active_versions(connection).items():
        same = known.policies.get(name)
        try:
            rules.policies[name] = (
                same if same and same.version == version else policy_store.compiled(policy_store.find(connection, name, version))
            )
        except Invalid as stricter:  # than when it was accepted: its queues go by the built-in policy until it is mended
            log.error("policy not understood any more", policy=name, version=version, error=stricter.detail)
    for name, version in calendar_store.newest_versions(connection).items():
        if rules.versions.get(name) != version:
            rules.versions[name] = version
            try:
                rules.calendars.put(name, calendar_store.get_calendar(connection, name)["document"])
            except Invalid as stricter:  # its queues are always open until it is mended
                log.error("calendar not understood any more", calendar=name, version=version, error=stricter.detail)
    rules.closures = calendar_store.closures_in_force(connection, now)
    for name, version in disposition_store.newest_versions(connection).items():
        tree = known.trees.get(name)
        rules.trees[name] = tree if tree and tree.version == version else disposition_store.get(connection, name, version)
    rules.next_start = policy_store.next_start(connection)
    return rules
