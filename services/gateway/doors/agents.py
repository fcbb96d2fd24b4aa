"""For agents' programs and for who looks after agents: profiles, states, offers, certificates and permits."""

from __future__ import annotations

from typing import Any

from services.gateway import metrics, schemas
from services.gateway.doors import CALLING, OPERATING, STAFF, Doors
from services.gateway.schemas import answers
from shared.http.endpoint import endpoint
from shared.http.wsgi import Request
from shared.runtime.waiting import poll


class AgentDoors(Doors):
    @endpoint("GET", "/v1/agents", query=schemas.Page, answer=answers.Agents, roles=STAFF, tag="agents")
    def get_agents(self, request: Request) -> dict[str, Any]:
        """All agents by id, page by page."""
        return self.routing.list_agents(
            after=request.query["cursor"], limit=request.query["limit"], **self.core.scopes.narrowing(request.principal)
        )

    @endpoint("PUT", "/v1/agents/{id}", body=schemas.Agent, answer=answers.Agent, roles=OPERATING, tag="agents")
    def put_agent(self, request: Request) -> dict[str, Any]:
        """Create or change an agent's profile; state and contacts stay."""
        return self.routing.put_agent(agent_id=request.parameters["id"], profile=request.body)

    @endpoint("GET", "/v1/agents/{id}", answer=answers.Agent, roles=STAFF, tag="agents")
    def get_agent(self, request: Request) -> dict[str, Any]:
        """An agent's profile and state."""
        return self.routing.get_agent(agent_id=request.parameters["id"])

    @endpoint("PUT", "/v1/agents/{id}/state", body=schemas.AgentState, answer=answers.Agent, roles=STAFF, tag="agents")
    def put_agent_state(self, request: Request) -> dict[str, Any]:
        """Sign in (available), pause with a reason, sign out (offline). In wrap-up, any state ends it."""
        return self.routing.set_agent_state(agent_id=request.parameters["id"], **request.body)

    @endpoint("GET", "/v1/agents/{id}/offers", query=schemas.Offers, answer=answers.Offers, answers={409: None}, roles=STAFF, tag="agents")
    def get_offers(self, request: Request) -> dict[str, Any]:
        """What the agent is asked to take, waiting up to `wait` seconds for it."""
        agent, session = request.parameters["id"], request.query["session"]

        def ask() -> list[dict[str, Any]]:
            return self.routing.agent_offers(agent_id=agent, session=session)

        with metrics.WAITING_REQUESTS.labels("offers").track_inprogress():
            return {"offers": poll(self.core.board, request, agent, ask, bool, lambda: None)}

    @endpoint("POST", "/v1/offers/{id}/accept", body=schemas.AcceptOffer, answer=answers.Offer, roles=(*STAFF, *CALLING), tag="agents")
    def post_accept(self, request: Request) -> dict[str, Any]:
        """Take the contact."""
        body = request.body
        return self.routing.accept_offer(offer_id=request.parameters["id"], agent_id=body["agent"], session=body["session"])

    @endpoint("POST", "/v1/offers/{id}/reject", body=schemas.RejectOffer, answer=answers.Offer, roles=(*STAFF, *CALLING), tag="agents")
    def post_reject(self, request: Request) -> dict[str, Any]:
        """Let the contact go on to somebody else."""
        body = request.body
        return self.routing.reject_offer(
            offer_id=request.parameters["id"],
            agent_id=body["agent"],
            reason=body["reason"],
            session=body["session"],
            missed=body["missed"],
        )

    # Who may work on which channel

    @endpoint(
        "PUT",
        "/v1/agents/{id}/certificates/{channel}",
        body=schemas.Certificate,
        answer=answers.Agent,
        answers={409: None},
        roles=OPERATING,
        tag="agents",
    )
    def put_certificate(self, request: Request) -> dict[str, Any]:
        """For a centre without training: the agent is certified for the channel, until then. From the first one on, certificates alone count, and no
        longer `channels`. 409: training speaks for the agent, and so gives certificates."""
        return self.routing.certify(agent_id=request.parameters["id"], channel=request.parameters["channel"], until=request.body["until"])

    @endpoint("DELETE", "/v1/agents/{id}/certificates/{channel}", answer=answers.Agent, roles=OPERATING, tag="agents")
    def delete_certificate(self, request: Request) -> dict[str, Any]:
        """The agent is certified for the channel no more; a contact in progress goes on. 409: training gave it, and so takes it away."""
        return self.routing.lapse(agent_id=request.parameters["id"], channel=request.parameters["channel"])

    @endpoint("PUT", "/v1/agents/{id}/permits/{channel}", body=schemas.Permit, answer=answers.Agent, roles=OPERATING, tag="agents")
    def put_permit(self, request: Request) -> dict[str, Any]:
        """For a centre without training: leave to practise on a channel without its certificate, so many contacts a day, while the supervisor is signed in.
        409: training speaks for the agent, and so gives permits."""
        return self.routing.permit(agent_id=request.parameters["id"], channel=request.parameters["channel"], **request.body)
