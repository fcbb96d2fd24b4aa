"""Tables in and out: agents, their skills and certificates, customers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from services.gateway import imports, schemas
from services.gateway.doors import OPERATING, Doors
from services.gateway.imports import Kind, Load, Refused
from services.gateway.schemas.imports import TABLE, Import, ImportReport
from services.gateway.scopes import is_limited
from shared.contracts.compile import compile_loader
from shared.errors import Forbidden, Invalid, NotFound
from shared.http.endpoint import LARGE, Response, check, endpoint
from shared.http.wsgi import Request
from shared.runtime.together import together

CSV = "text/csv"
AGENT, CUSTOMER = compile_loader(schemas.Agent()), compile_loader(schemas.Customer())
KINDS = ("agents", "skills", "certificates", "certifications", "customers")


class ImportDoors(Doors):
    @endpoint("POST", "/v1/imports/{kind}", query=Import, answer=ImportReport, roles=OPERATING, limit=LARGE, takes=(CSV,), shapes={CSV: TABLE},
              tag="imports")  # fmt: skip
    def post_import(self, request: Request) -> dict[str, Any]:
        """Import a table of `agents`, `skills`, `certificates`, `certifications` or `customers`, as CSV in UTF-8 with the columns' names in its first line.
        All or nothing: 422 with `rows` says line by line what to mend. Posted again it changes nothing."""
        name, told = request.parameters["kind"], request.query
        kind = self.kind_of(name)
        report = imports.run(
            self.core.units, name, kind, request.raw, request.principal.name, dry_run=told["dry_run"], by_row=told["by_row"]
        )
        return asdict(report)

    @endpoint("GET", "/v1/exports/{kind}", roles=OPERATING, gives=CSV, tag="imports")
    def get_export(self, request: Request) -> Response:
        """All agents, skills, certificates, certifications or customers as CSV. Imported again it changes nothing."""
        if is_limited(request.principal):
            raise Forbidden("an export holds what the whole organisation has: this needs somebody whose roles hold for all of it")
        name = request.parameters["kind"]
        headers = [("Content-Disposition", f'attachment; filename="{name}.csv"')]
        if request.environ["REQUEST_METHOD"] == "HEAD":
            self.kind_of(name)
            return Response((), 200, f"{CSV}; charset=utf-8", headers)
        return Response(imports.export(self.kind_of(name)), 200, f"{CSV}; charset=utf-8", headers)

    def kind_of(self, name: str) -> Kind:
        """Raises NotFound."""
        match name:
            case "agents":
                return imports.Agents(self.routing, together, _checking(AGENT))
            case "skills":
                return imports.Skills(self.routing, together, _checking(AGENT))
            case "certificates":
                return imports.Certificates(self.routing, together, _checking(AGENT))
            case "certifications":
                return imports.Certifications(self.routing, self.training, together, _checking(AGENT))
            case "customers":
                return imports.Customers(self.core.units, _checking(CUSTOMER))
        raise NotFound(f"no table is called {name}; there are {', '.join(KINDS)}")


def _checking(load: Callable[..., Any]) -> Load:
    def checked(told: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return check(load, told, "row")
        except Invalid as error:
            raise Refused(imports.sentences(error.more["errors"])) from error

    return checked
