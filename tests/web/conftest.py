import os

import pytest

from jaxcam.web import Network, Networks


@pytest.fixture(scope="session")
def networks():
    return Networks([Network("digits")])


@pytest.fixture(scope="module")  # its event loop would be in the way of other modules
def browser():
    """A Chromium: Debian's package, or the one that `JAXCAM_CHROMIUM` names."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        path = os.environ.get("JAXCAM_CHROMIUM", "/usr/bin/chromium")
        chromium = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()
