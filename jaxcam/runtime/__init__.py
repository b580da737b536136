"""Many images: memory, devices, and folders that a stopped run goes on with."""

from jaxcam.runtime._explain_batch import Explained as Explained
from jaxcam.runtime._explain_batch import check_name as check_name
from jaxcam.runtime._explain_batch import explain_batch as explain_batch
from jaxcam.runtime._fingerprint import described as described
from jaxcam.runtime._fingerprint import differences as differences
from jaxcam.runtime._fingerprint import digest as digest
from jaxcam.runtime._fingerprint import of_model as of_model
from jaxcam.runtime._fingerprint import sample_of as sample_of
from jaxcam.runtime._fingerprint import seen as seen
from jaxcam.runtime._runner import Runner as Runner
from jaxcam.runtime._runner import alike as alike
from jaxcam.runtime._store import replace as replace
from jaxcam.runtime._store import sweep as sweep
