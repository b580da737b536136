"""Which map is better: methods and controls on labelled examples."""

from jaxcam.evaluation._evaluate import CONTROLS as CONTROLS
from jaxcam.evaluation._evaluate import evaluate as evaluate
from jaxcam.evaluation._evaluate import with_controls as with_controls
from jaxcam.evaluation._format import shown_as as shown_as
from jaxcam.evaluation._loaded import Loaded as Loaded
from jaxcam.evaluation._loaded import loaded as loaded
from jaxcam.evaluation._loaded import own_key as own_key
from jaxcam.evaluation._result import Evaluation as Evaluation
from jaxcam.evaluation._scorer import Scorer as Scorer
from jaxcam.evaluation._scorer import key_of as key_of
