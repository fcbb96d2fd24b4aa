"""Who sees what: each principal the objects of its sites and teams, and a person who is an agent, or agent and expert, themselves alone.

A queue or an agent belongs to a site, a team, both or neither, as routing has it; what belongs to no site is every site's, and so for
teams. What somebody may not see is not there for them: lists leave it out, and asking for it by name is answered with 404.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from shared import clock
from shared.errors import Forbidden, Invalid, NotFound, Unavailable
from shared.http.endpoint import Endpoint, Principal, Scope
from shared.http.wsgi import Request

KNOWN_FOR_SECONDS = 5.0
EVERYBODY = "", ""
ACTING = ("accept", "reject", "wrap-up", "reply", "decisions")
"""Routes whose body or query names the agent for whom is acted; elsewhere an agent named is a target, who may be anybody."""

COMMON = (
    "customers",
    "telephony",
    "events",
    "reports",
    "stream",
    "me",
    "sign-in",
    "sign-out",
    "contacts",
    "offers",
    "agents",
    "queues",
    "escalations",
    "learners",
    "certifications",
    "exams",
    "sessions",
    "evaluations",
    "findings",
    "flags",
    "surveys",
)
"""What a principal with a scope may change too, as far as it sees it. All else holds for the whole organisation, and such a principal
reads it alone."""

PLACED = {"evaluations": "evaluation", "findings": "finding", "flags": "flag"}
"""What belongs to a queue and concerns somebody; qa says which."""

OWN_PRESENCE = "/v1/experts/{id}/presence"

NOWHERE = {
    "contacts": "no contact {}; a contact is named by its id or by <source>:<call id>",
    "recordings": "no recording {}",
    "escalations": "there is no escalation {}",
    **{collection: f"there is no {kind} {{}}" for collection, kind in PLACED.items()},
}
"""As for those that do not exist."""

Belonging = tuple[str, str]  # site, team


def within(scope: Scope, site: str, team: str) -> bool:
    """Whether what belongs there is in sight: in one of the scope's sites (or in none), and in one of its teams (or in none)."""
    return (not scope.sites or site in ("", *scope.sites)) and (not scope.teams or team in ("", *scope.teams))


def owned(scope: Scope, site: str, team: str) -> bool:
    """Whether it is the scope's alone, and nobody else's."""
    return (not scope.sites or site in scope.sites) and (not scope.teams or team in scope.teams)


def is_limited(principal: Principal) -> bool:
    """Whether there is anything that the principal does not see."""
    return bool(principal.scope.sites or principal.scope.teams) or acts_alone(principal)


def acts_alone(principal: Principal) -> bool:
    """A person who is an agent, and at most an expert beside it: an expert answers questions, and leads nobody. A key is no person: with
    the role agent it speaks for all agents of its scope."""
    return bool(principal.person) and "agent" in principal.roles and principal.roles <= {"agent", "expert"}


def sees_own_rooms(principal: Principal) -> bool:
    """A person who neither supervises nor administers: of questions to experts they see those that concern them, wherever those belong,
    and no other."""
    return bool(principal.person) and not leads(principal)


def leads(principal: Principal) -> bool:
    """Whether they supervise or administer: what names nobody who may see it, such as what a customer said, is for them alone."""
    return bool(principal.roles & {"supervisor", "admin"})


class Scopes:
    """Answers whether a principal sees something. `routing`: where queues and agents belong; what it says is remembered for some seconds,
    and for longer while it is out of reach, for then nothing changes there either."""

    def __init__(self, routing: Any = None) -> None:
        self.routing = routing
        self._asking = threading.Lock()
        self._told: tuple[dict[str, Belonging], dict[str, Belonging]] | None = None
        self._told_until = 0.0
        self._names: dict[str, tuple[float, frozenset[str]]] = {}

    def sees(self, principal: Principal, *, queue: str = "", agent: str = "") -> bool:
        """Whether what concerns the queue, or where none is named the agent (id or any other name), is the principal's to see. Without
        either it is everybody's. To a person who acts alone an agent named must be themselves. Raises Unavailable when routing was
        never in reach."""
        if agent and acts_alone(principal):
            return agent in self._names_of(principal.person) and (not queue or self._in_sight(principal.scope, queue, ""))
        return self._in_sight(principal.scope, queue, agent)

    def _in_sight(self, scope: Scope, queue: str, agent: str) -> bool:
        if not (scope.sites or scope.teams) or not (queue or agent):
            return True
        queues, agents = self._belongings()
        return within(scope, *(queues.get(queue, EVERYBODY) if queue else agents.get(agent, EVERYBODY)))

    def narrowing(self, principal: Principal) -> dict[str, Any]:
        """The arguments with which routing leaves out of lists and reports what the principal does not see."""
        if not is_limited(principal):
            return {}
        scope = principal.scope
        return {
            "scope": {
                "sites": sorted(scope.sites),
                "teams": sorted(scope.teams),
                "agent": principal.person if acts_alone(principal) else None,
            }
        }

    def live(self, principal: Principal, figures: dict[str, Any]) -> dict[str, Any]:
        """The wallboard's figures without the queues and agents that the principal does not see."""
        if not is_limited(principal):
            return figures
        queues = [row for row in figures.get("queues", ()) if self.sees(principal, queue=row["queue"])]
        agents = [row for row in figures.get("agents", ()) if self.sees(principal, agent=row["agent"])]
        return {**figures, "queues": queues, "agents": agents}

    def queues(self, principal: Principal) -> list[str] | None:
        """The queues in sight, for whoever cannot tell what belongs where; None: no limit."""
        if not (principal.scope.sites or principal.scope.teams):
            return None
        queues, _ = self._belongings()
        return sorted(name for name, belonging in queues.items() if within(principal.scope, *belonging))

    def forget(self) -> None:
        """Something was moved: ask anew."""
        self._told_until = 0.0

    def _belongings(self) -> tuple[dict[str, Belonging], dict[str, Belonging]]:
        if self._told is None or clock.monotonic() > self._told_until:
            with self._asking:
                if self._told is None or clock.monotonic() > self._told_until:
                    self._ask()
        assert self._told is not None
        return self._told

    def _ask(self) -> None:
        try:
            told = self.routing.belongings()
        except Unavailable:
            if self._told is None:
                raise
        else:
            queues, agents = ({name: (site, team) for name, (site, team) in told[kind].items()} for kind in ("queues", "agents"))
            self._told = queues, agents
        self._told_until = clock.monotonic() + KNOWN_FOR_SECONDS

    def _names_of(self, person: str) -> frozenset[str]:
        """Under which names a person is known as an agent."""
        until, names = self._names.get(person, (0.0, frozenset((person,))))
        if clock.monotonic() > until:
            if len(self._names) > 10_000:
                self._names.clear()
            try:
                agent = self.routing.get_agent(agent_id=person)
                names = frozenset((person, agent.get("name", ""), agent.get("address", ""), *agent.get("aliases", ()))) - {""}
            except (NotFound, Unavailable):
                pass
            self._names[person] = (clock.monotonic() + KNOWN_FOR_SECONDS, names)
        return names

    # ---- what a request names

    def permit(self, endpoint: Endpoint, request: Request, story_of: Callable[[], Mapping[str, Iterable[str]]]) -> None:
        """Raises NotFound where the request names what its principal does not see, and Forbidden or Invalid where it would change what
        is not its alone. `story_of`: of the contact that the path names, or whose recording it names, the `queues` it was in and the `agents`
        it was with; of a question the queue and whom it concerns."""
        principal = request.principal
        collection, *rest = endpoint.path.removeprefix("/v1/").split("/")
        named = bool(rest) and rest[0].startswith("{")
        if collection == "escalations" and named and sees_own_rooms(principal):
            if principal.person not in story_of()["agents"]:
                raise NotFound(NOWHERE[collection].format(request.parameters["id"]))
            return
        if not is_limited(principal) or (endpoint.path == OWN_PRESENCE and request.parameters["id"] == principal.person):
            return
        if endpoint.method != "GET" and collection not in COMMON and (principal.scope.sites or principal.scope.teams):
            if collection != "closures":
                raise Forbidden(f"/v1/{collection} holds for the whole organisation: this needs somebody whose roles hold for all of it")
            self._require_own_closure(endpoint, request)
        told = {**request.query, **request.body}
        match collection:
            case "agents" if named:
                self._require(principal, f"no agent is called {request.parameters['id']}", agent=request.parameters["id"])
                if endpoint.method == "PUT" and len(rest) == 1:
                    self._require_own(principal, told, lambda: self.routing.get_agent(agent_id=request.parameters["id"]))
            case "queues" if named:
                self._require(principal, f"no queue is called {request.parameters['name']}", queue=request.parameters["name"])
                if endpoint.method == "PUT" and len(rest) == 1:
                    self._require_own(principal, told, lambda: self.routing.get_queue(name=request.parameters["name"]))
            case "contacts" | "recordings" if named:
                self._require_contact(principal, NOWHERE[collection].format(request.parameters["id"]), story_of())
            case "escalations" if named:
                if not any(self.sees(principal, queue=queue) for queue in story_of()["queues"]):
                    raise NotFound(NOWHERE[collection].format(request.parameters["id"]))
            case "evaluations" | "findings" | "flags" if named:
                story = story_of()
                seen = any(self.sees(principal, queue=queue) for queue in story["queues"])
                if not (principal.person in story["agents"] if acts_alone(principal) else seen):
                    raise NotFound(NOWHERE[collection].format(request.parameters["id"]))
            case "escalations" if endpoint.method == "POST" and told.get("person"):
                self._require(principal, f"no agent is called {told['person']}", agent=told["person"])
            case "contacts" if told.get("queue"):
                self._require(principal, f"no queue is called {told['queue']}", queue=told["queue"])
        if rest and rest[-1] in ACTING and told.get("agent"):
            self._require(principal, f"no agent is called {told['agent']}", agent=told["agent"])

    def _require(self, principal: Principal, otherwise: str, **named: str) -> None:
        if not self.sees(principal, **named):
            raise NotFound(otherwise)

    def _require_contact(self, principal: Principal, otherwise: str, story: Mapping[str, Iterable[str]]) -> None:
        if acts_alone(principal):
            seen = not self._names_of(principal.person).isdisjoint(story["agents"])
        else:
            queues = list(story["queues"])
            seen = not queues or any(self.sees(principal, queue=queue) for queue in queues)
        if not seen:
            raise NotFound(otherwise)

    def _require_own(self, principal: Principal, told: Mapping[str, Any], find: Callable[[], Mapping[str, Any]]) -> None:
        """What stands there must be the principal's alone, and what is to stand there too."""
        try:
            found = find()
        except NotFound:
            pass
        else:
            if not owned(principal.scope, found["site"], found["team"]):
                raise Forbidden("it belongs to other sites or teams too: this needs somebody whose roles hold for all of them")
        self.forget()
        wrong = {
            name: [f"Say one of yours: {', '.join(sorted(yours))}."]
            for name, yours in (("site", principal.scope.sites), ("team", principal.scope.teams))
            if yours and told.get(name, "") not in yours
        }
        if wrong:
            raise Invalid("it would belong to others than you", errors=wrong)

    def closures(self, principal: Principal, told: dict[str, Any]) -> dict[str, Any]:
        """What routing tells of closures, without those that concern nothing that the principal sees. One without queues concerns all."""
        if not is_limited(principal):
            return told
        seen = [row for row in told["closures"] if not row["queues"] or any(self.sees(principal, queue=one) for one in row["queues"])]
        return {**told, "closures": seen}

    def _require_own_closure(self, endpoint: Endpoint, request: Request) -> None:
        queues = request.body.get("queues") or []
        if endpoint.method == "DELETE":
            wanted = request.parameters["id"]
            there = self.closures(request.principal, self.routing.list_closures())["closures"]
            found = next((row for row in there if row["id"] == wanted), None)
            if found is None:
                raise NotFound(f"no closure {wanted}")
            queues = found["queues"]
        known, _ = self._belongings()
        if not queues or not all(owned(request.principal.scope, *known.get(queue, EVERYBODY)) for queue in queues):
            raise Forbidden(
                "a closure that concerns others too needs somebody whose roles hold for all of them: name queues of yours alone"
            )
