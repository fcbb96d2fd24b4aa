"""For administrators: the directory of people, sites and teams. Supervisors read of it what is theirs."""

from __future__ import annotations

from typing import Any

from services.gateway import people, store
from services.gateway.doors import OPERATING, Doors
from services.gateway.schemas import Page, access
from services.gateway.schemas import people as schemas
from shared.http.endpoint import endpoint
from shared.http.wsgi import Request

ADMIN = ("admin",)


class PeopleDoors(Doors):
    @endpoint("GET", "/v1/people", query=schemas.PeoplePage, answer=schemas.People, roles=OPERATING, tag="people")
    def get_people(self, request: Request) -> dict[str, Any]:
        """People by id, page by page."""
        return people.listing(self.core.units, request.principal, request.query)

    @endpoint("PUT", "/v1/people/{id}", body=schemas.Person, answer=schemas.KnownPerson, roles=ADMIN, tag="people")
    def put_person(self, request: Request) -> dict[str, Any]:
        """Write somebody down, or change what is known of them. Their id is their agent id too; site and team must be there already."""
        return people.put(self.core.units, request.parameters["id"], request.body)

    @endpoint("GET", "/v1/people/{id}", answer=schemas.KnownPerson, roles=OPERATING, tag="people")
    def get_person(self, request: Request) -> dict[str, Any]:
        """What is known of somebody."""
        return people.get(self.core.units, request.parameters["id"], request.principal)

    @endpoint("DELETE", "/v1/people/{id}", status=204, roles=ADMIN, tag="people")
    def delete_person(self, request: Request) -> None:
        """Somebody has left: they are signed out everywhere and cannot sign in; what is on record of them stays."""
        people.deactivate(self.core.units, request.parameters["id"])

    @endpoint("PUT", "/v1/people/{id}/password", body=access.Password, status=204, roles=ADMIN, tag="people")
    def put_person_password(self, request: Request) -> None:
        """Set somebody's password. They are signed out everywhere, and may try again at once if they were locked out."""
        self.core.accounts.set_password(request.parameters["id"], request.body["password"])

    @endpoint("DELETE", "/v1/people/{id}/sign-ins", status=204, roles=ADMIN, tag="people")
    def delete_sign_ins(self, request: Request) -> None:
        """Sign somebody out everywhere, at once."""
        people.get(self.core.units, request.parameters["id"], request.principal)
        self.core.accounts.end_all(request.parameters["id"])

    # Sites

    @endpoint("GET", "/v1/sites", query=Page, answer=schemas.Sites, roles=OPERATING, tag="people")
    def get_sites(self, request: Request) -> dict[str, Any]:
        """Sites by id, page by page."""
        return people.places(self.core.units, store.site, request.principal, request.query)

    @endpoint("PUT", "/v1/sites/{id}", body=schemas.Site, answer=schemas.KnownSite, roles=ADMIN, tag="people")
    def put_site(self, request: Request) -> dict[str, Any]:
        """Write a site down, or change it."""
        return people.put_site(self.core.units, request.parameters["id"], request.body)

    @endpoint("GET", "/v1/sites/{id}", answer=schemas.KnownSite, roles=OPERATING, tag="people")
    def get_site(self, request: Request) -> dict[str, Any]:
        """What is known of a site."""
        return people.get_place(self.core.units, store.site, request.parameters["id"], request.principal)

    @endpoint("DELETE", "/v1/sites/{id}", status=204, roles=ADMIN, tag="people")
    def delete_site(self, request: Request) -> None:
        """Give a site up, once nobody is there any more; it stays on record."""
        people.close_place(self.core.units, store.site, request.parameters["id"])

    # Teams

    @endpoint("GET", "/v1/teams", query=Page, answer=schemas.Teams, roles=OPERATING, tag="people")
    def get_teams(self, request: Request) -> dict[str, Any]:
        """Teams by id, page by page."""
        return people.places(self.core.units, store.team, request.principal, request.query)

    @endpoint("PUT", "/v1/teams/{id}", body=schemas.Team, answer=schemas.KnownTeam, roles=ADMIN, tag="people")
    def put_team(self, request: Request) -> dict[str, Any]:
        """Write a team down, or change it."""
        return people.put_team(self.core.units, request.parameters["id"], request.body)

    @endpoint("GET", "/v1/teams/{id}", answer=schemas.KnownTeam, roles=OPERATING, tag="people")
    def get_team(self, request: Request) -> dict[str, Any]:
        """What is known of a team."""
        return people.get_place(self.core.units, store.team, request.parameters["id"], request.principal)

    @endpoint("DELETE", "/v1/teams/{id}", status=204, roles=ADMIN, tag="people")
    def delete_team(self, request: Request) -> None:
        """Give a team up, once nobody is in it any more; it stays on record."""
        people.close_place(self.core.units, store.team, request.parameters["id"])
