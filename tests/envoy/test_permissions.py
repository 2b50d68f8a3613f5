"""Decisions by sides on a real Envoy: permissions, sources, step-up, revocation, and what the upstream is told."""

import datetime
import http.client
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from conftest import NewGateway
from support import messages
from support.gateway import Document, Gateway, bearer, manager_of
from support.http1 import Connection, Headers, Response, head, request
from support.issuer import RESOURCE, Issuer
from support.policy import ORIGIN, policy

PERMISSIONS = "/.well-known/toolgate-permissions/mcp"
DESK = "spiffe://norg.test/desk"
CHALLENGED = {"resource_metadata": "/.well-known/oauth-protected-resource/mcp".join(RESOURCE.rsplit("/mcp", 1))}

SIDES: dict[str, Any] = {
    "scopes": {"read": {"risk": "low"}, "write": {"risk": "medium"}},
    "operators": {
        "reader": {"match": {"roles": ["readers"]}, "scopes": ["read"]},
        "writer": {"match": {"groups": ["/crm/*"]}, "scopes": ["read", "write"]},
    },
    "agents": {"reading": {"scopes": ["read"]}, "writing": {"scopes": ["*"], "approval": {"scopes": ["write"]}}},
    "clients": {
        "desk": {"agent": "reading"},
        "bot": {"agent": "writing"},
        "local": {"agent": "reading", "source": {"cidrs": ["127.0.0.0/8", "10.1.0.0/16"]}},
        "inside": {"agent": "reading", "source": {"cidrs": ["10.0.0.0/8"]}},
        "mesh": {"agent": "reading", "source": {"uri_sans": [DESK]}},
        "host": {"agent": "reading", "source": {"dns_sans": ["desk.norg.test"]}},
    },
    "revocation": {"token_ids": ["cut-off"], "subjects": [{"subject": "eve"}]},
    "refused_scopes": [],
    "rules": [
        {"tools": ["read"], "scopes": ["read"]},
        {"tools": ["write"], "scopes": ["write"]},
        {"tools": ["strong"], "scopes": ["read"], "authentication": {"acr": ["mfa", "phrh"], "max_age": "15m"}},
        {"tools": ["look"], "scopes": ["read"], "tenant_argument": "/tenant_id"},
    ],
}


@pytest.fixture(scope="module")
def gateway(start_gateway: NewGateway, issuer: Issuer) -> Gateway:
    return start_gateway(policy(issuer, **SIDES), issuer)


@pytest.fixture(scope="module")
def concealing(start_gateway: NewGateway, issuer: Issuer) -> Gateway:
    return start_gateway(policy(issuer, **SIDES, refusals="concealed"), issuer)


def token_of(issuer: Issuer, client: str = "desk", **claims: Any) -> str:
    """A token that may do everything but for these claims."""
    scopes = claims.pop("scopes", ("read", "write"))
    return issuer.token(*scopes, client_id=client, **{"roles": ["readers"], "groups": ["/crm/sales"]} | claims)


def ask(gateway: Gateway, token: str | None, *headers: tuple[str, str | bytes], method: str = "GET", query: str = "") -> Response:
    return request(gateway.port, method, PERMISSIONS + query, [*bearer(token), *headers])


def failing(response: Response) -> list[str]:
    """The sides of a refusal, with their reasons."""
    assert response.status == 403, response
    return [f"{side['side']}:{side['reason']}" for side in response.error()["data"]["failing_sides"]]


# --- Permissions ------------------------------------------------------------------------------------------------------


def test_permissions_need_a_token(gateway: Gateway, issuer: Issuer) -> None:
    response = ask(gateway, None)
    assert (response.status, response.challenge()) == (401, CHALLENGED | {"scope": "read"})
    response = ask(gateway, token_of(issuer, lifetime=-60, iat=1))
    assert (response.status, response.challenge()["error"]) == (401, "invalid_token")
    assert ask(gateway, None, query=f"?access_token={token_of(issuer)}").status == 400
    assert ask(gateway, token_of(issuer), query="?x=1").status == 400


def test_each_caller_is_told_its_own_permissions(gateway: Gateway, issuer: Issuer) -> None:
    told = ask(gateway, token_of(issuer, sub="ann", tenant_id="acme")).json()
    known = {name: told[name] for name in ("issuer", "subject", "client", "tenant", "agent", "roles", "scopes")}
    assert known == {
        "issuer": issuer.name,
        "subject": "ann",
        "client": "desk",
        "tenant": "acme",
        "agent": "reading",
        "roles": ["reader", "writer"],
        "scopes": ["read", "write"],
    }
    step_up = {"step_up": {"acr_values": ["mfa", "phrh"], "max_age": 900}}
    assert told["tools"] == [{"name": "look"}, {"name": "read"}, {"name": "strong", "duties": step_up}]
    missing = {"side": "agent", "reason": "missing_scopes", "missing_scopes": ["write"]}
    assert told["unavailable"] == [{"tool": "write", "needs": [missing]}]
    assert (told["objections"], told["truncated"]) == ([], False)

    told = ask(gateway, token_of(issuer, "bot")).json()
    assert {"name": "write", "duties": {"approval": "required"}} in told["tools"]
    assert [entry["tool"] for entry in told["unavailable"]] == ["look"], "a caller without a tenant has nothing there"

    told = ask(gateway, token_of(issuer, "other", roles=[], groups=[])).json()
    reasons = [f"{objection['side']}:{objection['reason']}" for objection in told["objections"]]
    assert reasons == ["person:no_role", "agent:no_agent_role", "client:unknown_client"]
    assert told["tools"] == []


def test_permissions_are_the_callers_and_nobody_keeps_them(gateway: Gateway, issuer: Issuer) -> None:
    gateway.upstream.forget()
    response = ask(gateway, token_of(issuer))
    assert (response.status, response.header("cache-control")) == (200, "no-store")
    assert response.header("x-toolgate-decision")
    assert gateway.upstream.saw_nothing()


def test_a_tool_that_is_told_is_a_tool_that_may_be_called(gateway: Gateway, issuer: Issuer) -> None:
    for token in (token_of(issuer), token_of(issuer, scopes=("write",)), token_of(issuer, roles=["readers"], groups=[])):
        told = {entry["name"] for entry in ask(gateway, token).json()["tools"] if "duties" not in entry}
        called = {tool for tool in ("read", "write") if gateway.send(messages.call(tool), token).status == 200}
        assert called == told & {"read", "write"}


def test_concealed_refusals_conceal_here_too(concealing: Gateway, issuer: Issuer) -> None:
    response = ask(concealing, token_of(issuer, scopes=("read",)))
    assert "unavailable" not in response.json()
    assert b'"write"' not in response.body
    assert b'"read"' in response.body


def test_permissions_are_read_only(gateway: Gateway, issuer: Issuer) -> None:
    for method in ("POST", "PUT", "DELETE", "HEAD"):
        response = ask(gateway, token_of(issuer), method=method)
        assert (response.status, response.header("allow")) == (405, "GET"), method


def test_pages_of_allowed_origins_may_ask(gateway: Gateway, issuer: Issuer) -> None:
    response = ask(gateway, token_of(issuer), ("Origin", ORIGIN))
    assert (response.status, response.header("access-control-allow-origin")) == (200, ORIGIN)
    wanted = (("Access-Control-Request-Method", "GET"), ("Access-Control-Request-Headers", "authorization"))
    preflight = ask(gateway, None, ("Origin", ORIGIN), *wanted, method="OPTIONS")
    assert (preflight.status, preflight.header("access-control-allow-origin")) == (204, ORIGIN)
    response = ask(gateway, token_of(issuer), ("Origin", "https://evil.example"))
    assert (response.status, response.header("access-control-allow-origin")) == (403, None)


def test_who_asks_first_waits_for_the_keys(start_gateway: NewGateway) -> None:
    issuer = Issuer()
    issuer.gate.clear()
    gateway = start_gateway(policy(issuer, **SIDES), issuer)
    issuer.wait_for_fetches(1)
    with Connection(gateway.port) as connection:
        fields: Headers = [("Host", f"127.0.0.1:{gateway.port}"), *bearer(token_of(issuer))]
        connection.send(head("GET", PERMISSIONS, fields))
        issuer.gate.set()
        response = connection.response("GET")
    assert (response.status, response.json()["client"]) == (200, "desk")


# --- Refusals ---------------------------------------------------------------------------------------------------------


def test_every_failing_side_is_named_to_the_client_and_in_the_log(gateway: Gateway, issuer: Issuer) -> None:
    token = token_of(issuer, scopes=("read",), groups=[])
    logged = len(gateway.logged(0))
    response = gateway.send(messages.call("write"), token)
    assert failing(response) == ["token:missing_scopes", "person:missing_scopes", "agent:missing_scopes"]
    assert response.header("www-authenticate") is None, "another token would not help"
    lines = gateway.logged(logged + 1)
    assert "not_permitted{token,person,agent}" in [line["details"] for line in lines]


def test_a_step_up_challenge_tells_the_client_how_to_authenticate(gateway: Gateway, issuer: Issuer) -> None:
    response = gateway.send(messages.call("strong"), token_of(issuer))
    assert response.status == 401
    challenge = response.challenge()
    assert challenge.pop("error_description")
    expected = {"error": "insufficient_user_authentication", "acr_values": "mfa phrh", "max_age": "900"}
    assert challenge == CHALLENGED | expected
    assert response.error()["code"] == -33004
    now = issuer.claims()["iat"]
    assert gateway.send(messages.call("strong"), token_of(issuer, acr="mfa", auth_time=now - 60)).status == 200
    assert gateway.send(messages.call("strong"), token_of(issuer, acr="mfa", auth_time=now - 1000)).status == 401
    assert gateway.send(messages.call("strong"), token_of(issuer, acr="pwd", auth_time=now - 60)).status == 401


@pytest.mark.parametrize("name", ["gateway", "concealing"])
def test_a_token_that_was_cut_off_is_not_valid(request: pytest.FixtureRequest, issuer: Issuer, name: str) -> None:
    running: Gateway = request.getfixturevalue(name)
    token = token_of(issuer, jti="cut-off")
    for response in (running.send(messages.call("read"), token), ask(running, token)):
        assert (response.status, response.challenge()["error"]) == (401, "invalid_token")
    assert running.send(messages.call("read"), token_of(issuer, jti="another")).status == 200


def test_a_subject_that_was_cut_off_cannot_even_listen_to_nothing(gateway: Gateway, issuer: Issuer) -> None:
    token = token_of(issuer, sub="eve")
    nothing = messages.stateless("subscriptions/listen", {"notifications": {"resourceSubscriptions": []}})
    for post in (messages.call("read"), messages.stateless("tools/list"), nothing):
        assert failing(gateway.send(post, token)) == ["person:revoked"]


def test_hidden_and_unknown_tools_are_answered_alike(concealing: Gateway, issuer: Issuer) -> None:
    token = token_of(issuer, scopes=("read",))
    hidden, unknown = (concealing.send(messages.call(tool), token) for tool in ("write", "other"))
    assert hidden.status == unknown.status == 200
    assert hidden.body.replace(b"write", b"other") == unknown.body

    def names(response: Response) -> list[str]:
        return [name for name, _ in response.headers]

    assert names(hidden) == names(unknown)


# --- What the upstream is told ----------------------------------------------------------------------------------------


def test_the_upstream_learns_agent_roles_and_tenant_from_the_gateway_only(gateway: Gateway, issuer: Issuer) -> None:
    names = ("agent", "roles", "tenant")
    forged: Headers = [(f"{prefix}{name}", "root") for prefix in ("X-Toolgate-", "x-toolgate-") for name in names]
    gateway.upstream.forget()
    assert gateway.send(messages.call("read"), token_of(issuer, tenant_id="acme"), *forged).status == 200
    seen = gateway.upstream.only()
    told = {name: seen.all(f"x-toolgate-{name}") for name in names}
    assert told == {"agent": [b"reading"], "roles": [b"reader writer"], "tenant": [b"acme"]}
    assert b"root" not in gateway.upstream.raw

    gateway.upstream.forget()
    assert gateway.send(messages.call("read"), token_of(issuer), *forged).status == 200
    assert gateway.upstream.only().all("x-toolgate-tenant") == []
    assert b"root" not in gateway.upstream.raw


# --- Sources ----------------------------------------------------------------------------------------------------------


def test_a_client_may_call_from_its_networks_only(gateway: Gateway, issuer: Issuer) -> None:
    assert gateway.send(messages.call("read"), token_of(issuer, "local")).status == 200
    for forged in ((), (("X-Forwarded-For", "10.1.2.3"),), (("X-Envoy-External-Address", "10.1.2.3"),)):
        response = gateway.send(messages.call("read"), token_of(issuer, "inside"), *forged)
        assert failing(response) == ["client:other_source"]
    told = ask(gateway, token_of(issuer, "inside")).json()
    assert told["objections"] == [{"side": "client", "reason": "other_source"}]


def test_behind_a_trusted_proxy_its_word_counts(start_gateway: NewGateway, issuer: Issuer) -> None:
    def trusting(listener: Document) -> None:
        manager_of(listener)["xff_num_trusted_hops"] = 1

    gateway = start_gateway(policy(issuer, **SIDES), issuer, adjust=trusting)
    for address, status in (("10.1.2.3", 200), ("11.1.2.3", 403), ("10.1.2.3, 11.1.2.3", 403), ("not an address", 403)):
        response = gateway.send(messages.call("read"), token_of(issuer, "inside"), ("X-Forwarded-For", address))
        assert response.status == status, address


@pytest.mark.parametrize("client", ["mesh", "host"])
def test_without_tls_there_is_no_certificate(gateway: Gateway, issuer: Issuer, client: str) -> None:
    forged = ("X-Forwarded-Client-Cert", f"By=x;Hash=x;URI={DESK};DNS=desk.norg.test")
    for headers in ((), (forged,)):
        response = gateway.send(messages.call("read"), token_of(issuer, client), *headers)
        assert failing(response) == ["client:other_source"]


@dataclass(frozen=True)
class Authority:
    """A certificate authority, and the certificates that it issues."""

    directory: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def new(cls, directory: Path, name: str) -> "Authority":
        """An authority with a key of its own."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = certificate_builder(subject, subject, key).add_extension(x509.BasicConstraints(True, None), True)
        authority = cls(directory, key, builder.sign(key, hashes.SHA256()))
        (directory / f"{name}.pem").write_bytes(authority.certificate.public_bytes(serialization.Encoding.PEM))
        return authority

    def issue(self, name: str, *names: x509.GeneralName) -> tuple[Path, Path]:
        """Files with a certificate for these names and with its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = certificate_builder(subject, self.certificate.subject, key)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        certificate, secret = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        certificate.write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        no_password = serialization.NoEncryption()
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, no_password)
        secret.write_bytes(key.private_bytes(*form))
        return certificate, secret


def certificate_builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    hour = datetime.timedelta(hours=1)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    return builder.serial_number(x509.random_serial_number()).not_valid_before(now - hour).not_valid_after(now + hour)


SendWith = Callable[[str, "tuple[Path, Path] | None"], Response]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.new(tmp_path_factory.mktemp("tls"), "authority")


@pytest.fixture(scope="module")
def over_tls(start_gateway: NewGateway, issuer: Issuer, authority: Authority) -> Iterator[SendWith]:
    """Sends a call to a gateway that asks for client certificates and does not insist."""
    chain, key = authority.issue("gateway", x509.DNSName("gateway.test"))

    def with_tls(listener: Document) -> None:
        listener["filter_chains"][0]["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "require_client_certificate": False,
                "common_tls_context": {
                    "tls_certificates": [
                        {"certificate_chain": {"filename": str(chain)}, "private_key": {"filename": str(key)}}
                    ],
                    "validation_context": {"trusted_ca": {"filename": str(authority.directory / "authority.pem")}},
                },
            },
        }

    gateway = start_gateway(policy(issuer, **SIDES), issuer, adjust=with_tls, wait=False)

    def send(client: str, certificate: tuple[Path, Path] | None) -> Response:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(authority.directory / "authority.pem")
        if certificate:
            context.load_cert_chain(*certificate)
        post = messages.call("read")
        fields: Headers = [("Host", f"127.0.0.1:{gateway.port}"), *bearer(token_of(issuer, client)), *post.list()]
        fields.append(("Content-Length", str(len(post.body))))
        with Connection(gateway.port) as connection:
            connection.socket = context.wrap_socket(connection.socket, server_hostname="gateway.test")
            connection.send(head("POST", post.target, fields) + post.body)
            return connection.response()

    def answers() -> bool:
        try:
            return send("desk", None).status == 200
        except (OSError, http.client.HTTPException):
            return False

    gateway.envoy.wait_until("the gateway answers over TLS", answers)
    yield send


def test_a_client_may_call_with_the_certificate_that_names_it_only(over_tls: SendWith, authority: Authority) -> None:
    uri, dns = x509.UniformResourceIdentifier, x509.DNSName
    certificates = {
        "none": None,
        "desk": authority.issue("desk", uri(DESK)),
        "other": authority.issue("other", uri(f"{DESK}/2")),
        "host": authority.issue("host", dns("desk.norg.test")),
        "other host": authority.issue("other-host", dns("x.desk.norg.test")),
        "both": authority.issue("both", dns("desk.norg.test"), uri(DESK)),
        "nameless": authority.issue(DESK.rsplit("/", 1)[1] + "-nameless"),
        "uri as host": authority.issue("uri-as-host", dns(DESK.removeprefix("spiffe://"))),
    }
    fitting = {"desk": set(certificates), "mesh": {"desk", "both"}, "host": {"host", "both"}}
    for client, named in fitting.items():
        for name, certificate in certificates.items():
            response = over_tls(client, certificate)
            assert (response.status == 200) == (name in named), f"{client} with {name}: {response}"
            if response.status != 200:
                assert failing(response) == ["client:other_source"]


def test_a_certificate_of_another_authority_is_none(over_tls: SendWith, tmp_path: Path) -> None:
    forged = Authority.new(tmp_path, "authority").issue("desk", x509.UniformResourceIdentifier(DESK))
    with pytest.raises((OSError, ConnectionError)):
        over_tls("mesh", forged)
