"""AdamW for tables of which a step reads few rows.

Kingma and Ba 2015, arXiv 1412.6980, algorithm 1; Loshchilov and Hutter 2019, arXiv 1711.05101,
algorithm 2. There every row moves in every step: without a gradient it goes on by its momentum,
and decays. Here a row makes up for the d steps since its last one when it is read again:

    w <- (1 - lr wd)^d w - lr m / (sqrt(v) + eps) (r + r^2 + ... + r^d),    r = b1 / sqrt(b2)
    m <- b1^d m,    v <- b2^d v

So a step costs what its rows cost, and the weights are those of AdamW but for the learning rate
and the correction of the bias, which hardly change while the sum has terms. Lazy moments, which
leave all this out, move rare items less.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_CHUNK_ROWS = 1 << 16
_MEAN_TERM = 10  # steps that count among those left out: 1 / (1 - r)


class RowAdamW(torch.optim.AdamW):
    """AdamW, by row for parameters whose gradient is sparse: `nn.Embedding(..., sparse=True)`."""

    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step; rows are as they were read only within `catching_up`."""
        sparse = [
            (group, table, table.grad)
            for group in self.param_groups
            for table in group["params"]
            if table.grad is not None and table.grad.is_sparse
        ]
        for _, table, _ in sparse:
            table.grad = None  # AdamW passes these over
        super().step(closure)
        for group, table, gradient in sparse:
            self._step_rows(group, table, gradient.coalesce())

    @torch.no_grad()
    def _step_rows(self, group: dict[str, Any], table: Tensor, gradient: Tensor) -> None:
        rows, g = gradient.indices()[0], gradient.values()  # (R,), (R, D)
        state, (beta1, beta2) = self._row_state(table), group["betas"]
        # What another process has read, this one has not.
        self.catch_up(table, rows[state["last"][rows] < state["step"]])
        state["step"] += 1
        m = state["exp_avg"].index_select(0, rows).lerp_(g, 1 - beta1)
        v = state["exp_avg_sq"].index_select(0, rows).mul_(beta2).addcmul_(g, g, value=1 - beta2)
        w = table.index_select(0, rows).mul_(1 - group["lr"] * group["weight_decay"])
        w -= _direction(m, v, state["step"], group).mul_(group["lr"])
        _write(table, state, rows, w, m, v)

    @torch.no_grad()
    def catch_up(self, table: Tensor, rows: Tensor | None = None) -> None:
        """Make up for the steps that rows (R,), None: all, have left out."""
        state = self.state.get(table, {})
        if "last" not in state:
            return
        if rows is None:
            for start in range(0, len(table), _CHUNK_ROWS):
                stop = min(start + _CHUNK_ROWS, len(table))
                self.catch_up(table, torch.arange(start, stop, device=table.device))
            return
        group = next(g for g in self.param_groups if any(p is table for p in g["params"]))
        beta1, beta2 = group["betas"]
        missed = (state["step"] - state["last"][rows]).unsqueeze(1)  # (R, 1)
        m, v = state["exp_avg"].index_select(0, rows), state["exp_avg_sq"].index_select(0, rows)
        ratio = beta1 / math.sqrt(beta2)
        drift = (ratio - ratio ** (missed + 1)) / (1 - ratio)  # r + r^2 + ... + r^d
        w = table.index_select(0, rows).mul_((1 - group["lr"] * group["weight_decay"]) ** missed)
        among = state["step"] - missed + missed.clamp(max=_MEAN_TERM) / 2  # (R, 1)
        w -= _direction(m, v, among, group).mul_(group["lr"] * drift)
        _write(table, state, rows, w, m.mul_(beta1**missed), v.mul_(beta2**missed))

    def _row_state(self, table: Tensor) -> dict[str, Any]:
        state: dict[str, Any] = self.state[table]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(table)
            state["exp_avg_sq"] = torch.zeros_like(table)
            # The step after which each row is as it stands; as a float, as torch restores it.
            state["last"] = torch.zeros(len(table), device=table.device)
        return state

    @contextmanager
    def catching_up(self, model: nn.Module) -> Iterator[None]:
        """For a block that trains `model`: sparse embeddings catch up before they are read."""

        def before_read(embedding: nn.Module, inputs: tuple[Tensor]) -> None:
            if embedding.training:
                self.catch_up(embedding.get_parameter("weight"), torch.unique(inputs[0]))

        hooks = [
            module.register_forward_pre_hook(before_read)
            for module in model.modules()
            if isinstance(module, nn.Embedding) and module.sparse
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def catch_up_all(self) -> None:
        """Make up for everything, before the weights are used or kept."""
        for group in self.param_groups:
            for table in group["params"]:
                self.catch_up(table)


def _direction(m: Tensor, v: Tensor, step: Tensor, group: dict[str, Any]) -> Tensor:
    """Moments without their bias, m / (sqrt(v) + eps): (R, D); step: a scalar or (R, 1)."""
    bias1, bias2 = ((1 - beta ** step.double()).to(m.dtype) for beta in group["betas"])
    spread = v.sqrt().div_(bias2.sqrt()).add_(group["eps"])
    return m.div(spread).div_(bias1)


def _write(
    table: Tensor, state: dict[str, Any], rows: Tensor, w: Tensor, m: Tensor, v: Tensor
) -> None:
    for into, values in ((table, w), (state["exp_avg"], m), (state["exp_avg_sq"], v)):
        into.index_copy_(0, rows, values)
    state["last"].index_fill_(0, rows, float(state["step"]))
