"""A JAX function over pytrees of arrays as a torch function over pytrees of tensors."""

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import jax
import torch

from bridge._autograd import ResultStructure, call
from bridge._compiled import Compiled
from bridge._convert import check_array, check_tensor, is_array

# Structures (trees and static values) kept compiled per wrapped function, the least recently used
# going first.
_STRUCTURES = 256


def torch_function(
    jax_function: Callable[..., Any], *, name: str | None = None
) -> Callable[..., Any]:
    """Return a torch function that computes `jax_function`.

    `jax_function` takes and returns pytrees (dicts, lists, tuples, named tuples, `None`, classes
    registered with JAX) of arrays. The torch function takes the same with tensors in place of
    arrays, all on one device, and returns the same with tensors, on that device, of the shapes and
    dtypes that JAX gives. Leaves that are no tensors (numbers, strings, other hashable values) are
    static: `jax_function` gets them as they are, and each new value compiles anew. Keyword
    arguments are passed on.

    `.backward()`, `torch.autograd.grad`, `torch.vmap`, forward-mode AD and the transforms of
    `torch.func` work, to any order. (What records a graph does not: `torch.func.linearize` and
    `make_fx` are refused; inside `torch.compile`, use `torch.compiler.disable` on the function.)
    Inputs that the result does not depend on have zero gradients; integers have none, in or out.
    Gradients of complex numbers follow torch's convention.

    `jax_function` must be pure, since it runs only to be traced: once per structure, static values,
    shapes and dtypes, whatever the transforms. It runs with 64-bit types enabled. Compiled code is
    kept by the returned function, for the 256 structures last used, and goes with it. JAX's context
    managers hold in the thread that enters them; where torch runs `backward` in another thread (as
    it does on GPUs), set options with `jax.config.update`.

    Raises `TypeError` for tensors that JAX cannot share (sparse, meta, unsupported dtypes), for
    leaves that are neither tensors nor hashable, and for results that are no arrays; `ValueError`
    for tensors on different devices; `RuntimeError` for tensors on a GPU where JAX has none. Each
    says which argument or result it is about. Errors raised by `jax_function` pass unchanged.
    """
    label = name or getattr(jax_function, "__name__", type(jax_function).__name__)
    structures: OrderedDict[Hashable, Compiled] = OrderedDict()
    lock = threading.Lock()

    def compiled_for(leaves: list[Any], tree: Any) -> Compiled:
        key = (tree, *map(_static_key, leaves))
        with lock:
            try:
                compiled = structures.get(key)
            except TypeError:
                _check_hashable(label, leaves, tree)
                raise
            if compiled is None:
                compiled = structures[key] = Compiled(
                    _flat(jax_function, label, leaves, tree), label
                )
                if len(structures) > _STRUCTURES:
                    structures.popitem(last=False)
            else:
                structures.move_to_end(key)
            return compiled

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        leaves, tree = jax.tree_util.tree_flatten((args, kwargs))
        compiled = compiled_for(leaves, tree)
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        _check_tensors(label, tensors, leaves, tree)
        structure = ResultStructure()
        outputs = call(compiled, structure, *tensors)
        return jax.tree_util.tree_unflatten(structure.tree, outputs)

    functools.update_wrapper(wrapped, jax_function)
    wrapped.__name__ = wrapped.__qualname__ = label
    return wrapped


def _static_key(leaf: Any) -> Hashable:
    """Return what tells `leaf` from others: for a tensor nothing, else its type and value."""
    if isinstance(leaf, torch.Tensor):
        return None
    if isinstance(leaf, (float, complex)):
        # 0.0 == -0.0 and nan != nan, but one is another value and the other is not.
        return type(leaf), repr(leaf)
    # 1 == 1.0 == True, which are different static values.
    return type(leaf), leaf


def _flat(
    jax_function: Callable[..., Any], label: str, leaves: list[Any], tree: Any
) -> Callable[..., Any]:
    """Return `jax_function` as a function of the arrays that replace the tensors in `leaves`."""
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
    template = [None if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]

    def flat(*arrays: jax.Array) -> Any:
        filled = list(template)
        for place, array in zip(places, arrays, strict=True):
            filled[place] = array
        args, kwargs = jax.tree_util.tree_unflatten(tree, filled)
        result = jax_function(*args, **kwargs)
        for path, leaf in jax.tree_util.tree_flatten_with_path(result)[0]:
            where = f"{label}: the result{jax.tree_util.keystr(path)}"
            if not is_array(leaf):
                raise TypeError(
                    f"{where} is no array but {type(leaf).__name__} ({leaf!r}). "
                    "Return arrays; for a number, jnp.asarray(number, dtype)."
                )
            check_array(leaf, where)
        return result

    return flat


def _argument(label: str, tree: Any, index: int) -> str:
    """Name leaf `index` of the arguments, for an error message."""
    numbered = jax.tree_util.tree_unflatten(tree, range(tree.num_leaves))
    path = next(path for path, i in jax.tree_util.tree_flatten_with_path(numbered)[0] if i == index)
    kind = "args" if path[0].idx == 0 else "kwargs"
    return f"{label}: {kind}{jax.tree_util.keystr(path[1:])}"


def _check_hashable(label: str, leaves: list[Any], tree: Any) -> None:
    for i, leaf in enumerate(leaves):
        try:
            hash(leaf)
        except TypeError:
            raise TypeError(
                f"{_argument(label, tree, i)} is a {type(leaf).__name__}, which is neither a "
                "tensor nor hashable. Pass arrays as torch tensors."
            ) from None


def _check_tensors(label: str, tensors: list[torch.Tensor], leaves: list[Any], tree: Any) -> None:
    for tensor in tensors:
        try:
            check_tensor(tensor, "tensor")
        except (TypeError, RuntimeError):
            index = next(i for i, leaf in enumerate(leaves) if leaf is tensor)
            check_tensor(tensor, _argument(label, tree, index))
            raise
    if len({tensor.device for tensor in tensors}) > 1:
        found = [
            f"{_argument(label, tree, i)} on {leaf.device}"
            for i, leaf in enumerate(leaves)
            if isinstance(leaf, torch.Tensor)
        ]
        raise ValueError(f"{label}: all tensors must be on one device, got {'; '.join(found)}.")
