"""Small models as users write them, in NNX, Linen and Keras: every one in training mode, its state not the default."""

from tests.zoo.keras import KERAS
from tests.zoo.linen import LINEN
from tests.zoo.nnx import NNX
from tests.zoo.specimen import Specimen

__all__ = ["KERAS", "LINEN", "NNX", "Specimen"]
