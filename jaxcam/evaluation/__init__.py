"""Which map is better: methods and controls on labeled examples."""

from jaxcam.evaluation._bootstrap import Estimate as Estimate
from jaxcam.evaluation._bootstrap import paired_estimates as paired_estimates
from jaxcam.evaluation._controls import CONTROLS as CONTROLS
from jaxcam.evaluation._evaluate import evaluate as evaluate
from jaxcam.evaluation._controls import with_controls as with_controls
from jaxcam.evaluation._loaded import Loaded as Loaded
from jaxcam.evaluation._loaded import loaded as loaded
from jaxcam.evaluation._loaded import own_key as own_key
from jaxcam.evaluation._metrics import METRICS as METRICS
from jaxcam.evaluation._naming import ColumnKey as ColumnKey
from jaxcam.evaluation._plan_evaluation import plan_evaluation as plan_evaluation
from jaxcam.evaluation._record import Case as Case
from jaxcam.evaluation._record import Column as Column
from jaxcam.evaluation._record import Curve as Curve
from jaxcam.evaluation._record import Metric as Metric
from jaxcam.evaluation._result import Evaluation as Evaluation
from jaxcam.evaluation._scorer import Scorer as Scorer
from jaxcam.evaluation._explainer import key_of as key_of
from jaxcam.evaluation._selection import AnyMetric as AnyMetric
from jaxcam.evaluation._selection import named_metrics as named_metrics
