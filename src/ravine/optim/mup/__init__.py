"""Maximal update parametrization: settings tuned on a narrow model hold for a wide one.

Tensor Programs V (Yang et al. 2022, arXiv:2203.03466), Table 8, for any model and any rule. Build the model at the
width for which the settings were tuned (the base), and at the width to train:

    base, model = MyModel(width=256), MyModel(width=4096)
    mup.initialise(model, base)      # initial weights of the sizes that muP asks for
    mup.scale_readout(model, base)   # logits of unit size; when loading a checkpoint too
    optimizer = ravine.AdamW(mup.groups(model, base, lr=3e-3, weight_decay=0.1))

Where the heads of attention grow wider with the model, `scale_attention` as well. `coordinate_check` tells whether all
is as it should be. Widths alone are dealt with: depth, batch size and length of the run are not.
"""

from __future__ import annotations

from ravine.optim.mup.coordinates import CoordinateCheck, coordinate_check
from ravine.optim.mup.huggingface import base_config, base_model
from ravine.optim.mup.model import initialise, scale_attention, scale_readout
from ravine.optim.mup.rates import UPDATES, Update, groups, measure
from ravine.optim.mup.shapes import Scaling, compare

__all__ = [
    "UPDATES", "CoordinateCheck", "Scaling", "Update", "base_config", "base_model", "compare", "coordinate_check",
    "groups", "initialise", "measure", "scale_attention", "scale_readout",
]  # fmt: skip
