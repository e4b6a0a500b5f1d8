"""The conformance suite: every policy, alone and with everything switched on, in both orders, on 1, 2, 3, 4
and 8 simulated ranks."""

import pytest
from law_cases import CASES, ORDERS
from laws import LAWS

from hpcfilter.select.policies import POLICIES


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("law", LAWS)
def test_law(law, case, order):
    LAWS[law](case, order)


def test_every_policy_has_a_case_and_a_way_to_do_nothing():
    assert set(POLICIES) == {row.policy for row in CASES.values()} == {name for name, row in CASES.items()
                                                                       if row.nothing is not None}
