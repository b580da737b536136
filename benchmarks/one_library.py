"""One library and one network in a process of their own, so that no library's threads spoil the times of another.

    python -m benchmarks.one_library torch-cam MobileNetV2 224

loads the network with random weights, prints "ready" and the methods that the library has, as JSON, and then reads
lines such as `grad_cam 8`: it computes the maps of a batch of 8 once and prints the seconds that it took. The first run
of a method and a size compiles. An empty line ends it. `benchmarks.networks_beside_the_peers` asks the libraries in
turn.
"""

import json
import os
import sys
import time
from collections.abc import Callable

TARGET = 3
SAMPLES = 5
STD = 0.15
# The layer behind which there is pooling and a linear classifier (for VGG, its dense layers), after its activation: in
# Keras (VGG: in jaxcam), and in torchvision. The vision transformer's is the input of its last attention.
NETWORKS = {
    "VGG16": ("block5_conv3", "vgg16", "features.29"),
    "ResNet50": ("conv5_block3_out", "resnet50", "layer4"),
    "DenseNet121": ("relu", "densenet121", "features"),
    "MobileNetV2": ("out_relu", "mobilenet_v2", "features.18"),
    "EfficientNetB0": ("top_activation", "efficientnet_b0", "features.8"),
    "ConvNeXtTiny": (None, "convnext_tiny", "features.7"),
    "ViT-B/16": ("blocks/11/norm1", "vit_b_16", "encoder.layers.encoder_layer_11.ln_1"),
}
Maps = dict[str, Callable[[int], Callable[[], object]]]


def ours(network: str, side: int) -> Maps:
    """jaxcam's methods: each takes a batch size and returns what computes the maps once, at the faster setting."""
    import functools

    import jax
    import keras
    from flax import nnx

    import jaxcam
    from jaxcam.tracing import for_loops

    layer, shape = NETWORKS[network][0], (side, side, 3)
    if network == "VGG16":
        cut = jaxcam.cut(jaxcam.vgg16(rngs=nnx.Rngs(0), image_shape=shape), layer)
    elif network == "ViT-B/16":
        model = jaxcam.networks.ViT(width=768, heads=12, image_shape=shape, rngs=nnx.Rngs(0))
        cut = jaxcam.cut(model, layer)
    else:
        model = getattr(keras.applications, network)(weights=None, input_shape=shape, classifier_activation=None)
        cut = jaxcam.cut(model, layer)

    def forward(cut, image, key):
        return jaxcam.cutting.activations(cut, image)[1]

    def grad_cam(cut, image, key):
        return jaxcam.grad_cam(cut, image, TARGET)

    def grad_cam_pp(cut, image, key):
        return jaxcam.grad_cam_pp(cut, image, TARGET)

    def smooth(cut, image, key):
        return jaxcam.smooth_grad_cam_pp(cut, image, TARGET, key, n_samples=SAMPLES, std=STD)

    def batched(method):
        # At once, or one after another as `explain_batch` does on a CPU.
        at_once = jax.jit(jax.vmap(method, in_axes=(None, 0, 0)))
        in_turn = jax.jit(lambda cut, *batch: jax.lax.map(for_loops(lambda one: method(cut, *one)), batch))

        def of_size(batch):
            images = jax.random.uniform(jax.random.key(0), (batch, *shape))
            keys = jax.random.split(jax.random.key(1), batch)

            def by(compiled):
                return lambda: jax.block_until_ready(compiled(cut, images, keys))

            return by(at_once) if batch == 1 else min(by(at_once), by(in_turn), key=_seconds_when_compiled)

        return of_size

    methods = {"forward": forward, "grad_cam": grad_cam, "grad_cam_pp": grad_cam_pp, "smooth_grad_cam_pp": smooth}
    return {name: functools.cache(batched(method)) for name, method in methods.items()}


def _seconds_when_compiled(run: Callable[[], object]) -> float:
    run()
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _torch_network(network: str, side: int):
    from benchmarks import peers

    torch = peers.needed("torch")
    peers.declare_operators()
    models = peers.needed("torchvision.models")
    _, name, layer = NETWORKS[network]
    options = {"image_size": side} if network == "ViT-B/16" else {}
    net = getattr(models, name)(weights=None, **options).eval()
    for module in net.modules():  # a relu in place changes what a hook has seen
        if hasattr(module, "inplace"):
            module.inplace = False
    return torch, net, layer, lambda batch: torch.rand(batch, 3, side, side)


def _forward(torch, net, images):
    def of_size(batch):
        x = images(batch)

        def run():
            with torch.inference_mode():
                return net(x)

        return run

    return of_size


def torch_cam(network: str, side: int) -> Maps:
    """torch-cam's methods. It has none for tokens."""
    from benchmarks import peers

    torch, net, layer, images = _torch_network(network, side)
    if network == "ViT-B/16":
        return {"forward": _forward(torch, net, images)}

    def of(method, **options):
        return lambda batch: peers.torch_cam(method, net, [layer], images(batch), [TARGET] * batch, **options)

    return {
        "forward": _forward(torch, net, images),
        "grad_cam": of("GradCAM"),
        "grad_cam_pp": of("GradCAMpp"),
        "smooth_grad_cam_pp": of("SmoothGradCAMpp", num_samples=SAMPLES, std=STD),
    }


def pytorch_grad_cam(network: str, side: int) -> Maps:
    """pytorch-grad-cam's methods. It has no smooth one."""
    from benchmarks import peers

    torch, net, layer, images = _torch_network(network, side)
    library = peers.needed("pytorch_grad_cam")
    targets = peers.needed("pytorch_grad_cam.utils.model_targets")
    module = dict(net.named_modules())[layer]
    tokens = side // 16

    def as_map(x):
        return x[:, 1:].reshape(len(x), tokens, tokens, -1).permute(0, 3, 1, 2)

    def of(method):
        extractor = getattr(library, method)(
            model=net, target_layers=[module], reshape_transform=as_map if network == "ViT-B/16" else None
        )

        def of_size(batch):
            x, classes = images(batch), [targets.ClassifierOutputTarget(TARGET)] * batch
            return lambda: extractor(input_tensor=x, targets=classes)

        return of_size

    return {
        "forward": _forward(torch, net, images),
        "grad_cam": of("GradCAM"),
        "grad_cam_pp": of("GradCAMPlusPlus"),
    }


def captum(network: str, side: int) -> Maps:
    """captum's LayerGradCam. It has none for tokens."""
    from benchmarks import peers

    torch, net, layer, images = _torch_network(network, side)
    if network == "ViT-B/16":
        return {"forward": _forward(torch, net, images)}
    extractor = peers.needed("captum.attr").LayerGradCam(net, dict(net.named_modules())[layer])

    def grad_cam(batch):
        x = images(batch)
        return lambda: extractor.attribute(x, target=TARGET, relu_attributions=True)

    return {"forward": _forward(torch, net, images), "grad_cam": grad_cam}


LIBRARIES = {"jaxcam": ours, "torch-cam": torch_cam, "pytorch-grad-cam": pytorch_grad_cam, "captum": captum}


def main() -> None:
    """Serve one library and one network until an empty line."""
    library, network, side = sys.argv[1:]
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    methods = LIBRARIES[library](network, int(side))
    print("ready", json.dumps(sorted(methods)), file=answers, flush=True)
    calls: dict[str, Callable[[], object]] = {}
    for line in sys.stdin:
        if not line.strip():
            break
        if line not in calls:
            name, batch = line.split()
            calls[line] = methods[name](int(batch))
        start = time.perf_counter()
        calls[line]()
        print(time.perf_counter() - start, file=answers, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "jax")
    main()
