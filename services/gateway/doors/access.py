"""Who may do what: keys, sign-in, what everybody sees, and the record of what administrators did."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import unquote

from sqlalchemy import select

from services.gateway import audit, handlers, keys, recordings
from services.gateway.accounts import SignedIn
from services.gateway.doors import Doors, as_json
from services.gateway.oidc import Attempt, Provider
from services.gateway.schemas import Page
from services.gateway.schemas import access as schemas
from services.gateway.scopes import PLACED
from services.gateway.store import person
from shared import clock
from shared.errors import Conflict, NotFound, Unauthenticated
from shared.http.endpoint import Endpoint, Response, endpoint
from shared.http.wsgi import Request

ADMIN = ("admin",)


class AccessDoors(Doors):
    # What every request passes

    def injected(self) -> None:
        """The scopes ask routing where queues and agents belong."""
        self.core.scopes.routing = self.routing

    def permit(self, endpoint: Endpoint, request: Request) -> None:
        """Raises NotFound for what the principal does not see, and Forbidden for what it must not change."""
        self.core.scopes.permit(endpoint, request, partial(self._story, endpoint, request))

    def _story(self, endpoint: Endpoint, request: Request) -> dict[str, set[str]]:
        """Of the contact that the path names, or whose recording it names: the queues it was in, the agents it was with or is offered to. Of a question, an
        evaluation, a finding or a flag: its queue and whom it concerns. Raises NotFound."""
        if endpoint.path.startswith("/v1/escalations/"):
            room = self.im.get_room(id=request.parameters["id"])
            return {"queues": {room["queue"]}, "agents": set(room["people"])}
        if kind := PLACED.get(endpoint.path.split("/")[2]):
            place = self.qa.place_of(kind=kind, id=request.parameters["id"])
            return {"queues": {place["queue"]}, "agents": set(place["people"])}
        if endpoint.path.startswith("/v1/recordings/"):
            contact = recordings.find(self.core.units, request.parameters["id"])["contact"]
        else:
            contact = self.contact_of(request)
        told = handlers.told_of(self.core.units, contact)
        for ask in (self.routing.get_contact, self.routing.get_assignment):
            try:
                known: dict[str, Any] = ask(contact_id=contact)
            except NotFound:
                continue
            for leg in (*known.get("legs", ()), known):
                told["queues"].add(leg.get("queue"))
                told["agents"].update((leg.get("agent"), leg.get("address")))
            told["agents"].update(one.get("agent") for one in known.get("conference", ()))
        return {kind: {name for name in names if name} for kind, names in told.items()}

    def witness(self, endpoint: Endpoint, request: Request) -> Callable[[int, Any], None] | None:
        """Administrative acts are written down."""
        return audit.begin(self.core.units, endpoint, request) if audit.concerns(endpoint, request.principal) else None

    # Keys

    @endpoint("GET", "/v1/keys", query=Page, answer=schemas.Keys, roles=ADMIN, tag="keys")
    def get_keys(self, request: Request) -> dict[str, Any]:
        """All keys ever made, oldest first, page by page; the keys themselves are not kept."""
        return keys.listing(self.core.units, request.query["cursor"], request.query["limit"])

    @endpoint("POST", "/v1/keys", body=schemas.NewKey, answer=schemas.MadeKey, status=201, roles=ADMIN, tag="keys")
    def post_key(self, request: Request) -> dict[str, Any]:
        """Make an API key; it is shown this once."""
        body = request.body
        expires_at = body["expires_at"] if body["days"] is None else clock.now() + body["days"] * 86400
        return keys.create(self.core.units, body["name"], body["roles"], expires_at=expires_at, sites=body["sites"], teams=body["teams"])

    @endpoint("DELETE", "/v1/keys/{id}", status=204, roles=ADMIN, tag="keys")
    def delete_key(self, request: Request) -> None:
        """Revoke a key."""
        keys.revoke(self.core.units, request.parameters["id"])

    # Sign-in

    @endpoint("POST", "/v1/sign-in", body=schemas.SignIn, answer=schemas.SignedIn, answers={401: None}, public=True, tag="access")
    def post_sign_in(self, request: Request) -> dict[str, Any]:
        """Sign in by name and password. After some failures in a row the name, and after many the address, waits longer and longer (429)."""
        address = self.core.proxies.client_of(request.environ)
        return _shown(self.core.accounts.sign_in(request.body["login"], request.body["password"], address))

    @endpoint("POST", "/v1/sign-out", query=schemas.SignOut, status=204, takes=(), tag="access")
    def post_sign_out(self, request: Request) -> None:
        """Sign out, at once and in every process."""
        who = self._person(request)
        self.core.accounts.end(keys.offered(request.environ))
        if request.query["everywhere"]:
            self.core.accounts.end_all(who)

    @endpoint("GET", "/v1/me", answer=schemas.Me, tag="access")
    def get_me(self, request: Request) -> dict[str, Any]:
        """Who you are here, and what your roles hold for."""
        me = request.principal
        scope = {"sites": sorted(me.scope.sites), "teams": sorted(me.scope.teams)}
        return {"id": me.id, "name": me.name, "person": me.person, "roles": sorted(me.roles), **scope}

    @endpoint("PUT", "/v1/me/password", body=schemas.NewPassword, status=204, tag="access")
    def put_my_password(self, request: Request) -> None:
        """Change your password; your other sign-ins end."""
        body = request.body
        self.core.accounts.change_password(self._person(request), body["old"], body["password"], keys.offered(request.environ))

    def _person(self, request: Request) -> str:
        if not request.principal.person:
            raise Conflict("this is a key, and nobody who signed in: an administrator revokes it with DELETE /v1/keys/{id}")
        return request.principal.person

    # Sign-in by an identity provider

    @endpoint("GET", "/v1/sign-in/oidc", query=schemas.ViaProvider, status=303, answers={404: None}, public=True, tag="access")
    def get_sign_in_oidc(self, request: Request) -> Response:
        """Sign in with the organisation's identity provider: sends the browser there."""
        provider, attempt = self._provider(), Attempt.new(request.query["then"])
        return Response(status=303, headers=[("Location", provider.address(attempt)), ("Set-Cookie", provider.cookie(attempt.cookie))])

    @endpoint("GET", "/v1/sign-in/oidc/callback", query=schemas.FromProvider, answer=schemas.SignedIn,
              answers={303: schemas.Redirect, 401: None, 404: None}, public=True, tag="access")  # fmt: skip
    def get_sign_in_oidc_callback(self, request: Request) -> Response:
        """Where the identity provider sends the browser back to, registered there as the redirect URI."""
        provider = self._provider()
        attempt = Attempt(_cookie(request, provider.cookie_name))
        identity = provider.identify(attempt, request.query)
        named = person.c.email_key == identity.email.casefold() if identity.email else person.c.id == identity.id
        with self.core.units() as work:
            row = work.connection.execute(select(person).where(named, person.c.active)).first()
            if row is None or (identity.email and not _is_same_address(row.email, identity.email)):
                raise Unauthenticated(f"nobody in the directory has the {provider.claim} that the identity provider says")
            signed_in = self.core.accounts.begin(work.connection, row, "OpenID Connect", identity.roles)
        answer = as_json(_shown(signed_in))
        if attempt.return_to:
            answer = Response(status=303, headers=[("Location", f"{attempt.return_to}#token={signed_in.token}")])
        answer.headers.append(("Set-Cookie", provider.cookie("")))
        return answer

    def _provider(self) -> Provider:
        if self.core.provider is None:
            raise NotFound("no identity provider is set up here (ANSWERLINE_OIDC_ISSUER): sign in with POST /v1/sign-in")
        return self.core.provider

    # The record

    @endpoint("GET", "/v1/audit", query=schemas.AuditPage, answer=schemas.Acts, roles=ADMIN, tag="access")
    def get_audit(self, request: Request) -> dict[str, Any]:
        """What administrators and supervisors did, sign-ins and lockouts: the newest first, page by page."""
        return audit.listing(self.core.units, request.query)


def _shown(signed_in: SignedIn) -> dict[str, Any]:
    return {**vars(signed_in), "ends_at": clock.to_text(signed_in.ends_at)}


def _is_same_address(one: str, other: str) -> bool:
    """Of two that casefold makes alike: it makes s of ſ and ss of ß too, which to mail servers and domains are others."""
    return one == other or (one.isascii() and other.isascii())


def _cookie(request: Request, name: str) -> str:
    try:
        found = SimpleCookie(request.header("Cookie")).get(name)
    except CookieError:
        return ""
    return unquote(found.value) if found else ""
