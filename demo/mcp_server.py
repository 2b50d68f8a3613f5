"""The demo's MCP server: a small business automation API on the official Python SDK.

It stands for the server that Toolgate protects, so it knows nothing of tokens, scopes or people: whatever
reaches it is carried out. Its state is real for the life of the process (a booking that was made can be moved and
cancelled once), which makes a call that should have been refused visible in what a later call returns.

Ids are sequential, so a fresh server gives the same answers to the same calls.
"""

import argparse
import itertools
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Annotated, Literal, TypeVar

import uvicorn
from mcp import MCPError
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError
from mcp.types import INVALID_PARAMS, ToolAnnotations
from pydantic import BaseModel, Field

ContactId = Annotated[str, Field(pattern=r"^CT-\d{4}$", examples=["CT-1001"])]
BookingId = Annotated[str, Field(pattern=r"^BK-\d{8}-\d{4}$", examples=["BK-20240312-0047"])]
RecordId = Annotated[str, Field(pattern=r"^CRM-\d{5}$", examples=["CRM-20481"])]
CampaignId = Annotated[str, Field(pattern=r"^AD-\d{3}$", examples=["AD-301"])]
Text = Annotated[str, Field(min_length=1, max_length=2000)]
Channel = Literal["email", "sms"]
Item = TypeVar("Item")

READS = ToolAnnotations(read_only_hint=True)
ADDS = ToolAnnotations(read_only_hint=False, destructive_hint=False)
CHANGES = ToolAnnotations(read_only_hint=False, destructive_hint=True)


class Contact(BaseModel):
    """A customer of the business."""

    contact_id: str
    name: str
    email: str
    phone: str
    segment: Literal["lead", "customer"]


class Delivery(BaseModel):
    """A message that was handed over for delivery."""

    message_id: str
    contact_id: str
    channel: Channel
    status: Literal["queued"] = "queued"


class Broadcast(BaseModel):
    """One message to many contacts."""

    broadcast_id: str
    recipients: int
    messages: list[Delivery]


class Booking(BaseModel):
    """An appointment of a contact."""

    booking_id: str
    contact_id: str
    service: str
    starts_at: datetime
    ends_at: datetime
    status: Literal["confirmed", "cancelled"] = "confirmed"


class CrmRecord(BaseModel):
    """A note about a contact in the customer register."""

    record_id: str
    contact_id: str
    kind: Literal["deal", "note", "task"]
    title: str


class Deletion(BaseModel):
    """What is left of a deleted record."""

    record_id: str
    deleted: Literal[True] = True


class AdPerformance(BaseModel):
    """How a campaign did over a period."""

    campaign_id: str
    name: str
    since: date
    until: date
    impressions: int
    clicks: int
    spend: float
    currency: str


class AdSpend(BaseModel):
    """A campaign's daily budget before and after a change."""

    change_id: str
    campaign_id: str
    previous_daily_budget: float
    daily_budget: float
    currency: str


class Campaign(BaseModel):
    """An advertising campaign."""

    campaign_id: str
    name: str
    daily_budget: float
    currency: str = "EUR"


class Business:
    """All state of the demo, so that one object is one fresh business."""

    def __init__(self) -> None:
        names = ("Example Bakery", "Example Bicycle Repair", "Example Dental Practice", "Example Garden Centre")
        self.contacts = {
            contact.contact_id: contact
            for contact in (
                Contact(
                    contact_id=f"CT-{1001 + index}",
                    name=name,
                    email=f"office@{name.split()[1].lower()}.example",
                    phone=f"+1-555-01{index + 1:02}",
                    segment="customer" if index % 2 == 0 else "lead",
                )
                for index, name in enumerate(names)
            )
        }
        self.campaigns = {
            "AD-301": Campaign(campaign_id="AD-301", name="Spring opening hours", daily_budget=40.0),
            "AD-302": Campaign(campaign_id="AD-302", name="First visit offer", daily_budget=25.0),
        }
        self.bookings: dict[str, Booking] = {}
        self.records: dict[str, CrmRecord] = {}
        self._numbers: dict[str, Iterator[int]] = {
            "booking": itertools.count(47),
            "message": itertools.count(9001),
            "broadcast": itertools.count(11),
            "record": itertools.count(20481),
            "change": itertools.count(701),
        }

    def number(self, sequence: str) -> int:
        """The next number of a sequence."""
        return next(self._numbers[sequence])


def find(items: dict[str, Item], what: str, key: str) -> Item:
    """The item with this id. An unknown one is the caller's mistake: a tool error, not a crash of the tool."""
    if key not in items:
        raise ToolError(f"no {what} with id {key}")
    return items[key]


def build_server() -> MCPServer:
    """A server over a fresh business."""
    business = Business()
    server = MCPServer(
        "norg-business-tools",
        title="Norg business tools",
        instructions="Contacts, messages, bookings, customer records and advertising of a small business.",
        version="1.0.0",
        log_level="WARNING",
    )
    add_contact_tools(server, business)
    add_booking_tools(server, business)
    add_crm_tools(server, business)
    add_ad_tools(server, business)
    add_resources_and_prompts(server, business)
    return server


def add_contact_tools(server: MCPServer, business: Business) -> None:
    """Reading a contact and writing to one or to many."""

    def deliver(contact_id: str, channel: Channel) -> Delivery:
        find(business.contacts, "contact", contact_id)
        return Delivery(message_id=f"MSG-{business.number('message')}", contact_id=contact_id, channel=channel)

    @server.tool(annotations=READS)
    def read_contact(contact_id: ContactId) -> Contact:
        """Read one contact."""
        return find(business.contacts, "contact", contact_id)

    @server.tool(annotations=ADDS)
    def send_message(contact_id: ContactId, body: Text, channel: Channel = "email") -> Delivery:
        """Send a message to one contact."""
        return deliver(contact_id, channel)

    @server.tool(annotations=ADDS)
    def broadcast_message(
        contacts: Annotated[list[ContactId], Field(min_length=1, max_length=500)],
        body: Text,
        channel: Channel = "email",
    ) -> Broadcast:
        """Send the same message to many contacts: to all of them, or to none when one is unknown."""
        for contact_id in contacts:
            find(business.contacts, "contact", contact_id)
        messages = [deliver(contact_id, channel) for contact_id in contacts]
        return Broadcast(
            broadcast_id=f"BC-{business.number('broadcast'):04}", recipients=len(messages), messages=messages
        )


def add_booking_tools(server: MCPServer, business: Business) -> None:
    """The life of a booking."""

    def confirmed(booking_id: str) -> Booking:
        booking = find(business.bookings, "booking", booking_id)
        if booking.status == "cancelled":
            raise ToolError(f"booking {booking_id} is cancelled")
        return booking

    @server.tool(annotations=ADDS)
    def create_booking(
        contact_id: ContactId,
        service: Annotated[str, Field(min_length=1, max_length=80, examples=["consultation"])],
        starts_at: datetime,
        duration_minutes: Annotated[int, Field(ge=5, le=480)] = 30,
    ) -> Booking:
        """Book an appointment for a contact."""
        find(business.contacts, "contact", contact_id)
        booking = Booking(
            booking_id=f"BK-{starts_at:%Y%m%d}-{business.number('booking'):04}",
            contact_id=contact_id,
            service=service,
            starts_at=starts_at,
            ends_at=starts_at + timedelta(minutes=duration_minutes),
        )
        business.bookings[booking.booking_id] = booking
        return booking

    @server.tool(annotations=CHANGES)
    def modify_booking(booking_id: BookingId, starts_at: datetime) -> Booking:
        """Move a booking to another time. It keeps its id and its length."""
        booking = confirmed(booking_id)
        booking.ends_at = starts_at + (booking.ends_at - booking.starts_at)
        booking.starts_at = starts_at
        return booking

    @server.tool(annotations=CHANGES)
    def cancel_booking(booking_id: BookingId, reason: Text = "no reason given") -> Booking:
        """Cancel a booking. A cancelled booking cannot be changed any more."""
        booking = confirmed(booking_id)
        booking.status = "cancelled"
        return booking


def add_crm_tools(server: MCPServer, business: Business) -> None:
    """Records of the customer register."""

    @server.tool(annotations=ADDS)
    def create_crm_record(
        contact_id: ContactId,
        title: Annotated[str, Field(min_length=1, max_length=120)],
        kind: Literal["deal", "note", "task"] = "note",
    ) -> CrmRecord:
        """Add a record to a contact."""
        find(business.contacts, "contact", contact_id)
        record = CrmRecord(record_id=f"CRM-{business.number('record')}", contact_id=contact_id, kind=kind, title=title)
        business.records[record.record_id] = record
        return record

    @server.tool(annotations=CHANGES)
    def delete_crm_record(record_id: RecordId) -> Deletion:
        """Delete a record for good."""
        find(business.records, "record", record_id)
        del business.records[record_id]
        return Deletion(record_id=record_id)


def add_ad_tools(server: MCPServer, business: Business) -> None:
    """Advertising: what it brought, and what it may cost."""

    @server.tool(annotations=READS)
    def read_ad_performance(campaign_id: CampaignId, since: date, until: date) -> AdPerformance:
        """Read the figures of a campaign between two days, both included."""
        campaign = find(business.campaigns, "campaign", campaign_id)
        days = (until - since).days + 1
        if days < 1:
            raise ToolError("until lies before since")
        return AdPerformance(
            campaign_id=campaign_id,
            name=campaign.name,
            since=since,
            until=until,
            impressions=1250 * days,
            clicks=38 * days,
            spend=campaign.daily_budget * days,
            currency=campaign.currency,
        )

    @server.tool(annotations=CHANGES)
    def modify_ad_spend(campaign_id: CampaignId, daily_budget: Annotated[float, Field(ge=0, le=10_000)]) -> AdSpend:
        """Set the daily budget of a campaign."""
        campaign = find(business.campaigns, "campaign", campaign_id)
        previous, campaign.daily_budget = campaign.daily_budget, daily_budget
        return AdSpend(
            change_id=f"ADC-{business.number('change')}",
            campaign_id=campaign_id,
            previous_daily_budget=previous,
            daily_budget=daily_budget,
            currency=campaign.currency,
        )


def add_resources_and_prompts(server: MCPServer, business: Business) -> None:
    """A report, a contact card per contact, and a prompt."""

    @server.resource("norg://reports/weekly", mime_type="application/json")
    def weekly_report() -> dict[str, int]:
        """This week in numbers."""
        bookings = business.bookings.values()
        return {
            "contacts": len(business.contacts),
            "bookings_confirmed": sum(booking.status == "confirmed" for booking in bookings),
            "bookings_cancelled": sum(booking.status == "cancelled" for booking in bookings),
            "crm_records": len(business.records),
        }

    @server.resource("norg://contacts/{contact_id}", mime_type="application/json")
    def contact_card(contact_id: str) -> Contact:
        """One contact, as `read_contact` returns it."""
        if contact_id not in business.contacts:
            raise ResourceNotFoundError(f"no contact with id {contact_id}")
        return business.contacts[contact_id]

    @server.prompt()
    def campaign_brief(campaign_id: str, goal: str = "more first visits") -> str:
        """Ask for a brief for the next step of a campaign."""
        campaign = business.campaigns.get(campaign_id)
        if campaign is None:
            raise MCPError(INVALID_PARAMS, f"no campaign with id {campaign_id}")
        return (
            f"Write a brief of at most 200 words for the campaign '{campaign.name}'. Its goal: {goal}. "
            f"It may cost {campaign.daily_budget:.2f} {campaign.currency} a day."
        )


def main() -> None:
    """Serve on loopback, at /mcp.

    Listening on a loopback address makes the SDK check Host and Origin (DNS rebinding): it takes 127.0.0.1, localhost
    and [::1] with any port, and answers 421 or 403 to all else. Envoy in front writes this server's own address into
    Host, so the check stays on.
    """
    parser = argparse.ArgumentParser(description="The demo's MCP server.")
    parser.add_argument("--port", type=int, default=10002)
    arguments = parser.parse_args()
    uvicorn.run(build_server().streamable_http_app(), host="127.0.0.1", port=arguments.port, log_level="warning")


if __name__ == "__main__":
    main()
