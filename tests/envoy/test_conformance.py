"""The official MCP conformance suite: what a server passes, it passes behind the gateway.

The suite cannot send credentials. So in front of the gateway there is a plain hop that adds a token to each request; it
is a listener of the same Envoy. The policy lets that token do everything, and the verdicts on the gateway are compared
with those on the server itself.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import stack
from conformance_suite import (
    REVISIONS,
    Check,
    Outcome,
    Requirements,
    Results,
    Verdict,
    exceptions,
    failing,
    regressions,
    run,
    server_command,
    unexplained,
)
from stack import LOOPBACK, Address, Stack

from conftest import NewGateway
from support.gateway import Document, Gateway, free_port, manager_of
from support.issuer import Issuer
from support.policy import policy

EVERYTHING: list[dict[str, Any]] = [{kind: ["*"], "scopes": []} for kind in ("tools", "resources", "prompts")]
EXTENSIONS = "type.googleapis.com/envoy.extensions.filters"

Endpoint = Callable[[list[dict[str, Any]]], str]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """The server that the suite is about."""
    address = Address(LOOPBACK, free_port())
    with Stack(tmp_path_factory.mktemp("conformance")) as children:
        children.start("conformance-server", server_command(address.port))
        children.wait_until("the server listens", lambda: stack.listening(address))
        yield address


@pytest.fixture(scope="module")
def endpoint(server: Address, start_gateway: NewGateway, issuer: Issuer) -> Endpoint:
    """Makes gateways in front of the server, under these rules; the URL is that of the hop in front of them."""

    def start(rules: list[dict[str, Any]]) -> str:
        hop = Address(LOOPBACK, free_port())

        def accept_the_hops_name(listener: Document) -> None:
            manager_of(listener)["route_config"]["virtual_hosts"][0]["domains"].append(str(hop))

        protocol = {"revisions": [*REVISIONS], "allowed_origins": [f"http://{hop}"]}
        gateway = start_gateway(
            policy(issuer, protocol=protocol, rules=rules),
            issuer,
            upstream_port=server.port,
            adjust=accept_the_hops_name,
        )
        gateway.envoy.put(*hop_to(gateway, hop, issuer.token()))
        gateway.envoy.wait_until("the hop listens", lambda: stack.listening(hop))
        return f"http://{hop}/mcp"

    return start


def hop_to(gateway: Gateway, hop: Address, token: str) -> tuple[Document, list[Document]]:
    """A listener that sends everything on as it is, with a token, and the cluster that it sends it to."""
    name = f"hop-{hop.port}"
    credential = {
        "header": {"key": "authorization", "value": f"Bearer {token}"},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
    route = {
        "match": {"prefix": "/"},
        "route": {"cluster": name, "timeout": "0s"},
        "request_headers_to_add": [credential],
    }
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{EXTENSIONS}.http.router.v3.Router"},
    }
    manager = {
        "@type": f"{EXTENSIONS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "http_filters": [router],
        "route_config": {"virtual_hosts": [{"name": name, "domains": ["*"], "routes": [route]}]},
    }
    manager_name = "envoy.filters.network.http_connection_manager"
    listener = {
        "name": name,
        "address": {"socket_address": {"address": hop.host, "port_value": hop.port}},
        "filter_chains": [{"filters": [{"name": manager_name, "typed_config": manager}]}],
    }
    target = {"address": {"socket_address": {"address": LOOPBACK, "port_value": gateway.port}}}
    cluster = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": target}]}]},
    }
    return listener, [cluster]


@pytest.fixture(scope="module")
def direct(server: Address, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Results]:
    """The verdicts on the server itself."""
    url = f"http://{server}/mcp"
    return {revision: run(revision, url, tmp_path_factory.mktemp("direct")) for revision in REVISIONS}


@pytest.fixture(scope="module")
def through(endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Results]:
    """The verdicts on the server behind the gateway."""
    url = endpoint(EVERYTHING)
    return {revision: run(revision, url, tmp_path_factory.mktemp("through")) for revision in REVISIONS}


@pytest.mark.parametrize("revision", REVISIONS)
def test_the_server_itself_passes_all_that_its_revision_requires(direct: dict[str, Results], revision: str) -> None:
    excused = exceptions("direct", revision)
    assert not Requirements.of(revision).required & {name.partition(":")[0] for name in excused}
    if problems := unexplained(failing(direct[revision]), excused):
        pytest.fail(problems, pytrace=False)


@pytest.mark.parametrize("revision", REVISIONS)
def test_what_passes_directly_passes_through_the_gateway(
    direct: dict[str, Results], through: dict[str, Results], revision: str
) -> None:
    worse = regressions(direct[revision], through[revision])
    if problems := unexplained(worse, exceptions("gateway", revision)):
        pytest.fail(problems, pytrace=False)


def test_a_gateway_that_denies_something_is_noticed(
    direct: dict[str, Results], endpoint: Endpoint, tmp_path: Path
) -> None:
    """All tools but two: the comparison finds exactly the scenarios that need those."""
    rules = [
        {"tools": ["test_image_content", "test_elicitation"], "scopes": ["crm:delete"]},
        *EVERYTHING,
    ]
    revision = "2025-11-25"
    found = regressions(direct[revision], run(revision, endpoint(rules), tmp_path))
    assert {check.scenario for check in found} == {"tools-call-image", "tools-call-elicitation"}


# --- The comparison itself --------------------------------------------------------------------------------------------

PING, SCHEMA = Check("ping", "ping", "Ping"), Check("ping", "wire-schema-valid", "WireSchemaValid")
PASSED, FAILED = Outcome(Verdict.SUCCESS), Outcome(Verdict.FAILURE, "it does not answer")


@pytest.mark.parametrize("verdict", [Verdict.FAILURE, Verdict.WARNING, Verdict.SKIPPED])
def test_a_check_that_is_worse_through_the_gateway_is_a_regression(verdict: Verdict) -> None:
    assert regressions({PING: PASSED}, {PING: Outcome(verdict)}).keys() == {PING}


def test_a_check_that_is_gone_through_the_gateway_is_a_regression() -> None:
    assert regressions({PING: PASSED, SCHEMA: PASSED}, {SCHEMA: PASSED}).keys() == {PING}


def test_a_check_that_only_fails_through_the_gateway_is_a_regression() -> None:
    assert regressions({PING: PASSED}, {PING: PASSED, SCHEMA: FAILED}).keys() == {SCHEMA}


def test_a_check_that_fails_either_way_is_no_regression() -> None:
    assert not regressions({PING: FAILED}, {PING: FAILED})


def test_an_exception_covers_its_scenario_or_its_check_and_must_be_needed() -> None:
    found = {PING: FAILED, SCHEMA: FAILED}
    assert not unexplained(found, {"ping": "why"})
    assert unexplained(found, {"ping:wire-schema-valid": "why"}) == "FAILURE ping:ping (Ping): it does not answer"
    assert unexplained({}, {"ping": "why"}) == "stale exception: ping"
    assert unexplained(found, {"ping": ""}) == "exception without a reason: ping"
