"""The papers' formulas in plain NumPy loops, in float64. Shares no code with jaxcam: neither JAX nor its derivatives.

The network is a toy that loops can handle: A = relu(x W), logits = relu(flatten(A) V + b) Z.
"""

import itertools

import numpy as np


def network(rng, spatial, inputs=3, channels=4, hidden=6, classes=5):
    """Random parameters of the toy, and an input `[*spatial inputs]`."""
    size = int(np.prod(spatial)) * channels
    params = {
        "W": rng.normal(size=(inputs, channels)),
        "V": rng.normal(size=(size, hidden)) / np.sqrt(size),
        "b": 0.3 * rng.normal(size=hidden),
        "Z": rng.normal(size=(hidden, classes)),
    }
    return params, rng.normal(size=(*spatial, inputs))


def activation(params, x):
    return np.maximum(x @ params["W"], 0)


def logits_and_jacobian(params, A):
    """Logits `[classes]` and their Jacobian `[classes *A.shape]`, by hand."""
    before = A.ravel() @ params["V"] + params["b"]
    jacobian = (params["V"] * (before > 0)) @ params["Z"]
    return np.maximum(before, 0) @ params["Z"], jacobian.T.reshape(-1, *A.shape)


def derivatives(params, A, target, score):
    """log of the factor, and Y1, Y2, Y3 without it: Y = exp(logit) or the softmax probability."""
    z, J = logits_and_jacobian(params, A)
    Y1, Y2, Y3 = np.zeros(A.shape), np.zeros(A.shape), np.zeros(A.shape)
    p = np.exp(z - z.max())
    p = p / p.sum()
    for n in np.ndindex(A.shape):
        j = [J[(c, *n)] for c in range(len(z))]
        if score == "exp":
            Y1[n], Y2[n], Y3[n] = j[target], j[target] ** 2, j[target] ** 3
        else:
            # p = e^z / s along A + t e_n, so p' = p (j_t - s'/s) and so on, from the derivatives of s = sum_c e^z_c.
            s1, s2, s3 = (sum(p[c] * j[c] ** power for c in range(len(z))) for power in (1, 2, 3))
            g1 = j[target] - s1
            g2 = -(s2 - s1**2)
            g3 = -(s3 - 3 * s1 * s2 + 2 * s1**3)
            Y1[n], Y2[n], Y3[n] = g1, g2 + g1**2, g3 + 3 * g1 * g2 + g1**3
    log_factor = z[target] if score == "exp" else z[target] - z.max() - np.log(np.exp(z - z.max()).sum())
    return log_factor, Y1, Y2, Y3


def grad_cam_weights(params, A, target):
    _, J = logits_and_jacobian(params, A)
    places = list(itertools.product(*map(range, A.shape[:-1])))
    return np.array([sum(J[(target, *place, k)] for place in places) / len(places) for k in range(A.shape[-1])])


def grad_cam_pp_weights(A, Y1, Y2, Y3, numerator="second"):
    weights = np.zeros(A.shape[-1])
    places = list(itertools.product(*map(range, A.shape[:-1])))
    for k in range(A.shape[-1]):
        S = sum(A[(*place, k)] for place in places)
        for place in places:
            n = (*place, k)
            denominator = 2 * Y2[n] + S * Y3[n]
            above = Y2[n] if numerator == "second" else Y1[n]
            alpha = above / denominator if denominator != 0 else 0.0
            weights[k] += alpha * max(Y1[n], 0.0)
    return weights


def conditioning(A, Y1, Y2, Y3):
    """The smallest share of alpha's denominator that is left of its terms, among the locations that count.

    Where 2 Y2 and S Y3 cancel to a thousandth, float32 has four digits left, whoever computes it.
    """
    S = A.sum(tuple(range(A.ndim - 1)))
    left = np.abs(2 * Y2 + S * Y3) / np.maximum(np.abs(2 * Y2) + np.abs(S * Y3), 1e-300)
    return left[Y1 > 0].min(initial=1.0)


def saliency(A, weights):
    result = np.zeros(A.shape[:-1])
    for place in np.ndindex(result.shape):
        result[place] = max(sum(weights[k] * A[(*place, k)] for k in range(A.shape[-1])), 0.0)
    return result


def grad_cam_pp(params, x, target, score):
    """The map, and its conditioning."""
    A = activation(params, x)
    _, *Y = derivatives(params, A, target, score)
    return saliency(A, grad_cam_pp_weights(A, *Y)), conditioning(A, *Y)


def smooth_grad_cam_pp(params, x, noisy_inputs, target, score, numerator):
    """The map, and its conditioning."""
    A = activation(params, x)
    samples = [derivatives(params, activation(params, noisy), target, score) for noisy in noisy_inputs]
    top = max(log_factor for log_factor, *_ in samples)
    D = [sum(np.exp(sample[0] - top) * sample[p] for sample in samples) / len(samples) for p in (1, 2, 3)]
    return saliency(A, grad_cam_pp_weights(A, *D, numerator=numerator)), conditioning(A, *D)
