"""A real Envoy with Toolgate in it, configured from the repository's own reference configuration.

To start an Envoy costs seconds, because V8 compiles the module. So one Envoy serves many policies: each `Gateway` is a
listener of its own, with clusters of its own, given to the running Envoy through file-based xDS. Everything in them is
rendered from `envoy/envoy.yaml`, which is what operators copy.
"""

import json
import re
import shutil
import signal
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import stack
from stack import LOOPBACK, Address, Ports, Stack

from . import http1, http2
from .http1 import Headers, Response
from .issuer import Issuer
from .messages import Post
from .policy import Policy
from .recorder import Recorder

Document = dict[str, Any]
Adjust = Callable[[Document], None]

#: What must never be in Envoy's log: signs of a module that died.
SIGNS_OF_DEATH = re.compile(r".*(?:\[critical\]|panicked at|unreachable|RuntimeError|VM failed|Function: proxy_).*")


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with closing(socket.create_server((LOOPBACK, 0))) as listener:
        port: int = listener.getsockname()[1]
        return port


class Envoy:
    """One Envoy process, to which listeners are added while it runs."""

    def __init__(
        self,
        directory: Path,
        session_key: str | None = None,
        audit_key: str | None = None,
        node: str = "test",
        *,
        approval_token: str | None = None,
        workers: int = 2,
    ) -> None:
        assert stack.FILTER.exists(), f"{stack.FILTER} does not exist: build the filter first"
        self.directory = directory
        directory.mkdir(exist_ok=True)
        # A copy, so that a build meanwhile does not change what is tested.
        self.module = directory / "toolgate.wasm"
        shutil.copyfile(stack.FILTER, self.module)
        self.admin_port = free_port()
        #: Binds sessions to their callers.
        self.session_key = session_key or stack.new_key()
        #: Seals audit records.
        self.audit_key = audit_key or stack.new_key()
        #: Shown to approval services.
        self.approval_token = approval_token or stack.new_key()
        self.node = node
        self.workers = workers
        self._stack = Stack(directory)
        self._listeners: dict[str, Document] = {}
        self._clusters: dict[str, Document] = {}
        self._version = 0
        self._checked = 0

    def __enter__(self) -> "Envoy":
        self._stack.__enter__()
        self._publish()
        config = self.directory / "envoy.yaml"
        config.write_text(stack.dump_document(self._bootstrap()))
        keys = {
            stack.SESSION_KEY: self.session_key,
            stack.AUDIT_KEY: self.audit_key,
            stack.APPROVAL_TOKEN: self.approval_token,
        }
        self._stack.start("envoy", stack.envoy_command(config, self.workers), keys)
        self._stack.wait_until("Envoy is ready", lambda: stack.http_status(self._admin_url("/ready")) == 200)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.check()
        finally:
            self._stack.close()

    def stop(self) -> None:
        """Ends it in an orderly way, before it is left."""
        self.check()
        self._stack.close()

    def kill(self) -> None:
        """Ends it as the loss of a machine does."""
        child = self._stack.children.pop()
        child.stop(signal.SIGKILL)
        child.process.wait()

    # --- Configuration ------------------------------------------------------------------------------------------------

    def _bootstrap(self) -> Document:
        reference = stack.load_document(stack.REFERENCE_CONFIG)
        reference["admin"]["address"]["socket_address"]["port_value"] = self.admin_port
        del reference["static_resources"]
        source = {f"{kind}_config": {"path_config_source": {"path": str(self._xds(kind))}} for kind in ("lds", "cds")}
        return reference | {"node": {"id": self.node, "cluster": "test"}, "dynamic_resources": source}

    def _xds(self, kind: str) -> Path:
        return self.directory / f"{kind}.yaml"

    def _publish(self) -> None:
        """Writes what there is; clusters first, as listeners name them."""
        self._version += 1
        for kind, resources in (("cds", self._clusters), ("lds", self._listeners)):
            response = {"version_info": str(self._version), "resources": list(resources.values())}
            text = stack.dump_document(response)
            path = self._xds(kind)
            if not path.exists() or stack.load_document(path)["resources"] != response["resources"]:
                stack.write_atomically(path, text)
            if kind == "cds" and self._stack.children:
                self.wait_until("clusters are known", self._knows_clusters)

    def _knows_clusters(self) -> bool:
        known = self.admin("/clusters")
        return all(f"{name}::" in known for name in self._clusters)

    def put(self, listener: Document | None, clusters: list[Document]) -> None:
        """Adds a listener, or changes it. Envoy takes it, or keeps the one it has."""
        listener_type = "type.googleapis.com/envoy.config.listener.v3.Listener"
        cluster_type = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
        self._clusters |= {cluster["name"]: {"@type": cluster_type, **cluster} for cluster in clusters}
        if listener:
            self._listeners[listener["name"]] = {"@type": listener_type, **listener}
        self._publish()

    # --- Questions ----------------------------------------------------------------------------------------------------

    def _admin_url(self, path: str) -> str:
        return f"http://{LOOPBACK}:{self.admin_port}{path}"

    def admin(self, path: str, method: str = "GET") -> str:
        """An answer of Envoy's admin interface."""
        with urllib.request.urlopen(urllib.request.Request(self._admin_url(path), method=method), timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    def counters(self, pattern: str = "^wasmcustom\\.toolgate\\.") -> dict[str, int]:
        """Counters and gauges whose name fits."""
        listing = json.loads(self.admin(f"/stats?format=json&filter={pattern}"))
        return {stat["name"]: stat["value"] for stat in listing["stats"] if "value" in stat}

    @property
    def log(self) -> str:
        """What Envoy and the filter wrote."""
        return (self.directory / "envoy.log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        """Envoy's process id."""
        return self._stack.children[0].process.pid

    def resident_kilobytes(self) -> int:
        """Envoy's resident memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0])

    def check(self) -> None:
        """Fails when Envoy is gone or the module died since the last check."""
        self._stack.check()
        log = self.log
        found, self._checked = SIGNS_OF_DEATH.findall(log[self._checked :]), len(log)
        assert not found, "Envoy's log:\n" + "\n".join(found[:20])

    def forgive(self) -> None:
        """What the log says so far was provoked by the test."""
        self._checked = len(self.log)

    def wait_until(self, what: str, holds: Callable[[], bool], seconds: float = 30) -> None:
        """Waits for a condition for as long as Envoy lives."""
        deadline = time.monotonic() + seconds
        while not holds():
            self._stack.check()
            assert time.monotonic() < deadline, f"waited {seconds:.0f} seconds in vain: {what}"
            time.sleep(0.02)


@dataclass
class Gateway:
    """One listener with one policy in front of one recording upstream."""

    envoy: Envoy
    policy: Policy
    upstream: Recorder
    port: int
    issuers: tuple[Issuer, ...] = ()
    clusters: dict[str, int] = field(default_factory=dict)
    adjust: Adjust = lambda listener: None

    @property
    def name(self) -> str:
        """Unique among the gateways of an Envoy."""
        return f"gateway-{self.port}"

    @property
    def access_log(self) -> Path:
        """Where Envoy writes a line per request."""
        return self.envoy.directory / f"{self.name}.access.log"

    @property
    def audit_log(self) -> Path:
        """Where Envoy writes one record per request."""
        return self.envoy.directory / f"{self.name}.audit.log"

    def load(self, policy: Policy | None = None, *, wait: bool = True) -> None:
        """Gives Envoy the policy, at first or in place of the one it has."""
        self.policy = policy or self.policy
        self.envoy.put(*self.render())
        if wait:
            endpoint = f"http://{LOOPBACK}:{self.port}/mcp"
            self.envoy.wait_until(
                f"{self.name} demands a token", lambda: stack.http_status(endpoint, "POST") == 401, seconds=60
            )

    def render(self) -> tuple[Document, list[Document]]:
        """The reference listener and clusters, with names of their own."""
        ports = Ports(gateway=self.port)
        upstream = Address(LOOPBACK, self.upstream.port)
        config = stack.render_envoy_config(
            self.policy,
            ports,
            upstream=upstream,
            wasm=self.envoy.module,
            access_log=self.access_log,
            audit_log=self.audit_log,
        )
        listener = config["static_resources"]["listeners"][0]
        clusters = config["static_resources"]["clusters"]
        listener["name"] = self.name
        server, idp = (stack.named(clusters, name) for name in ("mcp_upstream", "idp"))
        server["name"] = f"upstream-{self.port}"
        # Envoy drops trailers towards HTTP/1.1 unless told otherwise, and would hide that the filter lets them pass.
        protocol = server["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]
        protocol["explicit_http_config"] = {"http_protocol_options": {"enable_trailers": True}}
        route_of(listener)["route"]["cluster"] = server["name"]
        wanted = self.clusters | {issuer.cluster: issuer.port for issuer in self.issuers}
        key_sources = []
        for name, port in wanted.items():
            source = json.loads(json.dumps(idp)) | {"name": name}
            source["load_assignment"]["cluster_name"] = name
            stack.set_endpoint(source, Address(LOOPBACK, port))
            key_sources.append(source)
        self.adjust(listener)
        return listener, [server, *key_sources]

    # --- Requests -----------------------------------------------------------------------------------------------------

    def send(self, post: Post, token: str | None = None, *extra: tuple[str, str | bytes]) -> Response:
        """Sends a request over HTTP/1.1."""
        headers = [*bearer(token), *post.list(), *extra]
        return http1.request(self.port, post.method, post.target, headers, post.body)

    def send2(self, post: Post, token: str | None = None, *frames: bytes, trailers: Headers | None = None) -> Response:
        """Sends a request over HTTP/2, its body in these frames."""
        headers = [*bearer(token), *post.list()]
        return http2.request(
            self.port, post.method, post.target, headers, frames or ((post.body,) if post.body else ()), trailers
        )

    @contextmanager
    def deciding(self) -> Iterator[dict[str, int]]:
        """Fills in what was decided meanwhile, such as `{"deny.no_rule": 1}`."""
        prefix = "wasmcustom.toolgate.decisions."
        decided: dict[str, int] = {}
        before = self.envoy.counters()
        yield decided
        for name, value in self.envoy.counters().items():
            if name.startswith(prefix) and value != before.get(name, 0):
                decided[name.removeprefix(prefix)] = value - before.get(name, 0)

    def logged(self, count: int, seconds: float = 5) -> list[dict[str, Any]]:
        """The access log, once it has that many lines."""
        deadline = time.monotonic() + seconds
        while True:
            lines = self.access_log.read_text().splitlines() if self.access_log.exists() else []
            if len(lines) >= count:
                return [json.loads(line) for line in lines]
            assert time.monotonic() < deadline, f"{len(lines)} lines instead of {count}"
            time.sleep(0.05)


def bearer(token: str | None) -> Headers:
    """The credential."""
    return [("Authorization", f"Bearer {token}")] if token is not None else []


class Discovered:
    """Toolgate's configuration in a file of its own that Envoy watches (ECDS): policies change, connections stay."""

    TYPE = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"

    def __init__(self, directory: Path) -> None:
        self.path = directory / f"ecds-{free_port()}.yaml"
        self._filter: Document = {}

    def adjust(self, listener: Document) -> None:
        """Moves the filter out of the listener."""
        toolgate = stack.named(manager_of(listener)["http_filters"], "toolgate")
        self._filter = toolgate.pop("typed_config")
        self._write()
        source = {"path_config_source": {"path": str(self.path)}, "resource_api_version": "V3"}
        toolgate["config_discovery"] = {"config_source": source, "type_urls": [self.TYPE]}

    def update(self, policy: Policy) -> None:
        """Gives Envoy another policy."""
        self._filter["config"]["configuration"] = as_text(policy)
        self._write()

    def _write(self) -> None:
        extension = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
        resource = {"@type": extension, "name": "toolgate", "typed_config": self._filter}
        version = str(time.monotonic_ns())
        stack.write_atomically(self.path, stack.dump_document({"version_info": version, "resources": [resource]}))


def manager_of(listener: Document) -> Document:
    """The HTTP connection manager of a listener."""
    manager: Document = listener["filter_chains"][0]["filters"][0]["typed_config"]
    return manager


def plugin_of(listener: Document) -> Document:
    """The configuration of Toolgate in a listener."""
    plugin: Document = stack.named(manager_of(listener)["http_filters"], "toolgate")["typed_config"]["config"]
    return plugin


def as_text(policy: Policy) -> Document:
    """A policy as the plugin's configuration."""
    return {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": json.dumps(policy)}


def route_of(listener: Document) -> Document:
    """The only route of a listener."""
    route: Document = manager_of(listener)["route_config"]["virtual_hosts"][0]["routes"][0]
    return route
