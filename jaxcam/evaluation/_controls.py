"""The controls of every evaluation: maps that a method has to be better than.

>>> import jaxcam
>>> list(with_controls([jaxcam.grad_cam]))
['grad_cam', 'Grad-CAM+', 'mean activation', 'center Gaussian', 'random', 'all ones']
"""

from collections.abc import Mapping, Sequence

from jaxcam._base.types import Method
from jaxcam.evaluation._stored import EARLIER_CONTROLS
from jaxcam.methods import controls, grad_cam_plus

CONTROLS: dict[str, Method] = {
    "Grad-CAM+": grad_cam_plus,
    "mean activation": controls.mean_activation,
    "center Gaussian": controls.center_gaussian,
    "random": controls.random,
    "all ones": controls.all_ones,
}


def with_controls(methods: Mapping[str, Method] | Sequence[Method]) -> dict[str, Method]:
    """The methods by name, and the controls after them."""
    if callable(methods):
        raise TypeError(f"expected methods as a dict by name, or a list, got {methods!r}")
    if not isinstance(methods, Mapping):
        unnamed = [method for method in methods if not hasattr(method, "__name__")]
        if unnamed:
            raise ValueError(f"{unnamed[0]!r} has no name: give methods as a dict by name")
        by_name = {method.__name__: method for method in methods}
        if len(by_name) < len(methods):
            raise ValueError("two methods have one name: give methods as a dict by name")
        methods = by_name
    if not methods:
        raise ValueError("no methods: give at least one to evaluate")
    reserved: dict[str, Method | None] = {**dict.fromkeys(EARLIER_CONTROLS), **CONTROLS}
    taken = [name for name in methods if name in reserved and methods[name] is not reserved[name]]
    if taken:
        raise ValueError(f"{taken[0]!r} is the name of a control: give your method another")
    return {**methods, **{name: control for name, control in CONTROLS.items() if control not in methods.values()}}
