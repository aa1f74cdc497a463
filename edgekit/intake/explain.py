"""Why a network cannot be captured, in one message that names the line of the user's code and what to change.

torch.export says it in pages. What is needed is there all the same: the traceback goes through the user's `forward`,
and in a program that was captured but cannot be exported each node remembers the lines it came from.
"""

import re
import traceback
from collections.abc import Mapping
from traceback import FrameSummary
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from edgekit.user_code import described, frame_text, user_frame

RANDOM = ("rand", "randn", "randint", "randperm", "bernoulli", "multinomial", "normal", "rand_like", "randn_like")

_BRANCH = re.compile(r"^\s*(if|elif|while|assert)\b|\bif\b.+\belse\b|\band\b|\bor\b|\bnot\b")

ADVICE: Mapping[str, str] = MappingProxyType(
    {
        "branch": "It branches on the values of a tensor, but a program has one path. Use torch.where or torch.cond, "
        "or fix the branch the model takes.",
        "assert": "It asserts something about the values of a tensor. Remove the assertion, or check shapes only.",
        "loop": "Its loop runs until the values of a tensor say stop. Give it a fixed number of rounds.",
        "value": "It turns a tensor's values into Python numbers (.item(), int(), .tolist() or a slice by a tensor). "
        "Compute it from shapes, or keep it a tensor.",
        "numpy": "It leaves torch for numpy. Write the same with torch operators.",
        "cuda": "It moves tensors to a GPU. Use the device of the input, as in x.to(other.device).",
        "size": "The size of a result depends on the values of the input (nonzero, a mask, unique or tolist). Keep "
        "every size fixed, for example with torch.where and topk.",
        "random": "It draws random numbers at inference. Draw them once and register them as a buffer.",
        "dropout": "Dropout is active at inference. Call it with training=self.training, and the model's eval().",
        "train": "Batch norm is in training mode at inference. Call it with training=self.training.",
        "output": "The network returns an object torch cannot see into. Return a tensor, a tuple, a list or a dict of "
        "them, or a dataclass registered with torch.utils._pytree.",
        "kind": "It returns something else than float32 values, and how close such are says nothing. Return the values "
        "they are made of, such as logits, and decide on the host.",
        "twice": "It returns one tensor twice. Return it once.",
        "script": "It holds a TorchScript module. Give the nn.Module it was made from.",
    }
)
"""What kind of trouble it is, to what to change."""


def explain_capture_error(error: BaseException, model: nn.Module) -> str:
    """One message about an error of torch.export, or of the model itself while it was traced.

    Args:
        error: What was raised.
        model: The network, which gives the message its subject.
    """
    frame = user_frame(traceback.extract_tb(error.__traceback__))
    kind = kind_of(error, frame)
    if kind is None:
        reason = described(error).rstrip(".")
        hint = " Does the model run at this input size outside edgekit?" if frame else ""
        return f"{type(model).__name__} cannot be captured{placed(frame)}: {reason}.{hint}"
    return f"{type(model).__name__} cannot be captured{placed(frame)}. {ADVICE[kind]}"


def placed(frame: FrameSummary | None) -> str:
    """` at file:line, in function (`code`)`, or nothing."""
    return f" at {frame_text(frame)}" if frame else ""


def kind_of(error: BaseException, frame: FrameSummary | None) -> str | None:
    """The row of `ADVICE` an error belongs to."""
    text, line = str(error), (frame.line or "") if frame else ""
    if "data-dependent" in text or "Could not guard" in text or "DataDependent" in type(error).__name__:
        keyword = _BRANCH.search(line)
        if keyword is None or "Eq(" not in text.splitlines()[0]:
            return "value"
        return {"while": "loop", "assert": "assert"}.get(keyword[1] or "", "branch")
    for pattern, kind in (
        (r"\.numpy\(\)|numpy\(\) is not supported|numpy.ndarray", "numpy"),
        (r"\bcuda\b|CUDA|device meta|Expected all tensors to be on the same device", "cuda"),
        (r"in output, which is not a known type|Unsupported output type|register a pytree", "output"),
        (r"ScriptModule|RecursiveScriptModule|TorchScript", "script"),
    ):
        if re.search(pattern, text):
            return kind
    return None


def explain_program(program: GraphModule, model: nn.Module) -> str | None:
    """Why a captured program cannot be exported although torch captured it, or None when it can.

    1. A size that depends on the values of the input.
    2. Random numbers; dropout or batch norm in training mode.
    3. An output that is no float32 tensor, or comes twice.
    """
    returned = program.graph.output_node().all_input_nodes
    for node in program.graph.nodes:
        kind = kind_of_node(node) or (kind_of_output(node, program) if node in returned else None)
        if kind is not None:
            return f"{type(model).__name__} cannot be exported{placed(node_frame(node))}. {ADVICE[kind]}"
    return None


def kind_of_output(node: Node, program: GraphModule) -> str | None:
    """The row of `ADVICE` a returned node belongs to."""
    value = node.meta.get("val")
    if isinstance(value, Tensor) and value.dtype is not torch.float32:
        return "kind"
    leaves, _ = pytree.tree_flatten(program.graph.output_node().args[0])
    return "twice" if leaves.count(node) > 1 else None


def kind_of_node(node: Node) -> str | None:
    """The row of `ADVICE` a node belongs to."""
    if node.op != "call_function":
        return None
    if not isinstance(node.target, torch._ops.OpOverload):  # noqa: SLF001 - torch has no public name for it
        return None
    name = node.target._schema.name.removeprefix("aten::")  # noqa: SLF001 - where ATen keeps its names
    if name in RANDOM:
        return "random"
    if "dropout" in name and any(argument is True for argument in node.args):
        return "dropout"
    if name == "batch_norm" and len(node.args) > 5 and node.args[5] is True:
        return "train"
    value = node.meta.get("val")
    if isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool)) and name in {"item", "_local_scalar_dense"}:
        return "value"
    sizes = value.shape if isinstance(value, Tensor) else ()
    return "size" if any(isinstance(side, torch.SymInt) and not is_plain(side) for side in sizes) else None


def is_plain(side: torch.SymInt) -> bool:
    """Whether a symbolic size is a number after all."""
    return side.node.maybe_as_int() is not None


def node_frame(node: Node) -> FrameSummary | None:
    """The user's line that a node was captured from."""
    pattern = r'File "(.+?)", line (\d+), in (\S+)\n\s+(.+)'
    found = re.findall(pattern, str(node.meta.get("stack_trace") or ""))
    return user_frame([FrameSummary(name, int(line), function, line=code) for name, line, function, code in found])
