"""Helpers around models: runs in parallel processes."""

from .batchprocessing import parallel_processor as parallel_processor
