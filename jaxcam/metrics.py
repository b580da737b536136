"""Metrics of maps: pure functions of one map, to be jitted and mapped over many. A table of contents.

    >>> import jaxcam
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> image, boxes = jaxcam.pretrained.digits_canvas(1)
    >>> saliency = jaxcam.resize(jaxcam.grad_cam(cut, image, 3), (64, 64))
    >>> float(box_iou(saliency, boxes)) > 0.5, float(area(deletion(cut, image, saliency, 3))) < 0.5
    (True, True)

A map is `[h w]` at the image's resolution. Every docstring has the formula, its source and range, which way is better,
and how it can be gamed: each of them can be, so `jaxcam.evaluate` shows controls beside the methods.
"""

# Where the map lies: against a mask or boxes.
from jaxcam.localisation import box_iou as box_iou
from jaxcam.localisation import energy as energy
from jaxcam.localisation import found as found
from jaxcam.localisation import largest_box as largest_box
from jaxcam.localisation import largest_component as largest_component
from jaxcam.localisation import mask_iou as mask_iou
from jaxcam.localisation import overlap as overlap
from jaxcam.localisation import pointing_game as pointing_game
from jaxcam.localisation import spill as spill

# What the model says of the image under the map.
from jaxcam.faithfulness import adcc as adcc
from jaxcam.faithfulness import as_mask as as_mask
from jaxcam.faithfulness import average_drop as average_drop
from jaxcam.faithfulness import average_gain as average_gain
from jaxcam.faithfulness import coherency as coherency
from jaxcam.faithfulness import complexity as complexity
from jaxcam.faithfulness import increase as increase
from jaxcam.faithfulness import masked as masked
from jaxcam.faithfulness import masked_score as masked_score
from jaxcam.faithfulness import win as win

# What it says as pixels go in the map's order.
from jaxcam.removal import area as area
from jaxcam.removal import confidence_curve as confidence_curve
from jaxcam.removal import deletion as deletion
from jaxcam.removal import insertion as insertion
from jaxcam.removal import road as road
from jaxcam.removal import road_combined as road_combined
from jaxcam.imputation import impute as impute

# Whether the map is of this model at all.
from jaxcam.randomisation import model_randomisation as model_randomisation
from jaxcam.randomisation import randomised as randomised
from jaxcam.randomisation import rank_correlation as rank_correlation

__all__ = [
    "adcc",
    "area",
    "as_mask",
    "average_drop",
    "average_gain",
    "box_iou",
    "coherency",
    "complexity",
    "confidence_curve",
    "deletion",
    "energy",
    "found",
    "impute",
    "increase",
    "insertion",
    "largest_box",
    "largest_component",
    "mask_iou",
    "masked",
    "masked_score",
    "model_randomisation",
    "overlap",
    "pointing_game",
    "randomised",
    "rank_correlation",
    "road",
    "road_combined",
    "spill",
    "win",
]
