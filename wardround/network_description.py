"""What `wardround plan validate` says of a plan's network: that it can be built and trained privately, how large it
is, and what was changed to make it so. Importing this takes seconds: torch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from rich.console import Console

from ledger.canonical import JsonValue
from policies.plan import Plan
from tasks.train import networks
from tasks.train.networks import Change


@dataclass(frozen=True, slots=True)
class NetworkDescription:
    words: str
    bundle: str | None
    parameters: int
    trained: int
    replaced: tuple[Change, ...]
    frozen: tuple[Change, ...]
    out_of_place: bool
    """Whether operations in place of its forward pass (`x += y`), which have no path, are replaced."""

    def to_json(self) -> JsonValue:
        return {
            "parameters": self.parameters,
            "trained": self.trained,
            "bundle": self.bundle,
            "forward_in_place_replaced": self.out_of_place,
            "replaced": {one.path: one.what for one in self.replaced},
            "frozen": {one.path: one.what for one in self.frozen},
        }

    def show(self) -> None:
        console = Console(highlight=False)
        console.print(
            f"network {self.words}: {self.parameters:,} parameters, {self.trained:,} trained", soft_wrap=True
        )
        for heading, changes in (("replaced", self.replaced), ("frozen", self.frozen)):
            # What was done repeats by the hundred; where, --json says.
            for what, count in Counter(one.what for one in changes).items():
                console.print(f"  {heading} {count} × {what}", soft_wrap=True)
        if self.out_of_place:
            console.print("  replaced operations in place of its forward pass (x += y) by ordinary ones")
        if self.bundle is not None:
            console.print(f"bundle {self.bundle}", soft_wrap=True)


def describe(plan: Plan) -> NetworkDescription:
    """Build the plan's network. Raises what `tasks.train.networks` does where it cannot be had, or not privately."""
    module = networks.build(plan.network, plan.data)
    readiness = networks.examine(plan.network, plan.data)
    parameters = list(module.parameters())
    return NetworkDescription(
        words=plan.network.described(),
        bundle=plan.network.bundle,
        parameters=sum(one.numel() for one in parameters),
        trained=sum(one.numel() for one in parameters if one.requires_grad),
        replaced=(*readiness.replaced, *readiness.in_place),
        frozen=readiness.frozen,
        out_of_place=readiness.out_of_place,
    )
