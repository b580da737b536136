"""Fields of the page become a request, or one line that says what is wrong."""

import pytest

from jaxcam.web import Request, request_of

PATH = "../../etc/passwd"


def test_empty_fields_have_their_defaults():
    empty = dict.fromkeys(("model", "layer", "target", "method", "samples", "std", "seed", "filters", "subset"))
    assert request_of(**empty) == request_of(filters=" ", subset="", target=" ", layer="", region=False) == Request()


def test_fields_are_read():
    request = request_of(samples=5.0, std=1, seed=3.0, filters=" 3 ,7", subset=" 0,0  4,12 ", target=" Cat ")
    assert (request.samples, request.std, request.seed, request.target) == (5, 1.0, 3, "Cat")
    assert (request.filters, request.subset) == ((3, 7), ((0, 0), (4, 12)))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"method": PATH}, r"no method '../../etc/passwd': choose one of cam, grad_cam"),
        ({"method": "gradient_cam"}, "no method 'gradient_cam'"),
        ({"filters": PATH}, "'../../etc/passwd' is no list of feature maps such as 3,7"),
        ({"filters": "-1"}, "'-1' is no list of feature maps"),
        ({"filters": ",".join(["1"] * 65)}, "expected at most 64 feature maps, got 65"),
        ({"subset": PATH}, "'../../etc/passwd' is no list of neurons such as 0,0 4,4"),
        ({"subset": "1,2,3"}, "no list of neurons"),
        ({"subset": "1,1 " * 5000}, "expected at most 4096 neurons, got 5000"),
        ({"subset": "9" * 10**6}, r"'9{56}\.\.\. is no list of neurons"),
        ({"subset": "1,1", "region": True}, "a region has two opposite corners, such as '0,0 4,4': got 1 neurons"),
        ({"region": True}, "got 0 neurons"),
        ({"samples": 101}, r"expected samples to be an integer in 0..100, got 101"),
        ({"samples": 2.5}, "expected samples to be an integer"),
        ({"samples": float("nan")}, "expected samples to be an integer"),
        ({"samples": "5"}, "expected samples to be an integer"),
        ({"seed": -1}, "expected seed to be an integer"),
        ({"std": 0}, "expected std above 0 and at most 10, got 0"),
        ({"std": float("inf")}, "expected std above 0"),
        ({"method": "grad_cam", "std": 0.1}, "std goes with samples, and Grad-CAM draws none by itself"),
        ({"method": "score_cam", "samples": 3}, "samples do not go with Score-CAM"),
        ({"method": "cam", "std": 0.1}, "std does not go with CAM"),
        ({"target": "x" * 201}, "expected a class, got a text of 201 characters"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(fields, says):
    with pytest.raises(ValueError, match=says) as refused:
        request_of(**fields)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 300
