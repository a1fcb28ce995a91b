"""A plain training loop: AdamW, a warm-up and a cosine. `python examples/plain_loop.py [STEPS]`"""

import sys

import torch
from torch import nn

import ravine
from ravine.optim import schedules

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 300
torch.manual_seed(0)
x = torch.randn(512, 8)
y = x.sin().sum(dim=1, keepdim=True)

model = nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 1))
optimizer = ravine.AdamW(model.parameters(), lr=1e-2, weight_decay=0.01)
schedule = schedules.cosine(optimizer, total_steps=steps, warmup_steps=steps // 10)

for step in range(steps):
    batch = torch.randint(len(x), (64,))
    loss = nn.functional.mse_loss(model(x[batch]), y[batch])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    if step % max(1, steps // 5) == 0:
        print(f"step {step:4}  lr {optimizer.param_groups[0]['lr']:.4f}  loss {loss.item():.4f}")

with torch.no_grad():
    print(f"all of the data  loss {nn.functional.mse_loss(model(x), y).item():.4f}")
