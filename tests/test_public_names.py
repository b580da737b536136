"""Names that users have: every name of version 0.1 is still reachable, and every public name is documented."""

import inspect
import os
import subprocess
import sys

import pytest

import jaxcam

ROOT = """
    batches certificate channel_weights checkpoints compat controls datasets derivatives layouts linearity maps measures
    metrics noise pixels plots pretrained rules runtime analysis scores vgg weights
    VGG vgg_digits digits vgg11 vgg13 vgg16 vgg19 resnet18 resnet34 resnet50 mobilenet_v2 efficientnet_b0 convnext_tiny
    vit_small_patch16 Cut Cuts cut layers certify fuse normalize resize select
    gradient_cam cam grad_cam grad_cam_plus grad_cam_pp smooth_grad_cam_pp counterfactual_grad_cam xgrad_cam hires_cam
    layer_cam score_cam grad_cam_plus_smooth average_maps Smoothed deconvnet guided_backprop guided_grad_cam
    input_gradient integrated_gradients saliency smooth_grad square_grad var_grad Explained explain_batch evaluate
    Example Evaluation Diagnosis diagnose validate
""".split()
NAMESPACES = {
    "attacks": "fgsm pgd",
    "batches": "Explained explain_batch",
    "checkpoints": "read",
    "compat": "grad_cam_pp original pytorch_grad_cam tf_keras_vis torch_cam xplique",
    "controls": "all_ones centre_gaussian mean_activation random",
    "datasets": "Example MaskFile VOC_CLASSES csv folder imagenet load synsets voc",
    "derivatives": "Derivatives brute_force closed_form exact score_is_affine through_link",
    "layouts": "vgg",
    "losses": "TeacherTargets distillation interpretation map_distance right_reasons student_loss teacher_targets",
    "linearity": "Certificate Level certify",
    "maps": "fuse normalize resize saliency select",
    "measures": "Case adcc box_iou confidence deletion drop energy found insertion mask_iou pointing road MEASURES",
    "metrics": """
        adcc area as_mask average_drop average_gain box_iou coherency complexity confidence_curve deletion energy found
        impute increase insertion largest_box largest_component mask_iou masked masked_score model_randomisation overlap
        pointing_game randomised rank_correlation road road_combined spill win
    """,
    "noise": "mean_over_noise noisy",
    "pixels": """
        deconvnet guided_backprop guided_grad_cam input_gradient integrated_gradients saliency smooth_grad square_grad
        var_grad
    """,
    "plots": "compare curves differences family filters neurons overlay save validation",
    "pretrained": """
        class_names digits digits_canvas find_class from_arrays imagenet_classes load to_arrays vgg11 vgg13 vgg16 vgg19
    """,
    "rules": "deconvnet guided",
    "scores": "log_softmax logit probability",
    "vgg": "VGG caffe torchvision vgg_digits",
    "weights": """
        alpha_grad_cam_pp cam counterfactual_grad_cam denominator_grad_cam_pp grad_cam grad_cam_plus grad_cam_pp
        hires_cam layer_cam score_cam xgrad_cam
    """,
}


@pytest.mark.parametrize("name", ROOT)
def test_the_root_has_the_name(name):
    assert getattr(jaxcam, name) is not None


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_the_namespace_has_the_names(namespace):
    missing = [name for name in NAMESPACES[namespace].split() if not hasattr(getattr(jaxcam, namespace), name)]
    assert not missing


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="module 'jaxcam' has no attribute 'grad_kam'"):
        jaxcam.grad_kam  # noqa: B018


def test_packages_are_attributes_after_a_bare_import():
    names = ["plots", "losses", "runtime", "analysis"]
    code = f"import jaxcam; names = {names}; print(*(getattr(jaxcam, name).__name__ for name in names))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [f"jaxcam.{name}" for name in names]


def documented_values():
    """Every public function and class that a public namespace holds, by name."""
    values = {}
    for namespace_name, namespace in {"jaxcam": jaxcam, **{name: getattr(jaxcam, name) for name in NAMESPACES}}.items():
        for name, value in vars(namespace).items():
            own = getattr(value, "__module__", "").startswith("jaxcam")
            if own and not name.startswith("_") and (inspect.isfunction(value) or inspect.isclass(value)):
                values[f"{namespace_name}.{name}"] = value
    return values


VALUES = documented_values()


@pytest.mark.parametrize("name", VALUES)
def test_a_public_name_is_documented(name):
    documentation = inspect.getdoc(VALUES[name]) or ""
    assert documentation and not documentation.startswith(f"{VALUES[name].__name__}("), f"{name} has no docstring"
    assert "TODO" not in documentation


def test_completion_shows_public_names_alone():
    assert dir(jaxcam) == jaxcam.__all__
    assert set(ROOT) <= set(jaxcam.__all__) and not [name for name in dir(jaxcam) if name.startswith("_")]
    assert all(getattr(jaxcam, name) is not None for name in jaxcam.__all__)


def test_the_camera_library_is_noticed(tmp_path):
    """Its distribution is called jaxcam, and its files would lie among ours."""
    folder = tmp_path / "jaxcam-0.1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: jaxcam\nVersion: 0.1\n")
    for path, expected in ((tmp_path, True), (tmp_path / "elsewhere", False)):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(path), *sys.path])}
        process = subprocess.run(
            [sys.executable, "-c", "import jaxcam"], env=environment, capture_output=True, text=True, check=True
        )
        assert ("camera library" in process.stderr) is expected
