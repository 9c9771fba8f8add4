from __future__ import annotations

from pathlib import Path

from mobilenets.report.doctor import (
    Bar,
    DoctorView,
    FindingView,
    ImageGroup,
    PageImage,
    render_doctor_page,
    write_doctor_page,
)

from .test_page_in_browser import in_browser, needs_browser

DOT = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
)
HOSTILE = "<script>document.title='owned'</script>&\"'.jpg"


def view(**changes: object) -> DoctorView:
    groups = (
        ImageGroup((PageImage(HOSTILE, DOT), PageImage("train/b.jpg", "")), "cat <b>(train)</b>", 2),
        ImageGroup((PageImage("c.jpg", DOT),), "", 0),
    )
    names = (ImageGroup((PageImage("notes.txt", ""),), "", 0),)
    values: dict[str, object] = {
        "title": "Checkup of photos",
        "lead": "9 images",
        "verdict": "1 error.",
        "sound": False,
        "findings": (
            FindingView("error", "pictures there twice: 2", "keep one", groups, 1234),
            FindingView("note", "other files: 1", "convert them", names, 0),
        ),
        "splits": ("train", "test"),
        "classes": (Bar(HOSTILE, ((1200, 100.0), (8, 0.7))),),
        "kinds": (("Width", "32 to 64 pixels"),),
        "sides": (Bar("32 to 63", ((1208, 100.0),)),),
        "excluded": 3,
    }
    return DoctorView(**{**values, **changes})  # type: ignore[arg-type]


def test_names_from_disks_are_escaped_and_all_is_on_the_page() -> None:
    page = render_doctor_page(view())
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "<b>" not in page
    assert "1,234 more in doctor.json." in page
    assert page.count(DOT) == 2
    assert "3 images would better be left out" in page
    assert '<ul class="names">' in page
    assert "1,200" in page


def test_a_sound_folder_says_so() -> None:
    page = render_doctor_page(view(findings=(), sound=True, excluded=0, verdict="Nothing found."))
    assert "None: no unreadable image" in page
    assert "doctor --fix" not in page


@needs_browser
def test_the_browser_shows_it_without_a_word_on_the_console(tmp_path: Path) -> None:
    write_doctor_page(view(), tmp_path / "doctor.html")
    document, console = in_browser(tmp_path / "doctor.html", tmp_path / "profile")
    assert console == ""
    assert "<title>Checkup of photos</title>" in document
