"""Public traces that `simserve trace fetch` knows: where they are, under which license, and their checksums.

Checksums of files that GitHub keeps in Git LFS are the object ids of their pointers; the others were computed
from the files at the stated commits.
"""

from __future__ import annotations

from dataclasses import dataclass

_RAW = "https://raw.githubusercontent.com"
_LFS = "https://media.githubusercontent.com/media"

_SPLITWISE = "Patel et al.: Splitwise: Efficient Generative LLM Inference Using Phase Splitting. ISCA 2024"
_MOONCAKE = (
    "Qin et al.: Mooncake: Trading More Storage for Less Computation - A KVCache-centric Architecture for "
    "Serving LLM Chatbot. FAST 2025"
)
_BAILIAN = (
    "Wang et al.: KVCache Cache in the Wild: Characterizing and Optimizing KVCache Cache at a Large Cloud "
    "Provider. USENIX ATC 2025"
)


@dataclass(frozen=True, slots=True)
class PublicTrace:
    """One file of a public repository.

    Attributes:
        repository, commit, path: Where it is on GitHub.
        sha256: Of the whole file, hex.
        license: Of the data.
        citation: What its authors ask to cite.
        lfs: Whether the repository keeps it in Git LFS.
    """

    repository: str
    commit: str
    path: str
    sha256: str
    license: str
    citation: str
    lfs: bool = False

    @property
    def file_name(self) -> str:
        """Name of the file."""
        return self.path.rpartition("/")[2]

    def url(self, mirror: str | None = None) -> str:
        """Return its address, with `mirror` in place of GitHub's file server."""
        base = (mirror or (_LFS if self.lfs else _RAW)).rstrip("/")
        return f"{base}/{self.repository}/{self.commit}/{self.path}"


_AZURE = "b469a113cedca53ddc3bdea71a143dc4b7d8700c"
_MOONCAKE_COMMIT = "3b5a594133958449a1feaf1c9e0fc1b553e34a28"
_BAILIAN_COMMIT = "0b4273a1d8a83935b9d9356e78f95c31f2ac64cf"

PUBLIC_TRACES: dict[str, PublicTrace] = {
    "azure-2023-code": PublicTrace(
        "Azure/AzurePublicDataset",
        _AZURE,
        "data/AzureLLMInferenceTrace_code.csv",
        "54e9a6d2a4bd06ba1e060304b900abbc74cbea53de96506e60fe5bb4f2277fb6",
        "CC-BY-4.0",
        _SPLITWISE,
    ),
    "azure-2023-conv": PublicTrace(
        "Azure/AzurePublicDataset",
        _AZURE,
        "data/AzureLLMInferenceTrace_conv.csv",
        "2f1e5b666d4e3055fdbba98598ce2ec307767b9064e03e2fa46676dbcc7d0bf8",
        "CC-BY-4.0",
        _SPLITWISE,
    ),
    "mooncake-conversation": PublicTrace(
        "kvcache-ai/Mooncake",
        _MOONCAKE_COMMIT,
        "FAST25-release/traces/conversation_trace.jsonl",
        "b8cbb061a85206d729d91cdc2981f43c9e0d99209dce588d3af5f7934408b9df",
        "Apache-2.0",
        _MOONCAKE,
    ),
    "mooncake-synthetic": PublicTrace(
        "kvcache-ai/Mooncake",
        _MOONCAKE_COMMIT,
        "FAST25-release/traces/synthetic_trace.jsonl",
        "bd070915a98fc0ed264d7cfef2ce746002eb3076a695ec31ba2674c0111ec131",
        "Apache-2.0",
        _MOONCAKE,
    ),
    "burstgpt-1": PublicTrace(
        "HPMLL/BurstGPT",
        "5d93d820d9b6bee4e26914df003e5713538164ae",
        "data/BurstGPT_1.csv",
        "4bb3783693d0a435686fbfc885615d2349bd067239079fa4b749f2e679e12122",
        "CC-BY-4.0",
        "Wang et al.: BurstGPT: A Real-World Workload Dataset to Optimize LLM Serving Systems. KDD 2025",
        lfs=True,
    ),
    "bailian-thinking": PublicTrace(
        "alibaba-edu/qwen-bailian-usagetraces-anon",
        _BAILIAN_COMMIT,
        "qwen_thinking_blksz_16.jsonl",
        "41ac36d9d1b54d084eeb6b05e9d142ba9d02f8bf79cfc9fff418d8ab7cdee906",
        "Apache-2.0",
        _BAILIAN,
        lfs=True,
    ),
    "bailian-coder": PublicTrace(
        "alibaba-edu/qwen-bailian-usagetraces-anon",
        _BAILIAN_COMMIT,
        "qwen_coder_blksz_16.jsonl",
        "3d74974cebb7bccb69b1ca6ea210a44d9a3033443c0271ed015327284dea1aff",
        "Apache-2.0",
        _BAILIAN,
        lfs=True,
    ),
    "vidur-arxiv-summarization": PublicTrace(
        "microsoft/vidur",
        "7d47513363ec447a741ac5e47241580b47724fbf",
        "data/processed_traces/arxiv_summarization_stats_llama2_tokenizer_filtered_v2.csv",
        "9d3580538d915ca75e4aaaa54590b42dbb17abc6d74c8913310cf07c232adcdc",
        "MIT",
        "Agrawal et al.: Vidur: A Large-Scale Simulation Framework for LLM Inference. MLSys 2024",
    ),
    "sarathi-sharegpt-8k": PublicTrace(
        "microsoft/sarathi-serve",
        "72339db5b120614033b317880ad3a05a5e4c9415",
        "data/processed_traces/sharegpt_8k_filtered_stats_llama2_tokenizer.csv",
        "6d6c296302a853e2669a674a96f269283e60c57e60363bd450588a1066919f9f",
        "Apache-2.0",
        "Agrawal et al.: Taming Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve. OSDI 2024",
    ),
    "llmservingsim-mixed": PublicTrace(
        "casys-kaist/LLMServingSim",
        "5daddb21a545658d5150b535712d0494584b5278",
        "workloads/workload_me2_01_mixed.jsonl",
        "b3e9c79a96c9627feed0b6a10bc2207cbec7d6277b2e51826a0e069b46151cd5",
        "MIT",
        "Cho et al.: LLMServingSim: A HW/SW Co-Simulation Infrastructure for LLM Inference Serving at Scale. "
        "IISWC 2024",
    ),
}
