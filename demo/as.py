#!/usr/bin/env python3
"""See the demo as a person who uses an agent: what that combination is shown, and what comes of a call.

    demo/as.py scheduler booking-agent                                           what it is shown
    demo/as.py scheduler booking-agent read_contact '{"contact_id": "CT-1001"}'  what comes of a call
    demo/as.py analyst messaging-agent send_message                              with arguments that work
    demo/as.py nobody full-automation-agent                                      the agent by itself, without a person
    demo/as.py analyst messaging-agent --permissions                             what it may do, and what it lacks
    demo/as.py analyst full-automation-agent --token                             its token, for other tools
    demo/as.py campaign-manager full-automation-agent broadcast_message          a call that somebody must approve
    demo/as.py duty-manager approvals-cli --token                                a token to approve with

Logs the person in at the demo's identity provider, has the agent exchange the login for an access token (RFC 8693), and
asks the gateway. Where everything is, it reads from the demo.json of a running `make run`. Needs nothing but Python.
The exit status is 0 when the gateway let the request pass, 3 when it refused, and 4 when it waits for an approval.
"""

import argparse
import base64
import hashlib
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

DEMO = Path(__file__).resolve().parent.parent / "target" / "demo" / "demo.json"
NOBODY = "nobody"
REFUSED = 3
PENDING = 4

REVISION = "2026-07-28"
#: It can show a link to its user, and does: by printing it.
CAPABILITIES: dict[str, Any] = {"elicitation": {"url": {}}}
META = {
    "io.modelcontextprotocol/protocolVersion": REVISION,
    "io.modelcontextprotocol/clientCapabilities": CAPABILITIES,
}
#: The name of the gateway's own question, in a result that asks for something.
APPROVAL = "dev.toolgate/approval"
#: In the answers that are the gateway's and not the server's.
DECISION = "x-toolgate-decision"
#: Lists by method, with the member of the result that holds the items, and what names an item.
LISTS = {
    "tools/list": ("tools", "name"),
    "prompts/list": ("prompts", "name"),
    "resources/list": ("resources", "uri"),
    "resources/templates/list": ("resourceTemplates", "uriTemplate"),
}

#: Arguments that the demo's server takes, for those who only want to see a verdict.
SAMPLES: dict[str, dict[str, Any]] = {
    "read_contact": {"contact_id": "CT-1001"},
    "send_message": {"contact_id": "CT-1001", "body": "See you tomorrow."},
    "broadcast_message": {"contacts": ["CT-1001", "CT-1002"], "body": "We open at nine."},
    "create_booking": {"contact_id": "CT-1001", "service": "consultation", "starts_at": "2027-03-12T09:30:00Z"},
    "modify_booking": {"booking_id": "BK-20270312-0047", "starts_at": "2027-03-12T10:30:00Z"},
    "cancel_booking": {"booking_id": "BK-20270312-0047"},
    "create_crm_record": {"contact_id": "CT-1001", "title": "Asked for an offer"},
    "delete_crm_record": {"record_id": "CRM-20481"},
    "read_ad_performance": {"campaign_id": "AD-301", "since": "2027-03-01", "until": "2027-03-07"},
    "modify_ad_spend": {"campaign_id": "AD-301", "daily_budget": 45},
}


class Problem(Exception):
    """Something that is said in one line and ends the program."""


class Refused(Exception):
    """The gateway's or the server's JSON-RPC error."""

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(error.get("message", ""))
        self.status, self.error = status, error


class NotApproved(Exception):
    """Nobody has approved the call: not yet, or not at all. The message is the gateway's."""

    def __init__(self, message: str, link: str | None = None) -> None:
        super().__init__(message)
        self.link = link


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("person", help=f"one of the people in demo.json, or `{NOBODY}`: the agent by itself")
    parser.add_argument("agent", help="one of the clients in demo.json, such as booking-agent")
    parser.add_argument("tool", nargs="?", help="call this tool; without it, show what can be seen")
    parser.add_argument("arguments", nargs="?", type=json_object, help="its arguments, a JSON object")
    parser.add_argument("--permissions", action="store_true", help="print what the gateway says it may do, as JSON")
    parser.add_argument("--definitions", action="store_true", help="print digests of its tools, for a consent record")
    parser.add_argument("--token", action="store_true", help="print the access token and do nothing else")
    parser.add_argument("--scope", help="ask for these scopes only, separated by blanks")
    parser.add_argument("--acr", help="the login's authentication context, such as mfa")
    parser.add_argument("--amr", help="the login's methods, separated by blanks, such as 'pwd otp'")
    parser.add_argument("--auth-age", type=int, metavar="SECONDS", help="how long ago the person signed in")
    parser.add_argument("--purpose", help="what for")
    parser.add_argument("--demo", type=Path, default=DEMO, metavar="FILE", help="demo.json of the running demo")
    return parser.parse_args(arguments)


def json_object(text: str) -> dict[str, Any]:
    """A JSON object on the command line."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("not a JSON object")
    return value


# --- The identity provider ------------------------------------------------------------------------------------------


def post_form(url: str, fields: dict[str, str | None], credentials: tuple[str, str] | None = None) -> dict[str, Any]:
    """A form, without the fields that are not set."""
    given = {name: value for name, value in fields.items() if value is not None}
    request = urllib.request.Request(url, urllib.parse.urlencode(given).encode())
    if credentials:
        request.add_header("Authorization", "Basic " + base64.b64encode(":".join(credentials).encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        raise Problem(f"the identity provider refused: {json.load(error).get('error_description')}") from error


def access_token(demo: dict[str, Any], options: argparse.Namespace) -> str:
    """A token of the agent: for the person who uses it, or its own."""
    clients, people = demo["clients"], demo["people"]
    if options.agent not in clients:
        raise Problem(f"no agent `{options.agent}`; there are {', '.join(clients)}")
    client = clients[options.agent]
    credentials = (client["client_id"], client["client_secret"])
    resource = client.get("resource", demo["resource"])
    form = {"resource": resource, "scope": options.scope, "grant_type": "client_credentials"}
    if options.person != NOBODY:
        if options.person not in people:
            raise Problem(f"no person `{options.person}`; there are {', '.join(people)}, and {NOBODY}")
        age = None if options.auth_age is None else str(options.auth_age)
        how = {"acr": options.acr, "amr": options.amr, "auth_time": age, "purpose": options.purpose}
        login = post_form(f"{demo['issuer']}/dev/login", {"person": options.person, **how})
        form |= {name: login[name] for name in ("subject_token", "subject_token_type")}
        form["grant_type"] = "urn:ietf:params:oauth:grant-type:token-exchange"
    return str(post_form(demo["token_endpoint"], form, credentials)["access_token"])


# --- The gateway ----------------------------------------------------------------------------------------------------


def ask(url: str, token: str, method: str, params: dict[str, Any]) -> dict[str, Any]:
    """The result of a request of revision 2026-07-28, which needs no session: everything is in the one request."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": META}}
    headers = {
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": REVISION,
        "Mcp-Method": method,
    }
    if "name" in params:
        headers["Mcp-Name"] = params["name"]
    try:
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=60) as got:
            status, is_own, answer = got.status, DECISION in got.headers, read_answer(got)
    except urllib.error.HTTPError as error:
        status, is_own, answer = error.code, True, read_answer(error)
    if "error" in answer:
        raise Refused(status, answer["error"])
    result = dict(answer["result"])
    question = (result.get("inputRequests") or {}).get(APPROVAL)
    if question:
        raise NotApproved(question["params"]["message"], question["params"]["url"])
    if is_own and result.get("isError"):
        raise NotApproved(text_of(result))
    return result


def permissions(url: str, token: str) -> dict[str, Any]:
    """What the gateway says that this caller may do."""
    parts = urllib.parse.urlsplit(url)
    address = urllib.parse.urlunsplit(parts._replace(path=f"/.well-known/toolgate-permissions{parts.path}"))
    try:
        with urllib.request.urlopen(urllib.request.Request(address, None, {"Authorization": f"Bearer {token}"})) as got:
            return dict(json.load(got))
    except urllib.error.HTTPError as error:
        raise Problem(f"the gateway answered {error.code}") from error


def read_answer(response: Any) -> dict[str, Any]:
    """The JSON-RPC answer in a body: the body itself, or the event that has the id of the request."""
    if response.headers.get_content_type() != "text/event-stream":
        try:
            return dict(json.load(response))
        except ValueError:
            return {"error": {"message": f"HTTP {response.status} without a JSON body"}}
    for line in response:
        if line.startswith(b"data:"):
            message = json.loads(line.removeprefix(b"data:") or b"{}")
            if message.get("id") == 1:
                return dict(message)
    raise Problem("the event stream ended without an answer")


def items_in(url: str, token: str, method: str) -> list[dict[str, Any]]:
    """Everything in a list, all its pages."""
    member, _ = LISTS[method]
    items: list[dict[str, Any]] = []
    params: dict[str, Any] = {}
    while True:
        page = ask(url, token, method, params)
        items += page[member]
        if "nextCursor" not in page:
            return items
        params = {"cursor": page["nextCursor"]}


# --- What is printed --------------------------------------------------------------------------------------------------


def show_lists(url: str, token: str) -> None:
    """What this caller is shown."""
    for method, (_, naming) in LISTS.items():
        kind = method.removesuffix("/list") + ":"
        print(f"{kind:21}{', '.join(str(item[naming]) for item in items_in(url, token, method)) or 'none'}")


def show_definitions(url: str, token: str) -> None:
    """What `definitions` of a consent record pins: SHA-256 of each tool as compact JSON with sorted members."""
    for tool in items_in(url, token, "tools/list"):
        text = json.dumps(tool, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        print(f"{tool['name']}: {hashlib.sha256(text.encode()).hexdigest()}")


def show_call(url: str, token: str, tool: str, arguments: dict[str, Any]) -> None:
    """The verdict about a call, and what the tool said."""
    result = ask(url, token, "tools/call", {"name": tool, "arguments": arguments})
    print(f"allowed; the tool {'failed' if result.get('isError') else 'answered'}: {text_of(result)}")


def text_of(result: dict[str, Any]) -> str:
    """What a tool says, on one line."""
    text = " ".join(str(part.get("text", "")) for part in result.get("content", []))
    return " ".join(text.split())


def show_approval(missing: NotApproved) -> None:
    """Where to approve the call, and what to do then."""
    if missing.link is None:
        print(f"not approved: {missing}")
        return
    print(f"waits for an approval: {missing}")
    print(f"  approve it here: {missing.link}")
    print("  once it is approved, make the very same call again")


def show_refusal(refused: Refused) -> None:
    """What the gateway said: the reason, every side that failed, and the number under which the decision is logged."""
    data = refused.error.get("data") or {}
    reason = data.get("reason") or data.get("error") or refused.error.get("code")
    print(f"denied ({refused.status}): {reason}")
    for failure in data.get("failing_sides", []):
        lacks = failure.get("missing_scopes")
        print(f"  {failure['side']}: {failure['reason'] if lacks is None else 'lacks ' + words(lacks)}")
    told = {name: value for name, value in data.items() if name not in ("reason", "error", "failing_sides")}
    for name, value in told.items():
        print(f"  {name}: {words(value)}")


def words(value: Any) -> str:
    """A value for people."""
    if isinstance(value, list):
        return " ".join(words(item) for item in value) or "none"
    return value if isinstance(value, str) else json.dumps(value)


def main() -> int:
    """0: passed; 2: wrong command line; 3: refused; 4: waits for an approval; 1: everything else."""
    options = parse_arguments()
    try:
        demo = json.loads(options.demo.read_text())
    except OSError:
        print(f"as.py: {options.demo} is not there: is `make run` running?", file=sys.stderr)
        return 1
    try:
        token = access_token(demo, options)
        if options.token:
            print(token)
        elif options.definitions:
            show_definitions(demo["mcp_url"], token)
        elif options.permissions:
            print(json.dumps(permissions(demo["mcp_url"], token), indent=2))
        elif options.tool:
            arguments = SAMPLES.get(options.tool, {}) if options.arguments is None else options.arguments
            show_call(demo["mcp_url"], token, options.tool, arguments)
        else:
            show_lists(demo["mcp_url"], token)
    except Refused as refused:
        show_refusal(refused)
        return REFUSED
    except NotApproved as missing:
        show_approval(missing)
        return PENDING if missing.link else REFUSED
    except (Problem, OSError) as problem:
        print(f"as.py: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
