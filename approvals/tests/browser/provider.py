"""An OpenID provider whose sign-in page asks who one wants to be. It is also the other site that frames our pages."""

import base64
import hashlib
import html
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

PEOPLE: dict[str, dict[str, Any]] = {
    "administrator": {"name": "The administrator", "roles": ["automation_admin"]},
    "second-administrator": {"name": "The second administrator", "roles": ["automation_admin"]},
    "oncall": {"name": "The security on-call", "roles": ["security_oncall"]},
    "scheduler": {"name": "The scheduler", "roles": ["scheduler"]},
    "newcomer": {"name": "The newcomer", "roles": []},
}


class Provider:
    """Discovery, an authorization endpoint with one link per person, and a token endpoint that checks PKCE."""

    def __init__(self) -> None:
        self._key = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"}, auto_kid=True)
        self._codes: dict[str, dict[str, str]] = {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.get(self)

            def do_POST(self) -> None:
                provider.post(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stops it."""
        self._server.shutdown()
        self._server.server_close()

    def get(self, handler: BaseHTTPRequestHandler) -> None:
        """What browsers and the service look up."""
        url = urlsplit(handler.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/.well-known/openid-configuration":
            answer_json(handler, self._configuration())
        elif url.path == "/jwks":
            answer_json(handler, KeySet([self._key]).as_dict(private=False))
        elif url.path == "/authorize" and "person" not in query:
            answer(handler, 200, "text/html; charset=utf-8", self._sign_in_page(query).encode())
        elif url.path == "/authorize":
            code = secrets.token_urlsafe(16)
            self._codes[code] = query
            back = urlencode({"code": code, "state": query["state"], "iss": self.issuer})
            handler.send_response(303)
            handler.send_header("location", f"{query['redirect_uri']}?{back}")
            handler.end_headers()
        elif url.path == "/frame":
            page = f"<!doctype html><title>Another site</title><iframe id=frame src='{html.escape(query['of'])}'></iframe>"
            answer(handler, 200, "text/html; charset=utf-8", page.encode())
        else:
            answer(handler, 404, "text/plain", b"")

    def post(self, handler: BaseHTTPRequestHandler) -> None:
        """The exchange of a code for tokens."""
        body = handler.rfile.read(int(handler.headers["content-length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        request = self._codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if request is None or challenge != request["code_challenge"]:
            answer_json(handler, {"error": "invalid_grant"}, 400)
            return
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": request["client_id"],
            "sub": request["person"],
            "nonce": request["nonce"],
            "iat": now,
            "exp": now + 60,
            **PEOPLE[request["person"]],
        }
        id_token = jwt.encode({"alg": "ES256", "typ": "JWT", "kid": self._key.kid}, claims, self._key)
        tokens = {"access_token": "opaque", "token_type": "Bearer", "expires_in": 60, "id_token": id_token}
        answer_json(handler, tokens)

    def _configuration(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }

    @staticmethod
    def _sign_in_page(query: dict[str, str]) -> str:
        def link(person: str) -> str:
            href = html.escape("/authorize?" + urlencode(query | {"person": person}))
            return f'<p><a id="{person}" href="{href}">{person}</a></p>'

        return "<!doctype html><title>Provider</title>" + "".join(map(link, PEOPLE))


def answer_json(handler: BaseHTTPRequestHandler, document: object, status: int = 200) -> None:
    """Sends a JSON document."""
    answer(handler, status, "application/json", json.dumps(document).encode())


def answer(handler: BaseHTTPRequestHandler, status: int, content_type: str, body: bytes) -> None:
    """Sends a body."""
    handler.send_response(status)
    handler.send_header("content-type", content_type)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
