"""The tabs for captions, questions, masks, boxes and clips in a browser.

They need Gradio, Playwright and a Chromium, as `test_page.py` does: `python -m pytest -m web tests/web`.
"""

import time

import numpy as np
import pytest

import jaxcam
from jaxcam.datasets import images
from jaxcam.web import _drawing

# The warnings of other libraries are theirs.
pytestmark = [pytest.mark.web, pytest.mark.filterwarnings("default")]
PATIENCE = 120  # seconds for one answer, on a machine that does other work
TABS = {
    "captions": ("jaxcam caption --sample 0", 2),
    "questions": ("jaxcam ask --sample 0 'how many digits are there?'", 3),
    "masks": ("jaxcam segment --sample 0", 2),
    "boxes": ("jaxcam detect --sample 0", 1),
    "clips": ("jaxcam watch --sample 0", 9),
}


class Tab:
    """A tab of the page, opened."""

    def __init__(self, page, address, name):
        self.page, self.name, self.errors = page, name, []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#map img", timeout=1000 * PATIENCE)
        page.get_by_role("tab", name=name.capitalize(), exact=True).click()
        page.wait_for_selector(f"#{name}-result figure", timeout=1000 * PATIENCE)

    @property
    def text(self):
        return self.page.locator(f"#{self.name}-result").inner_text()

    @property
    def pictures(self):
        return self.page.locator(f"#{self.name}-result img").count()

    def part(self, name):
        return self.page.locator(f"#{self.name}-{name}")

    def fill(self, text):
        entry = self.page.locator(f"#{self.name}-text textarea, #{self.name}-text input").first
        entry.fill(text)
        entry.press("Enter")

    def upload(self, path):
        self.part("picture").locator("button[aria-label='Remove Image']").first.click()
        self.part("picture").locator("input[type=file]").first.set_input_files(path)

    def choose(self, field, text):
        entry = self.part(field).locator("input").first
        entry.click()
        self.page.get_by_role("option", name=text, exact=True).first.click()

    def says(self, words):
        """Waits until the result has these words."""
        start = time.monotonic()
        while words not in self.text:
            assert time.monotonic() - start < PATIENCE, f"{words!r} is not in {self.text!r}"
            time.sleep(0.2)


@pytest.fixture
def opened(browser, address):
    """Opens a tab: `opened("masks")`."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    tabs = []

    def open_tab(name):
        tabs.append(Tab(page, address, name))
        return tabs[-1]

    yield open_tab
    assert not [error for tab in tabs for error in tab.errors]
    page.close()


@pytest.mark.parametrize("name", TABS)
def test_a_tab_explains_a_sample_when_it_is_opened(opened, name):
    tab = opened(name)
    command, pictures = TABS[name]
    tab.says(command)
    assert tab.pictures >= pictures
    tab.page.get_by_role("tab", name="Classes", exact=True).click()  # the first one is as it was
    tab.page.wait_for_selector("#map img")
    assert tab.page.locator("#class-0").is_visible()


def test_captions(opened):
    tab = opened("captions")
    tab.part("digits-1").click()
    tab.says("--sample 1")
    assert jaxcam.pretrained.captioner().caption(jaxcam.pretrained.digits_canvas(1)[0]).text in tab.text
    tab.fill("two threes, side by side")
    tab.says("--text 'two threes, side by side'")
    tab.choose("method", "HiResCAM")
    tab.says("--method hires_cam")
    tab.fill("two <b>thres</b>")
    tab.says("unknown word '<b>thres</b>' in the caption")
    assert tab.pictures == 0 and "\n" not in tab.text.strip()
    tab.fill("")
    tab.says("--sample 1 --method hires_cam")


def test_questions(opened, tmp_path):
    tab = opened("questions")
    tab.fill("why is there a three?")
    tab.says("unknown word 'why' in the question")
    tab.page.locator("#question-2").click()
    tab.says("is there a three? ")
    assert {"yes", "no"} <= set(tab.text.split())
    path = tmp_path / "mine.png"
    images.write(path, jaxcam.pretrained.digits_canvas(2)[0])
    tab.upload(path)
    tab.says("jaxcam ask mine.png 'is there a three?'")


def test_masks_and_boxes_of_a_picture_without_digits(opened, tmp_path):
    path = tmp_path / "gray.png"
    images.write(path, np.full([80, 100, 3], 0.5))
    for name, says in {"masks": "no digit has 8 pixels", "boxes": "no box has a probability of 0.5"}.items():
        tab = opened(name)
        tab.upload(path)
        tab.says(says)
        tab.part("digits-1").click()
        tab.says("--sample 1")


def test_edges_of_boxes(opened):
    tab = opened("boxes")
    tab.part("digits-1").click()
    tab.says("--sample 1")
    count = tab.pictures
    tab.part("sides").locator("input").check()
    tab.says("--parts")
    assert tab.pictures == 5 * count and "left edge" in tab.text


def test_clips(opened, tmp_path):
    tab = opened("clips")
    tab.part("sample-4").click()
    tab.says("--sample 4")
    tab.choose("motion", "shrinks")
    tab.says("--target shrinks")
    path = tmp_path / "mine.gif"
    clip = jaxcam.pretrained.motion_clip(2)[0]
    path.write_bytes(images.animated([_drawing.in_bytes(frame) for frame in clip], seconds=0.1))
    tab.upload(path)
    tab.says("jaxcam watch mine.gif")
    images.write(tmp_path / "still.png", clip[0])
    tab.upload(tmp_path / "still.png")
    tab.says("still.png is no clip that can be read: expected an animated GIF")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_tab_is_wider_than_the_screen(browser, address, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    for name in TABS:
        Tab(page, address, name)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert all(page.get_by_role("tab", name=other.capitalize(), exact=True).is_visible() for other in TABS)
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    page.close()
