"""Maps per second at batches of 1, 8 and 64, in float32 and bfloat16 features, beside PyTorch on the same device.

VGG-16 with random weights at 224 x 224, block5_conv3: Grad-CAM, Grad-CAM++ and Smooth Grad-CAM++ with n = 5. On a CPU
batches of 1 and 8. jaxcam takes a batch by `jax.vmap` and by `jax.lax.map`, PyTorch (torch-cam, as its documentation
calls it) in both memory layouts that it has; the better of each counts. PyTorch runs on the GPU where JAX does, and has
no column where it is missing or has no GPU.

With bfloat16 features jaxcam's head, derivatives and maps are in float32; PyTorch's whole network is in bfloat16.
On a GPU products of float32 matrices may use TF32, and convolutions the fastest algorithm of several tried: both do so
by themselves or are told to.
"""

import functools
import statistics

import jax
import jax.numpy as jnp

import jaxcam
from benchmarks import peers, timing

SAMPLES = 5
BATCHES = (1, 8, 64)
DTYPES = ("float32", "bfloat16")

METHODS = {
    "Grad-CAM": (lambda cut, image, key: jaxcam.grad_cam(cut, image, peers.TARGET), "GradCAM", {}),
    "Grad-CAM++": (lambda cut, image, key: jaxcam.grad_cam_pp(cut, image, peers.TARGET), "GradCAMpp", {}),
    f"Smooth Grad-CAM++, n = {SAMPLES}": (
        lambda cut, image, key: jaxcam.smooth_grad_cam_pp(cut, image, peers.TARGET, key, n_samples=SAMPLES),
        "SmoothGradCAMpp",
        {"num_samples": SAMPLES},
    ),
}


def measure(*, small: bool = False) -> dict:
    """Maps per second and jaxcam's over PyTorch's; small runs the digits network."""
    device = jax.default_backend()
    batches = (1, 2) if small else BATCHES[:2] if device == "cpu" else BATCHES
    repeats = 2 if small else 3 if device == "cpu" else 20
    model, layer = peers.vgg(small=small)
    torch = torch_here(device)
    ratios, seconds, best = {}, {}, {}
    for dtype in DTYPES:
        cut = with_features(jaxcam.cut(model, layer), dtype)
        for name, (method, torch_cam, options) in METHODS.items():
            for batch in batches:
                images = jax.random.uniform(jax.random.key(0), (batch, *model.image_shape))
                keys = jax.random.split(jax.random.key(1), batch)
                ours = {
                    way: functools.partial(call, cut, images, keys)
                    for way, call in by_batch(method, ways=("jax.vmap", "jax.lax.map") if batch > 1 else ("jax.vmap",))
                }
                theirs = {}
                for layout in ("contiguous_format", "channels_last") if torch else ():
                    net, x = in_torch(torch, model, images, dtype, layout)
                    theirs[layout] = peers.torch_cam(torch_cam, net, layer, x, **options)
                times = timing.in_turn({**ours, **theirs}, repeats=repeats)
                what = f"{name}, {dtype}, batch {batch}"
                fastest = [timing.fastest(times, group) for group in (ours, theirs) if group]
                best[name, dtype, batch] = [batch / statistics.median(times[way]) for way in fastest]
                if theirs:
                    ratios[f"{what}: jaxcam / PyTorch"] = timing.median_ratio(times, *reversed(fastest))
                seconds[what] = timing.summary(times)
    for name in METHODS:
        for batch in batches:
            low, full = (best[name, dtype, batch][0] for dtype in reversed(DTYPES))
            ratios[f"{name}, batch {batch}: jaxcam's bfloat16 / float32"] = low / full
    return {"ratios": ratios, "table": table(best, batches), "seconds": seconds}


def with_features(cut, dtype):
    """The cut with features that are computed in `dtype`; head and derivatives are in float32."""

    def lowered(path, leaf):
        return leaf.astype(dtype) if "block" in jax.tree_util.keystr(path) else leaf

    def features(params, x):
        return cut.features(params, x.astype(dtype)).astype(jnp.float32)

    return jaxcam.Cut(jax.tree_util.tree_map_with_path(lowered, cut.params), features, cut.head, cut.layer)


def by_batch(method, *, ways):
    """The maps of a batch, in each of the ways."""
    together = jax.jit(lambda cut, images, keys: jax.vmap(functools.partial(method, cut))(images, keys))
    in_order = jax.jit(
        lambda cut, images, keys: jax.lax.map(lambda each: method(cut, each[0], each[1]), (images, keys))
    )
    return [(way, {"jax.vmap": together, "jax.lax.map": in_order}[way]) for way in ways]


def torch_here(device):
    """PyTorch, where it runs on the device that JAX does; None elsewhere."""
    try:
        import torch
        import torchcam.methods  # noqa: F401
    except ImportError:
        return None
    if device != "cpu" and not torch.cuda.is_available():
        return None
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    return torch


def in_torch(torch, model, images, dtype, layout):
    """The network and the images on JAX's device."""
    where = {"device": "cpu" if jax.default_backend() == "cpu" else "cuda", "dtype": getattr(torch, dtype)}
    memory_format = getattr(torch, layout)
    net = peers.network(model, **where).to(memory_format=memory_format)
    # torch-cam's noise is float32, and its sum with the image too.
    net.register_forward_pre_hook(lambda _, inputs: (inputs[0].to(where["dtype"]),))
    return net, peers.images(images, **where).contiguous(memory_format=memory_format)


def table(best, batches):
    """Markdown: maps per second, two columns for each batch."""
    heads = [f"batch {batch}: {who}" for batch in batches for who in ("jaxcam", "PyTorch")]
    lines = ["| maps per second | features | " + " | ".join(heads) + " |", "|---|---|" + "---|" * len(heads)]
    for name in METHODS:
        for dtype in DTYPES:
            cells = [cell for batch in batches for cell in (*map(shown, best[name, dtype, batch]), "none")[:2]]
            lines.append(f"| {name} | {dtype} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def shown(rate):
    """Three digits."""
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.3g}"
