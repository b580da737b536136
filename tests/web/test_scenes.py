"""The tabs for captions, questions, masks, boxes and clips, without a page: they show the maps of the Python API."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxcam
from jaxcam import scores
from jaxcam.cutting import with_inputs
from jaxcam.datasets import images
from jaxcam.web import SAMPLES, _drawing
from jaxcam.web._kept import Programs
from jaxcam.web._panels import Panel, Result, as_html, error_line
from jaxcam.web._pictures import write_sample_clip
from jaxcam.web._scenes import METHODS, WHOLE, Scenes

CANVAS = SAMPLES["digits 1"].path
IMAGE = jaxcam.pretrained.digits_canvas(1)[0]


@pytest.fixture(scope="module")
def scenes():
    return Scenes(Programs(32))


def shows(panel, saliency, image=IMAGE):
    """That a panel is a map over an image, to one level of 255.

    Programs round otherwise, and a map that is on the border of two colors may have either. Colors of maps that are
    higher or lower by 1e-5 of the range count as well.
    """
    drawn, saliency = _drawing.small_picture(image), np.asarray(saliency)
    scaled = (saliency - saliency.min()) / max(saliency.max() - saliency.min(), np.finfo(np.float32).tiny)
    region = (0, 0, *drawn.shape[:2])
    near = [_drawing.laid_over(drawn, np.clip(scaled + step, 0, 1), region) for step in (-1e-5, 0, 1e-5)]
    assert np.abs(panel.picture - np.stack(near)).min(0).max() <= 1 / 255


def test_a_map_under_each_word(scenes):
    result = scenes.caption(CANVAS, method="grad_cam")
    model = jaxcam.pretrained.captioner()
    caption = model.caption(IMAGE)
    assert result.said == caption.text and result.command == "jaxcam caption --sample 1 --method grad_cam"
    assert [panel.title for panel in result.panels] == [WHOLE, *caption.words[:-1]]
    cut = jaxcam.cut(model, "encoder", inputs=(caption.tokens,))
    rows = jnp.concatenate([caption.tokens[None], scores.one_token_each(caption.tokens)[: len(caption.words) - 1]])
    maps = jax.vmap(lambda row: jaxcam.grad_cam(cut, IMAGE, row, score=scores.sequence_log_prob))(rows)
    for panel, saliency in zip(result.panels, maps, strict=True):
        shows(panel, saliency)


def test_a_caption_of_ones_own(scenes):
    result = scenes.caption(CANVAS, method="grad_cam", text="Two threes,  side by side")
    titles = [panel.title for panel in result.panels]
    assert titles == [WHOLE, "two", "threes", ",", "side", "by", "side"]
    assert result.command.endswith("--text 'Two threes, side by side'")


def test_a_map_of_each_answer(scenes):
    question = "how many 3s are there?"
    result = scenes.answer(CANVAS, method="grad_cam", question=question)
    model = jaxcam.pretrained.answerer()
    answers = model.ranked_answers(IMAGE, question)[:3]
    assert [panel.title for panel in result.panels] == [answer.text for answer in answers]
    assert result.said == f"how many threes are there? {answers[0].text}"
    cut = jaxcam.cut(model, "encoder", inputs=(model.tokens("is there a three?"),))
    cut = with_inputs(cut, (model.tokens(question),))
    for panel, answer in zip(result.panels, answers, strict=True):
        shows(panel, jaxcam.grad_cam(cut, IMAGE, answer.number, score=scores.answer))


def test_a_mask_and_its_map(scenes):
    result = scenes.masks(CANVAS, method="hires_cam")
    cut = jaxcam.cut(jaxcam.pretrained.segmenter(), "block3")
    mask = cut.head(cut.params, cut.features(cut.params, IMAGE), IMAGE).argmax(-1) == 3
    [panel] = [panel for panel in result.panels if panel.title == "3" and panel.detail == "HiResCAM"]
    shows(panel, jaxcam.hires_cam(cut, IMAGE, (3, mask), score=scores.masked_mean))
    assert f"mask, {mask.sum()} pixels" in [panel.detail for panel in result.panels]


def test_boxes_and_their_edges(scenes):
    one, all_parts = (scenes.boxes(CANVAS, method="hires_cam", sides=sides) for sides in (False, True))
    assert len(all_parts.panels) == 5 * len(one.panels) and one.panels[0].title == "3"
    assert [panel.detail for panel in all_parts.panels[1:5]] == ["top edge", "left edge", "bottom edge", "right edge"]
    assert all_parts.command.endswith("--parts") and "0.94" in one.note
    np.testing.assert_array_equal(one.panels[0].picture, all_parts.panels[0].picture)


def test_a_clip_and_its_frames(scenes, tmp_path):
    result = scenes.clip(write_sample_clip(0, tmp_path), method="grad_cam")
    assert result.command == "jaxcam watch --sample 0 --method grad_cam"  # its own frames, not those of the GIF file
    assert result.said.startswith("motion: left, ") and len(result.panels) == 8
    assert isinstance(result.wide.picture, bytes) and result.wide.picture.startswith(b"GIF")
    clip, cut = jaxcam.pretrained.motion_clip(0)[0], jaxcam.cut(jaxcam.pretrained.motions(), "conv3")
    saliency = np.asarray(jaxcam.resize(jaxcam.grad_cam(cut, clip, 0), clip.shape[:3]))
    drawn = _drawing.small_picture(clip[0], longest=160)
    expected = _drawing.laid_over(drawn, saliency[0] / saliency.max(), (0, 0, 160, 160))
    np.testing.assert_allclose(result.panels[0].picture, expected, atol=1 / 255)

    path = tmp_path / "moves.gif"
    path.write_bytes(images.animated([_drawing.in_bytes(frame) for frame in clip], seconds=0.1))
    result = scenes.clip(path, method="grad_cam", motion="right")
    assert result.said.startswith("motion: left, ") and result.wide.title.startswith("right, ")
    assert result.command == "jaxcam watch moves.gif --method grad_cam --target right"


@pytest.mark.parametrize(
    ("task", "options", "says"),
    [
        ("caption", {"method": "nope"}, "no method 'nope': choose one of grad_cam, "),
        (
            "caption",
            {"method": "grad_cam", "text": "a thre"},
            "unknown word 'thre' in the caption: did you mean 'three'",
        ),
        ("caption", {"method": "grad_cam", "text": "a " * 101}, "at most 200 characters, got 202"),
        ("answer", {"method": "grad_cam", "question": " "}, "expected a question of at least one word, got none"),
        ("answer", {"method": "grad_cam", "question": "is " * 9}, "a question of at most 8 words, got 9"),
        ("answer", {"method": "grad_cam", "question": "why?"}, "unknown word 'why' in the question"),
        ("boxes", {"method": "counterfactual_grad_cam"}, "no method 'counterfactual_grad_cam'"),
        ("clip", {"method": "grad_cam"}, "canvas1.png is no clip that can be read: expected an animated GIF"),
    ],
)
def test_mistakes_are_one_line(scenes, task, options, says):
    with pytest.raises(ValueError, match=re.escape(says)) as refused:
        getattr(scenes, task)(CANVAS, **options)
    assert "\n" not in str(refused.value)


def test_pictures_without_digits(scenes, tmp_path):
    path = tmp_path / "gray.png"
    images.write(path, np.full([64, 64, 3], 0.5))
    with pytest.raises(ValueError, match="no digit has 8 pixels in the predicted mask"):
        scenes.masks(path, method="grad_cam")
    with pytest.raises(ValueError, match=r"no box has a probability of 0.5: the largest is 0\.\d{3}"):
        scenes.boxes(path, method="grad_cam")


@pytest.mark.parametrize("name", ["short.gif", "still.gif", "broken.gif", "long.gif", "named.gif"])
def test_clips_that_are_refused(scenes, tmp_path, name):
    path = tmp_path / name
    counts = {"short.gif": 5, "still.gif": 1, "broken.gif": 20, "long.gif": 600, "named.gif": 2}
    frames = np.random.default_rng(0).integers(0, 256, (counts[name], 8, 8, 3), np.uint8)
    content = images.animated(list(frames), seconds=0.1)
    path.write_bytes(content[: len(content) // 2] if name == "broken.gif" else content)
    if name == "named.gif":
        Image.fromarray(frames[0]).save(path, format="PNG")
    with pytest.raises(ValueError, match=name) as refused:
        scenes.clip(path, method="grad_cam")
    assert "\n" not in str(refused.value) and str(tmp_path) not in str(refused.value)


def test_every_method_is_offered_by_the_commands():
    from jaxcam.cli import _places

    assert METHODS == _places.METHODS


def test_html_is_escaped_and_complete():
    picture = np.zeros([2, 2, 3], np.float32)
    text = as_html(Result("<b>", [Panel('"a"', "<i>", picture)], "&", "ask '<'", Panel("w", "", b"GIF89a")))
    assert "<i>" not in text and "&lt;b&gt;" in text and 'alt="&quot;a&quot; &lt;i&gt;"' in text
    assert text.count("data:image/png;base64,") == text.count("data:image/gif;base64,") == 1
    assert error_line("a\n<b>") == '<p class="jaxcam-error">a &lt;b&gt;</p>'
