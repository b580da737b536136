"""The page's tabs for captions, questions, masks, boxes and clips.

A tab computes nothing until it is opened; then it explains a sample. Each change of a field explains anew.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gradio as gr

from jaxcam import pretrained
from jaxcam.methods import METHOD_TITLES
from jaxcam.web._files import WrittenFiles
from jaxcam.web._page_endpoint import Upload
from jaxcam.web._page_events import EMPTY, MISTAKES
from jaxcam.web._panels import Result, as_html, error_line
from jaxcam.web._pictures import SAMPLES, write_sample_clip
from jaxcam.web._scenes import METHODS, WORD_METHODS, Scenes

QUESTIONS = (
    "how many digits are there?",
    "which digit is shown?",
    "is there a three?",
    "which digit is left of the 3?",
)
EMPTY_CLIP = "Choose a clip: an animated GIF, or a sample."
INTRODUCTIONS = {
    "captions": "An LSTM writes which handwritten digits are where. Under each word is its own map.",
    "questions": "A network answers a question about handwritten digits. Each answer has a map of what speaks for it.",
    "masks": "A U-Net finds the pixels of handwritten digits. A map shows what the class depends on over its mask.",
    "boxes": "A detector finds handwritten digits. A map shows what a box's score depends on, or each edge.",
    "clips": "A 3-D network names the motion of a digit or of a piece of a photograph. The map goes over the frames.",
}
SIZE_LINE = "The network is small, was trained on such pictures alone, and sees 64 x 64 pixels."


class SampleButton(NamedTuple):
    """A button that puts a sample into a tab.

    Attributes:
      name: the end of the button's id.
      label: what stands on the button.
      path: returns the path of the sample's file, which need not exist before.
    """

    name: str
    label: str
    path: Callable[[], str]


CANVASES = tuple(
    SampleButton(name.replace(" ", "-"), name, functools.partial(str, sample.path))
    for name, sample in SAMPLES.items()
    if name.startswith("digits")
)


class SceneTab:
    """One tab: a picture or a clip with samples, the fields of its network, and the result as HTML.

    Args:
      name: in lower case; also the beginning of the components' ids.
      explain: `(picture, *values of fields) -> Result`.
      samples: buttons; the first sample is shown when the tab is opened.
      label: of the picture.
      sources: where a picture may come from.
      empty: the line without a picture.
      quick, slow: options of events that compute nothing, and of those that do.
    """

    def __init__(
        self,
        name: str,
        explain: Callable[..., Result],
        *,
        samples: Sequence[SampleButton] = CANVASES,
        label: str = "Picture",
        sources: Sequence[Any] = ("upload", "webcam", "clipboard"),
        empty: str = EMPTY,
        quick: dict[str, Any],
        slow: dict[str, Any],
    ):
        self.name, self._explain, self._samples, self._label = name, explain, samples, label
        self._sources, self._empty, self._quick, self._slow = sources, empty, quick, slow

    def add(self, fields: Callable[[], Sequence[Any]], *, method: str, methods: Sequence[str]) -> None:
        """Adds the tab to the page that is being made.

        Args:
          fields: makes the components between the picture and the method, and returns those that `explain` takes.
          method: the default.
          methods: names that are offered.
        """
        with gr.Tab(self.name.capitalize(), elem_id=f"tab-{self.name}") as tab, gr.Row():
            with gr.Column(scale=2, min_width=320):
                gr.Markdown(f"{INTRODUCTIONS[self.name]} {SIZE_LINE}")
                buttons = self._add_picture()
                given = list(fields())
                choices = [(METHOD_TITLES[choice], choice) for choice in methods]
                chosen = gr.Dropdown(choices, value=method, label="Method", elem_id=f"{self.name}-method")
            with gr.Column(scale=3, min_width=320):
                self.result = gr.HTML(elem_id=f"{self.name}-result", min_height=120)
        self.fields = [self.picture, chosen, *given]
        self._connect(tab, buttons)

    def _add_picture(self) -> list[Any]:
        """Adds the picture and the buttons of the samples, and returns the buttons."""
        self.picture = Upload(
            type="filepath", label=self._label, sources=list(self._sources), height=240, elem_id=f"{self.name}-picture"
        )
        with gr.Row():
            return [
                gr.Button(sample.label, size="sm", min_width=60, elem_id=f"{self.name}-{sample.name}")
                for sample in self._samples
            ]

    def _connect(self, tab: Any, buttons: list[Any]) -> None:
        tab.select(self._first, self.fields, [self.picture, self.result], **self._slow)
        for button, sample in zip(buttons, self._samples, strict=True):
            self.then_explain(button.click(sample.path, None, self.picture, **self._quick))
        changed = [self.picture.input]
        for field in self.fields[1:]:
            changed.append(field.submit if isinstance(field, gr.Textbox) else field.input)
        self.then_explain(gr.on(changed, _nothing, None, None, **self._quick))

    def then_explain(self, event: Any) -> None:
        """Explain the fields after an event."""
        event.then(self.html, self.fields, self.result, **self._slow)

    def html(self, *values: Any) -> str:
        """The result of the fields' values, or the line that says what is wrong."""
        if values[0] is None:
            return error_line(self._empty, kind="jaxcam-hint")
        try:
            return as_html(self._explain(*values))
        except MISTAKES as error:
            return error_line(str(error))

    def _first(self, *values: Any) -> list[Any]:
        """A sample with its result when the tab is opened; nothing changes if there is a picture."""
        if values[0] is not None:
            return [gr.skip(), gr.skip()]
        sample = self._samples[0].path()
        return [sample, self.html(sample, *values[1:])]


def add_scene_tabs(scenes: Scenes, files: WrittenFiles, *, quick: dict[str, Any], slow: dict[str, Any]) -> None:
    """Adds the tabs to the page that is being made.

    Args:
      scenes: what the tabs compute.
      files: where samples of clips are written.
      quick, slow: options of events that compute nothing, and of those that do.
    """
    options: dict[str, Any] = {"quick": quick, "slow": slow}

    def caption_field() -> Sequence[Any]:
        hint = "Empty for the network's own; or such as: a three left of a seven"
        return [gr.Textbox("", label="Caption", info=hint, max_length=200, elem_id="captions-text")]

    def sides_field() -> Sequence[Any]:
        return [gr.Checkbox(False, label="A map of each edge, too", elem_id="boxes-sides")]

    def motion_field() -> Sequence[Any]:
        choices = [("the most probable one", ""), *((motion, motion) for motion in pretrained.MOTIONS)]
        return [gr.Dropdown(choices, value="", label="Motion", elem_id="clips-motion")]

    captions = SceneTab(
        "captions", lambda path, method, text: scenes.caption(path, method=method, text=text or ""), **options
    )
    captions.add(caption_field, method="layer_cam", methods=WORD_METHODS)  # by `examples.captions.table`
    _add_questions(scenes, options)
    masks = SceneTab("masks", lambda path, method: scenes.masks(path, method=method), **options)
    masks.add(list, method="hires_cam", methods=METHODS)
    boxes = SceneTab(
        "boxes", lambda path, method, sides: scenes.boxes(path, method=method, sides=bool(sides)), **options
    )
    boxes.add(sides_field, method="hires_cam", methods=METHODS)
    clips = SceneTab(
        "clips", lambda path, method, motion: scenes.clip(path, method=method, motion=motion or ""),
        samples=_sample_clips(files), label="Clip, an animated GIF", sources=["upload"], empty=EMPTY_CLIP, **options,
    )  # fmt: skip
    clips.add(motion_field, method="grad_cam", methods=METHODS)  # the best one by `examples.places.tables`


def _sample_clips(files: WrittenFiles) -> list[SampleButton]:
    """A button for each sample clip, whose file is written when it is chosen."""

    def path_of(number: int) -> str:
        return str(write_sample_clip(number, files.folder()))

    return [
        SampleButton(f"sample-{number}", motion, functools.partial(path_of, number))
        for number, motion in enumerate(pretrained.MOTIONS)
    ]


def _add_questions(scenes: Scenes, options: dict[str, Any]) -> None:
    """Adds the tab of questions, which has buttons of questions."""
    questions = SceneTab(
        "questions",
        lambda path, method, question: scenes.answer(path, method=method, question=question or ""),
        **options,
    )
    buttons: dict[Any, str] = {}

    def field() -> Sequence[Any]:
        text = gr.Textbox(
            QUESTIONS[0], label="Question", info="Press Enter to ask.", max_length=200, elem_id="questions-text"
        )
        with gr.Row():
            for i, question in enumerate(QUESTIONS):
                buttons[gr.Button(question, size="sm", min_width=140, elem_id=f"question-{i}")] = question
        return [text]

    questions.add(field, method="layer_cam", methods=WORD_METHODS)  # by `examples.captions.table`
    for button, question in buttons.items():
        chosen = button.click(functools.partial(_same, question), None, questions.fields[2], **options["quick"])
        questions.then_explain(chosen)


def _same(value: Any) -> Any:
    """What a button puts into a field."""
    return value


def _nothing() -> None:
    """What an event does that only starts an explanation: Gradio takes no event without a function."""
