"""Samples of a model's parameter space, simulated and written to files."""

from .sampler import BaseSampler as BaseSampler
from .sobol import SobolSampler as SobolSampler
