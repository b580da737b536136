"""The tables of primitives: a partition, in one file, and what they say is true of the functions of `jax.lax`."""

import ast
import inspect
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxcam
from jaxcam.derivatives._program import Level
from jaxcam.tracing import _primitives as tables

TABLES = {name: value for name, value in vars(tables).items() if isinstance(value, frozenset)}
KNOWN = frozenset().union(*TABLES.values())
PARTITION = (
    "PLAIN_CALLS REMAT CUSTOM_VJP CUSTOM_JVP IDENTITIES SUMS SELECTIONS REARRANGEMENTS OTHER_LINEAR "
    "ELEMENTWISE_PRODUCTS CONTRACTIONS CLIPS OTHER_PIECEWISE_LINEAR COMPARISONS_AND_ROUNDING POSITIONS STOP_GRADIENT "
    "SMOOTH_ELEMENTWISE"
).split()
X, Y, Z = (jax.random.uniform(jax.random.key(i), (2, 3), minval=0.2, maxval=0.8) for i in range(3))
# One call of `jax.lax` for each primitive that takes more than arrays of one shape, as a function of X.
CALLS = {
    "pow": lambda x: lax.pow(x, Y),
    "integer_pow": lambda x: lax.integer_pow(x, 3),
    "convert_element_type": lambda x: lax.convert_element_type(x, "float16"),
    "reduce_precision": lambda x: lax.reduce_precision(x, 5, 10),
    "clamp": lambda x: lax.clamp(Y, x, Z),
    "select_n": lambda x: lax.select_n(Y > 0.5, x, Z),
    "reshape": lambda x: lax.reshape(x, (6,)),
    "transpose": lambda x: lax.transpose(x, (1, 0)),
    "broadcast_in_dim": lambda x: lax.broadcast_in_dim(x, (4, 2, 3), (1, 2)),
    "squeeze": lambda x: lax.squeeze(x[:1], (0,)),
    "rev": lambda x: lax.rev(x, (0,)),
    "slice": lambda x: lax.slice(x, (0, 1), (2, 3)),
    "pad": lambda x: lax.pad(x, 0.0, ((1, 0, 0), (0, 1, 2))),
    "concatenate": lambda x: lax.concatenate([x, Y], 0),
    "dynamic_slice": lambda x: lax.dynamic_slice(x, (0, 1), (1, 2)),
    "dynamic_update_slice": lambda x: lax.dynamic_update_slice(x, Y[:1], (1, 0)),
    "reduce_sum": lambda x: x.sum(0),
    "reduce_max": lambda x: x.max(0),
    "reduce_min": lambda x: x.min(0),
    "cumsum": lambda x: lax.cumsum(x, 1),
    "cummax": lambda x: lax.cummax(x, 1),
    "cummin": lambda x: lax.cummin(x, 1),
    "sort": lambda x: lax.sort(x, dimension=1),
    "top_k": lambda x: lax.top_k(x, 2)[0],
    "gather": lambda x: x[jnp.array([1, 0])],
    "scatter": lambda x: x.at[jnp.array([1])].set(Y[:1]),
    "scatter-add": lambda x: x.at[jnp.array([1, 1])].add(Y),
    "split": lambda x: lax.split(x, (1, 2), axis=1)[1],
    "reduce_window_max": lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 2), (1, 1), "VALID"),
    "reduce_window_min": lambda x: lax.reduce_window(x, jnp.inf, lax.min, (1, 2), (1, 1), "VALID"),
    "reduce_window_sum": lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 2), (1, 1), "VALID"),
    "dot_general": lambda x: x @ Y.T,
    "argmax": lambda x: lax.argmax(x, 1, "int32").astype(x.dtype),
    "argmin": lambda x: lax.argmin(x, 1, "int32").astype(x.dtype),
    "optimization_barrier": lambda x: lax.optimization_barrier(x),
    "stop_gradient": lax.stop_gradient,
    "acosh": lambda x: lax.acosh(1 + x),
    "complex": lambda x: lax.real(lax.complex(x, Y)),
    "real": lambda x: lax.real(lax.complex(Y, x)),
    "imag": lambda x: lax.imag(lax.complex(Y, x)),
    "conj": lambda x: lax.imag(lax.conj(lax.complex(Y, x))),
    "fft": lambda x: lax.real(lax.fft(lax.complex(x, Y), "fft", (3,))),
    "conv_general_dilated": lambda x: lax.conv(x[None, None], Y[None, None, :1], (1, 1), "SAME"),
}


def calls():
    """Each primitive of the tables that has a call here or a function in `jax.lax` of one or two arrays."""
    for name in sorted(KNOWN - {"nextafter"}):  # which has no derivative
        call = CALLS.get(name)
        f = getattr(lax, name, None)
        if call is None and callable(f):
            required = [p for p in inspect.signature(f).parameters.values() if p.default is p.empty]
            call = {1: f, 2: lambda x, f=f: f(x, Y)}.get(len(required))
        try:
            if call is not None and f"{name} " in str(jax.make_jaxpr(call)(X)).replace("[", " "):
                yield name, call
        except (TypeError, ValueError):
            pass  # not of arrays of floats


CASES = dict(calls())
AFFINE = tables.LINEAR | tables.BILINEAR | tables.PIECEWISE_LINEAR | tables.LOCALLY_CONSTANT


def floats(f):
    return lambda x: jnp.asarray(f(x), jnp.float32)


def test_every_list_is_in_the_partition_or_made_of_it():
    parts = [TABLES[name] for name in PARTITION]
    assert sum(map(len, parts)) == len(frozenset().union(*parts)) == len(KNOWN), "a primitive in two lists"
    assert len(CASES) > 80, "most primitives are tried"


def test_the_tables_are_in_one_file():
    """No other file of the package has a set of names of primitives, or a string of them."""
    for file in pathlib.Path(jaxcam.__file__).parent.rglob("*.py"):
        if file.name == "_primitives.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            words = []
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "split":
                words = node.func.value.value.split() if isinstance(node.func.value, ast.Constant) else []
            elif isinstance(node, ast.Set):
                words = [element.value for element in node.elts if isinstance(element, ast.Constant)]
            assert len(KNOWN.intersection(words)) < 4, f"{file}, line {node.lineno}: {words}"


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(tables.ELEMENTWISE & CASES.keys()))
def test_elementwise_ones_do_not_mix_elements(name):
    f = floats(CASES[name])
    assert f(X).shape == X.shape
    jacobian = np.array(jax.jacfwd(f)(X)).reshape(X.size, X.size)
    moved = [f(X.at[np.unravel_index(i, X.shape)].add(0.1)) - f(X) for i in range(X.size)]
    for i in range(X.size):
        assert np.count_nonzero(np.delete(np.ravel(moved[i]), i)) == 0
        assert np.count_nonzero(np.delete(jacobian[:, i], i)) == 0


@pytest.mark.long
@pytest.mark.parametrize("name", sorted((AFFINE | tables.SMOOTH_ELEMENTWISE) & CASES.keys()))
def test_affine_ones_have_no_second_derivative_and_are_certified(name):
    f = floats(CASES[name])
    slope = lambda t: jax.jvp(lambda t: f(X + t * Z), (t,), (1.0,))[1]
    curvature = np.abs(jax.jvp(slope, (0.0,), (1.0,))[1]).max()
    level = jaxcam.certify(f, X).level
    if name in AFFINE:
        assert curvature == 0 and level <= Level.PIECEWISE
    if curvature > 0:
        assert level == Level.SMOOTH
    if name in tables.LOCALLY_CONSTANT:
        assert np.abs(slope(0.0)).max() == 0 and level <= Level.STEP
    if name in tables.LINEAR:
        assert level == Level.AFFINE
        np.testing.assert_allclose(f(X) + f(3 * X), 2 * f(2 * X), rtol=2e-3)


@pytest.mark.parametrize("name", sorted(tables.INDEX_MAPS & CASES.keys()))
def test_index_maps_keep_the_elements_of_the_first_operand(name):
    numbers = jnp.arange(1.0, 7.0).reshape(2, 3)
    assert set(np.ravel(CASES[name](numbers))) <= {0, *range(1, 7)}
