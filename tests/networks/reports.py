"""Reports to show, and a parser to look at pages with."""

import copy
import html.parser
from typing import Any

from slimnet.pipeline.config import RunConfig
from slimnet.pipeline.prune import prune
from tests.networks.graphs import net
from tests.networks.named import CNN

PHASE = {
    "settings": {"lr": 0.1, "seed": 7},
    "epochs": [
        {"epoch": k, "loss": 1 / (k + 1), "accuracy": 0.9, "lr": 0.1, "lambda": 0.1 * k, "sparsity": 0.2 * k,
         "norm kept": 1.0, "norm removed": 1 / (k + 1)}
        for k in range(4)
    ],
}  # fmt: skip
CONDITIONS = {
    "inputs": {"x": [1, 3, 8, 8]}, "bounds": {}, "seed": 5, "threads": 2,
    "runtime": "a runtime", "provider": "a provider",
    "machine": {"a runtime": "1.2.3", "cpu": "a processor", "cores": 4},
}  # fmt: skip
LAYERS = [
    {"name": "conv1", "ms": {"before": 2.0, "after": 0.5}, "macs": {"before": 4e6, "after": 1e6},
     "speedup": {"flops": 4.0, "latency": 4.0, "efficiency": 1.0}},
    {"name": "conv2", "ms": {"before": 2.0, "after": 1.9}, "macs": {"before": 4e6, "after": 1e6},
     "speedup": {"flops": 4.0, "latency": 1.05, "efficiency": 0.26}},
    {"name": "(Softmax)", "ms": {"before": 0.1, "after": None}, "macs": {"before": None, "after": None},
     "speedup": {"flops": None, "latency": None, "efficiency": None}},
]  # fmt: skip


def bare() -> dict[str, Any]:
    """The report of a run that was neither timed nor trained nor given data."""
    return prune(net(CNN), run=RunConfig(bench_seconds=0)).content


def full() -> dict[str, Any]:
    """A report with everything there is to show."""
    content = copy.deepcopy(bare())
    content["latency_ms"] = {side: {"median": 4.0, "p90": 5.0, "runs": 20} for side in ("before", "after")}
    content["speedup"] |= {"latency": 2.0, "efficiency": 0.5}
    content["bench"] = {"latency_interval": [1.9, 2.1], "conditions": CONDITIONS,
                        "notes": ["a note on timing"], "layers": LAYERS}  # fmt: skip
    content["accuracy"] = {"before": 0.9, "pruned": 0.1, "recovered": 0.7, "after": 0.89}
    content["recovery"] = {
        "inputs": "pictures/", "fitted_to": 410, "held_back": 102,
        "pruned": {"distance": 1.2, "top1": 0.16, "cosine": 0.1},
        "recovered": {"distance": 0.19, "top1": 0.97, "cosine": 0.9},
        "layers": {"conv2": [0.53, 0.016]},
    }  # fmt: skip
    content["training"] = {"sparsify": PHASE, "finetune": PHASE | {"module": "slim"}}
    content["sparsity"] = {"total": 1000, "stored": 100, "nonzero": 50}
    content["notes"] = ["something worth knowing"]
    content["target"] = {
        "kind": "speedup", "asked": 2.0, "predicted": 2.1, "measured": 2.02,
        "tries": [{"predicted": 2.0, "measured": 1.8}, {"predicted": 2.1, "measured": 2.02}],
        "layers": [{"name": "conv1", "macs_share": 0.5, "macs": {"before": 4e6, "after": 1e6}, "predicted_ms": 0.6,
                    "ms": {"before": 2.0, "after": 0.5}}],
    }  # fmt: skip
    content["command"] = "slimnet prune cnn.onnx --ratio 0.5"
    return content


class Page(html.parser.HTMLParser):
    """Elements, attributes, ids and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.feed(text)
        self.ids = {value for name, value in self.attributes if name == "id"}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text.append(data)
