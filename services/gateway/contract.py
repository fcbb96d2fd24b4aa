"""What /openapi.json says beyond the doors: a word on each area, and for each door an example (examples/, one file for each area)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from shared.http.documents import About

EXAMPLES = Path(__file__).parent / "examples"

DESCRIPTION = """\
Send an API key, or the token of a sign-in, with each request: `Authorization: Bearer KEY`. `x-roles` of an operation says which roles open
it; `admin` opens all.

Every refusal is a problem document (RFC 9457) whose `detail` says what to mend. A path that is not used with its method answers 405 with
`Allow`; too many requests 429, and our own trouble 503, both with `Retry-After`: try again after so many seconds. A POST may carry an
`Idempotency-Key`, so that trying again does nothing twice.

Lists come in pages: send `next` of the one as `cursor` of the other until it is null. Times are RFC 3339 with a zone; where a field says
so, epoch seconds. Optional fields may be added to any answer: pass over what you do not know.
"""

TAGS = {
    "contacts": "Calls, chats and matters in writing, from their arrival to their end.",
    "callbacks": "The customer hangs up and keeps their place.",
    "agents": "Agents' profiles, states, offers, certificates and permits.",
    "queues": "Where contacts wait: observed (a PBX distributes them) or routed (Answerline does).",
    "policies": "Who is served first, by whom, and what happens when it takes long; in versions.",
    "hours": "Opening hours, holidays, emergency closings and the night switch.",
    "dispositions": "The outcomes that a wrap-up chooses from.",
    "experts": "Questions in the middle of a contact, whom they go to, and the room in which they are answered.",
    "training": "Who may serve which channel and how they come to it: courses, sessions, exams, practice, certificates, hours.",
    "quality": "Scorecards, evaluations and their disputes, findings with plans, samples, automatic checks, calibrations, and what the figures hide.",
    "surveys": "What customers say: whom to ask, and their answers.",
    "customers": "The directory of customers.",
    "people": "The directory of people, sites and teams.",
    "reports": "Figures: by queue, by agent, by interval of a site's clock.",
    "stream": "What happens, as it happens: server-sent events.",
    "webhooks": "What happens, posted to an address of yours, signed.",
    "telephony": "What telephony systems post, each in its own format.",
    "sources": "The register of telephony systems.",
    "recordings": "References to recordings, playback, and the pause for card numbers.",
    "imports": "Agents, skills, customers and certificates from CSV, and back.",
    "access": "Sign-in, sign-out, and the audit log.",
    "keys": "API keys: shown once, revoked at any time.",
    "operation": "Health, metrics, and what describes this API.",
    "pages": "Pages for people.",
}


def _examples() -> dict[str, dict[str, Any]]:
    """By operation; no operation may stand in two files."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(EXAMPLES.glob("*.json")):
        for operation, example in orjson.loads(path.read_bytes()).items():
            if operation in found:
                raise ValueError(f"{path.name}: there is an example of {operation} already")
            found[operation] = example
    return found


ABOUT = About(DESCRIPTION, TAGS, _examples())
