"""A model and a layer as two pure functions, `features` and `head`."""

from jaxcam.cutting._at_layer import cut as cut
from jaxcam.cutting._at_layer import layers as layers
from jaxcam.cutting._checks import check_cut as check_cut
from jaxcam.cutting._checks import check_map as check_map
from jaxcam.cutting._checks import check_target as check_target
from jaxcam.cutting._checks import chosen as chosen
from jaxcam.cutting._cut import Cut as Cut
from jaxcam.cutting._cut import Cuts as Cuts
from jaxcam.cutting._cut import activations as activations
from jaxcam.cutting._memo import Shared as Shared
