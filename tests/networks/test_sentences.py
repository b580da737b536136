"""The captioner and the answerer with random weights: their words, their LSTM, their maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxcam
from jaxcam import networks, scores
from jaxcam.cutting import with_inputs
from jaxcam.networks._glimpses import glimpses
from jaxcam.networks._lstm import first_carry, run_lstm
from jaxcam.tracing import inner_jaxprs

IMAGE = np.random.default_rng(0).uniform(size=(64, 64, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def captioner():
    return networks.Captioner(rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def answerer():
    return networks.Answerer(rngs=nnx.Rngs(1))


def grad_cam_of(score, A):
    """Grad-CAM by its formula: channels weighted by the mean of their gradient."""
    weights = jax.grad(score)(A).mean((0, 1))
    return jnp.maximum(A @ weights, 0)


def test_the_maps_of_all_words_are_one_vmap(captioner):
    tokens = captioner.tokens("a three left of a seven")
    words = len(captioner.text(tokens).split())
    cut = jaxcam.cut(captioner, "encoder", inputs=(tokens,))
    targets = scores.one_token_each(tokens)[:words]
    maps = jax.vmap(lambda t: jaxcam.grad_cam(cut, IMAGE, t, score=scores.sequence_log_prob))(targets)
    A = captioner.encoder(IMAGE[None])[0]

    @jax.jit
    def expected(place):
        def log_prob(A):
            return jax.nn.log_softmax(captioner.decode(A[None], tokens[None])[0, place])[tokens[place]]

        return grad_cam_of(log_prob, A)

    for place in range(words):
        np.testing.assert_allclose(maps[place], expected(place), rtol=1e-3, atol=1e-6)


def test_many_questions_about_one_image_compute_its_features_once(answerer):
    texts = ["how many threes are there?", "is there a 7?", "what colour is the one?"]
    questions, numbers = jnp.stack([answerer.tokens(text) for text in texts]), jnp.array([2, 10, 13])
    cut = jaxcam.cut(answerer, "encoder", inputs=(questions[0],))

    def map_of(question, number):
        return jaxcam.grad_cam(with_inputs(cut, (question,)), IMAGE, number, score=scores.answer)

    batch = jax.vmap(map_of)
    A = answerer.encoder(IMAGE[None])[0]
    for saliency, question, number in zip(batch(questions, numbers), questions, numbers, strict=True):
        expected = grad_cam_of(lambda A: answerer.classify(A[None], question[None])[0, number], A)  # noqa: B023
        np.testing.assert_allclose(saliency, expected, rtol=1e-3, atol=1e-6)
    sizes = convolution_sizes(jax.make_jaxpr(batch)(questions, numbers).jaxpr)
    assert sizes and set(sizes) == {1}


def convolution_sizes(jaxpr):
    """The number of images in every convolution of a program."""
    sizes = []
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "conv_general_dilated":
            sizes.append(eqn.invars[0].aval.shape[eqn.params["dimension_numbers"].lhs_spec[0]])
        for inner in inner_jaxprs(eqn.params):
            sizes += convolution_sizes(inner)
    return sizes


def test_padding_behind_a_question_changes_nothing(answerer):
    tokens, A = answerer.tokens("is there a seven"), jnp.ones([1, 8, 8, 48])
    short = answerer.classify(A, tokens[None, :4])
    np.testing.assert_allclose(answerer.classify(A, tokens[None]), short, rtol=1e-5, atol=1e-6)


def test_glimpses_are_means_and_counts_of_the_locations_that_match():
    rng = np.random.default_rng(3)
    locations, queries = rng.normal(size=(2, 6, 4)), rng.normal(size=(2, 3, 4))
    read = np.asarray(glimpses(jnp.asarray(locations, jnp.float32), jnp.asarray(queries.reshape(2, 12), jnp.float32)))
    for example in range(2):
        for number, query in enumerate(queries[example]):
            matches = np.array(
                [sum(a * b for a, b in zip(query, location, strict=True)) for location in locations[example]]
            )
            weights = np.exp(matches) / np.exp(matches).sum()
            mean = sum(weight * location for weight, location in zip(weights, locations[example], strict=True))
            count = sum(1 / (1 + np.exp(-match)) for match in matches)
            expected = [*mean, count]
            np.testing.assert_allclose(read[example].reshape(3, 5)[number], expected, rtol=1e-4, atol=1e-5)


def test_the_encoder_is_its_blocks_and_its_colors(captioner):
    encoder = captioner.encoder
    block2 = encoder.up_to_block2(IMAGE[None])
    assert block2.shape == (1, 16, 16, 32)
    A = encoder.behind_block2(block2, IMAGE[None])
    np.testing.assert_array_equal(A, encoder(IMAGE[None]))
    assert A.shape == (1, 8, 8, 48) and float(A.min()) == 0
    gray = jnp.broadcast_to(IMAGE[None].mean(-1, keepdims=True), (1, 64, 64, 3))
    assert float(jnp.abs(encoder.behind_block2(block2, gray) - A).max()) > 1e-3  # colors reach it by their own path


def test_the_lstm_is_the_formula_and_skips_padding(captioner):
    rng = np.random.default_rng(2)
    x, cell = rng.normal(size=(1, 4, 128)).astype(np.float32), captioner.lstm
    is_input = np.array([[True, False, True, True]])
    (memory, last), hidden = run_lstm(cell, first_carry(cell, 1), jnp.asarray(x), jnp.asarray(is_input))
    kernel, recurrent, bias = (
        np.asarray(v[...]) for v in (cell.dense_i.kernel, cell.dense_h.kernel, cell.dense_h.bias)
    )
    assert bias.reshape(4, 128).mean(1).tolist() == [0, 1, 0, 0]  # before training, the forget gate's is 1
    h = c = np.zeros(128)
    for place in range(4):
        if is_input[0, place]:
            i, f, g, o = np.split(x[0, place] @ kernel + bias + h @ recurrent, 4)
            c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
            h = np.tanh(c) / (1 + np.exp(-o))
        np.testing.assert_allclose(hidden[0, place], h, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(memory[0], c, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(last, hidden[:, -1])


@pytest.mark.parametrize(
    "act, message",
    [
        (lambda c, a: a.tokens("how many cats are there"), "unknown word 'cats' in the question: the network knows "),
        (lambda c, a: a.tokens("is there a seen"), "unknown word 'seen' in the question: did you mean 'seven'"),
        (lambda c, a: a.tokens(" ? "), "expected a question of at least one word, got none"),
        (lambda c, a: a.tokens("is there a three " * 3), "expected a question of at most 8 words, got 12"),
        (lambda c, a: c.tokens(""), "expected a caption of at least one word, got none"),
        (lambda c, a: c.tokens("two dogs"), "unknown word 'dogs' in the caption"),
        (lambda c, a: c.text(jnp.array([99])), "expected tokens below 38"),
        (lambda c, a: c.tokens("a " * 10), "expected a caption of at most 9 words, got 10"),
        (lambda c, a: c.caption(IMAGE, beams=10**11), "expected beams from 1 to 1000, got 100000000000"),
        (lambda c, a: c.caption(IMAGE, beams=1.5), "expected beams from 1 to 1000, got 1.5"),
        (lambda c, a: c(IMAGE[None], "two threes"), r"expected tokens \[n t\], integers, .*, got 'two threes'"),
        (lambda c, a: a(IMAGE[None], jnp.zeros([1, 1, 8], int)), r"expected tokens .*, got int.. \[1, 1, 8\]"),
        (lambda c, a: a(IMAGE[None, :32], jnp.zeros([1, 8], int)), r"images \[n 64 64 3\], got \[1, 32, 64, 3\]"),
        (lambda c, a: c.caption(IMAGE[:32]), r"expected an image of shape \(64, 64, 3\), got \(32, 64, 3\)"),
        (lambda c, a: a.answer(IMAGE[None], "is there a one"), r"expected an image of shape \(64, 64, 3\)"),
        (lambda c, a: with_inputs(jaxcam.cut(jaxcam.digits(), "block1_conv1"), (1,)), "no arrays among its inputs"),
        (
            lambda c, a: with_inputs(jaxcam.cut(c, "encoder", inputs=(c.tokens("a one"),)), (jnp.ones(3),)),
            r"expected inputs of shapes \(10,\), got \(3,\)",
        ),
    ],
)
def test_what_cannot_be_read_gets_one_line(captioner, answerer, act, message):
    with pytest.raises(ValueError, match=message) as caught:
        act(captioner, answerer)
    assert "\n" not in str(caught.value)


def test_images_that_would_get_a_wrong_caption_are_refused(captioner, answerer):
    for ask in (captioner.caption, lambda image: answerer.answer(image, "is there a one")):
        with pytest.raises(TypeError, match="expected an image of floats in the model's range, got uint8"):
            ask((255 * IMAGE).astype(np.uint8))
        with pytest.raises(ValueError, match="image has 12288 values that are NaN or infinite"):
            ask(np.full_like(IMAGE, np.nan))


def test_inputs_have_the_type_of_those_that_cut_got(answerer):
    question = answerer.tokens("is there a seven")
    cut = jaxcam.cut(answerer, "encoder", inputs=(question,))
    (small,) = with_inputs(cut, (np.asarray(question, np.int8),)).params["inputs"]
    assert small.dtype == question.dtype and small.tolist() == question.tolist()
    with pytest.raises(TypeError, match=r"expected inputs \[8\] of int32, got float32"):
        with_inputs(cut, (question.astype(jnp.float32),))


class Asked(nnx.Module):
    """A model of an image and two vectors of one shape, which count differently."""

    image_shape = (4, 4, 3)

    def __init__(self):
        self.conv = nnx.Conv(3, 2, (1, 1), rngs=nnx.Rngs(0))

    def __call__(self, images, question, meta, train=False):
        return nnx.relu(self.conv(images)).mean((1, 2)) * (question + 10 * meta)


def test_inputs_keep_their_names():
    model, image, question, meta = Asked(), jnp.ones([4, 4, 3]), jnp.array([1.0, 2.0]), jnp.array([3.0, 5.0])
    zeros, named = jnp.zeros(2), {"question": question, "meta": meta}
    expected = model(image[None], question[None], meta[None])[0]

    def outputs(cut):
        return cut.head(cut.params, cut.features(cut.params, image), image)

    by_name = jaxcam.cut(model, "conv", inputs={"question": zeros, "meta": zeros, "train": False})
    by_place = jaxcam.cut(model, "conv", inputs=(zeros, zeros))
    for cut, inputs in (by_name, named), (by_place, (question, meta)), (by_place, [question, meta]):
        np.testing.assert_allclose(outputs(with_inputs(cut, inputs)), expected, rtol=1e-6)
    for cut, inputs in (by_place, named), (by_name, (question, meta)), (by_name, {"a": question, "b": meta}):
        with pytest.raises(ValueError, match="expected inputs of shapes .*, got "):
            with_inputs(cut, inputs)


def test_a_token_that_no_word_has_is_nan(captioner, answerer):
    for wrong in (-7, len(captioner.words)):  # behind the words is the number of the start
        logits = captioner(IMAGE[None], jnp.array([[3, wrong, 2, -1]]))[0]
        assert np.isnan(logits[2:]).all() and np.isfinite(logits[:2]).all()
    assert np.isnan(answerer(IMAGE[None], jnp.array([[3, -7, 2, -1]]))).all()


def test_numerals_and_spellings_are_words(captioner, answerer):
    assert answerer.text(answerer.tokens("What colour is the 3?")) == "what color is the three"
    assert answerer.text(answerer.tokens("How many 3s are there?")) == "how many threes are there"
    assert captioner.text(captioner.tokens("2 3s, a 7")) == "two threes , a seven"
