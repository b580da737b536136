"""Small models as users write them, in NNX, Linen and Keras: every one in training mode, its state not the default."""

from zoo_keras import KERAS
from zoo_linen import LINEN
from zoo_nnx import NNX
from zoo_specimen import Specimen

__all__ = ["KERAS", "LINEN", "NNX", "Specimen"]
