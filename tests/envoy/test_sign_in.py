"""Signing in at the demo's identity provider: what OpenID Connect and PKCE ask of it, and what it must not do."""

import html
import json
import re
import secrets
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import stack
from joserfc import jwt
from joserfc.jwk import KeySet
from sign_in import challenge_of
from stack import LOOPBACK, Address, Ports, Stack

from support.demo import TOKEN_EXCHANGE, get_json, post_form
from support.gateway import free_port

Form = dict[str, str]


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects are looked at and not followed."""

    def redirect_request(self, *_: Any) -> None:
        """None: it becomes an error, which has the headers."""


def open_url(url: str, form: Form | None = None) -> tuple[int, Any, str]:
    """Status, headers and text of an answer."""
    body = urllib.parse.urlencode(form).encode() if form is not None else None
    try:
        with urllib.request.build_opener(NoRedirect).open(url, body, timeout=10) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()


@dataclass(frozen=True)
class Provider:
    """The running identity provider, as the page of the approval service uses it."""

    ports: Ports

    @property
    def redirect_uri(self) -> str:
        """Of the page."""
        return f"{self.ports.approvals_url}/callback"

    def asking(self, verifier: str, **changes: str) -> Form:
        """What the page sends people with."""
        return {
            "client_id": "approvals",
            "redirect_uri": self.redirect_uri,
            "response_type": "code",
            "scope": "openid profile",
            "state": "of <the> page",
            "nonce": "n-1",
            "code_challenge": challenge_of(verifier),
            "code_challenge_method": "S256",
        } | changes

    def sign_in(self, person: str, verifier: str, **changes: str) -> Form:
        """What the page gets when somebody has signed in."""
        asking = {**self.asking(verifier), **changes}
        status, headers, _ = open_url(f"{self.ports.issuer}/authorize", asking | {"person": person})
        assert status == 303, status
        assert headers["location"].startswith(f"{self.redirect_uri}?")
        return query_of(headers["location"])

    def redeeming(self, code: str, verifier: str) -> Form:
        """What the page asks for with a code."""
        return {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "client_id": "approvals",
            "code_verifier": verifier,
        }

    def token(self, form: Form) -> tuple[int, dict[str, Any]]:
        """An answer of the token endpoint to a public client."""
        status, headers, text = open_url(f"{self.ports.issuer}/token", form)
        assert headers["cache-control"] == "no-store"
        return status, json.loads(text)

    def claims(self, token: str) -> dict[str, Any]:
        """The claims, once the signature is verified with the published keys."""
        keys = KeySet.import_key_set(get_json(f"{self.ports.issuer}/jwks"))  # type: ignore[arg-type]
        return jwt.decode(token, keys, algorithms=["RS256", "ES256", "EdDSA"]).claims


def query_of(location: str) -> Form:
    """The parameters of a redirect, each of which is there once."""
    pairs = urllib.parse.parse_qsl(urllib.parse.urlsplit(location).query, strict_parsing=True)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """The identity provider alone: nobody listens where it sends people to."""
    ports = Ports(*(free_port() for _ in range(5)))
    with Stack(tmp_path_factory.mktemp("provider")) as children:
        children.start("identity-provider", stack.identity_provider_command(ports, "http://127.0.0.1/mcp"))
        address = Address(LOOPBACK, ports.identity_provider)
        children.wait_until("the identity provider listens", lambda: stack.listening(address))
        yield Provider(ports)


@pytest.fixture
def verifier() -> str:
    """A verifier as clients make them."""
    return secrets.token_urlsafe(32)


def test_the_discovery_document_says_what_there_is(provider: Provider) -> None:
    issuer = provider.ports.issuer
    found = get_json(f"{issuer}/.well-known/openid-configuration")
    assert found["issuer"] == issuer
    assert (found["authorization_endpoint"], found["token_endpoint"]) == (f"{issuer}/authorize", f"{issuer}/token")
    assert found["response_types_supported"] == ["code"]
    assert found["code_challenge_methods_supported"] == ["S256"]
    assert "authorization_code" in found["grant_types_supported"]
    assert "openid" in found["scopes_supported"]


def test_a_person_signs_in(provider: Provider, verifier: str) -> None:
    asking = provider.asking(verifier)
    status, headers, page = open_url(f"{provider.ports.issuer}/authorize?{urllib.parse.urlencode(asking)}")
    assert (status, headers["cache-control"]) == (200, "no-store")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    fields = {name: html.unescape(value) for name, value in re.findall(r'name="(\w+)" value="([^"]*)">\n', page)}
    assert fields == asking and "<the>" not in page
    people = re.findall(r'name="person" value="([^"]*)"', page)
    assert people == list(get_json(f"{provider.ports.issuer}/dev/people"))

    answer = provider.sign_in("duty-manager", verifier)
    assert set(answer) == {"code", "state", "iss"}
    assert (answer["state"], answer["iss"]) == ("of <the> page", provider.ports.issuer)
    status, tokens = provider.token(provider.redeeming(answer["code"], verifier))
    assert (status, tokens["token_type"], tokens["scope"]) == (200, "Bearer", "openid profile")
    who = provider.claims(tokens["id_token"])
    assert (who["iss"], who["aud"], who["sub"]) == (provider.ports.issuer, "approvals", "duty-manager")
    assert (who["nonce"], who["roles"], who["name"]) == ("n-1", ["approvers"], "Duty manager")
    assert who["groups"] == ["/norg/operations/duty"]
    assert who["auth_time"] <= who["iat"] < who["exp"]
    access = provider.claims(tokens["access_token"])
    assert (access["client_id"], access["aud"]) == ("approvals", provider.ports.approvals_url)


def test_a_code_is_good_once(provider: Provider, verifier: str) -> None:
    code = provider.sign_in("duty-manager", verifier)["code"]
    assert provider.token(provider.redeeming(code, verifier))[0] == 200
    status, refusal = provider.token(provider.redeeming(code, verifier))
    assert (status, refusal["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": "x" * 43},
        {"code_verifier": ""},
        {"redirect_uri": "http://127.0.0.1:1/callback"},
        {"client_id": "approvals-cli"},
        {"code": "another"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_code_is_bound_to_client_redirect_and_challenge(provider: Provider, verifier: str, changes: Form) -> None:
    code = provider.sign_in("duty-manager", verifier)["code"]
    status, refusal = provider.token(provider.redeeming(code, verifier) | changes)
    assert (status, refusal["error"]) == (400, "invalid_grant")
    if "code" not in changes:
        # It was tried, so it is used up.
        assert provider.token(provider.redeeming(code, verifier))[0] == 400


@pytest.mark.parametrize("changes", [{"redirect_uri": "http://evil.example/callback"}, {"client_id": "demo-full"}])
def test_nobody_is_sent_to_an_unknown_place(provider: Provider, verifier: str, changes: Form) -> None:
    asking = provider.asking(verifier, **changes)
    for form in (None, asking | {"person": "duty-manager"}):
        query = "" if form else f"?{urllib.parse.urlencode(asking)}"
        status, headers, _ = open_url(f"{provider.ports.issuer}/authorize{query}", form)
        assert (status, headers["location"]) == (400, None)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "profile"}, "invalid_scope"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": ""}, "invalid_request"),
    ],
)
def test_what_cannot_be_done_is_said_to_the_client(
    provider: Provider, verifier: str, changes: Form, error: str
) -> None:
    answer = provider.sign_in("duty-manager", verifier, **changes)
    assert (answer["error"], answer["state"], "code" in answer) == (error, "of <the> page", False)


def test_whom_it_does_not_know_it_does_not_sign_in(provider: Provider, verifier: str) -> None:
    form = provider.asking(verifier) | {"person": "nobody"}
    status, headers, _ = open_url(f"{provider.ports.issuer}/authorize", form)
    assert (status, headers["location"]) == (200, None)


def test_the_tokens_of_a_sign_in_are_no_logins(provider: Provider, verifier: str) -> None:
    """Neither of them can be exchanged for a token of an agent."""
    code = provider.sign_in("administrator", verifier)["code"]
    _, tokens = provider.token(provider.redeeming(code, verifier))
    client = get_json(f"{provider.ports.issuer}/dev/clients")["full-automation-agent"]
    kinds = {"id_token": "jwt", "access_token": "access_token"}
    for name, kind in kinds.items():
        form = {
            "grant_type": TOKEN_EXCHANGE,
            "subject_token": tokens[name],
            "subject_token_type": f"urn:ietf:params:oauth:token-type:{kind}",
        }
        with pytest.raises(urllib.error.HTTPError) as refused:
            post_form(f"{provider.ports.issuer}/token", form, client["client_id"], client["client_secret"])
        refused.value.close()
        assert refused.value.code == 400


def test_the_command_line_of_approvers_is_the_person(provider: Provider) -> None:
    """No agent acts in its tokens, and they are for the approval service."""
    issuer = provider.ports.issuer
    clients = get_json(f"{issuer}/dev/clients")
    login = post_form(f"{issuer}/dev/login", {"person": "duty-manager"}, "", "")
    form = {"grant_type": TOKEN_EXCHANGE} | {name: login[name] for name in ("subject_token", "subject_token_type")}

    def claims_of(name: str) -> dict[str, Any]:
        client = clients[name]
        answer = post_form(f"{issuer}/token", form, client["client_id"], client["client_secret"])
        return provider.claims(answer["access_token"])

    own, agents = claims_of("approvals-cli"), claims_of("full-automation-agent")
    assert (own["client_id"], own["aud"]) == ("approvals-cli", provider.ports.approvals_url)
    assert (own["sub"], own["roles"]) == ("duty-manager", ["approvers"])
    assert "act" not in own and agents["act"] == {"sub": "demo-full-automation-agent"}
