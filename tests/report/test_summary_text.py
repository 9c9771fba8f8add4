from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

from mobilenets.auditing.count import count
from mobilenets.models.registry import create_model, list_models
from mobilenets.report.summary import summary_text


def numbers(line: str) -> list[float]:
    return [float(number.replace(",", "")) for number in re.findall(r"(?<=  )[\d,]+(?:\.\d)?(?=  |$)", line)]


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_the_printed_columns_add_up_to_the_printed_totals(name: str) -> None:
    with torch.device("meta"):
        counted = count(create_model(name, num_classes=10))
    lines = summary_text(counted, "title").splitlines()
    rules = [index for index, line in enumerate(lines) if line and set(line) == {"-"}]
    body, total = lines[rules[0] + 1 : rules[1]], lines[rules[1] + 1]
    cells = [row[-3:] for row in map(numbers, body) if row]  # a shape of one number comes before the three
    assert len(cells) == len(counted.layers)
    parameters, macs, kib = numbers(total)
    assert (parameters, macs) == (counted.parameters, counted.macs)
    assert sum(row[0] for row in cells) == parameters
    assert sum(row[1] for row in cells) == macs
    assert sum(row[2] for row in cells) == pytest.approx(kib, abs=0.05 * len(cells))


def test_lines_are_aligned_and_clean() -> None:
    with torch.device("meta"):
        counted = count(create_model("mobilenet_v3_large"))
    lines = summary_text(counted, "title").splitlines()
    assert lines[0] == "title"
    assert all(line == line.rstrip() for line in lines)
    rules = [index for index, line in enumerate(lines) if line and set(line) == {"-"}]
    width = len(lines[rules[0]])
    rows = [line for line in lines[rules[0] + 1 : rules[1]] if numbers(line)]
    assert {len(line) for line in rows} == {width}
    assert max(map(len, lines)) <= 120


def test_what_is_cheaper_is_said() -> None:
    with torch.device("meta"):
        text = summary_text(count(create_model("mobilenet_v1")), "title")
    assert "with standard convolutions: 29,294,088 parameters, 4,867.29 M multiply-adds" in text
    assert "as it is: 8.6 times fewer multiply-adds, 6.9 times fewer parameters" in text


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3)
        self.idle = nn.Linear(2, 2)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x)) * self.scale


def test_any_network_can_be_shown() -> None:
    text = summary_text(count(Twice(), (3, 9, 9)), "title")
    assert re.search(r"^layer +3 x 5 x 5 \(2 runs\) +84 ", text, re.MULTILINE)
    assert re.search(r"^idle +not run +6 +0 ", text, re.MULTILINE)
    assert re.search(r"^\(the network\) +3 x 5 x 5 +1 +0 ", text, re.MULTILINE)
    assert "separable" not in text
    assert "standard" not in text


def test_a_network_without_products_is_shown() -> None:
    assert "multiply-adds      0.00 M" in summary_text(count(nn.ReLU(), (3, 4, 4)), "title")
