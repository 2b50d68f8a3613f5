"""The `toolgate` command, as people run it."""

import json
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import stack

BINARY = stack.ROOT / "target" / "cli" / "toolgate"


@dataclass(frozen=True)
class Verified:
    """What `verify-log` found."""

    exit_code: int
    report: dict[str, Any]

    @property
    def defects(self) -> list[dict[str, Any]]:
        """Each with `kind`, `file`, `line` and what else is known."""
        defects: list[dict[str, Any]] = self.report["defects"]
        return defects

    @property
    def is_clean(self) -> bool:
        """Whether the log is whole."""
        return (self.exit_code, self.report["whole"], self.defects) == (0, True, [])


def toolgate(*arguments: str | Path, keys: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """Runs the command. `keys` are variables of its environment."""
    assert BINARY.exists(), f"{BINARY} does not exist: run `make cli` first"
    command = [str(BINARY), *(str(argument) for argument in arguments)]
    environment = os.environ | (keys or {})
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def verify(key: str, *arguments: str | Path, checkpoints: Iterable[Path] = ()) -> Verified:
    """Runs `verify-log` over these files, with the key of the Envoy that wrote them."""
    stored = [part for path in checkpoints for part in ("--checkpoints", path)]
    done = toolgate("verify-log", "--format", "json", *stored, *arguments, keys={stack.AUDIT_KEY: key})
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return Verified(done.returncode, json.loads(done.stdout))
