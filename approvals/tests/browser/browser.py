"""A Chromium, driven like a person would use it."""

import base64
import os
import shutil
from pathlib import Path
from typing import Any

from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service as Driver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

DESKTOP = (1280, 900)
PHONE = (360, 740)

SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-prefers-reduced-motion",
)


def find(*names: str) -> str | None:
    """The first of these programs that is installed."""
    return next((path for path in map(shutil.which, names) if path), None)


CHROMIUM = os.environ.get("CHROMIUM") or find("chromium", "chromium-browser", "google-chrome")
DRIVER = os.environ.get("CHROMEDRIVER") or find("chromedriver")


class Browser:
    """A browser with an empty profile."""

    def __init__(self, profile: Path, *, script: bool = True) -> None:
        options = ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for switch in (*SWITCHES, f"--user-data-dir={profile}"):
            options.add_argument(switch)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        if not script:
            options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
        self.driver = Chrome(options, Driver(DRIVER))
        self.driver.set_page_load_timeout(20)
        self.size(DESKTOP)

    def close(self) -> None:
        """Ends it."""
        self.driver.quit()

    def size(self, size: tuple[int, int]) -> None:
        """Makes the window as large as the screen of such a device."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def scheme(self, scheme: str) -> None:
        """Light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def open(self, url: str) -> None:
        """Goes there."""
        self.driver.get(url)

    def sign_in(self, person: str) -> None:
        """From our page that asks to sign in, through the provider's, and back."""
        self.find("main .button.primary").click()
        self.wait(f"#{person}").click()
        self.wait(".who")

    def find(self, selector: str) -> WebElement:
        """The first element."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        """All elements."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def wait(self, selector: str, text: str = "", seconds: float = 10) -> WebElement:
        """The first element with this text, as soon as there is one."""
        def present(_: Any) -> WebElement | None:
            try:
                return next((element for element in self.all(selector) if text in element.text), None)
            except StaleElementReferenceException:
                return None

        found: WebElement = WebDriverWait(self.driver, seconds, 0.1).until(present, f"{selector} {text}")
        return found

    def text(self) -> str:
        """What can be read on the page."""
        return self.find("body").text

    def run(self, script: str, *arguments: Any) -> Any:
        """Runs a script as the debugger does, which no policy of the page forbids."""
        return self.driver.execute_script(script, *arguments)

    def complaints(self) -> list[str]:
        """What the browser has complained about, such as violations of the policy."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def shoot(self, name: str) -> None:
        """A picture of the whole page, if SCREENSHOTS names a directory for it."""
        directory = os.environ.get("SCREENSHOTS")
        if not directory:
            return
        Path(directory).mkdir(parents=True, exist_ok=True)
        picture = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
        (Path(directory) / f"{name}.png").write_bytes(base64.b64decode(picture["data"]))
