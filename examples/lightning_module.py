"""A LightningModule with Lion and a schedule by step. `python examples/lightning_module.py [STEPS]`"""

import sys

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import ravine
from ravine.optim import schedules


class Regression(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 1))

    def training_step(self, batch: list[Tensor], number: int) -> Tensor:
        x, y = batch
        loss = nn.functional.mse_loss(self.model(x), y)
        if self.global_step % max(1, self.trainer.max_steps // 5) == 0:
            print(f"step {self.global_step:4}  loss {loss.item():.4f}")
        return loss

    def configure_optimizers(self) -> dict:
        optimizer = ravine.Lion(self.parameters(), lr=3e-3, weight_decay=0.1)
        schedule = schedules.linear(optimizer, total_steps=self.trainer.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


steps = int(sys.argv[1]) if len(sys.argv) > 1 else 300
lightning.seed_everything(0, verbose=False)
x = torch.randn(512, 8)
y = x.sin().sum(dim=1, keepdim=True)
data = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
trainer = lightning.Trainer(
    max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
    enable_model_summary=False,
)  # fmt: skip
module = Regression()
trainer.fit(module, data)
with torch.no_grad():
    print(f"all of the data  loss {nn.functional.mse_loss(module.model(x), y).item():.4f}")
