"""For administrators: who is told of events by signed posts to an address of theirs."""

from __future__ import annotations

from typing import Any

from services.gateway import webhooks
from services.gateway.doors import Doors
from services.gateway.schemas import Page
from services.gateway.schemas import webhooks as schemas
from shared.http.endpoint import endpoint
from shared.http.wsgi import Request

ADMIN = ("admin",)


class WebhookDoors(Doors):
    @endpoint("POST", "/v1/webhooks", body=schemas.PutWebhook, answer=schemas.NewWebhook, status=201, roles=ADMIN, tag="webhooks")
    def post_webhook(self, request: Request) -> dict[str, Any]:
        """Have events posted to an address from now on, signed as Standard Webhooks say. The answer is the only one with the secret."""
        return webhooks.create(self.core.units, self.core.sealer, self.core.settings.webhook_allowance, request.body)

    @endpoint("GET", "/v1/webhooks", query=Page, answer=schemas.Webhooks, roles=ADMIN, tag="webhooks")
    def get_webhooks(self, request: Request) -> dict[str, Any]:
        """All webhooks, oldest first, page by page, without their secrets."""
        return webhooks.listing(self.core.units, request.query["cursor"], request.query["limit"])

    @endpoint("GET", "/v1/webhooks/{id}", answer=schemas.Webhook, roles=ADMIN, tag="webhooks")
    def get_webhook(self, request: Request) -> dict[str, Any]:
        """A webhook, and how it fares."""
        return webhooks.get(self.core.units, request.parameters["id"])

    @endpoint("PUT", "/v1/webhooks/{id}", body=schemas.PutWebhook, answer=schemas.Webhook, roles=ADMIN, tag="webhooks")
    def put_webhook(self, request: Request) -> dict[str, Any]:
        """Change a webhook, disable it or enable it. Enabled again it gets what was still owed to it and what happens from now on; for
        what happened meanwhile there is `redeliver`. The secret stays."""
        return webhooks.put(self.core.units, self.core.settings.webhook_allowance, request.parameters["id"], request.body)

    @endpoint("DELETE", "/v1/webhooks/{id}", status=204, roles=ADMIN, tag="webhooks")
    def delete_webhook(self, request: Request) -> None:
        """Delete a webhook with all that is owed to it."""
        webhooks.remove(self.core.units, request.parameters["id"])

    @endpoint("POST", "/v1/webhooks/{id}/rotate", body=schemas.RotateWebhook, answer=schemas.NewWebhook, roles=ADMIN, tag="webhooks")
    def rotate_webhook(self, request: Request) -> dict[str, Any]:
        """Make a new secret, shown this once. For a while the former one signs too, so that the receiver can change over."""
        return webhooks.rotate(self.core.units, self.core.sealer, request.parameters["id"], request.body["keep_seconds"])

    @endpoint("POST", "/v1/webhooks/{id}/test", answer=schemas.WebhookTest, roles=ADMIN, takes=(), tag="webhooks")
    def test_webhook(self, request: Request) -> dict[str, Any]:
        """Post a gateway.webhook_tested.v1 now, enabled or not, and say what came back, within 15 s. It is not tried again."""
        return self.core.courier.test(request.parameters["id"])

    @endpoint("GET", "/v1/webhooks/{id}/deliveries", query=schemas.DeliveryPage, answer=schemas.Deliveries, roles=ADMIN, tag="webhooks")
    def get_webhook_deliveries(self, request: Request) -> dict[str, Any]:
        """What was, is to be, or could not be delivered, newest first, page by page. Delivered ones are kept for a day, dead ones for a month."""
        query = request.query
        return webhooks.deliveries(self.core.units, request.parameters["id"], query.get("state"), query["cursor"], query["limit"])

    @endpoint(
        "POST", "/v1/webhooks/{id}/redeliver", body=schemas.Redeliver, answer=schemas.Redelivery, status=202, roles=ADMIN, tag="webhooks"
    )
    def redeliver_webhook(self, request: Request) -> dict[str, Any]:
        """Send one delivery again, or everything from a time on, under the same ids as before."""
        return webhooks.redeliver(self.core.units, request.parameters["id"], request.body)
