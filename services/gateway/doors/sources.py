"""For administrators: the register of telephony systems."""

from __future__ import annotations

from typing import Any

from services.gateway import schemas, sources
from services.gateway.domain.observation import Observation
from services.gateway.doors import OPERATING, Doors
from services.gateway.handlers import Reading, Taken
from services.gateway.schemas import answers
from shared import clock
from shared.http.endpoint import endpoint
from shared.http.wsgi import Request


class SourceDoors(Doors):
    @endpoint("GET", "/v1/sources", query=schemas.Page, answer=answers.Sources, roles=OPERATING, tag="sources")
    def get_sources(self, request: Request) -> dict[str, Any]:
        """All registered telephony systems by name, page by page, without their secrets."""
        return sources.listing(self.core.units, request.query["cursor"], request.query["limit"])

    @endpoint("PUT", "/v1/sources/{name}", body=schemas.PutSource, answer=schemas.RegisteredSource, roles=("admin",), tag="sources")
    def put_source(self, request: Request) -> dict[str, Any]:
        """Register a telephony system, or change it. A secret is written and never shown; one that is not sent stays, null removes it.
        In force everywhere within seconds."""
        name = request.parameters["name"]
        told = sources.put(self.core.units, self.core.sealer, name, request.body)
        self.core.sources.forget(name)
        return told

    @endpoint("DELETE", "/v1/sources/{name}", status=204, roles=("admin",), tag="sources")
    def delete_source(self, request: Request) -> None:
        """Take a telephony system off the register, because it is gone. Its secrets go with it. What it has open is closed as lost, for
        nobody will tell of it any more; what it posts from now on is refused with 404, until it is registered again."""
        name = request.parameters["name"]
        sources.get(self.core.units, name)
        at = clock.now()
        gone = Observation("gateway", "stopped", f"gateway|deleted|{at!r}", at)
        self.core.take(Taken(name, "sources", Reading([gone])))  # first: without it a broken delete would leave contacts open for a day
        sources.remove(self.core.units, name)
        self.core.sources.forget(name)

    @endpoint("GET", "/v1/sources/{name}", answer=schemas.RegisteredSource, roles=OPERATING, tag="sources")
    def get_source(self, request: Request) -> dict[str, Any]:
        """What is registered of a telephony system, and which secrets it has."""
        return sources.get(self.core.units, request.parameters["name"])
