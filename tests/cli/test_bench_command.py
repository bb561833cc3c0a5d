"""`pdcode bench`: options are checked before anything is measured."""

import pytest

from pdcode.__main__ import main


@pytest.mark.parametrize(
    ("setting", "why"),
    [("link.width=1", "link.width: unknown key"), ("link.bandwidth=fast", "link.bandwidth: expected number")],
)
def test_clocks_refuses_keys_that_a_configuration_has_not(setting, why, capsys):
    assert main(["bench", "clocks", "--set", setting]) == 2
    assert why in capsys.readouterr().err
