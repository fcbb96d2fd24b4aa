"""Sign-in by an OpenID provider, against a real one on this machine that the tests make honest or not."""

from __future__ import annotations

import hmac
import http.client
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives import serialization

from services.gateway import oidc, people, store
from services.gateway.oidc import Attempt, Provider
from shared import clock
from shared.bus.outbox import UnitOfWork
from shared.config import SettingError, Settings
from shared.errors import Invalid
from shared.runtime import outbound
from tests.unit.conftest import MakeUnits, SetClock
from tests.unit.gateway.door import Answer, Doors
from tests.unit.gateway.oidc_provider import CLIENT, SECRET, IdentityProvider, private_key, query_of, signed
from tests.unit.gateway.test_accounts import ANN

CALLBACK = "/v1/sign-in/oidc/callback"


@pytest.fixture
def units(make_units: MakeUnits) -> UnitOfWork:
    units = make_units(store.metadata)
    people.put(units, "ann", ANN)
    return units


@pytest.fixture
def idp() -> Iterator[IdentityProvider]:
    provider = IdentityProvider(clock.now)
    yield provider
    provider.close()


class Browser:
    """Somebody's browser: goes where it is sent, and keeps the one cookie."""

    def __init__(self, units: UnitOfWork, idp: IdentityProvider, public_url: str = "https://desk.example.com", **settings: str) -> None:
        self.doors, self.idp = Doors(units, public_url), idp
        told = {"oidc_issuer": idp.issuer, "oidc_client_id": CLIENT, "oidc_client_secret": SECRET, "public_url": public_url, **settings}
        self.provider = self.doors.service.core.provider = Provider(Settings(**told), outbound.send)
        self.cookie = ""

    def begin(self, then: str = "") -> str:
        """Where the identity provider sends us back to, after it has let us in."""
        answer = self.doors("GET", f"/v1/sign-in/oidc?{urlencode({'then': then})}")
        assert answer.status == 303, answer
        self._keep(answer)
        address = urlsplit(answer.headers["Location"])
        connection = http.client.HTTPConnection(address.netloc)
        connection.request("GET", f"{address.path}?{address.query}")
        back = connection.getresponse().getheader("Location")
        connection.close()
        assert back and back.startswith(self.provider.redirect + "?")
        return back

    def come_back(self, address: str, cookie: str | None = None) -> Answer:
        answer = self.doors("GET", f"{CALLBACK}?{urlsplit(address).query}", HTTP_COOKIE=self.cookie if cookie is None else cookie)
        self._keep(answer)
        return answer

    def sign_in(self) -> Answer:
        return self.come_back(self.begin())

    def _keep(self, answer: Answer) -> None:
        if "Set-Cookie" in answer.headers:
            self.cookie = answer.headers["Set-Cookie"].partition(";")[0]


@pytest.fixture
def browser(units: UnitOfWork, idp: IdentityProvider) -> Browser:
    return Browser(units, idp)


def refused(answer: Answer) -> str:
    assert answer.status == 401, answer
    assert "Set-Cookie" not in answer.headers
    detail: str = answer.json["detail"]
    return detail


# ---- the way in


@pytest.mark.parametrize("ways", [["client_secret_basic"], ["client_secret_post"]])
def test_who_comes_back_from_the_provider_is_signed_in(browser: Browser, ways: list[str]) -> None:
    browser.idp.ways = ways
    answer = browser.sign_in()
    assert (answer.status, answer.json["person"], answer.json["roles"]) == (200, "ann", ["supervisor"])
    assert browser.doors("GET", "/v1/me", key=answer.json["token"]).json["person"] == "ann"
    assert browser.doors("POST", "/v1/sign-out", key=answer.json["token"]).status == 204
    (signed_in, *_) = [row for row in browser.doors.kept(store.audit) if row.act == "signed in"]
    assert (signed_in.who, signed_in.summary) == ("ann", "OpenID Connect")


def test_the_browser_is_sent_on_to_where_it_began_with_the_token_in_the_fragment(browser: Browser) -> None:
    answer = browser.come_back(browser.begin("/desk?tab=1"))
    assert answer.status == 303
    path, _, token = answer.headers["Location"].partition("#token=")
    assert (path, browser.doors("GET", "/v1/me", key=token).status) == ("/desk?tab=1", 200)


@pytest.mark.parametrize("then", ["https://evil.example", "//evil.example", "/\\evil.example", "desk", "/a b", "/a\r\nX: y"])
def test_it_is_sent_nowhere_else(browser: Browser, then: str) -> None:
    assert browser.doors("GET", f"/v1/sign-in/oidc?{urlencode({'then': then})}").status == 422
    with pytest.raises(Invalid):
        Attempt.new(then)


def test_a_cookie_of_somebody_elses_making_sends_it_nowhere_else_either(browser: Browser) -> None:
    back = browser.begin()
    answer = browser.come_back(back, f"{browser.cookie}{quote('//evil.example/', safe='')}")
    assert (answer.status, answer.headers.get("Location")) == (200, None)


@pytest.mark.parametrize(
    ("directory", "provider"),
    [("ross@example.com", "roſſ@example.com"), ("ross@example.com", "roß@example.com"), ("boß@example.com", "boss@example.com")],
)
def test_an_address_that_only_looks_alike_is_another(browser: Browser, units: UnitOfWork, directory: str, provider: str) -> None:
    people.put(units, "ross", {**ANN, "email": directory})
    browser.idp.claims["email"] = provider
    refused(browser.sign_in())
    browser.idp.claims["email"] = directory.upper() if directory.isascii() else directory
    assert browser.sign_in().json["person"] == "ross"


def test_the_cookie_is_this_hosts_alone_and_the_addresses_tell_nothing_of_it(browser: Browser) -> None:
    answer = browser.doors("GET", "/v1/sign-in/oidc")
    cookie, asked = answer.headers["Set-Cookie"], query_of(answer.headers["Location"])
    assert re.fullmatch(r"__Host-answerline-sign-in=[\w.%-]+; Path=/; Max-Age=600; HttpOnly; SameSite=Lax; Secure", cookie)
    attempt = Attempt(cookie.partition("=")[2].partition(";")[0])
    assert (asked["state"], asked["nonce"]) == (attempt.state, attempt.nonce)
    assert len({attempt.state, attempt.nonce, attempt.verifier, attempt.secret, asked["code_challenge"]}) == 5
    assert attempt.verifier not in str(asked) and attempt.secret not in str(asked)


def test_without_tls_on_this_machine_the_cookie_is_a_plain_one(units: UnitOfWork, idp: IdentityProvider) -> None:
    browser = Browser(units, idp, "")
    assert browser.sign_in().status == 200
    assert browser.cookie == "answerline-sign-in="
    assert browser.provider.redirect == f"http://127.0.0.1:8000{CALLBACK}"


def test_without_a_provider_there_is_no_such_door(units: UnitOfWork) -> None:
    doors = Doors(units)
    for path in ("/v1/sign-in/oidc", CALLBACK):
        answer = doors("GET", path)
        assert (answer.status, "ANSWERLINE_OIDC_ISSUER" in answer.json["detail"]) == (404, True)


# ---- who it is


def test_an_address_that_the_provider_did_not_verify_is_nobodys(browser: Browser) -> None:
    for verified in (False, None, "true", 1):
        browser.idp.claims["email_verified"] = verified
        assert "not verified" in refused(browser.sign_in())


@pytest.mark.parametrize("email", ["bob@example.com", "", None, 17])
def test_who_is_not_in_the_directory_is_not_let_in(browser: Browser, email: Any) -> None:
    browser.idp.claims["email"] = email
    refused(browser.sign_in())


def test_who_has_left_is_not_let_in(browser: Browser, units: UnitOfWork) -> None:
    people.deactivate(units, "ann")
    refused(browser.sign_in())


def test_another_claim_names_a_persons_id(units: UnitOfWork, idp: IdentityProvider) -> None:
    browser = Browser(units, idp, oidc_claim="preferred_username")
    idp.claims = {"sub": "u-1", "preferred_username": "ann"}
    assert browser.sign_in().json["person"] == "ann"
    idp.claims["preferred_username"] = ANN["email"]
    refused(browser.sign_in())


def test_groups_stand_for_roles_in_place_of_the_directorys(units: UnitOfWork, idp: IdentityProvider) -> None:
    browser = Browser(units, idp, oidc_roles_claim="groups", oidc_roles="cc-agents=agent, cc-leads=supervisor")
    idp.claims["groups"] = ["cc-agents", "football"]
    answer = browser.sign_in()
    assert answer.json["roles"] == ["agent"]
    assert browser.doors("GET", "/v1/me", key=answer.json["token"]).json["roles"] == ["agent"]
    for groups in (["football"], [], None, {"cc-agents": 1}, [["cc-agents"]]):
        idp.claims["groups"] = groups
        assert "ANSWERLINE_OIDC_ROLES" in refused(browser.sign_in())


# ---- what is refused


def test_a_sign_in_that_was_begun_elsewhere_is_refused(browser: Browser, units: UnitOfWork, idp: IdentityProvider) -> None:
    """Somebody sends the victim an address with a code of their own."""
    theirs = Browser(units, idp)
    address = theirs.begin()
    browser.begin()
    for cookie in (browser.cookie, "", "nonsense", f"{browser.provider.cookie_name}=.", f"{browser.provider.cookie_name}=x"):
        assert "not begun in this browser" in refused(browser.come_back(address, cookie))
    assert idp.asked.count("/token") == 0, "the code is not even shown to the provider"


def test_a_code_works_once(browser: Browser) -> None:
    address = browser.begin()
    cookie = browser.cookie
    assert browser.come_back(address).status == 200
    refused(browser.come_back(address, cookie))


@pytest.mark.parametrize("query", ["", "error=access_denied", "code=", "code=made-up"])
def test_who_was_not_let_in_there_is_not_let_in_here(browser: Browser, query: str) -> None:
    state = query_of(browser.begin())["state"]
    refused(browser.come_back(f"/?state={state}&{query}"))


def test_an_answer_of_another_provider_is_refused(browser: Browser) -> None:
    address = browser.begin()
    assert "another provider" in refused(browser.come_back(address.replace("iss=http", "iss=https")))


def forged(claims: dict[str, Any], algorithm: str) -> str:
    """Unsigned, or signed with what everybody knows: the public key."""
    header = {"kid": "first"}
    if algorithm == "none":
        return jwt.encode(claims, None, "none", header)
    public = private_key("first").public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    head = b".".join(oidc._text(orjson.dumps(part)).encode() for part in ({"alg": algorithm, "typ": "JWT", **header}, claims))
    return f"{head.decode()}.{oidc._text(hmac.digest(public, head, 'sha256'))}"


WRONG = {
    "another nonce": lambda claims: signed({**claims, "nonce": "x" * 43}, "first"),
    "no nonce": lambda claims: signed({name: value for name, value in claims.items() if name != "nonce"}, "first"),
    "another audience": lambda claims: signed({**claims, "aud": "somebody"}, "first"),
    "others too": lambda claims: signed({**claims, "aud": [CLIENT, "somebody"]}, "first"),
    "another issuer": lambda claims: signed({**claims, "iss": "https://evil.example"}, "first"),
    "expired": lambda claims: signed({**claims, "exp": clock.now() - oidc.LEEWAY_SECONDS - 1}, "first"),
    "without end": lambda claims: signed({name: value for name, value in claims.items() if name != "exp"}, "first"),
    "of nobody": lambda claims: signed({name: value for name, value in claims.items() if name != "sub"}, "first"),
    "not valid yet": lambda claims: signed({**claims, "nbf": clock.now() + oidc.LEEWAY_SECONDS + 60}, "first"),
    "an unknown key": lambda claims: signed(claims, "stranger"),
    "an unknown key of a known name": lambda claims: jwt.encode(claims, private_key("stranger"), "RS256", {"kid": "first"}),
    "no signature": lambda claims: forged(claims, "none"),
    "HS256 with the public key": lambda claims: forged(claims, "HS256"),
    "a key of another kind": lambda claims: jwt.encode(claims, private_key("first"), "PS256", {"kid": "first"}),
    "no token": lambda claims: "nonsense",
    "no text": lambda claims: 17,
}


@pytest.mark.parametrize("wrong", WRONG)
def test_an_id_token_that_does_not_hold_is_refused(browser: Browser, wrong: str) -> None:
    browser.idp.sign = WRONG[wrong]
    refused(browser.sign_in())
    assert not browser.doors.kept(store.session)


def test_several_audiences_are_fine_when_we_are_the_one_it_was_made_for(browser: Browser) -> None:
    browser.idp.claims |= {"aud": [CLIENT, "somebody"], "azp": CLIENT}
    assert browser.sign_in().status == 200


# ---- its keys and what it says of itself


def test_its_keys_are_remembered_and_asked_for_anew_when_it_changes_them(browser: Browser, at: SetClock) -> None:
    assert browser.sign_in().status == 200
    assert browser.sign_in().status == 200
    assert (browser.idp.asked.count("/keys"), browser.idp.asked.count("/.well-known/openid-configuration")) == (1, 1)
    browser.idp.keys = ["first", "second"]
    refused(browser.sign_in())  # not every stranger's key makes us ask
    at.forward(oidc.ASK_AGAIN_SECONDS + 1)
    assert browser.sign_in().status == 200
    assert browser.idp.asked.count("/keys") == 2
    browser.idp.keys = ["second"]
    browser.idp.sign = lambda claims: signed(claims, "first")
    at.forward(oidc.KNOWN_FOR_SECONDS + 1)
    refused(browser.sign_in())  # a key that is withdrawn is trusted for an hour at most


def test_a_provider_that_says_it_is_another_is_not_asked_on(browser: Browser) -> None:
    browser.idp.metadata = {"issuer": "https://evil.example"}
    answer = browser.doors("GET", "/v1/sign-in/oidc")
    assert (answer.status, "letter by letter" in answer.json["detail"]) == (503, True)


@pytest.mark.parametrize("name", ["token_endpoint", "jwks_uri", "authorization_endpoint"])
def test_nothing_goes_over_the_network_without_tls(browser: Browser, name: str) -> None:
    browser.idp.metadata = {name: "http://login.example.com/x"}
    assert browser.doors("GET", "/v1/sign-in/oidc").status == 503


def test_a_provider_out_of_reach_is_our_own_trouble(browser: Browser) -> None:
    address = browser.begin()
    browser.idp.close()
    answer = browser.come_back(address)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "2")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"oidc_issuer": "http://login.example.com"}, "OIDC_ISSUER"),
        ({"oidc_issuer": "login.example.com"}, "OIDC_ISSUER"),
        ({"oidc_client_id": ""}, "OIDC_CLIENT_ID"),
        ({"oidc_roles": "cc-agents=agent"}, "OIDC_ROLES_CLAIM"),
        ({"oidc_roles_claim": "groups"}, "OIDC_ROLES"),
        ({"oidc_roles_claim": "groups", "oidc_roles": "cc-agents=king"}, "OIDC_ROLES"),
        ({"oidc_roles_claim": "groups", "oidc_roles": "cc-agents"}, "OIDC_ROLES"),
    ],
)
def test_a_setting_that_cannot_be_used_is_said_at_the_start(settings: dict[str, str], named: str) -> None:
    fine = {"oidc_issuer": "https://login.example.com", "oidc_client_id": CLIENT}
    Provider(Settings(**fine), outbound.send)
    with pytest.raises(SettingError, match=named):
        Provider(Settings(**{**fine, **settings}), outbound.send)
