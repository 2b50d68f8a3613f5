"""`make run`: the gateway with all that belongs to it, on loopback, until Ctrl-C.

Starts the development identity provider, the approval service, the demo's MCP server (or takes yours, --upstream) and
Envoy with Toolgate in front of it; describes them in target/demo/demo.json; prints commands to paste. When one of them
ends, all end.
"""

import argparse
import json
import os
import shlex
import signal
import sys
import time
import urllib.request
from pathlib import Path
from types import FrameType
from typing import Any

import stack
from stack import LOOPBACK, Address, Ports, Stack, StackError

DIRECTORY = stack.ROOT / "target" / "demo"
#: Where Envoy writes the audit trail, in that directory.
AUDIT_LOG = "audit.log"
#: Whoever makes this call, through this agent, needs an approval, and who may give it.
GATED_CALL = "campaign-manager full-automation-agent broadcast_message"
APPROVER = "duty-manager"


class Stopped(BaseException):
    """Somebody asked us to stop. Not an Exception: nothing but `main` may catch it."""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line. Makefile variables that are not set arrive as empty strings, which count as absent."""
    parser = argparse.ArgumentParser(description="Run Toolgate with everything around it, on loopback.")
    parser.add_argument("--policy", type=optional(Path), help="policy, YAML or JSON (default: the demo's)")
    parser.add_argument("--upstream", type=optional(Address.parse), metavar="HOST:PORT", help="your own MCP server")
    parser.add_argument("--port", type=optional(port_number), metavar="N", help="port of the gateway (default: 10000)")
    parser.add_argument("--ports-from", type=optional(port_number), metavar="N", help="use the ports N to N+4")
    parser.add_argument("--wasm", type=optional(Path), help="another build of the filter")
    parser.add_argument("--directory", type=optional(Path), help="logs and demo.json (default: target/demo)")
    parser.add_argument("--ready-file", type=optional(Path), metavar="FILE", help="created when all is ready")
    return parser.parse_args(arguments)


def optional(kind: Any) -> Any:
    """An argument type for which an empty string is no value."""

    def convert(text: str) -> Any:
        try:
            return kind(text) if text else None
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert


def port_number(text: str) -> int:
    """A TCP port."""
    if not (text.isdecimal() and 0 < int(text) < 65536):
        raise ValueError(f"`{text}` is not a port number")
    return int(text)


def choose_ports(arguments: argparse.Namespace) -> Ports:
    """The usual ports, unless others are asked for."""
    ports = Ports.starting_at(arguments.ports_from) if arguments.ports_from else Ports()
    return ports._replace(gateway=arguments.port) if arguments.port else ports


def choose_policy(arguments: argparse.Namespace, ports: Ports) -> stack.Document:
    """Somebody's own policy exactly as it is, or the demo's, which follows the ports."""
    if arguments.policy:
        return stack.load_document(arguments.policy)
    return stack.policy_for_ports(stack.load_document(stack.DEMO_POLICY), ports)


def require(policy: stack.Document, ports: Ports, upstream: Address | None, wasm: Path) -> None:
    """What must be so before anything is touched: another demo may be running here."""
    if not wasm.exists():
        raise StackError(f"{wasm} does not exist; `make build` makes it")
    needed = ports._asdict()
    if upstream:
        del needed["mcp_server"]
    if not stack.asks_demo_service(policy, ports):
        del needed["approvals"]
    elif not stack.APPROVAL_SERVICE.exists():
        raise StackError(f"{stack.APPROVAL_SERVICE} does not exist; `make approvals` makes it")
    for purpose, port in needed.items():
        stack.require_free(port, purpose.replace("_", " "))


def start(children: Stack, policy: stack.Document, ports: Ports, upstream: Address | None, wasm: Path) -> None:
    """Start everything, servers first: Envoy asks for the keys as soon as it runs."""
    # Sessions and audit logs outlive a restart for those who set the keys themselves.
    names = (stack.SESSION_KEY, stack.AUDIT_KEY, stack.APPROVAL_TOKEN)
    secrets = {name: os.environ.get(name) or stack.new_key() for name in names}
    children.start("identity-provider", stack.identity_provider_command(ports, stack.resource_uri(policy)))
    if stack.asks_demo_service(policy, ports):
        policy = stack.with_decision_key(policy, stack.new_decision_key(children.directory))
        variables = stack.approvals_variables(secrets[stack.APPROVAL_TOKEN], children.directory)
        children.start("approvals", stack.approvals_command(policy, ports, children.directory), variables)
        ready = f"{ports.approvals_url}/readyz"
        children.wait_until("the approval service is ready", lambda: stack.http_status(ready) == 200)
    if upstream is None:
        children.start("mcp-server", stack.mcp_server_command(ports))
        children.wait_until("the MCP server listens", lambda: stack.listening(Address(LOOPBACK, ports.mcp_server)))
    keys = f"{ports.issuer}/jwks"
    children.wait_until("the identity provider publishes its keys", lambda: stack.http_status(keys) == 200)

    config = children.directory / "envoy.yaml"
    access_log = children.directory / "access.log"
    audit_log = children.directory / AUDIT_LOG
    rendered = stack.render_envoy_config(
        policy, ports, upstream=upstream, wasm=wasm.resolve(), access_log=access_log, audit_log=audit_log
    )
    stack.write_atomically(config, stack.dump_document(rendered))
    for log in (access_log, audit_log):
        log.unlink(missing_ok=True)
    audit_key = children.directory / "audit.key"
    audit_key.touch(mode=0o600)
    audit_key.write_text(secrets[stack.AUDIT_KEY])
    children.start("envoy", stack.envoy_command(config), secrets)
    envoy, endpoint = f"http://{LOOPBACK}:{ports.admin}/ready", mcp_url(policy, ports)
    children.wait_until("Envoy is ready", lambda: stack.http_status(envoy) == 200)
    # Envoy being ready is not enough to know: what counts is that nobody gets past it without a token.
    children.wait_until("a call without a token gets 401", lambda: stack.http_status(endpoint, "POST") == 401)


def mcp_url(policy: stack.Document, ports: Ports) -> str:
    """The endpoint that clients are given."""
    return f"http://{LOOPBACK}:{ports.gateway}{stack.endpoint_path(policy)}"


def describe(policy: stack.Document, ports: Ports, directory: Path) -> dict[str, Any]:
    """What scripts need to know; other tools rely on these names."""
    issuer = ports.issuer

    def known(what: str) -> Any:
        with urllib.request.urlopen(f"{issuer}/dev/{what}", timeout=5) as response:
            return json.load(response)

    return {
        "mcp_url": mcp_url(policy, ports),
        "resource": stack.resource_uri(policy),
        "envoy_admin_url": f"http://{LOOPBACK}:{ports.admin}",
        "issuer": issuer,
        "token_endpoint": f"{issuer}/token",
        "login_endpoint": f"{issuer}/dev/login",
        "approvals_url": ports.approvals_url if stack.asks_demo_service(policy, ports) else None,
        "audit_log": str(directory / AUDIT_LOG),
        "clients": known("clients"),
        "people": known("people"),
    }


def curl_call(url: str, method: str, params: dict[str, Any], token: str | None) -> str:
    """A request of revision 2026-07-28, which needs no session: everything is in the one request."""
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
    lines = [
        f"curl -i {url}",
        *([f'-H "Authorization: Bearer ${token}"'] if token else []),
        "-H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream'",
        f"-H 'MCP-Protocol-Version: 2026-07-28' -H 'Mcp-Method: {method}'"
        + (f" -H 'Mcp-Name: {params['name']}'" if "name" in params else ""),
        f"-d '{json.dumps(body)}'",
    ]
    return " \\\n    ".join(lines)


def curl_token(demo: dict[str, Any], client: str) -> str:
    """A token of one client, in a shell variable."""
    registration = demo["clients"][client]
    return (
        f"TOKEN=$(curl -s {demo['token_endpoint']} -u {registration['client_id']}:{registration['client_secret']} \\\n"
        f"    -d grant_type=client_credentials -d resource={demo['resource']} \\\n"
        """    | python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])')"""
    )


def as_somebody(description: Path) -> list[tuple[str, str]]:
    """The same server for people who use agents, by the helper that logs them in."""
    commands = [
        ("A person through an agent: what a scheduler sees through the booking agent", "scheduler booking-agent"),
        ("The same person through the messaging agent", "scheduler messaging-agent"),
        ("Another person through the same agent", "analyst messaging-agent"),
        ("A call that both may make", "scheduler booking-agent create_booking"),
        ("403: neither the person nor the agent may, and each is named", "analyst booking-agent send_message"),
        ("403: the person may, the agent may not", "campaign-manager booking-agent send_message"),
        ("403: the agent by itself, as it may only act for people", "nobody booking-agent create_booking"),
    ]
    return [(title, helper(command, description)) for title, command in commands]


def helper(arguments: str, description: Path) -> str:
    """A command of demo/as.py. It is pasted somewhere, so it must not depend on where that is."""
    where = "" if description == DIRECTORY / "demo.json" else f" --demo {shlex.quote(str(description))}"
    return f"python3 {shlex.quote(str(stack.ROOT / 'demo' / 'as.py'))} {arguments}{where}"


def approving(demo: dict[str, Any], description: Path) -> list[tuple[str, str]]:
    """A call that somebody must approve: the call, the approval, and the call again."""
    call = helper(GATED_CALL, description)
    command = shlex.quote(str(stack.ROOT / "target" / "cli" / "toolgate"))
    terminal = [
        f"export TOOLGATE_APPROVALS_URL={demo['approvals_url']}",
        f"export TOOLGATE_APPROVALS_TOKEN=$({helper(f'{APPROVER} approvals-cli --token', description)})",
        f"{command} approvals list",
        f"{command} approvals approve ID     # with the id that the list shows",
    ]
    return [
        ("A call that somebody must approve: it waits for a few seconds, and then says where", call),
        (f"Approve it there: open the link and sign in as {APPROVER}. Or here, after `make cli`", "\n".join(terminal)),
        ("The same call again: now it is carried out, once", call),
    ]


def guide(demo: dict[str, Any], description: Path, *, demo_tools: bool) -> str:
    """Commands to paste. Tools are only named when they are known to exist."""
    url = demo["mcp_url"]
    scheme_and_host, path = url[: url.index("/", 8)], url[url.index("/", 8) :].rstrip("/")
    booking = {"contact_id": "CT-1001", "service": "consultation", "starts_at": "2024-03-12T09:30:00Z"}
    create = {"name": "create_booking", "arguments": booking}
    delete = {"name": "delete_crm_record", "arguments": {"record_id": "CRM-20481"}}
    tools = [
        ("Allowed: the booking client may book", curl_call(url, "tools/call", create, "TOKEN")),
        ("403: it may not delete, and is told which scope is missing", curl_call(url, "tools/call", delete, "TOKEN")),
    ]
    steps = [
        ("What clients are told about tokens", f"curl -s {scheme_and_host}/.well-known/oauth-protected-resource{path}"),
        ("401: no token", curl_call(url, "tools/list", {}, None)),
        ("A token for the booking client (others: see demo.json)", curl_token(demo, "booking")),
        ("The tools that this token may use", curl_call(url, "tools/list", {}, "TOKEN")),
        *([*tools, *as_somebody(description), *approving(demo, description)] if demo_tools else []),
        ("What Toolgate counted", f"curl -s '{demo['envoy_admin_url']}/stats?filter=toolgate'"),
        ("The audit record of the last request", f"tail -n 1 {shlex.quote(demo['audit_log'])} | python3 -m json.tool"),
    ]
    return "\n\n".join(f"# {title}\n{command}" for title, command in steps)


def stop_on_signal(number: int, frame: FrameType | None) -> None:
    """Unwind through the `with` block, which ends the children. A second signal must not interrupt that."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise Stopped


def run(arguments: argparse.Namespace) -> None:
    """Start, describe, and watch until somebody stops us."""
    ports = choose_ports(arguments)
    policy = choose_policy(arguments, ports)
    directory = (arguments.directory or DIRECTORY).resolve()
    description = directory / "demo.json"
    wasm = arguments.wasm or stack.FILTER
    require(policy, ports, arguments.upstream, wasm)
    marks = [description, *([arguments.ready_file] if arguments.ready_file else [])]
    for mark in marks:
        mark.unlink(missing_ok=True)
    try:
        with Stack(directory) as children:
            start(children, policy, ports, arguments.upstream, wasm)
            demo = describe(policy, ports, directory)
            stack.write_atomically(description, json.dumps(demo, indent=2) + "\n")
            print(guide(demo, description, demo_tools=not (arguments.policy or arguments.upstream)))
            if policy.get("approval") and not demo["approvals_url"]:
                where = Address(LOOPBACK, ports.approvals)
                print(f"\nNote: this policy asks an approval service of yours. Envoy's cluster for it is {where}.")
            if demo["issuer"] not in stack.trusted_issuers(policy):
                print(f"\nNote: this policy does not trust {demo['issuer']}, so the demo's tokens will be refused.")
            if arguments.upstream and not stack.listening(arguments.upstream):
                print(f"\nNote: nothing listens at {arguments.upstream} yet; until then allowed calls get 503.")
            print(f"\nReady: {demo['mcp_url']}   Logs and demo.json: {directory}   Stop: Ctrl-C", flush=True)
            if arguments.ready_file:
                arguments.ready_file.touch()
            while True:
                children.check()
                time.sleep(0.25)
    finally:
        for mark in marks:
            mark.unlink(missing_ok=True)


def main() -> int:
    """Exit status 0 when somebody stopped us, 1 when something went wrong."""
    arguments = parse_arguments()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, stop_on_signal)
    try:
        run(arguments)
    except Stopped:
        print("\nStopped: Envoy and the servers have ended.")
        return 0
    except StackError as error:
        print(f"toolgate demo: {error}", file=sys.stderr)
        return 1
    return 1


if __name__ == "__main__":
    sys.exit(main())
