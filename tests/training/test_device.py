from __future__ import annotations

import pytest

from mobilenets.errors import DeviceError
from mobilenets.training.plan import choose_device, processor_name


def test_the_cpu_is_always_there() -> None:
    assert choose_device("cpu").type == "cpu"
    assert choose_device().type in ("cpu", "cuda", "mps")


@pytest.mark.parametrize("name", ["tpu", "cpu:x", "cuda:99", ""])
def test_a_wrong_name_lists_what_is_there(name: str) -> None:
    with pytest.raises(DeviceError, match=r"; there is cpu"):
        choose_device(name)


def test_the_processor_has_a_name() -> None:
    assert processor_name().strip()
