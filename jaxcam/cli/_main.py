"""The command line.

jaxcam                        the demo: explain a sample canvas with the embedded network, as a picture
jaxcam explain IMAGE...       explain pictures of your own
jaxcam batch FOLDER           the maps of all pictures of a folder, as arrays; a killed run goes on where it stopped
jaxcam evaluate DATA          methods and controls on labelled images: tables, curves, where they differ
jaxcam diagnose               what is known about a map before it is drawn, as a short report
jaxcam validate               the closed form against the exact derivatives, as a table and a picture
jaxcam layers                 the layers that the network can be cut at

The network is the embedded one, or a VGG with --weights FILE of any layout, or with --weights imagenet.
"""

import functools
import inspect
import json
import os
import pathlib
import sys

from jaxcam.cli._parser import parser
from jaxcam.methods import TITLES

SAMPLE = 1


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code, 2 for anything that the user has to mend."""
    options = parser().parse_args(arguments)
    try:
        return COMMANDS[options.command](options)
    except (OSError, ValueError, TypeError, OverflowError) as error:
        print(f"jaxcam: {_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if options.command in ("evaluate", "batch"):
            print("jaxcam: stopped; the same command goes on with what is missing", file=sys.stderr)
        return 130


def _demo(options):
    import jax
    import numpy as np

    import jaxcam
    import jaxcam.plots

    picture = _free(options.out / "jaxcam_demo.png", options)
    model = jaxcam.digits()
    layer = _last_convolution(model)
    cut = jaxcam.cut(model, layer)
    image, _ = jaxcam.pretrained.digits_canvas(SAMPLE)
    methods = {
        "grad_cam": jaxcam.grad_cam(cut, image),
        "grad_cam_pp": jaxcam.grad_cam_pp(cut, image),
        "smooth_grad_cam_pp": jaxcam.smooth_grad_cam_pp(cut, image, None, jax.random.key(0)),
    }
    target, probability = _class_and_probability(model, image)
    title = f"{_classes(model)[target]!r}, {probability:.1%}"
    figure = jaxcam.plots.compare([image], {TITLES[name]: [m] for name, m in methods.items()}, titles=[title])
    _save(figure, picture, options)
    record = {
        "image": "a sample canvas",
        "output": str(picture),
        "class": _classes(model)[target],
        "target": target,
        "probability": probability,
        "layer": layer,
        "method": list(methods),
        "map_shape": list(np.shape(methods["grad_cam"])),
    }
    _report([record], options)
    return 0


def _explain(options):
    import jax

    import jaxcam

    method = _bound_method(options, jax, jaxcam)
    _check_names(options)
    pictures = _pictures(options)
    model = _model(options)
    options.layer = options.layer or _last_convolution(model)
    cut = jaxcam.cut(model, options.layer)
    target = _target(options.target, _classes(model))
    records, failed = [], False
    for path, picture in _progress(list(zip(options.images, pictures, strict=True))):
        try:
            records.append(_explain_one(path, picture, model, cut, target, method, options))
        except (OSError, ValueError, TypeError) as error:
            failed = True
            records.append({"image": path, "error": _line(error)})
            print(
                f"jaxcam: {_line(error)}" if path in str(error) else f"jaxcam: {path}: {_line(error)}", file=sys.stderr
            )
    _report(records, options)
    return 2 if failed else 0


def _explain_one(path, picture, model, cut, target, method, options):
    import numpy as np

    import jaxcam
    import jaxcam.plots
    from jaxcam.datasets import images

    image = images.read(path)
    fitted = images.fit(image, model.image_shape[:2])
    found, probability = _class_and_probability(model, fitted, target)
    saliency = np.asarray(method(cut, fitted, found))
    if not np.isfinite(saliency).all():
        raise ValueError(f"the map is not finite: {options.method} is not defined for this layer")
    title = f"{_classes(model)[found]!r}, {probability:.1%}"
    if options.filters:
        figure = jaxcam.plots.filters(image, saliency, options.filters)
    elif options.subset:
        figure = jaxcam.plots.neurons(image, saliency, options.subset, region=options.region)
    else:
        figure = jaxcam.plots.compare([image], {TITLES[options.method]: [saliency]}, titles=[title])
    _save(figure, picture, options)
    return {
        "image": path,
        "output": str(picture),
        "class": _classes(model)[found],
        "target": found,
        "probability": probability,
        "layer": options.layer,
        "method": options.method,
        "map_shape": list(saliency.shape),
        "map_is_zero": not saliency.any(),
    }


def _batch(options):
    import jax
    from PIL import Image

    import jaxcam

    method = _method(options, jaxcam)
    _check_names(options)
    known = Image.registered_extensions()
    pictures = sorted(path for path in options.folder.iterdir() if path.suffix.lower() in known)
    if not pictures:
        raise ValueError(f"{options.folder} has no pictures")
    model = _model(options)
    found = jaxcam.explain_batch(
        method,
        jaxcam.cut(model, options.layer or _last_convolution(model)),
        pictures,
        _target(options.target, _classes(model)),
        jax.random.key(options.seed) if _takes_key(options) else None,
        load=functools.partial(_fitted, shape=model.image_shape[:2]),
        out=options.out,
        batch_size=options.batch_size,
        memory=None if options.memory is None else options.memory * 2**20,
    )
    if options.json:
        print(json.dumps({"out": str(options.out), "maps": len(found.maps), "failed": found.failed}))
    else:
        failed = f", {len(found.failed)} failed: the same command tries them again" if found.failed else ""
        print(f"{options.out}: {len(found.maps)} maps{failed}")
    return 2 if found.failed else 0


def _evaluate(options):
    import jax

    import jaxcam
    from jaxcam import datasets
    from jaxcam.cli import _evaluate as reports

    methods = reports.methods_of(options.methods)
    metrics = None if options.metrics is None else reports.metrics_of(options.metrics)
    _check_names(options)
    names = _names(options)
    kind = options.format or reports.format_of(options.data)
    given = {name: getattr(options, name) for name in reports.LOADING}
    given["masks"] = options.masks == "yes" if kind == "voc" else options.masks
    if options.synsets is not None:
        given["classes"] = datasets.synsets(options.synsets)
    elif kind != "imagenet" and not (kind == "folder" and datasets.of_synsets(options.data)):
        given["classes"] = names  # which synsets are not
    data = reports.examples_of(options.data, kind, **given)
    if options.limit is not None:
        if options.limit < 1:
            raise ValueError(f"--limit is {options.limit}: at least 1 is wanted")
        count = min(options.limit, len(data))
        data = [data[i * len(data) // count] for i in range(count)]
    model = _model(options, activation=getattr(jax.nn, options.activation))
    cut = jaxcam.cut(model, options.layer or _last_convolution(model))
    load = functools.partial(datasets.load, shape=model.image_shape[:2], fit=options.fit)
    key = jax.random.key(options.seed)
    how = {"target": options.explained, "reference": options.reference, "load": load, "out": options.out}
    found = jaxcam.evaluate(cut, data, methods, metrics, key, **how)
    by_name = {each.name: each for each in data}
    written = reports.write(
        found, options.out, cut, methods, lambda name: load(by_name[name]), key, shown=lambda i: _classes(model)[i]
    )
    if options.json:
        print(json.dumps(reports.estimates_of(found)))
    else:
        print(found)
        print(f"\n{', '.join(map(str, written))}")
    return 2 if found.failed else 0


def _fitted(path, shape):
    from jaxcam.datasets import images

    return images.fit(images.read(path), shape)


def _diagnose(options):
    import jaxcam

    model, cut, image = _one_image(options)
    target = _target(options.target, _classes(model))
    found = jaxcam.diagnose(cut, image, target, score=getattr(jaxcam.scores, options.score))
    print(json.dumps({"class": _classes(model)[found.target], **found.as_dict()}) if options.json else found)
    return 0


def _one_image(options):
    """The network with an activation of choice, its cut, and the image or the sample canvas."""
    import jax

    import jaxcam
    from jaxcam.datasets import images

    _check_names(options)
    model = _model(options, activation=getattr(jax.nn, options.activation))
    options.layer = options.layer or _last_convolution(model)
    if len(jaxcam.layers(model).get(options.layer, (0, 0, 0))) != 3:
        raise ValueError(f"layer {options.layer!r} has no map: choose a convolution or a pooling")
    if options.image is not None:
        image = images.fit(images.read(options.image), model.image_shape[:2])
    elif options.weights is None:
        image, _ = jaxcam.pretrained.digits_canvas(SAMPLE)
    else:
        raise ValueError("with --weights, give an IMAGE")
    return model, jaxcam.cut(model, options.layer), image


def _validate(options):
    import jax

    import jaxcam
    import jaxcam.plots

    picture = _free(options.out / "jaxcam_validate.png", options)
    model, cut, image = _one_image(options)
    key = jax.random.key(options.seed)
    found = jaxcam.validate(cut, image, _target(options.target, _classes(model)), key, locations=options.locations)
    _save(jaxcam.plots.validation(found, image), picture, options)
    if options.json:
        print(json.dumps({"activation": options.activation, "output": str(picture), **found.as_dict()}))
    else:
        print(found)
        print(f"\n{picture}")
    return 0


def _layers(options):
    import jaxcam

    shapes = jaxcam.layers(_model(options))
    if options.json:
        print(json.dumps({name: list(shape) for name, shape in shapes.items()}))
    else:
        for name, shape in shapes.items():
            print(f"{name:<14}{' x '.join(map(str, shape))}")
    return 0


def _bound_method(options, jax, jaxcam):
    """The chosen method with its options and its key."""
    keys = {"key": jax.random.key(options.seed)} if _takes_key(options) else {}
    return functools.partial(_method(options, jaxcam), **keys)


def _takes_key(options):
    import jaxcam

    return "key" in inspect.signature(getattr(jaxcam, options.method)).parameters


def _method(options, jaxcam):
    """The chosen method with its options; one that it does not take is an error."""
    method = getattr(jaxcam, options.method)
    score = None if options.score is None else getattr(jaxcam.scores, options.score)
    given = {"n_samples": options.samples, "std": options.std, "score": score, "link": options.link}
    given = {name: value for name, value in given.items() if value is not None}
    taken = inspect.signature(method).parameters
    for name in given:
        if name not in taken:
            flag = {"n_samples": "samples"}.get(name, name)
            raise ValueError(f"--{flag} does not go with --method {options.method}")
    if "std" in given and not given.get("n_samples", taken["n_samples"].default):
        raise ValueError(f"--std goes with --samples: --method {options.method} draws no noise by itself")
    if options.filters or options.subset or options.region:
        given["select"] = jaxcam.select(filters=options.filters, region=options.region, subset=options.subset)
    return functools.partial(method, **given)


def _pictures(options):
    """The output of each input, named after it; checked before anything is computed."""
    pictures = [options.out / f"{pathlib.Path(path).stem}.{options.method}.png" for path in options.images]
    for i, picture in enumerate(pictures):
        if picture in pictures[:i]:
            first = options.images[pictures.index(picture)]
            raise ValueError(f"{first} and {options.images[i]} would both be written to {picture}")
        _free(picture, options)
    return pictures


def _free(picture, options):
    if not options.out.is_dir():
        there = "is not a folder" if options.out.exists() else "does not exist: make the folder first"
        raise ValueError(f"--out {options.out} {there}")
    if picture.exists() and not options.force:
        raise ValueError(f"{picture} is there already; --force overwrites it")
    return picture


def _save(figure, picture, options):
    import jaxcam.plots

    jaxcam.plots.save(figure, picture, force=options.force)


def _model(options, **more):
    """The network that the options name, with the names of its classes where they are known."""
    import jaxcam

    names = _names(options)
    if options.weights is None:
        return jaxcam.digits(**more)
    if options.weights == "imagenet":
        model = jaxcam.vgg16(weights="imagenet", **more)
    else:
        model = jaxcam.pretrained.load(options.weights, **more)
    classes = len(_classes(model))
    if names is not None and len(names) != classes:
        raise ValueError(f"--classes {options.classes} has {len(names)} names: the network has {classes} classes")
    model.class_names = names
    return model


def _names(options):
    """The names of the classes that are known before there is a network; None where they are not."""
    from jaxcam import pretrained

    if options.classes is not None and options.weights is None:
        raise ValueError("--classes goes with --weights: the embedded network knows its classes")
    if options.weights is None:
        return pretrained.DIGITS_CLASSES
    if options.classes == "imagenet" or (options.classes is None and options.weights == "imagenet"):
        return pretrained.imagenet_classes()
    return None if options.classes is None else pretrained.class_names(options.classes)


def _check_names(options):
    """Mistakes in --classes and --target, before half a gigabyte is fetched."""
    names = _names(options)
    if names is not None:
        _target(options.target, names)


def _last_convolution(model):
    return [name for name in model.layers if "_conv" in name][-1]


def _classes(model):
    """The names of the classes, their numbers where nothing else is known."""
    return model.class_names or tuple(map(str, range(getattr(model, model.layers[-1]).out_features)))


def _target(text, names):
    from jaxcam import pretrained

    return None if text is None else pretrained.find_class(text, names)


def _class_and_probability(model, image, target=None):
    """The class that is explained, the most probable one where none is given, and its probability."""
    import jax
    import numpy as np

    probabilities = np.asarray(jax.nn.softmax(model(jax.numpy.asarray(image)[None])[0]))
    found = int(probabilities.argmax()) if target is None else target
    return found, float(probabilities[found])


def _progress(work):
    if len(work) < 2 or not sys.stderr.isatty():
        return work
    from rich.console import Console
    from rich.progress import track

    return track(work, description="explaining", console=Console(stderr=True))


def _report(records, options):
    if options.json:
        print(json.dumps(records if options.command == "explain" else records[0]))
        return
    for record in records:
        if "error" in record:
            continue
        methods = record["method"] if isinstance(record["method"], list) else [record["method"]]
        print(f"{record['image']}: class {record['class']!r}, probability {record['probability']:.4f}")
        print(f"  layer {record['layer']}, {', '.join(TITLES[m] for m in methods)}: {record['output']}")
        if record.get("map_is_zero"):
            chosen = options.command == "explain" and (options.filters or options.subset)
            where = "in what was chosen" if chosen else "at this layer"
            print(f"  the map is zero everywhere: nothing {where} speaks for the class")


def _line(error):
    if isinstance(error, OSError) and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split())


COMMANDS = {
    "demo": _demo,
    "explain": _explain,
    "batch": _batch,
    "evaluate": _evaluate,
    "diagnose": _diagnose,
    "validate": _validate,
    "layers": _layers,
}
