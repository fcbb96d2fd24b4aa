"""The receiver's side of a webhook, held against the sender's."""

from __future__ import annotations

import base64
import json

import pytest

from answerline import BadWebhook, verify_webhook
from services.gateway.domain import webhooks

OLD, NEW = "whsec_" + base64.b64encode(b"o" * 32).decode(), "whsec_" + base64.b64encode(b"n" * 32).decode()
NOW = 1795296260.0
BODY = json.dumps({"type": "routing.contact_assigned.v1", "data": {"agent": "ann"}}).encode()


def headers(*secrets: str, at: int = int(NOW)) -> dict[str, str]:
    return webhooks.signed_headers(secrets, "msg_1", at, BODY)


def test_what_answerline_signs_is_let_in_and_read() -> None:
    assert verify_webhook(headers(NEW), BODY, NEW, now=NOW)["data"] == {"agent": "ann"}


def test_the_example_of_the_specification() -> None:
    secret, id, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}'
    given = {"webhook-id": id, "webhook-timestamp": "1614265330", "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}
    assert verify_webhook(given, body, secret, now=1614265330) == {"test": 2432232314}


@pytest.mark.parametrize("known", [OLD, NEW, [OLD, NEW]])
def test_while_one_secret_replaces_another_either_will_do(known: str | list[str]) -> None:
    assert verify_webhook(headers(OLD, NEW), BODY, known, now=NOW)


def test_a_framework_may_write_headers_as_it_likes() -> None:
    assert verify_webhook({name.upper(): value for name, value in headers(NEW).items()}, BODY, NEW, now=NOW)


@pytest.mark.parametrize("late", [-301, 301])
def test_what_is_too_old_or_too_new_is_a_replay(late: int) -> None:
    with pytest.raises(BadWebhook, match="timestamp"):
        verify_webhook(headers(NEW, at=int(NOW) - late), BODY, NEW, now=NOW)


@pytest.mark.parametrize(
    "change", [{"webhook-id": "msg_2"}, {"webhook-timestamp": str(int(NOW) + 1)}, {"webhook-signature": "v1,AAAA"}, {"webhook-signature": "v2,x"},
               {"webhook-signature": ""}, {"webhook-id": ""}, {"webhook-timestamp": "\u0661"}],
)  # fmt: skip
def test_what_was_changed_on_the_way_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(BadWebhook):
        verify_webhook(headers(NEW) | change, BODY, NEW, now=NOW)


def test_another_body_or_secret_is_refused() -> None:
    with pytest.raises(BadWebhook):
        verify_webhook(headers(NEW), BODY + b" ", NEW, now=NOW)
    with pytest.raises(BadWebhook):
        verify_webhook(headers(NEW), BODY, OLD, now=NOW)
    with pytest.raises(ValueError, match="whsec_"):
        verify_webhook(headers(NEW), BODY, "no secret", now=NOW)
