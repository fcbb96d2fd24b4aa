"""As much of Asterisk as deploy/asterisk/extensions-answerline.conf uses: its dialplan, run for one caller against a real Answerline.

Semantics as Asterisk's documentation and source have them (18.10 to 22): CURL() blocks the dialplan while music plays on, gives the body
whatever the status, nothing when it fails, and never lasts longer than CURLOPT(httptimeout); a hang-up is noticed between two steps, and
at once in steps that listen (Wait, Playback, SayNumber, Dial, Queue, Bridge, Stasis); what hangs up runs the hangup handlers; JSON_DECODE() gives nothing for what is no
JSON and the word null for null; an expression that cannot be read is empty, which is false; a Gosub has its own ARGs and LOCALs. A channel that is sent elsewhere (AMI's Redirect) goes there when the step that listens has ended for it; one
whose TIMEOUT(absolute) is over in Stasis() goes to the extension T.
"""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

FILE = Path(__file__).parents[2] / "deploy" / "asterisk" / "extensions-answerline.conf"
PHRASE_SECONDS = 2.0
"""How long a sound file lasts, on the caller's clock."""


class Step(NamedTuple):
    label: str
    application: str
    arguments: str


Plan = dict[tuple[str, str], list[Step]]


def read(text: str) -> Plan:
    """Contexts and extensions, priority by priority. Raises ValueError for a line that Asterisk would pass over with a warning."""
    plan: Plan = {}
    context = extension = ""
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.split(r"(?<!\\);", raw, maxsplit=1)[0].strip()
        if not line:
            continue
        if found := re.fullmatch(r"\[([\w-]+)\]", line):
            context = found[1]
        elif found := re.fullmatch(r"(?:exten => ([\w-]+),1|same => n(?:\((\w+)\))?),(\w+)\((.*)\)", line):
            extension = found[1] or extension
            steps = plan.setdefault((context, extension), [])
            if bool(found[1]) != (not steps):
                raise ValueError(f"line {number}: {raw}")
            steps.append(Step(found[2] or "", found[3], found[4]))
        else:
            raise ValueError(f"line {number}: {raw}")
    return plan


class HungUp(Exception):
    """The caller is gone."""


class Redirected(Exception):
    """The caller's channel goes on elsewhere."""

    def __init__(self, place: tuple[str, str, int]) -> None:
        super().__init__(place)
        self.place = place


@dataclass
class Frame:
    """Where a Gosub came from, and what it hid."""

    place: tuple[str, str, int]
    hidden: dict[str, str | None] = field(default_factory=dict)


@dataclass
class Caller:
    """One caller's channel. `dial` says what comes of ringing an address, as DIALSTATUS; a talk ends when `dial` returns."""

    globals: dict[str, str]
    uniqueid: str
    number: str = "+85212345678"
    plan: Plan = field(default_factory=lambda: read(FILE.read_text()))
    dial: Callable[[str], str] = lambda _address: "ANSWER"
    queue: Callable[[str], str] = lambda _queue: "TIMEOUT"
    bridge: Callable[[str], str] = lambda _channel: "SUCCESS"
    stasis: Callable[[str], dict[str, str] | None] = lambda _arguments: None
    """What a controller made of a caller in Stasis(): the variables it set before it let them go on. None: there is no controller.
    Raises TimeoutError where it fell silent."""
    clock: Callable[[], float] = time.time
    heard: list[str] = field(default_factory=list)
    """What the caller heard, in order: sound files, numbers, music (with its class, once each time that it begins)"""
    events: list[str] = field(default_factory=list)
    queued_after: float | None = None
    """The longest that Asterisk can have taken from the last good answer to Queue(), by the limits that the dialplan sets (seconds)"""
    pace: float = 1.0
    """How long a second of Wait() lasts"""
    patience: float = 10.0
    """So many times longer than the dialplan says a request may last here, for a machine may be busy"""

    def __post_init__(self) -> None:
        self.variables: dict[str, str] = {}
        self.options: dict[str, str] = {}
        self.headers: list[str] = []
        self.handlers: list[str] = []
        self.frames: list[Frame] = []
        self.music = ""
        self.requests: list[str] = []
        self.silent = 0.0
        self.absolute = 0.0
        """seconds of TIMEOUT(absolute); 0: none"""
        self.rounds = 0
        """of Wait()"""
        self.sent_to: tuple[str, str, int] | None = None
        self.gone = threading.Event()
        self.skipped = 0.0
        self.result: str | None = None

    # The caller's side

    def hang_up(self) -> None:
        self.gone.set()

    # The manager interface's side

    def set(self, variable: str, value: str) -> None:
        self._put(variable, value)

    def redirect(self, context: str, extension: str) -> None:
        self.sent_to = (context, extension, 0)
        self.gone.set()

    @property
    def now(self) -> float:
        """The caller's clock: sounds take their time on it alone."""
        return self.clock() + self.skipped

    # Running

    def call(self, context: str, extension: str, *arguments: str) -> str | None:
        """Run Gosub(context,extension,1(arguments)) to its Return; its value, or None when the caller hung up before."""
        try:
            self.result = self._gosub(context, extension, arguments)
        except HungUp:
            self.music = ""
            while self.handlers:
                self._gosub(*self.handlers.pop().split(",")[:2], (), deaf=True)
        return self.result

    def _gosub(self, context: str, extension: str, arguments: tuple[str, ...], deaf: bool = False) -> str:
        depth = len(self.frames)
        self.frames.append(Frame(("", "", 0)))
        self._keep(arguments)
        place: tuple[str, str, int] | None = (context, extension, 0)
        value = ""
        while place is not None:
            context, extension, at = place
            step = self.plan[context, extension][at]
            if not deaf and self.gone.is_set() and self.sent_to is None:
                raise HungUp
            arguments_told = step.arguments if step.application in ("Set", "GotoIf") else self.expand(step.arguments)
            match step.application:
                case "Gosub":
                    target, told = re.fullmatch(r"([^()]*?)(?:\((.*)\))?", arguments_told, re.S).groups()  # type: ignore[union-attr]
                    self.frames.append(Frame((context, extension, at + 1)))
                    self._keep(tuple(told.split(",")) if told else ())
                    where = target.split(",")
                    place = (where[0], where[1], 0)
                case "Return":
                    frame = self.frames.pop()
                    for name, hidden in frame.hidden.items():
                        self._put(name, hidden or "")
                    value = self.expand(arguments_told)
                    place = frame.place if len(self.frames) > depth else None
                case "GotoIf":
                    condition, _, branches = _split_condition(arguments_told)
                    yes, _, no = branches.partition(":")
                    chosen = yes if self.expand(condition).strip() not in ("", "0") else no
                    place = self._target(context, extension, self.expand(chosen)) if chosen else (context, extension, at + 1)
                case "Goto":
                    place = self._target(context, extension, arguments_told)
                case _:
                    try:
                        getattr(self, f"_do_{step.application.lower()}")(arguments_told)
                        place = (context, extension, at + 1)
                    except Redirected as sent:
                        place = sent.place
                    except TimeoutError:
                        self.absolute = 0.0
                        place = (context, "T", 0)
        return value

    def _keep(self, arguments: tuple[str, ...]) -> None:
        for number, argument in enumerate(arguments, 1):
            self._local(f"ARG{number}", argument)

    def _local(self, name: str, value: str) -> None:
        self.frames[-1].hidden.setdefault(name, self.variables.get(name))
        self._put(name, value)

    def _put(self, name: str, value: str) -> None:
        self.variables[name] = value

    def _target(self, context: str, extension: str, told: str) -> tuple[str, str, int]:
        *where, label = told.split(",")
        if where:
            extension = where[-1]
        if len(where) == 2:
            context = where[0]
        steps = self.plan[context, extension]
        return context, extension, int(label) - 1 if label.isdigit() else [step.label for step in steps].index(label)

    # Applications

    def _do_noop(self, told: str) -> None:
        pass

    def _do_answer(self, told: str) -> None:
        pass

    def _do_set(self, told: str) -> None:
        name, _, value = told.partition("=")
        value = self.expand(value)
        if found := re.fullmatch(r"LOCAL\((\w+)\)", name):
            self._local(found[1], value)
        elif found := re.fullmatch(r"CURLOPT\((\w+)\)", name):
            if found[1] == "httpheader":
                self.headers.append(value)
            else:
                self.options[found[1]] = value
        elif name == "TIMEOUT(absolute)":
            self.absolute = float(value)
        elif name == "CHANNEL(hangup_handler_push)":
            self.handlers.append(value)
        elif name == "CHANNEL(hangup_handler_pop)":
            self.handlers.pop()
        else:
            assert re.fullmatch(r"\w+", name), name
            self._put(name, value)

    def _do_startmusiconhold(self, told: str) -> None:
        if self.music != told:
            self.heard.append(f"music {told}")
        self.music = told

    def _do_stopmusiconhold(self, told: str) -> None:
        self.music = ""

    def _do_playback(self, told: str) -> None:
        self._say(told)

    def _do_saynumber(self, told: str) -> None:
        self._say(told)

    def _say(self, what: str) -> None:
        assert not self.music, "a sound file ends the music without starting it again afterwards"
        self.heard.append(what)
        self.skipped += PHRASE_SECONDS
        self._listen(0.0)

    def _do_wait(self, told: str) -> None:
        self.rounds += 1
        self._listen(float(told) * self.pace)

    def _listen(self, seconds: float) -> None:
        if self.gone.wait(seconds):
            if self.sent_to is None:
                raise HungUp
            place, self.sent_to = self.sent_to, None
            self.gone.clear()
            raise Redirected(place)

    def _do_dial(self, told: str) -> None:
        address, seconds, options = told.split(",", 2)
        assert address, "Dial() without anybody to dial ends the call"
        assert "g" in options.partition("(")[0], "without g the call ends with the agent"
        assert float(seconds) > 0
        self.heard.append(f"ringing {address}")
        self._put("DIALSTATUS", self.dial(address))
        self._listen(0.0)

    def _do_queue(self, told: str) -> None:
        self.queued_after = self.silent
        self.heard.append(f"queue {told}")
        self._put("QUEUESTATUS", self.queue(told))
        self._listen(0.0)

    def _do_bridge(self, told: str) -> None:
        self.heard.append(f"bridge {told}")
        self._put("BRIDGERESULT", self.bridge(told.split(",")[0]))
        self._listen(0.0)

    def _do_stasis(self, told: str) -> None:
        left = self.stasis(told)
        if left is not None:
            self.variables |= left
        self._put("STASISSTATUS", "FAILED" if left is None else "SUCCESS")
        self._listen(0.0)

    def _do_userevent(self, told: str) -> None:
        self.events.append(f"UserEvent({told})")

    # Variables, functions, expressions

    def expand(self, text: str) -> str:
        """Variables, functions and expressions in their values, from the inside out, each once."""
        out, at = "", 0
        while at < len(text):
            if text[at : at + 2] in ("${", "$["):
                end = _closing(text, at + 1)
                inner = text[at + 2 : end]
                out += self._value(inner) if text[at + 1] == "{" else evaluate(self.expand(inner))
                at = end + 1
            else:
                out += text[at]
                at += 1
        return out

    def _value(self, inner: str) -> str:
        if found := re.fullmatch(r"(\w+)\((.*)\)", inner, re.S):
            return self._function(found[1], found[2])
        name = self.expand(inner)
        return {"EPOCH": str(int(self.now)), "UNIQUEID": self.uniqueid}.get(name) or self.variables.get(name, self.globals.get(name, ""))

    def _function(self, name: str, told: str) -> str:
        match name:
            case "CURL":
                url, comma, body = self.expand(told).partition(",")
                return self._curl(url, body if comma else None)
            case "JSON_DECODE":
                variable, _, key = self.expand(told).partition(",")
                return json_decode(self.variables.get(variable, ""), key)
            case "URIENCODE":
                return quote(self.expand(told), safe="-_.!~*'()")
            case "CHANNEL":
                assert told == "linkedid", told
                return self.uniqueid
            case "CALLERID":
                assert told == "num", told
                return self.number
            case "GLOBAL":
                return self.globals.get(told, "")
            case "IF":
                condition, _, branches = _split_condition(told)
                yes, _, no = branches.partition(":")
                return self.expand(yes if self.expand(condition).strip() not in ("", "0") else no)
            case _:
                raise AssertionError(f"the dialplan uses {name}(), which is not known here")

    def _curl(self, url: str, body: str | None) -> str:
        """Not over a kept connection: one is opened anew where the old one has been closed, which this comes to."""
        limit, connect = float(self.options["httptimeout"]), float(self.options["conntimeout"])
        self.requests.append(url)
        told = _fetch(url, body, self.headers, min(limit, connect) * self.patience, limit * self.patience)
        good = json_decode(told, "state") or json_decode(told, "contact")
        self.silent = 0.0 if good else self.silent + limit
        return told


def _fetch(url: str, body: str | None, headers: list[str], connect: float, limit: float) -> str:
    parts, until = urlsplit(url), time.monotonic() + limit
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=connect)
    sent: Mapping[str, str] = {"User-Agent": "asterisk-libcurl-agent/1.0", "Accept": "*/*"} | dict(one.split(": ", 1) for one in headers)
    if body is not None:
        sent = {**sent, "Content-Type": "application/x-www-form-urlencoded"}
    try:
        connection.connect()
        connection.sock.settimeout(max(0.001, until - time.monotonic()))
        connection.request(
            "GET" if body is None else "POST", f"{parts.path}?{parts.query}" if parts.query else parts.path, body, dict(sent)
        )
        return connection.getresponse().read().decode(errors="replace").rstrip()
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


def json_decode(text: str, key: str) -> str:
    """A member of a JSON object, as text: nothing where there is none, the word null for null."""
    try:
        value = json.loads(text)[key]
    except (ValueError, KeyError, TypeError, IndexError):
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def evaluate(text: str) -> str:
    """An expression $[…] whose variables have their values: | & = != < > <= >= + - on numbers and quoted texts; else, as Asterisk has it,
    nothing."""
    tokens = re.findall(r'"[^"]*"|[<>!]=|[|&=<>+()-]|[^\s"|&=<>!+()]+|\S', text)
    try:
        value, rest = _or(tokens)
    except (IndexError, ValueError):
        return ""
    return "" if rest else _plain(value)


def _or(tokens: list[str]) -> tuple[str, list[str]]:
    left, tokens = _compare(tokens)
    while tokens and tokens[0] in "|&":
        right, after = _compare(tokens[1:])
        if tokens[0] == "|":
            left = left if _true(left) else right
        else:
            left = left if _true(left) and _true(right) else "0"
        tokens = after
    return left, tokens


def _compare(tokens: list[str]) -> tuple[str, list[str]]:
    left, tokens = _sum(tokens)
    while tokens and tokens[0] in ("=", "!=", "<", ">", "<=", ">="):
        right, after = _sum(tokens[1:])
        left, tokens = str(int(_holds(left, tokens[0], right))), after
    return left, tokens


def _holds(left: str, operator: str, right: str) -> bool:
    a: Any = _plain(left)
    b: Any = _plain(right)
    if _is_number(a) and _is_number(b):
        a, b = float(a), float(b)
    return bool({"=": a == b, "!=": a != b, "<": a < b, ">": a > b, "<=": a <= b, ">=": a >= b}[operator])


def _sum(tokens: list[str]) -> tuple[str, list[str]]:
    left, tokens = tokens[0], tokens[1:]
    if left in ("|", "&", "=", "!=", "<", ">", "<=", ">=", "+", ")"):
        raise ValueError(left)
    while tokens and tokens[0] in "+-":
        total = float(_plain(left)) + float(_plain(tokens[1])) * (1 if tokens[0] == "+" else -1)
        left, tokens = f"{total:.18g}", tokens[2:]
    return left, tokens


def _plain(token: str) -> str:
    return token[1:-1] if token.startswith('"') else token


def _true(token: str) -> bool:
    return _plain(token) not in ("", "0")


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?", text) is not None


def _closing(text: str, start: int) -> int:
    """Where the bracket at `start` is closed."""
    opening, depth = text[start], 0
    closing = {"{": "}", "[": "]"}[opening]
    for at in range(start, len(text)):
        depth += (text[at] == opening) - (text[at] == closing)
        if not depth:
            return at
    raise ValueError(text)


def _split_condition(text: str) -> tuple[str, str, str]:
    """(condition, "?", branches), the question mark being outside all brackets."""
    depth = 0
    for at, letter in enumerate(text):
        depth += letter in "{[("
        depth -= letter in "}])"
        if letter == "?" and not depth:
            return text[:at], "?", text[at + 1 :]
    raise ValueError(text)
