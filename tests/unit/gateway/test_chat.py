"""Replies from chats, as each chat sends them."""

from __future__ import annotations

import hashlib
import hmac
import json
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.domain.chat import REPLAY_SECONDS, NotAReply, Order, Said, is_signed, order, read

FORM, JSON = "application/x-www-form-urlencoded", "application/json"
SLACK = {
    "token": "t0ken",
    "team_id": "T1",
    "channel_name": "experts",
    "timestamp": "1795219200.000005",
    "user_id": "U7",
    "user_name": "bob",
    "text": "answer: K7Q2XM From 3.2 on.",
    "trigger_word": "answer:",
}
ZULIP = {
    "token": "t0ken",
    "bot_email": "answerline-bot@example.org",
    "trigger": "mention",
    "data": "@**answerline** K7Q2XM From 3.2 on.",
    "message": {"sender_email": "bob@example.org", "sender_full_name": "Bob", "sender_id": 7, "content": "…"},
}


@pytest.mark.parametrize(
    ("body", "content_type", "users"),
    [
        (urlencode(SLACK).encode(), FORM, ("bob", "U7")),
        (json.dumps(SLACK).encode(), JSON, ("bob", "U7")),
        (json.dumps(ZULIP).encode(), JSON, ("bob@example.org", "Bob", "7")),
    ],
    ids=["slack", "mattermost and rocket.chat", "zulip"],
)
def test_each_chat_is_understood(body: bytes, content_type: str, users: tuple[str, ...]) -> None:
    said = read(body, content_type)
    assert (said.users, said.token, order(said.text)) == (users, "t0ken", Order("K7Q2XM", "answer", "From 3.2 on."))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("K7Q2XM claim", Order("K7Q2XM", "claim")),
        ("#k7q2xm: Take", Order("K7Q2XM", "claim")),
        ("K7Q2XM pass", Order("K7Q2XM", "pass")),
        ("K7Q2XM 接", Order("K7Q2XM", "claim")),
        ("<@U1> K7Q2XM claim it is not\nbut an answer", Order("K7Q2XM", "answer", "claim it is not\nbut an answer")),
    ],
)
def test_a_text_is_an_order(text: str, expected: Order) -> None:
    assert order(text) == expected


@pytest.mark.parametrize(("text", "says"), [("hello", "begin with the question's code"), ("K7Q2XM", "after the code"), ("", "begin with")])
def test_a_text_without_an_order_says_how_to_write_one(text: str, says: str) -> None:
    with pytest.raises(NotAReply, match=says):
        order(text)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"text": ""}', b'{"text": 3}', b"\xff", b"[" * 100_000])
def test_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(NotAReply):
        read(body, JSON)


def test_slacks_own_worked_example() -> None:
    """From Slack's page "Verifying requests from Slack"."""
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA"
        b"&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554"
        b"%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    signature = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
    assert is_signed(body, "1531420618", signature, "8f742231b10e8888abcd99yyyzzz85a5", 1531420620)


def test_a_signature_is_checked_and_grows_old() -> None:
    body, stamp = b"text=K7Q2XM+claim", "1795219200"
    signature = "v0=" + hmac.new(b"secret", b"v0:1795219200:" + body, hashlib.sha256).hexdigest()
    now = float(stamp)
    assert is_signed(body, stamp, signature, "secret", now)
    assert not is_signed(body + b"!", stamp, signature, "secret", now)
    assert not is_signed(body, stamp, signature, "other", now)
    assert not is_signed(body, stamp, signature, "secret", now + REPLAY_SECONDS + 1)
    for stamp in ("", "x", "-1", "１"):
        assert not is_signed(body, stamp, signature, "secret", now)


@pytest.mark.parametrize("text", ["K7Q2XM a\\u0000b", "K7Q2XM a\\ud800b"])
def test_what_no_database_takes_is_left_out(text: str) -> None:
    said = read(b'{"text": "%s"}' % text.encode(), JSON).text
    assert said.encode().startswith(b"K7Q2XM a") and said.endswith("b") and "\0" not in said


@given(st.text(), st.dictionaries(st.text(), st.text()))
def test_whatever_is_written_is_an_order_or_refused(text: str, more: dict[str, str]) -> None:
    try:
        assert isinstance(read(json.dumps({**more, "text": text}).encode(), JSON), Said)
        assert order(text).code
    except NotAReply as refused:
        assert str(refused)
