"""A trap in the module denies: the request that caused it, and nobody else for longer than a reload takes."""

import time
from pathlib import Path

import stack

from conftest import NewGateway
from support import messages
from support.gateway import Document, Gateway, plugin_of
from support.issuer import Issuer
from support.policy import policy
from support.trapping import with_trap

PING = messages.call("ping")


def gateway_that_traps(start_gateway: NewGateway, issuer: Issuer, directory: Path) -> Gateway:
    """Its module traps at the first request trailers that it sees."""
    module = directory / "trap.wasm"
    module.write_bytes(with_trap(stack.FILTER.read_bytes(), "proxy_on_request_trailers"))

    def load_it(listener: Document) -> None:
        vm = plugin_of(listener)["vm_config"]
        # A virtual machine of its own: others are not to die with it.
        vm |= {"vm_id": f"trap-{issuer.port}", "code": {"local": {"filename": str(module)}}}

    return start_gateway(policy(issuer), issuer, adjust=load_it)


def test_a_trap_denies_its_request_and_the_module_comes_back(start_gateway: NewGateway, tmp_path: Path) -> None:
    issuer = Issuer()
    gateway = gateway_that_traps(start_gateway, issuer, tmp_path)
    token = issuer.token()
    assert gateway.send(PING, token).status == 200
    gateway.upstream.forget()
    # Longer than `reload_config` waits between two starts.
    time.sleep(1.5)

    trapped = gateway.send2(PING, token, trailers=[("x-last", "1")])
    assert trapped.status == 503
    assert not gateway.upstream.requests, "the request that trapped went upstream"

    # Whatever comes now is judged by a new module or refused, and soon it is judged again.
    statuses: list[int] = []
    deadline = time.monotonic() + 20
    while not statuses or statuses[-1] != 200:
        assert time.monotonic() < deadline, f"the module did not come back: {statuses}"
        statuses.append(gateway.send(PING, token).status)
        time.sleep(0.1)
    assert set(statuses) <= {200, 503}
    assert gateway.send(PING).status == 401
    gateway.envoy.forgive()
