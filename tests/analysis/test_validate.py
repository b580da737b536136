"""`validate`: what it reports, and that it is right about it."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
import jaxcam.plots
from jaxcam.derivatives._closed_form import closed_form
from jaxcam.derivatives._exact import brute_force
from jaxcam.derivatives._link import through_link


@pytest.fixture(scope="module")
def on_relu():
    image, _ = jaxcam.pretrained.digits_canvas(0)
    return jaxcam.validate(jaxcam.cut(jaxcam.digits(), "block3_conv2"), image, 1)


def tanh_cut():
    """A small head, smooth, with image and parameters, so that brute force is quick."""
    kernel, dense = jax.random.normal(jax.random.key(0), (3, 4)), jax.random.normal(jax.random.key(1), (4, 5))
    features = lambda p, x: jnp.tanh(x @ p["kernel"])
    head = lambda p, A, x: jnp.tanh(A.mean((0, 1)) * 3 + x.mean()) @ p["dense"]
    return jaxcam.Cut({"kernel": kernel, "dense": dense}, features, head)


IMAGE = jax.random.normal(jax.random.key(2), (4, 4, 3))


def test_on_a_relu_network_the_closed_form_is_exact(on_relu):
    assert on_relu.certificate.affine
    for row in on_relu.comparisons:
        if row.form == "closed form":
            assert all(math.isnan(error) or error < 1e-3 for error in row.errors.values()), row.errors
    both_zero = next(row for row in on_relu.comparisons if (row.score, row.link) == ("logit", "identity"))
    assert all(math.isnan(error) for error in both_zero.errors.values())


def test_powers_of_the_gradient_are_not_the_softmax(on_relu):
    (powers,) = (row for row in on_relu.comparisons if row.form == "powers of g")
    assert (powers.score, powers.link) == ("log_softmax", "exp") and powers.errors["Y2"] > 0.5


def test_exact_agrees_with_finite_differences(on_relu):
    for row in on_relu.differences:
        assert row.kept == 16 and max(row.errors.values()) < 1e-4, row


def test_a_bar_counts_the_chunks_of_directions(monkeypatch):
    bars = []

    class Bar:
        def __init__(self, label, total, *, flops):
            self.calls, self.total = 0, total
            bars.append(self)
            assert "directions" in label and flops > 0

        def __enter__(self):
            return self.advance

        def advance(self):
            self.calls += 1

        def __exit__(self, *_):
            pass

    monkeypatch.setattr("jaxcam.analysis._validate.progress.bar", Bar)
    jaxcam.validate(tanh_cut(), IMAGE, 3, links=["exp"], locations=5, batch_size=3)
    # With logit the channels are independent and share one direction. With log_softmax there are 4.
    assert [(bar.calls, bar.total) for bar in bars] == [(1, 1), (2, 2)]


def test_the_errors_are_those_of_brute_force():
    cut = tanh_cut()
    found = jaxcam.validate(cut, IMAGE, 3, scores=[jaxcam.scores.log_softmax], links=["exp"], locations=5)
    A, head = cut.features(cut.params, IMAGE), lambda A: cut.head(cut.params, A, IMAGE)
    exact = brute_force(lambda A: jaxcam.scores.log_softmax(head(A), 3), A)
    closed = closed_form(head, A, jaxcam.scores.log_softmax, 3)
    assert not found.certificate.affine
    rows = {row.form: row.errors for row in found.comparisons}
    for form, u in {
        "closed form": closed,
        "powers of g": closed._replace(u2=0 * closed.u2, u3=0 * closed.u3),
    }.items():
        for p, name in ((1, "Y2"), (2, "Y3")):
            wanted, value = (np.asarray(through_link(each, link="exp")[1][p]) for each in (exact, u))
            error = np.abs(value - wanted).mean() / np.abs(wanted).mean()
            assert error > 0.01
            np.testing.assert_allclose(rows[form][name], error, rtol=1e-3)
    (check,) = found.differences
    assert check.kept == 5 and check.kinks == 0 and max(check.errors.values()) < 1e-4


def test_a_wrong_derivative_does_not_pass_the_finite_differences(monkeypatch):
    exact = jaxcam.derivatives.exact

    def wrong(f, A, **options):
        derivatives = exact(f, A, **options)
        return derivatives._replace(u3=1.01 * derivatives.u3)

    monkeypatch.setattr(jaxcam.derivatives, "exact", wrong)
    found = jaxcam.validate(tanh_cut(), IMAGE, 3, scores=[jaxcam.scores.logit], links=["identity"])
    assert 0.001 < found.differences[0].errors["Y3"] < 0.02 and found.differences[0].errors["Y2"] < 1e-4


def test_kinks_are_counted_and_left_out():
    """A location at the kink of relu itself has no derivative to compare with."""
    cut = jaxcam.Cut(None, lambda p, x: x, lambda p, A, x: jnp.abs(A - 0.5).sum((0, 1)) + A.sum((0, 1)) ** 2)
    image = jnp.full((2, 2, 3), 0.5).at[0, 0].set(0.1)
    (check,) = jaxcam.validate(cut, image, 1, scores=[jaxcam.scores.logit], links=["identity"]).differences
    assert check.kept > 0 and check.kinks > 0 and check.errors["Y2"] < 1e-4


def test_text_and_json(on_relu):
    text = str(on_relu)
    assert "locally affine in A [16 16 64]" in text and "the closed form is exact here" in text and "both 0" in text
    record = json.loads(json.dumps(on_relu.as_dict(), allow_nan=False))
    assert record["certificate"]["locally_affine"] and len(record["comparisons"]) == 5
    assert record["comparisons"][0]["errors"]["Y2"] is None and len(record["finite_differences"]) == 4


def test_the_figure(on_relu, image):
    figure = jaxcam.plots.validation(on_relu, image)
    # Four rows have second derivatives; in each two scatters and two maps.
    assert len(figure.axes) == 16
    with pytest.raises(ValueError, match="every second derivative is zero"):
        jaxcam.plots.validation(on_relu._replace(comparisons=on_relu.comparisons[:1]), image)


def test_a_model_is_not_a_cut(digits, image):
    with pytest.raises(TypeError, match="VGG is not a Cut"):
        jaxcam.validate(digits, image)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"locations": 0}, "expected an integer of at least 1 for locations, got 0"),
        ({"links": ["log"]}, "link is 'log': choose one of identity, exp"),
        ({"target": 99}, "target 99 is out of range"),
        ({"scores": []}, "scores is empty"),
        ({"scores": jaxcam.scores.logit}, "scores and links are lists"),
        ({"links": "exp"}, "scores and links are lists"),
    ],
)
def test_what_bad_input_gets(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        jaxcam.validate(tanh_cut(), IMAGE, **{"target": 1, **options})


def test_nothing_is_compared_where_nothing_is_finite():
    cut = jaxcam.Cut(None, lambda p, x: x / 0, lambda p, A, x: A.sum((0, 1)))
    with pytest.raises(ValueError, match="expected finite values at 'this cut', got activation with NaN"):
        jaxcam.validate(cut, IMAGE, 1)


def test_a_head_with_types_of_its_own_is_not_blamed_on_kinks():
    cut = jaxcam.Cut(None, lambda p, x: x, lambda p, A, x: jnp.tanh(A.astype(jnp.float32)).sum((0, 1)))
    found = jaxcam.validate(cut, IMAGE, 1, scores=[jaxcam.scores.logit], links=["exp"])
    assert (found.differences[0].kept, found.differences[0].kinks) == (0, 0)
    assert "does not compute in float64" in str(found)


def test_outside_jit_alone():
    with pytest.raises(TypeError, match="call it outside jit"):
        jax.jit(lambda image: jaxcam.validate(tanh_cut(), image, 1).differences[0].kept)(IMAGE)
