from __future__ import annotations

import pytest
import torch.nn.functional as F
from torch import Tensor, nn

from mobilenets.auditing.graph.capture import capture
from mobilenets.auditing.graph.nodes import Graph, PoolOperation
from mobilenets.errors import AuditError

SHAPE = (1, 3, 32, 32)


class Pooled(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.conv = nn.Conv2d(3, 4, 3, 2, 1)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        print("noise of the user's own")
        x = self.conv(x)
        if self.how == "branching" and x.sum() > 1e9:
            x = -x
        window = 16 if self.how == "fixed" else (x.shape[2], x.shape[3])
        return self.head(F.avg_pool2d(x, window))


def pool(graph: Graph) -> PoolOperation:
    return next(node.operator for node in graph.nodes if isinstance(node.operator, PoolOperation))


@pytest.mark.parametrize(("how", "adaptive"), [("fixed", False), ("following", True), ("branching", True)])
def test_a_window_that_follows_the_map_is_told_from_a_fixed_one(how: str, adaptive: bool) -> None:
    found = pool(capture(Pooled(how), SHAPE))
    assert (found.window, found.adaptive) == ((16, 16), adaptive)


def test_stdout_stays_clean(capsys: pytest.CaptureFixture[str]) -> None:
    capture(Pooled("fixed"), SHAPE)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "noise" in printed.err


def test_hooks_stand_in_and_say_so() -> None:
    graph = capture(Pooled("branching"), SHAPE)
    assert graph.front_end == "hooks"
    assert graph.notes[0].startswith("torch.export failed: ")
    assert capture(Pooled("fixed"), SHAPE).front_end == "torch.export"


def test_a_network_that_takes_no_such_input_is_one_line(tiny: nn.Module) -> None:
    with pytest.raises(AuditError, match=r"Sequential fails on an input of 1 x 5 x 32 x 32: .*`image_size`") as caught:
        capture(tiny, (1, 5, 32, 32))
    assert "\n" not in str(caught.value)
