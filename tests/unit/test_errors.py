from __future__ import annotations

import pytest

from zsd.errors import GateError, LockError, StudentError, ZsdError, error_named


@pytest.mark.parametrize("error", [ZsdError("a"), StudentError("b"), GateError("c"), LockError("d")])
def test_an_error_that_travelled_as_data_is_the_same_error(error: ZsdError) -> None:
    again = error_named(type(error).__name__, str(error))
    assert (type(again), str(again), again.exit_code) == (type(error), str(error), error.exit_code)
