"""The Envoys that are measured: one gateway with a listener for each variant, and the upstream behind it."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import stack
from stack import LOOPBACK, Address, Document, Ports, named
from wasmtime import wat2wasm

from work import ANSWERS, ISSUER, LIFETIME, PATH, RESOURCE, SCOPE, Issuer

FILTERS = "type.googleapis.com/envoy.extensions.filters"
#: What a connection may buffer, in bytes: more than the largest body, or large ones would be slow in every variant.
BUFFER = 4 * 1024 * 1024
MCP = "envoy.filters.http.mcp"
JWT_AUTHN = "envoy.filters.http.jwt_authn"

BASELINE = "no filter"
AGAIN = "no filter, again"
EMPTY = "empty wasm"
HOST_CALLS = "host calls alone"
NATIVE = "native chain"
NATIVE_UNCACHED = "native chain, no token cache"
TOOLGATE = "toolgate"
UNRECORDED = "toolgate, no records"


@dataclass(frozen=True)
class Variant:
    """What a listener does with requests."""

    name: str
    #: The module, for variants that have one.
    wasm: Path | None = None
    #: Whether it holds requests against a policy.
    judges: bool = True
    #: Whether what it gives to the access log is written.
    records: bool = False

    @property
    def is_main(self) -> bool:
        """Whether it does the whole work, or nothing."""
        return (self.judges and self.records) or self.name in (BASELINE, AGAIN, NATIVE)


def all_variants(wasm: dict[str, Path], directory: Path) -> list[Variant]:
    """All of them; several builds of the module, each by its name, in place of the one."""
    builds = [Variant(f"{TOOLGATE} {name}", path.resolve(), records=True) for name, path in wasm.items()]
    return [
        Variant(BASELINE, judges=False),
        Variant(AGAIN, judges=False),
        Variant(EMPTY, assembled("empty", directory), judges=False),
        Variant(HOST_CALLS, assembled("host_calls", directory), judges=False, records=True),
        Variant(NATIVE),
        Variant(NATIVE_UNCACHED),
        *(builds or [Variant(UNRECORDED, stack.FILTER), Variant(TOOLGATE, stack.FILTER, records=True)]),
    ]


def assembled(name: str, directory: Path) -> Path:
    """A module that is written down beside this file."""
    module = directory / f"{name}.wasm"
    module.write_bytes(wat2wasm((Path(__file__).parent / f"{name}.wat").read_text()))
    return module


# --- The gateway ------------------------------------------------------------------------------------------------------


def policy(issuer: Issuer) -> Document:
    """The demo policy, moved here, with the issuer's keys in it. Nothing that is measured waits for people."""
    document = stack.load_document(stack.DEMO_POLICY)
    del document["approval"]
    document["resource"]["uri"] = RESOURCE
    document["authentication"]["jwt"][0] |= {
        **{"issuer": ISSUER, "jwks": {"inline": issuer.key_set()}, "algorithms": list(issuer.keys)},
        "max_lifetime": f"{LIFETIME // 3600}h",
    }
    return document


def gateway(
    variants: list[Variant], ports: dict[str, int], admin: int, upstream: int, issuer: Issuer, directory: Path
) -> Document:
    """The reference configuration with a listener for each variant, without the access log, which all would write."""
    first = Ports(ports[variants[0].name], upstream, upstream, admin)
    logs = {"access_log": directory / "unused.log", "audit_log": directory / "unused.log"}
    config = stack.render_envoy_config(policy(issuer), first, upstream=Address(LOOPBACK, upstream), **logs)
    listeners = config["static_resources"]["listeners"]
    template = listeners.pop()
    listeners.extend(listener(template, variant, ports[variant.name], issuer, directory) for variant in variants)
    cluster = named(config["static_resources"]["clusters"], "mcp_upstream")
    cluster["per_connection_buffer_limit_bytes"] = BUFFER
    for name in ("max_connections", "max_requests", "max_pending_requests"):
        cluster["circuit_breakers"]["thresholds"][0][name] = 16384
    return config


def listener(template: Document, variant: Variant, port: int, issuer: Issuer, directory: Path) -> Document:
    """One variant."""
    document = copy.deepcopy(template)
    document["name"] = f"variant_{port}"
    document["address"]["socket_address"]["port_value"] = port
    document["per_connection_buffer_limit_bytes"] = BUFFER
    manager = document["filter_chains"][0]["filters"][0]["typed_config"]
    manager["route_config"]["virtual_hosts"][0]["domains"] = ["*"]
    records = manager["access_log"][1]
    records["typed_config"]["path"] = str(audit_log(variant, directory))
    manager["access_log"] = [records] if variant.records else []
    filters = manager["http_filters"]
    toolgate = named(filters, "toolgate")
    if variant.wasm is None:
        filters.remove(toolgate)
        if variant.judges:
            filters[:0] = native_chain(issuer, cached=variant.name == NATIVE)
        return document
    plugin = toolgate["typed_config"]["config"]
    # Variants share no VM.
    plugin["name"] = plugin["root_id"] = plugin["vm_config"]["vm_id"] = f"variant_{port}"
    plugin["vm_config"]["code"]["local"]["filename"] = str(variant.wasm)
    if not variant.judges:
        del plugin["configuration"], plugin["vm_config"]["environment_variables"]
    elif not variant.records:
        plugin["configuration"]["value"] = json.dumps(policy(issuer) | {"audit": {"records": "off"}})
    return document


def audit_log(variant: Variant, directory: Path) -> Path:
    """Where a variant's records go."""
    return directory / f"{variant.name}.audit.log"


def native_chain(issuer: Issuer, *, cached: bool) -> list[Document]:
    """What comes nearest in Envoy itself: verify the token, parse the call, and ask both whether it may pass.

    It knows no people, agents or clients, filters no lists, keeps no records and takes a 1 MB body only because
    its limit is raised.
    """
    provider: Document = {
        "issuer": ISSUER,
        "audiences": [RESOURCE],
        "local_jwks": {"inline_string": json.dumps(issuer.key_set())},
        "payload_in_metadata": "payload",
    }
    if cached:
        provider["jwt_cache_config"] = {"jwt_cache_size": 100}  # the default

    def metadata(filter_name: str, path: list[str], value: Any) -> Document:
        return {"metadata": {"filter": filter_name, "path": [{"key": key} for key in path], "value": value}}

    def exact(text: str) -> Document:
        return {"string_match": {"exact": text}}

    call = [
        metadata(MCP, ["method"], exact("tools/call")),
        metadata(MCP, ["params", "name"], exact("read_contact")),
    ]
    caller = [
        metadata(JWT_AUTHN, ["payload", "scope"], exact(SCOPE)),
        metadata(JWT_AUTHN, ["payload", "client_id"], exact("demo-booking-agent")),
        metadata(JWT_AUTHN, ["payload", "roles"], {"list_match": {"one_of": exact("schedulers")}}),
    ]
    allowed = {
        "permissions": [{"and_rules": {"rules": call}}, metadata(MCP, ["method"], exact("tools/list"))],
        "principals": [{"and_ids": {"ids": caller}}],
    }
    return [
        {
            "name": JWT_AUTHN,
            "typed_config": {
                "@type": f"{FILTERS}.http.jwt_authn.v3.JwtAuthentication",
                "providers": {"issuer": provider},
                "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "issuer"}}],
            },
        },
        {
            "name": MCP,
            "typed_config": {
                "@type": f"{FILTERS}.http.mcp.v3.Mcp",
                "traffic_mode": "REJECT_NO_MCP",
                "max_request_body_size": BUFFER,
            },
        },
        {
            "name": "envoy.filters.http.rbac",
            "typed_config": {
                "@type": f"{FILTERS}.http.rbac.v3.RBAC",
                "rules": {"action": "ALLOW", "policies": {"bench": allowed}},
            },
        },
    ]


# --- The upstream -----------------------------------------------------------------------------------------------------


def upstream(port: int, admin: int) -> Document:
    """An Envoy that answers every request as it is asked to, once it has read the whole of it.

    Without its buffer filter it would close the connection after a body, and reconnecting would be measured.
    """
    routes = [
        {
            "match": {"prefix": PATH, "headers": [{"name": "x-answer", "string_match": {"exact": name}}]},
            "direct_response": {"status": 200, "body": {"inline_string": body.decode()}},
            "response_headers_to_add": [{"header": {"key": "content-type", "value": media_type}}],
        }
        for name, (media_type, body) in ANSWERS.items()
    ]
    manager = {
        "@type": f"{FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "upstream",
        "route_config": {
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}],
            "max_direct_response_body_size_bytes": BUFFER,
        },
        "http_filters": [
            {
                "name": "buffer",
                "typed_config": {"@type": f"{FILTERS}.http.buffer.v3.Buffer", "max_request_bytes": BUFFER},
            },
            {"name": "router", "typed_config": {"@type": f"{FILTERS}.http.router.v3.Router"}},
        ],
    }
    listening = {
        "address": {"socket_address": {"address": LOOPBACK, "port_value": port}},
        "per_connection_buffer_limit_bytes": BUFFER,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    admin_address = {"socket_address": {"address": LOOPBACK, "port_value": admin}}
    return {"admin": {"address": admin_address}, "static_resources": {"listeners": [listening]}}
