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

from services.gateway.bridges.kernel import Poster

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
        magic = key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(magic.encode()).digest()).decode()
        upgrade = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        connection.sendall(f"{upgrade}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
        talk = self.talks[0]
        said, talk.said = talk.said, b""
        connection.sendall(said)
        if talk.breaks:
            self.talks.pop(0)
            return
        while connection.recv(4096):
            pass


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

    def breaks_off(self) -> None:
        with self.asked:
            assert self.connection is not None
            broken, self.connection = self.connection, None
            broken.shutdown(socket.SHUT_RDWR)
            assert self.asked.wait_for(lambda: self.connection, LONGEST_WAIT), "it never came back"
