"""Fitting a model's parameters to data, by torch losses."""

from .lm import LevenbergMarquardt as LevenbergMarquardt
from .losses import composite_loss as composite_loss
from .losses import mse_loss as mse_loss
from .losses import weighted_residuals as weighted_residuals
from .result import EstimationResult as EstimationResult
