"""What a network says about one picture, and why: its most probable classes and the maps of a class."""

from jaxcam.explaining._explain import explain as explain
from jaxcam.explaining._explain import most_probable as most_probable
from jaxcam.explaining._explanation import ClassProbability as ClassProbability
from jaxcam.explaining._explanation import Explanation as Explanation
