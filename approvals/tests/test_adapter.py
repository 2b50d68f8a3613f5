"""The example of a service of one's own does what the contract says; its desk is a directory, or a program."""

import json
import os
import re
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract_suite import *  # noqa: F403

ADAPTER = Path(__file__).parent.parent / "examples" / "adapter.py"
AUDIENCE, ISSUER = "https://mcp.example/mcp", "https://approvals.example"
IDP = "https://idp.example"
SETTLES_IN = 1.0


class Adapter:
    """A running adapter. It can be killed and started again, and more than one can have the same store."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.desk, self.token = directory, directory / "desk", secrets.token_urlsafe(48)
        self.processes: list[subprocess.Popen[str]] = []
        self.lock = threading.Lock()
        self.run("keygen", "key.json")

    def run(self, *arguments: str) -> str:
        """What a command of it prints."""
        command = [sys.executable, ADAPTER, *arguments]
        return subprocess.run(command, cwd=self.directory, check=True, capture_output=True, text=True).stdout

    def start(self, *more: str) -> str:
        """Starts one; the address it listens at."""
        command = [sys.executable, str(ADAPTER), "serve", "--listen", "127.0.0.1:0", "--key", "key.json"]
        command += ["--issuer", ISSUER, "--audience", AUDIENCE, *(more or ["--desk", "desk"])]
        environment = os.environ | {"TOOLGATE_APPROVAL_TOKEN": self.token}
        process = subprocess.Popen(command, cwd=self.directory, env=environment, stderr=subprocess.PIPE, text=True)
        self.processes.append(process)
        assert process.stderr is not None
        line = process.stderr.readline()
        url = re.search(r"http://\S+", line)
        assert url, line
        return url[0]

    def kill(self) -> None:
        """Ends all of them, at once."""
        for process in self.processes:
            process.kill()
            process.wait(10)
            assert process.stderr is not None
            process.stderr.close()
        self.processes.clear()

    def vote(self, identifier: str, decision: str, subject: str, roles: list[str], reason: str = "") -> None:
        """What a person writes into a file of the desk. Voting again is another vote."""
        path = self.desk / f"{identifier}.json"
        until = time.monotonic() + SETTLES_IN
        while not path.exists():
            if time.monotonic() > until:
                return  # it ended before anybody was asked
            time.sleep(0.05)
        vote = {"iss": IDP, "sub": subject, "roles": roles, "decision": decision, "reason": reason}
        with self.lock:
            content = json.loads(path.read_text())
            content["votes"].append(vote)
            new = path.with_suffix(".new")
            new.write_text(json.dumps(content))
            new.replace(path)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adapter]:
    adapter = Adapter(tmp_path_factory.mktemp("adapter"))
    yield adapter
    adapter.kill()


@pytest.fixture(scope="module")
def url(adapter: Adapter) -> str:
    return adapter.start()


@pytest.fixture
def service(adapter: Adapter, url: str) -> Service:
    return Service(url, AUDIENCE, ISSUER, adapter.token, adapter.vote, SETTLES_IN)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Adapter]:
    """One that a test may kill."""
    adapter = Adapter(tmp_path)
    yield adapter
    adapter.kill()


def of(adapter: Adapter, url: str) -> Service:
    return Service(url, AUDIENCE, ISSUER, adapter.token, adapter.vote, SETTLES_IN)


def test_two_processes_with_one_store_consume_once(own: Adapter) -> None:
    services = [of(own, own.start()) for _ in range(2)]
    for _ in range(3):
        _, approval = services[0].approved()
        with ThreadPoolExecutor(12) as pool:
            tries = [pool.submit(services[number % 2].consume, approval) for number in range(12)]
        answers = [one.result().status for one in tries]
        assert sorted(answers) == [200] + [409] * 11


def test_nothing_is_lost_when_it_is_killed(own: Adapter) -> None:
    service = of(own, own.start())
    _, approved = service.approved()
    _, consumed = service.approved()
    assert service.consume(consumed).status == 200
    _, pending = service.pending()
    service.read(pending, wait=1).state("pending")
    own.kill()
    own.vote(pending["id"], "approve", "carol", [ROLE])
    service = of(own, own.start())
    service.read(pending, wait=10).state("approved")
    assert service.consume(approved).status == 200
    service.consume(consumed).problem(409, "used")


def test_a_program_can_be_the_desk(own: Adapter) -> None:
    program = own.directory / "ask"
    vote = {"iss": IDP, "sub": "carol", "roles": [ROLE], "decision": "approve"}
    program.write_text(f"#!/bin/sh\ngrep -q send_message && echo '{json.dumps([vote])}'\n")
    program.chmod(0o755)
    service = of(own, own.start("--command", str(program)))
    request, approval = service.pending()
    service.read(approval, wait=10).state("approved")
    assert service.consume(approval).status == 200
    # A desk that fails approves nothing.
    call = request["call"] | {"name": "other"}
    _, other = service.pending(call=call)
    service.read(other, wait=1).state("pending")


def test_a_file_that_is_no_vote_approves_nothing(own: Adapter) -> None:
    service = of(own, own.start())
    _, approval = service.pending()
    path = own.desk / f"{approval['id']}.json"
    service.decide(approval["id"], "maybe", "carol", [ROLE])
    service.read(approval, wait=1).state("pending")
    path.write_text("{")
    service.read(approval, wait=1).state("pending")


def test_a_weak_secret_is_refused(own: Adapter) -> None:
    own.token = "short"
    with pytest.raises(AssertionError, match="openssl rand -base64 32"):
        own.start()
