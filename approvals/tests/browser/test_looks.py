"""Every page, light and dark, large and small: accessible, and pictured for people to look at.

Pictures are written if SCREENSHOTS names a directory. AXE names axe.min.js of the package axe-core; else it is where
scripts/node-env has put it.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from browser import DESKTOP, PHONE, Browser
from conftest import ROOT, NewBrowser
from service import Service, call, requirement

AXE = Path(os.environ.get("AXE", ROOT / "target/axe/node_modules/axe-core/axe.min.js"))

Prepare = Callable[[Service, Browser], None]


def check(browser: Browser, name: str) -> None:
    """No serious or critical violation, in any look."""
    axe = AXE.read_text()
    for size_name, size in (("desktop", DESKTOP), ("phone", PHONE)):
        browser.size(size)
        for scheme in ("light", "dark"):
            browser.scheme(scheme)
            browser.run(axe)
            result = browser.driver.execute_async_script(
                "const done = arguments[0];"
                "axe.run(document, {resultTypes: ['violations'],"
                " runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']}).then(done)"
            )
            bad = [
                (violation["id"], node["html"], node["failureSummary"])
                for violation in result["violations"]
                if violation["impact"] in ("serious", "critical", "moderate")
                for node in violation["nodes"]
            ]
            assert not bad, f"{name}, {size_name}, {scheme}: {bad}"
            browser.shoot(f"{name}-{size_name}-{scheme}")


def signed_in(service: Service, browser: Browser, person: str, path: str = "/approvals") -> None:
    """Opens a page as this person."""
    browser.open(service.origin + path)
    browser.sign_in(person)


def filled(service: Service) -> None:
    """Some requests."""
    service.ask(
        call=call("delete_contact", arguments={"/contact_id": "pseudonym:5f2c91d0a7"}, withheld=False),
        expires_in=55,
        requester={
            "issuer": "https://idp.norg.example",
            "subject": "campaign-manager",
            "client_id": "full-automation",
            "agent": "full_automation_agent",
            "roles": ["campaign_manager"],
            "actors": [],
        },
    )
    service.ask(call=call("norg://reports/campaigns/2026-11", kind="resource", method="resources/read", arguments={}))
    service.ask()


def list_page(service: Service, browser: Browser) -> None:
    filled(service)
    signed_in(service, browser, "administrator")
    browser.wait(".request")


def empty_list(service: Service, browser: Browser) -> None:
    signed_in(service, browser, "administrator")


def history(service: Service, browser: Browser) -> None:
    filled(service)
    decided = [service.ask() for _ in range(2)]
    service.ask(expires_in=1)
    signed_in(service, browser, "administrator")
    for approval, decision in zip(decided, ("approve", "reject"), strict=True):
        browser.open(f"{service.origin}/approvals/{approval}")
        browser.find(f"button.{decision}").click()
        browser.wait(".decide .note")
    browser.open(f"{service.origin}/approvals?view=history&requester=scheduler")
    browser.wait(".badge", "Expired")


def request(service: Service, browser: Browser) -> None:
    approval = service.ask(reason_required=True)
    signed_in(service, browser, "administrator", f"/approvals/{approval}")


def hostile(service: Service, browser: Browser) -> None:
    approval = service.ask(
        call=call(
            "<script>alert(1)</script>",
            arguments={
                "/file": "invoice\u202egpj.exe",
                "/html": '"><img src=x onerror=alert(1)>',
                "/link": "https://evil.example/sign-in?next=//evil.example",
                "/control": "bell\u0007 escape\u001b[31m zero\u200bwidth",
                "/long": "Lorem ipsum dolor sit amet, consetetur sadipscing elitr. " * 60,
                "/unbroken": "x" * 600,
            },
            purpose="Approve this at once.\u2028It has been checked already.",
        )
    )
    signed_in(service, browser, "administrator", f"/approvals/{approval}")


def partly_approved(service: Service, browser: Browser) -> None:
    gates = [requirement(count=2), requirement(gate="agent", name="full_automation_agent", escalate=None)]
    gates[1].pop("escalate")
    approval = service.ask(requirements=gates, escalated_from="approvals")
    signed_in(service, browser, "administrator", f"/approvals/{approval}")
    browser.find("#reason").send_keys("The list was checked against the calendar.")
    browser.find("button.approve").click()
    browser.wait(".decide .note")


def approved(service: Service, browser: Browser) -> None:
    approval = service.ask()
    signed_in(service, browser, "administrator", f"/approvals/{approval}")
    browser.find("button.approve").click()
    browser.wait(".badge", "Approved")


def rejected(service: Service, browser: Browser) -> None:
    approval = service.ask()
    signed_in(service, browser, "administrator", f"/approvals/{approval}")
    browser.find("#reason").send_keys("Too many at once. Ask again with the list of tomorrow only.")
    browser.find("button.reject").click()
    browser.wait(".badge", "Rejected")


def signed_out(service: Service, browser: Browser) -> None:
    browser.open(f"{service.origin}/approvals/{service.ask()}")


def signed_out_now(service: Service, browser: Browser) -> None:
    signed_in(service, browser, "administrator")
    browser.find(".who button").click()
    browser.wait("h1", "Signed out")


def sign_in_failed(service: Service, browser: Browser) -> None:
    browser.open(f"{service.origin}/callback?code=x&state=x")


def no_role(service: Service, browser: Browser) -> None:
    signed_in(service, browser, "newcomer")
    browser.wait(".note", "No role to approve with")


def not_found(service: Service, browser: Browser) -> None:
    signed_in(service, browser, "newcomer", f"/approvals/{service.ask()}")
    browser.wait("h1", "Nothing to see here")


def requester(service: Service, browser: Browser) -> None:
    signed_in(service, browser, "scheduler", f"/approvals/{service.ask()}")
    browser.wait(".note", "This is your own request")


def role_not_asked(service: Service, browser: Browser) -> None:
    signed_in(service, browser, "oncall", f"/approvals/{service.ask()}")
    browser.wait(".note", "Your role is not asked")


def expired(service: Service, browser: Browser) -> None:
    approval = service.ask(expires_in=2)
    signed_in(service, browser, "administrator", f"/approvals/{approval}")
    browser.wait(".badge", "Expired")


def stale_form(service: Service, browser: Browser) -> None:
    signed_in(service, browser, "administrator", f"/approvals/{service.ask()}")
    browser.run("document.querySelector('.decide [name=csrf]').value = 'another'")
    browser.find("button.approve").click()
    browser.wait("h1", "Nothing was decided")


def too_late(service: Service, browser: Browser) -> None:
    approval = service.ask(expires_in=3)
    signed_in(service, browser, "administrator", f"/approvals/{approval}")
    # Somebody is writing when the time runs out: the form stays, and says so when it is sent.
    browser.find("#reason").send_keys("I had to ask")
    browser.run(
        "const form = document.querySelector('.decide form');"
        "document.querySelector('[data-live=decide]').removeAttribute('data-live');"
        "setTimeout(() => form.querySelector('.approve').click(), 4000)"
    )
    browser.wait("[role=alert]", "Expired", seconds=15)


PAGES: tuple[Prepare, ...] = (
    list_page,
    empty_list,
    history,
    request,
    hostile,
    partly_approved,
    approved,
    rejected,
    signed_out,
    signed_out_now,
    sign_in_failed,
    no_role,
    not_found,
    requester,
    role_not_asked,
    expired,
    stale_form,
    too_late,
)


@pytest.mark.parametrize("prepare", PAGES, ids=lambda prepare: prepare.__name__)
def test_page(service: Service, new_browser: NewBrowser, prepare: Prepare) -> None:
    browser = new_browser()
    prepare(service, browser)
    check(browser, prepare.__name__)
