"""How the page is served. Gradio is imported when a page is made, so that the functions behind it work without."""

import contextlib
import importlib.util
import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from jaxcam.web._networks import OWN_NETWORKS, Network, Networks

MISSING = "the page needs Gradio, which is not installed: pip install 'jaxcam-saliency[demo]'"


def check_gradio() -> None:
    """Raises an ImportError that says what to install if Gradio is missing."""
    if importlib.util.find_spec("gradio") is None:
        raise ImportError(MISSING)


def page(networks: Sequence[Network | str] = ()) -> Any:
    """The page as a `gradio.Blocks`, with what limits a visitor, ready for `launch`.

    Args:
      networks: that visitors may choose, the first one at first; jaxcam's own, whose weights are installed, follow. A
        text is a network without options.

    Raises:
      ImportError: Gradio is not installed.
      OSError, TypeError, ValueError: as `jaxcam.open_model`, for the first network.
    """
    check_gradio()
    from jaxcam.web._page import Page

    return Page(_offered(networks))


def serve(networks: Sequence[Network | str] = (), *, host: str = "127.0.0.1", port: int = 7860) -> None:
    """Serve the page until the process is interrupted.

    Args:
      networks: as in `page`.
      host: the address to listen at.
      port: the port to listen at.

    Raises:
      ImportError, OSError, TypeError, ValueError: as `page`; also if the port is in use.
    """
    check_gradio()
    with tempfile.TemporaryDirectory(prefix="jaxcam-") as folder, _stopped_by_sigterm():
        os.environ["GRADIO_TEMP_DIR"] = folder  # uploads and answers, which Gradio would leave behind
        page(networks).launch(host=host, port=port)


@contextlib.contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """SIGTERM, by which services are stopped, ends the process as Ctrl-C does, so that its files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _offered(networks: Sequence[Network | str]) -> Networks:
    """The networks, and those of jaxcam's own that are not among them."""
    given = [Network(network) if isinstance(network, str) else network for network in networks]
    labels = [network.label for network in given]
    return Networks([*given, *(Network(name) for name in OWN_NETWORKS if name not in labels)])
