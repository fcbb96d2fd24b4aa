"""A step of the conversation with a waiting caller as TwiML. Addresses are relative to the door that answers, whatever stands before it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlencode
from xml.sax.saxutils import escape, quoteattr

from services.gateway.domain.announcements import Language
from services.gateway.domain.conversation import Fallback, Goodbye, Hold, Ring, Step

VOICES: dict[Language, str] = {"en": "en-US", "zh": "zh-CN"}
SILENCE_SECONDS = 5
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NUMBER = re.compile(r"\+[1-9]\d{3,14}\Z")
_WORKFLOW = re.compile(r"WW[0-9a-f]{32}\Z")

Again = Mapping[str, str]


def dialable(address: str) -> bool:
    """Whether Twilio can ring it: a number with its country, a SIP address, or a client's name behind `client:`."""
    return bool(_NUMBER.match(address)) or (len(address) > 7 and address.startswith(("client:", "sip:", "sips:")))


def render(step: Step, again: Again, music: str, fallback: str) -> str:
    """`again`: the parameters of the address, which the next one has too. `fallback`: an address with TwiML, or a queue or workflow of
    Twilio's."""
    match step:
        case Hold(text, language, say_at):
            played = f"<Play>{_text(music)}</Play>" if music else f'<Pause length="{SILENCE_SECONDS}"/>'
            return _response(_say(text, language) + played + _redirect(_address("wait", {**again, "say_at": f"{say_at:.0f}"})))
        case Ring(agent, address, offer, seconds):
            about = {"agent": agent, "offer": offer}
            back = _quoted(_address("dialled", {**again, **about}))
            return _response(f'<Dial action={back} method="POST" timeout="{seconds}">{_callee(address, again, about)}</Dial>')
        case Fallback():
            return _response(_fall_back(fallback))
        case Goodbye(text, language):
            return _response(f"{_say(text, language)}<Hangup/>")


def picked_up(connected: bool) -> str:
    """For the agent's telephone, before the two are connected."""
    return _response("" if connected else "<Hangup/>")


def _callee(address: str, again: Again, about: Again) -> str:
    source = {"source": again["source"]} if "source" in again else {}
    attributes = f'url={_quoted(_address("agent", {**source, **about}))} method="POST"'
    if address.startswith("client:"):
        return f"<Client {attributes}>{_text(address.removeprefix('client:'))}</Client>"
    if address.startswith(("sip:", "sips:")):
        return f"<Sip {attributes}>{_text(address)}</Sip>"
    return f"<Number {attributes}>{_text(address)}</Number>"


def _fall_back(fallback: str) -> str:
    if fallback.startswith(("http://", "https://")):
        return _redirect(fallback)
    if _WORKFLOW.match(fallback):
        return f"<Enqueue workflowSid={_quoted(fallback)}/>"
    return f"<Enqueue>{_text(fallback)}</Enqueue>"


def _say(text: str, language: Language) -> str:
    return f'<Say language="{VOICES[language]}">{_text(text)}</Say>' if text else ""


def _redirect(address: str) -> str:
    return f'<Redirect method="POST">{_text(address)}</Redirect>'


def _address(door: str, query: Again) -> str:
    return f"{door}?{urlencode(query)}"


def _response(verbs: str) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?><Response>{verbs}</Response>'


def _text(text: str) -> str:
    return escape(_NOT_IN_XML.sub("", text))


def _quoted(text: str) -> str:
    return quoteattr(_NOT_IN_XML.sub("", text))
