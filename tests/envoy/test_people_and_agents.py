"""People, agents and clients of the demo: who is shown what, what comes of each call, and whose fault a refusal is.

The table below was written by hand, from what the names of the roles promise. Nothing of it is read from the policy or
computed by what it tests.
"""

import json
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conftest import NewGateway
from support import messages
from support.demo import Demo, helper, run_demo
from support.gateway import bearer
from support.http1 import Response, request
from support.messages import Post, stateless
from support.policy import Policy

# --- The table --------------------------------------------------------------------------------------------------------

#: Everything that can be asked for: ten tools, a prompt, a report, and the card of a contact.
TARGETS: dict[str, Post] = {
    "read_contact": messages.call("read_contact", {"contact_id": "CT-1001"}),
    "send_message": messages.call("send_message", {"contact_id": "CT-1001", "body": "See you tomorrow."}),
    "broadcast_message": messages.call(
        "broadcast_message", {"contacts": ["CT-1001", "CT-1002"], "body": "We open at nine."}
    ),
    "create_booking": messages.call(
        "create_booking", {"contact_id": "CT-1001", "service": "consultation", "starts_at": "2027-03-12T09:30:00Z"}
    ),
    "modify_booking": messages.call(
        "modify_booking", {"booking_id": "BK-20270312-0047", "starts_at": "2027-03-12T10:30:00Z"}
    ),
    "cancel_booking": messages.call("cancel_booking", {"booking_id": "BK-20270312-0047"}),
    "create_crm_record": messages.call("create_crm_record", {"contact_id": "CT-1001", "title": "Asked for an offer"}),
    "delete_crm_record": messages.call("delete_crm_record", {"record_id": "CRM-20481"}),
    "read_ad_performance": messages.call(
        "read_ad_performance", {"campaign_id": "AD-301", "since": "2027-03-01", "until": "2027-03-07"}
    ),
    "modify_ad_spend": messages.call("modify_ad_spend", {"campaign_id": "AD-301", "daily_budget": 45}),
    "campaign_brief": stateless("prompts/get", {"name": "campaign_brief", "arguments": {"campaign_id": "AD-301"}}),
    "norg://reports/weekly": stateless("resources/read", {"uri": "norg://reports/weekly"}),
    "norg://contacts/CT-1001": stateless("resources/read", {"uri": "norg://contacts/CT-1001"}),
}

CONTACTS = {"read_contact", "norg://contacts/CT-1001"}
MESSAGES = {"send_message", "campaign_brief"}
BOOKINGS = {"create_booking", "modify_booking", "cancel_booking"}
ADS = {"read_ad_performance", "norg://reports/weekly"}
EVERYTHING = set(TARGETS)
NOTHING: set[str] = set()

#: What the names of the people promise.
PEOPLE = {
    "administrator": EVERYTHING,
    "campaign-manager": CONTACTS | MESSAGES | ADS | {"broadcast_message", "create_crm_record", "modify_ad_spend"},
    "scheduler": CONTACTS | BOOKINGS,
    "analyst": CONTACTS | ADS,
    "compliance-reviewer": CONTACTS | ADS,
}

#: Is asked for approvals, and uses no agent.
APPROVER = "duty-manager"

#: What the names of the agents promise. Each was consented to by the platform team for the same, but the last one was
#: trusted with everything: that it deletes nothing is its role.
AGENTS = {
    "messaging-agent": CONTACTS | MESSAGES,
    "booking-agent": CONTACTS | BOOKINGS,
    "full-automation-agent": EVERYTHING - {"delete_crm_record"},
}
CONSENTS = AGENTS | {"full-automation-agent": EVERYTHING}

#: What an agent may only do once a person has approved the very call: shown in lists, but not carried out.
ON_APPROVAL = {"full-automation-agent": {"broadcast_message", "modify_booking", "cancel_booking"}}

#: What each combination is shown.
SHOWN: dict[tuple[str, str], set[str]] = {
    ("administrator", "messaging-agent"): CONTACTS | MESSAGES,
    ("administrator", "booking-agent"): CONTACTS | BOOKINGS,
    ("administrator", "full-automation-agent"): EVERYTHING - {"delete_crm_record"},
    ("campaign-manager", "messaging-agent"): CONTACTS | MESSAGES,
    ("campaign-manager", "booking-agent"): CONTACTS,
    ("campaign-manager", "full-automation-agent"): (
        CONTACTS | MESSAGES | ADS | {"broadcast_message", "create_crm_record", "modify_ad_spend"}
    ),
    ("scheduler", "messaging-agent"): CONTACTS,
    ("scheduler", "booking-agent"): CONTACTS | BOOKINGS,
    ("scheduler", "full-automation-agent"): CONTACTS | BOOKINGS,
    ("analyst", "messaging-agent"): CONTACTS,
    ("analyst", "booking-agent"): CONTACTS,
    ("analyst", "full-automation-agent"): CONTACTS | ADS,
    ("compliance-reviewer", "messaging-agent"): CONTACTS,
    ("compliance-reviewer", "booking-agent"): CONTACTS,
    ("compliance-reviewer", "full-automation-agent"): CONTACTS | ADS,
}

#: Agents without a person behind them: two may act for people only.
ALONE = {"messaging-agent": NOTHING, "booking-agent": NOTHING, "full-automation-agent": EVERYTHING}
#: Programs that act for themselves: what limits them are the scopes that the identity provider gives them.
PROGRAMS = {
    "reader": CONTACTS | ADS,
    "messaging": CONTACTS | MESSAGES,
    "booking": CONTACTS | BOOKINGS,
    "full": EVERYTHING,
    "none": NOTHING,
}

Verdict = tuple[int, str, tuple[str, ...]]
PASSED: Verdict = (200, "permitted", ())
WAITS: Verdict = (200, "approval_pending", ())


def verdict_of(person: str | None, agent: str, target: str) -> Verdict:
    """HTTP status, reason and failing sides that the table foresees for a call."""
    allowed = {
        "person": PEOPLE[person] if person else ALONE[agent],
        "agent": AGENTS[agent],
        "consent": CONSENTS[agent],
    }
    if failing := tuple(side for side, targets in allowed.items() if target not in targets):
        return 403, "not_permitted", failing
    if target in ON_APPROVAL.get(agent, ()):
        return WAITS
    return PASSED


def test_the_table_agrees_with_itself() -> None:
    """What a combination is shown is what both of its sides promise."""
    assert {(person, agent): PEOPLE[person] & AGENTS[agent] for person in PEOPLE for agent in AGENTS} == SHOWN
    assert len(SHOWN) == 15


# --- The demo ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo(start_gateway: NewGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo."""
    with run_demo(start_gateway, tmp_path_factory.mktemp("demo")) as running:
        yield running


def marked(demo: Demo) -> int:
    """The length of the access log, once it has everything that came before."""
    path = f"/{uuid.uuid4()}"
    assert request(demo.gateway.port, "GET", path, []).status == 404
    lines = 1
    while True:
        logged = demo.gateway.logged(lines)
        found = [number for number, line in enumerate(logged) if line["path"] == path]
        if found:
            return found[0] + 1
        lines = len(logged) + 1


def verdicts(demo: Demo, token: str, targets: Mapping[str, Post] = TARGETS) -> dict[str, Verdict]:
    """What comes of asking for each; the access log must give the same reasons and sides."""
    before = marked(demo)
    seen: dict[str, Verdict] = {}
    details: Counter[str] = Counter()
    for name, post in targets.items():
        response = demo.gateway.send(post, token)
        if response.status == 200 and response.header("x-toolgate-decision"):
            assert response.json()["result"]["isError"] is True, response
            seen[name] = WAITS
            details["approval_pending"] += 1
            continue
        if response.status == 200:
            assert b'"result"' in response.body, response
            seen[name] = PASSED
            details["via_upstream"] += 1
            continue
        data = response.error()["data"]
        assert data["decision_id"] == response.header("x-toolgate-decision")
        sides = tuple(failure["side"] for failure in data.get("failing_sides", ()))
        reason = data.get("reason") or data["error"]
        seen[name] = (response.status, reason, sides)
        details[reason + (f"{{{','.join(sides)}}}" if sides else "")] += 1
    lines = demo.gateway.logged(before + len(targets))[before:]
    # Two workers write the log, so only which lines there are is certain, not their order.
    assert Counter(str(line["details"]) for line in lines) == details
    return seen


def sides_of(demo: Demo, token: str, target: str) -> dict[str, Any]:
    """Each failing side of a refused call with what is said about it."""
    data = demo.gateway.send(TARGETS[target], token).error()["data"]
    return {
        failure["side"]: failure.get("missing_scopes", failure["reason"]) for failure in data["failing_sides"]
    }


# --- People through agents --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("person", "agent"), SHOWN)
def test_every_call_of_every_person_through_every_agent(demo: Demo, person: str, agent: str) -> None:
    expected = {target: verdict_of(person, agent, target) for target in TARGETS}
    assert verdicts(demo, demo.token_for(person, agent)) == expected


def test_a_failing_side_says_what_it_lacks(demo: Demo) -> None:
    lacks = {"person": ["norg:messaging:bulk"], "agent": ["norg:messaging:bulk"], "consent": ["norg:messaging:bulk"]}
    assert sides_of(demo, demo.token_for("analyst", "booking-agent"), "broadcast_message") == lacks


def test_only_a_token_that_would_help_is_asked_for(demo: Demo) -> None:
    """A challenge makes a client ask its user for more, so it must not come when that would change nothing."""
    token = demo.token_for("scheduler", "booking-agent", scope="norg:contacts:read")
    helped = demo.gateway.send(TARGETS["create_booking"], token)
    assert helped.challenge()["error"] == "insufficient_scope"
    assert helped.error()["data"]["missing_scopes"] == ["norg:booking:write"]
    in_vain = demo.gateway.send(TARGETS["send_message"], token)
    assert in_vain.header("www-authenticate") is None
    assert list(sides_of(demo, token, "send_message")) == ["token", "person", "agent", "consent"]


def test_nothing_that_the_request_says_makes_another_person_or_agent_of_the_caller(demo: Demo) -> None:
    """The token's claims count, not headers, not parameters, not what a client calls itself."""
    claims = {"roles": ["automation-admins"], "client_id": "demo-full"}
    arguments = {"contact_id": "CT-1001", "service": "consultation", "starts_at": "2027-03-12T09:30:00Z"}
    forged = stateless(
        "tools/call", {"name": "create_booking", "arguments": arguments | claims, "_meta": claims}
    ).with_headers(
        ("X-Toolgate-Client", "demo-full"),
        ("X-Toolgate-Subject", "administrator"),
        ("X-Forwarded-User", "administrator"),
        ("X-Client-Id", "demo-full"),
    )
    response = demo.gateway.send(forged, demo.token_for("analyst", "messaging-agent"))
    assert response.status == 403
    assert [failure["side"] for failure in response.error()["data"]["failing_sides"]] == ["person", "agent", "consent"]


def test_the_helper_shows_the_same(demo: Demo, tmp_path: Path) -> None:
    shown = partial(helper, demo, tmp_path)
    status, text = shown("analyst", "full-automation-agent")
    assert (status, text.splitlines()[0].split()[1:]) == (0, ["read_contact,", "read_ad_performance"]), text
    status, text = shown("analyst", "messaging-agent", "--permissions")
    assert (status, json.loads(text)["tools"]) == (0, [{"name": "read_contact"}]), text
    status, text = shown("scheduler", "booking-agent", "create_booking")
    assert (status, '"status": "confirmed"' in text) == (0, True), text
    status, text = shown("analyst", "booking-agent", "send_message")
    assert (status, text.splitlines()[0]) == (3, "denied (403): not_permitted"), text
    sides = {line.split(":")[0].strip(): line for line in text.splitlines() if "norg:messaging:write" in line}
    assert list(sides) == ["person", "agent", "consent"]
    status, text = shown("nobody", "booking-agent", "create_booking")
    assert (status, "without_person" in text) == (3, True), text
    assert shown("somebody", "booking-agent")[0] == 1


# --- Consent ----------------------------------------------------------------------------------------------------------


def test_a_consent_is_for_the_tools_as_they_were(
    demo: Demo, start_gateway: NewGateway, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Pinned definitions, as demo/as.py prints them: one is what it was, the other has changed since."""
    directory = tmp_path_factory.mktemp("consent")
    status, text = helper(demo, directory, "nobody", "full", "--definitions")
    assert status == 0, text
    digests = dict(line.split(": ") for line in text.splitlines())
    assert len(digests) == 10

    def pin(policy: Policy) -> None:
        pinned = {"read_contact": digests["read_contact"], "send_message": digests["read_contact"]}
        policy["clients"]["demo-messaging-agent"]["consent"]["definitions"] = pinned

    with run_demo(start_gateway, directory, pin) as pinned:
        token = pinned.token_for("campaign-manager", "messaging-agent")
        # Nobody has looked at the tools through this gateway.
        assert sides_of(pinned, token, "read_contact") == {"consent": "definition_unknown"}
        deadline = time.monotonic() + 20
        statuses = [403]
        # Each worker sees for itself, and a connection goes to any of them.
        while statuses[-8:] != [200] * 8:
            assert time.monotonic() < deadline, statuses
            pinned.gateway.send(stateless("tools/list"), token)
            statuses.append(pinned.gateway.send(TARGETS["read_contact"], token).status)
        assert sides_of(pinned, token, "send_message") == {"consent": "definition_changed"}
        assert "send_message" not in listed(pinned, token)


# --- Clients by themselves --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("agent", ALONE)
def test_an_agent_by_itself_may_what_the_policy_gives_it(demo: Demo, agent: str) -> None:
    expected = {target: verdict_of(None, agent, target) for target in TARGETS}
    assert verdicts(demo, demo.token(agent)) == expected


@pytest.mark.parametrize("client", PROGRAMS)
def test_a_program_may_what_its_token_says(demo: Demo, client: str) -> None:
    missing_scope: Verdict = (403, "insufficient_scope", ())
    expected = {target: PASSED if target in PROGRAMS[client] else missing_scope for target in TARGETS}
    assert verdicts(demo, demo.token(client)) == expected


# --- Lists ------------------------------------------------------------------------------------------------------------

#: In which list a target is, and under which name when not its own.
LISTS = {"tools": "name", "prompts": "name", "resources": "uri", "resources/templates": "uriTemplate"}
RESULTS = {"resources/templates": "resourceTemplates"}
LISTED_AS = {"norg://contacts/CT-1001": "norg://contacts/{contact_id}"}


def listed(demo: Demo, token: str) -> set[str]:
    """Everything that is in some list."""
    found: set[str] = set()
    for kind, name in LISTS.items():
        response = demo.gateway.send(stateless(f"{kind}/list"), token)
        assert response.status == 200, response
        result = result_of(response)
        # Another caller's list is another one.
        assert result["cacheScope"] == "private"
        found |= {item[name] for item in result[RESULTS.get(kind, kind)]}
    return found


def result_of(response: Response) -> dict[str, Any]:
    """The result, in a body of JSON or in an event stream."""
    text = response.body.decode()
    if response.header("content-type") == "text/event-stream":
        text = next(line.removeprefix("data:") for line in text.splitlines() if line.startswith("data:"))
    return dict(json.loads(text)["result"])


def as_listed(targets: set[str]) -> set[str]:
    """Targets under the names that lists have for them."""
    return {LISTED_AS.get(target, target) for target in targets}


@pytest.mark.parametrize(("person", "agent"), SHOWN)
def test_every_person_through_every_agent_is_shown_what_the_table_says(demo: Demo, person: str, agent: str) -> None:
    assert listed(demo, demo.token_for(person, agent)) == as_listed(SHOWN[person, agent])


def test_an_agent_by_itself_is_shown_what_it_may(demo: Demo) -> None:
    shown = listed(demo, demo.token("full-automation-agent"))
    assert shown == as_listed(AGENTS["full-automation-agent"])


@pytest.mark.parametrize("agent", AGENTS)
def test_who_only_approves_may_use_no_agent(demo: Demo, agent: str) -> None:
    response = demo.gateway.send(stateless("tools/list"), demo.token_for(APPROVER, agent))
    assert response.status == 403
    assert [failure["side"] for failure in response.error()["data"]["failing_sides"]] == ["person"]
    assert set(demo.description["people"]) == {*PEOPLE, APPROVER}


@pytest.mark.parametrize("agent", [agent for agent, may in ALONE.items() if not may])
def test_a_caller_that_may_nothing_at_all_gets_no_lists(demo: Demo, agent: str) -> None:
    for kind in LISTS:
        response = demo.gateway.send(stateless(f"{kind}/list"), demo.token(agent))
        assert response.status == 403
        assert [failure["side"] for failure in response.error()["data"]["failing_sides"]] == ["person"]


@pytest.mark.parametrize("client", PROGRAMS)
def test_a_program_is_shown_what_it_may(demo: Demo, client: str) -> None:
    assert listed(demo, demo.token(client)) == as_listed(PROGRAMS[client])


# --- What may I do ----------------------------------------------------------------------------------------------------

#: How rules name the resources of the table.
NAMED_BY_RULES = {"norg://contacts/CT-1001": "norg://contacts/*", "norg://reports/weekly": "norg://reports/*"}


def permissions(demo: Demo, token: str) -> dict[str, Any]:
    """What the gateway tells a caller about itself."""
    response = request(demo.gateway.port, "GET", "/.well-known/toolgate-permissions/mcp", bearer(token))
    assert response.status == 200, response
    return dict(response.json())


@pytest.mark.parametrize(("person", "agent"), SHOWN)
def test_a_caller_is_told_what_it_may_do_and_what_it_lacks(demo: Demo, person: str, agent: str) -> None:
    told = permissions(demo, demo.token_for(person, agent))
    available = [*told["tools"], *told["prompts"], *told["resources"]]
    names = {item.get("name", item.get("uri")) for item in available}
    assert names == {NAMED_BY_RULES.get(target, target) for target in SHOWN[person, agent]}
    on_approval = {item["name"] for item in available if item.get("duties") == {"approval": "required"}}
    assert on_approval == SHOWN[person, agent] & ON_APPROVAL.get(agent, set())
    lacking = {
        str(item.get("tool") or item.get("prompt") or item.get("resource")): [need["side"] for need in item["needs"]]
        for item in told["unavailable"]
    }
    assert lacking == {
        NAMED_BY_RULES.get(target, target): list(verdict_of(person, agent, target)[2])
        for target in EVERYTHING - SHOWN[person, agent]
    }


# --- Conditions and step-up -------------------------------------------------------------------------------------------


def test_nobody_writes_to_more_than_a_hundred_at_once_or_to_more_than_fifty_alone(demo: Demo) -> None:
    def to(count: int) -> Post:
        contacts = [f"CT-{1001 + number % 4}" for number in range(count)]
        return messages.call("broadcast_message", {"contacts": contacts, "body": "We open at nine."})

    without = messages.call("broadcast_message", {"body": "We open at nine."})
    calls = {"few": to(50), "many": to(51), "most": to(100), "more": to(101), "unknown": without}
    seen = verdicts(demo, demo.token("full"), calls)
    # A condition against a call that cannot be evaluated counts as one that holds.
    refused = dict.fromkeys(("more", "unknown"), (403, "condition", ()))
    assert seen == {"few": PASSED, "many": WAITS, "most": WAITS} | refused


def wants_a_second_factor(policy: Policy) -> None:
    """Spending money needs a login with a second factor in the last five minutes."""
    rule = next(rule for rule in policy["rules"] if rule.get("tools") == ["modify_ad_spend"])
    rule["authentication"] = {"acr": ["mfa"], "max_age": "5m"}


def test_a_person_steps_up(start_gateway: NewGateway, tmp_path_factory: pytest.TempPathFactory) -> None:
    """RFC 9470: the challenge says how to log in, and the token of such a login is enough."""
    with run_demo(start_gateway, tmp_path_factory.mktemp("step-up"), wants_a_second_factor) as demo:

        def spend(**signed_in: str) -> Any:
            login = demo.login("campaign-manager", **signed_in)
            token = demo.token_for("campaign-manager", "full-automation-agent", login)
            return demo.gateway.send(TARGETS["modify_ad_spend"], token)

        for refused in (spend(), spend(acr="pwd"), spend(acr="mfa", auth_time="600"), spend(acr="pwd", amr="mfa")):
            assert refused.status == 401
            challenge = refused.challenge()
            assert challenge["error"] == "insufficient_user_authentication"
            assert (challenge["acr_values"], challenge["max_age"]) == ("mfa", "300")
        assert spend(acr="mfa").status == 200
        assert spend(acr="mfa", auth_time="200").status == 200
