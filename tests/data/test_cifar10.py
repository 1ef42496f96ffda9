"""CIFAR-10: its layouts, what is wrong with files, pickles that are programs, the download."""

import gzip
import hashlib
import http.server
import io
import os
import pickle
import tarfile
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nano
from nano.data import CIFAR10, Compose, DataLoader, RandomCrop, Subset, cifar10, plain_pickle
from nano.data.cifar10 import CIFAR10_MEAN, CIFAR10_STD
from nano.errors import DataError

RNG = np.random.default_rng(0)
NAMES = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
#: Four images a file.
PLANES = {name: RNG.integers(0, 256, (4, 3072), dtype=np.uint8) for name in NAMES}
LABELS = {name: RNG.integers(0, 10, 4).tolist() for name in NAMES}
TRAIN = np.concatenate([PLANES[n] for n in NAMES[:5]]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def pickled(name, protocol=2):
    return pickle.dumps({b"data": PLANES[name], b"labels": LABELS[name]}, protocol=protocol)


def binary(name):
    labels = np.array(LABELS[name], np.uint8)[:, None]
    return np.concatenate([labels, PLANES[name]], axis=1).tobytes()


def tar(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as out:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def jpeg(seed):
    # Smooth, so that JPEG changes little.
    x, y = np.meshgrid(np.arange(32), np.arange(32))
    pixels = np.stack([x * 4 + seed, y * 4, x + y], axis=2).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return pixels, file.getvalue()


def in_layout(folder, layout):
    """Write the small set into a folder in one of its layouts."""
    if layout == "cifar-10-batches-py":
        files = {name: pickled(name) for name in NAMES}
    elif layout == "cifar-10-batches-bin":
        files = {f"{name}.bin": binary(name) for name in NAMES}
    elif layout == "cifar-10-python.tar.gz":
        files = {f"cifar-10-batches-py/{name}": pickled(name) for name in reversed(NAMES)}
    else:
        files = {f"cifar-10-batches-bin/{name}.bin": binary(name) for name in NAMES}
    if layout.endswith(".gz"):
        (folder / layout).write_bytes(tar(files))
    else:
        (folder / layout).mkdir()
        for name, content in files.items():
            (folder / layout / name).write_bytes(content)
    return folder


LAYOUTS = [
    "cifar-10-batches-py",
    "cifar-10-batches-bin",
    "cifar-10-python.tar.gz",
    "cifar-10-binary.tar.gz",
]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "nano" / "unpacked"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_holds_the_same(tmp_path, layout):
    root = in_layout(tmp_path, layout)
    train, test = CIFAR10(root), CIFAR10(root, train=False)
    assert (len(train), len(test)) == (20, 4)
    assert train.data.dtype == np.uint8
    np.testing.assert_array_equal(train.data, TRAIN)
    assert train.targets == [label for n in NAMES[:5] for label in LABELS[n]]
    assert test.targets == LABELS["test_batch"]
    if not layout.endswith(".gz"):
        np.testing.assert_array_equal(CIFAR10(root / layout).data, TRAIN)


def test_class_names():
    assert CIFAR10.classes[3] == "cat"
    assert CIFAR10.class_to_idx["truck"] == 9


@pytest.mark.parametrize("in_memory", [False, True])
def test_samples_and_batches(tmp_path, in_memory):
    data = CIFAR10(in_layout(tmp_path, "cifar-10-batches-py"))
    x, y = data[7]
    assert x.dtype is nano.float32
    assert y.dtype is nano.int64
    expected = (TRAIN / 255 - CIFAR10_MEAN) / CIFAR10_STD
    # float32: three roundings of numbers up to 3.
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    close(x.numpy(), expected[7].transpose(2, 0, 1))
    assert y.item() == data.targets[7]
    for set_, wanted in ((data, expected), (Subset(data, range(10, 20)), expected[10:])):
        images = [b[0].numpy() for b in DataLoader(set_, 8, in_memory=in_memory)]
        close(np.concatenate(images), wanted.transpose(0, 3, 1, 2))
        if in_memory:
            assert images[0].transpose(0, 2, 3, 1).flags.c_contiguous  # channels-last in memory


@pytest.mark.parametrize("in_memory", [False, True])
def test_transform(tmp_path, in_memory):
    data = CIFAR10(in_layout(tmp_path, "cifar-10-batches-py"), transform=Compose([RandomCrop(24)]))
    (x, _), *_ = DataLoader(data, 8, in_memory=in_memory)
    assert (x.shape, x.dtype) == ((8, 3, 24, 24), nano.uint8)


def test_jpeg(tmp_path):
    files, expected = {}, {}
    for part in ("test", "train"):
        for k, kind in enumerate(reversed(CIFAR10.classes)):
            for number in (1, 0):
                pixels, content = jpeg(10 * number + k)
                files[f"{part}/{kind}/000{number}.jpg"] = content
                expected[part, CIFAR10.class_to_idx[kind], number] = pixels
    (tmp_path / "cifar-10-jpeg.tar.gz").write_bytes(tar(files))
    for part in ("train", "test"):
        data = CIFAR10(tmp_path, train=part == "train")
        assert data.targets == [*range(10), *range(10)]
        for i in range(20):
            wanted = expected[part, i % 10, i // 10].astype(int)
            # JPEG of quality 95 with colour at half resolution.
            assert abs(data.data[i] - wanted).max() < 12


def test_an_archive_is_unpacked_once(tmp_path, cache, monkeypatch):
    root = in_layout(tmp_path, "cifar-10-python.tar.gz")
    first = CIFAR10(root)
    (kept,) = cache.iterdir()
    with monkeypatch.context() as m:
        m.setattr(tarfile, "open", None)  # whoever calls it fails
        np.testing.assert_array_equal(CIFAR10(root).data, first.data)
        assert CIFAR10(root).targets == first.targets
    # A damaged cache is made anew; so is one of another archive of that name.
    kept.write_bytes(kept.read_bytes()[:-100])
    np.testing.assert_array_equal(CIFAR10(root).data, first.data)
    PLANES["data_batch_1"][0, 0] ^= 1
    try:
        in_layout(tmp_path, "cifar-10-python.tar.gz")
        os.utime(root / "cifar-10-python.tar.gz", ns=(1, 1))
        assert CIFAR10(root).data[0, 0, 0, 0] != first.data[0, 0, 0, 0]
    finally:
        PLANES["data_batch_1"][0, 0] ^= 1


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    root = in_layout(tmp_path, "cifar-10-python.tar.gz")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(CIFAR10(root)) == 20


# Faults -----------------------------------------------------------------------------------


def damaged():
    good = pickled("data_batch_2")
    wrong = {
        "no key": {b"labels": [1]},
        "no dict": [1, 2],
        "shape": {b"data": np.zeros((4, 100), np.uint8), b"labels": [0] * 4},
        "dtype": {b"data": np.zeros((4, 3072)), b"labels": [0] * 4},
        "objects": {b"data": np.array([[None] * 3072]), b"labels": [0]},
        "count": {b"data": np.zeros((4, 3072), np.uint8), b"labels": [0] * 5},
        "label": {b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]},
        "text labels": {b"data": np.zeros((1, 3072), np.uint8), b"labels": ["cat"]},
        "empty": {b"data": np.zeros((0, 3072), np.uint8), b"labels": []},
    }
    return {
        "nothing": b"",
        "cut": good[:-3000],
        "html": b"<html>not found</html>",
        **{k: pickle.dumps(v, protocol=2) for k, v in wrong.items()},
    }


@pytest.mark.parametrize("kind", damaged())
@pytest.mark.parametrize("layout", ["cifar-10-batches-py", "cifar-10-python.tar.gz"])
def test_damaged_pickles(tmp_path, kind, layout):
    if layout.endswith(".gz"):
        files = {name: pickled(name) for name in NAMES} | {"data_batch_2": damaged()[kind]}
        (tmp_path / layout).write_bytes(tar(files))
    else:
        in_layout(tmp_path, layout)
        (tmp_path / layout / "data_batch_2").write_bytes(damaged()[kind])
    with pytest.raises(DataError, match=r"is no batch of CIFAR-10|is damaged") as caught:
        CIFAR10(tmp_path)
    assert "data_batch_2" in str(caught.value)
    assert len(CIFAR10(tmp_path, train=False)) == 4


@pytest.mark.parametrize("layout", ["cifar-10-python.tar.gz", "cifar-10-binary.tar.gz"])
def test_damaged_archives(tmp_path, layout, cache):
    in_layout(tmp_path, layout)
    file = tmp_path / layout
    content = file.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 0x10
    for bad in (content[: len(content) // 2], bytes(flipped), b"", b"text", gzip.compress(b"text")):
        file.write_bytes(bad)
        with pytest.raises(DataError, match="CIFAR10"):
            CIFAR10(tmp_path)
        assert not cache.exists()
    file.write_bytes(tar({"data_batch_1": pickled("data_batch_1")}))
    with pytest.raises(DataError, match="holds no data_batch"):
        CIFAR10(tmp_path)


def test_damaged_bytes_and_jpeg(tmp_path):
    in_layout(tmp_path, "cifar-10-batches-bin")
    file = tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match="cut short"):
        CIFAR10(tmp_path)
    file.unlink()
    with pytest.raises(DataError, match=r"data_batch_3\.bin is missing"):
        CIFAR10(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    large = io.BytesIO()
    Image.new("RGB", (64, 64)).save(large, "JPEG")
    _, good = jpeg(0)
    for files, message in (
        ({"train/cat/0.jpg": b"text"}, "is damaged"),
        ({"train/cat/0.jpg": good[:-200]}, "is damaged"),
        ({"train/cat/0.jpg": large.getvalue()}, "is not 32 x 32"),
        ({"train/unicorn/0.jpg": good}, "holds no images"),
    ):
        (other / "cifar-10-jpeg.tar.gz").write_bytes(tar(files))
        with pytest.raises(DataError, match=message):
            CIFAR10(other)


def test_an_empty_folder_is_not_filled(tmp_path):
    with pytest.raises(DataError, match="download=True"):
        CIFAR10(tmp_path)
    assert not list(tmp_path.iterdir())


# Pickles ------------------------------------------------------------------------------------


class Evil:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    "function",
    [os.system, os.mkdir, eval, exec, getattr, np.load, pickle.loads, open, np.fromfile],
)
def test_a_pickle_that_is_a_program_is_refused(tmp_path, protocol, function):
    target = tmp_path / "made"
    argument = f"mkdir {target}" if function is os.system else str(target)
    if function in (eval, exec):
        argument = f"__import__('os').mkdir({str(target)!r})"
    in_layout(tmp_path, "cifar-10-batches-py")
    evil = {b"data": Evil(function, argument), b"labels": [1]}
    file = tmp_path / "cifar-10-batches-py" / "data_batch_1"
    file.write_bytes(pickle.dumps(evil, protocol=protocol))
    with pytest.raises(DataError, match="not allowed"):
        CIFAR10(tmp_path)
    assert not target.exists()


def test_that_program_would_have_run(tmp_path):
    target = tmp_path / "made"
    pickle.loads(pickle.dumps(Evil(os.mkdir, str(target))))
    assert target.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cnumpy\nndarray\n((I4\ntR.",  # an array of four bytes of somebody's memory
        b"\x80\x04\x8c\x05numpy\x8c\x0bdtype.__doc__\x93.",
        b"cnumpy._core.multiarray\n_reconstruct.__globals__\n.",
        b"cnano.data.plain_pickle\n_Unpickler\n.",
        b"cbuiltins\nobject\n.",
        b"Pname\n.",  # a persistent id
    ],
)
def test_other_ways_in(program):
    with pytest.raises((pickle.UnpicklingError, TypeError, AttributeError)):
        plain_pickle.load(program)


def test_a_pickle_cannot_change_what_it_is_given():
    """An attribute set on an allowed function does not outlive the pickle."""
    plain_pickle.load(b"\x80\x02c_codecs\nencode\nN}X\x04\0\0\0evilX\x01\0\0\0xs\x86b.")
    encode = plain_pickle._Unpickler(io.BytesIO(b"")).find_class("_codecs", "encode")
    assert not hasattr(encode, "evil")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_plain_pickles(protocol):
    value = {b"a": [1, 2.5, None, True], "b": ("text", b"\xff\0"), 3: np.arange(6).reshape(2, 3)}
    got = plain_pickle.load(pickle.dumps(value, protocol=protocol))
    np.testing.assert_array_equal(got.pop(3), value.pop(3))
    assert got == value


# Download -----------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path_factory, monkeypatch):
    """A web server, and data_dir() an empty folder."""
    served = tmp_path_factory.mktemp("served")
    data = tmp_path_factory.mktemp("data")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Handler, directory=str(served))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("NANO_DATA", str(data))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(cifar10, "ADDRESS", f"http://127.0.0.1:{server.server_port}/")
    yield served, data / "cifar10"
    server.shutdown()
    thread.join()
    server.server_close()


def test_download(server, monkeypatch):
    served, folder = server
    in_layout(served, "cifar-10-python.tar.gz")
    content = (served / "cifar-10-python.tar.gz").read_bytes()
    with pytest.raises(DataError, match="download=True"):
        CIFAR10()
    with pytest.raises(DataError, match="could not be downloaded") as caught:
        CIFAR10(download=True)  # it is not the official one
    assert "is not" in str(caught.value)
    assert not list(folder.iterdir())
    monkeypatch.setattr(cifar10, "MD5", hashlib.md5(content).hexdigest())
    assert len(CIFAR10(download=True)) == 20
    assert [p.name for p in folder.iterdir()] == ["cifar-10-python.tar.gz"]
    (served / "cifar-10-python.tar.gz").unlink()
    assert len(CIFAR10(train=False)) == 4
    assert len(CIFAR10(download=True)) == 20


def test_no_network(server, monkeypatch):
    _, folder = server
    monkeypatch.setattr(cifar10, "ADDRESS", "http://127.0.0.1:9/")
    with pytest.raises(DataError, match="could not be downloaded"):
        CIFAR10(download=True)
    assert not list(folder.iterdir())


@pytest.mark.slow
@pytest.mark.skipif("NANO_DATA" not in os.environ, reason="needs $NANO_DATA/cifar10")
def test_the_real_images():
    folder = Path(os.environ["NANO_DATA"]) / "cifar10"
    for train, n in ((True, 50_000), (False, 10_000)):
        data = CIFAR10(folder, train)
        assert np.bincount(data.targets).tolist() == [n // 10] * 10
        assert data.data.shape == (n, 32, 32, 3)
        x = data.data / np.float32(255)
        # JPEG smooths colours a little.
        np.testing.assert_allclose(x.mean((0, 1, 2), np.float64), CIFAR10_MEAN, atol=0.01)
        np.testing.assert_allclose(x.std((0, 1, 2), np.float64), CIFAR10_STD, atol=0.01)
