"""A step of the conversation with a waiting caller as mod_httapi of FreeSWITCH has it: a document of tags that are carried out in order;
then it asks again, at the same address, and gives back what `params` held.

As mod_httapi's documentation and source have it (1.10): `break` and every answer but 200 lead on in the dialplan, which is the fallback; a
caller's hang-up is told by one more post with `exiting`. An agent who picks up is asked for by `group_confirm_file`, on their own channel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote
from xml.sax.saxutils import escape, quoteattr

from services.gateway.domain.conversation import Fallback, Goodbye, Hold, Ring, Step

NOBODY = "-"
"""In place of nothing, which mod_httapi does not give back."""
NO_ANSWER = frozenset({"NO_ANSWER", "NO_USER_RESPONSE", "ALLOTTED_TIMEOUT", "PROGRESS_TIMEOUT"})
BUSY = frozenset({"USER_BUSY", "CALL_REJECTED"})
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DIAL_STRING = re.compile(r"[A-Za-z_]\w*/[\w.+@:;=%/-]+\Z", re.ASCII)
_PLAIN_ADDRESS = re.compile(r"https?://[\w.~:/?&=%+*!-]+\Z|https?://\[[0-9a-f:]+\][\w.~:/?&=%+*!-]+\Z", re.ASCII)
_NAME = re.compile(r"[\w.-]+\Z", re.ASCII)


def dialable(address: str) -> bool:
    """Whether FreeSWITCH's bridge takes it as one dial string, as in user/1001 or sofia/gateway/carrier/+4930231250."""
    return bool(_DIAL_STRING.match(address))


def said(fields: Mapping[str, str], name: str) -> str:
    """What a document of ours gave it to bring back; "" where there is nothing."""
    told = fields.get(f"answerline_{name}", NOBODY)
    return "" if told == NOBODY else unquote(told)


def render(step: Step, fields: Mapping[str, str], music: str, engine: str, voice: str) -> str:
    """`fields`: of the post that is answered."""
    match step:
        case Hold(text, _, say_at):
            spoken = f"<speak engine={_quoted(engine)} voice={_quoted(voice)}>{_text(text)}</speak>" if text and engine else ""
            return _document(f"{spoken}<playback file={_quoted(music)}/>", say_at=f"{say_at:.0f}", agent="", offer="")
        case Ring(agent, address, offer, seconds):
            work = _set(f"call_timeout={seconds}") + _set(f"group_confirm_file={_confirmation(fields, agent, offer)}")
            work += f'<execute application="bridge" data={_quoted(address)}/><getVar name="originate_disposition"/>'
            return _document(work, say_at=said(fields, "say_at"), agent=agent, offer=offer)
        case Fallback():
            return _document("<break/>")
        case Goodbye(text, _):
            spoken = f"<speak engine={_quoted(engine)} voice={_quoted(voice)}>{_text(text)}</speak>" if text and engine else ""
            return _document(f"{spoken}<hangup/>", agent="", offer="")


def picked_up(connected: bool) -> str:
    """For the agent's telephone, before the two are connected."""
    return _document("<break/>" if connected else '<hangup cause="CALL_REJECTED"/>')


def knows_us(fields: Mapping[str, str]) -> bool:
    """Whether it says where we are, so that it can be led here from the agent's channel too."""
    return bool(_PLAIN_ADDRESS.match(fields.get("url", ""))) and bool(_NAME.match(fields.get("httapi_profile", "default")))


def _confirmation(fields: Mapping[str, str], agent: str, offer: str) -> str:
    about = f"httapi_profile={fields.get('httapi_profile', 'default')},method=POST,answerline_picked_up={_plain(agent)},answerline_offer={_plain(offer)}"
    return f"httapi {{{about}}}{fields['url']}"


def _document(work: str, **params: str) -> str:
    told = "".join(f"<answerline_{name}>{_plain(value)}</answerline_{name}>" for name, value in params.items())
    return f'<document type="xml/freeswitch-httapi"><params>{told}</params><work>{work}</work></document>'


def _set(assignment: str) -> str:
    return f'<execute application="set" data={_quoted(assignment)}/>'


def _plain(value: str) -> str:
    """Without any character that means something in a dial string, in XML or in a variable."""
    return quote(value, safe="") or NOBODY


def _text(text: str) -> str:
    return escape(_NOT_IN_XML.sub("", text))


def _quoted(text: str) -> str:
    return quoteattr(_NOT_IN_XML.sub("", text))
