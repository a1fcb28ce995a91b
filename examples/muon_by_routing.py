"""Muon for the hidden matrices, AdamW for the rest, in one optimizer. `python examples/muon_by_routing.py [STEPS]`"""

import sys
from pathlib import Path

import torch
from torch import nn

import ravine
from ravine.optim.routing import route

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 100
torch.manual_seed(0)
text = torch.tensor(list(Path(__file__).read_bytes()))
windows = text.unfold(0, 9, 1)  # eight bytes, and the one to predict

model = nn.Sequential(
    nn.Embedding(256, 32), nn.Flatten(), nn.Linear(8 * 32, 128), nn.GELU(), nn.Linear(128, 128), nn.GELU(),
    nn.LayerNorm(128), nn.Linear(128, 256),
)  # fmt: skip
print(route(model, lr=3e-3), "\n")  # which parameter goes where, and why

# Muon's update is scaled to the size of AdamW's, so that one learning rate and one weight decay serve both.
optimizer = ravine.Muon(model, lr=3e-3, weight_decay=0.01, other={"rule": "adamw", "betas": (0.9, 0.95)})

for step in range(steps):
    batch = windows[torch.randint(len(windows), (128,))]
    loss = nn.functional.cross_entropy(model(batch[:, :-1]), batch[:, -1])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % max(1, steps // 5) == 0 or step == steps - 1:
        print(f"step {step:4}  loss {loss.item():.4f}")
