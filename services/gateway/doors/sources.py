"""For administrators: the register of telephony systems."""

from __future__ import annotations

from typing import Any

from services.gateway import schemas, sources
from services.gateway.doors import OPERATING, Doors
from shared.http.endpoint import endpoint
from shared.http.wsgi import Request


class SourceDoors(Doors):
    @endpoint("GET", "/v1/sources", query=schemas.Page, answer=schemas.Listing, roles=OPERATING, tag="sources")
    def get_sources(self, request: Request) -> dict[str, Any]:
        """All registered telephony systems by name, page by page, without their secrets."""
        return sources.listing(self.core.units, request.query["cursor"], request.query["limit"])

    @endpoint("PUT", "/v1/sources/{name}", body=schemas.PutSource, answer=schemas.RegisteredSource, roles=("admin",), tag="sources")
    def put_source(self, request: Request) -> dict[str, Any]:
        """Register a telephony system, or change it. A secret is written and never shown; one that is not sent stays, null removes it.
        In force everywhere within seconds."""
        name = request.parameters["name"]
        told = sources.put(self.core.units, name, request.body)
        self.core.sources.forget(name)
        return told

    @endpoint("GET", "/v1/sources/{name}", answer=schemas.RegisteredSource, roles=OPERATING, tag="sources")
    def get_source(self, request: Request) -> dict[str, Any]:
        """What is registered of a telephony system, and which secrets it has."""
        return sources.get(self.core.units, request.parameters["name"])
