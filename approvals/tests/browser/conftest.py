"""A provider and a service for the session, and browsers.

The service is the program that APPROVALS_BIN names, else target/debug/toolgate-approvals.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from browser import CHROMIUM, DRIVER, Browser
from provider import Provider
from service import Service

ROOT = Path(__file__).resolve().parents[3]
NewBrowser = Callable[..., Browser]


@pytest.fixture(scope="session")
def provider() -> Iterator[Provider]:
    """The OpenID provider."""
    running = Provider()
    yield running
    running.close()


@pytest.fixture
def service(provider: Provider, tmp_path: Path) -> Iterator[Service]:
    """A service without any requests."""
    binary = os.environ.get("APPROVALS_BIN", str(ROOT / "target/debug/toolgate-approvals"))
    running = Service(binary, tmp_path, provider)
    yield running
    running.close()


@pytest.fixture
def new_browser(tmp_path: Path) -> Iterator[NewBrowser]:
    """Starts browsers, each with a profile of its own. In the end, none may have complained."""
    if not (CHROMIUM and DRIVER):
        pytest.fail("Chromium and chromedriver are missing (Debian: apt-get install chromium chromium-driver)")
    browsers: list[Browser] = []

    def start(*, script: bool = True) -> Browser:
        browser = Browser(tmp_path / f"profile-{len(browsers)}", script=script)
        browsers.append(browser)
        return browser

    yield start
    complaints = [complaint for browser in browsers for complaint in browser.complaints()]
    for browser in browsers:
        browser.close()
    # Statuses such as 401 and 404 are what the tests want to see.
    assert not [complaint for complaint in complaints if "Failed to load resource" not in complaint]


@pytest.fixture
def browser(new_browser: NewBrowser) -> Browser:
    """One browser."""
    return new_browser()
