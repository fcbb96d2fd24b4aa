"""Sign-in by an OpenID provider (OpenID Connect Core 1.0): authorization code flow with PKCE (RFC 7636), state and nonce.

What must come back with the browser (state, nonce, PKCE's verifier) is derived from one random secret in a cookie of that browser, so
that nothing is kept here, and whoever sees the addresses that the browser is sent to learns none of it but the state.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import jwt
import orjson
import structlog

from services.gateway.keys import ROLES
from shared import clock, targets
from shared.config import SettingError, Settings
from shared.errors import Invalid, Unauthenticated, Unavailable
from shared.runtime.outbound import Reply, Unreachable
from shared.targets import Allowance, BadTarget, Target

log = structlog.get_logger()

LOOPBACK = targets.read_allowance("127.0.0.0/8 ::1 localhost")
KNOWN_FOR_SECONDS = 3600.0
ASK_AGAIN_SECONDS = 10.0
"""After so long an unknown key is asked for anew: the provider has changed its keys."""
LEEWAY_SECONDS = 60.0
COOKIE_SECONDS = 600
KINDS = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures with a private key of the provider's alone: neither `none`, nor one with a secret that somebody else has too."""
REQUIRED = ["iss", "sub", "aud", "exp", "iat"]
PATH = re.compile(r"/(?![/\\])[!-~]{0,500}")

Send = Callable[[str, Target, Mapping[str, str], bytes, Allowance], Reply]


@dataclass(frozen=True)
class Identity:
    """Who the provider says it is: a person by e-mail address or id, and their roles where the provider says them too."""

    email: str = ""
    id: str = ""
    roles: list[str] | None = None


class Attempt:
    """One sign-in on its way through the provider, from the secret in the browser's cookie."""

    def __init__(self, cookie: str) -> None:
        self.secret, _, path = cookie.partition(".")
        self.return_to = path if PATH.fullmatch(path) else ""  # whoever else can write cookies here is sent nobody's token

    @classmethod
    def new(cls, return_to: str) -> Attempt:
        """`return_to`: a path of ours. Raises Invalid."""
        if return_to and not PATH.fullmatch(return_to):
            raise Invalid("`then` is a path of this installation", errors={"then": ["Write a path such as /desk."]})
        return cls(f"{secrets.token_urlsafe(32)}.{return_to}")

    @property
    def cookie(self) -> str:
        return f"{self.secret}.{self.return_to}"

    def __getattr__(self, name: str) -> str:
        """`state`, `nonce` and `verifier`: 43 characters each, of which none tells another."""
        if name not in ("state", "nonce", "verifier"):
            raise AttributeError(name)
        return _text(hmac.digest(self.secret.encode(), name.encode(), "sha256"))

    def is_answered_by(self, state: str) -> bool:
        return bool(self.secret) and hmac.compare_digest(self.state.encode(), state.encode())


class Provider:
    """The identity provider of the settings. `send`: see shared.runtime.outbound. Raises SettingError."""

    def __init__(self, settings: Settings, send: Send) -> None:
        self.issuer, self.client_id, self._secret = settings.oidc_issuer, settings.oidc_client_id, settings.oidc_client_secret
        self.claim, self.roles_claim, self.scope = settings.oidc_claim, settings.oidc_roles_claim, settings.oidc_scope
        self.redirect = f"{settings.public_address or 'http://{}:{}'.format(*settings.http_address)}/v1/sign-in/oidc/callback"
        self._send = send
        self._asking = threading.Lock()
        self._metadata: dict[str, Any] = {}
        self._keys: list[dict[str, Any]] = []
        self._metadata_at = self._keys_at = float("-inf")
        if not _is_trusted(self.issuer):
            raise SettingError(f"ANSWERLINE_OIDC_ISSUER: {self.issuer!r} is no address such as https://login.example.com/realm")
        if not self.client_id:
            raise SettingError("ANSWERLINE_OIDC_CLIENT_ID: an identity provider is set (ANSWERLINE_OIDC_ISSUER), so this is needed")
        self.roles = dict(self._mapping(settings.oidc_roles))
        if bool(self.roles) != bool(self.roles_claim):
            raise SettingError(
                "ANSWERLINE_OIDC_ROLES_CLAIM and ANSWERLINE_OIDC_ROLES go together: the claim, and what its values stand for"
            )

    @staticmethod
    def _mapping(text: str) -> list[tuple[str, str]]:
        pairs = [one.rpartition("=") for one in text.replace(",", " ").split()]
        for value, equals, role in pairs:
            if not (value and equals and role in ROLES):
                raise SettingError(
                    f"ANSWERLINE_OIDC_ROLES: write value=role, with a role of {', '.join(ROLES)}, for example cc-agents=agent"
                )
        return [(value, role) for value, _, role in pairs]

    @cached_property
    def cookie_name(self) -> str:
        """With the prefix, only this very host can have set it (RFC 6265bis)."""
        return "__Host-answerline-sign-in" if self.redirect.startswith("https:") else "answerline-sign-in"

    def cookie(self, value: str) -> str:
        """The header that keeps the value in the browser; without one it is removed."""
        secure = "; Secure" if self.redirect.startswith("https:") else ""
        age = COOKIE_SECONDS if value else 0
        return f"{self.cookie_name}={quote(value, safe='')}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}"

    def address(self, attempt: Attempt) -> str:
        """Where the browser is sent. Raises Unavailable."""
        endpoint = self.metadata()["authorization_endpoint"]
        asked = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect,
            "scope": self.scope,
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": _text(hashlib.sha256(attempt.verifier.encode()).digest()),
            "code_challenge_method": "S256",
        }
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(asked)}"

    def identify(self, attempt: Attempt, told: Mapping[str, str]) -> Identity:
        """Who came back, from the query of the callback. Raises Unauthenticated, which says why not, or Unavailable."""
        if not attempt.is_answered_by(told.get("state", "")):
            raise Unauthenticated("this sign-in was not begun in this browser, or too long ago: begin anew with /v1/sign-in/oidc")
        if told.get("iss", self.issuer) != self.issuer:
            raise Unauthenticated("another provider answered than the one that was asked")
        if "error" in told or not told.get("code"):
            raise Unauthenticated("the identity provider did not let you in")
        return self._identity(self.claims(self._redeem(told["code"], attempt.verifier), attempt.nonce))

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        name, roles = claims.get(self.claim), None
        if not isinstance(name, str) or not name:
            raise Unauthenticated(f"the identity provider does not say your {self.claim} (ANSWERLINE_OIDC_CLAIM, ANSWERLINE_OIDC_SCOPE)")
        if self.roles_claim:
            told = claims.get(self.roles_claim, [])
            values = [told] if isinstance(told, str) else told if isinstance(told, list) else []
            roles = sorted({self.roles[value] for value in values if isinstance(value, str) and value in self.roles})
            if not roles:
                raise Unauthenticated("none of your groups at the identity provider has a role here (ANSWERLINE_OIDC_ROLES)")
        if self.claim != "email":
            return Identity(id=name, roles=roles)
        if claims.get("email_verified") is not True:
            raise Unauthenticated("the identity provider has not verified your e-mail address")
        return Identity(email=name, roles=roles)

    def claims(self, token: str, nonce: str) -> dict[str, Any]:
        """What an ID token says, after all checks of OpenID Connect Core 3.1.3.7. Raises Unauthenticated or Unavailable."""
        try:
            header = jwt.get_unverified_header(token)
            claims: dict[str, Any] = jwt.decode(
                token, self._key(header), algorithms=[header["alg"]], audience=self.client_id, issuer=self.issuer, leeway=LEEWAY_SECONDS,
                options={"require": REQUIRED},
            )  # fmt: skip
        except jwt.PyJWTError as error:
            log.warning("an ID token was refused", error=type(error).__name__)
            raise Unauthenticated(f"the identity provider's answer does not hold: {type(error).__name__}") from error
        if isinstance(claims["aud"], list) and len(claims["aud"]) > 1 and claims.get("azp") != self.client_id:
            raise Unauthenticated("the identity provider's answer is meant for others too")
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
            raise Unauthenticated("the identity provider's answer belongs to another sign-in")
        return claims

    def _key(self, header: Mapping[str, Any]) -> jwt.PyJWK:
        """The provider's key that the token names. Raises jwt.InvalidKeyError for what is signed otherwise than with one of them."""
        algorithm = header.get("alg")
        if algorithm not in ALGORITHMS:
            raise jwt.InvalidAlgorithmError("no signature of the provider's")
        for fresh in (False, True):
            fitting = [key for key in self._known_keys(fresh) if _fits(key, algorithm, header.get("kid"))]
            if len(fitting) == 1:
                return jwt.PyJWK(fitting[0], algorithm)
        raise jwt.InvalidKeyError("no key of the provider's has signed this")

    def _known_keys(self, fresh: bool) -> list[dict[str, Any]]:
        with self._asking:
            age = clock.monotonic() - self._keys_at
            if age > (ASK_AGAIN_SECONDS if fresh else KNOWN_FOR_SECONDS):
                told = self._ask(self._endpoint("jwks_uri")).get("keys", [])
                self._keys, self._keys_at = [key for key in told if isinstance(key, dict)], clock.monotonic()
            return self._keys

    def metadata(self) -> dict[str, Any]:
        """What the provider says of itself (OpenID Connect Discovery 1.0). Raises Unavailable."""
        with self._asking:
            return self._known_metadata()

    def _known_metadata(self) -> dict[str, Any]:
        if clock.monotonic() - self._metadata_at > KNOWN_FOR_SECONDS:
            told = self._ask(f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
            if told.get("issuer") != self.issuer:
                raise Unavailable(
                    "the identity provider says that it is another: ANSWERLINE_OIDC_ISSUER must be its `issuer`, letter by letter"
                )
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                if not _is_trusted(told.get(name)):
                    raise Unavailable(f"the identity provider's {name} is no address with TLS")
            self._metadata, self._metadata_at = told, clock.monotonic()
        return self._metadata

    def _endpoint(self, name: str) -> str:
        return str(self._known_metadata()[name])

    def _redeem(self, code: str, verifier: str) -> str:
        """The ID token for a code."""
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": self.redirect, "code_verifier": verifier}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        metadata = self.metadata()
        ways = metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if self._secret and "client_secret_basic" in ways:
            pair = f"{quote(self.client_id, safe='')}:{quote(self._secret, safe='')}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        else:
            form |= {"client_id": self.client_id, **({"client_secret": self._secret} if self._secret else {})}
        answer = self._ask(metadata["token_endpoint"], headers, urlencode(form).encode())
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise Unauthenticated("the identity provider gave no ID token for what the browser brought: begin anew")
        return token

    def _ask(self, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> dict[str, Any]:
        """The JSON object that is there. Raises Unavailable, and Unauthenticated where the provider refuses."""
        try:
            allowance = _allowance(url)
            target = targets.read_url(url, allowance)
            sent = {"Accept": "application/json", **(headers or {})}
            reply = self._send("GET" if body is None else "POST", target, sent, body or b"", allowance)
        except (Unreachable, BadTarget) as error:
            raise Unavailable("the identity provider is out of reach") from error
        if body is not None and 400 <= reply.status < 500:
            log.warning("the identity provider refused a code", status=reply.status)
            raise Unauthenticated("the identity provider does not know what the browser brought: begin anew")
        try:
            told = orjson.loads(reply.body) if reply.status == 200 else None
        except orjson.JSONDecodeError:
            told = None
        if not isinstance(told, dict):
            raise Unavailable(f"the identity provider answered {reply.status}, or something that cannot be read")
        return told


def _fits(key: Mapping[str, Any], algorithm: str, id: Any) -> bool:
    """Whether a key may have made a signature of that kind; a token that names none is signed with the only one that may."""
    return (
        key.get("kty") == KINDS[algorithm[:2]]
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) == algorithm
        and (id is None or key.get("kid") == id)
    )


def _is_trusted(url: Any) -> bool:
    """Over TLS, or to this machine."""
    if not isinstance(url, str):
        return False
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname or "")))
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _allowance(url: str) -> Allowance:
    """The operator has named the provider, wherever it is: within our own network too."""
    host = urlsplit(url).hostname or ""
    return LOOPBACK if _is_loopback(host) else targets.read_allowance(host)


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
