"""How every report is laid out: the environment of the pages' templates, and the terminal's tables."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from mobilenets.formatting import plural

if TYPE_CHECKING:
    from jinja2 import Environment


def page_templates() -> Environment:
    """The templates in `templates/`: what they insert is escaped, and a name they don't get is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("mobilenets.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plural"] = plural
    return environment


def script_digest(environment: Environment) -> str:
    """The digest by which a page's security policy knows its one script, which sorts tables."""
    script = environment.get_template("sort.js").render()
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def plain_table(title: str | None = None, caption: str | None = None) -> Table:
    """A table with a line below its head and none between its columns."""
    return Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title=title,
        title_justify="left",
        title_style="bold",
        caption=caption,
        caption_justify="left",
    )
