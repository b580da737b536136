"""Results as HTML: a line, pictures with a title each, a note, and the command line that gives the same.

>>> print(error_line("expected <a word>"))
<p class="jaxcam-error">expected &lt;a word&gt;</p>
"""

import base64
import html
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

CSS = """
.jaxcam-panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(128px, 1fr)); gap: 12px; }
.jaxcam-panels { align-items: end; }
.jaxcam-panels figure { margin: 0; max-width: 240px; }
.jaxcam-panels figcaption { line-height: 1.3; margin-bottom: 4px; overflow-wrap: anywhere; }
.jaxcam-panels img { width: 100%; border-radius: 4px; display: block; }
.jaxcam-wide { margin: 0 0 12px; max-width: 496px; }
.jaxcam-wide img { width: 100%; border-radius: 4px; }
.jaxcam-said { font-size: 1.15em; margin: 4px 0 12px; }
.jaxcam-note { margin-top: 14px; }
.jaxcam-command { display: block; margin-top: 4px; overflow-wrap: anywhere; white-space: pre-wrap; }
"""


class Panel(NamedTuple):
    """A picture with a title.

    Attributes:
      title: in bold, above the picture.
      detail: below the title; may be empty.
      picture: `[h w 3]` in 0..1, or the content of a GIF file.
    """

    title: str
    detail: str
    picture: np.ndarray | bytes


class Result(NamedTuple):
    """What a tab shows.

    Attributes:
      said: the answer, in one line.
      panels: pictures of one size.
      note: what a reader should know of the network.
      command: the command line that gives the same maps.
      wide: a panel above the others, if there is one.
    """

    said: str
    panels: Sequence[Panel]
    note: str
    command: str
    wide: Panel | None = None


def error_line(message: str, *, kind: str = "jaxcam-error") -> str:
    """A message as HTML, on one line."""
    return f'<p class="{kind}">{html.escape(" ".join(message.split()))}</p>'


def as_html(result: Result) -> str:
    """The result as HTML, which needs no other file.

    Example:
      >>> text = as_html(Result("3 & 4", [Panel("3", "", np.zeros([2, 2, 3]))], "", "jaxcam detect a.png"))
      >>> "3 &amp; 4" in text, text.count("<figure>"), "data:image/png;base64," in text
      (True, 1, True)
    """
    wide = "" if result.wide is None else f'<div class="jaxcam-wide">{_figure(result.wide)}</div>'
    return (
        f'<p class="jaxcam-said"><b>{html.escape(result.said)}</b></p>{wide}'
        f'<div class="jaxcam-panels">{"".join(map(_figure, result.panels))}</div>'
        f'<p class="jaxcam-hint jaxcam-note">{html.escape(result.note)}'
        f'<code class="jaxcam-command">{html.escape(result.command)}</code></p>'
    )


def _figure(panel: Panel) -> str:
    detail = f"<br>{html.escape(panel.detail)}" if panel.detail else ""
    words = html.escape(f"{panel.title} {panel.detail}".strip(), quote=True)
    source = f'<img alt="{words}" src="{_address(panel.picture)}">'
    return f"<figure><figcaption><b>{html.escape(panel.title)}</b>{detail}</figcaption>{source}</figure>"


def _address(picture: np.ndarray | bytes) -> str:
    """A picture's content as an address."""
    if isinstance(picture, bytes):
        kind, content = "gif", picture
    else:
        from jaxcam.datasets import images  # loads Pillow

        file = io.BytesIO()
        images.write(file, picture)
        kind, content = "png", file.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
