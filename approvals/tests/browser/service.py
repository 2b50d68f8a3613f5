"""The approval service as a process, and what a gateway asks of it."""

import base64
import json
import os
import secrets
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

from provider import Provider

AUDIENCE = "https://mcp.norg.example/mcp"


class Service:
    """A running service with an empty database."""

    def __init__(self, binary: str, directory: Path, provider: Provider) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.origin = f"http://127.0.0.1:{port}"
        self._provider = provider
        self._token = base64.b64encode(secrets.token_bytes(32)).decode()
        key = directory / "a1.pem"
        subprocess.run([binary, "keygen", "--out", key], check=True, stdout=subprocess.DEVNULL)
        config = {
            "listen": f"127.0.0.1:{port}",
            "public_url": self.origin,
            "database": f"sqlite:{directory / 'approvals.db'}",
            "signing_keys": [{"kid": "a1", "file": str(key)}],
            "gateways": [{"name": "edge", "token_env": "TOOLGATE_APPROVAL_TOKEN", "audiences": [AUDIENCE]}],
            "sign_in": {"issuer": provider.issuer, "client_id": "approvals"},
        }
        path = directory / "approvals.yaml"
        path.write_text(json.dumps(config))  # which is YAML too
        environment = os.environ | {
            "TOOLGATE_APPROVAL_TOKEN": self._token,
            "APPROVALS_SESSION_KEY": secrets.token_urlsafe(48),
        }
        environment.pop("DATABASE_URL", None)
        self._log = (directory / "approvals.log").open("wb")
        command = [binary, "serve", "--config", path]
        self._process = subprocess.Popen(command, env=environment, stderr=self._log, stdout=self._log)
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(f"{self.origin}/readyz", timeout=2).close()
                return
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.05)

    def close(self) -> None:
        """Stops it."""
        self._process.terminate()
        self._process.wait(15)
        self._log.close()

    def ask(self, **over: Any) -> str:
        """What a gateway asks, with these members over the usual ones; the id of the approval."""
        request = {
            "binding": secrets.token_hex(32),
            "audience": AUDIENCE,
            "policy": secrets.token_hex(32),
            "decision_id": secrets.token_hex(16),
            "requester": {
                "issuer": self._provider.issuer,
                "subject": "scheduler",
                "client_id": "openclaw-messaging",
                "agent": "messaging_agent",
                "tenant": "tenant-norg",
                "roles": ["scheduler"],
                "actors": ["openclaw-messaging"],
            },
            "call": call(),
            "requirements": [requirement()],
            "reason_required": False,
            "expires_in": 600,
        } | over
        body = json.dumps(request).encode()
        headers = {"authorization": f"Bearer {self._token}", "content-type": "application/json"}
        asked = urllib.request.Request(f"{self.origin}/v1/approvals", body, headers)
        with urllib.request.urlopen(asked, timeout=10) as answer:
            state: dict[str, Any] = json.load(answer)
        return str(state["id"])


def call(name: str = "broadcast_message", **over: Any) -> dict[str, Any]:
    """A call of a tool, as approvers are shown it."""
    return {
        "revision": "2025-11-25",
        "method": "tools/call",
        "kind": "tool",
        "name": name,
        "arguments": {
            "/audience": "patients-with-appointment",
            "/channel": "sms",
            "/contacts/0": "pseudonym:5f2c91d0a7",
            "/contacts/1": "pseudonym:b81e44c3f9",
            "/dry_run": False,
            "/max_messages": 120,
            "/text": "Your appointment is tomorrow.\nReply YES to confirm, or NO to cancel.",
        },
        "withheld": True,
        "purpose": "Remind everybody who has an appointment tomorrow",
    } | over


def requirement(**over: Any) -> dict[str, Any]:
    """A gate."""
    return {
        "gate": "risk",
        "name": "norg:messaging:bulk",
        "approvers": ["automation_admin"],
        "count": 1,
        "escalate": {"after": 300, "approvers": ["security_oncall"]},
    } | over
