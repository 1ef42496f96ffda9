"""Where tensors live: there is only the CPU."""

from __future__ import annotations

from typing import Any

from .errors import DeviceError

__all__ = ["device"]


class device:  # noqa: N801  (PyTorch's name)
    """Where a tensor lives. nano computes on the CPU, so there is one: ``device("cpu")``.

    Raises:
        RuntimeError: for any other device.
    """

    __slots__ = ("type",)

    def __init__(self, type: Any = "cpu") -> None:
        name = type.type if isinstance(type, device) else str(type)
        if name.split(":")[0] != "cpu":
            raise DeviceError(
                "device", f"nano computes on the CPU only, got {name!r}.", hint='Use "cpu".'
            )
        self.type = "cpu"

    def __repr__(self) -> str:
        return "device(type='cpu')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) or other == "cpu"

    def __hash__(self) -> int:
        return hash("cpu")
