"""Inputs that are changed on purpose: noise, masks and imputation."""

from jaxcam.perturbations._adaptive import Smoothed as Smoothed
from jaxcam.perturbations._adaptive import map_over_noise as map_over_noise
from jaxcam.perturbations._impute import impute as impute
from jaxcam.perturbations._mask import as_mask as as_mask
from jaxcam.perturbations._mask import blurred as blurred
from jaxcam.perturbations._mask import masked as masked
from jaxcam.perturbations._mask import pixel_ranks as pixel_ranks
