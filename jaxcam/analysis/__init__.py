"""Questions about a model and its maps, with answers that print."""

from jaxcam.analysis._diagnose import Diagnosis as Diagnosis
from jaxcam.analysis._diagnose import diagnose as diagnose
from jaxcam.analysis import bias as bias
from jaxcam.analysis import preferences as preferences
from jaxcam.analysis._dissect import Dissection as Dissection
from jaxcam.analysis._dissect import dissect as dissect
from jaxcam.analysis._words import Ablation as Ablation
from jaxcam.analysis._words import Neuron as Neuron
from jaxcam.analysis._words import Words as Words
from jaxcam.analysis._words import ablation as ablation
from jaxcam.analysis._words import explain_in_words as explain_in_words
from jaxcam.analysis._validate import Comparison as Comparison
from jaxcam.analysis._validate import Difference as Difference
from jaxcam.analysis._validate import Validation as Validation
from jaxcam.analysis._validate import validate as validate
