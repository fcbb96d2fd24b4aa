"""Webhooks: what a subscription is, and what was delivered to it."""

from __future__ import annotations

from typing import Any

from marshmallow import ValidationError, fields, validate

from services.gateway.domain.webhooks import CLOUDEVENTS, FORMATS, chosen
from services.gateway.schemas import NAME, TEXT, Page
from services.gateway.webhooks import ASKED, FAILING, GONE, STATES
from shared import contracts
from shared.contracts.fields import Data, Input, Time
from shared.targets import LONGEST_URL

LONGEST_OVERLAP = 30 * 86400.0


def _known_type(pattern: str) -> None:
    """Raises ValidationError for what no event is called."""
    if len(pattern) > 200 or not chosen([pattern], contracts.SCHEMAS):
        raise ValidationError(
            "no event is called so: /asyncapi.json lists them all, and * stands for any characters, as in routing.contact_*"
        )


def _described(description: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"description": description}, **more}


class PutWebhook(Input):
    url = fields.String(
        **_described("where to, with https://; an address of the public internet, unless the operator allows others"),
        required=True,
        validate=validate.Length(min=1, max=LONGEST_URL),
    )
    types = fields.List(
        fields.String(validate=_known_type),
        **_described("types of event; * stands for any characters: routing.contact_*, *"),
        required=True,
        validate=validate.Length(min=1, max=50),
    )
    queues = fields.List(
        fields.String(validate=NAME),
        **_described("only what concerns these queues; empty: everything"),
        load_default=list,
        validate=validate.Length(max=200),
    )
    description = fields.String(load_default="", validate=TEXT)
    format = fields.String(
        **_described("cloudevents, or slack: sentences about questions to experts, as incoming webhooks of chats take them"),
        load_default=CLOUDEVENTS,
        validate=validate.OneOf(FORMATS),
    )
    enabled = fields.Boolean(load_default=True)


class Webhook(Data):
    id = fields.String()
    url = fields.String()
    types = fields.List(fields.String())
    queues = fields.List(fields.String())
    description = fields.String()
    format = fields.String(validate=validate.OneOf(FORMATS))
    enabled = fields.Boolean()
    disabled = fields.String(
        **_described("why it is not enabled: asked, gone (it answered 410) or failing (nothing was accepted for five days)"),
        validate=validate.OneOf(("", ASKED, GONE, FAILING)),
    )
    failing_since = Time(**_described("the first of its last attempts, all of which failed", allow_none=True))
    old_secret_until = Time(**_described("until then the former secret signs too", allow_none=True))
    created_at = Time()
    changed_at = Time()


class NewWebhook(Webhook):
    secret = fields.String(**_described("what signatures are checked with; it is shown this once"))


class Webhooks(Data):
    items = fields.List(fields.Nested(Webhook))
    next = fields.String(**_described("the next page's `cursor`; null on the last", allow_none=True))


class RotateWebhook(Input):
    keep_seconds = fields.Float(
        **_described("how long the former secret signs beside the new one; 0: it ends now, because others know it"),
        load_default=86400.0,
        validate=validate.Range(min=0, max=LONGEST_OVERLAP),
    )


class WebhookTest(Data):
    event = fields.String(**_described("the event's id, as it was sent in webhook-id"))
    accepted = fields.Boolean()
    status = fields.Integer(**_described("null: no answer came", allow_none=True))
    error = fields.String(**_described("what hindered it"))
    answer = fields.String(**_described("how the answer begins, without what looks like a number, a mail address or a key"))
    seconds = fields.Float()


class DeliveryPage(Page):
    state = fields.String(validate=validate.OneOf(STATES))


class Delivery(Data):
    id = fields.String()
    event = fields.String(**_described("the event's id, the same in webhook-id whenever it is sent"))
    type = fields.String()
    subject = fields.String()
    state = fields.String(**_described("pending, delivered, or dead: given up"), validate=validate.OneOf(STATES))
    attempts = fields.Integer()
    queued_at = Time()
    last_attempt_at = Time(allow_none=True)
    next_attempt_at = Time(allow_none=True)
    last_status = fields.Integer(**_described("null: no answer came", allow_none=True))
    last_error = fields.String()
    last_answer = fields.String(**_described("how the last answer begins, without what looks like a number, a mail address or a key"))


class Deliveries(Data):
    items = fields.List(fields.Nested(Delivery))
    next = fields.String(**_described("the next page's `cursor`; null on the last", allow_none=True))


class Redeliver(Input):
    """Either `delivery` or `since`."""

    delivery = fields.String(**_described("the id of one delivery"), validate=NAME)
    since = Time(**_described("everything that came in from then on, as far as the log of events reaches"))


class Redelivery(Data):
    events = fields.Integer(**_described("how many events are looked at again; those that the webhook wants are sent"))
