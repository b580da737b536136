"""Writes a page for each public namespace, with every name that it exports: what is public is on the site."""

import importlib
import inspect
import pathlib
import re
import types
from typing import Any

import jaxcam

# In the order of the pipeline, with what a reader finds there.
NAMESPACES = {
    "jaxcam": "everything that is reached as `jaxcam.NAME`",
    "jaxcam.networks": "networks in Flax NNX",
    "jaxcam.vgg": "VGG, and the preprocessing of its weights",
    "jaxcam.pretrained": "trained parameters, and the readers of other libraries' files",
    "jaxcam.checkpoints": "files of weights",
    "jaxcam.layouts": "what the arrays of such a file are",
    "jaxcam.cutting": "a model and a layer to `features` and `head`",
    "jaxcam.derivatives": "the first three derivatives at every location, and the certificate",
    "jaxcam.scores": "what a map explains",
    "jaxcam.weights": "the papers' channel weights",
    "jaxcam.maps": "weighted sums, selection, resizing",
    "jaxcam.formulas.sampling": "weights from some locations",
    "jaxcam.compat": "Grad-CAM++ as other libraries compute it",
    "jaxcam.noise": "noisy images and means over them",
    "jaxcam.rules": "other backward rules for a relu",
    "jaxcam.methods": "the methods, and what they are made of",
    "jaxcam.controls": "maps that explain nothing, to compare with",
    "jaxcam.attacks": "adversarial noise",
    "jaxcam.perturbations": "masks, imputation",
    "jaxcam.metrics": "numbers about one map",
    "jaxcam.runtime": "many images: memory, devices, folders",
    "jaxcam.runtime.ray": "many images over a Ray cluster",
    "jaxcam.limits": "limits on what files may ask for",
    "jaxcam.datasets": "pictures with labels, masks and boxes",
    "jaxcam.datasets.images": "picture files as arrays",
    "jaxcam.evaluation": "which map is better",
    "jaxcam.evaluation.ray": "an evaluation over a Ray cluster",
    "jaxcam.analysis": "questions about a model and its maps",
    "jaxcam.analysis.bias": "where a group's evidence lies",
    "jaxcam.analysis.preferences": "studies with people",
    "jaxcam.losses": "maps inside training",
    "jaxcam.opening": "a network by its name",
    "jaxcam.explaining": "one picture explained",
    "jaxcam.plots": "figures",
    "jaxcam.web": "the page of `jaxcam serve`",
}


def namespace_module(namespace: str) -> types.ModuleType:
    """The module that a namespace is, by whatever name it is reached."""
    module: Any = jaxcam
    for name in namespace.split(".")[1:]:
        # A file that loads Pillow is no attribute before it is imported.
        module = getattr(module, name, None) or importlib.import_module(f"{module.__name__}.{name}")
    return module


def public_names(namespace: str) -> list[str]:
    """The names of the functions and classes that a namespace has, in the order of their lines."""
    module = namespace_module(namespace)
    is_face = hasattr(module, "__path__")  # a package exports what it imports, a file what it defines
    names = []
    for name, value in vars(module).items():
        home = str(getattr(value, "__module__", ""))
        own = home.startswith("jaxcam") if is_face else home == module.__name__
        if own and not name.startswith("_") and callable(value):
            names.append(name)
    return names


def write(folder: pathlib.Path) -> None:
    """Write `index.md` and a page for each namespace. Pages that have not changed stay as they are."""
    folder.mkdir(exist_ok=True)
    shown: dict[int, str] = {}  # by the object, the page that has its docstring
    pages = {}
    for namespace in [*(n for n in NAMESPACES if n != "jaxcam"), "jaxcam"]:
        module = namespace_module(namespace)
        lines = [f"# {namespace}", "", f"{NAMESPACES[namespace][0].upper()}{NAMESPACES[namespace][1:]}.", ""]
        for name in public_names(namespace):
            value = getattr(module, name)
            if id(value) in shown:
                first = shown[id(value)]
                lines += [f"- `{namespace}.{name}` is {{py:obj}}`{first}`."]
                continue
            shown[id(value)] = f"{namespace}.{name}"
            kind = "autoclass" if inspect.isclass(value) else "autofunction"
            lines += ["", "```{eval-rst}", f".. {kind}:: {namespace}.{name}"]
            lines += ["   :members:"] if kind == "autoclass" else []
            lines += ["```", ""]
        pages[namespace] = "\n".join(lines) + "\n"
    listed = [f"- [{namespace}]({namespace}.md): {what}" for namespace, what in NAMESPACES.items()]
    toctree = ["```{toctree}", ":hidden:", "", *NAMESPACES, "```"]
    pages["index"] = "\n".join(["# API", "", *listed, "", *toctree]) + "\n"
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def escape(lines: list[str]) -> None:
    """Escapes, in place, what reStructuredText would take for markup in a docstring's text; code stays as it is."""
    in_example = False
    for number, line in enumerate(lines):
        in_example = (in_example or line.strip() == "Example:" or ">>>" in line) and not _ends_example(line)
        if not in_example:
            parts = re.split(r"(`[^`]*`)", line)
            parts[::2] = [re.sub(r"([|*])", r"\\\1", part) for part in parts[::2]]
            # A role ends before a space or a punctuation mark, and not before the s of `relu`s.
            for place in range(2, len(parts), 2):
                parts[place] = re.sub(r"^(?=\w)", r"\\ ", parts[place])
            lines[number] = "".join(parts)


def _ends_example(line):
    return bool(line) and not line.startswith(" ") and line.strip() != "Example:" and ">>>" not in line
