"""Which events a webhook wants, how a post is signed, when it is tried again, and what is shown of an answer."""

from __future__ import annotations

import base64
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from answerline import BadWebhook, verify_webhook
from services.gateway.domain import webhooks
from services.gateway.domain.webhooks import DEAD, DELIVERED, PATIENCE, PENDING, STEPS, chosen, excerpt, follow, is_hopeless, retry_after
from tests.unit.conftest import SetClock

TYPES = ["gateway.contact_arrived.v1", "routing.contact_assigned.v1", "routing.contact_completed.v1", "routing.offer_made.v1"]
DAY = 86400.0


@pytest.mark.parametrize(
    ("patterns", "wanted"),
    [
        (["*"], TYPES),
        (["routing.contact_assigned.v1"], TYPES[1:2]),
        (["routing.contact_*"], TYPES[1:3]),
        (["*.contact_a*.v1", "routing.offer_made.v1"], [TYPES[0], TYPES[1], TYPES[3]]),
        (["routing.contact"], []),
        (["routing.c*d.v1"], TYPES[1:3]),
        (["routing.contact_assigned.v1*routing.contact_assigned.v1", "*.v1.v1", "routing.contact_ass*ssigned.v1"], []),
        (["r*" * 12 + "*" * 60 + "t*" * 12 + "z", "*" * 200 + "z", "*" * 60 + "completed*" + "*" * 60 + ".v1"], TYPES[2:3]),
        (["routing?contact_assigned.v1", "[a-z.]*", "routing.contact_assigned.v1|"], []),
        ([], []),
    ],
)
def test_a_pattern_is_a_type_with_stars(patterns: list[str], wanted: list[str]) -> None:
    assert chosen(patterns, TYPES) == set(wanted)


# ---- signatures

SECRET, ID, AT, BODY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'


def test_the_signature_is_that_of_the_published_example() -> None:
    """The example in the libraries of Standard Webhooks."""
    assert webhooks.signed_headers([SECRET], ID, AT, BODY) == {
        "webhook-id": ID, "webhook-timestamp": str(AT), "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }  # fmt: skip


@given(st.binary(min_size=24, max_size=64), st.binary(min_size=24, max_size=64), st.integers(min_value=0, max_value=2**33))
def test_whoever_knows_one_of_the_secrets_can_check_a_post(old: bytes, new: bytes, at: int) -> None:
    secrets = [webhooks.secret_of(new), webhooks.secret_of(old)]
    headers = webhooks.signed_headers(secrets, ID, at, BODY)
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in secrets:
        assert verify_webhook(headers, BODY, secret, now=at) == {"test": 2432232314}
        for changed in ({**headers, "webhook-id": "msg_2"}, {**headers, "webhook-timestamp": str(at + 1)}):
            with pytest.raises(BadWebhook):
                verify_webhook(changed, BODY, secret, now=at)
        with pytest.raises(BadWebhook):
            verify_webhook(headers, BODY + b" ", secret, now=at)


def test_a_secret_is_marked_base64() -> None:
    secret = webhooks.secret_of(bytes(range(32)))
    assert secret.startswith("whsec_")
    assert base64.b64decode(secret.removeprefix("whsec_"), validate=True) == bytes(range(32))


# ---- what follows from an answer


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_a_2xx_is_a_delivery(status: int) -> None:
    assert follow(status, 1, 1, None, 0.5) == webhooks.Next(DELIVERED)


def test_410_gives_up_at_once() -> None:
    assert follow(410, 1, 1, 60.0, 0.5) == webhooks.Next(DEAD)


@given(
    st.sampled_from([None, 100, 301, 302, 308, 400, 404, 429, 500, 502, 503]),
    st.integers(min_value=1, max_value=len(STEPS)),
    st.floats(0, 1),
)
def test_everything_else_is_tried_again_within_twice_its_step(status: int | None, attempt: int, draw: float) -> None:
    then = follow(status, attempt, 1, None, draw)
    assert then.state == PENDING
    assert then.wait == draw * 2 * STEPS[attempt - 1]


def test_the_waits_are_some_three_days_on_average_and_then_it_is_over() -> None:
    waits = [follow(500, attempt, attempt, None, 0.5).wait for attempt in range(1, len(STEPS) + 1)]
    assert waits == [5, 60, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    assert 3 * DAY < sum(wait or 0 for wait in waits) < 3.5 * DAY
    assert follow(500, len(STEPS) + 1, 11, None, 0.5).state == DEAD


@given(st.integers(min_value=1, max_value=100_000), st.floats(0, 1))
def test_a_receiver_that_fails_is_left_alone_for_two_minutes_at_most(failures: int, draw: float) -> None:
    then = follow(None, 1, failures, None, draw)
    assert then.pause == draw * min(5 * 2 ** min(failures, 5), 120)
    assert follow(500, 1, 1, None, draw).pause == follow(500, 1, 1, None, draw).wait, "the first retry comes before anything later"


@pytest.mark.parametrize(("asked", "wait", "pause"), [(30.0, 30, 30), (7200.0, 7200, 3600), (1e9, DAY, 3600), (0.0, 5, 5), (None, 5, 5)])
def test_retry_after_is_honoured_within_reason(asked: float | None, wait: float, pause: float) -> None:
    then = follow(429, 1, 1, asked, 0.5)
    assert (then.wait, then.pause) == (wait, pause)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("120", 120), (" 0 ", 0), ("Wed, 21 Oct 2026 07:28:00 GMT", 10), ("Wed, 21 Oct 2026 07:27:00 GMT", 0), ("", None), ("soon", None),
     ("-5", None), ("1.5", None), ("٣", None), ("9" * 40, 9999999999)],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(text: str, seconds: float | None) -> None:
    assert retry_after(text, 1792567670.0) == seconds


@given(st.text(max_size=40))
def test_any_retry_after_is_read_without_harm(text: str) -> None:
    seconds = retry_after(text, 1792567670.0)
    assert seconds is None or seconds >= 0


def test_five_days_of_failures_are_enough() -> None:
    assert not is_hopeless(None, 1e9)
    assert not is_hopeless(1e9, 1e9 + PATIENCE - 1)
    assert is_hopeless(1e9, 1e9 + PATIENCE)


# ---- what is shown of an answer


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"", ""),
        (b"no such\r\n\troute", "no such route"),
        (b"call +852 6778 6396 now", "call … now"),
        (b"unknown customer ann@example.com, sorry", "unknown customer …, sorry"),
        (b"key al_9xWkq2TtG3 and whsec_MfKQ9r8G are wrong", "key … and … are wrong"),
        (b"Authorization: Bearer abc.def is wrong", "Authorization: … is wrong"),
        (b'{"password": "hunter2"}', '{"…'),
        (b"trace eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9 end", "trace … end"),
        (b"\xff\x00<b>", "\ufffd\ufffd<b>"),
        (b"\x1b[31mred", "\ufffd[31mred"),
    ],
)
def test_an_answer_is_shown_without_numbers_addresses_and_keys(body: bytes, shown: str) -> None:
    assert excerpt(body) == shown


@given(st.binary(max_size=2000))
def test_of_any_answer_one_short_line_is_shown(body: bytes) -> None:
    shown = excerpt(body)
    assert len(shown) <= 200
    assert shown.isprintable()


def test_half_a_key_at_the_cut_is_not_shown() -> None:
    assert "whs" not in excerpt(b"x " * 50 + b"1234567890 " * 62 + b"whsec_" + b"k" * 100)


def test_the_verifier_in_the_docs_says_the_same(at: SetClock) -> None:
    text = (Path(__file__).parents[3] / "docs" / "webhooks.md").read_text()
    verifier: dict[str, Any] = {}
    exec(text.partition("```python\n")[2].partition("```")[0], verifier)
    verifier["time"] = SimpleNamespace(time=at)
    secrets = [webhooks.secret_of(bytes(32)), webhooks.secret_of(bytes(range(32)))]
    headers = webhooks.signed_headers(secrets, ID, int(at()), BODY)
    assert all(verifier["is_ours"](headers, BODY, secret) for secret in secrets)
    assert not verifier["is_ours"](headers, BODY + b" ", secrets[0])
    assert not verifier["is_ours"](headers, BODY, SECRET)
    at.forward(301)
    assert not verifier["is_ours"](headers, BODY, secrets[0])
