"""What a network remembers of its images: exact in its run folder, compact in exported files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mobilenets.errors import RunError
from mobilenets.image_record import EXPORTED_BITS, IMAGE_RECORD, MOST_EXPORTED, ImageRecord, digest_array, digest_of


@pytest.fixture
def record() -> ImageRecord:
    digests = [np.sort(digest_array(digest_of(f"{part}{n}".encode()) for n in range(40))) for part in "tvi"]
    return ImageRecord(*digests, excluded={"cat/é =1.jpg": digest_of(b"out"), "cat/2.jpg": 7})


def seen(record: ImageRecord, text: str) -> tuple[bool, bool]:
    """Whether an image of this content was trained and validated on."""
    digests = digest_array([digest_of(text.encode())])
    return bool(record.was_trained_on(digests)[0]), bool(record.was_validated_on(digests)[0])


def check(record: ImageRecord) -> None:
    assert [seen(record, text) for text in ("t0", "i39", "v5", "new")] == [
        (True, False),
        (True, False),
        (False, True),
        (False, False),
    ]
    assert record.leaves_out("cat/é =1.jpg", digest_of(b"out"))
    assert not record.leaves_out("cat/é =1.jpg", digest_of(b"another image of that name"))
    assert not record.leaves_out("dog.jpg", digest_of(b"out"))


def test_a_run_folder_keeps_it_exactly(record: ImageRecord, tmp_path: Path) -> None:
    check(record)
    record.save(tmp_path)
    found = ImageRecord.load(tmp_path)
    assert found is not None
    check(found)
    assert np.array_equal(found.trained, record.trained)
    assert found.excluded == record.excluded
    ImageRecord(record.trained).save(tmp_path)
    assert ImageRecord.load(tmp_path / "nowhere") is None
    again = ImageRecord.load(tmp_path)
    assert again is not None
    assert again.excluded == {}


def test_an_exported_file_keeps_five_bytes_an_image(record: ImageRecord) -> None:
    text = json.dumps(record.to_dict())
    found = ImageRecord.from_dict(json.loads(text))
    assert found is not None
    check(found)
    assert found.bits == EXPORTED_BITS
    assert len(record.to_dict()["trained"]) == pytest.approx(80 * 5 * 4 / 3, abs=4)
    again = ImageRecord.from_dict(found.to_dict())
    assert again is not None
    check(again)


def test_of_too_many_images_a_file_keeps_the_number_alone() -> None:
    record = ImageRecord(np.arange(MOST_EXPORTED + 1, dtype=np.uint64))
    assert record.to_dict() == {"images": MOST_EXPORTED + 1}
    assert ImageRecord.from_dict(record.to_dict()) is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive at all"])
def test_a_damaged_record_is_refused_and_not_taken_for_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / IMAGE_RECORD).write_bytes(content)
    with pytest.raises(RunError, match=r"trained_images\.npz, which says what the network was trained on"):
        ImageRecord.load(tmp_path)


def test_a_record_of_other_arrays_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / IMAGE_RECORD, trained=np.arange(3.0))
    with pytest.raises(RunError, match="can't be read"):
        ImageRecord.load(tmp_path)


@pytest.mark.parametrize("change", [{"bits": 8}, {"trained": "!"}, {"trained": "AAAA"}, {"excluded": {"a": "zz"}}])
def test_a_damaged_part_of_a_description(record: ImageRecord, change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"bits|base64|reshape|invalid literal"):
        ImageRecord.from_dict({**record.to_dict(), **change})


def test_mutants_are_refused_in_words(record: ImageRecord, tmp_path: Path) -> None:
    record.save(tmp_path)
    whole = (tmp_path / IMAGE_RECORD).read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        mutant = bytearray(whole)
        for _ in range(int(random.integers(1, 6))):
            mutant[random.integers(len(mutant))] = random.integers(256)
        (tmp_path / IMAGE_RECORD).write_bytes(mutant[: random.integers(len(mutant) // 2, len(mutant) + 1)])
        try:
            ImageRecord.load(tmp_path)
        except RunError:
            refused += 1
    assert refused > 150
