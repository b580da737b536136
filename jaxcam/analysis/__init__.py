"""Questions about a model and its maps, with answers that print."""

from jaxcam.analysis._diagnose import Diagnosis as Diagnosis
from jaxcam.analysis._diagnose import diagnose as diagnose
from jaxcam.analysis._validate import Comparison as Comparison
from jaxcam.analysis._validate import Difference as Difference
from jaxcam.analysis._validate import Validation as Validation
from jaxcam.analysis._validate import validate as validate
