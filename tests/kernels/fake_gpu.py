"""A GPU without one: tensors that have a device and a shape but no content, and a list of every wait for it.

Torch's fake tensors know which operations need content. Those that move content between host and device
wait, too; which they are is known from torch's source: a copy that is not ``non_blocking``, and a number of
the host that is written through an index. What the program asks the device for comes from prepared answers.
"""

from contextlib import contextmanager
from types import SimpleNamespace

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from crfnet import kernels

ASKING = {
    getattr(torch.Tensor, name)
    for name in ("item", "nonzero", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__")
}
MOVING = {torch.ops.aten._to_copy, torch.ops.aten.copy_}
MIXING = {torch.ops.aten.index_put_, torch.ops.aten.index, torch.ops.aten.where}


class Waits(TorchDispatchMode):
    """Writes down the name of each operation that waits, and each kernel with the device of its launch."""

    def __init__(self):
        super().__init__()
        self.found, self.launched, self.guards = [], [], []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = function(*args, **kwargs)
        devices = {x.device.type for x in tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor)}
        if devices == {"cpu", "cuda"}:
            operation = function.overloadpacket
            at_once = kwargs.get("non_blocking") or args[2:3] == (True,)
            if operation in MIXING or (operation in MOVING and not at_once):
                self.found.append(str(function))
        return out

    @contextmanager
    def guard(self, tensor):
        """In place of `torch.cuda.device_of`."""
        self.guards.append(tensor.get_device())
        yield
        self.guards.pop()

    def launch(self, kernel):
        assert self.guards, f"{kernel.__name__} is launched on whatever device is the current one"
        self.launched.append((kernel.__name__, self.guards[-1]))


class Answers(TorchFunctionMode):
    """Gives the prepared answers in turn to what is asked of the device."""

    def __init__(self, answers, waits):
        super().__init__()
        self.answers, self.waits = list(answers), waits

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in ASKING and args[0].is_cuda:
            return self.ask(function.__name__, args[0])
        return function(*args, **(kwargs or {}))

    def ask(self, name, tensor):
        self.waits.found.append(name)
        assert self.answers, f"not foreseen: {name} of {tuple(tensor.shape)}"
        return self.answers.pop(0)


@contextmanager
def fake_gpu(monkeypatch, *answers):
    """Inside, "cuda" is a GPU whose kernels are launched and do nothing. Gives the `Waits`."""
    from triton.runtime.interpreter import InterpretedFunction
    from triton.runtime.jit import JITFunction

    waits = Waits()
    asked = Answers(answers, waits)
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "_capable", lambda device: True)
        patch.setattr(kernels, "_starts", lambda: True)
        patch.setattr(torch.cuda, "device_of", waits.guard)
        patch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=1 << 37))
        patch.setattr(FakeTensor, "tolist", lambda x: asked.ask("tolist", x) if x.is_cuda else [])
        for kind in (JITFunction, InterpretedFunction):
            patch.setattr(
                kind, "__getitem__", lambda kernel, grid: lambda *args, **kwargs: waits.launch(kernel)
            )
        with FakeTensorMode(), waits, asked:
            yield waits
