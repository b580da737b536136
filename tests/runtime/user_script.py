"""Runs as a user's script has them, small; `record` writes what they leave in their folders.

tests/runtime/earlier_runs.json was recorded by commit a78145c, the last with all of jaxcam in one flat folder:

    cd tests/runtime; PYTHONPATH=CHECKOUT python -c "import user_script; user_script.record('earlier_runs.json')"

A description depends on the name of this module and on the code of its functions: change neither.
"""

import functools
import inspect
import json
import pathlib
import platform
import tempfile

import jax

import jaxcam

KEY = jax.random.key(0)
COUNT = 2
NAMESPACES = "scores weights maps compat noise rules controls measures pixels metrics datasets images derivatives"


def halved(cut, image, target, *, scale=0.5, weigh=jaxcam.weights.xgrad_cam):
    """A method of the user's own."""
    return scale * jaxcam.gradient_cam(cut, image, target, weigh=weigh, order=1)


def largest(A, Y1):
    return Y1.max((0, 1))


def brightness(cut, case, saliency, *, power=1):
    return {"brightness": (saliency**power).mean()}


SMOOTH = functools.partial(jaxcam.smooth_grad_cam_pp, n_samples=2, score=jaxcam.scores.log_softmax)
METHODS = {
    "a method": jaxcam.grad_cam,
    "in the input's space": jaxcam.input_gradient,
    "a control": jaxcam.controls.mean_activation,
    "options": SMOOTH,
    "a public function as an option": functools.partial(jaxcam.gradient_cam, weigh=jaxcam.weights.xgrad_cam, order=1),
    "a selection": functools.partial(jaxcam.grad_cam, select=jaxcam.select(region=True, subset=[(0, 0), (9, 9)])),
    "an average": functools.partial(
        jaxcam.average_maps(functools.partial(jaxcam.grad_cam, score=jaxcam.scores.logit), statistic="square"),
        n_samples=2,
    ),
    "jitted": jax.jit(functools.partial(jaxcam.grad_cam, link="exp")),
    "own": halved,
    "own, with options": functools.partial(halved, scale=2.0),
    "own weights": functools.partial(jaxcam.gradient_cam, weigh=largest, order=1),
}
DRAWS_NOISE = ("options", "an average")
# Described by a digest of bytecode, which is another for each version of Python.
OWN = ("own", "own, with options", "own weights", "evaluation")


@functools.cache
def digits():
    return jaxcam.cut(jaxcam.digits(), "block3_conv2")


def explain(name, out, method=None):
    """`explain_batch` with one of the methods."""
    images = [jaxcam.pretrained.digits_canvas(i)[0] for i in range(COUNT)]
    key = KEY if name in DRAWS_NOISE else None
    return jaxcam.explain_batch(method or METHODS[name], digits(), images, 3, key, out=out)


def evaluate(out, **others):
    """Methods and metrics of all kinds."""
    methods = {"Grad-CAM": jaxcam.grad_cam, "smooth": SMOOTH, "own": halved, **others}
    metrics = ["drop", functools.partial(jaxcam.measures.pointing, tolerance=3)]
    metrics += [functools.partial(brightness, power=2)]
    image, boxes = jaxcam.pretrained.digits_canvas(1)
    examples = [jaxcam.Example(image, label=3, boxes=boxes, name="canvas")]
    return jaxcam.evaluate(digits(), examples, methods, metrics, target="label", out=out)


def evaluate_files(out):
    """A picture file, with a loader and a score of jaxcam."""
    (file,) = pathlib.Path(jaxcam.__file__).parent.rglob("canvas1.png")
    load = functools.partial(jaxcam.datasets.load, shape=(64, 64))
    score = jaxcam.scores.log_softmax
    examples = [jaxcam.Example(str(file), label=3)]
    return jaxcam.evaluate(digits(), examples, [jaxcam.hires_cam], ["drop"], load=load, score=score, out=out)


EVALUATIONS = {"evaluation": evaluate, "evaluation of files": evaluate_files}


def public_functions():
    """The functions of jaxcam that a user may bind as an option, by the names that users write."""
    places = {"": jaxcam, **{f"{name}.": getattr(jaxcam, name) for name in NAMESPACES.split() if hasattr(jaxcam, name)}}
    return {
        f"{place}{name}": function
        for place, namespace in places.items()
        for name, function in vars(namespace).items()
        if inspect.isfunction(function) and not name.startswith("_") and function.__module__.startswith("jaxcam")
    }


def record(file):
    """What the runs leave in their folders, their maps apart."""
    try:
        from jaxcam.runs import described as describe  # of the flat folder
    except ImportError:
        from jaxcam.runtime import describe
    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate([*METHODS, *EVALUATIONS]):
            out = pathlib.Path(folder) / str(number)
            EVALUATIONS[name](out) if name in EVALUATIONS else explain(name, out)
            runs[name] = {str(path.relative_to(out)): json.loads(path.read_text()) for path in out.rglob("*.json")}
    record = {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "names": {name: describe(function) for name, function in public_functions().items()},
        "runs": runs,
    }
    pathlib.Path(file).write_text(json.dumps(record, indent=1) + "\n")
