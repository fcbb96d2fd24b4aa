"""Replies from a chat by its outgoing webhook, as Slack, Mattermost, Rocket.Chat and Zulip send them.

Slack and Mattermost post a form (token, user_id, user_name, text, trigger_word), Mattermost and Rocket.Chat the same names as JSON, Zulip
JSON of its own ({"token", "data", "message": {"sender_email", …}}). Slack's slash commands are signed instead (X-Slack-Signature, version
v0, over `v0:<timestamp>:<body>`) and have their text without the trigger.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl

from services.gateway.domain.observation import storable

CODE = re.compile(r"#?([2-9A-HJKMNP-Z]{6})\b[:,]?\s*", re.IGNORECASE)
MENTION = re.compile(r"(?:@\*\*[^*]+\*\*|<@\w+>|@\S+)\s*")
EVERYBODY = re.compile(r"@(?=(?:_?\*\*)?(?:all|channel|here|everyone|stream|topic)\b)", re.IGNORECASE)
REPLAY_SECONDS = 300.0
WORDS: dict[str, Literal["claim", "pass"]] = {"claim": "claim", "take": "claim", "pass": "pass", "接": "claim", "不会": "pass"}


class NotAReply(ValueError):
    """What came is no such message; the text says what is wrong."""


@dataclass(frozen=True)
class Said:
    """Who said what. `users`: all names under which the chat knows them. `token`: what the chat proves itself with, if anything."""

    users: tuple[str, ...]
    text: str
    token: str = ""


@dataclass(frozen=True)
class Order:
    """What is to be done with the question of this code."""

    code: str
    what: Literal["claim", "pass", "answer"]
    text: str = ""


def read(body: bytes, content_type: str) -> Said:
    """A chat's post. Raises NotAReply."""
    values = _values(body, content_type)
    message = values.get("message")
    if isinstance(message, dict):  # Zulip
        users = (message.get("sender_email"), message.get("sender_full_name"), message.get("sender_id"))
        text = values.get("data") or message.get("content")
    else:
        users = (values.get("user_name"), values.get("user_id"), values.get("user_email"))
        text = values.get("text")
    if not isinstance(text, str) or not text.strip():
        raise NotAReply("the message has no text")
    trigger = values.get("trigger_word")
    if isinstance(trigger, str) and trigger and text.startswith(trigger):
        text = text[len(trigger) :]
    token = values.get("token")
    return Said(
        tuple(str(user) for user in users if user not in (None, "")), storable(text.strip()), token if isinstance(token, str) else ""
    )


def _values(body: bytes, content_type: str) -> dict[str, Any]:
    try:
        if content_type == "application/x-www-form-urlencoded":
            return dict(parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=100))
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NotAReply("the body is neither a form nor JSON") from error
    if not isinstance(values, dict):
        raise NotAReply("the body must be a JSON object")
    return values


def order(text: str) -> Order:
    """What a text orders: `K7Q2XM From 3.2 on.` answers, `K7Q2XM claim` takes, `K7Q2XM pass` passes. Raises NotAReply without a code."""
    text = MENTION.sub("", text, count=1) if MENTION.match(text) else text
    found = CODE.match(text)
    if found is None:
        raise NotAReply("begin with the question's code, for example: K7Q2XM From 3.2 on.")
    rest = text[found.end() :].strip()
    if not rest:
        raise NotAReply("after the code comes the answer, or: claim, pass")
    word = WORDS.get(rest.lower())
    return Order(found[1].upper(), word or "answer", "" if word else rest)


ASKED, CLAIMED, ANSWERED = "im.expert_asked.v1", "im.escalation_claimed.v1", "im.question_answered.v1"
SPOKEN = frozenset({ASKED, CLAIMED, ANSWERED})
"""The events that a chat is told of."""
TEST_TEXT = "Answerline can be heard here."


def spoken(type: str, data: Mapping[str, Any]) -> str:
    """An event in the words in which a chat is told of it."""
    if type not in SPOKEN:
        return TEST_TEXT
    code, subject = data["code"], f"{data['code']} · {data['topic']}"
    if type == ASKED:
        urgent = " · urgent" if data["urgency"] == "high" else ""
        return f"{escaped(subject + urgent)}: {escaped(data['question'])} — reply `{code} …`"
    if type == CLAIMED:
        return escaped(f"{subject}: {data['expert']} has it")
    return escaped(f"{subject}: {data['question']} — {data['expert']}: {data['answer']}")


def escaped(text: str) -> str:
    """Nobody's text calls a whole channel: Slack's three characters (https://api.slack.com/reference/surfaces/formatting), and the words by
    which Mattermost, Rocket.Chat and Zulip call all, parted from their @ by a blank of no width."""
    return EVERYBODY.sub("@\u200b", text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def is_signed(body: bytes, timestamp: str, signature: str, secret: str, now: float) -> bool:
    """Whether Slack's signature is right and fresh."""
    if not timestamp.isascii() or not timestamp.isdigit() or abs(now - float(timestamp)) > REPLAY_SECONDS:
        return False
    expected = "v0=" + hmac.new(secret.encode(), b"v0:" + timestamp.encode() + b":" + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace"))
