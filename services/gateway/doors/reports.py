"""For whoever looks at figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from services.gateway import schemas
from services.gateway.doors import REPORT_SECONDS, WATCHING, Doors
from services.gateway.schemas import answers
from shared.http.endpoint import Response, endpoint
from shared.http.wsgi import Request

CSV = ("text/csv",)


class ReportDoors(Doors):
    @endpoint("GET", "/v1/reports/queues", query=schemas.Period, answer=answers.QueueReport, roles=WATCHING, tag="reports")
    def get_queue_report(self, request: Request) -> dict[str, Any]:
        """Per queue: offered, answered, abandoned and the rest, with what is uncertain named."""
        return self.routing.report_queues(filters=self._filters(request), deadline=REPORT_SECONDS)

    @endpoint("GET", "/v1/reports/agents", query=schemas.Period, answer=answers.AgentReport, roles=WATCHING, tag="reports")
    def get_agent_report(self, request: Request) -> dict[str, Any]:
        """Per agent: answered, talk seconds, rings not answered."""
        return self.routing.report_agents(filters=self._filters(request), deadline=REPORT_SECONDS)

    @endpoint(
        "GET",
        "/v1/reports/queues/intervals",
        query=schemas.Intervals,
        answer=answers.QueueIntervals,
        gives_also=CSV,
        roles=WATCHING,
        tag="reports",
    )
    def get_queue_intervals(self, request: Request) -> Any:
        """Per queue and interval, on the clock of a time zone: what became of the contacts that arrived in it. JSON or CSV."""
        return self._intervals(request, self.routing.report_queue_intervals, "queues.csv")

    @endpoint(
        "GET",
        "/v1/reports/agents/intervals",
        query=schemas.AgentIntervals,
        answer=answers.AgentIntervals,
        gives_also=CSV,
        roles=WATCHING,
        tag="reports",
    )
    def get_agent_intervals(self, request: Request) -> Any:
        """Per agent and interval: time signed in, in each state and for each reason, and what became of their contacts. JSON or CSV."""
        return self._intervals(request, self.routing.report_agent_intervals, "agents.csv")

    def _intervals(self, request: Request, ask: Callable[..., Any], file: str) -> Any:
        query = request.query
        asked = {"filters": self._filters(request), "step": query["step"], "zone": query["zone"]}
        if query.get("format", "csv" if "text/csv" in request.header("Accept") else "json") == "json":
            return ask(**asked, deadline=REPORT_SECONDS)
        lines = ask(**asked, format="csv", deadline=REPORT_SECONDS)["csv"]
        named = [("Content-Disposition", f'attachment; filename="{file}"')]
        return Response(lines.encode(), content_type="text/csv; charset=utf-8", headers=named)

    @endpoint("GET", "/v1/reports/callbacks", query=schemas.QueuePeriod, answer=answers.CallbackReport, roles=WATCHING, tag="reports")
    def get_callback_report(self, request: Request) -> Any:
        """Callbacks, apart from calls: promised, dialled, reached, given up."""
        return self.routing.report_callbacks(filters=self._filters(request), deadline=REPORT_SECONDS)

    @endpoint("GET", "/v1/reports/matters", query=schemas.QueuePeriod, answer=answers.MatterReport, roles=WATCHING, tag="reports")
    def get_matters_report(self, request: Request) -> Any:
        """Matters in writing that are open, the next due first, and which are late."""
        return self.routing.report_matters(filters=self._filters(request), deadline=REPORT_SECONDS)

    @endpoint("GET", "/v1/reports/estimates", query=schemas.QueuePeriod, answer=answers.EstimateReport, roles=WATCHING, tag="reports")
    def get_estimate_report(self, request: Request) -> Any:
        """How far the waits foretold were from those that came."""
        return self.routing.report_estimates(filters=self._filters(request), deadline=REPORT_SECONDS)

    def _filters(self, request: Request) -> dict[str, Any]:
        """What the query asks for, of what its principal sees."""
        query = request.query
        narrower: dict[str, Any] = {name: query[name] for name in ("queue", "kind", "agent") if name in query}
        period = {"from": query.get("since"), "to": query.get("until"), "source": query.get("source")}
        return {**period, **narrower, **self.core.scopes.narrowing(request.principal)}
