"""Where the answer to a call is not the original's on purpose."""

_ARRAYS = (
    r"tolist|'f[28]'|'[iu][14]'|'>f4'|astype\(bool\)|asfortran|repeat|::|read_only|RGB.astype|GRAY.astype"
    r"|\[:, :-1\]\)$|\[1., 2.\]"
    r"|np.eye\(3\)|np.array\(\[-1.|dtype=int|L.*:2\], F"
)
#: Calls whose outcome is not the original's on purpose, by the row of the README that says so: what happens
#: (``taken``, ``refused`` or an answer that ``differs``), and what the expressions have in common.
DIFFERENT = {
    "float64, float16, lists, torch tensors, read-only or transposed arrays, PIL images": ("taken", _ARRAYS),
    "a width or a `compat` as an array without axes": ("taken", r"np.array\(2.5\)"),
    "`sdims` as one number": (
        "taken",
        r"create_pairwise_(gaussian|bilateral)\([^(\[]+, |create_pairwise.*\(np.(float32|int64|array)\("
        r"|float\('inf",
    ),
    "`sxy` or `srgb` as a sequence of one number": ("taken", r"\(2.5,\)|\[2.5\]"),
    "`sxy` or `srgb` as a column": ("taken", r"reshape\(-1, 1\)"),
    "whole numbers as floats in `shape` and `n_labels`": ("taken", r"\(2., 3.\)|3.0"),
    "any array as Q in `klDivergence` and `stepInference`; `MatrixXf(values)`": (
        "taken",
        r"(divergence|step)\((np.array\(q\)|U)",
    ),
    "`compat` as a list": ("taken", r"[\[(]-1, -2, -3[\])]"),
    "a `compat`, a `Unary` or `f` whose size does not fit": (
        "refused",
        r"setUnaryEnergy\(U, |ConstUnary\(|LogisticUnary",
    ),
    "a width that is 0, negative or NaN": (
        "refused",
        r"(pairwise|Pairwise).*(\(|, )(0|-2.0|float\('nan'\))(\)|, )",
    ),
    "NaN or infinity as `compat`": ("refused", r"float\('(nan|inf)'\)\)\)$"),
    "complex numbers": ("refused", "'c8'"),
    "a size, a number of labels or of steps that is broken, negative or 0": (
        "refused",
        r"(CRF(2D)?|inference)\(.*(2\.5|0|-1)[,)]|\(2, (0|-1)\)",
    ),
    "unknown `normalization` or `kernel`": ("refused", r"(9|-1)\)\)$"),
    "uint8 or bool labels, one label": (
        "taken",
        r"labels\((LABELS.astype\('u1'\)|LABELS % 2 > 0)|\[0, 1\]\), 1",
    ),
    "labels out of range in `unary_from_labels`": ("refused", r"LABELS( % 3)? - 1"),
    "fewer `sdims` than axes in `create_pairwise_gaussian`": (
        "refused",
        r"gaussian\(.*2\.5(, 3)?,?[\])].*\)$|gaussian\(\(3, 4\), \(2, 3, 2\)",
    ),
    "an empty `shape` or image; an empty matrix": ("refused", r"\[:0\]"),
}
