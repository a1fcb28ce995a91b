"""An optimizer of one's own, Yogi, alone and inside Lookahead. `python examples/own_rule.py [STEPS]`"""

import sys

import torch
from torch import nn

import ravine
from ravine.compose import lookahead
from ravine.math import sign, sqrt


@ravine.rule(paper="Zaheer et al. 2018", parent="adam", state={"m": "exp_avg", "v": ravine.State("exp_avg_sq", 1e-6)})
def yogi(p, g, m, v, *, t, lr=1e-2, beta1=0.9, beta2=0.999, eps=1e-3, weight_decay=0.0):
    """Yogi: Adam whose second moment changes by no more than the gradient's square, up or down."""
    m = beta1 * m + (1 - beta1) * g
    v = v - (1 - beta2) * sign(v - g**2) * g**2
    m_hat = m / (1 - beta1**t)
    p = p - lr * (m_hat / (sqrt(v) + eps) + weight_decay * p)
    return p, m, v


print("one step on a number:", yogi(2.0, 2.0, 0.0, 1e-6, t=1))  # the rule is a function

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 200
for optimizer_class in (ravine.optimizer(yogi), ravine.optimizer(lookahead(yogi, k=10))):
    torch.manual_seed(0)
    x = torch.randn(512, 8)
    model = nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 1))
    optimizer = optimizer_class(model.parameters(), lr=1e-2)
    for step in range(steps):
        loss = nn.functional.mse_loss(model(x), x.sin().sum(dim=1, keepdim=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % max(1, steps // 5) == 0 or step == steps - 1:
            print(f"{optimizer_class.__name__}, step {step:4}  loss {loss.item():.4f}")
