"""Real parts end to end: the official SDK's server and client, and an identity provider, around the gateway.

The policy is the demo's own, moved to free ports.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken

from conftest import NewGateway
from support import messages
from support.demo import Demo, get_json, post_form, run_demo
from support.http1 import request
from support.messages import REVISIONS

MODES = ("legacy", "2026-07-28", "auto")
BOOKING = {"contact_id": "CT-1001", "service": "consultation", "starts_at": "2027-03-12T09:30:00Z"}


@pytest.fixture(scope="module")
def demo(start_gateway: NewGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo."""
    with run_demo(start_gateway, tmp_path_factory.mktemp("demo")) as running:
        yield running


class Storage:
    """Where the SDK keeps its tokens; also the record of what it was granted."""

    def __init__(self) -> None:
        self.granted: list[OAuthToken] = []

    async def get_tokens(self) -> OAuthToken | None:
        return self.granted[-1] if self.granted else None

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.granted.append(tokens)

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return None

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """Known already."""


@asynccontextmanager
async def connected(demo: Demo, mode: str, auth: httpx2.Auth) -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(auth=auth, timeout=20) as http,
        Client(streamable_http_client(demo.url, http_client=http), mode=mode) as client,
    ):
        yield client


class Bearer(httpx2.Auth):
    """A token that is there already."""

    def __init__(self, token: str) -> None:
        self.token = token

    def auth_flow(self, request: httpx2.Request) -> Iterator[httpx2.Request]:  # type: ignore[override]
        request.headers["authorization"] = f"Bearer {self.token}"
        yield request


def run(demo: Demo, mode: str, auth: httpx2.Auth, work: Callable[[Client], Awaitable[None]]) -> None:
    async def main() -> None:
        async with connected(demo, mode, auth) as client:
            await work(client)

    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize("mode", MODES)
def test_the_official_client_works_through_the_gateway(demo: Demo, mode: str) -> None:
    async def work(client: Client) -> None:
        assert client.protocol_version == ("2025-11-25" if mode == "legacy" else "2026-07-28")
        assert {tool.name for tool in (await client.list_tools()).tools} >= {"read_contact", "create_booking"}
        contact = await client.call_tool("read_contact", {"contact_id": "CT-1001"})
        assert contact.structured_content and contact.structured_content["contact_id"] == "CT-1001"
        booking = await client.call_tool("create_booking", BOOKING)
        assert booking.structured_content and booking.structured_content["status"] == "confirmed"
        report = await client.read_resource("norg://reports/weekly")
        assert "bookings_confirmed" in report.model_dump_json()
        card = await client.read_resource("norg://contacts/CT-1002")
        assert "Example Bicycle Repair" in card.model_dump_json()
        brief = await client.get_prompt("campaign_brief", {"campaign_id": "AD-301"})
        assert "Spring" in brief.model_dump_json()
        assert [prompt.name for prompt in (await client.list_prompts()).prompts] == ["campaign_brief"]
        mistake = await client.call_tool("read_contact", {"contact_id": "CT-9999"})
        assert mistake.is_error

    run(demo, mode, Bearer(demo.token("full")), work)


@pytest.mark.parametrize("mode", MODES)
def test_the_official_client_is_told_what_it_may_not(demo: Demo, mode: str) -> None:
    async def work(client: Client) -> None:
        for attempt in (
            client.call_tool("create_booking", BOOKING),
            client.call_tool("unheard_of", {}),
            client.read_resource("file:///etc/passwd"),
            client.get_prompt("campaign_brief", {"campaign_id": "AD-301"}),
        ):
            with pytest.raises(MCPError):
                await attempt
        # A refusal does not end the connection.
        assert not (await client.call_tool("read_contact", {"contact_id": "CT-1001"})).is_error

    run(demo, mode, Bearer(demo.token("reader")), work)


@pytest.mark.parametrize("mode", MODES)
def test_the_official_client_finds_its_way_from_nothing_to_every_scope(demo: Demo, mode: str) -> None:
    """The SDK's own OAuth: 401, metadata, token, 403, a token with more scopes, and the call again."""
    registration, storage = demo.clients["full"], Storage()
    auth = ClientCredentialsOAuthProvider(
        server_url=demo.url,
        storage=storage,
        client_id=registration["client_id"],
        client_secret=registration["client_secret"],
        issuer=demo.issuer,
    )

    async def work(client: Client) -> None:
        await client.list_tools()
        assert len(storage.granted) == 1
        assert set((storage.granted[0].scope or "").split()) == {"norg:ads:read", "norg:contacts:read"}
        booking = await client.call_tool("create_booking", BOOKING)
        assert booking.structured_content and booking.structured_content["status"] == "confirmed"
        assert len(storage.granted) == 2
        deleted = await client.call_tool("delete_crm_record", {"record_id": "CRM-99999"})
        # The server's own answer: there is no such record. So the call came through.
        assert deleted.is_error
        assert len(storage.granted) == 3
        assert {"norg:booking:write", "norg:crm:delete"} <= set((storage.granted[2].scope or "").split())

    run(demo, mode, auth, work)


def test_challenges_alone_lead_a_client_from_nothing_to_the_call(demo: Demo) -> None:
    """No knowledge but the URL of the server and the client's own registration."""
    gateway, registration = demo.gateway, demo.clients["full"]
    for revision in REVISIONS:
        create = messages.call("create_booking", BOOKING, revision)
        if revision != messages.STATELESS:
            # By the same client: a session is bound to it.
            opened = gateway.send(messages.initialize(revision), demo.token("full"))
            session = opened.header("mcp-session-id")
            create = create.with_headers(*([("Mcp-Session-Id", session)] if session else []))
        challenge = gateway.send(create).challenge()
        metadata = get_json(challenge["resource_metadata"])
        assert metadata["resource"] == demo.url
        server = get_json(f"{metadata['authorization_servers'][0]}/.well-known/oauth-authorization-server")
        statuses = []
        for _ in range(3):
            form = {"grant_type": "client_credentials", "resource": metadata["resource"], "scope": challenge["scope"]}
            granted = post_form(
                server["token_endpoint"], form, registration["client_id"], registration["client_secret"]
            )
            response = gateway.send(create, granted["access_token"])
            statuses.append(response.status)
            if response.status != 403:
                break
            challenge = response.challenge()
            assert challenge["error"] == "insufficient_scope"
        assert statuses == [403, 200], revision
        assert b"confirmed" in response.body


def test_a_person_acts_through_a_client(demo: Demo) -> None:
    """A token from RFC 8693 token exchange names the person as its subject."""
    login = demo.login("scheduler")
    call = messages.call("read_contact", {"contact_id": "CT-1001"})
    assert demo.gateway.send(call, demo.token_for("scheduler", "booking", login)).status == 200
    # The subject token itself is for the identity provider, not for us.
    assert demo.gateway.send(call, login["subject_token"]).status == 401


@pytest.mark.parametrize("alg", ["RS256", "ES256", "EdDSA"])
def test_the_demos_tokens_are_accepted_with_every_algorithm_and_after_rotation(demo: Demo, alg: str) -> None:
    call = messages.call("read_contact", {"contact_id": "CT-1001"})
    assert demo.gateway.send(call, demo.token("reader", alg=alg)).status == 200
    elsewhere = demo.token("reader", alg=alg, resource="https://other.example/mcp")
    assert demo.gateway.send(call, elsewhere).status == 401
    assert demo.gateway.send(call, demo.token("reader", alg=alg, lifetime="7200")).status == 401


def test_the_metadata_of_the_demo_names_its_own_endpoint(demo: Demo) -> None:
    response = request(demo.gateway.port, "GET", "/.well-known/oauth-protected-resource/mcp", [])
    assert response.json()["resource"] == demo.url
    assert response.json()["authorization_servers"] == [demo.issuer]
