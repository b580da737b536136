"""The layout of the page: components, and which event changes which."""

import functools
from typing import Any

import gradio as gr

from jaxcam.methods import METHOD_TITLES
from jaxcam.web._maps import TOP
from jaxcam.web._networks import Networks
from jaxcam.web._page_endpoint import Upload, add_endpoint
from jaxcam.web._page_events import Events, clicked, toggled
from jaxcam.web._page_scenes import add_scene_tabs
from jaxcam.web._panels import CSS as PANELS_CSS
from jaxcam.web._pictures import MOST_BYTES, SAMPLES
from jaxcam.web._requests import DEFAULT_METHOD, MOST_STD
from jaxcam.web._scenes import Scenes

TITLE = "jaxcam: what a network looks at"
NONE, OWN = "", ""  # what fields have for no method, and for the method's own number of samples
COUNTERFACTUAL = "counterfactual_grad_cam"
QUEUE = 128  # requests that wait; another one is told to come back
# One computation at a time: two would share the processors and double the memory.
COMPUTES: dict[str, Any] = {"concurrency_id": "maps", "concurrency_limit": 1}
# By default Gradio drops an event while an earlier one of its kind is answered: the map would be that of older fields.
PRIVATE: dict[str, Any] = {"api_visibility": "private", "trigger_mode": "always_last"}
QUICK: dict[str, Any] = {**PRIVATE, "queue": False, "show_progress": "hidden"}
SESSIONS = 200  # whose fields are remembered
CLEAN_EVERY, KEEP = 60, 600  # seconds: uploads and answers are removed after ten minutes
SAMPLE_COUNTS = [("the method's own", OWN), *((str(n), n) for n in (0, 5, 10, 25, 50))]
CSS = """
.jaxcam-error { color: #b91c1c; font-weight: 600; }
.dark .jaxcam-error { color: #fca5a5; }
.jaxcam-hint { opacity: 0.75; }
"""


class Page:
    """The page of some networks.

    Args:
      networks: that visitors choose from. The first one is opened.
    """

    def __init__(self, networks: Networks):
        self.events = Events(networks)
        networks.opened(None)
        with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(CLEAN_EVERY, KEEP)) as self.blocks:
            add_endpoint(self.events, **COMPUTES)  # first: Gradio numbers the names of later events
            gr.Markdown(f"# {TITLE}")
            with gr.Tabs(overflow_behavior="wrap"):
                with gr.Tab("Classes"), gr.Row():
                    with gr.Column(scale=2, min_width=320):
                        self._add_fields()
                    with gr.Column(scale=3, min_width=320):
                        self._add_results()
                add_scene_tabs(Scenes(networks.programs), self.events.files, quick=QUICK, slow={**PRIVATE, **COMPUTES})
            self._connect()

    def launch(self, *, host: str, port: int, wait: bool = True) -> str:
        """Serve the page.

        Args:
          host: the address to listen at.
          port: the port to listen at.
          wait: until the process is interrupted.

        Returns:
          The address of the page.
        """
        self.blocks.queue(max_size=QUEUE)
        _, address, _ = self.blocks.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            max_file_size=MOST_BYTES,
            allowed_paths=[],
            state_session_capacity=SESSIONS,
            ssr_mode=False,
            theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
            css=CSS + PANELS_CSS,
            footer_links=["api"],
        )
        print(f"jaxcam: the page is at {address}", flush=True)
        if wait:
            self.blocks.block_thread()
        return address

    def _add_fields(self) -> None:
        """What a visitor fills in."""
        labels = self.events.networks.labels
        methods = [(title, name) for name, title in METHOD_TITLES.items()]
        self.picture = Upload(
            type="filepath", label="Picture", sources=["upload", "webcam", "clipboard"], height=300, elem_id="picture"
        )
        with gr.Row():
            self.sample_buttons = {
                name: gr.Button(name, size="sm", min_width=40, elem_id=f"sample-{name.replace(' ', '-')}")
                for name in SAMPLES
            }
        self.target = gr.Dropdown(
            [], label="Class", info="Type to search; empty for the most probable one.", elem_id="class"
        )
        with gr.Row():
            self.method = gr.Dropdown(methods, value=DEFAULT_METHOD, label="Method", min_width=180, elem_id="method")
            self.other = gr.Dropdown(
                [("none", NONE), *methods], value=NONE, label="Compare with", min_width=180, elem_id="other"
            )
        self.counterfactual = gr.Button("What speaks against the class?", size="sm", elem_id="counterfactual")
        with gr.Accordion("Network, layer and noise", open=False):
            self.model = gr.Dropdown(list(labels), value=labels[0], label="Network", elem_id="model")
            self.layer = gr.Dropdown([], label="Layer", elem_id="layer")
            self.count = gr.Dropdown(SAMPLE_COUNTS, value=OWN, label="Noisy copies", elem_id="samples")
            with gr.Row():
                self.std = gr.Number(
                    value=0, label="Noise", info="Share of the image's range; 0 for the method's own.",
                    minimum=0, maximum=MOST_STD, min_width=140, elem_id="std",
                )  # fmt: skip
                self.seed = gr.Number(value=0, label="Seed", precision=0, minimum=0, min_width=140, elem_id="seed")

    def _add_results(self) -> None:
        """What a visitor sees, and what is chosen by clicks."""
        self.status = gr.HTML(elem_id="status")
        with gr.Row():
            self.classes = [
                gr.Button("", size="sm", min_width=100, visible=False, elem_id=f"class-{i}") for i in range(TOP)
            ]
        self.map = gr.Image(
            label="Map", interactive=False, type="filepath", buttons=["download", "fullscreen"], elem_id="map"
        )
        with gr.Row():
            self.subset = gr.Textbox(
                "",
                label="Neurons",
                info="Click on the map, or type rows and columns: 0,0 4,4",
                scale=3,
                elem_id="subset",
            )
            with gr.Column(scale=2, min_width=150):
                self.region = gr.Checkbox(False, label="Two clicks are a rectangle", elem_id="region")
                self.clear = gr.Button("All neurons and feature maps", size="sm", elem_id="clear")
        self.slider = gr.ImageSlider(visible=False, interactive=False, elem_id="slider")
        with gr.Tab("Feature maps"):
            self.filters = gr.Textbox("", label="Feature maps", info="Numbers: 3,7", elem_id="filters")
            self.chosen = gr.Gallery(visible=False, label="Maps of the chosen feature maps", columns=3, height="auto")
            self.show_strongest = gr.Button("Show the strongest feature maps", size="sm", elem_id="show-strongest")
            self.strongest_line = gr.Markdown()
            self.strongest = gr.Gallery(
                label="Strongest feature maps", columns=4, allow_preview=False, elem_id="strongest"
            )
        with gr.Tab("Diagnosis"):
            self.diagnose = gr.Button("Diagnose", size="sm", elem_id="diagnose")
            self.report = gr.Textbox(label="What stands behind the map", lines=8, interactive=False, elem_id="report")
        with gr.Tab("Code"):
            self.python = gr.Code(
                language="python", label="Python", interactive=False, wrap_lines=True, elem_id="python"
            )
            self.shell = gr.Code(
                language="shell", label="Command line", interactive=False, wrap_lines=True, elem_id="shell"
            )
        with gr.Tab("Download"):
            self.png = gr.DownloadButton("Picture (.png)", interactive=False, elem_id="png")
            self.npy = gr.DownloadButton("Array (.npy)", interactive=False, elem_id="npy")
        self.top, self.place, self.numbers = gr.State([]), gr.State(None), gr.State([])

    @property
    def _fields(self) -> list[Any]:
        """The components of `Fields`, in their order."""
        return [
            self.picture, self.model, self.layer, self.target, self.method, self.other,
            self.count, self.std, self.seed, self.subset, self.region, self.filters,
        ]  # fmt: skip

    @property
    def _shown(self) -> list[Any]:
        """The components that `Events.explain` changes, in their order."""
        return [
            self.status, *self.classes, self.map, self.slider, self.chosen, self.png, self.npy, self.python, self.shell,
            self.top, self.place,
        ]  # fmt: skip

    def _connect(self) -> None:
        """Which event changes what. Each ends in an explanation of the fields as they are then."""
        events = self.events
        self._explain(self.blocks.load(self._start, None, [self.picture, self.model, self.layer, self.target], **QUICK))
        self._forget_and_explain(
            self.picture.input(lambda: [None, "", ""], None, [self.target, self.subset, self.filters], **QUICK)
        )
        for name, button in self.sample_buttons.items():
            sample = functools.partial(events.sample, name)
            self._reset_and_explain(button.click(sample, self.model, [self.picture, self.model], **QUICK))
        self._reset_and_explain(gr.on([self.model.input], _nothing, None, None, **QUICK))
        self._forget_and_explain(self.layer.input(lambda: ["", ""], None, [self.subset, self.filters], **QUICK))
        for i, button in enumerate(self.classes):
            chosen = button.click(functools.partial(_top_class, i), self.top, self.target, **QUICK)
            self._forget_and_explain(chosen)
        changed = [self.target.input, self.method.input, self.count.input, self.std.submit, self.seed.submit]
        self._forget_and_explain(gr.on(changed, _nothing, None, None, **QUICK))

        by_hand = [self.other.input, self.subset.submit, self.filters.submit]
        self._explain(gr.on(by_hand, _nothing, None, None, **QUICK))
        self._explain(self.counterfactual.click(lambda: COUNTERFACTUAL, None, self.other, **QUICK))
        self._explain(self.map.select(clicked, [self.place, self.subset, self.region], self.subset, **QUICK))
        self._explain(self.region.input(lambda: "", None, self.subset, **QUICK))
        self._explain(
            self.clear.click(lambda: ["", False, ""], None, [self.subset, self.region, self.filters], **QUICK)
        )
        self._explain(self.strongest.select(toggled, [self.numbers, self.filters], self.filters, **QUICK))

        thumbnails = [self.strongest_line, self.strongest, self.numbers]
        self.show_strongest.click(events.strongest, self._fields, thumbnails, **PRIVATE, **COMPUTES)
        self.diagnose.click(events.report, self._fields, self.report, **PRIVATE, **COMPUTES)

    def _start(self) -> list[Any]:
        """The first sample that the first network knows, and the network's layers and classes."""
        label = self.events.networks.labels[0]
        known = [sample for sample in SAMPLES.values() if sample.network == label] or list(SAMPLES.values())
        return [str(known[0].path), label, self.events.layers(label), self.events.classes(label)]

    def _explain(self, event: Any) -> None:
        """Explain the fields after an event."""
        event.then(self.events.explain, self._fields, self._shown, **PRIVATE, **COMPUTES)

    def _forget_and_explain(self, event: Any) -> None:
        """Empty what the event made stale, then explain."""
        stale = [self.strongest_line, self.strongest, self.numbers, self.report]
        self._explain(event.then(lambda: ["", gr.Gallery(None, visible=False), [], ""], None, stale, **QUICK))

    def _reset_and_explain(self, event: Any) -> None:
        """Show the layers and the classes of the network, choose nothing, then explain."""
        events = self.events

        def reset(model: str | None) -> list[Any]:
            return [events.layers(model), events.classes(model), "", ""]

        outputs = [self.layer, self.target, self.subset, self.filters]
        self._forget_and_explain(event.then(reset, self.model, outputs, **PRIVATE, **COMPUTES))


def _nothing() -> None:
    """What an event does that only starts an explanation: Gradio takes no event without a function."""


def _top_class(place: int, numbers: list[int]) -> int | None:
    """The number of the class on a button."""
    return numbers[place] if place < len(numbers) else None
