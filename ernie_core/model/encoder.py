"""The post-LayerNorm Transformer encoder with its pooler (ernie.md 5.1).

Shapes: B batch, T tokens, D hidden, H heads, K head width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ernie_core.model.attention import attention
from ernie_core.model.config import ErnieConfig
from ernie_core.model.dropout import dropout
from ernie_core.model.embeddings import Embeddings, TorchBatch

MASKED = -10000.0  # added to the logits of padding keys, as the reference does
_SITES_PER_LAYER = 3


class Layer(nn.Module):
    """Self-attention and FFN, each followed by dropout, residual sum and LayerNorm."""

    def __init__(self, config: ErnieConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.qkv = nn.Linear(size, 3 * size)
        self.attention_output = nn.Linear(size, size)
        self.attention_norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.ffn_in = nn.Linear(size, config.intermediate_size)
        self.ffn_out = nn.Linear(config.intermediate_size, size)
        self.ffn_norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.activation = activation(config.hidden_act)
        self.hidden_dropout_prob = config.hidden_dropout_prob
        self.attention_dropout_prob = config.attention_probs_dropout_prob

    def forward(self, hidden_BTD: Tensor, bias_B11T: Tensor, dropout_key: int | None, site: int) -> Tensor:
        """Return hidden_BTD; uses dropout sites `site` to `site` + 2."""
        B, T, D = hidden_BTD.shape
        q_BHTK, k_BHTK, v_BHTK = self.qkv(hidden_BTD).view(B, T, 3, self.num_heads, D // self.num_heads).permute(2, 0, 3, 1, 4)
        context_BHTK = attention(q_BHTK, k_BHTK, v_BHTK, bias_B11T, self.attention_dropout_prob, dropout_key, site)
        attended_BTD = self.attention_output(context_BHTK.transpose(1, 2).reshape(B, T, D))
        hidden_BTD = self.attention_norm(hidden_BTD + dropout(attended_BTD, self.hidden_dropout_prob, dropout_key, site + 1))
        inner_BTD = self.ffn_out(self.activation(self.ffn_in(hidden_BTD)))
        out: Tensor = self.ffn_norm(hidden_BTD + dropout(inner_BTD, self.hidden_dropout_prob, dropout_key, site + 2))
        return out


class Encoder(nn.Module):
    """Embeddings, layers and the pooler over the first token.

    `recompute` may be set: a layer's inner values are then computed again in backward and not kept, which costs a third of a step and gives the same bits.
    """

    recompute = False

    def __init__(self, config: ErnieConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size)

    @property
    def num_sites(self) -> int:
        """Dropout sites used; a head on top counts on from here."""
        return 1 + _SITES_PER_LAYER * len(self.layers)

    def forward(self, batch: TorchBatch, dropout_key: int | None) -> tuple[Tensor, Tensor]:
        """Encode a batch.

        Args:
            batch: ids of B rows padded to T tokens.
            dropout_key: key of the micro-batch, or None to switch dropout off.

        Returns:
            (hidden_BTD, pooled_BD); hidden_BTD is float32, pooled_BD of the autocast type.
        """
        hidden_BTD: Tensor = self.embeddings(batch, dropout_key, 0)
        padding_BT = torch.arange(hidden_BTD.shape[1], device=hidden_BTD.device) >= batch.lengths[:, None]
        bias_B11T = torch.zeros(padding_BT.shape, device=hidden_BTD.device).masked_fill(padding_BT, MASKED)[:, None, None, :]
        for i, layer in enumerate(self.layers):
            inputs = (hidden_BTD, bias_B11T, dropout_key, 1 + _SITES_PER_LAYER * i)
            if self.recompute and torch.is_grad_enabled():
                hidden_BTD = checkpoint(layer, *inputs, use_reentrant=False, preserve_rng_state=False)
            else:
                hidden_BTD = layer(*inputs)
        return hidden_BTD, torch.tanh(self.pooler(hidden_BTD[:, 0]))


def activation(name: str) -> nn.Module:
    """Return the activation of a validated `ErnieConfig.hidden_act`; gelu is the exact form."""
    return nn.GELU() if name == "gelu" else nn.ReLU()
