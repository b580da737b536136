"""An example is read, resized, cropped and turned with its mask and boxes."""

import itertools

import numpy as np
import pytest
from PIL import Image

from jaxcam import datasets
from jaxcam.datasets import Example, MaskFile, images, load
from tests.datasets.files import around, drawn, gray_file, picture_file

STORED = [(100, 150), (150, 100), (300, 200), (256, 256)]
SHARES = [(0.3, 0.2, 0.6, 0.9), (0, 0, 1, 1), (0.45, 0.3, 0.9, 0.7)]


@pytest.mark.parametrize("fit", ["stretch", "crop", "square", "pad"])
@pytest.mark.parametrize("shape", [(224, 224), (64, 96)])
@pytest.mark.parametrize("stored", STORED)
def test_a_box_drawn_as_a_mask_stays_the_box(stored, shape, fit):
    for share in SHARES:
        box = [round(part * side) for part, side in zip(share, stored * 2, strict=True)]
        example = Example(np.zeros([*stored, 3], np.float32), None, drawn(box, stored), np.array([box]))
        loaded = load(example, shape, fit=fit)
        assert loaded.image.shape == (*shape, 3)
        assert loaded.mask.shape == shape and loaded.mask.dtype == np.int8
        assert loaded.boxes.shape == (1, 4) and loaded.boxes.dtype == np.float32
        assert np.abs(loaded.boxes[0] - around(loaded.mask)).max() <= 1


@pytest.mark.parametrize("fit", ["stretch", "crop", "square", "pad"])
def test_the_picture_moves_as_its_mask(fit):
    mask = drawn((20, 40, 70, 110), (100, 150))
    image = np.repeat(mask[..., None], 3, -1).astype(np.float32)
    loaded = load(Example(image, None, mask), (50, 60), fit=fit)
    assert np.mean((loaded.image[..., 0] > 0.5) != (loaded.mask == 1)) < 0.01


def test_a_crop_by_hand():
    """The short side is resized to 256 and the center 224 x 224 is cropped, by Pillow alone."""
    pixels = np.random.default_rng(0).integers(0, 256, [300, 401, 3], np.uint8)
    wide = Image.fromarray(pixels).resize((int(256 * 401 / 300), 256), Image.Resampling.BILINEAR)
    left = round((wide.width - 224) / 2)
    expected = np.asarray(wide.crop((left, 16, left + 224, 240)), np.float32) / 255
    loaded = load(Example(pixels.astype(np.float32) / 255), (224, 224), fit="crop")
    np.testing.assert_allclose(loaded.image, expected, atol=1.01 / 255)  # Pillow rounds bytes


def test_masks_by_nearest_neighbour():
    mask = np.array([[1, 0, -1], [0, 0, 1]], np.int8)
    expected = np.zeros([4, 6], np.int8)
    for row, column in itertools.product(range(4), range(6)):
        expected[row, column] = mask[row // 2, column // 2]
    assert load(Example(np.zeros([2, 3, 3], np.float32), None, mask), (4, 6)).mask.tolist() == expected.tolist()


def test_a_box_cut_off_is_dropped_and_one_cut_into_is_clipped():
    boxes = np.array([[0, 0, 64, 8], [0, 0, 64, 64]])
    loaded = load(Example(np.zeros([64, 128, 3], np.float32), boxes=boxes), (56, 56), fit="crop")
    assert loaded.boxes.tolist() == [[0, 0, 56, 28]]
    nothing = load(Example(np.zeros([64, 128, 3], np.float32), boxes=boxes[:1]), (56, 56), fit="crop")
    assert nothing.boxes.shape == (0, 4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_exif_turns_is_turned_with_its_mask_and_boxes(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = picture_file(tmp_path / "a.png", exif=exif)
    box = (1, 3, 7, 16)
    # The stored pixels with the box drawn in white, turned by Pillow.
    white = Image.fromarray(drawn(box, (12, 20)).astype(np.uint8) * 255)
    white.save(tmp_path / "white.png", exif=exif)
    upright = images.read(tmp_path / "white.png")[..., 0] > 0.5
    shown = MaskFile(gray_file(tmp_path / "mask.png", drawn(box, (12, 20))))
    loaded = load(Example(path, 0, shown, np.array([box])), upright.shape)
    assert (loaded.mask == 1).tolist() == upright.tolist()
    assert loaded.boxes.tolist() == [around(upright)]
    assert (loaded.image == images.read(path)).all()


def test_what_a_masks_values_mean(tmp_path):
    path = picture_file(tmp_path / "a.png", (3, 1))

    def read(values, **options):
        return (
            load(Example(path, 0, MaskFile(gray_file(tmp_path / "m.png", [values]), **options)), (1, 3))
            .mask[0]
            .tolist()
        )

    assert read([0, 7, 255]) == [0, 1, -1]
    assert read([0, 7, 255], ignore=()) == [0, 1, 1]
    assert read([1, 2, 3], inside=(1,), ignore=(3,)) == [1, 0, -1]
    assert read([0, 0, 255], inside=(255,)) == [0, 0, 1]
    assert read([0, 0, 255]) == [0, 0, 1]  # black and white, as most tools write a mask
    with pytest.raises(ValueError, match=r"m.png has no pixel of the object: its values are 0; inside= and"):
        read([0, 0, 0])
    # The trimaps of Oxford-IIIT Pet: where all values are the object, every map is right everywhere.
    with pytest.raises(ValueError, match=r"m.png has no pixel off the object: its values are 1, 2, 3; inside= and"):
        read([1, 2, 3])
    with pytest.raises(ValueError, match=r"m.png has no pixel off the object: its values are 1, 2, 255; inside="):
        read([1, 2, 255])
    assert read([1, 1, 1]) == [1, 1, 1] and read([255, 255, 255], ignore=()) == [1, 1, 1]  # it may fill the picture


def test_a_palette_is_read_by_number_and_one_bit_as_it_is(tmp_path):
    path = picture_file(tmp_path / "a.png", (3, 1))
    colored = Image.fromarray(np.array([[0, 12, 255]], np.uint8))
    colored.putpalette([value // 3 for value in range(768)])
    assert colored.mode == "P"
    colored.save(tmp_path / "p.png")
    assert load(Example(path, 0, MaskFile(tmp_path / "p.png", (12,))), (1, 3)).mask.tolist() == [[0, 1, -1]]
    Image.fromarray(np.array([[False, True, True]])).save(tmp_path / "b.png")
    assert load(Example(path, 0, MaskFile(tmp_path / "b.png")), (1, 3)).mask.tolist() == [[0, 1, 1]]


def test_at_its_own_shape_an_array_is_left_as_it_is():
    image = np.linspace(-3, 3, 2 * 2 * 5, dtype=np.float32).reshape(2, 2, 5)  # a model's own range and channels
    loaded = load(Example(image, np.int64(3), name="a"), (2, 2))
    assert (loaded.image == image).all() and loaded[1:] == (3, None, None, "a", (), None)
    with pytest.raises(ValueError, match="a has values outside 0..1"):
        load(Example(image, name="a"), (4, 4))


def test_what_load_refuses(tmp_path):
    path = picture_file(tmp_path / "a.png")
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "short.png").write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FileNotFoundError, match="none.png"):
        load(Example(tmp_path / "none.png"), (8, 8))
    with pytest.raises(ValueError, match="text.jpg is not a picture"):
        load(Example(tmp_path / "text.jpg"), (8, 8))
    with pytest.raises(ValueError, match="short.png is not a whole picture"):
        load(Example(tmp_path / "short.png"), (8, 8))
    with pytest.raises(ValueError, match="expected fit to be one of stretch, crop, square, pad, got 'squash'"):
        load(Example(path), (8, 8), fit="squash")
    with pytest.raises(ValueError, match=r"a.png: expected a mask with one integer per pixel, got RGB"):
        load(Example(path, mask=MaskFile(path)), (8, 8))
    with pytest.raises(ValueError, match=r"m.png has shape \(4, 5\), but its picture, .*a.png, has \(12, 20\)"):
        load(Example(path, mask=MaskFile(gray_file(tmp_path / "m.png", np.ones([4, 5])))), (8, 8))
    with pytest.raises(ValueError, match=r"the mask of .*a.png: its values are 0, 2; 1 is the object"):
        load(Example(path, mask=drawn((0, 0, 5, 5), (12, 20)) * 2), (8, 8))
    with pytest.raises(ValueError, match="the mask of .*a.png has no pixel of the object: its values are 0;"):
        load(Example(path, mask=np.zeros([12, 20], np.int8)), (8, 8))
    with pytest.raises(TypeError, match="expected a mask that is an array .* or a MaskFile, got 'm.png'"):
        load(Example(path, mask="m.png"), (8, 8))
    for box, wrong in [
        ((3, 4, 3, 9), "box 3, 4, 3, 9 has no area"),
        ((0, 0, 12, np.nan), "box 0, 0, 12, nan is outside"),
        ((0, 0, 20, 12), "box 0, 0, 20, 12 is outside the picture, 12 x 20"),
        ((-2, 0, 5, 5), "box -2, 0, 5, 5 is outside"),
        ((-1, 0, 0, 5), "box -1, 0, 0, 5 has no area"),
    ]:
        with pytest.raises(ValueError, match=f"a.png: {wrong}"):
            load(Example(path, boxes=np.array([box])), (8, 8))
    with pytest.raises(ValueError, match=r"a.png: expected boxes \[m 4\], .* got shape \(4,\)"):
        load(Example(path, boxes=np.array([0, 0, 5, 5])), (8, 8))
    assert load(Example(path, boxes=np.array([[-1, 0, 13, 20]])), (12, 20)).boxes.tolist() == [[0, 0, 12, 20]]
    for label in (1.0, "cat", True):
        with pytest.raises(TypeError, match="a.png: expected a label that is an integer"):
            load(Example(path, label), (8, 8))
    with pytest.raises(ValueError, match="a.png: expected a label of at least 0, .* got -1"):
        load(Example(path, -1), (8, 8))


def test_an_example_of_any_rank_is_checked():
    """A clip `[t h w c]` with a mask and a box of its spatial axes."""
    mask = np.zeros([2, 4, 4], bool)
    mask[1, 1:3, 1:3] = True
    example = datasets.checked_example(Example(np.zeros([2, 4, 4, 3]), mask=mask, boxes=[[1, 1, 1, 2, 3, 3]]))
    assert (example.mask == mask).all() and example.mask.dtype == np.int8
    assert example.boxes.tolist() == [[1, 1, 1, 2, 3, 3]]
    with pytest.raises(ValueError, match=r"the image: expected boxes \[m 6\], the first corner, then the last, got"):
        datasets.checked_example(Example(np.zeros([2, 4, 4, 3]), boxes=[[1, 1, 3, 3]]))
    with pytest.raises(ValueError, match=r"expected the image to have shape \[\*spatial c\], got \(4,\)"):
        datasets.checked_example(Example(np.zeros([4])))


def test_inputs_and_target_are_kept_by_load():
    example = Example(np.ones([4, 4, 3], np.float32), inputs=("how many?",), target={"word": 3})
    loaded = load(example, (8, 8))
    assert loaded.inputs == ("how many?",) and loaded.target == {"word": 3}
