"""AdamW with ERNIE's exclusions from weight decay, clipping by global norm, and moments as named tensors for checkpoints (ernie.md 6.2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

_HEAD = -1
_STATE_KEYS = ("step", "exp_avg", "exp_avg_sq")


def adamw(model: nn.Module, *, weight_decay: float, beta2: float, layer_decay: float = 1.0) -> torch.optim.AdamW:
    """Return AdamW over all parameters of `model`; its learning rate is set at each step.

    Args:
        model: biases and LayerNorms, its one-dimensional parameters, are not decayed; embeddings are.
        weight_decay: decoupled: p <- adam(p) - p_old * weight_decay * learning rate.
        beta2: decay of the second moment; beta1 is 0.9 and epsilon 1e-8, as in the reference.
        layer_decay: the rate of a layer is this times that of the layer above; the head has the whole rate, embeddings the least.
    """
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    named = list(model.named_parameters())
    depths = {name: _depth(name) for name, _ in named}
    top = max(depths.values()) + 1
    for name, parameter in named:
        below = top - (top if depths[name] == _HEAD else depths[name]) if layer_decay != 1.0 else 0
        groups.setdefault((below, parameter.ndim > 1), []).append(parameter)
    described = [
        {"params": parameters, "weight_decay": weight_decay if decayed else 0.0, "rate": layer_decay**below}
        for (below, decayed), parameters in sorted(groups.items(), key=lambda entry: (entry[0][0], not entry[0][1]))
    ]
    return torch.optim.AdamW(described, lr=0.0, betas=(0.9, beta2), eps=1e-8, fused=True)


def _depth(name: str) -> int:
    """Return 0 for embeddings, 1 and up for layers, -1 for what stands on the encoder.

    Example: ``_depth("encoder.layers.0.qkv.weight")`` -> 1.
    """
    parts = name.split(".")
    if parts[:2] == ["encoder", "layers"]:
        return 1 + int(parts[2])
    return 0 if parts[:2] == ["encoder", "embeddings"] else _HEAD


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Use `rate`, times each group's share of it, from now on."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate"]


def reset(optimizer: torch.optim.Optimizer) -> None:
    """Forget all moments: a stage starts anew."""
    optimizer.state.clear()


def scale_gradients(parameters: Iterable[nn.Parameter], factor: float) -> None:
    """Multiply all gradients by `factor`; nothing is touched for a factor of 1."""
    present = [p.grad for p in parameters if p.grad is not None]
    if factor != 1.0 and present:
        torch._foreach_mul_(present, factor)


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> float:
    """Scale gradients so that their global L2 norm is at most `max_norm`.

    Returns:
        The norm before clipping. Where it is not finite, nothing is scaled.
    """
    present = [p for p in parameters if p.grad is not None]
    norm = get_total_norm([p.grad for p in present if p.grad is not None])
    value = float(norm)  # waits for the device, once a step: whether to step at all depends on it
    if torch.isfinite(norm):
        clip_grads_with_norm_(present, max_norm, norm)
    return value


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's state by name; parameters that have had no gradient yet have none.

    Example: ``{"exp_avg/output.bias": …, "exp_avg_sq/output.bias": …, "step/output.bias": tensor(3.)}``.
    """
    states = ((name, optimizer.state.get(parameter, {})) for name, parameter in model.named_parameters())
    return {f"{key}/{name}": state[key] for name, state in states for key in _STATE_KEYS if key in state}


def load_optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put what `optimizer_tensors` gave back, in place of all present state; names and shapes were checked by the caller."""
    optimizer.state.clear()
    for name, parameter in model.named_parameters():
        found = {key: tensors[f"{key}/{name}"].to(parameter.device) for key in _STATE_KEYS if f"{key}/{name}" in tensors}
        if found:
            optimizer.state[parameter] = found
