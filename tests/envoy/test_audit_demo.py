"""The demo's audit trail, and what the `toolgate` command makes of it: figures equal to what was sent."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stack

from conftest import NewGateway
from support import messages
from support.cli import toolgate, verify
from support.demo import Demo, run_demo
from support.messages import Post

BOOKING = {"contact_id": "CT-1001", "service": "consultation", "starts_at": "2027-03-12T09:30:00Z"}
BOOK = messages.call("create_booking", BOOKING)
MESSAGE = messages.call("send_message", {"contact_id": "CT-1002", "body": "Call me: +49 170 1234567", "channel": "sms"})
SPEND = messages.call("modify_ad_spend", {"campaign_id": "AD-301", "daily_budget": 45})
LIST = messages.stateless("tools/list")

#: Who sends what through which agent, how often, and what comes of it.
SENT: list[tuple[str, str, Post, int, tuple[str, str]]] = [
    ("scheduler", "booking-agent", BOOK, 7, ("allow", "permitted")),
    ("scheduler", "booking-agent", LIST, 2, ("allow", "permitted")),
    ("scheduler", "messaging-agent", MESSAGE, 3, ("deny", "not_permitted")),
    ("campaign-manager", "messaging-agent", MESSAGE, 4, ("allow", "permitted")),
    ("campaign-manager", "full-automation-agent", SPEND, 2, ("allow", "permitted")),
    ("analyst", "booking-agent", BOOK, 5, ("deny", "not_permitted")),
]


TOTAL = sum(times for *_, times, _ in SENT)


@pytest.fixture(scope="module")
def demo(start_gateway: NewGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo, after everything was sent."""
    with run_demo(start_gateway, tmp_path_factory.mktemp("demo")) as running:
        for person, agent, post, times, (verdict, _) in SENT:
            token = running.token_for(person, agent)
            for _ in range(times):
                assert (running.gateway.send(post, token).status == 200) == (verdict == "allow")
        assert running.gateway.send(LIST).status == 401
        running.gateway.envoy.wait_until("all is written", lambda: len(sent(running)) == TOTAL)
        yield running


@pytest.fixture(scope="module")
def policy(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's policy as a file."""
    path = tmp_path_factory.mktemp("policy") / "policy.yaml"
    path.write_text(stack.dump_document(demo.gateway.policy))
    return path


def lines(demo: Demo) -> list[dict[str, Any]]:
    """Everything in the audit log."""
    log = demo.gateway.audit_log
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def sent(demo: Demo) -> list[dict[str, Any]]:
    """Those of callers who have a token: the harness asks without one until the gateway is there."""
    return [line for line in lines(demo) if line["record"]["reason"] != "no_token"]


def report(*arguments: str | Path) -> dict[str, Any]:
    """What a subcommand reports."""
    done = toolgate(*arguments, "--format", "json")
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_log_says_who_did_what(demo: Demo) -> None:
    records = [line["record"] | {"who": line["personal"]["subject"]} for line in sent(demo)]
    counted = Counter((record["who"], record["verdict"], record["reason"]) for record in records)
    expected: Counter[tuple[str, str, str]] = Counter()
    for person, _, _, times, (verdict, reason) in SENT:
        expected[person, verdict, reason] += times
    assert counted == expected
    assert verify(demo.gateway.envoy.audit_key, demo.gateway.audit_log).is_clean


def test_records_show_what_the_policy_names_and_no_more(demo: Demo) -> None:
    def of(tool: str, verdict: str) -> list[dict[str, Any]]:
        wanted = [line for line in lines(demo) if line["record"].get("target", {}).get("name") == tool]
        return [line["personal"] for line in wanted if line["record"]["verdict"] == verdict]

    booked = of("create_booking", "allow")
    assert len({personal["outcome"]["booking_id"] for personal in booked}) == 7
    assert {personal["arguments"]["/service"] for personal in booked} == {"consultation"}
    pseudonyms = {personal["arguments"]["/contact_id"] for personal in booked}
    assert len(pseudonyms) == 1 and pseudonyms.pop().startswith("p_")
    # The same contact has the same pseudonym, whoever books, and the same arguments the same digest.
    assert len({personal["arguments_digest"] for personal in booked + of("create_booking", "deny")}) == 1
    assert all(set(personal["arguments"]) == {"/channel", "/contact_id"} for personal in of("send_message", "allow"))
    assert [personal["outcome"] for personal in of("modify_ad_spend", "allow")] != []
    text = demo.gateway.audit_log.read_text()
    assert all(kept_out not in text for kept_out in ("CT-1001", "CT-1002", "Call me", "1234567"))


def test_replay_by_the_same_policy_changes_nothing(demo: Demo, policy: Path) -> None:
    found = report("replay", "--policy", policy, demo.gateway.audit_log)
    nothing = {"would_be_denied": 0, "would_be_allowed": 0, "would_be_gated": 0, "cannot_tell": 0}
    without_token = len(lines(demo)) - TOTAL
    assert found["requests"] == nothing | {
        "total": len(lines(demo)),
        "same": TOTAL,
        "not_applicable": without_token,
    }
    assert found["not_applicable"] == {"no_token": without_token} and without_token > 0


def test_replay_by_a_smaller_policy_lists_what_it_would_deny(demo: Demo, tmp_path: Path) -> None:
    smaller = json.loads(json.dumps(demo.gateway.policy))
    smaller["agents"]["booking_agent"]["scopes"].remove("norg:booking:write")
    path = tmp_path / "smaller.yaml"
    path.write_text(stack.dump_document(smaller))
    found = report("replay", "--policy", path, demo.gateway.audit_log)
    assert (found["requests"]["would_be_denied"], found["requests"]["would_be_allowed"]) == (7, 0)
    [change] = found["changes"]
    assert (change["count"], change["agent"]) == (7, "booking_agent")


def test_the_access_report_counts_what_was_used(demo: Demo, policy: Path) -> None:
    found = report("access-report", "--policy", policy, demo.gateway.audit_log)
    assert (found["allowed"], found["denied"]) == (15, 8)
    parties = {(party["kind"], party["name"]): party for party in found["parties"]}

    def used(kind: str, name: str) -> dict[str, int]:
        targets = parties[kind, name]["targets"]
        return {target["name"]: target["used"]["count"] for target in targets if "used" in target}

    assert used("operator", "scheduler") == {"create_booking": 7}
    assert used("operator", "campaign_manager") == {"send_message": 4, "modify_ad_spend": 2}
    assert used("operator", "analyst") == {}
    assert used("agent", "messaging_agent") == {"send_message": 4}
    assert used("client", "demo-full-automation-agent") == {"modify_ad_spend": 2}
    denied = {name: party["denied"] for (kind, name), party in parties.items() if kind == "operator" and party["denied"]}
    assert denied == {"scheduler": 3, "analyst": 5}
    retried = {(each["name"], each["roles"][0]): (each["denied"], each["retried"]) for each in found["retries"]}
    assert retried == {("send_message", "scheduler"): (3, 2), ("create_booking", "analyst"): (5, 4)}


def test_the_proposed_policy_still_allows_what_was_done(demo: Demo, policy: Path, tmp_path: Path) -> None:
    found = report("access-report", "--policy", policy, demo.gateway.audit_log)
    assert found["proposal"]["diff"].startswith("--- ")
    assert "norg:crm:write" in found["proposal"]["diff"]


def test_a_person_can_be_erased(demo: Demo, tmp_path: Path) -> None:
    copy = tmp_path / "audit.log"
    copy.write_bytes(demo.gateway.audit_log.read_bytes())
    key = demo.gateway.envoy.audit_key
    done = toolgate("erase", "--subject", "campaign-manager", copy, keys={stack.AUDIT_KEY: key})
    assert done.returncode == 0, done.stderr
    assert "campaign-manager" not in copy.read_text().replace("campaign-managers", "")
    assert "MSG-" not in copy.read_text() and "ADC-" not in copy.read_text()
    verified = verify(key, copy)
    assert verified.is_clean, verified.defects
    assert json.dumps(verified.report).count('"erased": 6') == 1
