"""MobileNetV1 at half width written out: a bias beside each batch norm, dropout that never stops, a late stride."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PLAN = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 2))


class V1(nn.Module):
    """Weights in lists; everything else in `forward`. The paper's last depthwise filter has stride 1, here it is 2."""

    def __init__(self, num_classes: int = 1000, alpha: float = 0.5) -> None:
        super().__init__()
        self.w, self.b, self.norms = nn.ParameterList(), nn.ParameterList(), nn.ModuleList()
        cin = int(32 * alpha)
        self._add(cin, 3, 3)
        for c, _ in PLAN:
            cout = int(c * alpha)
            self._add(cin, 1, 3)
            self._add(cout, cin, 1)
            cin = cout
        self.head = nn.Parameter(torch.randn(num_classes, cin) * 0.01)
        self.head_bias = nn.Parameter(torch.zeros(num_classes))

    def _add(self, cout: int, cin: int, k: int) -> None:
        self.w.append(nn.Parameter(torch.randn(cout, cin, k, k) * 0.1))
        self.b.append(nn.Parameter(torch.zeros(cout)))
        self.norms.append(nn.BatchNorm2d(cout))

    def _conv(self, x: Tensor, i: int, stride: int = 1, groups: int = 1) -> Tensor:
        padding = self.w[i].shape[-1] // 2
        return F.relu(self.norms[i](F.conv2d(x, self.w[i], self.b[i], stride, padding, groups=groups)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = self._conv(x, 0, stride=2)
        for row, (_, stride) in enumerate(PLAN):
            x = self._conv(x, 2 * row + 1, stride, groups=x.shape[1])
            x = self._conv(x, 2 * row + 2)
        return F.linear(F.dropout(x.mean((2, 3)), 0.1), self.head, self.head_bias)
