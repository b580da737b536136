import os
import socket

import pytest

from jaxcam.web import Network, Networks

OWN = "tests.web.own_network:build"


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


@pytest.fixture(scope="module")
def address():
    """The address of a server of the digits and a network of a user's own."""
    pytest.importorskip("gradio")
    from jaxcam.web._page import Page

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    page = Page(Networks([Network("digits"), Network(OWN)]))
    yield page.launch(host="127.0.0.1", port=port, wait=False)
    page.blocks.close()
