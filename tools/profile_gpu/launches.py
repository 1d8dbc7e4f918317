"""Turns a case into launches on the GPU: GEMMs, elementwise kernels, copies, attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import cycle
from typing import Any, NamedTuple

from .attention import attention_launches
from .clock import Launch
from .plan import WEIGHT_COPIES, Case

TORCH_DTYPES = {"bfloat16": "bfloat16", "float16": "float16", "fp8": "float8_e4m3fn"}
HEAD = 128  # elements of a head, which the rotary embedding turns by itself


class Ready(NamedTuple):
    """A kernel that can be timed.

    Attributes:
        framework, kernel: Whose kernel it is, for the table's columns.
        prepare: Allocates its operands and returns what launches it once.
    """

    framework: str
    kernel: str
    prepare: Callable[[], Launch]


class LaunchBuilder:
    """Allocates a case's operands and returns what runs it, one `Ready` for each library that can.

    Args:
        torch: The module.
        compiled: Fuse elementwise kernels with torch.compile, as serving engines do.
        device: Where operands lie.
    """

    def __init__(self, torch: Any, *, compiled: bool = True, device: str = "cuda") -> None:
        self._torch = torch
        self._device = device
        self._compiled = compiled
        self._functions: dict[str, Callable[..., Any]] = {}
        self._builders: Mapping[str, Callable[[Case], Iterator[Ready]]] = {
            "gemm": self._gemm,
            "attn_decode": self._attention,
            "attn_prefill": self._attention,
            "attn_mixed": self._attention,
            "elementwise": self._elementwise,
            "copy": self._copy,
        }

    def build(self, case: Case) -> Iterator[Ready]:
        """Yield what can run a case; nothing for tables measured elsewhere (collectives)."""
        yield from self._builders[case.table](case) if case.table in self._builders else ()

    def _random(self, *shape: int, dtype: str) -> Any:
        values = self._torch.randn(*shape, device=self._device, dtype=self._torch.bfloat16)
        return values.to(getattr(self._torch, TORCH_DTYPES[dtype]))

    def _attention(self, case: Case) -> Iterator[Ready]:
        for framework, kernel, prepare in attention_launches(
            self._torch, case.table, case.columns, self._device
        ):
            yield Ready(framework, kernel, prepare)

    def _gemm(self, case: Case) -> Iterator[Ready]:
        if case.columns["dtype"] == "fp8":
            yield Ready("torch", "torch._scaled_mm", partial(self._scaled_gemm, case))
        else:
            yield Ready("torch", "torch.nn.functional.linear", partial(self._plain_gemm, case))

    def _plain_gemm(self, case: Case) -> Launch:
        dtype, (m, n, k) = case.columns["dtype"], _sizes(case)
        x = self._random(m, k, dtype=dtype)
        weights = cycle([self._random(n, k, dtype=dtype) for _ in range(WEIGHT_COPIES)])
        linear = self._torch.nn.functional.linear
        return lambda: linear(x, next(weights))

    def _scaled_gemm(self, case: Case) -> Launch:
        """The input's quantisation belongs to the kernel, as in the tables of the serving frameworks."""
        torch, (m, n, k) = self._torch, _sizes(case)
        x = self._random(m, k, dtype="bfloat16")
        weights = cycle([self._random(n, k, dtype="fp8").t() for _ in range(WEIGHT_COPIES)])
        scales = {
            "scale_a": torch.ones((), device=self._device),
            "scale_b": torch.ones((), device=self._device),
        }
        fp8, out = torch.float8_e4m3fn, torch.bfloat16
        return lambda: torch._scaled_mm(x.to(fp8), next(weights), **scales, out_dtype=out)

    def _elementwise(self, case: Case) -> Iterator[Ready]:
        op = case.columns["op"]
        kernel = f"torch.compile {op}" if self._compiled else op
        yield Ready("torch", kernel, partial(self._elementwise_launch, case))

    def _elementwise_launch(self, case: Case) -> Launch:
        op, tokens, width = (case.columns[name] for name in ("op", "tokens", "width"))
        random = partial(self._random, dtype=case.columns["dtype"])
        operands: dict[str, Callable[[], tuple[Any, ...]]] = {
            "layernorm": lambda: (random(tokens, width), random(width)),
            "act_fn": lambda: (random(tokens, 2 * width),),
            "rotary_emb": lambda: (random(tokens, width // HEAD, HEAD), random(tokens, 1, HEAD)),
            "add": lambda: (random(tokens, width), random(tokens, width)),
        }
        arguments, function = operands[op](), self._function(op)
        return lambda: function(*arguments)

    def _function(self, op: str) -> Callable[..., Any]:
        """Return the kernel of an elementwise operator, compiled once for all sizes."""
        if op not in self._functions:
            function = getattr(self, f"_{op}")
            self._functions[op] = self._torch.compile(function, dynamic=True) if self._compiled else function
        return self._functions[op]

    def _layernorm(self, x: Any, weight: Any) -> Any:
        """RMS norm: each element is read and written once, as the column's bytes are counted."""
        wide = x.float()
        scale = self._torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
        return (wide * scale).to(x.dtype) * weight

    def _act_fn(self, x: Any) -> Any:
        gate, up = x.chunk(2, dim=-1)
        return self._torch.nn.functional.silu(gate) * up

    def _rotary_emb(self, x: Any, angles: Any) -> Any:
        """Rotates the halves of each head; a token's heads share its angles."""
        (first, second), (sine, cosine) = x.chunk(2, dim=-1), angles.chunk(2, dim=-1)
        return self._torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)

    def _add(self, x: Any, y: Any) -> Any:
        return x + y

    def _copy(self, case: Case) -> Iterator[Ready]:
        yield Ready("torch", "copy_", partial(self._copy_launch, case))

    def _copy_launch(self, case: Case) -> Launch:
        torch, direction, bytes_ = self._torch, case.columns["op"], int(case.columns["bytes"])
        on_host = {"dtype": torch.uint8, "pin_memory": True}
        on_device = {"dtype": torch.uint8, "device": self._device}
        source = torch.empty(bytes_, **(on_host if direction.startswith("host") else on_device))
        target = torch.empty(bytes_, **(on_host if direction.endswith("host") else on_device))
        return lambda: target.copy_(source, non_blocking=True)


def _sizes(case: Case) -> tuple[int, int, int]:
    return int(case.columns["M"]), int(case.columns["N"]), int(case.columns["K"])
