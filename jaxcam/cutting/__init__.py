"""A model and a layer as two pure functions, `features` and `head`.

`cut` makes them of a model of any framework that is known, `Cut` of any two functions, and `SelfCutting` is the base
class of networks that bring their own, `ImageNetwork` that of networks that say how their images look. `with_inputs`
gives a cut another question or caption. The rest is for other packages: checks of a cut and a target, a memo, and
`canonical_function`.
"""

from jaxcam.cutting._at_layer import cut as cut
from jaxcam.cutting._checks import check_cut as check_cut
from jaxcam.cutting._checks import check_spatial as check_spatial
from jaxcam.cutting._cut import Cut as Cut
from jaxcam.cutting._cut import Cuts as Cuts
from jaxcam.cutting._cut import activations as activations
from jaxcam.cutting._frameworks import functional_model as functional_model
from jaxcam.cutting._image_network import ImageNetwork as ImageNetwork
from jaxcam.cutting._image_layout import image_axis as image_axis
from jaxcam.cutting._image_layout import image_spatial as image_spatial
from jaxcam.cutting._last_activation import without_last_activation as without_last_activation
from jaxcam.cutting._outputs import class_probabilities as class_probabilities
from jaxcam.cutting._outputs import for_score as for_score
from jaxcam.cutting._outputs import output_kind as output_kind
from jaxcam.cutting._pickled import MadeFunction as MadeFunction
from jaxcam.cutting._pickled import Recipe as Recipe
from jaxcam.cutting._describe import LayerDescription as LayerDescription
from jaxcam.cutting._describe import LayerDescriptions as LayerDescriptions
from jaxcam.cutting._memo import Memo as Memo
from jaxcam.cutting._memo import canonical_function as canonical_function
from jaxcam.cutting._listed_layers import describe_layers as describe_layers
from jaxcam.cutting._listed_layers import layers as layers
from jaxcam.cutting._self_cutting import SelfCutting as SelfCutting
from jaxcam.cutting._targets import ResolvedTarget as ResolvedTarget
from jaxcam.cutting._targets import canonical_target as canonical_target
from jaxcam.cutting._targets import check_target as check_target
from jaxcam.cutting._targets import class_or_none as class_or_none
from jaxcam.cutting._targets import means_class as means_class
from jaxcam.cutting._targets import resolve_target as resolve_target
from jaxcam.cutting._targets import score_or_nan as score_or_nan
from jaxcam.cutting._with_inputs import with_inputs as with_inputs
