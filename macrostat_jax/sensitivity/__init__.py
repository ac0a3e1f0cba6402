"""What moves an output: elasticities at a point, Sobol indices and Morris screening over a region.

    near = sensitivity.around(models.GL06PC, 0.2)  # 20 % to either side of the parameters
    print(sensitivity.sobol(models.GL06PC, 1024, near, of="national_income"))
    print(sensitivity.morris(models.GL06PC, 50, near, of="national_income"))
    print(sensitivity.elasticities(models.GL06PC, "national_income"))

`sobol` and `morris` also take a function of a batch of points in place of a model. Where the runs take a
cluster, the design, the sweep and the indices are three steps: `saltelli`, `sample.sweep`, `sobol_from`;
`trajectories`, `sample.sweep`, `morris_from`.
"""

from ._designs import around as around
from ._designs import free_parameters as free_parameters
from ._designs import saltelli as saltelli
from ._designs import trajectories as trajectories
from ._local import Elasticities as Elasticities
from ._local import elasticities as elasticities
from ._morris import Screening as Screening
from ._morris import morris as morris
from ._morris import morris_from as morris_from
from ._sobol import SobolIndices as SobolIndices
from ._sobol import sobol as sobol
from ._sobol import sobol_from as sobol_from
