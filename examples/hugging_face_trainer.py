"""Hugging Face's Trainer with clipped AdamW and a schedule. `python examples/hugging_face_trainer.py [STEPS]`"""

import sys
import tempfile

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

import ravine
from ravine.optim import schedules

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 100
set_seed(0)
config = GPT2Config(vocab_size=32, n_positions=16, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
model = GPT2LMHeadModel(config)  # of random weights: nothing is downloaded
starts = torch.randint(32, (512, 1))
sequences = (starts + 3 * torch.arange(16)) % 32  # counting in threes, from anywhere
data = [{"input_ids": sequence, "labels": sequence} for sequence in sequences]

optimizer = ravine.ClipNormAdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.1)
schedule = schedules.cosine(optimizer, total_steps=steps, warmup_steps=steps // 10)

with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        folder, max_steps=steps, per_device_train_batch_size=32, max_grad_norm=0.0, use_cpu=True, report_to="none",
        save_strategy="no", logging_steps=max(1, steps // 5), disable_tqdm=True,
    )  # fmt: skip
    Trainer(model, arguments, train_dataset=data, optimizers=(optimizer, schedule)).train()
