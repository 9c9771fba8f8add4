from __future__ import annotations

from pathlib import Path

import pytest
from seeded_folder import seed_faults, write_sound

from mobilenets.checkup.results import Checkup
from mobilenets.workflows.doctor import doctor


@pytest.fixture(scope="session")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one or two of each fault."""
    folder = tmp_path_factory.mktemp("seeded") / "photos"
    write_sound(folder)
    seed_faults(folder)
    return folder


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without a fault."""
    folder = tmp_path_factory.mktemp("sound") / "photos"
    write_sound(folder)
    return folder


@pytest.fixture(scope="session")
def checkup(seeded: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkup:
    return doctor(seeded)
