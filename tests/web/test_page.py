"""The page in a browser and its endpoint: what they give is what the Python API gives.

They need Gradio, Playwright and a Chromium: `python -m pytest -m web tests/web`. `JAXCAM_CHROMIUM` names the browser.
"""

import concurrent.futures
import functools
import json
import pathlib
import re
import shutil
import time
import urllib.error
import urllib.request
import zipfile

import jax
import numpy as np
import pytest
from PIL import Image

import jaxcam
from jaxcam.web import SAMPLES
from tests.web.conftest import OWN

# The warnings of other libraries are theirs.
pytestmark = [pytest.mark.web, pytest.mark.filterwarnings("default")]
PATIENCE = 120  # seconds for one answer, on a machine that does other work
PASSWORDS = "../../etc/passwd"


class Visitor:
    """A visitor of the page."""

    def __init__(self, page, address):
        self.page, self.errors = page, []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#map img", timeout=1000 * PATIENCE)

    def fill(self, field, text):
        entry = self.page.locator(f"#{field} input, #{field} textarea").first
        entry.fill(text)
        entry.press("Enter")

    def choose(self, field, text):
        """An entry of a list, found by typing."""
        entry = self.page.locator(f"#{field} input").first
        entry.click()
        entry.fill(text)
        self.page.get_by_role("option", name=text, exact=False).first.click()

    def upload(self, path):
        remove = self.page.locator("#picture button[aria-label='Remove Image']")
        if remove.count():
            remove.first.click()
        self.page.locator("#picture input[type=file]").first.set_input_files(path)

    def click_neuron(self, row, column, rows, columns):
        """Clicks on the middle of a neuron's cell, where the network saw the whole picture."""
        image = self.page.locator("#map img")
        box = image.bounding_box()
        x, y = (column + 0.5) / columns * box["width"], (row + 0.5) / rows * box["height"]
        image.click(position={"x": x, "y": y})

    def tab(self, name):
        self.page.get_by_role("tab", name=name).click()

    def download(self, button):
        """The bytes of a file that the page offers."""
        self.tab("Download")
        link = self.page.locator(f"#{button}")
        with self.page.expect_download(timeout=5000) as downloaded:
            link.click()
        return pathlib.Path(downloaded.value.path())

    def sees(self, expected):
        """Waits until the array of the page is the expected map, to 1e-6 of its maximum."""
        self.eventually(lambda: self._map_is(expected))

    def _map_is(self, expected):
        saliency = np.load(self.download("npy"))
        assert not isinstance(saliency, np.lib.npyio.NpzFile) and saliency.shape == expected.shape
        np.testing.assert_allclose(saliency, expected, atol=1e-6 * expected.max())

    def eventually(self, check):
        """Waits until a check passes."""
        start = time.monotonic()
        while True:
            try:
                return check()
            except Exception:
                if time.monotonic() - start > PATIENCE:
                    self.page.screenshot(path="/tmp/jaxcam_page_failed.png", full_page=True)
                    raise
                time.sleep(0.3)

    def code(self, panel):
        self.tab("Code")
        return "\n".join(self.page.locator(f"#{panel} .cm-line").all_inner_texts())


@pytest.fixture
def visitor(browser, address):
    page = browser.new_page(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    visitor = Visitor(page, address)
    yield visitor
    assert not visitor.errors
    page.close()


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    """A square picture of no sample."""
    path = tmp_path_factory.mktemp("pictures") / "photo.png"
    noise = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)
    Image.fromarray(noise).resize((96, 96), Image.Resampling.BICUBIC).save(path)
    return path


@functools.cache
def opened(model, layer=None):
    return jaxcam.open_model(model, layer=layer)


def expected_map(path, method="smooth_grad_cam_pp", target=None, model="digits", layer=None, seed=0, **options):
    """The map of the Python API."""
    chosen = functools.partial(getattr(jaxcam, method), **options)
    explanation = jaxcam.explain(opened(model, layer), path, target, jax.random.key(seed), methods={"map": chosen})
    return explanation.maps["map"]


def test_an_upload_a_class_and_the_downloads(visitor, photograph):
    visitor.upload(photograph)
    visitor.sees(expected_map(photograph))
    first = visitor.page.locator("#class-0").inner_text()
    second = visitor.page.locator("#class-1").inner_text().split()[0]
    visitor.page.locator("#class-1").click()
    visitor.sees(expected_map(photograph, target=second))
    visitor.choose("class", "7 (7)")
    visitor.sees(expected_map(photograph, target="7"))
    assert visitor.page.locator("#class-0").inner_text() == first
    with Image.open(visitor.download("png")) as picture:
        assert picture.format == "PNG" and picture.size == (480, 480)


def test_clicks_on_the_map_choose_neurons(visitor, photograph):
    visitor.upload(photograph)
    whole = expected_map(photograph)
    visitor.sees(whole)
    row, column = (int(i) for i in np.unravel_index(whole.argmax(), whole.shape))
    visitor.click_neuron(row, column, 16, 16)
    visitor.sees(expected_map(photograph, select=jaxcam.select(subset=[(row, column)])))
    visitor.click_neuron(row, 15 - column, 16, 16)
    points = [(row, column), (row, 15 - column)]
    visitor.sees(expected_map(photograph, select=jaxcam.select(subset=points)))
    assert visitor.page.locator("#subset textarea, #subset input").first.input_value() == " ".join(
        f"{i},{j}" for i, j in points
    )
    visitor.click_neuron(row, 15 - column, 16, 16)  # again: left out
    visitor.sees(expected_map(photograph, select=jaxcam.select(subset=points[:1])))
    visitor.page.locator("#clear").click()
    visitor.sees(whole)


def test_two_clicks_choose_a_rectangle(visitor, photograph):
    visitor.upload(photograph)
    visitor.sees(expected_map(photograph))
    visitor.page.locator("#region input").check()
    visitor.click_neuron(12, 3, 16, 16)
    visitor.eventually(lambda: visitor.page.get_by_text("one more click").wait_for(timeout=500))
    visitor.click_neuron(4, 11, 16, 16)
    visitor.sees(expected_map(photograph, select=jaxcam.select(region=True, subset=[(12, 3), (4, 11)])))
    code = visitor.code("python")
    assert "jaxcam.select(region=True, subset=[(12, 3), (4, 11)])" in code
    assert "--subset '12,3 4,11' --region" in visitor.code("shell")


def test_feature_maps_are_chosen_from_thumbnails(visitor, photograph):
    visitor.upload(photograph)
    visitor.sees(expected_map(photograph))
    visitor.tab("Feature maps")
    visitor.page.locator("#show-strongest").click()
    thumbnails = visitor.page.locator("#strongest button.thumbnail-item, #strongest .grid-container button")
    visitor.eventually(lambda: thumbnails.nth(23).wait_for(timeout=500))
    captions = visitor.page.locator("#strongest .caption-label").all_inner_texts()
    numbers = [int(caption.split()[-1]) for caption in captions]
    assert len(set(numbers)) == 24
    thumbnails.nth(2).click()
    visitor.sees(expected_map(photograph, select=jaxcam.select(filters=[numbers[2]])))
    visitor.tab("Feature maps")
    thumbnails.nth(0).click()
    visitor.sees(expected_map(photograph, select=jaxcam.select(filters=[numbers[2], numbers[0]])))


def test_two_methods_are_compared(visitor, photograph):
    visitor.upload(photograph)
    visitor.choose("method", "HiResCAM")
    visitor.choose("other", "LayerCAM")

    def both_are_right():
        with np.load(visitor.download("npy")) as arrays:
            assert set(arrays) == {"hires_cam", "layer_cam"}
            for method in arrays:
                expected = expected_map(photograph, method)
                np.testing.assert_allclose(arrays[method], expected, atol=1e-6 * expected.max())

    visitor.eventually(both_are_right)
    assert visitor.page.locator("#slider img").count() == 2
    visitor.page.locator("#counterfactual").click()
    visitor.eventually(lambda: _assert_contains(visitor.code("python"), "counterfactual_grad_cam"))


def _assert_contains(text, words):
    assert words in text, text


def test_a_network_of_ones_own_with_noise(visitor, photograph):
    visitor.page.get_by_text("Network, layer and noise").click()
    visitor.upload(photograph)
    visitor.choose("model", OWN)
    visitor.sees(expected_map(photograph, model=OWN))
    visitor.choose("layer", "first")
    visitor.choose("method", "Grad-CAM")
    visitor.choose("samples", "10")
    visitor.fill("std", "0.2")
    visitor.fill("seed", "7")
    expected = expected_map(photograph, "grad_cam", None, OWN, "first", 7, n_samples=10, std=0.2)
    visitor.sees(expected)


def test_the_code_of_the_page_gives_its_map(visitor, photograph, monkeypatch):
    monkeypatch.chdir(photograph.parent)
    visitor.upload(photograph)
    visitor.sees(expected_map(photograph))
    session: dict = {}
    with jax.numpy_rank_promotion("allow"):
        exec(visitor.code("python"), session)
    visitor.sees(session["saliency"])


def test_the_report_is_that_of_diagnose(visitor):
    visitor.page.locator("#sample-digits-1").click()
    visitor.sees(expected_map(SAMPLES["digits 1"].path))
    visitor.tab("Diagnosis")
    visitor.page.locator("#diagnose").click()
    report = str(jaxcam.diagnose(opened("digits").cut, jaxcam.pretrained.digits_canvas(1)[0], 3))
    text = visitor.page.locator("#report textarea")
    visitor.eventually(lambda: _assert_contains(text.input_value(), report))


@pytest.mark.parametrize("name", ["broken.png", "archive.png", "text.jpg"])
def test_a_bad_file_gets_one_line_and_the_page_goes_on(visitor, photograph, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(photograph.read_bytes()[:200] if name == "broken.png" else b"root:x:0:0")
    if name == "archive.png":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("cat.png", b"0" * 1000)
    visitor.upload(path)
    line = visitor.page.locator("#status .jaxcam-error")
    visitor.eventually(lambda: _assert_contains(line.inner_text(), name))
    assert "\n" not in line.inner_text()
    visitor.upload(photograph)
    visitor.sees(expected_map(photograph))


@pytest.mark.parametrize("field", ["subset", "filters"])
def test_a_path_in_a_field_gets_one_line(visitor, field):
    visitor.tab("Feature maps")
    visitor.fill(field, PASSWORDS)
    line = visitor.page.locator("#status .jaxcam-error")
    visitor.eventually(lambda: _assert_contains(line.inner_text(), "'../../etc/passwd' is no list of"))


def test_a_large_photograph(visitor, tmp_path):
    """40 megapixels, as a JPEG file of some MB, which is reduced while it is read."""
    path = tmp_path / "large.jpg"
    small = np.random.default_rng(0).integers(0, 256, (20, 25, 3), np.uint8)
    Image.fromarray(small).resize((7200, 5600), Image.Resampling.BICUBIC).save(path, quality=80)
    visitor.upload(path)
    visitor.sees(expected_map(path))


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_screen_and_no_other_server_is_asked(browser, address, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.wait_for_selector("#map img", timeout=1000 * PATIENCE)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    page.close()


# The endpoint.


@pytest.fixture(scope="module")
def client(address):
    return pytest.importorskip("gradio_client").Client(address, verbose=False)


def handled(path):
    from gradio_client import handle_file

    return handle_file(str(path))


def test_a_script_gets_the_map(client, photograph):
    record, picture, array = client.predict(
        handled(photograph), model="digits", method="grad_cam", target="7", api_name="/explain"
    )
    expected = expected_map(photograph, "grad_cam", 7)
    np.testing.assert_allclose(np.load(array), expected, atol=1e-6 * expected.max())
    assert (record["class"], record["method"], record["map_shape"]) == ("7", "grad_cam", [16, 16])
    with Image.open(picture) as drawn:
        assert drawn.size == (480, 480)


def test_the_script_of_the_docs_runs(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(SAMPLES["digits 1"].path, "cat.jpg")
    text = (pathlib.Path(__file__).parents[2] / "docs" / "web.md").read_text()
    [block] = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "gradio_client" in block]
    for shown, here in {
        "http://127.0.0.1:7860": address,
        "efficientnet_lite0": "digits",
        "tiger cat": "3",
    }.items():
        assert shown in block
        block = block.replace(shown, here)
    session: dict = {}
    exec(block, session)
    expected = expected_map(SAMPLES["digits 1"].path, "grad_cam", 3)
    np.testing.assert_allclose(session["saliency"], expected, atol=1e-6 * expected.max())


@pytest.mark.parametrize("field", ["model", "layer", "target", "method", "filters", "subset"])
def test_a_path_in_a_field_is_one_line_for_a_script(client, photograph, field):
    with pytest.raises(Exception, match="'../../etc/passwd'") as refused:
        client.predict(handled(photograph), **{"model": "digits", field: PASSWORDS}, api_name="/explain")
    assert "\n" not in str(refused.value) and "root:" not in str(refused.value)


def called(address, picture):
    """What the server answers to a request that no client library would send."""
    data = json.dumps({"data": [picture, "digits", "", "", "grad_cam", None, None, 0, "", "", False]}).encode()
    request = urllib.request.Request(
        f"{address}gradio_api/call/explain", data, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{address}gradio_api/call/explain/{event}", timeout=PATIENCE) as answer:
        return answer.read().decode()


@pytest.mark.parametrize(
    "path", ["/etc/passwd", PASSWORDS, str(SAMPLES["cat"].path), "http://127.0.0.1:1/cat.png", "pyproject.toml"]
)
def test_no_file_of_the_server_and_no_address_is_a_picture(address, path):
    text = called(address, {"path": path, "meta": {"_type": "gradio.FileData"}})
    assert "event: error" in text and "event: complete" not in text and "root:" not in text


def test_data_in_an_address_is_not_decoded(address):
    payload = {"path": "x", "url": "data:image/png;base64,AAAA", "meta": {"_type": "gradio.FileData"}}
    assert "event: error" in called(address, payload)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", PASSWORDS, str(SAMPLES["cat"].path), "README.md", "jaxcam/__init__.py", ".git/config"]
)
def test_no_file_of_the_server_is_served(address, path):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{address}gradio_api/file={path}")
    assert refused.value.code in (403, 404)


def test_a_file_of_too_many_bytes_is_not_taken(address, tmp_path):
    import httpx

    from jaxcam.web._pictures import MOST_BYTES

    content = b"\x89PNG\r\n\x1a\n" + bytes(MOST_BYTES + 1)
    answer = httpx.post(f"{address}gradio_api/upload", files={"files": ("large.png", content)}, timeout=PATIENCE)
    assert answer.status_code == 413


def test_many_requests_at_once_are_all_answered(client, photograph):
    methods = ["grad_cam", "layer_cam", "hires_cam", "xgrad_cam"]
    jobs = [(methods[i % 4], i % 10) for i in range(20)]

    def ask(job):
        method, target = job
        return np.load(
            client.predict(handled(photograph), model="digits", method=method, target=str(target), api_name="/explain")[
                2
            ]
        )

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, jobs))
    for (method, target), saliency in zip(jobs, answers, strict=True):
        expected = expected_map(photograph, method, target)
        np.testing.assert_allclose(saliency, expected, atol=1e-6 * max(expected.max(), 1e-30))


def test_a_visitor_who_leaves_does_not_stop_the_server(browser, address, client, photograph):
    page = browser.new_page()
    page.goto(address)
    page.locator("#picture input[type=file]").first.wait_for(state="attached")
    page.close()
    record, *_ = client.predict(handled(photograph), model="digits", method="grad_cam", api_name="/explain")
    assert record["model"] == "digits"
