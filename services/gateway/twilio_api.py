"""What we ask of Twilio ourselves: to pause and resume the recordings of a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import structlog

from services.gateway import recordings
from services.gateway.media import authorization
from services.gateway.sources import Register, Source
from shared import targets
from shared.bus.outbox import UnitOfWork
from shared.targets import Allowance, BadTarget, Target

log = structlog.get_logger()

STATUSES = {"pause": "paused", "resume": "in-progress"}


class Reply(Protocol):
    @property
    def status(self) -> int: ...


Post = Callable[[Target, Mapping[str, str], bytes, Allowance], Reply]
"""Raises BadTarget, and `unreachable` where no answer came."""


def obey(
    units: UnitOfWork, register: Register, allowance: Allowance, post: Post, unreachable: type[Exception], done: Callable[[str], None]
) -> None:
    """Make every source at Twilio do what it has not done yet. Those with trouble are tried again the next time; `done` is told which
    commands are settled."""
    for name in recordings.sources_waiting(units):
        source = register.get(name)
        if source.kind != "twilio" or not source.twilio_account:
            continue
        token = register.secret(name, "twilio_auth_token")
        for command in recordings.commands(units, name) if token else ():
            trouble = _tell(source, token or "", command, allowance, post, unreachable)
            recordings.confirm(units, command["id"], command["action"], not trouble, trouble)
            done(command["id"])
            if trouble:
                log.warning("Twilio does not do it", source=name, action=command["action"], trouble=trouble)


def request(source: Source, token: str, action: str, call: str) -> tuple[str, dict[str, str], bytes]:
    """Address, headers and body that pause or resume the recording of a call: silence in its place, so that its times stay right."""
    account, form = quote(source.twilio_account, safe=""), {"Status": STATUSES[action]}
    if action == "pause":
        form["PauseBehavior"] = "silence"
    url = f"{source.twilio_api}/2010-04-01/Accounts/{account}/Calls/{quote(call, safe='')}/Recordings/Twilio.CURRENT.json"
    return url, {**authorization(source, token), "Content-Type": "application/x-www-form-urlencoded"}, urlencode(form).encode()


def _tell(source: Source, token: str, command: Mapping[str, Any], allowance: Allowance, post: Post, unreachable: type[Exception]) -> str:
    """Why it was not done; empty where it was. Of several recordings of a contact each call's is told."""
    calls = list(dict.fromkeys([one["call"] for one in command["recordings"]])) or command["calls"][:1]
    if not calls:
        return "no call is known"
    trouble = ""
    for call in calls:
        url, headers, body = request(source, token, command["action"], call)
        try:
            status = post(targets.read_url(url, allowance), headers, body, allowance).status
        except (BadTarget, unreachable) as error:
            trouble = f"Twilio cannot be asked: {error}"
        else:
            trouble = trouble if 200 <= status < 300 else f"Twilio answered {status}"
    return trouble
