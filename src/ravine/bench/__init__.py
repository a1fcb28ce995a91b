"""Bench: what a step costs, side by side with torch's fused AdamW in one process."""
