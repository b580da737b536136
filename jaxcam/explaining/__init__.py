"""What a network says about one picture, and why: its most probable classes and the maps of classes.

`explain` is for users. The other functions are for the command line: `explain_each`, whose result always is a sequence,
`check_top`, `map_labels` and `write_maps`.
"""

from jaxcam.explaining._chosen import check_top as check_top
from jaxcam.explaining._explain import explain as explain
from jaxcam.explaining._explain import explain_each as explain_each
from jaxcam.explaining._explain import most_probable as most_probable
from jaxcam.explaining._explanation import ClassProbability as ClassProbability
from jaxcam.explaining._explanation import Explanation as Explanation
from jaxcam.explaining._explanations import Explanations as Explanations
from jaxcam.explaining._explanations import map_labels as map_labels
from jaxcam.explaining._map_files import FORMATS as FORMATS
from jaxcam.explaining._map_files import write_maps as write_maps
