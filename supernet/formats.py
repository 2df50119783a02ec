"""The formats that subnets are exported in: how their files end, and which precisions they come in."""

from __future__ import annotations

from collections.abc import Sequence

from supernet.errors import ExportError

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2", "openvino": ".zip", "coreml": ".zip"}

PRECISIONS = {
    "onnx": ("fp32", "fp16", "int8"),
    "torch": ("fp32",),
    "openvino": ("fp32", "fp16"),
    "coreml": ("fp32", "fp16"),
}


def suffix_of(form: str) -> str:
    """How files of a format end. Raises ExportError for one that there is not."""
    check_known("format", form, tuple(SUFFIXES))
    return SUFFIXES[form]


def check_precision(form: str, precision: str) -> None:
    """Refuse a precision that a format does not come in. Raises ExportError."""
    check_known("precision", precision, PRECISIONS["onnx"])
    if precision not in PRECISIONS[form]:
        raise ExportError(
            f"There are no {form} files in {precision}.",
            field="precision",
            value=precision,
            remedy=f"Choose {' or '.join(PRECISIONS[form])}, or the format onnx.",
        )


def check_known(name: str, value: str, known: Sequence[str]) -> None:
    """Refuse a value that is not among those `known`. Raises ExportError."""
    if value not in known:
        raise ExportError(
            f"There is no {name} {value!r}.",
            field=name,
            value=value,
            remedy=f"Choose one of {', '.join(known)}.",
        )
