"""One Envoy for the session, a gateway under the common policy, and a factory for gateways under others."""

from collections.abc import Callable, Iterator

import pytest

from support.approval_service import ApprovalService
from support.gated import Gated, NewGated, beside, gated_policy, warm_up
from support.gateway import Adjust, Envoy, Gateway, free_port
from support.issuer import Issuer
from support.jose import ALGORITHMS
from support.policy import Policy, policy
from support.recorder import Recorder

NewGateway = Callable[..., Gateway]

#: Counts what was let through.
PERMITTED = "wasmcustom.toolgate.decisions.allow.permitted"


@pytest.fixture(scope="session")
def envoy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envoy]:
    """The Envoy that nearly all tests share."""
    with Envoy(tmp_path_factory.mktemp("envoy")) as running:
        yield running


@pytest.fixture(autouse=True)
def envoy_survives(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that kills the module is the one that fails."""
    yield
    for name in {"envoy", "second_envoy"} & set(request.fixturenames):
        request.getfixturevalue(name).check()


@pytest.fixture(scope="session")
def permitted_elsewhere() -> list[int]:
    """How many requests were allowed by Envoys that share upstreams with the shared one."""
    return []


@pytest.fixture(scope="session")
def start_gateway(envoy: Envoy, permitted_elsewhere: list[int]) -> Iterator[NewGateway]:
    """Makes gateways on the shared Envoy. In the end, nothing may have reached an upstream that was not allowed."""
    gateways: list[Gateway] = []

    def start(
        document: Policy,
        *issuers: Issuer,
        port: int | None = None,
        upstream_port: int | None = None,
        clusters: dict[str, int] | None = None,
        adjust: Adjust = lambda listener: None,
        wait: bool = True,
    ) -> Gateway:
        upstream = Recorder()
        if upstream_port:
            upstream.port = upstream_port
        gateway = Gateway(envoy, document, upstream, port or free_port(), issuers, clusters or {}, adjust)
        gateways.append(gateway)
        gateway.load(wait=wait)
        return gateway

    yield start
    reached = sum(gateway.upstream.total for gateway in gateways)
    allowed = envoy.counters().get(PERMITTED, 0) + sum(permitted_elsewhere)
    assert reached <= allowed, f"{reached} requests reached an upstream, but only {allowed} were allowed"


@pytest.fixture(scope="session")
def second_envoy(
    envoy: Envoy, permitted_elsewhere: list[int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Envoy]:
    """Another Envoy of the same deployment, with the same keys for sessions and approvals. It has one worker."""
    directory = tmp_path_factory.mktemp("second-envoy")
    keys = {"session_key": envoy.session_key, "approval_token": envoy.approval_token}
    with Envoy(directory, node="second", workers=1, **keys) as running:
        yield running
        permitted_elsewhere.append(running.counters().get(PERMITTED, 0))


@pytest.fixture(scope="session")
def start_gated(start_gateway: NewGateway, envoy: Envoy) -> Iterator[NewGated]:
    """Makes gateways with an approval service each. In the end, all they asked must have been in order."""
    services: list[ApprovalService] = []

    def start(
        issuer: Issuer | None = None,
        *,
        on: Envoy | None = None,
        adjust: Adjust = lambda listener: None,
        is_warm: bool = True,
        **changes: object,
    ) -> Gated:
        """`changes` are those of the section of the policy, but for `policy`, which are those of the policy."""
        issuer = issuer or Issuer()
        service = ApprovalService(envoy.approval_token)
        services.append(service)
        others = changes.pop("policy", {})
        assert isinstance(others, dict)
        document = gated_policy(issuer, service, service.document(**changes), **others)
        (on or envoy).put(None, [service.envoy_cluster()])
        if on:
            return Gated(beside(on, document, issuer, adjust), service, issuer)
        gateway = start_gateway(document, issuer, adjust=adjust)
        if is_warm:
            warm_up(gateway, issuer)
        return Gated(gateway, service, issuer)

    yield start
    violations = [violation for service in services for violation in service.violations]
    assert not violations, violations[:10]


@pytest.fixture(scope="session")
def issuer() -> Issuer:
    """The issuer of the common policy, with a key for every algorithm; it signs with ES256 unless told otherwise."""
    return Issuer(("ES256", *(algorithm for algorithm in ALGORITHMS if algorithm != "ES256")))


@pytest.fixture(scope="session")
def common(start_gateway: NewGateway, issuer: Issuer) -> Gateway:
    """The gateway under the common policy."""
    return start_gateway(policy(issuer), issuer)


@pytest.fixture
def gateway(common: Gateway) -> Gateway:
    """The same, its upstream clean."""
    common.upstream.forget()
    return common


@pytest.fixture
def upstream(gateway: Gateway) -> Recorder:
    """The upstream of the common gateway."""
    return gateway.upstream


@pytest.fixture
def token(issuer: Issuer) -> Callable[..., str]:
    """Mints tokens: `token("contacts:read", lifetime=60)`."""
    return issuer.token
