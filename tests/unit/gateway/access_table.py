"""The table of docs/access.md: which role opens which route, and what a scope leaves over. Generated from the routes:

python -m tests.unit.gateway.access_table
"""

from __future__ import annotations

from pathlib import Path

from services.gateway.keys import ROLES
from services.gateway.service import GatewayService
from shared.http.endpoint import Endpoint, endpoints_of

PAGE = Path(__file__).parents[3] / "docs" / "access.md"
BEGIN, END = "<!-- generated from the routes -->\n", "<!-- end -->\n"

REACH = {
    "agents": "the agent",
    "analyses": "leave out the rest, changed without a scope",
    "audit": "",
    "calendars": "read by all, changed without a scope",
    "certifications": "the person's site and team; a person who does not lead: their own",
    "calibrations": "leave out the rest, changed without a scope",
    "chats": "",
    "checks": "read by all, changed without a scope",
    "closures": "its queues",
    "contacts": "the contact's queues",
    "customers": "everybody's",
    "dispositions": "read by all, changed without a scope",
    "escalations": "the contact's queue; a person: those that concern them",
    "evaluations": "the contact's queue; an agent: their own",
    "events": "everybody's",
    "experts": "read by all, changed without a scope; a person: their own presence",
    "exams": "the person's site and team; a person who does not lead: their own",
    "exports": "without a scope alone",
    "findings": "the contact's queue; an agent: those that concern them",
    "flags": "the queue",
    "imports": "without a scope alone",
    "keys": "",
    "ladders": "read by all, changed without a scope",
    "learners": "the person's site and team; a person who does not lead: themselves",
    "me": "oneself",
    "offers": "the agent",
    "people": "site and team",
    "policies": "read by all, changed without a scope",
    "programmes": "read by all, changed without a scope",
    "queues": "the queue",
    "recordings": "the contact's queues",
    "reports": "leave out the rest",
    "sessions": "the session's site; of seats, a person who does not lead: their own",
    "samples": "read by all, changed without a scope",
    "scorecards": "read by all, changed without a scope",
    "sign-in": "",
    "sign-out": "oneself",
    "sites": "site and team",
    "sources": "read by all",
    "stream": "leaves out the rest",
    "survey-rules": "read by all, changed without a scope",
    "surveys": "leave out the rest",
    "teams": "site and team",
    "telephony": "everybody's",
    "training": "read by all, changed without a scope",
    "training-plans": "read by all, changed without a scope",
    "webhooks": "",
}
"""By which object a scope decides, for each collection under /v1. A new one is written down here, and in services.gateway.scopes, which
otherwise lets a principal with a scope read it and not change it."""


def collection_of(endpoint: Endpoint) -> str:
    return endpoint.path.split("/")[2] if endpoint.path.startswith("/v1/") else ""


def table() -> str:
    lines = [f"| route | {' | '.join(ROLES)} | scope |", f"|---|{':-:|' * len(ROLES)}---|"]
    for endpoint, _ in endpoints_of(GatewayService):
        opens = set(ROLES) if endpoint.public or not endpoint.roles else {*endpoint.roles, "admin"}
        marks = ["no key" if endpoint.public else "x" if role in opens else "" for role in ROLES]
        reach = "" if endpoint.public or endpoint.roles == ("admin",) else REACH.get(collection_of(endpoint), "")
        lines.append(f"| {endpoint.method} {endpoint.path} | {' | '.join(marks)} | {reach} |")
    return "\n".join(lines) + "\n"


def parts() -> tuple[str, str, str]:
    """What stands before the table, the table, and what stands behind it."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    written, _, behind = rest.partition(END)
    return before, written, behind


if __name__ == "__main__":
    before, _, behind = parts()
    PAGE.write_text(f"{before}{BEGIN}{table()}{END}{behind}")
