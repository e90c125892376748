"""The controller of E-NAS: an LSTM that chooses block after block, each choice fed back (Pham et al. 2018)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..selecting.table import SearchTable
from .contest import Ints


class Controller(nn.Module):
    """A policy over one operation per block."""

    def __init__(self, table: SearchTable, seed: int, width: int = 64) -> None:
        super().__init__()
        names = sorted({name for operations in table.operations for name in operations})
        self._index = [torch.tensor([names.index(name) for name in row]) for row in table.operations]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embedding = nn.Embedding(len(names) + 1, width)
            self.cell = nn.LSTMCell(width, width)
            self.head = nn.Linear(width, len(names))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1, generator=torch.Generator().manual_seed(seed))

    def sample(self, generator: torch.Generator) -> tuple[Ints, Tensor, Tensor]:
        """Return a choice (N,), the logarithm of its probability, and the sum of the blocks' entropies (scalars)."""
        given = torch.tensor([self.embedding.num_embeddings - 1])
        hidden = cell = torch.zeros(1, self.cell.hidden_size)
        choice, logarithm, entropy = [], torch.zeros(()), torch.zeros(())
        for names in self._index:
            hidden, cell = self.cell(self.embedding(given), (hidden, cell))
            row = F.log_softmax(2.5 * torch.tanh(self.head(hidden)[0, names]), 0)
            picked = int(torch.multinomial(row.exp(), 1, generator=generator))
            choice.append(picked)
            logarithm = logarithm + row[picked]
            entropy = entropy - (row.exp() * row).sum()
            given = names[picked : picked + 1]
        return np.array(choice, dtype=np.int64), logarithm, entropy
