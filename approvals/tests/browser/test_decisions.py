"""Deciding, in a real browser."""

from urllib.parse import urlencode

import pytest
from selenium.webdriver.common.keys import Keys

from browser import PHONE, Browser
from conftest import NewBrowser
from provider import Provider
from service import Service, call, requirement


def test_a_link_leads_through_signing_in_to_a_decision_without_javascript(
    service: Service, new_browser: NewBrowser
) -> None:
    approval = service.ask(reason_required=True)
    browser = new_browser(script=False)
    browser.open(f"{service.origin}/approvals/{approval}")
    assert "Sign in to approvals" in browser.text() and "broadcast_message" not in browser.text()
    browser.sign_in("administrator")
    assert browser.driver.current_url.endswith(f"/approvals/{approval}")
    assert "calls the tool broadcast_message once, for scheduler" in browser.text()
    # The browser itself insists on the reason.
    browser.find("button.approve").click()
    assert browser.find("#reason:invalid")
    browser.find("#reason").send_keys("The list was checked.")
    browser.find("button.approve").click()
    assert browser.wait(".decide .note").text.startswith("Approved")
    assert "The list was checked." in browser.text() and "you" in browser.find("[aria-labelledby=votes]").text
    browser.open(service.origin)
    assert "Nothing is waiting" in browser.text()


def test_the_list_and_the_request_are_live(service: Service, new_browser: NewBrowser) -> None:
    one, two = new_browser(), new_browser()
    for browser, person in ((one, "administrator"), (two, "second-administrator")):
        browser.open(service.origin)
        browser.sign_in(person)
        assert "Nothing is waiting" in browser.text()
    service.ask(requirements=[requirement(count=2)])
    for browser in (one, two):
        browser.wait(".request a").click()
    # What is being written stays, whatever others do.
    two.find("#reason").send_keys("I looked at it")
    one.find("button.approve").click()
    one.wait(".decide .note", "You have decided")
    two.wait("[data-live=why]", "1 of 2 approved")
    two.wait("[data-live=votes]", "The administrator approved")
    assert two.find("#reason").get_attribute("value") == "I looked at it"
    two.find("button.approve").click()
    two.wait(".badge", "Approved")
    one.wait(".badge", "Approved")
    one.wait(".decide .note", "Approved")
    assert one.find("#said").get_attribute("textContent") == "The call may be made once. It has not been made yet."


def test_time_is_counted_and_runs_out(service: Service, browser: Browser) -> None:
    approval = service.ask(expires_in=4)
    browser.open(f"{service.origin}/approvals/{approval}")
    browser.sign_in("administrator")
    shown = browser.find("[role=timer]").text
    browser.wait("[role=timer]", seconds=3)
    assert shown.endswith(" s")
    browser.wait(".badge", "Expired", seconds=15)
    assert not browser.all("#reason") and "The time has passed" in browser.text()


def test_the_keyboard_is_enough(service: Service, browser: Browser) -> None:
    service.ask()
    browser.open(service.origin)

    def focused() -> str:
        return str(browser.run("const e = document.activeElement; return e.textContent.trim() || e.name || e.id"))

    def press(*keys: str) -> None:
        for key in keys:
            browser.driver.switch_to.active_element.send_keys(key)

    def press_until(text: str) -> None:
        for _ in range(25):
            press(Keys.TAB)
            if text in focused():
                outline = browser.run(
                    "const e = document.activeElement;"
                    "const o = [getComputedStyle(e), getComputedStyle(e, '::after')];"
                    "return o.some(s => s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2)"
                )
                assert outline, f"{text} does not show that it has the focus"
                return
        raise AssertionError(f"{text} cannot be reached, at {focused()}")

    browser.run("document.activeElement.blur()")
    browser.find("body").send_keys(Keys.TAB)
    assert focused() == "Skip to the content"
    press(Keys.ENTER)
    press_until("Sign in")
    press(Keys.ENTER)
    browser.wait("#administrator").send_keys(Keys.ENTER)
    browser.wait(".request")
    press_until("broadcast_message")
    press(Keys.ENTER)
    browser.wait("#reason")
    press_until("reason")
    press("Not this week")
    press_until("Reject")
    press(Keys.ENTER)
    browser.wait(".badge", "Rejected")
    assert "Not this week" in browser.text()


def test_nothing_overflows_a_phone(service: Service, browser: Browser) -> None:
    long = "x" * 400
    first = service.ask()
    second = service.ask(
        call=call(f"tool-{long}", arguments={f"/{long}": long, "/list": "word " * 200}, purpose=long),
        requirements=[requirement(name=long, approvers=["automation_admin", long])],
    )
    browser.size(PHONE)
    for path in ("/approvals", f"/approvals/{first}", f"/approvals/{second}", "/approvals?view=history", "/approvals/x"):
        browser.open(service.origin + path)
        if browser.all(".alone .button.primary") and not browser.all(".who"):
            browser.sign_in("administrator")
        width = browser.run("return document.documentElement.scrollWidth")
        assert width <= PHONE[0], f"{path} is {width} pixels wide"
        for target in browser.all("button, .button, input:not([type=hidden]), select, textarea, .tabs a"):
            assert target.size["height"] >= 40, target.get_attribute("outerHTML")


HOSTILE = (
    "<script>window.taken = 1</script>",
    '"><img src=x onerror="window.taken = 1">',
    "' autofocus onfocus='window.taken = 1",
    "</textarea></title><svg onload='window.taken = 1'>",
    "https://evil.example/ javascript:window.taken=1",
    "safe\u202egpj.exe",
    "{{ 7 * 7 }}",
)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_text_by_others_does_nothing(service: Service, browser: Browser, hostile: str) -> None:
    approval = service.ask(
        call=call(hostile, arguments={f"/{hostile}": hostile}, purpose=hostile),
        requirements=[requirement(name=hostile, count=2)],
    )
    browser.open(f"{service.origin}/approvals/{approval}")
    browser.sign_in("administrator")
    browser.find("#reason").send_keys(hostile.replace("\u202e", ""))
    browser.find("button.approve").click()
    browser.wait(".decide .note", "You have decided")
    for path in (f"/approvals/{approval}", "/approvals", "/approvals?view=history"):
        browser.open(service.origin + path)
        assert hostile.replace("\u202e", "U+202E") in browser.text()
        assert browser.run("return window.taken") is None
        links = [link.get_attribute("href") for link in browser.all("a")]
        assert all(str(link).startswith(service.origin) for link in links), links
        assert not browser.all("main img, main svg, main script")


def test_no_site_can_frame_a_page(service: Service, provider: Provider, browser: Browser) -> None:
    def framed(path: str) -> str:
        browser.open(f"{provider.issuer}/frame?{urlencode({'of': service.origin + path})}")
        browser.driver.switch_to.frame(browser.find("#frame"))
        text = browser.find("html").text
        browser.driver.switch_to.default_content()
        return text

    assert framed("/healthz") == "ok"  # frames as such work
    assert "Sign in" not in framed("/approvals")
    complaints = browser.complaints()
    assert not complaints or any("frame-ancestors" in complaint for complaint in complaints), complaints
