"""How much memory tensors take while something runs, by arithmetic: the bytes of every storage that comes to life and
has not died yet. The same on every device, on torch's `meta` too, where nothing is allocated.

What kernels take for themselves is not seen, nor are storages that were there before.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts while it is entered: `live_bytes` now, and after each operation so far (`course_bytes`)."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live_bytes = 0
        self.course_bytes: list[int] = []
        self._known: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        for one in tree_leaves((args, kwargs)):
            if isinstance(one, Tensor):
                self._meet(one.untyped_storage(), born=False)
        found = func(*args, **kwargs)
        for one in tree_leaves(found):
            if isinstance(one, Tensor):
                self._meet(one.untyped_storage(), born=True)
        self.course_bytes.append(self.live_bytes)
        return found

    @property
    def peak_bytes(self) -> int:
        return max(self.course_bytes, default=0)

    def _meet(self, storage: torch.UntypedStorage, *, born: bool) -> None:
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes() if born else 0
        self._known.add(key)
        self.live_bytes += size
        weakref.finalize(storage, self._die, key, size).atexit = False

    def _die(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live_bytes -= size
