"""RMSprop as TensorFlow computes it, which is what the papers' rates and epsilons are for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class TensorFlowRMSprop(Optimizer):
    """RMSprop with momentum in the form of TensorFlow's `RMSPropOptimizer`.

        square = decay * square + (1 - decay) * gradient²        from 1
        moved  = momentum * moved + rate * gradient / sqrt(square + epsilon)
        weight = weight - moved

    torch's own differs in three ways. It adds epsilon after the root, so with V1's epsilon of 1 a gradient of 1 moves a
    weight by half of the rate instead of 0.7. Its squares begin at 0, so the first steps are up to three times as long.
    And it multiplies by the rate after the momentum, so a rate that falls shortens what was gathered before. Weight
    decay is a part of the gradient here too, as TensorFlow's regularisation losses are.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        momentum: decay of the movement.
        alpha: decay of the average of squared gradients.
        eps: what is added to it.
        weight_decay: share of the weight that is added to the gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        momentum: float = 0.9,
        alpha: float = 0.9,
        eps: float = 1e-3,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights: list[Tensor] = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                self._move(weights, group)
        return loss

    def _move(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["square"] = torch.ones_like(weight)
                self.state[weight]["moved"] = torch.zeros_like(weight)
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        squares = [self.state[weight]["square"] for weight in weights]
        moved = [self.state[weight]["moved"] for weight in weights]
        if group["weight_decay"]:
            gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
        torch._foreach_mul_(squares, group["alpha"])
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - group["alpha"])
        roots = torch._foreach_add(squares, group["eps"])
        torch._foreach_sqrt_(roots)
        torch._foreach_mul_(moved, group["momentum"])
        torch._foreach_addcdiv_(moved, gradients, roots, value=group["lr"])
        torch._foreach_sub_(weights, moved)
