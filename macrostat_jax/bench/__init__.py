"""Backends side by side: the same model, the same derivative, timed in turns on all of them.

    from macrostat_jax import bench
    results = bench.run(["GL06SIM"], backends=["jax-cpu", "numpy"], scenarios=["simulate", "gradient"])
    print(results)
    results.save("today.json")
    print(bench.compare("yesterday.json", "today.json"))

The command is `macrostat bench`. A backend is a process of its own, kept for the length of a run; the
repeats of a figure go round the backends, so that what disturbs the machine disturbs all of them. What
a backend cannot do is a row that says why.
"""

from ._backends import BACKENDS as BACKENDS
from ._cases import SCENARIOS as SCENARIOS
from ._compare import Comparison as Comparison
from ._compare import Judgement as Judgement
from ._compare import compare as compare
from ._figures import Spread as Spread
from ._results import Results as Results
from ._results import Row as Row
from ._results import load as load
from ._run import run as run
