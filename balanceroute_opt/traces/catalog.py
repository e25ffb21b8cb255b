"""The public traces: where they are, how large, under which licence, and what their bytes must hash to."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CATALOG", "CatalogEntry"]


@dataclass(frozen=True)
class CatalogEntry:
    """One public trace.

    Parameters
    ----------
    name : str
        Short name, as ``azure-2023-conv``.
    file, url : str
        Name in the cache, and source.
    format : str
        Reader, see :data:`FORMATS`.
    rows, size : int or None
        Rows and bytes; None where they are not known.
    licence, source, cite : str
        SPDX licence, repository, and what to cite.
    sha256 : str or None
        Hash of the file; None is *unpinned*: then the first download's hash is recorded.
    pin : str
        Where the hash comes from.
    """

    name: str
    file: str
    url: str
    format: str
    rows: int | None
    size: int | None
    licence: str
    source: str
    cite: str
    sha256: str | None = None
    pin: str = ""


_RAW = "https://raw.githubusercontent.com"
_MEDIA = "https://media.githubusercontent.com/media"
_OURS = "computed from the file"
_LFS = "pointer file in the publisher's repository"
_MANY = "several independent downloads that agree"
_ONE = "one published download"

_AZURE_2023 = (
    "azure",
    "CC-BY-4.0",
    "Azure/AzurePublicDataset",
    "Patel et al., Splitwise, ISCA 2024",
    f"{_RAW}/Azure/AzurePublicDataset/b469a113cedca53ddc3bdea71a143dc4b7d8700c/data",
)
_AZURE_2024 = (
    "azure",
    "CC-BY-4.0",
    "Azure/AzurePublicDataset",
    "Stojkovic et al., DynamoLLM, HPCA 2025",
    "https://github.com/Azure/AzurePublicDataset/releases/download/dataset-llm-2024",
)
_MOONCAKE = (
    "mooncake",
    "Apache-2.0",
    "kvcache-ai/Mooncake",
    "Qin et al., Mooncake, FAST 2025",
    f"{_RAW}/kvcache-ai/Mooncake/3b5a594133958449a1feaf1c9e0fc1b553e34a28/FAST25-release",
)
_BURSTGPT = (
    "burstgpt",
    "CC-BY-4.0",
    "HPMLL/BurstGPT",
    "Wang et al., BurstGPT, KDD 2025",
    "https://github.com/HPMLL/BurstGPT/releases/download/v2.0",
)
_QWEN = (
    "qwen",
    "Apache-2.0",
    "alibaba-edu/qwen-bailian-usagetraces-anon",
    "Wang et al., KVCache cache in the wild, USENIX ATC 2025",
    f"{_MEDIA}/alibaba-edu/qwen-bailian-usagetraces-anon/main",
)
_VIDUR = (
    "vidur",
    "MIT",
    "microsoft/vidur",
    "Patel et al., Splitwise, ISCA 2024 (row for row azure-2023)",
    f"{_RAW}/microsoft/vidur/main/data/processed_traces",
)
_SHAREGPT = (
    "lengths",
    "MIT",
    "AKafakA/vidur_opt_scheduler",
    "ShareGPT conversations with predicted output lengths",
    f"{_RAW}/AKafakA/vidur_opt_scheduler/845f97cab98968fc9c1c2635c1d7feca7f98bf67/data/processed_traces",
)


def _entry(
    name: str,
    group: tuple[str, str, str, str, str],
    path: str,
    rows: int | None,
    size: int | None,
    sha256: str | None = None,
    pin: str = "",
) -> CatalogEntry:
    form, licence, source, cite, base = group
    file = f"{name}.{path.rpartition('.')[2]}"
    return CatalogEntry(name, file, f"{base}/{path}", form, rows, size, licence, source, cite, sha256, pin)


# fmt: off
_ENTRIES = (
    _entry("azure-2023-code", _AZURE_2023, "AzureLLMInferenceTrace_code.csv", 8_819, None,
           "54e9a6d2a4bd06ba1e060304b900abbc74cbea53de96506e60fe5bb4f2277fb6", _OURS),
    _entry("azure-2023-conv", _AZURE_2023, "AzureLLMInferenceTrace_conv.csv", 19_366, None,
           "2f1e5b666d4e3055fdbba98598ce2ec307767b9064e03e2fa46676dbcc7d0bf8", _OURS),
    _entry("azure-2024-code", _AZURE_2024, "AzureLLMInferenceTrace_code_1week.csv", 16_803_695, 691_989_454,
           "71de5c55cbc35f8f1ed0b6b7806b4cd1e9764b0058469725a6aac98023a1448f", _MANY),
    _entry("azure-2024-conv", _AZURE_2024, "AzureLLMInferenceTrace_conv_1week.csv", 27_303_999, 1_135_195_393,
           "a0cc9b969a9bbf0fd811802cbf4323edd3a209ace791e3799ad4f9207f213941", _MANY),
    _entry("burstgpt-1", _BURSTGPT, "BurstGPT_1.csv", 1_429_700, 52_283_111,
           "4bb3783693d0a435686fbfc885615d2349bd067239079fa4b749f2e679e12122", _LFS),
    _entry("burstgpt-1-clean", _BURSTGPT, "BurstGPT_without_fails_1.csv", 1_404_300, 51_429_517,
           "a4d068a7113ec0290e74063a1b3447dc6001a30e4298eb313581b71006dda1f4", _LFS),
    _entry("burstgpt-2", _BURSTGPT, "BurstGPT_2.csv", 3_858_400, 144_819_209,
           "44bf5942b03fca42c01a226a545ad3a750ec62688faecd67b6831c56a8928bf7", _LFS),
    _entry("burstgpt-2-clean", _BURSTGPT, "BurstGPT_without_fails_2.csv", 3_784_200, 142_376_815,
           "56193aa9b2bb26128ded43d2d29a960df6bf5af062bcfc9b005f3fcaa4e6e501", _LFS),
    _entry("burstgpt-3", _BURSTGPT, "BurstGPT_3.csv", 5_344_021, 231_682_327,
           "2299986a07388aa303ec2c41d1131e756db650a39ed6ef9dfe7cc3d7f9a43b8f", _MANY),
    _entry("burstgpt-3-clean", _BURSTGPT, "BurstGPT_without_fails_3.csv", 4_956_058, 217_312_026,
           "3326259f9efb11845bc5ef85fa97e6f691050b0974621c91ef22acd566c43a40", _ONE),
    _entry("mooncake-conversation", _MOONCAKE, "traces/conversation_trace.jsonl", 12_031, 3_029_533,
           "b8cbb061a85206d729d91cdc2981f43c9e0d99209dce588d3af5f7934408b9df", _MANY),
    _entry("mooncake-toolagent", _MOONCAKE, "traces/toolagent_trace.jsonl", 23_608, None,
           "48a2db1a13d3bc05e6330140c64f604ba366df20d3c9e128b5c35a01c1fa5f71", _MANY),
    _entry("mooncake-arxiv", _MOONCAKE, "arxiv-trace/mooncake_trace.jsonl", 23_608, None),
    _entry("qwen-a", _QWEN, "qwen_traceA_blksz_16.jsonl", 43_058, 56_354_493,
           "07cedc9ed8aff301994ac68ed4aede8123b7603673575eeba9dd677de663db17", _MANY),
    _entry("qwen-b", _QWEN, "qwen_traceB_blksz_16.jsonl", 172_800, 96_209_982,
           "68e3f98e2d601d60d0abf4b89bc8a3654372abab7b1cde6373a13d0054379d59", _MANY),
    _entry("qwen-coder", _QWEN, "qwen_coder_blksz_16.jsonl", None, 132_054_902,
           "3d74974cebb7bccb69b1ca6ea210a44d9a3033443c0271ed015327284dea1aff", _LFS),
    _entry("qwen-thinking", _QWEN, "qwen_thinking_blksz_16.jsonl", None, 27_901_454,
           "41ac36d9d1b54d084eeb6b05e9d142ba9d02f8bf79cfc9fff418d8ab7cdee906", _LFS),
    _entry("sharegpt-lengths", _SHAREGPT, "sharegpt-val-10k-predicted-len.csv", 40_000, None,
           "2223d94500106aeacf8f3a5f313ad24caa018cf28d89678a8276a6bcf0883915", _OURS),
    _entry("splitwise-code", _VIDUR, "splitwise_code.csv", 8_819, None),
    _entry("splitwise-conv", _VIDUR, "splitwise_conv.csv", 19_366, None),
)
# fmt: on
CATALOG: dict[str, CatalogEntry] = {entry.name: entry for entry in _ENTRIES}
"""Every public trace by name. BurstGPT rows are the publisher's rounded counts where they end in 00."""
