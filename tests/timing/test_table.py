import io

from rich.console import Console

from slimnet.timing.run import bench
from slimnet.timing.table import bench_table
from tests.networks.backends import Simulated


def test_the_table_has_the_model_and_every_layer(net):
    macs = ({"conv0": 8e6, "conv1": 8e6}, {"conv0": 4e6, "conv1": 1e6})
    result = bench(net(64), net(32), backend=Simulated("gpu", 3), seconds=0.2, layers=True, macs=macs)
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(bench_table(result))
    text = console.export_text()
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}
    assert rows["model"][:3] == ["16", "5", "3.20x"]
    assert rows["model"][5:] == [f"{result.latency.value:.2f}x", f"{result.model.efficiency:.3g}"]
    assert rows["conv1"][:3] == ["8", "1", "8.00x"]
    assert {"conv0", "conv2", "fc"} < rows.keys()
    assert "x=1x3x16x16;" in rows
    assert "x=1x3x16x16; 3 threads; simulated 1.0 (gpu); an abacus" in " ".join(text.split())
