"""Six small networks of different kinds for digits of 8x8 pixels, and students as selection would leave them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from hant import trace
from hant.backends.onnxruntime.backend import OnnxRuntimeBackend
from hant.op_library.pools import pool
from hant.passes.candidates.records import OperationRecord
from hant.passes.pretraining.pretrain import PretrainPass
from hant.passes.ranking.records import WinnerRecord
from hant.transformer.contracts.context import Context
from hant.transformer.contracts.target import Target
from hant.transformer.data.images import batches, shuffled, size
from hant.transformer.data.sources import load_data
from hant.transformer.runs.store import RunStore
from torch import Tensor, nn

POOL = "teacher,identity,cb_stack_3x3_ex0.5,efn_3x3_e3_se1.00"
TEACHER_EPOCHS = 5


class Residual(nn.Module):
    """Adds what ``body`` makes of the input to it."""

    def __init__(self, body: nn.Module, last: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.last = body, last or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.last(x + self.body(x))
        return found


class Attention(nn.Module):
    """Self-attention over tokens (N, tokens, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).view(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        found = nn.functional.scaled_dot_product_attention(q, k, v)
        return torch.as_tensor(self.out(found.transpose(1, 2).reshape(n, tokens, width)))


class Encoder(nn.Module):
    """A block of a vision transformer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, 4)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return torch.as_tensor(x + self.mlp(self.norm2(x)))


class Tokens(nn.Module):
    """A small vision transformer on patches of 2x2 pixels."""

    def __init__(self, width: int = 32, depth: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, 2)
        self.positions = nn.Parameter(torch.randn(1, 16, width) * 0.02)
        self.blocks = nn.Sequential(*(Encoder(width) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return torch.as_tensor(self.head(self.norm(self.blocks(x)).mean(1)))


class ChannelNorm(nn.Module):
    """Layer norm over the channels of (N, C, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


class Dense(nn.Module):
    """Puts new channels behind those of the input."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, growth, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(torch.relu(self.norm(x)))], 1)


class Pooled(nn.Module):
    """Convolutional body, mean over the image, linear head."""

    def __init__(self, stem: nn.Module, blocks: list[nn.Module], width: int) -> None:
        super().__init__()
        self.stem, self.blocks, self.head = stem, nn.Sequential(*blocks), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.blocks(self.stem(x)).mean((2, 3))))


def _conv(inputs: int, outputs: int, stride: int = 1, groups: int = 1, kernel: int = 3) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


def vgg() -> nn.Module:
    """No norms at all."""

    def stage(inputs: int, outputs: int, pool: bool) -> nn.Module:
        layers = [nn.Conv2d(inputs, outputs, 3, 1, 1), nn.ReLU(), nn.Conv2d(outputs, outputs, 3, 1, 1), nn.ReLU()]
        return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pool else []))

    stem = nn.Sequential(nn.Conv2d(1, 12, 3, 1, 1), nn.ReLU())
    return Pooled(stem, [stage(12, 12, pool=True), stage(12, 24, pool=True), stage(24, 32, pool=False)], 32)


def resnet() -> nn.Module:
    def block(width: int) -> nn.Module:
        return Residual(nn.Sequential(*_conv(width, width), nn.ReLU(), *_conv(width, width)), nn.ReLU())

    down = nn.Sequential(*_conv(8, 16, 2), nn.ReLU())
    return Pooled(nn.Sequential(*_conv(1, 8), nn.ReLU()), [block(8), block(8), down, block(16), block(16)], 16)


def mobilenet() -> nn.Module:
    def block(width: int) -> nn.Module:
        inner = 3 * width
        parts = [_conv(width, inner, kernel=1), nn.ReLU6(), _conv(inner, inner, groups=inner), nn.ReLU6()]
        return Residual(nn.Sequential(*parts, _conv(inner, width, kernel=1)))

    down = nn.Sequential(*_conv(8, 16, 2), nn.ReLU6())
    return Pooled(nn.Sequential(*_conv(1, 8), nn.ReLU6()), [block(8), block(8), down, block(16), block(16)], 16)


def convnext() -> nn.Module:
    def block(width: int) -> nn.Module:
        expand, project = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(3 * width, width, 1)
        return Residual(
            nn.Sequential(
                nn.Conv2d(width, width, 5, 1, 2, groups=width), ChannelNorm(width), expand, nn.GELU(), project
            )
        )

    down = nn.Sequential(ChannelNorm(12), nn.Conv2d(12, 24, 2, 2))
    stem = nn.Sequential(nn.Conv2d(1, 12, 1), ChannelNorm(12))
    return Pooled(stem, [block(12), block(12), down, block(24), block(24)], 24)


def densenet() -> nn.Module:
    blocks: list[nn.Module] = [Dense(8 + 6 * place, 6) for place in range(3)]
    blocks.append(nn.Sequential(*_conv(26, 16, 2), nn.ReLU()))
    blocks += [Dense(16 + 6 * place, 6) for place in range(3)]
    return Pooled(nn.Conv2d(1, 8, 3, 1, 1), blocks, 34)


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "vgg": vgg,
    "resnet": resnet,
    "mobilenet": mobilenet,
    "convnext": convnext,
    "vit": Tokens,
    "densenet": densenet,
}


def teacher(name: str) -> nn.Module:
    """Return the network of a name, trained for a few seconds."""
    torch.manual_seed(0)
    data, network = load_data("digits", (1, 8, 8)), ARCHITECTURES[name]()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.003)
    for epoch in range(TEACHER_EPOCHS):
        for images, labels in batches(data.train, 32, shuffled(size(data.train), 0, epoch), drop_last=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return network.eval()


def reopen(store: RunStore, network: nn.Module) -> Context:
    """Return the context of a run of a teacher; without norms layers are blocks, as stages would be too few."""
    normed = any(isinstance(module, nn.BatchNorm2d | nn.LayerNorm) for module in network.modules())
    return Context(
        model=network,
        example_inputs=(torch.zeros(1, 1, 8, 8),),
        store=store,
        target=Target(name="test", backend="onnxruntime"),
        backend=OnnxRuntimeBackend(),
        pool=pool(POOL),
        data=load_data("digits", (1, 8, 8)),
        graph=trace(network, (torch.zeros(2, 1, 8, 8),), granularity="block" if normed else "fine"),
    )


def open_run(root: Path, network: nn.Module) -> Context:
    """Open a run of a teacher whose winner has a candidate in every second block; candidates are hardly trained."""
    context = reopen(RunStore(root), network)
    graph, specs = context.teacher, context.pool
    choice = dict.fromkeys((block.name for block in graph.replaceable), "teacher")
    for place, block in enumerate(graph.replaceable):
        fitting = [spec.name for spec in specs[1:] if not spec.unfit(block.input, block.output)]
        if place % 2 and fitting:
            choice[block.name] = fitting[place // 2 % len(fitting)]
        for name in {"teacher", choice[block.name]}:
            record = OperationRecord(block=block.name, operation=name, fits=True)
            context.store.put(f"{block.name}/{name}", record)
    PretrainPass(epochs=1, batch_size=64).run(context)
    winner = WinnerRecord(index=0, choice=choice, objective=0, bound=0, predicted_ms=1, measured_ms=1, teacher_ms=2)
    context.store.put("winner", winner)
    return context
