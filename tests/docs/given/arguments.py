"""Run a script until it has read its arguments."""

from __future__ import annotations

import argparse
import runpy
import sys
from typing import Any

_parse = argparse.ArgumentParser.parse_args


def parse_and_stop(self: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
    _parse(self, *args, **kwargs)
    sys.exit(0)


argparse.ArgumentParser.parse_args = parse_and_stop  # type: ignore[assignment, method-assign]
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
raise SystemExit(f"{sys.argv[0]} reads no arguments")
