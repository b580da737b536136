"""A small network and its backward pass in plain NumPy loops, in float64, with each rule at its relus.

The network is logits = relu(flatten(relu(x * K + b)) V + c) Z, `*` a 3 x 3 convolution of odd size with zeros around.
Shares no code with jaxcam: neither JAX nor its derivatives.
"""

import numpy as np

RULES = {
    "plain": lambda x, g: g if x > 0 else 0.0,
    "guided": lambda x, g: g if x > 0 and g > 0 else 0.0,
    "deconvnet": lambda x, g: g if g > 0 else 0.0,
}


def network(rng, size=5, inputs=2, channels=3, hidden=6, classes=4):
    """Random parameters, and an image `[size size inputs]`."""
    params = {
        "K": rng.normal(size=(3, 3, inputs, channels)),
        "b": 0.3 * rng.normal(size=channels),
        "V": rng.normal(size=(size * size * channels, hidden)) / size,
        "c": 0.3 * rng.normal(size=hidden),
        "Z": rng.normal(size=(hidden, classes)),
    }
    return {k: v.astype(np.float32) for k, v in params.items()}, rng.normal(size=(size, size, inputs)).astype(
        np.float32
    )


def relu_back(rule, x, g):
    return np.array([RULES[rule](*each) for each in zip(x.ravel(), g.ravel(), strict=True)]).reshape(x.shape)


def _windows(size):
    for i, j, di, dj in np.ndindex(size, size, 3, 3):
        if 0 <= i + di - 1 < size and 0 <= j + dj - 1 < size:
            yield i, j, di, dj


def forward(params, x):
    """What the two relus read, and the logits."""
    p = {k: v.astype(np.float64) for k, v in params.items()}
    first = np.zeros((*x.shape[:2], len(p["b"]))) + p["b"]
    for i, j, di, dj in _windows(len(x)):
        first[i, j] += x[i + di - 1, j + dj - 1].astype(np.float64) @ p["K"][di, dj]
    second = np.maximum(first, 0).ravel() @ p["V"] + p["c"]
    return first, second, np.maximum(second, 0) @ p["Z"]


def gradient(params, x, target, rule="plain"):
    """The gradient of a logit in the image."""
    p = {k: v.astype(np.float64) for k, v in params.items()}
    first, second, _ = forward(params, x)
    g = relu_back(rule, second, p["Z"][:, target])
    g = relu_back(rule, first, (p["V"] @ g).reshape(first.shape))
    back = np.zeros(x.shape)
    for i, j, di, dj in _windows(len(x)):
        back[i + di - 1, j + dj - 1] += p["K"][di, dj] @ g[i, j]
    return back


def integrated(params, x, baseline, target, steps):
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    x, baseline = x.astype(np.float64), baseline.astype(np.float64)
    mean = sum(
        weight / 2 * gradient(params, baseline + (node + 1) / 2 * (x - baseline), target)
        for node, weight in zip(nodes, weights, strict=True)
    )
    return (x - baseline) * mean
