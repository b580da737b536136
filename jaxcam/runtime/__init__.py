"""Many images: memory, devices, and folders that a stopped run goes on with."""

from jaxcam.runtime._driver import for_each as for_each
from jaxcam.runtime._explain_batch import Explained as Explained
from jaxcam.runtime._explain_batch import check_name as check_name
from jaxcam.runtime._explain_batch import explain_batch as explain_batch
from jaxcam.runtime._fingerprint import content_digest as content_digest
from jaxcam.runtime._fingerprint import content_or_stamp as content_or_stamp
from jaxcam.runtime._fingerprint import describe as describe
from jaxcam.runtime._fingerprint import describe_differences as describe_differences
from jaxcam.runtime._fingerprint import describe_model as describe_model
from jaxcam.runtime._fingerprint import recorded_sample as recorded_sample
from jaxcam.runtime._isolated import isolated as isolated
from jaxcam.runtime._runner import Runner as Runner
from jaxcam.runtime._runner import group_by_shape as group_by_shape
from jaxcam.runtime._store import prepare_folder as prepare_folder
from jaxcam.runtime._store import read_run as read_run
from jaxcam.runtime._store import refuse_if_any as refuse_if_any
from jaxcam.runtime._store import replace as replace
from jaxcam.runtime._store import saying_how_many as saying_how_many
from jaxcam.runtime._targets import Targets as Targets
from jaxcam.runtime._targets import checked_targets as checked_targets
from jaxcam.runtime._targets import target_as_arrays as target_as_arrays
from jaxcam.runtime._targets import target_digest as target_digest
