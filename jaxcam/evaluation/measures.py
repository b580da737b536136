"""The metrics of an evaluation by an earlier name: `jaxcam.measures.pointing` is a metric, `Case` its argument."""

from jaxcam.evaluation._metrics import METRICS as METRICS
from jaxcam.evaluation._metrics import adcc as adcc
from jaxcam.evaluation._metrics import box_iou as box_iou
from jaxcam.evaluation._metrics import confidence as confidence
from jaxcam.evaluation._metrics import deletion as deletion
from jaxcam.evaluation._metrics import drop as drop
from jaxcam.evaluation._metrics import energy as energy
from jaxcam.evaluation._metrics import found as found
from jaxcam.evaluation._metrics import insertion as insertion
from jaxcam.evaluation._metrics import mask_iou as mask_iou
from jaxcam.evaluation._metrics import pointing as pointing
from jaxcam.evaluation._metrics import road as road
from jaxcam.evaluation._record import Case as Case
from jaxcam.evaluation._record import Columns as Columns
from jaxcam.evaluation._record import bound_options as bound
from jaxcam.evaluation._record import unbound_function as function
from jaxcam.evaluation._selection import named_metrics as named

__all__ = ["bound", "function", "named"]

MEASURES = {name: metric.compute for name, metric in METRICS.items()}
