"""The page of a study: one HTML file that asks for nothing else, and works without a server."""

import html
import importlib.resources
import io
import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import numpy as np

PLACE = "/* the study */"
TITLE_PLACE = "<!-- the title -->"


def page_of(title: str, data: Mapping[str, Any]) -> str:
    """The HTML of a study.

    Args:
      title: of the page.
      data: what the page's script reads, as JSON.

    Returns:
      The text of the file. Its content security policy forbids every request.
    """
    template = (importlib.resources.files("jaxcam.analysis") / "_study_page.html").read_text(encoding="utf-8")
    # A script element ends at the first "</script", whatever stands around it.
    text = json.dumps(data).replace("<", "\\u003c")
    # The title comes last: it may contain `PLACE`, but the escaped data cannot contain `TITLE_PLACE`.
    return template.replace(PLACE, text).replace(TITLE_PLACE, html.escape(title, quote=False))


def data_address(pixels: np.ndarray) -> str:
    """A picture `[h w 3]` in 0..1 as the address of its own content, which a page needs no server for."""
    from jaxcam.datasets import images  # loads Pillow

    file = io.BytesIO()
    images.write(file, pixels)  # type: ignore[arg-type]
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"
