"""Figures of maps, evaluations and validations."""

from jaxcam.plots._animation import animate as animate
from jaxcam.plots._colors import colors as colors
from jaxcam.plots._drawing import COLORMAP as COLORMAP
from jaxcam.plots._drawing import STYLES as STYLES
from jaxcam.plots._drawing import checked_drawing as checked_drawing
from jaxcam.plots._evaluation import curves as curves
from jaxcam.plots._evaluation import differences as differences
from jaxcam.plots._groups import mean_maps as mean_maps
from jaxcam.plots._maps import compare as compare
from jaxcam.plots._maps import family as family
from jaxcam.plots._maps import filters as filters
from jaxcam.plots._maps import neurons as neurons
from jaxcam.plots._maps import overlay as overlay
from jaxcam.plots._maps import save as save
from jaxcam.plots._picture import as_picture as as_picture
from jaxcam.plots._validation import validation as validation
