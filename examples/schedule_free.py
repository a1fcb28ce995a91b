"""Schedule-Free AdamW: trained at one point, evaluated at another. `python examples/schedule_free.py [STEPS]`"""

import sys

import torch
from torch import nn

import ravine

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 300
torch.manual_seed(0)
x, unseen = torch.randn(512, 8), torch.randn(512, 8)


def target(inputs: torch.Tensor) -> torch.Tensor:
    return inputs.sin().sum(dim=1, keepdim=True)


model = nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 1))
optimizer = ravine.ScheduleFreeAdamW(model.parameters(), lr=2.5e-2)  # no schedule, and no end to plan for

for step in range(steps + 1):
    if step % max(1, steps // 5) == 0:
        with ravine.evaluating(model, optimizer), torch.no_grad():  # the average of the steps; then back to the bit
            loss = nn.functional.mse_loss(model(unseen), target(unseen))
            weights = {name: value.clone() for name, value in model.state_dict().items()}  # what to give away
        print(f"step {step:4}  loss {loss.item():.4f}")
    batch = torch.randint(len(x), (64,))
    loss = nn.functional.mse_loss(model(x[batch]), target(x[batch]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

model.load_state_dict(weights)
