"""Sophia, with an estimate of the Hessian every tenth step. `python examples/sophia.py [STEPS]`"""

import sys

import torch
from torch import nn

import ravine
from ravine.optim import hessian

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 200
torch.manual_seed(0)
x = torch.randn(1024, 8)
labels = (x @ torch.randn(8, 4)).argmax(dim=1)

model = nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 4))
optimizer = ravine.Sophia(model.parameters(), lr=3e-3, rho=0.3, weight_decay=0.1)

for step in range(steps):
    batch = torch.randint(len(x), (128,))
    logits = model(x[batch])
    if step % 10 == 0:
        hessian.gauss_newton_bartlett(optimizer, logits)  # the next step finds it; gradients stay as they are
    loss = nn.functional.cross_entropy(logits, labels[batch])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % max(1, steps // 5) == 0 or step == steps - 1:
        print(f"step {step:4}  loss {loss.item():.4f}")

h = torch.cat([state["hessian"].flatten() for state in optimizer.state.values()])
m = torch.cat([state["exp_avg"].flatten() for state in optimizer.state.values()])
print(f"not clipped: {(m.abs() < 0.3 * h).float().mean():.0%} of the elements; choose rho for 10 to 50 %")
