"""Augmentation: each transform beside a loop over images, and what draws the numbers."""

import time

import numpy as np
import pytest

import nano
from nano import nn, optim
from nano.data import (
    Compose,
    Cutout,
    DataLoader,
    Normalize,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    TensorDataset,
)
from nano.data.transforms import Transform
from nano.train import Callback, Trainer

RNG = np.random.default_rng(0)
ALL = [
    Normalize((0.1, 0.2, 0.3), (0.5, 0.6, 0.7)),
    RandomCrop((6, 9), padding=2, fill=7),
    RandomCrop((6, 9), padding=2, padding_mode="reflect"),
    RandomHorizontalFlip(),
    RandomErasing(),
    Cutout(4),
    Compose([RandomCrop(8), RandomHorizontalFlip(), Normalize(0, 1), Cutout(4)]),
]
NAMES = [type(t).__name__ for t in ALL]


def images(n=64, c=3, h=10, w=12, dtype=np.uint8, layout="last"):
    x = RNG.integers(1, 256, (n, h, w, c)).astype(dtype).transpose(0, 3, 1, 2)
    return nano.from_numpy(x if layout == "last" else np.ascontiguousarray(x))


def generator(seed=3):
    return nano.Generator().manual_seed(seed)


@pytest.mark.parametrize("transform", ALL, ids=NAMES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_layouts_and_states(transform, dtype):
    x = images(dtype=dtype)
    before = x.numpy().copy()
    y = transform(x, generator())
    assert y.numpy().transpose(0, 2, 3, 1).flags.c_contiguous  # channels-last
    normalises = isinstance(transform, (Normalize, Compose))
    assert y.dtype is (nano.float32 if normalises else x.dtype)
    np.testing.assert_array_equal(x.numpy(), before)
    assert not np.shares_memory(x.numpy(), y.numpy())
    # The layout in memory does not matter, the generator's state does, and nothing else.
    same = transform(nano.from_numpy(np.ascontiguousarray(before)), generator())
    np.testing.assert_array_equal(y.numpy(), same.numpy())
    nano.manual_seed(3)
    np.testing.assert_array_equal(y.numpy(), transform(x).numpy())
    if not isinstance(transform, Normalize):
        assert (y.numpy() != transform(x, generator(4)).numpy()).any()
    assert transform(x[:0], generator()).shape == (0, *y.shape[1:])


@pytest.mark.parametrize("transform", ALL, ids=NAMES)
def test_what_is_no_batch_of_images(transform):
    with pytest.raises(TypeError, match="Tensor"):
        transform(np.zeros((1, 3, 4, 4)))
    with pytest.raises(RuntimeError, match=r"batch of images \(n, c, h, w\)"):
        transform(nano.zeros(3, 4, 4))


def test_normalize():
    x = images(dtype=np.uint8)
    mean, std = np.array([0.1, 0.2, 0.3]), np.array([0.5, 0.6, 0.7])
    wanted = (x.numpy() / 255 - mean[:, None, None]) / std[:, None, None]
    # float32, with one product and one sum: a few units in the last place of 2.
    close = {"rtol": 1e-6, "atol": 1e-6}
    np.testing.assert_allclose(Normalize(mean, std)(x).numpy(), wanted, **close)
    scaled = nano.tensor(x.numpy() / 255)
    np.testing.assert_allclose(Normalize(mean, std)(scaled).numpy(), wanted, **close)
    grey = images(c=1)
    np.testing.assert_allclose(Normalize(0, 1)(grey).numpy(), grey.numpy() / 255, **close)
    with pytest.raises(RuntimeError, match="3 channels, but mean has 2"):
        Normalize((0, 0), 1)(x)


def test_every_crop_is_a_part_of_its_image():
    x = images(200)
    y = RandomCrop((6, 9), padding=2, fill=7)(x, generator()).numpy()
    padded = np.full((200, 3, 14, 16), 7, np.uint8)
    padded[:, :, 2:12, 2:14] = x.numpy()
    places = set()
    for i in range(200):
        found = [
            (top, left)
            for top in range(9)
            for left in range(8)
            if (padded[i, :, top : top + 6, left : left + 9] == y[i]).all()
        ]
        assert len(found) == 1
        places.update(found)
    # 200 draws of 9 x 8 places: each row and each column is among them.
    assert {t for t, _ in places} == set(range(9))
    assert {left for _, left in places} == set(range(8))


@pytest.mark.parametrize("mode", ["edge", "reflect", "symmetric"])
def test_a_crop_pads_as_numpy_does(mode):
    x = images(40)
    y = RandomCrop((6, 9), padding=2, padding_mode=mode)(x, generator()).numpy()
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)), mode)
    for i in range(40):
        assert any(
            (padded[i, :, top : top + 6, left : left + 9] == y[i]).all()
            for top in range(9)
            for left in range(8)
        )
    with pytest.raises(ValueError, match="padding_mode must be one of constant"):
        RandomCrop(8, padding_mode="wrap")


def test_flips():
    x = images(400)
    y = RandomHorizontalFlip(0.25)(x, generator()).numpy()
    mirrored = (y == x.numpy()[..., ::-1]).all((1, 2, 3))
    assert (mirrored | (y == x.numpy()).all((1, 2, 3))).all()
    assert 60 < mirrored.sum() < 140  # 100 and more than four deviations of 8.7
    for p, all_ in ((0.0, False), (1.0, True)):
        y = RandomHorizontalFlip(p)(x).numpy()
        np.testing.assert_array_equal(y, x.numpy()[..., ::-1] if all_ else x.numpy())


def boxes(x, y, value):
    """For each image the box that was filled: (top, left, height, width), or None."""
    changed = (y == value).all(1)
    np.testing.assert_array_equal(np.where(changed[:, None], value, x), y)
    for picture in changed:
        if not picture.any():
            yield None
            continue
        rows, columns = np.flatnonzero(picture.any(1)), np.flatnonzero(picture.any(0))
        box = rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
        assert picture.sum() == box[2] * box[3]
        yield box


def test_cutout():
    x = images(500)
    found = list(boxes(x.numpy(), Cutout(4)(x, generator()).numpy(), 0))
    assert all(1 < h <= 4 and 1 < w <= 4 for _, _, h, w in found)
    assert {h for _, _, h, _ in found} == {2, 3, 4}  # over the edge, too
    tops, lefts = {t for t, *_ in found}, {left for _, left, *_ in found}
    # A centre in the last row or column begins the square two before it.
    assert (tops, lefts) == (set(range(8)), set(range(10)))


def test_random_erasing():
    x = images(1000, h=20, w=20)
    erase = RandomErasing(0.5, scale=(0.1, 0.3), ratio=(0.5, 2.0), value=0)
    found = list(boxes(x.numpy(), erase(x, generator()).numpy(), 0))
    sides = [(h, w) for _, _, h, w in filter(None, found)]
    assert 430 < len(sides) < 570  # 500 and more than four deviations of 16
    for h, w in sides:
        # The sides are rounded: half a pixel of at least 4 each way.
        assert 0.1 * 400 - h / 2 - w / 2 <= h * w <= 0.3 * 400 + h / 2 + w / 2
        assert 0.5 * 0.75 < h / w < 2 / 0.75
    assert max(t + h for t, _, h, _ in filter(None, found)) == 20
    assert min(t for t, *_ in filter(None, found)) == 0
    # Where no box fits, images stay as they are.
    wide = images(20, h=2, w=40)
    same = RandomErasing(1.0, scale=(0.9, 1.0), ratio=(1.0, 1.0))(wide, generator())
    np.testing.assert_array_equal(same.numpy(), wide.numpy())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: RandomHorizontalFlip(1.5),
        lambda: RandomErasing(-0.1),
        lambda: RandomErasing(scale=(0.5, 0.1)),
        lambda: RandomErasing(ratio=(0.0, 1.0)),
        lambda: RandomCrop(0),
        lambda: RandomCrop(4, padding=-1),
        lambda: Cutout(0),
        lambda: Normalize(0, 0),
    ],
)
def test_wrong_arguments(wrong):
    with pytest.raises(ValueError):
        wrong()


def test_a_crop_larger_than_the_image():
    with pytest.raises(RuntimeError, match="smaller than 32 x 32"):
        RandomCrop(32, padding=4)(images(h=20, w=40))


def test_a_transform_must_say_change():
    with pytest.raises(NotImplementedError, match="Transform must define change"):
        Transform()(images())


# In a data set and a loader -----------------------------------------------------------------


def augmented(n=30):
    x = images(n, h=8, w=8)
    transform = Compose([RandomCrop(8, padding=2), RandomHorizontalFlip(), Normalize(0.5, 0.25)])
    return TensorDataset(x, nano.arange(n), transform=transform)


def passed(loader):
    return [(x.numpy().tobytes(), y.tolist()) for x, y in loader]


@pytest.mark.parametrize(
    "options", [{"in_memory": True}, {"num_workers": 2}], ids=["memory", "workers"]
)
def test_a_pass_depends_on_the_generators_state_alone(options):
    g = generator()
    loader = DataLoader(augmented(), 8, shuffle=True, generator=g, **options)
    state = g.get_state()
    first, second = passed(loader), passed(loader)
    assert first != second
    g.set_state(state)
    nano.manual_seed(99)
    batches = iter(loader)
    g.manual_seed(1)
    assert [(x.numpy().tobytes(), y.tolist()) for x, y in batches] == first
    assert len({x for x, _ in first}) == 4


def test_each_image_is_changed_in_its_own_way():
    data = TensorDataset(images(1, h=8, w=8).expand(50, 3, 8, 8), transform=RandomCrop(8, 2))
    ((x,),) = DataLoader(data, 50, in_memory=True)
    assert len({image.tobytes() for image in x.numpy()}) > 10  # of 25


def test_a_pass_of_loader_without_transform_draws_one_order_only():
    """So that runs from before there were transforms go on as they were."""
    g, h = generator(), generator()
    list(DataLoader(TensorDataset(nano.arange(9)), 2, shuffle=True, generator=g, in_memory=True))
    h.numpy.permutation(9)
    np.testing.assert_array_equal(g.get_state(), h.get_state())


class StopAt(Callback):
    def __init__(self, step):
        self.step = step

    def on_batch_end(self, trainer):
        if trainer.step == self.step:
            trainer._interrupts.received = 2


@pytest.mark.parametrize("own_generator", [True, False])
@pytest.mark.parametrize("options", [{"in_memory": True}, {}, {"num_workers": 2}], ids=repr)
def test_a_run_stopped_inside_an_epoch_goes_on_bit_for_bit(tmp_path, own_generator, options):
    rng = np.random.default_rng(1)
    x = nano.from_numpy(rng.integers(0, 256, (30, 3, 8, 8), dtype=np.uint8))
    y = nano.from_numpy(rng.integers(0, 3, 30))

    def trainer(out=None, callbacks=()):
        nano.manual_seed(2)
        data = TensorDataset(x, y, transform=augmented().transform)
        model = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(192, 3))
        return Trainer(
            model,
            optim.SGD(model.parameters(), lr=0.01, momentum=0.9),
            nn.CrossEntropyLoss(),
            DataLoader(
                data, 7, shuffle=True, generator=generator() if own_generator else None, **options
            ),
            callbacks=callbacks,
            out=out,
        )

    whole = trainer()
    whole.fit(3)
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, [StopAt(7)]).fit(3)
    again = trainer()
    again.load(tmp_path / "last.safetensors")
    again.fit(3)
    for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert a.detach().numpy().tobytes() == b.detach().numpy().tobytes()


def test_it_is_fast():
    """128 images of 32 x 32 in 2 ms is what a training step can spare; a busy machine gets ten
    times that, which a loop over images would still exceed."""
    x = images(1000, h=32, w=32)
    transform = Compose([RandomCrop(32, 4), RandomHorizontalFlip(), Normalize(0.5, 0.25), Cutout()])
    loader = DataLoader(
        TensorDataset(x, transform=transform), 128, shuffle=True, drop_last=True, in_memory=True
    )
    list(loader)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        batches = len(list(loader))
        times.append((time.perf_counter() - start) / batches)
    assert min(times) < 20e-3
