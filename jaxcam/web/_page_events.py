"""What the page does at each event. The methods take and return the values of components."""

import html
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import gradio as gr
import numpy as np

from jaxcam.datasets import images
from jaxcam.methods import METHOD_TITLES
from jaxcam.web import _drawing
from jaxcam.web._code import command_lines, python_code
from jaxcam.web._files import WrittenFiles, write_maps
from jaxcam.web._maps import TOP, Answer, diagnosis, explain_request, neuron_mask, strongest_feature_maps
from jaxcam.web._networks import Networks
from jaxcam.web._pictures import SAMPLES
from jaxcam.web._requests import Request, request_of

# What a visitor can correct. It is said in one line on the page.
MISTAKES = (OSError, ValueError, TypeError, OverflowError)
SECOND_CORNER = "That is one corner of the rectangle: one more click chooses the opposite one."
EMPTY = "Choose a picture: a file, the webcam, or a sample."


class Place(NamedTuple):
    """Where a map lies on the picture that the page shows, so that a click finds a neuron.

    Attributes:
      region: what the network saw, in the pixels of the shown picture.
      shape: height and width of the layer.
    """

    region: _drawing.Region
    shape: tuple[int, int]


class Fields(NamedTuple):
    """The values of the page's fields, in the order of the components."""

    picture: str | None
    model: str | None
    layer: str | None
    target: int | None
    method: str | None
    other: str | None
    samples: int | str | None
    std: float | None
    seed: float | None
    subset: str | None
    region: bool | None
    filters: str | None

    def requests(self) -> list[Request]:
        """The request of each method."""
        values = self._asdict()
        del values["picture"]
        values["region"] = bool(self.region and (self.subset or "").strip())  # nothing is clicked yet
        values["std"] = self.std or None  # a number field of Gradio cannot be empty
        values["samples"] = None if values["samples"] == "" else values["samples"]
        other = values.pop("other")
        methods = [self.method, *([other] if other and other != self.method else [])]
        return [request_of(**{**values, "method": method}) for method in methods]


class Events:
    """The events of one server.

    Args:
      networks: that visitors choose from.
    """

    def __init__(self, networks: Networks):
        self.networks = networks
        self.files = WrittenFiles()

    def explain(self, *values: Any) -> list[Any]:
        """The maps of the fields. Returns what `_shown` and `_empty` return."""
        fields = Fields(*values)
        if fields.picture is None:
            return self._empty(EMPTY)
        if fields.region and len((fields.subset or "").split()) == 1:
            hint, *others = self._empty(SECOND_CORNER)
            return [hint, *(gr.skip() for _ in others)]
        try:
            answers = [explain_request(self.networks, fields.picture, request) for request in fields.requests()]
            return self._shown(answers, fields.picture)
        except MISTAKES as error:
            return self._empty(" ".join(str(error).split()), is_error=True)

    def _shown(self, answers: Sequence[Answer], path: str) -> list[Any]:
        first = answers[0]
        network = self.networks.network(first.request.model)
        drawn = _drawing.drawn_picture(first.picture)
        height, width = first.saliency.shape[-2:]
        folder, stem = self.files.folder(), pathlib.PurePath(path).stem
        pictures = [str(self.write_picture(folder, stem, answer, drawn)) for answer in answers]
        arrays = write_maps(folder, stem, {answer.request.method: answer.saliency for answer in answers})
        titles = [METHOD_TITLES[answer.request.method] for answer in answers]
        return [
            _status(first),
            *_class_buttons(first),
            gr.Image(pictures[0], label=_title(first)),
            gr.ImageSlider(tuple(pictures), label=" and ".join(titles), visible=True)
            if len(pictures) == 2
            else gr.ImageSlider(None, visible=False),
            _chosen(first),
            gr.DownloadButton(value=pictures[0], interactive=True),
            gr.DownloadButton(value=str(arrays), interactive=True),
            python_code(network, answers, path),
            command_lines(network, answers, path),
            [entry.number for entry in first.top],
            Place(_drawing.drawn_region(first, drawn), (height, width)),
        ]

    def write_picture(self, folder: pathlib.Path, stem: str, answer: Answer, drawn: np.ndarray) -> pathlib.Path:
        """Writes the map over the drawn picture; of several feature maps the sum of their maps."""
        saliency = answer.saliency if answer.saliency.ndim == 2 else answer.saliency.sum(0)
        region = _drawing.drawn_region(answer, drawn)
        picture = _drawing.overlay(drawn, saliency, region)
        if answer.request.subset:
            height, width = saliency.shape
            picture = _drawing.outlined(picture, neuron_mask(answer.request, (height, width)), region)
        path = folder / f"{stem}.{answer.request.method}.png"
        images.write(path, picture)
        return path

    def _empty(self, message: str, *, is_error: bool = False) -> list[Any]:
        """The page without a map, with a line that says why."""
        kind = "jaxcam-error" if is_error else "jaxcam-hint"
        return [
            f'<p class="{kind}">{html.escape(message)}</p>',
            *(gr.Button("", visible=False) for _ in range(TOP)),
            gr.Image(None, label="Map"),
            gr.ImageSlider(None, visible=False),
            gr.Gallery(None, visible=False),
            gr.DownloadButton(value=None, interactive=False),
            gr.DownloadButton(value=None, interactive=False),
            "",
            "",
            [],
            None,
        ]

    def strongest(self, *values: Any) -> list[Any]:
        """The strongest feature maps of the first method: a line of text, the thumbnails, and their numbers."""
        fields = Fields(*values)
        if fields.picture is None:
            return [EMPTY, gr.Gallery(None, visible=False), []]
        try:
            request = fields.requests()[0]
            strongest = strongest_feature_maps(self.networks, fields.picture, request)
            answer = explain_request(self.networks, fields.picture, request)
        except MISTAKES as error:
            return [html.escape(" ".join(str(error).split())), gr.Gallery(None, visible=False), []]
        drawn = _drawing.small_picture(answer.picture)
        region = _drawing.drawn_region(answer, drawn)
        thumbnails = [
            (_drawing.in_bytes(_drawing.overlay(drawn, saliency, region)), f"feature map {number}")
            for number, saliency in zip(strongest.numbers, strongest.maps, strict=True)
        ]
        line = "Click on feature maps to choose them, and again to leave them out."
        return [line, gr.Gallery(thumbnails, visible=True), list(strongest.numbers)]

    def report(self, *values: Any) -> str:
        """The report of `jaxcam.diagnose`."""
        fields = Fields(*values)
        if fields.picture is None:
            return EMPTY
        try:
            return diagnosis(self.networks, fields.picture, fields.requests()[0])
        except MISTAKES as error:
            return " ".join(str(error).split())

    def layers(self, model: str | None) -> Any:
        """The layers of a network, with its own chosen."""
        choices = [(str(choice), choice.name) for choice in self.networks.layers(model)]
        return gr.Dropdown(choices=choices, value=self.networks.opened(model).layer)

    def classes(self, model: str | None) -> Any:
        """The classes of a network, with none chosen."""
        names = self.networks.opened(model).class_names
        return gr.Dropdown(choices=[(f"{name} ({i})", i) for i, name in enumerate(names)], value=None)

    def sample(self, name: str, model: str | None) -> tuple[str, str]:
        """The picture of a sample, and a network that knows what it shows."""
        sample = SAMPLES[name]
        own_network = sample.network if sample.network in self.networks.labels else self.networks.labels[0]
        is_known = model is not None and (model == "digits") == (sample.network == "digits")
        return str(sample.path), model if is_known and model is not None else own_network


def clicked(place: Place | None, subset: str, region: bool, event: gr.SelectData) -> str:
    """The chosen neurons after a click on the map, which adds a neuron or takes it away."""
    if place is None:
        return subset
    column, row = event.index
    neuron = _drawing.neuron_at((row, column), place[0], place[1])
    if neuron is None:
        return subset
    points = subset.split()
    point = f"{neuron[0]},{neuron[1]}"
    if region:  # a third click starts anew
        return " ".join([*points, point] if len(points) == 1 else [point])
    return " ".join([p for p in points if p != point] if point in points else [*points, point])


def toggled(numbers: Sequence[int], filters: str, event: gr.SelectData) -> str:
    """The chosen feature maps after a click on a thumbnail."""
    number = str(numbers[event.index])
    chosen = [part.strip() for part in filters.split(",") if part.strip()]
    return ",".join([k for k in chosen if k != number] if number in chosen else [*chosen, number])


def _status(answer: Answer) -> str:
    """The class, the layer and a warning, as HTML."""
    shape = answer.saliency.shape[-2:]
    name = html.escape(answer.class_name)
    layer = html.escape(f"layer {answer.request.layer}, {shape[0]} x {shape[1]}")
    warning = f'<p class="jaxcam-error">{html.escape(answer.warning)}</p>' if answer.warning else ""
    return f"<p><b>{name}</b>, {answer.probability:.1%} <span class='jaxcam-hint'>at {layer}</span></p>{warning}"


def _class_buttons(answer: Answer) -> list[Any]:
    """The buttons of the most probable classes; the one that is explained stands out."""
    buttons = []
    for number, name, probability in answer.top:
        variant = "primary" if number == answer.request.target else "secondary"
        buttons.append(gr.Button(f"{name} {probability:.1%}", variant=variant, visible=True))
    return buttons + [gr.Button("", visible=False) for _ in range(TOP - len(buttons))]


def _title(answer: Answer) -> str:
    """What the map on the page is."""
    title = METHOD_TITLES[answer.request.method]
    count = len(answer.request.filters)
    if count == 1:
        title += f", feature map {answer.request.filters[0]}"
    elif count:
        title += f", sum of the maps of {count} feature maps"
    return title + (", chosen neurons" if answer.request.subset else "")


def _chosen(answer: Answer) -> Any:
    """The map of each chosen feature map."""
    if not answer.request.filters:
        return gr.Gallery(None, visible=False)
    drawn = _drawing.small_picture(answer.picture)
    region = _drawing.drawn_region(answer, drawn)
    overlays = [_drawing.in_bytes(_drawing.overlay(drawn, saliency, region)) for saliency in answer.saliency]
    captions = [f"feature map {number}" for number in answer.request.filters]
    return gr.Gallery(list(zip(overlays, captions, strict=True)), visible=True)
