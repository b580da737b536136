"""The endpoint `/explain`, which a script calls with gradio_client."""

import abc
import pathlib
from typing import Any

import gradio as gr

from jaxcam.web import _drawing
from jaxcam.web._files import write_maps
from jaxcam.web._maps import explain_request
from jaxcam.web._page_events import MISTAKES, Events
from jaxcam.web._requests import DEFAULT_METHOD, request_of


def _path(component: Any, payload: Any) -> str | None:
    """The path of a file in the server's folder of uploads, which is not opened."""
    return None if payload is None else payload.path


async def _moved_file(component: Any, path: Any) -> str | None:
    """The file in the server's folder of uploads. Gradio would read an address."""
    if str(path).lower().startswith(("http:", "https:")):
        raise gr.Error("expected a file, got an address: upload the picture", print_exception=False)
    return await gr.Image.async_move_resource_to_block_cache(component, path)


# A picture whose file reaches the functions unopened: they judge it by its content, and Gradio would open any format.
# Gradio's own metaclass writes a stub next to the file of every subclass.
Upload: Any = abc.ABCMeta.__new__(
    type(gr.Image),
    "Upload",
    (gr.Image,),
    {
        "__module__": __name__,
        "__doc__": "A picture whose file is not opened.",
        "is_template": True,  # the browser shows it as an Image
        "preprocess": _path,
        "async_move_resource_to_block_cache": _moved_file,
    },
)


def add_endpoint(events: Events, **options: Any) -> None:
    """Adds the endpoint to the page that is being made.

    Args:
      events: of the page.
      options: of the event.
    """

    def explain(
        picture: str,
        model: str | None = None,
        layer: str | None = None,
        target: str | None = None,
        method: str | None = DEFAULT_METHOD,
        samples: float | None = None,
        std: float | None = None,
        seed: float | None = 0,
        filters: str | None = None,
        subset: str | None = None,
        region: bool | None = False,
    ) -> tuple[dict[str, Any], str, str]:
        """The map of a picture: a record, the picture with the map as a PNG file, and the map as a .npy file."""
        try:
            if picture is None:
                raise ValueError("expected a picture, got none")
            request = request_of(
                model=model, layer=layer, target=target, method=method, samples=samples, std=std, seed=seed,
                filters=filters, subset=subset, region=region,
            )  # fmt: skip
            answer = explain_request(events.networks, picture, request)
        except MISTAKES as error:
            raise gr.Error(" ".join(str(error).split()), print_exception=False) from error
        folder, stem = events.files.folder(), pathlib.PurePath(picture).stem
        drawn = _drawing.drawn_picture(answer.picture)
        png = events.write_picture(folder, stem, answer, drawn)
        return answer.as_dict(), str(png), str(write_maps(folder, stem, {answer.request.method: answer.saliency}))

    inputs = [
        Upload(type="filepath", visible=False),
        *(gr.Textbox(visible=False) for _ in range(3)),
        gr.Textbox(DEFAULT_METHOD, visible=False),
        *(gr.Number(visible=False) for _ in range(2)),
        gr.Number(0, visible=False),
        *(gr.Textbox(visible=False) for _ in range(2)),
        gr.Checkbox(visible=False),
    ]
    outputs = [
        gr.JSON(label="record", visible=False),
        gr.File(label="picture", visible=False),
        gr.File(label="map", visible=False),
    ]
    gr.Button(visible=False).click(explain, inputs, outputs, api_name="explain", **options)
