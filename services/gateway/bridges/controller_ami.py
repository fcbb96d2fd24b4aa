"""Calls put through over Asterisk's manager interface: callers wait in `Gosub(answerline,hold,1(QUEUE))` of
deploy/asterisk/extensions-answerline.conf, agents are rung by Originate, and Redirect brings the two together.

AMI repeats nothing after a break: at each login the channels there are (CoreShowChannels) say who has hung up or picked up meanwhile, and
who waits of whom this process has never heard.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

import click
import orjson
import structlog

from services.gateway.bridges.asterisk_ami import QUIET_SECONDS, Denied, Manager, Session, in_sessions, logging_in
from services.gateway.bridges.controller import ANSWER_SECONDS, CAUSES, LEG, Call, Control, Found, Why
from services.gateway.bridges.kernel import Pauses, Where, reaching, until_stopped

log = structlog.get_logger()

EVENTS = "system,call,user"
READ = frozenset({"UserEvent", "Newchannel", "Newstate", "OriginateResponse", "Hangup", "CoreShowChannel", "CoreShowChannelsComplete"})
HOLD, AGENT = "answerline", "answerline-agent"
"""Contexts of the dialplan: callers, agents."""
UP = "6"
QUEUE, BRIDGE = "Queue", "Bridge"
"""Applications in which the dialplan has a caller who is the PBX's own again, or an agent's."""
BUSY_REASONS: Mapping[str, Why] = {"1": "no_answer", "3": "no_answer", "5": "busy"}
"""OriginateResponse's Reason: the last that was heard of the telephone (3: ringing, 5: busy)."""
SAID = ("state", "position", "estimated_wait_minutes", "announce", "announce_every_seconds")


class ManagerSwitch:
    """A `Switch` over whichever session there is. While there is none, nothing is done: after the next login it is found out what is so."""

    def __init__(self, ring_seconds: float) -> None:
        self.ring_seconds = ring_seconds
        self.session: Session | None = None
        self.names: dict[str, str] = {}
        """agents' channels: id -> name"""
        self.up: set[str] = set()
        """those who had picked up when we came back"""
        self.number_of: Callable[[str], str] = lambda _call: ""
        self.on_up: Callable[[str], None] = lambda _leg: None

    def _send(self, action: str, **headers: str) -> None:
        if session := self.session:
            try:
                session.send(action, **headers)
            except (OSError, Denied) as error:
                log.warning("the manager interface could not be told", action=action, why=type(error).__name__)

    def keep(self, call: Call) -> None:
        """`beat` does it for all."""

    def ring(self, call: Call, leg: str, address: str) -> None:
        if leg in self.names:  # it rings since before the break
            if leg in self.up:
                self.on_up(leg)
            return
        number = self.number_of(call.id)
        self._send(
            "Originate",
            ActionID=leg,
            Channel=address,
            ChannelId=leg,
            Context=AGENT,
            Exten="s",
            Priority="1",
            Timeout=str(int(self.ring_seconds * 1000)),
            Async="true",
            **({"CallerID": f"<{number}>"} if number.lstrip("+").isdigit() else {}),
        )

    def hang_up(self, leg: str) -> None:
        self._send("Hangup", Channel=leg, Cause="16")

    def connect(self, call: Call, leg: str) -> None:
        self._send("Setvar", Channel=call.id, Variable="ANSWERLINE_AGENT", Value=self.names.get(leg, leg))
        self._redirect(call, "bridge")

    def announce(self, call: Call, found: Found) -> None:
        said = {name: found[name] for name in SAID if name in found}
        self._send("Setvar", Channel=call.id, Variable="ANSWERLINE_SAY", Value=orjson.dumps(said).decode())

    def leave(self, call: Call, how: str) -> None:
        if how == "fallback":
            self._redirect(call, "release")
        elif how != "answered":  # after a talk the dialplan goes on by itself
            self._send("Setvar", Channel=call.id, Variable="ANSWERLINE_STATE", Value=how)
            self._redirect(call, "over")

    def _redirect(self, call: Call, extension: str) -> None:
        self._send("Redirect", Channel=call.id, Context=HOLD, Exten=extension, Priority="1")

    def beat(self, number: int) -> None:
        """A global variable, which all who wait in the dialplan look at."""
        self._send("Setvar", Variable="ANSWERLINE_BEAT", Value=str(number))

    def forget(self, leg: str) -> None:
        self.names.pop(leg, None)
        self.up.discard(leg)


class Controller:
    """From the manager's messages to the calls."""

    def __init__(self, manager: Manager, gateway: Where, ring_seconds: float = 20.0, quiet_seconds: float = QUIET_SECONDS) -> None:
        self.manager, self.quiet_seconds = manager, quiet_seconds
        self.switch = ManagerSwitch(ring_seconds)
        self.control = Control(gateway, self.switch)
        self.switch.number_of, self.switch.on_up = self.control.number_of, self.control.leg_answered
        self._list: tuple[str, list[Mapping[str, str]]] = ("", [])
        self._fresh: set[str] = set()
        """callers heard of since the list was asked for, which may be older"""

    def run(self, stopped: threading.Event, pauses: Pauses) -> None:
        beats = threading.Thread(target=self.control.watch, args=(self.switch.beat,), name="beat", daemon=True)
        beats.start()
        try:
            in_sessions(self.manager, lambda session: self.follow(session, stopped), stopped, pauses, events=EVENTS, read=READ)
        finally:
            self.control.stop()

    def follow(self, session: Session, stopped: threading.Event) -> None:
        log.info("controlling by the manager interface", host=self.manager.host)
        self._list, self._fresh = (session.send("CoreShowChannels"), []), set()
        self.switch.session = session
        try:
            for messages in session.messages(stopped, self.quiet_seconds):
                for message in messages:
                    self.hear(message)
        finally:
            self.switch.session = None

    def hear(self, message: Mapping[str, str]) -> None:
        id = message.get("Uniqueid", "")
        match message.get("Event"):
            case "UserEvent":
                self._hear_caller(message, id)
            case "Newchannel" | "Newstate" if id.startswith(LEG):
                self.switch.names[id] = message.get("Channel", "")
            case "OriginateResponse":
                self._hear_originate(message)
            case "Hangup" if id.startswith(LEG):
                self.switch.forget(id)
                self.control.leg_failed(id, CAUSES.get(_whole(message.get("Cause", "")), "unavailable"))
            case "Hangup":
                self.control.hears(id, Call.caller_gone)
            case "CoreShowChannel" if message.get("ActionID") == self._list[0]:
                self._list[1].append(message)
            case "CoreShowChannelsComplete" if message.get("ActionID") == self._list[0]:
                self._reconcile(self._list[1])
            case None if message.get("Response") == "Error" and message.get("ActionID", "").startswith(LEG):
                self.control.leg_failed(message["ActionID"], "unavailable")

    def _hear_caller(self, message: Mapping[str, str], id: str) -> None:
        match message.get("UserEvent"):
            case "AnswerlineHold":
                self._fresh.add(id)
                self.control.arrives(id, message.get("Queue", ""), _number(message))
            case "AnswerlineFallback":
                # one who has been sent to an agent meanwhile goes there all the same: the Redirect is heeded wherever the caller is
                self.control.hears(id, lambda call: [] if call.state == "talking" else call.taken_back())
            case "AnswerlineUnbridged":
                self.control.hears(id, Call.not_connected)
            case "AnswerlineDone":
                self.control.hears(id, lambda call: call.failed(call.leg, "unavailable"))

    def _hear_originate(self, message: Mapping[str, str]) -> None:
        leg = message.get("ActionID", "")
        if message.get("Response") == "Success":
            self.switch.names[leg] = message.get("Channel", "")
            self.control.leg_answered(leg)
        else:
            self.control.leg_failed(leg, BUSY_REASONS.get(message.get("Reason", ""), "unavailable"))

    def _reconcile(self, channels: list[Mapping[str, str]]) -> None:
        self._list = ("", [])
        there = {channel.get("Uniqueid", ""): channel for channel in channels}
        legs = {id: channel for id, channel in there.items() if id.startswith(LEG)}
        self.switch.names = {id: channel.get("Channel", "") for id, channel in legs.items()}
        self.switch.up = {id for id, channel in legs.items() if channel.get("ChannelState") == UP}
        in_queue = {id for id, channel in there.items() if channel.get("Application") == QUEUE}
        self.control.reconcile({*there, *self._fresh}, self.switch.up, in_queue)
        for id, channel in there.items():
            if channel.get("Context") != HOLD or id in in_queue:
                continue
            if channel.get("Exten") == "hold":
                self.control.hears(id, Call.still_held)
                self.control.arrives(id, "", _number(channel), is_new=False)
            elif channel.get("Application") == BRIDGE and (bridge := channel.get("BridgeId")):
                for leg in (id for id, other in legs.items() if other.get("BridgeId") == bridge):
                    self.control.talks(id, "", leg)


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


def _number(message: Mapping[str, str]) -> str:
    """AMI writes <unknown> for none."""
    number = message.get("CallerIDNum", "")
    return "" if number == "<unknown>" else number


@click.command("asterisk-control")
@reaching
@logging_in
@click.option("--ring", default=20.0, show_default=True, type=click.FloatRange(1, 300), help="Seconds that an agent's telephone rings.")
def control(where: Where, manager: Manager, ring: float) -> None:
    """Ring agents and connect callers who wait in the dialplan, over Asterisk's manager interface."""
    try:
        Controller(manager, replace(where, timeout=ANSWER_SECONDS), ring).run(until_stopped(), Pauses())
    except ValueError as error:
        raise click.ClickException(str(error)) from error
