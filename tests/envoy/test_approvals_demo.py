"""The demo's approvals, as a newcomer meets them: the call that is printed, the link, a decision, the call again."""

import html
import http.cookiejar
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import run

from conftest import NewGateway
from support.cli import verify
from support.demo import Demo, described, helper, run_demo

Json = dict[str, Any]

PENDING, REFUSED = 4, 3
#: Who asks in these tests, and through what.
ASKS = ("campaign-manager", "full-automation-agent")
TOOL = "broadcast_message"


@pytest.fixture(scope="module")
def demo(start_gateway: NewGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo."""
    with run_demo(start_gateway, tmp_path_factory.mktemp("demo")) as running:
        yield running


@dataclass(frozen=True)
class Approver:
    """Somebody at the approver API, with a token as `demo/as.py NAME approvals-cli --token` prints it."""

    url: str
    token: str

    @classmethod
    def named(cls, demo: Demo, person: str, client: str = "approvals-cli") -> "Approver":
        """A person of the demo, by default with the client that is meant for it."""
        url = demo.description["approvals_url"]
        return cls(url, demo.token_for(person, client, resource=url))

    def ask(self, path: str, content: Json | None = None) -> tuple[int, Json]:
        """Status and content of an answer."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        body = json.dumps(content).encode() if content is not None else None
        try:
            with urllib.request.urlopen(urllib.request.Request(f"{self.url}{path}", body, headers), timeout=10) as got:
                return got.status, json.load(got)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def inbox(self) -> list[str]:
        """The ids of what waits, and what this person may see."""
        status, found = self.ask("/v1/inbox?state=pending")
        assert status == 200, found
        return [approval["id"] for approval in found["approvals"]]

    def decide(self, approval: str, decision: str = "approve", **members: str) -> tuple[int, Json]:
        """Approves or rejects."""
        return self.ask(f"/v1/inbox/{approval}/decision", {"decision": decision, **members})


def broadcast(text: str, contacts: int = 2) -> str:
    """Arguments for `demo/as.py`; another text is another call."""
    several = [f"CT-{1001 + number % 4}" for number in range(contacts)]
    return json.dumps({"contacts": several, "body": text})


def pending(demo: Demo, directory: Path, arguments: str) -> str:
    """Asks for something that must be approved; the id of the approval, from the link that is shown."""
    status, text = helper(demo, directory, *ASKS, TOOL, arguments)
    assert status == PENDING, text
    return approval_in(demo, text)


def approval_in(demo: Demo, text: str) -> str:
    """The end of the link."""
    found = re.search(rf"{re.escape(demo.description['approvals_url'])}/approvals/([A-Za-z0-9_-]+)", text)
    assert found, text
    return found[1]


# --- As printed -------------------------------------------------------------------------------------------------------


def printed(demo: Demo, directory: Path) -> list[str]:
    """The three commands about approvals that `make run` prints."""
    guide = run.guide(demo.description, described(demo, directory), demo_tools=True)
    blocks = [block.split("\n", 1) for block in guide.split("\n\n")]
    wanted = ("# A call that somebody must approve", "# Approve it there", "# The same call again")
    commands = [command for title, command in blocks if title.startswith(wanted)]
    assert len(commands) == 3, guide
    return commands


def paste(command: str) -> tuple[int, str]:
    """Exit status and output of a command that somebody pastes into a shell."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", "-c", command],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.returncode, ended.stdout + ended.stderr


def test_the_call_that_is_printed_runs_once_it_is_approved_and_only_once(demo: Demo, tmp_path: Path) -> None:
    call, _, again = printed(demo, tmp_path)
    status, text = paste(call)
    assert status == PENDING, text
    approval = approval_in(demo, text)
    # The same call waits for the same approval.
    status, text = paste(again)
    assert (status, approval_in(demo, text)) == (PENDING, approval)

    approver = Approver.named(demo, run.APPROVER)
    assert approval in approver.inbox()
    status, view = approver.ask(f"/v1/inbox/{approval}")
    assert (status, view["may_decide"], view["requester"]["subject"]) == (200, True, "campaign-manager")
    assert (view["call"]["name"], view["call"]["arguments"]["/body"]) == (TOOL, "We open at nine.")
    assert "CT-1001" not in json.dumps(view)
    status, view = approver.decide(approval)
    assert (status, view["state"]) == (200, "approved")

    status, text = paste(again)
    assert status == 0 and text.startswith("allowed; the tool answered"), text
    assert "BC-0011" in text
    # What was approved was that one call: the next one needs another approval.
    status, text = paste(again)
    assert status == PENDING and approval_in(demo, text) != approval, text


def test_the_command_line_decides_as_printed(demo: Demo, tmp_path: Path) -> None:
    approval = pending(demo, tmp_path, broadcast("Decided on the command line."))
    _, terminal, _ = printed(demo, tmp_path)
    assert "approvals approve ID" in terminal
    status, text = paste(terminal.replace("approve ID", f"approve {approval}"))
    assert status == 0 and approval in text, text
    status, text = helper(demo, tmp_path, *ASKS, TOOL, broadcast("Decided on the command line."))
    assert status == 0, text


# --- Who may ----------------------------------------------------------------------------------------------------------


def test_nobody_else_can_approve(demo: Demo, tmp_path: Path) -> None:
    text = broadcast("Nobody else can approve this.")
    approval = pending(demo, tmp_path, text)
    for person in ("scheduler", "analyst", "compliance-reviewer", "administrator"):
        other = Approver.named(demo, person)
        assert approval not in other.inbox()
        assert other.ask(f"/v1/inbox/{approval}")[0] == 404
        assert other.decide(approval)[0] == 404
    # Whoever asked sees what becomes of it, and no more.
    own = Approver.named(demo, ASKS[0])
    assert own.ask(f"/v1/inbox/{approval}")[1]["may_decide"] is False
    status, refusal = own.decide(approval)
    assert (status, refusal["code"]) == (403, "requester")
    # An agent is nobody, even that of an approver, and a token for the gateway is none for the approval service.
    agents = Approver.named(demo, run.APPROVER, ASKS[1])
    elsewhere = Approver(agents.url, demo.token_for(run.APPROVER, "approvals-cli", resource=demo.url))
    itself = Approver(agents.url, demo.token("approvals-cli", resource=agents.url))
    for nobody in (agents, elsewhere, itself):
        assert nobody.decide(approval)[0] == 401
    assert helper(demo, tmp_path, *ASKS, TOOL, text)[0] == PENDING


def test_to_many_people_two_must_agree(demo: Demo, tmp_path: Path) -> None:
    """The duty of the agent role and that of the rule are not the same people's."""
    text = broadcast("To more than fifty.", 60)
    approval = pending(demo, tmp_path, text)
    duty_manager, administrator = (Approver.named(demo, person) for person in (run.APPROVER, "administrator"))
    gates = {
        requirement["gate"]: requirement for requirement in duty_manager.ask(f"/v1/inbox/{approval}")[1]["requirements"]
    }
    assert gates["agent"]["approvers"] == ["approvers"] and gates["rule"]["approvers"] == ["automation-admins"]
    status, refusal = duty_manager.decide(approval)
    assert (status, refusal["code"]) == (422, "reason_required")
    status, view = duty_manager.decide(approval, reason="Announced last week.")
    assert (status, view["state"]) == (200, "pending")
    assert helper(demo, tmp_path, *ASKS, TOOL, text)[0] == PENDING
    status, view = administrator.decide(approval, reason="The list is the right one.")
    assert (status, view["state"]) == (200, "approved")
    assert helper(demo, tmp_path, *ASKS, TOOL, text)[0] == 0


def test_whoever_asks_learns_of_a_rejection_and_why(demo: Demo, tmp_path: Path) -> None:
    text = broadcast("Will be rejected.")
    approval = pending(demo, tmp_path, text)
    status, view = Approver.named(demo, run.APPROVER).decide(approval, "reject", reason="Wait until Monday.")
    assert (status, view["state"]) == (200, "rejected")
    status, told = helper(demo, tmp_path, *ASKS, TOOL, text)
    assert status == REFUSED and told.startswith("not approved") and "Wait until Monday." in told, told


# --- In the browser ---------------------------------------------------------------------------------------------------


class Browser:
    """Follows links, keeps cookies and fills in forms."""

    def __init__(self) -> None:
        self.cookies = http.cookiejar.CookieJar()
        self._open = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies)).open

    def get(self, url: str) -> tuple[str, str]:
        """Where it ends up, and the page."""
        with self._open(url, timeout=10) as answer:
            return answer.geturl(), answer.read().decode()

    def submit(self, page: tuple[str, str], action: str, **fields: str) -> tuple[str, str]:
        """Fills in the form that goes there."""
        url, text = page
        form = next(form for form in re.findall(r"<form.*?</form>", text, re.DOTALL) if f'action="{action}"' in form)
        hidden = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', form)
        body = urllib.parse.urlencode({name: html.unescape(value) for name, value in hidden} | fields).encode()
        origin = "{0.scheme}://{0.netloc}".format(urllib.parse.urlsplit(url))
        request = urllib.request.Request(urllib.parse.urljoin(url, action), body, {"Origin": origin})
        with self._open(request, timeout=10) as answer:
            return answer.geturl(), answer.read().decode()

    def sign_in(self, demo: Demo, person: str, path: str) -> tuple[str, str]:
        """Signs a person in at the identity provider, and goes on to a page of the approval service."""
        url = demo.description["approvals_url"]
        page = self.get(f"{url}/sign-in?{urllib.parse.urlencode({'next': path})}")
        assert page[0].startswith(f"{demo.issuer}/authorize?"), page
        return self.submit(page, "/authorize", person=person)


def test_a_person_approves_on_the_page(demo: Demo, tmp_path: Path) -> None:
    text = broadcast("Decided in the browser.")
    approval = pending(demo, tmp_path, text)
    path = f"/approvals/{approval}"
    browser = Browser()
    page = browser.sign_in(demo, run.APPROVER, path)
    assert page[0] == f"{demo.description['approvals_url']}{path}"
    assert "Decided in the browser." in page[1] and "Duty manager" in page[1]
    browser.submit(page, f"{path}/decision", decision="approve", reason="")
    assert helper(demo, tmp_path, *ASKS, TOOL, text)[0] == 0


def test_a_person_without_the_role_finds_nothing_on_the_page(demo: Demo, tmp_path: Path) -> None:
    text = "Not for others to read."
    approval = pending(demo, tmp_path, broadcast(text))
    with pytest.raises(urllib.error.HTTPError) as refused:
        Browser().sign_in(demo, "scheduler", f"/approvals/{approval}")
    with refused.value as error:
        assert (error.code, text in error.read().decode()) == (404, False)


# --- On record --------------------------------------------------------------------------------------------------------


def test_the_record_says_who_approved(demo: Demo, tmp_path: Path) -> None:
    text = broadcast("On record.")
    approval = pending(demo, tmp_path, text)
    assert Approver.named(demo, run.APPROVER).decide(approval)[0] == 200
    assert helper(demo, tmp_path, *ASKS, TOOL, text)[0] == 0

    def lines() -> list[Json]:
        log = demo.gateway.audit_log.read_text().splitlines()
        return [line for line in map(json.loads, log) if line["record"].get("approval", {}).get("id") == approval]

    demo.gateway.envoy.wait_until("all is written", lambda: len(lines()) == 2)
    waits, done = lines()
    assert (waits["record"]["reason"], waits["record"]["approval"]["status"]) == ("approval_pending", "pending")
    assert (done["record"]["verdict"], done["record"]["approval"]["status"]) == ("allow", "approved")
    [approver] = done["personal"]["approvers"]
    assert (approver["issuer"], approver["subject"]) == (demo.issuer, run.APPROVER)
    assert approver["roles"] == ["approvers"]
    assert verify(demo.gateway.envoy.audit_key, demo.gateway.audit_log).is_clean
