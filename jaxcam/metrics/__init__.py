"""Numbers about one map: where it lies, whether the model uses what it shows, and whether it depends on the model."""

# Localization: a map against a mask.
from jaxcam.metrics._localization import energy as energy
from jaxcam.metrics._localization import inside_over_outside as inside_over_outside
from jaxcam.metrics._localization import loc as loc
from jaxcam.metrics._localization import mask_iou as mask_iou
from jaxcam.metrics._localization import pointing_game as pointing_game
from jaxcam.metrics._localization import pointing_or_rejection as pointing_or_rejection

# Localization: a map against boxes.
from jaxcam.metrics._boxes import box_iou as box_iou
from jaxcam.metrics._boxes import copies_found as copies_found
from jaxcam.metrics._boxes import inside as inside
from jaxcam.metrics._boxes import largest_box as largest_box
from jaxcam.metrics._boxes import largest_component as largest_component
from jaxcam.metrics._boxes import overlap as overlap
from jaxcam.metrics._boxes import spill as spill

# Boxes that a detector predicts.
from jaxcam.metrics._detections import average_precision as average_precision
from jaxcam.metrics._detections import distinct_boxes as distinct_boxes

# Faithfulness: the model's score on the masked image.
from jaxcam.metrics._faithfulness import adcc as adcc
from jaxcam.metrics._faithfulness import average_drop as average_drop
from jaxcam.metrics._faithfulness import average_gain as average_gain
from jaxcam.metrics._faithfulness import coherency as coherency
from jaxcam.metrics._faithfulness import complexity as complexity
from jaxcam.metrics._faithfulness import increase as increase
from jaxcam.metrics._faithfulness import masked_score as masked_score
from jaxcam.metrics._faithfulness import win as win

# Faithfulness: the model's scores while pixels are removed in the order of the map.
from jaxcam.metrics._removal import TENTHS as TENTHS
from jaxcam.metrics._removal import area as area
from jaxcam.metrics._removal import confidence_curve as confidence_curve
from jaxcam.metrics._removal import deletion as deletion
from jaxcam.metrics._removal import insertion as insertion
from jaxcam.metrics._road import road as road
from jaxcam.metrics._road import road_combined as road_combined

# Sanity: the maps of the model with shuffled parameters.
from jaxcam.metrics._randomization import layers_from_the_top as layers_from_the_top
from jaxcam.metrics._randomization import model_randomization as model_randomization
from jaxcam.metrics._randomization import randomized as randomized
from jaxcam.metrics._randomization import rank_correlation as rank_correlation

# Changed images that the metrics are made of.
from jaxcam.perturbations import as_mask as as_mask
from jaxcam.perturbations import impute as impute
from jaxcam.perturbations import masked as masked

# Names that earlier versions had.
found = copies_found
model_randomisation = model_randomization
randomised = randomized
