"""The audit trail: one sealed record for each request."""

import json

from support import messages
from support.gateway import Gateway
from support.issuer import Issuer


def test_each_request_leaves_one_record(gateway: Gateway, issuer: Issuer) -> None:
    token = issuer.token(scope="read")
    gateway.send(messages.call("nothing"), token)
    gateway.send(messages.call("nothing"))
    gateway.logged(2)
    records = [json.loads(line)["record"] for line in gateway.audit_log.read_text().splitlines()]
    assert [record["reason"] for record in records[-2:]] == ["no_rule", "no_token"]
