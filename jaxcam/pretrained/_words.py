"""The embedded networks that write captions and answer questions."""

from jaxcam.networks.answerer import Answerer
from jaxcam.networks.captioner import Captioner
from jaxcam.pretrained._embedded import embedded_network


def captioner() -> Captioner:
    """A captioner of canvases of handwritten digits, 64 x 64 images: a convolutional encoder and an LSTM.

    It is trained by `examples/captions/train.py`; the scores that the script printed are in
    `jaxcam/pretrained/words/scores.json`, and what the weights were made from, with its license, in
    `jaxcam/pretrained/words/NOTICE.md`.

    Example:
      >>> import jaxcam
      >>> model = jaxcam.pretrained.captioner()
      >>> image, _ = jaxcam.pretrained.digits_canvas(1)
      >>> caption = model.caption(image)
      >>> cut = jaxcam.cut(model, "encoder", inputs=(caption.tokens,))
      >>> jaxcam.grad_cam(cut, image, caption.tokens, score=jaxcam.scores.sequence_log_prob).shape
      (8, 8)
    """
    return embedded_network("words/captioner.npz", Captioner)


def answerer() -> Answerer:
    """A network that answers questions about canvases of handwritten digits, 64 x 64 images.

    It is trained together with `captioner`, which says where its scores and its license are.

    Example:
      >>> import jaxcam
      >>> model = jaxcam.pretrained.answerer()
      >>> image, _ = jaxcam.pretrained.digits_canvas(1)
      >>> question = "how many threes are there?"
      >>> cut = jaxcam.cut(model, "encoder", inputs=(model.tokens(question),))
      >>> answer = model.answer(image, question)
      >>> jaxcam.grad_cam(cut, image, answer.number, score=jaxcam.scores.answer).shape
      (8, 8)
    """
    return embedded_network("words/answerer.npz", Answerer)
