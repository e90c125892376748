"""``report.html``: the whole report as one page that needs nothing else, no network and no script."""

from __future__ import annotations

from functools import cache

import tomli_w
from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from ...transformer.tools.files import shipped
from . import words
from .charts import charts
from .schema import Report

_FILTERS = ("count", "duration", "kept", "kind", "ms", "share", "speedup", "whole")


def page(report: Report) -> str:
    """Return the report as HTML. Whatever comes from the run is escaped; only our own drawings are not."""
    drawings = {name: Markup(svg) for name, svg in charts(report).items()}
    return _template().render(r=report, charts=drawings, style=Markup(shipped(__name__, "report.css")))


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {name: getattr(words, name) for name in _FILTERS} | {"toml": tomli_w.dumps}
    return environment.from_string(shipped(__name__, "report.html.j2"))
