"""Loaders in a process of their own: a read that hangs, and an image that kills its process, are failures of one image.

>>> import importlib.resources
>>> from jaxcam.datasets import images
>>> read = isolated(images.read, seconds=60)
>>> read(str(importlib.resources.files("jaxcam.pretrained") / "digits" / "canvas0.png")).shape
(64, 64, 3)
"""

from collections.abc import Callable
from typing import Any

from jaxcam._base.isolation import Isolated


def isolated(
    load: Callable[[Any], Any], *, seconds: float | None = 60, memory: float | None = None
) -> Callable[[Any], Any]:
    """A loader that runs in a process of its own, for `load=` of `explain_batch`.

    The process is started once and serves further images. It is killed and started again if an image crashes it or
    takes too long; that image fails with one line, and the others go on.

    Args:
      load: from a path, or anything that pickles, to an array. Another process must be able to import it: a function of
        a module, not a lambda nor a function of the main program.
      seconds: after which loading an image is stopped; None for no limit.
      memory: the most bytes that loading may take beyond what the process has after its imports; not limited by
        default, nor on systems without resource limits.

    Returns:
      The loader. A run with it goes on with the folder of a run without it.

    Raises:
      TypeError: another process cannot import the function.

    Example:
      >>> isolated(lambda path: path)
      Traceback (most recent call last):
        ...
      TypeError: expected a function that another process can import, got <function <lambda> at ...
    """
    process = Isolated(load, memory=memory)

    def run(element: Any) -> Any:
        return process(element, seconds=seconds)

    run.made_by = load  # type: ignore[attr-defined]  # what describes it in run.json
    return run
