"""The reference approval service as operators run it: its binary, on SQLite or on a PostgreSQL of its own, with people
who decide through its API."""

import json
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import stack
from stack import LOOPBACK

from .approval_service import cluster_of
from .gateway import free_port
from .issuer import Issuer

Json = dict[str, Any]

#: The binary, unless TOOLGATE_APPROVALS_BIN names another.
BINARY = Path(os.environ.get("TOOLGATE_APPROVALS_BIN") or stack.ROOT / "target" / "cli" / "toolgate-approvals")
#: Whom approvers' tokens are for, and the client that they are issued to.
AUDIENCE, CLIENT = "https://approvals.norg.example", "approvals-cli"
ROLE = "automation_admin"


class SignIn(Issuer):
    """An OpenID Connect provider, as far as access tokens go: metadata, keys and tokens."""

    def answer(self, path: str) -> tuple[int, bytes]:
        if path == "/.well-known/openid-configuration":
            return 200, json.dumps(self.metadata()).encode()
        return super().answer(path)

    def metadata(self) -> Json:
        """OpenID Connect Discovery 1.0."""
        return {
            "issuer": self.name,
            "authorization_endpoint": f"{self.name}/authorize",
            "token_endpoint": f"{self.name}/token",
            "jwks_uri": f"{self.name}/jwks",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": sorted({key.alg for key in self.keys}),
            "code_challenge_methods_supported": ["S256"],
        }

    def person(self, subject: str = "bob", *roles: str, **changes: Any) -> str:
        """The access token of a person who decides."""
        claims = {"sub": subject, "aud": AUDIENCE, "client_id": CLIENT, "roles": list(roles or (ROLE,))}
        return self.token(**claims | changes)


@dataclass
class Postgres:
    """A PostgreSQL of its own."""

    programs: Path
    port: int
    process: "subprocess.Popen[bytes]"
    databases: int = 0

    def fresh(self) -> str:
        """A new database, as the service is told of it."""
        self.databases += 1
        name = f"approvals{self.databases}"
        done = self.psql(f"CREATE DATABASE {name}")
        assert done.returncode == 0, done.stderr
        return f"postgres://postgres@{LOOPBACK}:{self.port}/{name}"

    def psql(self, statement: str) -> "subprocess.CompletedProcess[str]":
        """Runs a statement."""
        command = [
            str(self.programs / "psql"),
            "-h",
            LOOPBACK,
            "-p",
            str(self.port),
            "-U",
            "postgres",
            "-d",
            "postgres",
        ]
        return subprocess.run([*command, "-c", statement], capture_output=True, text=True, check=False)

    @classmethod
    @contextmanager
    def running(cls) -> Iterator["Postgres"]:
        """Makes one and starts it; skips the test where there is none, unless REQUIRE_POSTGRES is set."""
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
        binary = found[-1] if found else shutil.which("postgres")
        if not binary:
            if os.environ.get("REQUIRE_POSTGRES") == "1":
                pytest.fail("PostgreSQL is missing, and REQUIRE_POSTGRES says that it must not be")
            pytest.skip("no PostgreSQL: install it (Debian: apt-get install postgresql)")
        programs = Path(binary).parent
        # Not below pytest's own directories: PostgreSQL refuses to be root, and nobody else may read those.
        top = Path(tempfile.mkdtemp(prefix="toolgate-postgres-"))
        directory, port = top / "data", free_port()
        as_postgres: list[str] = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(top, user.pw_uid, user.pw_gid)
            as_postgres = ["runuser", "-u", "postgres", "--"]
        try:
            made = [str(programs / "initdb"), "-D", str(directory), "-U", "postgres", "-A", "trust", "--no-sync"]
            subprocess.run([*as_postgres, *made], check=True, capture_output=True, cwd=top)
            options = {
                "port": port,
                "listen_addresses": LOOPBACK,
                "unix_socket_directories": top,
                "max_connections": 200,
            }
            arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
            with (top / "log").open("wb") as log:
                process = subprocess.Popen(
                    [*as_postgres, str(programs / "postgres"), "-D", str(directory), *arguments],
                    stdout=log,
                    stderr=log,
                    cwd=top,
                    start_new_session=True,
                )
            postgres = cls(programs, port, process)
            deadline = time.monotonic() + 30
            while postgres.psql("SELECT 1").returncode:
                assert time.monotonic() < deadline and process.poll() is None, (top / "log").read_text()
                time.sleep(0.1)
            try:
                yield postgres
            finally:
                # Its own way to say: at once, and tell whoever is connected.
                os.killpg(process.pid, signal.SIGQUIT)
                process.wait(20)
        finally:
            shutil.rmtree(top, ignore_errors=True)


@dataclass
class Approvals:
    """The running service."""

    directory: Path
    issuer: SignIn
    resource: str
    token: str
    database: str
    #: More of its configuration.
    more: Json = field(default_factory=dict)
    port: int = 0
    process: "subprocess.Popen[bytes] | None" = None
    kills: int = 0

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def cluster(self) -> str:
        """The name of its cluster in Envoy."""
        return f"reference-approvals-{self.port}"

    @property
    def page(self) -> str:
        """Where links lead."""
        return f"{self.url}/approvals/"

    def __enter__(self) -> "Approvals":
        assert BINARY.exists(), f"{BINARY} does not exist: build it first"
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        made = subprocess.run(
            [str(BINARY), "keygen", "--out", str(self.directory / "a1.pem"), "--kid", "a1"],
            capture_output=True,
            text=True,
            check=True,
        )
        self.key: Json = json.loads(made.stdout)
        config = self.directory / "approvals.yaml"
        config.write_text(stack.dump_document(self.configuration()))
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def configuration(self) -> Json:
        """`approvals.yaml`."""
        return {
            "listen": f"{LOOPBACK}:{self.port}",
            "public_url": self.url,
            "issuer": self.url,
            "database": self.database,
            "signing_keys": [{"kid": "a1", "file": str(self.directory / "a1.pem")}],
            "gateways": [{"name": "edge", "token_env": stack.APPROVAL_TOKEN, "audiences": [self.resource]}],
            "sign_in": {"issuer": self.issuer.name, "client_id": "approvals", "scopes": ["openid"], "roles": ["roles"]},
            "approver_tokens": {"audience": AUDIENCE, "clients": [CLIENT]},
            "session_key_env": "APPROVALS_SESSION_KEY",
        } | self.more

    # --- Its life -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts it, on the port and the database that it always had."""
        self.begin()
        self.wait_until_ready()

    def begin(self) -> None:
        """The same, without waiting for it."""
        environment = os.environ | {
            stack.APPROVAL_TOKEN: self.token,
            "APPROVALS_SESSION_KEY": self.more.get("session_key") or stack.new_key(),
            "RUST_BACKTRACE": "1",
        }
        with (self.directory / "approvals.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(BINARY), "serve", "--config", str(self.directory / "approvals.yaml")],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=True,
            )

    def wait_until_ready(self, seconds: float = 20) -> None:
        """Until the database answers."""
        deadline = time.monotonic() + seconds
        while stack.http_status(f"{self.url}/readyz") != 200:
            assert self.process and self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def kill(self) -> None:
        """As the loss of a machine does."""
        assert self.process
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.kills += 1

    def stop(self) -> None:
        """In an orderly way."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError("it does not end when it is asked to:\n" + self.log()) from None

    def log(self) -> str:
        """What it wrote."""
        return (self.directory / "approvals.log").read_text(errors="replace")[-6000:]

    def verify_history(self) -> "subprocess.CompletedProcess[str]":
        """Checks the chain of what happened."""
        return subprocess.run(
            [str(BINARY), "verify-history", "--config", str(self.directory / "approvals.yaml")],
            env=os.environ | {stack.APPROVAL_TOKEN: self.token, "APPROVALS_SESSION_KEY": stack.new_key()},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=self.directory,
        )

    # --- For policies and Envoy ---------------------------------------------------------------------------------------

    def document(self, **changes: Any) -> Json:
        """The section of a policy that names it."""
        return {
            "cluster": self.cluster,
            "issuer": self.url,
            "decision_keys": {"keys": [self.key]},
            "page": self.page,
            "timeout": "2s",
            "hold": "1s",
            "expires": "10m",
            "approvers": [ROLE],
        } | changes

    def envoy_cluster(self) -> Json:
        """Its cluster, as the reference configuration has it."""
        return cluster_of(self.cluster, self.port)

    # --- Questions ----------------------------------------------------------------------------------------------------

    def ask(
        self, method: str, path: str, token: str | None, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Json]:
        """A request, and what was answered."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"content-type": "application/json"} if data is not None else {}
        sent |= {"authorization": f"Bearer {token}"} if token is not None else {}
        request = urllib.request.Request(self.url + path, data, sent | (headers or {}), method=method)
        try:
            with urllib.request.urlopen(request, timeout=70) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            text = error.read()
            return error.code, json.loads(text) if text else {}

    def inbox(self, token: str, **query: Any) -> list[Json]:
        """What a person may see."""
        status, found = self.ask("GET", "/v1/inbox?" + urllib.parse.urlencode(query), token)
        assert status == 200, found
        listed: list[Json] = found["approvals"]
        return listed

    def decide(
        self, approval: str, token: str, decision: str = "approve", reason: str | None = None
    ) -> tuple[int, Json]:
        """A person decides."""
        body = {"decision": decision} | ({"reason": reason} if reason is not None else {})
        return self.ask("POST", f"/v1/inbox/{approval}/decision", token, body)

    def decide_despite_everything(self, approval: str, token: Callable[[], str], decision: str = "approve") -> None:
        """A person who tries again when the service is away."""
        deadline = time.monotonic() + 60
        while True:
            assert time.monotonic() < deadline, approval
            try:
                status, told = self.decide(approval, token(), decision)
            except OSError:
                time.sleep(0.05)
                continue
            # The decision may have been taken, and only the answer lost.
            assert status == 200 or told.get("code") in ("already_decided", "decided"), (status, told)
            return


def new_id() -> str:
    """Sixteen random bytes in hexadecimal."""
    return secrets.token_hex(16)
