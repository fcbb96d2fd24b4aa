"""Chats from which experts answer: who is let in, for whom they speak, and what the chat shows."""

from __future__ import annotations

import hashlib
import hmac
import inspect
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from sqlalchemy import select

from services.gateway import chats, store
from services.gateway.domain.chat import ANSWERED, ASKED, CLAIMED, SPOKEN, spoken
from services.im.service import ImService
from shared import contracts
from shared.errors import AnswerlineError, Conflict, NotFound, Unavailable
from tests.unit.conftest import MakeUnits, SetClock
from tests.unit.gateway.door import Doors

FORM = "application/x-www-form-urlencoded"
TOKEN, SIGNING = "the chat's token", "the signing secret"
SAID = {"token": TOKEN, "user_name": "bob.ray", "user_id": "U7", "text": "K7Q2XM From 3.2 on."}


class Im:
    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.refuses: AnswerlineError | None = None

    def obey(self, **arguments: Any) -> None:
        inspect.signature(ImService.obey).bind(None, **arguments)
        self.asked.append(arguments)
        if self.refuses:
            raise self.refuses


class Chat:
    """The chat `experts`, in which bob.ray speaks for bob."""

    def __init__(self, doors: Doors) -> None:
        self.doors, self.im = doors, Im()
        doors.service.im = self.im
        self.put(token=TOKEN, signing_secret=SIGNING)

    def put(self, status: int = 200, name: str = "experts", **more: Any) -> Any:
        answer = self.doors("PUT", f"/v1/chats/{name}", {"people": {"bob.ray": "bob"}, **more}, "admin")
        assert answer.status == status, answer
        return answer.json

    def say(self, body: Any, name: str = "experts", kind: str = "application/json", **headers: str) -> tuple[int, str]:
        answer = self.doors("POST", f"/v1/chats/{name}/reply", body, kind=kind, **headers)
        return answer.status, answer.json.get("text", answer.json.get("detail"))


@pytest.fixture
def chat(make_units: MakeUnits, at: SetClock) -> Chat:
    return Chat(Doors(make_units(store.metadata)))


def test_a_chat_is_put_shown_and_deleted_and_its_secrets_are_never_told(chat: Chat) -> None:
    shown = {"name": "experts", "people": {"bob.ray": "bob"}, "secrets": ["signing_secret", "token"]}
    assert chat.doors("GET", "/v1/chats/experts", key="admin").json == chat.put() == shown
    assert chat.put(signing_secret=None) == {**shown, "secrets": ["token"]}
    with chat.doors.units.database.reading() as connection:
        kept = connection.execute(select(chats.chat_secret)).all()
    assert TOKEN not in str(kept)
    assert chat.doors("DELETE", "/v1/chats/experts", key="admin").status == 204
    for method in ("GET", "DELETE"):
        assert chat.doors(method, "/v1/chats/experts", key="admin").status == 404
    assert chat.say(SAID)[0] == 401


def test_a_chat_without_any_secret_is_refused_and_nothing_of_it_stays(chat: Chat) -> None:
    assert "token" in chat.put(422, "other")["errors"]
    assert chat.doors("GET", "/v1/chats/other", key="admin").status == 404
    assert "token" in chat.put(422, token=None, signing_secret=None)["errors"]
    assert chat.say(SAID)[0] == 200, "the secrets are what they were"


@pytest.mark.parametrize(
    ("text", "order", "shown"),
    [
        ("K7Q2XM From 3.2 on.", {"what": "answer", "text": "From 3.2 on."}, "K7Q2XM: the agent has your answer."),
        ("k7q2xm claim", {"what": "claim", "text": ""}, "K7Q2XM is yours."),
        ("@answerline K7Q2XM pass", {"what": "pass", "text": ""}, "K7Q2XM: you have passed."),
    ],
)
def test_what_is_said_is_done_in_the_name_of_the_person(chat: Chat, text: str, order: dict[str, str], shown: str) -> None:
    for body, kind in ((SAID | {"text": text}, "application/json"), (urlencode(SAID | {"text": text}), f"{FORM}; charset=utf-8")):
        assert chat.say(body, kind=kind) == (200, shown)
        assert chat.im.asked.pop() == {"code": "K7Q2XM", "person": "bob", **order}


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ({"user_name": "mallory", "user_id": "U8"}, "an administrator adds you"),
        ({"text": "From 3.2 on."}, "begin with the question's code"),
    ],
)
def test_what_cannot_be_done_is_said_in_the_chat_and_asks_nobody(chat: Chat, said: dict[str, str], shown: str) -> None:
    status, text = chat.say(SAID | said)
    assert (status, shown in text, chat.im.asked) == (200, True, [])


@pytest.mark.parametrize("refusal", [Conflict("eve has claimed it already."), NotFound("no question has the code K7Q2XM")])
def test_a_refusal_is_shown_in_its_words(chat: Chat, refusal: AnswerlineError) -> None:
    chat.im.refuses = refusal
    assert chat.say(SAID) == (200, refusal.detail)


def test_an_outage_is_told_in_the_chat_too(chat: Chat) -> None:
    chat.im.refuses = Unavailable("im does not answer")
    assert chat.say(SAID) == (200, "It could not be done at the moment: say it again.")


def test_slacks_signature_is_as_good_as_a_token_while_it_is_fresh(chat: Chat, at: SetClock) -> None:
    body = orjson.dumps({name: value for name, value in SAID.items() if name != "token"})

    def signed(secret: str, age: float = 0.0) -> int:
        moment = str(int(at() - age))
        signature = "v0=" + hmac.new(secret.encode(), f"v0:{moment}:".encode() + body, hashlib.sha256).hexdigest()
        return chat.say(body, HTTP_X_SLACK_REQUEST_TIMESTAMP=moment, HTTP_X_SLACK_SIGNATURE=signature)[0]

    assert [signed(SIGNING), signed("another"), signed(SIGNING, 301)] == [200, 401, 401]


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x", "ключ", None, 7])
def test_whoever_does_not_prove_it_is_not_let_in(chat: Chat, token: Any) -> None:
    assert chat.say(SAID | {"token": token})[0] == 401
    assert chat.say(SAID, "another chat")[0] == 401
    assert not chat.im.asked


@pytest.mark.parametrize("body", ["", "[]", "{", '{"token": "x"}', '{"text": 7}', b"\xff"])
def test_what_is_no_message_is_refused(chat: Chat, body: Any) -> None:
    assert chat.say(body)[0] == 422


# ---- what a chat is told


def data(type: str, **more: Any) -> dict[str, Any]:
    return {**contracts.example(type)["data"], **more}


def test_a_chat_is_told_what_is_asked_who_has_it_and_what_came_of_it() -> None:
    asked = {"topic": "router", "question": "Which firmware?"}
    assert spoken(ASKED, data(ASKED, **asked, urgency="normal")) == "K7Q2XM · router: Which firmware? — reply `K7Q2XM …`"
    assert spoken(ASKED, data(ASKED, **asked, urgency="high")).startswith("K7Q2XM · router · urgent: ")
    assert spoken(CLAIMED, data(CLAIMED, topic="router", expert="bob")) == "K7Q2XM · router: bob has it"
    told = data(ANSWERED, **asked, answer="3.2", expert="bob")
    assert spoken(ANSWERED, told) == "K7Q2XM · router: Which firmware? — bob: 3.2"
    assert set(contracts.SCHEMAS) >= SPOKEN


def test_no_question_calls_a_whole_channel() -> None:
    assert "&lt;!channel&gt; a &amp; b" in spoken(ASKED, data(ASKED, question="<!channel> a & b"))
    told = spoken(ASKED, data(ASKED, question="@all @Channel @here @**all** @everyone, ask @allan or ann@here.example"))
    assert all(f"@{word}" not in told for word in ("all ", "Channel", "here ", "**all**", "everyone"))
    assert "@allan" in told
