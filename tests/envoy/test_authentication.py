"""Who may knock: credentials, challenges and the metadata that leads to better ones (RFC 6750, RFC 9728)."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from support import messages, recorder
from support.gateway import Gateway
from support.http1 import Response, request
from support.issuer import RESOURCE, Issuer
from support.jose import ALGORITHMS, Key, base64url, compact, hmac_signed, pooled
from support.messages import Post
from support.policy import ORIGIN
from support.recorder import Recorder

METADATA_URL = "https://mcp.norg.example/.well-known/oauth-protected-resource/mcp"
METADATA_PATHS = ("/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp")
FIRST_CHALLENGE = {"scope": "contacts:read reports:read", "resource_metadata": METADATA_URL}
PING = messages.call("ping")


def assert_invalid_token(response: Response) -> dict[str, str]:
    """401 `invalid_token`, in the header and in the body alike."""
    assert response.status == 401
    challenge = response.challenge()
    assert challenge["error"] == "invalid_token"
    assert FIRST_CHALLENGE.items() <= challenge.items()
    assert response.json() == {"error": "invalid_token", "error_description": challenge["error_description"]}
    return challenge


# --- No token ---------------------------------------------------------------------------------------------------------

WITHOUT_CREDENTIAL = {
    "no-authorization": [],
    "basic": [("Authorization", "Basic YWxpY2U6c2VjcmV0")],
    "dpop": [("Authorization", "DPoP abc")],
    "empty": [("Authorization", "")],
    "scheme-glued-to-token": [("Authorization", "Bearerabc")],
    "token-in-another-header": [("X-Authorization", "Bearer abc"), ("Proxy-Authorization", "Bearer abc")],
}


@pytest.mark.parametrize("headers", WITHOUT_CREDENTIAL.values(), ids=WITHOUT_CREDENTIAL)
def test_a_request_without_token_learns_where_to_get_one(
    gateway: Gateway, upstream: Recorder, headers: list[tuple[str, str]]
) -> None:
    response = gateway.send(PING, None, *headers)
    assert response.status == 401
    # RFC 6750 section 3.1: no error code when no credential was sent.
    assert response.challenge() == FIRST_CHALLENGE
    assert upstream.saw_nothing()


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_streams_and_the_end_of_sessions_need_a_token_too(
    gateway: Gateway, upstream: Recorder, token: Callable[..., str], method: str
) -> None:
    stream = Post(b"", (("Accept", "text/event-stream"),), method)
    stream = stream.with_headers(("MCP-Protocol-Version", "2025-11-25"))
    assert gateway.send(stream).status == 401
    assert upstream.saw_nothing()
    assert gateway.send(stream, token()).status == 200
    assert upstream.only().method == method


def test_every_answer_of_the_gateway_carries_a_decision_id_of_its_own(gateway: Gateway) -> None:
    ids = [gateway.send(PING).header("x-toolgate-decision") for _ in range(5)]
    assert len(set(ids)) == 5
    assert all(decision and len(decision) == 32 and int(decision, 16) for decision in ids)


# --- Malformed --------------------------------------------------------------------------------------------------------

MALFORMED: dict[str, list[tuple[str, str | bytes]]] = {
    "no-token-after-scheme": [("Authorization", "Bearer")],
    "two-words": [("Authorization", "Bearer a b")],
    "two-tokens-joined": [("Authorization", "Bearer a,Bearer b")],
    "repeated": [("Authorization", "Bearer a"), ("Authorization", "Bearer a")],
    "repeated-other-case": [("authorization", "Bearer a"), ("AUTHORIZATION", "Basic b")],
    "quoted": [("Authorization", 'Bearer "a"')],
    "not-ascii": [("Authorization", b"Bearer caf\xe9")],
    "invalid-utf-8": [("Authorization", b"Bearer \xff\xfe")],
    "only-padding": [("Authorization", "Bearer ==")],
    "too-long": [("Authorization", f"Bearer {'a' * 16_385}")],
}


@pytest.mark.parametrize("headers", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_credential_is_an_invalid_request(
    gateway: Gateway, upstream: Recorder, headers: list[tuple[str, str | bytes]]
) -> None:
    response = gateway.send(PING, None, *headers)
    assert response.status == 400
    assert response.challenge()["error"] == "invalid_request"
    assert upstream.saw_nothing()


def test_a_good_token_beside_a_second_one_is_refused(
    gateway: Gateway, upstream: Recorder, token: Callable[..., str]
) -> None:
    response = gateway.send(PING, token(), ("Authorization", f"Bearer {token()}"))
    assert (response.status, response.challenge()["error"]) == (400, "invalid_request")
    assert upstream.saw_nothing()


@pytest.mark.parametrize("name", ["access_token", "ACCESS_TOKEN", "%61ccess%5Ftoken"])
def test_a_token_in_the_query_is_refused_even_beside_a_good_one(
    gateway: Gateway, upstream: Recorder, token: Callable[..., str], name: str
) -> None:
    in_query = Post(PING.body, PING.headers, target=f"/mcp?a=1&{name}={token()}")
    for credential in (None, token()):
        response = gateway.send(in_query, credential)
        assert (response.status, response.challenge()["error"]) == (400, "invalid_request")
    assert upstream.saw_nothing()


# --- Good and forged tokens -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_every_configured_algorithm_is_accepted(gateway: Gateway, upstream: Recorder, issuer: Issuer, alg: str) -> None:
    assert gateway.send(PING, issuer.token(key=pooled(alg))).status == 200
    assert upstream.only().header("x-toolgate-subject") == "alice"


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_one_flipped_bit_of_any_signature_is_noticed(
    gateway: Gateway, upstream: Recorder, issuer: Issuer, alg: str
) -> None:
    signed, _, signature = issuer.token(key=pooled(alg)).rpartition(".")
    flipped = ("B" if signature[5] == "A" else "A") + signature[6:]
    assert_invalid_token(gateway.send(PING, f"{signed}.{signature[:5]}{flipped}"))
    assert upstream.saw_nothing()


@pytest.mark.parametrize("typ", ["at+jwt", "application/at+jwt", "AT+JWT", "JWT", None])
def test_the_types_of_access_tokens_are_accepted(gateway: Gateway, token: Callable[..., str], typ: str | None) -> None:
    assert gateway.send(PING, token(header={"typ": typ})).status == 200


def test_a_token_for_several_resources_is_accepted_when_this_is_one(
    gateway: Gateway, token: Callable[..., str]
) -> None:
    assert gateway.send(PING, token(aud=["https://other.example", RESOURCE])).status == 200


def forged(issuer: Issuer) -> dict[str, str]:
    """Tokens that must not be accepted, each for one reason."""
    now = int(time.time())
    key, rsa_key = issuer.keys[0], pooled("RS256")
    stranger = Key.generate("ES256", key.kid)
    header = {"alg": key.alg, "typ": "at+jwt", "kid": key.kid}
    claims, good = issuer.claims(), issuer.token()
    first, second, third = good.split(".")
    public_key = json.dumps(rsa_key.jwk()).encode()
    return {
        "not-a-jwt": "opaque-reference-token",
        "unsigned": compact({"alg": "none", "typ": "at+jwt"}, claims, None),
        "unsigned-in-capitals": compact({"alg": "None", "kid": key.kid}, claims, None),
        "signature-cut-off": f"{first}.{second}.",
        "hmac-with-public-key": hmac_signed({"alg": "HS256", "kid": rsa_key.kid}, claims, public_key),
        "unknown-algorithm": compact(header | {"alg": "ES256K"}, claims, key),
        "key-of-somebody-else": issuer.token(key=stranger),
        "algorithm-of-another-key": issuer.token(key=rsa_key, header={"kid": key.kid}),
        "rsa-key-with-other-hash": issuer.token(key=rsa_key, alg="RS512"),
        "pss-with-the-key-for-pkcs1": issuer.token(key=rsa_key, alg="PS256"),
        "brings-its-own-key": compact(header | {"jwk": stranger.jwk()}, claims, stranger),
        "points-to-its-own-key": compact(header | {"jku": "https://evil.example/jwks"}, claims, stranger),
        "kid-with-path": compact(header | {"kid": "../../etc/passwd"}, claims, stranger),
        "critical-extension": compact(header | {"crit": ["exp"], "exp": now}, claims, key),
        "unencoded-payload": compact(header | {"b64": False, "crit": ["b64"]}, claims, key),
        "id-token-type": issuer.token(header={"typ": "id+jwt"}),
        "id-jag": issuer.token(header={"typ": "oauth-id-jag+jwt"}),
        "dpop-proof-type": issuer.token(header={"typ": "dpop+jwt"}),
        "nested": issuer.token(header={"cty": "JWT"}),
        "header-with-duplicates": compact(f'{{"alg":"none","alg":"ES256","kid":"{key.kid}"}}'.encode(), claims, key),
        "claims-with-duplicates": compact(header, b'{"sub":"root",' + json.dumps(claims)[1:].encode(), key),
        "claims-not-an-object": compact(header, b"[]", key),
        "claims-not-json": compact(header, b"{", key),
        "padding": f"{first}.{second}.{third}=",
        "four-parts": f"{good}.AAAA",
        "encrypted": f"{first}.AAAA.AAAA.AAAA.AAAA",
        "untrusted-issuer": issuer.token(iss="https://evil.example"),
        "issuer-with-slash": issuer.token(iss=f"{issuer.name}/"),
        "no-issuer": issuer.token(iss=None),
        "other-audience": issuer.token(aud="https://other.example/mcp"),
        "audience-prefix": issuer.token(aud=f"{RESOURCE}/more"),
        "audience-of-origin": issuer.token(aud="https://mcp.norg.example"),
        "no-audience": issuer.token(aud=None),
        "audience-not-text": issuer.token(aud={"is": RESOURCE}),
        "expired": issuer.token(iat=now - 120, exp=now - 60),
        "no-expiry": issuer.token(exp=None),
        "expiry-as-text": issuer.token(exp=str(now + 60)),
        "no-issue-time": issuer.token(iat=None),
        "not-yet-valid": issuer.token(nbf=now + 120),
        "from-the-future": issuer.token(iat=now + 120, exp=now + 300),
        "lives-too-long": issuer.token(exp=now + 2 * 3600),
        "no-subject": issuer.token(sub=None),
        "subject-not-text": issuer.token(sub=7),
        "subject-with-newline": issuer.token(sub="alice\nbob"),
        "bound-to-a-key": issuer.token(cnf={"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}),
        "scopes-not-text": issuer.token(scope=7),
        "refused-scope": issuer.token("contacts:read", "full_access"),
    }


FORGED = tuple(forged(Issuer(listen=False)))


@pytest.mark.parametrize("name", FORGED)
def test_a_token_that_is_not_good_in_every_respect_is_refused(
    gateway: Gateway, upstream: Recorder, issuer: Issuer, name: str
) -> None:
    forgery = forged(issuer)[name]
    challenge = assert_invalid_token(gateway.send(PING, forgery))
    # The description is for people and for logs: nothing of the token may be in it.
    assert not any(part and part in challenge["error_description"] for part in forgery.split("."))
    assert upstream.saw_nothing()


def test_a_good_token_does_not_open_the_door_for_a_forged_copy(gateway: Gateway, issuer: Issuer) -> None:
    """Verified tokens are remembered: by the whole text, not by what an attacker can keep."""
    good = issuer.token("contacts:read")
    assert gateway.send(PING, good).status == 200
    header, _, signature = good.split(".")
    promoted = base64url(json.dumps(issuer.claims("crm:delete", sub="root")).encode())
    assert_invalid_token(gateway.send(PING, f"{header}.{promoted}.{signature}"))


def test_a_token_stops_working_when_it_expires(gateway: Gateway, issuer: Issuer) -> None:
    """The clock skew of 30 seconds is all that an expired token gets, remembered or not."""
    now = int(time.time())
    dying = issuer.token(iat=now - 60, exp=now - 27)
    assert gateway.send(PING, dying).status == 200
    time.sleep(4.5)
    assert_invalid_token(gateway.send(PING, dying))


# --- Metadata and pages -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", METADATA_PATHS)
def test_the_metadata_document_is_public(gateway: Gateway, upstream: Recorder, issuer: Issuer, path: str) -> None:
    response = request(gateway.port, "GET", path, [("Origin", "https://any.example")])
    assert response.status == 200
    assert response.header("access-control-allow-origin") == "*"
    assert response.json() == {
        "resource": RESOURCE,
        "resource_name": "Tools under test",
        "authorization_servers": [issuer.name],
        "scopes_supported": ["contacts:read", "reports:read"],
        "bearer_methods_supported": ["header"],
    }
    assert upstream.saw_nothing()


@pytest.mark.parametrize("path", METADATA_PATHS)
@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("OPTIONS", 204), ("POST", 405), ("PUT", 405)])
def test_other_methods_on_the_metadata_document(
    gateway: Gateway, upstream: Recorder, path: str, method: str, status: int
) -> None:
    response = request(gateway.port, method, path, [("Origin", ORIGIN)])
    assert (response.status, response.body) == (status, b"")
    assert upstream.saw_nothing()


def test_no_other_well_known_document_is_served_from_the_upstream(gateway: Gateway, upstream: Recorder) -> None:
    for path in ("/.well-known/oauth-authorization-server", "/.well-known/oauth-protected-resource/other"):
        assert request(gateway.port, "GET", path, []).status == 404
    assert upstream.saw_nothing()


def test_a_page_of_an_allowed_origin_may_ask_call_and_read_the_answer(
    gateway: Gateway, upstream: Recorder, token: Callable[..., str]
) -> None:
    wish = [("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", "authorization")]
    preflight = request(gateway.port, "OPTIONS", "/mcp", [("Origin", ORIGIN), *wish])
    assert preflight.status == 204
    assert preflight.header("access-control-allow-origin") == ORIGIN
    assert "authorization" in (preflight.header("access-control-allow-headers") or "")
    assert upstream.saw_nothing()
    with upstream.replying(recorder.answer(200, b"{}", {"access-control-allow-origin": "*"})):
        answer = gateway.send(PING, token(), ("Origin", ORIGIN))
    assert answer.header("access-control-allow-origin") == ORIGIN
    assert "www-authenticate" in (answer.header("access-control-expose-headers") or "")
    refusal = gateway.send(PING, None, ("Origin", ORIGIN))
    assert refusal.header("access-control-allow-origin") == ORIGIN


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://app.norg.example.evil.example", ""])
def test_a_page_of_another_origin_is_turned_away_before_its_token_is_looked_at(
    gateway: Gateway, upstream: Recorder, token: Callable[..., str], origin: str
) -> None:
    response = gateway.send(PING, token(), ("Origin", origin))
    assert response.status == 403
    assert response.header("access-control-allow-origin") is None
    assert upstream.saw_nothing()


# --- The upstream's own challenge -------------------------------------------------------------------------------------


def test_a_challenge_of_the_upstream_never_reaches_the_client(
    gateway: Gateway, upstream: Recorder, token: Callable[..., str]
) -> None:
    """It would send the client, with its credentials, to an authorization server that the gateway does not know."""
    evil = {"www-authenticate": 'Bearer resource_metadata="https://evil.example/"', "x-toolgate-decision": "forged"}
    with upstream.replying(recorder.answer(401, b'{"secret":1}', evil)):
        response = gateway.send(PING, token())
    assert response.status == 502
    assert response.header("www-authenticate") is None
    assert response.error()["code"] == -33003
    assert b"secret" not in response.body
    assert response.header("x-toolgate-decision") != "forged"


def test_a_challenge_beside_another_status_is_taken_out(
    gateway: Gateway, upstream: Recorder, token: Callable[..., str]
) -> None:
    with upstream.replying(recorder.answer(403, b"{}", {"www-authenticate": "Bearer", "x-other": "kept"})):
        response = gateway.send(PING, token())
    assert response.status == 403
    assert response.header("www-authenticate") is None
    assert response.header("x-other") == "kept"


def test_the_token_is_found_whatever_the_case_of_its_scheme(gateway: Gateway, token: Callable[..., Any]) -> None:
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert gateway.send(PING, None, ("Authorization", f"{scheme}  {token()}")).status == 200
