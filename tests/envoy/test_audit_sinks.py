"""Wherever Envoy takes audit records: the same ones come out, byte for byte, and `toolgate verify-log` reads them."""

import base64
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import yaml

from support import messages, samples
from support.cli import verify
from support.gateway import Adjust, Envoy, Gateway, free_port, manager_of, plugin_of
from support.issuer import Issuer
from support.messages import Post
from support.policy import policy
from support.receivers import AccessLogService, Collector, Receiver
from support.recorder import Recorder, events

Records = list[str]
PING = messages.call("ping")
#: A client and claims whose text needs escapes in some form or other, and as much of it as a record takes.
CLAIMS = {"sub": 'zoë "Z" \\ 🙂', "groups": [f"{'ü' * 45}{number}" for number in range(30)]}


# --- Helpers ----------------------------------------------------------------------------------------------------------


def lines_of(path: Path) -> Records:
    """Lines that are complete."""
    return path.read_text(errors="replace").split("\n")[:-1] if path.exists() else []


def of_kind(records: Records, *kinds: str) -> Records:
    """Records of these kinds."""
    return [record for record in records if json.loads(record)["record"]["kind"] in kinds]


def links(records: Records) -> list[dict[str, Any]]:
    """Where records stand."""
    return [json.loads(record)["record"]["chain"] for record in records]


def ends(records: Records) -> dict[str, int]:
    """The last number of each chain that is stated, by a record or by a checkpoint."""
    found: dict[str, int] = {}
    for link in links(records):
        found[link["id"]] = max(link["seq"], found.get(link["id"], 0))
    return found


def write(directory: Path, lines: Records) -> Path:
    """A file of these lines."""
    path = Path(tempfile.mkstemp(dir=directory, suffix=".log")[1])
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


NewOwn = Callable[..., Gateway]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envoy]:
    """An Envoy whose standard output and log belong to these tests."""
    with Envoy(tmp_path_factory.mktemp("sinks")) as running:
        yield running


@pytest.fixture(scope="module")
def start(own: Envoy, issuer: Issuer) -> NewOwn:
    """Starts gateways on it, each for a resource of its own: then its chains are in no other log."""

    def begin(adjust: Adjust = lambda listener: None, clusters: Any = (), **audit: Any) -> Gateway:
        port = free_port()
        resource = {"uri": f"https://{port}.example/mcp"}
        own.put(None, list(clusters))

        def name_and_adjust(listener: dict[str, Any]) -> None:
            manager_of(listener)["stat_prefix"] = listener["name"]
            adjust(listener)

        document = policy(issuer, resource=resource, audit=audit)
        gateway = Gateway(own, document, Recorder(), port, (issuer,), {}, name_and_adjust)
        gateway.load()
        return gateway

    return begin


def token_for(gateway: Gateway, issuer: Issuer, *scopes: str, **claims: Any) -> str:
    """A token for the resource of a gateway."""
    return issuer.token(*scopes, aud=gateway.policy["resource"]["uri"], **claims)


def send_mix(gateway: Gateway, issuer: Issuer, rounds: int = 6) -> None:
    """Requests of many kinds, each on a connection of its own, so that both workers get some."""
    good, odd = token_for(gateway, issuer), token_for(gateway, issuer, **CLAIMS)
    for _ in range(rounds):
        gateway.send(PING, good)
        gateway.send(PING, odd)
        gateway.send(messages.call("résumé"), good)
        gateway.send(messages.call("unheard_of"), good)
        gateway.send(messages.call('no\u202e"such\\tool\n'), odd)
        gateway.send(PING)
        gateway.send(PING.with_body(b"{\xff"), good)
        gateway.send(Post(b"", (), "GET", "/%22%0a?q=1"), good)
        with gateway.upstream.replying(events(b'data: {"jsonrpc":"2.0","id":1,"result":{}}\n\n')):
            gateway.send2(PING, good)


def send_until(gateway: Gateway, issuer: Issuer, chains: int) -> None:
    """Requests until so many workers have had one."""
    token = token_for(gateway, issuer)
    deadline = time.monotonic() + 20
    while len(ends(lines_of(gateway.audit_log))) < chains:
        assert time.monotonic() < deadline, "the workers share no work"
        gateway.send(PING, token)


def settled(gateway: Gateway) -> Records:
    """The audit log, once there is a line for each request that Envoy counts."""

    def is_complete() -> bool:
        counter = f"http.{gateway.name}.downstream_rq_total"
        return gateway.envoy.counters(f"^{counter}$")[counter] == len(lines_of(gateway.audit_log))

    gateway.envoy.wait_until("logs are written", is_complete)
    return lines_of(gateway.audit_log)


# --- The same in all of them ------------------------------------------------------------------------------------------


@dataclass
class Sinks:
    """A gateway with every sink that there is, after some requests."""

    gateway: Gateway
    directory: Path
    file: Records
    json_file: Path
    grpc: Path
    collector: Path

    def own_log(self, *, of_stdout: bool) -> Path:
        """One of the two streams that a container shows as one."""
        lines = lines_of(self.gateway.envoy.directory / "envoy.log")
        return write(self.directory, [line for line in lines if line.startswith('{"mac"') == of_stdout])


@pytest.fixture(scope="module")
def sinks(own: Envoy, start: NewOwn, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sinks]:
    """Sends the mix once."""
    directory = tmp_path_factory.mktemp("received")
    service, collector = AccessLogService(directory / "grpc.jsonl"), Collector(directory / "otlp.jsonl")
    grpc_log, grpc_cluster = samples.service_log("grpc", "audit_log_service", service.port)
    otlp_log, otlp_cluster = samples.service_log("opentelemetry", "audit_collector", collector.port)
    stdout_log = samples.sample("stdout")["access_log"][0]
    json_file = directory / "json.log"

    def adjust(listener: dict[str, Any]) -> None:
        logs = manager_of(listener)["access_log"]
        logs[1] = samples.file_log("file", Path(logs[1]["typed_config"]["path"]))
        samples.log_to(listener, samples.file_log("json-file", json_file), stdout_log, grpc_log, otlp_log)

    gateway = start(adjust, [grpc_cluster, otlp_cluster], host_log=True, checkpoint_interval="1s")
    send_mix(gateway, issuer)
    send_until(gateway, issuer, chains=2)
    file = settled(gateway)
    found = Sinks(gateway, directory, file, json_file, service.path, collector.path)
    for path, read in ((service.path, from_grpc), (collector.path, from_otlp)):
        own.wait_until("the collectors have them", lambda path=path, read=read: len(read(path)) >= len(file))
    yield found
    service.down()
    collector.down()


def from_json_file(sinks: Sinks) -> Records:
    """The member that holds the record."""
    return [json.loads(line)["audit"] for line in lines_of(sinks.json_file)]


def from_stdout(sinks: Sinks) -> Records:
    """Lines of records among Envoy's own."""
    return lines_of(sinks.own_log(of_stdout=True))


def from_grpc(path: Path) -> Records:
    """The tag of each entry."""
    entries = [json.loads(line)["commonProperties"] for line in lines_of(path)]
    return [entry["customTags"]["toolgate.audit"] for entry in entries]


def from_otlp(path: Path) -> Records:
    """The body of each log record."""
    return [
        record["body"]["stringValue"]
        for line in lines_of(path)
        for resource in json.loads(line)["resourceLogs"]
        for scope in resource["scopeLogs"]
        for record in scope["logRecords"]
    ]


def from_host_log(sinks: Sinks) -> Records:
    """What follows the filter's words in Envoy's log, without checkpoints."""
    lines = lines_of(sinks.own_log(of_stdout=False))
    parts = [line.partition("toolgate audit ") for line in lines]
    return of_kind([record for _, mark, record in parts if mark], "request")


SINKS: dict[str, Callable[[Sinks], Records]] = {
    "json_file": from_json_file,
    "stdout": from_stdout,
    "grpc": lambda sinks: from_grpc(sinks.grpc),
    "otlp": lambda sinks: from_otlp(sinks.collector),
    "host_log": from_host_log,
}


def test_the_mix_is_one(sinks: Sinks) -> None:
    """What the other tests claim would be empty otherwise."""
    records = [json.loads(line)["record"] for line in sinks.file]
    assert {record["reason"] for record in records} >= {"permitted", "no_token", "no_rule", "insufficient_scope"}
    assert len({record["worker"] for record in records}) == 2
    assert max(map(len, sinks.file)) > 2000
    assert all(samples.sample(name) for name in ("file", "json-file", "stdout", "grpc", "opentelemetry"))


@pytest.mark.parametrize("name", SINKS)
def test_every_sink_gets_the_same_records(sinks: Sinks, name: str) -> None:
    """Each worker sends by itself, so only the order of a chain is kept."""
    assert sorted(SINKS[name](sinks)) == sorted(sinks.file)


FILES: dict[str, tuple[Callable[[Sinks], Path], list[str], str]] = {
    "file": (lambda sinks: sinks.gateway.audit_log, [], "exact"),
    "json_file": (lambda sinks: sinks.json_file, [], "wrapped"),
    "stdout": (lambda sinks: sinks.own_log(of_stdout=True), [], "exact"),
    "grpc": (lambda sinks: sinks.grpc, [], "wrapped"),
    "otlp": (lambda sinks: sinks.collector, [], "wrapped"),
    "host_log": (lambda sinks: sinks.own_log(of_stdout=False), ["--ignore-other-lines"], "prefixed"),
}


@pytest.mark.parametrize("name", FILES)
def test_every_sink_verifies(sinks: Sinks, name: str) -> None:
    path, options, form = FILES[name]
    found = verify(sinks.gateway.envoy.audit_key, *options, path(sinks))
    assert found.is_clean, found.report
    assert found.report["records"]["request"] == len(sinks.file)
    assert set(found.report["forms"]) == {form}


@pytest.mark.parametrize("name", FILES)
def test_in_every_sink_a_lost_record_and_a_changed_one_show(sinks: Sinks, name: str) -> None:
    path, options, _ = FILES[name]
    key = sinks.gateway.envoy.audit_key
    text = path(sinks).read_text()
    # Not the last one of its chain.
    record = next(line for line in sinks.file if links([line])[0]["seq"] == 3)
    wanted = links([record])[0]
    # The line with the record, and how that line writes its seal.
    mac = json.loads(record)["mac"]
    line = next(line for line in text.split("\n") if mac in line)
    end = line.index(mac) + len(mac)
    changed = line[:end] + line[end:].replace("request_bytes", "request_bytez", 1)
    assert changed != line
    broken = write(sinks.directory, text.replace(line, changed).split("\n")[:-1])
    assert verify(key, *options, broken).report["defects_by_kind"]["changed"] == 1
    if FILES[name][2] != "wrapped" or name == "json_file":  # the others have many records in a line, or escape them
        lost = write(sinks.directory, text.replace(f"{line}\n", "").split("\n")[:-1])
        defects = verify(key, *options, lost).defects
        assert [(defect["kind"], defect["first"], defect["last"]) for defect in defects] == [
            ("missing", wanted["seq"], wanted["seq"])
        ]


def test_a_log_that_a_store_has_parsed_and_written_anew_verifies(sinks: Sinks) -> None:
    """Other order of members, other blanks, other escapes, inside of something else."""

    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            names = sorted(value, key=lambda name: random.random())
            return {name: shuffled(value[name]) for name in names}
        return [shuffled(each) for each in value] if isinstance(value, list) else value

    anew = [
        json.dumps({"_id": number, "doc": shuffled(json.loads(line))}, indent=None, separators=(" ,", " : "))
        for number, line in enumerate(sinks.file)
    ]
    found = verify(sinks.gateway.envoy.audit_key, write(sinks.directory, anew))
    assert found.is_clean, found.report
    assert found.report["forms"] == {"rewritten": len(sinks.file)}
    changed = [line.replace('"status"', '"statuz"', 1) for line in anew]
    assert verify(sinks.gateway.envoy.audit_key, write(sinks.directory, changed)).report["defects_by_kind"]["changed"]


def test_a_log_of_records_taken_for_bytes_verifies(own: Envoy, start: NewOwn, issuer: Issuer, tmp_path: Path) -> None:
    """The gRPC access log service of older Envoys, and of Istio: protobuf writes bytes in Base64."""
    service = AccessLogService(tmp_path / "received.jsonl")
    log, cluster = samples.service_log("grpc", f"bytes-{service.port}", service.port)
    common = log["typed_config"]["common_config"]
    del common["custom_tags"]
    common["filter_state_objects_to_log"] = ["wasm.toolgate.audit"]
    gateway = start(lambda listener: samples.log_to(listener, log), [cluster])
    send_mix(gateway, issuer, 1)
    file = settled(gateway)
    own.wait_until("the service has them", lambda: len(lines_of(service.path)) >= len(file))
    service.down()
    objects = [json.loads(line)["commonProperties"]["filterStateObjects"] for line in lines_of(service.path)]
    values = [each["wasm.toolgate.audit"] for each in objects]
    assert {value["@type"] for value in values} == {"type.googleapis.com/google.protobuf.BytesValue"}
    assert sorted(base64.b64decode(value["value"]).decode() for value in values) == sorted(file)
    found = verify(own.audit_key, service.path)
    assert found.is_clean and found.report["forms"] == {"wrapped": len(file)}, found.report


def test_the_sample_for_a_mesh_names_what_there_is() -> None:
    """It is not run. At least it is YAML, and names the record as the other samples do."""
    mesh, telemetry = yaml.safe_load_all((samples.DIRECTORY / "istio.yaml").read_text())
    providers = {provider["name"]: provider for provider in mesh["extensionProviders"]}
    for name, provider in providers.items():
        assert "wasm.toolgate.audit" in json.dumps(provider), name
    used = [provider["name"] for log in telemetry["spec"]["accessLogging"] for provider in log["providers"]]
    assert used and set(used) <= set(providers)


# --- Receivers that fail ----------------------------------------------------------------------------------------------


@dataclass
class Shipped:
    """A gateway whose records go to a receiver too, which has got the first of them."""

    gateway: Gateway
    receiver: Receiver
    read: Callable[[Path], Records]
    cluster: str

    def received(self) -> Records:
        """What has arrived."""
        return self.read(self.receiver.path)

    def wait_for_all(self) -> None:
        """Waits until every record has arrived."""
        sent = sorted(settled(self.gateway))
        self.gateway.envoy.wait_until("all records arrive", lambda: sorted(self.received()) == sent)

    def wait_for_the_last(self) -> None:
        """Waits until the last record of each chain has arrived."""
        sent = ends(settled(self.gateway))
        self.gateway.envoy.wait_until("the last records arrive", lambda: ends(self.received()) == sent)

    def send(self, issuer: Issuer, count: int) -> None:
        """Requests with large records; none waits for the receiver."""
        token = token_for(self.gateway, issuer, **CLAIMS)
        began = time.monotonic()
        for _ in range(count):
            assert self.gateway.send(PING, token).status == 200
        assert time.monotonic() - began < 5 + count / 50

    def assert_loss_shows(self) -> None:
        """Every record that did not arrive is missing, and nothing else is wrong."""
        lost = len(settled(self.gateway)) - len(self.received())
        found = verify(self.gateway.envoy.audit_key, "--max-defects", "10000", self.receiver.path)
        assert set(found.report["defects_by_kind"]) == {"missing"}, found.report
        assert sum(defect["last"] - defect["first"] + 1 for defect in found.defects) == lost > 0


NewShipped = Callable[[str], Shipped]


@pytest.fixture
def ship(own: Envoy, start: NewOwn, issuer: Issuer, tmp_path: Path) -> Iterator[NewShipped]:
    """Starts gateways with one of the samples."""
    receivers: list[Receiver] = []

    def begin(name: str) -> Shipped:
        kind, read = {"grpc": (AccessLogService, from_grpc), "opentelemetry": (Collector, from_otlp)}[name]
        receiver = kind(tmp_path / "received.jsonl")
        receivers.append(receiver)
        cluster_name = f"{name}-{receiver.port}"
        log, cluster = samples.service_log(name, cluster_name, receiver.port)
        # Little room, so that a test fills it.
        cluster["per_connection_buffer_limit_bytes"] = 65536
        (options,) = cluster["typed_extension_protocol_options"].values()
        options["explicit_http_config"]["http2_protocol_options"]["initial_stream_window_size"] = 65535
        gateway = start(lambda listener: samples.log_to(listener, log), [cluster])
        send_until(gateway, issuer, chains=2)
        shipped = Shipped(gateway, receiver, read, cluster_name)
        shipped.wait_for_all()
        return shipped

    yield begin
    for receiver in receivers:
        receiver.down()


@pytest.mark.parametrize("name", ["grpc", "opentelemetry"])
def test_what_a_receiver_that_is_down_misses_is_missing(
    ship: NewShipped, own: Envoy, issuer: Issuer, name: str
) -> None:
    shipped = ship(name)
    failures = f"cluster.{shipped.cluster}.upstream_cx_connect_fail"
    before = dropped(own, name)
    shipped.receiver.down()
    shipped.send(issuer, 20)
    own.wait_until("both workers try", lambda: own.counters(f"^{failures}$")[failures] >= 2)
    shipped.receiver.up()
    send_until_received(shipped, issuer)
    shipped.assert_loss_shows()
    # Envoy's counter is no help with the gRPC access log service: it takes what it has handed to a stream for sent.
    assert (dropped(own, name) > before) == (name == "opentelemetry")


def dropped(envoy: Envoy, name: str) -> int:
    """Entries that Envoy says it has dropped."""
    counter = f"access_logs.{'grpc' if name == 'grpc' else 'open_telemetry'}_access_log.logs_dropped"
    return envoy.counters(f"^{counter}$")[counter]


def send_until_received(shipped: Shipped, issuer: Issuer) -> None:
    """Requests until each worker's arrive again."""
    before = ends(settled(shipped.gateway))

    def have_all_arrived() -> bool:
        shipped.send(issuer, 4)
        now = ends(shipped.received())
        return all(now.get(chain, 0) > last for chain, last in before.items())

    shipped.gateway.envoy.wait_until("records arrive again", have_all_arrived)
    shipped.wait_for_the_last()


def test_what_does_not_fit_on_the_way_to_a_slow_service_is_missing(
    ship: NewShipped, own: Envoy, issuer: Issuer
) -> None:
    shipped = ship("grpc")
    before = dropped(own, "grpc")
    shipped.receiver.gate.clear()
    own.wait_until("Envoy drops entries", lambda: shipped.send(issuer, 100) or dropped(own, "grpc") > before)
    shipped.receiver.gate.set()
    send_until_received(shipped, issuer)
    shipped.assert_loss_shows()


def test_a_slow_collector_gets_everything_but_not_in_order(ship: NewShipped, own: Envoy, issuer: Issuer) -> None:
    """Exports are calls of their own, and overtake each other."""
    shipped = ship("opentelemetry")
    active = f"cluster.{shipped.cluster}.upstream_rq_active"
    shipped.receiver.gate.clear()
    own.wait_until("exports wait", lambda: shipped.send(issuer, 20) or own.counters(f"^{active}$")[active] >= 4)
    shipped.receiver.gate.set()
    shipped.wait_for_all()
    found = verify(own.audit_key, shipped.receiver.path)
    assert set(found.report["defects_by_kind"]) <= {"out_of_order"}
    in_order = sorted(shipped.received(), key=lambda record: links([record])[0]["seq"])
    assert verify(own.audit_key, write(shipped.receiver.path.parent, in_order)).is_clean


# --- Checkpoints ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def anchored(own: Envoy, start: NewOwn, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Gateway:
    """A gateway whose checkpoints go into the file of its records; all that it wrote is covered by them."""
    socket = Path(tempfile.mkdtemp()) / "anchor.sock"  # pytest's directories are too long for a socket

    def adjust(listener: dict[str, Any]) -> None:
        log = Path(manager_of(listener)["access_log"][1]["typed_config"]["path"])
        anchor_listener, cluster = samples.anchor("audit_anchor", socket, log)
        own.put(anchor_listener, [cluster])

    anchor = {"cluster": "audit_anchor", "path": "/checkpoints"}
    gateway = start(adjust, anchor=anchor, checkpoint_interval="1s")
    send_mix(gateway, issuer, 2)
    send_until(gateway, issuer, chains=2)
    wait_for_checkpoints(gateway)
    return gateway


def wait_for_checkpoints(gateway: Gateway) -> None:
    """Waits until the last record of each chain is covered."""

    def covered() -> bool:
        lines = lines_of(gateway.audit_log)
        return ends(of_kind(lines, "checkpoint")) == ends(of_kind(lines, "request"))

    gateway.envoy.wait_until("checkpoints", covered, 10)


def test_checkpoints_are_in_the_stream_of_the_records(anchored: Gateway) -> None:
    lines = lines_of(anchored.audit_log)
    assert "-" not in lines
    found = verify(anchored.envoy.audit_key, anchored.audit_log)
    assert found.is_clean, found.report
    assert found.report["records"]["checkpoint"] >= 2
    assert {chain["vouched"]["seq"] - chain["last"] for chain in found.report["chains"]} == {0}


def test_the_end_of_a_chain_cannot_be_cut_off(anchored: Gateway, tmp_path: Path) -> None:
    lines = lines_of(anchored.audit_log)
    for chain, last in ends(lines).items():
        for count in (1, 2):
            cut = range(last - count + 1, last + 1)
            kept = [
                line
                for line in lines
                if (link := links([line])[0])["id"] != chain or link["seq"] not in cut or of_kind([line], "checkpoint")
            ]
            assert len(kept) == len(lines) - count
            found = verify(anchored.envoy.audit_key, write(tmp_path, kept))
            assert found.exit_code == 1
            defects = [defect for defect in found.defects if defect["kind"] == "cut_off"]
            assert [(defect["chain"], defect["first"]) for defect in defects] == [(chain, cut[0])], found.report


def test_workers_that_rest_send_no_checkpoints(anchored: Gateway, issuer: Issuer) -> None:
    """And the next record is covered again."""
    before = lines_of(anchored.audit_log)
    time.sleep(3)  # three intervals
    assert lines_of(anchored.audit_log) == before
    anchored.send(PING, token_for(anchored, issuer))
    anchored.envoy.wait_until("its record", lambda: len(lines_of(anchored.audit_log)) > len(before))
    wait_for_checkpoints(anchored)
    assert len(of_kind(lines_of(anchored.audit_log)[len(before) :], "checkpoint")) == 1
    assert verify(anchored.envoy.audit_key, anchored.audit_log).is_clean


# --- Chains -----------------------------------------------------------------------------------------------------------


def heads(gateway: Gateway) -> int:
    """How often records say how far other chains are."""
    return sum(len(json.loads(line)["record"].get("heads", [])) for line in lines_of(gateway.audit_log))


def host_checkpoints(gateway: Gateway) -> int:
    """Checkpoints of the gateway's chains in Envoy's log."""
    chains = ends(lines_of(gateway.audit_log))
    parts = [line.partition("toolgate audit ")[2] for line in gateway.envoy.log.splitlines()]
    checkpoints = of_kind([part for part in parts if part], "checkpoint")
    return sum(link["id"] in chains for link in links(checkpoints))


@pytest.mark.parametrize("vm_id", ["toolgate", ""])
def test_workers_tell_each_other_how_far_they_are(start: NewOwn, issuer: Issuer, vm_id: str) -> None:
    """Not with an empty `vm_id`, where any other module could speak for them; the records are fine all the same."""

    def adjust(listener: dict[str, Any]) -> None:
        plugin_of(listener)["vm_config"]["vm_id"] = vm_id

    gateway = start(adjust, host_log=True, checkpoint_interval="1s")
    send_until(gateway, issuer, chains=2)
    for rounds in (2, 4):  # in the second round, each worker has heard of the other one if it ever does
        gateway.envoy.wait_until("checkpoints", lambda rounds=rounds: host_checkpoints(gateway) >= rounds)
        before = ends(settled(gateway))
        while any(ends(settled(gateway))[chain] == last for chain, last in before.items()):
            gateway.send(PING, token_for(gateway, issuer))
    assert (heads(gateway) > 0) == (vm_id != "")
    assert verify(gateway.envoy.audit_key, gateway.audit_log).is_clean


def test_a_log_that_was_rotated_is_one_log(start: NewOwn, issuer: Issuer) -> None:
    """As docs/retention.md does it: the file is moved away, then Envoy opens a new one."""
    gateway = start()
    rotated: list[Path] = []
    for number in range(2):
        send_mix(gateway, issuer, 1)
        moved = gateway.audit_log.with_suffix(f".{number}")
        gateway.audit_log.rename(moved)
        gateway.send(PING)
        gateway.envoy.admin("/reopen_logs", "POST")
        gateway.send(PING)
        gateway.envoy.wait_until("a new file", gateway.audit_log.exists)
        rotated.append(moved)
    send_until(gateway, issuer, chains=2)
    counter = f"http.{gateway.name}.downstream_rq_total"
    count = gateway.envoy.counters(f"^{counter}$")[counter]
    files = [*rotated, gateway.audit_log]
    gateway.envoy.wait_until("all lines", lambda: sum(len(lines_of(file)) for file in files) == count)
    key = gateway.envoy.audit_key
    assert verify(key, *files).is_clean
    assert verify(key, rotated[0]).is_clean
    assert verify(key, "--continued", gateway.audit_log).is_clean
    assert "missing" in verify(key, rotated[0], gateway.audit_log).report["defects_by_kind"]


def test_two_resources_have_chains_of_their_own(start: NewOwn, issuer: Issuer, tmp_path: Path) -> None:
    """In one virtual machine. Each log can be verified without the other one, and both as one."""
    gateways = [start(), start()]
    for _ in range(3):
        for gateway in gateways:
            send_mix(gateway, issuer, 1)
    for gateway in gateways:
        send_until(gateway, issuer, chains=2)
    logs = [settled(gateway) for gateway in gateways]
    assert not ends(logs[0]).keys() & ends(logs[1]).keys()
    workers = [{json.loads(line)["record"]["worker"] for line in log} for log in logs]
    for files in ([logs[0]], [logs[1]], logs):
        found = verify(gateways[0].envoy.audit_key, *(write(tmp_path, log) for log in files))
        assert found.is_clean, found.report
        assert len(found.report["chains"]) == 2 * len(files)
    assert all(len(each) == 2 for each in workers)


# --- Lines before the end ---------------------------------------------------------------------------------------------


def log_early(listener: dict[str, Any]) -> None:
    """Lets Envoy log requests while they last, the sample `file` in place of the reference's entry."""
    manager = manager_of(listener)
    manager["access_log_options"] = {"flush_access_log_on_new_request": True, "access_log_flush_interval": "0.1s"}
    path = Path(manager["access_log"][1]["typed_config"]["path"])
    manager["access_log"][1] = samples.file_log("file", path)


def test_lines_of_requests_that_go_on_are_provisional(start: NewOwn, issuer: Issuer) -> None:
    """What Envoy logs while a request lasts is no part of the chain, and the last word comes later."""
    gateway = start(log_early)
    go_on = Event()
    event = b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{}}\n\n'
    result = b'data: {"jsonrpc":"2.0","id":1,"result":{}}\n\n'
    key = gateway.envoy.audit_key
    with gateway.upstream.replying(events(event, result, before_last=go_on)), ThreadPoolExecutor(1) as pool:
        answer = pool.submit(gateway.send, PING, token_for(gateway, issuer))
        gateway.envoy.wait_until("two periods", lambda: len(of_kind(records_of(gateway), "provisional")) >= 2)
        while_it_lasts = verify(key, gateway.audit_log)
        go_on.set()
        assert answer.result().status == 200
    assert while_it_lasts.is_clean and while_it_lasts.report["unended"]["count"] == 1
    gateway.envoy.wait_until("the end", lambda: verify(key, gateway.audit_log).report["unended"]["count"] == 0)
    lines = [json.loads(line)["record"] for line in lines_of(gateway.audit_log)]
    found = verify(key, gateway.audit_log)
    assert found.is_clean and found.report["records"]["request"] == 2, found.report
    assert [(line["id"], line["reason"]) for line in lines[1:]] == [(lines[-1]["id"], "permitted")] * len(lines[1:])


def test_a_line_of_a_request_that_is_held_has_no_record_yet(start: NewOwn, issuer: Issuer) -> None:
    """A limit of such lines: they show as requests without a record."""
    gateway = start(log_early)
    key = issuer.rotate()
    issuer.gate.clear()
    try:
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(gateway.send, PING, token_for(gateway, issuer, key=key))
            gateway.envoy.wait_until("a line", lambda: "-" in lines_of(gateway.audit_log))
            issuer.gate.set()
            assert answer.result().status == 200
    finally:
        issuer.gate.set()
    found = verify(gateway.envoy.audit_key, gateway.audit_log)
    assert set(found.report["defects_by_kind"]) == {"no_record"}


def records_of(gateway: Gateway) -> Records:
    """Lines that are records."""
    return [line for line in lines_of(gateway.audit_log) if line != "-"]
