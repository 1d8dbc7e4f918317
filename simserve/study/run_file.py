"""`run.yaml`: what a measured serving run was made of, in the words of its engine.

Read with the places of all keys, so that a mistake is told as `file:line:column`. What the run does not
know is null; the notes on the keys say what is assumed then.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from simserve.errors import InputError
from simserve.scenario.catalog import load_hardware, load_model
from simserve.scenario.engine_schema import DType, Version
from simserve.scenario.numbers import PositiveInt
from simserve.scenario.places import KeyPath, Place, Places
from simserve.scenario.section import Section, combination_error
from simserve.scenario.section_file import check_section, read_mapping

RUN_FILE = "run.yaml"


class RunFacts(Section):
    """The stated facts of one run."""

    source: str = Field(default="", description="Where the run was published.")
    engine: Literal["vllm"] = Field(description="The engine: vllm.")
    engine_version: Version = Field(description="Its release, such as 0.19.0; picks the engine profile.")
    hardware_id: str = Field(min_length=1, description="The accelerator, a name of `simserve list hardware`.")
    hardware_name: str = Field(default="", description="Its name as the source gives it.")
    gpus: PositiveInt | None = Field(default=None, description="Accelerators in all.")
    model: str = Field(min_length=1, description="The model, a catalog name or a Hugging Face id.")
    tensor_parallel_size: PositiveInt = Field(default=1, description="GPUs that share each layer.")
    data_parallel_size: PositiveInt = Field(default=1, description="Engines in lock-step.")
    enable_expert_parallel: bool = Field(default=False, description="Whole experts spread over the GPUs.")
    max_num_seqs: PositiveInt | None = Field(
        default=None, description="Most running requests; null: the version's default."
    )
    max_num_batched_tokens: PositiveInt | None = Field(
        default=None, description="Token budget of a step; null: the version's default."
    )
    max_model_len: PositiveInt | None = Field(
        default=None, description="Longest prompt plus output; null: the model's own."
    )
    dtype: DType | None = Field(default=None, description="Of weights and activations; null: the model's.")
    block_size: Annotated[int, Field(ge=1, le=4096)] = Field(default=16, description="Tokens in a KV block.")
    num_gpu_blocks: Annotated[int, Field(ge=2, le=2**40)] | None = Field(
        default=None, description="KV blocks of the real server; null: derived from its memory."
    )
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="Share of the memory that the engine may use; null: 0.9."
    )
    enable_prefix_caching: bool = Field(default=True, description="Whether prompts reuse KV blocks.")
    cpu_offload: bool | None = Field(default=None, description="KV offload to the CPU; null: unknown.")
    async_scheduling: bool | None = Field(
        default=None, description="Whether it schedules ahead; null: the version's default."
    )
    cuda_graphs: bool = Field(default=True, description="Whether steps run as CUDA graphs.")
    client_max_concurrency: PositiveInt | None = Field(
        default=None, description="Most requests that the client had in flight; null: no limit."
    )
    latency_from: Literal["sent", "queued"] = Field(
        default="sent",
        description="Latencies count from when the client sent a request, or from when the engine took it "
        "into its queue.",
    )
    prefix_file: str | None = Field(
        default=None, min_length=1, description="File in the same folder with each row's block hashes."
    )
    output_lengths: Literal["measured", "fixed"] = Field(
        default="fixed", description="Output lengths as they came, or as they were asked for."
    )
    requests: PositiveInt | None = Field(default=None, description="Rows of measured.csv.gz.")

    @model_validator(mode="after")
    def _check(self) -> RunFacts:
        ranks = self.tensor_parallel_size * self.data_parallel_size
        if self.gpus is not None and self.gpus != ranks:
            raise combination_error(
                "gpus",
                f"{self.gpus} accelerators; expected {ranks}, tensor_parallel_size times data_parallel_size",
            )
        if self.prefix_file is not None and Path(self.prefix_file).name != self.prefix_file:
            raise combination_error("prefix_file", "expected the name of a file in the same folder")
        return self


class RunFile:
    """The facts of a run with the places they stand at.

    Attributes:
        path: The file.
        facts: What it says.
    """

    def __init__(self, path: Path, facts: RunFacts, places: Places) -> None:
        self.path = path
        self.facts = facts
        self._places = places

    def with_facts(self, facts: RunFacts) -> RunFile:
        """Return the same file with other facts at the same places."""
        return RunFile(self.path, facts, self._places)

    def place_of(self, key: str) -> Place:
        """Return where a key's value stands; the file's beginning for a key that is not given."""
        return self._places.of_value((key,))

    def error_at(self, key: str, message: str) -> InputError:
        """Return an error that points at a key's value."""
        place = self.place_of(key)
        return InputError(message, file=place.file, line=place.line, column=place.column)


def read_run_file(path: Path) -> RunFile:
    """Read a `run.yaml`.

    Raises:
        InputError: For what is wrong in it, all of it, with file, line, column and the nearest valid name.
    """
    data, places = read_mapping(path, "a mapping of a run's facts")
    facts = check_section(RunFacts, data, places)
    found = RunFile(path, facts, places)
    _check_name(found, ("hardware_id",), load_hardware, facts.hardware_id)
    _check_name(found, ("model",), load_model, facts.model)
    return found


def _check_name(run: RunFile, key: KeyPath, load: Callable[[str], Any], name: str) -> None:
    try:
        load(name)
    except InputError as error:
        raise run.error_at(str(key[0]), f"{key[0]}: {error.message}") from error
