"""The sections of a report, in the order of its page and of its summary table.

To add one: a module here with a `Section`, a template beside it if it shall be on the page, its place in `SECTIONS`,
and a row in the README's table of keys.
"""

from slimnet.report.section import Section
from slimnet.report.sections.accuracy import Accuracy
from slimnet.report.sections.gathered import Gathered
from slimnet.report.sections.layers import Layers
from slimnet.report.sections.made import Made
from slimnet.report.sections.notes import Notes
from slimnet.report.sections.pinned import Pinned
from slimnet.report.sections.proof import Proof
from slimnet.report.sections.pytorch import PyTorch
from slimnet.report.sections.recovery import Recovery
from slimnet.report.sections.size import Size
from slimnet.report.sections.sparsity import Sparsity
from slimnet.report.sections.speed import Speed
from slimnet.report.sections.target import Target
from slimnet.report.sections.training import Training
from slimnet.report.sections.widths import Widths

SECTIONS: tuple[Section, ...] = (
    *(Size(), Notes(), Widths(), Layers(), Target(), Speed(), Training(), Pinned()),
    *(Accuracy(), Recovery(), Proof(), Sparsity(), Gathered(), PyTorch(), Made()),
)
