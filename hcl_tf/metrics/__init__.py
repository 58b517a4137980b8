"""Scores generated text; each score has a signature that tells how it was computed. It is usable by itself, without TensorFlow:

    from hcl_tf import metrics

    metrics.bleu.score(["how can i lose weight"], ["how do i lose weight"])["BLEU-2"]  # as the paper computes it

A module of this folder is imported when it is first named.
"""

import pkgutil
from importlib import import_module
from types import ModuleType

_MODULES = frozenset(module.name for module in pkgutil.iter_modules(__path__))


def __getattr__(name: str) -> ModuleType:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; there are {', '.join(sorted(_MODULES))}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
