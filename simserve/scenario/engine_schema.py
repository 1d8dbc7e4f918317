"""The `engine:` section of a pool, with vLLM's option names.

`null` means "what this engine version does by default on this hardware"; engine profiles resolve it.
Rules and defaults as read in vLLM 0.19.0 (`vllm/config/scheduler.py`, `vllm/engine/arg_utils.py`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from simserve.scenario.kv_cache_schema import KVCache
from simserve.scenario.numbers import PositiveInt, Rate
from simserve.scenario.order_schema import Order
from simserve.scenario.section import Section, combination_error

Probability = Annotated[float, Field(ge=0, le=1)]
OptionValue = bool | int | float | str | None | Annotated[tuple[int | float | str, ...], Field(strict=False)]
DType = Literal["bfloat16", "float16", "float32"]
KVCacheDType = Literal[
    "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2", "fp8_inc", "int8", "int8_per_token_head", "int4",
    "int4_per_token_head", "int2",
]  # fmt: skip
Quantization = Literal[
    "fp8", "fp8_block", "int8", "int8_wo", "awq", "gptq", "int4_experts", "mxfp4", "nvfp4", "gptq_marlin",
    "awq_marlin", "modelopt", "modelopt_fp4", "fbgemm_fp8", "ptpc_fp8", "experts_int8", "w8a8", "w8a16",
    "w4a16",
]  # fmt: skip

HostProfileName = Literal["none", "vllm-0.2", "distserve", "vllm-0.11", "vllm-0.15", "vllm-0.19", "vllm-0.23"]


def _read_version(value: Any) -> Any:
    """Return `major.minor` of a version given as `0.19`, `"0.19.0"` or `v0.19.1`."""
    text = str(value) if isinstance(value, float) else value
    if not isinstance(text, str):
        return value
    parts = text.removeprefix("v").split(".")
    return ".".join(parts[:2]) if len(parts) > 2 else ".".join(parts)


def _read_auto(value: Any) -> Any:
    """Return None for vLLM's `auto`."""
    return None if value == "auto" else value


Auto = BeforeValidator(_read_auto)
VersionName = Literal["0.15", "0.19", "0.23"]
Version = Annotated[VersionName, BeforeValidator(_read_version)]


class Speculative(Section):
    """Speculative decoding; how often drafts are accepted is an input, not a result."""

    method: Literal["ngram", "eagle", "draft_model"] = Field(
        description="How drafts are proposed: ngram (looked up in the prompt), eagle (an extra head), "
        "draft_model (a smaller model)."
    )
    num_speculative_tokens: Annotated[int, Field(ge=1, le=64)] = Field(
        description="Drafts proposed per request and step."
    )
    acceptance: Probability | Annotated[tuple[Probability, ...], Field(strict=False)] = Field(
        description="Probability that a draft is accepted given that all before it were: one for every "
        "position, or a list with one for each of the num_speculative_tokens positions.",
    )
    model: str | None = Field(
        default=None, description="Draft model, a catalog name or a path; required for draft_model."
    )

    @model_validator(mode="after")
    def _check(self) -> Speculative:
        if isinstance(self.acceptance, tuple) and len(self.acceptance) != self.num_speculative_tokens:
            raise combination_error(
                "acceptance",
                f"has {len(self.acceptance)} probabilities; expected one number, or a list of "
                f"{self.num_speculative_tokens} (num_speculative_tokens)",
            )
        if self.method == "draft_model" and self.model is None:
            raise combination_error("method", "draft_model needs `model`, the name of the draft model")
        return self


class Engine(Section):
    """One engine: its kind, its parallelism and its scheduler's and KV cache's options."""

    kind: str = Field(
        default="vllm", min_length=1, description="A registered engine kind, or package.module:Class."
    )
    version: Version = Field(
        default="0.19",
        description="Engine release whose defaults and rules apply; patch releases are dropped.",
    )
    tensor_parallel_size: PositiveInt = Field(default=1, description="GPUs that share each layer.")
    pipeline_parallel_size: PositiveInt = Field(
        default=1, description="Stages that share the layers; that many batches are in flight."
    )
    data_parallel_size: PositiveInt = Field(
        default=1,
        description="Ranks inside one instance, each with a scheduler, a KV pool and GPUs of its own, behind "
        "one front end; those of a mixture of experts share the experts and run in lock-step.",
    )
    decode_context_parallel_size: PositiveInt = Field(
        default=1,
        description="Of the tensor-parallel GPUs that hold the same KV heads, how many share the tokens of "
        "each sequence instead of holding copies.",
    )
    cp_kv_cache_interleave_size: PositiveInt = Field(
        default=1,
        description="Tokens of a sequence that go to one of those GPUs before the next one takes over; it "
        "must divide block_size.",
    )
    max_num_seqs: PositiveInt | None = Field(
        default=None,
        description="Most requests running at once; null: the kind's default; vLLM's is 1024 from 70 GiB on "
        "(but not on A100), else 256.",
    )
    max_num_batched_tokens: PositiveInt | None = Field(
        default=None,
        description="Token budget of a step; null: the kind's default; vLLM's is 8192 from 70 GiB on "
        "(but not on A100), else 2048.",
    )
    max_model_len: PositiveInt | None = Field(
        default=None,
        description="Longest prompt plus output, in tokens; null: the smaller of the model's own and "
        "what the KV pool holds.",
    )
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None,
        description="Share of the GPU's memory that the engine may use; null: the version's default "
        "(0.9, from 0.23 on 0.92).",
    )
    block_size: Annotated[int, Field(ge=1, le=4096)] = Field(default=16, description="Tokens in a KV block.")
    cpu_offload_gb: Rate = Field(
        default=0.0,
        description="GiB of each GPU's weights that lie in host memory instead, and are read over PCIe in "
        "every step.",
    )
    num_gpu_blocks_override: Annotated[int, Field(ge=2, le=2**40)] | None = Field(
        default=None, description="KV blocks in the pool; null: derived from the memory that is left."
    )
    enable_prefix_caching: bool = Field(
        default=True, description="Reuse the KV blocks of equal leading tokens of earlier requests."
    )
    enable_chunked_prefill: bool = Field(
        default=True, description="Let a prompt be computed over several steps."
    )
    long_prefill_token_threshold: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Most prompt tokens of one request in a step; 0: no limit but the budget."
    )
    scheduler_reserve_full_isl: bool | None = Field(
        default=None,
        description="Admit a request only if its whole prompt fits into the free blocks; "
        "null: the version's default.",
    )
    scheduling_policy: Literal["fcfs", "priority"] = Field(
        default="fcfs", description="Order of waiting requests: by arrival, or by priority (lower first)."
    )
    order: Order | None = Field(
        default=None,
        description="Order of waiting requests beyond scheduling_policy, for the kinds that take one; "
        "null: as scheduling_policy says.",
    )
    kv_cache: KVCache | None = Field(
        default=None,
        description="What the KV cache is made of, for the kinds that take any; null: the kind's own.",
    )
    async_scheduling: bool | None = Field(
        default=None,
        description="Schedule the next step while the last one runs; null: the version's default.",
    )
    dtype: Annotated[DType | None, Auto] = Field(
        default=None, description="Type of weights and activations; null: the model's."
    )
    kv_cache_dtype: Annotated[KVCacheDType | None, Auto] = Field(
        default=None, description="Type of the KV cache; null: that of the activations."
    )
    quantization: Quantization | None = Field(
        default=None, description="Quantisation of the weights; null: the model's own."
    )
    enable_expert_parallel: bool = Field(
        default=False, description="Spread whole experts over the GPUs instead of cutting each by width."
    )
    enforce_eager: bool = Field(default=False, description="Run without CUDA graphs.")
    host_profile: HostProfileName | None = Field(
        default=None,
        description="What the CPU adds to a step; null: the version's profile. vllm-0.2 and distserve are "
        "engines of 2023 and 2024, without CUDA graphs.",
    )
    disable_sliding_window: bool = Field(
        default=False,
        description="Treat sliding-window layers as full attention, and cap the model's length.",
    )
    disable_hybrid_kv_cache_manager: bool = Field(
        default=False,
        description="Keep the KV cache of sliding-window layers as if they were full attention.",
    )
    speculative: Speculative | None = Field(default=None, description="Speculative decoding; null: off.")
    options: dict[str, OptionValue] = Field(
        default_factory=dict,
        description="Options of the kind's own (`simserve list schedulers` names them), or of an engine of "
        "your own (kind: package.module:Class).",
    )

    @model_validator(mode="after")
    def _check(self) -> Engine:
        _check_budget(self)
        if self.block_size % self.cp_kv_cache_interleave_size:
            raise combination_error(
                "cp_kv_cache_interleave_size",
                f"{self.cp_kv_cache_interleave_size} does not divide block_size ({self.block_size})",
            )
        if self.async_scheduling and self.speculative is not None and self.speculative.method == "ngram":
            raise combination_error(
                "async_scheduling",
                "does not work with ngram speculation, as in vLLM; expected false or null, or another method",
            )
        return self


def _check_budget(engine: Engine) -> None:
    """Refuse token budgets that vLLM's `SchedulerConfig` refuses, for what is given explicitly."""
    budget = engine.max_num_batched_tokens
    if budget is None:
        return
    if engine.max_num_seqs is not None and budget < engine.max_num_seqs:
        raise combination_error(
            "max_num_batched_tokens",
            f"{budget} is below max_num_seqs ({engine.max_num_seqs}); expected at least that",
        )
    too_long = engine.max_model_len is not None and budget < engine.max_model_len
    if too_long and not engine.enable_chunked_prefill:
        raise combination_error(
            "max_num_batched_tokens",
            f"{budget} is below max_model_len ({engine.max_model_len}) and enable_chunked_prefill is false: "
            "no step could hold the longest prompt; expected a larger budget, a smaller length or "
            "chunked prefill",
        )
