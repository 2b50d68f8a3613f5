"""What a request costs in Envoy with the filter, against the same Envoy without it.

    python benches/envoy.py [--rounds 20] [--seconds 0.3] [--json FILE]

CPU time, not latency: a machine that is busy with other things delays requests, but the work stays the same. One Envoy
process with one worker has a listener for each variant, all made from envoy/envoy.yaml; each round visits them in random
order over one connection, and only ratios within a round are compared. The listener without the filter is there twice:
how far its two ratios are apart says how far to trust the others. Needs `make build` and demo/requirements.txt.

Tokens are in the cache. The filter is there twice as well: without audit records, and with them written to a file.

The upstream is a second Envoy with a buffer filter: a bare direct_response closes the connection after a body, and
what is measured then is reconnecting. It answers calls with a small result, and requests for tools with a list or with
events, which the filter reads.
"""

import argparse
import copy
import json
import platform
import random
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.jwk import RSAKey

# In place of this directory, where the package `envoy` would be this file.
sys.path[0] = str(Path(__file__).resolve().parent.parent / "demo")

import stack
from stack import LOOPBACK, Address, Document, Ports, Stack, named

ISSUER = "https://issuer.test"
BASELINE = "no filter"
FILTERED = "toolgate, no records"
RECORDED = "toolgate"
VARIANTS = [BASELINE, "no filter, again", FILTERED, RECORDED]
SIZES = {"346 B": 346, "10 KB": 10_000, "100 KB": 100_000}
CHUNK = 65536


# --- What the upstream answers --------------------------------------------------------------------------------------


def tool_list(count: int) -> bytes:
    """A page of tools with descriptions and schemas as servers write them, a third of them hidden from the caller."""
    properties = {
        "contact_id": {"type": "string", "description": "Identifier from find_contacts", "maxLength": 64},
        "channel": {"type": "string", "enum": ["sms", "email", "push"], "default": "sms"},
        "text": {"type": "string", "maxLength": 1600},
    }
    tools = [
        {
            "name": f"tool_{number}" if number % 3 == 0 else "read_contact",
            "description": "Sends a text message to one contact. Use it for reminders, not for campaigns. " * 2,
            "inputSchema": {"type": "object", "required": ["contact_id"], "properties": properties},
        }
        for number in range(count)
    ]
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": tools}}).encode()


def event_stream(count: int, size: int) -> bytes:
    """Notifications of about this size, as events."""
    message = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x" * size}}
    return f"event: message\ndata: {json.dumps(message)}\n\n".encode() * count


RESULT = {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": "ok"}], "isError": False}}
#: By the header `x-answer` that asks for it: media type and body.
ANSWERS: dict[str, tuple[str, bytes]] = {
    "result": ("application/json", json.dumps(RESULT).encode()),
    "list of 10 tools": ("application/json", tool_list(10)),
    "list of 100 tools": ("application/json", tool_list(100)),
    "1 MB of events of 200 B": ("text/event-stream", event_stream(4000, 150)),
    "1 MB of events of 4 KB": ("text/event-stream", event_stream(250, 4000)),
}


# --- Configuration --------------------------------------------------------------------------------------------------


def bench_policy(resource: str, key: RSAKey) -> Document:
    """The demo policy, moved here, with the issuer's key in it. Nothing that is measured waits for people."""
    policy = stack.load_document(stack.DEMO_POLICY)
    del policy["approval"]
    policy["resource"]["uri"] = resource
    inline = {"keys": [{**key.as_dict(private=False), "kid": "bench", "alg": "RS256", "use": "sig"}]}
    policy["authentication"]["jwt"][0] |= {"issuer": ISSUER, "jwks": {"inline": inline}}
    return policy


def gateway_config(policy: Document, ports: dict[str, int], admin: int, upstream: Address, directory: Path) -> Document:
    """The reference configuration with a listener for each variant, without the access log, which all would write."""
    first = Ports(ports[BASELINE], upstream.port, upstream.port, admin)
    logs = {"access_log": directory / "unused.log", "audit_log": directory / "audit.log"}
    config = stack.render_envoy_config(policy, first, upstream=upstream, **logs)
    listeners = config["static_resources"]["listeners"]
    template = listeners.pop()
    for variant, port in ports.items():
        listener = copy.deepcopy(template)
        listener["name"] = f"variant_{port}"
        listener["address"]["socket_address"]["port_value"] = port
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        del manager["access_log"][0 if variant == RECORDED else slice(None)]
        manager["route_config"]["virtual_hosts"][0]["domains"] = ["*"]
        if variant not in (FILTERED, RECORDED):
            manager["http_filters"].remove(named(manager["http_filters"], "toolgate"))
        elif variant == FILTERED:
            plugin = named(manager["http_filters"], "toolgate")["typed_config"]["config"]
            plugin["configuration"]["value"] = json.dumps(policy | {"audit": {"records": "off"}})
        listeners.append(listener)
    return config


def upstream_config(port: int, admin: int) -> Document:
    """An Envoy that answers every request as it is asked to, once it has read the whole of it."""
    types = "type.googleapis.com/envoy.extensions.filters"
    routes = [
        {
            "match": {"prefix": "/", "headers": [{"name": "x-answer", "string_match": {"exact": name}}]},
            "direct_response": {"status": 200, "body": {"inline_string": body.decode()}},
            "response_headers_to_add": [{"header": {"key": "content-type", "value": media_type}}],
        }
        for name, (media_type, body) in ANSWERS.items()
    ]
    manager = {
        "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "upstream",
        "route_config": {
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}],
            "max_direct_response_body_size_bytes": 4_000_000,
        },
        "http_filters": [
            {
                "name": "buffer",
                "typed_config": {"@type": f"{types}.http.buffer.v3.Buffer", "max_request_bytes": 2_000_000},
            },
            {"name": "router", "typed_config": {"@type": f"{types}.http.router.v3.Router"}},
        ],
    }
    listener = {
        "address": {"socket_address": {"address": LOOPBACK, "port_value": port}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    admin_address = {"socket_address": {"address": LOOPBACK, "port_value": admin}}
    return {"admin": {"address": admin_address}, "static_resources": {"listeners": [listener]}}


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at the moment."""
    sockets = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


# --- Load -----------------------------------------------------------------------------------------------------------


def call_bytes(token: str, size: int) -> bytes:
    """A call of a tool whose JSON has this many bytes."""
    entry = {"to": "anna@example.com", "text": "Your booking is confirmed.", "count": 3, "urgent": False}
    entries: list[Any] = [""] + [entry] * max(0, (size - 300) // (len(json.dumps(entry)) + len(", ")))
    params = {"name": "read_contact", "arguments": {"contact_id": "c-17", "entries": entries}}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    entries[0] = "x" * (size - len(json.dumps(call)))
    body = json.dumps(call).encode()
    assert len(body) == size
    return request_bytes(token, body, "result")


def list_bytes(token: str, answer: str) -> bytes:
    """A request for tools, and what it is answered with."""
    return request_bytes(token, json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode(), answer)


def request_bytes(token: str, body: bytes, answer: str) -> bytes:
    """A POST of a body, and what it is answered with."""
    head = (
        "POST /mcp HTTP/1.1\r\nhost: gateway.test\r\ncontent-type: application/json\r\n"
        "accept: application/json, text/event-stream\r\nmcp-protocol-version: 2025-11-25\r\n"
        f"x-answer: {answer}\r\nauthorization: Bearer {token}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Connection:
    """One connection that sends the same request again and again."""

    def __init__(self, port: int, request: bytes) -> None:
        self.request = request
        self.socket = socket.create_connection((LOOPBACK, port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def exchange(self) -> None:
        """Sends the request once and reads the whole answer."""
        self.socket.sendall(self.request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.received()
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head.decode(errors="replace")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        pieces, length = [body], len(body)
        if b"content-length" in fields:
            while length < int(fields[b"content-length"]):
                pieces.append(self.received())
                length += len(pieces[-1])
        else:
            while not b"".join(pieces[-2:]).endswith(b"\r\n0\r\n\r\n"):
                pieces.append(self.received())

    def received(self) -> bytes:
        """What has arrived; an answer that breaks off ends the benchmark."""
        chunk = self.socket.recv(CHUNK)
        assert chunk, "Envoy closed the connection"
        return chunk

    def repeat(self, seconds: float) -> int:
        """Exchanges for so long; how many there were."""
        deadline, count = time.monotonic() + seconds, 0
        while time.monotonic() < deadline:
            self.exchange()
            count += 1
        return count


def cpu_ns(pid: int) -> int:
    """CPU time of all threads of a process, in nanoseconds."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())


def measure(pid: int, connections: dict[str, Connection], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Microseconds of CPU per request for each variant, round by round."""
    costs: dict[str, list[float]] = {variant: [] for variant in connections}
    for connection in connections.values():
        connection.repeat(max(seconds, 0.5))
    for _ in range(rounds):
        for variant in random.sample(list(connections), len(connections)):
            before = cpu_ns(pid)
            count = connections[variant].repeat(seconds)
            costs[variant].append((cpu_ns(pid) - before) / count / 1000)
    return costs


def summary(costs: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Per variant the median cost, the median of its ratio to the baseline of the same round, and its quartiles."""
    rows = {}
    for variant, values in costs.items():
        ratios = [value / base for value, base in zip(values, costs[BASELINE], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        rows[variant] = {"us": statistics.median(values), "ratio": middle, "ratio_q1": low, "ratio_q3": high}
    return rows


def markdown(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """The results as a table."""
    lines = ["| what | variant | CPU per request | ratio, median | quartiles |", "|---|---|---|---|---|"]
    for size, rows in results.items():
        for variant, row in rows.items():
            lines.append(
                f"| {size} | {variant} | {row['us']:.0f} us | **{row['ratio']:.2f}** "
                f"| {row['ratio_q1']:.2f} to {row['ratio_q3']:.2f} |"
            )
    return "\n".join(lines)


# --- Everything together --------------------------------------------------------------------------------------------


def run(rounds: int, seconds: float) -> dict[str, dict[str, dict[str, float]]]:
    """Starts both Envoys and measures every size."""
    key = RSAKey.generate_key(2048)
    resource, now = "https://gateway.test/mcp", int(time.time())
    # A person through an agent, so that every side is asked.
    names = {"iss": ISSUER, "aud": resource, "sub": "scheduler", "client_id": "demo-booking-agent"}
    claims = {**names, "roles": ["schedulers"], "scope": "norg:contacts:read", "iat": now, "exp": now + 3600}
    token = jwt.encode({"alg": "RS256", "kid": "bench", "typ": "at+jwt"}, claims, key)
    *variant_ports, admin, upstream, upstream_admin = free_ports(len(VARIANTS) + 3)
    ports = dict(zip(VARIANTS, variant_ports, strict=True))
    with tempfile.TemporaryDirectory() as temporary, Stack(Path(temporary)) as envoys:
        directory = Path(temporary)
        configs = {
            "upstream": upstream_config(upstream, upstream_admin),
            "gateway": gateway_config(
                bench_policy(resource, key), ports, admin, Address(LOOPBACK, upstream), directory
            ),
        }
        for name, config in configs.items():
            path = directory / f"{name}.yaml"
            path.write_text(stack.dump_document(config))
            command = stack.envoy_command(path)
            command[command.index("--concurrency") + 1] = "1"
            envoys.start(name, command, {stack.AUDIT_KEY: stack.new_key()})
        addresses = [f"http://{LOOPBACK}:{port}/ready" for port in (admin, upstream_admin)]
        envoys.wait_until("both are ready", lambda: all(stack.http_status(address) == 200 for address in addresses))
        gateway = envoys.children[-1].process.pid
        results = {}
        requests = {f"call of {label}": call_bytes(token, size) for label, size in SIZES.items()}
        requests |= {answer: list_bytes(token, answer) for answer in ANSWERS if answer != "result"}
        for label, request in requests.items():
            connections = {variant: Connection(port, request) for variant, port in ports.items()}
            results[label] = summary(measure(gateway, connections, rounds, seconds))
            for connection in connections.values():
                connection.socket.close()
    return results


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.3, help="per variant and round")
    parser.add_argument("--json", type=Path, help="also write the results there")
    arguments = parser.parse_args()
    results = run(arguments.rounds, arguments.seconds)
    print(markdown(results))
    if arguments.json:
        machine = {"cpus": len(list(Path("/sys/devices/system/cpu").glob("cpu[0-9]*"))), "system": platform.platform()}
        report = {"machine": machine, "rounds": arguments.rounds, "seconds": arguments.seconds, "results": results}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
