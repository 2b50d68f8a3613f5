"""The configurations in envoy/audit, pointed to places of a test."""

from pathlib import Path
from typing import Any

import stack
from stack import LOOPBACK, Address

from .gateway import Document, manager_of

DIRECTORY = stack.ROOT / "envoy" / "audit"


def sample(name: str) -> Document:
    """The document of a file."""
    return stack.load_document(DIRECTORY / f"{name}.yaml")


def log_to(listener: Document, *logs: Document) -> None:
    """Puts access logs beside those of a listener."""
    manager_of(listener)["access_log"].extend(logs)


def file_log(name: str, path: Path) -> Document:
    """The access log of `file` or `json-file`."""
    log: Document = sample(name)["access_log"][0]
    log["typed_config"]["path"] = str(path)
    return log


def service_log(name: str, cluster_name: str, port: int) -> tuple[Document, Document]:
    """Access log and cluster of `grpc` or `opentelemetry`."""
    document = sample(name)
    log, cluster = document["access_log"][0], document["clusters"][0]
    config: dict[str, Any] = log["typed_config"]
    target = config.get("common_config", config)["grpc_service"]["envoy_grpc"]
    assert target["cluster_name"] == cluster["name"], "the sample is consistent"
    target["cluster_name"] = cluster["name"] = cluster["load_assignment"]["cluster_name"] = cluster_name
    stack.set_endpoint(cluster, Address(LOOPBACK, port))
    return log, cluster


def anchor(name: str, socket: Path, log: Path) -> tuple[Document, Document]:
    """Listener and cluster of `anchor`."""
    document = sample("anchor")
    listener, cluster = document["listeners"][0], document["clusters"][0]
    endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["pipe"]
    assert listener["address"]["pipe"]["path"] == endpoint["path"], "the sample is consistent"
    listener["address"]["pipe"]["path"] = endpoint["path"] = str(socket)
    listener["name"] = cluster["name"] = cluster["load_assignment"]["cluster_name"] = name
    manager_of(listener)["access_log"][0]["typed_config"]["path"] = str(log)
    return listener, cluster
