"""Names, aliases and paths of models and hardware."""

from __future__ import annotations

from pathlib import Path

import pytest

from simserve.errors import InputError, UnknownNameError
from simserve.scenario.catalog import load_calibration, load_hardware, load_model
from simserve.scenario.known_names import hardware_names, model_names

# Every model and GPU that the measured end-to-end runs name.
RUN_MODELS = {
    "meta-llama/Llama-2-7b-hf": "llama-2-7b",
    "meta-llama/Llama-2-70b-hf": "llama-2-70b",
    "codellama/CodeLlama-34b-Instruct-hf": "codellama-34b",
    "mistralai/Mixtral-8x7B-v0.1": "mixtral-8x7b",
    "Qwen/Qwen3-14B": "qwen3-14b",
    "Qwen/Qwen3-32B": "qwen3-32b",
    "Qwen/Qwen3-30B-A3B-Instruct-2507": "qwen3-30b-a3b",
    "meta-llama/Llama-3.1-8B": "llama-3.1-8b",
}


@pytest.mark.parametrize(("alias", "name"), RUN_MODELS.items())
def test_hub_ids_resolve_in_any_case(alias: str, name: str) -> None:
    assert load_model(alias).name == load_model(alias.upper()).name == name


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("H100-SXM5-80GB", "h100-sxm"),
        ("h100_sxm", "h100-sxm"),
        ("h100_dgx", "h100-sxm"),
        ("NVIDIA H100 80GB HBM3 (SXM)", "h100-sxm"),
        ("rtx_pro_6000_server", "rtx-pro-6000-server"),
        ("RTX PRO 6000", "rtx-pro-6000-server"),
        ("rtx4090", "rtx-4090"),
        ("a100-80gb", "a100-sxm-80gb"),
        ("b60", "arc-pro-b60"),
    ],
)
def test_spellings_of_hardware_resolve(alias: str, name: str) -> None:
    assert load_hardware(alias).name == name


def test_no_alias_has_two_meanings() -> None:
    from simserve.data_files import data_folder
    from simserve.scenario.known_names import squeeze

    seen: dict[str, str] = {}
    for name in hardware_names():
        for spelling in {squeeze(alias) for alias in (name, *load_hardware(name).aliases)}:
            assert seen.setdefault(spelling, name) == name
    models: dict[str, str] = {}
    for path in data_folder("models").glob("*.json"):
        import json

        content = json.loads(path.read_text())
        for alias in {path.stem, *content["_aliases"], *content.get("_variants", {})}:
            assert models.setdefault(alias.lower(), path.stem) == path.stem


def test_a_variant_changes_what_it_states() -> None:
    base, instruct = load_model("Qwen/Qwen2.5-7B"), load_model("Qwen/Qwen2.5-7B-Instruct")
    assert (base.max_position_embeddings, instruct.max_position_embeddings) == (131_072, 32_768)
    assert base.parameters() == instruct.parameters()


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean 'llama-3\.1-8b'"):
        load_model("llama-3.1-8bb")
    with pytest.raises(UnknownNameError) as unlike:
        load_model("mycompany/Foo-9B")
    assert "simserve list models" in str(unlike.value)
    assert len(str(unlike.value)) < 200
    with pytest.raises(UnknownNameError, match="did you mean 'h100-sxm'"):
        load_hardware("h100-sxn")


def test_a_catalog_name_reads_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    plain = Path.read_text

    def counting(path: Path, encoding: str | None = None, errors: str | None = None) -> str:
        read.append(path.name)
        return plain(path, encoding, errors)

    monkeypatch.setattr(Path, "read_text", counting)
    load_model("llama-3.1-8b")
    load_hardware("h100-sxm")
    assert read == ["llama-3.1-8b.json", "h100-sxm.yaml"]


def test_own_files_are_found_beside_the_scenario(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "name: mine\npeak_tflops: {bfloat16: 100}\nmemory_gb: 24\nmemory_bandwidth_gb_per_s: 900\n"
    )
    scenario = tmp_path / "scenario.yaml"
    mine = load_hardware("mine.yaml", beside=scenario)
    assert mine.name == "mine"
    assert load_calibration(mine) is None
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(
        '{"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,'
        ' "num_attention_heads": 4, "vocab_size": 100, "max_position_embeddings": 512}'
    )
    assert load_model("model", beside=scenario).name == "model"
    assert load_model("model/config.json", beside=scenario).num_layers == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [\n", r"bad\.yaml:2:1: not valid YAML"),
        ("- 1\n", "expected a mapping"),
        ("name: !!python/object/apply:os.system [echo]\n", r"bad\.yaml:1:7: tag .* not allowed"),
        ("name: x\n", "missing key 'memory_gb'"),
    ],
)
def test_broken_hardware_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        load_hardware(str(tmp_path / "bad.yaml"))


def test_missing_file_names_where_it_was_sought(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="beside the scenario, in the working directory"):
        load_hardware("nowhere.yaml", beside=tmp_path / "scenario.yaml")


FAMILIES = """
    llama-2-70b llama-3.1-405b qwen2.5-72b qwen3-235b-a22b mistral-7b-v0.3 mixtral-8x22b codellama-34b
    phi-3-mini phi-4 gemma-2-27b gemma-3-27b gpt-oss-120b deepseek-v3 deepseek-r1 opt-66b bloom-176b
"""


def test_the_catalog_has_the_promised_families() -> None:
    assert set(FAMILIES.split()) <= set(model_names())
