"""A web page on which pictures are explained. The functions behind it work without the page and without Gradio."""

# The page.
from jaxcam.web._server import check_gradio as check_gradio
from jaxcam.web._server import page as page
from jaxcam.web._server import serve as serve

# The networks that visitors choose from.
from jaxcam.web._networks import OWN_NETWORKS as OWN_NETWORKS
from jaxcam.web._networks import LayerChoice as LayerChoice
from jaxcam.web._networks import Network as Network
from jaxcam.web._networks import Networks as Networks

# What a visitor asks for, and what it computes.
from jaxcam.web._pictures import SAMPLES as SAMPLES
from jaxcam.web._pictures import sample_of as sample_of
from jaxcam.web._requests import Request as Request
from jaxcam.web._requests import request_of as request_of
from jaxcam.web._maps import Answer as Answer
from jaxcam.web._maps import FeatureMaps as FeatureMaps
from jaxcam.web._maps import diagnosis as diagnosis
from jaxcam.web._maps import explain_request as explain_request
from jaxcam.web._maps import strongest_feature_maps as strongest_feature_maps
from jaxcam.web._code import command_lines as command_lines
from jaxcam.web._code import python_code as python_code
