"""The IDX reader, its faults, and the download, from a mirror on this machine."""

import gzip
import hashlib
import http.server
import os
import struct
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import nano
from nano.data import MNIST, download, mnist, read_idx
from nano.errors import DataError


def idx(array, code=8):
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


IMAGES = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
LABELS = np.array([5, 0, 4, 1, 9], np.uint8)
FILES = {
    f"{part}-{kind}": idx(array)
    for part in ("train", "t10k")
    for kind, array in (("images-idx3-ubyte", IMAGES), ("labels-idx1-ubyte", LABELS))
}


@pytest.fixture
def official(monkeypatch):
    """Makes the small files above the official ones."""
    for name, content in FILES.items():
        monkeypatch.setitem(mnist.CONTENTS, name, hashlib.md5(content).hexdigest())


@pytest.fixture
def folder(tmp_path, official):
    for name, content in FILES.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    return tmp_path


@pytest.mark.parametrize(
    ("dtype", "code"),
    [("u1", 8), ("i1", 9), ("i2", 11), ("i4", 12), ("f4", 13), ("f8", 14)],
)
@pytest.mark.parametrize("shape", [(4,), (0, 3), (2, 3, 4)])
def test_reads_every_dtype(tmp_path, dtype, code, shape):
    a = (np.random.default_rng(1).uniform(0, 100, shape)).astype(dtype)
    file = tmp_path / "a"
    file.write_bytes(idx(a, code))
    b = read_idx(file)
    assert b.dtype == a.dtype
    assert b.dtype.isnative
    np.testing.assert_array_equal(a, b)


def damaged(content):
    packed = gzip.compress(content)
    flipped = bytearray(packed)
    flipped[len(packed) // 2] ^= 0x10
    return {
        "empty": (b"", "no IDX file"),
        "text": (b"<html>not found</html>", "no IDX file"),
        "wrong magic": (b"\1" + content[1:], "no IDX file"),
        "unknown dtype": (b"\0\0\7" + content[3:], "no IDX file"),
        "header cut": (content[:9], "cut short"),
        "data cut": (content[:-1], "cut short"),
        "too long": (content + b"\0", "damaged"),
        "negative size": (content[:4] + b"\xff" * 4 + content[8:], "damaged"),
        "gzip cut": (packed[:-30], "cut short"),
        "gzip header cut": (packed[:5], "cut short"),
        "gzip flipped": (bytes(flipped), "damaged|cut short"),
    }


@pytest.mark.parametrize("kind", damaged(idx(IMAGES)))
def test_faults(tmp_path, kind):
    content, message = damaged(idx(IMAGES))[kind]
    file = tmp_path / "train-images-idx3-ubyte"
    file.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(file)
    assert str(file) in str(caught.value)


def test_missing_file_and_folder_in_its_place(tmp_path):
    with pytest.raises(DataError, match="no file"):
        read_idx(tmp_path / "nothing")
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path)


def test_contents_are_checked_not_the_wrapping(folder):
    for level in (1, 9):
        name = "train-images-idx3-ubyte"
        (folder / f"{name}.gz").write_bytes(gzip.compress(FILES[name], level))
        assert len(MNIST(folder)) == 5
    other = bytearray(FILES[name])
    other[100] ^= 1
    (folder / f"{name}.gz").write_bytes(gzip.compress(bytes(other)))
    with pytest.raises(DataError, match="official contents"):
        MNIST(folder)


def test_normalised_and_plain(folder):
    x, y = MNIST(folder, train=False).tensors
    assert x.shape == (5, 1, 28, 28)
    assert y.tolist() == LABELS.tolist()
    expected = (IMAGES[:, None] / 255 - 0.1307) / 0.3081
    np.testing.assert_allclose(x.numpy(), expected, rtol=1e-5, atol=1e-6)
    raw = MNIST(folder, normalise=False).tensors[0].numpy()
    np.testing.assert_allclose(raw, IMAGES[:, None] / 255, rtol=1e-6)


def test_plain_files(tmp_path, official):
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    assert len(MNIST(tmp_path)) == 5


def test_a_given_folder_without_the_files_is_not_filled(tmp_path):
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz"):
        MNIST(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def mirror(tmp_path_factory, monkeypatch, official):
    """A web server with the small files; data_dir() is an empty folder."""
    served = tmp_path_factory.mktemp("mirror")
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
    monkeypatch.setattr(
        mnist,
        "MIRRORS",
        # The first one has nothing.
        [f"http://127.0.0.1:{server.server_port}/{d}" for d in ("nothing/", "")],
    )
    yield served, data / "mnist"
    server.shutdown()
    thread.join()
    server.server_close()


def test_download(mirror):
    served, folder = mirror
    for name, content in FILES.items():
        (served / f"{name}.gz").write_bytes(gzip.compress(content))
    assert len(MNIST()) == 5
    assert sorted(p.name for p in folder.iterdir()) == [
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
    ]
    for file in served.iterdir():
        file.unlink()
    assert len(MNIST()) == 5  # from the folder


def test_a_damaged_download_leaves_nothing(mirror):
    served, folder = mirror
    for name, content in FILES.items():
        (served / f"{name}.gz").write_bytes(gzip.compress(content)[:-20])
    with pytest.raises(DataError, match="could not be downloaded") as caught:
        MNIST()
    assert "404" in str(caught.value)
    assert not list(folder.iterdir())


def test_no_network(mirror, monkeypatch):
    _, folder = mirror
    monkeypatch.setattr(mnist, "MIRRORS", ["http://127.0.0.1:9/"])
    with pytest.raises(DataError, match="could not be downloaded"):
        MNIST()
    assert not list(folder.iterdir())


@pytest.mark.skipif("NANO_DATA" not in os.environ, reason="needs $NANO_DATA/mnist")
def test_the_real_files():
    folder = Path(os.environ["NANO_DATA"]) / "mnist"
    train, test = MNIST(folder), MNIST(folder, train=False)
    assert (len(train), len(test)) == (60_000, 10_000)
    assert train.tensors[1][:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    x = train.tensors[0].numpy()
    assert abs(x.mean(dtype=np.float64)) < 1e-3
    assert abs(x.std(dtype=np.float64) - 1) < 1e-3
    assert x.dtype == nano.float32.numpy


def test_the_reason_why_a_download_failed_is_one_short_line():
    # As requests and urllib3 wrap it.
    class RetryError(Exception):
        reason = OSError("HTTPSConnection(host='a', port=443): Failed to resolve 'a'")

    assert download._reason(OSError(RetryError("Max retries exceeded"))) == "Failed to resolve 'a'"
    assert download._reason(OSError("404 Client Error: Not Found")) == "404 Client Error: Not Found"
