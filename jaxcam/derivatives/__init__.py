"""The score's derivatives at every location of the feature map, and a proof of when the closed form is exact.

- `exact`: u1, u2 and u3 of any function; `exact_cost` estimates its work; `brute_force` is its slow oracle.
- `closed_form`: the same for outputs that are affine in A, from the Jacobian of the outputs.
- `certify`: whether a function is locally affine, proved at trace time.
- `channel_gradients`: the means over space of gradients, for many cotangents at once.
- `through_link`: from the derivatives of u to those of Y = link(u).
- `exact_scaled` and `through_link_scaled`: the same, with second and third derivatives outside the range of floats.
"""

from jaxcam.derivatives._channels import channel_gradients as channel_gradients
from jaxcam.derivatives._closed_form import closed_form as closed_form
from jaxcam.derivatives._closed_form import score_is_affine as score_is_affine
from jaxcam.derivatives._exact import Cost as Cost
from jaxcam.derivatives._exact import brute_force as brute_force
from jaxcam.derivatives._exact import exact as exact
from jaxcam.derivatives._exact import exact_cost as exact_cost
from jaxcam.derivatives._exact import exact_scaled as exact_scaled
from jaxcam.derivatives._link import LINKS as LINKS
from jaxcam.derivatives._link import Derivatives as Derivatives
from jaxcam.derivatives._link import ScaledDerivatives as ScaledDerivatives
from jaxcam.derivatives._link import through_link as through_link
from jaxcam.derivatives._link import through_link_scaled as through_link_scaled
from jaxcam.derivatives._program import Level as Level
from jaxcam.derivatives.certificate import Certificate as Certificate
from jaxcam.derivatives.certificate import certify as certify
