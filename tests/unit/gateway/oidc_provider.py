"""A small OpenID provider on 127.0.0.1: discovery, authorization, token and keys, as the specifications have them; and made to misbehave."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT, SECRET = "answerline", "s3cret/with:signs"


@cache
def private_key(name: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_jwk(name: str, **more: Any) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(private_key(name).public_key()))
    return {**told, "kid": name, "use": "sig", "alg": "RS256", **more}


def signed(claims: dict[str, Any], key: str) -> str:
    return jwt.encode(claims, private_key(key), "RS256", {"kid": key})


class IdentityProvider:
    """`claims`: what it says of whoever comes, beside what every ID token says. `sign` makes the ID token of them. `asked`: the paths of
    all requests to it."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.claims: dict[str, Any] = {"sub": "u-1", "email": "Ann@example.com", "email_verified": True}
        self.keys = ["first"]
        self.sign: Callable[[dict[str, Any]], str] = lambda claims: signed(claims, self.keys[-1])
        self.metadata: dict[str, Any] = {}
        self.ways = ["client_secret_basic"]
        self.asked: list[str] = []
        self.codes: dict[str, dict[str, str]] = {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                path, _, query = self.path.partition("?")
                provider.asked.append(path)
                if path == "/authorize":
                    self._redirect(provider.authorize(dict(parse_qsl(query))))
                else:
                    self._answer(200, provider.documents()[path])

            def do_POST(self) -> None:
                provider.asked.append(self.path)
                form = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
                self._answer(*provider.redeem(form, self.headers.get("Authorization", "")))

            def _redirect(self, address: str) -> None:
                self.send_response(302)
                self.send_header("Location", address)
                self.end_headers()

            def _answer(self, status: int, told: Any) -> None:
                body = json.dumps(told).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def documents(self) -> dict[str, Any]:
        metadata = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "token_endpoint_auth_methods_supported": self.ways,
            **self.metadata,
        }
        return {"/.well-known/openid-configuration": metadata, "/keys": {"keys": [public_jwk(name) for name in self.keys]}}

    def authorize(self, asked: dict[str, str]) -> str:
        """Whoever comes is let in."""
        assert (asked["response_type"], asked["client_id"], asked["code_challenge_method"]) == ("code", CLIENT, "S256")
        assert "openid" in asked["scope"].split()
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state'], 'iss': self.issuer})}"

    def redeem(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        asked = self.codes.pop(form["code"], None)
        challenge = urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
        if asked is None or form["grant_type"] != "authorization_code" or form["redirect_uri"] != asked["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        if challenge != asked["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        if not self._is_client(form, authorization):
            return 401, {"error": "invalid_client"}
        told = {"iss": self.issuer, "aud": CLIENT, "iat": self.now(), "exp": self.now() + 300, "nonce": asked["nonce"], **self.claims}
        return 200, {"access_token": "unused", "token_type": "Bearer", "id_token": self.sign(told)}

    def _is_client(self, form: dict[str, str], authorization: str) -> bool:
        if "client_secret_basic" not in self.ways:
            return (form.get("client_id"), form.get("client_secret")) == (CLIENT, SECRET)
        pair = b64decode(authorization.removeprefix("Basic ")).decode()
        return parse_qs(pair.replace(":", "=", 1)) == {CLIENT: [SECRET]}


def query_of(address: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(address).query))
