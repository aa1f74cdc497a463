"""A report as one HTML file that needs nothing else: no network, no second file, no library in the browser.

Charts are drawings in the page. The only script sorts tables and says what is under the pointer; a policy in the page
lets the browser run that script alone and load nothing at all.
"""

import base64
import hashlib
from importlib.resources import files

from edgekit.report.document import Document
from edgekit.report.drawing import svg

TEMPLATE, STYLE, SCRIPT = "page.html", "page.css", "page.js"


def html(document: Document) -> str:
    """The whole page."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined, select_autoescape
    from markupsafe import Markup

    numbers = iter(range(1 << 20))
    environment = Environment(
        loader=FunctionLoader(_resource),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg"] = lambda spec: Markup(svg(spec, f"c{next(numbers)}"))  # noqa: S704 - the library escapes
    environment.filters["data"] = lambda content: f"data:image/png;base64,{base64.b64encode(content).decode()}"
    style, script = _resource(STYLE), _resource(SCRIPT)
    return environment.get_template(TEMPLATE).render(
        document=document,
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _resource(name: str) -> str:
    return files("edgekit.report").joinpath(name).read_text(encoding="utf-8")
