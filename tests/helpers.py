"""What many tests share: random streams by number."""

import torch


def generator(seed: int = 0) -> torch.Generator:
    """Random stream number `seed`, the same each time it is asked for."""
    return torch.Generator().manual_seed(seed)
