"""Recordings paused and resumed where they are made: what the gateway asks for, as each telephony system is told it.

The gateway gives a command as long as nobody has said that it is done, so that nothing is lost with a bridge; to do it twice changes nothing.
`pause_commands`, `pause_requests` and `pause_lines` are for whoever has a connection of their own; `obey_beside` is for a bridge.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import structlog

from services.gateway.bridges.kernel import Answer, Client, Pauses, Where

log = structlog.get_logger()

DOOR = "/v1/telephony/recording-commands"
WAIT_SECONDS = 20
Command = Mapping[str, Any]
"""`id`, `action` (pause or resume), `calls` (the contact's channels) and `recordings` (`call` and `location` of each under way)."""

Execute = Callable[[Command], str]
"""Does it, and returns why it could not; empty where it is done."""


class Asks(Protocol):
    def get(self, path: str) -> Answer: ...
    def post(self, path: str, body: bytes, content_type: str) -> Answer: ...


# ---- what each system is told


def channels_of(command: Command) -> list[str]:
    """The channels whose recordings are meant; where none is known, all of the contact's."""
    return list(dict.fromkeys(one["call"] for one in command["recordings"])) or list(command["calls"])


def pause_commands(command: Command) -> list[tuple[str, dict[str, str]]]:
    """For Asterisk's manager interface: an action and its headers for each channel. MixMonitor writes silence meanwhile, in both
    directions, so that times in the file stay right. Asterisk finds a channel by its Uniqueid as by its name. Of several MixMonitors on one
    channel older Asterisks silence one alone: success is certain only where `recordings` has one for each channel."""
    state = "1" if command["action"] == "pause" else "0"
    return [("MixMonitorMute", {"Channel": channel, "Direction": "both", "State": state}) for channel in channels_of(command)]


def pause_requests(command: Command) -> list[tuple[str, str]]:
    """For ARI: method and path for each recording that ARI began; it names them without their ending."""
    method = "POST" if command["action"] == "pause" else "DELETE"
    names = [str(PurePosixPath(one["location"]).with_suffix("")) for one in command["recordings"] if not one["location"].startswith("/")]
    return [(method, f"/recordings/live/{quote(name, safe='')}/pause") for name in names]


def pause_lines(command: Command) -> list[str]:
    """For FreeSWITCH: an API command for each recording. Masked, silence is written."""
    mask = "mask" if command["action"] == "pause" else "unmask"
    return [f"uuid_record {one['call']} {mask} {one['location']}" for one in command["recordings"]]


# ---- the loop of a bridge


def obey(client: Asks, source: str, execute: Execute, stopped: threading.Event, pauses: Pauses) -> None:
    """Ask for commands and carry them out, until stopped. What went wrong is reported, and tried again after a growing pause."""
    while not stopped.is_set():
        answer = client.get(f"{DOOR}?{urlencode({'source': source, 'wait': WAIT_SECONDS})}")
        commands = answer.document.get("commands") if answer.taken else None
        if commands is None:
            log.warning("cannot ask for recordings to pause", status=answer.status, reason=answer.reason)
        fine = [_carry_out(client, command, execute) for command in commands or ()]
        if commands is None or not all(fine):
            stopped.wait(pauses.next(min(answer.retry_after, 60.0)))
        else:
            pauses.reset()


def _carry_out(client: Asks, command: Command, execute: Execute) -> bool:
    try:
        trouble = execute(command)
    except Exception as error:  # noqa: BLE001 - whatever it is, the one who asked for the pause must hear that it is not in force
        trouble = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if trouble:
        log.error("a recording is not paused or resumed as asked", action=command["action"], trouble=trouble)
    told = {"action": command["action"], "done": not trouble, "trouble": trouble[:500]}
    answer = client.post(f"{DOOR}/{command['id']}", json.dumps(told).encode(), "application/json")
    return not trouble and answer.taken


def obey_beside(where: Where, execute: Execute, stopped: threading.Event) -> None:
    """Obey beside the bridge's own work, in a thread and over a connection of its own: a pause waits for nothing else."""
    client = Client(where.to, where.key)
    threading.Thread(target=obey, args=(client, where.source, execute, stopped, Pauses()), name="recordings", daemon=True).start()
