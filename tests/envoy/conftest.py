"""One Envoy for the session, a gateway under the common policy, and a factory for gateways under others."""

from collections.abc import Callable, Iterator

import pytest

from support.gateway import Adjust, Envoy, Gateway, free_port
from support.issuer import Issuer
from support.jose import ALGORITHMS
from support.policy import Policy, policy
from support.recorder import Recorder

NewGateway = Callable[..., Gateway]


@pytest.fixture(scope="session")
def envoy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envoy]:
    """The Envoy that nearly all tests share."""
    with Envoy(tmp_path_factory.mktemp("envoy")) as running:
        yield running


@pytest.fixture(autouse=True)
def envoy_survives(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that kills the module is the one that fails."""
    yield
    if "envoy" in request.fixturenames:
        request.getfixturevalue("envoy").check()


@pytest.fixture(scope="session")
def start_gateway(envoy: Envoy) -> Iterator[NewGateway]:
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
    allowed = envoy.counters().get("wasmcustom.toolgate.decisions.allow.permitted", 0)
    assert reached <= allowed, f"{reached} requests reached an upstream, but only {allowed} were allowed"


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
