"""Calls of pydensecrf's functions with every kind of argument, as expressions; the table is what they gave.

``record_original.py`` writes that table, `original_calls.json`.
"""

import itertools

import numpy as np

#: What expressions name besides `np`, `utils`, `dcrf` and `eigen`.
VALUES = {
    "U": np.arange(18, dtype=np.float32).reshape(3, 6) % 7 / 2,
    "F": np.arange(12, dtype=np.float32).reshape(2, 6) % 5 / 2,
    "RGB": (np.arange(18) * 37 % 256).astype(np.uint8).reshape(2, 3, 3),
    "GRAY": (np.arange(6) * 37 % 256).astype(np.uint8).reshape(2, 3),
    "FOUR": (np.arange(24) * 37 % 256).astype(np.uint8).reshape(2, 3, 4),
    "VOLUME": (np.arange(24, dtype=np.float32) * 37 % 256).reshape(2, 3, 2, 2),
    "LABELS": np.array([[0, 1, 2], [3, 2, 1]]),
    "P": (np.arange(12, dtype=np.float32).reshape(2, 2, 3) + 1) / 13,
}

_NUMBERS = [
    "3",
    "2.5",
    "True",
    "np.float32(2.5)",
    "np.int64(3)",
    "np.array(2.5)",
    "np.array([2.5])",
    "'3'",
    "None",
]
_EDGES = ["0", "-2.0", "float('nan')", "float('inf')"]


def _lengths(count: int) -> list[str]:
    """Tuples, lists and arrays of 0 to count + 1 numbers."""
    numbers = ["2.5", "3", "4.0", "5", "6.0"]
    tuples = [f"({', '.join(numbers[:n])}{',' * (n == 1)})" for n in range(count + 2)]
    others = [f"list({each})" for each in tuples[1:]] + [f"np.array({each})" for each in tuples]
    forms = [
        f"np.float32({tuples[count]})",
        f"np.array({tuples[count]}).reshape(-1, 1)",
        f"range(2, {count + 2})",
    ]
    return tuples + others + forms


def _forms(name: str) -> list[str]:
    """An array as other programs give it."""
    return [
        name,
        f"{name}.tolist()",
        f"{name}.astype('f2')",
        f"{name}.astype('f4')",
        f"{name}.astype('f8')",
        f"{name}.astype('i4')",
        f"{name}.astype('u1')",
        f"{name}.astype(bool)",
        f"{name}.astype('c8')",
        f"{name}.astype('>f4')",
        f"np.asfortranarray({name})",
        f"np.repeat({name}, 2, -1)[..., ::2]",
        f"{name}[::-1]",
        f"{name}[..., None]",
        f"{name}[0]",
        f"{name}[:0]",
        f"{name}[:, :-1]",
        f"{name}[:-1]",
        f"np.concatenate([{name}, {name}[:1]])",
        f"read_only({name})",
        "None",
        "7.0",
    ]


def _options(template: str, values: list[str]) -> list[str]:
    return [template.format(value) for value in values]


_CRF = "crf(lambda c: {})"
_SDIMS = [*_NUMBERS, *_EDGES, *_lengths(2)]
_COMPAT = [
    *_NUMBERS,
    *_EDGES,
    "-4",
    "-np.eye(3)",
    "-np.eye(3, dtype='f4')",
    "np.float32([-1, -2, -3])",
    "np.array([-1., -2, -3])",
    "[-1, -2, -3]",
    "(-1, -2, -3)",
    "-np.eye(3, dtype='f4')[:, ::-1]",
    "-np.ones((3, 3, 3), 'f4')",
    "-np.eye(3, dtype=int)",
]
_WHOLE = ["2", "2.0", "2.5", "True", "0", "-1", "np.int64(2)", "np.float32(2)", "np.array(2)", "'2'", "None"]

CALLS: list[str] = list(
    dict.fromkeys(
        itertools.chain(
            # utils.unary_from_labels
            _options(
                "utils.unary_from_labels({}, 3, .7)",
                [*_forms("LABELS"), "LABELS - 1", "LABELS + 1", "LABELS.ravel()"],
            ),
            _options(
                "utils.unary_from_labels({}, 3, .7, False)",
                ["LABELS", "LABELS % 3", "LABELS % 3 - 1", "LABELS % 2 > 0"],
            ),
            _options(
                "utils.unary_from_labels(LABELS, {}, .7)", [*_WHOLE, "3", "3.0", "np.array([3])", "4", "1"]
            ),
            _options("utils.unary_from_labels(np.array([0, 1]), {}, .7)", ["1", "2"]),
            _options(
                "utils.unary_from_labels(LABELS, 3, {})",
                [
                    "0",
                    "1",
                    ".5",
                    "np.float32(.5)",
                    "np.array(.5)",
                    "np.array([.5])",
                    "[.5]",
                    "'.5'",
                    "None",
                    "float('nan')",
                    "2",
                    "-.5",
                ],
            ),
            _options(
                "utils.unary_from_labels(LABELS, 3, .7, {})", ["0", "1", "None", "'yes'", "np.bool_(True)"]
            ),
            [
                "utils.compute_unary(LABELS, 3)",
                "utils.compute_unary(LABELS, 3, .7)",
                "utils.compute_unary(LABELS, 3, 1)",
            ],
            # utils.unary_from_softmax
            _options(
                "utils.unary_from_softmax({})",
                [*_forms("P"), "P.T", "P.transpose(1, 0, 2)", "P.ravel()", "P[..., None]", "P * 3"],
            ),
            _options(
                "utils.unary_from_softmax(P, {})",
                [
                    "None",
                    "1",
                    ".5",
                    "np.float32(.5)",
                    "np.array(.5)",
                    "np.array([.5])",
                    "[.5]",
                    "'.5'",
                    "0",
                    "2",
                    "-1",
                    "True",
                ],
            ),
            _options(
                "utils.unary_from_softmax(P, None, {})",
                [
                    "None",
                    "0",
                    ".3",
                    "-1",
                    "2",
                    "True",
                    "np.float32(.3)",
                    "[.3]",
                    "np.array([.3])",
                    "np.array([[[.2]], [[.3]]])",
                    "'.3'",
                ],
            ),
            _options("utils.softmax_to_unary(P, {})", ["1", ".5", "0", "None"]),
            ["utils.softmax_to_unary(P)"],
            # utils.create_pairwise_*
            _options("utils.create_pairwise_gaussian({}, (2, 3))", _SDIMS),
            _options("utils.create_pairwise_gaussian({}, (2, 3, 2))", _lengths(3)),
            _options("utils.create_pairwise_gaussian({}, (4,))", _lengths(1)),
            _options(
                "utils.create_pairwise_gaussian((3, 4), {})",
                [
                    "(2, 3)",
                    "[2, 3]",
                    "np.array([2, 3])",
                    "(2., 3.)",
                    "(2,)",
                    "(2, 3, 2)",
                    "()",
                    "6",
                    "(2, 0)",
                    "(2, -1)",
                    "('2', 3)",
                    "None",
                ],
            ),
            _options("utils.create_pairwise_bilateral({}, 5, RGB, 2)", _SDIMS),
            _options(
                "utils.create_pairwise_bilateral((3, 4), {}, RGB, 2)", [*_NUMBERS, *_EDGES, *_lengths(3)]
            ),
            _options("utils.create_pairwise_bilateral((3, 4), {}, GRAY)", [*_NUMBERS, *_lengths(1)]),
            _options("utils.create_pairwise_bilateral((3, 4, 5), {}, VOLUME, 3)", _lengths(2)),
            _options("utils.create_pairwise_bilateral((3, 4), 5, {}, 2)", [*_forms("RGB"), "FOUR", "GRAY"]),
            _options(
                "utils.create_pairwise_bilateral((3, 4), 5, {})",
                ["GRAY", "GRAY.tolist()", "GRAY[0]", "GRAY[None]", "RGB"],
            ),
            _options(
                "utils.create_pairwise_bilateral((3, 4), 5, RGB, {})",
                ["0", "1", "2", "3", "-1", "-2", "-3", "-4", "2.0", "True", "None", "np.int64(2)"],
            ),
            _options("utils._create_pairwise_gaussian_2d({}, 4, (2, 3))", [*_NUMBERS, *_EDGES]),
            _options(
                "utils._create_pairwise_gaussian_2d(3, 4, {})",
                ["(2, 3, 4)", "(2,)", "[2, 3]", "np.array([2, 3])", "(2., 3.)"],
            ),
            _options("utils._create_pairwise_bilateral_2d(3, 4, {}, 6, 7, RGB)", [*_NUMBERS, *_EDGES]),
            _options(
                "utils._create_pairwise_bilateral_2d(3, 4, 5, 6, 7, {})",
                [*_forms("RGB"), "FOUR", "GRAY", "RGB[..., :2]"],
            ),
            # eigen
            _options("eigen.matrixXf({})", [*_forms("U"), "U[:, :0]", "U[0, 0]"]),
            _options("eigen.vectorXf({})", [*_forms("U[0]"), "U", "U[0, ::2]", "[1., 2.]"]),
            ["eigen.MatrixXf()", "eigen.VectorXf()", "eigen.MatrixXf(U)"],
            # densecrf
            _options("dcrf.DenseCRF({}, 3) and 1", _WHOLE),
            _options("dcrf.DenseCRF(6, {}) and 1", _WHOLE),
            _options("dcrf.DenseCRF2D({}, 2, 3) and 1", _WHOLE),
            _options("dcrf.DenseCRF2D(3, {}, 3) and 1", _WHOLE),
            _options("dcrf.DenseCRF2D(3, 2, {}) and 1", _WHOLE),
            _options(
                _CRF.format("c.setUnaryEnergy({})"),
                [*_forms("U"), "U.T", "U.reshape(3, 2, 3)", "-np.log(P.reshape(2, 6).T)"],
            ),
            _options(
                _CRF.format("c.setUnaryEnergy(U, {})"),
                ["None", "F", "np.eye(6, dtype='f4')", "np.ones((6, 3), 'f4')", "U"],
            ),
            _options(_CRF.format("c.setUnary(dcrf.ConstUnary({}))"), _forms("U")),
            _options(
                _CRF.format("c.setUnary(dcrf.LogisticUnary({}, F))"),
                ["U[:, :2]", "U[:, :2].copy()", "U", "None", "U[:2, :2].copy()"],
            ),
            _options(_CRF.format("c.setUnary({})"), ["U", "None", "7"]),
            _options(
                _CRF.format("c.addPairwiseEnergy({}, 3)"), [*_forms("F"), "U", "F.T", "F.reshape(2, 2, 3)"]
            ),
            _options(_CRF.format("c.addPairwiseEnergy(F, {})"), _COMPAT),
            _options(_CRF.format("c.addPairwiseGaussian({}, 3)"), _SDIMS),
            _options(_CRF.format("c.addPairwiseGaussian(2, {})"), _COMPAT),
            _options(_CRF.format("c.addPairwiseBilateral({}, 9, RGB, 3)"), _SDIMS),
            _options(
                _CRF.format("c.addPairwiseBilateral(2, {}, RGB, 3)"), [*_NUMBERS, *_EDGES, *_lengths(3)]
            ),
            _options(
                _CRF.format("c.addPairwiseBilateral(2, 9, {}, 3)"),
                [*_forms("RGB"), "FOUR", "GRAY", "RGB.transpose(1, 0, 2)"],
            ),
            _options(_CRF.format("c.addPairwiseBilateral(2, 9, RGB, {})"), _COMPAT),
            _options(
                _CRF.format("c.addPairwiseGaussian(2, 3, {})"),
                ["0", "2", "9", "-1", "2.0", "'full'", "None", "dcrf.FULL_KERNEL"],
            ),
            _options(
                _CRF.format("c.addPairwiseGaussian(2, 3, normalization={})"),
                ["0", "1", "2", "3", "9", "2.0", "'after'", "None", "dcrf.NORMALIZE_AFTER"],
            ),
            _options("crf().inference({})", _WHOLE),
            _options(
                "divergence({})", ["q", "np.array(q)", "eigen.matrixXf(np.ascontiguousarray(q))", "U", "None"]
            ),
            _options("step({})", ["q", "np.array(q)", "U.copy()", "U.tolist()", "None"]),
        )
    )
)
