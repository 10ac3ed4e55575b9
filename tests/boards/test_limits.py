"""What a plan may have."""

import pytest

from boards.limits import limits
from tests.model.machine.test_planner import small


def test_a_board_that_the_area_model_does_not_know_is_refused():
    with pytest.raises(ValueError, match=r"^board must be one that the area model knows, an ECP5, not 'tang-nano-9k' \(Gowin\)$"):
        limits(small(), board="tang-nano-9k")
