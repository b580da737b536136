import importlib.resources
import itertools
import pathlib

import numpy as np
import pytest
from PIL import Image

from jaxcam import datasets
from jaxcam.datasets import Example, MaskFile, images, load


def picture(path, size=(20, 12), **options):
    """A small picture at a path, width and height as Pillow has them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(size[1], size[0], 3)
    Image.fromarray(pixels).save(path, **options)
    return path


def grey(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)
    return path


def drawn(box, shape):
    mask = np.zeros(shape, np.int8)
    row0, column0, row1, column1 = box
    mask[row0:row1, column0:column1] = 1
    return mask


def around(mask):
    rows, columns = np.nonzero(mask == 1)
    return [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]


# load


STORED = [(100, 150), (150, 100), (300, 200), (256, 256)]
SHARES = [(0.3, 0.2, 0.6, 0.9), (0, 0, 1, 1), (0.45, 0.3, 0.9, 0.7)]


@pytest.mark.parametrize("fit", ["stretch", "crop"])
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


@pytest.mark.parametrize("fit", ["stretch", "crop"])
def test_the_picture_moves_as_its_mask(fit):
    mask = drawn((20, 40, 70, 110), (100, 150))
    image = np.repeat(mask[..., None], 3, -1).astype(np.float32)
    loaded = load(Example(image, None, mask), (50, 60), fit=fit)
    assert np.mean((loaded.image[..., 0] > 0.5) != (loaded.mask == 1)) < 0.01


def test_a_crop_by_hand():
    """The short side to 256 and the centre 224 x 224 of it, written out with Pillow alone."""
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
    path = picture(tmp_path / "a.png", exif=exif)
    box = (1, 3, 7, 16)
    # The stored pixels with the box drawn in white, turned by Pillow.
    white = Image.fromarray(drawn(box, (12, 20)).astype(np.uint8) * 255)
    white.save(tmp_path / "white.png", exif=exif)
    upright = images.read(tmp_path / "white.png")[..., 0] > 0.5
    shown = MaskFile(grey(tmp_path / "mask.png", drawn(box, (12, 20))))
    loaded = load(Example(path, 0, shown, np.array([box])), upright.shape)
    assert (loaded.mask == 1).tolist() == upright.tolist()
    assert loaded.boxes.tolist() == [around(upright)]
    assert (loaded.image == images.read(path)).all()


def test_what_a_masks_values_mean(tmp_path):
    path = picture(tmp_path / "a.png", (3, 1))

    def read(values, **options):
        return load(Example(path, 0, MaskFile(grey(tmp_path / "m.png", [values]), **options)), (1, 3)).mask[0].tolist()

    assert read([0, 7, 255]) == [0, 1, -1]
    assert read([0, 7, 255], ignore=()) == [0, 1, 1]
    assert read([1, 2, 3], inside=(1,), ignore=(3,)) == [1, 0, -1]
    assert read([0, 0, 255], inside=(255,)) == [0, 0, 1]
    assert read([0, 0, 255]) == [0, 0, 1]  # black and white, as most tools write a mask
    with pytest.raises(ValueError, match=r"m.png has no pixel of the object: its values are 0; inside= and"):
        read([0, 0, 0])


def test_a_palette_is_read_by_number_and_one_bit_as_it_is(tmp_path):
    path = picture(tmp_path / "a.png", (3, 1))
    coloured = Image.fromarray(np.array([[0, 12, 255]], np.uint8))
    coloured.putpalette([each // 3 for each in range(768)])
    assert coloured.mode == "P"
    coloured.save(tmp_path / "p.png")
    assert load(Example(path, 0, MaskFile(tmp_path / "p.png", (12,))), (1, 3)).mask.tolist() == [[0, 1, -1]]
    Image.fromarray(np.array([[False, True, True]])).save(tmp_path / "b.png")
    assert load(Example(path, 0, MaskFile(tmp_path / "b.png")), (1, 3)).mask.tolist() == [[0, 1, 1]]


def test_at_its_own_shape_an_array_is_left_as_it_is():
    image = np.linspace(-3, 3, 2 * 2 * 5, dtype=np.float32).reshape(2, 2, 5)  # a model's own range and channels
    loaded = load(Example(image, np.int64(3), name="a"), (2, 2))
    assert (loaded.image == image).all() and loaded[1:] == (3, None, None, "a")
    with pytest.raises(ValueError, match="a has values outside 0..1"):
        load(Example(image, name="a"), (4, 4))


def test_what_load_refuses(tmp_path):
    path = picture(tmp_path / "a.png")
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "short.png").write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FileNotFoundError, match="none.png"):
        load(Example(tmp_path / "none.png"), (8, 8))
    with pytest.raises(ValueError, match="text.jpg is not a picture"):
        load(Example(tmp_path / "text.jpg"), (8, 8))
    with pytest.raises(ValueError, match="short.png is not a whole picture"):
        load(Example(tmp_path / "short.png"), (8, 8))
    with pytest.raises(ValueError, match="fit is 'pad': choose one of stretch, crop"):
        load(Example(path), (8, 8), fit="pad")
    with pytest.raises(ValueError, match=r"a.png has pixels of RGB: one integer a pixel"):
        load(Example(path, mask=MaskFile(path)), (8, 8))
    with pytest.raises(ValueError, match=r"m.png has shape \(4, 5\): its picture, .*a.png, has \(12, 20\)"):
        load(Example(path, mask=MaskFile(grey(tmp_path / "m.png", np.ones([4, 5])))), (8, 8))
    with pytest.raises(ValueError, match=r"the mask of .*a.png: its values are 0, 2; 1 is the object"):
        load(Example(path, mask=drawn((0, 0, 5, 5), (12, 20)) * 2), (8, 8))
    with pytest.raises(ValueError, match="the mask of .*a.png has no pixel of the object: its values are 0;"):
        load(Example(path, mask=np.zeros([12, 20], np.int8)), (8, 8))
    with pytest.raises(TypeError, match="mask is 'm.png': an array .* or a MaskFile is wanted"):
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
    with pytest.raises(ValueError, match=r"a.png has boxes of shape \(4,\)"):
        load(Example(path, boxes=np.array([0, 0, 5, 5])), (8, 8))
    assert load(Example(path, boxes=np.array([[-1, 0, 13, 20]])), (12, 20)).boxes.tolist() == [[0, 0, 12, 20]]
    for label in (1.0, "cat", True):
        with pytest.raises(TypeError, match="a.png: label is .*: an integer"):
            load(Example(path, label), (8, 8))
    with pytest.raises(ValueError, match="a.png: label is -1"):
        load(Example(path, -1), (8, 8))


# folder


def test_a_folder_for_each_class(tmp_path):
    for name in ["cat/1.png", "cat/2.jpg", "Dog/1.png", ".hidden/3.png", "cat/.4.png"]:
        picture(tmp_path / name)
    (tmp_path / "cat" / "notes.txt").write_text("")
    found = datasets.folder(tmp_path)
    assert [(each.name, each.label) for each in found] == [("Dog-1", 0), ("cat-1", 1), ("cat-2", 1)]
    assert found[0].image == tmp_path / "Dog" / "1.png"
    by_name = datasets.folder(tmp_path, classes=("bird", "cat", "dog"))
    assert [each.label for each in by_name] == [2, 1, 1]
    assert [each.label for each in datasets.folder(tmp_path, classes={"cat": 281, "Dog": 207})] == [207, 281, 281]
    with pytest.raises(ValueError, match="cat: no class 'cat' in classes: is it 'cats', 'Dog'|no class 'cat'"):
        datasets.folder(tmp_path, classes={"cats": 0, "Dog": 1})
    with pytest.raises(ValueError, match="cat: no class 'cat': did you mean 'cats'"):
        datasets.folder(tmp_path, classes=["cats", "dog"])
    with pytest.raises(TypeError, match="classes is 'cat,dog': names in the order"):
        datasets.folder(tmp_path, classes="cat,dog")


def test_synset_folders_want_all_1000(tmp_path):
    ids = [f"n{i:08d}" for i in range(0, 5000, 5)]
    for each in ids:
        (tmp_path / each).mkdir()
    picture(tmp_path / ids[999] / "a.png")
    assert [each.label for each in datasets.folder(tmp_path)] == [999]
    (tmp_path / ids[3]).rmdir()
    with pytest.raises(ValueError, match="names 999 of ImageNet's synsets, and only all 1000"):
        datasets.folder(tmp_path)
    (tmp_path / "mapping.txt").write_text("".join(f"{each} some, words\n" for each in ids))
    order = datasets.synsets(tmp_path / "mapping.txt")
    assert [each.label for each in datasets.folder(tmp_path, classes=order)] == [999]


def test_folders_called_by_numbers_want_classes_where_sorting_would_change_them(tmp_path):
    for i in range(10):
        picture(tmp_path / str(i) / f"{i}.png")
    assert [each.label for each in datasets.folder(tmp_path)] == list(range(10))
    picture(tmp_path / "10" / "10.png")
    with pytest.raises(ValueError, match="folders called by numbers, 0, 1, 10, 2, .* give classes="):
        datasets.folder(tmp_path)
    found = datasets.folder(tmp_path, classes=[*map(str, range(11))])
    assert {each.name: each.label for each in found} == {str(i): i for i in range(11)}


def test_what_folder_refuses(tmp_path):
    picture(tmp_path / "flat" / "a.png")
    with pytest.raises(ValueError, match="flat has no folders: one for each class"):
        datasets.folder(tmp_path / "flat")
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    with pytest.raises(ValueError, match="empty has folders, and none has pictures"):
        datasets.folder(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="none"):
        datasets.folder(tmp_path / "none")


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


# csv


def table(tmp_path, text, **options):
    (tmp_path / "a.csv").write_text(text)
    return datasets.csv(tmp_path / "a.csv", **options)


def test_a_csv_with_masks_and_boxes(tmp_path):
    for name in ("a.png", "sub/b.png", "c.png"):
        picture(tmp_path / name)
    grey(tmp_path / "masks" / "a.png", np.ones([12, 20]))
    text = (
        "image,label,mask,xmin,ymin,xmax,ymax,split\n"
        "a.png,1,masks/a.png,2,1,10,5,test\na.png,1,masks/a.png,11,6,20,12,test\n"
        "sub/b.png,0,,,,,,test\na.png,0,,0,0,3.5,3,test\nc.png,2,,,,,,train\n"
    )
    found = table(tmp_path, text, where={"split": "test"})
    assert [(each.name, each.label) for each in found] == [("a-0", 0), ("a-1", 1), ("b", 0)]
    assert found[0].boxes.tolist() == [[0, 0, 3, 3.5]] and found[0].mask is None
    assert found[1].boxes.tolist() == [[1, 2, 5, 10], [6, 11, 12, 20]]
    assert found[1].mask == MaskFile(tmp_path / "masks" / "a.png", None, (255,))
    assert found[2].boxes is None and found[2].image == tmp_path / "sub" / "b.png"
    assert load(found[1], (12, 20)).boxes.tolist() == found[1].boxes.tolist()
    assert table(tmp_path, "image\nc.png\n") == [Example(tmp_path / "c.png", name="c")]
    assert table(tmp_path, "\ufeffimage\nb.png\n", root=tmp_path / "sub")[0].image == tmp_path / "sub" / "b.png"


def test_what_csv_refuses(tmp_path):
    picture(tmp_path / "a.png")
    for text, options, wrong in [
        ("file,label\na.png,1\n", {}, "has no column 'image': it has file, label"),
        ("image,label\na.png,1\n", {"columns": {"label": "class"}}, "has no column 'class'"),
        ("image,label\na.png,1\n", {"columns": {"picture": "image"}}, "columns has 'picture': choose from image, "),
        ("image,label\na.png,1\n", {"where": {"split": "test"}}, "has no column 'split'"),
        ("image,split\na.png,train\n", {"where": {"split": "test"}}, "has no row with split = test"),
        ("image,label\n", {}, "a.csv has no row$"),
        ("", {}, "has no column 'image': it has none"),
        ("image,label\na.png,cat\n", {}, "a.csv, line 2: label 'cat' is a name: give classes="),
        ("image,label\na.png,cta\n", {"classes": ["dog", "cat"]}, "line 2: no class 'cta': did you mean 'cat'"),
        ("image,label\na.png,2\n", {"classes": ["dog", "cat"]}, "line 2: no class 2: there are 2"),
        ("image,xmin\na.png,2\n", {}, "all four or none"),
        ("image,xmin,ymin,xmax,ymax\na.png,2,1,x,4\n", {}, "line 2: xmax is 'x': a number"),
        ("image,xmin,ymin,xmax,ymax\na.png,2,1,,4\n", {}, "line 2: xmax is '': a number"),
        ("image,mask\na.png,a.png\na.png,b.png\n", {}, "line 3: mask 'b.png', and 'a.png'"),
        ("image,label\n,1\n", {}, "line 2: no image"),
        ("image\na.png,1\n", {}, "line 2: more cells than columns"),
    ]:
        with pytest.raises(ValueError, match=wrong):
            table(tmp_path, text, **options)
    for text, options in [
        ("image\nmissing.png\n", {}),
        ("image,mask\na.png,missing.png\n", {}),
        ("image\na.png\n", {"masks": tmp_path / "missing.png"}),
    ]:
        with pytest.raises(FileNotFoundError, match="no such file: .*missing.png"):
            table(tmp_path, text, **options)
    (tmp_path / "b.csv").write_bytes(b"image\n\xff\xfe\n")
    with pytest.raises(ValueError, match="b.csv is not a csv file"):
        datasets.csv(tmp_path / "b.csv")


def test_the_pets_as_their_csv_has_them(assets):
    pets = assets / "pets"
    found = datasets.csv(
        pets / "index.csv", root=pets / "images", masks=pets / "trimaps", inside=(1,), ignore=(3,),
        columns={"image": "file", "xmin": "head_xmin", "ymin": "head_ymin", "xmax": "head_xmax", "ymax": "head_ymax"},
        classes=("Abyssinian", "Bengal", "american_bulldog"), where={"split": "test"},
    )  # fmt: skip
    assert len(found) == 150 and sum(each.boxes is not None for each in found) == 72
    lines = (pets / "index.csv").read_text().splitlines()
    for label, name in enumerate(("Abyssinian", "Bengal", "american_bulldog")):
        assert sum(each.label == label for each in found) == sum(f",{name},test," in line for line in lines) > 0
    heads = [each for each in found if each.boxes is not None][:4]
    for each in heads:
        loaded = load(each, (224, 224))
        assert set(np.unique(loaded.mask)) == {-1, 0, 1}
        row0, column0, row1, column1 = loaded.boxes[0].astype(int)
        # A head's box lies on its animal.
        assert (loaded.mask[row0:row1, column0:column1] != 0).mean() > 0.6
    empty = Example(pets / "images/Abyssinian_34.jpg", mask=MaskFile(pets / "trimaps/Abyssinian_34.png", (1,), (3,)))
    with pytest.raises(ValueError, match="Abyssinian_34.png has no pixel of the object: its values are 2;"):
        load(empty, (224, 224))  # as it is in the dataset


# ImageNet


ANNOTATION = """<annotation><size><width>20</width><height>12</height></size>{}</annotation>"""
OBJECT = """<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>
<ymax>{}</ymax></bndbox><part><name>head</name></part></object>"""


def annotation(path, *objects):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(ANNOTATION.format("".join(OBJECT.format(*each) for each in objects)))
    return path


@pytest.fixture
def validation(tmp_path):
    for i in (1, 2):
        picture(tmp_path / "val" / f"ILSVRC2012_val_{i:08d}.JPEG")
    return tmp_path / "val"


def labelled(folder, text, **options):
    path = folder.parent / "labels.txt"
    path.write_text(text)
    return datasets.imagenet(folder, path, **options)


SYNSETS = {"n01440764": 0, "n01443537": 1}


def test_a_blacklist_leaves_images_out(validation, tmp_path):
    (tmp_path / "blacklist.txt").write_text("1\n17\n")
    text = "ILSVRC2012_val_00000001.JPEG 65\nILSVRC2012_val_00000002.JPEG 970\n"
    assert [each.label for each in labelled(validation, text, blacklist=tmp_path / "blacklist.txt")] == [970]
    with pytest.raises(ValueError, match="labels.txt has lines that are no number"):
        labelled(validation, text, blacklist=tmp_path / "labels.txt")


def test_kaggles_csv_has_labels_and_boxes(validation):
    text = (
        "ImageId,PredictionString\nILSVRC2012_val_00000002,n01440764 0 0 19 11 \n"
        "ILSVRC2012_val_00000001,n01443537 2 3 9 8 n01443537 10 3 18 8 \nILSVRC2012_val_00000003,n01440764 0 0 1 1 \n"
    )
    one, two = labelled(validation, text, classes=SYNSETS)
    assert (one.name, one.label, two.label) == ("ILSVRC2012_val_00000001", 1, 0)
    assert one.boxes.tolist() == [[3, 2, 9, 10], [3, 10, 9, 19]]
    assert two.boxes.tolist() == [[0, 0, 12, 20]]
    with pytest.raises(ValueError, match="names 2 of ImageNet's synsets, and only all 1000"):
        labelled(validation, text)
    lines = [f"ILSVRC2012_val_{i + 4:08d},n{i:08d} 0 0 1 1" for i in range(998)]
    one, two = labelled(validation, text + "\n".join(lines))
    assert (one.label, two.label) == (999, 998)


def test_lists_of_files_and_labels(validation):
    for text in (
        "ILSVRC2012_val_00000001.JPEG 65\nILSVRC2012_val_00000002.JPEG 970\n",
        "val/ILSVRC2012_val_00000002.JPEG\t970\nval/ILSVRC2012_val_00000001.JPEG\t65\n",
        "ILSVRC2012_val_00000001.JPEG,65\nILSVRC2012_val_00000002.JPEG,970\n",
    ):
        assert [(each.label, each.boxes) for each in labelled(validation, text)] == [(65, None), (970, None)]
    text = "ILSVRC2012_val_00000001.JPEG n01443537\nILSVRC2012_val_00000002.JPEG n01440764\n"
    assert [each.label for each in labelled(validation, text, classes=SYNSETS)] == [1, 0]
    assert [each.label for each in labelled(validation, "n01443537\nn01440764\n", classes=SYNSETS)] == [1, 0]


def test_boxes_from_a_folder_of_annotations(validation, tmp_path):
    text = "ILSVRC2012_val_00000001.JPEG n01443537\nILSVRC2012_val_00000002.JPEG n01440764\n"
    annotation(tmp_path / "xml/ILSVRC2012_val_00000001.xml", ("n01443537", 0, 2, 3, 9, 8), ("n01440764", 0, 0, 0, 1, 1))
    second = annotation(tmp_path / "xml/ILSVRC2012_val_00000002.xml", ("n01440764", 0, -3, 0, 25, 12))
    one, two = labelled(validation, text, classes=SYNSETS, boxes=tmp_path / "xml")
    assert one.boxes.tolist() == [[3, 2, 9, 10]]
    assert two.boxes.tolist() == [[0, 0, 12, 20]]  # clipped to the size that the annotation gives
    annotation(second, ("n01443537", 0, 0, 0, 5, 5))
    with pytest.raises(ValueError, match="00000002.xml has no box of n01440764"):
        labelled(validation, text, classes=SYNSETS, boxes=tmp_path / "xml")
    second.write_text("<annotation>")
    with pytest.raises(ValueError, match="00000002.xml is not an annotation"):
        labelled(validation, text, classes=SYNSETS, boxes=tmp_path / "xml")
    second.unlink()
    with pytest.raises(FileNotFoundError, match="no such file: .*00000002.xml"):
        labelled(validation, text, classes=SYNSETS, boxes=tmp_path / "xml")


def test_what_imagenet_refuses(validation, tmp_path):
    one, two = "ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000002.JPEG"
    for text, wrong in [
        ("490\n361\n", "a number a line, as the devkit's ground truth does"),
        ("n01440764\n", "1 labels without names for 2 pictures"),
        (f"{one} 1\n", "no label for ILSVRC2012_val_00000002.JPEG"),
        (f"{one} 1\n{two} 1000\n", "labels 1..1000: 0..999 are wanted"),
        (f"{one} 1\n{two} 2\n" + "".join(f"a{i} {i}\n" for i in range(3, 1000)), "labels 1..999: 0..999 are wanted"),
        (f"{one} cat\n{two} 2\n", "ILSVRC2012_val_00000001 has label 'cat'"),
        (f"{one} 1\n{one} 2\n", "has two labels, 1 and 2"),
        (f"{one} 1\n{two} n01440764\n", "synsets and numbers"),
        (f"{one} 1 2\n", "a file's name and a label are wanted"),
        (f"ImageId,PredictionString\n{one},n01440764 1 2 3\n", "'synset xmin ymin xmax ymax' for each box"),
        (f"ImageId,PredictionString\n{one},n01440764 1 2 3 4 n01443537 1 2 3 4\n", "boxes of one synset"),
    ]:
        with pytest.raises(ValueError, match=wrong):
            labelled(validation, text)
    with pytest.raises(ValueError, match="no class 'n01440765' in classes: is it 'n01440764'"):
        labelled(validation, f"{one} n01440764\n{two} n01440765\n", classes=SYNSETS)
    (tmp_path / "sorted" / "n01440764").mkdir(parents=True)
    with pytest.raises(ValueError, match="sorted has no pictures: see folder"):
        labelled(tmp_path / "sorted", f"{one} 1\n")


# VOC


@pytest.fixture
def year(tmp_path):
    root = tmp_path / "VOC2007"
    for image in ("000001", "000002"):
        picture(root / "JPEGImages" / f"{image}.jpg")
    annotation(
        root / "Annotations/000001.xml", ("dog", 0, 1, 1, 20, 12), ("person", 0, 3, 2, 9, 8), ("dog", 0, 5, 5, 6, 7),
        ("cat", 1, 1, 1, 4, 4),
    )  # fmt: skip
    annotation(root / "Annotations/000002.xml", ("cat", 0, 2, 2, 4, 4))
    for part in ("Main", "Segmentation"):
        (root / "ImageSets" / part).mkdir(parents=True)
    (root / "ImageSets/Main/test.txt").write_text("000001\n000002\n")
    (root / "ImageSets/Segmentation/test.txt").write_text("000001\n")
    values = np.zeros([12, 20], np.uint8)
    values[:, :2], values[0], values[6:8, 5:9] = 12, 255, 15  # dog, outline, person
    grey(root / "SegmentationClass/000001.png", values)
    return root


def test_an_example_for_each_class_in_each_image(year):
    found = datasets.voc(year)
    assert [(each.name, each.label) for each in found] == [("000001-dog", 11), ("000001-person", 14), ("000002-cat", 7)]
    assert found[0].boxes.tolist() == [[0, 0, 12, 20], [4, 4, 7, 6]]
    assert found[1].boxes.tolist() == [[1, 2, 8, 9]]
    assert load(found[0], (12, 20)).boxes.tolist() == found[0].boxes.tolist()
    assert [each.name for each in datasets.voc(year, difficult=True)][:2] == ["000001-cat", "000001-dog"]
    names = {"dog": 207, "cat": 281, "person": 999}
    assert [each.label for each in datasets.voc(year, classes=names)] == [207, 999, 281]


def test_vocs_masks(year):
    dog, person = datasets.voc(year, masks=True)
    assert dog.mask == MaskFile(year / "SegmentationClass/000001.png", (12,), (255,))
    loaded = load(dog, (12, 20)).mask
    assert loaded[0].tolist() == [-1] * 20 and (loaded[1:, :2] == 1).all() and (loaded[1:, 2:] == 0).all()
    assert (load(person, (12, 20)).mask == 1).sum() == 8


def test_what_voc_refuses(year):
    with pytest.raises(ValueError, match="has no folder JPEGImages: did you mean .*VOC2007"):
        datasets.voc(year.parent)
    with pytest.raises(FileNotFoundError, match="no such file: .*val.txt"):
        datasets.voc(year, split="val")
    with pytest.raises(ValueError, match="000001.xml: no class 'dog': did you mean 'dogs'"):
        datasets.voc(year, classes=("dogs", "person", "cat"))
    (year / "ImageSets/Main/test.txt").write_text("000003\n")
    with pytest.raises(FileNotFoundError, match="no such file: .*000003.jpg"):
        datasets.voc(year)
    annotation(year / "Annotations/000002.xml", ("cat", 1, 2, 2, 4, 4))
    (year / "ImageSets/Main/hard.txt").write_text("000002\n")
    with pytest.raises(ValueError, match="split 'hard' has no objects"):
        datasets.voc(year, split="hard")


def test_names_that_recur_take_their_path_in(tmp_path):
    for name in ("x/1.png", "y/1.png", "y/1.jpg"):
        picture(tmp_path / name)
    assert [each.name for each in table(tmp_path, "image\nx/1.png\ny/1.png\n")] == ["x-1", "y-1"]
    assert [each.name for each in table(tmp_path, "image\nx/1.png\ny/1.png\ny/1.jpg\n")] == [
        "x-1.png", "y-1.jpg", "y-1.png",
    ]  # fmt: skip
    picture(tmp_path / "y-1.png")
    with pytest.raises(ValueError, match="are both called 'y-1.png'"):
        table(tmp_path, "image\ny/1.png\ny/1.jpg\ny-1.png\n")


def test_the_digits_canvas_is_found_by_its_own_boxes(tmp_path):
    digits = pathlib.Path(str(importlib.resources.files("jaxcam") / "digits"))
    [example] = table(tmp_path, "image,label\ncanvas1.png,3\n", root=digits)
    assert (load(example, (64, 64)).image == images.read(digits / "canvas1.png")).all()
