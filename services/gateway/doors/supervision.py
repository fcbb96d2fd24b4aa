"""For supervisors: queues, the policies, hours and dispositions that queues name, and the directory of customers."""

from __future__ import annotations

from typing import Any

from services.gateway import customers, erasures, schemas
from services.gateway.doors import OPERATING, REPORT_SECONDS, STAFF, Doors, page_of, text_of
from services.gateway.schemas import answers
from shared.contracts.fields import Document
from shared.errors import Forbidden
from shared.http.endpoint import endpoint
from shared.http.wsgi import Request

ADMIN = ("admin",)
WRITTEN = ("application/yaml", "text/yaml", "application/json")


class SupervisionDoors(Doors):
    @endpoint("GET", "/v1/queues", query=schemas.Page, answer=answers.Queues, roles=STAFF, tag="queues")
    def get_queues(self, request: Request) -> dict[str, Any]:
        """All queues by name, page by page."""
        return self.routing.list_queues(
            after=request.query["cursor"], limit=request.query["limit"], **self.core.scopes.narrowing(request.principal)
        )

    @endpoint("PUT", "/v1/queues/{name}", body=schemas.Queue, answer=answers.Queue, roles=OPERATING, tag="queues")
    def put_queue(self, request: Request) -> dict[str, Any]:
        """Create or change a queue: observed (a PBX distributes) or routed (we do)."""
        return self.routing.put_queue(queue={"name": request.parameters["name"], **request.body})

    @endpoint("GET", "/v1/queues/{name}", answer=answers.Queue, roles=STAFF, tag="queues")
    def get_queue(self, request: Request) -> dict[str, Any]:
        """A queue's settings."""
        return self.routing.get_queue(name=request.parameters["name"])

    # Policies

    @endpoint("GET", "/v1/policies", query=schemas.Page, answer=answers.Policies, roles=STAFF, tag="policies")
    def get_policies(self, request: Request) -> Any:
        """All policies, each in the version that runs, page by page."""
        page, following = page_of(self.routing.list_policies()["policies"], "name", request.query)
        return {"policies": page, "next": following}

    @endpoint(
        "PUT", "/v1/policies/{name}", query=schemas.PutPolicy, answer=answers.PolicyPut, roles=OPERATING, tag="policies", takes=WRITTEN
    )
    def put_policy(self, request: Request) -> dict[str, Any]:
        """A new version of a policy, in force at once or from `starts_at` on; with `dry_run` nothing changes and the answer says what would."""
        name, document, told = request.parameters["name"], text_of(request), request.query
        if told["dry_run"]:
            return self.routing.dry_run_policy(name=name, document=document, deadline=REPORT_SECONDS)
        by = request.principal.name
        return self.routing.put_policy(name=name, document=document, by=by, note=told["note"], starts_at=told["starts_at"])

    @endpoint("GET", "/v1/policies/{name}", answer=answers.Policy, roles=STAFF, tag="policies")
    def get_policy(self, request: Request) -> dict[str, Any]:
        """The version that runs, as it was written."""
        return self.routing.get_policy(name=request.parameters["name"])

    @endpoint("GET", "/v1/policies/{name}/versions", query=schemas.Page, answer=answers.PolicyVersions, roles=STAFF, tag="policies")
    def get_policy_versions(self, request: Request) -> Any:
        """All versions, the newest first, page by page, and who did what with them when."""
        told = self.routing.policy_history(name=request.parameters["name"])
        page, following = page_of(told["versions"], "version", request.query)
        shown = {row["version"] for row in page}
        return {"versions": page, "history": [act for act in told["history"] if act["version"] in shown], "next": following}

    @endpoint("GET", "/v1/policies/{name}/diff", query=schemas.Against, answer=answers.PolicyDiff, roles=STAFF, tag="policies")
    def get_policy_diff(self, request: Request) -> Any:
        """What another version would change of the one that runs."""
        return self.routing.diff_policy(name=request.parameters["name"], version=request.query["to"])

    @endpoint("POST", "/v1/policies/{name}/rollback", answer=answers.Policy, roles=OPERATING, tag="policies", takes=())
    def post_policy_rollback(self, request: Request) -> dict[str, Any]:
        """One step back: the version that ran before this one runs again."""
        return self.routing.rollback_policy(name=request.parameters["name"], by=request.principal.name)

    @endpoint("DELETE", "/v1/policies/{name}/schedule", answer=answers.Policy, roles=OPERATING, tag="policies")
    def delete_policy_schedule(self, request: Request) -> dict[str, Any]:
        """What was to start later does not: it is a draft again."""
        return self.routing.unschedule_policy(name=request.parameters["name"], by=request.principal.name)

    @endpoint("PUT", "/v1/policies/{name}/shadow", answer=answers.Shadow, roles=OPERATING, tag="policies", takes=WRITTEN)
    def put_policy_shadow(self, request: Request) -> dict[str, Any]:
        """A document to be tried beside the policy that runs, on what happens from now on; it changes nobody's waiting."""
        return self.routing.put_shadow(name=request.parameters["name"], document=text_of(request), by=request.principal.name)

    @endpoint("GET", "/v1/policies/{name}/shadow", answer=answers.Shadow, roles=STAFF, tag="policies")
    def get_policy_shadow(self, request: Request) -> dict[str, Any]:
        """What the shadow would have made of the last day, against the policy that runs."""
        return self.routing.get_shadow(name=request.parameters["name"])

    @endpoint("DELETE", "/v1/policies/{name}/shadow", answer=answers.Shadow, roles=OPERATING, tag="policies")
    def delete_policy_shadow(self, request: Request) -> dict[str, Any]:
        """The shadow is no longer tried; the answer is what it came to."""
        return self.routing.end_shadow(name=request.parameters["name"])

    # Hours

    @endpoint("PUT", "/v1/calendars/{name}", body=Document, answer=answers.Calendar, roles=OPERATING, tag="hours")
    def put_calendar(self, request: Request) -> dict[str, Any]:
        """Opening hours and holidays (docs/hours.md); queues name it."""
        return self.routing.put_calendar(name=request.parameters["name"], document=request.body, by=request.principal.name)

    @endpoint("GET", "/v1/calendars/{name}", answer=answers.Calendar, roles=STAFF, tag="hours")
    def get_calendar(self, request: Request) -> dict[str, Any]:
        """A calendar as it was written, and its version."""
        return self.routing.get_calendar(name=request.parameters["name"])

    @endpoint("POST", "/v1/closures", body=schemas.Closure, answer=answers.Closure, status=201, roles=OPERATING, tag="hours")
    def post_closure(self, request: Request) -> dict[str, Any]:
        """Emergency closing or night switch, at once, for some queues or all; those who wait hear the message."""
        return self.routing.put_closure(request=request.body, by=request.principal.name)

    @endpoint("GET", "/v1/closures", query=schemas.Page, answer=answers.Closures, roles=STAFF, tag="hours")
    def get_closures(self, request: Request) -> Any:
        """The closures in force and those of the last year, the newest first, page by page."""
        told = self.core.scopes.closures(request.principal, self.routing.list_closures())
        page, following = page_of(told["closures"], "id", request.query)
        return {"closures": page, "next": following}

    @endpoint("DELETE", "/v1/closures/{id}", answer=answers.Closure, roles=OPERATING, tag="hours")
    def delete_closure(self, request: Request) -> dict[str, Any]:
        """End a closure; it stays on record."""
        return self.routing.end_closure(closure_id=request.parameters["id"], by=request.principal.name)

    # Dispositions

    @endpoint("PUT", "/v1/dispositions/{name}", body=schemas.Dispositions, answer=answers.Dispositions, roles=OPERATING, tag="dispositions")
    def put_dispositions(self, request: Request) -> dict[str, Any]:
        """A new version of a tree of outcomes that a wrap-up chooses from; queues name it."""
        return self.routing.put_dispositions(name=request.parameters["name"], document=request.body, by=request.principal.name)

    @endpoint("GET", "/v1/dispositions/{name}", answer=answers.Dispositions, roles=STAFF, tag="dispositions")
    def get_dispositions(self, request: Request) -> dict[str, Any]:
        """The tree in force."""
        return self.routing.get_dispositions(name=request.parameters["name"])

    # Customers

    @endpoint("GET", "/v1/customers", query=schemas.Page, answer=answers.Customers, roles=OPERATING, tag="customers")
    def get_customers(self, request: Request) -> dict[str, Any]:
        """All customers by id, page by page."""
        return customers.listing(self.core.units, request.query["cursor"], request.query["limit"])

    @endpoint("PUT", "/v1/customers/{id}", body=schemas.Customer, answer=answers.Customer, roles=OPERATING, tag="customers")
    def put_customer(self, request: Request) -> dict[str, Any]:
        """Write a customer down. It counts for contacts that arrive from now on and name the customer, or call from a number of theirs alone."""
        return customers.put(self.core.units, request.parameters["id"], request.body)

    @endpoint("GET", "/v1/customers/{id}", answer=answers.Customer, roles=STAFF, tag="customers")
    def get_customer(self, request: Request) -> dict[str, Any]:
        """What is known of a customer."""
        return customers.get(self.core.units, request.parameters["id"])

    @endpoint("POST", "/v1/customers/{id}/erase", answer=answers.Erased, answers={409: None}, roles=ADMIN, tag="customers", takes=())
    def post_erase_customer(self, request: Request) -> dict[str, Any]:
        """Forget a customer, everywhere and for good (docs/erasure.md). Figures stay, and nobody can tell whose contacts they were. Once
        more tells all services again."""
        scope = request.principal.scope
        if scope.sites or scope.teams:
            raise Forbidden("a customer is forgotten everywhere: this needs somebody whose roles hold for the whole organisation")
        return erasures.erase(self.core.units, request.parameters["id"], self.core.sealer.mark)
