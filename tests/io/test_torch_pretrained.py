"""Language models of the transformers library lose whole key-value groups, and are read and generate as before."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

import slimnet
from slimnet.pipeline.export import PRETRAINED as FOLDER
from slimnet.pipeline.finetune import masks_of
from slimnet.runtime.onnxruntime import DEFAULT

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")
INPUTS = "input_ids=1x7:int64"


def model(family: str, **more: Any) -> Any:
    """A decoder whose key-value heads serve two query heads each, with random weights."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 8, "num_key_value_heads": 4}
    config = getattr(transformers, f"{family}Config")(
        **sizes, num_hidden_layers=2, vocab_size=64, max_position_embeddings=64, **more
    )
    return getattr(transformers, f"{family}ForCausalLM")(config).eval()


def generated(module: Any) -> list[int]:
    prompt = torch.tensor([[5, 9, 2]])
    tokens = module.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=8, do_sample=False,
                             use_cache=True, pad_token_id=0)  # fmt: skip
    return list(tokens[0].tolist())


@pytest.mark.parametrize("family", ["Llama", "Qwen2", "Mistral"])
def test_a_slim_language_model_generates(family, tmp_path):
    dense = model(family)
    config = slimnet.PruneConfig(method="l1", ratio=0.5, prefer="heads")
    report = slimnet.prune(slimnet.load(dense, inputs=INPUTS), config, slimnet.RunConfig(out=tmp_path, bench_seconds=0))
    assert report.content["torch"] == {"survives": True, "why": ""}
    assert report.content["verify"]["exact"]
    folder = tmp_path / FOLDER
    written = json.loads((folder / "config.json").read_text())
    widths = ("num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size", "hidden_size")
    heads, groups, dim, intermediate, hidden = (written[name] for name in widths)
    assert (heads, dim, hidden) == (2 * groups, 4, 32)
    assert (groups, intermediate) < (4, 48)
    assert dense.config.num_attention_heads == 8
    slim = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    assert type(slim) is type(dense)

    ids = np.arange(7)[None] % 64
    (logits,) = DEFAULT.session(tmp_path / "slim.onnx").run({"input_ids": ids})
    with torch.no_grad():
        torch.testing.assert_close(slim(torch.from_numpy(ids)).logits, torch.from_numpy(logits), atol=1e-4, rtol=1e-4)
        for name, mask in masks_of(slimnet.Plan.load(tmp_path / "plan.json"), dense).items():
            dense.get_parameter(name).mul_(mask)
    assert generated(slim) == generated(dense)


def test_what_the_config_cannot_say_is_told(tmp_path):
    """Only the first layer loses heads."""
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "config.json").write_text("of an earlier run")
    net = slimnet.load(model("Llama"), inputs=INPUTS)
    config = slimnet.PruneConfig(ratio=0.5, prefer="heads", round_to=None, ignore=["model.layers.1.*", "*mlp*"])
    report = slimnet.prune(net, config, slimnet.RunConfig(out=tmp_path, bench_seconds=0))
    assert report.content["torch"]["why"] == (
        "LlamaForCausalLM has one num_attention_heads for all layers, and the plan keeps 4 and 8"
    )
    assert not (tmp_path / FOLDER).exists()
