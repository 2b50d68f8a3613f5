"""The audit trail: one sealed record for each request."""

import json

from support import messages
from support.gateway import Gateway
from support.http1 import Response
from support.issuer import Issuer


def test_each_request_leaves_one_record(gateway: Gateway, issuer: Issuer) -> None:
    """The answer names the decision; other tests have sent requests to this gateway before."""
    token = issuer.token(scope="read")
    answers = [gateway.send(messages.call("nothing"), token), gateway.send(messages.call("nothing"))]

    def reasons(answer: Response) -> list[str]:
        lines = gateway.audit_log.read_text().split("\n")[:-1]
        records = [json.loads(line)["record"] for line in lines]
        return [record["reason"] for record in records if record["id"] == answer.header("x-toolgate-decision")]

    gateway.envoy.wait_until("records", lambda: bool(reasons(answers[1])))
    assert [reasons(answer) for answer in answers] == [["no_rule"], ["no_token"]]
