"""What an optimizer sees and does in a training run of one's own: `ravine.watch`, and the page of its recordings."""

from ravine.explain.watch.recording import Recording, read
from ravine.explain.watch.watching import Watch, watch

__all__ = ["Recording", "Watch", "read", "watch"]
