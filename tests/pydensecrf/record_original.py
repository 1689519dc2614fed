"""What a pydensecrf answers to the calls of `calls.py`: each in a process of its own, because some crash.

``PYTHONPATH=path/to/pydensecrf python -m tests.pydensecrf.record_original`` writes ``original_calls.json``.
"""

import json
import os
import warnings
from multiprocessing import Pipe, Process
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tests.pydensecrf.calls import CALLS, VALUES

TABLE = Path(__file__).with_name("original_calls.json")


def outcome(call: str, utils: ModuleType, dcrf: ModuleType, eigen: ModuleType) -> dict[str, Any]:
    """The array that a call gives, or its error's type."""

    def crf(add: Any = lambda c: None) -> Any:
        """Marginals of a CRF of 3 x 2 pixels; of a call, after two steps."""
        one = dcrf.DenseCRF2D(3, 2, 3)
        one.setUnaryEnergy(VALUES["U"])
        add(one)
        return one.inference(2)

    def marginals() -> Any:
        one = dcrf.DenseCRF2D(3, 2, 3)
        one.setUnaryEnergy(VALUES["U"])
        one.addPairwiseGaussian(2, 3)
        return one, one.startInference()

    one, (q, tmp1, tmp2) = marginals()

    def divergence(given: Any) -> float:
        return float(one.klDivergence(given))

    def step(given: Any) -> Any:
        one.stepInference(given, tmp1, tmp2)
        return given

    def read_only(array: Any) -> Any:
        array = array.copy()
        array.flags.writeable = False
        return array

    class Chain:
        inference = staticmethod(one.inference)

    names = {
        "np": np,
        "utils": utils,
        "dcrf": dcrf,
        "eigen": eigen,
        "divergence": divergence,
        "step": step,
        "q": q,
    }
    names |= {"read_only": read_only, "crf": lambda add=None: Chain if add is None else crf(add)}
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            value = np.array(eval(call, names | {name: value.copy() for name, value in VALUES.items()}))
    except Exception as error:
        return {"error": type(error).__name__}
    return {
        "shape": list(value.shape),
        "type": str(value.dtype),
        "values": [float(f"{v:.5g}") for v in value.ravel().tolist()],
    }


def in_a_process(call: str, *modules: ModuleType) -> dict[str, Any]:
    """The `outcome`, or the fact that the process died."""
    ours, theirs = Pipe(duplex=False)

    def work() -> None:
        os.close(2)
        theirs.send(outcome(call, *modules))

    child = Process(target=work)
    child.start()
    theirs.close()
    try:
        result: dict[str, Any] = ours.recv() if ours.poll(20) else {"error": "hangs"}
    except EOFError:
        result = {"error": "crash"}
    child.kill()
    child.join()
    return result


if __name__ == "__main__":
    import pydensecrf.densecrf
    import pydensecrf.eigen
    import pydensecrf.utils

    modules = (pydensecrf.utils, pydensecrf.densecrf, pydensecrf.eigen)
    rows = ",\n".join(f" {json.dumps(call)}: {json.dumps(in_a_process(call, *modules))}" for call in CALLS)
    TABLE.write_text(f"{{\n{rows}\n}}\n", encoding="utf-8")
