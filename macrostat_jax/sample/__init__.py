"""Designs over the parameters of a model, and sweeps: many runs, chunk by chunk.

design = sample.sobol(models.GL06PC, 4096, {"tax_rate": (0.1, 0.3)})
found = sample.sweep(models.GL06PC, design, keep=lambda path: path.national_income[-1])
print(found.values.shape, found.to_pandas().corr())
"""

from ._chunks import chunk_size as chunk_size
from ._chunks import in_chunks as in_chunks
from ._cluster import cluster as cluster
from ._cross import Cross as Cross
from ._cross import cross as cross
from ._designs import KINDS as KINDS
from ._designs import Design as Design
from ._designs import from_priors as from_priors
from ._designs import grid as grid
from ._designs import halton as halton
from ._designs import latin_hypercube as latin_hypercube
from ._designs import random as random
from ._designs import scaled as scaled
from ._designs import sobol as sobol
from ._designs import unit_points as unit_points
from ._engine import Status as Status
from ._kept import Outcomes as Outcomes
from ._results import StoredSweep as StoredSweep
from ._results import Sweep as Sweep
from ._results import open as open
from ._sweep import sweep as sweep
