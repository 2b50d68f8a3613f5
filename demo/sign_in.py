"""People who sign in with a browser: the authorization code flow of OpenID Connect, with PKCE (RFC 7636).

FOR DEVELOPMENT ONLY, like the identity provider that it is a part of: the page shows who there is and asks for no
password. All else is as strict as with a real provider: exact redirect URIs, and codes that are good once, for a
minute, and for the client that has the verifier of their challenge.
"""

import base64
import hashlib
import hmac
import html
import re
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.datastructures import FormData, QueryParams

CODE_LIFETIME = 60
#: More sign-ins than people can have begun at a time.
MOST_CODES = 1000

#: RFC 7636 section 4.2: the challenge is a SHA-256 in base64url.
CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Sign in (development)</title>
<style>
body {{ font: 1rem/1.5 sans-serif; max-width: 32rem; margin: 3rem auto; padding: 0 1rem }}
button {{ display: block; width: 100%; margin: .5rem 0; padding: .5rem; font: inherit; text-align: left }}
small {{ display: block }}
</style>
<h1>Sign in</h1>
<p>To go on to <strong>{client}</strong>. For development only: there are no passwords.</p>
<form method="post" action="/authorize">
{hidden}
{people}
</form>
</html>
"""

#: No script, no frame. No `form-action`: browsers also hold it against the redirect that answers the form.
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"


class OAuthError(Exception):
    """A refusal that the client is told about, RFC 6749 section 5.2."""

    def __init__(self, code: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.code, self.description, self.status = code, description, status


class SentBack(Exception):
    """A refusal that the client is told about by way of the browser, RFC 6749 section 4.1.2.1."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.location = location


@dataclass(frozen=True)
class WebClient:
    """A public client: no secret says who it is, but where its answers go."""

    client_id: str
    redirect_uri: str
    #: Of its access tokens.
    resource: str


@dataclass(frozen=True)
class SignIn:
    """What a client asks for when it sends somebody here."""

    client: WebClient
    scopes: tuple[str, ...]
    challenge: str
    state: str | None
    nonce: str | None

    @classmethod
    def read(cls, parameters: QueryParams | FormData, clients: Iterable[WebClient]) -> "SignIn":
        """A request of OpenID Connect Core section 3.1.2.1."""
        given = {name: str(value) for name, value in parameters.multi_items()}
        by_id = {client.client_id: client for client in clients}
        client = by_id.get(given.get("client_id", ""))
        # Nobody is sent to an address that is not known to be the client's.
        if client is None or given.get("redirect_uri") != client.redirect_uri:
            raise OAuthError("invalid_request", "unknown client_id, or not its redirect_uri")
        scopes = tuple(given.get("scope", "").split())
        asked = cls(client, scopes, given.get("code_challenge", ""), given.get("state"), given.get("nonce"))
        if len(given) != len(parameters.multi_items()):
            raise asked.refused("invalid_request", "a parameter is given twice")
        if given.get("response_type") != "code":
            raise asked.refused("unsupported_response_type", "response_type must be code")
        if "openid" not in scopes:
            raise asked.refused("invalid_scope", "scope must have openid in it")
        if given.get("code_challenge_method") != "S256" or not CHALLENGE.fullmatch(asked.challenge):
            raise asked.refused("invalid_request", "PKCE with S256 is required")
        return asked

    def answer(self, **members: str) -> str:
        """Where the browser goes next: back to the client."""
        state = {} if self.state is None else {"state": self.state}
        return f"{self.client.redirect_uri}?{urlencode(members | state)}"

    def refused(self, code: str, description: str) -> SentBack:
        """The same with bad news."""
        return SentBack(self.answer(error=code, error_description=description))

    def page(self, people: Mapping[str, Iterable[str]]) -> str:
        """A button for each person, with the roles."""
        fields = {
            "client_id": self.client.client_id,
            "redirect_uri": self.client.redirect_uri,
            "response_type": "code",
            "scope": " ".join(self.scopes),
            "code_challenge": self.challenge,
            "code_challenge_method": "S256",
        }
        fields |= {name: value for name, value in (("state", self.state), ("nonce", self.nonce)) if value is not None}
        hidden = [f'<input type="hidden" name="{name}" value="{html.escape(value)}">' for name, value in fields.items()]
        buttons = [
            f'<button name="person" value="{html.escape(person)}">{html.escape(person)}'
            f"<small>{html.escape(', '.join(roles))}</small></button>"
            for person, roles in people.items()
        ]
        client = html.escape(self.client.client_id)
        return PAGE.format(client=client, hidden="\n".join(hidden), people="\n".join(buttons))


@dataclass(frozen=True)
class SignedIn:
    """Somebody who has signed in, as a code stands for."""

    person: str
    asked: SignIn
    at: float


class Codes:
    """The codes that were given out and not yet used."""

    def __init__(self) -> None:
        self._codes: dict[str, SignedIn] = {}

    def issue(self, person: str, asked: SignIn) -> str:
        """A new code."""
        now = time.time()
        self._codes = {code: kept for code, kept in self._codes.items() if kept.at > now - CODE_LIFETIME}
        if len(self._codes) >= MOST_CODES:
            raise asked.refused("temporarily_unavailable", "too many people sign in at once")
        code = secrets.token_urlsafe(32)
        self._codes[code] = SignedIn(person, asked, now)
        return code

    def redeem(self, form: FormData) -> SignedIn:
        """What the code in a token request stands for (RFC 6749 section 4.1.3). Whatever comes of it, it is used up."""
        signed_in = self._codes.pop(str(form.get("code", "")), None)
        if signed_in is None or signed_in.at <= time.time() - CODE_LIFETIME:
            raise OAuthError("invalid_grant", "the code is unknown, used or expired")
        client = signed_in.asked.client
        if (form.get("client_id"), form.get("redirect_uri")) != (client.client_id, client.redirect_uri):
            raise OAuthError("invalid_grant", "the code was given to another client or for another redirect_uri")
        if not hmac.compare_digest(challenge_of(str(form.get("code_verifier", ""))), signed_in.asked.challenge):
            raise OAuthError("invalid_grant", "code_verifier does not fit the challenge")
        return signed_in


def challenge_of(verifier: str) -> str:
    """RFC 7636 section 4.2, S256."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
