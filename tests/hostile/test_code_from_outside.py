"""No code from outside runs: no pickle, no evaluation, no shell in the source; models that try it get nowhere."""

from __future__ import annotations

import ast
import json
import pickle
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import smidgen
from smidgen.data.templates import load_template
from smidgen.errors import SmidgenError
from smidgen.models.demands import refuse_demands
from smidgen.models.load import LanguageModel, load_language_model, load_tokenizer, save_language_model
from smidgen.models.reward_model import load_reward_model
from smidgen.pairs import messages_from

PACKAGE = Path(smidgen.__file__).parent
# The report as a notebook executes its own cells, which Smidgen wrote, to put their outputs beside them; completion is
# told the name of a shell; a cluster is asked whether it answers by a Python of its own, with arguments in a list.
_ALLOWED = {
    ("report/notebook.py", "exec"),
    ("report/notebook.py", "compile"),
    ("cli/completion.py", "shell="),
    ("study/cluster.py", "subprocess"),
}
_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "subprocess"}
_BARE = {"eval", "exec", "compile", "__import__"}
_CALLS = {("os", "system"), ("os", "popen"), ("yaml", "load"), ("yaml", "full_load"), ("yaml", "unsafe_load"),
          ("torch", "load"), ("np", "load"), ("numpy", "load"), ("pd", "read_pickle")}  # fmt: skip
_FLAGS = {"shell", "allow_pickle", "trust_remote_code"}


def dangers(source: str) -> Iterator[str]:
    """What in a source could run, or unpickle, what comes from outside."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (name for name in names if name.partition(".")[0] in _MODULES)
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Name) and function.id in _BARE:
                yield function.id
            if isinstance(function, ast.Attribute) and (ast.unparse(function.value), function.attr) in _CALLS:
                yield ast.unparse(function)
            for flag in node.keywords:
                if flag.arg in _FLAGS and not (isinstance(flag.value, ast.Constant) and flag.value.value is False):
                    yield f"{flag.arg}="


def test_the_source_unpickles_evaluates_and_shells_nothing() -> None:
    found = {
        (path.relative_to(PACKAGE).as_posix(), danger)
        for path in PACKAGE.rglob("*.py")
        for danger in dangers(path.read_text(encoding="utf-8"))
    }
    assert found <= _ALLOWED


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from joblib import load", "torch.load(f)", "np.load(f)", "np.load(f, allow_pickle=True)",
        "eval('1')", "run('x', shell=True)", "yaml.load(x)", "os.system('id')", "f(trust_remote_code=yes)",
    ],
)  # fmt: skip
def test_what_looks_for_danger_finds_it(source: str) -> None:
    assert list(dangers(source))


class _Trap:
    """Pickled, it writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.fixture
def sprung(tmp_path: Path) -> Path:
    """The file that stands there once any code from outside has run."""
    return tmp_path / "sprung"


@pytest.fixture
def folder(tiny: LanguageModel, tmp_path: Path) -> Path:
    """A good model's folder, to be turned bad."""
    save_language_model(tiny, tmp_path / "model", card="")
    return tmp_path / "model"


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_the_trap_springs(sprung: Path) -> None:
    pickle.loads(pickle.dumps(_Trap(sprung)))
    assert sprung.exists()


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.safetensors", "adapter_model.bin", "pytorch_model.bin.index.json"]
)
def test_pickled_weights_never_unpickle(name: str, folder: Path, sprung: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(_Trap(sprung)))
    torch.save({"x": _Trap(sprung)}, folder / "other.bin")
    if name == "adapter_model.bin":
        (folder / "adapter_config.json").write_text(
            json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(folder), "target_modules": ["c_attn"]})
        )
    for load in (load_language_model, load_reward_model):
        with pytest.raises(SmidgenError):
            load(folder)
    assert not sprung.exists()


def test_a_pickled_adapter_beside_good_weights_never_unpickles(folder: Path, sprung: Path) -> None:
    torch.save({"x": _Trap(sprung)}, folder / "adapter_model.bin")
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(folder), "target_modules": ["c_attn"]})
    )
    with pytest.raises(SmidgenError):
        load_language_model(folder)
    assert not sprung.exists()


@pytest.mark.parametrize("kind", ["model", "tokenizer"])
def test_a_models_own_code_never_runs(kind: str, folder: Path, sprung: Path) -> None:
    (folder / "theirs.py").write_text(
        f"from pathlib import Path\nPath({str(sprung)!r}).touch()\n"
        "from transformers import GPT2LMHeadModel as M, GPT2Config as C, GPT2TokenizerFast as T\n"
    )
    theirs = {"AutoConfig": "theirs.C", "AutoModelForCausalLM": "theirs.M", "AutoTokenizer": ["theirs.T", "theirs.T"]}
    if kind == "model":
        change(folder / "config.json", auto_map=theirs, model_type="theirs")
    else:
        change(folder / "tokenizer_config.json", auto_map=theirs, tokenizer_class="Theirs")
    before = set(sys.modules)
    for load in (load_language_model, load_reward_model, load_tokenizer):
        try:
            load(folder)
        except SmidgenError:
            continue
    assert not sprung.exists() and not [name for name in set(sys.modules) - before if "theirs" in name]


_WEIGHTS = "model.safetensors"
_INDEX = f"{_WEIGHTS}.index.json"


@pytest.mark.parametrize("asked", ["evil.bin", "../secret.safetensors", "/etc/x.safetensors", "", 3, ["a.safetensors"]])
@pytest.mark.parametrize("kind", ["model", "adapter", "other index"])
def test_an_index_names_safetensors_beside_it_and_nothing_else(
    kind: str, asked: Any, folder: Path, sprung: Path, tmp_path: Path
) -> None:
    names = list(load_file(folder / _WEIGHTS))
    (folder / _WEIGHTS).rename(tmp_path / "secret.safetensors")
    (folder / "evil.bin").write_bytes(pickle.dumps(_Trap(sprung)))
    index = _INDEX
    if kind == "other index":
        index = "other.safetensors.index.json"
        change(folder / "config.json", transformers_weights=index)
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, asked)}))
    if kind == "adapter":
        (tmp_path / "adapter").mkdir()
        for file in folder.glob("token*"):
            shutil.copy(file, tmp_path / "adapter")
        (tmp_path / "adapter" / "adapter_config.json").write_text(
            json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(folder), "target_modules": ["c_attn"]})
        )
        folder = tmp_path / "adapter"
    for load in (load_language_model, load_reward_model):
        with pytest.raises(SmidgenError, match="to name safetensors files beside it, got"):
            load(folder)
    assert not sprung.exists()


def test_weights_in_several_files_are_loaded(folder: Path) -> None:
    whole = load_language_model(folder).fingerprint
    weights = load_file(folder / _WEIGHTS)
    (folder / _WEIGHTS).unlink()
    parts = {name: f"model-0000{i % 2 + 1}-of-00002.safetensors" for i, name in enumerate(weights)}
    for part in set(parts.values()):
        save_file({n: w for n, w in weights.items() if parts[n] == part}, folder / part, metadata={"format": "pt"})
    (folder / _INDEX).write_text(json.dumps({"metadata": {}, "weight_map": parts}))
    assert load_language_model(folder).fingerprint == whole


def test_weights_that_a_configuration_names_are_not_read_as_text(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be larger than the memory."""
    change(folder / "config.json", transformers_weights=_WEIGHTS)
    read, usual = [], Path.read_text

    def noted(path: Path, **how: Any) -> str:
        read.append(path.name)
        return usual(path, **how)

    monkeypatch.setattr(Path, "read_text", noted)
    refuse_demands(str(folder))
    assert "config.json" in read and _WEIGHTS not in read


@pytest.mark.parametrize(
    "values",
    [
        {"_attn_implementation": "owner/kernel"},
        {"attn_implementation": "owner/kernel@main:forward"},
        {"attn_implementation": {"": "sdpa", "text_config": "owner/kernel"}},
        {"experts_implementation": "owner/kernel"},
        {"text_config": {"attn_implementation": "paged|owner/kernel"}},
    ],
)
def test_no_kernel_is_fetched_because_a_configuration_names_it(values: dict, folder: Path) -> None:
    change(folder / "config.json", **values)
    for load in (load_language_model, load_reward_model):
        with pytest.raises(SmidgenError, match="to name no code from elsewhere, got '"):
            load(folder)


_TEMPLATE = {"type": "TemplateProcessing", "special_tokens": {}, "pair": [{"Sequence": {"id": "A", "type_id": 0}}]}


@pytest.mark.parametrize(
    "values",
    [
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
        {"post_processor": {**_TEMPLATE, "single": [{"SpecialToken": {"id": "[NO]", "type_id": 0}}]}},
        {"post_processor": {**_TEMPLATE, "single": [{"Sequence": {"id": "B", "type_id": 0}}]}},
        {"model": {"type": "Unigram", "unk_id": None, "vocab": [["a", 0.0]], "byte_fallback": False}},
        {"model": {"type": "WordLevel", "unk_token": "[NO]", "vocab": {"a": 0}}},
    ],
)
def test_a_tokenizer_that_panics_is_an_error_in_words(values: dict, folder: Path) -> None:
    """Before any work begins; a panic is no exception to Python, so that nothing else would catch it."""
    change(folder / "tokenizer.json", **values)
    for load in (load_tokenizer, load_language_model, load_reward_model):
        with pytest.raises(SmidgenError, match=re.escape(str(folder)) + "'; .*Give a"):
            load(folder)


_ESCAPES = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.system('touch SPRUNG') }}",
    "{{ messages.__class__.__base__ }}{{ self.__init__.__globals__ }}",
    "{{ messages.append.__self__.__class__.__init__.__globals__ }}",
    "{{ joiner.__init__.__globals__['__builtins__']['open']('SPRUNG', 'w') }}",
    "{% for x in ().__class__.__bases__[0].__subclasses__() %}{{ x }}{% endfor %}",
    "{{ messages.clear() }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
    "{{ raise_exception('no') }}",
    "{{ 1 // 0 }}",
    "{{ messages[99].content }}",
    "{% include '/etc/passwd' %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{{ range(10 ** 9) | list }}",
    "{{ [] | first | upper | nosuchfilter }}",
    "{% if %}",
)


@pytest.mark.parametrize("template", _ESCAPES)
def test_a_chat_template_stays_in_its_box(template: str, folder: Path, sprung: Path) -> None:
    for file in folder.glob("chat_template*"):
        file.unlink()
    text = template.replace("SPRUNG", str(sprung)) + "{% for m in messages %}{{ m.content }}{% endfor %}"
    (folder / "chat_template.jinja").write_text(text)
    tokenizer = load_tokenizer(folder)
    assert tokenizer.chat_template == text
    with pytest.raises(SmidgenError):
        rendered = load_template("chat", tokenizer).prompt(messages_from("Hi", "user"))
        # Whatever it could name is no more than an empty text to it.
        assert "class" not in rendered and "root:" not in rendered
        raise SmidgenError(rendered)
    assert not sprung.exists()


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("config.json", {"n_embd": "many"}),
        ("config.json", {"n_embd": 10**12}),
        ("config.json", {"n_layer": -1}),
        ("config.json", {"vocab_size": 2**70}),
        ("config.json", {"model_type": ["gpt2"]}),
        ("config.json", {"architectures": "no list"}),
        ("config.json", {"torch_dtype": "float7", "dtype": "float7"}),
        ("config.json", {"quantization_config": {"quant_method": "nosuch"}}),
        ("config.json", {"eos_token_id": [[]]}),
        ("tokenizer_config.json", {"tokenizer_class": 3}),
        ("tokenizer_config.json", {"eos_token": {"content": 3}}),
        ("tokenizer.json", {"model": {"type": "BPE"}}),
        ("tokenizer.json", {"added_tokens": 3}),
    ],
)
def test_a_lying_configuration_loads_or_is_an_error_in_words(file: str, values: dict, folder: Path) -> None:
    change(folder / file, **values)
    for load in (load_language_model, load_reward_model):
        try:
            load(folder)
        except SmidgenError as error:
            assert str(folder) in str(error)
