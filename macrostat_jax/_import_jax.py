"""Imports jax with the garbage collector at rest.

jax creates some hundred thousand objects that live as long as the process. While they come into being
the collector walks all objects again and again, those of torch too where it is loaded: half of the
time of the import.
"""

import gc

_collecting = gc.isenabled()
gc.disable()
try:
    import jax as jax
finally:
    if gc.get_freeze_count() == 0:  # nobody uses the permanent generation
        # Through it and back moves all objects to the oldest generation without a walk: else the
        # first collections to come would walk them as if they were young.
        gc.freeze()
        gc.unfreeze()
    if _collecting:
        gc.enable()
