"""Calls put through over Asterisk's REST interface: callers come by `Stasis(answerline-control,QUEUE)` (`Gosub(answerline,stasis,1(QUEUE))` of
deploy/asterisk/extensions-answerline.conf), hear music and announcements, agents are rung into the same application, and a bridge joins the two.

While nobody listens to the application, Stasis() lets callers go on in the dialplan by itself. Those who are in it already are held for two
seconds at a time (TIMEOUT(absolute), whose end is the dialplan's extension T): whenever Answerline has answered for a caller, for two more.

ARI repeats nothing after a break: after each connection the channels and bridges there are say who has hung up, picked up or gone on
meanwhile, and who waits or talks of whom this process has never heard.
"""

from __future__ import annotations

import http.client
import json
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlencode
from zlib import crc32

import click
import structlog

from services.gateway.bridges.asterisk_ari import Rest
from services.gateway.bridges.controller import ANSWER_SECONDS, CAUSES, LEG, Call, Control, Found, Why
from services.gateway.bridges.kernel import Pauses, Where, reaching, secret_of, until_stopped
from services.gateway.bridges.websocket import Closed, Refused, WebSocket
from shared import clock

log = structlog.get_logger()

APPLICATION = "answerline-control"
BRIDGE = "answerline-bridge-"
"""A call's bridge is named after its caller's channel."""
AGENT = "agent"
"""First argument of the application for an agent's channel; a caller's is the queue."""
HOLD_SECONDS = 1.8
"""Stasis() looks at the time every 0.2 s, and the PBX's own queue is to have its callers within 2 s."""
REQUEST_SECONDS = 5.0
QUIET_SECONDS = 5.0
ORPHAN_SECONDS = 5.0
"""So long after a connection an agent's channel that nobody rang for is hung up."""
LANES = 4
LARGEST_ANSWER = 4 * 1024 * 1024
HELD = ("waiting", "ringing", "accepting")
CONFLICT = 409
FAULTS = (OSError, http.client.HTTPException, ValueError)

Event = Mapping[str, Any]


class Replaced(Exception):
    """Somebody else listens to the application now."""


# ---- asking ARI


class Line:
    """One connection to ARI, kept open; for one thread."""

    def __init__(self, rest: Rest) -> None:
        self.rest, self.connection = rest, rest.connection(REQUEST_SECONDS)

    def ask(self, method: str, path: str, **parameters: str) -> tuple[int, Any]:
        """Status and document. Raises FAULTS."""
        kept_open = self.connection.sock is not None
        try:
            return self._ask_once(method, path, parameters)
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException):
            if not kept_open:  # it may have been closed long ago, for idling
                raise
        return self._ask_once(method, path, parameters)

    def _ask_once(self, method: str, path: str, parameters: Mapping[str, str]) -> tuple[int, Any]:
        target = self.rest.path(path) + (f"?{urlencode(parameters, quote_via=quote)}" if parameters else "")
        try:
            self.connection.request(method, target, headers={**self.rest.headers, "Content-Length": "0"})
            response = self.connection.getresponse()
            body = response.read(LARGEST_ANSWER)
        except BaseException:
            self.connection.close()
            raise
        return response.status, json.loads(body or b"null")


class Lanes:
    """Requests, those of one call in their order. What fails for the connection's sake is told to `on_fault`."""

    def __init__(self, rest: Rest, on_fault: Callable[[Exception], None]) -> None:
        self._on_fault = on_fault
        self._queues: list[queue.SimpleQueue[Callable[[Line], None] | None]] = [queue.SimpleQueue() for _ in range(LANES)]
        for lane in self._queues:
            threading.Thread(target=self._run, args=(lane, Line(rest)), name="ari", daemon=True).start()

    def put(self, call: str, what: Callable[[Line], None]) -> None:
        self._queues[crc32(call.encode()) % LANES].put(what)

    def _run(self, lane: queue.SimpleQueue[Callable[[Line], None] | None], line: Line) -> None:
        while (what := lane.get()) is not None:
            try:
                what(line)
            except FAULTS as error:
                self._on_fault(error)
        line.connection.close()

    def close(self) -> None:
        for lane in self._queues:
            lane.put(None)


def channel_path(id: str, *more: str) -> str:
    return "/".join(["/channels", quote(id, safe=""), *more])


# ---- what is done


def phrases(found: Found, self_service: str) -> list[str]:
    """What a waiting caller is told, as media of ARI, in the sounds that come with Asterisk."""
    position, minutes = found.get("position"), found.get("estimated_wait_minutes")
    said: list[str] = []
    if position == 1:
        said += ["sound:queue-youarenext"]
    elif isinstance(position, int):
        said += ["sound:queue-thereare", f"number:{position}", "sound:queue-callswaiting"]
    if isinstance(minutes, int):
        said += ["sound:queue-holdtime", f"number:{minutes}", "sound:queue-minute" if minutes == 1 else "sound:queue-minutes"]
    if found.get("announce") and self_service:
        said.append(self_service if ":" in self_service else f"sound:{self_service}")
    return said


class StasisSwitch:
    """A `Switch` by requests to ARI. While no events are heard nothing is done: after the next connection it is found out what is so."""

    def __init__(self, rest: Rest, ring_seconds: float, music: str, self_service: str) -> None:
        self.rest, self.ring_seconds, self.music, self.self_service = rest, ring_seconds, music, self_service
        self.number_of: Callable[[str], str] = lambda _call: ""
        self.on_up: Callable[[str], None] = lambda _leg: None
        self.on_failed: Callable[[str, Why], None] = lambda _leg, _why: None
        self.on_unmet: Callable[[str, str], None] = lambda _call, _leg: None
        self.connected = threading.Event()
        self._lanes = Lanes(rest, self._broken)
        self._call_of: dict[str, str] = {}
        """agents' channels -> the call they were rung for"""
        self._saying: dict[str, str] = {}
        """call -> its announcement"""
        self._said = 0

    def _broken(self, error: Exception) -> None:
        if self.connected.is_set():
            log.warning("ARI could not be asked; connecting anew", why=type(error).__name__)
        self.connected.clear()

    def put(self, call: str, what: Callable[[Line], None]) -> None:
        """Do this after all that was asked for this call before, if we are connected then."""

        def when_connected(line: Line) -> None:
            if self.connected.is_set():
                what(line)

        self._lanes.put(call, when_connected)

    # A customer is held

    def welcome(self, id: str, is_up: bool) -> None:
        """A caller is there: answered, with music."""

        def welcome(line: Line) -> None:
            if not is_up:
                line.ask("POST", channel_path(id, "answer"))
            line.ask("POST", channel_path(id, "moh"), mohClass=self.music)

        self.put(id, welcome)

    def keep(self, call: Call) -> None:
        def keep(line: Line) -> None:
            if call.state in HELD:  # the time was lifted for a talk, which it would end
                self._set(line, call.id, "TIMEOUT(absolute)", str(HOLD_SECONDS))

        self.put(call.id, keep)

    def announce(self, call: Call, found: Found) -> None:
        media = phrases(found, self.self_service)
        if media:
            self.put(call.id, lambda line: self._say(line, call, media))

    def _say(self, line: Line, call: Call, media: list[str]) -> None:
        if call.state != "waiting" or call.id in self._saying:
            return
        self._said += 1
        saying = self._saying[call.id] = f"{LEG}say-{call.id}-{self._said}"
        line.ask("DELETE", channel_path(call.id, "moh"))
        status, _ = line.ask("POST", channel_path(call.id, "play"), media=",".join(media), playbackId=saying)
        if status >= 400:
            log.warning("an announcement could not be played", status=status)
            self._music_again(line, call)

    def said(self, id: str, playback: str, call: Call | None) -> None:
        """An announcement is over."""
        if self._saying.get(id) != playback:
            return
        if call is None:
            self._saying.pop(id, None)
        else:
            self.put(id, lambda line: self._music_again(line, call))

    def _music_again(self, line: Line, call: Call) -> None:
        self._saying.pop(call.id, None)
        if call.state in HELD:
            line.ask("POST", channel_path(call.id, "moh"), mohClass=self.music)

    def _silence(self, line: Line, id: str) -> None:
        if saying := self._saying.pop(id, ""):
            line.ask("DELETE", f"/playbacks/{quote(saying, safe='')}")
        line.ask("DELETE", channel_path(id, "moh"))

    @staticmethod
    def _set(line: Line, id: str, variable: str, value: str) -> None:
        line.ask("POST", channel_path(id, "variable"), variable=variable, value=value)

    # Somebody is rung

    def ring(self, call: Call, leg: str, address: str) -> None:
        self._call_of[leg] = call.id
        self.put(call.id, lambda line: self._ring(line, call, leg, address))

    def _ring(self, line: Line, call: Call, leg: str, address: str) -> None:
        if call.leg != leg:
            return
        number = self.number_of(call.id)
        asked = {
            "endpoint": address, "app": self.rest.application, "appArgs": f"{AGENT},{call.id}", "channelId": leg, "originator": call.id,
            "timeout": str(int(self.ring_seconds)), **({"callerId": number} if number.lstrip("+").isdigit() else {}),
        }  # fmt: skip
        status, _ = line.ask("POST", "/channels", **asked)
        if status == CONFLICT:  # it rings since before the break
            status, channel = line.ask("GET", channel_path(leg))
            if status < 400 and channel.get("state") == "Up":
                self.on_up(leg)
        if status >= 400:
            log.warning("an agent could not be rung", status=status)
            self.on_failed(leg, "unavailable")

    def hang_up(self, leg: str) -> None:
        self.put(self._call_of.pop(leg, leg), lambda line: _ignore(line.ask("DELETE", channel_path(leg))))

    def forget(self, leg: str) -> None:
        self._call_of.pop(leg, None)

    # The two talk, and part

    def connect(self, call: Call, leg: str) -> None:
        self.put(call.id, lambda line: self._connect(line, call, leg))

    def _connect(self, line: Line, call: Call, leg: str) -> None:
        if call.state != "talking":
            return
        self._silence(line, call.id)
        self._set(line, call.id, "TIMEOUT(absolute)", "0")
        bridge = f"/bridges/{quote(BRIDGE + call.id, safe='')}"
        line.ask("POST", bridge, type="mixing", name=BRIDGE + call.id)
        status, _ = line.ask("POST", f"{bridge}/addChannel", channel=f"{call.id},{leg}")
        if status >= 400:
            line.ask("DELETE", bridge)
            line.ask("DELETE", channel_path(leg))
            self._set(line, call.id, "TIMEOUT(absolute)", str(HOLD_SECONDS))
            line.ask("POST", channel_path(call.id, "moh"), mohClass=self.music)
            self.on_unmet(call.id, leg)

    def drop_bridge(self, call: str) -> None:
        self.put(call, lambda line: _ignore(line.ask("DELETE", f"/bridges/{quote(BRIDGE + call, safe='')}")))

    def leave(self, call: Call, how: str) -> None:
        self.go_on(call.id, "" if how == "fallback" else how)

    def go_on(self, id: str, state: str) -> None:
        """The caller goes on in the dialplan behind Stasis(), which finds in ANSWERLINE_STATE why; empty: to the PBX's own queue."""

        def go_on(line: Line) -> None:
            self._silence(line, id)
            self._set(line, id, "ANSWERLINE_STATE", state)
            line.ask("POST", channel_path(id, "continue"))

        self.put(id, go_on)

    def close(self) -> None:
        self._lanes.close()


def _ignore(_answer: tuple[int, Any]) -> None:
    """A channel or bridge that is gone already is as it should be."""


# ---- what is heard


class Controller:
    """From the application's events to the calls."""

    def __init__(
        self,
        rest: Rest,
        gateway: Where,
        ring_seconds: float = 20.0,
        music: str = "default",
        self_service: str = "",
        quiet_seconds: float = QUIET_SECONDS,
    ) -> None:
        self.rest, self.quiet_seconds = rest, quiet_seconds
        self.switch = StasisSwitch(rest, ring_seconds, music, self_service)
        self.control = Control(gateway, self.switch)
        self.switch.number_of, self.switch.on_up = self.control.number_of, self.control.leg_answered
        self.switch.on_failed, self.switch.on_unmet = self.control.leg_failed, self._unmet
        self._orphans: set[str] = set()
        """agents' channels that were there when we connected and of which no call knows yet"""

    def run(self, stopped: threading.Event, pauses: Pauses) -> None:
        try:
            while not stopped.is_set():
                try:
                    events = self.rest.listen()
                    try:
                        log.info("controlling by ARI", application=self.rest.application)
                        self.follow(events, stopped, pauses)
                    finally:
                        self.switch.connected.clear()
                        events.close()
                except Refused as error:
                    log.error("ARI refused", status=error.status)
                    stopped.wait(pauses.longest)
                except Replaced:
                    log.error("another controller has taken the application over: run one for each, or give each a name of its own (--app)")
                    stopped.wait(pauses.longest)
                except (Closed, *FAULTS) as error:
                    log.warning("not connected; tried again", why=type(error).__name__)
                    stopped.wait(pauses.next())
        finally:
            self.control.stop()
            self.switch.close()

    def follow(self, events: WebSocket, stopped: threading.Event, pauses: Pauses) -> None:
        self.switch.connected.set()
        self._reconcile()
        pauses.reset()
        began_at = clock.monotonic()
        for text in events.messages(stopped, self.quiet_seconds, self._look):
            if text is not None:
                self._take(text)
            if self._orphans and clock.monotonic() - began_at > ORPHAN_SECONDS:
                self._hang_up_orphans()
            if not self.switch.connected.is_set():
                raise Closed

    def _look(self) -> None:
        """Whether the PBX still knows us; raises where it does not answer that."""
        self.rest.ask(f"/applications/{quote(self.rest.application, safe='')}")

    def _take(self, text: str) -> None:
        try:
            event = json.loads(text)
            self.hear(event)
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
            log.warning("an event cannot be read", why=type(error).__name__, characters=len(text))

    def hear(self, event: Event) -> None:
        kind = event["type"]
        if kind == "ApplicationReplaced":
            raise Replaced
        if kind == "PlaybackFinished":
            self._hear_playback(event["playback"])
            return
        id = event["channel"]["id"] if "channel" in event else ""
        is_leg = id.startswith(LEG)
        match kind:
            case "StasisStart" if is_leg:
                if id not in self._orphans or self.control.of_leg(id):
                    self.control.leg_answered(id)
            case "StasisStart" if "replace_channel" not in event:
                self._hear_caller(event)
            case "ChannelHangupRequest" | "ChannelDestroyed" if not is_leg:
                self.control.hears(id, Call.caller_gone)
            case "ChannelDestroyed":
                self.switch.forget(id)
                self._leg_gone(id, CAUSES.get(event.get("cause", 0), "unavailable"))
            case "StasisEnd" if is_leg:
                self._leg_gone(id, "unavailable")
            case "StasisEnd":
                if id in self.control.calls:
                    self.switch.put(id, lambda line: self._find_out(line, id))
            case "ChannelLeftBridge" if event["bridge"]["id"].startswith(BRIDGE):
                self._hear_parting(event["bridge"], id)

    def _hear_caller(self, event: Event) -> None:
        channel, told = event["channel"], event.get("args") or [""]
        id, wanted = channel["id"], told[0]
        if not wanted:
            log.error("Stasis() names no queue: Stasis(application,QUEUE)", application=self.rest.application)
            self.switch.go_on(id, "")
        elif id not in self.control.calls:
            self.switch.welcome(id, channel.get("state") == "Up")
            self.control.arrives(id, wanted, _number(channel))

    def _leg_gone(self, leg: str, why: Why) -> None:
        """Of one who talks the bridge tells: the customer may stay with somebody else."""
        self._orphans.discard(leg)
        with self.control.lock:
            call = self.control.calls.get(self.control.of_leg(leg))
            if call is not None and call.state != "talking":
                self.control.leg_failed(leg, why)

    def _find_out(self, line: Line, id: str) -> None:
        """A caller left the application without having hung up, as far as we heard."""
        status, _ = line.ask("GET", channel_path(id))
        self.control.hears(id, Call.caller_gone if status >= 400 else Call.taken_back)

    def _hear_parting(self, bridge: Event, gone: str) -> None:
        """Somebody left a talk. Who is left there by himself is the customer, or nobody; all else is a transfer."""
        id, left = bridge["id"].removeprefix(BRIDGE), bridge.get("channels") or []
        if not left:
            self.switch.drop_bridge(id)
        with self.control.lock:
            call = self.control.calls.get(id)
            if call is None:
                if left == [id]:  # after a transfer, to whom it was made has hung up
                    self.switch.go_on(id, "answered")
            elif left == [id] and gone == call.leg:
                self.control.leg_failed(gone, "unavailable")
            else:
                self.control.hears(id, Call.transferred)

    def _hear_playback(self, playback: Event) -> None:
        id = playback.get("target_uri", "").removeprefix("channel:")
        with self.control.lock:
            self.switch.said(id, playback["id"], self.control.calls.get(id))

    def _unmet(self, id: str, leg: str) -> None:
        self.control.hears(id, lambda call: call.not_connected() if call.leg == leg else [])

    # After a break

    def _reconcile(self) -> None:
        channels, _ = self.rest.ask("/channels")
        bridges, _ = self.rest.ask("/bridges")
        there = {channel["id"]: channel for channel in channels}
        legs = {id: channel for id, channel in there.items() if id.startswith(LEG)}
        held = {id: told for id, channel in there.items() if id not in legs and (told := self._queue_of(channel))}
        joined = {bridge["id"].removeprefix(BRIDGE): set(bridge["channels"]) for bridge in bridges if bridge["id"].startswith(BRIDGE)}
        in_talk = set().union(*joined.values())
        up = {id for id, channel in legs.items() if channel.get("state") == "Up"}
        self.control.reconcile(there, up, there.keys() - held.keys() - legs.keys())
        for id, together in joined.items():
            if not together:
                self.switch.drop_bridge(id)
            elif together == {id} and id not in self.control.calls:
                self.switch.go_on(id, "answered")
            for leg in together & legs.keys():
                self.control.talks(id, held.get(id, ""), leg)
        for id, wanted in held.items():
            if id not in in_talk:
                self.control.hears(id, Call.still_held)
                if id not in self.control.calls:
                    self.switch.welcome(id, there[id].get("state") == "Up")
                    self.control.arrives(id, wanted, _number(there[id]), is_new=False)
        self._orphans = {leg for leg in legs.keys() - in_talk if not self.control.of_leg(leg)}
        if legs:
            followed = ",".join(f"channel:{leg}" for leg in sorted(legs))
            path = f"/applications/{quote(self.rest.application, safe='')}/subscription"
            self.switch.put("", lambda line: _ignore(line.ask("POST", path, eventSource=followed)))

    def _queue_of(self, channel: Event) -> str:
        """The queue for which a channel is held in the application; empty: it is not."""
        place = channel.get("dialplan") or {}
        application, _, told = str(place.get("app_data", "")).partition(",")
        return told.split(",")[0] if place.get("app_name") == "Stasis" and application == self.rest.application else ""

    def _hang_up_orphans(self) -> None:
        with self.control.lock:
            for leg in self._orphans:
                if not self.control.of_leg(leg):
                    self.switch.hang_up(leg)
            self._orphans = set()


def _number(channel: Event) -> str:
    return str((channel.get("caller") or {}).get("number") or "")


@click.command("asterisk-control-ari")
@reaching
@click.option("--url", default="http://127.0.0.1:8088", show_default=True, help="Where ARI listens.")
@click.option("--user", default="answerline", show_default=True, help="Of ari.conf. Its password stands in ANSWERLINE_ARI_SECRET(_FILE).")
@click.option("--app", default=APPLICATION, show_default=True, help="The application's name, as in the dialplan's Stasis().")
@click.option("--ring", default=20.0, show_default=True, type=click.FloatRange(1, 300), help="Seconds that an agent's telephone rings.")
@click.option("--music", default="default", show_default=True, help="Class of musiconhold.conf.")
@click.option("--self-service", default="", help="Sound that says where an answer may be found meanwhile.")
def control(where: Where, url: str, user: str, app: str, ring: float, music: str, self_service: str) -> None:
    """Ring agents and connect callers who wait in a Stasis application, over Asterisk's REST interface."""
    rest = Rest(url, user, secret_of("ANSWERLINE_ARI_SECRET"), app, everything=False)
    try:
        controller = Controller(rest, replace(where, timeout=ANSWER_SECONDS), ring, music, self_service)
        controller.control.gateway.client().close()
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    controller.run(until_stopped(), Pauses(0.2, 5.0))
