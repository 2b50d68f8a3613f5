"""A development identity provider. FOR DEVELOPMENT ONLY: never run it in production, never bind it to a network.

It hands a token for any of its people to whoever asks (`/dev/login` knows no password and believes what it is told
about how somebody signed in), tells who there is and its clients' secrets (`/dev/people`, `/dev/clients`), and rotates
its keys on request (`/dev/rotate`). Therefore it binds to loopback only, answers only to loopback names (a web page
that rebinds its own name to 127.0.0.1 is turned away), and keeps its keys and secrets in memory: they are new at every
start.

The rest behaves like a real one: RFC 8414 metadata, RFC 7517 keys, RFC 6749 client credentials, RFC 8693 token
exchange, RFC 8707 resource indicators, RFC 9068 access tokens, and the authorization code flow of OpenID Connect for
the page of the approval service (sign_in.py). Two form parameters of `/token` are extensions for tests: `alg` and
`lifetime` (seconds).

Signing is left to joserfc: typed, maintained, on `cryptography` like the MCP SDK itself, and it does keys, key sets
and thumbprints (PyJWT, which the SDK brings along, builds no JWKS).
"""

import argparse
import base64
import binascii
import hmac
import secrets
import time
import uuid
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus, urlsplit

import uvicorn
from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, Key, KeyParameters, KeySet, OKPKey, RSAKey
from starlette.applications import Starlette
from starlette.datastructures import FormData
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from sign_in import PAGE_POLICY, Codes, OAuthError, SentBack, SignIn, WebClient

# RFC 9864 prefers the name Ed25519, but EdDSA is what identity providers still write into their tokens.
warnings.filterwarnings("ignore", "EdDSA is deprecated", SecurityWarning)

LIFETIME = 15 * 60
LONGEST_LIFETIME = 24 * 60 * 60
LOGIN_LIFETIME = 5 * 60
OLDEST_LOGIN = 30 * 24 * 60 * 60
KEY_OVERLAP = 2 * 60

NO_STORE = {"cache-control": "no-store"}

AUTHORIZATION_CODE = "authorization_code"
CLIENT_CREDENTIALS = "client_credentials"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
JWT_TOKEN = "urn:ietf:params:oauth:token-type:jwt"

SCOPES = (
    "norg:contacts:read",
    "norg:messaging:write",
    "norg:messaging:bulk",
    "norg:booking:write",
    "norg:booking:modify",
    "norg:crm:write",
    "norg:crm:delete",
    "norg:ads:read",
    "norg:ads:write",
)

CLIENT_SCOPES = {
    # Programs that act for themselves: what they may do is what this provider gives them.
    "reader": ("norg:contacts:read", "norg:ads:read"),
    "messaging": ("norg:contacts:read", "norg:messaging:write"),
    "booking": ("norg:contacts:read", "norg:booking:write", "norg:booking:modify"),
    "full": SCOPES,
    "none": (),
    # Agents that people use. They get every scope, so that it is the policy that tells people and agents apart.
    "messaging-agent": SCOPES,
    "booking-agent": SCOPES,
    "full-automation-agent": SCOPES,
}

#: The clients of the approval service: its page, and the tool of people who approve on the command line.
APPROVALS = "approvals"
APPROVALS_CLI = "approvals-cli"

# How and what for somebody signed in (OpenID Connect Core section 2; `purpose` is the demo's own). A real provider
# knows; this one is told at /dev/login. The access token has the same.
LOGIN_CLAIMS = ("acr", "amr", "auth_time", "purpose")

NEW_KEY: dict[str, Callable[[KeyParameters], Key]] = {
    "RS256": lambda parameters: RSAKey.generate_key(2048, parameters, auto_kid=True),
    "ES256": lambda parameters: ECKey.generate_key("P-256", parameters, auto_kid=True),
    "EdDSA": lambda parameters: OKPKey.generate_key("Ed25519", parameters, auto_kid=True),
}


@dataclass(frozen=True)
class Person:
    """Someone who uses a client, or approves. What a role may do is the policy's business, not the token's."""

    subject: str
    roles: tuple[str, ...]
    groups: tuple[str, ...]
    department: str
    tenant_id: str = "tenant-norg"

    @property
    def name(self) -> str:
        """Role-named, like the person."""
        return self.subject.replace("-", " ").capitalize()

    @property
    def email(self) -> str:
        """Likewise."""
        return f"{self.subject}@norg.example"

    def describe(self) -> dict[str, Any]:
        """What the provider knows of the person, as its tokens and `/dev/people` say it."""
        return {
            "name": self.name,
            "email": self.email,
            "roles": list(self.roles),
            "groups": list(self.groups),
            "department": self.department,
            "tenant_id": self.tenant_id,
        }


PEOPLE = {
    person.subject: person
    for person in (
        Person("administrator", ("automation-admins",), ("/norg/operations/automation",), "operations"),
        Person("campaign-manager", ("campaign-managers",), ("/norg/marketing/campaigns",), "marketing"),
        Person("scheduler", ("schedulers",), ("/norg/front-desk",), "front-desk"),
        Person("analyst", ("analysts",), ("/norg/marketing/analytics",), "marketing"),
        Person("compliance-reviewer", ("compliance-reviewers",), ("/norg/compliance",), "compliance"),
        # Uses no agent; is asked whether those of others may.
        Person("duty-manager", ("approvers",), ("/norg/operations/duty",), "operations"),
    )
}


@dataclass(frozen=True)
class Client:
    """A registered client and the most that it may ask for. Its own tokens name it as their subject."""

    client_id: str
    scopes: tuple[str, ...]
    #: The audience of its tokens when it asks for none, if that is not the provider's default.
    resource: str | None = None
    #: Whether it acts for people, by its own lights. What people use as a tool of their own does not.
    is_agent: bool = True
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    def describe(self) -> dict[str, Any]:
        """The client as `/dev/clients` shows it."""
        return {
            "client_id": self.client_id,
            "client_secret": self.secret,
            "scopes": list(self.scopes),
            "subject": self.client_id,
        } | ({"resource": self.resource} if self.resource else {})


class KeyRing:
    """One signing key per algorithm, and the retired ones for as long as they stay published."""

    def __init__(self) -> None:
        self._current = self._generate()
        self._retired: list[tuple[float, Key]] = []

    @staticmethod
    def _generate() -> dict[str, Key]:
        return {alg: new_key({"use": "sig", "alg": alg}) for alg, new_key in NEW_KEY.items()}

    def rotate(self, *, drop: bool) -> None:
        """Sign with new keys from now on. A dropped key is gone at once, as after a leak."""
        until = time.time() + KEY_OVERLAP
        self._retired = [] if drop else [*self._published_retired(), *((until, key) for key in self._current.values())]
        self._current = self._generate()

    def _published_retired(self) -> list[tuple[float, Key]]:
        return [(until, key) for until, key in self._retired if until > time.time()]

    def published(self) -> KeySet:
        """The keys that a signature may be verified with."""
        return KeySet([*self._current.values(), *(key for _, key in self._published_retired())])

    def sign(self, alg: str, typ: str, claims: dict[str, Any]) -> str:
        """A compact JWS over the claims."""
        if alg not in self._current:
            raise OAuthError("invalid_request", f"alg must be one of {', '.join(self._current)}")
        key = self._current[alg]
        return jwt.encode({"alg": alg, "typ": typ, "kid": key.kid}, claims, key, algorithms=[alg])

    def verify(self, token: str) -> jwt.Token:
        """The token, when one of the published keys signed it."""
        return jwt.decode(token, self.published(), algorithms=list(self._current))


class IdentityProvider:
    """The endpoints, over one set of clients and keys."""

    def __init__(self, issuer: str, default_resource: str, approvals: str) -> None:
        self.issuer = issuer
        self.default_resource = default_resource
        self.keys = KeyRing()
        self.clients = {name: Client(f"demo-{name}", scopes) for name, scopes in CLIENT_SCOPES.items()}
        self.clients[APPROVALS_CLI] = Client(APPROVALS_CLI, (), resource=approvals, is_agent=False)
        self.web_clients = (WebClient(APPROVALS, f"{approvals}/callback", resource=approvals),)
        self.codes = Codes()

    def app(self) -> Starlette:
        """The provider as an ASGI application."""
        return Starlette(
            routes=[
                # The OpenID and the OAuth document differ in name only: clients look for either.
                Route("/.well-known/openid-configuration", self.metadata),
                Route("/.well-known/oauth-authorization-server", self.metadata),
                Route("/jwks", self.jwks),
                Route("/authorize", self.authorize, methods=["GET", "POST"]),
                Route("/token", self.token, methods=["POST"]),
                Route("/dev/login", self.login, methods=["POST"]),
                Route("/dev/rotate", self.rotate, methods=["POST"]),
                Route("/dev/clients", self.list_clients),
                Route("/dev/people", self.list_people),
            ],
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
            exception_handlers={OAuthError: refuse},
        )

    async def metadata(self, request: Request) -> Response:
        """RFC 8414, section 2, and OpenID Connect Discovery 1.0, section 3."""
        return JSONResponse(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/jwks",
                "grant_types_supported": [AUTHORIZATION_CODE, CLIENT_CREDENTIALS, TOKEN_EXCHANGE],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
                "response_types_supported": ["code"],
                "response_modes_supported": ["query"],
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": True,
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": list(NEW_KEY),
                "scopes_supported": ["openid", "profile", *SCOPES],
            }
        )

    async def jwks(self, request: Request) -> Response:
        """RFC 7517: every key that may still verify something."""
        return JSONResponse(self.keys.published().as_dict(private=False), media_type="application/jwk-set+json")

    async def authorize(self, request: Request) -> Response:
        """OpenID Connect Core section 3.1.2: GET shows who can be signed in, POST signs one of them in."""
        asks = request.method == "GET"
        parameters = request.query_params if asks else await request.form()
        chosen = str(parameters.get("person", ""))
        try:
            asked = SignIn.read(parameters, self.web_clients)
            if not asks and chosen in PEOPLE:
                location = asked.answer(code=self.codes.issue(chosen, asked), iss=self.issuer)
                return no_store_redirect(location)
        except SentBack as refusal:
            return no_store_redirect(refusal.location)
        page = asked.page({name: person.roles for name, person in PEOPLE.items()})
        guarded = {"content-security-policy": PAGE_POLICY, "referrer-policy": "no-referrer"}
        return HTMLResponse(page, headers=NO_STORE | guarded)

    async def token(self, request: Request) -> Response:
        """RFC 6749 sections 4.1.3 and 4.4, and RFC 8693."""
        form = await request.form()
        grant = form.get("grant_type")
        if grant == AUTHORIZATION_CODE:
            # Of public clients: what proves that it is theirs is the verifier.
            return no_store(self._signed_in(form))
        client = self._authenticate(request, form)
        if grant is None:
            raise OAuthError("invalid_request", "grant_type is missing")
        if grant == CLIENT_CREDENTIALS:
            return no_store(self._access_token(form, client, {"sub": client.client_id}))
        if grant == TOKEN_EXCHANGE:
            answer = self._access_token(form, client, self._person_claims(form, client))
            return no_store(answer | {"issued_token_type": ACCESS_TOKEN})
        supported = f"{AUTHORIZATION_CODE}, {CLIENT_CREDENTIALS} or {TOKEN_EXCHANGE}"
        raise OAuthError("unsupported_grant_type", f"use {supported}")

    async def login(self, request: Request) -> Response:
        """Development only: a subject token for the exchange, for anyone who names a person."""
        form = await request.form()
        person = PEOPLE.get(str(form.get("person", "")))
        if person is None:
            raise OAuthError("invalid_request", f"person must be one of {', '.join(PEOPLE)}")
        claims = self._registered_claims(person.subject, [self.issuer], LOGIN_LIFETIME) | login_claims(form)
        return no_store(
            {
                "subject_token": self.keys.sign("RS256", "JWT", claims),
                "subject_token_type": JWT_TOKEN,
                "expires_in": LOGIN_LIFETIME,
            }
        )

    async def rotate(self, request: Request) -> Response:
        """Development only: new keys; `?drop=1` takes the old ones out of the JWKS at once."""
        self.keys.rotate(drop=request.query_params.get("drop") == "1")
        return await self.jwks(request)

    async def list_clients(self, request: Request) -> Response:
        """Development only: the clients with their secrets, for scripts that were not there at the start."""
        return no_store({name: client.describe() for name, client in self.clients.items()})

    async def list_people(self, request: Request) -> Response:
        """Development only: everyone who can be logged in."""
        return no_store({name: person.describe() for name, person in PEOPLE.items()})

    def _authenticate(self, request: Request, form: FormData) -> Client:
        """client_secret_basic or client_secret_post, not both (RFC 6749 section 2.3)."""
        authorization = request.headers.get("authorization")
        if authorization is None:
            client_id, secret = str(form.get("client_id", "")), str(form.get("client_secret", ""))
        elif "client_secret" in form:
            raise OAuthError("invalid_request", "more than one way of client authentication")
        else:
            client_id, secret = basic_credentials(authorization)
        for client in self.clients.values():
            if client.client_id == client_id and hmac.compare_digest(client.secret.encode(), secret.encode()):
                return client
        raise OAuthError("invalid_client", "unknown client or wrong secret", status=401)

    def _signed_in(self, form: FormData) -> dict[str, Any]:
        """OpenID Connect Core section 3.1.3.3: who has signed in, for the client that asked."""
        signed_in = self.codes.redeem(form)
        asked, person = signed_in.asked, PEOPLE[signed_in.person]
        client = asked.client
        nonce = {} if asked.nonce is None else {"nonce": asked.nonce}
        who = person.describe() | {"preferred_username": person.subject, "auth_time": int(signed_in.at)}
        id_claims = self._registered_claims(person.subject, [client.client_id], LIFETIME) | who | nonce
        scope = {"scope": " ".join(asked.scopes)}
        access_claims = self._registered_claims(person.subject, [client.resource], LIFETIME) | who | scope
        return {
            "id_token": self.keys.sign("RS256", "JWT", id_claims),
            "access_token": self.keys.sign("RS256", "at+jwt", access_claims | {"client_id": client.client_id}),
            "token_type": "Bearer",
            "expires_in": LIFETIME,
        } | scope

    def _person_claims(self, form: FormData, client: Client) -> dict[str, Any]:
        """Claims of a person who uses the client: the subject token says who, the client says through what."""
        if form.get("subject_token_type") not in (JWT_TOKEN, ACCESS_TOKEN):
            raise OAuthError("invalid_request", f"subject_token_type must be {JWT_TOKEN}")
        login = self._login_of(str(form.get("subject_token", "")))
        person = PEOPLE[login["sub"]]
        signed_in = {name: login[name] for name in LOGIN_CLAIMS if name in login}
        # RFC 8693 section 4.1: an agent acts for the person. A tool of the person's own is the person.
        acting = {"act": {"sub": client.client_id}} if client.is_agent else {}
        return {"sub": person.subject, **person.describe(), **signed_in, **acting}

    def _login_of(self, subject_token: str) -> dict[str, Any]:
        """The claims that `/dev/login` wrote into this token."""
        expected = jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": self.issuer},
            aud={"essential": True, "value": self.issuer},
            exp={"essential": True},
            sub={"essential": True, "values": list(PEOPLE)},
        )
        try:
            claims: dict[str, Any] = self.keys.verify(subject_token).claims
            expected.validate(claims)
        except (JoseError, ValueError) as error:
            # RFC 8693 section 2.2.2 wants this code for a subject token that is not accepted.
            raise OAuthError("invalid_request", "subject_token is not valid") from error
        return claims

    def _access_token(self, form: FormData, client: Client, claims: dict[str, Any]) -> dict[str, Any]:
        """RFC 9068, wrapped in a token response."""
        scopes = granted_scopes(form, client)
        lifetime = requested_lifetime(form)
        # RFC 6749 has no empty scope, so a token without rights carries no scope claim at all.
        scope = {"scope": " ".join(scopes)} if scopes else {}
        audience = requested_resources(form) or [client.resource or self.default_resource]
        claims = self._registered_claims(claims["sub"], audience, lifetime) | claims | scope
        token = self.keys.sign(str(form.get("alg", "RS256")), "at+jwt", claims | {"client_id": client.client_id})
        return {"access_token": token, "token_type": "Bearer", "expires_in": lifetime} | scope

    def _registered_claims(self, subject: str, audience: Sequence[str], lifetime: int) -> dict[str, Any]:
        """The claims that RFC 7519 registers. A single audience is written as a string, as most providers do."""
        now = int(time.time())
        return {
            "iss": self.issuer,
            "sub": subject,
            "aud": audience[0] if len(audience) == 1 else list(audience),
            "exp": now + lifetime,
            "iat": now,
            "nbf": now,
            "jti": str(uuid.uuid4()),
        }


def granted_scopes(form: FormData, client: Client) -> list[str]:
    """What was asked for, or all that the client may have when it asked for nothing in particular."""
    requested = str(form.get("scope", "")).split()
    refused = [scope for scope in requested if scope not in client.scopes]
    if refused:
        raise OAuthError("invalid_scope", f"not for this client: {' '.join(refused)}")
    return list(dict.fromkeys(requested)) or list(client.scopes)


def requested_resources(form: FormData) -> list[str]:
    """RFC 8707: absolute URIs without a fragment. Any is accepted, so that tests can ask for a wrong one."""
    resources = [str(resource) for resource in form.getlist("resource")]
    for resource in resources:
        if not urlsplit(resource).scheme or "#" in resource:
            raise OAuthError("invalid_target", "resource must be an absolute URI without a fragment")
    return resources


def login_claims(form: FormData) -> dict[str, Any]:
    """How somebody signed in, by `acr`, `amr` (several separated by blanks), `auth_time` and `purpose`.

    `auth_time` is an age in seconds here and a time in the token. By default somebody signs in right now, which is all
    that is known about it.
    """
    age = str(form.get("auth_time", 0))
    if not (age.isdecimal() and int(age) <= OLDEST_LOGIN):
        raise OAuthError("invalid_request", f"auth_time must be an age of 0 to {OLDEST_LOGIN} seconds")
    named = {name: str(form[name]) for name in ("acr", "purpose") if form.get(name)}
    methods = str(form.get("amr", "")).split()
    return {"auth_time": int(time.time()) - int(age), **named} | ({"amr": methods} if methods else {})


def requested_lifetime(form: FormData) -> int:
    """The `lifetime` extension: tests need tokens that are about to expire, and some that live too long."""
    lifetime = str(form.get("lifetime", LIFETIME))
    if not (lifetime.isdecimal() and 1 <= int(lifetime) <= LONGEST_LIFETIME):
        raise OAuthError("invalid_request", f"lifetime must be 1 to {LONGEST_LIFETIME} seconds")
    return int(lifetime)


def basic_credentials(authorization: str) -> tuple[str, str]:
    """RFC 6749 section 2.3.1: both halves are form-encoded inside the Basic credentials."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        scheme = ""
    if scheme.lower() != "basic":
        raise OAuthError("invalid_client", "use HTTP Basic", status=401)
    return unquote_plus(user), unquote_plus(password)


def no_store(body: dict[str, Any], status: int = 200) -> JSONResponse:
    """Credentials must not stay in a cache (RFC 6749 section 5.1)."""
    return JSONResponse(body, status, headers=NO_STORE)


def no_store_redirect(location: str) -> RedirectResponse:
    """Likewise: there may be a code in it. 303, so that a form is not posted on."""
    return RedirectResponse(location, 303, headers=NO_STORE)


async def refuse(request: Request, error: Exception) -> Response:
    """An OAuth error response; a client that failed to authenticate is also told how."""
    assert isinstance(error, OAuthError)
    response = no_store({"error": error.code, "error_description": error.description}, error.status)
    if error.status == 401:
        response.headers["www-authenticate"] = 'Basic realm="token"'
    return response


def main() -> None:
    """Serve on loopback; there is deliberately no option for another address."""
    parser = argparse.ArgumentParser(description="Development identity provider. Never for production.")
    parser.add_argument("--port", type=int, default=10001)
    parser.add_argument("--resource", default="http://127.0.0.1:10000/mcp", help="audience when none is asked for")
    parser.add_argument("--approvals", default="http://127.0.0.1:10003", help="where the approval service is")
    arguments = parser.parse_args()
    provider = IdentityProvider(f"http://127.0.0.1:{arguments.port}", arguments.resource, arguments.approvals)
    uvicorn.run(provider.app(), host="127.0.0.1", port=arguments.port, log_level="warning")


if __name__ == "__main__":
    main()
