"""For chats from which experts answer, and for administrators who connect them."""

from __future__ import annotations

from typing import Any

from services.gateway import chats
from services.gateway.domain.chat import NotAReply
from services.gateway.doors import Doors
from services.gateway.schemas import chats as schemas
from shared.errors import Conflict, Invalid, NotFound, Unavailable
from shared.http.endpoint import endpoint
from shared.http.wsgi import Request

ADMIN = ("admin",)
FORM = "application/x-www-form-urlencoded"
POSTED = (FORM, "application/json")
DONE = {"claim": "{} is yours.", "pass": "{}: you have passed.", "answer": "{}: the agent has your answer."}


class ChatDoors(Doors):
    @endpoint("PUT", "/v1/chats/{name}", body=schemas.PutChat, answer=schemas.Chat, roles=ADMIN, tag="experts")
    def put_chat(self, request: Request) -> dict[str, Any]:
        """Connect a chat: how its messages prove where they are from, and who speaks there. A secret not spoken of stays."""
        return chats.put(self.core.units, self.core.sealer, request.parameters["name"], request.body)

    @endpoint("GET", "/v1/chats/{name}", answer=schemas.Chat, roles=ADMIN, tag="experts")
    def get_chat(self, request: Request) -> dict[str, Any]:
        """A chat, without its secrets."""
        return chats.get(self.core.units, request.parameters["name"])

    @endpoint("DELETE", "/v1/chats/{name}", status=204, roles=ADMIN, tag="experts")
    def delete_chat(self, request: Request) -> None:
        """Disconnect a chat."""
        chats.remove(self.core.units, request.parameters["name"])

    @endpoint("POST", "/v1/chats/{name}/reply", answer=schemas.ChatReply, answers={401: None}, public=True, takes=POSTED,
              shapes={FORM: schemas.ChatMessage, "application/json": schemas.JSON_MESSAGE}, tag="experts")  # fmt: skip
    def post_chat_reply(self, request: Request) -> dict[str, Any]:
        """A message from a chat (an outgoing webhook or slash command of Slack, Mattermost, Rocket.Chat or Zulip), known by its token or
        signature. It begins with a question's code: `K7Q2XM From 3.2 on.` answers, `K7Q2XM claim` takes it, `K7Q2XM pass` passes."""
        kind = request.header("Content-Type").partition(";")[0].strip().lower()
        timestamp, signature = request.header("X-Slack-Request-Timestamp"), request.header("X-Slack-Signature")
        name = request.parameters["name"]
        person, order = chats.read(self.core.units, self.core.sealer, name, request.raw, kind, timestamp, signature)
        if not person:
            return {"text": "Nobody has said who you are: an administrator adds you to the people of this chat."}
        if isinstance(order, NotAReply):
            return {"text": str(order)}
        try:
            self.im.obey(code=order.code, person=person, what=order.what, text=order.text)
        except (Conflict, Invalid, NotFound) as error:
            return {"text": error.detail}
        except Unavailable:
            return {"text": "It could not be done at the moment: say it again."}
        return {"text": DONE[order.what].format(order.code)}
