import pytest

from jaxcam.web import Network, Networks


@pytest.fixture(scope="session")
def networks():
    return Networks([Network("digits")])
