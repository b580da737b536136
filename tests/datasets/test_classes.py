"""Class names, numbers and synsets."""

import pytest

from jaxcam import datasets


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("n02119789 1 kit_fox\nn02100735 2 setter\n", "not in sorted order"),  # the devkit's map_clsloc.txt
        ("tench\n", "'tench' is no synset"),
        ("", "is empty"),
    ],
)
def test_what_synsets_refuses(tmp_path, text, wrong):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(ValueError, match=wrong):
        datasets.synsets(tmp_path / "a.txt")
