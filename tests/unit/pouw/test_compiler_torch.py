"""PyTorch modules become exact graphs; what has no exact operator is named with its source line."""

import json
import textwrap

import numpy as np
import pytest

from hyperdust import compile as c
from hyperdust import graph as g
from pouw.backends.registry import list_backends
from pouw.compiler import export
from precompiles.graph_facts import read_facts

torch = pytest.importorskip("torch", reason="torch is an extra: pip install 'hyperdust[compile]'")
nn = torch.nn
pytestmark = pytest.mark.filterwarnings("ignore")  # torch's own


class Encoder(nn.Module):
    def __init__(self, *, norm_first):
        super().__init__()
        self.words = nn.Embedding(50, 32)
        self.places = nn.Embedding(40, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=norm_first, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 10)

    def forward(self, ids):
        x = self.words(ids) + self.places(torch.arange(ids.shape[1]))
        return self.head(self.encoder(x).mean(1))


class PackedHeads(nn.Module):
    """Queries, keys and values in one layer, attention written out, a class token."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(50, 32)
        self.places = nn.Parameter(torch.randn(1, 24, 32))
        self.norm = nn.LayerNorm(32)
        self.qkv = nn.Linear(32, 96)
        self.out = nn.Linear(32, 32, bias=False)
        self.head = nn.Linear(32, 5)

    def forward(self, ids):
        x = self.words(ids)
        batch, rows, width = x.shape
        x = x + self.places[:, :rows]
        q, k, v = self.qkv(self.norm(x)).reshape(batch, rows, 3, 4, 8).permute(2, 0, 3, 1, 4)
        mixed = (q @ k.transpose(-2, -1) * 8**-0.5).softmax(-1) @ v
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, rows, width))
        return torch.tanh(self.head(x[:, 0]))


class Decoder(nn.Module):
    """A small GPT; `how` says how its attention is written."""

    def __init__(self, how):
        super().__init__()
        self.how, self.heads = how, 4
        self.words = nn.Embedding(50, 32)
        self.places = nn.Embedding(40, 32)
        self.norms = nn.ModuleList(nn.LayerNorm(32) for _ in range(3))
        self.qkv = nn.Linear(32, 64 if how == "grouped" else 96)
        self.packed = nn.MultiheadAttention(32, 4, batch_first=True)
        self.out = nn.Linear(32, 32)
        self.feed = nn.Sequential(nn.Linear(32, 128), nn.GELU(), nn.Linear(128, 32))
        self.head = nn.Linear(32, 50, bias=False)
        self.register_buffer("seen", torch.tril(torch.ones(40, 40)).view(1, 1, 40, 40))

    def attend(self, x):
        _, rows, width = x.shape
        if self.how in {"module", "module_weights"}:
            hidden = nn.Transformer.generate_square_subsequent_mask(rows)
            return self.packed(x, x, x, attn_mask=hidden, need_weights=self.how == "module_weights")[0]
        if self.how == "grouped":
            q, k, v = self.qkv(x).split([32, 16, 16], dim=2)
        else:
            q, k, v = self.qkv(x).split(32, dim=2)
        q, k, v = (part.view(1, rows, -1, 8).transpose(1, 2) for part in (q, k, v))
        if self.how == "written":
            scores = q @ k.transpose(-2, -1) * 8**-0.5
            scores = scores.masked_fill(self.seen[:, :, :rows, :rows] == 0, float("-inf"))
            mixed = scores.softmax(-1) @ v
        elif self.how == "added":
            scores = q @ k.transpose(-2, -1) * 8**-0.5
            mixed = (scores + (1 - self.seen[:, :, :rows, :rows]) * -1e9).softmax(-1) @ v
        elif self.how == "compared":
            at = torch.arange(rows)
            scores = q @ k.transpose(-2, -1) * 8**-0.5
            mixed = torch.where(at[:, None] >= at[None, :], scores, -1e30).softmax(-1) @ v
        else:
            attend = nn.functional.scaled_dot_product_attention
            mixed = attend(q, k, v, is_causal=True, enable_gqa=self.how == "grouped")
        return self.out(mixed.transpose(1, 2).contiguous().view(1, rows, width))

    def forward(self, ids):
        x = self.words(ids) + self.places(torch.arange(ids.shape[1]))
        x = x + self.attend(self.norms[0](x))
        x = x + self.feed(self.norms[1](x))
        x = self.norms[2](x)
        return self.head(x[:, -1] if self.how == "last" else x)


class Residual(nn.Module):
    """A small ResNet."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 7, 2, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.pool = nn.MaxPool2d(3, 2, padding=1)
        self.first = nn.Sequential(
            nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3, 1, 1)
        )
        self.short = nn.Conv2d(16, 32, 1, 2)
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        x = self.pool(self.stem(x))
        x = torch.relu(self.first(x) + self.short(x))
        return self.head(x.mean((2, 3)))


class Vision(nn.Module):
    """A small vision transformer."""

    def __init__(self, pooled="first"):
        super().__init__()
        self.pooled = pooled
        self.patches = nn.Conv2d(3, 32, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 32))
        self.places = nn.Parameter(torch.randn(1, 17, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.places
        x = self.encoder(x)
        return self.head(x[:, 0] if self.pooled == "first" else x[:, 1:].mean(1))


class ChannelsLast(nn.Module):
    """Norm and linear layers on the channels of an image, a bias for each pixel."""

    def __init__(self):
        super().__init__()
        self.cut = nn.Conv2d(3, 24, 2, 2)
        self.place = nn.Parameter(torch.randn(1, 24, 8, 8))
        self.norm = nn.LayerNorm(24)
        self.feed = nn.Sequential(nn.Linear(24, 96), nn.GELU(), nn.Linear(96, 24))
        self.scale = nn.Parameter(torch.rand(24, 1, 1))
        self.head = nn.Linear(24 * 4, 5)

    def forward(self, x):
        x = self.cut(x) + self.place
        y = self.feed(self.norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        x = nn.functional.adaptive_avg_pool2d(x + self.scale * y, 2)
        return self.head(x.flatten(1))


def images(count, channels, side):
    torch.manual_seed(3)
    return [(torch.randn(1, channels, side, side),) for _ in range(count)]


def ids(*lengths):
    torch.manual_seed(3)
    return [(torch.randint(0, 50, (1, length)),) for length in lengths]


def rows(count, width):
    torch.manual_seed(3)
    return [(torch.randn(8, width),) for _ in range(count)]


def gated():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.both = nn.Linear(16, 64)
            self.down = nn.Linear(32, 16)

        def forward(self, x):
            gate, up = self.both(x).chunk(2, dim=-1)
            return x + self.down(nn.functional.silu(gate) * up)

    return Gated()


class Rotary(nn.Module):
    """Norms, rotary positions and shared keys written out as Llama's modules write them."""

    def __init__(self, turned=8):
        super().__init__()
        self.part = turned
        self.words = nn.Embedding(50, 32)
        self.gamma = nn.Parameter(torch.rand(32) + 0.5)
        self.parts = nn.ModuleList(nn.Linear(32, width, bias=False) for width in (32, 16, 16))
        self.own = nn.RMSNorm(32)
        self.head = nn.Linear(32, 50, bias=False)

    def normed(self, x):
        return self.gamma * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))

    def turned(self, x):
        with torch.no_grad():
            rows = torch.arange(x.shape[2], device=x.device)[None, :, None].float()
            angles = (rows * 100.0 ** (-torch.arange(0, self.part, 2) / 8)[None, None]).repeat(1, 1, 2)
            cosines, sines = angles.cos().unsqueeze(1), angles.sin().unsqueeze(1)
        x, rest = x[..., : self.part], x[..., self.part :]
        half = torch.cat((-x[..., self.part // 2 :], x[..., : self.part // 2]), dim=-1)
        return torch.cat((x * cosines + half * sines, rest), dim=-1)

    def forward(self, ids):
        x = self.words(ids)
        rows = ids.shape[1]
        q, k, v = (part(self.normed(x)).view(1, rows, -1, 8).transpose(1, 2) for part in self.parts)
        q, k = self.turned(q), self.turned(k)
        k, v = (y[:, :, None].expand(1, 2, 2, rows, 8).reshape(1, 4, rows, 8) for y in (k, v))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + mixed.transpose(1, 2).reshape(1, rows, 32)
        return self.head(self.own(x))


CASES = {
    "rotary": lambda: (Rotary(), 1),
    "rotary_in_part": lambda: (Rotary(4), 1),
    "mlp": lambda: (nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 4)), 0),
    "tanh_gelu": lambda: (nn.Sequential(nn.Linear(16, 32), nn.GELU(approximate="tanh"), nn.Linear(32, 4)), 0),
    "batch_norm": lambda: (
        nn.Sequential(nn.Linear(16, 64), nn.BatchNorm1d(64), nn.Tanh(), nn.Linear(64, 64), nn.SiLU(), nn.LayerNorm(64)),
        0,
    ),
    "sigmoid": lambda: (nn.Sequential(nn.LayerNorm(16), nn.Sigmoid(), nn.Dropout(0.1), nn.Linear(16, 4)), 0),
    "gated": lambda: (gated(), 0),
    "post_norm": lambda: (Encoder(norm_first=False), 1),
    "pre_norm": lambda: (Encoder(norm_first=True), 1),
    "packed_heads": lambda: (PackedHeads(), 1),
    "causal": lambda: (Decoder("causal"), 1),
    "causal_last": lambda: (Decoder("last"), 1),
    "causal_grouped": lambda: (Decoder("grouped"), 1),
    "causal_written": lambda: (Decoder("written"), 1),
    "causal_added": lambda: (Decoder("added"), 1),
    "causal_compared": lambda: (Decoder("compared"), 1),
    "causal_module": lambda: (Decoder("module"), 1),
    "causal_module_weights": lambda: (Decoder("module_weights"), 1),
}


@pytest.mark.parametrize("name", CASES)
def test_modules_stay_close_and_dynamic(name, tmp_path):
    torch.manual_seed(0)
    module, takes_ids = CASES[name]()
    examples = ids(7, 12, 20, 5, 3, 9, 11, 16) if takes_ids else rows(8, 16)
    exported = export.export_module(module, examples)
    assert exported.program.fixed_rows is None
    options = c.Options(name, tmp_path)
    report = c._finish(options, name, exported.program, exported.inputs, exported.expected, lambda *_: None)
    assert report["fidelity"]["cosine_min"] > 0.999
    read_facts((tmp_path / f"{name}.graph").read_bytes())
    usable = {*list_backends()[0], "numpy"}
    assert len({g.run(str(tmp_path), backend=backend)["trace_root"] for backend in usable}) == 1


def convolutions():
    layers = [nn.Conv2d(1, 8, 3, padding="same"), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(8, 16, 5, stride=2, padding=1, bias=False), nn.GELU(), nn.AvgPool2d(3, 1, 1)]
    return nn.Sequential(*layers, nn.Conv2d(16, 16, 1), nn.SiLU(), nn.Flatten(), nn.Linear(64, 10))


def tall():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


class Depthwise(nn.Module):
    """A block of ConvNeXt, one of MobileNet with a squeeze, a small group convolution."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 2, 2)
        self.deep = nn.Conv2d(24, 24, 7, padding=3, groups=24)
        self.norm = nn.LayerNorm(24)
        self.feed = nn.Sequential(nn.Linear(24, 96), nn.GELU(), nn.Linear(96, 24))
        self.strided = nn.Sequential(nn.Conv2d(24, 24, 3, 2, 1, groups=24), nn.BatchNorm2d(24), nn.Hardswish())
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(24, 8, 1), nn.ReLU(), nn.Conv2d(8, 24, 1))
        self.groups = nn.Conv2d(24, 48, 3, padding=1, groups=4)
        self.head = nn.Linear(48, 5)

    def forward(self, x):
        x = self.stem(x)
        y = self.feed(self.norm(self.deep(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        x = self.strided(x + y)
        x = x * torch.nn.functional.hardsigmoid(self.squeeze(x))
        return self.head(torch.nn.functional.relu6(self.groups(x)).mean((2, 3)))


class Unet(nn.Module):
    """Down and up again: group norms, stretching, channels side by side; an image comes out."""

    def __init__(self, stretch):
        super().__init__()
        self.stretch = stretch
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.block = nn.Sequential(nn.GroupNorm(4, 16), nn.SiLU(), nn.Conv2d(16, 16, 3, padding=1))
        self.down = nn.Conv2d(16, 32, 3, 2, 1)
        self.up = nn.ConvTranspose2d(32, 16, 2, 2) if stretch == "transposed" else nn.Conv2d(32, 16, 1)
        self.last = nn.Sequential(nn.GroupNorm(8, 32), nn.SiLU(), nn.Conv2d(32, 3, 3, padding=1))

    def forward(self, x):
        x = self.first(x)
        x = x + self.block(x)
        y = self.up(self.down(x))
        if self.stretch != "transposed":
            y = nn.functional.interpolate(y, scale_factor=2, mode=self.stretch)
        return self.last(torch.cat([y, x], 1))


def odd_kernels():
    layers = [nn.Conv2d(3, 16, (1, 5), padding=(0, 2)), nn.LeakyReLU(0.1), nn.Conv2d(16, 16, 3, dilation=2, padding=2)]
    layers += [nn.ELU(), nn.Conv2d(16, 16, (3, 2), stride=(1, 2)), nn.Mish(), nn.ZeroPad2d((1, 0, 2, 1))]
    layers += [nn.Conv2d(16, 16, 2, padding="same"), nn.Hardtanh(), nn.ReflectionPad2d(1), nn.InstanceNorm2d(16)]
    return nn.Sequential(*layers, nn.Conv2d(16, 8, 3), nn.Flatten())


class Halves(nn.Module):
    """Channels apart, pixels cut, as detectors do."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 16, 3), nn.Conv2d(24, 4, 1)

    def forward(self, x):
        y, z = self.first(x).chunk(2, 1)
        return self.last(torch.cat([y, torch.relu(z), y * torch.sigmoid(z)], 1))[:, :3, 1:-1, ::2]


def wide_groups():
    """Groups whose norm reads several rows of it, and one whose parts are products of their own."""
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(1, 8), nn.Conv2d(8, 192, 1), nn.SiLU()]
    return nn.Sequential(*layers, nn.Conv2d(192, 64, 3, 4, groups=2), nn.Flatten(), nn.Linear(64 * 144, 8))


IMAGES = {
    "depthwise": (Depthwise, images(8, 3, 16)),
    "unet_nearest": (lambda: Unet("nearest"), images(8, 3, 16)),
    "unet_bilinear": (lambda: Unet("bilinear"), images(8, 3, 16)),
    "unet_transposed": (lambda: Unet("transposed"), images(8, 3, 16)),
    "odd_kernels": (odd_kernels, images(8, 3, 12)),
    "halves": (Halves, images(8, 3, 12)),
    "wide_groups": (wide_groups, images(8, 3, 48)),
    "convolutions": (convolutions, images(8, 1, 12)),
    "residual": (Residual, images(8, 3, 32)),
    "vision": (Vision, images(8, 3, 16)),
    "vision_mean": (lambda: Vision("mean"), images(8, 3, 16)),
    "channels_last": (ChannelsLast, images(8, 3, 16)),
    "flat": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(108, 64), nn.ReLU(), nn.Linear(64, 4)), images(8, 3, 6)),
    "not_square": (tall, [(x[..., :7],) for (x,) in images(8, 3, 10)]),
}


@pytest.mark.parametrize("mining", ["some", "none", "all"])
@pytest.mark.parametrize("name", IMAGES)
def test_modules_that_see_images_stay_close(name, mining, tmp_path):
    torch.manual_seed(0)
    make, examples = IMAGES[name]
    exported = export.export_module(make(), examples)
    options = c.Options(name, tmp_path, mining=mining)
    report = c._finish(options, name, exported.program, exported.inputs, exported.expected, lambda *_: None)
    assert report["fidelity"]["cosine_min"] > (0.999 if mining == "none" else 0.998)
    read_facts((tmp_path / f"{name}.graph").read_bytes())  # what the registry asks: one element fits a proof
    usable = {*list_backends()[0], "numpy"}
    assert len({g.run(str(tmp_path), backend=backend)["trace_root"] for backend in usable}) == 1


def test_an_image_module_sees_a_png(tmp_path):
    from PIL import Image

    torch.manual_seed(0)
    module = convolutions().eval()
    examples = [(x.abs().clamp(0, 1),) for (x,) in images(8, 1, 12)]
    exported = export.export_module(module, examples)
    options = c.Options("digits", tmp_path)
    c._finish(options, "digits", exported.program, exported.inputs, exported.expected, lambda *_: None)
    pixels = (np.arange(144).reshape(12, 12) * 37 % 256).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    seen = g.run(str(tmp_path), input_file=tmp_path / "x.png", backend="numpy")
    want = module(torch.from_numpy(pixels.astype(np.float32) / 255)[None, None]).detach().numpy()
    got = np.array(seen["output"], dtype=np.float64)
    assert got.ravel() @ want.ravel() > 0.998 * np.linalg.norm(got) * np.linalg.norm(want)
    (tmp_path / "x.json").write_text(json.dumps((pixels / 255).tolist()))
    said = g.run(str(tmp_path), input_file=tmp_path / "x.json", backend="numpy")
    assert said["trace_root"] == seen["trace_root"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return F.conv_transpose2d(x, torch.ones(4, 1, 3, 3), groups=4)", r"conv_transpose2d.*4 groups"),
        ("return F.interpolate(x, scale_factor=2, mode='bicubic')", r"bicubic"),
        ("return F.pad(x, (1, 1), value=2.0)", r"pad.*zeros"),
        ("return F.conv2d(x.permute(0, 2, 3, 1), torch.ones(4, 8, 3, 1))", r"conv2d.*channels first"),
        ("return F.group_norm(x.permute(0, 2, 3, 1), 2)", r"group_norm.*channels first"),
        ("return F.softplus(x, beta=2)", r"softplus.*parameters"),
        ("return torch.cat([x, x], 2)", r"cat.*channels"),
        ("return torch.cat([x, torch.ones(1, 4, 8, 8)], 1)", r"cat.*images"),
        ("return x[:, ::2]", r"slice.*step"),
        ("return F.max_pool2d(x, 2, padding=1)", r"max_pool2d.*negative"),
        ("return F.max_pool2d(x, 3, ceil_mode=True)", r"max_pool2d.*ceil_mode"),
        ("return F.avg_pool2d(x, 2, padding=1, count_include_pad=False)", r"avg_pool2d.*does not count"),
        ("return F.adaptive_avg_pool2d(x, 3)", r"adaptive_avg_pool2d.*unequal"),
        ("return F.layer_norm(x, [8])", r"layer_norm.*permute"),
        ("return F.linear(x, torch.ones(4, 8))", r"linear.*permute"),
        ("return x + torch.ones(8)", r"add.*constant"),
        ("return x.permute(0, 1, 3, 2)", r"permute.*channels move"),
        ("return x.reshape(1, 2, 2, 64)", r"view.*of an image"),
        ("return x.mean(1)", r"mean.*height and width"),
    ],
)
def test_what_images_cannot_do_is_named_with_its_line(tmp_path, body, reason):
    path = write_module(
        tmp_path,
        f"""
        import torch.nn.functional as F

        class Bad(torch.nn.Module):
            def forward(self, x):
                {body}

        def make():
            return Bad(), torch.randn(1, 4, 8, 8)
        """,
    )
    with pytest.raises(export.UnmappableOperator, match=reason + (r".*model\.py:\d+" if "return x\n" in body else "")):
        c.compile_source(c.Options(f"{path}:make", tmp_path / "out"))


def write_module(folder, source):
    path = folder / "model.py"
    path.write_text("import torch\n" + textwrap.dedent(source))
    return path


def test_a_file_with_a_class_compiles_and_runs(tmp_path):
    path = write_module(
        tmp_path,
        """
        class Small(torch.nn.Module):
            def __init__(self):
                super().__init__()
                torch.manual_seed(0)
                self.layer = torch.nn.Linear(6, 3)
                self.example_inputs = [torch.randn(4, 6) for _ in range(8)]

            def forward(self, x):
                return self.layer(x).relu()
        """,
    )
    report = c.compile_source(c.Options(f"{path}:Small", tmp_path / "out"))
    assert report["fidelity"]["cosine_min"] > 0.999
    (tmp_path / "x.json").write_text(json.dumps([[1, 0, 0, 0, 0, 0.25]]))
    found = g.run(str(tmp_path / "out"), input_file=tmp_path / "x.json", backend="numpy")
    assert np.array(found["output"]).shape == (1, 3)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return torch.fft.rfft(x).abs()", r"fft_rfft.*model\.py:\d+: return torch\.fft"),
        ("return torch.softmax(x, -1)", r"softmax.*logits.*model\.py"),
        ("return x[:, :3]", r"only linear layers split.*model\.py"),
        ("return x[1:]", r"slice.*rows.*model\.py"),
        ("return x.sort().values", r"sort.*model\.py"),
        ("return x / x.sum()", r"(sum|div).*model\.py"),
        ("return x.mean(-1, keepdim=True)", r"mean over rows.*model\.py"),
        ("return x.to(torch.int32).float()", r"casts to torch\.int32.*model\.py"),
        ("return x.mean(0, keepdim=True).expand(x.shape[0], -1)", r"repeats values.*model\.py"),
        ("return torch.nn.functional.dropout(x, training=True)", r"training mode.*model\.py"),
        ("return torch.cat((-x[:, 4:], x[:, :4]), -1)", r"output 0.*model\.py"),
        ("return x.view(x.shape[0], 2, 4).pow(2).mean(-1)", r"norm of each of 2 heads.*model\.py"),
        ("return x * (x != 0)", r"ne.*values of the module.*model\.py"),
        ("return torch.rsqrt(x)", r"rsqrt.*RMS norm.*model\.py"),
        ("return x * torch.rsqrt(x.relu().pow(2).mean(-1, keepdim=True))", r"of the value itself.*model\.py"),
        ("return x * torch.arange(x.shape[0])[:, None]", r"model\.py"),
        ("return 1 - x.relu()", r"(rsub|sub).*model\.py"),
        ("return torch.div(x, 2, rounding_mode='floor')", r"div.*model\.py"),
    ],
)
def test_what_has_no_exact_operator_is_named_with_its_line(tmp_path, body, reason):
    path = write_module(
        tmp_path,
        f"""
        class Bad(torch.nn.Module):
            def forward(self, x):
                {body}

        def make():
            return Bad(), torch.randn(4, 8)
        """,
    )
    with pytest.raises(export.UnmappableOperator, match=reason):
        c.compile_source(c.Options(f"{path}:make", tmp_path / "out"))


@pytest.mark.parametrize(
    "mask",
    [
        lambda n: torch.ones(n, n, dtype=torch.bool).tril(-1),
        lambda n: torch.ones(n, n, dtype=torch.bool).tril().flip(0),
        lambda n: torch.full((n, n), -1.0).triu(1),
    ],
)
def test_other_masks_are_named(mask):
    class Masked(nn.Module):
        def forward(self, x):
            parts = [x[:, None]] * 3
            return nn.functional.scaled_dot_product_attention(*parts, attn_mask=mask(x.shape[1]))[:, 0]

    with pytest.raises(export.UnmappableOperator, match=r"scaled_dot_product.*mask.*test_compiler_torch\.py:\d+"):
        export.export_module(Masked(), [(torch.randn(1, 4, 8),)])


def test_a_mask_that_an_input_decides_is_named():
    class Masked(nn.Module):
        def forward(self, x):
            scores = (x @ x.transpose(1, 2)).masked_fill(x[:, :, :1] > 0, float("-inf"))
            return scores.softmax(-1) @ x

    with pytest.raises(export.UnmappableOperator, match=r"test_compiler_torch\.py:\d+"):
        export.export_module(Masked(), [(torch.randn(1, 4, 8),)])


def test_two_inputs_have_one_number_of_rows():
    class Two(nn.Module):
        def forward(self, x, y):
            return x.mean(0, keepdim=True) + y.mean(0, keepdim=True)

    with pytest.raises(export.UnmappableOperator, match="differ in their rows"):
        export.export_module(Two(), [(torch.randn(4, 8), torch.randn(5, 8))])

    class Same(nn.Module):
        def forward(self, x, y):
            return x + y

    assert len(export.export_module(Same(), [(torch.randn(4, 8), torch.randn(4, 8))]).program.inputs()) == 2


def test_sources_that_fail_are_named(tmp_path):
    path = write_module(tmp_path, "def number():\n    return 3\n\ndef fails():\n    raise KeyError('gone')\n")
    for name, reason in (("number", "gives int"), ("fails", "KeyError"), ("absent", "AttributeError")):
        with pytest.raises(c.SourceFailed, match=reason):
            c.compile_source(c.Options(f"{path}:{name}", tmp_path / "out"))
    with pytest.raises(c.SourceFailed, match="no such file"):
        c.compile_source(c.Options(f"{tmp_path}/absent.py:x", tmp_path / "out"))
    path.write_text("import torch\nmake = torch.nn.Linear(2, 2)\n")
    with pytest.raises(c.CalibrationUnreadable, match="example inputs"):
        c.compile_source(c.Options(f"{path}:make", tmp_path / "out"))


def test_inputs_that_no_graph_takes_are_named():
    for example in (torch.randn(2, 3, 8), torch.zeros(4, 8, dtype=torch.bool), torch.randn(8)):
        with pytest.raises(export.InputUnsupported):
            export.export_module(nn.Linear(8, 8), [(example,)])
