from __future__ import annotations

import logging
import warnings

import pytest
from hant.transformer.cli.streams import hushed


def test_warnings_and_logs_are_hidden_for_as_long_as_a_command_runs(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("library")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with hushed(0):
            warnings.warn("inside", stacklevel=1)
            logger.warning("inside")
        warnings.warn("after", stacklevel=1)
        logger.warning("after")
    assert [str(item.message) for item in seen] == ["after"]
    assert caplog.messages == ["after"]


def test_a_user_who_asks_for_more_sees_them(caplog: pytest.LogCaptureFixture) -> None:
    with hushed(1):
        logging.getLogger("library").warning("inside")
    assert caplog.messages == ["inside"]
