"""Fuzzed calls: each is right against the oracle, or is refused by one clear line.

A call is drawn from its number and the seed alone, so `python -m tests.fuzz --seed SEED --call NUMBER` repeats it.
"""

import collections
import functools
import inspect
import re
import traceback
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam
from tests.fuzz import draws, networks, oracle, signatures
from tests.fuzz.draws import ANY, Draw, Refusal

# What no message to a user may hold.
JARGON = re.compile(
    r"Tracer|jaxpr|in_axes|ShapedArray|AbstractValue|Traceback|static_argn|pjit|NoneType' object|has no attribute|"
    r"XlaRuntime|leaked|[Nn]on-hashable|unhashable|Error interpreting|not a valid JAX"
)
SLACK = 12
STD = 0.3


class Outcome(NamedTuple):
    """What became of a call: "right", "refused", "not compared" or "WRONG", and why."""

    verdict: str
    detail: str = ""


class Call(NamedTuple):
    """A call as it was drawn."""

    index: int
    cut: Any
    image: Draw
    target: Draw
    keys: tuple[Any, ...]
    options: dict[str, Any]
    params: dict[str, np.ndarray]
    spoiled: list[Draw]
    values: dict[str, Any]

    def __str__(self):
        spoiled = "".join(f", {draw.kind}" for draw in self.spoiled)
        return f"{signatures.SIGNATURES[self.index].name}; image {self.image.kind}, target {self.target.kind}{spoiled}"


def rng_of(seed, number):
    return np.random.default_rng([seed, number])


def drawn(index, rng):
    """A call of a signature."""
    signature = signatures.SIGNATURES[index]
    network = networks.NETWORKS[signature.network]
    params, kind_of_params = networks.random_params(signature.network, rng)
    make_cut = {"Cut": networks.cut_of, "Cuts": networks.cuts_of, "Flax": _flax_cut}[signature.cut]
    image = draws.image(rng, network.shape, signature.dtype, traced=signature.call == "jit")
    target = _target(signature, network, rng, strange=False)
    parameters = inspect.signature(signatures.method_of(index)).parameters if signature.call == "eager" else {}
    values, options = _drawn_options(signature, parameters, rng, network)
    keys = (jax.random.key(int(rng.integers(2**31))),) if "n_samples" in signature.options else ()
    call = Call(index, None, image, target, keys, options, params, [], values)
    spoil = rng.choice(["nothing", "image", "target", "option", "key", "cut", "params"],
                       p=[0.55, 0.13, 0.13, 0.12, 0.02, 0.02, 0.03])  # fmt: skip
    call = _spoiled(call, spoil, signature, network, parameters, rng)
    cut = make_cut(signature.network, call.params) if call.cut is None else call.cut.value
    kind = f"{call.image.kind}, {kind_of_params} parameters"
    return call._replace(cut=cut, image=call.image._replace(kind=kind))


def _flax_cut(_, params):
    return networks.cut_of_flax_model(params)


def _drawn_options(signature, parameters, rng, network):
    """Values of the options that are not static."""
    values, options = {"std": STD, "baseline": 0.0}, {}
    if "std" in parameters and "n_samples" in signature.options:
        values["std"] = pick = float(np.float32(rng.uniform(0, 0.5) if rng.uniform() < 0.8 else 0))
        options["std"] = draws.pick(rng, [pick, np.float32(pick), jnp.float32(pick), np.array(pick)])
    if "baseline" in parameters and rng.uniform() < 0.6:
        shape = draws.pick(rng, [(), network.shape[-1:], network.shape])
        values["baseline"] = rng.normal(size=shape).astype(np.float32).astype(np.float64)
        options["baseline"] = np.float32(values["baseline"])
    return values, options


def _target(signature, network, rng, *, strange):
    if callable(signature.score):
        shape = network.shape[:-1] if signature.network == "structured" else (network.classes,)
        kind, value, meant = signatures.target_of_score(signature.score, rng, shape)
        return Draw(kind, value, meant)
    if signature.call == "vmap":
        targets = rng.integers(0, network.classes, 3)
        if strange:
            targets[int(rng.integers(3))] = draws.pick(rng, [-1, network.classes, 2**20])
        return Draw("an array of classes", targets, targets)
    if signature.call == "jit" and strange:
        value = draws.pick(rng, [-1, network.classes, np.uint8(255), np.int64(-5), jnp.asarray(99)])
        return Draw("traced out of range", value, int(value))
    return (draws.strange_class if strange else draws.class_target)(rng, network.classes)


def _spoiled(call, spoil, signature, network, parameters, rng):
    """The call with one argument that must be refused."""
    if spoil == "image":
        image = draws.strange_image(rng, network.shape)
        # The user's own jit takes arrays only, and jaxcam sees no values in it.
        is_array = draws.is_array_of_numbers(image.value) and image.refusal.pattern != "NaN or infinite"
        return call if signature.call == "jit" and not is_array else call._replace(image=image, spoiled=[image])
    if spoil == "target" and not callable(signature.score):
        target = _target(signature, network, rng, strange=True)
        if target.refusal is not None and signature.call == "jit":
            return call
        return call._replace(target=target, spoiled=[target] if target.refusal else [])
    if spoil == "option" and signature.call == "eager":
        option = draws.strange_option(rng, list(parameters)[3:])
        return call._replace(options=call.options | option.value, spoiled=[option])
    if spoil == "key" and call.keys:
        key = draws.strange_key(rng)
        return call._replace(keys=(key.value,), spoiled=[key])
    if spoil == "cut" and signature.call == "eager":
        value = draws.pick(rng, draws.STRANGE_CUTS)
        cut = Draw(f"cut={type(value).__name__}", value, None, Refusal((TypeError,), "is not a Cut"))
        return call._replace(cut=cut, spoiled=[cut])
    if spoil == "params" and signature.call == "eager":
        params = {name: array.copy() for name, array in call.params.items()}
        params[draws.pick(rng, list(params))][:] = np.nan
        broken = Draw("NaN parameters", params, None, Refusal((ValueError,), "not finite|NaN"))
        return call._replace(params=params, spoiled=[broken])
    return call


def made(seed, number, *, among=None):
    """The call of a number."""
    count = among or len(signatures.SIGNATURES)
    return drawn(number % count, rng_of(seed, number))


def run(seed, number, *, among=None):
    """The call, and what became of it."""
    call = made(seed, number, among=among)
    try:
        explain = signatures.method_of(call.index)
        result = explain(call.cut, call.image.value, call.target.value, *call.keys, **call.options)
        result = jax.block_until_ready(result)
    except Exception as error:
        return call, _judged_error(call, error, seed, number)
    if call.spoiled and isinstance(result, jaxcam.Diagnosis) and result.not_finite:
        return call, Outcome("refused", f"{call.spoiled[0].kind}, which the diagnosis counts")
    if call.spoiled:
        return call, Outcome("WRONG", f"not refused: {call.spoiled[0].kind}")
    return call, _compared(call, result, rng_of(seed + 1, number))


def _judged_error(call, error, seed, number):
    text = f"{type(error).__name__}: {error}"
    if type(error) not in ANY and not isinstance(error, jax.errors.JAXTypeError):
        return Outcome("WRONG", f"{text}\n{''.join(traceback.format_exception(error)[-3:])}")
    if "\n" in str(error).strip() or not str(error).strip() or JARGON.search(text) or len(str(error)) > 500:
        return Outcome("WRONG", f"not one clear line: {text}")
    if call.spoiled:
        refusal = call.spoiled[0].refusal
        right = isinstance(error, refusal.types) and re.search(refusal.pattern, str(error))
        return Outcome("refused", call.spoiled[0].kind) if right else Outcome("WRONG", f"another error: {text}")
    expected = _compared(call, None, rng_of(seed + 1, number))
    if "not finite" in str(error) and expected.verdict == "not compared" and "range" in expected.detail:
        return Outcome("refused", f"not finite: {expected.detail}")
    return Outcome("WRONG", f"refused without a reason: {text}; {expected.detail}")


# The right value.


def _compared(call, result, rng):
    """The verdict on a result; without a result, why it could not be compared."""
    signature = signatures.SIGNATURES[call.index]
    if signature.call == "vmap":
        rows = [_compared_to_class(call, int(t), None if result is None else result[i], rng)
                for i, t in enumerate(call.target.meant)]  # fmt: skip
        return max(rows, key=lambda row: ["right", "not compared", "WRONG"].index(row.verdict))
    return _compared_to_class(call, call.target.meant, result, rng)


def _compared_to_class(call, target, result, rng):
    signature = signatures.SIGNATURES[call.index]
    network = networks.NETWORKS[signature.network]
    is_class = not callable(signature.score)
    if is_class and target is not None and not 0 <= target < network.classes:
        traced = signature.call in ("jit", "vmap")
        right = traced and result is not None and bool(np.isnan(np.asarray(result)).all())
        return Outcome("right", "NaN for a traced class out of range") if right else Outcome("WRONG", "not NaN")
    score = signature.score or "logit"
    at = oracle.Oracle(signature.network, call.params, call.image.meant, score, rng)
    unclear = False
    if is_class and target is None:
        target, unclear = at.predicted()
    target = jax.tree.map(np.asarray, target)
    with np.errstate(all="ignore"):
        answers = _answers(call, signature, at, target)
    verdicts = [_one_answer(signature, result, answer, name) for name, answer in answers.items()]
    worst = max(verdicts, key=lambda verdict: ["right", "not compared", "WRONG"].index(verdict.verdict))
    if unclear and (result is None or _is_finite(result)):
        return Outcome("not compared", "two largest outputs are equal to rounding, in the range of both")
    return worst


def _is_finite(result):
    leaves = [leaf for leaf in jax.tree.leaves(result) if hasattr(leaf, "dtype")]
    return all(np.isfinite(np.asarray(leaf, np.float32)).all() for leaf in leaves)


def _one_answer(signature, result, answer, name):
    if result is None:
        return Outcome("not compared" if answer.reason else "right", answer.reason or "")
    got = _part(result, name)
    if np.shape(got) != answer.value.shape:
        return Outcome("WRONG", f"shape {np.shape(got)} of {name or 'the map'}, right is {answer.value.shape}")
    got = np.asarray(got).astype(np.float64)
    is_traced = signature.call in ("jit", "vmap")  # where values are not checked
    if not np.isfinite(got).all() and (name or is_traced) and "range" in (answer.reason or ""):
        return Outcome("not compared", answer.reason)
    if not np.isfinite(got).all():
        return Outcome("WRONG", f"{name or 'the map'} is not finite; {answer.reason}")
    if answer.reason:
        return Outcome("not compared", answer.reason)
    tiny = float(jnp.finfo(signature.dtype).tiny) if signature.method in IN_INPUT else 0
    rounding = float(jnp.finfo(signature.dtype).eps) if signature.method in IN_INPUT else 0
    tolerance = answer.tolerance + rounding * np.abs(answer.value) + tiny
    wrong = np.abs(got - answer.value) > tolerance
    if wrong.any():
        n = np.unravel_index(np.argmax(np.abs(got - answer.value) / tolerance), got.shape)
        return Outcome("WRONG", f"{name or 'the map'} at {n} is {got[n]:.9g}, right is {answer.value[n]:.9g} "
                       f"+- {tolerance[n]:.2g}, maximum {np.abs(answer.value).max():.3g}")  # fmt: skip
    loose = np.max(tolerance) > 1e-3 * np.abs(answer.value).max(initial=0)
    return Outcome("right", "bound above 1e-3 of the maximum" if loose and np.abs(answer.value).max() > 0 else "")


def _part(result, name):
    if isinstance(result, jaxcam.Smoothed):
        result = result.map
    if isinstance(result, dict):
        (result,) = result.values()
    return getattr(result, name) if name else result


IN_INPUT = {"input_gradient", "saliency", "guided_backprop", "deconvnet", "smooth_grad", "var_grad", "guided_grad_cam",
            "integrated_gradients", "square of saliency"}  # fmt: skip


def _answers(call, signature, at, target):
    """The right values by the name of what is compared; "" for the map."""
    method = signature.method
    if method == "diagnose":
        return _diagnosis(at, target)
    if method == "score_cam":
        return {"": oracle.expected(at, oracle.score_cam(at, target), SLACK)}
    if method == "integrated_gradients":
        link = signature.options.get("link", "identity")
        return {"": oracle.expected(at, _integrated(at, target, signature, call, link), SLACK)}
    points = _points(call, signature, at)
    if method in IN_INPUT:
        return {"": oracle.expected(at, _in_input(method, at, target, points), SLACK)}
    if method == "mean of layer_cam":
        maps = [_layer_map(signature, "layer_cam", at, target, [point]) for point in points]
        return {"": oracle.expected(at, sum(maps) / len(maps), SLACK)}
    return {"": oracle.expected(at, _layer_map(signature, method.removeprefix("rule "), at, target, points), SLACK)}


def _integrated(at, target, signature, call, link):
    steps = signature.options["steps"]
    baseline = np.broadcast_to(call.values["baseline"], at.network.shape)
    if link == "identity":
        return oracle.integrated_gradients(at, target, steps, baseline)
    at.score = oracle_exp(at.score)
    return oracle.integrated_gradients(at, target, steps, baseline)


@functools.cache
def oracle_exp(score):
    """The probability, which e^u is for the one score that is drawn with it."""
    assert score == "log_softmax"
    return "probability"


def _points(call, signature, at):
    """The noisy images, as `jaxcam.noise` documents them; the image alone without noise."""
    count = signature.options.get("n_samples", 0)
    if not count:
        return [at.clean]
    x = jnp.asarray(call.image.meant)
    std = jnp.asarray(call.values["std"], x.dtype)
    spread = std * (x.max() - x.min()) if signature.options.get("relative", True) else std
    keys = [jax.random.fold_in(call.keys[0], m) for m in range(count)]
    copies = [np.asarray(x + spread * jax.random.normal(key, x.shape, x.dtype)) for key in keys]
    for copy in copies:
        at.seen("a noisy image", copy[None].astype(np.float64))
    return [at.at_image(copy) for copy in copies]


def _in_input(method, at, target, points):
    rule = {"guided_backprop": "guided", "deconvnet": "deconvnet", "guided_grad_cam": "guided"}.get(method, "plain")
    gradients = [at.again(at.run("input", target, point, rule)["gx"]) for point in points]
    if method == "saliency":
        return np.abs(gradients[0]).max(-1)
    if method == "square of saliency":
        return sum(np.abs(gradient).max(-1) ** 2 for gradient in gradients) / len(gradients)
    if method == "var_grad":
        deviations = [gradient - gradients[0] for gradient in gradients]
        mean = sum(deviations) / len(deviations)
        return at.again(sum(deviation**2 for deviation in deviations) / len(deviations)) - at.again(mean**2)
    if method == "guided_grad_cam":
        saliency = _layer_map(signatures.S("relu", "grad_cam"), "grad_cam", at, target, points)
        return at.again(oracle.resized(saliency, at.network.shape[:-1]))[..., None] * gradients[0]
    return sum(gradients) / len(gradients)


def _layer_map(signature, method, at, target, points):
    """The map at the layer, copies `[copies *spatial]`."""
    plus_plus = method in ("grad_cam_pp", "smooth_grad_cam_pp")
    link = signature.options.get("link", "exp" if plus_plus else "identity")
    closed = signature.options.get("derivatives") == "closed_form"
    kind = ("closed form" if closed else "third") if plus_plus else "first"
    derivatives = [at.through_link(at.run(kind, target, point), link) for point in points]
    if len(derivatives) == 1:
        Y = derivatives[0][1]
    else:
        Y = oracle.averaged(*zip(*derivatives, strict=True))
    # Derivatives are averaged at the activation of the clean image, finished maps at that of their own image.
    A, _ = at.forward(points[0] if len(points) == 1 else at.clean)
    choices = {name: signature.options[name] for name in ("numerator", "alpha") if name in signature.options}
    w = oracle.channel_weights(at, method, A, Y, **choices)
    return oracle.summed(at, A, w, CHOICES.get(signature.options.get("select")))


def _filters(products):
    return np.moveaxis(products[..., [2, 0]], -1, 1)


def _region(products):
    kept = np.zeros_like(products)
    kept[:, :3, 1:3] = products[:, :3, 1:3]
    return kept.sum(-1)


def _neurons(products):
    kept = np.zeros_like(products)
    kept[:, [1, 7]] = products[:, [1, 7]]
    return kept.sum(-1)


CHOICES = {signatures.FILTERS: _filters, signatures.REGION: _region, signatures.NEURONS: _neurons}


def _diagnosis(at, target):
    """The score, the probability and the share that relu cuts off Grad-CAM."""
    u = at.run("first", target)["u"]
    _, z = at.forward()
    p = np.exp(z - z.max(-1, keepdims=True))
    p = (p / p.sum(-1, keepdims=True))[:, int(target)]
    return {"score": oracle.expected(at, u, SLACK), "probability": oracle.expected(at, p, SLACK)}


# Many calls.


class Report(NamedTuple):
    """The counts of many calls, and those that went wrong."""

    verdicts: collections.Counter
    details: collections.Counter
    wrong: list[str]

    def __str__(self):
        total = sum(self.verdicts.values())
        lines = [f"{count:6d}  {verdict}: {detail}" for (verdict, detail), count in sorted(self.details.items())]
        verdicts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(self.verdicts.items()))
        return "\n".join([*lines, *self.wrong, f"{total} calls: {verdicts}"])


def run_many(numbers, *, seed, among=None, progress=lambda number, outcome: None):
    verdicts, details, wrong = collections.Counter(), collections.Counter(), []
    for number in numbers:
        call, outcome = run(seed, number, among=among)
        verdicts[outcome.verdict] += 1
        if outcome.verdict == "WRONG":
            wrong.append(f"call {number}: {call}\n        {outcome.detail}")
        else:
            detail = outcome.detail.split(":")[0] if outcome.verdict == "not compared" else outcome.detail
            details[outcome.verdict, detail] += 1
        progress(number, outcome)
    return Report(verdicts, details, wrong)
