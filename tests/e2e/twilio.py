"""As much of Twilio as our TwiML uses: a caller's call whose documents are asked for, signed, and carried out one at a time.

As Twilio's documentation has it: addresses are relative to the document that names them; a <Dial> asks the `url` of whom it rings when they
pick up, hangs them up where that says so, and asks its `action` in the end, of an inbound caller's hang-up too; then comes the status callback.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit
from xml.etree import ElementTree

from services.gateway.domain.twilio import signature
from tests.system import System

TOKEN = "0123456789abcdef0123456789abcdef"
BASE = "https://calls.example.com/v1/telephony/twilio/"
FORM = "application/x-www-form-urlencoded"
VERBS = {"Say", "Play", "Pause", "Redirect", "Dial", "Enqueue", "Hangup"}


class TwilioCall:
    def __init__(self, system: System, source: str, queue: str, **query: Any) -> None:
        self.nobody, self.source = system.client(), source
        self.sid = f"CA{source}"
        self.heard: list[str] = []
        self.dial: ElementTree.Element | None = None
        self.where = f"{BASE}route?{urlencode({'source': source, 'queue': queue, 'fallback': 'theirs', 'wait': 0, **query})}"
        self.next = ""
        self.over = False

    @property
    def contact(self) -> str:
        return f"{self.source}:{self.sid}"

    @property
    def rings(self) -> str:
        """Whose telephone rings: noun and address."""
        return "" if self.dial is None else f"{self.dial[0].tag} {self.dial[0].text}"

    def begin(self) -> TwilioCall:
        return self._play(self.where, CallStatus="ringing")

    def go_on(self) -> TwilioCall:
        """The music ends, and what comes next is asked for."""
        assert not self.over
        assert self.next, self.heard
        return self._play(self.next)

    def until_it_rings(self) -> str:
        for _ in range(100):
            if self.rings:
                return self.rings
            self.next = self.next.replace("wait=0&", "wait=5&")
            self.go_on()
        raise AssertionError(f"nobody was rung: {self.heard}")

    def picked_up(self) -> bool:
        """The agent picks up; whether the two are connected."""
        assert self.dial is not None
        document = self._ask(urljoin(self.where, self.dial[0].attrib["url"]), CallSid=f"{self.sid}-agent", ParentCallSid=self.sid)
        assert [verb.tag for verb in document] in ([], ["Hangup"])
        return len(document) == 0

    def dialled(self, outcome: str, bridged: bool = False, caller_gone: bool = False) -> TwilioCall:
        """The <Dial> is over."""
        assert self.dial is not None
        action, self.dial = self.dial.attrib["action"], None
        told = {"DialCallStatus": outcome, "DialBridged": str(bridged).lower(), "CallStatus": "completed" if caller_gone else "in-progress"}
        return self._play(urljoin(self.where, action), **told)

    def hang_up(self) -> None:
        self.over = True
        path = f"{BASE}voice?source={self.source}"
        assert self.post(path, CallSid=self.sid, CallStatus="completed", Direction="inbound").status == 204

    def post(self, address: str, token: str = TOKEN, **fields: str) -> Any:
        body = urlencode({"CallSid": self.sid, "From": "+493023125001", "CallStatus": "in-progress", "Direction": "inbound", **fields})
        given = signature(token, address, parse_qsl(body, keep_blank_values=True))
        parts = urlsplit(address)
        headers = {"X-Forwarded-Host": parts.netloc, "X-Forwarded-Proto": parts.scheme, "X-Twilio-Signature": given, "Content-Type": FORM}
        return self.nobody.request("POST", f"{parts.path}?{parts.query}", body, headers=headers)

    def _ask(self, address: str, **fields: str) -> ElementTree.Element:
        answer = self.post(address, **fields)
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/xml"), answer
        document = ElementTree.fromstring(answer.body)
        assert document.tag == "Response"
        return document

    def _play(self, address: str, **fields: str) -> TwilioCall:
        self.where, self.next, self.dial = address, "", None
        for verb in self._ask(address, **fields):
            assert verb.tag in VERBS
            match verb.tag:
                case "Redirect":
                    self.next = urljoin(address, verb.text or "")
                    self.heard += [] if self.next.startswith(BASE) else [f"redirect {verb.text}"]
                case "Dial":
                    self.dial = verb
                case "Say":
                    self.heard.append(f"{verb.attrib['language']}: {verb.text}")
                case "Enqueue":
                    self.heard.append(f"queue {verb.text or verb.attrib['workflowSid']}")
                case _:
                    self.over = self.over or verb.tag == "Hangup"
                    self.heard.append(f"{verb.tag.lower()} {verb.text or ''}".strip())
        return self
