"""A network named by a text, such as "keras:ResNet50", as a cut, its preprocessing and the names of its classes."""

from jaxcam.opening._opened import DEFAULT as DEFAULT
from jaxcam.opening._opened import DEFAULT_FIT as DEFAULT_FIT
from jaxcam.opening._opened import OpenedModel as OpenedModel
from jaxcam.opening._opened import describe_source as describe_source
from jaxcam.opening._opened import open_model as open_model
from jaxcam.opening._opened import read_class_names as read_class_names
from jaxcam.opening._preprocessing import PREPROCESSING as PREPROCESSING
from jaxcam.opening._preprocessing import Preprocessing as Preprocessing
from jaxcam.opening._preprocessing import read_fitted as read_fitted
from jaxcam.opening._source import NETWORKS as NETWORKS
from jaxcam.opening._source import FoundModel as FoundModel
from jaxcam.opening._source import ModelSource as ModelSource
from jaxcam.opening._source import model_source as model_source
