"""Batch norm over the patches of all processes."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medseg.across import processes, sum_over_processes


def share_batch_norm(network: nn.Module, device: torch.device) -> nn.Module:
    """Return a network whose batch norm layers see the patches of all processes, with the same weights and names.

    On GPUs they are torch's SyncBatchNorm, which the CPU does not have; there they are those below.
    """
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return converted
    return _replaced(network)


def _replaced(module: nn.Module) -> nn.Module:
    if isinstance(module, _BatchNorm):
        return SharedBatchNorm(module)
    for name, child in module.named_children():
        module.add_module(name, _replaced(child))
    return module


class SharedBatchNorm(_BatchNorm):
    """Batch norm (Ioffe and Szegedy 2015) of (B, C, ...) that each process holds an equal share of.

    Args:
        layer: takes its place, with its weights and running statistics.
    """

    def __init__(self, layer: _BatchNorm) -> None:
        super().__init__(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
        self._parameters, self._buffers = layer._parameters, layer._buffers

    def forward(self, values: Tensor) -> Tensor:
        """Normalise each channel by its mean and variance, in training those over all processes."""
        if not self.training:
            return super().forward(values)
        shape = [1, -1] + [1] * (values.ndim - 2)
        axes = [0, *range(2, values.ndim)]
        count = values.numel() // values.shape[1] * processes()
        wide = values.float()
        mean = sum_over_processes(wide.sum(axes)) / count
        centred = wide - mean.reshape(shape)
        variance = sum_over_processes(centred.square().sum(axes)) / count
        self._track(mean.detach(), variance.detach() * count / (count - 1))
        scale = (variance + self.eps).rsqrt() * (1.0 if self.weight is None else self.weight)
        shift = torch.zeros_like(mean) if self.bias is None else self.bias
        return (centred * scale.reshape(shape) + shift.reshape(shape)).to(values.dtype)

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards those of a batch, the variance unbiased."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        part = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, part)
        self.running_var.lerp_(variance, part)

    def _check_input_dim(self, values: Tensor) -> None:
        """Take any number of axes."""
