"""Scripted Asterisks that speak the real protocol over a local socket: they say what was captured, and break off where they are told."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from services.gateway.bridges.kernel import Poster
from tests.unit.gateway.telephony_samples import ami_lines

LONGEST_WAIT = 20.0


class Kept(Poster):
    """Stands in for the poster: what was put in, and a way to wait for something of it."""

    def __init__(self) -> None:
        self.items: list[bytes] = []
        self.room = True
        self._news = threading.Condition()

    def put(self, item: bytes) -> bool:
        with self._news:
            if self.room:
                self.items.append(item)
            self._news.notify_all()
            return self.room

    @property
    def body(self) -> bytes:
        with self._news:
            return b"".join(self.items)

    def wait_for(self, seen: Callable[[bytes], bool]) -> None:
        with self._news:
            assert self._news.wait_for(lambda: seen(b"".join(self.items)), LONGEST_WAIT), "it never came"


@dataclass
class Talk:
    """One connection's script: the channels there are at `now` (the PBX's clock), then these bytes; `breaks`: then it is cut off."""

    now: float
    channels: Sequence[str] = ()
    said: bytes = b""
    breaks: bool = False
    recordings: Sequence[str] = ()
    """names, as paths have them, of those that ARI is making"""


@dataclass
class Peer:
    talks: list[Talk]
    secret: str = "s3cret"
    requests: list[dict[str, str]] = field(default_factory=list)

    def __enter__(self) -> Peer:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for connection in self._connections:
            connection.close()
        self._thread.join(LONGEST_WAIT)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._guarded, args=(connection,), daemon=True).start()

    def _guarded(self, connection: socket.socket) -> None:
        try:
            self.speak(connection)
        except OSError:
            pass
        finally:
            connection.close()

    def speak(self, connection: socket.socket) -> None:
        raise NotImplementedError


def read_until(connection: socket.socket, end: bytes, buffer: bytes = b"") -> tuple[bytes, bytes]:
    while end not in buffer:
        some = connection.recv(4096)
        if not some:
            raise ConnectionResetError
        buffer += some
    whole, _, rest = buffer.partition(end)
    return whole, rest


class Manager(Peer):
    """AMI, as Asterisk 22 speaks it."""

    CHALLENGE = "840415273"

    def speak(self, connection: socket.socket) -> None:
        connection.sendall(b"Asterisk Call Manager/11.0.0\r\n")
        talk, buffer = self.talks[0], b""
        while True:
            frame, buffer = read_until(connection, b"\r\n\r\n", buffer)
            asked = dict(line.split(": ", 1) for line in frame.decode().split("\r\n"))
            self.requests.append(asked)
            connection.sendall(self.answer(asked, talk))
            if asked["Action"] == "Logoff":
                return
            if asked["Action"] == "Login" and len(self.talks) > 1 and self.authentic(asked):
                self.talks.pop(0)
            if asked["Action"] == "QueueStatus":
                said, talk.said = talk.said, b""
                connection.sendall(said)
                if talk.breaks:
                    return

    def authentic(self, asked: dict[str, str]) -> bool:
        key = hashlib.md5((self.CHALLENGE + self.secret).encode()).hexdigest()
        return asked.get("Key") == key or asked.get("Secret") == self.secret

    def answer(self, asked: dict[str, str], talk: Talk) -> bytes:
        def frame(**headers: str) -> str:
            return "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"

        id = asked["ActionID"]
        match asked["Action"]:
            case "Challenge":
                text = frame(Response="Success", ActionID=id, Challenge=self.CHALLENGE)
            case "Login" if self.authentic(asked):
                booted = frame(Event="FullyBooted", Privilege="system,all", Uptime=str(int(talk.now - BOOT)), Status="Fully Booted")
                text = frame(Response="Success", ActionID=id, Message="Authentication accepted") + booted
            case "Login":
                text = frame(Response="Error", ActionID=id, Message="Authentication failed")
            case "Ping":
                text = frame(Response="Success", ActionID=id, Ping="Pong", Timestamp=f"{talk.now:.6f}")
            case "CoreShowChannels":
                text = frame(Response="Success", ActionID=id, EventList="start", Message="Channels will follow")
                for channel in talk.channels:
                    text += frame(Event="CoreShowChannel", ActionID=id, Uniqueid=channel, Linkedid=channel, Application="Wait", BridgeId="")
                count = str(len(talk.channels))
                text += frame(Event="CoreShowChannelsComplete", ActionID=id, EventList="Complete", ListItems=count)
            case "QueueStatus":
                text = frame(Response="Success", ActionID=id, EventList="start", Message="Queue status will follow")
                text += frame(Event="QueueStatusComplete", ActionID=id, EventList="Complete", ListItems="0")
            case "MixMonitorMute" if asked["Channel"] in talk.channels:
                text = frame(Response="Success", ActionID=id)
            case "MixMonitorMute":
                text = frame(Response="Error", ActionID=id, Message="No such channel")
            case _:
                text = frame(Response="Goodbye", ActionID=id, Message="Thanks for all the fish.")
        return text.encode()


BOOT = 1795296253.0


class RestInterface(Peer):
    """ARI: its websocket, in frames of any cut, and two of its questions."""

    def speak(self, connection: socket.socket) -> None:
        head, _ = read_until(connection, b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        asked = {
            "method": first.split(" ")[0],
            "path": first.split(" ")[1],
            **{name.lower(): value for name, value in (line.split(": ", 1) for line in lines)},
        }
        self.requests.append(asked)
        wanted = "Basic " + base64.b64encode(f"answerline:{self.secret}".encode()).decode()
        if asked.get("authorization") != wanted:
            connection.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
        elif asked["path"].startswith("/ari/events"):
            self._events(connection, asked["sec-websocket-key"])
        elif asked["path"].startswith("/ari/recordings/live/"):
            known = asked["path"].split("/")[4] in self.talks[0].recordings
            connection.sendall(b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % (b"204 No Content" if known else b"404 Not Found"))
        else:
            connection.sendall(self._told(asked["path"]))

    def _told(self, path: str) -> bytes:
        from email.utils import formatdate

        talk = self.talks[0]
        told: Any = [{"id": id, "name": "x", "caller": {"number": "7"}} for id in talk.channels]
        if "info" in path:
            told = {"status": {"startup_time": "2026-11-21T21:24:13.000+0000", "last_reload_time": "2026-11-21T21:24:13.000+0000"}}
        body = json.dumps(told).encode()
        return f"HTTP/1.1 200 OK\r\nDate: {formatdate(talk.now, usegmt=True)}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    def _events(self, connection: socket.socket, key: str) -> None:
        connection.sendall(upgrade(key))
        talk = self.talks[0]
        said, talk.said = talk.said, b""
        connection.sendall(said)
        if talk.breaks:
            self.talks.pop(0)
            return
        while connection.recv(4096):
            pass


def upgrade(key: str) -> bytes:
    accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
    head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    return f"{head}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()


def frames(texts: Sequence[bytes], seed: int = 0) -> bytes:
    """Text messages as a server's frames, some in fragments, with a ping here and there."""
    chance, out = random.Random(seed), b""
    for text in texts:
        if chance.random() < 0.1:
            out += _frame(0x89, b"hello")
        if chance.random() < 0.2:
            cut = chance.randrange(len(text))
            out += _frame(0x01, text[:cut]) + _frame(0x80, text[cut:])
        else:
            out += _frame(0x81, text)
    return out


def _frame(first: int, payload: bytes) -> bytes:
    if len(payload) < 126:
        return bytes([first, len(payload)]) + payload
    size = struct.pack(">BH", 126, len(payload)) if len(payload) < 65536 else struct.pack(">BQ", 127, len(payload))
    return bytes([first]) + size + payload


class Exchange(Manager):
    """AMI of an Asterisk whose channels the test holds in its hand: it takes what a controller asks for, in frames as they were captured."""

    def __init__(self) -> None:
        super().__init__([Talk(BOOT)])
        self.channels: dict[str, dict[str, str]] = {}
        self.asked = threading.Condition()
        self.connection: socket.socket | None = None

    def speak(self, connection: socket.socket) -> None:
        connection.sendall(b"Asterisk Call Manager/11.0.0\r\n")
        buffer = b""
        while True:
            frame, buffer = read_until(connection, b"\r\n\r\n", buffer)
            asked = dict(line.split(": ", 1) for line in frame.decode().split("\r\n"))
            with self.asked:
                connection.sendall(self.answer(asked, self.talks[0]))
                if asked["Action"] == "Login":
                    self.connection = connection
                self.requests.append(asked)
                self.asked.notify_all()
            if asked["Action"] == "Logoff":
                return

    def answer(self, asked: dict[str, str], talk: Talk) -> bytes:
        id, done = asked["ActionID"], f"Response: Success\r\nActionID: {asked['ActionID']}\r\nMessage: done\r\n\r\n"
        match asked["Action"]:
            case "Originate" if asked["ChannelId"] in self.channels:
                return f"Response: Error\r\nActionID: {id}\r\nMessage: Originate Failed - channel ID in use\r\n\r\n".encode()
            case "Originate":
                leg = asked["ChannelId"]
                self.channels[leg] = {"Uniqueid": leg, "Channel": f"{asked['Channel']}-{len(self.channels):08x}", "ChannelState": "5"}
                return done.encode() + self.frame("Newchannel", leg)
            case "CoreShowChannels":
                shown = b"".join(self.frame("CoreShowChannel", channel, ActionID=id) for channel in self.channels)
                return done.encode() + shown + f"Event: CoreShowChannelsComplete\r\nActionID: {id}\r\nEventList: Complete\r\n\r\n".encode()
            case "Hangup" | "Redirect" | "Setvar" if asked.get("Channel", "") and asked["Channel"] not in self.channels:
                return f"Response: Error\r\nActionID: {id}\r\nMessage: No such channel\r\n\r\n".encode()
            case "Hangup":
                return done.encode() + self.gone_frame(asked["Channel"], "16")
            case "Redirect" | "Setvar":
                return done.encode()
            case _:
                return super().answer(asked, talk)

    def frame(self, event: str, channel: str, **more: str) -> bytes:
        told = {"Event": event, "Privilege": "call,all", "Timestamp": "1795296258.357389", **self.channels[channel]}
        told = {"CallerIDNum": "<unknown>", "CallerIDName": "<unknown>", "Linkedid": channel, **told, **more}
        return ("".join(f"{name}: {value}\r\n" for name, value in told.items()) + "\r\n").encode()

    def gone_frame(self, channel: str, cause: str) -> bytes:
        told = self.frame("Hangup", channel, Cause=cause, **{"Cause-txt": "Normal Clearing"})
        del self.channels[channel]
        return told

    def say(self, *frames: bytes) -> None:
        with self.asked:
            assert self.connection is not None
            self.connection.sendall(b"".join(frames))

    def wait_for(self, action: str, *, beyond: int = 0, **headers: str) -> dict[str, str]:
        """The first such request after so many."""

        def found() -> dict[str, str] | None:
            fits = (one for one in self.requests[beyond:] if one["Action"] == action and headers.items() <= one.items())
            return next(fits, None)

        with self.asked:
            assert self.asked.wait_for(found, LONGEST_WAIT), (action, headers, self.requests[-12:])
            told = found()
            assert told is not None
            return told

    def count(self, action: str) -> int:
        with self.asked:
            return sum(one["Action"] == action for one in self.requests)

    # What happens at the PBX

    def caller_holds(self, call: str, queue: str) -> None:
        """A caller enters Gosub(answerline,hold,1(queue))."""
        place = {"Context": "answerline", "Exten": "hold", "Priority": "3"}
        self.channels[call] = {"Uniqueid": call, "Channel": f"PJSIP/trunk-{call}", "ChannelState": "6", **place}
        self.say(self.user_event("AnswerlineHold", call, queue))

    def user_event(self, name: str, call: str, queue: str) -> bytes:
        return self.frame("UserEvent", call, Privilege="user,all", CallerIDNum="+85221234567", UserEvent=name, Queue=queue)

    def picks_up(self, leg: str) -> None:
        self.channels[leg] |= {"ChannelState": "6"}
        self.say(self.frame("Newstate", leg), self.originate_response(leg, "Success", "4"))

    def originate_response(self, leg: str, response: str, reason: str) -> bytes:
        return self.frame("OriginateResponse", leg, ActionID=leg, Response=response, Reason=reason, Context="answerline-agent", Exten="s")

    def does_not_pick_up(self, leg: str, cause: str = "19", reason: str = "3") -> None:
        response = self.originate_response(leg, "Failure", reason)
        self.say(self.gone_frame(leg, cause), response)

    def hangs_up(self, channel: str) -> None:
        self.say(self.gone_frame(channel, "16"))

    def unheard(self, channel: str) -> None:
        """It hangs up, and nobody is told."""
        del self.channels[channel]

    def bridged(self, call: str, leg: str) -> None:
        """They talk, as the dialplan's Bridge() shows it."""
        self.channels[call] |= {"Exten": "bridge", "Application": "Bridge", "BridgeId": "b-1"}
        self.channels[leg] |= {"BridgeId": "b-1"}

    def agent_parts(self, call: str, leg: str, queue: str) -> None:
        self.say(self.user_event("AnswerlineDone", call, queue))
        self.hangs_up(leg)

    def takes_back(self, call: str, queue: str, heard: bool = True) -> None:
        self.channels[call] |= {"Application": "Queue"}
        if heard:
            self.say(self.user_event("AnswerlineFallback", call, queue))

    # What is asked of it

    def listening(self) -> None:
        self.wait_for("CoreShowChannels")

    def rung(self, address: str, beyond: int = 0) -> str:
        return self.wait_for("Originate", beyond=beyond, Channel=address)["ChannelId"]

    def joined(self, call: str, leg: str, beyond: int = 0) -> None:
        self.wait_for("Redirect", beyond=beyond, Channel=call, Context="answerline", Exten="bridge")
        told = self.wait_for("Setvar", beyond=beyond, Variable="ANSWERLINE_AGENT", Channel=call)
        assert told["Value"] == self.channels[leg]["Channel"]

    def let_go(self, leg: str) -> None:
        self.wait_for("Hangup", Channel=leg)

    def sent_back(self, call: str) -> None:
        self.wait_for("Redirect", Channel=call, Exten="release")

    def dials(self) -> int:
        return self.count("Originate")

    def breaks_off(self) -> None:
        with self.asked:
            assert self.connection is not None
            broken, self.connection = self.connection, None
            broken.shutdown(socket.SHUT_RDWR)
            assert self.asked.wait_for(lambda: self.connection, LONGEST_WAIT), "it never came back"


class RestExchange(Peer):
    """ARI of an Asterisk whose channels the test holds in its hand. What it says are captured events and answers, under other names."""

    APPLICATION = "answerline-control"

    def __init__(self) -> None:
        super().__init__([Talk(BOOT)])
        captured = [json.loads(line)["ari"] for line in ami_lines("ari_stasis")]
        self.said: dict[str, dict[str, Any]] = {}
        for event in captured:
            self.said.setdefault(event["type"], event)
        self.channels: dict[str, dict[str, Any]] = {}
        self.bridges: dict[str, list[str]] = {}
        self.unreachable = self.vanishing = "-"
        """part of an address at which nobody is registered; an agent's channel that ends at the moment of connecting"""
        self.asked = threading.Condition()
        self.connection: socket.socket | None = None

    # The protocol

    def speak(self, connection: socket.socket) -> None:
        buffer = b""
        while True:
            head, buffer = read_until(connection, b"\r\n\r\n", buffer)
            first, *lines = head.decode().split("\r\n")
            method, target, _ = first.split(" ")
            path, _, query = target.partition("?")
            asked = {"Action": f"{method} {unquote(path).removeprefix('/ari')}", **dict(parse_qsl(query, keep_blank_values=True))}
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            if headers.get("authorization") != "Basic " + base64.b64encode(f"answerline:{self.secret}".encode()).decode():
                connection.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
                continue
            with self.asked:
                if path == "/ari/events":
                    connection.sendall(upgrade(headers["sec-websocket-key"]))
                    self.connection = connection
                else:
                    status, told, events = self.answer(method, unquote(path).removeprefix("/ari/").split("/"), asked)
                    body = b"" if told is None else json.dumps(told).encode()
                    connection.sendall(f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                    self.say(*events)
                self.requests.append(asked)
                self.asked.notify_all()
            if path == "/ari/events":
                while connection.recv(4096):
                    pass
                return

    def answer(self, method: str, path: Sequence[str], asked: dict[str, str]) -> tuple[int, Any, list[dict[str, Any]]]:
        """Status, document, and what is said of it."""
        match method, *path:
            case "GET", "channels":
                return 200, list(self.channels.values()), []
            case "GET", "bridges":
                return (
                    200,
                    [{**self.said["BridgeDestroyed"]["bridge"], "id": id, "channels": [*members]} for id, members in self.bridges.items()],
                    [],
                )
            case ("GET", "applications", _) | ("POST", "applications", _, "subscription"):
                return 200, {"name": path[1]}, []
            case "POST", "channels" if asked["channelId"] in self.channels:
                return 409, {"message": "Channel with given unique ID already exists"}, []
            case "POST", "channels" if asked["originator"] not in self.channels:
                return 400, {"message": "Originator channel not found"}, []
            case "POST", "channels" if self.unreachable in asked["endpoint"]:
                return 500, {"message": "Allocation failed"}, []
            case "POST", "channels":
                return self.originate(asked["channelId"], asked["endpoint"], asked["appArgs"])
            case (_, "channels", id, *_) if id not in self.channels:
                return 404, {"message": "Channel not found"}, []
            case "GET", "channels", id:
                return 200, self.channels[id], []
            case "DELETE", "channels", id:
                return 204, None, self.gone(id, 16)
            case (_, "channels", id, _) if not self.holds(id):
                return 409, {"message": "Channel not in Stasis application"}, []
            case "POST", "channels", id, "answer":
                self.channels[id]["state"] = "Up"
                return 204, None, [self.event("ChannelStateChange", id)]
            case "POST", "channels", id, "play":
                playback = {**self.said["PlaybackStarted"]["playback"], "id": asked["playbackId"], "target_uri": f"channel:{id}"}
                return 201, playback, [{**self.said["PlaybackStarted"], "playback": playback}]
            case "POST", "channels", id, "continue":
                return 204, None, self.leaves(id, "Set")
            case _, "channels", _, "moh" | "variable":
                return 204, None, []
            case "POST", "bridges", id:
                self.bridges.setdefault(id, [])
                return 200, {**self.said["BridgeDestroyed"]["bridge"], "id": id}, []
            case ("POST", "bridges", id, "addChannel") if id in self.bridges:
                joining = asked["channel"].split(",")
                if self.vanishing in joining:
                    return 400, {"message": "Channel not found"}, self.gone(self.vanishing, 16)
                if not all(one in self.channels for one in joining):
                    return 400, {"message": "Channel not found"}, []
                if not all(self.holds(one) for one in joining):
                    return 422, {"message": "Channel not in Stasis application"}, []
                return 204, None, [self.enters(one, id) for one in joining]
            case ("DELETE", "bridges", id) if id in self.bridges:
                del self.bridges[id]
                return 204, None, []
            case _:
                return 404, {"message": "not found"}, []

    def say(self, *events: dict[str, Any]) -> None:
        with self.asked:
            if self.connection is not None:
                self.connection.sendall(frames([json.dumps(event, ensure_ascii=False).encode() for event in events]))

    # Channels

    def channel(self, id: str, state: str, application: str, data: str, **more: Any) -> None:
        place = {"context": "answerline-stasis", "exten": "s", "priority": 5, "app_name": application, "app_data": data}
        self.channels[id] = {
            **self.said["StasisStart"]["channel"],
            "id": id,
            "name": f"PJSIP/x-{id}",
            "state": state,
            "dialplan": place,
            **more,
        }

    def holds(self, id: str) -> bool:
        return self.channels[id]["dialplan"]["app_name"] == "Stasis"

    def event(self, kind: str, id: str, **more: Any) -> dict[str, Any]:
        return {**self.said[kind], "application": self.APPLICATION, "channel": dict(self.channels[id]), **more}

    def originate(self, leg: str, endpoint: str, arguments: str) -> tuple[int, Any, list[dict[str, Any]]]:
        self.channel(leg, "Ringing", "AppDial2", "(Outgoing Line)", arguments=arguments)
        return 200, self.channels[leg], [self.event("Dial", leg, peer=self.channels[leg]), self.event("ChannelStateChange", leg)]

    def enters(self, id: str, bridge: str) -> dict[str, Any]:
        self.bridges[bridge].append(id)
        return self.event("ChannelEnteredBridge", id, bridge=self.bridge(bridge))

    def bridge(self, id: str) -> dict[str, Any]:
        return {**self.said["BridgeDestroyed"]["bridge"], "id": id, "channels": [*self.bridges[id]]}

    def parts(self, id: str) -> list[dict[str, Any]]:
        """It leaves the bridge in which it is."""
        told = []
        for bridge, members in self.bridges.items():
            if id in members:
                members.remove(id)
                told.append(self.event("ChannelLeftBridge", id, bridge=self.bridge(bridge)))
        return told

    def leaves(self, id: str, application: str) -> list[dict[str, Any]]:
        """It goes on in the dialplan."""
        told = [*self.parts(id), self.event("StasisEnd", id)]
        self.channels[id]["dialplan"] = {**self.channels[id]["dialplan"], "app_name": application, "app_data": "sales"}
        return told

    def gone(self, id: str, cause: int) -> list[dict[str, Any]]:
        told = [self.event("ChannelHangupRequest", id, cause=cause)] if self.channels[id]["state"] == "Up" else []
        told += self.leaves(id, "") if self.holds(id) else []
        if "arguments" in self.channels[id]:  # of a channel that the application rang it hears to the end
            told.append(self.event("ChannelDestroyed", id, cause=cause))
        del self.channels[id]
        return told

    # What happens at the PBX

    def caller_holds(self, call: str, queue: str) -> None:
        caller = {**self.said["StasisStart"]["channel"]["caller"], "number": "+85221234567"}
        self.channel(call, "Ring", "Stasis", f"{self.APPLICATION},{queue}", caller=caller)
        self.say(self.event("StasisStart", call, args=[queue]))

    def picks_up(self, leg: str) -> None:
        arguments = self.channels[leg]["arguments"]
        self.channels[leg]["state"] = "Up"
        rung = self.event("ChannelStateChange", leg)
        self.channels[leg]["dialplan"] |= {"app_name": "Stasis", "app_data": f"{self.APPLICATION},{arguments}"}
        self.say(rung, self.event("StasisStart", leg, args=arguments.split(",")))

    def does_not_pick_up(self, leg: str, cause: str = "19", reason: str = "") -> None:
        self.say(*self.gone(leg, int(cause)))

    def hangs_up(self, channel: str) -> None:
        self.say(*self.gone(channel, 16))

    def agent_parts(self, call: str, leg: str, queue: str) -> None:
        self.hangs_up(leg)

    def unheard(self, channel: str) -> None:
        """It hangs up, and nobody is told."""
        self.gone(channel, 16)

    def bridged(self, call: str, leg: str) -> None:
        """They talk: the bridge says so."""

    def transfers(self, call: str, leg: str, other: str) -> None:
        """An attended transfer: another channel takes the agent's place in the bridge."""
        self.channel(other, "Up", "Stasis", "other,x")
        (bridge,) = [id for id, members in self.bridges.items() if call in members]
        self.say(self.enters(other, bridge), *self.gone(leg, 16))

    def plays_to_the_end(self, played: dict[str, str]) -> None:
        call = played["Action"].split("/")[2]
        playback = {
            **self.said["PlaybackFinished"]["playback"],
            "id": played["playbackId"],
            "target_uri": f"channel:{call}",
            "state": "done",
        }
        self.say({**self.said["PlaybackFinished"], "playback": playback})

    def takes_back(self, call: str, queue: str, heard: bool = True) -> None:
        """Its time is over: the dialplan's extension T has it."""
        told = self.leaves(call, "Queue")
        if heard:
            self.say(*told)

    def breaks_off(self) -> None:
        with self.asked:
            assert self.connection is not None
            broken, self.connection = self.connection, None
            broken.shutdown(socket.SHUT_RDWR)
            assert self.asked.wait_for(lambda: self.connection, LONGEST_WAIT), "it never came back"

    # What is asked of it

    def listening(self) -> None:
        self.wait_for("GET /bridges")

    def rung(self, address: str, beyond: int = 0) -> str:
        return self.wait_for("POST /channels", beyond=beyond, endpoint=address)["channelId"]

    def joined(self, call: str, leg: str, beyond: int = 0) -> None:
        self.wait_for(f"POST /bridges/answerline-bridge-{call}/addChannel", beyond=beyond, channel=f"{call},{leg}")
        with self.asked:
            assert self.asked.wait_for(lambda: [call, leg] in self.bridges.values(), LONGEST_WAIT)

    def let_go(self, leg: str) -> None:
        self.wait_for(f"DELETE /channels/{leg}")

    def sent_back(self, call: str) -> None:
        self.sent_on(call, "")

    def sent_on(self, call: str, state: str) -> None:
        """The dialplan has it again, and finds this in ANSWERLINE_STATE."""
        self.wait_for(f"POST /channels/{call}/continue")
        path = f"POST /channels/{call}/variable"
        assert [one["value"] for one in self.requests if one["Action"] == path and one["variable"] == "ANSWERLINE_STATE"] == [state]

    def dials(self) -> int:
        return self.count("POST /channels")

    wait_for = Exchange.wait_for
    count = Exchange.count
