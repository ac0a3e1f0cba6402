"""Helpers around models: runs in parallel processes, and documentation."""

from .autodocs import generate_docs as generate_docs
from .batchprocessing import parallel_processor as parallel_processor
