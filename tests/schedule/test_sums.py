"""What multiplies sums of terms: the weight of their path, as few times as there are paths."""

import numpy as np
import pytest

from sparseacc import algebra
from sparseacc.schedule.sums import sums

COLUMNS = [[0, 1, 0, 1, 2], [0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [0, 0, 1, 1, 1]]
"""m1, m2, mu and path of five terms."""


@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize(
    "operation",
    [algebra.WEIGHTED_FORWARD, algebra.WEIGHTED_VJP, algebra.WEIGHTED_JVP, algebra.WEIGHTED_VJP_VJP],
    ids=lambda operation: operation.name,
)
def test_a_weight_multiplies_all_terms_of_its_path_and_dy_those_of_its_output(operation, planes):
    for product in operation.products:
        found = list(sums(operation, product, COLUMNS, [1.0] * 5, planes))
        of_path = algebra.PATH in [operation.inputs[i][1] for i in product.inputs]
        shared = algebra.PATH if of_path else algebra.MU
        assert {operation.inputs[each.outer[0]][1] for each in found} == {shared}
        assert [each.outer[1] for each in found] == list(range(planes * (max(COLUMNS[shared]) + 1)))
        assert sum(len(each.terms) for each in found) == 5 * planes**3
        assert all(each.outer[0] not in each.factors for each in found)


def test_without_weights_nothing_multiplies_the_sum():
    (only,) = sums(algebra.FORWARD, algebra.FORWARD.products[0], COLUMNS, np.arange(5.0).tolist(), 1)
    assert only.outer is None
    assert [C for *_, C in only.terms] == [0, 1, 2, 3, 4]
